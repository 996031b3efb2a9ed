/* Kernels for particular processors and libraries.  They override slots of the plain C tables (cpu/).  The caller asks
 * for a slot by rank, the best first.  A prepare() that answers KD_E_UNSUPPORTED passes the call on to the next rank,
 * in the end to the plain tables. */
#ifndef KD_KERNELS_FAST_FAST_H
#define KD_KERNELS_FAST_FAST_H

#include "kernels/kd_op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Candidate `rank` (0, 1, ...) for an op with activations of type `act`; NULL: no further one.  Kernels that the
 * machine cannot run are left out. */
const kd_kernel_def *kd_fast_find(kd_op op, kd_dtype act, int rank);

#define KD_FAST(op, needs, f32, bf16, name) extern const kd_kernel_def kd_fast_##name;
#include "kernels/fast/slots.inc"
#undef KD_FAST

/* True where a linear with activation also wants pre, or wants pre alone.  CPU programs never do (they lack
 * KD_FUSE_ACT, kd_backend.fuses); the plain kernels serve such a call. */
static inline bool kd_fast_keeps_pre(const kd_call *c)
{
    return c->out[0].data == NULL || (c->n_out > 1 && c->out[1].data != NULL);
}

/* True where linear_bwd_x multiplies by act'(pre).  CPU programs never do. */
static inline bool kd_fast_takes_pre(const kd_call *c)
{
    return c->n_in > 2 && c->in[2].data != NULL;
}

/* Loops over disjoint outputs. */
#if defined(_OPENMP)
#    define KD_FAST_FOR         _Pragma("omp parallel for schedule(static)")
#    define KD_FAST_FOR_DYNAMIC _Pragma("omp parallel for schedule(dynamic, 1)")
#else
#    define KD_FAST_FOR
#    define KD_FAST_FOR_DYNAMIC
#endif

#ifdef __cplusplus
}
#endif
#endif
