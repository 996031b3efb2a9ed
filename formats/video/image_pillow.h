/* Pillow's resize of 8-bit pictures (Image.resize, resample BILINEAR and BICUBIC), bit for bit: the filter widens with
 * the reduction (antialiasing), two passes with 22-bit fixed-point weights, bytes between the passes.
 *
 * The width comes first, as in Pillow 9.4 to 12: Pillow 13.0 begins with the height where the height shrinks much more
 * than the width (its pull request 9549), which then rounds to other bytes; a picture that keeps its shape has the same
 * bytes in both.
 *
 * Part of kd_image_resizer (image.h), which callers use. */
#ifndef KD_FORMATS_VIDEO_IMAGE_PILLOW_H
#define KD_FORMATS_VIDEO_IMAGE_PILLOW_H

#include "formats/video/image.h"

typedef struct kdi_pillow kdi_pillow;

/* Sizes are checked by the caller; rule is a Pillow rule.  KD_E_OOM. */
KD_NODISCARD kd_status kdi_pillow_create(kd_resizer rule, int width, int height, int out_width, int out_height,
                                         kdi_pillow **out, kd_err *err);
void kdi_pillow_free(kdi_pillow *p); /* NULL is legal */

/* Strides in bytes. */
void kdi_pillow_resize(kdi_pillow *p, const uint8_t *src, size_t src_stride, uint8_t *dst, size_t dst_stride);

#endif
