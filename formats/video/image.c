/* Pictures: see image.h. */
#include "formats/video/image.h"

#include "formats/video/image_pillow.h"

#include <math.h>

#define SIDE_MAX    32768
#define WEIGHT_BITS 11 /* OpenCV's INTER_RESIZE_COEF_BITS */

typedef struct tap {
    int at;     /* source index; may be -1 for rows, whose indices are clamped on use */
    int32_t w0; /* weight of `at` */
    int32_t w1; /* weight of at + 1 */
} tap;

struct kd_image_resizer {
    int w, h, ow, oh;
    tap *col;           /* [ow] */
    tap *row;           /* [oh] */
    int32_t *line[2];   /* [ow * 3] source rows after the horizontal pass */
    int in_line[2];     /* which source row each holds; -1: none */
    kdi_pillow *pillow; /* NULL: OpenCV's rule, which the tables above serve */
};

/* Columns clamp position and fraction at the borders, rows only the position: both as OpenCV does.
 */
static void make_taps(tap *t, int in, int out, bool clamp)
{
    const double scale = 1.0 / ((double)out / (double)in);
    for (int d = 0; d < out; d++) {
        float f = (float)(((double)d + 0.5) * scale - 0.5);
        int s = (int)floorf(f);
        f -= (float)s;
        if (clamp && s < 0) {
            s = 0;
            f = 0.0f;
        }
        if (clamp && s >= in - 1) {
            s = in - 1;
            f = 0.0f;
        }
        t[d].at = s;
        t[d].w0 = (int32_t)rintf((1.0f - f) * (float)(1 << WEIGHT_BITS));
        t[d].w1 = (int32_t)rintf(f * (float)(1 << WEIGHT_BITS));
    }
}

/* OpenCV's tables; false: no memory. */
static bool make_opencv(kd_image_resizer *r)
{
    r->col = kd_calloc((size_t)r->ow, sizeof *r->col);
    r->row = kd_calloc((size_t)r->oh, sizeof *r->row);
    r->line[0] = kd_calloc((size_t)r->ow * 3, sizeof *r->line[0]);
    r->line[1] = kd_calloc((size_t)r->ow * 3, sizeof *r->line[1]);
    if (r->col == NULL || r->row == NULL || r->line[0] == NULL || r->line[1] == NULL) {
        return false;
    }
    make_taps(r->col, r->w, r->ow, true);
    make_taps(r->row, r->h, r->oh, false);
    return true;
}

kd_status kd_image_resizer_create(kd_resizer rule, int width, int height, int out_width, int out_height,
                                  kd_image_resizer **out, kd_err *err)
{
    *out = NULL;
    if (width < 1 || height < 1 || out_width < 1 || out_height < 1 || width > SIDE_MAX || height > SIDE_MAX ||
        out_width > SIDE_MAX || out_height > SIDE_MAX) {
        return KD_FAIL(err, KD_E_ARG, "resize %dx%d to %dx%d: expected sizes from 1 to %d", width, height, out_width,
                       out_height, SIDE_MAX);
    }
    kd_image_resizer *r = kd_calloc(1, sizeof *r);
    if (r != NULL) {
        *r = (kd_image_resizer){.w = width, .h = height, .ow = out_width, .oh = out_height};
    }
    if (r != NULL && rule != KD_RESIZER_OPENCV) {
        const kd_status st = kdi_pillow_create(rule, width, height, out_width, out_height, &r->pillow, err);
        if (st != KD_OK) {
            kd_image_resizer_free(r);
            return st;
        }
    } else if (r == NULL || !make_opencv(r)) {
        kd_image_resizer_free(r);
        return KD_FAIL(err, KD_E_OOM, "resize %dx%d to %dx%d: no memory", width, height, out_width, out_height);
    }
    *out = r;
    return KD_OK;
}

void kd_image_resizer_free(kd_image_resizer *r)
{
    if (r != NULL) {
        kd_free(r->col);
        kd_free(r->row);
        kd_free(r->line[0]);
        kd_free(r->line[1]);
        kdi_pillow_free(r->pillow);
        kd_free(r);
    }
}

/* Source row y, resized horizontally, in one of the two line buffers.  Its neighbour `keep` is not
 * evicted. */
static int32_t *need_row(kd_image_resizer *r, const uint8_t *src, size_t stride, int y, int keep)
{
    for (int i = 0; i < 2; i++) {
        if (r->in_line[i] == y) {
            return r->line[i];
        }
    }
    const int slot = r->in_line[0] == keep ? 1 : 0;
    const uint8_t *p = src + (size_t)y * stride;
    int32_t *t = r->line[slot];
    for (int d = 0; d < r->ow; d++) {
        const tap c = r->col[d];
        const uint8_t *a = p + 3 * c.at;
        const uint8_t *b = c.at + 1 < r->w ? a + 3 : a;
        t[3 * d] = a[0] * c.w0 + b[0] * c.w1;
        t[3 * d + 1] = a[1] * c.w0 + b[1] * c.w1;
        t[3 * d + 2] = a[2] * c.w0 + b[2] * c.w1;
    }
    r->in_line[slot] = y;
    return t;
}

void kd_image_resize(kd_image_resizer *r, const uint8_t *src, size_t src_stride, uint8_t *dst, size_t dst_stride)
{
    const size_t in_stride = src_stride != 0 ? src_stride : (size_t)r->w * 3;
    const size_t out_stride = dst_stride != 0 ? dst_stride : (size_t)r->ow * 3;
    const int n = r->ow * 3;
    if (r->pillow != NULL) {
        kdi_pillow_resize(r->pillow, src, in_stride, dst, out_stride);
        return;
    }
    r->in_line[0] = r->in_line[1] = -1;
    for (int y = 0; y < r->oh; y++) {
        const tap v = r->row[y];
        const int y0 = KD_MIN(KD_MAX(v.at, 0), r->h - 1);
        const int y1 = KD_MIN(KD_MAX(v.at + 1, 0), r->h - 1);
        const int32_t *t0 = need_row(r, src, in_stride, y0, y1);
        const int32_t *t1 = need_row(r, src, in_stride, y1, y0);
        uint8_t *o = dst + (size_t)y * out_stride;
        for (int i = 0; i < n; i++) {
            o[i] = (uint8_t)((((v.w0 * (t0[i] >> 4)) >> 16) + ((v.w1 * (t1[i] >> 4)) >> 16) + 2) >> 2);
        }
    }
}

kd_status kd_image_resize_once(kd_resizer rule, const uint8_t *src, int width, int height, size_t src_stride,
                               uint8_t *dst, int out_width, int out_height, size_t dst_stride, kd_err *err)
{
    kd_image_resizer *r;
    KD_TRY(kd_image_resizer_create(rule, width, height, out_width, out_height, &r, err));
    kd_image_resize(r, src, src_stride, dst, dst_stride);
    kd_image_resizer_free(r);
    return KD_OK;
}

void kd_image_short_side(int width, int height, int side, int *out_width, int *out_height)
{
    const int small = KD_MIN(width, height);
    *out_width = width;
    *out_height = height;
    if (small == side || small <= 0) {
        return;
    }
    if (width <= height) {
        *out_width = side;
        *out_height = (int)((int64_t)side * height / width);
    } else {
        *out_height = side;
        *out_width = (int)((int64_t)side * width / height);
    }
}

void kd_image_short_side_rounded(int width, int height, int side, int *out_width, int *out_height)
{
    const double scale = (double)side / (double)KD_MAX(KD_MIN(width, height), 1);
    *out_width = (int)((double)width * scale + 0.5);
    *out_height = (int)((double)height * scale + 0.5);
}

kd_status kd_image_crop(const uint8_t *src, int src_width, int src_height, size_t src_stride, int x, int y, int width,
                        int height, bool flip, uint8_t *dst, size_t dst_stride, kd_err *err)
{
    if (x < 0 || y < 0 || width < 1 || height < 1 || x > src_width - width || y > src_height - height) {
        return KD_FAIL(err, KD_E_ARG, "crop: box %dx%d at (%d, %d) is not inside %dx%d", width, height, x, y, src_width,
                       src_height);
    }
    const size_t in_stride = src_stride != 0 ? src_stride : (size_t)src_width * 3;
    const size_t out_stride = dst_stride != 0 ? dst_stride : (size_t)width * 3;
    for (size_t i = 0; i < (size_t)height; i++) {
        const uint8_t *p = src + ((size_t)y + i) * in_stride + (size_t)x * 3;
        uint8_t *o = dst + i * out_stride;
        if (!flip) {
            memcpy(o, p, (size_t)width * 3);
            continue;
        }
        for (size_t j = 0; j < (size_t)width; j++) {
            memcpy(o + 3 * j, p + 3 * ((size_t)width - 1 - j), 3);
        }
    }
    return KD_OK;
}

void kd_image_turn(const uint8_t *src, int width, int height, size_t src_stride, int degrees, uint8_t *dst,
                   size_t dst_stride)
{
    const size_t in_stride = src_stride != 0 ? src_stride : (size_t)width * 3;
    const int ow = degrees % 180 == 0 ? width : height;
    const int oh = degrees % 180 == 0 ? height : width;
    const size_t out_stride = dst_stride != 0 ? dst_stride : (size_t)ow * 3;
    KD_ASSERT(degrees == 0 || degrees == 90 || degrees == 180 || degrees == 270);
    for (int y = 0; y < oh; y++) {
        uint8_t *o = dst + (size_t)y * out_stride;
        for (int x = 0; x < ow; x++) {
            const int sx = degrees == 0 ? x : degrees == 90 ? y : degrees == 180 ? width - 1 - x : width - 1 - y;
            const int sy = degrees == 0 ? y : degrees == 90 ? height - 1 - x : degrees == 180 ? height - 1 - y : x;
            memcpy(o + 3 * (size_t)x, src + (size_t)sy * in_stride + 3 * (size_t)sx, 3);
        }
    }
}
