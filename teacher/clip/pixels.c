/* How the pixels of a box become a row: see crops.h. */
#include "teacher/clip/crops.h"

static bool inside(const kd_crop_box *b, int width, int height)
{
    return b->x >= 0 && b->y >= 0 && b->width > 0 && b->height > 0 && b->width <= width - b->x &&
           b->height <= height - b->y;
}

void kd_clip_cut(const uint8_t *rgb, int width, int height, const kd_crop_box *box, uint8_t *dst)
{
    KD_ASSERT(inside(box, width, height));
    const size_t stride = (size_t)width * 3, row = (size_t)box->width * 3;
    const uint8_t *src = rgb + (size_t)box->y * stride + 3 * (size_t)box->x;
    for (int y = 0; y < box->height; y++, src += stride, dst += row) {
        memcpy(dst, src, row);
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

void kd_clip_resize(const float *table, const uint8_t *rgb, int width, int height, const kd_crop_box *box, int side,
                    float *dst, size_t channel)
{
    KD_ASSERT(side > 0 && side <= KD_CLIP_MAX_SIDE && inside(box, width, height));
    tap tx[KD_CLIP_MAX_SIDE], ty[KD_CLIP_MAX_SIDE];
    make_taps(box->width, side, tx);
    make_taps(box->height, side, ty);
    const size_t stride = (size_t)width * 3;
    const uint8_t *frame = rgb + (size_t)box->y * stride + 3 * (size_t)box->x;
    for (int c = 0; c < 3; c++) {
        resize_plane(table + (size_t)c * 256, frame, stride, c, tx, ty, side, dst + (size_t)c * channel);
    }
}
