/* Which box of a picture a crop is, and how its pixels become a row: pure functions.
 *
 * Source: VideoMAE / VideoMAEv2 VideoClsDataset, checked box by box and pixel by pixel against
 * tests/golden/videomae.
 */
#ifndef KD_TEACHER_CLIP_CROPS_H
#define KD_TEACHER_CLIP_CROPS_H

#include "kernels/kd_base.h"
#include "kernels/kd_rng.h"
#include "teacher/clip/clip_opts.h"

#define KD_CLIP_MAX_SIDE 1024

/* Box of a crop in a width x height picture. */
typedef struct kd_crop_box {
    int x, y, width, height;
} kd_crop_box;

kd_crop_box kd_crop_center(int width, int height, int side);
/* Crop `crop` of `crops` of a test; one crop is the centre.
 *   videomae    spread along the longer axis.  The reference's short side is `side`; in a larger picture the other axis
 *               is centred
 *   mmaction2   CenterCrop or ThreeCrop: 1, or 3 along the longer axis in the order first, last, middle; the other axis
 *               likewise
 *   corners     1, or 3: the centre, then the first and the last along x where the picture is wider than high, else
 *               along y, at 0 in the other axis */
kd_crop_box kd_crop_test(kd_crop_rule rule, int width, int height, int side, int crop, int crops);
/* Size of a box with this share of the area and this logarithm of width / height; false when it
 * does not fit. */
bool kd_crop_area_size(int width, int height, double share, double log_ratio, int *w, int *h);
/* Random area and shape: up to 10 tries, then the largest central box of a legal shape. */
kd_crop_box kd_crop_random_area(int width, int height, const double scale[2], const double ratio[2], kd_rng *rng);
kd_crop_box kd_crop_random(int width, int height, int side, kd_rng *rng); /* square at random */

/* VideoMAE's multi-scale crop (pre-training's GroupMultiScaleCrop).  Sides of a box are 1, 0.875, 0.75 or 0.66 of the
 * short side, those less than 3 from `side` are `side`; width and height are neighbours in that list or the same; the
 * box stands at one of 13 places. */
#define KD_CROP_SHAPES 10
#define KD_CROP_PLACES 13
/* Shape 0..9 in the reference's order, place 0..12 likewise. */
kd_crop_box kd_crop_multi_scale(int width, int height, int side, int shape, int place);
kd_crop_box kd_crop_random_multi_scale(int width, int height, int side, kd_rng *rng);

/* Random erasing, one of `boxes` boxes of a picture: 2 to 33 % of the picture, divided by `boxes`, height over width
 * 0.3 to 3.3, never as high or as wide as the picture; up to `tries` tries, then a box of width and height 0. */
kd_crop_box kd_erase_random(int width, int height, int boxes, int tries, kd_rng *rng);

/* ---- one frame of a row ---------------------------------------------------------------------- */

/* The box of rgb[height][width][3] alone: dst (box height, box width, 3). */
void kd_clip_cut(const uint8_t *rgb, int width, int height, const kd_crop_box *box, uint8_t *dst);

/* The same box to dst (3, side, side), the channels `channel` values apart: normalised (table: kd_vit_pixel_table),
 * then resized bilinearly (half-pixel centres, no antialiasing, torch's interpolate).  A box of side x side keeps its
 * values. */
void kd_clip_resize(const float *table, const uint8_t *rgb, int width, int height, const kd_crop_box *box, int side,
                    float *dst, size_t channel);

#endif
