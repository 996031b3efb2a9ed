/* Attention for AVX-512: online softmax (Dao et al. 2022, "FlashAttention", algorithm 1; backward
 * as in its appendix B.4), computed in f32 whatever the activations are.  Nothing of size N x N is
 * stored.
 *
 * Forward: a task is 48 queries of one head.  K is packed transposed in panels of 48 keys, V as
 * padded rows. Backward: a task is one head; for each block of 96 keys, dK and dV stay local while
 * the queries stream by, dQ is summed in scratch.  Each sum has one order, so the number of threads
 * changes no bit.
 *
 * Padded queries carry lse = +inf (their probabilities are 0); padded keys are zero rows and get
 * probability 0.
 */
#include "kernels/fast/fast.h"
#include "kernels/fast/tile512.h"
#include "kernels/fast/vmath512.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

#include <math.h>

enum { QB = 48, PANEL = 48, KB = 96, DMAX = 128, GROUP = 64 };

static const float log2e = 1.44269504088896f, ln2 = 0.693147180559945f;

typedef struct geometry {
    int64_t batch, n, heads, d;
    int64_t dp;  /* d rounded up to whole vectors */
    int64_t np;  /* n rounded up to whole panels */
    int64_t row; /* elements between tokens of qkv: 3 C */
    float scale;
    bool bf16;
    kd_tile_fn tile; /* for rows of dp */
} geometry;

static int64_t round_up(int64_t x, int64_t to)
{
    return (x + to - 1) / to * to;
}

static geometry geometry_of(const kd_tensor *qkv, const kd_attention_attr *at)
{
    const int64_t c = qkv->shape.dim[2] / 3;
    geometry g = {.batch = qkv->shape.dim[0], .n = qkv->shape.dim[1], .heads = at->heads};
    g.d = c / g.heads;
    g.dp = round_up(g.d, 16);
    g.np = round_up(g.n, PANEL);
    g.row = 3 * c;
    g.scale = at->scale != 0.0f ? at->scale : 1.0f / sqrtf((float)g.d);
    g.bf16 = qkv->dtype == KD_BF16;
    g.tile = kd_tile_pick(g.dp <= DMAX ? (int)(g.dp / 16) : 1);
    return g;
}

static bool supported(const kd_call *c, int qkv)
{
    const geometry g = geometry_of(&c->in[qkv], c->attr);
    return kd_cpu_has(KD_CPU_V4) && g.d <= DMAX && g.n > 0 &&
           (c->in[qkv].dtype == KD_F32 || c->in[qkv].dtype == KD_BF16);
}

static int64_t group_of(const geometry *g)
{
    return KD_MIN(g->batch * g->heads, (int64_t)GROUP);
}

/* Where q (part 0), k (1) or v (2) of head bh begins in qkv. */
static int64_t part_at(const geometry *g, int64_t bh, int part)
{
    const int64_t b = bh / g->heads, h = bh % g->heads;
    return b * g->n * g->row + part * (g->row / 3) + h * g->d;
}

/* rows [r0, r0 + rows) of a (n, d) matrix with `ld` elements a row, times `s`, to dense rows of dp;
 * zero outside. */
static void pack_rows(const geometry *g, const void *src, int64_t at, int64_t ld, int64_t r0, int64_t rows, float s,
                      float *dst)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < g->dp; i += 16) {
            __m512 x = _mm512_setzero_ps();
            if (r0 + r < g->n && i < g->d) {
                x = v_load(src, at + (r0 + r) * ld + i, v_mask(i, g->d), g->bf16);
                x = _mm512_mul_ps(x, v_set(s));
            }
            _mm512_storeu_ps(dst + r * g->dp + i, x);
        }
    }
}

/* One panel: rows [r0, r0 + 48) transposed to (d, 48). */
static void pack_panel(const geometry *g, const void *src, int64_t at, int64_t ld, int64_t r0, float *dst)
{
    float rows[16 * DMAX];
    const __m512i step = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                            _mm512_set1_epi32((int)g->dp));
    for (int64_t r = 0; r < PANEL; r += 16) {
        pack_rows(g, src, at, ld, r0 + r, 16, 1.0f, rows);
        for (int64_t i = 0; i < g->d; i++) {
            _mm512_storeu_ps(dst + i * PANEL + r, _mm512_i32gather_ps(step, rows + i, 4));
        }
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

static int64_t fwd_floats(const geometry *g)
{
    return g->np * (g->d + g->dp);
}

static size_t fwd_scratch(const kd_call *c)
{
    const geometry g = geometry_of(&c->in[0], c->attr);
    return (size_t)(group_of(&g) * fwd_floats(&g)) * sizeof(float);
}

/* Running maximum and sum of one block of queries, in units of log2. */
typedef struct softmax_state {
    float max[QB];
    __m512 sum[QB];
} softmax_state;

/* Scores of one row to probabilities; returns the factor that corrects what was summed before. */
static float softmax_row(float *s, int64_t keys, int64_t valid, float *max, __m512 *sum)
{
    __m512 m = v_set(-INFINITY);
    for (int64_t j = 0; j < keys; j += 16) {
        __m512 x = _mm512_loadu_ps(s + j);
        if (j + 16 > valid) {
            const __mmask16 in = j < valid ? v_mask(j, valid) : 0;
            x = _mm512_mask_blend_ps(in, v_set(-INFINITY), x);
            _mm512_storeu_ps(s + j, x);
        }
        m = _mm512_max_ps(m, x);
    }
    const float top = fmaxf(*max, _mm512_reduce_max_ps(m));
    const __m512 topv = v_set(top);
    __m512 total = _mm512_setzero_ps();
    for (int64_t j = 0; j < keys; j += 16) {
        const __m512 p = v_exp2(_mm512_sub_ps(_mm512_loadu_ps(s + j), topv));
        _mm512_storeu_ps(s + j, p);
        total = _mm512_add_ps(total, p);
    }
    const float fix = *max == top ? 1.0f : exp2f(*max - top);
    *sum = _mm512_fmadd_ps(*sum, v_set(fix), total);
    *max = top;
    return fix;
}

static void forward_block(const geometry *g, const float *kt, const float *v, const kd_call *c, int64_t bh, int64_t q0)
{
    float q[QB * DMAX], s[QB * KB], o[QB * DMAX];
    softmax_state sm;
    const kd_tile_fn score = kd_tile_pick(PANEL / 16);
    const int64_t rows = KD_MIN((int64_t)QB, g->n - q0);
    pack_rows(g, c->in[0].data, part_at(g, bh, 0), g->row, q0, QB, g->scale * log2e, q);
    for (int64_t r = 0; r < QB; r++) {
        sm.max[r] = -INFINITY;
        sm.sum[r] = _mm512_setzero_ps();
    }
    for (int64_t k0 = 0; k0 < g->np; k0 += KB) {
        const int64_t keys = KD_MIN((int64_t)KB, g->np - k0);
        for (int64_t p = 0; p < keys; p += PANEL) {
            const kd_tile_args t = {.a = q,
                                    .ra = g->dp,
                                    .ka = 1,
                                    .b = kt + (k0 + p) * g->d,
                                    .ldb = PANEL,
                                    .c = s + p,
                                    .ldc = KB,
                                    .k = g->d};
            kd_tile_rows(score, t, QB);
        }
        for (int64_t r = 0; r < rows; r++) {
            const float fix = softmax_row(s + r * KB, keys, g->n - k0, &sm.max[r], &sm.sum[r]);
            for (int64_t i = 0; k0 > 0 && fix != 1.0f && i < g->dp; i += 16) {
                float *x = o + r * g->dp + i;
                _mm512_storeu_ps(x, _mm512_mul_ps(_mm512_loadu_ps(x), v_set(fix)));
            }
        }
        const kd_tile_args t = {.a = s,
                                .ra = KB,
                                .ka = 1,
                                .b = v + k0 * g->dp,
                                .ldb = g->dp,
                                .c = o,
                                .ldc = g->dp,
                                .k = keys,
                                .add = k0 > 0};
        kd_tile_rows(g->tile, t, round_up(rows, g->tile.rows));
    }
    const int64_t b = bh / g->heads, h = bh % g->heads, cols = g->row / 3;
    float *lse = c->out[1].data;
    for (int64_t r = 0; r < rows; r++) {
        const float sum = _mm512_reduce_add_ps(sm.sum[r]);
        const int64_t at = (b * g->n + q0 + r) * cols + h * g->d;
        for (int64_t i = 0; i < g->d; i += 16) {
            const __m512 x = _mm512_div_ps(_mm512_loadu_ps(o + r * g->dp + i), v_set(sum));
            v_store(c->out[0].data, at + i, v_mask(i, g->d), g->bf16, x);
        }
        if (lse != NULL) {
            lse[bh * g->n + q0 + r] = sm.max[r] * ln2 + logf(sum);
        }
    }
}

static kd_status attention_run(const kd_call *c)
{
    const geometry g = geometry_of(&c->in[0], c->attr);
    const int64_t all = g.batch * g.heads, group = group_of(&g), each = fwd_floats(&g);
    const int64_t panels = g.np / PANEL, blocks = (g.n + QB - 1) / QB;
    float *scratch = c->scratch;
    for (int64_t first = 0; first < all; first += group) {
        const int64_t here = KD_MIN(group, all - first);
        KD_FAST_FOR
        for (int64_t i = 0; i < here * panels; i++) {
            const int64_t bh = first + i / panels, r0 = i % panels * PANEL;
            float *kt = scratch + i / panels * each, *v = kt + g.np * g.d;
            pack_panel(&g, c->in[0].data, part_at(&g, bh, 1), g.row, r0, kt + r0 * g.d);
            pack_rows(&g, c->in[0].data, part_at(&g, bh, 2), g.row, r0, PANEL, 1.0f, v + r0 * g.dp);
        }
        KD_FAST_FOR
        for (int64_t i = 0; i < here * blocks; i++) {
            const float *kt = scratch + i / blocks * each;
            forward_block(&g, kt, kt + g.np * g.d, c, first + i / blocks, i % blocks * QB);
        }
    }
    return KD_OK;
}

static kd_status attention_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    return supported(c, 0) && c->out[0].data != NULL ? KD_OK : KD_E_UNSUPPORTED;
}

/* ---- backward -------------------------------------------------------------------------------- */

/* Per head: q, do and dq rows, then lse (in log2) and delta = sum_d do o. */
static int64_t bwd_floats(const geometry *g)
{
    return g->np * (3 * g->dp + 2);
}

static size_t bwd_scratch(const kd_call *c)
{
    const geometry g = geometry_of(&c->in[1], c->attr);
    return (size_t)(group_of(&g) * bwd_floats(&g)) * sizeof(float);
}

typedef struct head {
    float *q, *dout, *dq, *lse, *delta;
} head;

static head head_at(const geometry *g, void *scratch)
{
    head h = {.q = scratch};
    h.dout = h.q + g->np * g->dp;
    h.dq = h.dout + g->np * g->dp;
    h.lse = h.dq + g->np * g->dp;
    h.delta = h.lse + g->np;
    return h;
}

static void backward_begin(const geometry *g, const kd_call *c, int64_t bh, const head *w)
{
    const int64_t cols = g->row / 3, at = bh / g->heads * g->n * cols + bh % g->heads * g->d;
    const float *lse = c->in[3].data;
    pack_rows(g, c->in[1].data, part_at(g, bh, 0), g->row, 0, g->np, 1.0f, w->q);
    pack_rows(g, c->in[0].data, at, cols, 0, g->np, 1.0f, w->dout);
    memset(w->dq, 0, (size_t)(g->np * g->dp) * sizeof(float));
    for (int64_t r = 0; r < g->np; r++) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = 0; r < g->n && i < g->d; i += 16) {
            const __m512 o = v_load(c->in[2].data, at + r * cols + i, v_mask(i, g->d), g->bf16);
            sum = _mm512_fmadd_ps(o, _mm512_loadu_ps(w->dout + r * g->dp + i), sum);
        }
        w->delta[r] = _mm512_reduce_add_ps(sum);
        w->lse[r] = r < g->n ? lse[bh * g->n + r] * log2e : INFINITY;
    }
}

/* p = exp2(scale s - lse), ds = p (dp - delta), both over s and dp. */
static void backward_softmax(const geometry *g, const head *w, int64_t q0, int64_t keys, int64_t valid, float *s,
                             float *dp)
{
    const __m512 scale = v_set(g->scale * log2e);
    for (int64_t r = 0; r < QB; r++) {
        const __m512 lse = v_set(w->lse[q0 + r]), delta = v_set(w->delta[q0 + r]);
        for (int64_t j = 0; j < keys; j += 16) {
            float *x = s + r * KB + j, *y = dp + r * KB + j;
            const __mmask16 in = j < valid ? v_mask(j, valid) : 0;
            const __m512 p = _mm512_maskz_mov_ps(in, v_exp2(_mm512_fmsub_ps(_mm512_loadu_ps(x), scale, lse)));
            _mm512_storeu_ps(x, p);
            _mm512_storeu_ps(y, _mm512_mul_ps(p, _mm512_sub_ps(_mm512_loadu_ps(y), delta)));
        }
    }
}

static void write_grad(const geometry *g, const kd_call *c, int64_t bh, int part, int64_t r0, int64_t rows, float s,
                       const float *src)
{
    const int64_t at = part_at(g, bh, part);
    for (int64_t r = 0; r < KD_MIN(rows, g->n - r0); r++) {
        for (int64_t i = 0; i < g->d; i += 16) {
            const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(src + r * g->dp + i), v_set(s));
            v_store(c->out[0].data, at + (r0 + r) * g->row + i, v_mask(i, g->d), g->bf16, x);
        }
    }
}

static void backward_keys(const geometry *g, const kd_call *c, int64_t bh, const head *w, int64_t k0)
{
    float kt[KB * DMAX], vt[KB * DMAX], k[KB * DMAX], dk[KB * DMAX], dv[KB * DMAX];
    float s[QB * KB], dp[QB * KB];
    const kd_tile_fn score = kd_tile_pick(PANEL / 16);
    const int64_t keys = KD_MIN((int64_t)KB, g->np - k0);
    for (int64_t p = 0; p < keys; p += PANEL) {
        pack_panel(g, c->in[1].data, part_at(g, bh, 1), g->row, k0 + p, kt + p * g->d);
        pack_panel(g, c->in[1].data, part_at(g, bh, 2), g->row, k0 + p, vt + p * g->d);
    }
    pack_rows(g, c->in[1].data, part_at(g, bh, 1), g->row, k0, keys, 1.0f, k);
    for (int64_t q0 = 0; q0 < g->np; q0 += QB) {
        const float *q = w->q + q0 * g->dp, *dout = w->dout + q0 * g->dp;
        for (int64_t p = 0; p < keys; p += PANEL) {
            kd_tile_args t = {
                .a = q, .ra = g->dp, .ka = 1, .b = kt + p * g->d, .ldb = PANEL, .c = s + p, .ldc = KB, .k = g->d};
            kd_tile_rows(score, t, QB);
            t.a = dout;
            t.b = vt + p * g->d;
            t.c = dp + p;
            kd_tile_rows(score, t, QB);
        }
        backward_softmax(g, w, q0, keys, g->n - k0, s, dp);
        kd_tile_args t = {
            .a = s, .ra = 1, .ka = KB, .b = dout, .ldb = g->dp, .c = dv, .ldc = g->dp, .k = QB, .add = q0 > 0};
        kd_tile_rows(g->tile, t, keys);
        t.a = dp;
        t.b = q;
        t.c = dk;
        kd_tile_rows(g->tile, t, keys);
        const kd_tile_args u = {.a = dp,
                                .ra = KB,
                                .ka = 1,
                                .b = k,
                                .ldb = g->dp,
                                .add = true,
                                .c = w->dq + q0 * g->dp,
                                .ldc = g->dp,
                                .k = keys};
        kd_tile_rows(g->tile, u, QB);
    }
    write_grad(g, c, bh, 1, k0, keys, g->scale, dk);
    write_grad(g, c, bh, 2, k0, keys, 1.0f, dv);
}

static kd_status attention_bwd_run(const kd_call *c)
{
    const geometry g = geometry_of(&c->in[1], c->attr);
    const int64_t all = g.batch * g.heads, group = group_of(&g), each = bwd_floats(&g);
    float *scratch = c->scratch;
    for (int64_t first = 0; first < all; first += group) {
        KD_FAST_FOR_DYNAMIC
        for (int64_t i = 0; i < KD_MIN(group, all - first); i++) {
            const head w = head_at(&g, scratch + i * each);
            backward_begin(&g, c, first + i, &w);
            for (int64_t k0 = 0; k0 < g.np; k0 += KB) {
                backward_keys(&g, c, first + i, &w, k0);
            }
            write_grad(&g, c, first + i, 0, 0, g.np, g.scale, w.dq);
        }
    }
    return KD_OK;
}

static kd_status attention_bwd_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    return supported(c, 1) ? KD_OK : KD_E_UNSUPPORTED;
}

const kd_kernel_def kd_fast_attention_v4 = {.run = attention_run, .scratch = fwd_scratch, .prepare = attention_prepare};
const kd_kernel_def kd_fast_attention_bwd_v4 = {
    .run = attention_bwd_run, .scratch = bwd_scratch, .prepare = attention_bwd_prepare};
