/* PNG files from 8-bit grey, RGB or RGBA pictures: TensorBoard images, figures in reports. */
#ifndef KD_FORMATS_VIDEO_PNG_H
#define KD_FORMATS_VIDEO_PNG_H

#include "kernels/kd_base.h"

/* pixels[height][width][channels], channels 1, 3 or 4, no padding.  *png (kd_free) holds *len
 * bytes.  The same picture gives the same bytes with one zlib version.  KD_E_ARG (size 1..16384,
 * channels), KD_E_OOM. */
KD_NODISCARD kd_status kd_png_encode(const uint8_t *pixels, int width, int height, int channels, uint8_t **png,
                                     size_t *len, kd_err *err);

#endif
