/* joint_mix and its gradient to x for AVX-512 and up to 64 joints: rows of joints times a (V, V)
 * matrix held as panels of 32 columns, padded; 12 rows of two vectors each stay in registers. */
#include "kernels/fast/fast.h"
#include "kernels/fast/vmath512.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

enum { WIDE = 32, MOST = 64, R = 12 }; /* columns of a panel, joints, rows at a time */

typedef struct mix {
    int64_t n, k, rows, v; /* rows: channels of one slice times frames */
    int64_t xs, ys;        /* elements of a sample of x and of y */
    bool expand, grouped, sample, transpose, bf16;
} mix;

static mix mix_of(const kd_joint_mix_attr *a, const kd_shape *x, const kd_shape *adj, kd_dtype t)
{
    mix m = {.n = x->dim[0],
             .v = x->dim[3],
             .expand = a->mode == KD_MIX_EXPAND,
             .grouped = a->mode == KD_MIX_GROUPED,
             .sample = a->mode == KD_MIX_SAMPLE,
             .transpose = a->transpose != 0,
             .bf16 = t == KD_BF16};
    m.k = m.expand || m.grouped ? adj->dim[0] : 1;
    const int64_t c = m.grouped ? x->dim[1] / m.k : x->dim[1];
    m.rows = c * x->dim[2];
    m.xs = x->dim[1] * x->dim[2] * m.v;
    m.ys = m.k * m.rows * m.v;
    return m;
}

/* Columns from `from` on of matrix `i` of the adjacency as (V, 32), zero beyond V. */
static void load_panel(const kd_tensor *adj, int64_t i, int64_t v, int64_t from, bool transpose, float *b)
{
    for (int64_t r = 0; r < v; r++) {
        for (int64_t j = 0; j < WIDE; j++) {
            const int64_t col = from + j, at = i * v * v + (transpose ? col * v + r : r * v + col);
            const void *p = adj->data;
            b[r * WIDE + j] = col >= v                ? 0.0f
                              : adj->dtype == KD_BF16 ? kd_bf16_to_f32(((const uint16_t *)p)[at])
                                                      : ((const float *)p)[at];
        }
    }
}

/* acc += x (count rows of V, count <= 12) b; rows beyond count repeat the last one. */
static void mix_rows(const float *x, int64_t count, int64_t v, const float *b, __m512 acc[R][2])
{
    const float *row[R];
    for (int r = 0; r < R; r++) {
        row[r] = x + KD_MIN((int64_t)r, count - 1) * v;
    }
    __m512 s[R][2];
    _Pragma("GCC unroll 12") for (int r = 0; r < R; r++)
    {
        s[r][0] = acc[r][0];
        s[r][1] = acc[r][1];
    }
    for (int64_t i = 0; i < v; i++) {
        const __m512 b0 = _mm512_loadu_ps(b + i * WIDE), b1 = _mm512_loadu_ps(b + i * WIDE + 16);
        _Pragma("GCC unroll 12") for (int r = 0; r < R; r++)
        {
            const __m512 p = v_set(row[r][i]);
            s[r][0] = _mm512_fmadd_ps(p, b0, s[r][0]);
            s[r][1] = _mm512_fmadd_ps(p, b1, s[r][1]);
        }
    }
    _Pragma("GCC unroll 12") for (int r = 0; r < R; r++)
    {
        acc[r][0] = s[r][0];
        acc[r][1] = s[r][1];
    }
}

/* Columns from `from` on of y = sum over `terms` of x_t A_t for rows [r0, r0 + count); x_t lies `stride` elements after
 * x_(t-1). */
static void mix_block(const mix *m, const void *x, int64_t at, int64_t stride, int64_t terms, const float *b,
                      int64_t count, int64_t from, void *y, int64_t to)
{
    __m512 acc[R][2];
    float wide[R * MOST];
    for (int r = 0; r < R; r++) {
        acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    }
    for (int64_t t = 0; t < terms; t++) {
        const float *src = (const float *)x + (m->bf16 ? 0 : at + t * stride);
        if (m->bf16) {
            for (int64_t i = 0; i < count * m->v; i += 16) {
                const __mmask16 in = v_mask(i, count * m->v);
                _mm512_storeu_ps(wide + i, v_load(x, at + t * stride + i, in, true));
            }
            src = wide;
        }
        mix_rows(src, count, m->v, b + t * m->v * WIDE, acc);
    }
    const __mmask16 low = v_mask(from, m->v), high = m->v > from + 16 ? v_mask(from + 16, m->v) : 0;
    for (int64_t r = 0; r < count; r++) {
        v_store(y, to + r * m->v + from, low, m->bf16, acc[r][0]);
        v_store(y, to + r * m->v + from + 16, high, m->bf16, acc[r][1]);
    }
}

enum { PIECE = 16 * R, MAX_TERMS = 8 };

/* All slices: `parts` outputs a sample, each the sum of `terms` products. */
static void mix_all(const mix *m, const kd_tensor *adj, const void *x, int64_t xs, void *y, int64_t ys, int64_t parts,
                    int64_t terms, bool x_by_part, bool transpose)
{
    const int64_t pieces = (m->rows + PIECE - 1) / PIECE, slice = m->rows * m->v;
    KD_FAST_FOR
    for (int64_t i = 0; i < m->n * parts * pieces; i++) {
        float b[MAX_TERMS * MOST * WIDE];
        const int64_t s = i / pieces / parts, k = i / pieces % parts, first = i % pieces * PIECE;
        for (int64_t from = 0; from < m->v; from += WIDE) {
            for (int64_t t = 0; t < terms; t++) {
                load_panel(adj, m->sample ? s : k + t, m->v, from, transpose, b + t * m->v * WIDE);
            }
            for (int64_t r = first; r < KD_MIN(m->rows, first + PIECE); r += R) {
                const int64_t at = s * xs + (x_by_part ? k * slice : 0) + r * m->v,
                              count = KD_MIN((int64_t)R, m->rows - r);
                mix_block(m, x, at, slice, terms, b, count, from, y, s * ys + k * slice + r * m->v);
            }
        }
    }
}

static kd_status mix_run(const kd_call *c)
{
    const mix m = mix_of(c->attr, &c->in[0].shape, &c->in[1].shape, c->in[0].dtype);
    mix_all(&m, &c->in[1], c->in[0].data, m.xs, c->out[0].data, m.ys, m.k, 1, m.grouped, m.transpose);
    return KD_OK;
}

static kd_status mix_bwd_x_run(const kd_call *c)
{
    const mix m = mix_of(c->attr, &c->out[0].shape, &c->in[1].shape, c->in[0].dtype);
    mix_all(&m, &c->in[1], c->in[0].data, m.ys, c->out[0].data, m.xs, m.grouped ? m.k : 1, m.expand ? m.k : 1,
            m.grouped, !m.transpose);
    return KD_OK;
}

static kd_status mix_can(const kd_call *c, const kd_shape *x, int64_t terms)
{
    const kd_dtype t = c->in[0].dtype;
    const bool ok = kd_cpu_has(KD_CPU_V4) && (t == KD_F32 || t == KD_BF16) && x->dim[3] <= MOST && x->dim[3] > 0 &&
                    terms <= MAX_TERMS;
    return ok ? KD_OK : KD_E_UNSUPPORTED;
}

static kd_status mix_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    return mix_can(c, &c->in[0].shape, 1);
}

static kd_status mix_bwd_x_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const kd_joint_mix_attr *a = c->attr;
    if (c->n_in > 2 && c->in[2].data != NULL) { /* plus */
        return KD_E_UNSUPPORTED;
    }
    return mix_can(c, &c->out[0].shape, a->mode == KD_MIX_EXPAND ? c->in[1].shape.dim[0] : 1);
}

const kd_kernel_def kd_fast_joint_mix_v4 = {.run = mix_run, .prepare = mix_prepare};
const kd_kernel_def kd_fast_joint_mix_bwd_x_v4 = {.run = mix_bwd_x_run, .prepare = mix_bwd_x_prepare};
