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

/* The mean over valid rows, or 0 without any. */
static kd_status put_mean(const kd_call *c, real sum, int64_t n)
{
    put_any(c, 0, 0, n > 0 ? sum / (real)n : R(0.0));
    return KD_OK;
}

static void zero_row(const kd_call *c, int64_t b, int64_t K)
{
    for (int64_t k = 0; k < K; k++) {
        put_any(c, 0, b * K + k, R(0.0));
    }
}

/* ---- ce ----------------------------------------------------------------------------------------------------------- */

static kd_status ce_run(const kd_call *c)
{
    const int64_t B = c->in[0].shape.dim[0], K = c->in[0].shape.dim[1];
    const real *z = c->in[0].data, *t = c->in[1].data, *valid = optional(c, 2);
    real sum = R(0.0);
    for (int64_t b = 0; b < B; b++, z += K, t += K) {
        if (!row_valid(valid, b)) {
            continue;
        }
        const real lse = log_sum_exp(z, K, R(1.0));
        real row = R(0.0);
        for (int64_t k = 0; k < K; k++) {
            row += t[k] * (lse - z[k]);
        }
        sum += row;
    }
    return put_mean(c, sum, count_valid(valid, B));
}

const kd_kernel_def KD_K(ce) = {.run = ce_run};

static kd_status ce_bwd_run(const kd_call *c)
{
    const int64_t B = c->in[1].shape.dim[0], K = c->in[1].shape.dim[1];
    const real *valid = optional(c, 3);
    const int64_t n = count_valid(valid, B);
    const real d = n > 0 ? *(const real *)c->in[0].data / (real)n : R(0.0);
    KD_FOR
    for (int64_t b = 0; b < B; b++) {
        const real *z = (const real *)c->in[1].data + b * K,
                   *t = (const real *)c->in[2].data + b * K;
        if (!row_valid(valid, b)) {
            zero_row(c, b, K);
            continue;
        }
        const real lse = log_sum_exp(z, K, R(1.0));
        real mass = R(0.0);
        for (int64_t k = 0; k < K; k++) {
            mass += t[k];
        }
        for (int64_t k = 0; k < K; k++) {
            put_any(c, 0, b * K + k, d * (mass * r_exp(z[k] - lse) - t[k]));
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(ce_bwd) = {.run = ce_bwd_run};

/* ---- kd_kl -------------------------------------------------------------------------------------------------------- */

/* Teacher's log-probability offset: log p_k = t_k/T - lse; with t_is_prob the numbers are probabilities already. */
static real kl_row(const kd_kl_attr *at, const real *z, const real *t, int64_t K)
{
    const real inv_t = R(1.0) / (real)at->temperature;
    const real lz = log_sum_exp(z, K, inv_t);
    const real lt = at->t_is_prob ? R(0.0) : log_sum_exp(t, K, inv_t);
    real row = R(0.0);
    for (int64_t k = 0; k < K; k++) {
        const real logp = at->t_is_prob ? r_log(t[k]) : t[k] * inv_t - lt;
        const real p = at->t_is_prob ? t[k] : r_exp(logp);
        row += p == R(0.0) ? R(0.0) : p * (logp - (z[k] * inv_t - lz)); /* 0 log 0 is 0 */
    }
    return row;
}

static kd_status kd_kl_run(const kd_call *c)
{
    const kd_kl_attr *at = c->attr;
    const int64_t B = c->in[0].shape.dim[0], K = c->in[0].shape.dim[1];
    const real *z = c->in[0].data, *t = c->in[1].data, *valid = optional(c, 2);
    const real T = (real)at->temperature;
    real sum = R(0.0);
    for (int64_t b = 0; b < B; b++) {
        if (row_valid(valid, b)) {
            sum += kl_row(at, z + b * K, t + b * K, K);
        }
    }
    return put_mean(c, T * T * sum, count_valid(valid, B));
}

const kd_kernel_def KD_K(kd_kl) = {.run = kd_kl_run};

static kd_status kd_kl_bwd_run(const kd_call *c)
{
    const kd_kl_attr *at = c->attr;
    const int64_t B = c->in[1].shape.dim[0], K = c->in[1].shape.dim[1];
    const real *valid = optional(c, 3);
    const real T = (real)at->temperature, inv_t = R(1.0) / T;
    const int64_t n = count_valid(valid, B);
    const real d = n > 0 ? *(const real *)c->in[0].data * T / (real)n : R(0.0);
    KD_FOR
    for (int64_t b = 0; b < B; b++) {
        const real *z = (const real *)c->in[1].data + b * K,
                   *t = (const real *)c->in[2].data + b * K;
        if (!row_valid(valid, b)) {
            zero_row(c, b, K);
            continue;
        }
        const real lz = log_sum_exp(z, K, inv_t);
        const real lt = at->t_is_prob ? R(0.0) : log_sum_exp(t, K, inv_t);
        real mass = R(0.0);
        for (int64_t k = 0; k < K; k++) {
            mass += at->t_is_prob ? t[k] : r_exp(t[k] * inv_t - lt);
        }
        for (int64_t k = 0; k < K; k++) {
            const real p = at->t_is_prob ? t[k] : r_exp(t[k] * inv_t - lt);
            put_any(c, 0, b * K + k, d * (mass * r_exp(z[k] * inv_t - lz) - p));
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(kd_kl_bwd) = {.run = kd_kl_bwd_run};

/* ---- feature_loss --------------------------------------------------------------------------------------------------- */

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
    return put_mean(c, sum, count_valid(valid, B));
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
        const real *s = (const real *)c->in[1].data + b * P,
                   *f = (const real *)c->in[2].data + b * P;
        if (!row_valid(valid, b)) {
            zero_row(c, b, P);
        } else if (at->kind == KD_FEATURE_COSINE) {
            const cosine v = cosine_of(s, f, P);
            const real down = r_sqrt(v.ss) < v.ns
                                  ? R(0.0)
                                  : v.sf / (v.ns * v.nf * v.ss); /* a clamped norm is constant */
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

/* ---- weighted_sum --------------------------------------------------------------------------------------------------- */

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
