/* The findings as one page that needs nothing else: see study.h. */
#include "distill/report/compare_style.h"
#include "distill/report/svg.h"
#include "distill/study/study_internal.h"

#include <math.h>
#include <stdlib.h>

static kd_interval percent(const kd_interval *v)
{
    return (kd_interval){100.0 * v->mean, 100.0 * v->low, 100.0 * v->high};
}

/* Means of all cells, or differences of all pairs. */
static kd_status chart(kd_text *t, const kd_study *s, bool pairs, kd_err *err)
{
    static const kd_svg_words WORDS[2] = {
        {"Top-1 accuracy", "Mean top-1 accuracy of every cell with its intervals and single runs", "top-1 accuracy, %",
         NULL},
        {"Difference to the baseline", "Top-1 of every cell minus its baseline's, with its intervals, seed by seed",
         "difference in top-1 accuracy, points", NULL}};
    kd_svg_row *row = kd_calloc(s->n_cells, sizeof *row);
    float(*point)[KD_STUDY_RUNS] = kd_calloc(s->n_cells, sizeof *point);
    size_t n = 0;
    if (row == NULL || point == NULL) {
        kd_free(row);
        kd_free(point);
        return KD_FAIL(err, KD_E_OOM, "study: out of memory");
    }
    for (size_t i = 0; i < s->n_cells; i++) {
        const kd_study_cell *c = &s->cell[i];
        if (pairs ? !c->pair.measured : c->n == 0) {
            continue;
        }
        const size_t runs = pairs ? c->pair.n : c->n;
        for (size_t k = 0; k < runs; k++) {
            point[n][k] = (float)(100.0 * (pairs ? c->pair.difference[k] : c->run[k].figure[KD_STUDY_TOP1]));
        }
        row[n] = (kd_svg_row){.label = c->label,
                              .series = i + 1,
                              .interval = percent(pairs ? &c->pair.by_clip : &c->by_clip),
                              .person = percent(pairs ? &c->pair.by_person : &c->by_person),
                              .by_person = kd_study_by_person(s),
                              .point = point[n],
                              .n_points = runs};
        n++;
    }
    kd_text_add(t, "<div class=\"charts\"><div>");
    kd_svg_intervals(t, &WORDS[pairs ? 1 : 0], row, n, pairs);
    kd_text_add(t, "</div></div>\n");
    kd_free(row);
    kd_free(point);
    return KD_OK;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void head(kd_text *t, const char *caption, const char *const *name, size_t n)
{
    kd_text_f(t, "<div class=\"wide\" tabindex=\"0\"><table><caption>%s</caption><thead><tr>", caption);
    for (size_t i = 0; i < n; i++) {
        if (name[i] != NULL) {
            kd_text_f(t, "<th scope=\"col\">%s</th>", name[i]);
        }
    }
    kd_text_add(t, "</tr></thead><tbody>\n");
}

static void row_name(kd_text *t, size_t cell, const char *label)
{
    kd_text_add(t, "<tr><th scope=\"row\">");
    kd_svg_key(t, cell + 1);
    kd_text_html(t, label);
    kd_text_add(t, "</th>");
}

static void spread(kd_text *t, const kd_study_cell *c, kd_study_figure f, double scale, int digits)
{
    kd_text_f(t, "<td>%.*f", digits, scale * c->figure[f].mean);
    if (c->n > 1) {
        kd_text_f(t, " <small>\xc2\xb1 %.*f</small>", digits, scale * c->figure[f].sd);
    }
    kd_text_add(t, "</td>");
}

static void span(kd_text *t, const kd_interval *v, bool sign)
{
    if (isnan(v->low)) {
        kd_text_add(t, "<td>\xe2\x80\x93</td>");
    } else {
        kd_text_f(t, sign ? "<td>%+.1f to %+.1f</td>" : "<td>%.1f to %.1f</td>", 100.0 * v->low, 100.0 * v->high);
    }
}

static void cells(kd_text *t, const kd_study *s)
{
    const bool people = kd_study_by_person(s);
    const char *const name[] = {"cell",          "seeds",    "top-1, %", "by clip", people ? "by person" : NULL,
                                "mean class, %", "macro F1", "NLL",      "ECE"};
    head(t, "Means over seeds \xc2\xb1 standard deviation", name, KD_COUNTOF(name));
    for (size_t i = 0; i < s->n_cells; i++) {
        const kd_study_cell *c = &s->cell[i];
        row_name(t, i, c->label);
        kd_text_f(t, "<td>%zu</td>", c->n);
        if (c->n == 0) {
            kd_text_add(t, "<td colspan=\"7\">no run is finished</td></tr>\n");
            continue;
        }
        spread(t, c, KD_STUDY_TOP1, 100.0, 1);
        span(t, &c->by_clip, false);
        if (people) {
            span(t, &c->by_person, false);
        }
        spread(t, c, KD_STUDY_MEAN_CLASS, 100.0, 1);
        spread(t, c, KD_STUDY_MACRO_F1, 1.0, 3);
        spread(t, c, KD_STUDY_NLL, 1.0, 3);
        spread(t, c, KD_STUDY_ECE, 1.0, 3);
        kd_text_add(t, "</tr>\n");
    }
    kd_text_add(t, "</tbody></table></div>\n");
}

static void pairs(kd_text *t, const kd_study *s)
{
    const bool people = kd_study_by_person(s);
    const char *const name[] = {
        "cell", "against", "pairs",   "points",      "by seed", "by clip", people ? "by person" : NULL,
        "p",    "Holm",    "verdict", "of each seed"};
    head(t, "Paired differences in top-1, points", name, KD_COUNTOF(name));
    for (size_t i = 0; i < s->n_cells; i++) {
        const kd_study_pair *p = &s->cell[i].pair;
        if (!p->measured) {
            continue;
        }
        row_name(t, i, s->cell[i].label);
        kd_text_add(t, "<td>");
        kd_text_html(t, s->cell[s->cell[i].baseline].label);
        kd_text_f(t, "</td><td>%zu</td><td>%+.1f</td>", p->n, 100.0 * p->by_seed.mean);
        span(t, &p->by_seed, true);
        span(t, &p->by_clip, true);
        if (people) {
            span(t, &p->by_person, true);
        }
        kd_text_f(t, "<td>%.3g</td><td>%.3g</td><td><b>%s</b></td><td>", p->p, p->adjusted,
                  kd_verdict_word(p->verdict));
        for (size_t k = 0; k < p->n; k++) {
            kd_text_f(t, "%s%+.1f", k > 0 ? ", " : "", 100.0 * p->difference[k]);
        }
        kd_text_add(t, "</td></tr>\n");
    }
    kd_text_add(t, "</tbody></table></div>\n");
}

/* ---- page ------------------------------------------------------------------------------------ */

kd_status kdi_study_html(const kd_study *s, const char *path, kd_err *err)
{
    kd_text t;
    kd_status st = KD_OK;
    memset(&t, 0, sizeof t);
    kd_page_begin(&t, "Study", s->name, "cells");
    kd_text_add(&t, "<header><h1>");
    kd_text_html(&t, s->name);
    kd_text_add(&t, "</h1>\n<p class=\"sub\">");
    kd_text_html(&t, s->first.dataset);
    kd_text_f(&t, ", %zu samples, %d classes</p>\n</header>\n<main>\n<section id=\"cells\"><h2>Cells</h2>\n",
              s->first.n, s->first.classes);
    kd_text_add(&t, "<p>The mark is the mean over seeds, each dot one seed, the broad band the interval by clip, the "
                    "line with ends the interval by person.</p>\n");
    KD_GO(chart(&t, s, false, err));
    cells(&t, s);
    kd_text_add(&t, "</section>\n");
    if (s->n_pairs > 0) {
        kd_text_add(&t, "<section id=\"pairs\"><h2>Against the baselines</h2>\n");
        KD_GO(chart(&t, s, true, err));
        pairs(&t, s);
        kd_text_add(&t, "</section>\n");
    }
    kd_text_add(&t, "<p class=\"sub\">");
    kdi_study_about(s, &t);
    kd_text_add(&t, "</p>\n");
    kd_page_end(&t);
    st = kd_text_write(&t, path, err);
done:
    kd_text_free(&t);
    return st;
}
