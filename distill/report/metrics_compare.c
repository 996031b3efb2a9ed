/* Intervals and tests for two classifiers on the same samples: see metrics.h. */
#include "distill/report/metrics.h"
#include "kernels/kd_rng.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_GROUPS = 1024 };

/* Words of one bootstrap draw, four from each Philox block. */
typedef struct words {
    uint64_t seed;
    uint32_t draw, part, next;
    kd_philox block;
} words;

static uint32_t below(words *w, uint32_t n)
{
    if (w->next % 4u == 0) {
        w->block = kd_philox_block(w->seed, w->next / 4u, w->draw, w->part, KD_RNG_BOOTSTRAP);
    }
    return (uint32_t)(((uint64_t)w->block.v[w->next++ % 4u] * n) >> 32);
}

/* Mean over the drawn samples of one drawn list of groups. */
static double drawn_mean(const float *value, size_t n, const uint32_t *sample, const uint32_t *group, size_t groups)
{
    double total = 0.0;
    for (size_t g = 0; g < groups; g++) {
        const float *row = value + group[g] * n;
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)row[sample[i]];
        }
        total += sum;
    }
    return total / (double)(n * groups);
}

static double plain_mean(const float *value, size_t count)
{
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)value[i];
    }
    return sum / (double)count;
}

static int compare_double(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear between order statistics. */
static double quantile(const double *sorted, int n, double q)
{
    const double at = q * (n - 1);
    const int i = (int)at;
    const int j = KD_MIN(i + 1, n - 1);
    return sorted[i] + (at - i) * (sorted[j] - sorted[i]);
}

/* The percentile interval of the draws, which are sorted on the way. */
static void interval_of(double *mean, int draws, double confidence, kd_interval *out)
{
    qsort(mean, (size_t)draws, sizeof *mean, compare_double);
    out->low = quantile(mean, draws, 0.5 - 0.5 * confidence);
    out->high = quantile(mean, draws, 0.5 + 0.5 * confidence);
}

static void draw_groups(words *w, uint32_t *group, size_t groups)
{
    for (size_t g = 0; g < groups; g++) {
        group[g] = below(w, (uint32_t)groups);
    }
}

kd_status kd_bootstrap_difference(const float *a, size_t ga, const float *b, size_t gb, size_t n, int draws,
                                  double confidence, uint64_t seed, kd_interval *out, kd_err *err)
{
    if (n == 0 || n > UINT32_MAX || ga == 0 || ga > MOST_GROUPS || gb > MOST_GROUPS || draws < 100 ||
        !(confidence > 0.0 && confidence < 1.0)) {
        return KD_FAIL(err, KD_E_ARG, "bootstrap: %zu samples, %zu and %zu groups, %d draws", n, ga, gb, draws);
    }
    double *mean = kd_calloc((size_t)draws, sizeof *mean);
    uint32_t *sample = kd_calloc(n, sizeof *sample);
    uint32_t *group = kd_calloc(ga + gb, sizeof *group);
    kd_status st = KD_OK;
    if (mean == NULL || sample == NULL || group == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "bootstrap: out of memory for %zu samples", n);
        goto done;
    }
    for (int d = 0; d < draws; d++) {
        words w = {seed, (uint32_t)d, 0, 0, {{0, 0, 0, 0}}};
        for (size_t i = 0; i < n; i++) {
            sample[i] = below(&w, (uint32_t)n);
        }
        words v = {seed, (uint32_t)d, 1, 0, {{0, 0, 0, 0}}};
        draw_groups(&v, group, ga);
        draw_groups(&v, group + ga, gb);
        mean[d] = drawn_mean(a, n, sample, group, ga);
        if (gb > 0) {
            mean[d] -= drawn_mean(b, n, sample, group + ga, gb);
        }
    }
    out->mean = plain_mean(a, ga * n) - (gb > 0 ? plain_mean(b, gb * n) : 0.0);
    interval_of(mean, draws, confidence, out);
done:
    kd_free(mean);
    kd_free(sample);
    kd_free(group);
    return st;
}

kd_status kd_bootstrap(const float *value, size_t groups, size_t n, int draws, double confidence, uint64_t seed,
                       kd_interval *out, kd_err *err)
{
    return kd_bootstrap_difference(value, groups, NULL, 0, n, draws, confidence, seed, out, err);
}

/* ---- clusters -------------------------------------------------------------------------------- */

/* Sums of one side by group and cluster, [groups][clusters]. */
static void sum_clusters(const float *value, size_t groups, size_t n, const kd_clusters *c, double *sum)
{
    for (size_t g = 0; g < groups; g++) {
        for (size_t i = 0; i < n; i++) {
            sum[g * c->n + c->of[i]] += (double)value[g * n + i];
        }
    }
}

/* Mean over the samples of the drawn clusters of one drawn list of groups. */
static double drawn_cluster_mean(const double *sum, const double *count, size_t n, const uint32_t *cluster,
                                 const uint32_t *group, size_t groups)
{
    double total = 0.0, samples = 0.0;
    for (size_t k = 0; k < n; k++) {
        samples += count[cluster[k]];
        for (size_t g = 0; g < groups; g++) {
            total += sum[group[g] * n + cluster[k]];
        }
    }
    return total / (samples * (double)groups);
}

kd_status kd_bootstrap_clusters(const float *a, size_t ga, const float *b, size_t gb, size_t n,
                                const kd_clusters *clusters, int draws, double confidence, uint64_t seed,
                                kd_interval *out, kd_err *err)
{
    const size_t k = clusters->n;
    if (n == 0 || k < 2 || k > n || ga == 0 || ga > MOST_GROUPS || gb > MOST_GROUPS || draws < 100 ||
        !(confidence > 0.0 && confidence < 1.0)) {
        return KD_FAIL(err, KD_E_ARG, "bootstrap: %zu samples in %zu clusters, %zu and %zu groups, %d draws", n, k, ga,
                       gb, draws);
    }
    double *mean = kd_calloc((size_t)draws, sizeof *mean);
    double *sum = kd_calloc((ga + gb + 1) * k, sizeof *sum); /* of a, of b, counts */
    uint32_t *drawn = kd_calloc(k + ga + gb, sizeof *drawn); /* clusters, groups of a, groups of b */
    kd_status st = KD_OK;
    if (mean == NULL || sum == NULL || drawn == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "bootstrap: out of memory for %zu clusters", k);
        goto done;
    }
    double *count = sum + (ga + gb) * k;
    uint32_t *group = drawn + k;
    sum_clusters(a, ga, n, clusters, sum);
    sum_clusters(b, gb, n, clusters, sum + ga * k);
    for (size_t i = 0; i < n; i++) {
        count[clusters->of[i]] += 1.0;
    }
    for (int d = 0; d < draws; d++) {
        words w = {seed, (uint32_t)d, 2, 0, {{0, 0, 0, 0}}};
        draw_groups(&w, drawn, k);
        words v = {seed, (uint32_t)d, 3, 0, {{0, 0, 0, 0}}};
        draw_groups(&v, group, ga);
        draw_groups(&v, group + ga, gb);
        mean[d] = drawn_cluster_mean(sum, count, k, drawn, group, ga);
        if (gb > 0) {
            mean[d] -= drawn_cluster_mean(sum + ga * k, count, k, drawn, group + ga, gb);
        }
    }
    out->mean = plain_mean(a, ga * n) - (gb > 0 ? plain_mean(b, gb * n) : 0.0);
    interval_of(mean, draws, confidence, out);
done:
    kd_free(mean);
    kd_free(sum);
    kd_free(drawn);
    return st;
}

kd_status kd_mcnemar_clusters(const int64_t *difference, size_t n, double *p, kd_err *err)
{
    int64_t most = 0, found = 0;
    for (size_t k = 0; k < n; k++) {
        most += difference[k] < 0 ? -difference[k] : difference[k];
        found += difference[k];
    }
    /* chance[most + s]: probability that the signed differences so far sum to s. */
    const size_t size = 2 * (size_t)most + 1;
    double *chance = kd_calloc(size, sizeof *chance), *next = kd_calloc(size, sizeof *next);
    kd_status st = KD_OK;
    *p = 1.0;
    if (chance == NULL || next == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "test by clusters: out of memory");
        goto done;
    }
    chance[most] = 1.0;
    int64_t reach = 0; /* sums so far lie within it */
    for (size_t k = 0; k < n; k++) {
        const int64_t d = difference[k] < 0 ? -difference[k] : difference[k];
        if (d == 0) {
            continue;
        }
        memset(next, 0, size * sizeof *next);
        for (int64_t s = -reach; s <= reach; s++) {
            next[most + s + d] += 0.5 * chance[most + s];
            next[most + s - d] += 0.5 * chance[most + s];
        }
        reach += d;
        double *swap = chance;
        chance = next;
        next = swap;
    }
    const int64_t far = found < 0 ? -found : found;
    double sum = 0.0;
    for (int64_t s = -most; s <= most; s++) {
        sum += s <= -far || s >= far ? chance[most + s] : 0.0;
    }
    *p = KD_MIN(1.0, sum);
done:
    kd_free(chance);
    kd_free(next);
    return st;
}

/* ---- few runs -------------------------------------------------------------------------------- */

/* Regularised incomplete beta function I_x(a, b), by the continued fraction of Abramowitz and Stegun 26.5.8, evaluated
 * from the front (Lentz). */
static double beta_share(double x, double a, double b)
{
    enum { TERMS = 500 };
    const double tiny = 1e-300;
    if (x <= 0.0 || x >= 1.0) {
        return x <= 0.0 ? 0.0 : 1.0;
    }
    if (x > (a + 1.0) / (a + b + 2.0)) { /* there the fraction of the other tail converges fast */
        return 1.0 - beta_share(1.0 - x, b, a);
    }
    double value = 1.0, up = 1.0, down = 0.0;
    for (int i = 0; i <= TERMS; i++) {
        const int half = i / 2;
        const double m = half;
        const double term = i == 0       ? 1.0
                            : i % 2 == 0 ? m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
                                         : -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        down = 1.0 + term * down;
        down = 1.0 / (fabs(down) < tiny ? tiny : down);
        up = 1.0 + term / (fabs(up) < tiny ? tiny : up);
        value *= up * down;
        if (fabs(1.0 - up * down) < 1e-15) {
            break;
        }
    }
    const double front = exp(a * log(x) + b * log1p(-x) + lgamma(a + b) - lgamma(a) - lgamma(b)) / a;
    return front * (value - 1.0);
}

double kd_student_p(double t, double df)
{
    return isinf(t) ? 0.0 : beta_share(df / (df + t * t), 0.5 * df, 0.5);
}

double kd_student_t(double p, double df)
{
    double low = 0.0, high = 1.0;
    while (kd_student_p(high, df) > p && high < 1e300) {
        high *= 2.0;
    }
    for (int i = 0; i < 200; i++) {
        const double mid = 0.5 * (low + high);
        *(kd_student_p(mid, df) > p ? &low : &high) = mid;
    }
    return 0.5 * (low + high);
}

void kd_paired_t(const double *difference, size_t n, double confidence, kd_interval *out, double *p)
{
    double mean = 0.0, square = 0.0;
    for (size_t i = 0; i < n; i++) {
        mean += difference[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        square += (difference[i] - mean) * (difference[i] - mean);
    }
    *p = 1.0;
    *out = (kd_interval){mean, (double)NAN, (double)NAN};
    if (n < 2) {
        return;
    }
    const double df = (double)(n - 1), error = sqrt(square / df / (double)n);
    const double reach = error * kd_student_t(1.0 - confidence, df);
    *out = (kd_interval){mean, mean - reach, mean + reach};
    *p = error > 0.0 ? kd_student_p(mean / error, df) : mean != 0.0 ? 0.0 : 1.0;
}

kd_status kd_holm(const double *p, size_t n, double *adjusted, kd_err *err)
{
    double *sorted = kd_calloc(KD_MAX(n, (size_t)1), sizeof *sorted);
    size_t tests = 0;
    if (sorted == NULL) {
        return KD_FAIL(err, KD_E_OOM, "Holm's correction: out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        if (!isnan(p[i])) {
            sorted[tests++] = p[i];
        }
    }
    qsort(sorted, tests, sizeof *sorted, compare_double);
    for (size_t i = 0; i < n; i++) {
        double most = 0.0;
        for (size_t k = 0; k < tests && sorted[k] <= p[i]; k++) {
            most = fmax(most, fmin(1.0, (double)(tests - k) * sorted[k]));
        }
        adjusted[i] = isnan(p[i]) ? p[i] : most;
    }
    kd_free(sorted);
    return KD_OK;
}

/* ---- two classifiers ------------------------------------------------------------------------- */

double kd_mcnemar(int64_t a, int64_t b)
{
    const int64_t n = a + b;
    const int64_t least = KD_MIN(a, b);
    if (n == 0) {
        return 1.0;
    }
    double log_term = -(double)n * 0.69314718055994531; /* log of 2^-n C(n, 0) */
    double sum = 0.0;
    for (int64_t k = 0; k <= least; k++) {
        sum += exp(log_term);
        log_term += log((double)(n - k)) - log((double)(k + 1));
    }
    return KD_MIN(1.0, 2.0 * sum);
}

kd_agreement kd_agree(const int32_t *first, const int32_t *second, const int32_t *label, size_t n)
{
    kd_agreement a = {0, 0, 0, 0};
    for (size_t i = 0; i < n; i++) {
        const bool x = first[i] == label[i];
        const bool y = second[i] == label[i];
        a.both_right += x && y;
        a.only_first += x && !y;
        a.only_second += !x && y;
        a.both_wrong += !x && !y;
    }
    return a;
}
