/* Skeleton operations for AVX-512: joint_mix and its gradient to x for up to 32 joints, and reduce.
 *
 * joint_mix: rows of joints times a (V, V) matrix held as 32 padded columns; 12 rows of two vectors each stay in registers.
 * reduce: the rows of x stream by once; where the last dim is reduced too, sums stay vectors until the end. */
#include "kernels/fast/fast.h"
#include "kernels/fast/vmath512.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

#include <math.h>

/* ---- joint_mix --------------------------------------------------------------------------------------------------------- */

enum { WIDE = 32, R = 12 };

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

/* Matrix `i` of the adjacency as (V, 32), zero beyond V. */
static void load_matrix(const kd_tensor *adj, int64_t i, int64_t v, bool transpose, float *b)
{
    for (int64_t r = 0; r < v; r++) {
        for (int64_t j = 0; j < WIDE; j++) {
            const int64_t at = i * v * v + (transpose ? j * v + r : r * v + j);
            const void *p = adj->data;
            b[r * WIDE + j] = j >= v                  ? 0.0f
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

/* y = sum over `terms` of x_t A_t for rows [r0, r0 + count); x_t lies `stride` elements after x_(t-1). */
static void mix_block(const mix *m, const void *x, int64_t at, int64_t stride, int64_t terms,
                      const float *b, int64_t count, void *y, int64_t to)
{
    __m512 acc[R][2];
    float wide[R * WIDE];
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
    const __mmask16 low = v_mask(0, m->v), high = m->v > 16 ? v_mask(16, m->v) : 0;
    for (int64_t r = 0; r < count; r++) {
        v_store(y, to + r * m->v, low, m->bf16, acc[r][0]);
        v_store(y, to + r * m->v + 16, high, m->bf16, acc[r][1]);
    }
}

enum { PIECE = 16 * R, MAX_TERMS = 8 };

/* All slices: `parts` outputs a sample, each the sum of `terms` products. */
static void mix_all(const mix *m, const kd_tensor *adj, const void *x, int64_t xs, void *y,
                    int64_t ys, int64_t parts, int64_t terms, bool x_by_part, bool transpose)
{
    const int64_t pieces = (m->rows + PIECE - 1) / PIECE, slice = m->rows * m->v;
    KD_FAST_FOR
    for (int64_t i = 0; i < m->n * parts * pieces; i++) {
        float b[MAX_TERMS * WIDE * WIDE];
        const int64_t s = i / pieces / parts, k = i / pieces % parts, first = i % pieces * PIECE;
        for (int64_t t = 0; t < terms; t++) {
            load_matrix(adj, m->sample ? s : k + t, m->v, transpose, b + t * m->v * WIDE);
        }
        for (int64_t r = first; r < KD_MIN(m->rows, first + PIECE); r += R) {
            const int64_t at = s * xs + (x_by_part ? k * slice : 0) + r * m->v;
            mix_block(m, x, at, slice, terms, b, KD_MIN((int64_t)R, m->rows - r), y,
                      s * ys + k * slice + r * m->v);
        }
    }
}

static kd_status mix_run(const kd_call *c)
{
    const mix m = mix_of(c->attr, &c->in[0].shape, &c->in[1].shape, c->in[0].dtype);
    mix_all(&m, &c->in[1], c->in[0].data, m.xs, c->out[0].data, m.ys, m.k, 1, m.grouped,
            m.transpose);
    return KD_OK;
}

static kd_status mix_bwd_x_run(const kd_call *c)
{
    const mix m = mix_of(c->attr, &c->out[0].shape, &c->in[1].shape, c->in[0].dtype);
    mix_all(&m, &c->in[1], c->in[0].data, m.ys, c->out[0].data, m.xs, m.grouped ? m.k : 1,
            m.expand ? m.k : 1, m.grouped, !m.transpose);
    return KD_OK;
}

static kd_status mix_can(const kd_call *c, const kd_shape *x, int64_t terms)
{
    const kd_dtype t = c->in[0].dtype;
    const bool ok = kd_cpu_has(KD_CPU_V4) && (t == KD_F32 || t == KD_BF16) && x->dim[3] <= WIDE &&
                    x->dim[3] > 0 && terms <= MAX_TERMS;
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
    return mix_can(c, &c->out[0].shape, a->mode == KD_MIX_EXPAND ? c->in[1].shape.dim[0] : 1);
}

/* ---- reduce -------------------------------------------------------------------------------------------------------------- */

typedef struct reduction {
    int64_t n, inner; /* leading dim, last dim */
    int rank;
    int64_t dim[KD_MAX_RANK];
    int64_t step[KD_MAX_RANK]; /* how far the output moves with each dim; 0: reduced */
    int64_t rows, outs;        /* rows of x and outputs of one leading index */
    int64_t count;             /* elements behind one output */
    bool last, max, bf16;      /* last: the last dim is reduced */
} reduction;

/* The leading dim must be kept; a shape of rank 1 gets one. */
static bool reduction_of(const kd_call *c, reduction *d)
{
    const kd_reduce_attr *a = c->attr;
    const kd_shape *s = &c->in[0].shape;
    *d = (reduction){.rank = s->rank,
                     .bf16 = c->in[0].dtype == KD_BF16,
                     .max = a->kind == KD_REDUCE_MAX,
                     .count = 1,
                     .outs = 1};
    if (s->rank < 2 || (a->axes & 1u) != 0 || kd_shape_numel(s) == 0) {
        return false;
    }
    for (int i = s->rank - 1; i >= 1; i--) {
        const bool gone = ((a->axes >> i) & 1u) != 0;
        d->dim[i] = s->dim[i];
        d->step[i] = gone ? 0 : d->outs;
        d->outs *= gone ? 1 : s->dim[i];
        d->count *= gone ? s->dim[i] : 1;
    }
    d->n = s->dim[0];
    d->inner = s->dim[s->rank - 1];
    d->rows = kd_shape_span(s, 1, s->rank - 1);
    d->last = ((a->axes >> (s->rank - 1)) & 1u) != 0;
    return true;
}

/* Floats of scratch for one leading index: a vector an output when the last dim goes, else the output itself. */
static int64_t sums_of(const reduction *d)
{
    return d->last ? d->outs * 16 : (d->outs + 15) / 16 * 16 + 16;
}

/* Sum or maximum; a NaN on either side stays. */
static __m512 combine(__m512 a, __m512 x, bool max)
{
    return max ? _mm512_mask_max_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, x)
               : _mm512_add_ps(a, x);
}

static float combine_lanes(__m512 v, bool max)
{
    float lane[16], r;
    if (!max) {
        return _mm512_reduce_add_ps(v);
    }
    _mm512_storeu_ps(lane, v);
    r = lane[0];
    for (int i = 1; i < 16; i++) {
        r = r != r || r > lane[i] ? r : lane[i];
    }
    return r;
}

static void reduce_rows(const reduction *d, const void *x, int64_t at, float *sums)
{
    const __m512 none = v_set(d->max ? -INFINITY : 0.0f);
    int64_t index[KD_MAX_RANK] = {0}, out = 0;
    for (int64_t i = 0; i < sums_of(d); i += 16) {
        _mm512_storeu_ps(sums + i, none);
    }
    for (int64_t r = 0; r < d->rows; r++, at += d->inner) {
        float *to = sums + out * (d->last ? 16 : 1);
        for (int64_t j = 0; j < d->inner; j += 16) {
            const __mmask16 m = v_mask(j, d->inner);
            const __m512 v = _mm512_mask_mov_ps(none, m, v_load(x, at + j, m, d->bf16));
            float *p = to + (d->last ? 0 : j);
            const __mmask16 keep = d->last ? 0xffff : m;
            _mm512_mask_storeu_ps(p, keep, combine(_mm512_maskz_loadu_ps(keep, p), v, d->max));
        }
        for (int i = d->rank - 2; i >= 1; i--) { /* next row, and where its output is */
            out += d->step[i];
            if (++index[i] < d->dim[i]) {
                break;
            }
            out -= d->step[i] * d->dim[i];
            index[i] = 0;
        }
    }
}

static kd_status reduce_run(const kd_call *c)
{
    const kd_reduce_attr *a = c->attr;
    reduction d;
    if (!reduction_of(c, &d)) {
        return KD_E_ARG;
    }
    const float inv = a->kind == KD_REDUCE_MEAN ? (float)d.count : 1.0f;
    float *scratch = c->scratch;
    KD_FAST_FOR
    for (int64_t s = 0; s < d.n; s++) {
        float *sums = scratch + s * sums_of(&d);
        reduce_rows(&d, c->in[0].data, s * d.rows * d.inner, sums);
        for (int64_t o = 0; o < d.outs; o++) {
            const float v = d.last ? combine_lanes(_mm512_loadu_ps(sums + o * 16), d.max) : sums[o];
            v_store(c->out[0].data, s * d.outs + o, 1, d.bf16, v_set(v / inv));
        }
    }
    return KD_OK;
}

static size_t reduce_scratch(const kd_call *c)
{
    reduction d;
    return reduction_of(c, &d) ? (size_t)(d.n * sums_of(&d)) * sizeof(float) : 0;
}

static kd_status reduce_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    reduction d;
    const kd_dtype t = c->in[0].dtype;
    const bool ok = kd_cpu_has(KD_CPU_V4) && reduction_of(c, &d) && (t == KD_F32 || t == KD_BF16) &&
                    c->out[0].dtype == t;
    return ok ? KD_OK : KD_E_UNSUPPORTED;
}

const kd_kernel_def kd_fast_joint_mix_v4 = {.run = mix_run, .prepare = mix_prepare};
const kd_kernel_def kd_fast_joint_mix_bwd_x_v4 = {.run = mix_bwd_x_run,
                                                  .prepare = mix_bwd_x_prepare};
const kd_kernel_def kd_fast_reduce_v4 = {
    .run = reduce_run, .scratch = reduce_scratch, .prepare = reduce_prepare};
