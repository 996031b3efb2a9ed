/* What test_simt checks: our CUDA kernels on the SIMT shim, in every dtype, under three orders of threads and
 * blocks. */
#include "kernels/cuda/kd_cuda.h"
#include "tests/kernels/op_check.h"
#include "tests/kernels/op_driver.h"

void simt_set_order(int order); /* simt/simt.h is C++ */

const char op_suite[] = "simt";
const bool op_gradients = false; /* test_ops does */
const kd_dtype op_dtypes[] = {KD_F32, KD_BF16, KD_F16};
const int op_dtype_count = 3;
const char *const op_slot_names[] = {"simt", NULL};

const kd_kernel_def *op_plain(kd_op op, kd_dtype act)
{
    return kd_cuda_own(op, act);
}

bool op_has(kd_op op, kd_dtype act, int slot)
{
    (void)op, (void)act, (void)slot;
    return true;
}

/* AddressSanitizer sees the same accesses in any order. */
#if defined(__SANITIZE_ADDRESS__)
enum { ORDERS = 1 };
#else
enum { ORDERS = 3 };
#endif

const char *op_schedule(int way)
{
    static const char *const names[] = {"threads ascending", "threads descending", "threads shuffled"};
    if (way < ORDERS) {
        simt_set_order(way);
    }
    return way < ORDERS ? names[way] : NULL;
}

void op_candidates(kd_op op, kd_dtype act, op_visit visit, void *user)
{
    visit(user, kd_cuda_own(op, act), SLOT_SIMT, false, "shim");
}

void *op_to_device(const void *host, size_t bytes)
{
    (void)bytes;
    return (void *)(uintptr_t)host;
}

void op_from_device(void *host, const void *there, size_t bytes)
{
    (void)host, (void)there, (void)bytes;
}

void *op_stream(void)
{
    return NULL;
}
