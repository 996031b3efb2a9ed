/* Intervals and tests for two classifiers on the same samples: see metrics.h. */
#include "distill/report/metrics.h"
#include "kernels/kd_rng.h"

#include <math.h>
#include <stdlib.h>

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

static void draw_groups(words *w, uint32_t *group, size_t groups)
{
    for (size_t g = 0; g < groups; g++) {
        group[g] = below(w, (uint32_t)groups);
    }
}

kd_status kd_bootstrap_difference(const float *a, size_t ga, const float *b, size_t gb, size_t n, int draws,
                                  double confidence, uint64_t seed, kd_interval *out, kd_err *err)
{
    enum { MOST_GROUPS = 1024 };
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
    qsort(mean, (size_t)draws, sizeof *mean, compare_double);
    out->mean = plain_mean(a, ga * n) - (gb > 0 ? plain_mean(b, gb * n) : 0.0);
    out->low = quantile(mean, draws, 0.5 - 0.5 * confidence);
    out->high = quantile(mean, draws, 0.5 + 0.5 * confidence);
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
