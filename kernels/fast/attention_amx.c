/* Attention in bf16 on AMX tiles: products in bf16 with f32 sums, softmax in f32; the method is attention_v4.c's.
 *
 * A tile product multiplies A (16 rows of 32 bf16) by B (32 x 16), B stored as 16 rows of 16 pairs: row i holds, for each
 * column, the elements 2i and 2i+1 of that column.  Two layouts of B are needed, each packed once a head as tiles of 1 KiB:
 *   "across"  B = X^T for rows of X (n, d): per 16 rows of X, d/32 tiles;
 *   "down"    B = X: per 32 rows of X, d/16 tiles.
 * d is padded with zeros to a multiple of 32 (dp), rows to a multiple of 64 (np).
 *
 * Backward works on transposed scores (keys x queries), so that P^T and dS^T come out as A operands for dV = P^T dO and
 * dK = dS^T Q, and dS^T, its row pairs interleaved, as the B operand of dQ^T = K^T dS^T.
 */
#include "kernels/fast/fast.h"
#include "kernels/fast/vmath512.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

#include <math.h>

enum { QB = 32, KB = 128, BB = 64, DMAX = 128, GROUP = 64, TILE = 512 /* bf16 elements */ };

static const float log2e = 1.44269504088896f, ln2 = 0.693147180559945f;

typedef struct geometry {
    int64_t batch, n, heads, d, dp, np;
    int64_t row; /* elements between tokens of qkv: 3 C */
    float scale;
} geometry;

static geometry geometry_of(const kd_tensor *qkv, const kd_attention_attr *at)
{
    const int64_t c = qkv->shape.dim[2] / 3;
    geometry g = {.batch = qkv->shape.dim[0], .n = qkv->shape.dim[1], .heads = at->heads};
    g.d = c / g.heads;
    g.dp = (g.d + 31) / 32 * 32;
    g.np = (g.n + BB - 1) / BB * BB;
    g.row = 3 * c;
    g.scale = at->scale != 0.0f ? at->scale : 1.0f / sqrtf((float)g.d);
    return g;
}

static kd_status supported(const kd_tensor *qkv, const kd_attention_attr *at)
{
    const geometry g = geometry_of(qkv, at);
    return qkv->dtype == KD_BF16 && g.d <= DMAX && g.n > 0 && g.scale > 0.0f &&
                   kd_cpu_has(KD_CPU_AMX)
               ? KD_OK
               : KD_E_UNSUPPORTED;
}

static int64_t group_of(const geometry *g)
{
    return KD_MIN(g->batch * g->heads, (int64_t)GROUP);
}

static int64_t part_at(const geometry *g, int64_t bh, int part)
{
    const int64_t b = bh / g->heads, h = bh % g->heads;
    return b * g->n * g->row + part * (g->row / 3) + h * g->d;
}

/* ---- tiles -------------------------------------------------------------------------------------------------------- */

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

static void tiles_end(void)
{
    _tile_release();
}

typedef struct block {
    const uint16_t *a;
    int64_t a_row; /* elements between rows of A; tiles follow every 32 elements */
    const uint16_t *b;
    int64_t b_right, b_down; /* elements to the next tile in n and in k */
    float *c;
    int64_t c_row;
    int64_t steps; /* k / 32 */
    bool add;
} block;

/* C (32, 32) = A (32, 32 steps) B, or += . */
static void multiply(const block *t)
{
    const size_t ar = (size_t)t->a_row * 2, cr = (size_t)t->c_row * 4;
    const uint16_t *a = t->a, *b = t->b;
    float *low = t->c + 16 * t->c_row;
    __asm__ volatile("" ::: "memory"); /* tile loads do not tell the compiler what they read */
    if (t->add) {
        _tile_loadd(0, t->c, cr);
        _tile_loadd(1, t->c + 16, cr);
        _tile_loadd(2, low, cr);
        _tile_loadd(3, low + 16, cr);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < t->steps; k++, a += 32, b += t->b_down) {
        _tile_loadd(4, a, ar);
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + t->b_right, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 16 * t->a_row, ar);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, t->c, cr);
    _tile_stored(1, t->c + 16, cr);
    _tile_stored(2, low, cr);
    _tile_stored(3, low + 16, cr);
    __asm__ volatile("" ::: "memory");
}

/* ---- packing ------------------------------------------------------------------------------------------------------- */

/* A matrix (n, d) of bf16 inside a larger tensor. */
typedef struct matrix {
    const uint16_t *data; /* first element */
    int64_t ld;
} matrix;

static matrix part(const geometry *g, const kd_tensor *qkv, int64_t bh, int which)
{
    return (matrix){(const uint16_t *)qkv->data + part_at(g, bh, which), g->row};
}

static matrix head_of(const geometry *g, const kd_tensor *o, int64_t bh)
{
    const int64_t cols = g->row / 3;
    return (matrix){(const uint16_t *)o->data + bh / g->heads * g->n * cols + bh % g->heads * g->d,
                    cols};
}

/* rows [r0, r0 + rows) densely, dp elements each, zero beyond (n, d). */
static void pack_rows(const geometry *g, matrix x, int64_t r0, int64_t rows, uint16_t *dst)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < g->dp; i += 16) {
            const __mmask16 m = r0 + r < g->n && i < g->d ? v_mask(i, g->d) : 0;
            const __m256i v = m != 0 ? _mm256_maskz_loadu_epi16(m, x.data + (r0 + r) * x.ld + i)
                                     : _mm256_setzero_si256();
            _mm256_storeu_si256((__m256i *)(void *)(dst + r * g->dp + i), v);
        }
    }
}

/* 16 dense rows to dp/32 "across" tiles; `turned` (dp, np), when wanted, receives the plain transpose at column r0. */
static void pack_across(const geometry *g, const uint16_t *rows, uint16_t *dst, uint16_t *turned,
                        int64_t r0)
{
    const __m512i step =
        _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                           _mm512_set1_epi32((int)g->dp * 2));
    for (int64_t i = 0; i < g->dp; i += 2) {
        const __m512i pair = _mm512_i32gather_epi32(step, rows + i, 1);
        _mm512_storeu_si512(dst + i * 16, pair);
        if (turned != NULL) {
            _mm256_storeu_si256((__m256i *)(void *)(turned + i * g->np + r0),
                                _mm512_cvtepi32_epi16(pair));
            _mm256_storeu_si256((__m256i *)(void *)(turned + (i + 1) * g->np + r0),
                                _mm512_cvtepi32_epi16(_mm512_srli_epi32(pair, 16)));
        }
    }
}

static __m512i interleave(__m256i even, __m256i odd)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

/* 32 dense rows to dp/16 "down" tiles. */
static void pack_down(const geometry *g, const uint16_t *rows, uint16_t *dst)
{
    for (int64_t i = 0; i < g->dp; i += 16) {
        for (int64_t r = 0; r < 16; r++) {
            const uint16_t *a = rows + 2 * r * g->dp + i;
            const __m256i even = _mm256_loadu_si256((const __m256i *)(const void *)a);
            const __m256i odd = _mm256_loadu_si256((const __m256i *)(const void *)(a + g->dp));
            _mm512_storeu_si512(dst + i / 16 * TILE + r * 32, interleave(even, odd));
        }
    }
}

/* ---- forward -------------------------------------------------------------------------------------------------------- */

static size_t fwd_scratch(const kd_call *c)
{
    const geometry g = geometry_of(&c->in[0], c->attr);
    return (size_t)(group_of(&g) * 2 * g.np * g.dp) * 2;
}

typedef struct query_block { /* locals of one task; 60 KiB at most */
    float s[QB * KB], o[QB * DMAX];
    uint16_t p[QB * KB], q[QB * DMAX];
    float max[QB], fix[QB];
    __m512 sum[QB];
} query_block;

/* Maxima of 16 vectors: lane r belongs to v[r].  Each level halves the lanes of a row and pairs two rows up. */
static __m512 row_maxima(const __m512 v[16])
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512 a[8], b[4];
    for (int i = 0; i < 8; i++) {
        a[i] = _mm512_max_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
                             _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xee));
    }
    for (int i = 0; i < 4; i++) { /* rows 4i .. 4i+3, one 128-bit lane each */
        b[i] = _mm512_max_ps(_mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0xdd));
    }
    const __m512 c = _mm512_max_ps(_mm512_unpacklo_ps(b[0], b[1]), _mm512_unpackhi_ps(b[0], b[1]));
    const __m512 d = _mm512_max_ps(_mm512_unpacklo_ps(b[2], b[3]), _mm512_unpackhi_ps(b[2], b[3]));
    const __m512 e = _mm512_max_ps(_mm512_shuffle_ps(c, d, 0x44), _mm512_shuffle_ps(c, d, 0xee));
    return _mm512_permutexvar_ps(order, e);
}

/* One row of scores to probabilities in bf16; returns their sum, by lanes. */
static __m512 probabilities(const float *s, int64_t keys, __m512 scale, __m512 top, uint16_t *p)
{
    __m512 sum0 = _mm512_setzero_ps(), sum1 = _mm512_setzero_ps();
    for (int64_t j = 0; j < keys; j += 32) {
        const __m512 a = v_exp2_short(_mm512_fmsub_ps(_mm512_loadu_ps(s + j), scale, top));
        const __m512 b = v_exp2_short(_mm512_fmsub_ps(_mm512_loadu_ps(s + j + 16), scale, top));
        sum0 = _mm512_add_ps(sum0, a);
        sum1 = _mm512_add_ps(sum1, b);
        _mm512_storeu_si512(p + j, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    return _mm512_add_ps(sum0, sum1);
}

/* Rows [r0, r0 + 16): the running maxima (in scaled units), the probabilities, and what was summed before corrected where a
 * maximum rose.  A negative scale would need minima: supported() refuses it. */
static void softmax_rows(query_block *w, int64_t r0, int64_t keys, int64_t valid, float scale,
                         int64_t dp)
{
    __m512 m[16];
    for (int64_t r = 0; r < 16; r++) {
        float *s = w->s + (r0 + r) * KB;
        for (int64_t j = valid / 16 * 16; j < keys; j += 16) { /* padded keys */
            const __mmask16 in = j < valid ? v_mask(j, valid) : 0;
            _mm512_storeu_ps(s + j,
                             _mm512_mask_blend_ps(in, v_set(-INFINITY), _mm512_loadu_ps(s + j)));
        }
        m[r] = _mm512_loadu_ps(s);
        for (int64_t j = 16; j < keys; j += 16) {
            m[r] = _mm512_max_ps(m[r], _mm512_loadu_ps(s + j));
        }
    }
    const __m512 before = _mm512_loadu_ps(w->max + r0);
    const __m512 top = _mm512_max_ps(before, _mm512_mul_ps(row_maxima(m), v_set(scale)));
    const __m512 fix = v_exp2(_mm512_sub_ps(before, top));
    const __mmask16 rose = _mm512_cmp_ps_mask(fix, v_set(1.0f), _CMP_NEQ_UQ);
    _mm512_storeu_ps(w->max + r0, top);
    _mm512_storeu_ps(w->fix + r0, fix);
    for (int64_t r = r0; r < r0 + 16; r++) {
        const __m512 total =
            probabilities(w->s + r * KB, keys, v_set(scale), v_set(w->max[r]), w->p + r * KB);
        const __m512 f = v_set(w->fix[r]);
        w->sum[r] = _mm512_fmadd_ps(w->sum[r], f, total);
        for (int64_t i = 0; ((rose >> (r - r0)) & 1) != 0 && i < dp; i += 16) {
            float *x = w->o + r * dp + i;
            _mm512_storeu_ps(x, _mm512_mul_ps(_mm512_loadu_ps(x), f));
        }
    }
}

static void forward_keys(const geometry *g, query_block *w, const uint16_t *kt, const uint16_t *v,
                         int64_t k0)
{
    const int64_t keys = KD_MIN((int64_t)KB, g->np - k0);
    for (int64_t j = 0; j < keys; j += 32) {
        const block t = {.a = w->q,
                         .a_row = g->dp,
                         .b = kt + (k0 + j) * g->dp,
                         .b_right = 16 * g->dp,
                         .b_down = TILE,
                         .c = w->s + j,
                         .c_row = KB,
                         .steps = g->dp / 32};
        multiply(&t);
    }
    for (int64_t r = 0; r < QB; r += 16) {
        softmax_rows(w, r, keys, KD_MIN(keys, g->n - k0), g->scale * log2e, g->dp);
    }
    for (int64_t i = 0; i < g->dp; i += 32) {
        const block t = {.a = w->p,
                         .a_row = KB,
                         .b = v + k0 * g->dp + i / 16 * TILE,
                         .b_right = TILE,
                         .b_down = g->dp / 16 * TILE,
                         .c = w->o + i,
                         .c_row = g->dp,
                         .steps = keys / 32,
                         .add = true};
        multiply(&t);
    }
}

static void forward_block(const geometry *g, const uint16_t *kt, const uint16_t *v,
                          const kd_call *c, int64_t bh, int64_t q0)
{
    query_block w;
    const int64_t rows = KD_MIN((int64_t)QB, g->n - q0), cols = g->row / 3;
    pack_rows(g, part(g, &c->in[0], bh, 0), q0, QB, w.q);
    memset(w.o, 0, sizeof w.o);
    for (int64_t r = 0; r < QB; r++) {
        w.max[r] = -INFINITY;
        w.sum[r] = _mm512_setzero_ps();
    }
    tiles_begin();
    for (int64_t k0 = 0; k0 < g->n; k0 += KB) {
        forward_keys(g, &w, kt, v, k0);
    }
    tiles_end();
    uint16_t *o =
        (uint16_t *)c->out[0].data + (bh / g->heads * g->n + q0) * cols + bh % g->heads * g->d;
    float *lse = c->out[1].data;
    for (int64_t r = 0; r < rows; r++) {
        const float sum = _mm512_reduce_add_ps(w.sum[r]);
        for (int64_t i = 0; i < g->d; i += 16) {
            const __m512 x = _mm512_div_ps(_mm512_loadu_ps(w.o + r * g->dp + i), v_set(sum));
            v_store(o, r * cols + i, v_mask(i, g->d), true, x);
        }
        if (lse != NULL) {
            lse[bh * g->n + q0 + r] = w.max[r] * ln2 + logf(sum);
        }
    }
}

static kd_status attention_run(const kd_call *c)
{
    const geometry g = geometry_of(&c->in[0], c->attr);
    const int64_t all = g.batch * g.heads, group = group_of(&g), half = g.np * g.dp;
    const int64_t slabs = g.np / 32, blocks = (g.n + QB - 1) / QB;
    uint16_t *scratch = c->scratch;
    for (int64_t first = 0; first < all; first += group) {
        const int64_t here = KD_MIN(group, all - first);
        KD_FAST_FOR
        for (int64_t i = 0; i < here * slabs; i++) {
            uint16_t rows[32 * DMAX];
            const int64_t bh = first + i / slabs, r0 = i % slabs * 32;
            uint16_t *kt = scratch + i / slabs * 2 * half + r0 * g.dp;
            pack_rows(&g, part(&g, &c->in[0], bh, 1), r0, 32, rows);
            pack_across(&g, rows, kt, NULL, 0);
            pack_across(&g, rows + 16 * g.dp, kt + 16 * g.dp, NULL, 0);
            pack_rows(&g, part(&g, &c->in[0], bh, 2), r0, 32, rows);
            pack_down(&g, rows, kt + half);
        }
        KD_FAST_FOR
        for (int64_t i = 0; i < here * blocks; i++) {
            const uint16_t *kt = scratch + i / blocks * 2 * half;
            forward_block(&g, kt, kt + half, c, first + i / blocks, i % blocks * QB);
        }
    }
    return KD_OK;
}

static kd_status attention_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    return c->out[0].data != NULL ? supported(&c->in[0], c->attr) : KD_E_UNSUPPORTED;
}

/* ---- backward -------------------------------------------------------------------------------------------------------- */

typedef struct head { /* scratch of one head; all bf16 parts hold np * dp elements */
    float *dqt;       /* (dp, np) */
    float *lse, *delta;
    uint16_t *k, *v, *k_turned, *q_across, *do_across, *q_down, *do_down;
} head;

static size_t head_bytes(const geometry *g)
{
    return (size_t)(g->np * g->dp) * (4 + 7 * 2) + (size_t)g->np * 8;
}

static head head_at(const geometry *g, char *at)
{
    const int64_t each = g->np * g->dp;
    head w = {.dqt = (float *)(void *)at};
    w.k = (uint16_t *)(void *)(w.dqt + each);
    w.v = w.k + each;
    w.k_turned = w.v + each;
    w.q_across = w.k_turned + each;
    w.do_across = w.q_across + each;
    w.q_down = w.do_across + each;
    w.do_down = w.q_down + each;
    w.lse = (float *)(void *)(w.do_down + each);
    w.delta = w.lse + g->np;
    return w;
}

static size_t bwd_scratch(const kd_call *c)
{
    const geometry g = geometry_of(&c->in[1], c->attr);
    return (size_t)group_of(&g) * head_bytes(&g);
}

static void backward_begin(const geometry *g, const kd_call *c, int64_t bh, const head *w)
{
    uint16_t spare[16 * DMAX], rows[32 * DMAX];
    const matrix dout = head_of(g, &c->in[0], bh), out = head_of(g, &c->in[2], bh);
    const float *lse = (const float *)c->in[3].data + bh * g->n;
    pack_rows(g, part(g, &c->in[1], bh, 1), 0, g->np, w->k);
    pack_rows(g, part(g, &c->in[1], bh, 2), 0, g->np, w->v);
    memset(w->dqt, 0, (size_t)(g->np * g->dp) * sizeof(float));
    for (int64_t r = 0; r < g->np; r += 32) {
        for (int64_t half = 0; half < 32; half += 16) {
            pack_across(g, w->k + (r + half) * g->dp, spare, w->k_turned, r + half);
        }
        for (int k = 0; k < 2; k++) {
            uint16_t *across = k == 0 ? w->q_across : w->do_across,
                     *down = k == 0 ? w->q_down : w->do_down;
            pack_rows(g, k == 0 ? part(g, &c->in[1], bh, 0) : dout, r, 32, rows);
            pack_across(g, rows, across + r * g->dp, NULL, 0);
            pack_across(g, rows + 16 * g->dp, across + (r + 16) * g->dp, NULL, 0);
            pack_down(g, rows, down + r * g->dp);
        }
    }
    for (int64_t r = 0; r < g->np; r++) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = 0; r < g->n && i < g->d; i += 16) {
            const __mmask16 m = v_mask(i, g->d);
            sum = _mm512_fmadd_ps(v_load(dout.data, r * dout.ld + i, m, true),
                                  v_load(out.data, r * out.ld + i, m, true), sum);
        }
        w->delta[r] = _mm512_reduce_add_ps(sum);
        w->lse[r] = r < g->n ? lse[r] * log2e : INFINITY;
    }
}

typedef struct key_block {
    float s[BB * BB], dp[BB * BB], dk[BB * DMAX], dv[BB * DMAX];
    uint16_t p[BB * BB], ds[BB * BB], ds_down[BB * BB];
} key_block;

static __m256i to_bf16(__m512 x)
{
    return (__m256i)_mm512_cvtneps_pbh(x);
}

/* From transposed scores s and dp (keys, queries) to P^T, dS^T and its interleaved form. */
static void backward_softmax(const geometry *g, const head *h, key_block *w, int64_t k0, int64_t q0)
{
    const __m512 scale = v_set(g->scale * log2e);
    for (int64_t j = 0; j < BB; j += 2) {
        for (int64_t q = 0; q < BB; q += 16) {
            const __m512 lse = _mm512_loadu_ps(h->lse + q0 + q),
                         delta = _mm512_loadu_ps(h->delta + q0 + q);
            __m256i ds[2];
            for (int64_t e = 0; e < 2; e++) {
                const int64_t at = (j + e) * BB + q;
                const __mmask16 live = k0 + j + e < g->n ? 0xffff : 0;
                const __m512 p = _mm512_maskz_mov_ps(
                    live, v_exp2_short(_mm512_fmsub_ps(_mm512_loadu_ps(w->s + at), scale, lse)));
                const __m512 d =
                    _mm512_mul_ps(p, _mm512_sub_ps(_mm512_loadu_ps(w->dp + at), delta));
                ds[e] = to_bf16(d);
                _mm256_storeu_si256((__m256i *)(void *)(w->p + at), to_bf16(p));
                _mm256_storeu_si256((__m256i *)(void *)(w->ds + at), ds[e]);
            }
            const int64_t tile = j / 32 * (BB / 16) + q / 16;
            _mm512_storeu_si512(w->ds_down + tile * TILE + j % 32 / 2 * 32,
                                interleave(ds[0], ds[1]));
        }
    }
}

static void backward_products(const geometry *g, const head *h, key_block *w, int64_t k0,
                              int64_t q0)
{
    for (int64_t j = 0; j < BB; j += 32) {
        for (int64_t i = 0; i < g->dp; i += 32) {
            block t = {.a = w->p + j * BB,
                       .a_row = BB,
                       .b = h->do_down + q0 * g->dp + i / 16 * TILE,
                       .b_right = TILE,
                       .b_down = g->dp / 16 * TILE,
                       .c = w->dv + j * g->dp + i,
                       .c_row = g->dp,
                       .steps = BB / 32,
                       .add = q0 > 0};
            multiply(&t);
            t.a = w->ds + j * BB;
            t.b = h->q_down + q0 * g->dp + i / 16 * TILE;
            t.c = w->dk + j * g->dp + i;
            multiply(&t);
        }
    }
    for (int64_t i = 0; i < g->dp; i += 32) {
        for (int64_t q = 0; q < BB; q += 32) {
            const block t = {.a = h->k_turned + i * g->np + k0,
                             .a_row = g->np,
                             .b = w->ds_down + q / 16 * TILE,
                             .b_right = TILE,
                             .b_down = BB / 16 * TILE,
                             .c = h->dqt + i * g->np + q0 + q,
                             .c_row = g->np,
                             .steps = BB / 32,
                             .add = true};
            multiply(&t);
        }
    }
}

static void backward_keys(const geometry *g, const head *h, key_block *w, int64_t k0)
{
    for (int64_t q0 = 0; q0 < g->np; q0 += BB) {
        for (int64_t j = 0; j < BB; j += 32) {
            for (int64_t q = 0; q < BB; q += 32) {
                block t = {.a = h->k + (k0 + j) * g->dp,
                           .a_row = g->dp,
                           .b = h->q_across + (q0 + q) * g->dp,
                           .b_right = 16 * g->dp,
                           .b_down = TILE,
                           .c = w->s + j * BB + q,
                           .c_row = BB,
                           .steps = g->dp / 32};
                multiply(&t);
                t.a = h->v + (k0 + j) * g->dp;
                t.b = h->do_across + (q0 + q) * g->dp;
                t.c = w->dp + j * BB + q;
                multiply(&t);
            }
        }
        backward_softmax(g, h, w, k0, q0);
        backward_products(g, h, w, k0, q0);
    }
}

static void write_rows(const geometry *g, uint16_t *dst, int64_t r0, int64_t rows, float scale,
                       const float *src)
{
    for (int64_t r = 0; r < KD_MIN(rows, g->n - r0); r++) {
        for (int64_t i = 0; i < g->d; i += 16) {
            const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(src + r * g->dp + i), v_set(scale));
            v_store(dst, (r0 + r) * g->row + i, v_mask(i, g->d), true, x);
        }
    }
}

static void write_turned(const geometry *g, uint16_t *dst, float scale, const float *src)
{
    const __m512i step =
        _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                           _mm512_set1_epi32((int)g->np));
    for (int64_t r = 0; r < g->n; r++) {
        for (int64_t i = 0; i < g->d; i += 16) {
            const __m512 x = _mm512_i32gather_ps(step, src + i * g->np + r, 4);
            v_store(dst, r * g->row + i, v_mask(i, g->d), true, _mm512_mul_ps(x, v_set(scale)));
        }
    }
}

static kd_status attention_bwd_run(const kd_call *c)
{
    const geometry g = geometry_of(&c->in[1], c->attr);
    const int64_t all = g.batch * g.heads, group = group_of(&g);
    uint16_t *dqkv = c->out[0].data;
    for (int64_t first = 0; first < all; first += group) {
        KD_FAST_FOR_DYNAMIC
        for (int64_t i = 0; i < KD_MIN(group, all - first); i++) {
            key_block w;
            const int64_t bh = first + i;
            const head h = head_at(&g, (char *)c->scratch + (size_t)i * head_bytes(&g));
            backward_begin(&g, c, bh, &h);
            tiles_begin();
            for (int64_t k0 = 0; k0 < g.n; k0 += BB) {
                backward_keys(&g, &h, &w, k0);
                write_rows(&g, dqkv + part_at(&g, bh, 1), k0, BB, g.scale, w.dk);
                write_rows(&g, dqkv + part_at(&g, bh, 2), k0, BB, 1.0f, w.dv);
            }
            tiles_end();
            write_turned(&g, dqkv + part_at(&g, bh, 0), g.scale, h.dqt);
        }
    }
    return KD_OK;
}

static kd_status attention_bwd_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    return supported(&c->in[1], c->attr);
}

const kd_kernel_def kd_fast_attention_amx = {
    .run = attention_run, .scratch = fwd_scratch, .prepare = attention_prepare};
const kd_kernel_def kd_fast_attention_bwd_amx = {
    .run = attention_bwd_run, .scratch = bwd_scratch, .prepare = attention_bwd_prepare};
