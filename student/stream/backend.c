/* The device of liblast: see backend.h. */
#include "student/stream/backend.h"

#include "kernels/kd_cpu.h"

#include <stdlib.h>

/* ---- kernels --------------------------------------------------------------------------------- */

#define HOT_OF(variant, name) extern const kd_kernel_def kd_cpu_##name##_##variant;
#if defined(KD_LAST_VARIANTS)
#    define HOT(ID, name)         HOT_OF(ref_f32, name) HOT_OF(v3_f32, name) HOT_OF(v4_f32, name)
#    define FAST(ID, needs, name) extern const kd_kernel_def kd_fast_##name;
#else
#    define HOT(ID, name) HOT_OF(ref_f32, name)
#    define FAST(ID, needs, name)
#endif
#define COLD(ID, name) HOT_OF(ref_f32, name)
#include "student/stream/ops.inc"
#undef HOT
#undef COLD
#undef FAST

typedef struct candidate {
    kd_op op;
    uint32_t needs; /* kd_cpu_feature bits */
    const kd_kernel_def *def;
} candidate;

/* By op the best first: the processor's own kernels, then the plain loops compiled for it, then plain C. */
static const candidate CANDIDATES[] = {
#if defined(KD_LAST_VARIANTS)
#    define COLD(ID, name)
#    define HOT(ID, name)
#    define FAST(ID, needs, name) {KD_OP_##ID, needs, &kd_fast_##name},
#    include "student/stream/ops.inc"
#    undef HOT
#    undef FAST
#    define FAST(ID, needs, name)
#    define HOT(ID, name) \
        {KD_OP_##ID, KD_CPU_V4, &kd_cpu_##name##_v4_f32}, {KD_OP_##ID, KD_CPU_V3, &kd_cpu_##name##_v3_f32},
#    include "student/stream/ops.inc"
#    undef HOT
#    undef COLD
#    undef FAST
#endif
#define FAST(ID, needs, name)
#define HOT(ID, name)  {KD_OP_##ID, 0, &kd_cpu_##name##_ref_f32},
#define COLD(ID, name) {KD_OP_##ID, 0, &kd_cpu_##name##_ref_f32},
#include "student/stream/ops.inc"
#undef HOT
#undef COLD
#undef FAST
};

static const kd_kernel_def *find(kd_backend *be, kd_op op, kd_dtype act, int rank)
{
    (void)be;
    const uint32_t have = kd_cpu_features();
    for (size_t i = 0; i < KD_COUNTOF(CANDIDATES) && act == KD_F32; i++) {
        const candidate *k = &CANDIDATES[i];
        if (k->op == op && (k->needs & have) == k->needs && rank-- == 0) {
            return k->def;
        }
    }
    return NULL;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static kd_status take(kd_backend *be, size_t bytes, void **out)
{
    (void)be;
    if (posix_memalign(out, 256, KD_MAX(bytes, 256)) != 0) {
        *out = NULL;
        return KD_E_OOM;
    }
    memset(*out, 0, bytes);
    return KD_OK;
}

static void give_back(kd_backend *be, void *p)
{
    (void)be;
    free(p);
}

static kd_status copy(kd_backend *be, void *dst, const void *src, size_t bytes)
{
    (void)be;
    if (bytes > 0) { /* an empty region has no address */
        memcpy(dst, src, bytes);
    }
    return KD_OK;
}

static kd_status zero(kd_backend *be, void *dst, size_t bytes)
{
    (void)be;
    if (bytes > 0) {
        memset(dst, 0, bytes);
    }
    return KD_OK;
}

static kd_status sync_nothing(kd_backend *be)
{
    (void)be;
    return KD_OK;
}

static void close_backend(kd_backend *be)
{
    kd_free(be);
}

kd_backend *kd_last_backend_open(void)
{
    static const kd_backend_ops ops = {.name = "liblast",
                                       .alloc = take,
                                       .free = give_back,
                                       .upload = copy,
                                       .feed = copy,
                                       .download = copy,
                                       .zero = zero,
                                       .sync = sync_nothing,
                                       .find = find,
                                       .host = true,
                                       .close = close_backend};
    kd_backend *be = kd_calloc(1, sizeof *be);
    if (be != NULL) {
        be->ops = &ops;
        be->threads = 1;
    }
    return be;
}
