/* The kernel table of one CPU variant: see kd_real.h. */
#include "kernels/cpu/kd_real.h"

#define KD_OP(ID, name, n_in, n_out, flags) extern const kd_kernel_def KD_K(name);
#include "kernels/kd_op_list.inc"
#undef KD_OP

const kd_kernel_def *KD_CAT(kd_cpu_, table, KD_VARIANT)(kd_op op);

const kd_kernel_def *KD_CAT(kd_cpu_, table, KD_VARIANT)(kd_op op)
{
    switch (op) {
#define KD_OP(ID, name, n_in, n_out, flags) \
    case KD_OP_##ID:                        \
        return &KD_K(name);
#include "kernels/kd_op_list.inc"
#undef KD_OP
    default:
        return NULL;
    }
}
