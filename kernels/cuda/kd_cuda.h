/* Inside of the CUDA backend: tables of kernels by op and activation dtype.  No CUDA header here. */
#ifndef KD_CUDA_H
#define KD_CUDA_H

#include "kernels/kd_op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Our own kernel; NULL for a dtype CUDA does not compute in (f64). */
const kd_kernel_def *kd_cuda_own(kd_op op, kd_dtype act);

/* Library kernel `rank` (0, 1, ...) of cuBLASLt or cuDNN; NULL: no further one. */
const kd_kernel_def *kd_cuda_library(kd_op op, kd_dtype act, int rank);

#ifdef __cplusplus
}
#endif
#endif
