/* The shim has no cuBLASLt and no cuDNN: their plain twins are what it tests. */
#include "kernels/cuda/kd_cuda.h"

const kd_kernel_def *kd_cuda_library(kd_op op, kd_dtype act, int rank)
{
    (void)op, (void)act, (void)rank;
    return NULL;
}

void kd_cuda_set_flags(int device, unsigned flags)
{
    (void)device, (void)flags;
}

unsigned kd_cuda_env_flags(void)
{
    return 0;
}
