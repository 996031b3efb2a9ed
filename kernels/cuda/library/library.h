/* Shared by the library kernels (cublaslt.c, cudnn*.c).  No CUDA header here.
 *
 * A library slot refuses in prepare() with KD_E_UNSUPPORTED and says why in the log (verbose): the next rank then
 * takes the call, our own kernel in the end.  A library that fails while it runs is KD_E_DEVICE. */
#ifndef KD_KERNELS_CUDA_LIBRARY_LIBRARY_H
#define KD_KERNELS_CUDA_LIBRARY_LIBRARY_H

#include "kernels/cuda/kd_cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_CUDA_DEVICES 16 /* devices of a process; libraries are not used on higher indices */

/* Tables of the two files: library kernel of (op, act), NULL: none. */
const kd_kernel_def *kd_cublaslt_kernel(kd_op op, kd_dtype act);
const kd_kernel_def *kd_cudnn_kernel(kd_op op, kd_dtype act); /* exists in builds with cuDNN */

/* Run one of our own kernels with n_in inputs and one output inside a library kernel (`accum`: add to out). */
KD_NODISCARD kd_status kd_cuda_run_own(kd_op op, kd_dtype act, const void *attr, const kd_tensor *in, int n_in,
                                       const kd_tensor *out, bool accum, void *scratch, const kd_call *c);
/* The scratch that call asks for. */
size_t kd_cuda_own_scratch(kd_op op, kd_dtype act, const void *attr, const kd_tensor *in, const kd_tensor *out);

/* Column sums of dy (rows, n): what a bias gradient is; `out` f32 (n), added to when accum. */
KD_NODISCARD kd_status kd_cuda_column_sum(const kd_tensor *dy, int64_t n, const kd_tensor *out, bool accum,
                                          void *scratch, const kd_call *c);
size_t kd_cuda_column_sum_scratch(const kd_tensor *dy, int64_t n, const kd_tensor *out);

static inline size_t kd_cuda_round(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

#ifdef __cplusplus
}
#endif
#endif
