/* Shared by the two convolution files for AVX-512.  Include only in files compiled for x86-64-v4.
 */
#ifndef KD_KERNELS_FAST_CONV512_H
#define KD_KERNELS_FAST_CONV512_H

#include "kernels/fast/vmath512.h"
#include "kernels/kd_ops.h"

typedef struct conv {
    int64_t n, ci, h, w, co, ho, wo, kh, kw, taps;
    int64_t stride[2], pad[2], dilation[2];
    bool bf16, depthwise, shifts; /* shifts: a tap is a shift of the flat (h, w) axis */
} conv;

static inline conv conv_of(const kd_conv2d_attr *a, const kd_tensor *x, const kd_shape *xs, const kd_shape *ys,
                           int64_t kh, int64_t kw)
{
    conv c = {.n = xs->dim[0],
              .ci = xs->dim[1],
              .h = xs->dim[2],
              .w = xs->dim[3],
              .co = ys->dim[1],
              .ho = ys->dim[2],
              .wo = ys->dim[3],
              .kh = kh,
              .kw = kw,
              .taps = kh * kw};
    for (int i = 0; i < 2; i++) {
        c.stride[i] = a->stride[i];
        c.pad[i] = a->pad[i];
        c.dilation[i] = a->dilation[i];
    }
    c.bf16 = x->dtype == KD_BF16;
    c.depthwise = a->groups > 1 && a->groups == c.ci && c.co == c.ci;
    c.shifts = kw == 1 && a->stride[1] == 1 && a->pad[1] == 0 && a->stride[0] == 1 && c.h == c.ho;
    return c;
}

static inline int64_t up(int64_t x, int64_t to)
{
    return (x + to - 1) / to * to;
}

static inline __m512 v_sigmoid(__m512 x)
{
    return _mm512_div_ps(v_set(1.0f), _mm512_add_ps(v_set(1.0f), v_exp(_mm512_sub_ps(v_set(0.0f), x))));
}

static inline __m512 v_act(int32_t kind, __m512 x)
{
    switch (kind) {
    case KD_ACT_RELU: /* the operand order keeps NaN */
        return _mm512_max_ps(v_set(0.0f), x);
    case KD_ACT_GELU:
        return v_gelu(x);
    case KD_ACT_HARDSWISH: {
        const __m512 r = _mm512_min_ps(v_set(6.0f), _mm512_max_ps(v_set(0.0f), _mm512_add_ps(x, v_set(3.0f))));
        return _mm512_mul_ps(_mm512_mul_ps(x, r), v_set(1.0f / 6.0f));
    }
    case KD_ACT_SILU:
        return _mm512_mul_ps(x, v_sigmoid(x));
    case KD_ACT_SIGMOID:
        return v_sigmoid(x);
    default:
        return x;
    }
}

/* Lanes of a vector at `at` that lie in [0, size). */
static inline __mmask16 inside(int64_t at, int64_t size)
{
    if (at >= 0 && at + 16 <= size) {
        return 0xffff;
    }
    const int64_t lo = at < 0 ? KD_MIN((int64_t)16, -at) : 0;
    const int64_t hi = KD_MAX((int64_t)0, KD_MIN((int64_t)16, size - at));
    if (lo >= hi) {
        return 0;
    }
    return (__mmask16)((0xffffu >> (unsigned)(16 - hi)) & (0xffffu << (unsigned)lo));
}

/* Masked lanes may lie before the array; the address is formed as an integer. */
static inline __m512 load_inside(const void *p, int64_t at, int64_t size, bool bf16)
{
    const __mmask16 m = inside(at, size);
    const uintptr_t a = (uintptr_t)p + (uintptr_t)(at * (bf16 ? 2 : 4));
    return m == 0 ? _mm512_setzero_ps() : v_load((const void *)a, 0, m, bf16);
}

/* conv_depthwise_v4.c: one filter a channel, kernels (k, 1).  back: the gradient of the input, dst
 * (n, c, h, w) from src (n, c, ho, wo). */
static inline bool kd_depthwise_can(const conv *c)
{
    return c->kw == 1 && c->kh <= 64 && c->stride[1] == 1 && c->pad[1] == 0;
}
void kd_depthwise_v4(const conv *c, const void *src, const void *w, const float *bias, int32_t act, bool back,
                     void *dst);
void kd_depthwise_w_v4(const conv *c, const void *dy, const void *x, bool add, float *dw);

#endif
