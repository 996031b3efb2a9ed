/* Which box: see crops.h. */
#include "teacher/clip/crops.h"

#include <math.h>
#include <stdlib.h>

kd_crop_box kd_crop_center(int width, int height, int side)
{
    return (kd_crop_box){.x = (int)rint((double)(width - side) / 2.0), /* half to even */
                         .y = (int)rint((double)(height - side) / 2.0),
                         .width = side,
                         .height = side};
}

kd_crop_box kd_crop_test(kd_crop_rule rule, int width, int height, int side, int crop, int crops)
{
    kd_crop_box b = kd_crop_center(width, height, side);
    const int spare = KD_MAX(width, height) - side;
    int along = 0; /* offset in the longer axis */
    if (rule == KD_CROPS_MMACTION2) {
        b.x = (width - side) / 2;
        b.y = (height - side) / 2;
    }
    if (crops == 1 || (rule == KD_CROPS_CORNERS && crop == 0)) {
        return b;
    }
    switch (rule) {
    case KD_CROPS_VIDEOMAE:
        along = (int)((double)crop * ((double)spare / (double)(crops - 1)));
        break;
    case KD_CROPS_MMACTION2:
        along = crop == 0 ? 0 : crop == 1 ? spare / 2 * 2 : spare / 2;
        break;
    case KD_CROPS_CORNERS:
        along = crop == 1 ? 0 : spare;
        b.x = b.y = 0;
        break;
    }
    if (height >= width) {
        b.y = along;
    } else {
        b.x = along;
    }
    return b;
}

bool kd_crop_area_size(int width, int height, double share, double log_ratio, int *w, int *h)
{
    const double area = share * (double)width * (double)height;
    const double ratio = exp(log_ratio);
    *w = (int)rint(sqrt(area * ratio));
    *h = (int)rint(sqrt(area / ratio));
    return *w > 0 && *w <= width && *h > 0 && *h <= height;
}

kd_crop_box kd_crop_random_area(int width, int height, const double scale[2], const double ratio[2], kd_rng *rng)
{
    kd_crop_box b = {.width = width, .height = height};
    for (int attempt = 0; attempt < 10; attempt++) {
        const double share = kd_rng_range(rng, scale[0], scale[1]);
        const double log_ratio = kd_rng_range(rng, log(ratio[0]), log(ratio[1]));
        int w, h;
        if (kd_crop_area_size(width, height, share, log_ratio, &w, &h)) {
            b.y = (int)kd_rng_below(rng, (uint32_t)(height - h + 1));
            b.x = (int)kd_rng_below(rng, (uint32_t)(width - w + 1));
            b.width = w;
            b.height = h;
            return b;
        }
    }
    const double whole = (double)width / (double)height;
    if (whole < ratio[0]) {
        b.height = KD_MAX(1, (int)rint((double)width / ratio[0]));
    } else if (whole > ratio[1]) {
        b.width = KD_MAX(1, (int)rint((double)height * ratio[1]));
    }
    b.x = (width - b.width) / 2;
    b.y = (height - b.height) / 2;
    return b;
}

kd_crop_box kd_crop_random(int width, int height, int side, kd_rng *rng)
{
    kd_crop_box b = {.width = side, .height = side};
    b.y = (int)kd_rng_below(rng, (uint32_t)(height - side + 1));
    b.x = (int)kd_rng_below(rng, (uint32_t)(width - side + 1));
    return b;
}

static int scaled_side(int shorter, double scale, int side)
{
    const int length = (int)((double)shorter * scale);
    return abs(length - side) < 3 ? side : length;
}

kd_crop_box kd_crop_multi_scale(int width, int height, int side, int shape, int place)
{
    static const double SCALE[] = {1.0, 0.875, 0.75, 0.66};
    /* quarters of the free width and height: corners, centre, middles of the sides, quarters */
    static const int AT[KD_CROP_PLACES][2] = {{0, 0}, {4, 0}, {0, 4}, {4, 4}, {2, 2}, {0, 2}, {4, 2},
                                              {2, 4}, {2, 0}, {1, 1}, {3, 1}, {1, 3}, {3, 3}};
    const int shorter = KD_MIN(width, height);
    kd_crop_box b = {0};
    int n = 0;
    KD_ASSERT(shape >= 0 && shape < KD_CROP_SHAPES && place >= 0 && place < KD_CROP_PLACES);
    for (int i = 0; i < (int)KD_COUNTOF(SCALE); i++) {
        for (int j = KD_MAX(i - 1, 0); j <= KD_MIN(i + 1, (int)KD_COUNTOF(SCALE) - 1); j++, n++) {
            if (n == shape) {
                b.height = KD_MIN(scaled_side(shorter, SCALE[i], side), height);
                b.width = KD_MIN(scaled_side(shorter, SCALE[j], side), width);
            }
        }
    }
    b.x = AT[place][0] * ((width - b.width) / 4);
    b.y = AT[place][1] * ((height - b.height) / 4);
    return b;
}

kd_crop_box kd_crop_random_multi_scale(int width, int height, int side, kd_rng *rng)
{
    const int shape = (int)kd_rng_below(rng, KD_CROP_SHAPES);
    return kd_crop_multi_scale(width, height, side, shape, (int)kd_rng_below(rng, KD_CROP_PLACES));
}

kd_crop_box kd_erase_random(int width, int height, int boxes, int tries, kd_rng *rng)
{
    for (int attempt = 0; attempt < tries; attempt++) {
        const double share = kd_rng_range(rng, 0.02, 1.0 / 3.0) / (double)boxes;
        const double log_ratio = kd_rng_range(rng, log(0.3), log(1.0 / 0.3));
        int w, h;
        if (kd_crop_area_size(height, width, share, log_ratio, &h, &w) && h < height && w < width) {
            kd_crop_box b = {.width = w, .height = h};
            b.y = (int)kd_rng_below(rng, (uint32_t)(height - h + 1));
            b.x = (int)kd_rng_below(rng, (uint32_t)(width - w + 1));
            return b;
        }
    }
    return (kd_crop_box){0};
}
