/* The kernel table of CUDA: own kernels for every op and dtype; library kernels (cuBLASLt, cuDNN) before them where
 * there are any.  A kernel missing here does not link. */
#include "kernels/cuda/kd_cuda.h"

#define KD_OP(ID, name, family, n_in, n_out, flags) extern const kd_kernel_def kd_cuda_##name[3];
#include "kernels/kd_op_list.inc"
#undef KD_OP

static const kd_kernel_def *const own[KD_OP_COUNT] = {
#define KD_OP(ID, name, family, n_in, n_out, flags) [KD_OP_##ID] = kd_cuda_##name,
#include "kernels/kd_op_list.inc"
#undef KD_OP
};

const kd_kernel_def *kd_cuda_own(kd_op op, kd_dtype act)
{
    const int slot = act == KD_F32 ? 0 : act == KD_BF16 ? 1 : act == KD_F16 ? 2 : -1;
    return slot < 0 || own[op] == NULL ? NULL : own[op] + slot;
}
