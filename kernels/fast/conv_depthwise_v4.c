/* Depthwise temporal convolution for AVX-512.  With stride 1 the (time, joint) plane is one axis
 * and a tap is a shift of it; with a stride in time the rows of joints are taken one by one. */
#include "kernels/fast/conv512.h"
#include "kernels/fast/fast.h"

/* One plane, stride 1. */
static void plane_flat(const conv *c, const void *x, const float *w, __m512 bias, int32_t act, bool back, void *dst,
                       int64_t to)
{
    const int64_t plane = c->h * c->w;
    for (int64_t p = 0; p < plane; p += 64) {
        __m512 sum[4] = {bias, bias, bias, bias};
        for (int64_t k = 0; k < c->taps; k++) {
            const __m512 f = v_set(w[k]);
            const int64_t at = p + (k * c->dilation[0] - c->pad[0]) * c->w * (back ? -1 : 1);
            if (at >= 0 && at + 64 <= plane && !c->bf16) {
                const float *src = (const float *)x + at;
                for (int v = 0; v < 4; v++) {
                    sum[v] = _mm512_fmadd_ps(f, _mm512_loadu_ps(src + 16 * v), sum[v]);
                }
                continue;
            }
            for (int v = 0; v < 4; v++) {
                sum[v] = _mm512_fmadd_ps(f, load_inside(x, at + 16 * v, plane, c->bf16), sum[v]);
            }
        }
        for (int v = 0; v < 4 && p + 16 * v < plane; v++) {
            v_store(dst, to + p + 16 * v, v_mask(p + 16 * v, plane), c->bf16, v_act(act, sum[v]));
        }
    }
}

/* The row that output row `y` reads under tap k (back: the row of dy that reached input row y), or
 * -1. */
static int64_t row_of(const conv *c, int64_t y, int64_t k, bool back)
{
    const int64_t shift = k * c->dilation[0] - c->pad[0];
    if (!back) {
        const int64_t r = y * c->stride[0] + shift;
        return r >= 0 && r < c->h ? r : -1;
    }
    const int64_t r = y - shift;
    return r >= 0 && r % c->stride[0] == 0 && r / c->stride[0] < c->ho ? r / c->stride[0] : -1;
}

/* One plane, any stride in time: rows of c->w joints. */
static void plane_rows(const conv *c, const void *x, const float *w, __m512 bias, int32_t act, bool back, void *dst,
                       int64_t to)
{
    const int64_t rows = back ? c->h : c->ho;
    for (int64_t y = 0; y < rows; y++) {
        for (int64_t j = 0; j < c->w; j += 32) {
            const __mmask16 low = v_mask(j, c->w), high = j + 16 < c->w ? v_mask(j + 16, c->w) : 0;
            __m512 a = bias, b = bias;
            for (int64_t k = 0; k < c->taps; k++) {
                const int64_t r = row_of(c, y, k, back), at = r * c->w + j;
                /* padding counts as zeros: a NaN in the filter shows */
                const __m512 lo = r < 0 ? _mm512_setzero_ps() : v_load(x, at, low, c->bf16);
                const __m512 hi = r < 0 ? _mm512_setzero_ps() : v_load(x, at + 16, high, c->bf16);
                a = _mm512_fmadd_ps(v_set(w[k]), lo, a);
                b = _mm512_fmadd_ps(v_set(w[k]), hi, b);
            }
            v_store(dst, to + y * c->w + j, low, c->bf16, v_act(act, a));
            v_store(dst, to + y * c->w + j + 16, high, c->bf16, v_act(act, b));
        }
    }
}

enum { MAX_TAPS = 64 };

void kd_depthwise_v4(const conv *c, const void *src, const void *w, const float *bias, int32_t act, bool back,
                     void *dst)
{
    const int64_t in = back ? c->ho * c->wo : c->h * c->w, out = back ? c->h * c->w : c->ho * c->wo;
    KD_FAST_FOR
    for (int64_t i = 0; i < c->n * c->co; i++) {
        float taps[MAX_TAPS];
        const int64_t ch = i % c->co;
        const void *x = (const char *)src + i * in * (c->bf16 ? 2 : 4);
        for (int64_t k = 0; k < c->taps; k++) {
            taps[k] = load1(w, ch * c->taps + k, c->bf16);
        }
        const __m512 b = v_set(bias != NULL ? bias[ch] : 0.0f);
        if (c->shifts) {
            plane_flat(c, x, taps, b, act, back, dst, i * out);
        } else {
            plane_rows(c, x, taps, b, act, back, dst, i * out);
        }
    }
}

/* dw of one tap and channel from one sample. */
static __m512 tap_sum(const conv *c, const void *dy, const void *x, int64_t k)
{
    const int64_t plane = c->ho * c->wo;
    __m512 sum = _mm512_setzero_ps();
    if (c->shifts) {
        const int64_t shift = (k * c->dilation[0] - c->pad[0]) * c->w;
        for (int64_t p = 0; p < plane; p += 16) {
            const __m512 d = v_load(dy, p, v_mask(p, plane), c->bf16);
            sum = _mm512_fmadd_ps(d, load_inside(x, p + shift, plane, c->bf16), sum);
        }
        return sum;
    }
    for (int64_t y = 0; y < c->ho; y++) {
        const int64_t r = row_of(c, y, k, false);
        for (int64_t j = 0; j < c->w; j += 16) {
            const __mmask16 m = v_mask(j, c->w);
            const __m512 v = r < 0 ? _mm512_setzero_ps() : v_load(x, r * c->w + j, m, c->bf16);
            sum = _mm512_fmadd_ps(v_load(dy, y * c->w + j, m, c->bf16), v, sum);
        }
    }
    return sum;
}

void kd_depthwise_w_v4(const conv *c, const void *dy, const void *x, bool add, float *dw)
{
    const int64_t in = c->h * c->w, out = c->ho * c->wo, size = c->bf16 ? 2 : 4;
    KD_FAST_FOR
    for (int64_t i = 0; i < c->co * c->taps; i++) {
        const int64_t ch = i / c->taps;
        float total = 0.0f;
        for (int64_t s = 0; s < c->n; s++) {
            const int64_t at = s * c->co + ch;
            total += _mm512_reduce_add_ps(
                tap_sum(c, (const char *)dy + at * out * size, (const char *)x + at * in * size, i % c->taps));
        }
        dw[i] = add ? dw[i] + total : total;
    }
}
