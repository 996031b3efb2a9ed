/* Losses over (B, K) in the stat dtype.  Rows are summed in order; a row that is not valid is not read. */
#include "kernels/cpu/chunk.h"

static const real *optional(const kd_call *c, int i)
{
    return i < c->n_in ? c->in[i].data : NULL;
}

static inline bool row_valid(const real *valid, int64_t b)
{
    return valid == NULL || valid[b] != R(0.0);
}

static int64_t count_valid(const real *valid, int64_t B)
{
    int64_t n = 0;
    for (int64_t b = 0; b < B; b++) {
        n += row_valid(valid, b);
    }
    return n;
}

/* log sum exp of z/T, with the maximum taken out; NaN stays NaN. */
static real log_sum_exp(const real *z, int64_t K, real inv_t)
{
    real m = z[0], s = R(0.0);
    for (int64_t k = 1; k < K; k++) {
        m = z[k] > m ? z[k] : m;
    }
    for (int64_t k = 0; k < K; k++) {
        s += r_exp((z[k] - m) * inv_t);
    }
    return m * inv_t + r_log(s);
}

/* The mean over valid rows, or 0 without any, to output o. */
static void put_mean(const kd_call *c, int o, real sum, int64_t n)
{
    put_any(c, o, 0, n > 0 ? sum / (real)n : R(0.0));
}

static void zero_row(const kd_call *c, int64_t b, int64_t K)
{
    for (int64_t k = 0; k < K; k++) {
        put_any(c, 0, b * K + k, R(0.0));
    }
}

/* ---- class_loss ------------------------------------------------------------------------------ */

typedef struct class_rows { /* operands from z on; absent ones NULL */
    const real *z, *target, *valid, *teacher, *teacher_valid;
    int64_t B, K;
    real T;       /* temperature of the teacher's term */
    bool is_prob; /* teacher holds probabilities already */
} class_rows;

static class_rows class_rows_of(const kd_call *c, int z)
{
    const kd_class_loss_attr *at = c->attr;
    const bool taught = optional(c, z + 3) != NULL;
    return (class_rows){.z = c->in[z].data,
                        .target = optional(c, z + 1),
                        .valid = optional(c, z + 2),
                        .teacher = optional(c, z + 3),
                        .teacher_valid = optional(c, z + 4),
                        .B = c->in[z].shape.dim[0],
                        .K = c->in[z].shape.dim[1],
                        .T = taught ? (real)at->temperature : R(1.0),
                        .is_prob = at->t_is_prob != 0};
}

static real ce_row(const real *z, const real *t, int64_t K)
{
    const real lse = log_sum_exp(z, K, R(1.0));
    real row = R(0.0);
    for (int64_t k = 0; k < K; k++) {
        row += t[k] * (lse - z[k]);
    }
    return row;
}

/* Teacher's log-probability: log p_k = t_k/T - lse; of probabilities their logarithm. */
static real kl_row(const class_rows *r, const real *z, const real *t)
{
    const real inv_t = R(1.0) / r->T;
    const real lz = log_sum_exp(z, r->K, inv_t);
    const real lt = r->is_prob ? R(0.0) : log_sum_exp(t, r->K, inv_t);
    real row = R(0.0);
    for (int64_t k = 0; k < r->K; k++) {
        const real logp = r->is_prob ? r_log(t[k]) : t[k] * inv_t - lt;
        const real p = r->is_prob ? t[k] : r_exp(logp);
        row += p == R(0.0) ? R(0.0) : p * (logp - (z[k] * inv_t - lz)); /* 0 log 0 is 0 */
    }
    return row;
}

static kd_status class_loss_run(const kd_call *c)
{
    const class_rows r = class_rows_of(c, 0);
    real ce = R(0.0), kl = R(0.0);
    for (int64_t b = 0; b < r.B; b++) {
        if (c->out[0].data != NULL && row_valid(r.valid, b)) {
            KD_ASSERT(r.target != NULL);
            ce += ce_row(r.z + b * r.K, r.target + b * r.K, r.K);
        }
        if (c->out[1].data != NULL && row_valid(r.teacher_valid, b)) {
            KD_ASSERT(r.teacher != NULL);
            kl += kl_row(&r, r.z + b * r.K, r.teacher + b * r.K);
        }
    }
    if (c->out[0].data != NULL) {
        put_mean(c, 0, ce, count_valid(r.valid, r.B));
    }
    if (c->out[1].data != NULL) {
        put_mean(c, 1, r.T * r.T * kl, count_valid(r.teacher_valid, r.B));
    }
    return KD_OK;
}

const kd_kernel_def KD_K(class_loss) = {.run = class_loss_run};

/* Factors of a row's gradient d (mass softmax(z/T) - p).  `on`: the term exists and the row is valid. */
typedef struct class_term {
    bool on;
    real d, lse, mass;
    real t_lse; /* teacher: log sum exp of t/T */
} class_term;

static class_term ce_term(const class_rows *r, int64_t b, const real *d)
{
    class_term s = {.on = d != NULL && row_valid(r->valid, b)};
    if (s.on) {
        KD_ASSERT(r->target != NULL);
        s.d = *d;
        s.lse = log_sum_exp(r->z + b * r->K, r->K, R(1.0));
        for (int64_t k = 0; k < r->K; k++) {
            s.mass += r->target[b * r->K + k];
        }
    }
    return s;
}

static real teacher_p(const class_rows *r, const class_term *s, int64_t i, real inv_t)
{
    return r->is_prob ? r->teacher[i] : r_exp(r->teacher[i] * inv_t - s->t_lse);
}

static class_term kl_term(const class_rows *r, int64_t b, const real *d)
{
    class_term s = {.on = d != NULL && row_valid(r->teacher_valid, b)};
    if (s.on) {
        KD_ASSERT(r->teacher != NULL);
        const real inv_t = R(1.0) / r->T;
        s.d = *d;
        s.lse = log_sum_exp(r->z + b * r->K, r->K, inv_t);
        s.t_lse = r->is_prob ? R(0.0) : log_sum_exp(r->teacher + b * r->K, r->K, inv_t);
        for (int64_t k = 0; k < r->K; k++) {
            s.mass += teacher_p(r, &s, b * r->K + k, inv_t);
        }
    }
    return s;
}

/* factor * dloss over the number of valid rows; NULL (in place of a pointer to it) when the term has no gradient. */
static const real *row_gradient(const real *dloss, const real *valid, int64_t B, real factor, real *d)
{
    const int64_t n = count_valid(valid, B);
    if (dloss != NULL) {
        *d = n > 0 ? *dloss * factor / (real)n : R(0.0);
    }
    return dloss != NULL ? d : NULL;
}

static kd_status class_loss_bwd_run(const kd_call *c)
{
    const class_rows r = class_rows_of(c, 2);
    real d[2];
    const real *dce = row_gradient(optional(c, 0), r.valid, r.B, R(1.0), &d[0]);
    const real *dkl = row_gradient(optional(c, 1), r.teacher_valid, r.B, r.T, &d[1]);
    KD_FOR
    for (int64_t b = 0; b < r.B; b++) {
        const class_term ce = ce_term(&r, b, dce), kl = kl_term(&r, b, dkl);
        KD_ASSERT((!kl.on || r.teacher != NULL) && (!ce.on || r.target != NULL));
        const real inv_t = R(1.0) / r.T;
        for (int64_t i = b * r.K; i < (b + 1) * r.K; i++) {
            real g = R(0.0);
            if (kl.on) {
                g = kl.d * (kl.mass * r_exp(r.z[i] * inv_t - kl.lse) - teacher_p(&r, &kl, i, inv_t));
            }
            if (ce.on) {
                g += ce.d * (ce.mass * r_exp(r.z[i] - ce.lse) - r.target[i]);
            }
            put_any(c, 0, i, g);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(class_loss_bwd) = {.run = class_loss_bwd_run};

/* ---- feature_loss ---------------------------------------------------------------------------- */

typedef struct cosine {
    real ss, ff, sf; /* squared norms (unclamped), dot product */
    real ns, nf;     /* norms, clamped from below */
} cosine;

static cosine cosine_of(const real *s, const real *f, int64_t P)
{
    const real least = R(1e-8);
    cosine v = {kd_dot(s, s, P), kd_dot(f, f, P), kd_dot(s, f, P), R(0.0), R(0.0)};
    const real a = r_sqrt(v.ss), b = r_sqrt(v.ff);
    v.ns = a < least ? least : a;
    v.nf = b < least ? least : b;
    return v;
}

static kd_status feature_loss_run(const kd_call *c)
{
    const kd_feature_loss_attr *at = c->attr;
    const int64_t B = c->in[0].shape.dim[0], P = c->in[0].shape.dim[1];
    const real *s = c->in[0].data, *f = c->in[1].data, *valid = optional(c, 2);
    real sum = R(0.0);
    for (int64_t b = 0; b < B; b++, s += P, f += P) {
        if (!row_valid(valid, b)) {
            continue;
        }
        if (at->kind == KD_FEATURE_COSINE) {
            const cosine v = cosine_of(s, f, P);
            sum += R(1.0) - v.sf / (v.ns * v.nf);
        } else {
            real row = R(0.0);
            for (int64_t k = 0; k < P; k++) {
                row += (s[k] - f[k]) * (s[k] - f[k]);
            }
            sum += row / (real)P;
        }
    }
    put_mean(c, 0, sum, count_valid(valid, B));
    return KD_OK;
}

const kd_kernel_def KD_K(feature_loss) = {.run = feature_loss_run};

static kd_status feature_loss_bwd_run(const kd_call *c)
{
    const kd_feature_loss_attr *at = c->attr;
    const int64_t B = c->in[1].shape.dim[0], P = c->in[1].shape.dim[1];
    const real *valid = optional(c, 3);
    const int64_t n = count_valid(valid, B);
    const real d = n > 0 ? *(const real *)c->in[0].data / (real)n : R(0.0);
    KD_FOR
    for (int64_t b = 0; b < B; b++) {
        const real *s = (const real *)c->in[1].data + b * P, *f = (const real *)c->in[2].data + b * P;
        if (!row_valid(valid, b)) {
            zero_row(c, b, P);
        } else if (at->kind == KD_FEATURE_COSINE) {
            const cosine v = cosine_of(s, f, P);
            const real down =
                r_sqrt(v.ss) < v.ns ? R(0.0) : v.sf / (v.ns * v.nf * v.ss); /* a clamped norm is constant */
            for (int64_t k = 0; k < P; k++) {
                put_any(c, 0, b * P + k, -d * (f[k] / (v.ns * v.nf) - s[k] * down));
            }
        } else {
            for (int64_t k = 0; k < P; k++) {
                put_any(c, 0, b * P + k, d * R(2.0) * (s[k] - f[k]) / (real)P);
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(feature_loss_bwd) = {.run = feature_loss_bwd_run};

/* ---- weighted_sum ---------------------------------------------------------------------------- */

static kd_status weighted_sum_run(const kd_call *c)
{
    const kd_weighted_sum_attr *at = c->attr;
    real s = R(0.0);
    for (int i = 0; i < c->n_in; i++) {
        if (c->in[i].data != NULL) {
            s += (real)at->w[i] * *(const real *)c->in[i].data;
        }
    }
    put_any(c, 0, 0, s);
    return KD_OK;
}

const kd_kernel_def KD_K(weighted_sum) = {.run = weighted_sum_run};
