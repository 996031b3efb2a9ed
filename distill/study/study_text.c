/* The findings as Markdown, CSV and JSON: see study.h. */
#include "distill/report/text.h"
#include "distill/study/study_internal.h"
#include "formats/base/io.h"

#include <math.h>
#include <stdio.h>

/* ---- Markdown -------------------------------------------------------------------------------- */

/* "+1.2 (-0.3 to +2.7)", points. */
static void put_points(kd_text *t, const kd_interval *v, bool mean)
{
    if (mean) {
        kd_text_f(t, "%+.1f", 100.0 * v->mean);
    }
    if (!isnan(v->low)) {
        kd_text_f(t, mean ? " (%+.1f to %+.1f)" : "%+.1f to %+.1f", 100.0 * v->low, 100.0 * v->high);
    }
}

static void cell_row(kd_text *t, const kd_study *s, const kd_study_cell *c)
{
    kd_text_add(t, "| ");
    kd_text_md(t, c->label);
    kd_text_f(t, " | %zu | ", c->n);
    if (c->n > 0) {
        kd_text_f(t, c->n > 1 ? "%.1f \xc2\xb1 %.1f" : "%.1f", 100.0 * c->figure[KD_STUDY_TOP1].mean,
                  100.0 * c->figure[KD_STUDY_TOP1].sd);
        kd_text_f(t, " | %.1f to %.1f |", 100.0 * c->by_clip.low, 100.0 * c->by_clip.high);
    } else {
        kd_text_add(t, " | |");
    }
    if (kd_study_by_person(s)) {
        kd_text_f(t, c->n > 0 ? " %.1f to %.1f |" : " |", 100.0 * c->by_person.low, 100.0 * c->by_person.high);
    }
    kd_text_f(t, c->n > 0 ? " %.3f | %.3f |\n" : " | |\n", c->figure[KD_STUDY_NLL].mean, c->figure[KD_STUDY_ECE].mean);
}

static void pair_row(kd_text *t, const kd_study *s, const kd_study_cell *c)
{
    const kd_study_pair *p = &c->pair;
    kd_text_add(t, "| ");
    kd_text_md(t, c->label);
    kd_text_add(t, " | ");
    kd_text_md(t, s->cell[c->baseline].label);
    kd_text_f(t, " | %zu | ", p->n);
    put_points(t, &p->by_seed, true);
    kd_text_add(t, " | ");
    put_points(t, &p->by_clip, false);
    if (kd_study_by_person(s)) {
        kd_text_add(t, " | ");
        put_points(t, &p->by_person, false);
    }
    kd_text_f(t, " | %.3g | %.3g | %s |", p->p, p->adjusted, kd_verdict_word(p->verdict));
    for (size_t i = 0; i < p->n; i++) {
        kd_text_f(t, "%s%+.1f", i > 0 ? ", " : " ", 100.0 * p->difference[i]);
    }
    kd_text_add(t, " |\n");
}

char *kd_study_table(const kd_study *s)
{
    kd_text t;
    memset(&t, 0, sizeof t);
    const bool people = kd_study_by_person(s);
    kd_text_f(&t, "| cell | seeds | top-1, %% | by clip |%s NLL | ECE |\n|---|---|---|---|%s---|---|\n",
              people ? " by person |" : "", people ? "---|" : "");
    for (size_t i = 0; i < s->n_cells; i++) {
        cell_row(&t, s, &s->cell[i]);
    }
    if (s->n_pairs > 0) {
        kd_text_f(&t,
                  "\n| cell | against | pairs | points, by seed | by clip |%s p | Holm | | of each seed |\n"
                  "|---|---|---|---|---|%s---|---|---|---|\n",
                  people ? " by person |" : "", people ? "---|" : "");
    }
    for (size_t i = 0; i < s->n_cells; i++) {
        if (s->cell[i].pair.measured) {
            pair_row(&t, s, &s->cell[i]);
        }
    }
    if (t.failed) {
        kd_text_free(&t);
    }
    return t.data;
}

void kdi_study_about(const kd_study *s, kd_text *t)
{
    kd_text_f(t,
              "Top-1 in %%, mean \xc2\xb1 standard deviation over seeds; differences in points, paired by seed. "
              "Intervals: %.0f %%; by seed Student's t over the paired differences, by clip%s a bootstrap of %d draws "
              "over clips%s and pairs of runs. p: the largest of the paired t test and the exact sign tests by clip%s; "
              "Holm: corrected for the %zu comparison%s of this table. \"Better\" and \"worse\" take %d pairs, every "
              "interval on one side of zero and a corrected p below %.3g.",
              100.0 * s->confidence, kd_study_by_person(s) ? " and by person" : "", s->draws,
              kd_study_by_person(s) ? " or persons" : "", kd_study_by_person(s) ? " and by person" : "", s->n_pairs,
              s->n_pairs == 1 ? "" : "s", KD_COMPARE_SEEDS, 1.0 - s->confidence);
}

static kd_status write_markdown(const kd_study *s, const char *path, kd_err *err)
{
    kd_text t;
    memset(&t, 0, sizeof t);
    char *table = kd_study_table(s);
    kd_text_add(&t, "# ");
    kd_text_md(&t, s->name);
    kd_text_add(&t, "\n\n");
    kd_text_md(&t, s->first.dataset);
    kd_text_f(&t, ", %zu samples, %d classes.\n\n", s->first.n, s->first.classes);
    kd_text_add(&t, table);
    kd_text_add(&t, "\n");
    kdi_study_about(s, &t);
    kd_text_add(&t, "\n");
    const kd_status st = table != NULL ? kd_text_write(&t, path, err) : KD_FAIL(err, KD_E_OOM, "study: out of memory");
    kd_free(table);
    kd_text_free(&t);
    return st;
}

/* ---- CSV ------------------------------------------------------------------------------------- */

static void csv_interval(kd_text *t, const kd_interval *v, bool known)
{
    if (known && !isnan(v->low)) {
        kd_text_f(t, ",%.6f,%.6f", v->low, v->high);
    } else {
        kd_text_add(t, ",,");
    }
}

static kd_status write_csv(const kd_study *s, const char *path, kd_err *err)
{
    kd_text t;
    memset(&t, 0, sizeof t);
    const bool people = kd_study_by_person(s);
    kd_text_add(&t, "cell,seeds");
    for (int f = 0; f < KD_STUDY_FIGURES; f++) {
        kd_text_f(&t, ",%s,%s_sd", kd_study_key((kd_study_figure)f), kd_study_key((kd_study_figure)f));
    }
    kd_text_add(&t, ",clip_low,clip_high,person_low,person_high,baseline,pairs,difference,seed_low,seed_high,"
                    "difference_clip_low,difference_clip_high,difference_person_low,difference_person_high,p,p_holm,"
                    "verdict\n");
    for (size_t i = 0; i < s->n_cells; i++) {
        const kd_study_cell *c = &s->cell[i];
        const kd_study_pair *p = &c->pair;
        kd_text_csv(&t, c->label);
        kd_text_f(&t, ",%zu", c->n);
        for (int f = 0; f < KD_STUDY_FIGURES; f++) {
            kd_text_f(&t, c->n > 0 ? ",%.6f,%.6f" : ",,", c->figure[f].mean, c->figure[f].sd);
        }
        csv_interval(&t, &c->by_clip, c->n > 0);
        csv_interval(&t, &c->by_person, c->n > 0 && people);
        kd_text_add(&t, ",");
        kd_text_csv(&t, p->measured ? s->cell[c->baseline].label : "");
        kd_text_f(&t, p->measured ? ",%zu,%.6f" : ",,", p->n, p->by_seed.mean);
        csv_interval(&t, &p->by_seed, p->measured);
        csv_interval(&t, &p->by_clip, p->measured);
        csv_interval(&t, &p->by_person, p->measured && people);
        kd_text_f(&t, p->measured ? ",%.6g,%.6g,%s\n" : ",,,\n", p->p, p->adjusted, kd_verdict_word(p->verdict));
    }
    const kd_status st = kd_text_write(&t, path, err);
    kd_text_free(&t);
    return st;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_interval(kd_json *o, const char *key, const kd_interval *v)
{
    kd_json *i = kd_json_set_object(o, key);
    kd_json_set_f64(i, "mean", v->mean);
    kd_json_set_f64(i, "low", v->low);
    kd_json_set_f64(i, "high", v->high);
}

static void put_cell(const kd_study *s, const kd_study_cell *c, kd_json *o)
{
    kd_json_set_str(o, "label", c->label);
    kd_json *figures = kd_json_set_object(o, "figures");
    for (int f = 0; f < KD_STUDY_FIGURES && c->n > 0; f++) {
        kd_json *v = kd_json_set_object(figures, kd_study_key((kd_study_figure)f));
        kd_json_set_f64(v, "mean", c->figure[f].mean);
        kd_json_set_f64(v, "sd", c->figure[f].sd);
        kd_json_set_f64(v, "low", c->figure[f].low);
        kd_json_set_f64(v, "high", c->figure[f].high);
    }
    if (c->n > 0) {
        put_interval(o, "top1_by_clip", &c->by_clip);
    }
    if (c->n > 0 && kd_study_by_person(s)) {
        put_interval(o, "top1_by_person", &c->by_person);
    }
    kd_json_set_bool(o, "mixed_recipes", c->mixed_recipes);
    kd_json *runs = kd_json_set_array(o, "runs");
    for (size_t i = 0; i < c->n; i++) {
        const kd_study_run *r = &c->run[i];
        kd_json *run = kd_json_push_object(runs);
        kd_json_set_i64(run, "seed", r->seed);
        kd_json_set_str(run, "report", r->path);
        for (int f = 0; f < KD_STUDY_FIGURES; f++) {
            kd_json_set_f64(run, kd_study_key((kd_study_figure)f), r->figure[f]);
        }
        kd_json_set_str(run, "config", r->config);
        kd_json_set_str(run, "weights", r->weights);
    }
}

static void put_pair(const kd_study *s, const kd_study_cell *c, kd_json *o)
{
    const kd_study_pair *p = &c->pair;
    kd_json *v = kd_json_set_object(o, "against_baseline");
    kd_json_set_str(v, "baseline", s->cell[c->baseline].label);
    kd_json_set_i64s(v, "seeds", p->seed, p->n);
    kd_json_set_f64s(v, "differences", p->difference, p->n);
    put_interval(v, "by_seed", &p->by_seed);
    put_interval(v, "by_clip", &p->by_clip);
    kd_json_set_f64(v, "p_by_seed", p->p_seed);
    kd_json_set_f64(v, "p_by_clip", p->p_clip);
    if (kd_study_by_person(s)) {
        put_interval(v, "by_person", &p->by_person);
        kd_json_set_f64(v, "p_by_person", p->p_person);
    }
    kd_json_set_f64(v, "p", p->p);
    kd_json_set_f64(v, "p_holm", p->adjusted);
    kd_json_set_str(v, "verdict", kd_verdict_word(p->verdict));
}

static kd_status write_json(const kd_study *s, const char *path, kd_err *err)
{
    kd_json *d = kd_json_object();
    kd_json_set_str(d, "format", "lastkd study");
    kd_json_set_i64(d, "version", 1);
    kd_json_set_str(d, "name", s->name);
    kd_json_set_str(d, "tool", kd_version());
    kd_json_set_str(d, "command", s->command);
    kd_json_set_str(d, "dataset", s->first.dataset);
    kd_json_set_i64(d, "samples", (int64_t)s->first.n);
    kd_json_set_i64(d, "classes", s->first.classes);
    kd_json_set_f64(d, "confidence", s->confidence);
    kd_json_set_i64(d, "draws", s->draws);
    kd_json_set_str(d, "correction", "Holm");
    kd_json_set_i64(d, "comparisons", (int64_t)s->n_pairs);
    kd_json *cells = kd_json_set_array(d, "cells");
    for (size_t i = 0; i < s->n_cells; i++) {
        kd_json *o = kd_json_push_object(cells);
        put_cell(s, &s->cell[i], o);
        if (s->cell[i].pair.measured) {
            put_pair(s, &s->cell[i], o);
        }
    }
    const kd_status st = kd_json_write(d, path, err);
    kd_json_free(d);
    return st;
}

/* ---- files ----------------------------------------------------------------------------------- */

kd_status kd_study_write(const kd_study *s, const char *dir, kd_err *err)
{
    static const struct {
        const char *name;
        kd_status (*write)(const kd_study *s, const char *path, kd_err *err);
    } FILES[] = {{"sweep.json", write_json},
                 {"sweep.csv", write_csv},
                 {"sweep.md", write_markdown},
                 {"sweep.html", kdi_study_html}};
    for (size_t i = 0; i < KD_COUNTOF(FILES); i++) {
        char *path = kd_path_join(dir, FILES[i].name);
        const kd_status st =
            path != NULL ? FILES[i].write(s, path, err) : KD_FAIL(err, KD_E_OOM, "study: out of memory");
        kd_free(path);
        KD_TRY(st);
    }
    return KD_OK;
}
