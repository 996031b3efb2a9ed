/* RandAugment's operations that move no pixel: tables of 256 values, blends with a picture; see augment.h. */
#include "teacher/clip/augment_internal.h"

/* ---- tables ---------------------------------------------------------------------------------- */

typedef struct counts {
    uint32_t of[3][256];
} counts;

static void count(const uint8_t *src, size_t pixels, counts *c)
{
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < pixels; i++, src += 3) {
        c->of[0][src[0]]++;
        c->of[1][src[1]]++;
        c->of[2][src[2]]++;
    }
}

static uint8_t clip8(int v)
{
    return (uint8_t)KD_MIN(KD_MAX(v, 0), 255);
}

/* ImageOps.autocontrast without a cutoff, one channel. */
static void stretch(const uint32_t *n, uint8_t *lut)
{
    int lo = 0, hi = 255;
    while (lo < 255 && n[lo] == 0) {
        lo++;
    }
    while (hi > 0 && n[hi] == 0) {
        hi--;
    }
    const double scale = hi > lo ? 255.0 / (double)(hi - lo) : 1.0;
    const double offset = hi > lo ? (double)-lo * scale : 0.0;
    for (int v = 0; v < 256; v++) {
        lut[v] = clip8((int)((double)v * scale + offset));
    }
}

/* ImageOps.equalize, one channel. */
static void equalise(const uint32_t *n, size_t pixels, uint8_t *lut)
{
    int filled = 0;
    size_t last = 0;
    for (int v = 0; v < 256; v++) {
        filled += n[v] > 0;
        last = n[v] > 0 ? n[v] : last;
    }
    const size_t step = (pixels - last) / 255;
    size_t sum = step / 2;
    for (int v = 0; v < 256; v++) {
        lut[v] = filled > 1 && step > 0 ? (uint8_t)KD_MIN(sum / step, 255) : (uint8_t)v;
        sum += n[v];
    }
}

/* ImagingBlend: between two bytes for a share of 0 to 1, past them for others. */
static uint8_t blend(int from, int to, float share)
{
    const float step = share * (float)(to - from);
    const float v = (float)from + step;
    return v <= 0.0f ? 0 : v >= 255.0f ? 255 : (uint8_t)v;
}

/* Pillow's conversion to L. */
static int gray(const uint8_t *p)
{
    return (int)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 0x8000u) >> 16);
}

/* ImageEnhance.Contrast: the mean of the gray picture, rounded. */
static int mean_gray(const uint8_t *src, size_t pixels)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < pixels; i++) {
        sum += (uint64_t)gray(src + 3 * i);
    }
    return (int)((double)sum / (double)pixels + 0.5);
}

/* The table of an operation that looks at one byte alone; other operations are not called with it. */
static uint8_t byte_of(const kd_augment_step *s, int mean, int v)
{
    const int arg = (int)s->arg;
    switch (s->op) {
    case KD_AUGMENT_INVERT:
        return (uint8_t)(255 - v);
    case KD_AUGMENT_POSTERIZE:
        return arg >= 8 ? (uint8_t)v : (uint8_t)(v & ~((1 << (8 - arg)) - 1));
    case KD_AUGMENT_SOLARIZE:
        return (uint8_t)(v < arg ? v : 255 - v);
    case KD_AUGMENT_SOLARIZE_ADD:
        return (uint8_t)(v < 128 ? KD_MIN(255, v + arg) : v);
    default:
        return blend(mean, v, (float)s->arg);
    }
}

static void make_tables(const kd_augment_step *step, const uint8_t *src, size_t pixels, uint8_t lut[3][256])
{
    if (step->op == KD_AUGMENT_AUTO_CONTRAST || step->op == KD_AUGMENT_EQUALIZE) {
        counts c;
        count(src, pixels, &c);
        for (int k = 0; k < 3; k++) {
            if (step->op == KD_AUGMENT_EQUALIZE) {
                equalise(c.of[k], pixels, lut[k]);
            } else {
                stretch(c.of[k], lut[k]);
            }
        }
        return;
    }
    const int mean = step->op == KD_AUGMENT_CONTRAST ? mean_gray(src, pixels) : 0; /* 0: Brightness */
    for (int v = 0; v < 256; v++) {
        lut[0][v] = lut[1][v] = lut[2][v] = byte_of(step, mean, v);
    }
}

static void look_up(uint8_t lut[3][256], const uint8_t *restrict src, size_t pixels, uint8_t *restrict dst)
{
    for (size_t i = 0; i < 3 * pixels; i += 3) {
        dst[i] = lut[0][src[i]];
        dst[i + 1] = lut[1][src[i + 1]];
        dst[i + 2] = lut[2][src[i + 2]];
    }
}

/* ---- blends ---------------------------------------------------------------------------------- */

static void colour(float factor, const uint8_t *restrict src, size_t pixels, uint8_t *restrict dst)
{
    for (size_t i = 0; i < 3 * pixels; i += 3) {
        const int g = gray(src + i);
        dst[i] = blend(g, src[i], factor);
        dst[i + 1] = blend(g, src[i + 1], factor);
        dst[i + 2] = blend(g, src[i + 2], factor);
    }
}

/* ImageFilter.SMOOTH: (1 1 1; 1 5 1; 1 1 1) / 13, rounded.  Pillow sums floats; 13 is odd, so that no sum lies halfway
 * between two bytes and the integers give the same byte. */
static int smooth(const uint8_t *p, size_t stride)
{
    const uint8_t *above = p - stride, *below = p + stride;
    const int sum = above[-3] + above[0] + above[3] + p[-3] + 5 * p[0] + p[3] + below[-3] + below[0] + below[3];
    return (2 * sum + 13) / 26;
}

/* Border pixels are not smoothed; a picture of less than 3 x 3 is all border. */
static void sharpen(float factor, const uint8_t *src, int width, int height, uint8_t *dst)
{
    const size_t stride = (size_t)width * 3;
    memcpy(dst, src, stride * (size_t)height);
    for (int y = 1; y < height - 1; y++) {
        const uint8_t *p = src + (size_t)y * stride;
        uint8_t *o = dst + (size_t)y * stride;
        for (size_t i = 3; i + 3 < stride; i++) {
            o[i] = blend(smooth(p + i, stride), p[i], factor);
        }
    }
}

void kdi_augment_colour(const kd_augment_step *step, const uint8_t *src, int width, int height, uint8_t *dst)
{
    const size_t pixels = (size_t)width * (size_t)height;
    if (step->op == KD_AUGMENT_COLOR) {
        colour((float)step->arg, src, pixels, dst);
    } else if (step->op == KD_AUGMENT_SHARPNESS) {
        sharpen((float)step->arg, src, width, height, dst);
    } else {
        uint8_t lut[3][256];
        make_tables(step, src, pixels, lut);
        look_up(lut, src, pixels, dst);
    }
}
