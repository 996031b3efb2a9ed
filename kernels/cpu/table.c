/* The kernel table of one CPU variant: see kd_real.h.  CMake sets KD_HAS_<family>, 0 where the variant leaves the
 * family out.  The table has no kernels of such a family, and the caller takes the next slower variant. */
#include "kernels/cpu/kd_real.h"

#define KD_OP(ID, name, family, n_in, n_out, flags) extern const kd_kernel_def KD_K(name);
#include "kernels/kd_op_list.inc"
#undef KD_OP

const kd_kernel_def *KD_CAT(kd_cpu_, table, KD_VARIANT)(kd_op op);

#define CASE_0(ID, name)
#define CASE_1(ID, name) \
    case KD_OP_##ID:     \
        return &KD_K(name);
#define CASE_(has, ID, name) CASE_##has(ID, name)
#define CASE(has, ID, name)  CASE_(has, ID, name)

const kd_kernel_def *KD_CAT(kd_cpu_, table, KD_VARIANT)(kd_op op)
{
    switch (op) {
#define KD_OP(ID, name, family, n_in, n_out, flags) CASE(KD_HAS_##family, ID, name)
#include "kernels/kd_op_list.inc"
#undef KD_OP
    default:
        return NULL;
    }
}
