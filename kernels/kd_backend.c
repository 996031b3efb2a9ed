/* What all backends share, and the CPU backend. */
#include "kernels/kd_backend.h"

#include "kernels/fast/fast.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

void kd_backend_close(kd_backend *be)
{
    if (be != NULL) {
        be->ops->close(be);
    }
}

kd_status kd_backend_call(kd_backend *be, kd_op op, kd_dtype act, kd_call *c)
{
    for (int rank = 0;; rank++) {
        const kd_kernel_def *def = be->ops->find(be, op, act, rank);
        if (def == NULL || def->run == NULL) {
            return KD_E_UNSUPPORTED;
        }
        c->prep = NULL;
        kd_status st = def->prepare != NULL ? def->prepare(c, NULL) : KD_OK;
        if (st == KD_E_UNSUPPORTED) {
            continue;
        }
        const size_t bytes = st == KD_OK && def->scratch != NULL ? def->scratch(c) : 0;
        c->scratch = NULL;
        c->stream = be->stream;
        if (st == KD_OK && bytes != 0) {
            st = be->ops->alloc(be, bytes, &c->scratch);
        }
        if (st == KD_OK) {
            st = def->run(c);
        }
        if (c->scratch != NULL) {
            (void)be->ops->sync(be);
            be->ops->free(be, c->scratch);
            c->scratch = NULL;
        }
        if (def->release != NULL) {
            def->release(c);
        }
        return st;
    }
}

/* ---- CPU ------------------------------------------------------------------------------------------------------------ */

static int cgroup_cores(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    long long quota = 0, period = 0;
    if (f == NULL) {
        return 0;
    }
    const int got = fscanf(f, "%lld %lld", &quota, &period); /* "max 100000" yields 0 fields */
    (void)fclose(f);
    return got == 2 && period > 0 && quota > 0 ? (int)((quota + period - 1) / period) : 0;
}

int kd_cores(void)
{
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        n = CPU_COUNT(&set);
    }
    const int quota = cgroup_cores();
    return quota > 0 && quota < n ? quota : n;
}

static kd_status cpu_alloc(kd_backend *be, size_t bytes, void **out)
{
    (void)be;
    const size_t huge = (size_t)2 << 20;
    const bool large = bytes >= 2 * huge;
    void *p = NULL;
    if (posix_memalign(&p, large ? huge : 256, bytes == 0 ? 256 : bytes) != 0) {
        return KD_E_OOM;
    }
#if defined(MADV_HUGEPAGE)
    if (large) { /* advice only: 15 % on attention, twice the rate of a copy (PERF.md) */
        (void)madvise(p, bytes / huge * huge, MADV_HUGEPAGE);
    }
#endif
    memset(p, 0, bytes);
    *out = p;
    return KD_OK;
}

static void cpu_free(kd_backend *be, void *p)
{
    (void)be;
    free(p);
}

static kd_status cpu_copy(kd_backend *be, void *dst, const void *src, size_t bytes)
{
    (void)be;
    if (bytes > 0) { /* an empty region has no address */
        memcpy(dst, src, bytes);
    }
    return KD_OK;
}

static kd_status cpu_zero(kd_backend *be, void *dst, size_t bytes)
{
    (void)be;
    if (bytes > 0) {
        memset(dst, 0, bytes);
    }
    return KD_OK;
}

static kd_status cpu_sync(kd_backend *be)
{
    (void)be;
    return KD_OK;
}

static void cpu_close(kd_backend *be)
{
    kd_free(be);
}

const kd_kernel_def *kd_cpu_table_ref_f32(kd_op op); /* cpu/table.c, one function a variant */
const kd_kernel_def *kd_cpu_table_ref_bf16(kd_op op);

static const kd_kernel_def *reference(kd_op op, kd_dtype act)
{
    switch (act) {
    case KD_F32:
        return kd_cpu_table_ref_f32(op);
    case KD_BF16:
        return kd_cpu_table_ref_bf16(op);
    default:
        return NULL;
    }
}

static const kd_kernel_def *cpu_find(kd_backend *be, kd_op op, kd_dtype act, int rank)
{
    int k = 0;
    if (!be->plain) {
        for (const kd_kernel_def *def; (def = kd_fast_find(op, act, k)) != NULL; k++) {
            if (k == rank) {
                return def;
            }
        }
    }
    return rank == k ? reference(op, act) : NULL;
}

kd_status kd_backend_cpu_open(int threads, kd_backend **out, kd_err *err)
{
    static const kd_backend_ops ops = {.name = "cpu",
                                       .alloc = cpu_alloc,
                                       .free = cpu_free,
                                       .upload = cpu_copy,
                                       .download = cpu_copy,
                                       .zero = cpu_zero,
                                       .sync = cpu_sync,
                                       .find = cpu_find,
                                       .close = cpu_close};
    *out = NULL;
    if (threads < 0) {
        return KD_FAIL(err, KD_E_ARG, "threads must be 0 (all) or more, got %d", threads);
    }
    kd_backend *be = kd_calloc(1, sizeof *be);
    if (be == NULL) {
        return KD_FAIL(err, KD_E_OOM, "cpu backend: out of memory");
    }
    be->ops = &ops;
    be->threads = threads == 0 ? kd_cores() : threads;
#if defined(_OPENMP)
    omp_set_num_threads(be->threads);
#endif
    *out = be;
    return KD_OK;
}
