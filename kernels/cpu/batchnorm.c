/* batchnorm (training), batchnorm_bwd, bn_update, batchnorm_eval.  A channel is one loop iteration:
 * sums run over samples in order, two passes for the variance. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/chunk.h"

typedef struct bn_dims {
    int64_t n, c, l; /* samples, channels, elements of a plane */
} bn_dims;

static bn_dims dims_of(const kd_tensor *x)
{
    const bn_dims d = {x->shape.dim[0], x->shape.dim[1],
                       kd_shape_span(&x->shape, 2, x->shape.rank)};
    return d;
}

/* sum over a row of (x - m)^2 */
static real squares(const act_t *restrict x, real m, int64_t n)
{
    real lane[KD_LANES] = {0};
    int64_t j = 0;
    for (; j + KD_LANES <= n; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            const real d = ld(x, j + l) - m;
            lane[l] += d * d;
        }
    }
    real s = kd_lanes_sum(lane);
    for (; j < n; j++) {
        s += (ld(x, j) - m) * (ld(x, j) - m);
    }
    return s;
}

/* y = (x - m) a + b; the subtraction comes first so that a large mean cancels exactly. */
static void affine(const act_t *restrict x, act_t *restrict y, real m, real a, real b, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        st(y, j, (ld(x, j) - m) * a + b);
    }
}

static kd_status batchnorm_run(const kd_call *c)
{
    const kd_batchnorm_attr *at = c->attr;
    const bn_dims d = dims_of(&c->in[0]);
    const act_t *x = c->in[0].data;
    const real *gamma = c->in[1].data, *beta = c->in[2].data;
    act_t *y = c->out[0].data;
    real *mean = c->out[1].data, *var = c->out[2].data;
    const real count = (real)(d.n * d.l);
    KD_FOR
    for (int64_t ch = 0; ch < d.c; ch++) {
        real m = R(0.0), v = R(0.0);
        for (int64_t s = 0; s < d.n; s++) {
            m += kd_sum_act(x + (s * d.c + ch) * d.l, d.l);
        }
        m /= count;
        for (int64_t s = 0; s < d.n; s++) {
            v += squares(x + (s * d.c + ch) * d.l, m, d.l);
        }
        v /= count;
        const real a = gamma[ch] / r_sqrt(v + (real)at->eps);
        for (int64_t s = 0; s < d.n && y != NULL; s++) {
            affine(x + (s * d.c + ch) * d.l, y + (s * d.c + ch) * d.l, m, a, beta[ch], d.l);
        }
        if (mean != NULL) {
            mean[ch] = m;
        }
        if (var != NULL) {
            var[ch] = v;
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(batchnorm) = {.run = batchnorm_run};

/* sum over a row of dy (x - m) */
static real centred_dot(const act_t *restrict dy, const act_t *restrict x, real m, int64_t n)
{
    real lane[KD_LANES] = {0};
    int64_t j = 0;
    for (; j + KD_LANES <= n; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            lane[l] += ld(dy, j + l) * (ld(x, j + l) - m);
        }
    }
    real s = kd_lanes_sum(lane);
    for (; j < n; j++) {
        s += ld(dy, j) * (ld(x, j) - m);
    }
    return s;
}

static kd_status batchnorm_bwd_run(const kd_call *c)
{
    const kd_batchnorm_attr *at = c->attr;
    const bn_dims d = dims_of(&c->in[1]);
    const act_t *dy = c->in[0].data, *x = c->in[1].data;
    const real *gamma = c->in[2].data, *mean = c->in[3].data, *var = c->in[4].data;
    act_t *dx = c->out[0].data;
    const real count = (real)(d.n * d.l);
    KD_FOR
    for (int64_t ch = 0; ch < d.c; ch++) {
        const real m = mean[ch], rstd = R(1.0) / r_sqrt(var[ch] + (real)at->eps);
        real sum = R(0.0), dot = R(0.0);
        for (int64_t s = 0; s < d.n; s++) {
            const int64_t at0 = (s * d.c + ch) * d.l;
            sum += kd_sum_act(dy + at0, d.l);
            dot += centred_dot(dy + at0, x + at0, m, d.l);
        }
        const real dgamma = dot * rstd;
        const real a = gamma[ch] * rstd, k = dgamma * rstd / count, mu = sum / count;
        for (int64_t s = 0; s < d.n && dx != NULL; s++) {
            const act_t *restrict g = dy + (s * d.c + ch) * d.l, *restrict v =
                                                                     x + (s * d.c + ch) * d.l;
            act_t *restrict o = dx + (s * d.c + ch) * d.l;
            for (int64_t j = 0; j < d.l; j++) {
                st(o, j, a * (ld(g, j) - mu - k * (ld(v, j) - m)));
            }
        }
        if (c->out[1].data != NULL) {
            kd_store(c, 1, ch, &dgamma, 1);
        }
        if (c->out[2].data != NULL) {
            kd_store(c, 2, ch, &sum, 1);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(batchnorm_bwd) = {.run = batchnorm_bwd_run};

static kd_status bn_update_run(const kd_call *c)
{
    const kd_batchnorm_attr *at = c->attr;
    const real *mean = c->in[0].data, *var = c->in[1].data;
    real *rm = c->in[2].data, *rv = c->in[3].data;
    const real p = (real)at->momentum;
    const real unbias = at->count > 1 ? (real)at->count / (real)(at->count - 1) : R(1.0);
    for (int64_t i = 0; i < numel(&c->in[0]); i++) {
        rm[i] = (R(1.0) - p) * rm[i] + p * mean[i];
        rv[i] = (R(1.0) - p) * rv[i] + p * (var[i] * unbias);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(bn_update) = {.run = bn_update_run};

static kd_status batchnorm_eval_run(const kd_call *c)
{
    const kd_batchnorm_attr *at = c->attr;
    const bn_dims d = dims_of(&c->in[0]);
    const act_t *x = c->in[0].data;
    const real *gamma = c->in[1].data, *beta = c->in[2].data, *rm = c->in[3].data,
               *rv = c->in[4].data;
    act_t *y = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < d.n * d.c; it++) {
        const int64_t ch = it % d.c;
        const real a = gamma[ch] / r_sqrt(rv[ch] + (real)at->eps);
        for (int64_t p = 0; p < d.l; p += KD_CHUNK) {
            real row[KD_CHUNK];
            const int64_t n = KD_MIN((int64_t)KD_CHUNK, d.l - p);
            for (int64_t j = 0; j < n; j++) {
                row[j] = (ld(x, it * d.l + p + j) - rm[ch]) * a + beta[ch];
            }
            kd_act_row(at->act, row, n);
            for (int64_t j = 0; j < n; j++) {
                st(y, it * d.l + p + j, row[j]);
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(batchnorm_eval) = {.run = batchnorm_eval_run};
