/* Joining and measuring: see compare.h. */
#include "distill/report/compare.h"

#include "distill/report/compare_internal.h"

#include <math.h>

const char *kd_figure_key(kd_compare_figure f)
{
    static const char *const KEY[KD_FIG_COUNT] = {"top1",
                                                  "top5",
                                                  "mean_class_accuracy",
                                                  "macro_f1",
                                                  "nll",
                                                  "ece",
                                                  "brier",
                                                  "temperature",
                                                  "nll_after_temperature",
                                                  "ece_after_temperature"};
    return f < KD_FIG_COUNT ? KEY[f] : "";
}

/* ---- may they be compared -------------------------------------------------------------------- */

static kd_status same_text(const kd_report *t, const kd_report *s, const char *what, const char *a, const char *b,
                           kd_err *err)
{
    if (strcmp(a != NULL ? a : "", b != NULL ? b : "") != 0) {
        char x[KD_SHOWN_PAIR], y[KD_SHOWN_PAIR];
        kd_show_pair(x, y, a != NULL ? a : "", b != NULL ? b : "");
        return KD_FAIL(err, KD_E_DATA, "unlike protocols: %s is '%s' in %s, '%s' in %s", what, x,
                       t->path != NULL ? t->path : t->label, y, s->path != NULL ? s->path : s->label);
    }
    return KD_OK;
}

static kd_status same_protocol(const kd_report *t, const kd_report *s, kd_err *err)
{
    char text[2][48];
    KD_TRY(same_text(t, s, "data set", t->dataset, s->dataset, err));
    KD_TRY(same_text(t, s, "split", t->split, s->split, err));
    KD_TRY(same_text(t, s, "half", t->half, s->half, err));
    (void)snprintf(text[0], sizeof text[0], "%d", t->classes);
    (void)snprintf(text[1], sizeof text[1], "%d", s->classes);
    KD_TRY(same_text(t, s, "number of classes", text[0], text[1], err));
    for (int c = 0; c < t->classes; c++) {
        char what[48];
        char a[24];
        char b[24];
        (void)snprintf(what, sizeof what, "name of class %d", c);
        KD_TRY(same_text(t, s, what, kd_report_class(t, c, a), kd_report_class(s, c, b), err));
    }
    return KD_OK;
}

/* A student that was taught by other weights than those reported says nothing about this teacher. */
static kd_status same_teacher(kd_comparison *c, const kd_report *s, kd_err *err)
{
    const kd_report *t = c->teacher;
    const char *taught = s->teacher_weights_hash;
    if (taught == NULL || taught[0] == '\0') {
        return KD_OK; /* taught by nobody */
    }
    if (t->weights_hash == NULL || t->weights_hash[0] == '\0') {
        kdi_compare_warning(c, kd_strf("%s (seed %lld) was taught by the weights %.12s; the report of %s does not name "
                                       "its weights: whether they are the same cannot be checked.",
                                       s->label, (long long)s->seed, taught, t->label));
        return KD_OK;
    }
    if (strstr(taught, t->weights_hash) != NULL) { /* of several teachers the hashes stand in a row */
        return KD_OK;
    }
    if (!c->opts.any_teacher) {
        return KD_FAIL(
            err, KD_E_INTEGRITY,
            "%s was taught by the weights %.12s%s, but %s reports the weights %.12s: evaluate the teacher that "
            "wrote the logits, or give --any-teacher",
            s->path != NULL ? s->path : s->label, taught, strchr(taught, ',') != NULL ? " and others" : "",
            t->path != NULL ? t->path : t->label, t->weights_hash);
    }
    kdi_compare_warning(c,
                        kd_strf("%s (seed %lld) was taught by other weights (%.12s) than those reported here (%.12s): "
                                "what it gained or lost is not this teacher's doing.",
                                s->label, (long long)s->seed, taught, t->weights_hash));
    return KD_OK;
}

/* ---- join ------------------------------------------------------------------------------------ */

static const char *name_of(const kd_report *r)
{
    return r->path != NULL ? r->path : r->label;
}

/* The first id that only one of them has; at: kd_report_join of `first` and `r`, which have not the same. */
static kd_status lone_sample(const kd_report *first, const kd_report *r, const size_t *at, kd_err *err)
{
    size_t lone = SIZE_MAX;
    const kd_report *owner = first;
    bool *shared = kd_calloc(KD_MAX(r->n, 1), sizeof *shared);
    if (shared == NULL) {
        return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    }
    for (size_t i = 0; i < first->n; i++) {
        if (at[i] != SIZE_MAX) {
            shared[at[i]] = true;
        } else if (lone == SIZE_MAX || strcmp(first->ids[i], first->ids[lone]) < 0) {
            lone = i;
        }
    }
    for (size_t i = 0; i < r->n; i++) {
        if (!shared[i] && (lone == SIZE_MAX || strcmp(r->ids[i], owner->ids[lone]) < 0)) {
            lone = i;
            owner = r;
        }
    }
    kd_free(shared);
    KD_ASSERT(lone != SIZE_MAX);
    return KD_FAIL(
        err, KD_E_DATA,
        "unlike protocols: sample %s is in %s only (%zu samples against %zu); all reports must be of the same "
        "samples: `kd dataset annotate` lists those that have video and skeleton, data.quarantine leaves out "
        "the damaged",
        owner->ids[lone], name_of(owner), first->n, r->n);
}

/* Every difference in ids or labels is refused. */
static kd_status join(const kd_report *first, const size_t *order, const kd_report *r, int32_t *prediction, kd_err *err)
{
    size_t found = 0;
    size_t *at = kd_calloc(KD_MAX(first->n, 1), sizeof *at);
    kd_status st = at != NULL ? kd_report_join(first, order, r, at, &found, err)
                              : KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    if (st == KD_OK && (found != first->n || found != r->n)) {
        st = lone_sample(first, r, at, err);
    }
    for (size_t i = 0; st == KD_OK && i < first->n; i++) {
        const size_t k = order[i];
        if (first->labels[k] != r->labels[at[k]]) {
            st = KD_FAIL(err, KD_E_DATA, "unlike protocols: sample %s has label %d in %s, %d in %s", first->ids[k],
                         (int)first->labels[k], name_of(first), (int)r->labels[at[k]], name_of(r));
        } else {
            prediction[k] = r->metrics.prediction[at[k]];
        }
    }
    kd_free(at);
    return st;
}

kd_status kd_compare_join(const kd_report *first, const size_t *order, const kd_report *r, int32_t *prediction,
                          kd_err *err)
{
    KD_TRY(same_protocol(first, r, err));
    return join(first, order, r, prediction, err);
}

/* ---- groups ---------------------------------------------------------------------------------- */

static kd_status assign_groups(kd_comparison *c, kd_err *err)
{
    for (size_t i = 0; i < c->n_reports; i++) {
        size_t g = i == 0 ? 0 : 1;
        while (g < c->n_groups && strcmp(c->group[g].label, c->report[i]->label) != 0) {
            g++;
        }
        if (g >= KD_COMPARE_GROUPS_MAX) {
            return KD_FAIL(err, KD_E_ARG, "compare: more than %d kinds of students", KD_COMPARE_GROUPS_MAX - 1);
        }
        kd_group *group = &c->group[g];
        if (g == c->n_groups) {
            group->label = c->report[i]->label;
            group->run = kd_calloc(c->n_reports, sizeof *group->run);
            group->recall = kd_calloc((size_t)c->classes, sizeof *group->recall);
            if (group->run == NULL || group->recall == NULL) {
                c->n_groups++;
                return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
            }
            c->n_groups++;
        }
        group->run[group->n_runs++] = i;
    }
    return KD_OK;
}

kd_spread kd_spread_of(const double *v, size_t n)
{
    kd_spread s = {0.0, 0.0, v[0], v[0]};
    for (size_t i = 0; i < n; i++) {
        s.mean += v[i] / (double)n;
        s.low = KD_MIN(s.low, v[i]);
        s.high = KD_MAX(s.high, v[i]);
    }
    for (size_t i = 0; n > 1 && i < n; i++) {
        s.sd += (v[i] - s.mean) * (v[i] - s.mean) / (double)(n - 1);
    }
    s.sd = sqrt(s.sd);
    return s;
}

static bool same_run(const kd_report *a, const kd_report *b)
{
    const bool hashes = a->weights_hash != NULL && b->weights_hash != NULL && a->weights_hash[0] != '\0';
    return a->seed == b->seed || (hashes && strcmp(a->weights_hash, b->weights_hash) == 0);
}

/* Seeds that tell something of the spread: a run given twice, or evaluated twice, is one. */
static void count_seeds(const kd_comparison *c, kd_group *g)
{
    g->n_seeds = 0;
    for (size_t i = 0; i < g->n_runs; i++) {
        const kd_report *r = c->report[g->run[i]], *first = c->report[g->run[0]];
        size_t j = 0;
        while (j < i && !same_run(r, c->report[g->run[j]])) {
            j++;
        }
        g->n_seeds += j == i;
        g->mixed_recipes |=
            r->config_hash != NULL && first->config_hash != NULL && strcmp(r->config_hash, first->config_hash) != 0;
    }
}

static double top1_of(const kd_comparison *c, size_t report)
{
    return c->report[report]->metrics.top1;
}

/* The run in the middle by top-1 (the lower middle of an even number; the first of equals). */
static size_t typical_run(const kd_comparison *c, const kd_group *g)
{
    for (size_t i = 0; i < g->n_runs; i++) {
        size_t below = 0;
        size_t equal_before = 0;
        for (size_t j = 0; j < g->n_runs; j++) {
            below += top1_of(c, g->run[j]) < top1_of(c, g->run[i]);
            equal_before += j < i && top1_of(c, g->run[j]) == top1_of(c, g->run[i]);
        }
        if (below + equal_before == (g->n_runs - 1) / 2) {
            return g->run[i];
        }
    }
    return g->run[0];
}

static kd_status measure_group(kd_comparison *c, kd_group *g, kd_err *err)
{
    double value[KD_FIG_COUNT][KD_COMPARE_RUNS_MAX];
    g->typical = typical_run(c, g);
    count_seeds(c, g);
    g->right = kd_calloc(g->n_runs * c->n, sizeof *g->right);
    if (g->right == NULL) {
        return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    }
    for (size_t i = 0; i < g->n_runs; i++) {
        const kd_report *r = c->report[g->run[i]];
        const kd_metrics *m = &r->metrics;
        kd_calibration_bin spare[KD_ECE_BINS];
        const bool typical = g->run[i] == g->typical;
        value[KD_FIG_TOP1][i] = m->top1;
        value[KD_FIG_TOP5][i] = m->top5;
        value[KD_FIG_MEAN_CLASS][i] = m->mean_class_accuracy;
        value[KD_FIG_MACRO_F1][i] = m->macro_f1;
        value[KD_FIG_NLL][i] = m->nll;
        value[KD_FIG_BRIER][i] = m->brier;
        compare_calibration cal;
        KD_TRY(kdi_compare_calibrate(r, &cal, typical ? g->before : spare, typical ? g->after : spare, err));
        value[KD_FIG_ECE][i] = cal.ece;
        value[KD_FIG_TEMPERATURE][i] = cal.temperature;
        value[KD_FIG_NLL_SCALED][i] = cal.nll_scaled;
        value[KD_FIG_ECE_SCALED][i] = cal.ece_scaled;
        for (int k = 0; k < c->classes; k++) {
            g->recall[k] += m->per_class[k].recall / (double)g->n_runs;
        }
        for (size_t s = 0; s < c->n; s++) {
            g->right[i * c->n + s] = c->prediction[g->run[i]][s] == c->teacher->labels[s] ? 1.0f : 0.0f;
        }
    }
    for (int f = 0; f < KD_FIG_COUNT; f++) {
        g->figure[f] = kd_spread_of(value[f], g->n_runs);
    }
    g->agreement = kd_agree(c->prediction[0], c->prediction[g->typical], c->teacher->labels, c->n);
    g->mcnemar = kd_mcnemar(g->agreement.only_first, g->agreement.only_second);
    return kdi_compare_by_factor(c, g, err);
}

static kd_status intervals(kd_comparison *c, kd_err *err)
{
    const kd_compare_opts *o = &c->opts;
    for (size_t i = 0; i < c->n_groups; i++) {
        kd_group *g = &c->group[i];
        KD_TRY(kd_bootstrap(g->right, g->n_runs, c->n, o->draws, o->confidence, o->seed, &g->top1, err));
        if (i > 0) {
            KD_TRY(kd_bootstrap_difference(g->right, g->n_runs, c->group[0].right, c->group[0].n_runs, c->n, o->draws,
                                           o->confidence, o->seed, &g->to_teacher, err));
        }
        if (i > 1) {
            KD_TRY(kd_bootstrap_difference(g->right, g->n_runs, c->group[1].right, c->group[1].n_runs, c->n, o->draws,
                                           o->confidence, o->seed, &g->to_baseline, err));
        }
        KD_TRY(kdi_compare_person_intervals(c, g, err));
        g->verdict = kdi_compare_judge(c, g);
    }
    return KD_OK;
}

kd_status kd_compare(const kd_report *const *report, size_t n_reports, const kd_compare_opts *opts, kd_comparison *out,
                     kd_err *err)
{
    memset(out, 0, sizeof *out);
    if (n_reports < 2 || n_reports > KD_COMPARE_RUNS_MAX) {
        return KD_FAIL(err, KD_E_ARG, "compare: expected a teacher and 1 to %d students, found %zu reports",
                       KD_COMPARE_RUNS_MAX - 1, n_reports);
    }
    if (opts != NULL) {
        out->opts = *opts;
    }
    out->opts.draws = out->opts.draws > 0 ? out->opts.draws : 2000;
    out->opts.confidence = out->opts.confidence > 0.0 ? out->opts.confidence : 0.95;
    out->report = report;
    out->n_reports = n_reports;
    out->teacher = report[0];
    out->n = report[0]->n;
    out->classes = report[0]->classes;
    size_t *order = NULL;
    kd_status st = KD_OK;
    for (size_t i = 1; i < n_reports; i++) {
        KD_GO(same_protocol(report[0], report[i], err));
        KD_GO(same_teacher(out, report[i], err));
    }
    KD_GO(kd_report_order(report[0], &order, err));
    out->prediction = kd_calloc(n_reports, sizeof *out->prediction);
    if (out->prediction == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "compare: out of memory");
        goto done;
    }
    for (size_t i = 0; i < n_reports; i++) {
        out->prediction[i] = kd_calloc(out->n, sizeof **out->prediction);
        if (out->prediction[i] == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "compare: out of memory");
            goto done;
        }
        KD_GO(join(report[0], order, report[i], out->prediction[i], err));
    }
    KD_GO(kdi_compare_factors(out, err));
    KD_GO(assign_groups(out, err));
    for (size_t g = 0; g < out->n_groups; g++) {
        KD_GO(measure_group(out, &out->group[g], err));
    }
    KD_GO(intervals(out, err));
    KD_GO(kdi_compare_warn(out, err));
done:
    kd_free(order);
    if (st != KD_OK) {
        kd_comparison_free(out);
    }
    return st;
}

void kd_comparison_free(kd_comparison *c)
{
    for (size_t i = 0; c->prediction != NULL && i < c->n_reports; i++) {
        kd_free(c->prediction[i]);
    }
    kd_free((void *)c->prediction);
    kdi_compare_factors_free(c);
    kdi_compare_curves_free(c);
    for (size_t g = 0; g < c->n_groups; g++) {
        kd_free(c->group[g].run);
        kd_free(c->group[g].recall);
        kd_free(c->group[g].right);
    }
    for (size_t i = 0; i < c->n_warnings; i++) {
        kd_free(c->warning[i]);
    }
    memset(c, 0, sizeof *c);
}
