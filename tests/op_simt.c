/* What test_simt checks: our CUDA kernels on the SIMT shim, in every dtype, under three orders of threads and blocks. */
#include "kernels/cuda/kd_cuda.h"
#include "tests/op_check.h"
#include "tests/op_driver.h"

void simt_set_order(int order); /* simt/simt.h is C++ */

const char op_suite[] = "simt";
const bool op_gradients = false; /* test_ops does */
const kd_dtype op_dtypes[] = {KD_F32, KD_BF16, KD_F16};
const int op_dtype_count = 3;
const char *const op_slot_names[] = {"simt", NULL};

/* FIXME while kernels are being written: what is missing is lent by the CPU. */
const kd_kernel_def *kd_cpu_table_ref_f32(kd_op op);
const kd_kernel_def *kd_cpu_table_ref_bf16(kd_op op);
static kd_status nothing(const kd_call *c)
{
    (void)c;
    return KD_OK;
}

const kd_kernel_def *op_plain(kd_op op, kd_dtype act)
{
    static const kd_kernel_def lent = {.run = nothing};
    const kd_kernel_def *def = kd_cuda_own(op, act);
    return def != NULL ? def : act == KD_F32 ? kd_cpu_table_ref_f32(op) : act == KD_BF16 ? kd_cpu_table_ref_bf16(op) : &lent;
}

const char *op_schedule(int way)
{
    static const char *const names[] = {"threads ascending", "threads descending", "threads shuffled"};
    if (way < 3) {
        simt_set_order(way);
    }
    return way < 3 ? names[way] : NULL;
}

void op_candidates(kd_op op, kd_dtype act, op_visit visit, void *user)
{
    if (kd_cuda_own(op, act) != NULL) {
        visit(user, kd_cuda_own(op, act), SLOT_SIMT, "shim");
    }
}
