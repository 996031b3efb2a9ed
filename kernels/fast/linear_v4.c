/* Gradient of a linear layer's weights for AVX-512: dW (co,ci) = dy (m,co)^T x (m,ci).
 *
 * For results below 2^20 numbers, where oneDNN divides m among threads and its bits depend on their
 * number.  Here a task is 96 x 192 of dW and takes the rows in order; where that gives few tasks,
 * the rows are cut into at most 16 pieces that depend on the shape only, added in order.
 */
#include "kernels/fast/fast.h"
#include "kernels/fast/rows.h"
#include "kernels/fast/tile512.h"
#include "kernels/fast/vmath512.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

enum { MR = 96, MC = 192, ROWS = 8, COLS = 48, DEPTH = 128, SPLITS = 16, FEW = 16 };

typedef struct wgrad {
    int64_t m, co, ci;
    int64_t tr, tc;       /* tasks along co and ci */
    int64_t splits, each; /* pieces of m, rows of one */
    bool bf16;
} wgrad;

static wgrad wgrad_of(const kd_call *c)
{
    const kd_shape *dy = &c->in[0].shape, *x = &c->in[1].shape;
    wgrad g = {.co = dy->dim[dy->rank - 1], .ci = x->dim[x->rank - 1], .bf16 = c->in[0].dtype == KD_BF16};
    g.m = g.ci > 0 ? kd_shape_numel(x) / g.ci : 0;
    g.tr = (g.co + MR - 1) / MR;
    g.tc = (g.ci + MC - 1) / MC;
    g.splits = g.tr * g.tc >= FEW ? 1 : KD_MAX((int64_t)1, KD_MIN((int64_t)SPLITS, g.m / (4 * DEPTH)));
    g.each = (g.m + g.splits - 1) / g.splits;
    return g;
}

/* (blocks of 8 columns, rows, 8) and (panels of 48 columns, rows, 48), zero beyond the matrix. */
static void pack(const wgrad *g, const void *src, int64_t cols, int64_t c0, int64_t width, int64_t group, int64_t m0,
                 int64_t rows, float *dst)
{
    for (int64_t b = 0; b < width; b += group) {
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t j = 0; j < group; j += 16) {
                const int64_t at = c0 + b + j, take = KD_MIN(group - j, (int64_t)16);
                const __mmask16 room = v_mask(0, take), in = at < cols ? v_mask(at, cols) : 0;
                const __mmask16 m = room & in;
                const __m512 v = m != 0 ? v_load(src, (m0 + r) * cols + at, m, g->bf16) : _mm512_setzero_ps();
                _mm512_mask_storeu_ps(dst + b * DEPTH + r * group + j, room, v);
            }
        }
    }
}

static void task(const wgrad *g, const kd_call *c, int64_t r0, int64_t c0, int64_t from, int64_t to, float *out,
                 bool add)
{
    float a[MR * DEPTH], b[MC * DEPTH], sum[MR * MC];
    const int64_t rows = KD_MIN((int64_t)MR, g->co - r0), cols = KD_MIN((int64_t)MC, g->ci - c0);
    for (int64_t m = from; m < to; m += DEPTH) {
        const int64_t k = KD_MIN((int64_t)DEPTH, to - m);
        pack(g, c->in[0].data, g->co, r0, rows, ROWS, m, k, a);
        pack(g, c->in[1].data, g->ci, c0, cols, COLS, m, k, b);
        for (int64_t j = 0; j < cols; j += COLS) {
            for (int64_t i = 0; i < rows; i += ROWS) {
                const kd_tile_args t = {.a = a + i * DEPTH,
                                        .ra = 1,
                                        .ka = ROWS,
                                        .b = b + j * DEPTH,
                                        .ldb = COLS,
                                        .c = sum + i * MC + j,
                                        .ldc = MC,
                                        .k = k,
                                        .add = m > from};
                kd_tile_8x3(&t);
            }
        }
    }
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j += 16) {
            const __mmask16 m = v_mask(j, cols);
            float *dst = out + (r0 + i) * g->ci + c0 + j;
            __m512 v = from < to ? _mm512_loadu_ps(sum + i * MC + j) : _mm512_setzero_ps();
            if (add) {
                v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, dst));
            }
            _mm512_mask_storeu_ps(dst, m, v);
        }
    }
}

static void add_pieces(const wgrad *g, const float *pieces, bool add, float *out)
{
    const int64_t n = g->co * g->ci;
    KD_FAST_FOR
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = v_mask(i, n);
        __m512 v = add ? _mm512_maskz_loadu_ps(m, out + i) : _mm512_setzero_ps();
        for (int64_t s = 0; s < g->splits; s++) {
            v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, pieces + s * n + i));
        }
        _mm512_mask_storeu_ps(out + i, m, v);
    }
}

static size_t bwd_w_scratch(const kd_call *c)
{
    const wgrad g = wgrad_of(c);
    return g.splits > 1 ? (size_t)(g.splits * g.co * g.ci) * sizeof(float) : 0;
}

static kd_status bwd_w_run(const kd_call *c)
{
    const wgrad g = wgrad_of(c);
    const bool add = (c->accum & 1u) != 0, split = g.splits > 1;
    const int64_t tiles = g.tr * g.tc;
    float *dw = c->out[0].data, *pieces = c->scratch;
    KD_FAST_FOR_DYNAMIC
    for (int64_t i = 0; i < tiles * g.splits; i++) {
        const int64_t s = i / tiles, r0 = i % tiles / g.tc * MR, c0 = i % g.tc * MC;
        float *out = split ? pieces + s * g.co * g.ci : dw;
        task(&g, c, r0, c0, s * g.each, KD_MIN(g.m, (s + 1) * g.each), out, add && !split);
    }
    if (split) {
        add_pieces(&g, pieces, add, dw);
    }
    if (c->n_out > 1 && c->out[1].data != NULL) {
        kd_fast_column_sum(c->in[0].data, g.m, g.co, g.bf16, (c->accum & 2u) != 0, c->out[1].data);
    }
    return KD_OK;
}

static kd_status bwd_w_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const kd_dtype t = c->in[0].dtype;
    const bool ok = kd_cpu_has(KD_CPU_V4) && (t == KD_F32 || t == KD_BF16) && c->in[1].dtype == t &&
                    c->out[0].data != NULL && c->out[0].dtype == KD_F32;
    return ok ? KD_OK : KD_E_UNSUPPORTED;
}

const kd_kernel_def kd_fast_linear_bwd_w_v4 = {.run = bwd_w_run, .scratch = bwd_w_scratch, .prepare = bwd_w_prepare};
