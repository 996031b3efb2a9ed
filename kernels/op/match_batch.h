/* match_loss: DIST and RKD, which compare the rows of a batch; match_rows.h says how this file is included.  A row that
 * is not valid takes no part: no valid row is compared with it, and n counts the valid ones. */
#ifndef KD_KERNELS_OP_MATCH_BATCH_H
#define KD_KERNELS_OP_MATCH_BATCH_H

#include "kernels/op/match_rows.h"

/* The sum of the rows' values, after the phase that wrote them. */
KD_MATCH_FN double kd_match_total(const kd_match *m)
{
    double sum = 0.0;
    KD_MATCH_SYNC();
    for (int64_t i = 0; i < m->B; i++) {
        sum += kd_match_on(m, i) ? m->work[i] : 0.0;
    }
    return sum;
}

KD_MATCH_FN double kd_match_dot(const KD_MATCH_REAL *x, const KD_MATCH_REAL *y, int64_t n)
{
    double s = 0.0;
    for (int64_t k = 0; k < n; k++) {
        s += (double)x[k] * (double)y[k];
    }
    return s;
}

/* A coefficient of the gradient that is linear in the rows: da_r = sum_c C_rc a_c. */
KD_MATCH_FN void kd_match_combine(const kd_match *m, const double *C)
{
    KD_MATCH_SYNC();
    KD_MATCH_EACH(i, m->B * m->K)
    {
        const int64_t r = i / m->K, k = i % m->K;
        double s = 0.0;
        for (int64_t c = 0; c < m->B && kd_match_on(m, r); c++) {
            s += kd_match_on(m, c) ? C[r * m->B + c] * (double)m->a[c * m->K + k] : 0.0;
        }
        kd_match_put(m, r, k, s);
    }
}

/* ---- DIST ------------------------------------------------------------------------------------ */

/* Two centred vectors x and y: correlation, and d corr / d x = u y - v x. */
typedef struct kd_match_corr {
    double corr, u, v;
} kd_match_corr;

KD_MATCH_FN kd_match_corr kd_match_corr_of(double xx, double yy, double xy)
{
    const double norms = sqrt(xx) * sqrt(yy);
    kd_match_corr r;
    if (norms < 1e-8) { /* clamped: the product of the norms is constant */
        r.corr = xy / 1e-8;
        r.u = 1.0 / 1e-8;
        r.v = 0.0;
    } else {
        r.corr = xy / norms;
        r.u = 1.0 / norms;
        r.v = r.corr / xx;
    }
    return r;
}

/* Columns: means of p and q, and the factors of the gradient, and the correlations into col (5,K). */
KD_MATCH_FN void kd_match_columns(const kd_match *m, const double *p, const double *q, double *col, int64_t n)
{
    KD_MATCH_EACH(k, m->K)
    {
        double mp = 0.0, mq = 0.0, xx = 0.0, yy = 0.0, xy = 0.0;
        for (int64_t i = 0; i < m->B; i++) {
            mp += kd_match_on(m, i) ? p[i * m->K + k] / (double)n : 0.0;
            mq += kd_match_on(m, i) ? q[i * m->K + k] / (double)n : 0.0;
        }
        for (int64_t i = 0; i < m->B; i++) {
            const double x = p[i * m->K + k] - mp, y = q[i * m->K + k] - mq;
            if (kd_match_on(m, i)) {
                xx += x * x;
                yy += y * y;
                xy += x * y;
            }
        }
        const kd_match_corr c = kd_match_corr_of(xx, yy, xy);
        col[k] = mp;
        col[m->K + k] = mq;
        col[2 * m->K + k] = c.u;
        col[3 * m->K + k] = c.v;
        col[4 * m->K + k] = c.corr;
    }
}

/* Value and gradient of a row; col as above, n valid rows. */
KD_MATCH_FN double kd_match_dist_row(const kd_match *m, int64_t row, const double *p, const double *q,
                                     const double *col, int64_t n)
{
    const double tau = m->at.p[0], beta = tau * m->at.p[1] / (double)n, gamma = tau * m->at.p[2] / (double)m->K;
    const double mean = 1.0 / (double)m->K;
    double xx = 0.0, yy = 0.0, xy = 0.0, sum = 0.0, mp = 0.0, mq = 0.0;
    for (int64_t k = 0; k < m->K; k++) {
        mp += mean * p[k];
        mq += mean * q[k];
    }
    for (int64_t k = 0; k < m->K; k++) {
        xx += (p[k] - mp) * (p[k] - mp);
        yy += (q[k] - mq) * (q[k] - mq);
        xy += (p[k] - mp) * (q[k] - mq);
    }
    const kd_match_corr c = kd_match_corr_of(xx, yy, xy);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t k = 0; k < m->K; k++) {
            const double of_row = c.u * (q[k] - mq) - c.v * (p[k] - mp);
            const double of_column = col[2 * m->K + k] * (q[k] - col[m->K + k]) - col[3 * m->K + k] * (p[k] - col[k]);
            const double dp = -beta * of_row - gamma * of_column;
            if (pass == 0) {
                sum += dp * p[k];
            } else {
                kd_match_put(m, row, k, p[k] * (dp - sum));
            }
        }
    }
    return 1.0 - c.corr;
}

KD_MATCH_FN double kd_match_dist(const kd_match *m, int64_t n)
{
    const double tau = m->at.p[0];
    double *p = m->work + m->B, *q = p + m->B * m->K, *col = q + m->B * m->K, columns = 0.0;
    KD_MATCH_EACH(i, m->B)
    {
        const double lz = kd_match_lse(m, i, false, tau, -1), lt = kd_match_lse(m, i, true, tau, -1);
        for (int64_t k = 0; k < m->K && kd_match_on(m, i); k++) {
            p[i * m->K + k] = exp(kd_match_z(m, i, k, tau) - lz);
            q[i * m->K + k] = exp(kd_match_t(m, i, k, tau) - lt);
        }
    }
    KD_MATCH_SYNC();
    kd_match_columns(m, p, q, col, n);
    KD_MATCH_SYNC();
    KD_MATCH_EACH(i, m->B)
    {
        if (kd_match_on(m, i)) {
            m->work[i] = kd_match_dist_row(m, i, p + i * m->K, q + i * m->K, col, n);
        } else {
            kd_match_zero(m, i);
        }
    }
    const double rows = kd_match_total(m) / (double)n;
    for (int64_t k = 0; k < m->K; k++) {
        columns += (1.0 - col[4 * m->K + k]) / (double)m->K;
    }
    return tau * tau * (m->at.p[1] * rows + m->at.p[2] * columns);
}

/* ---- relational distillation: distances and angles ------------------------------------------- */

/* Squared distances of valid rows. */
KD_MATCH_FN void kd_match_squares(const kd_match *m, const KD_MATCH_REAL *x, int64_t width, double *D)
{
    KD_MATCH_EACH(ij, m->B * m->B)
    {
        const int64_t i = ij / m->B, j = ij % m->B;
        double s = 0.0;
        for (int64_t k = 0; k < width && kd_match_on(m, i) && kd_match_on(m, j); k++) {
            const double d = (double)x[i * width + k] - (double)x[j * width + k];
            s += d * d;
        }
        D[ij] = s;
    }
}

/* Smooth L1 at beta 1 and its slope; NaN stays. */
KD_MATCH_FN double kd_match_smooth(double d)
{
    return fabs(d) < 1.0 ? 0.5 * d * d : fabs(d) - 0.5;
}

KD_MATCH_FN double kd_match_slope(double d)
{
    return fabs(d) < 1.0 ? d : d / fabs(d);
}

KD_MATCH_FN double kd_match_length(double square)
{
    return sqrt(square < 1e-12 ? 1e-12 : square);
}

/* Sum of the distances of row i to the other valid rows. */
KD_MATCH_FN double kd_match_lengths(const kd_match *m, const double *D, int64_t i)
{
    double sum = 0.0;
    for (int64_t j = 0; j < m->B && kd_match_on(m, i); j++) {
        sum += i != j && kd_match_on(m, j) ? kd_match_length(D[i * m->B + j]) : 0.0;
    }
    return sum;
}

/* The mean distances that both matrices are divided by. */
typedef struct kd_match_means {
    double have, want, pairs;
} kd_match_means;

KD_MATCH_FN kd_match_means kd_match_means_of(const kd_match *m, const double *D, const double *F, int64_t n)
{
    double *of_a = m->work + m->B, *of_b = of_a + m->B;
    kd_match_means r = {0.0, 0.0, n > 1 ? (double)n * (double)(n - 1) : 1.0};
    KD_MATCH_EACH(i, m->B)
    {
        of_a[i] = kd_match_lengths(m, D, i);
        of_b[i] = kd_match_lengths(m, F, i);
    }
    KD_MATCH_SYNC();
    for (int64_t i = 0; i < m->B; i++) {
        r.have += of_a[i] / r.pairs;
        r.want += of_b[i] / r.pairs;
    }
    KD_MATCH_SYNC();
    return r;
}

/* Row i: value, and the sum of slopes times distances, which the mean passes on. */
KD_MATCH_FN void kd_match_stretch(const kd_match *m, const double *D, const double *F, const kd_match_means *mean,
                                  int64_t i)
{
    double value = 0.0, along = 0.0;
    for (int64_t j = 0; j < m->B; j++) {
        if (i != j && kd_match_on(m, i) && kd_match_on(m, j)) {
            const double d = kd_match_length(D[i * m->B + j]);
            const double off = d / mean->have - kd_match_length(F[i * m->B + j]) / mean->want;
            value += kd_match_smooth(off);
            along += kd_match_slope(off) * d;
        }
    }
    m->work[i] = value;
    m->work[m->B + i] = along;
}

KD_MATCH_FN double kd_match_rkd_distance(const kd_match *m, int64_t n)
{
    const int64_t B = m->B;
    double *D = m->work + 3 * B, *F = D + B * B, *C = F + B * B, along = 0.0;
    kd_match_squares(m, m->a, m->K, D);
    kd_match_squares(m, m->b, m->P, F);
    KD_MATCH_SYNC();
    const kd_match_means mean = kd_match_means_of(m, D, F, n);
    KD_MATCH_EACH(i, B)
    {
        kd_match_stretch(m, D, F, &mean, i);
    }
    const double value = kd_match_total(m) / ((double)n * (double)n);
    for (int64_t i = 0; i < B; i++) {
        along += m->work[B + i];
    }
    const double through_mean = n > 1 ? along / (mean.have * mean.have * mean.pairs) : 0.0;
    KD_MATCH_EACH(i, B)
    {
        double own = 0.0;
        for (int64_t j = 0; j < B; j++) {
            double c = 0.0;
            if (i != j && kd_match_on(m, i) && kd_match_on(m, j) && !(D[i * B + j] < 1e-12)) {
                const double d = kd_match_length(D[i * B + j]);
                const double off = d / mean.have - kd_match_length(F[i * B + j]) / mean.want;
                c = 2.0 * (kd_match_slope(off) / mean.have - through_mean) / d / ((double)n * (double)n);
            }
            C[i * B + j] = -c;
            own += c;
        }
        C[i * B + i] = own;
    }
    kd_match_combine(m, C);
    return value;
}

/* Cosine of the angle at row i between rows j and k; rows that coincide have no direction: 0. */
KD_MATCH_FN double kd_match_angle(const double *D, int64_t B, int64_t i, int64_t j, int64_t k)
{
    const double ij = D[i * B + j], ik = D[i * B + k];
    if (ij < 1e-24 || ik < 1e-24) {
        return 0.0;
    }
    return j == k ? 1.0 : 0.5 * (ij + ik - D[j * B + k]) / (sqrt(ij) * sqrt(ik));
}

/* Slope of the loss by the cosine at i, over the distances to j and k: the coefficient of their differences. */
KD_MATCH_FN double kd_match_bend(const double *D, const double *F, int64_t B, int64_t i, int64_t j, int64_t k)
{
    const double ij = D[i * B + j], ik = D[i * B + k];
    if (i == j || i == k || j == k || ij < 1e-24 || ik < 1e-24) {
        return 0.0;
    }
    const double off = kd_match_angle(D, B, i, j, k) - kd_match_angle(F, B, i, j, k);
    return 2.0 * kd_match_slope(off) / (sqrt(ij) * sqrt(ik));
}

/* Row i: S_ij = sum_k M_jk and T_ij, the part of M on its diagonal; M: op/README.md. */
KD_MATCH_FN void kd_match_corner(const kd_match *m, const double *D, const double *F, double *S, double *T, int64_t ij)
{
    const int64_t B = m->B, i = ij / B, j = ij % B;
    double s = 0.0, t = 0.0;
    for (int64_t k = 0; k < B && kd_match_on(m, i) && kd_match_on(m, j) && i != j; k++) {
        if (kd_match_on(m, k)) {
            const double bend = kd_match_bend(D, F, B, i, j, k);
            s += bend;
            t += bend == 0.0 ? 0.0 : bend * kd_match_angle(D, B, i, j, k) * sqrt(D[i * B + k] / D[ij]);
        }
    }
    S[ij] = s - t;
    T[ij] = t;
}

KD_MATCH_FN double kd_match_rkd_angle(const kd_match *m, int64_t n)
{
    const int64_t B = m->B;
    const double by = 1.0 / ((double)n * (double)n * (double)n);
    double *D = m->work + 3 * B, *F = D + B * B, *S = F + B * B, *T = S + B * B, *C = T + B * B;
    kd_match_squares(m, m->a, m->K, D);
    kd_match_squares(m, m->b, m->P, F);
    KD_MATCH_SYNC();
    KD_MATCH_EACH(ij, B * B)
    {
        kd_match_corner(m, D, F, S, T, ij);
    }
    KD_MATCH_EACH(i, B)
    {
        double value = 0.0;
        for (int64_t jk = 0; jk < B * B && kd_match_on(m, i); jk++) {
            const int64_t j = jk / B, k = jk % B;
            if (i != j && i != k && kd_match_on(m, j) && kd_match_on(m, k)) {
                value += kd_match_smooth(kd_match_angle(D, B, i, j, k) - kd_match_angle(F, B, i, j, k));
            }
        }
        m->work[i] = value;
    }
    const double value = kd_match_total(m) * by;
    KD_MATCH_EACH(jk, B * B)
    {
        const int64_t j = jk / B, k = jk % B;
        double c = 0.0;
        for (int64_t i = 0; i < B && kd_match_on(m, j) && kd_match_on(m, k); i++) {
            if (kd_match_on(m, i)) {
                c += j == k ? S[j * B + i] - T[i * B + j] : kd_match_bend(D, F, B, i, j, k);
            }
        }
        C[jk] = by * (j == k ? c : c - S[jk] - S[k * B + j]);
    }
    kd_match_combine(m, C);
    return value;
}

#endif
