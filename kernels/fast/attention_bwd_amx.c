/* Attention in bf16 on AMX tiles, backward: see attention_amx.h.
 *
 * It works on transposed scores (keys x queries), so that P^T and dS^T come out as A operands for
 * dV = P^T dO and dK = dS^T Q, and dS^T, its row pairs interleaved, as the B operand of dQ^T = K^T
 * dS^T.
 */
#include "kernels/fast/attention_amx.h"

typedef struct head { /* scratch of one head; all bf16 parts hold np * dp elements */
    float *dqt;       /* (dp, np) */
    float *lse, *delta;
    uint16_t *k, *v, *k_turned, *q_across, *do_across, *q_down, *do_down;
} head;

static size_t head_bytes(const geometry *g)
{
    return (size_t)(g->np * g->dp) * (4 + 7 * 2) + (size_t)g->np * 8;
}

static head head_at(const geometry *g, void *at)
{
    const int64_t each = g->np * g->dp;
    head w = {.dqt = at};
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
            uint16_t *across = k == 0 ? w->q_across : w->do_across, *down = k == 0 ? w->q_down : w->do_down;
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
            const __m512 lse = _mm512_loadu_ps(h->lse + q0 + q), delta = _mm512_loadu_ps(h->delta + q0 + q);
            __m256i ds[2];
            for (int64_t e = 0; e < 2; e++) {
                const int64_t at = (j + e) * BB + q;
                const __mmask16 live = k0 + j + e < g->n ? 0xffff : 0;
                const __m512 p =
                    _mm512_maskz_mov_ps(live, v_exp2_short(_mm512_fmsub_ps(_mm512_loadu_ps(w->s + at), scale, lse)));
                const __m512 d = _mm512_mul_ps(p, _mm512_sub_ps(_mm512_loadu_ps(w->dp + at), delta));
                ds[e] = to_bf16(d);
                _mm256_storeu_si256((__m256i *)(void *)(w->p + at), to_bf16(p));
                _mm256_storeu_si256((__m256i *)(void *)(w->ds + at), ds[e]);
            }
            const int64_t tile = j / 32 * (BB / 16) + q / 16;
            _mm512_storeu_si512(w->ds_down + tile * TILE + j % 32 / 2 * 32, interleave(ds[0], ds[1]));
        }
    }
}

static void backward_products(const geometry *g, const head *h, key_block *w, int64_t k0, int64_t q0)
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

static void write_rows(const geometry *g, uint16_t *dst, int64_t r0, int64_t rows, float scale, const float *src)
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
    const __m512i step = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
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

const kd_kernel_def kd_fast_attention_bwd_amx = {
    .run = attention_bwd_run, .scratch = bwd_scratch, .prepare = attention_bwd_prepare};
