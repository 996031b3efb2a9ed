/* See metrics.h. */
#include "distill/report/metrics.h"

#include "formats/base/merge.h"

#include <math.h>

static kd_status check(const kd_scores *s, kd_err *err)
{
    if (s->n == 0 || s->classes < 1) {
        return KD_FAIL(err, KD_E_DATA, "metrics: %zu samples of %d classes: nothing to measure", s->n, s->classes);
    }
    for (size_t i = 0; i < s->n; i++) {
        if (s->label[i] < 0 || s->label[i] >= s->classes) {
            return KD_FAIL(err, KD_E_DATA, "metrics: sample %zu has label %d: expected 0 to %d", i, (int)s->label[i],
                           s->classes - 1);
        }
        for (int c = 0; c < s->classes; c++) {
            if (!isfinite(s->score[i * (size_t)s->classes + (size_t)c])) {
                return KD_FAIL(err, KD_E_NUMERIC, "metrics: sample %zu, class %d: the score is not finite", i, c);
            }
        }
    }
    return KD_OK;
}

static int best_of(const float *row, int classes)
{
    int best = 0;
    for (int c = 1; c < classes; c++) {
        best = row[c] > row[best] ? c : best;
    }
    return best;
}

static int rank_of(const float *row, int classes, int label)
{
    int before = 0;
    for (int c = 0; c < classes; c++) {
        before += row[c] > row[label] || (row[c] == row[label] && c < label);
    }
    return before;
}

double kd_nll(const kd_scores *s, double temperature)
{
    double total = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        const float *row = s->score + i * (size_t)s->classes;
        total += kd_log_sum_exp(row, (size_t)s->classes, temperature) - (double)row[s->label[i]] / temperature;
    }
    return total / (double)s->n;
}

/* ---- one sample at a time -------------------------------------------------------------------- */

typedef struct sums {
    double nll, brier;
    int64_t top1, top5;
    double confidence[KD_ECE_BINS_MAX];
    int64_t right[KD_ECE_BINS_MAX];
} sums;

static void add_sample(const kd_scores *s, size_t i, kd_metrics *m, sums *a)
{
    const float *row = s->score + i * (size_t)s->classes;
    const int label = s->label[i];
    const int guess = best_of(row, s->classes);
    const double lse = kd_log_sum_exp(row, (size_t)s->classes, m->temperature);
    m->prediction[i] = guess;
    m->confusion[(size_t)label * (size_t)s->classes + (size_t)guess]++;
    a->nll += lse - (double)row[label] / m->temperature;
    double squares = 0.0;
    for (int c = 0; c < s->classes; c++) {
        const double p = exp((double)row[c] / m->temperature - lse);
        const double d = p - (c == label ? 1.0 : 0.0);
        squares += d * d;
    }
    a->brier += squares;
    a->top1 += guess == label;
    a->top5 += rank_of(row, s->classes, label) < 5;
    const double p = exp((double)row[guess] / m->temperature - lse);
    int bin = (int)ceil(p * m->bins) - 1;
    bin = KD_MIN(m->bins - 1, KD_MAX(0, bin));
    m->bin[bin].count++;
    a->confidence[bin] += p;
    a->right[bin] += guess == label;
}

static void finish_classes(kd_metrics *m)
{
    const size_t k = (size_t)m->classes;
    double recall = 0.0;
    double f1 = 0.0;
    int with_samples = 0;
    int occurring = 0;
    for (size_t c = 0; c < k; c++) {
        kd_class_metrics *r = &m->per_class[c];
        for (size_t o = 0; o < k; o++) {
            r->support += m->confusion[c * k + o];
            r->predicted += m->confusion[o * k + c];
        }
        r->correct = m->confusion[c * k + c];
        r->recall = r->support > 0 ? (double)r->correct / (double)r->support : (double)NAN;
        r->precision = r->predicted > 0 ? (double)r->correct / (double)r->predicted : (double)NAN;
        const int64_t both = r->support + r->predicted;
        r->f1 = both > 0 ? 2.0 * (double)r->correct / (double)both : (double)NAN;
        if (r->support > 0) {
            with_samples++;
            recall += r->recall;
        }
        if (both > 0) {
            occurring++;
            f1 += r->f1;
        }
    }
    m->mean_class_accuracy = recall / with_samples;
    m->macro_f1 = f1 / occurring;
}

static void finish_bins(kd_metrics *m, const sums *a)
{
    for (int b = 0; b < m->bins; b++) {
        kd_calibration_bin *bin = &m->bin[b];
        const double count = (double)bin->count;
        bin->confidence = bin->count > 0 ? a->confidence[b] / count : (double)NAN;
        bin->accuracy = bin->count > 0 ? (double)a->right[b] / count : (double)NAN;
        if (bin->count > 0) {
            m->ece += count / (double)m->n * fabs(bin->accuracy - bin->confidence);
        }
    }
}

kd_status kd_metrics_compute(const kd_scores *s, double temperature, int bins, kd_metrics *out, kd_err *err)
{
    memset(out, 0, sizeof *out);
    if (!(temperature > 0.0) || bins < 1 || bins > KD_ECE_BINS_MAX) {
        return KD_FAIL(err, KD_E_ARG, "metrics: temperature %g, %d bins: expected > 0, 1 to %d", temperature, bins,
                       KD_ECE_BINS_MAX);
    }
    KD_TRY(check(s, err));
    const size_t k = (size_t)s->classes;
    out->n = s->n;
    out->classes = s->classes;
    out->bins = bins;
    out->temperature = temperature;
    out->per_class = kd_calloc(k, sizeof *out->per_class);
    out->confusion = kd_calloc(k * k, sizeof *out->confusion);
    out->prediction = kd_calloc(s->n, sizeof *out->prediction);
    if (out->per_class == NULL || out->confusion == NULL || out->prediction == NULL) {
        kd_metrics_free(out);
        return KD_FAIL(err, KD_E_OOM, "metrics: out of memory for %zu samples", s->n);
    }
    sums a;
    memset(&a, 0, sizeof a);
    for (size_t i = 0; i < s->n; i++) {
        add_sample(s, i, out, &a);
    }
    const double n = (double)s->n;
    out->top1 = (double)a.top1 / n;
    out->micro_f1 = out->top1;
    out->top5 = (double)a.top5 / n;
    out->nll = a.nll / n;
    out->brier = a.brier / n;
    finish_classes(out);
    finish_bins(out, &a);
    return KD_OK;
}

void kd_metrics_free(kd_metrics *m)
{
    kd_free(m->per_class);
    kd_free(m->confusion);
    kd_free(m->prediction);
    m->per_class = NULL;
    m->confusion = NULL;
    m->prediction = NULL;
}

/* NLL is convex in 1/T, so golden-section search on log T finds the one minimum. */
kd_status kd_temperature_fit(const kd_scores *s, double *temperature, kd_err *err)
{
    KD_TRY(check(s, err));
    const double golden = 0.61803398874989485;
    double lo = log(0.05);
    double hi = log(20.0);
    double x = hi - golden * (hi - lo);
    double y = lo + golden * (hi - lo);
    double fx = kd_nll(s, exp(x));
    double fy = kd_nll(s, exp(y));
    for (int i = 0; i < 40; i++) {
        if (fx < fy) {
            hi = y;
            y = x;
            fy = fx;
            x = hi - golden * (hi - lo);
            fx = kd_nll(s, exp(x));
        } else {
            lo = x;
            x = y;
            fx = fy;
            y = lo + golden * (hi - lo);
            fy = kd_nll(s, exp(y));
        }
    }
    *temperature = exp(0.5 * (lo + hi));
    return KD_OK;
}
