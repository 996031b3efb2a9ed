/* Linear layers in bf16 on AMX tiles: C (m,n) = A (m,k) B (k,n), sums in f32.
 *
 * Both operands are packed into tiles of 1 KiB, padded with zeros: A as (m/32, k/32, 2 tiles) of 16
 * rows by 32 k, B as (n/32, k/32, 2 tiles) of 16 pairs of k by 16 columns (see attention_amx.c).
 * Rows far apart by a power of two would share cache sets; packed tiles do not.  A task is 256 x up
 * to 256 of C: its f32 sums stay in the second-level cache while k goes by in pieces of 512.  Bias,
 * activation and rounding happen when a task is done.  Every sum runs over k in order, whatever the
 * number of threads.
 */
#include "kernels/fast/conv512.h"
#include "kernels/fast/fast.h"
#include "kernels/fast/rows.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

#if defined(_OPENMP)
#    include <omp.h>
#endif

enum { TILE = 512 /* bf16 elements */, MB = 256, NB = 256, KC = 16 /* steps of 32 */ };

typedef struct gemm {
    int64_t m, n, k;       /* as asked for */
    int64_t mb, nb, steps; /* blocks of 32 rows, of 32 columns, steps of 32 k */
    bool a_turned;         /* A is stored (k,m) */
    bool b_turned;         /* B is stored (n,k) */
} gemm;

static gemm gemm_of(int64_t m, int64_t n, int64_t k, bool a_turned, bool b_turned)
{
    return (gemm){m, n, k, (m + 31) / 32, (n + 31) / 32, (k + 31) / 32, a_turned, b_turned};
}

static size_t a_bytes(const gemm *g)
{
    return (size_t)(g->mb * g->steps * 2 * TILE) * 2;
}

static size_t b_bytes(const gemm *g)
{
    return (size_t)(g->nb * g->steps * 2 * TILE) * 2;
}

/* ---- packing --------------------------------------------------------------------------------- */

/* 16 x 16 of 32 bits, transposed in place. */
static void turn(__m512i r[16])
{
    __m512i s[16];
    for (int i = 0; i < 16; i += 4) {
        const __m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        const __m512i p = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), q = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        s[i] = _mm512_unpacklo_epi64(a, p);
        s[i + 1] = _mm512_unpackhi_epi64(a, p);
        s[i + 2] = _mm512_unpacklo_epi64(b, q);
        s[i + 3] = _mm512_unpackhi_epi64(b, q);
    }
    for (int i = 0; i < 4; i++) {
        const __m512i a = _mm512_shuffle_i32x4(s[i], s[i + 4], 0x88), b = _mm512_shuffle_i32x4(s[i], s[i + 4], 0xdd);
        const __m512i p = _mm512_shuffle_i32x4(s[i + 8], s[i + 12], 0x88);
        const __m512i q = _mm512_shuffle_i32x4(s[i + 8], s[i + 12], 0xdd);
        r[i] = _mm512_shuffle_i32x4(a, p, 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(b, q, 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(a, p, 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(b, q, 0xdd);
    }
}

static __mmask32 lanes32(int64_t from, int64_t n)
{
    return n - from >= 32 ? 0xffffffffu : n <= from ? 0u : (1u << (unsigned)(n - from)) - 1u;
}

/* 16 rows from r0 by 32 columns from c0 of x (rows, cols), zero outside. */
static void load_wide(const uint16_t *x, int64_t rows, int64_t cols, int64_t r0, int64_t c0, __m512i out[16])
{
    const __mmask32 m = lanes32(c0, cols);
    for (int64_t i = 0; i < 16; i++) {
        const bool in = r0 + i < rows && m != 0;
        out[i] = in ? _mm512_maskz_loadu_epi16(m, x + (r0 + i) * cols + c0) : _mm512_setzero_si512();
    }
}

/* 32 rows from r0 by 16 columns from c0, neighbouring rows interleaved: 16 rows of 16 pairs. */
static void load_pairs(const uint16_t *x, int64_t rows, int64_t cols, int64_t r0, int64_t c0, __m512i out[16])
{
    const __mmask16 m = c0 < cols ? v_mask(c0, cols) : 0;
    for (int64_t i = 0; i < 16; i++) {
        __m512i half[2];
        for (int64_t e = 0; e < 2; e++) {
            const int64_t r = r0 + 2 * i + e;
            half[e] = r < rows && m != 0 ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, x + r * cols + c0))
                                         : _mm512_setzero_si512();
        }
        out[i] = _mm512_or_si512(half[0], _mm512_slli_epi32(half[1], 16));
    }
}

static void put_tile(uint16_t *dst, const __m512i r[16])
{
    for (int i = 0; i < 16; i++) {
        _mm512_storeu_si512(dst + i * 32, r[i]);
    }
}

static void pack_a(const gemm *g, const uint16_t *a, uint16_t *dst)
{
    KD_FAST_FOR
    for (int64_t b = 0; b < g->mb; b++) {
        for (int64_t s = 0; s < g->steps; s++) {
            for (int64_t h = 0; h < 2; h++) {
                __m512i t[16];
                if (g->a_turned) {
                    load_pairs(a, g->k, g->m, s * 32, b * 32 + h * 16, t);
                    turn(t);
                } else {
                    load_wide(a, g->m, g->k, b * 32 + h * 16, s * 32, t);
                }
                put_tile(dst + ((b * g->steps + s) * 2 + h) * TILE, t);
            }
        }
    }
}

static void pack_b(const gemm *g, const uint16_t *b, uint16_t *dst)
{
    KD_FAST_FOR
    for (int64_t p = 0; p < g->nb; p++) {
        for (int64_t s = 0; s < g->steps; s++) {
            for (int64_t h = 0; h < 2; h++) {
                __m512i t[16];
                if (g->b_turned) {
                    load_wide(b, g->n, g->k, p * 32 + h * 16, s * 32, t);
                    turn(t);
                } else {
                    load_pairs(b, g->k, g->n, s * 32, p * 32 + h * 16, t);
                }
                put_tile(dst + ((p * g->steps + s) * 2 + h) * TILE, t);
            }
        }
    }
}

/* ---- product --------------------------------------------------------------------------------- */

static void tiles_begin(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } cfg = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        cfg.bytes[i] = 64;
        cfg.rows[i] = 16;
    }
    _tile_loadconfig(&cfg);
}

/* c (32, 32), rows `ldc` floats apart, (+)= `steps` pairs of packed tiles. */
static void multiply(const uint16_t *a, const uint16_t *b, int64_t steps, float *c, int64_t ldc, bool add)
{
    const size_t row = (size_t)ldc * sizeof(float);
    float *low = c + 16 * ldc;
    __asm__ volatile("" ::: "memory"); /* tile loads do not tell the compiler what they read */
    if (add) {
        _tile_loadd(0, c, row);
        _tile_loadd(1, c + 16, row);
        _tile_loadd(2, low, row);
        _tile_loadd(3, low + 16, row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t s = 0; s < steps; s++, a += 2 * TILE, b += 2 * TILE) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + TILE, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, row);
    _tile_stored(1, c + 16, row);
    _tile_stored(2, low, row);
    _tile_stored(3, low + 16, row);
    __asm__ volatile("" ::: "memory");
}

typedef struct result {
    void *data; /* (m, n) */
    bool bf16, add;
    const float *bias;
    int32_t act;
} result;

static void finish(const gemm *g, const result *out, const float *sums, int64_t m0, int64_t n0, int64_t rows,
                   int64_t cols)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = 0; j < cols; j += 16) {
            const __mmask16 m = v_mask(j, cols);
            const int64_t at = (m0 + r) * g->n + n0 + j;
            __m512 x = _mm512_loadu_ps(sums + r * NB + j);
            if (out->bias != NULL) {
                x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(m, out->bias + n0 + j));
            }
            x = v_act(out->act, x);
            if (out->add) {
                x = _mm512_add_ps(x, v_load(out->data, at, m, out->bf16));
            }
            v_store(out->data, at, m, out->bf16, x);
        }
    }
}

static void task(const gemm *g, const uint16_t *a, const uint16_t *b, const result *out, int64_t b0, int64_t bn,
                 int64_t p0, int64_t pn)
{
    float sums[MB * NB];
    tiles_begin();
    for (int64_t s = 0; s < g->steps; s += KC) {
        const int64_t steps = KD_MIN((int64_t)KC, g->steps - s);
        for (int64_t p = 0; p < pn; p++) {
            for (int64_t i = 0; i < bn; i++) {
                multiply(a + ((b0 + i) * g->steps + s) * 2 * TILE, b + ((p0 + p) * g->steps + s) * 2 * TILE, steps,
                         sums + i * 32 * NB + p * 32, NB, s > 0);
            }
        }
    }
    _tile_release();
    finish(g, out, sums, b0 * 32, p0 * 32, KD_MIN(bn * 32, g->m - b0 * 32), KD_MIN(pn * 32, g->n - p0 * 32));
}

static int64_t threads(void)
{
#if defined(_OPENMP)
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static void product(const gemm *g, const uint16_t *a, const uint16_t *b, const result *out)
{
    const int64_t bs = MB / 32, rows = (g->mb + bs - 1) / bs;
    int64_t ps = NB / 32; /* fewer columns a task when there would be few tasks; no bit changes */
    while (ps > 2 && rows * ((g->nb + ps - 1) / ps) < 8 * threads()) {
        ps /= 2;
    }
    const int64_t cols = (g->nb + ps - 1) / ps;
    KD_FAST_FOR_DYNAMIC
    for (int64_t i = 0; i < rows * cols; i++) {
        const int64_t b0 = i / cols * bs, p0 = i % cols * ps;
        task(g, a, b, out, b0, KD_MIN(bs, g->mb - b0), p0, KD_MIN(ps, g->nb - p0));
    }
}

/* ---- the three slots ------------------------------------------------------------------------- */

static kd_status can(const kd_call *c, const gemm *g)
{
    const bool ok = kd_cpu_has(KD_CPU_AMX) && c->in[0].dtype == KD_BF16 && c->in[1].dtype == KD_BF16 &&
                    c->out[0].data != NULL && g->m >= 32 && g->n >= 16 && g->k >= 16;
    return ok ? KD_OK : KD_E_UNSUPPORTED;
}

static gemm forward_of(const kd_call *c)
{
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    return gemm_of(kd_shape_numel(&c->in[0].shape) / ci, co, ci, false, true);
}

static bool weight_is_static(const kd_call *c)
{
    return (c->static_in & 2u) != 0;
}

static size_t linear_scratch(const kd_call *c)
{
    const gemm g = forward_of(c);
    return a_bytes(&g) + (weight_is_static(c) ? 0 : b_bytes(&g));
}

static kd_status linear_prepare(kd_call *c, kd_err *err)
{
    const gemm g = forward_of(c);
    const kd_status st = kd_fast_keeps_pre(c) ? KD_E_UNSUPPORTED : can(c, &g);
    if (st != KD_OK || !weight_is_static(c) || c->ahead) {
        return st;
    }
    c->prep = kd_alloc(b_bytes(&g));
    if (c->prep == NULL) {
        return KD_FAIL(err, KD_E_OOM, "linear: no memory for %zu bytes of packed weights", b_bytes(&g));
    }
    pack_b(&g, c->in[1].data, c->prep);
    return KD_OK;
}

/* oneDNN reads A where it lies and is a fifth faster on shallow products without an activation
 * (PERF.md). */
static kd_status linear_prepare_deep(kd_call *c, kd_err *err)
{
    const kd_linear_attr *at = c->attr;
    return at->act != KD_ACT_NONE || forward_of(c).k >= 2048 ? linear_prepare(c, err) : KD_E_UNSUPPORTED;
}

static void linear_release(kd_call *c)
{
    kd_free(c->prep);
    c->prep = NULL;
}

static kd_status linear_run(const kd_call *c)
{
    const gemm g = forward_of(c);
    const kd_linear_attr *at = c->attr;
    uint16_t *a = c->scratch, *b = c->prep;
    pack_a(&g, c->in[0].data, a);
    if (b == NULL) {
        b = a + a_bytes(&g) / 2;
        pack_b(&g, c->in[1].data, b);
    }
    const result out = {.data = c->out[0].data,
                        .bf16 = c->out[0].dtype == KD_BF16,
                        .act = at->act,
                        .bias = c->n_in > 2 ? c->in[2].data : NULL};
    product(&g, a, b, &out);
    return KD_OK;
}

/* dx (m,ci) = dy (m,co) W (co,ci) */
static gemm bwd_x_of(const kd_call *c)
{
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    return gemm_of(kd_shape_numel(&c->in[0].shape) / co, ci, co, false, false);
}

/* dW (co,ci) = dy (m,co)^T x (m,ci) */
static gemm bwd_w_of(const kd_call *c)
{
    const kd_shape *dy = &c->in[0].shape, *x = &c->in[1].shape;
    const int64_t co = dy->dim[dy->rank - 1], ci = x->dim[x->rank - 1];
    return gemm_of(co, ci, kd_shape_numel(x) / ci, true, false);
}

static size_t bwd_x_scratch(const kd_call *c)
{
    const gemm g = bwd_x_of(c);
    return a_bytes(&g) + b_bytes(&g);
}

static size_t bwd_w_scratch(const kd_call *c)
{
    const gemm g = bwd_w_of(c);
    return a_bytes(&g) + b_bytes(&g);
}

static kd_status bwd_x_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const gemm g = bwd_x_of(c);
    return c->accum == 0 && !kd_fast_takes_pre(c) ? can(c, &g) : KD_E_UNSUPPORTED;
}

static kd_status bwd_w_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const gemm g = bwd_w_of(c);
    return can(c, &g);
}

static void both(const gemm *g, const kd_call *c, const result *out)
{
    uint16_t *a = c->scratch, *b = a + a_bytes(g) / 2;
    pack_a(g, c->in[0].data, a);
    pack_b(g, c->in[1].data, b);
    product(g, a, b, out);
}

static kd_status bwd_x_run(const kd_call *c)
{
    const gemm g = bwd_x_of(c);
    const result out = {.data = c->out[0].data, .bf16 = c->out[0].dtype == KD_BF16};
    both(&g, c, &out);
    return KD_OK;
}

static kd_status bwd_w_run(const kd_call *c)
{
    const gemm g = bwd_w_of(c);
    const result out = {.data = c->out[0].data, .bf16 = false, .add = (c->accum & 1u) != 0};
    both(&g, c, &out);
    if (c->n_out > 1 && c->out[1].data != NULL) {
        kd_fast_column_sum(c->in[0].data, g.k, g.m, true, (c->accum & 2u) != 0, c->out[1].data);
    }
    return KD_OK;
}

const kd_kernel_def kd_fast_linear_amx = {
    .run = linear_run, .scratch = linear_scratch, .prepare = linear_prepare, .release = linear_release};
const kd_kernel_def kd_fast_linear_deep_amx = {
    .run = linear_run, .scratch = linear_scratch, .prepare = linear_prepare_deep, .release = linear_release};
const kd_kernel_def kd_fast_linear_bwd_x_amx = {.run = bwd_x_run, .scratch = bwd_x_scratch, .prepare = bwd_x_prepare};
const kd_kernel_def kd_fast_linear_bwd_w_amx = {.run = bwd_w_run, .scratch = bwd_w_scratch, .prepare = bwd_w_prepare};
