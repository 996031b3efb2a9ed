/* sum_lead, reduce, softmax. */
#include "kernels/cpu/chunk.h"

static kd_status sum_lead_run(const kd_call *c)
{
    const int64_t n = numel(&c->out[0]), rows = n > 0 ? numel(&c->in[0]) / n : 0;
    KD_FOR
    for (int64_t k = 0; k < (n + 63) / 64; k++) {
        real s[64] = {0}, x[64];
        const int64_t o = k * 64, len = KD_MIN((int64_t)64, n - o);
        for (int64_t r = 0; r < rows; r++) {
            kd_load(x, &c->in[0], r * n + o, len);
            for (int64_t j = 0; j < len; j++) {
                s[j] += x[j];
            }
        }
        kd_store(c, 0, o, s, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(sum_lead) = {.run = sum_lead_run};

/* ---- reduce ---------------------------------------------------------------------------------- */

/* Neighbouring dims of one kind merged: x is walked as outer kept x inner kept, and for each the removed elements. */
typedef struct plan {
    int n_kept, n_gone;
    int64_t kept[KD_MAX_RANK], kept_stride[KD_MAX_RANK]; /* of x, last one innermost */
    int64_t gone[KD_MAX_RANK], gone_stride[KD_MAX_RANK];
    int64_t n_out, n_red;
} plan;

static plan make_plan(const kd_shape *x, uint32_t axes)
{
    plan p = {0};
    int64_t stride = kd_shape_numel(x);
    int last = -1;
    p.n_out = p.n_red = 1;
    for (int i = 0; i < x->rank; i++) {
        const int gone = (int)((axes >> i) & 1u);
        int64_t *dim = gone ? p.gone : p.kept, *str = gone ? p.gone_stride : p.kept_stride;
        int *count = gone ? &p.n_gone : &p.n_kept;
        stride = x->dim[i] > 0 ? stride / x->dim[i] : 0;
        if (gone != last) {
            dim[*count] = 1;
            (*count)++;
        }
        dim[*count - 1] *= x->dim[i];
        str[*count - 1] = stride;
        *(gone ? &p.n_red : &p.n_out) *= x->dim[i];
        last = gone;
    }
    return p;
}

static int64_t offset_of(int64_t i, int n, const int64_t *dim, const int64_t *stride)
{
    int64_t at = 0;
    for (int k = n - 1; k >= 0; k--) {
        at += i % dim[k] * stride[k];
        i /= dim[k];
    }
    return at;
}

/* Where removed element r lies; one removed dim, the usual case, without divisions. */
static inline int64_t gone_at(const plan *p, int64_t r)
{
    return p->n_gone == 1 ? r * p->gone_stride[0] : offset_of(r, p->n_gone, p->gone, p->gone_stride);
}

/* One piece of outputs whose innermost kept dim has stride 1 in x. */
static void reduce_columns(const kd_tensor *x, const plan *p, int32_t kind, int64_t base, real *acc, int64_t len)
{
    real v[KD_CHUNK];
    for (int64_t r = 0; r < p->n_red; r++) {
        kd_load(v, x, base + gone_at(p, r), len);
        if (r == 0) {
            memcpy(acc, v, (size_t)len * sizeof *acc);
        } else if (kind == KD_REDUCE_MAX) {
            for (int64_t j = 0; j < len; j++) {
                acc[j] = kd_max_nan(acc[j], v[j]);
            }
        } else {
            for (int64_t j = 0; j < len; j++) {
                acc[j] += v[j];
            }
        }
    }
}

/* One output whose removed elements are contiguous in x, in pieces. */
static real reduce_row(const kd_tensor *x, const plan *p, int32_t kind, int64_t base)
{
    const int64_t inner = p->gone[p->n_gone - 1];
    real lane[KD_LANES], v[KD_CHUNK];
    bool first = true;
    for (int l = 0; l < KD_LANES; l++) {
        lane[l] = R(0.0);
    }
    real m = R(0.0);
    for (int64_t r = 0; r < p->n_red; r += inner) {
        const int64_t at = base + gone_at(p, r);
        for (int64_t o = 0; o < inner; o += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, inner - o);
            kd_load(v, x, at + o, len);
            if (kind == KD_REDUCE_MAX) {
                m = first ? v[0] : m;
                for (int64_t j = 0; j < len; j++) {
                    m = kd_max_nan(m, v[j]);
                }
            } else {
                int64_t j = 0;
                for (; j + KD_LANES <= len; j += KD_LANES) {
                    for (int l = 0; l < KD_LANES; l++) {
                        lane[l] += v[j + l];
                    }
                }
                for (; j < len; j++) {
                    lane[j % KD_LANES] += v[j];
                }
            }
            first = false;
        }
    }
    return kind == KD_REDUCE_MAX ? m : kd_lanes_sum(lane);
}

static kd_status reduce_run(const kd_call *c)
{
    const kd_reduce_attr *at = c->attr;
    const kd_tensor *x = &c->in[0];
    const plan p = make_plan(&x->shape, at->axes);
    KD_ASSERT(p.n_red > 0);
    const bool columns = p.n_kept > 0 && p.kept_stride[p.n_kept - 1] == 1;
    const int64_t inner = columns ? p.kept[p.n_kept - 1] : 1;
    const int64_t per = kd_chunks(inner), pieces = inner > 0 ? p.n_out / inner * per : 0;
    const real norm = at->kind == KD_REDUCE_MEAN ? R(1.0) / (real)p.n_red : R(1.0);
    KD_FOR
    for (int64_t k = 0; k < pieces; k++) {
        real acc[KD_CHUNK];
        const int64_t off = k % per * KD_CHUNK, len = KD_MIN((int64_t)KD_CHUNK, inner - off);
        const int64_t o = k / per * inner + off;
        const int64_t base = offset_of(o, p.n_kept, p.kept, p.kept_stride);
        if (columns) {
            reduce_columns(x, &p, at->kind, base, acc, len);
        } else {
            acc[0] = reduce_row(x, &p, at->kind, base);
        }
        for (int64_t j = 0; at->kind == KD_REDUCE_MEAN && j < len; j++) {
            acc[j] *= norm;
        }
        kd_store(c, 0, o, acc, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(reduce) = {.run = reduce_run};

/* Gradient of output o (at `base` in x) to the maxima: all ties evenly, or the first one when one dim was removed. */
static void max_bwd(const kd_call *c, const plan *p, bool one_dim, int64_t o, int64_t base)
{
    const kd_tensor *x = &c->in[1], *plus = kd_in(c, 3) != NULL ? &c->in[3] : NULL;
    const real d = ld_any(&c->in[0], o), y = ld_any(&c->in[2], o);
    int64_t ties = 0;
    for (int64_t r = 0; r < p->n_red; r++) {
        ties += kd_is_max(ld_any(x, base + gone_at(p, r)), y);
    }
    const real share = one_dim ? d : d / (real)KD_MAX(ties, 1);
    bool given = false;
    for (int64_t r = 0; r < p->n_red; r++) {
        const int64_t i = base + gone_at(p, r);
        const bool hit = kd_is_max(ld_any(x, i), y) && !(one_dim && given);
        given = given || hit;
        put_any(c, 0, i, (hit ? share : R(0.0)) + (plus != NULL ? ld_any(plus, i) : R(0.0)));
    }
}

static kd_status reduce_bwd_run(const kd_call *c)
{
    const kd_reduce_attr *at = c->attr;
    const plan p = make_plan(&at->x_shape, at->axes);
    const int64_t inner = at->x_shape.dim[at->x_shape.rank - 1];
    const int64_t n = kd_shape_numel(&at->x_shape);
    const real norm = at->kind == KD_REDUCE_MEAN ? R(1.0) / (real)p.n_red : R(1.0);
    const kd_tensor *plus = kd_in(c, 3) != NULL ? &c->in[3] : NULL;
    if (n == 0) {
        return KD_OK;
    }
    if (at->kind == KD_REDUCE_MAX) {
        const bool one_dim = (at->axes & (at->axes - 1u)) == 0;
        KD_FOR
        for (int64_t o = 0; o < p.n_out; o++) {
            max_bwd(c, &p, one_dim, o, offset_of(o, p.n_kept, p.kept, p.kept_stride));
        }
        return KD_OK;
    }
    const bool gone_last = ((at->axes >> (at->x_shape.rank - 1)) & 1u) != 0;
    KD_FOR
    for (int64_t row = 0; row < n / inner; row++) { /* a row of x: one dy repeated, or a run of them */
        real v[KD_CHUNK], more[KD_CHUNK];
        int64_t o = 0, rest = row, mul = gone_last ? 1 : inner;
        for (int i = at->x_shape.rank - 2; i >= 0; i--) {
            if (((at->axes >> i) & 1u) == 0) {
                o += rest % at->x_shape.dim[i] * mul;
                mul *= at->x_shape.dim[i];
            }
            rest /= at->x_shape.dim[i];
        }
        for (int64_t j = 0; j < inner; j += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, inner - j);
            if (gone_last) {
                const real d = ld_any(&c->in[0], o) * norm;
                for (int64_t l = 0; l < len; l++) {
                    v[l] = d;
                }
            } else {
                kd_load(v, &c->in[0], o + j, len);
                for (int64_t l = 0; l < len; l++) {
                    v[l] *= norm;
                }
            }
            if (plus != NULL) {
                kd_load(more, plus, row * inner + j, len);
                for (int64_t l = 0; l < len; l++) {
                    v[l] += more[l];
                }
            }
            kd_store(c, 0, row * inner + j, v, len);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(reduce_bwd) = {.run = reduce_bwd_run};

/* ---- softmax --------------------------------------------------------------------------------- */

static kd_status softmax_run(const kd_call *c)
{
    const kd_softmax_attr *at = c->attr;
    const kd_tensor *x = &c->in[0];
    const int64_t K = x->shape.dim[x->shape.rank - 1], rows = K > 0 ? numel(x) / K : 0;
    KD_FOR
    for (int64_t r = 0; r < rows; r++) {
        real v[KD_CHUNK];
        real m = ld_any(x, r * K), sum = R(0.0);
        for (int64_t o = 0; o < K; o += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, K - o);
            kd_load(v, x, r * K + o, len);
            for (int64_t j = 0; j < len; j++) {
                m = kd_max_nan(m, v[j]);
            }
        }
        for (int64_t o = 0; o < K; o += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, K - o);
            kd_load(v, x, r * K + o, len);
            for (int64_t j = 0; j < len; j++) {
                sum += r_exp(v[j] - m);
            }
        }
        const real norm = (real)at->out_scale / sum;
        for (int64_t o = 0; o < K; o += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, K - o);
            kd_load(v, x, r * K + o, len);
            for (int64_t j = 0; j < len; j++) {
                v[j] = r_exp(v[j] - m) * norm;
            }
            kd_store(c, 0, r * K + o, v, len);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(softmax) = {.run = softmax_run};

/* dx = y (dy - sum_k dy y / out_scale): y is out_scale times the probabilities. */
static kd_status softmax_bwd_run(const kd_call *c)
{
    const kd_softmax_attr *at = c->attr;
    const kd_tensor *dy = &c->in[0], *y = &c->in[1];
    const int64_t K = y->shape.dim[y->shape.rank - 1], rows = K > 0 ? numel(y) / K : 0;
    KD_FOR
    for (int64_t r = 0; r < rows; r++) {
        real p[KD_CHUNK], d[KD_CHUNK];
        real dot = R(0.0);
        for (int64_t o = 0; o < K; o += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, K - o);
            kd_load(p, y, r * K + o, len);
            kd_load(d, dy, r * K + o, len);
            dot += kd_dot(p, d, len);
        }
        dot /= (real)at->out_scale;
        for (int64_t o = 0; o < K; o += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, K - o);
            kd_load(p, y, r * K + o, len);
            kd_load(d, dy, r * K + o, len);
            for (int64_t j = 0; j < len; j++) {
                d[j] = p[j] * (d[j] - dot);
            }
            kd_store(c, 0, r * K + o, d, len);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(softmax_bwd) = {.run = softmax_bwd_run};
