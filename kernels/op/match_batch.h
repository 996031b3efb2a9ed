/* match_loss, the kinds that compare the rows of a batch; match_rows.h says how this file is included.  A row that is
 * not valid takes no part: no valid row is compared with it, and n counts the valid ones. */
#ifndef KD_KERNELS_OP_MATCH_BATCH_H
#define KD_KERNELS_OP_MATCH_BATCH_H

#include "kernels/op/match_rows.h"

/* Numbers of f64 that a call works in. */
static inline size_t kd_match_work(int32_t kind, int64_t B, int64_t K)
{
    switch (kind) {
    case KD_MATCH_DIST:
        return (size_t)(B + 2 * B * K + 5 * K);
    case KD_MATCH_RKD_DISTANCE:
    case KD_MATCH_RKD_ANGLE:
    case KD_MATCH_SP:
    case KD_MATCH_PKT:
        return (size_t)(3 * B + 5 * B * B);
    case KD_MATCH_INFONCE:
        return (size_t)(3 * B + B * B);
    default:
        return (size_t)B;
    }
}

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

/* ---- similarities of rows -------------------------------------------------------------------- */

KD_MATCH_FN void kd_match_gram(const kd_match *m, const KD_MATCH_REAL *x, int64_t width, double *G)
{
    KD_MATCH_EACH(ij, m->B * m->B)
    {
        const int64_t i = ij / m->B, j = ij % m->B;
        G[ij] = kd_match_on(m, i) && kd_match_on(m, j) ? kd_match_dot(x + i * width, x + j * width, width) : 0.0;
    }
}

/* Length of row i of G, clamped. */
KD_MATCH_FN double kd_match_row_norm(const double *G, int64_t B, int64_t i)
{
    double s = 0.0;
    for (int64_t j = 0; j < B; j++) {
        s += G[i * B + j] * G[i * B + j];
    }
    s = sqrt(s);
    return s < 1e-12 ? 1e-12 : s;
}

/* C = H + H^T, the gradient's coefficients from those by the entries of a Gram matrix; own is added on the diagonal. */
KD_MATCH_FN void kd_match_symmetric(const kd_match *m, const double *H, const double *own, double *C)
{
    KD_MATCH_SYNC();
    KD_MATCH_EACH(ij, m->B * m->B)
    {
        const int64_t i = ij / m->B, j = ij % m->B;
        C[ij] = H[ij] + H[j * m->B + i] + (own != NULL && i == j ? own[i] : 0.0);
    }
    kd_match_combine(m, C);
}

KD_MATCH_FN double kd_match_sp(const kd_match *m, int64_t n)
{
    const int64_t B = m->B;
    const double by = 1.0 / ((double)n * (double)n);
    double *G = m->work + 3 * B, *F = G + B * B, *H = F + B * B, *C = H + B * B;
    kd_match_gram(m, m->a, m->K, G);
    kd_match_gram(m, m->b, m->P, F);
    KD_MATCH_SYNC();
    KD_MATCH_EACH(i, B)
    {
        const double g = kd_match_row_norm(G, B, i), f = kd_match_row_norm(F, B, i);
        double value = 0.0, along = 0.0;
        for (int64_t j = 0; j < B; j++) {
            const double off = G[i * B + j] / g - F[i * B + j] / f;
            value += off * off;
            along += off * G[i * B + j] / g;
        }
        for (int64_t j = 0; j < B; j++) {
            const double off = G[i * B + j] / g - F[i * B + j] / f;
            H[i * B + j] = 2.0 * by * (off - (g <= 1e-12 ? 0.0 : along * G[i * B + j] / g)) / g;
        }
        m->work[i] = value;
    }
    const double value = kd_match_total(m) * by;
    kd_match_symmetric(m, H, NULL, C);
    return value;
}

enum { KD_MATCH_PKT_EPS_INVERSE = 10000000 }; /* of its authors' code: 1e-7 beside norms and in the logarithm */

/* Affinity (cos + 1)/2 of rows i and j. */
KD_MATCH_FN double kd_match_affinity(const double *G, int64_t B, int64_t i, int64_t j, double eps)
{
    return 0.5 * (G[i * B + j] / ((sqrt(G[i * B + i]) + eps) * (sqrt(G[j * B + j]) + eps)) + 1.0);
}

KD_MATCH_FN double kd_match_affinities(const kd_match *m, const double *G, int64_t i, double eps)
{
    double s = 0.0;
    for (int64_t j = 0; j < m->B; j++) {
        s += kd_match_on(m, j) ? kd_match_affinity(G, m->B, i, j, eps) : 0.0;
    }
    return s;
}

/* Row i: value, and H_ij, the slope by the cosine of i and j. */
KD_MATCH_FN double kd_match_pkt_row(const kd_match *m, const double *G, const double *F, double *H, int64_t i,
                                    double by)
{
    const double eps = 1.0 / KD_MATCH_PKT_EPS_INVERSE;
    const double g = kd_match_affinities(m, G, i, eps), f = kd_match_affinities(m, F, i, eps);
    double value = 0.0, along = 0.0;
    for (int64_t j = 0; j < m->B; j++) {
        if (kd_match_on(m, j)) {
            const double p = kd_match_affinity(G, m->B, i, j, eps) / g, q = kd_match_affinity(F, m->B, i, j, eps) / f;
            value += q * log((q + eps) / (p + eps));
            along -= q / (p + eps) * p;
        }
    }
    for (int64_t j = 0; j < m->B; j++) {
        const double p = kd_match_affinity(G, m->B, i, j, eps) / g, q = kd_match_affinity(F, m->B, i, j, eps) / f;
        H[i * m->B + j] = kd_match_on(m, j) ? 0.5 * by * (-q / (p + eps) - along) / g : 0.0;
    }
    return value;
}

KD_MATCH_FN double kd_match_pkt(const kd_match *m, int64_t n)
{
    const int64_t B = m->B;
    const double by = 1.0 / ((double)n * (double)n), eps = 1.0 / KD_MATCH_PKT_EPS_INVERSE;
    double *G = m->work + 3 * B, *F = G + B * B, *H = F + B * B, *C = H + B * B, *own = m->work + B;
    kd_match_gram(m, m->a, m->K, G);
    kd_match_gram(m, m->b, m->P, F);
    KD_MATCH_SYNC();
    KD_MATCH_EACH(i, B)
    {
        m->work[i] = kd_match_on(m, i) ? kd_match_pkt_row(m, G, F, H, i, by) : 0.0;
        for (int64_t j = 0; j < B && !kd_match_on(m, i); j++) {
            H[i * B + j] = 0.0;
        }
    }
    const double value = kd_match_total(m) * by;
    KD_MATCH_EACH(i, B)
    {
        const double length = sqrt(G[i * B + i]);
        double through_norm = 0.0;
        for (int64_t j = 0; j < B; j++) {
            const double cosine = 2.0 * kd_match_affinity(G, B, i, j, eps) - 1.0;
            through_norm -= kd_match_on(m, j) ? (H[i * B + j] + H[j * B + i]) * cosine / (length + eps) : 0.0;
        }
        own[i] = kd_match_on(m, i) && length != 0.0 ? through_norm / length : 0.0;
    }
    KD_MATCH_SYNC();
    KD_MATCH_EACH(ij, B * B)
    {
        const double li = sqrt(G[(ij / B) * (B + 1)]) + eps, lj = sqrt(G[(ij % B) * (B + 1)]) + eps;
        H[ij] = H[ij] / (li * lj);
    }
    kd_match_symmetric(m, H, own, C);
    return value;
}

/* ---- InfoNCE --------------------------------------------------------------------------------- */

KD_MATCH_FN double kd_match_norm(double square)
{
    const double n = sqrt(square);
    return n < 1e-8 ? 1e-8 : n;
}

/* Row i of the cross-entropy over its cosines with all valid teachers' features, kept in `to`. */
KD_MATCH_FN double kd_match_infonce_row(const kd_match *m, int64_t i, const double *s2, const double *f2, double *to,
                                        double by)
{
    const double tau = m->at.p[0], ns = kd_match_norm(s2[i]);
    double top = -(double)INFINITY, sum = 0.0, down = 0.0;
    for (int64_t j = 0; j < m->B; j++) {
        if (kd_match_on(m, j)) {
            to[j] = kd_match_dot(m->a + i * m->K, m->b + j * m->P, m->K) / (ns * kd_match_norm(f2[j]));
            top = to[j] > top || to[j] != to[j] ? to[j] : top;
        }
    }
    for (int64_t j = 0; j < m->B; j++) {
        sum += kd_match_on(m, j) ? exp((to[j] - top) / tau) : 0.0;
    }
    const double value = log(sum) + (top - to[i]) / tau;
    for (int64_t j = 0; j < m->B; j++) {
        if (kd_match_on(m, j)) {
            const double d = by * (exp((to[j] - top) / tau) / sum - (i == j ? 1.0 : 0.0)) / tau;
            down += sqrt(s2[i]) < ns ? 0.0 : d * to[j] / s2[i]; /* a clamped norm is constant */
            to[j] = d / (ns * kd_match_norm(f2[j]));
        }
    }
    for (int64_t k = 0; k < m->K; k++) {
        double g = -down * (double)m->a[i * m->K + k];
        for (int64_t j = 0; j < m->B; j++) {
            g += kd_match_on(m, j) ? to[j] * (double)m->b[j * m->P + k] : 0.0;
        }
        kd_match_put(m, i, k, g);
    }
    return value;
}

KD_MATCH_FN double kd_match_infonce(const kd_match *m, int64_t n)
{
    double *s2 = m->work + m->B, *f2 = s2 + m->B, *to = f2 + m->B;
    KD_MATCH_EACH(i, m->B)
    {
        s2[i] = kd_match_dot(m->a + i * m->K, m->a + i * m->K, m->K);
        f2[i] = kd_match_dot(m->b + i * m->P, m->b + i * m->P, m->P);
    }
    KD_MATCH_SYNC();
    KD_MATCH_EACH(i, m->B)
    {
        if (kd_match_on(m, i)) {
            m->work[i] = kd_match_infonce_row(m, i, s2, f2, to + i * m->B, 1.0 / (double)n);
        } else {
            kd_match_zero(m, i);
        }
    }
    return kd_match_total(m) / (double)n;
}

/* ---- all kinds ------------------------------------------------------------------------------- */

/* The loss; its gradient by a goes to m->grad.  Every thread calls and gets the loss. */
KD_MATCH_FN double kd_match_run(const kd_match *m)
{
    const int64_t n = kd_match_count(m);
    if (n == 0) {
        KD_MATCH_EACH(i, m->B)
        {
            kd_match_zero(m, i);
        }
        return 0.0;
    }
    switch (m->at.kind) {
    case KD_MATCH_DIST:
        return kd_match_dist(m, n);
    case KD_MATCH_RKD_DISTANCE:
        return kd_match_rkd_distance(m, n);
    case KD_MATCH_RKD_ANGLE:
        return kd_match_rkd_angle(m, n);
    case KD_MATCH_SP:
        return kd_match_sp(m, n);
    case KD_MATCH_PKT:
        return kd_match_pkt(m, n);
    case KD_MATCH_INFONCE:
        return kd_match_infonce(m, n);
    default:
        break;
    }
    KD_MATCH_EACH(i, m->B)
    {
        if (kd_match_on(m, i)) {
            m->work[i] = kd_match_row(m, i, 1.0 / (double)n);
        } else {
            kd_match_zero(m, i);
        }
    }
    return kd_match_total(m) / (double)n;
}

#endif
