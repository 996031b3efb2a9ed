/* What test_cuda_ops checks: every candidate the CUDA backend has for an op, own kernels and libraries, on the card. */
#include "kernels/cuda/kd_cuda.h"
#include "kernels/kd_backend.h"
#include "tests/kernels/op_check.h"
#include "tests/kernels/op_driver.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLOT_OWN, SLOT_LIBRARY, BLOCKS = 64 };

const char op_suite[] = "cuda";
const bool op_gradients = false; /* test_ops does */
const kd_dtype op_dtypes[] = {KD_F32, KD_BF16, KD_F16};
const int op_dtype_count = 3;
const char *const op_slot_names[] = {"own", "library", NULL};

/* Blocks of the execution under way; all go when the first of them comes back and the next one leaves. */
static struct {
    void *block[BLOCKS];
    int n;
    bool returning;
} over_there;

static kd_backend *card(void)
{
    static kd_backend *be;
    kd_err err = {0};
    if (be == NULL && kd_backend_cuda_open(&(kd_cuda_opts){.deterministic = true}, &be, &err) != KD_OK) {
        printf("%s\nskipped\n", err.msg);
        exit(77);
    }
    return be;
}

void *op_to_device(const void *host, size_t bytes)
{
    kd_backend *be = card();
    if (over_there.returning || over_there.n == BLOCKS) {
        for (int i = 0; i < over_there.n; i++) {
            be->ops->free(be, over_there.block[i]);
        }
        over_there.n = 0;
        over_there.returning = false;
    }
    void *p = NULL;
    if (be->ops->alloc(be, bytes, &p) != KD_OK || be->ops->upload(be, p, host, bytes) != KD_OK) {
        op_complain("no memory on the card", "op_to_device");
        exit(1);
    }
    over_there.block[over_there.n++] = p;
    return p;
}

void op_from_device(void *host, const void *there, size_t bytes)
{
    kd_backend *be = card();
    if (be->ops->download(be, host, there, bytes) != KD_OK) { /* waits: a fault in the kernel shows here */
        op_complain("the card failed", "op_from_device");
        exit(1);
    }
    over_there.returning = true;
}

void *op_stream(void)
{
    return card()->stream;
}

const kd_kernel_def *op_plain(kd_op op, kd_dtype act)
{
    (void)op, (void)act;
    return NULL;
}

bool op_has(kd_op op, kd_dtype act, int slot)
{
    (void)op, (void)act, (void)slot;
    return true;
}

const char *op_schedule(int way)
{
    return way == 0 ? "as it comes" : NULL; /* the card does not ask; "run twice" is checked anyway */
}

void op_candidates(kd_op op, kd_dtype act, op_visit visit, void *user)
{
    visit(user, kd_cuda_own(op, act), SLOT_OWN, false, "own");
    for (int rank = 0;; rank++) {
        const kd_kernel_def *def = kd_cuda_library(op, act, rank);
        if (def == NULL) {
            break;
        }
        visit(user, def, SLOT_LIBRARY, true, "library");
    }
}
