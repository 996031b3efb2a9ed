/* Cells, pairs, intervals, tests: see study.h. */
#include "distill/study/study.h"

#include <math.h>
#include <stdio.h>

const char *kd_study_key(kd_study_figure f)
{
    static const char *const KEY[KD_STUDY_FIGURES] = {"top1", "mean_class_accuracy", "macro_f1", "nll", "ece"};
    return KEY[f];
}

bool kd_study_by_person(const kd_study *s)
{
    return s->factor[KD_FACTOR_PERSON].n > 1;
}

/* ---- runs ------------------------------------------------------------------------------------ */

kd_status kd_study_open(kd_study *s, const char *const *label, const int *baseline, size_t n, kd_err *err)
{
    memset(s, 0, sizeof *s);
    s->draws = 2000;
    s->confidence = 0.95;
    s->cell = kd_calloc(n, sizeof *s->cell);
    if (s->cell == NULL) {
        return KD_FAIL(err, KD_E_OOM, "study: out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        s->cell[i].baseline = baseline[i];
        s->cell[i].label = kd_strdup(label[i]);
        s->n_cells++;
        if (s->cell[i].label == NULL) {
            return KD_FAIL(err, KD_E_OOM, "study: out of memory");
        }
    }
    return KD_OK;
}

static void copy_hash(char to[65], const char *from)
{
    (void)snprintf(to, 65, "%s", from != NULL ? from : "");
}

static kd_status take(kd_study *s, kd_study_cell *c, const kd_report *r, kd_err *err)
{
    const size_t n = s->first.n;
    kd_study_run *run = &c->run[c->n];
    const kd_metrics *m = &r->metrics;
    int32_t *prediction = kd_calloc(n, sizeof *prediction);
    float *right = kd_calloc(n, sizeof *right);
    kd_status st = KD_OK;
    if (prediction == NULL || right == NULL || (run->path = kd_strdup(r->path)) == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "study: out of memory");
        goto done;
    }
    KD_GO(kd_compare_join(&s->first, s->order, r, prediction, err));
    for (size_t i = 0; i < n; i++) {
        right[i] = prediction[i] == s->first.labels[i] ? 1.0f : 0.0f;
    }
    run->seed = r->seed;
    const double figure[KD_STUDY_FIGURES] = {m->top1, m->mean_class_accuracy, m->macro_f1, m->nll, m->ece};
    memcpy(run->figure, figure, sizeof figure);
    copy_hash(run->config, r->config_hash);
    copy_hash(run->weights, r->weights_hash);
    c->mixed_recipes |= c->n > 0 && strcmp(run->config, c->run[0].config) != 0;
    c->right[c->n++] = right;
    right = NULL;
done:
    if (st != KD_OK) {
        kd_free(run->path);
        run->path = NULL;
    }
    kd_free(prediction);
    kd_free(right);
    return st;
}

kd_status kd_study_add(kd_study *s, size_t cell, kd_report *r, kd_err *err)
{
    kd_study_cell *c = &s->cell[cell];
    kd_status st = KD_OK;
    for (size_t i = 0; i < c->n && st == KD_OK; i++) {
        if (c->run[i].seed == r->seed) {
            st = KD_FAIL(err, KD_E_DATA, "%s: expected one run a seed, found another of seed %lld: %s", c->label,
                         (long long)r->seed, r->path);
        }
    }
    if (st == KD_OK && c->n == KD_STUDY_RUNS) {
        st = KD_FAIL(err, KD_E_DATA, "%s: expected at most %d runs, found more", c->label, KD_STUDY_RUNS);
    }
    const bool first = s->order == NULL;
    if (st == KD_OK && first) {
        s->first = *r;
        memset(r, 0, sizeof *r);
        r = &s->first;
        st = kd_report_order(r, &s->order, err);
        st = st == KD_OK ? kd_factors_of(r->ids, r->n, s->factor, err) : st;
    }
    st = st == KD_OK ? take(s, c, r, err) : st;
    if (!first) {
        kd_report_free(r);
    }
    return st;
}

void kd_study_free(kd_study *s)
{
    for (size_t i = 0; i < s->n_cells; i++) {
        for (size_t k = 0; k < s->cell[i].n; k++) {
            kd_free(s->cell[i].run[k].path);
            kd_free(s->cell[i].right[k]);
        }
        kd_free(s->cell[i].label);
    }
    kd_free(s->cell);
    kd_free(s->order);
    kd_factors_free(s->factor);
    kd_report_free(&s->first);
    memset(s, 0, sizeof *s);
}

/* ---- statistics ------------------------------------------------------------------------------ */

/* Both intervals of the mean over rows [groups][n]; seeds and clips, or seeds and persons, are drawn. */
static kd_status intervals(const kd_study *s, const float *row, size_t groups, kd_interval *by_clip,
                           kd_interval *by_person, kd_err *err)
{
    const kd_factor *x = &s->factor[KD_FACTOR_PERSON];
    const kd_clusters people = {x->of, x->n};
    const size_t n = s->first.n;
    KD_TRY(kd_bootstrap(row, groups, n, s->draws, s->confidence, 0, by_clip, err));
    return kd_study_by_person(s)
               ? kd_bootstrap_clusters(row, groups, NULL, 0, n, &people, s->draws, s->confidence, 0, by_person, err)
               : KD_OK;
}

static kd_status measure_cell(const kd_study *s, kd_study_cell *c, kd_err *err)
{
    const size_t n = s->first.n;
    float *row = kd_calloc(c->n * n, sizeof *row);
    if (row == NULL) {
        return KD_FAIL(err, KD_E_OOM, "study: out of memory");
    }
    for (int f = 0; f < KD_STUDY_FIGURES; f++) {
        double value[KD_STUDY_RUNS];
        for (size_t i = 0; i < c->n; i++) {
            value[i] = c->run[i].figure[f];
        }
        c->figure[f] = kd_spread_of(value, c->n);
    }
    for (size_t i = 0; i < c->n; i++) {
        memcpy(row + i * n, c->right[i], n * sizeof *row);
    }
    const kd_status st = intervals(s, row, c->n, &c->by_clip, &c->by_person, err);
    kd_free(row);
    return st;
}

/* Exact tests with clips and with persons as the coins; sum [samples]: of the differences over the seeds. */
static kd_status coin_tests(const kd_study *s, const int64_t *sum, kd_study_pair *p, kd_err *err)
{
    const kd_factor *x = &s->factor[KD_FACTOR_PERSON];
    KD_TRY(kd_mcnemar_clusters(sum, s->first.n, &p->p_clip, err));
    p->p_person = (double)NAN;
    if (!kd_study_by_person(s)) {
        return KD_OK;
    }
    int64_t *person = kd_calloc(x->n, sizeof *person);
    if (person == NULL) {
        return KD_FAIL(err, KD_E_OOM, "study: out of memory");
    }
    for (size_t i = 0; i < s->first.n; i++) {
        person[x->of[i]] += sum[i];
    }
    const kd_status st = kd_mcnemar_clusters(person, x->n, &p->p_person, err);
    kd_free(person);
    return st;
}

static kd_status measure_pair(const kd_study *s, kd_study_cell *c, const kd_study_cell *b, kd_err *err)
{
    const size_t n = s->first.n;
    kd_study_pair *p = &c->pair;
    float *row = kd_calloc(KD_MAX(c->n, (size_t)1) * n, sizeof *row);
    int64_t *sum = kd_calloc(n, sizeof *sum);
    kd_status st = KD_OK;
    if (row == NULL || sum == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "study: out of memory");
        goto done;
    }
    for (size_t i = 0; i < c->n; i++) {
        size_t k = 0;
        while (k < b->n && b->run[k].seed != c->run[i].seed) {
            k++;
        }
        for (size_t at = 0; k < b->n && at < n; at++) {
            row[p->n * n + at] = c->right[i][at] - b->right[k][at];
            sum[at] += (int64_t)row[p->n * n + at];
        }
        if (k < b->n) {
            p->seed[p->n] = c->run[i].seed;
            p->difference[p->n++] = c->run[i].figure[KD_STUDY_TOP1] - b->run[k].figure[KD_STUDY_TOP1];
        }
    }
    p->measured = p->n > 0;
    if (p->measured) {
        kd_paired_t(p->difference, p->n, s->confidence, &p->by_seed, &p->p_seed);
        KD_GO(intervals(s, row, p->n, &p->by_clip, &p->by_person, err));
        KD_GO(coin_tests(s, sum, p, err));
        p->p = fmax(p->p_seed, fmax(p->p_clip, isnan(p->p_person) ? 0.0 : p->p_person));
    }
done:
    kd_free(row);
    kd_free(sum);
    return st;
}

/* Which side of zero an interval lies on; 0: it holds zero, or is unknown. */
static int side(const kd_interval *v)
{
    return v->low > 0.0 ? 1 : v->high < 0.0 ? -1 : 0;
}

static kd_verdict judge(const kd_study *s, const kd_study_cell *c, const kd_study_cell *b)
{
    const kd_study_pair *p = &c->pair;
    const int way = side(&p->by_seed);
    if (c->mixed_recipes || b->mixed_recipes) {
        return KD_VERDICT_MIXED_RECIPES;
    }
    if (p->n < KD_COMPARE_SEEDS) {
        return KD_VERDICT_FEW_SEEDS;
    }
    const bool clear = way != 0 && side(&p->by_clip) == way && (!kd_study_by_person(s) || side(&p->by_person) == way);
    if (!clear || !(p->adjusted < 1.0 - s->confidence)) {
        return KD_VERDICT_OPEN;
    }
    return way > 0 ? KD_VERDICT_BETTER : KD_VERDICT_WORSE;
}

kd_status kd_study_measure(kd_study *s, kd_err *err)
{
    double *p = kd_calloc(s->n_cells, sizeof *p), *adjusted = kd_calloc(s->n_cells, sizeof *adjusted);
    kd_status st = KD_OK;
    if (p == NULL || adjusted == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "study: out of memory");
        goto done;
    }
    if (s->order == NULL) {
        st = KD_FAIL(err, KD_E_ARG, "study: no run has a report");
        goto done;
    }
    for (size_t i = 0; i < s->n_cells; i++) {
        kd_study_cell *c = &s->cell[i];
        if (c->n > 0) {
            KD_GO(measure_cell(s, c, err));
        }
        if (c->n > 0 && c->baseline >= 0 && (size_t)c->baseline != i) {
            KD_GO(measure_pair(s, c, &s->cell[c->baseline], err));
        }
        p[i] = c->pair.measured ? c->pair.p : (double)NAN;
        s->n_pairs += c->pair.measured;
    }
    KD_GO(kd_holm(p, s->n_cells, adjusted, err));
    for (size_t i = 0; i < s->n_cells; i++) {
        kd_study_cell *c = &s->cell[i];
        c->pair.adjusted = adjusted[i];
        c->pair.verdict = c->pair.measured ? judge(s, c, &s->cell[c->baseline]) : KD_VERDICT_FEW_SEEDS;
    }
done:
    kd_free(p);
    kd_free(adjusted);
    return st;
}
