/* Inside of the CUDA backend: tables of kernels by op and activation dtype.  No CUDA header here. */
#ifndef KD_KERNELS_CUDA_KD_CUDA_H
#define KD_KERNELS_CUDA_KD_CUDA_H

#include "kernels/kd_op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Our own kernel; NULL for a dtype CUDA does not compute in (f64). */
const kd_kernel_def *kd_cuda_own(kd_op op, kd_dtype act);

/* Library kernel `rank` (0, 1, ...) of cuBLASLt or cuDNN; NULL: no further one. */
const kd_kernel_def *kd_cuda_library(kd_op op, kd_dtype act, int rank);

/* What libraries may do on a device.  0 (default): no TF32, deterministic sums, one timing per shape. */
typedef enum kd_cuda_flags {
    KD_CUDA_TF32 = 1,    /* f32 products may round their inputs to TF32 (10 bits) */
    KD_CUDA_ATOMICS = 2, /* attention_bwd may sum dq in order of arrival: faster, less memory, other bits each run */
    KD_CUDA_UNTIMED = 4  /* take the library's first algorithm, the same in every process, instead of the fastest */
} kd_cuda_flags;

/* Flags of the environment variable KD_CUDA (tf32, atomics, untimed, separated by commas); read once. */
unsigned kd_cuda_env_flags(void);
/* Set the flags of a device for kernels prepared later.  Default: kd_cuda_env_flags(). */
void kd_cuda_set_flags(int device, unsigned flags);
unsigned kd_cuda_get_flags(int device);

#ifdef __cplusplus
}
#endif
#endif
