/* The comparison's page, continued: people and places, learning curves. */
#include "distill/report/compare_html.h"

#include <math.h>

/* ---- people and places ----------------------------------------------------------------------- */

enum { ROWS_DRAWN = 24 };

static void factor_table(kd_text *t, const kd_comparison *c, kd_factor_id id)
{
    const kd_factor *f = &c->factor[id];
    kd_text_f(
        t,
        "<details><summary>Top-1 by %s as a table</summary><div class=\"wide\" tabindex=\"0\"><table><caption>Top-1 "
        "in per cent, mean over runs</caption><thead><tr><th scope=\"col\">%s</th><th scope=\"col\">samples</th>",
        kd_factor_key(id), kd_factor_key(id));
    for (size_t g = 0; g < c->n_groups; g++) {
        kd_text_add(t, "<th scope=\"col\">");
        kd_svg_key(t, g);
        kd_text_html(t, c->group[g].label);
        kd_text_add(t, "</th>");
    }
    kd_text_add(t, "</tr></thead><tbody>\n");
    for (size_t k = 0; k < f->n; k++) {
        kd_text_f(t, "<tr><th scope=\"row\">%s</th><td>%zu</td>", f->name[k], f->support[k]);
        for (size_t g = 0; g < c->n_groups; g++) {
            kd_text_f(t, "<td>%.1f</td>", 100.0 * c->group[g].by_factor[id][k]);
        }
        kd_text_add(t, "</tr>\n");
    }
    kd_text_add(t, "</tbody></table></div></details>\n");
}

static kd_status factor_chart(kd_text *t, const kd_comparison *c, kd_factor_id id, kd_err *err)
{
    const kd_factor *f = &c->factor[id];
    char title[48];
    (void)snprintf(title, sizeof title, "Top-1 accuracy by %s", kd_factor_key(id));
    const kd_svg_words words = {title, "Mean top-1 accuracy of every model, a row each, marks as in the key",
                                "top-1 accuracy, %", NULL};
    const char **name = kd_calloc(f->n, sizeof *name);
    double *value = kd_calloc(f->n * c->n_groups, sizeof *value);
    const double *row[KD_COMPARE_GROUPS_MAX];
    kd_status st = KD_OK;
    if (name == NULL || value == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "compare: out of memory");
        goto done;
    }
    for (size_t k = 0; k < f->n; k++) {
        name[k] = f->name[k];
    }
    for (size_t g = 0; g < c->n_groups; g++) {
        row[g] = value + g * f->n;
        for (size_t k = 0; k < f->n; k++) {
            value[g * f->n + k] = 100.0 * c->group[g].by_factor[id][k];
        }
    }
    kd_text_f(t, "<div><h3>By %s</h3>", kd_factor_key(id));
    kd_svg_dots(t, &words, name, KD_MIN(f->n, (size_t)ROWS_DRAWN), row, c->n_groups);
    if (f->n > ROWS_DRAWN) {
        kd_text_f(t, "<p class=\"sub\">The first %d of %zu; the table has all.</p>", ROWS_DRAWN, f->n);
    }
    kd_text_add(t, "</div>\n");
done:
    kd_free((void *)name);
    kd_free(value);
    return st;
}

kd_status kdi_html_people(kd_text *t, const kd_comparison *c, kd_err *err)
{
    const char *missing = kdi_compare_no_person(c);
    kdi_html_section(t, "people", "People and places");
    kd_text_add(
        t, "<p>Top-1 by what the sample ids tell of a recording, mean over runs.  Whoever is far from the others is "
           "what the mean hides.</p>\n");
    if (missing != NULL) {
        kd_text_add(t, "<p>");
        kd_text_html(t, missing);
        kd_text_add(t, "</p>\n");
    }
    kd_text_add(t, "<div class=\"charts\">\n");
    for (int f = 0; f < KD_FACTOR_COUNT; f++) {
        if (c->factor[f].n > 1) {
            KD_TRY(factor_chart(t, c, (kd_factor_id)f, err));
        }
    }
    kd_text_add(t, "</div>\n");
    for (int f = 0; f < KD_FACTOR_COUNT; f++) {
        if (c->factor[f].n > 1) {
            factor_table(t, c, (kd_factor_id)f);
        }
    }
    kd_text_add(t, "</section>\n");
    return KD_OK;
}

/* ---- learning curves ------------------------------------------------------------------------- */

/* The values of one run by the name of the figure: "train_loss", "top1", or a term. */
static const double *values_of(const kd_curve *v, const char *figure)
{
    if (strcmp(figure, "train_loss") == 0) {
        return v->train_loss;
    }
    if (strcmp(figure, "top1") == 0) {
        return v->val_top1;
    }
    for (size_t i = 0; i < v->n_terms; i++) {
        if (strcmp(v->term[i].name, figure) == 0) {
            return v->term[i].value;
        }
    }
    return NULL;
}

typedef struct band {
    double *mean, *low, *high; /* [n], one allocation */
    size_t n;
    bool any;
} band;

/* Mean and range over the runs of a group, epoch by epoch. */
static kd_status make_band(const kd_comparison *c, const kd_group *g, const char *figure, double scale, band *b,
                           kd_err *err)
{
    *b = (band){.n = 0};
    for (size_t i = 0; i < g->n_runs; i++) {
        b->n = KD_MAX(b->n, c->curve[g->run[i]].n);
    }
    if (b->n == 0) {
        return KD_OK;
    }
    b->mean = kd_calloc(3 * b->n, sizeof *b->mean);
    if (b->mean == NULL) {
        return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    }
    b->low = b->mean + b->n;
    b->high = b->low + b->n;
    for (size_t k = 0; k < b->n; k++) {
        size_t runs = 0;
        double sum = 0.0, low = INFINITY, high = -INFINITY;
        for (size_t i = 0; i < g->n_runs; i++) {
            const kd_curve *v = &c->curve[g->run[i]];
            const double *value = values_of(v, figure);
            if (value != NULL && k < v->n && isfinite(value[k])) {
                sum += scale * value[k];
                low = KD_MIN(low, scale * value[k]);
                high = KD_MAX(high, scale * value[k]);
                runs++;
            }
        }
        b->mean[k] = runs > 0 ? sum / (double)runs : (double)NAN;
        b->low[k] = runs > 0 ? low : (double)NAN;
        b->high[k] = runs > 0 ? high : (double)NAN;
        b->any |= runs > 0;
    }
    return KD_OK;
}

static kd_status curve_chart(kd_text *t, const kd_comparison *c, const char *figure, double scale, const char *title,
                             const char *unit, kd_err *err)
{
    const kd_svg_words words = {title, "Mean over the runs of every model by epoch; the band spans the runs", "epoch",
                                unit};
    band b[KD_COMPARE_GROUPS_MAX];
    kd_svg_line line[KD_COMPARE_GROUPS_MAX];
    size_t made = 0, n = 0;
    kd_status st = KD_OK;
    for (size_t g = 0; g < c->n_groups; g++, made++) {
        KD_GO(make_band(c, &c->group[g], figure, scale, &b[g], err));
        if (b[g].any) {
            line[n++] = (kd_svg_line){g, b[g].n, b[g].mean, b[g].low, b[g].high};
        }
    }
    if (n > 0) {
        kd_text_add(t, "<div><h3>");
        kd_text_html(t, title);
        kd_text_add(t, "</h3>");
        kd_svg_lines(t, &words, line, n);
        kd_text_add(t, "</div>\n");
    }
done:
    for (size_t g = 0; g < made; g++) {
        kd_free(b[g].mean);
    }
    return st;
}

/* The terms that any run has, each once. */
static size_t terms_of(const kd_comparison *c, const char *name[KD_CURVE_TERMS])
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_reports; i++) {
        for (size_t k = 0; k < c->curve[i].n_terms; k++) {
            size_t at = 0;
            while (at < n && strcmp(name[at], c->curve[i].term[k].name) != 0) {
                at++;
            }
            if (at == n && n < KD_CURVE_TERMS) {
                name[n++] = c->curve[i].term[k].name;
            }
        }
    }
    return n;
}

kd_status kdi_html_curves(kd_text *t, const kd_comparison *c, kd_err *err)
{
    const char *term[KD_CURVE_TERMS];
    size_t logs = 0;
    kdi_html_section(t, "curves", "How they were trained");
    for (size_t i = 0; c->curve != NULL && i < c->n_reports; i++) {
        logs += c->curve[i].n > 0;
    }
    if (logs == 0) {
        kd_text_add(t, "<p>No learning curves: no report lies beside the log.jsonl of its run.</p></section>\n");
        return KD_OK;
    }
    kd_text_f(
        t,
        "<p>Means over the runs, the bands span them; from the logs of %zu of %zu runs.  Terms of the loss are means "
        "over the logged steps of an epoch.</p>\n<div class=\"charts\">\n",
        logs, c->n_reports);
    KD_TRY(curve_chart(t, c, "train_loss", 1.0, "Training loss", "mean loss of the epoch, nats", err));
    KD_TRY(curve_chart(t, c, "top1", 100.0, "Top-1 on the validation half", "top-1 accuracy, %", err));
    kd_text_add(t, "</div>\n");
    const size_t n = terms_of(c, term);
    if (n > 1) { /* a single term is the loss itself */
        kd_text_add(t, "<details><summary>Terms of the loss</summary><div class=\"charts\">\n");
        for (size_t i = 0; i < n; i++) {
            KD_TRY(curve_chart(t, c, term[i], 1.0, term[i], "mean over the logged steps", err));
        }
        kd_text_add(t, "</div></details>\n");
    }
    kd_text_add(t, "</section>\n");
    return KD_OK;
}
