#include "kernels/fast/fast.h"

#include "kernels/fast/rows.h"
#include "kernels/kd_cpu.h"

typedef struct candidate {
    kd_op op;
    uint32_t needs; /* kd_cpu_feature bits */
    bool f32, bf16;
    const kd_kernel_def *def;
} candidate;

static const candidate candidates[] = {
#define KD_FAST(op, needs, f32, bf16, name) {KD_OP_##op, needs, f32, bf16, &kd_fast_##name},
#include "kernels/fast/slots.inc"
#undef KD_FAST
    {KD_OP_NONE, 0, false, false, NULL}, /* never empty, whatever is left out */
};

/* The plain C tables of the hot families, compiled for newer processors (cpu/table.c). */
#if defined(KD_HAVE_V4_KERNELS)
const kd_kernel_def *kd_cpu_table_v3_f32(kd_op op);
const kd_kernel_def *kd_cpu_table_v3_bf16(kd_op op);
const kd_kernel_def *kd_cpu_table_v4_f32(kd_op op);
const kd_kernel_def *kd_cpu_table_v4_bf16(kd_op op);

static const kd_kernel_def *vector_table(kd_op op, kd_dtype act)
{
    if (kd_cpu_has(KD_CPU_V4)) {
        return act == KD_F32 ? kd_cpu_table_v4_f32(op) : kd_cpu_table_v4_bf16(op);
    }
    if (kd_cpu_has(KD_CPU_V3)) {
        return act == KD_F32 ? kd_cpu_table_v3_f32(op) : kd_cpu_table_v3_bf16(op);
    }
    return NULL;
}
#else
static const kd_kernel_def *vector_table(kd_op op, kd_dtype act)
{
    (void)op;
    (void)act;
    return NULL;
}
#endif

const kd_kernel_def *kd_fast_find(kd_op op, kd_dtype act, int rank)
{
    const uint32_t have = kd_cpu_features();
    if (op == KD_OP_NONE || (act != KD_F32 && act != KD_BF16)) {
        return NULL;
    }
    for (size_t i = 0; i < KD_COUNTOF(candidates); i++) {
        const candidate *k = &candidates[i];
        const bool fits = act == KD_F32 ? k->f32 : k->bf16;
        if (k->op == op && fits && (k->needs & have) == k->needs && rank-- == 0) {
            return k->def;
        }
    }
    return rank == 0 ? vector_table(op, act) : NULL;
}

/* Rows in order for every column; blocks of 64 rows keep the rounding error small. */
static void column_sum_plain(const void *x, int64_t rows, int64_t cols, bool bf16, bool add, float *out)
{
    const uint16_t *h = x;
    const float *f = x;
    KD_FAST_FOR
    for (int64_t j = 0; j < cols; j++) {
        float total = 0.0f;
        for (int64_t r0 = 0; r0 < rows; r0 += 64) {
            float part = 0.0f;
            for (int64_t r = r0; r < KD_MIN(rows, r0 + 64); r++) {
                part += bf16 ? kd_bf16_to_f32(h[r * cols + j]) : f[r * cols + j];
            }
            total += part;
        }
        out[j] = add ? out[j] + total : total;
    }
}

void kd_fast_column_sum(const void *x, int64_t rows, int64_t cols, bool bf16, bool add, float *out)
{
#if defined(KD_HAVE_V4_KERNELS)
    if (kd_cpu_has(KD_CPU_V4)) {
        kd_fast_column_sum_v4(x, rows, cols, bf16, add, out);
        return;
    }
#endif
    column_sum_plain(x, rows, cols, bf16, add, out);
}
