/* Elementwise kernels work on pieces of KD_CHUNK elements: load as real whatever the dtype, compute in a loop the
 * compiler vectorises, store or accumulate whatever the dtype.  A piece is read whole before it is written: in place is
 * safe. Sums along a contiguous row use KD_LANES partial sums, so that they vectorise without reordering licences. */
#ifndef KD_KERNELS_CPU_CHUNK_H
#define KD_KERNELS_CPU_CHUNK_H

#include "kernels/cpu/kd_real.h"

#define KD_CHUNK 512
#define KD_LANES 16

static inline int64_t kd_chunks(int64_t n)
{
    return (n + KD_CHUNK - 1) / KD_CHUNK;
}

/* Activations [i, i+n) to real. */
static inline void kd_load_act(real *restrict dst, const act_t *restrict src, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        dst[j] = ld(src, j);
    }
}

static inline void kd_load(real *restrict dst, const kd_tensor *t, int64_t i, int64_t n)
{
#if defined(KD_REAL_BF16)
    if (t->dtype == KD_BF16) {
        kd_load_act(dst, (const uint16_t *)t->data + i, n);
        return;
    }
#endif
    const real *p = (const real *)t->data + i;
    for (int64_t j = 0; j < n; j++) {
        dst[j] = p[j];
    }
}

/* Output o of the call, elements [i, i+n): written, or added to when accum says so. */
static inline void kd_store(const kd_call *c, int o, int64_t i, const real *restrict src, int64_t n)
{
    const kd_tensor *t = &c->out[o];
    const bool add = ((c->accum >> o) & 1u) != 0;
#if defined(KD_REAL_BF16)
    if (t->dtype == KD_BF16) {
        uint16_t *restrict h = (uint16_t *)t->data + i;
        if (add) {
            for (int64_t j = 0; j < n; j++) {
                h[j] = kd_f32_to_bf16(kd_bf16_to_f32(h[j]) + src[j]);
            }
        } else {
            for (int64_t j = 0; j < n; j++) {
                h[j] = kd_f32_to_bf16(src[j]);
            }
        }
        return;
    }
#endif
    real *restrict p = (real *)t->data + i;
    if (add) {
        for (int64_t j = 0; j < n; j++) {
            p[j] += src[j];
        }
    } else {
        for (int64_t j = 0; j < n; j++) {
            p[j] = src[j];
        }
    }
}

/* Maximum of what was and what comes; a NaN stays, every comparison with it is false.  Here and below | and &, not ||
 * and &&: without branches the loops vectorise. */
static inline real kd_max_nan(real acc, real x)
{
    return ((x > acc) | (x != x)) ? x : acc;
}

/* Is x the maximum y?  NaN equals NaN. */
static inline bool kd_is_max(real x, real y)
{
    return (x == y) | ((x != x) & (y != y));
}

static inline real kd_lanes_sum(const real *lane)
{
    real t[KD_LANES];
    for (int l = 0; l < KD_LANES; l++) {
        t[l] = lane[l];
    }
    for (int w = KD_LANES / 2; w > 0; w /= 2) {
        for (int l = 0; l < w; l++) {
            t[l] += t[l + w];
        }
    }
    return t[0];
}

/* sum_j a[j] b[j] over real rows. */
static inline real kd_dot(const real *restrict a, const real *restrict b, int64_t n)
{
    real lane[KD_LANES] = {0};
    int64_t j = 0;
    for (; j + KD_LANES <= n; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            lane[l] += a[j + l] * b[j + l];
        }
    }
    real s = kd_lanes_sum(lane);
    for (; j < n; j++) {
        s += a[j] * b[j];
    }
    return s;
}

/* The same with one row of activations. */
static inline real kd_dot_act(const real *restrict a, const act_t *restrict b, int64_t n)
{
    real lane[KD_LANES] = {0};
    int64_t j = 0;
    for (; j + KD_LANES <= n; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            lane[l] += a[j + l] * ld(b, j + l);
        }
    }
    real s = kd_lanes_sum(lane);
    for (; j < n; j++) {
        s += a[j] * ld(b, j);
    }
    return s;
}

/* sum_j a[j] b[j] over two rows of activations. */
static inline real kd_dot_acts(const act_t *restrict a, const act_t *restrict b, int64_t n)
{
    real lane[KD_LANES] = {0};
    int64_t j = 0;
    for (; j + KD_LANES <= n; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            lane[l] += ld(a, j + l) * ld(b, j + l);
        }
    }
    real s = kd_lanes_sum(lane);
    for (; j < n; j++) {
        s += ld(a, j) * ld(b, j);
    }
    return s;
}

static inline real kd_sum_act(const act_t *restrict a, int64_t n)
{
    real lane[KD_LANES] = {0};
    int64_t j = 0;
    for (; j + KD_LANES <= n; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            lane[l] += ld(a, j + l);
        }
    }
    real s = kd_lanes_sum(lane);
    for (; j < n; j++) {
        s += ld(a, j);
    }
    return s;
}

#endif
