/* What test_ops checks: the plain C table for each instruction set, and each faster kernel that this machine could
 * run. */
#include "kernels/fast/fast.h"
#include "kernels/kd_backend.h"
#include "kernels/kd_cpu.h"
#include "tests/kernels/op_check.h"
#include "tests/kernels/op_driver.h"

const kd_kernel_def *kd_cpu_table_ref_f32(kd_op op);
const kd_kernel_def *kd_cpu_table_ref_bf16(kd_op op);

const char op_suite[] = "cpu";
const bool op_gradients = true;
const kd_dtype op_dtypes[] = {KD_F32, KD_BF16};
const int op_dtype_count = 2;
const char *const op_slot_names[] = {"ref", "v3", "v4", "fast", NULL};

const kd_kernel_def *op_plain(kd_op op, kd_dtype act)
{
    return act == KD_BF16 ? kd_cpu_table_ref_bf16(op) : kd_cpu_table_ref_f32(op);
}

bool op_has(kd_op op, kd_dtype act, int slot)
{
    return slot == SLOT_REF || kd_fast_find(op, act, 0) != NULL;
}

const char *op_schedule(int way)
{
    static const int threads[] = {1, 3};
    kd_backend *be = NULL; /* opening one is how a program sets them */
    if (way < 2 && kd_backend_cpu_open(threads[way], &be, NULL) == KD_OK) {
        kd_backend_close(be);
    }
    return way == 0 ? "one thread" : way == 1 ? "three threads" : NULL;
}

void op_candidates(kd_op op, kd_dtype act, op_visit visit, void *user)
{
    static const struct {
        uint32_t mask;
        int slot;
        const char *name;
    } levels[] = {{KD_CPU_V3, SLOT_V3, "v3"}, {KD_CPU_V3 | KD_CPU_V4, SLOT_V4, "v4"}, {~0u, SLOT_V4, "all features"}};
    const kd_kernel_def *seen[16];
    int n_seen = 0;
    visit(user, op_plain(op, act), SLOT_REF, false, "reference");
    for (size_t l = 0; l < KD_COUNTOF(levels); l++) {
        kd_cpu_limit(levels[l].mask);
        if ((kd_cpu_features() & levels[l].mask & (KD_CPU_V3 | KD_CPU_V4)) !=
            (levels[l].mask & (KD_CPU_V3 | KD_CPU_V4))) {
            continue;
        }
        for (int rank = 0;; rank++) {
            const kd_kernel_def *def = kd_fast_find(op, act, rank);
            if (def == NULL || def->run == NULL) {
                break;
            }
            const bool last = kd_fast_find(op, act, rank + 1) == NULL;
            bool again = false;
            for (int s = 0; s < n_seen; s++) {
                again = again || (seen[s] == def && last);
            }
            if (!again) {
                visit(user, def, last ? levels[l].slot : SLOT_FAST, !last, levels[l].name);
                seen[n_seen < 15 ? n_seen++ : 15] = def;
            }
        }
    }
    kd_cpu_limit(~0u);
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
