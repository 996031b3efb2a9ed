/* reduce and its gradient for AVX-512: the rows of x stream by once; where the last dim is reduced
 * too, sums stay vectors until the end. */
#include "kernels/fast/fast.h"
#include "kernels/fast/vmath512.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

#include <math.h>

typedef struct reduction {
    int64_t n, inner; /* leading dim, last dim */
    int rank;
    int64_t dim[KD_MAX_RANK];
    int64_t step[KD_MAX_RANK]; /* how far the output moves with each dim; 0: reduced */
    int64_t rows, outs;        /* rows of x and outputs of one leading index */
    int64_t count;             /* elements of one output */
    bool last, max, bf16;      /* last: the last dim is reduced */
} reduction;

/* The leading dim must be kept; a shape of rank 1 gets one. */
static bool reduction_of(const kd_reduce_attr *a, const kd_shape *s, kd_dtype t, reduction *d)
{
    *d = (reduction){.rank = s->rank, .bf16 = t == KD_BF16, .max = a->kind == KD_REDUCE_MAX, .count = 1, .outs = 1};
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

/* Floats of scratch for one leading index: a vector an output when the last dim goes, else the
 * output itself. */
static int64_t sums_of(const reduction *d)
{
    return d->last ? d->outs * 16 : (d->outs + 15) / 16 * 16 + 16;
}

/* Sum or maximum; a NaN on either side stays. */
static __m512 combine(__m512 a, __m512 x, bool max)
{
    return max ? _mm512_mask_max_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, x) : _mm512_add_ps(a, x);
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

/* Step to the next row of x; returns where its output begins. */
static int64_t next_row(const reduction *d, int64_t index[KD_MAX_RANK], int64_t out)
{
    for (int i = d->rank - 2; i >= 1; i--) {
        out += d->step[i];
        if (++index[i] < d->dim[i]) {
            break;
        }
        out -= d->step[i] * d->dim[i];
        index[i] = 0;
    }
    return out;
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
        out = next_row(d, index, out);
    }
}

static kd_status reduce_run(const kd_call *c)
{
    const kd_reduce_attr *a = c->attr;
    reduction d;
    if (!reduction_of(c->attr, &c->in[0].shape, c->in[0].dtype, &d)) {
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
    return reduction_of(c->attr, &c->in[0].shape, c->in[0].dtype, &d) ? (size_t)(d.n * sums_of(&d)) * sizeof(float) : 0;
}

static kd_status reduce_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    reduction d;
    const kd_dtype t = c->in[0].dtype;
    const bool ok = kd_cpu_has(KD_CPU_V4) && reduction_of(c->attr, &c->in[0].shape, c->in[0].dtype, &d) &&
                    (t == KD_F32 || t == KD_BF16) && c->out[0].dtype == t;
    return ok ? KD_OK : KD_E_UNSUPPORTED;
}

/* ---- gradient -------------------------------------------------------------------------------- */

/* Element j of a row of x is a maximum: equal to its output, or both NaN. */
static __mmask16 is_max(const reduction *d, const void *x, int64_t at, const void *y, int64_t out, int64_t j,
                        __mmask16 m)
{
    const __m512 v = v_load(x, at + j, m, d->bf16);
    const __m512 top = d->last ? v_set(load1(y, out, d->bf16)) : v_load(y, out + j, m, d->bf16);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) & _mm512_cmp_ps_mask(top, top, _CMP_UNORD_Q);
    return m & (_mm512_cmp_ps_mask(v, top, _CMP_EQ_OQ) | nan);
}

/* How often each output's maximum occurs. */
static void count_ties(const reduction *d, const void *x, int64_t at, const void *y, int64_t first, float *ties)
{
    int64_t index[KD_MAX_RANK] = {0}, out = 0;
    memset(ties, 0, (size_t)d->outs * sizeof(float));
    for (int64_t r = 0; r < d->rows; r++, at += d->inner) {
        for (int64_t j = 0; j < d->inner; j += 16) {
            const __mmask16 m = v_mask(j, d->inner);
            const __mmask16 hit = is_max(d, x, at, y, first + out, j, m);
            if (d->last) {
                ties[out] += (float)__builtin_popcount(hit);
            } else {
                const __m512 t = _mm512_maskz_loadu_ps(m, ties + out + j);
                _mm512_mask_storeu_ps(ties + out + j, m, _mm512_mask_add_ps(t, hit, t, v_set(1.0f)));
            }
        }
        out = next_row(d, index, out);
    }
}

/* One dim removed: only the first maximum gets the gradient; `given` remembers who has. */
static __mmask16 first_only(const reduction *d, __mmask16 hit, float *given, int64_t out, int64_t j, __mmask16 m)
{
    if (d->last) {
        hit = given[out] != 0.0f ? 0 : (__mmask16)(hit & (uint32_t) - (int32_t)hit);
        given[out] = hit != 0 ? 1.0f : given[out];
        return hit;
    }
    const __m512 before = _mm512_maskz_loadu_ps(m, given + out + j);
    hit &= _mm512_cmp_ps_mask(before, _mm512_setzero_ps(), _CMP_EQ_OQ);
    _mm512_mask_storeu_ps(given + out + j, hit, v_set(1.0f));
    return hit;
}

static void max_bwd(const reduction *d, const kd_call *c, int64_t s, bool one_dim, float *ties)
{
    const void *dy = c->in[0].data, *x = c->in[1].data, *y = c->in[2].data;
    int64_t index[KD_MAX_RANK] = {0}, out = 0, at = s * d->rows * d->inner;
    const int64_t first = s * d->outs;
    if (one_dim) {
        memset(ties, 0, (size_t)d->outs * sizeof(float));
    } else {
        count_ties(d, x, at, y, first, ties);
    }
    for (int64_t r = 0; r < d->rows; r++, at += d->inner) {
        for (int64_t j = 0; j < d->inner; j += 16) {
            const __mmask16 m = v_mask(j, d->inner);
            __mmask16 hit = is_max(d, x, at, y, first + out, j, m);
            __m512 g = d->last ? v_set(load1(dy, first + out, d->bf16)) : v_load(dy, first + out + j, m, d->bf16);
            if (one_dim) {
                hit = first_only(d, hit, ties, out, j, m);
            } else {
                const __m512 n = d->last ? v_set(ties[out]) : _mm512_maskz_loadu_ps(m, ties + out + j);
                g = _mm512_div_ps(g, _mm512_max_ps(n, v_set(1.0f)));
            }
            v_store(c->out[0].data, at + j, m, d->bf16, _mm512_maskz_mov_ps(hit, g));
        }
        out = next_row(d, index, out);
    }
}

static void sum_bwd(const reduction *d, const kd_call *c, int64_t s, float norm)
{
    int64_t index[KD_MAX_RANK] = {0}, out = 0, at = s * d->rows * d->inner;
    for (int64_t r = 0; r < d->rows; r++, at += d->inner) {
        const int64_t from = s * d->outs + out;
        const __m512 whole = d->last ? v_set(load1(c->in[0].data, from, d->bf16) * norm) : v_set(norm);
        for (int64_t j = 0; j < d->inner; j += 16) {
            const __mmask16 m = v_mask(j, d->inner);
            const __m512 g = d->last ? whole : _mm512_mul_ps(v_load(c->in[0].data, from + j, m, d->bf16), whole);
            v_store(c->out[0].data, at + j, m, d->bf16, g);
        }
        out = next_row(d, index, out);
    }
}

static kd_status reduce_bwd_run(const kd_call *c)
{
    const kd_reduce_attr *a = c->attr;
    const bool one_dim = (a->axes & (a->axes - 1u)) == 0;
    reduction d;
    if (!reduction_of(a, &a->x_shape, c->in[0].dtype, &d)) {
        return KD_E_ARG;
    }
    const float norm = a->kind == KD_REDUCE_MEAN ? 1.0f / (float)d.count : 1.0f;
    KD_FAST_FOR
    for (int64_t s = 0; s < d.n; s++) {
        if (d.max) {
            max_bwd(&d, c, s, one_dim, (float *)c->scratch + s * d.outs);
        } else {
            sum_bwd(&d, c, s, norm);
        }
    }
    return KD_OK;
}

static size_t reduce_bwd_scratch(const kd_call *c)
{
    const kd_reduce_attr *a = c->attr;
    reduction d;
    return reduction_of(a, &a->x_shape, c->in[0].dtype, &d) && d.max ? (size_t)(d.n * d.outs) * sizeof(float) : 0;
}

static kd_status reduce_bwd_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const kd_reduce_attr *a = c->attr;
    reduction d;
    const kd_dtype t = c->in[0].dtype;
    const bool max = a->kind == KD_REDUCE_MAX, plus = c->n_in > 3 && c->in[3].data != NULL;
    const bool ok = kd_cpu_has(KD_CPU_V4) && (t == KD_F32 || t == KD_BF16) && c->accum == 0 && !plus &&
                    c->out[0].dtype == t && reduction_of(a, &a->x_shape, t, &d) &&
                    (!max || (c->in[1].dtype == t && c->in[2].dtype == t));
    return ok ? KD_OK : KD_E_UNSUPPORTED;
}

const kd_kernel_def kd_fast_reduce_v4 = {.run = reduce_run, .scratch = reduce_scratch, .prepare = reduce_prepare};
const kd_kernel_def kd_fast_reduce_bwd_v4 = {
    .run = reduce_bwd_run, .scratch = reduce_bwd_scratch, .prepare = reduce_bwd_prepare};
