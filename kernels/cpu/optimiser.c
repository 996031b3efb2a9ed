/* optim_control, adamw, sgd, grad_norm, ema over flat slabs.  Scalars are rounded to `real` where PyTorch rounds
 * them. */
#include "kernels/cpu/chunk.h"

#define PIECE 4096

typedef struct segments {
    const int64_t *at; /* (S,2) */
    const float *f;    /* (S,2) */
    int64_t n;
} segments;

static segments segments_of(const kd_tensor *seg, const kd_tensor *seg_f)
{
    const segments s = {seg->data, seg_f->data, seg->shape.dim[0]};
    return s;
}

/* First segment that ends after element i. */
static int64_t first_after(const segments *s, int64_t i)
{
    int64_t lo = 0, hi = s->n;
    while (lo < hi) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (s->at[2 * mid] + s->at[2 * mid + 1] > i) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}

/* ---- control --------------------------------------------------------------------------------- */

static kd_status optim_control_run(const kd_call *c)
{
    const kd_optim_control_attr *at = c->attr;
    double *ctl = c->out[0].data;
    const double norm = sqrt(*(const double *)c->in[1].data) / ctl[KD_CTL_LOSS_SCALE];
    const bool finite = isfinite(norm) != 0;
    const double clip = at->clip > 0.0 ? at->clip / (norm + 1e-6) : 1.0;
    ctl[KD_CTL_NORM] = norm;
    ctl[KD_CTL_APPLY] = finite ? 1.0 : 0.0;
    ctl[KD_CTL_MULT] = (clip < 1.0 ? clip : 1.0) / ctl[KD_CTL_LOSS_SCALE];
    if (finite) {
        ctl[KD_CTL_T] += 1.0;
        ctl[KD_CTL_BIAS1] = 1.0 - pow(at->beta1, ctl[KD_CTL_T]);
        ctl[KD_CTL_BIAS2] = 1.0 - pow(at->beta2, ctl[KD_CTL_T]);
    } else {
        ctl[KD_CTL_SKIPPED] += 1.0;
    }
    if (at->grow_every > 0) {
        ctl[KD_CTL_GOOD] = finite ? ctl[KD_CTL_GOOD] + 1.0 : 0.0;
        const bool grow = ctl[KD_CTL_GOOD] >= (double)at->grow_every;
        if (!finite) {
            ctl[KD_CTL_LOSS_SCALE] = fmax(1.0, 0.5 * ctl[KD_CTL_LOSS_SCALE]);
        } else if (grow) {
            ctl[KD_CTL_LOSS_SCALE] = fmin(0x1p24, 2.0 * ctl[KD_CTL_LOSS_SCALE]);
            ctl[KD_CTL_GOOD] = 0.0;
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(optim_control) = {.run = optim_control_run};

static void follow(real *restrict ema, const real *restrict p, double decay, int64_t n)
{
    const real d = (real)decay, e = (real)(1.0 - decay);
    for (int64_t j = 0; j < n; j++) {
        ema[j] = d * ema[j] + e * p[j];
    }
}

static void shadow(const kd_call *c, int o, int64_t i, const real *restrict p, int64_t n)
{
    act_t *low = c->out[o].data;
    for (int64_t j = 0; low != NULL && j < n; j++) {
        st(low, i + j, p[j]);
    }
}

static inline real *slot(const kd_call *c, int o, int64_t i)
{
    return c->out[o].data == NULL ? NULL : (real *)c->out[o].data + i;
}

/* ---- adamw ----------------------------------------------------------------------------------- */

static void adamw_range(const kd_call *c, int64_t i, int64_t n, float factor, float wd)
{
    const kd_adamw_attr *at = c->attr;
    const double *ctl = c->in[8].data;
    const double lr = ctl[KD_CTL_LR] * (double)factor;
    const real keep = (real)(1.0 - lr * (double)wd), mult = (real)ctl[KD_CTL_MULT];
    const real w1 = (real)(1.0 - at->beta1), b2 = (real)at->beta2, w2 = (real)(1.0 - at->beta2);
    const real root = (real)sqrt(ctl[KD_CTL_BIAS2]), eps = (real)at->eps, step = (real)(-lr / ctl[KD_CTL_BIAS1]);
    real *restrict p = slot(c, 0, i), *restrict m = slot(c, 1, i), *restrict v = slot(c, 2, i);
    const real *restrict g = (const real *)c->in[5].data + i;
    for (int64_t j = 0; j < n; j++) {
        const real d = mult * g[j];
        const real m1 = m[j] + w1 * (d - m[j]);
        const real v1 = v[j] * b2 + w2 * d * d;
        const real den = r_sqrt(v1) / root + eps;
        m[j] = m1;
        v[j] = v1;
        p[j] = p[j] * keep + step * m1 / den;
    }
    if (c->out[3].data != NULL) {
        follow(slot(c, 3, i), p, at->ema_decay, n);
    }
    shadow(c, 4, i, p, n);
}

static void sgd_range(const kd_call *c, int64_t i, int64_t n, float factor, float decay)
{
    const kd_sgd_attr *at = c->attr;
    const double *ctl = c->in[7].data;
    const real lr = (real)(ctl[KD_CTL_LR] * (double)factor), wd = (real)decay, mult = (real)ctl[KD_CTL_MULT];
    const real mu = (real)at->momentum;
    real *restrict p = slot(c, 0, i), *restrict buf = slot(c, 1, i);
    const real *restrict g = (const real *)c->in[4].data + i;
    if (buf == NULL || at->momentum == 0.0) {
        for (int64_t j = 0; j < n; j++) {
            p[j] -= lr * (mult * g[j] + wd * p[j]);
        }
    } else {
        const bool first = ctl[KD_CTL_T] == 1.0;
        const real ahead = at->nesterov ? mu : R(1.0), own = at->nesterov ? R(1.0) : R(0.0);
        for (int64_t j = 0; j < n; j++) {
            const real d = mult * g[j] + wd * p[j];
            const real b = first ? d : mu * buf[j] + d;
            buf[j] = b;
            p[j] -= lr * (own * d + ahead * b);
        }
    }
    if (c->out[2].data != NULL) {
        follow(slot(c, 2, i), p, at->ema_decay, n);
    }
    shadow(c, 3, i, p, n);
}

/* Cut the slab into pieces that do not depend on the threads; each piece visits the segments inside it. */
static kd_status over_segments(const kd_call *c, int seg_at,
                               void (*range)(const kd_call *, int64_t, int64_t, float, float))
{
    const segments s = segments_of(&c->in[seg_at], &c->in[seg_at + 1]);
    if (((const double *)c->in[seg_at + 2].data)[KD_CTL_APPLY] == 0.0) {
        return KD_OK;
    }
    const int64_t n = numel(&c->in[0]);
    KD_FOR
    for (int64_t k = 0; k < (n + PIECE - 1) / PIECE; k++) {
        const int64_t lo = k * PIECE, hi = KD_MIN(n, lo + PIECE);
        for (int64_t i = first_after(&s, lo); i < s.n && s.at[2 * i] < hi; i++) {
            const int64_t a = KD_MAX(lo, s.at[2 * i]), b = KD_MIN(hi, s.at[2 * i] + s.at[2 * i + 1]);
            range(c, a, b - a, s.f[2 * i], s.f[2 * i + 1]);
        }
    }
    return KD_OK;
}

static kd_status adamw_run(const kd_call *c)
{
    return over_segments(c, 6, adamw_range);
}

const kd_kernel_def KD_K(adamw) = {.run = adamw_run};

static kd_status sgd_run(const kd_call *c)
{
    return over_segments(c, 5, sgd_range);
}

const kd_kernel_def KD_K(sgd) = {.run = sgd_run};

/* ---- grad_norm, ema -------------------------------------------------------------------------- */

static size_t grad_norm_scratch(const kd_call *c)
{
    return (size_t)((numel(&c->in[0]) + PIECE - 1) / PIECE) * sizeof(double);
}

static kd_status grad_norm_run(const kd_call *c)
{
    const int64_t n = numel(&c->in[0]), pieces = (n + PIECE - 1) / PIECE;
    double *part = c->scratch;
    KD_FOR
    for (int64_t k = 0; k < pieces; k++) {
        const real *g = (const real *)c->in[0].data + k * PIECE;
        const int64_t len = KD_MIN((int64_t)PIECE, n - k * PIECE);
        double lane[8] = {0.0};
        int64_t j = 0;
        for (; j + 8 <= len; j += 8) {
            for (int l = 0; l < 8; l++) {
                lane[l] += (double)g[j + l] * (double)g[j + l];
            }
        }
        for (; j < len; j++) {
            lane[0] += (double)g[j] * (double)g[j];
        }
        part[k] = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
    }
    double sum = 0.0;
    for (int64_t k = 0; k < pieces; k++) {
        sum += part[k];
    }
    *(double *)c->out[0].data = sum;
    return KD_OK;
}

const kd_kernel_def KD_K(grad_norm) = {.run = grad_norm_run, .scratch = grad_norm_scratch};

static kd_status ema_run(const kd_call *c)
{
    const kd_ema_attr *at = c->attr;
    const int64_t n = numel(&c->in[0]);
    if (((const double *)c->in[2].data)[KD_CTL_APPLY] == 0.0) {
        return KD_OK;
    }
    KD_FOR
    for (int64_t k = 0; k < (n + PIECE - 1) / PIECE; k++) {
        follow(slot(c, 0, k * PIECE), (const real *)c->in[1].data + k * PIECE, at->decay,
               KD_MIN((int64_t)PIECE, n - k * PIECE));
    }
    return KD_OK;
}

const kd_kernel_def KD_K(ema) = {.run = ema_run};
