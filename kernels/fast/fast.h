/* Kernels for particular processors and libraries.  They override slots of the plain C tables
 * (cpu/): a slot is asked for by rank, the best first; a prepare() that answers KD_E_UNSUPPORTED
 * passes the call on to the next rank, and in the end to the plain tables. */
#ifndef KD_KERNELS_FAST_FAST_H
#define KD_KERNELS_FAST_FAST_H

#include "kernels/kd_op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Candidate `rank` (0, 1, ...) for an op with activations of type `act`; NULL: no further one. What
 * the machine cannot run is never named. */
const kd_kernel_def *kd_fast_find(kd_op op, kd_dtype act, int rank);

/* The slots. */
#define KD_FAST_SLOTS(X)  \
    X(attention_v4)       \
    X(attention_amx)      \
    X(attention_bwd_amx)  \
    X(attention_bwd_v4)   \
    X(conv2d_v4)          \
    X(conv2d_bwd_x_v4)    \
    X(conv2d_bwd_w_v4)    \
    X(joint_mix_v4)       \
    X(joint_mix_bwd_x_v4) \
    X(reduce_bwd_v4)      \
    X(dropout_v4)         \
    X(reduce_v4)          \
    X(gelu_act_v4)        \
    X(gelu_act_bwd_v4)    \
    X(layernorm_v4)       \
    X(layernorm_bwd_v4)   \
    X(linear_deep_amx)    \
    X(linear_amx)         \
    X(linear_bwd_x_amx)   \
    X(linear_bwd_w_amx)   \
    X(linear_bwd_w_v4)    \
    X(linear_dnnl)        \
    X(linear_bwd_x_dnnl)  \
    X(linear_bwd_w_dnnl)

#define KD_FAST_EXTERN(name) extern const kd_kernel_def kd_fast_##name;
KD_FAST_SLOTS(KD_FAST_EXTERN)
#undef KD_FAST_EXTERN

/* A linear whose activation keeps its input (or of which only that is wanted), or takes the gradient of the one before
 * along: programs on the CPU have none (kd_backend.fuses), the plain kernels serve it. */
static inline bool kd_fast_keeps_pre(const kd_call *c)
{
    return c->out[0].data == NULL || (c->n_out > 1 && c->out[1].data != NULL);
}
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
