/* uint8 RGB pictures: the resizes of OpenCV and Pillow bit for bit, short-side sizes, crops, flip.
 *
 * Layout: [height][width][3], rows `stride` bytes apart (0: width * 3).  Nothing here clips or
 * clamps silently: a box outside its picture is KD_E_ARG.
 */
#ifndef KD_FORMATS_VIDEO_IMAGE_H
#define KD_FORMATS_VIDEO_IMAGE_H

#include "kernels/kd_base.h"

/* Whose arithmetic a resize follows; the names are those of video.resizer.
 *
 * opencv: OpenCV 4.6 resize(INTER_LINEAR) on CV_8UC3: 11-bit weights, half-pixel centres, no antialiasing.
 * pillow_bilinear, pillow_bicubic: Pillow's Image.resize, antialiased: a reduction averages over all source pixels. */
#define KD_RESIZER_MAP(X)                            \
    X(KD_RESIZER_OPENCV, "opencv")                   \
    X(KD_RESIZER_PILLOW_BILINEAR, "pillow_bilinear") \
    X(KD_RESIZER_PILLOW_BICUBIC, "pillow_bicubic")
#define KD_RESIZER_VALUE(value, text) value,
typedef enum kd_resizer { KD_RESIZER_MAP(KD_RESIZER_VALUE) } kd_resizer;

/* Tables for one pair of sizes, made once and used for every frame of a clip.  One thread at a
 * time: it holds the row buffers of the pass.  Sizes 1..32768. */
typedef struct kd_image_resizer kd_image_resizer;
KD_NODISCARD kd_status kd_image_resizer_create(kd_resizer rule, int width, int height, int out_width, int out_height,
                                               kd_image_resizer **out, kd_err *err);
void kd_image_resizer_free(kd_image_resizer *r); /* NULL is legal */

/* dst must not overlap src.  A box of a larger picture is resized by its first pixel and that picture's stride: pixels
 * outside the box do not count, as in Pillow's crop(box).resize(size).  Allocates nothing. */
void kd_image_resize(kd_image_resizer *r, const uint8_t *src, size_t src_stride, uint8_t *dst, size_t dst_stride);

/* One picture at once.  KD_E_ARG, KD_E_OOM. */
KD_NODISCARD kd_status kd_image_resize_once(kd_resizer rule, const uint8_t *src, int width, int height,
                                            size_t src_stride, uint8_t *dst, int out_width, int out_height,
                                            size_t dst_stride, kd_err *err);

/* Size that brings the short side to `side` and truncates the long one: side * long / short.  Equal
 * already: unchanged. */
void kd_image_short_side(int width, int height, int side, int *out_width, int *out_height);
/* The same with the long side rounded, as MMAction2's Resize(scale=(-1, side)) does. */
void kd_image_short_side_rounded(int width, int height, int side, int *out_width, int *out_height);

/* Copy the box of width x height at (x, y), mirrored left-right when `flip`. */
KD_NODISCARD kd_status kd_image_crop(const uint8_t *src, int src_width, int src_height, size_t src_stride, int x, int y,
                                     int width, int height, bool flip, uint8_t *dst, size_t dst_stride, kd_err *err);

/* Turn clockwise by 0, 90, 180 or 270 degrees.  dst must not overlap src; at 90 and 270 dst has `height` columns and
 * `width` rows. */
void kd_image_turn(const uint8_t *src, int width, int height, size_t src_stride, int degrees, uint8_t *dst,
                   size_t dst_stride);

#endif
