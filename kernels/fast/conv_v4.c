/* Convolution for AVX-512, in f32 whatever the activations are.
 *
 * Dense: y (Co, positions) = W (Co, depth) X (depth, positions) a sample, depth = Ci * taps.  A
 * task is 48 positions of one sample: the rows of X are gathered into a panel that stays in cache
 * while all output channels pass over it.  For skeletons (25 joints) time and joints are one axis,
 * so there are no tails of 9 joints, and a temporal tap is a shift of 25 tap positions.  The
 * gradient of the input is the same product with W transposed. The gradient of W sums dy X^T over
 * positions: samples are cut into at most 16 chunks that depend on the shape only, each sums on its
 * own, and the chunks are added in order.
 */
#include "kernels/fast/conv512.h"
#include "kernels/fast/fast.h"
#include "kernels/fast/tile512.h"
#include "kernels/kd_cpu.h"

enum { PANEL = 48, ROWS = 8, DEPTH = 192, MAX_CO = 768, CHUNKS = 16, SPAN = 256 };

static bool dense(const conv *c, const kd_conv2d_attr *a)
{
    return a->groups <= 1 && c->co <= MAX_CO && c->ci <= MAX_CO && c->h * c->w < INT32_MAX && c->ho * c->wo < INT32_MAX;
}

/* ---- gathering ------------------------------------------------------------------------------- */

/* Where position p of the output reads its input under a tap; back: where position p of the input
 * was read from. -1: nowhere. */
static int64_t source(const conv *c, bool back, int64_t tap, int64_t p)
{
    const int64_t dy = tap / c->kw * c->dilation[0] - c->pad[0];
    const int64_t dx = tap % c->kw * c->dilation[1] - c->pad[1];
    if (!back) {
        const int64_t y = p / c->wo * c->stride[0] + dy, x = p % c->wo * c->stride[1] + dx;
        return y >= 0 && y < c->h && x >= 0 && x < c->w ? y * c->w + x : -1;
    }
    const int64_t y = p / c->w - dy, x = p % c->w - dx;
    if (y < 0 || x < 0 || y % c->stride[0] != 0 || x % c->stride[1] != 0) {
        return -1;
    }
    const int64_t o = y / c->stride[0], q = x / c->stride[1];
    return o < c->ho && q < c->wo ? o * c->wo + q : -1;
}

/* rows of the panel: channels of src at `count` positions from p0 under each tap */
typedef struct gather {
    const conv *c;
    const void *src; /* of one sample */
    int64_t src_plane, dst_plane;
    bool back;
} gather;

/* Panel rows for depth [k0, k0 + k): row i is (channel, tap) = divmod(k0 + i, taps); PANEL floats
 * each. */
static void gather_panel(const gather *g, int64_t p0, int64_t k0, int64_t k, float *dst)
{
    const conv *c = g->c;
    const int64_t count = KD_MIN((int64_t)PANEL, g->dst_plane - p0);
    int32_t at[PANEL];
    for (int64_t tap = 0; tap < c->taps; tap++) {
        const int64_t shift = (tap * c->dilation[0] - c->pad[0]) * c->w * (g->back ? -1 : 1);
        for (int64_t j = 0; !c->shifts && j < PANEL; j++) {
            at[j] = j < count ? (int32_t)source(c, g->back, tap, p0 + j) : -1;
        }
        const int64_t first = (tap - k0 % c->taps + c->taps) % c->taps;
        for (int64_t i = first; i < k; i += c->taps) {
            const int64_t plane = (k0 + i) / c->taps * g->src_plane;
            float *row = dst + i * PANEL;
            if (c->shifts) {
                const void *src = (const char *)g->src + plane * (c->bf16 ? 2 : 4);
                for (int64_t j = 0; j < PANEL; j += 16) {
                    _mm512_storeu_ps(row + j, load_inside(src, p0 + j + shift, g->src_plane, c->bf16));
                }
            } else if (!c->bf16) {
                for (int64_t j = 0; j < PANEL; j += 16) {
                    const __m512i i16 = _mm512_loadu_si512(at + j);
                    const __mmask16 m = _mm512_cmpge_epi32_mask(i16, _mm512_setzero_si512());
                    _mm512_storeu_ps(row + j, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), m, i16,
                                                                       (const float *)g->src + plane, 4));
                }
            } else {
                for (int64_t j = 0; j < PANEL; j++) {
                    row[j] = at[j] < 0 ? 0.0f : kd_bf16_to_f32(((const uint16_t *)g->src)[plane + at[j]]);
                }
            }
        }
    }
}

/* ---- dense product --------------------------------------------------------------------------- */

/* Left operand in blocks of 8 rows: (rows / 8, depth, 8), zero beyond the last row. */
static void pack_left(const conv *c, const void *w, bool turned, float *dst)
{
    const int64_t rows = turned ? c->ci : c->co, depth = (turned ? c->co : c->ci) * c->taps;
    KD_FAST_FOR
    for (int64_t b = 0; b < up(rows, ROWS) / ROWS; b++) {
        for (int64_t k = 0; k < depth; k++) {
            for (int64_t r = 0; r < ROWS; r++) {
                const int64_t row = b * ROWS + r, ch = k / c->taps, tap = k % c->taps;
                const int64_t at = turned ? (ch * c->ci + row) * c->taps + tap : row * depth + k;
                dst[(b * depth + k) * ROWS + r] = row < rows ? load1(w, at, c->bf16) : 0.0f;
            }
        }
    }
}

typedef struct product {
    gather g;
    const float *left;
    int64_t rows, depth;
    const float *bias;
    int32_t act;
    void *out;          /* all samples */
    int64_t src_sample; /* elements of one sample of the source */
} product;

static void product_block(const product *m, const void *src, int64_t sample, int64_t p0)
{
    float panel[DEPTH * PANEL], sum[MAX_CO * PANEL];
    gather g = m->g;
    const conv *c = g.c;
    g.src = src;
    for (int64_t k0 = 0; k0 < m->depth; k0 += DEPTH) {
        const int64_t k = KD_MIN((int64_t)DEPTH, m->depth - k0);
        gather_panel(&g, p0, k0, k, panel);
        kd_tile_args t = {.ra = 1, .ka = ROWS, .b = panel, .ldb = PANEL, .ldc = PANEL, .k = k, .add = k0 > 0};
        for (int64_t r = 0; r < m->rows; r += ROWS) {
            t.a = m->left + (r * m->depth + k0 * ROWS);
            t.c = sum + r * PANEL;
            kd_tile_8x3(&t);
        }
    }
    for (int64_t r = 0; r < m->rows; r++) {
        const __m512 bias = v_set(m->bias != NULL ? m->bias[r] : 0.0f);
        const int64_t at = (sample * m->rows + r) * g.dst_plane + p0;
        for (int64_t j = 0; j < PANEL && p0 + j < g.dst_plane; j += 16) {
            const __m512 x = _mm512_add_ps(_mm512_loadu_ps(sum + r * PANEL + j), bias);
            v_store(m->out, at + j, v_mask(p0 + j, g.dst_plane), c->bf16, v_act(m->act, x));
        }
    }
}

static void product_all(const product *m)
{
    const conv *c = m->g.c;
    const int64_t panels = (m->g.dst_plane + PANEL - 1) / PANEL;
    KD_FAST_FOR
    for (int64_t i = 0; i < c->n * panels; i++) {
        const int64_t s = i / panels;
        const void *src = (const char *)m->g.src + s * m->src_sample * (c->bf16 ? 2 : 4);
        product_block(m, src, s, i % panels * PANEL);
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

static conv forward_of(const kd_call *c)
{
    const kd_shape *w = &c->in[1].shape;
    return conv_of(c->attr, &c->in[0], &c->in[0].shape, &c->out[0].shape, w->dim[2], w->dim[3]);
}

static size_t left_bytes(int64_t rows, int64_t depth)
{
    return (size_t)(up(rows, ROWS) * depth) * sizeof(float);
}

static size_t conv_scratch(const kd_call *c)
{
    const conv g = forward_of(c);
    return g.depthwise ? 0 : left_bytes(g.co, g.ci * g.taps);
}

static kd_status conv_run(const kd_call *c)
{
    const conv g = forward_of(c);
    const kd_conv2d_attr *a = c->attr;
    const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
    if (g.depthwise) {
        kd_depthwise_v4(&g, c->in[0].data, c->in[1].data, bias, a->act, false, c->out[0].data);
        return KD_OK;
    }
    pack_left(&g, c->in[1].data, false, c->scratch);
    const product m = {.g = {.c = &g, .src = c->in[0].data, .src_plane = g.h * g.w, .dst_plane = g.ho * g.wo},
                       .left = c->scratch,
                       .rows = g.co,
                       .depth = g.ci * g.taps,
                       .bias = bias,
                       .act = a->act,
                       .out = c->out[0].data,
                       .src_sample = g.ci * g.h * g.w};
    product_all(&m);
    return KD_OK;
}

static bool can(const conv *g, const kd_conv2d_attr *a, const kd_tensor *x)
{
    return kd_cpu_has(KD_CPU_V4) && (x->dtype == KD_F32 || x->dtype == KD_BF16) &&
           (g->depthwise ? kd_depthwise_can(g) : dense(g, a));
}

static kd_status conv_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const conv g = forward_of(c);
    return can(&g, c->attr, &c->in[0]) ? KD_OK : KD_E_UNSUPPORTED;
}

/* ---- gradient of the input ------------------------------------------------------------------- */

static conv bwd_x_of(const kd_call *c)
{
    const kd_conv2d_attr *a = c->attr;
    const kd_shape *w = &c->in[1].shape;
    return conv_of(a, &c->in[0], &a->x_shape, &c->in[0].shape, w->dim[2], w->dim[3]);
}

static size_t bwd_x_scratch(const kd_call *c)
{
    const conv g = bwd_x_of(c);
    return g.depthwise ? 0 : left_bytes(g.ci, g.co * g.taps);
}

static kd_status bwd_x_run(const kd_call *c)
{
    const conv g = bwd_x_of(c);
    if (g.depthwise) {
        kd_depthwise_v4(&g, c->in[0].data, c->in[1].data, NULL, KD_ACT_NONE, true, c->out[0].data);
        return KD_OK;
    }
    pack_left(&g, c->in[1].data, true, c->scratch);
    const product m = {
        .g = {.c = &g, .src = c->in[0].data, .src_plane = g.ho * g.wo, .dst_plane = g.h * g.w, .back = true},
        .left = c->scratch,
        .rows = g.ci,
        .depth = g.co * g.taps,
        .act = KD_ACT_NONE,
        .out = c->out[0].data,
        .src_sample = g.co * g.ho * g.wo};
    product_all(&m);
    return KD_OK;
}

static kd_status bwd_x_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const conv g = bwd_x_of(c);
    const bool plus = c->n_in > 2 && c->in[2].data != NULL;
    return !plus && can(&g, c->attr, &c->in[0]) ? KD_OK : KD_E_UNSUPPORTED;
}

/* ---- gradient of the weights ----------------------------------------------------------------- */

typedef struct wgrad {
    conv c;
    int64_t rows, cols;   /* Co and depth, rounded up to whole tiles */
    int64_t chunks, each; /* samples */
    int nv;
    kd_tile_fn tile;
    int64_t floats; /* scratch of one chunk: sums, dy panel, x panel */
} wgrad;

static wgrad wgrad_of(const kd_call *c)
{
    const kd_conv2d_attr *a = c->attr;
    wgrad g = {.c = conv_of(a, &c->in[1], &c->in[1].shape, &c->in[0].shape, a->kernel[0], a->kernel[1])};
    const int64_t depth = g.c.ci * g.c.taps;
    int64_t best = INT64_MAX;
    for (int nv = 2; nv <= 4; nv++) { /* the tile that wastes least */
        const kd_tile_fn f = kd_tile_pick(nv);
        const int64_t rows = up(g.c.co, f.rows), cols = up(depth, 16 * nv);
        if (rows * cols < best) {
            best = rows * cols;
            g.rows = rows;
            g.cols = cols;
            g.nv = nv;
            g.tile = f;
        }
    }
    g.each = KD_MAX((g.c.n + CHUNKS - 1) / CHUNKS, (int64_t)1);
    g.chunks = (g.c.n + g.each - 1) / g.each;
    g.floats = g.rows * g.cols + SPAN * (g.rows + g.cols);
    return g;
}

static size_t bwd_w_scratch(const kd_call *c)
{
    const wgrad g = wgrad_of(c);
    return g.c.depthwise ? 0 : (size_t)(g.chunks * g.floats) * sizeof(float);
}

/* 16 rows of 16 floats, `ld` apart, transposed to rows `to` apart. */
static void transpose16(const float *src, int64_t ld, float *dst, int64_t to)
{
    __m512 r[16], s[16];
    for (int i = 0; i < 16; i++) {
        r[i] = _mm512_loadu_ps(src + i * ld);
    }
    for (int i = 0; i < 16; i += 4) { /* 4 x 4 blocks inside each 128-bit lane */
        const __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        const __m512 p = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), q = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        s[i] = _mm512_shuffle_ps(a, p, 0x44);
        s[i + 1] = _mm512_shuffle_ps(a, p, 0xee);
        s[i + 2] = _mm512_shuffle_ps(b, q, 0x44);
        s[i + 3] = _mm512_shuffle_ps(b, q, 0xee);
    }
    for (int i = 0; i < 4; i++) { /* then the lanes themselves */
        const __m512 a = _mm512_shuffle_f32x4(s[i], s[i + 4], 0x88), b = _mm512_shuffle_f32x4(s[i], s[i + 4], 0xdd);
        const __m512 p = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0x88);
        const __m512 q = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0xdd);
        _mm512_storeu_ps(dst + i * to, _mm512_shuffle_f32x4(a, p, 0x88));
        _mm512_storeu_ps(dst + (i + 4) * to, _mm512_shuffle_f32x4(b, q, 0x88));
        _mm512_storeu_ps(dst + (i + 8) * to, _mm512_shuffle_f32x4(a, p, 0xdd));
        _mm512_storeu_ps(dst + (i + 12) * to, _mm512_shuffle_f32x4(b, q, 0xdd));
    }
}

/* x at 48 positions from p0, transposed to (48, cols). */
static void gather_turned(const wgrad *g, const void *x, int64_t p0, float *dst)
{
    float panel[16 * PANEL];
    const conv *c = &g->c;
    const int64_t depth = c->ci * c->taps;
    const gather how = {.c = c, .src = x, .src_plane = c->h * c->w, .dst_plane = c->ho * c->wo};
    for (int64_t k = 0; k < g->cols; k += 16) {
        const int64_t here = KD_MAX((int64_t)0, KD_MIN((int64_t)16, depth - k));
        memset(panel, 0, here < 16 ? sizeof panel : 0);
        if (here > 0) {
            gather_panel(&how, p0, k, here, panel);
        }
        for (int64_t j = 0; j < PANEL; j += 16) {
            transpose16(panel + j, PANEL, dst + j * g->cols + k, g->cols);
        }
    }
}

enum { WSPAN = SPAN / PANEL * PANEL };

static void wgrad_sample(const wgrad *g, const void *dy, const void *x, bool add, float *sum)
{
    float *left = sum + g->rows * g->cols, *right = left + SPAN * g->rows;
    const conv *c = &g->c;
    const int64_t plane = c->ho * c->wo;
    for (int64_t p0 = 0; p0 < plane; p0 += WSPAN) {
        const int64_t n = KD_MIN((int64_t)WSPAN, plane - p0);
        for (int64_t r = 0; r < g->rows; r++) {
            for (int64_t j = 0; j < n; j += 16) {
                const __mmask16 m = r < c->co ? v_mask(p0 + j, plane) : 0;
                const __m512 v = m != 0 ? v_load(dy, r * plane + p0 + j, m, c->bf16) : _mm512_setzero_ps();
                _mm512_storeu_ps(left + r * SPAN + j, v);
            }
        }
        for (int64_t j = 0; j < n; j += PANEL) {
            gather_turned(g, x, p0 + j, right + j * g->cols);
        }
        for (int64_t k = 0; k < g->cols; k += 16 * g->nv) {
            const kd_tile_args t = {.a = left,
                                    .ra = SPAN,
                                    .ka = 1,
                                    .b = right + k,
                                    .ldb = g->cols,
                                    .c = sum + k,
                                    .ldc = g->cols,
                                    .k = n,
                                    .add = add || p0 > 0};
            kd_tile_rows(g->tile, t, g->rows);
        }
    }
}

static void wgrad_bias(const conv *c, const void *dy, bool add, float *db)
{
    const int64_t plane = c->ho * c->wo;
    KD_FAST_FOR
    for (int64_t ch = 0; ch < c->co; ch++) {
        float total = 0.0f;
        for (int64_t s = 0; s < c->n; s++) {
            __m512 sum = _mm512_setzero_ps();
            for (int64_t p = 0; p < plane; p += 16) {
                const int64_t at = (s * c->co + ch) * plane + p;
                sum = _mm512_add_ps(sum, v_load(dy, at, v_mask(p, plane), c->bf16));
            }
            total += _mm512_reduce_add_ps(sum);
        }
        db[ch] = add ? db[ch] + total : total;
    }
}

static void dense_w(const wgrad *g, const kd_call *call)
{
    const conv *c = &g->c;
    const int64_t depth = c->ci * c->taps, bytes = c->bf16 ? 2 : 4;
    const bool add = (call->accum & 1u) != 0;
    float *scratch = call->scratch, *dw = call->out[0].data;
    KD_FAST_FOR_DYNAMIC
    for (int64_t i = 0; i < g->chunks; i++) {
        for (int64_t s = i * g->each; s < KD_MIN(c->n, (i + 1) * g->each); s++) {
            wgrad_sample(g, (const char *)call->in[0].data + s * c->co * c->ho * c->wo * bytes,
                         (const char *)call->in[1].data + s * c->ci * c->h * c->w * bytes, s > i * g->each,
                         scratch + i * g->floats);
        }
    }
    KD_FAST_FOR
    for (int64_t r = 0; r < c->co; r++) {
        for (int64_t k = 0; k < depth; k += 16) {
            const __mmask16 m = v_mask(k, depth);
            __m512 v = add ? _mm512_maskz_loadu_ps(m, dw + r * depth + k) : _mm512_setzero_ps();
            for (int64_t i = 0; i < g->chunks; i++) {
                v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, scratch + i * g->floats + r * g->cols + k));
            }
            _mm512_mask_storeu_ps(dw + r * depth + k, m, v);
        }
    }
}

static kd_status bwd_w_run(const kd_call *c)
{
    const wgrad g = wgrad_of(c);
    if (c->out[0].data != NULL) {
        if (g.c.depthwise) {
            kd_depthwise_w_v4(&g.c, c->in[0].data, c->in[1].data, (c->accum & 1u) != 0, c->out[0].data);
        } else {
            dense_w(&g, c);
        }
    }
    if (c->n_out > 1 && c->out[1].data != NULL) {
        wgrad_bias(&g.c, c->in[0].data, (c->accum & 2u) != 0, c->out[1].data);
    }
    return KD_OK;
}

static kd_status bwd_w_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const wgrad g = wgrad_of(c);
    return can(&g.c, c->attr, &c->in[0]) ? KD_OK : KD_E_UNSUPPORTED;
}

const kd_kernel_def kd_fast_conv2d_v4 = {.run = conv_run, .scratch = conv_scratch, .prepare = conv_prepare};
const kd_kernel_def kd_fast_conv2d_bwd_x_v4 = {.run = bwd_x_run, .scratch = bwd_x_scratch, .prepare = bwd_x_prepare};
const kd_kernel_def kd_fast_conv2d_bwd_w_v4 = {.run = bwd_w_run, .scratch = bwd_w_scratch, .prepare = bwd_w_prepare};
