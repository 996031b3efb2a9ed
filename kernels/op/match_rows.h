/* match_loss, the kinds whose rows stand alone, and what all kinds share.  One source for the processor and for cards:
 * whoever includes this file says what an operand holds and how work is dealt to threads.  Everything is computed in
 * f64, because relations between rows are differences of nearly equal numbers.
 *
 *   KD_MATCH_REAL        float or double
 *   KD_MATCH_FN          before a function
 *   KD_MATCH_EACH(i, n)  the loop of a phase, whose iterations write disjoint numbers
 *   KD_MATCH_SYNC()      between phases
 */
#ifndef KD_KERNELS_OP_MATCH_ROWS_H
#define KD_KERNELS_OP_MATCH_ROWS_H

#include "kernels/kd_ops.h"

#include <math.h>

#ifndef KD_MATCH_REAL
#    define KD_MATCH_REAL       double
#    define KD_MATCH_FN         static inline
#    define KD_MATCH_EACH(i, n) for (int64_t i = 0; i < (n); i++)
#    define KD_MATCH_SYNC()
#endif

/* The operands of a call; target, valid and grad may be NULL. */
typedef struct kd_match {
    kd_match_loss_attr at;
    int64_t B, K, P; /* a (B,K), b (B,P) */
    int64_t C;       /* rows of b: B but for CLASS_EMBED */
    const KD_MATCH_REAL *a, *b, *target, *valid;
    KD_MATCH_REAL *grad; /* (B,K) */
    double *work;        /* [kd_match_work]; the first B numbers: the value of each row */
} kd_match;

KD_MATCH_FN bool kd_match_on(const kd_match *m, int64_t row)
{
    return m->valid == NULL || m->valid[row] != (KD_MATCH_REAL)0;
}

KD_MATCH_FN int64_t kd_match_count(const kd_match *m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < m->B; i++) {
        n += kd_match_on(m, i) ? 1 : 0;
    }
    return n;
}

KD_MATCH_FN void kd_match_put(const kd_match *m, int64_t row, int64_t k, double v)
{
    if (m->grad != NULL) {
        m->grad[row * m->K + k] = (KD_MATCH_REAL)v;
    }
}

KD_MATCH_FN void kd_match_zero(const kd_match *m, int64_t row)
{
    for (int64_t k = 0; k < m->K; k++) {
        kd_match_put(m, row, k, 0.0);
    }
}

/* ---- softened scores ------------------------------------------------------------------------- */

KD_MATCH_FN double kd_match_z(const kd_match *m, int64_t row, int64_t k, double t)
{
    return (double)m->a[row * m->K + k] / t;
}

/* Up to a constant of the row, the teacher's log-probability. */
KD_MATCH_FN double kd_match_t(const kd_match *m, int64_t row, int64_t k, double t)
{
    const double x = (double)m->b[row * m->K + k];
    return m->at.t_is_prob != 0 ? log(x) : x / t;
}

/* log sum exp over a row without class `skip` (-1: all classes); -inf: of nothing. */
KD_MATCH_FN double kd_match_lse(const kd_match *m, int64_t row, bool teacher, double t, int64_t skip)
{
    double top = -(double)INFINITY, sum = 0.0;
    for (int64_t k = 0; k < m->K; k++) {
        const double x = teacher ? kd_match_t(m, row, k, t) : kd_match_z(m, row, k, t);
        top = k != skip && (x > top || x != x) ? x : top;
    }
    if (top == -(double)INFINITY) {
        return top;
    }
    for (int64_t k = 0; k < m->K; k++) {
        const double x = teacher ? kd_match_t(m, row, k, t) : kd_match_z(m, row, k, t);
        sum += k != skip ? exp(x - top) : 0.0;
    }
    return top + log(sum);
}

/* q (log q - log p); 0 log 0 is 0. */
KD_MATCH_FN double kd_match_kl(double q, double log_q, double log_p)
{
    return q == 0.0 ? 0.0 : q * (log_q - log_p);
}

/* The class of a row: the largest entry of its target, the first of equals. */
KD_MATCH_FN int64_t kd_match_class(const kd_match *m, int64_t row)
{
    int64_t y = 0;
    for (int64_t k = 1; k < m->K; k++) {
        y = m->target[row * m->K + k] > m->target[row * m->K + y] ? k : y;
    }
    return y;
}

/* ---- the kinds; each returns the value of a row and puts its gradient times `by` --------------- */

/* Softmaxes of a row split at its class. */
typedef struct kd_match_split {
    int64_t y;
    double lz, lzn, lt, ltn; /* log sum exp of all classes and of all but y */
    double mass;             /* of the teacher's other classes, renormalised: 1, or 0 where it gives them nothing */
} kd_match_split;

KD_MATCH_FN kd_match_split kd_match_split_of(const kd_match *m, int64_t row, double t)
{
    kd_match_split s;
    s.y = kd_match_class(m, row);
    s.lz = kd_match_lse(m, row, false, t, -1);
    s.lzn = kd_match_lse(m, row, false, t, s.y);
    s.lt = kd_match_lse(m, row, true, t, -1);
    s.ltn = kd_match_lse(m, row, true, t, s.y);
    s.mass = s.ltn == -(double)INFINITY ? 0.0 : 1.0;
    return s;
}

KD_MATCH_FN double kd_match_rest(const kd_match *m, const kd_match_split *s, int64_t row, int64_t k, double t)
{
    return s->mass == 0.0 ? 0.0 : exp(kd_match_t(m, row, k, t) - s->ltn);
}

KD_MATCH_FN double kd_match_dkd(const kd_match *m, int64_t row, double by)
{
    const double t = m->at.p[0], alpha = m->at.p[1], beta = m->at.p[2];
    const kd_match_split s = kd_match_split_of(m, row, t);
    const double log_q = kd_match_t(m, row, s.y, t) - s.lt, log_p = kd_match_z(m, row, s.y, t) - s.lz;
    const double q = exp(log_q), p = exp(log_p);
    double rest = 0.0;
    for (int64_t k = 0; k < m->K; k++) {
        if (k == s.y) {
            kd_match_put(m, row, k, by * t * alpha * (p - q));
            continue;
        }
        const double qk = kd_match_rest(m, &s, row, k, t), log_pk = kd_match_z(m, row, k, t) - s.lzn;
        rest += kd_match_kl(qk, kd_match_t(m, row, k, t) - s.ltn, log_pk);
        kd_match_put(m, row, k, by * t * (alpha * (q - p) * exp(log_pk) + beta * (s.mass * exp(log_pk) - qk)));
    }
    const double two =
        kd_match_kl(q, log_q, log_p) + kd_match_kl(s.mass * exp(s.ltn - s.lt), s.ltn - s.lt, s.lzn - s.lz);
    return t * t * (alpha * two + beta * rest);
}

KD_MATCH_FN double kd_match_nkd(const kd_match *m, int64_t row, double by)
{
    const double t = m->at.p[0], gamma = m->at.p[1];
    const kd_match_split s = kd_match_split_of(m, row, t);
    const double lz = kd_match_lse(m, row, false, 1.0, -1), lt = kd_match_lse(m, row, true, 1.0, -1);
    const double q = exp(kd_match_t(m, row, s.y, 1.0) - lt);
    double rest = 0.0;
    for (int64_t k = 0; k < m->K; k++) {
        const double p = exp(kd_match_z(m, row, k, 1.0) - lz);
        if (k == s.y) {
            kd_match_put(m, row, k, by * q * (p - 1.0));
            continue;
        }
        const double qk = kd_match_rest(m, &s, row, k, t), log_pk = kd_match_z(m, row, k, t) - s.lzn;
        rest -= qk == 0.0 ? 0.0 : qk * log_pk;
        kd_match_put(m, row, k, by * (q * p + gamma * t * (s.mass * exp(log_pk) - qk)));
    }
    return q * (lz - kd_match_z(m, row, s.y, 1.0)) + gamma * t * t * rest;
}

/* Mean of a row, its deviation (n - 1), and what standardising divides by. */
typedef struct kd_match_moments {
    double mean, std, by;
} kd_match_moments;

KD_MATCH_FN kd_match_moments kd_match_moments_of(const KD_MATCH_REAL *x, int64_t n)
{
    kd_match_moments r = {0.0, 0.0, 0.0};
    for (int64_t k = 0; k < n; k++) {
        r.mean += (double)x[k] / (double)n;
    }
    for (int64_t k = 0; k < n; k++) {
        r.std += ((double)x[k] - r.mean) * ((double)x[k] - r.mean);
    }
    r.std = n > 1 ? sqrt(r.std / (double)(n - 1)) : 0.0;
    r.by = r.std + 1e-7;
    return r;
}

KD_MATCH_FN double kd_match_logit_std(const kd_match *m, int64_t row, double by)
{
    const double t = m->at.p[0];
    const KD_MATCH_REAL *z = m->a + row * m->K, *u = m->b + row * m->K;
    const kd_match_moments mz = kd_match_moments_of(z, m->K), mu = kd_match_moments_of(u, m->K);
    double sz = 0.0, su = 0.0, value = 0.0, sum = 0.0,
           dot = 0.0; /* a standardised score is at most sqrt(K): exp fits */
    for (int64_t k = 0; k < m->K; k++) {
        sz += exp(((double)z[k] - mz.mean) / mz.by / t);
        su += exp(((double)u[k] - mu.mean) / mu.by / t);
    }
    for (int64_t k = 0; k < m->K; k++) {
        const double xz = ((double)z[k] - mz.mean) / mz.by, xu = ((double)u[k] - mu.mean) / mu.by;
        const double p = exp(xz / t) / sz, q = exp(xu / t) / su, g = t * (p - q);
        value += kd_match_kl(q, xu / t - log(su), xz / t - log(sz));
        sum += g;
        dot += g * xz;
    }
    const double slope = mz.std > 0.0 || mz.std != mz.std ? dot / ((double)(m->K - 1) * mz.std) : 0.0;
    for (int64_t k = 0; k < m->K; k++) {
        const double xz = ((double)z[k] - mz.mean) / mz.by, xu = ((double)u[k] - mu.mean) / mu.by;
        const double g = t * (exp(xz / t) / sz - exp(xu / t) / su);
        kd_match_put(m, row, k, by * ((g - sum / (double)m->K) / mz.by - slope * xz));
    }
    return t * t * value;
}

KD_MATCH_FN double kd_match_logit_mse(const kd_match *m, int64_t row, double by)
{
    double value = 0.0;
    for (int64_t k = 0; k < m->K; k++) {
        const double d = (double)m->a[row * m->K + k] - (double)m->b[row * m->K + k];
        value += d * d / (double)m->K;
        kd_match_put(m, row, k, by * 2.0 * d / (double)m->K);
    }
    return value;
}

/* The last of the at.k largest of the teacher's row; of equals the first come first. */
KD_MATCH_FN int64_t kd_match_last_top(const kd_match *m, int64_t row)
{
    const KD_MATCH_REAL *t = m->b + row * m->K;
    int64_t last = -1;
    for (int32_t i = 0; i < m->at.k; i++) {
        int64_t next = -1;
        for (int64_t k = 0; k < m->K; k++) {
            const bool after = last < 0 || t[k] < t[last] || (t[k] == t[last] && k > last);
            next = after && t[k] == t[k] && (next < 0 || t[k] > t[next]) ? k : next;
        }
        last = next >= 0 ? next : last;
    }
    return last;
}

/* Is class k among them?  NaN is, so that nothing hides it. */
KD_MATCH_FN bool kd_match_is_top(const kd_match *m, int64_t row, int64_t k, int64_t last)
{
    const KD_MATCH_REAL *t = m->b + row * m->K;
    return t[k] != t[k] || (last >= 0 && (t[k] > t[last] || (t[k] == t[last] && k <= last)));
}

KD_MATCH_FN double kd_match_topk(const kd_match *m, int64_t row, double by)
{
    const double t = m->at.p[0];
    const double lz = kd_match_lse(m, row, false, t, -1), lt = kd_match_lse(m, row, true, t, -1);
    const int64_t last = kd_match_last_top(m, row);
    double kept = 0.0, value = 0.0;
    for (int64_t k = 0; k < m->K; k++) {
        kept += kd_match_is_top(m, row, k, last) ? exp(kd_match_t(m, row, k, t) - lt) : 0.0;
    }
    const double by_kept = m->at.tail == KD_TAIL_RENORM ? 1.0 / kept : 1.0;
    const double rest = m->at.tail == KD_TAIL_UNIFORM && m->K > m->at.k ? (1.0 - kept) / (double)(m->K - m->at.k) : 0.0;
    const double mass = m->at.tail == KD_TAIL_ZERO ? kept : 1.0;
    for (int64_t k = 0; k < m->K; k++) {
        const bool top = kd_match_is_top(m, row, k, last);
        const double q = top ? by_kept * exp(kd_match_t(m, row, k, t) - lt) : rest > 0.0 || rest != rest ? rest : 0.0;
        const double log_p = kd_match_z(m, row, k, t) - lz;
        value += kd_match_kl(q, log(q), log_p);
        kd_match_put(m, row, k, by * t * (mass * exp(log_p) - q));
    }
    return t * t * value;
}

KD_MATCH_FN double kd_match_jsd(const kd_match *m, int64_t row, double by)
{
    const double t = m->at.p[0];
    const double lz = kd_match_lse(m, row, false, t, -1), lt = kd_match_lse(m, row, true, t, -1);
    double value = 0.0, mean = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t k = 0; k < m->K; k++) {
            const double log_p = kd_match_z(m, row, k, t) - lz, log_q = kd_match_t(m, row, k, t) - lt;
            const double p = exp(log_p), q = exp(log_q), log_m = log(0.5 * (p + q));
            if (pass == 0) {
                mean += 0.5 * kd_match_kl(p, log_p, log_m);
                value += 0.5 * (kd_match_kl(p, log_p, log_m) + kd_match_kl(q, log_q, log_m));
            } else {
                kd_match_put(m, row, k, by * t * (0.5 * kd_match_kl(p, log_p, log_m) - p * mean));
            }
        }
    }
    return t * t * value;
}

KD_MATCH_FN double kd_match_row(const kd_match *m, int64_t row, double by)
{
    switch (m->at.kind) {
    case KD_MATCH_DKD:
        return kd_match_dkd(m, row, by);
    case KD_MATCH_NKD:
        return kd_match_nkd(m, row, by);
    case KD_MATCH_LOGIT_STD:
        return kd_match_logit_std(m, row, by);
    case KD_MATCH_LOGIT_MSE:
        return kd_match_logit_mse(m, row, by);
    case KD_MATCH_TOPK:
        return kd_match_topk(m, row, by);
    default:
        return kd_match_jsd(m, row, by);
    }
}

#endif
