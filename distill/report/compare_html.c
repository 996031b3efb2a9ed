/* The comparison as one HTML page that needs nothing else: head, findings, accuracy, classes.  See compare.h. */
#include "distill/report/compare_html.h"

#include "distill/report/compare_style.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- head ------------------------------------------------------------------------------------ */

static const struct {
    const char *id, *title;
} SECTIONS[] = {
    {"accuracy", "Accuracy"},   {"differences", "Differences"}, {"people", "People and places"},
    {"classes", "Classes"},     {"agreement", "Agreement"},     {"errors", "Errors"},
    {"curves", "Training"},     {"calibration", "Calibration"}, {"size", "Size and speed"},
    {"confusion", "Confusion"}, {"provenance", "Provenance"},
};

static void page_head(kd_text *t, const kd_comparison *c)
{
    kd_page_begin(t, "Teacher and students", c->teacher->dataset, "accuracy");
    kd_text_add(t, "<header><h1>Teacher and students</h1>\n<p class=\"sub\">");
    kd_text_html(t, c->teacher->dataset);
    char split[80]; /* a split by hundreds of sources stands whole under Provenance */
    kd_text_add(t, ", split ");
    kd_text_html(t, kd_show_lists(split, sizeof split, c->teacher->split));
    kd_text_add(t, " (");
    kd_text_html(t, c->teacher->half);
    kd_text_f(t, "), %zu samples, %d classes</p>\n", c->n, c->classes);
}

static void page_nav(kd_text *t)
{
    kd_text_add(t, "<nav aria-label=\"Sections\"><ul>");
    for (size_t i = 0; i < KD_COUNTOF(SECTIONS); i++) {
        kd_text_f(t, "<li><a href=\"#%s\">%s</a></li>", SECTIONS[i].id, SECTIONS[i].title);
    }
    kd_text_add(t, "</ul></nav>\n");
}

/* Which mark is whose, for every chart of the page. */
static void page_key(kd_text *t, const kd_comparison *c)
{
    kd_text_add(t, "<ul class=\"legend\" aria-label=\"Marks of the models\">");
    for (size_t g = 0; g < c->n_groups; g++) {
        kd_text_add(t, "<li>");
        kd_svg_key(t, g);
        kd_text_html(t, c->group[g].label);
        kd_text_add(t, g == 0 ? " <small>teacher</small></li>" : "</li>");
    }
    kd_text_add(t, "</ul>\n");
}

static void card(kd_text *t, size_t series, const char *value, const char *label, const char *note)
{
    kd_text_f(t, "<div class=\"card\"><i class=\"c%d\"></i><b>%s</b><span>", kd_svg_color(series), value);
    kd_svg_key(t, series);
    kd_text_html(t, label);
    kd_text_add(t, "</span><span>");
    kd_text_html(t, note);
    kd_text_add(t, "</span></div>\n");
}

static void page_cards(kd_text *t, const kd_comparison *c)
{
    const kd_group *teacher = &c->group[0];
    size_t best = 1;
    for (size_t g = 2; g < c->n_groups; g++) {
        best = c->group[g].top1.mean > c->group[best].top1.mean ? g : best;
    }
    const kd_group *student = &c->group[best];
    const kd_report *r = c->report[student->typical];
    char value[48];
    char note[128];
    kd_text_add(t, "<div class=\"cards\">\n");
    (void)snprintf(value, sizeof value, "%.1f %%", 100.0 * teacher->top1.mean);
    (void)snprintf(note, sizeof note, "top-1, %.0f %% interval %.1f to %.1f", 100.0 * c->opts.confidence,
                   100.0 * teacher->top1.low, 100.0 * teacher->top1.high);
    card(t, 0, value, teacher->label, note);
    (void)snprintf(value, sizeof value, "%.1f %%", 100.0 * student->top1.mean);
    (void)snprintf(note, sizeof note, "top-1, %.0f %% interval %.1f to %.1f, %zu seed%s", 100.0 * c->opts.confidence,
                   100.0 * student->top1.low, 100.0 * student->top1.high, student->n_seeds,
                   student->n_seeds == 1 ? "" : "s");
    card(t, best, value, student->label, note);
    if (c->n_groups > 2) {
        const size_t shown = best > 1 ? best : 2;
        const kd_group *g = &c->group[shown];
        (void)snprintf(value, sizeof value, "%+.1f points", 100.0 * g->to_baseline.mean);
        (void)snprintf(note, sizeof note, "against %.60s: %s", c->group[1].label, kd_verdict_word(g->verdict));
        card(t, shown, value, g->label, note);
    }
    if (r->parameters > 0 && c->teacher->parameters > 0) {
        (void)snprintf(value, sizeof value, "%.3g\xc3\x97 smaller",
                       (double)c->teacher->parameters / (double)r->parameters);
        (void)snprintf(note, sizeof note, "%.3g M parameters against %.3g M", (double)r->parameters * 1e-6,
                       (double)c->teacher->parameters * 1e-6);
        card(t, best, value, student->label, note);
    }
    kd_text_add(t, "</div>\n");
}

static void page_warnings(kd_text *t, const kd_comparison *c)
{
    if (c->n_warnings == 0) {
        return;
    }
    kd_text_add(t, "<aside class=\"warn\" aria-labelledby=\"warnings\"><h2 id=\"warnings\">Before believing "
                   "these figures</h2><ul>\n");
    for (size_t i = 0; i < c->n_warnings; i++) {
        kd_text_add(t, "<li>");
        kd_text_html(t, c->warning[i]);
        kd_text_add(t, "</li>\n");
    }
    kd_text_add(t, "</ul></aside>\n");
}

/* ---- accuracy -------------------------------------------------------------------------------- */

static void cell(kd_text *t, const kd_spread *s, size_t runs, double scale, int digits)
{
    kd_text_f(t, "<td>%.*f", digits, scale * s->mean);
    if (runs > 1) {
        kd_text_f(t, " <small>\xc2\xb1 %.*f</small>", digits, scale * s->sd);
    }
    kd_text_add(t, "</td>");
}

static void person_head(kd_text *t, const kd_comparison *c)
{
    if (kd_compare_by_person(c)) {
        kd_text_add(t, "<th scope=\"col\">by person</th>");
    }
}

static void person_cell(kd_text *t, const kd_comparison *c, const kd_interval *v, const char *format)
{
    if (kd_compare_by_person(c)) {
        kd_text_f(t, format, 100.0 * v->low, 100.0 * v->high);
    }
}

/* How the intervals were made. */
static void about_intervals(kd_text *t, const kd_comparison *c)
{
    const char *missing = kdi_compare_no_person(c);
    kd_text_f(t, "<p class=\"sub\">Intervals: %.0f %% bootstrap, %d draws.  By clip: clips and seeds are drawn.  ",
              100.0 * c->opts.confidence, c->opts.draws);
    if (missing != NULL) {
        kd_text_html(t, missing);
    } else {
        kd_text_f(t,
                  "By person: the %zu persons and the seeds are drawn; this is the one that holds for other people, as "
                  "clips of one person are not independent.",
                  c->factor[KD_FACTOR_PERSON].n);
    }
    kd_text_add(t, "</p>\n");
}

static void accuracy_table(kd_text *t, const kd_comparison *c)
{
    kd_text_add(
        t, "<div class=\"wide\" tabindex=\"0\"><table><caption>Means over runs \xc2\xb1 standard deviation between "
           "seeds</caption><thead><tr><th scope=\"col\">model</th><th scope=\"col\">seeds</th><th "
           "scope=\"col\">top-1, %</th><th scope=\"col\">by clip</th>");
    person_head(t, c);
    kd_text_add(t,
                "<th scope=\"col\">top-5, %</th><th scope=\"col\">mean class, %</th><th scope=\"col\">macro F1</th><th "
                "scope=\"col\">NLL</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < c->n_groups; i++) {
        const kd_group *g = &c->group[i];
        kd_text_add(t, "<tr><th scope=\"row\">");
        kd_svg_key(t, i);
        kd_text_html(t, g->label);
        kd_text_f(t, "</th><td>%zu</td>", g->n_seeds);
        cell(t, &g->figure[KD_FIG_TOP1], g->n_runs, 100.0, 1);
        kd_text_f(t, "<td>%.1f to %.1f</td>", 100.0 * g->top1.low, 100.0 * g->top1.high);
        person_cell(t, c, &g->top1_person, "<td>%.1f to %.1f</td>");
        cell(t, &g->figure[KD_FIG_TOP5], g->n_runs, 100.0, 1);
        cell(t, &g->figure[KD_FIG_MEAN_CLASS], g->n_runs, 100.0, 1);
        cell(t, &g->figure[KD_FIG_MACRO_F1], g->n_runs, 1.0, 3);
        cell(t, &g->figure[KD_FIG_NLL], g->n_runs, 1.0, 3);
        kd_text_add(t, "</tr>\n");
    }
    kd_text_add(t, "</tbody></table></div>\n");
}

static kd_status html_accuracy(kd_text *t, const kd_comparison *c, kd_err *err)
{
    static const kd_svg_words WORDS = {"Top-1 accuracy",
                                       "Mean top-1 accuracy of every model with its intervals and single runs",
                                       "top-1 accuracy, %", NULL};
    kd_svg_row row[KD_COMPARE_GROUPS_MAX];
    float *point = kd_calloc(c->n_reports, sizeof *point);
    size_t at = 0;
    if (point == NULL) {
        return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    }
    for (size_t i = 0; i < c->n_groups; i++) {
        const kd_group *g = &c->group[i];
        row[i] = (kd_svg_row){.label = g->label,
                              .series = i,
                              .interval = kdi_html_percent(&g->top1),
                              .person = kdi_html_percent(&g->top1_person),
                              .by_person = kd_compare_by_person(c),
                              .point = point + at,
                              .n_points = g->n_runs};
        for (size_t k = 0; k < g->n_runs; k++) {
            point[at++] = (float)(100.0 * c->report[g->run[k]]->metrics.top1);
        }
    }
    kdi_html_section(t, "accuracy", "Accuracy, side by side");
    kd_text_add(
        t, "<p>The mark is the mean over runs, each dot one run, the broad band the interval by clip, the line with "
           "ends the interval by person.</p>\n<div class=\"charts\"><div>");
    kd_svg_intervals(t, &WORDS, row, c->n_groups, false);
    kd_text_add(t, "</div></div>\n");
    accuracy_table(t, c);
    about_intervals(t, c);
    kd_text_add(t, "</section>\n");
    kd_free(point);
    return KD_OK;
}

/* ---- differences ----------------------------------------------------------------------------- */

static void difference_chart(kd_text *t, const kd_comparison *c, bool baseline)
{
    static const kd_svg_words WORDS[2] = {
        {"Difference to the teacher", "Top-1 of each student minus the teacher's, with its intervals",
         "difference in top-1 accuracy, points", NULL},
        {"Difference to the first student", "Top-1 of the other students minus the first one's, with its intervals",
         "difference in top-1 accuracy, points", NULL}};
    kd_svg_row row[KD_COMPARE_GROUPS_MAX];
    const size_t first = baseline ? 2 : 1;
    if (c->n_groups <= first) {
        return;
    }
    for (size_t i = first; i < c->n_groups; i++) {
        const kd_group *g = &c->group[i];
        row[i - first] =
            (kd_svg_row){.label = g->label,
                         .series = i,
                         .interval = kdi_html_percent(baseline ? &g->to_baseline : &g->to_teacher),
                         .person = kdi_html_percent(baseline ? &g->to_baseline_person : &g->to_teacher_person),
                         .by_person = kd_compare_by_person(c)};
    }
    kd_text_add(t, "<div><h3>Against ");
    kd_text_html(t, c->group[baseline ? 1 : 0].label);
    kd_text_add(t, baseline ? ", the first student given</h3>" : ", the teacher</h3>");
    kd_svg_intervals(t, &WORDS[baseline ? 1 : 0], row, c->n_groups - first, true);
    kd_text_add(t, "</div>\n");
}

static void html_differences(kd_text *t, const kd_comparison *c)
{
    kdi_html_section(t, "differences", "Differences that count");
    kd_text_f(
        t,
        "<p>Points of top-1 on the same samples.  A band that crosses zero means that these data do not settle which "
        "of the two is better; with fewer than %d seeds a side there is no verdict at all.</p>\n<div "
        "class=\"charts\">",
        KD_COMPARE_SEEDS);
    difference_chart(t, c, true);
    difference_chart(t, c, false);
    kd_text_add(t, "</div>\n<ul>\n");
    for (size_t i = 2; i < c->n_groups; i++) {
        char missing[320];
        kd_text_add(t, "<li>");
        kd_svg_key(t, i);
        kd_text_html(t, c->group[i].label);
        kd_text_f(t, ": <b>%s</b>", kd_verdict_word(c->group[i].verdict));
        kdi_compare_missing(c, &c->group[i], missing, sizeof missing);
        kd_text_add(t, missing[0] != '\0' ? " (" : "");
        kd_text_html(t, missing);
        kd_text_add(t, missing[0] != '\0' ? ")</li>\n" : "</li>\n");
    }
    kd_text_add(t, "</ul></section>\n");
}

/* ---- classes --------------------------------------------------------------------------------- */

typedef struct class_delta {
    int label;
    double delta;
} class_delta;

static int by_delta(const void *a, const void *b)
{
    const class_delta *x = a;
    const class_delta *y = b;
    if (x->delta < y->delta || x->delta > y->delta) {
        return x->delta < y->delta ? -1 : 1;
    }
    return x->label - y->label;
}

static void class_table(kd_text *t, const kd_comparison *c)
{
    kd_text_add(t, "<details><summary>All classes as a table</summary><div class=\"wide\" "
                   "tabindex=\"0\"><table>"
                   "<caption>Accuracy per class in percent, mean over runs</caption><thead><tr><th "
                   "scope=\"col\">"
                   "class</th><th scope=\"col\">samples</th>");
    for (size_t g = 0; g < c->n_groups; g++) {
        kd_text_add(t, "<th scope=\"col\">");
        kd_text_html(t, c->group[g].label);
        kd_text_add(t, "</th>");
    }
    kd_text_add(t, "</tr></thead><tbody>\n");
    for (int k = 0; k < c->classes; k++) {
        char buf[24];
        kd_text_add(t, "<tr><th scope=\"row\">");
        kd_text_html(t, kd_report_class(c->teacher, k, buf));
        kd_text_f(t, "</th><td>%lld</td>", (long long)c->teacher->metrics.per_class[k].support);
        for (size_t g = 0; g < c->n_groups; g++) {
            if (isnan(c->group[g].recall[k])) {
                kd_text_add(t, "<td>\xe2\x80\x93</td>");
            } else {
                kd_text_f(t, "<td>%.1f</td>", 100.0 * c->group[g].recall[k]);
            }
        }
        kd_text_add(t, "</tr>\n");
    }
    kd_text_add(t, "</tbody></table></div></details>\n");
}

static kd_status html_classes(kd_text *t, const kd_comparison *c, kd_err *err)
{
    enum { MOST = 24, SHOWN = 2 };
    static const kd_svg_words WORDS = {"Accuracy per class against the teacher",
                                       "Difference of the accuracy of every class, student minus teacher",
                                       "difference in accuracy of the class, points", NULL};
    const size_t k = (size_t)c->classes;
    class_delta *d = kd_calloc(k, sizeof *d);
    kd_svg_bar *bar = kd_calloc(k, sizeof *bar);
    char(*name)[24] = kd_calloc(k, sizeof *name);
    if (d == NULL || bar == NULL || name == NULL) {
        kd_free(d);
        kd_free(bar);
        kd_free(name);
        return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    }
    kdi_html_section(t, "classes", "Class by class");
    kd_text_add(t, "<p>Accuracy of the student minus the teacher's, per class; the right column is the teacher's "
                   "accuracy.  Bars to the left: what the student lost.</p>\n<div class=\"charts\">\n");
    for (size_t g = c->n_groups; g-- > 1;) {
        size_t n = 0;
        for (int label = 0; label < c->classes; label++) {
            const double delta = c->group[g].recall[label] - c->group[0].recall[label];
            if (!isnan(delta)) {
                d[n].label = label;
                d[n++].delta = delta;
            }
        }
        qsort(d, n, sizeof *d, by_delta);
        const size_t shown = KD_MIN(n, (size_t)MOST);
        for (size_t i = 0; i < shown; i++) { /* of many classes, the ends of the list */
            const class_delta *x = &d[i < shown / 2 || n == shown ? i : n - shown + i];
            bar[i].label = kd_report_class(c->teacher, x->label, name[i]);
            bar[i].value = 100.0 * x->delta;
            bar[i].from = 100.0 * c->group[0].recall[x->label];
        }
        kd_text_f(t, "<details%s><summary>", c->n_groups - g <= SHOWN ? " open" : "");
        kd_svg_key(t, g);
        kd_text_html(t, c->group[g].label);
        if (shown < n) {
            kd_text_f(t, " (the %zu largest differences of %zu classes)", shown, n);
        }
        kd_text_add(t, "</summary>");
        kd_svg_bars(t, &WORDS, bar, shown, g);
        kd_text_add(t, "</details>\n");
    }
    kd_text_add(t, "</div>\n");
    class_table(t, c);
    kd_text_add(t, "</section>\n");
    kd_free(d);
    kd_free(bar);
    kd_free(name);
    return KD_OK;
}

/* ---- page ------------------------------------------------------------------------------------ */

kd_status kd_compare_write_html(const kd_comparison *c, const char *path, kd_err *err)
{
    kd_text t;
    memset(&t, 0, sizeof t);
    kd_status st = KD_OK;
    char *verdict = kd_compare_verdict(c);
    page_head(&t, c);
    kd_text_add(&t, "<p class=\"lead\">");
    kd_text_html(&t, verdict);
    kd_free(verdict);
    kd_text_add(&t, "</p>\n");
    page_cards(&t, c);
    page_key(&t, c);
    page_nav(&t);
    kd_text_add(&t, "</header>\n<main>\n");
    page_warnings(&t, c);
    KD_GO(html_accuracy(&t, c, err));
    html_differences(&t, c);
    KD_GO(kdi_html_people(&t, c, err));
    KD_GO(html_classes(&t, c, err));
    kdi_html_agreement(&t, c);
    KD_GO(kdi_html_errors(&t, c, err));
    KD_GO(kdi_html_curves(&t, c, err));
    kdi_html_calibration(&t, c);
    kdi_html_size(&t, c);
    KD_GO(kdi_html_confusion(&t, c, err));
    kdi_html_provenance(&t, c);
    kd_page_end(&t);
    st = kd_text_write(&t, path, err);
done:
    kd_text_free(&t);
    return st;
}
