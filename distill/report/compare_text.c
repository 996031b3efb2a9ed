/* The comparison as JSON, Markdown and CSV: see compare.h. */
#include "distill/report/compare_internal.h"
#include "distill/report/text.h"

#include <math.h>

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_interval(kd_json *o, const char *key, const kd_interval *v)
{
    kd_json *i = kd_json_set_object(o, key);
    kd_json_set_f64(i, "mean", v->mean);
    kd_json_set_f64(i, "low", v->low);
    kd_json_set_f64(i, "high", v->high);
}

static void put_figures(kd_json *o, const kd_group *g)
{
    kd_json *f = kd_json_set_object(o, "figures");
    for (int i = 0; i < KD_FIG_COUNT; i++) {
        kd_json *v = kd_json_set_object(f, kd_figure_key((kd_compare_figure)i));
        kd_json_set_f64(v, "mean", g->figure[i].mean);
        kd_json_set_f64(v, "sd", g->figure[i].sd);
        kd_json_set_f64(v, "low", g->figure[i].low);
        kd_json_set_f64(v, "high", g->figure[i].high);
    }
}

/* Beside an interval by clip the one by person, where there is one. */
static void put_by_person(const kd_comparison *c, kd_json *o, const char *key, const kd_interval *v)
{
    if (kd_compare_by_person(c)) {
        put_interval(o, key, v);
    }
}

static void put_runs(const kd_comparison *c, kd_json *o, const kd_group *g)
{
    kd_json *runs = kd_json_set_array(o, "runs");
    for (size_t i = 0; i < g->n_runs; i++) {
        const kd_report *r = c->report[g->run[i]];
        kd_json *run = kd_json_push_object(runs);
        kd_json_set_i64(run, "seed", r->seed);
        kd_json_set_str(run, "report", r->path);
        kd_json_set_f64(run, "top1", r->metrics.top1);
        kd_json_set_str(run, "weights", r->weights_hash);
        if (r->phase != NULL) {
            kd_json_set_str(run, "phase", r->phase);
        }
        kd_json_set_str(run, "selected_on", r->selected_on);
        if (r->taught_by != NULL) {
            kd_json_set_str(run, "taught_by", r->taught_by);
        }
        if (r->unlabelled > 0) {
            kd_json_set_i64(run, "unlabelled", r->unlabelled);
        }
        if (r->pseudo > 0) {
            kd_json_set_i64(run, "pseudo_labelled", r->pseudo);
        }
        kd_json_set_str(run, "config", r->config_hash);
        kd_json_set_str(run, "command", r->command);
    }
}

/* Ids in the four cells of the agreement table. */
static void put_agreement(const kd_comparison *c, kd_json *o, const kd_group *g)
{
    static const char *const KEY[4] = {"both_right", "only_teacher", "only_student", "both_wrong"};
    kd_json *a = kd_json_set_object(o, "agreement");
    const int64_t count[4] = {g->agreement.both_right, g->agreement.only_first, g->agreement.only_second,
                              g->agreement.both_wrong};
    for (int cell = 0; cell < 4; cell++) {
        kd_json *v = kd_json_set_object(a, KEY[cell]);
        kd_json_set_i64(v, "count", count[cell]);
        kd_json *ids = kd_json_set_array(v, "ids");
        for (size_t i = 0; i < c->n; i++) {
            const int32_t label = c->teacher->labels[i];
            const int wrong = (c->prediction[0][i] != label ? 2 : 0) + (c->prediction[g->typical][i] != label ? 1 : 0);
            if (wrong == cell) {
                kd_json_push_str(ids, c->teacher->ids[i]);
            }
        }
    }
    kd_json_set_f64(o, "mcnemar_p", g->mcnemar);
    kd_json_set_f64(o, "mcnemar_p_by_person", g->mcnemar_person);
}

static kd_status put_pairs(const kd_comparison *c, kd_json *o, const kd_group *g, kd_err *err)
{
    compare_pair *pair = NULL;
    size_t n = 0;
    KD_TRY(kdi_compare_pairs(c, g->typical, true, &pair, &n, err));
    kd_json *a = kd_json_set_array(o, "student_errs_teacher_does_not");
    for (size_t i = 0; i < n; i++) {
        char buf[24];
        kd_json *row = kd_json_push_object(a);
        kd_json_set_str(row, "label", kd_report_class(c->teacher, pair[i].label, buf));
        kd_json_set_str(row, "prediction", kd_report_class(c->teacher, pair[i].prediction, buf));
        kd_json_set_i64(row, "count", (int64_t)pair[i].count);
    }
    kd_free(pair);
    return KD_OK;
}

/* The values of the factors that the ids name, in the order of the groups' figures by them. */
static void put_factors(const kd_comparison *c, kd_json *d)
{
    kd_json *factors = kd_json_set_object(d, "factors");
    for (int f = 0; f < KD_FACTOR_COUNT; f++) {
        const kd_factor *x = &c->factor[f];
        kd_json *a = x->n > 0 ? kd_json_set_array(factors, kd_factor_key((kd_factor_id)f)) : NULL;
        for (size_t k = 0; k < x->n; k++) {
            kd_json *o = kd_json_push_object(a);
            kd_json_set_str(o, "name", x->name[k]);
            kd_json_set_i64(o, "samples", (int64_t)x->support[k]);
        }
    }
    kd_json_set_str(d, "no_interval_by_person", kdi_compare_no_person(c));
}

static void put_session(const kd_comparison *c, kd_json *d)
{
    if (c->latency.measured) {
        kd_json *o = kd_json_set_object(d, "latency_session");
        kd_json_set_str(o, "device", c->latency.device);
        kd_json_set_str(o, "dtype", c->latency.dtype);
        kd_json_set_i64(o, "threads", c->latency.threads);
    } else {
        kd_json_set_str(d, "latency_session", NULL);
    }
}

static kd_status put_group(const kd_comparison *c, kd_json *groups, size_t index, kd_err *err)
{
    const kd_group *g = &c->group[index];
    const kd_report *r = c->report[g->typical];
    kd_json *o = kd_json_push_object(groups);
    kd_json_set_str(o, "label", g->label);
    kd_json_set_str(o, "kind", r->kind);
    kd_json_set_str(o, "model", r->model);
    kd_json_set_i64(o, "parameters", r->parameters);
    kd_json_set_i64(o, "macs", r->macs);
    kd_json_set_i64(o, "bytes", r->bytes);
    kd_json_set_i64(o, "seeds", (int64_t)g->n_seeds);
    if (c->latency.measured) {
        kd_json *l = kd_json_set_object(o, "latency");
        kd_json_set_f64(l, "ms", g->latency.ms);
        kd_json_set_f64(l, "p99_ms", g->latency.p99_ms);
        kd_json_set_i64(l, "passes", g->latency.passes);
    }
    put_figures(o, g);
    put_interval(o, "top1_interval", &g->top1);
    put_by_person(c, o, "top1_interval_by_person", &g->top1_person);
    if (index > 0) {
        put_interval(o, "top1_minus_teacher", &g->to_teacher);
        put_by_person(c, o, "top1_minus_teacher_by_person", &g->to_teacher_person);
        put_agreement(c, o, g);
        KD_TRY(put_pairs(c, o, g, err));
    }
    if (index > 1) {
        char missing[320];
        put_interval(o, "top1_minus_baseline", &g->to_baseline);
        put_by_person(c, o, "top1_minus_baseline_by_person", &g->to_baseline_person);
        kdi_compare_missing(c, g, missing, sizeof missing);
        kd_json_set_str(o, "verdict", kd_verdict_word(g->verdict));
        kd_json_set_str(o, "missing_for_verdict", missing[0] != '\0' ? missing : NULL);
    }
    kd_json_set_f64s(o, "recall", g->recall, (size_t)c->classes);
    for (int f = 0; f < KD_FACTOR_COUNT; f++) {
        if (c->factor[f].n > 0) {
            char key[32];
            (void)snprintf(key, sizeof key, "top1_by_%s", kd_factor_key((kd_factor_id)f));
            kd_json_set_f64s(o, key, g->by_factor[f], c->factor[f].n);
        }
    }
    put_runs(c, o, g);
    return KD_OK;
}

kd_status kd_compare_write_json(const kd_comparison *c, const char *path, kd_err *err)
{
    kd_json *d = kd_json_object();
    const kd_report *t = c->teacher;
    kd_status st = KD_OK;
    char *verdict = kd_compare_verdict(c);
    kd_json_set_str(d, "format", "lastkd comparison");
    kd_json_set_i64(d, "version", 1);
    kd_json_set_str(d, "tool", kd_version());
    kd_json_set_str(d, "command", c->opts.command);
    kd_json_set_str(d, "verdict", verdict);
    kd_free(verdict);
    kd_json *p = kd_json_set_object(d, "protocol");
    kd_json_set_str(p, "dataset", t->dataset);
    kd_json_set_str(p, "split", t->split);
    kd_json_set_str(p, "half", t->half);
    kd_json_set_i64(p, "samples", (int64_t)c->n);
    kd_json_set_str(p, "ids_sha256", t->ids_hash);
    kd_json_set_i64(p, "bootstrap_draws", c->opts.draws);
    kd_json_set_f64(p, "confidence", c->opts.confidence);
    kd_json *names = kd_json_set_array(p, "classes");
    for (int k = 0; k < c->classes; k++) {
        char buf[24];
        kd_json_push_str(names, kd_report_class(t, k, buf));
    }
    kd_json *warnings = kd_json_set_array(d, "warnings");
    for (size_t i = 0; i < c->n_warnings; i++) {
        kd_json_push_str(warnings, c->warning[i]);
    }
    put_factors(c, d);
    put_session(c, d);
    kd_json *groups = kd_json_set_array(d, "groups");
    for (size_t g = 0; g < c->n_groups; g++) {
        KD_GO(put_group(c, groups, g, err));
    }
    st = kd_json_write(d, path, err);
done:
    kd_json_free(d);
    return st;
}

/* ---- Markdown -------------------------------------------------------------------------------- */

static void md_figure(kd_text *t, const kd_spread *s, size_t runs, double scale, int digits)
{
    kd_text_f(t, " %.*f", digits, scale * s->mean);
    if (runs > 1) {
        kd_text_f(t, " ± %.*f", digits, scale * s->sd);
    }
    kd_text_add(t, " |");
}

static void md_head(kd_text *t, const char *const *column, size_t n)
{
    kd_text_add(t, "|");
    for (size_t i = 0; i < n; i++) {
        kd_text_f(t, " %s |", column[i]);
    }
    kd_text_add(t, "\n|");
    for (size_t i = 0; i < n; i++) {
        kd_text_add(t, "---|");
    }
    kd_text_add(t, "\n");
}

static void md_by_person(const kd_comparison *c, kd_text *t, const kd_interval *v, const char *format)
{
    if (kd_compare_by_person(c)) {
        kd_text_f(t, format, 100.0 * v->low, 100.0 * v->high);
    } else {
        kd_text_add(t, " |");
    }
}

static void md_summary(const kd_comparison *c, kd_text *t)
{
    static const char *const COLUMN[] = {"model",     "seeds",   "top-1 %",      "interval by clip",
                                         "by person", "top-5 %", "mean class %", "macro F1",
                                         "NLL",       "ECE",     "ECE after T"};
    md_head(t, COLUMN, KD_COUNTOF(COLUMN));
    for (size_t i = 0; i < c->n_groups; i++) {
        const kd_group *g = &c->group[i];
        kd_text_add(t, "| ");
        kd_text_md(t, g->label);
        kd_text_f(t, " | %zu |", g->n_seeds);
        md_figure(t, &g->figure[KD_FIG_TOP1], g->n_runs, 100.0, 1);
        kd_text_f(t, " %.1f to %.1f |", 100.0 * g->top1.low, 100.0 * g->top1.high);
        md_by_person(c, t, &g->top1_person, " %.1f to %.1f |");
        md_figure(t, &g->figure[KD_FIG_TOP5], g->n_runs, 100.0, 1);
        md_figure(t, &g->figure[KD_FIG_MEAN_CLASS], g->n_runs, 100.0, 1);
        md_figure(t, &g->figure[KD_FIG_MACRO_F1], g->n_runs, 1.0, 3);
        md_figure(t, &g->figure[KD_FIG_NLL], g->n_runs, 1.0, 3);
        md_figure(t, &g->figure[KD_FIG_ECE], g->n_runs, 1.0, 3);
        md_figure(t, &g->figure[KD_FIG_ECE_SCALED], g->n_runs, 1.0, 3);
        kd_text_add(t, "\n");
    }
    kd_text_f(
        t,
        "\n± is the standard deviation between seeds; intervals are %.0f %% bootstrap, over clips and seeds and, by "
        "person, over persons and seeds. ",
        100.0 * c->opts.confidence);
    kd_text_add(t, "\"After T\": a temperature fitted on one half of the samples, measured on the other.\n");
}

static void md_difference(const kd_comparison *c, kd_text *t, const kd_interval *clip, const kd_interval *person)
{
    kd_text_f(t, " %+.1f (%+.1f to %+.1f) |", 100.0 * clip->mean, 100.0 * clip->low, 100.0 * clip->high);
    md_by_person(c, t, person, " %+.1f to %+.1f |");
}

static void md_differences(const kd_comparison *c, kd_text *t)
{
    static const char *const COLUMN[] = {
        "student",   "to the teacher (by clip)",       "by person", "McNemar p by clip",
        "by person", "to the first student (by clip)", "by person", "verdict"};
    kd_text_add(t, "\n## Differences in top-1, points\n\n");
    md_head(t, COLUMN, KD_COUNTOF(COLUMN));
    for (size_t i = 1; i < c->n_groups; i++) {
        const kd_group *g = &c->group[i];
        char missing[320];
        kd_text_add(t, "| ");
        kd_text_md(t, g->label);
        kd_text_add(t, " |");
        md_difference(c, t, &g->to_teacher, &g->to_teacher_person);
        kd_text_f(t, " %.3g |", g->mcnemar);
        kd_text_f(t, isnan(g->mcnemar_person) ? " |" : " %.3g |", g->mcnemar_person);
        if (i == 1) {
            kd_text_add(t, " baseline | | |\n");
            continue;
        }
        md_difference(c, t, &g->to_baseline, &g->to_baseline_person);
        kdi_compare_missing(c, g, missing, sizeof missing);
        kd_text_f(t, " %s%s", kd_verdict_word(g->verdict), missing[0] != '\0' ? ": " : "");
        kd_text_md(t, missing);
        kd_text_add(t, " |\n");
    }
    if (kdi_compare_no_person(c) != NULL) {
        kd_text_f(t, "\n%s\n", kdi_compare_no_person(c));
    }
}

/* The end of a table's heading, a column a group, after two columns of its own. */
static void md_group_columns(const kd_comparison *c, kd_text *t)
{
    for (size_t g = 0; g < c->n_groups; g++) {
        kd_text_add(t, " ");
        kd_text_md(t, c->group[g].label);
        kd_text_add(t, " |");
    }
    kd_text_add(t, "\n|---|---|");
    for (size_t g = 0; g < c->n_groups; g++) {
        kd_text_add(t, "---|");
    }
}

static void md_factors(const kd_comparison *c, kd_text *t)
{
    for (int f = 0; f < KD_FACTOR_COUNT; f++) {
        const kd_factor *x = &c->factor[f];
        if (x->n < 2) {
            continue;
        }
        kd_text_f(t, "\n## Top-1 by %s, %%\n\n| %s | samples |", kd_factor_key((kd_factor_id)f),
                  kd_factor_key((kd_factor_id)f));
        md_group_columns(c, t);
        for (size_t k = 0; k < x->n; k++) {
            kd_text_f(t, "\n| %s | %zu |", x->name[k], x->support[k]);
            for (size_t g = 0; g < c->n_groups; g++) {
                kd_text_f(t, " %.1f |", 100.0 * c->group[g].by_factor[f][k]);
            }
        }
        kd_text_add(t, "\n");
    }
}

static void md_latency(const kd_comparison *c, kd_text *t)
{
    if (!c->latency.measured) {
        return;
    }
    kd_text_f(t, "\n## Latency, ms\n\nOne sample and view, all models by turns in one process: ");
    kd_text_md(t, c->latency.device);
    kd_text_f(t, ", %s.\n\n| model | median | 99th percentile | passes |\n|---|---|---|---|\n", c->latency.dtype);
    for (size_t g = 0; g < c->n_groups; g++) {
        const kd_latency *l = &c->group[g].latency;
        kd_text_add(t, "| ");
        kd_text_md(t, c->group[g].label);
        kd_text_f(t, " | %.3g | %.3g | %d |\n", l->ms, l->p99_ms, l->passes);
    }
}

static void md_classes(const kd_comparison *c, kd_text *t)
{
    kd_text_add(t, "\n## Accuracy per class, %\n\n| class | samples |");
    md_group_columns(c, t);
    for (int k = 0; k < c->classes; k++) {
        char buf[24];
        kd_text_add(t, "\n| ");
        kd_text_md(t, kd_report_class(c->teacher, k, buf));
        kd_text_f(t, " | %lld |", (long long)c->teacher->metrics.per_class[k].support);
        for (size_t g = 0; g < c->n_groups; g++) {
            if (isnan(c->group[g].recall[k])) {
                kd_text_add(t, " |");
            } else {
                kd_text_f(t, " %.1f |", 100.0 * c->group[g].recall[k]);
            }
        }
    }
    kd_text_add(t, "\n");
}

kd_status kd_compare_write_markdown(const kd_comparison *c, const char *path, kd_err *err)
{
    kd_text t;
    memset(&t, 0, sizeof t);
    char *verdict = kd_compare_verdict(c);
    kd_text_add(&t, "# Teacher and students\n\n");
    kd_text_md(&t, verdict);
    kd_free(verdict);
    kd_text_add(&t, "\n\n");
    md_summary(c, &t);
    md_differences(c, &t);
    md_factors(c, &t);
    md_classes(c, &t);
    md_latency(c, &t);
    if (c->n_warnings > 0) {
        kd_text_add(&t, "\n## Before believing this\n\n");
    }
    for (size_t i = 0; i < c->n_warnings; i++) {
        kd_text_add(&t, "* ");
        kd_text_md(&t, c->warning[i]);
        kd_text_add(&t, "\n");
    }
    kd_text_add(&t, "\n## Protocol\n\n");
    kd_text_add(&t, "Data set ");
    kd_text_md(&t, c->teacher->dataset);
    kd_text_add(&t, ", split ");
    kd_text_md(&t, c->teacher->split);
    kd_text_add(&t, ", half ");
    kd_text_md(&t, c->teacher->half);
    kd_text_f(&t, ", %zu samples, %d classes; SHA-256 of ids and labels %s.\n", c->n, c->classes, c->teacher->ids_hash);
    if (c->opts.command != NULL) {
        kd_text_f(&t, "\nAgain: `%.3000s`\n", c->opts.command);
    }
    const kd_status st = kd_text_write(&t, path, err);
    kd_text_free(&t);
    return st;
}

/* ---- CSV: one line a run, everything a spreadsheet or a plot needs --------------------------- */

/* Two fields of the run's group; empty where nothing was measured. */
static void csv_latency(const kd_comparison *c, size_t run, kd_text *t)
{
    for (size_t g = 0; g < c->n_groups && c->latency.measured; g++) {
        for (size_t i = 0; i < c->group[g].n_runs; i++) {
            if (c->group[g].run[i] == run) {
                kd_text_f(t, "%.6g,%.6g,", c->group[g].latency.ms, c->group[g].latency.p99_ms);
                return;
            }
        }
    }
    kd_text_add(t, ",,");
}

kd_status kd_compare_write_csv(const kd_comparison *c, const char *path, kd_err *err)
{
    kd_text t;
    memset(&t, 0, sizeof t);
    kd_text_add(&t, "kind,label,seed,model,samples,top1,top5,mean_class_accuracy,macro_f1,nll,ece,brier,"
                    "parameters,macs,bytes,latency_ms,latency_p99_ms,selected_on,report\n");
    for (size_t i = 0; i < c->n_reports; i++) {
        const kd_report *r = c->report[i];
        const kd_metrics *m = &r->metrics;
        kd_text_csv(&t, r->kind);
        kd_text_add(&t, ",");
        kd_text_csv(&t, r->label);
        kd_text_f(&t, ",%lld,", (long long)r->seed);
        kd_text_csv(&t, r->model);
        kd_text_f(&t, ",%zu,%.6f,%.6f,%.6f,%.6f,%.6f,%.6f,%.6f,%lld,%lld,%lld,", r->n, m->top1, m->top5,
                  m->mean_class_accuracy, m->macro_f1, m->nll, m->ece, m->brier, (long long)r->parameters,
                  (long long)r->macs, (long long)r->bytes);
        csv_latency(c, i, &t);
        kd_text_csv(&t, r->selected_on);
        kd_text_add(&t, ",");
        kd_text_csv(&t, r->path);
        kd_text_add(&t, "\n");
    }
    const kd_status st = kd_text_write(&t, path, err);
    kd_text_free(&t);
    return st;
}
