/* match_loss as a whole: the kinds that compare similarities of rows, and the choice of a kind.  match_rows.h says how
 * this file is included. */
#ifndef KD_KERNELS_OP_MATCH_H
#define KD_KERNELS_OP_MATCH_H

#include "kernels/op/match_batch.h"

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
    const double eps = 1.0 / (double)KD_MATCH_PKT_EPS_INVERSE;
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
    const double by = 1.0 / ((double)n * (double)n), eps = 1.0 / (double)KD_MATCH_PKT_EPS_INVERSE;
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

/* ---- embeddings of classes ------------------------------------------------------------------- */

/* Row i: value, and the gradient, by way of the cosines kept in `to`. */
KD_MATCH_FN double kd_match_class_row(const kd_match *m, int64_t i, const double *s2, const double *f2, double *to,
                                      double by)
{
    const KD_MATCH_REAL *target = m->target + i * m->C;
    const double tau = m->at.p[0], ns = kd_match_norm(s2[i]);
    double top = -(double)INFINITY, sum = 0.0, mass = 0.0, value = 0.0, down = 0.0;
    for (int64_t c = 0; c < m->C; c++) {
        to[c] = kd_match_dot(m->a + i * m->K, m->b + c * m->K, m->K) / (ns * kd_match_norm(f2[c]));
        top = to[c] > top || to[c] != to[c] ? to[c] : top;
        mass += (double)target[c];
    }
    for (int64_t c = 0; c < m->C; c++) {
        sum += exp((to[c] - top) / tau);
    }
    for (int64_t c = 0; c < m->C; c++) {
        value += (double)target[c] * (log(sum) + (top - to[c]) / tau);
        const double d = by * (mass * exp((to[c] - top) / tau) / sum - (double)target[c]) / tau;
        down += sqrt(s2[i]) < ns ? 0.0 : d * to[c] / s2[i]; /* a clamped norm is constant */
        to[c] = d / (ns * kd_match_norm(f2[c]));
    }
    for (int64_t k = 0; k < m->K; k++) {
        double g = -down * (double)m->a[i * m->K + k];
        for (int64_t c = 0; c < m->C; c++) {
            g += to[c] * (double)m->b[c * m->K + k];
        }
        kd_match_put(m, i, k, g);
    }
    return value;
}

KD_MATCH_FN double kd_match_class_embed(const kd_match *m, int64_t n)
{
    double *s2 = m->work + m->B, *f2 = s2 + m->B, *to = f2 + m->C;
    KD_MATCH_EACH(i, m->B)
    {
        s2[i] = kd_match_dot(m->a + i * m->K, m->a + i * m->K, m->K);
    }
    KD_MATCH_EACH(c, m->C)
    {
        f2[c] = kd_match_dot(m->b + c * m->K, m->b + c * m->K, m->K);
    }
    KD_MATCH_SYNC();
    KD_MATCH_EACH(i, m->B)
    {
        if (kd_match_on(m, i)) {
            m->work[i] = kd_match_class_row(m, i, s2, f2, to + i * m->C, 1.0 / (double)n);
        } else {
            kd_match_zero(m, i);
        }
    }
    return kd_match_total(m) / (double)n;
}

/* ---- all kinds ------------------------------------------------------------------------------- */

/* Numbers of f64 that a call works in; C: rows of b. */
static inline size_t kd_match_work(int32_t kind, int64_t B, int64_t K, int64_t C)
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
    case KD_MATCH_CLASS_EMBED:
        return (size_t)(2 * B + C + B * C);
    default:
        return (size_t)B;
    }
}

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
    case KD_MATCH_CLASS_EMBED:
        return kd_match_class_embed(m, n);
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
