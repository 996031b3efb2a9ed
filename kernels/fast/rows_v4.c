/* Row-wise kernels for AVX-512: GELU, dropout, LayerNorm, column sums.  The plain loops call erff
 * and expf once an element or keep their sums in memory; these stay at the speed of memory or close
 * to it. */
#include "kernels/fast/fast.h"
#include "kernels/fast/rows.h"
#include "kernels/fast/vmath512.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_rng.h"

#include <math.h>

enum { SPAN = 4096 }; /* elements a task */

static bool float_or_bf16(const kd_tensor *t)
{
    return t->dtype == KD_F32 || t->dtype == KD_BF16;
}

/* ---- activation ------------------------------------------------------------------------------ */

void kd_fast_gelu_v4(const void *x, void *y, int64_t n, bool bf16)
{
    KD_FAST_FOR
    for (int64_t s = 0; s < n; s += SPAN) {
        const int64_t end = KD_MIN(n, s + SPAN);
        for (int64_t i = s; i < end; i += 16) {
            const __mmask16 m = v_mask(i, end);
            v_store(y, i, m, bf16, v_gelu(v_load(x, i, m, bf16)));
        }
    }
}

static kd_status gelu_run(const kd_call *c)
{
    kd_fast_gelu_v4(c->in[0].data, c->out[0].data, kd_shape_numel(&c->in[0].shape), c->in[0].dtype == KD_BF16);
    return KD_OK;
}

static kd_status gelu_bwd_run(const kd_call *c)
{
    const void *x = c->in[0].data, *dy = c->in[1].data;
    void *dx = c->out[0].data;
    const int64_t n = kd_shape_numel(&c->in[0].shape);
    const bool bf16 = c->in[0].dtype == KD_BF16;
    KD_FAST_FOR
    for (int64_t s = 0; s < n; s += SPAN) {
        const int64_t end = KD_MIN(n, s + SPAN);
        for (int64_t i = s; i < end; i += 16) {
            const __mmask16 m = v_mask(i, end);
            const __m512 slope = v_gelu_slope(v_load(x, i, m, bf16));
            v_store(dx, i, m, bf16, _mm512_mul_ps(v_load(dy, i, m, bf16), slope));
        }
    }
    return KD_OK;
}

static kd_status gelu_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const kd_act_attr *at = c->attr;
    return at->kind == KD_ACT_GELU && float_or_bf16(&c->in[0]) && kd_cpu_has(KD_CPU_V4) ? KD_OK : KD_E_UNSUPPORTED;
}

/* ---- dropout --------------------------------------------------------------------------------- */

/* Eight Philox blocks (kd_philox_block): counter words c0 .. c0 + 7, one a 64-bit lane.  Upper
 * halves of the lanes are rubbish throughout: the multiplication reads lower halves only. */
static void philox8(uint64_t seed, uint32_t first, uint32_t item, uint32_t epoch, uint32_t stream, __m512i w[4])
{
    const __m512i ma = _mm512_set1_epi64(0xD2511F53), mb = _mm512_set1_epi64(0xCD9E8D57);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    __m512i c0 = _mm512_add_epi64(_mm512_set1_epi64(first), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
    __m512i c1 = _mm512_set1_epi64(item), c2 = _mm512_set1_epi64(epoch), c3 = _mm512_set1_epi64(stream);
    for (int round = 0; round < 10; round++) {
        const __m512i a = _mm512_mul_epu32(c0, ma), b = _mm512_mul_epu32(c2, mb);
        c0 = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(b, 32), c1), _mm512_set1_epi64(k0));
        c2 = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(a, 32), c3), _mm512_set1_epi64(k1));
        c1 = b;
        c3 = a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    w[0] = c0;
    w[1] = c1;
    w[2] = c2;
    w[3] = c3;
}

/* Which of the 32 elements from 4 * first stay: bit i for element i. */
static uint32_t keep32(const kd_call *c, uint32_t first, float p)
{
    const kd_dropout_attr *at = c->attr;
    __m512i w[4];
    uint32_t keep = 0;
    philox8(c->step->seed, first, at->rng_id, (uint32_t)c->step->step, KD_RNG_DROPOUT, w);
    for (int l = 0; l < 4; l++) {
        const __m256 unit = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(_mm512_cvtepi64_epi32(w[l]), 8)),
                                          _mm256_set1_ps(0x1p-24f));
        const __mmask8 m = _mm256_cmp_ps_mask(unit, _mm256_set1_ps(p), _CMP_GE_OQ);
        keep |= _pdep_u32(m, 0x11111111u << l);
    }
    return keep;
}

static kd_status dropout_run(const kd_call *c)
{
    const kd_dropout_attr *at = c->attr;
    const int64_t n = kd_shape_numel(&c->in[0].shape);
    const bool bf16 = c->in[0].dtype == KD_BF16;
    const __m512 up = v_set(1.0f / (1.0f - at->p));
    KD_FAST_FOR
    for (int64_t s = 0; s < n; s += SPAN) {
        const int64_t end = KD_MIN(n, s + SPAN);
        for (int64_t i = s; i < end; i += 32) {
            const uint32_t keep = keep32(c, (uint32_t)(i / 4), at->p);
            for (int64_t j = i; j < KD_MIN(end, i + 32); j += 16) {
                const __mmask16 m = v_mask(j, end), live = (__mmask16)(keep >> (j - i));
                const __m512 x = v_load(c->in[0].data, j, m, bf16);
                v_store(c->out[0].data, j, m, bf16, _mm512_maskz_mul_ps(live, x, up));
            }
        }
    }
    return KD_OK;
}

static kd_status dropout_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const kd_dropout_attr *at = c->attr;
    const int64_t most = (int64_t)1 << 34; /* beyond, another counter word changes */
    return !at->per_row && c->accum == 0 && float_or_bf16(&c->in[0]) && kd_cpu_has(KD_CPU_V4) &&
                   kd_shape_numel(&c->in[0].shape) < most
               ? KD_OK
               : KD_E_UNSUPPORTED;
}

/* ---- column sums ----------------------------------------------------------------------------- */

void kd_fast_column_sum_v4(const void *x, int64_t rows, int64_t cols, bool bf16, bool add, float *out)
{
    KD_FAST_FOR
    for (int64_t j0 = 0; j0 < cols; j0 += 64) {
        for (int64_t j = j0; j < KD_MIN(cols, j0 + 64); j += 16) {
            const __mmask16 m = v_mask(j, cols);
            __m512 total = _mm512_setzero_ps();
            for (int64_t r0 = 0; r0 < rows; r0 += 64) { /* partial sums keep the rounding error small */
                __m512 part = _mm512_setzero_ps();
                for (int64_t r = r0; r < KD_MIN(rows, r0 + 64); r++) {
                    part = _mm512_add_ps(part, v_load(x, r * cols + j, m, bf16));
                }
                total = _mm512_add_ps(total, part);
            }
            if (add) {
                total = _mm512_add_ps(total, _mm512_maskz_loadu_ps(m, out + j));
            }
            _mm512_mask_storeu_ps(out + j, m, total);
        }
    }
}

/* ---- layer normalisation --------------------------------------------------------------------- */

typedef struct norm {
    int64_t rows, cols;
    bool bf16;
} norm;

static norm norm_of(const kd_tensor *x)
{
    const int64_t cols = x->shape.dim[x->shape.rank - 1];
    return (norm){
        .rows = kd_shape_numel(&x->shape) / KD_MAX(cols, (int64_t)1), .cols = cols, .bf16 = x->dtype == KD_BF16};
}

static kd_status layernorm_run(const kd_call *c)
{
    const norm n = norm_of(&c->in[0]);
    const kd_layernorm_attr *at = c->attr;
    const void *x = c->in[0].data;
    const float *gamma = c->in[1].data, *beta = c->in[2].data;
    float *mean = c->n_out > 1 ? c->out[1].data : NULL, *rstd = c->n_out > 2 ? c->out[2].data : NULL;
    const float eps = at->eps;
    KD_FAST_FOR
    for (int64_t r = 0; r < n.rows; r++) {
        const int64_t at_row = r * n.cols;
        __m512 sum = _mm512_setzero_ps(), sq = _mm512_setzero_ps();
        for (int64_t j = 0; j < n.cols; j += 16) {
            sum = _mm512_add_ps(sum, v_load(x, at_row + j, v_mask(j, n.cols), n.bf16));
        }
        const float mu = _mm512_reduce_add_ps(sum) / (float)n.cols;
        for (int64_t j = 0; j < n.cols; j += 16) {
            const __mmask16 m = v_mask(j, n.cols);
            const __m512 d = _mm512_maskz_sub_ps(m, v_load(x, at_row + j, m, n.bf16), v_set(mu));
            sq = _mm512_fmadd_ps(d, d, sq);
        }
        const float rs = 1.0f / sqrtf(_mm512_reduce_add_ps(sq) / (float)n.cols + eps);
        const int64_t wanted = c->out[0].data != NULL ? n.cols : 0; /* recomputation may need the statistics alone */
        for (int64_t j = 0; j < wanted; j += 16) {
            const __mmask16 m = v_mask(j, n.cols);
            __m512 v = _mm512_sub_ps(v_load(x, at_row + j, m, n.bf16), v_set(mu));
            v = _mm512_mul_ps(v, v_set(rs));
            v = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, gamma + j), _mm512_maskz_loadu_ps(m, beta + j));
            v_store(c->out[0].data, at_row + j, m, n.bf16, v);
        }
        if (mean != NULL) {
            mean[r] = mu;
        }
        if (rstd != NULL) {
            rstd[r] = rs;
        }
    }
    return KD_OK;
}

/* Rows are cut into at most 32 chunks whose sizes depend on the shape only; each leaves its sums of
 * dgamma and dbeta in scratch, added up in order afterwards. */
enum { CHUNKS = 32 };

static int64_t chunk_rows(const norm *n)
{
    return KD_MAX((n->rows + CHUNKS - 1) / CHUNKS, (int64_t)8);
}

static size_t layernorm_bwd_scratch(const kd_call *c)
{
    const norm n = norm_of(&c->in[1]);
    return (size_t)(2 * CHUNKS * n.cols) * sizeof(float);
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma; adds the row to the sums of dgamma and
 * dbeta. */
static void layernorm_bwd_row(const kd_call *c, const norm *n, int64_t r, float *dg, float *db)
{
    const void *dy = c->in[0].data, *x = c->in[1].data;
    const float *gamma = c->in[2].data;
    const float inv = 1.0f / (float)n->cols;
    const __m512 mu = v_set(((const float *)c->in[3].data)[r]);
    const __m512 rs = v_set(((const float *)c->in[4].data)[r]);
    const int64_t at = r * n->cols;
    __m512 s1 = _mm512_setzero_ps(), s2 = _mm512_setzero_ps();
    for (int64_t j = 0; j < n->cols; j += 16) {
        const __mmask16 m = v_mask(j, n->cols);
        const __m512 d = v_load(dy, at + j, m, n->bf16);
        const __m512 h = _mm512_maskz_mul_ps(m, _mm512_sub_ps(v_load(x, at + j, m, n->bf16), mu), rs);
        const __m512 g = _mm512_mul_ps(d, _mm512_maskz_loadu_ps(m, gamma + j));
        s1 = _mm512_add_ps(s1, g);
        s2 = _mm512_fmadd_ps(g, h, s2);
        _mm512_storeu_ps(dg + j, _mm512_fmadd_ps(d, h, _mm512_loadu_ps(dg + j)));
        _mm512_storeu_ps(db + j, _mm512_add_ps(d, _mm512_loadu_ps(db + j)));
    }
    if (c->out[0].data == NULL) {
        return;
    }
    const __m512 a = v_set(_mm512_reduce_add_ps(s1) * inv), b = v_set(_mm512_reduce_add_ps(s2) * inv);
    for (int64_t j = 0; j < n->cols; j += 16) {
        const __mmask16 m = v_mask(j, n->cols);
        const __m512 h = _mm512_mul_ps(_mm512_sub_ps(v_load(x, at + j, m, n->bf16), mu), rs);
        const __m512 g = _mm512_mul_ps(v_load(dy, at + j, m, n->bf16), _mm512_maskz_loadu_ps(m, gamma + j));
        const __m512 v = _mm512_sub_ps(_mm512_sub_ps(g, a), _mm512_mul_ps(h, b));
        v_store(c->out[0].data, at + j, m, n->bf16, _mm512_mul_ps(v, rs));
    }
}

static void put_sum(const float *parts, int64_t chunks, int64_t stride, int64_t cols, bool add, float *out)
{
    for (int64_t j = 0; out != NULL && j < cols; j += 16) {
        const __mmask16 m = v_mask(j, cols);
        __m512 s = _mm512_setzero_ps();
        for (int64_t i = 0; i < chunks; i++) {
            s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(m, parts + i * stride + j));
        }
        if (add) {
            s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(m, out + j));
        }
        _mm512_mask_storeu_ps(out + j, m, s);
    }
}

static kd_status layernorm_bwd_run(const kd_call *c)
{
    const norm n = norm_of(&c->in[1]);
    const int64_t each = chunk_rows(&n), chunks = (n.rows + each - 1) / each;
    float *scratch = c->scratch;
    KD_FAST_FOR
    for (int64_t i = 0; i < chunks; i++) {
        float *dg = scratch + 2 * i * n.cols, *db = dg + n.cols;
        memset(dg, 0, (size_t)(2 * n.cols) * sizeof(float));
        for (int64_t r = i * each; r < KD_MIN(n.rows, (i + 1) * each); r++) {
            layernorm_bwd_row(c, &n, r, dg, db);
        }
    }
    put_sum(scratch, chunks, 2 * n.cols, n.cols, (c->accum & 2u) != 0, c->n_out > 1 ? c->out[1].data : NULL);
    put_sum(scratch + n.cols, chunks, 2 * n.cols, n.cols, (c->accum & 4u) != 0, c->n_out > 2 ? c->out[2].data : NULL);
    return KD_OK;
}

static kd_status layernorm_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    return float_or_bf16(&c->in[0]) && kd_cpu_has(KD_CPU_V4) ? KD_OK : KD_E_UNSUPPORTED;
}

static kd_status layernorm_bwd_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    /* whole vectors: the chunk sums are read and written 16 at a time */
    return float_or_bf16(&c->in[1]) && kd_cpu_has(KD_CPU_V4) && norm_of(&c->in[1]).cols % 16 == 0 ? KD_OK
                                                                                                  : KD_E_UNSUPPORTED;
}

const kd_kernel_def kd_fast_gelu_act_v4 = {.run = gelu_run, .prepare = gelu_prepare};
const kd_kernel_def kd_fast_gelu_act_bwd_v4 = {.run = gelu_bwd_run, .prepare = gelu_prepare};
const kd_kernel_def kd_fast_dropout_v4 = {.run = dropout_run, .prepare = dropout_prepare};
const kd_kernel_def kd_fast_layernorm_v4 = {.run = layernorm_run, .prepare = layernorm_prepare};
const kd_kernel_def kd_fast_layernorm_bwd_v4 = {
    .run = layernorm_bwd_run, .scratch = layernorm_bwd_scratch, .prepare = layernorm_bwd_prepare};
