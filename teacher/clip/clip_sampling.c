/* Which frames, which box, how pixels become floats: the rules of a clip without any file. */
#include "teacher/clip/clip.h"

#include <math.h>

/* ---- frames ---------------------------------------------------------------------------------- */

/* NumPy's linspace(lo, hi, num)[j], the end point forced. */
static double linspace(double lo, double hi, int num, int j)
{
    if (num > 1 && j == num - 1) {
        return hi;
    }
    return num > 1 ? (double)j * ((hi - lo) / (double)(num - 1)) + lo : lo;
}

static size_t clamp_index(double x, double lo, double hi)
{
    return (size_t)fmin(fmax(x, lo), hi);
}

static void strided(const kd_frame_rule *r, size_t n, size_t first, size_t *idx)
{
    const size_t last = (n - 1) / (size_t)r->rate; /* of the list 0, rate, 2 rate, ... */
    for (int j = 0; j < r->frames; j++) {
        idx[j] = KD_MIN(first + (size_t)j, last) * (size_t)r->rate;
    }
}

static void short_video(const kd_frame_rule *r, size_t n, size_t *idx)
{
    if (r->short_video == KD_SHORT_STRIDE_REPEAT) {
        strided(r, n, 0, idx);
        return;
    }
    const int real = (int)KD_MIN(n / (size_t)r->rate, (size_t)r->frames);
    for (int j = 0; j < r->frames; j++) {
        const double x = j < real ? linspace(0.0, (double)n, real, j) : (double)n;
        idx[j] = clamp_index(x, 0.0, (double)(n - 1));
    }
}

static void whole_video(const kd_frame_rule *r, size_t n, size_t *idx)
{
    for (int j = 0; j < r->frames; j++) {
        idx[j] = clamp_index(linspace(0.0, (double)(n - 1), r->frames, j), 0.0, (double)(n - 1));
    }
}

static size_t window(const kd_frame_rule *r)
{
    return (size_t)r->frames * (size_t)r->rate;
}

void kd_frames_window(const kd_frame_rule *rule, size_t n, size_t end, size_t *idx)
{
    if (n <= window(rule)) {
        short_video(rule, n, idx);
        return;
    }
    const double hi = (double)end;
    const double lo = (double)(end - window(rule));
    for (int j = 0; j < rule->frames; j++) {
        idx[j] = clamp_index(linspace(lo, hi, rule->frames, j), lo, hi - 1.0);
    }
}

static void seed_window(const kd_frame_rule *r, size_t n, size_t start, size_t *idx)
{
    if (n < window(r)) {
        short_video(r, n, idx);
        return;
    }
    for (int j = 0; j < r->frames; j++) {
        idx[j] = start + (size_t)j * (size_t)r->rate;
    }
}

void kd_frames_train(const kd_frame_rule *rule, size_t n, kd_rng *rng, size_t *idx)
{
    const size_t w = window(rule);
    switch (rule->sampler) {
    case KD_SAMPLER_UNIFORM_LINSPACE:
        whole_video(rule, n, idx);
        return;
    case KD_SAMPLER_SEED_RANDOM_WINDOW:
        seed_window(rule, n, n > w ? kd_rng_below(rng, (uint32_t)(n - w + 1)) : 0, idx);
        return;
    case KD_SAMPLER_OFFICIAL_DENSE:
        break;
    }
    kd_frames_window(rule, n, n > w ? w + kd_rng_below(rng, (uint32_t)(n - w)) : 0, idx);
}

void kd_frames_val(const kd_frame_rule *rule, size_t n, size_t *idx)
{
    const size_t w = window(rule);
    switch (rule->sampler) {
    case KD_SAMPLER_UNIFORM_LINSPACE:
        whole_video(rule, n, idx);
        return;
    case KD_SAMPLER_SEED_RANDOM_WINDOW:
        seed_window(rule, n, n > w ? (n - w) / 2 : 0, idx);
        return;
    case KD_SAMPLER_OFFICIAL_DENSE:
        break;
    }
    kd_frames_window(rule, n, (w + n) / 2, idx);
}

void kd_frames_test(const kd_frame_rule *rule, size_t n, int clip, int clips, size_t *idx)
{
    if (rule->sampler == KD_SAMPLER_UNIFORM_LINSPACE) {
        whole_video(rule, n, idx);
        return;
    }
    const size_t listed = (n - 1) / (size_t)rule->rate + 1;
    const double spare = (double)listed - (double)rule->frames;
    double step = 0.0;
    if (clips > 1 && spare > 0.0) {
        step = spare / (double)(clips - 1);
    }
    strided(rule, n, (size_t)((double)clip * step), idx);
}

/* ---- boxes ----------------------------------------------------------------------------------- */

kd_crop_box kd_crop_center(int width, int height, int side)
{
    return (kd_crop_box){.x = (int)rint((double)(width - side) / 2.0), /* half to even */
                         .y = (int)rint((double)(height - side) / 2.0),
                         .width = side,
                         .height = side};
}

kd_crop_box kd_crop_test(int width, int height, int side, int crop, int crops)
{
    if (crops == 1) {
        return kd_crop_center(width, height, side);
    }
    const bool tall = height >= width;
    const double step = (double)(KD_MAX(width, height) - side) / (double)(crops - 1);
    const int offset = (int)((double)crop * step);
    return (kd_crop_box){.x = tall ? 0 : offset, .y = tall ? offset : 0, .width = side, .height = side};
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

kd_crop_box kd_erase_random(int width, int height, kd_rng *rng)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        const double share = kd_rng_range(rng, 0.02, 1.0 / 3.0);
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

/* ---- pixels ---------------------------------------------------------------------------------- */

static bool inside(const kd_crop_box *b, int width, int height)
{
    return b->x >= 0 && b->y >= 0 && b->width > 0 && b->height > 0 && b->width <= width - b->x &&
           b->height <= height - b->y;
}

void kd_clip_cut(const uint8_t *rgb, int width, int height, const size_t *idx, int frames, const kd_crop_box *box,
                 uint8_t *dst)
{
    KD_ASSERT(inside(box, width, height));
    const size_t stride = (size_t)width * 3, row = (size_t)box->width * 3;
    for (int j = 0; j < frames; j++) {
        const uint8_t *src = rgb + (idx[j] * (size_t)height + (size_t)box->y) * stride + 3 * (size_t)box->x;
        for (int y = 0; y < box->height; y++, src += stride, dst += row) {
            memcpy(dst, src, row);
        }
    }
}

/* Neighbours and weight of one output position: torch's half-pixel rule, clamped below at 0. */
typedef struct tap {
    int lo, hi;
    float w; /* of hi */
} tap;

static void make_taps(int in, int out, tap *t)
{
    const float scale = (float)in / (float)out;
    for (int i = 0; i < out; i++) {
        float x = scale * ((float)i + 0.5f) - 0.5f;
        if (x < 0.0f) {
            x = 0.0f;
        }
        const int lo = KD_MIN((int)x, in - 1);
        t[i] = (tap){.lo = lo, .hi = KD_MIN(lo + 1, in - 1), .w = KD_MIN(x - (float)lo, 1.0f)};
    }
}

static void resize_plane(const float *table, const uint8_t *rgb, size_t stride, int channel, const tap *tx,
                         const tap *ty, int side, float *dst)
{
    for (int y = 0; y < side; y++) {
        const uint8_t *r0 = rgb + (size_t)ty[y].lo * stride + channel;
        const uint8_t *r1 = rgb + (size_t)ty[y].hi * stride + channel;
        const float b = ty[y].w, a = 1.0f - b;
        float *out = dst + (size_t)y * (size_t)side;
        for (int x = 0; x < side; x++) {
            const int lo = 3 * tx[x].lo, hi = 3 * tx[x].hi;
            const float q = tx[x].w, p = 1.0f - q;
            const float top = p * table[r0[lo]] + q * table[r0[hi]];
            const float low = p * table[r1[lo]] + q * table[r1[hi]];
            out[x] = a * top + b * low;
        }
    }
}

void kd_clip_resize(const float *table, const uint8_t *rgb, int width, int height, const size_t *idx, int frames,
                    const kd_crop_box *box, int side, float *dst)
{
    KD_ASSERT(side > 0 && side <= KD_CLIP_MAX_SIDE && inside(box, width, height));
    tap tx[KD_CLIP_MAX_SIDE], ty[KD_CLIP_MAX_SIDE];
    make_taps(box->width, side, tx);
    make_taps(box->height, side, ty);
    const size_t stride = (size_t)width * 3;
    const size_t plane = (size_t)side * (size_t)side;
    for (int j = 0; j < frames; j++) {
        const uint8_t *frame = rgb + idx[j] * stride * (size_t)height + (size_t)box->y * stride + 3 * (size_t)box->x;
        for (int c = 0; c < 3; c++) {
            resize_plane(table + (size_t)c * 256, frame, stride, c, tx, ty, side,
                         dst + ((size_t)c * (size_t)frames + (size_t)j) * plane);
        }
    }
}
