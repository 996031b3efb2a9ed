/* One source, several kernels.  Every file in cpu/ is compiled once per variant:
 *
 *   ref_f32, ref_bf16   plain C for any x86-64: the portable path and the oracle of every faster one
 *   ref_f64             tests only: the oracle of the oracle, and gradient checks
 *   v3_*, v4_*          the same loops for AVX2+FMA and for AVX-512, run on several threads (OpenMP); chosen at run
 *   time
 *
 * `act_t` is how activations are stored, `real` what is computed with and how statistics, small parameters and
 * gradients of parameters are stored.  bf16: load, convert, compute in f32, round to nearest even at the store.
 * A file defines `const kd_kernel_def KD_K(name) = {...}` for each op it owns.
 * KD_FOR marks a loop whose iterations write disjoint outputs: parallel in v3/v4, plain in ref.  Reductions
 * across iterations are never parallel: results must not depend on the number of threads.
 */
#ifndef KD_KERNELS_CPU_KD_REAL_H
#define KD_KERNELS_CPU_KD_REAL_H

#include "kernels/kd_ops.h"

#include <math.h>

#define KD_CAT_(a, b, c) a##b##_##c
#define KD_CAT(a, b, c)  KD_CAT_(a, b, c)
#define KD_K(name)       KD_CAT(kd_cpu_, name, KD_VARIANT)

#if defined(KD_REAL_F64)
typedef double real;
typedef double act_t;
#    define KD_ACT_DTYPE  KD_F64
#    define KD_STAT_DTYPE KD_F64
#    define R(x)          x
#    define r_exp         exp
#    define r_log         log
#    define r_sqrt        sqrt
#    define r_erf         erf
#    define r_tanh        tanh
#    define r_fabs        fabs
#    define r_expm1       expm1
#    define r_fmax        fmax
#    define r_fmin        fmin
#    define r_trunc       trunc
#else
typedef float real;
#    define KD_STAT_DTYPE KD_F32
#    define R(x)          x##f
#    define r_exp         expf
#    define r_log         logf
#    define r_sqrt        sqrtf
#    define r_erf         erff
#    define r_tanh        tanhf
#    define r_fabs        fabsf
#    define r_expm1       expm1f
#    define r_fmax        fmaxf
#    define r_fmin        fminf
#    define r_trunc       truncf
#    if defined(KD_REAL_BF16)
typedef uint16_t act_t;
#        define KD_ACT_DTYPE KD_BF16
#    else
typedef float act_t;
#        define KD_ACT_DTYPE KD_F32
#    endif
#endif

static inline real ld(const act_t *p, int64_t i)
{
#if defined(KD_REAL_BF16)
    return kd_bf16_to_f32(p[i]);
#else
    return p[i];
#endif
}

static inline void st(act_t *p, int64_t i, real v)
{
#if defined(KD_REAL_BF16)
    p[i] = kd_f32_to_bf16(v);
#else
    p[i] = v;
#endif
}

/* For [any] ops: element i of a tensor that is act or stat. */
static inline real ld_any(const kd_tensor *t, int64_t i)
{
#if defined(KD_REAL_BF16)
    if (t->dtype == KD_BF16) {
        return kd_bf16_to_f32(((const uint16_t *)t->data)[i]);
    }
#endif
    return ((const real *)t->data)[i];
}

static inline void st_any(const kd_tensor *t, int64_t i, real v)
{
#if defined(KD_REAL_BF16)
    if (t->dtype == KD_BF16) {
        ((uint16_t *)t->data)[i] = kd_f32_to_bf16(v);
        return;
    }
#endif
    ((real *)t->data)[i] = v;
}

/* Store or accumulate output `o` of the call. */
static inline void put_any(const kd_call *c, int o, int64_t i, real v)
{
    if ((c->accum >> o) & 1u) {
        v += ld_any(&c->out[o], i);
    }
    st_any(&c->out[o], i, v);
}

#if defined(_OPENMP)
#    define KD_FOR _Pragma("omp parallel for schedule(static)")
#else
#    define KD_FOR
#endif

/* Operand i, NULL when absent: trailing absent operands may be missing from the call altogether. */
static inline const void *kd_in(const kd_call *c, int i)
{
    return i < c->n_in ? c->in[i].data : NULL;
}

static inline int64_t numel(const kd_tensor *t)
{
    return kd_shape_numel(&t->shape);
}

#endif
