/* The CPU backend: memory, and the best kernel of an op that the processor runs. */
#include "kernels/fast/fast.h"
#include "kernels/kd_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(_OPENMP)
#    include <omp.h>
#endif

/* Large blocks are mapped: zero before anybody touches them, so that looking at a model of 4 GB costs nothing, and on
 * huge pages (15 % on attention, twice the rate of a copy: PERF.md).  The page in front keeps the length.  They start
 * at a multiple of BIG_PAGE and no other block does: that is how cpu_free tells the two kinds apart. */
#define BIG_PAGE ((size_t)2 << 20)
#define LARGE    (2 * BIG_PAGE)

/* AddressSanitizer watches the ends of heap blocks only. */
#if defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define KD_HEAP_ONLY 1
#    endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#    define KD_HEAP_ONLY 1
#endif
#if !defined(KD_HEAP_ONLY)
#    define KD_HEAP_ONLY 0
#endif

static bool is_mapped(const void *p)
{
    return !KD_HEAP_ONLY && (uintptr_t)p % BIG_PAGE == 0;
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void *map_block(size_t bytes)
{
    const size_t page = page_size();
    size_t most;
    if (!kd_size_add(bytes, BIG_PAGE + 2 * page, &most)) {
        return NULL;
    }
    const size_t len = (bytes + page - 1) / page * page;
    char *base = mmap(NULL, BIG_PAGE + page + len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return NULL;
    }
    const size_t before = (0 - ((uintptr_t)base + page)) % BIG_PAGE; /* what alignment leaves over on either side */
    char *p = base + before + page;
    if (before != 0) {
        (void)munmap(base, before);
    }
    (void)munmap(p + len, BIG_PAGE - before);
#if defined(MADV_HUGEPAGE)
    (void)madvise(p, bytes / BIG_PAGE * BIG_PAGE, MADV_HUGEPAGE); /* advice only */
#endif
    memcpy(p - page, &len, sizeof len);
    return p;
}

static void *heap_block(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 256, bytes) != 0) {
        return NULL;
    }
    if (is_mapped(p)) { /* by chance at a multiple of BIG_PAGE: take another one while this one is held */
        void *other = heap_block(bytes);
        free(p);
        return other;
    }
    memset(p, 0, bytes);
    return p;
}

static kd_status cpu_alloc(kd_backend *be, size_t bytes, void **out)
{
    (void)be;
    *out = bytes < LARGE || KD_HEAP_ONLY ? heap_block(KD_MAX(bytes, 256)) : map_block(bytes);
    return *out != NULL ? KD_OK : KD_E_OOM;
}

static void cpu_free(kd_backend *be, void *p)
{
    (void)be;
    if (p != NULL && is_mapped(p)) {
        char *start = (char *)p - page_size();
        size_t len;
        memcpy(&len, start, sizeof len);
        (void)munmap(start, len + page_size());
    } else {
        free(p);
    }
}

static void cpu_rest(kd_backend *be, void *p, size_t bytes)
{
    (void)be;
    if (p != NULL && is_mapped(p)) { /* whole pages of its own; small blocks share theirs */
        (void)madvise(p, bytes / page_size() * page_size(), MADV_DONTNEED);
        const size_t left = bytes % page_size();
        memset((char *)p + (bytes - left), 0, left);
    } else if (p != NULL) {
        memset(p, 0, bytes);
    }
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

static void cpu_host_free(kd_backend *be, void *p)
{
    (void)be;
    free(p);
}

/* Everything has happened when a call returns. */
static kd_status cpu_mark(kd_backend *be, uint64_t *mark)
{
    (void)be;
    *mark = 0;
    return KD_OK;
}

static kd_status cpu_reach(kd_backend *be, uint64_t mark)
{
    (void)be, (void)mark;
    return KD_OK;
}

static kd_status cpu_host_alloc(kd_backend *be, size_t bytes, void **out)
{
    (void)be;
    *out = calloc(1, bytes == 0 ? 1 : bytes);
    return *out != NULL ? KD_OK : KD_E_OOM;
}

static void cpu_describe(kd_backend *be, char *buf, size_t size)
{
    (void)snprintf(buf, size, "%d thread%s", be->threads, be->threads == 1 ? "" : "s");
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
                                       .feed = cpu_copy,
                                       .download = cpu_copy,
                                       .zero = cpu_zero,
                                       .sync = cpu_sync,
                                       .host_alloc = cpu_host_alloc,
                                       .host_free = cpu_host_free,
                                       .fetch = cpu_copy,
                                       .mark = cpu_mark,
                                       .reach = cpu_reach,
                                       .rest = cpu_rest,
                                       .host = true,
                                       .describe = cpu_describe,
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
