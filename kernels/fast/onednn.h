/* A matrix product of oneDNN inside a kernel.  The caller describes the operands; kd_call.prep holds the rest. */
#ifndef KD_KERNELS_FAST_ONEDNN_H
#define KD_KERNELS_FAST_ONEDNN_H

#include "kernels/fast/fast.h"

/* C (m,n) = act(A (m,k) B (k,n) + bias (n)), or C += A B. */
typedef struct kd_dnnl_product {
    int64_t m, n, k;
    bool a_t, b_t; /* stored (k,m), (n,k) */
    kd_dtype in, out;
    bool bias, add;
    bool pack_b; /* B in the layout the library likes; set by kd_dnnl_prepare */
    int32_t act;
} kd_dnnl_product;

/* Sets c->prep.  `constant` is B's data when it may be packed, else NULL.  KD_E_UNSUPPORTED: another kernel has to take
 * it. */
kd_status kd_dnnl_prepare(kd_call *c, kd_dnnl_product how, void *constant);
void kd_dnnl_release(kd_call *c);
/* Bytes of kd_call.scratch the product needs. */
size_t kd_dnnl_scratch(const kd_dnnl_product *p);
kd_status kd_dnnl_run(const kd_call *c, void *a, void *b, void *bias, void *out);

#endif
