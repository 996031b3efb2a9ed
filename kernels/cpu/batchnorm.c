/* batchnorm (training), batchnorm_bwd, bn_update, batchnorm_eval.  A channel is one loop iteration:
 * sums run over samples in order, two passes for the variance.  The fused nodes after the affine map work on
 * rows of KD_CHUNK; without it the loops run over the operands themselves. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/chunk.h"
#include "kernels/cpu/drop.h"

typedef struct bn_dims {
    int64_t n, c, l; /* samples, channels, elements of a plane */
} bn_dims;

static bn_dims dims_of(const kd_tensor *x)
{
    const bn_dims d = {x->shape.dim[0], x->shape.dim[1], kd_shape_span(&x->shape, 2, x->shape.rank)};
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

/* ---- the fused nodes after the affine map ---------------------------------------------------- */

typedef struct bn_tail {
    const kd_batchnorm_attr *at;
    const kd_step *step;
    const act_t *residual;
    bool any;
} bn_tail;

static bn_tail tail_of(const kd_call *c, int residual)
{
    bn_tail t = {c->attr, c->step, kd_in(c, residual), false};
    t.any = t.at->act != KD_ACT_NONE || t.at->act_out != KD_ACT_NONE || t.at->p > 0.0f || t.at->path_p > 0.0f ||
            t.residual != NULL;
    return t;
}

/* x = path(drop(x)) for the n elements from `at` on, of sample s; the gradient goes the same way. */
static void drop(const bn_tail *t, int64_t s, int64_t at, real *x, int64_t n)
{
    if (t->at->p > 0.0f) {
        kd_drop_elements(t->step, t->at->p, t->at->rng_id, at, x, n);
    }
    if (t->at->path_p > 0.0f) {
        kd_drop_by(kd_drop_row(t->step, t->at->path_p, t->at->path_rng_id, s), x, n);
    }
}

/* From z to what act_out is applied to. */
static void to_sum(const bn_tail *t, int64_t s, int64_t at, real *z, int64_t n)
{
    kd_act_row(t->at->act, z, n);
    drop(t, s, at, z, n);
    for (int64_t j = 0; j < n && t->residual != NULL; j++) {
        z[j] += ld(t->residual, at + j);
    }
}

/* y of one plane, `at` its first element. */
static void tail_row(const bn_tail *t, const act_t *x, act_t *y, int64_t s, int64_t at, int64_t len, real m, real a,
                     real b)
{
    for (int64_t o = 0; o < len; o += KD_CHUNK) {
        real row[KD_CHUNK];
        const int64_t i = at + o, n = KD_MIN((int64_t)KD_CHUNK, len - o);
        for (int64_t j = 0; j < n; j++) {
            row[j] = (ld(x, i + j) - m) * a + b;
        }
        to_sum(t, s, i, row, n);
        kd_act_row(t->at->act_out, row, n);
        for (int64_t j = 0; j < n; j++) {
            st(y, i + j, row[j]);
        }
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

static void update_running(const kd_batchnorm_attr *at, real *rm, real *rv, real mean, real var)
{
    const real p = (real)at->momentum;
    const real unbias = at->count > 1 ? (real)at->count / (real)(at->count - 1) : R(1.0);
    *rm = (R(1.0) - p) * *rm + p * mean;
    *rv = (R(1.0) - p) * *rv + p * (var * unbias);
}

static void moments(const act_t *x, const bn_dims *d, int64_t ch, real *mean, real *var)
{
    const real count = (real)(d->n * d->l);
    real m = R(0.0), v = R(0.0);
    for (int64_t s = 0; s < d->n; s++) {
        m += kd_sum_act(x + (s * d->c + ch) * d->l, d->l);
    }
    m /= count;
    for (int64_t s = 0; s < d->n; s++) {
        v += squares(x + (s * d->c + ch) * d->l, m, d->l);
    }
    *mean = m;
    *var = v / count;
}

static kd_status batchnorm_run(const kd_call *c)
{
    const kd_batchnorm_attr *at = c->attr;
    const bn_dims d = dims_of(&c->in[0]);
    const bn_tail tail = tail_of(c, 3);
    const act_t *x = c->in[0].data;
    const real *gamma = c->in[1].data, *beta = c->in[2].data;
    act_t *y = c->out[0].data;
    real *mean = c->out[1].data, *var = c->out[2].data;
    real *rm = c->n_in > 4 ? c->in[4].data : NULL, *rv = c->n_in > 5 ? c->in[5].data : NULL;
    KD_FOR
    for (int64_t ch = 0; ch < d.c; ch++) {
        real m, v;
        moments(x, &d, ch, &m, &v);
        const real a = gamma[ch] / r_sqrt(v + (real)at->eps);
        for (int64_t s = 0; s < d.n && y != NULL; s++) {
            const int64_t i = (s * d.c + ch) * d.l;
            if (tail.any) {
                tail_row(&tail, x, y, s, i, d.l, m, a, beta[ch]);
            } else {
                affine(x + i, y + i, m, a, beta[ch], d.l);
            }
        }
        if (mean != NULL) {
            mean[ch] = m;
        }
        if (var != NULL) {
            var[ch] = v;
        }
        if (rm != NULL && rv != NULL) {
            update_running(at, &rm[ch], &rv[ch], m, v);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(batchnorm) = {.run = batchnorm_run};

/* ---- gradient -------------------------------------------------------------------------------- */

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

/* A channel of the gradient: z = (x - m) scale + shift. */
typedef struct bn_channel {
    const act_t *dy, *x;
    act_t *dx, *dres;
    real m, scale, shift;
} bn_channel;

/* v = x - m and g = dz of n elements from `at` on, of sample s; dresidual on the way, where it is wanted. */
static void gradient_of_z(const bn_tail *t, const bn_channel *ch, act_t *dres, int64_t s, int64_t at, real *restrict v,
                          real *restrict g, int64_t n)
{
    real z[KD_CHUNK], sum[KD_CHUNK];
    for (int64_t j = 0; j < n; j++) {
        v[j] = ld(ch->x, at + j) - ch->m;
        z[j] = sum[j] = v[j] * ch->scale + ch->shift;
        g[j] = ld(ch->dy, at + j);
    }
    if (t->at->act_out != KD_ACT_NONE) {
        to_sum(t, s, at, sum, n);
        kd_act_row_d(t->at->act_out, sum, g, n);
        for (int64_t j = 0; j < n && dres != NULL; j++) {
            st(dres, at + j, g[j]);
        }
    }
    drop(t, s, at, g, n);
    kd_act_row_d(t->at->act, z, g, n);
}

/* sums[0] += sum of dz, sums[1] += sum of dz (x - m), over a plane. */
static void tail_sums(const bn_tail *t, const bn_channel *ch, int64_t s, int64_t at, int64_t len, real *sums)
{
    for (int64_t o = 0; o < len; o += KD_CHUNK) {
        real v[KD_CHUNK], g[KD_CHUNK];
        const int64_t n = KD_MIN((int64_t)KD_CHUNK, len - o);
        gradient_of_z(t, ch, ch->dres, s, at + o, v, g, n);
        for (int64_t j = 0; j < n; j++) {
            sums[0] += g[j];
        }
        sums[1] += kd_dot(g, v, n);
    }
}

/* dx = a (dz - mu - k (x - m)) over a plane. */
static void tail_dx(const bn_tail *t, const bn_channel *ch, int64_t s, int64_t at, int64_t len, real a, real mu, real k)
{
    for (int64_t o = 0; o < len; o += KD_CHUNK) {
        real v[KD_CHUNK], g[KD_CHUNK];
        const int64_t n = KD_MIN((int64_t)KD_CHUNK, len - o);
        gradient_of_z(t, ch, NULL, s, at + o, v, g, n);
        for (int64_t j = 0; j < n; j++) {
            st(ch->dx, at + o + j, a * (g[j] - mu - k * v[j]));
        }
    }
}

static void plain_dx(const bn_channel *ch, int64_t at, int64_t len, real a, real mu, real k)
{
    const act_t *restrict g = ch->dy + at, *restrict v = ch->x + at;
    act_t *restrict o = ch->dx + at;
    const real m = ch->m;
    for (int64_t j = 0; j < len; j++) {
        st(o, j, a * (ld(g, j) - mu - k * (ld(v, j) - m)));
    }
}

/* Gradients of one channel: sums[0] dbeta, sums[1] dgamma / rstd; dx where it is wanted. */
static void channel_gradient(const bn_tail *t, const bn_dims *d, const bn_channel *ch, int64_t c0, real gamma,
                             real rstd, real *sums)
{
    const real count = (real)(d->n * d->l);
    for (int64_t s = 0; s < d->n; s++) {
        const int64_t at = (s * d->c + c0) * d->l;
        if (t->any) {
            tail_sums(t, ch, s, at, d->l, sums);
        } else {
            sums[0] += kd_sum_act(ch->dy + at, d->l);
            sums[1] += centred_dot(ch->dy + at, ch->x + at, ch->m, d->l);
        }
    }
    const real a = gamma * rstd, k = sums[1] * rstd * rstd / count, mu = sums[0] / count;
    for (int64_t s = 0; s < d->n && ch->dx != NULL; s++) {
        const int64_t at = (s * d->c + c0) * d->l;
        if (t->any) {
            tail_dx(t, ch, s, at, d->l, a, mu, k);
        } else {
            plain_dx(ch, at, d->l, a, mu, k);
        }
    }
}

static kd_status batchnorm_bwd_run(const kd_call *c)
{
    const kd_batchnorm_attr *at = c->attr;
    const bn_dims d = dims_of(&c->in[1]);
    const bn_tail tail = tail_of(c, 6);
    const real *gamma = c->in[2].data, *mean = c->in[3].data, *var = c->in[4].data;
    const real *beta = kd_in(c, 5);
    KD_FOR
    for (int64_t ch = 0; ch < d.c; ch++) {
        const real root = r_sqrt(var[ch] + (real)at->eps);
        const bn_channel of = {.dy = c->in[0].data,
                               .x = c->in[1].data,
                               .dx = c->out[0].data,
                               .dres = c->n_out > 3 ? c->out[3].data : NULL,
                               .m = mean[ch],
                               .scale = gamma[ch] / root,
                               .shift = beta != NULL ? beta[ch] : R(0.0)};
        const real rstd = R(1.0) / root;
        real sums[2] = {R(0.0), R(0.0)};
        channel_gradient(&tail, &d, &of, ch, gamma[ch], rstd, sums);
        sums[1] *= rstd;
        if (c->out[1].data != NULL) {
            kd_store(c, 1, ch, &sums[1], 1);
        }
        if (c->out[2].data != NULL) {
            kd_store(c, 2, ch, &sums[0], 1);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(batchnorm_bwd) = {.run = batchnorm_bwd_run};

static kd_status bn_update_run(const kd_call *c)
{
    const real *mean = c->in[0].data, *var = c->in[1].data;
    real *rm = c->in[2].data, *rv = c->in[3].data;
    for (int64_t i = 0; i < numel(&c->in[0]); i++) {
        update_running(c->attr, &rm[i], &rv[i], mean[i], var[i]);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(bn_update) = {.run = bn_update_run};

/* ---- evaluation ------------------------------------------------------------------------------ */

static kd_status batchnorm_eval_run(const kd_call *c)
{
    const kd_batchnorm_attr *at = c->attr;
    const bn_dims d = dims_of(&c->in[0]);
    const act_t *x = c->in[0].data;
    const real *gamma = c->in[1].data, *beta = c->in[2].data, *rm = c->in[3].data, *rv = c->in[4].data;
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

/* ---- bn_fold: W' = s W, b' = s (b - rm) + beta, s = gamma / sqrt(rv + eps) --------------------- */

static kd_status bn_fold_run(const kd_call *c)
{
    const kd_batchnorm_attr *a = c->attr;
    const act_t *w = c->in[0].data;
    const real *b = c->in[1].data, *gamma = c->in[2].data, *beta = c->in[3].data;
    const real *rm = c->in[4].data, *rv = c->in[5].data;
    act_t *wf = c->out[0].data;
    real *bf = c->out[1].data;
    const int64_t co = c->in[0].shape.dim[0];
    const int64_t row = kd_shape_span(&c->in[0].shape, 1, c->in[0].shape.rank);
    for (int64_t o = 0; o < co; o++) {
        const real s = gamma[o] / r_sqrt(rv[o] + (real)a->eps);
        for (int64_t i = 0; wf != NULL && i < row; i++) {
            st(wf, o * row + i, ld(w, o * row + i) * s);
        }
        if (bf != NULL) {
            bf[o] = ((b != NULL ? b[o] : R(0.0)) - rm[o]) * s + beta[o];
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(bn_fold) = {.run = bn_fold_run};
