#include "distill/report/compare_internal.h"
#include "distill/report/text.h"
#include "formats/base/merge.h"

#include <math.h>
#include <stdlib.h>

/* ---- calibration ----------------------------------------------------------------------------- */

/* Halves by a multiplicative hash of the position: every second sample would follow the data's own order of cameras
 * and people. */
static bool in_first_half(size_t i)
{
    return ((uint32_t)i * 2654435761u >> 16 & 1u) != 0;
}

typedef struct bins {
    double confidence[KD_ECE_BINS];
    int64_t right[KD_ECE_BINS], count[KD_ECE_BINS];
} bins;

static void bin_sample(bins *b, const float *row, int classes, int label, double temperature)
{
    int guess = 0;
    for (int c = 1; c < classes; c++) {
        guess = row[c] > row[guess] ? c : guess;
    }
    const double p = exp((double)row[guess] / temperature - kd_log_sum_exp(row, (size_t)classes, temperature));
    int at = (int)ceil(p * KD_ECE_BINS) - 1;
    at = KD_MIN(KD_ECE_BINS - 1, KD_MAX(0, at));
    b->confidence[at] += p;
    b->right[at] += guess == label;
    b->count[at]++;
}

static double finish_bins(const bins *b, size_t n, kd_calibration_bin out[KD_ECE_BINS])
{
    double ece = 0.0;
    for (int i = 0; i < KD_ECE_BINS; i++) {
        const double count = (double)b->count[i];
        out[i].count = b->count[i];
        out[i].confidence = b->count[i] > 0 ? b->confidence[i] / count : (double)NAN;
        out[i].accuracy = b->count[i] > 0 ? (double)b->right[i] / count : (double)NAN;
        if (b->count[i] > 0) {
            ece += count / (double)n * fabs(out[i].accuracy - out[i].confidence);
        }
    }
    return ece;
}

/* Copies one half of the samples. */
static size_t take_half(const kd_report *r, bool first, float *score, int32_t *label)
{
    const size_t k = (size_t)r->classes;
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (in_first_half(i) == first) {
            memcpy(score + n * k, r->logits + i * k, k * sizeof *score);
            label[n++] = r->labels[i];
        }
    }
    return n;
}

kd_status kdi_compare_calibrate(const kd_report *r, compare_calibration *out, kd_calibration_bin before[KD_ECE_BINS],
                                kd_calibration_bin after[KD_ECE_BINS], kd_err *err)
{
    const size_t k = (size_t)r->classes;
    float *score = kd_calloc(r->n * k, sizeof *score);
    int32_t *label = kd_calloc(r->n, sizeof *label);
    kd_status st = KD_OK;
    bins raw;
    bins scaled;
    memset(&raw, 0, sizeof raw);
    memset(&scaled, 0, sizeof scaled);
    memset(out, 0, sizeof *out);
    if (score == NULL || label == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "compare: out of memory");
        goto done;
    }
    const kd_scores all = {r->logits, r->labels, r->n, r->classes};
    KD_GO(kd_temperature_fit(&all, &out->temperature, err));
    for (int half = 0; half < 2; half++) {
        double temperature = 1.0;
        const size_t other = take_half(r, half != 0, score, label);
        const kd_scores fit = {score, label, other, r->classes};
        if (other > 0) {
            KD_GO(kd_temperature_fit(&fit, &temperature, err));
        }
        const size_t n = take_half(r, half == 0, score, label);
        const kd_scores held = {score, label, n, r->classes};
        if (n > 0) {
            out->nll_scaled += kd_nll(&held, temperature) * (double)n / (double)r->n;
        }
        for (size_t i = 0; i < n; i++) {
            bin_sample(&raw, score + i * k, r->classes, label[i], 1.0);
            bin_sample(&scaled, score + i * k, r->classes, label[i], temperature);
        }
    }
    out->ece = finish_bins(&raw, r->n, before);
    out->ece_scaled = finish_bins(&scaled, r->n, after);
done:
    kd_free(score);
    kd_free(label);
    return st;
}

/* ---- warnings -------------------------------------------------------------------------------- */

void kdi_compare_warning(kd_comparison *c, char *text)
{
    if (text == NULL || c->n_warnings == KD_COMPARE_WARNINGS_MAX) {
        kd_free(text);
        return;
    }
    c->warning[c->n_warnings++] = text;
}

static bool same(const char *a, const char *b)
{
    return a != NULL && b != NULL && a[0] != '\0' && strcmp(a, b) == 0;
}

static void warn_about_run(kd_comparison *c, const kd_report *r)
{
    const kd_report *t = c->teacher;
    if (r->failed > 0) {
        kdi_compare_warning(
            c, kd_strf("%s (seed %lld): %lld samples are absent or could not be read, and not in the figures.",
                       r->label, (long long)r->seed, (long long)r->failed));
    }
    if (r == t) {
        return;
    }
    if (same(r->weights_hash, t->weights_hash)) {
        kdi_compare_warning(c, kd_strf("%s (seed %lld) has the teacher's own weights.", r->label, (long long)r->seed));
    }
}

static void warn_about_group(kd_comparison *c, size_t index)
{
    const kd_group *g = &c->group[index];
    const kd_report *r = c->report[g->typical];
    if (g->n_seeds < KD_COMPARE_SEEDS) {
        kdi_compare_warning(
            c,
            kd_strf("%s: %zu seed%s; the spread between seeds is %s. %d or more are needed to tell a difference from "
                    "luck.",
                    g->label, g->n_seeds, g->n_seeds == 1 ? "" : "s", g->n_seeds == 1 ? "unknown" : "poorly known",
                    KD_COMPARE_SEEDS));
    }
    for (size_t i = 0; i < g->n_runs; i++) {
        for (size_t j = i + 1; j < g->n_runs; j++) {
            if (same(c->report[g->run[i]]->weights_hash, c->report[g->run[j]]->weights_hash)) {
                kdi_compare_warning(c, kd_strf("%s: two of its runs have the same weights; they are one run "
                                               "counted twice.",
                                               g->label));
            }
        }
    }
    if (g->mixed_recipes) {
        kdi_compare_warning(
            c, kd_strf("%s: its runs were made with different recipes; they are no seeds of one.", g->label));
    }
    if (g->figure[KD_FIG_TOP1].mean <= 1.5 / c->classes) {
        kdi_compare_warning(c, kd_strf("%s is near chance (%.1f %% with %d classes).", g->label,
                                       100.0 * g->figure[KD_FIG_TOP1].mean, c->classes));
    }
    if (strcmp(r->views, c->teacher->views) != 0) {
        kdi_compare_warning(
            c, kd_strf("%s was measured with %s views, the teacher with %s.", g->label, r->views, c->teacher->views));
    }
}

/* Weights chosen by the figure that is reported. */
static void warn_about_choice(kd_comparison *c, const kd_group *g)
{
    size_t chosen = 0;
    for (size_t i = 0; i < g->n_runs; i++) {
        chosen += same(c->report[g->run[i]]->selected_on, c->report[g->run[i]]->half);
    }
    if (chosen > 0) {
        kdi_compare_warning(c, kd_strf("%s: in %zu of %zu runs the epoch was chosen that did best on the half that is "
                                       "reported here (%s): the figures are flattered.",
                                       g->label, chosen, g->n_runs, c->teacher->half));
    }
}

static void warn_about_people(kd_comparison *c)
{
    enum { FEW = 10 };
    const size_t n = c->factor[KD_FACTOR_PERSON].n;
    const char *missing = kdi_compare_no_person(c);
    if (missing != NULL) {
        kdi_compare_warning(c, kd_strf("%s", missing));
    } else if (n < FEW) {
        kdi_compare_warning(
            c, kd_strf("Only %zu persons: an interval by person is rough with so few, and a test by person cannot "
                       "give p below %.2g.",
                       n, pow(2.0, 1.0 - (double)n)));
    }
}

kd_status kdi_compare_warn(kd_comparison *c, kd_err *err)
{
    (void)err;
    if (c->n < 200) {
        kdi_compare_warning(c, kd_strf("Only %zu samples: one sample is %.1f points.", c->n, 100.0 / (double)c->n));
    }
    warn_about_people(c);
    for (size_t i = 0; i < c->n_reports; i++) {
        warn_about_run(c, c->report[i]);
    }
    for (size_t g = 0; g < c->n_groups; g++) {
        warn_about_choice(c, &c->group[g]);
    }
    for (size_t g = 1; g < c->n_groups; g++) {
        warn_about_group(c, g);
    }
    for (size_t g = 1; g < c->n_groups; g++) {
        const kd_group *x = &c->group[g];
        if (x->n_seeds >= KD_COMPARE_SEEDS && x->to_teacher.low > 0.0 &&
            (!kd_compare_by_person(c) || x->to_teacher_person.low > 0.0)) {
            kdi_compare_warning(
                c, kd_strf("%s is ahead of its teacher: a stronger teacher may be worth more than a better recipe.",
                           x->label));
            break;
        }
    }
    return KD_OK;
}

/* ---- pairs of classes ------------------------------------------------------------------------ */

static int compare_pairs_by_count(const void *a, const void *b)
{
    const compare_pair *x = a;
    const compare_pair *y = b;
    if (x->count != y->count) {
        return x->count < y->count ? 1 : -1;
    }
    if (x->label != y->label) {
        return x->label < y->label ? -1 : 1;
    }
    return x->prediction < y->prediction ? -1 : x->prediction > y->prediction;
}

kd_status kdi_compare_pairs(const kd_comparison *c, size_t report, bool teacher_right, compare_pair **out, size_t *n,
                            kd_err *err)
{
    const size_t k = (size_t)c->classes;
    *n = 0;
    *out = kd_calloc(KD_MIN(k * k, c->n) + 1, sizeof **out);
    size_t *count = kd_calloc(k * k, sizeof *count);
    if (*out == NULL || count == NULL) {
        kd_free(*out);
        kd_free(count);
        *out = NULL;
        return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    }
    for (size_t i = 0; i < c->n; i++) {
        const int32_t label = c->teacher->labels[i];
        const int32_t guess = c->prediction[report][i];
        if ((!teacher_right || c->prediction[0][i] == label) && guess != label) {
            count[(size_t)label * k + (size_t)guess]++;
        }
    }
    for (size_t i = 0; i < k * k; i++) {
        if (count[i] > 0) {
            const compare_pair p = {(int)(i / k), (int)(i % k), count[i]};
            (*out)[(*n)++] = p;
        }
    }
    kd_free(count);
    qsort(*out, *n, sizeof **out, compare_pairs_by_count);
    return KD_OK;
}

/* ---- the verdict ----------------------------------------------------------------------------- */

kd_verdict kdi_compare_judge(const kd_comparison *c, const kd_group *g)
{
    const kd_group *b = &c->group[1];
    const bool people = kd_compare_by_person(c);
    const kd_interval *d = &g->to_baseline, *p = people ? &g->to_baseline_person : d;
    if (b->mixed_recipes || g->mixed_recipes) {
        return KD_VERDICT_MIXED_RECIPES;
    }
    if (b->n_seeds < KD_COMPARE_SEEDS || g->n_seeds < KD_COMPARE_SEEDS) {
        return KD_VERDICT_FEW_SEEDS;
    }
    return d->low > 0.0 && p->low > 0.0     ? KD_VERDICT_BETTER
           : d->high < 0.0 && p->high < 0.0 ? KD_VERDICT_WORSE
                                            : KD_VERDICT_OPEN;
}

const char *kd_verdict_word(kd_verdict v)
{
    return v == KD_VERDICT_BETTER  ? "better"
           : v == KD_VERDICT_WORSE ? "worse"
           : v == KD_VERDICT_OPEN  ? "not settled"
                                   : "no verdict";
}

void kdi_compare_missing(const kd_comparison *c, const kd_group *g, char *out, size_t size)
{
    const kd_group *side[2] = {&c->group[1], g};
    size_t at = 0;
    out[0] = '\0';
    if (g->verdict == KD_VERDICT_MIXED_RECIPES) {
        (void)snprintf(out, size, "the runs of %.60s are of several recipes",
                       c->group[1].mixed_recipes ? c->group[1].label : g->label);
        return;
    }
    for (int i = 0; i < 2 && g->verdict == KD_VERDICT_FEW_SEEDS && at < size; i++) {
        const size_t have = side[i]->n_seeds;
        at += (size_t)snprintf(out + at, size - at, "%s%zu seed%s of %.60s", i == 0 ? "" : " and ", have,
                               have == 1 ? "" : "s", side[i]->label);
        if (have < KD_COMPARE_SEEDS && at < size) {
            at += (size_t)snprintf(out + at, size - at, " (%zu missing)", KD_COMPARE_SEEDS - have);
        }
    }
    if (at > 0 && at < size) {
        (void)snprintf(out + at, size - at, ", and a verdict takes %d a side", KD_COMPARE_SEEDS);
    }
}

/* One sentence on a student against the baseline. */
static void verdict_of(const kd_comparison *c, const kd_group *g, kd_text *t)
{
    char missing[320];
    const kd_interval *d = &g->to_baseline, *p = &g->to_baseline_person;
    kd_text_f(t, " Against %.80s, %.80s is %+.1f points (%+.1f to %+.1f by clip", c->group[1].label, g->label,
              100.0 * d->mean, 100.0 * d->low, 100.0 * d->high);
    if (kd_compare_by_person(c)) {
        kd_text_f(t, ", %+.1f to %+.1f by person", 100.0 * p->low, 100.0 * p->high);
    }
    kdi_compare_missing(c, g, missing, sizeof missing);
    if (missing[0] != '\0') {
        kd_text_f(t, "): no verdict, %s.", missing);
    } else if (g->verdict == KD_VERDICT_OPEN) {
        kd_text_add(t, "): the data do not settle which is better.");
    } else {
        kd_text_f(t, "): %s.", kd_verdict_word(g->verdict));
    }
}

char *kd_compare_verdict(const kd_comparison *c)
{
    kd_text t;
    memset(&t, 0, sizeof t);
    size_t best = 1;
    for (size_t g = 2; g < c->n_groups; g++) {
        best = c->group[g].top1.mean > c->group[best].top1.mean ? g : best;
    }
    const kd_group *b = &c->group[best];
    const double gap = -100.0 * b->to_teacher.mean;
    kd_text_f(&t, "%.80s reaches %.1f %% top-1 (%.0f %% interval %.1f to %.1f by clip", b->label, 100.0 * b->top1.mean,
              100.0 * c->opts.confidence, 100.0 * b->top1.low, 100.0 * b->top1.high);
    if (kd_compare_by_person(c)) {
        kd_text_f(&t, ", %.1f to %.1f by person", 100.0 * b->top1_person.low, 100.0 * b->top1_person.high);
    }
    kd_text_f(&t, "), %.1f points %s the teacher's %.1f %%.", fabs(gap), gap >= 0.0 ? "below" : "above",
              100.0 * c->group[0].top1.mean);
    for (size_t g = 2; g < c->n_groups; g++) {
        verdict_of(c, &c->group[g], &t);
    }
    if (t.failed) {
        kd_text_free(&t);
    }
    return t.data;
}
