/* Attention in bf16 on AMX tiles, forward: see attention_amx.h. */
#include "kernels/fast/attention_amx.h"

enum { QB = 32, KB = 128 };

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

/* Maxima of 16 vectors: lane r belongs to v[r].  Each level halves the lanes of a row and pairs two
 * rows up. */
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

/* Rows [r0, r0 + 16): the running maxima (in scaled units), the probabilities, and what was summed
 * before corrected where a maximum rose.  A negative scale would need minima: supported() refuses
 * it. */
static void softmax_rows(query_block *w, int64_t r0, int64_t keys, int64_t valid, float scale, int64_t dp)
{
    __m512 m[16];
    for (int64_t r = 0; r < 16; r++) {
        float *s = w->s + (r0 + r) * KB;
        for (int64_t j = valid / 16 * 16; j < keys; j += 16) { /* padded keys */
            const __mmask16 in = j < valid ? v_mask(j, valid) : 0;
            _mm512_storeu_ps(s + j, _mm512_mask_blend_ps(in, v_set(-INFINITY), _mm512_loadu_ps(s + j)));
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
        const __m512 total = probabilities(w->s + r * KB, keys, v_set(scale), v_set(w->max[r]), w->p + r * KB);
        const __m512 f = v_set(w->fix[r]);
        w->sum[r] = _mm512_fmadd_ps(w->sum[r], f, total);
        for (int64_t i = 0; ((rose >> (r - r0)) & 1) != 0 && i < dp; i += 16) {
            float *x = w->o + r * dp + i;
            _mm512_storeu_ps(x, _mm512_mul_ps(_mm512_loadu_ps(x), f));
        }
    }
}

static void forward_keys(const geometry *g, query_block *w, const uint16_t *kt, const uint16_t *v, int64_t k0)
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

static void forward_block(const geometry *g, const uint16_t *kt, const uint16_t *v, const kd_call *c, int64_t bh,
                          int64_t q0)
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
    uint16_t *o = (uint16_t *)c->out[0].data + (bh / g->heads * g->n + q0) * cols + bh % g->heads * g->d;
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

const kd_kernel_def kd_fast_attention_amx = {
    .run = attention_run, .scratch = fwd_scratch, .prepare = attention_prepare};
