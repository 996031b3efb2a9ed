/* The comparison's page, continued: agreement, errors, calibration, size and speed, confusion, provenance. */
#include "distill/report/compare_html.h"

#include <math.h>

enum { IDS_SHOWN = 400 };

/* ---- agreement ------------------------------------------------------------------------------- */

/* Ids of the samples of one cell: bit 1 the teacher errs, bit 0 the student errs. */
static void id_list(kd_text *t, const kd_comparison *c, size_t report, int cell, int64_t count, const char *title)
{
    if (count == 0) {
        return;
    }
    int shown = 0;
    kd_text_f(t, "<details><summary>%s: %lld</summary><div class=\"ids mono\">", title, (long long)count);
    for (size_t i = 0; i < c->n && shown < IDS_SHOWN; i++) {
        const int32_t label = c->teacher->labels[i];
        const int wrong = (c->prediction[0][i] != label ? 2 : 0) + (c->prediction[report][i] != label ? 1 : 0);
        if (wrong == cell) {
            kd_text_add(t, "<div>");
            kd_text_html(t, c->teacher->ids[i]);
            kd_text_add(t, "</div>");
            shown++;
        }
    }
    kd_text_add(t, "</div>");
    if (count > shown) {
        kd_text_f(t, "<p class=\"sub\">and %lld more; the JSON file has all.</p>", (long long)(count - shown));
    }
    kd_text_add(t, "</details>\n");
}

static void quad_cell(kd_text *t, int64_t count, size_t n, const char *what, bool focus)
{
    kd_text_f(t, "<td%s><b>%lld</b>%.1f %%<br><small>%s</small></td>", focus ? " class=\"focus\"" : "",
              (long long)count, 100.0 * (double)count / (double)n, what);
}

static void p_value(char *out, size_t size, double p)
{
    if (p < 1e-4) {
        (void)snprintf(out, size, "p &lt; 0.0001");
    } else {
        (void)snprintf(out, size, "p = %.*f", p < 0.01 ? 4 : 3, p);
    }
}

static void html_tests(kd_text *t, const kd_comparison *c, const kd_group *g)
{
    char p[48];
    p_value(p, sizeof p, g->mcnemar);
    kd_text_f(t, "<p>McNemar, by clip: %lld against %lld, %s", (long long)g->agreement.only_first,
              (long long)g->agreement.only_second, p);
    if (kd_compare_by_person(c)) {
        p_value(p, sizeof p, g->mcnemar_person);
        kd_text_f(t, "; by person (%zu): %s", c->factor[KD_FACTOR_PERSON].n, p);
    }
    kd_text_add(t, ".</p>\n");
}

void kdi_html_agreement(kd_text *t, const kd_comparison *c)
{
    kdi_html_section(t, "agreement", "Where they agree");
    kd_text_add(
        t, "<p>How often teacher and student are right on the same sample.  The run with the median top-1 stands "
           "for a student with several seeds.  McNemar's exact test asks whether the two kinds of disagreement of "
           "these two sets of weights are equally likely; it says nothing about other seeds.  By person: the exact "
           "randomization test with persons as units, which does not take a person's clips as independent.</p>\n"
           "<div class=\"charts quads\">\n");
    for (size_t i = 1; i < c->n_groups; i++) {
        const kd_group *g = &c->group[i];
        const kd_agreement *a = &g->agreement;
        kd_text_add(t, "<div><h3>");
        kd_svg_key(t, i);
        kd_text_html(t, g->label);
        kd_text_f(t, " <small>(seed %lld)</small></h3>\n", (long long)c->report[g->typical]->seed);
        kd_text_add(t, "<table class=\"quad\"><thead><tr><td></td><th scope=\"col\">student right</th><th "
                       "scope=\"col\">student wrong</th></tr></thead><tbody><tr><th scope=\"row\">teacher right</th>");
        quad_cell(t, a->both_right, c->n, "both right", false);
        quad_cell(t, a->only_first, c->n, "only the teacher: what is left to learn", true);
        kd_text_add(t, "</tr><tr><th scope=\"row\">teacher wrong</th>");
        quad_cell(t, a->only_second, c->n, "only the student", false);
        quad_cell(t, a->both_wrong, c->n, "both wrong", false);
        kd_text_add(t, "</tr></tbody></table>\n");
        html_tests(t, c, g);
        id_list(t, c, g->typical, 1, a->only_first, "Samples only the teacher gets right");
        id_list(t, c, g->typical, 2, a->only_second, "Samples only the student gets right");
        id_list(t, c, g->typical, 3, a->both_wrong, "Samples both get wrong");
        kd_text_add(t, "</div>\n");
    }
    kd_text_add(t, "</div></section>\n");
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* The most frequent errors of a group's typical run, as a table. */
static kd_status pair_table(kd_text *t, const kd_comparison *c, size_t group, bool teacher_right, kd_err *err)
{
    enum { MOST = 10 };
    const size_t run = c->group[group].typical;
    compare_pair *pair = NULL;
    size_t n = 0;
    KD_TRY(kdi_compare_pairs(c, run, teacher_right, &pair, &n, err));
    kd_text_add(t, "<div><div class=\"wide\" tabindex=\"0\"><table class=\"pairs\"><caption>");
    kd_svg_key(t, group);
    kd_text_html(t, c->group[group].label);
    kd_text_f(t,
              " (seed %lld)</caption><thead><tr><th scope=\"col\">class</th><th scope=\"col\" "
              "class=\"left\">taken for</th><th scope=\"col\">samples</th></tr></thead><tbody>\n",
              (long long)c->report[run]->seed);
    for (size_t k = 0; k < n && k < MOST; k++) {
        char buf[24];
        kd_text_add(t, "<tr><td class=\"wrap\">");
        kd_text_html(t, kd_report_class(c->teacher, pair[k].label, buf));
        kd_text_add(t, "</td><td class=\"left wrap\">");
        kd_text_html(t, kd_report_class(c->teacher, pair[k].prediction, buf));
        kd_text_f(t, "</td><td>%zu of %lld</td></tr>\n", pair[k].count,
                  (long long)c->teacher->metrics.per_class[pair[k].label].support);
    }
    kd_text_add(t, n == 0 ? "<tr><td colspan=\"3\">none</td></tr></tbody></table></div>" : "</tbody></table></div>");
    if (n > MOST) {
        kd_text_f(t, "<p class=\"sub\">and %zu more pairs</p>", n - MOST);
    }
    kd_text_add(t, "</div>\n");
    kd_free(pair);
    return KD_OK;
}

kd_status kdi_html_errors(kd_text *t, const kd_comparison *c, kd_err *err)
{
    kdi_html_section(t, "errors", "Where the student errs and the teacher does not");
    kd_text_add(t,
                "<p>Pairs of classes, most frequent first.  A pair that tops this list for every student is something "
                "the video shows and the skeleton does not.</p>\n<div class=\"grid3\">\n");
    for (size_t i = 1; i < c->n_groups; i++) {
        KD_TRY(pair_table(t, c, i, true, err));
    }
    kd_text_add(t, "</div></section>\n");
    return KD_OK;
}

/* ---- calibration ----------------------------------------------------------------------------- */

void kdi_html_calibration(kd_text *t, const kd_comparison *c)
{
    kdi_html_section(t, "calibration", "Calibration");
    static const kd_svg_words WORDS = {"Reliability diagram",
                                       "Accuracy against confidence, before and after a temperature", "confidence, %",
                                       "accuracy, %"};
    kd_text_add(t,
                "<p>How far stated confidence can be believed: on the diagonal it can.  Dashed, open circles: as "
                "trained; solid: after one temperature, fitted on one half of the samples and measured on the other.  "
                "The size of a dot follows the number of samples.</p>\n<div class=\"grid3\">\n");
    for (size_t i = 0; i < c->n_groups; i++) {
        const kd_group *g = &c->group[i];
        kd_text_add(t, "<figure><figcaption>");
        kd_svg_key(t, i);
        kd_text_html(t, g->label);
        kd_text_f(t, "<small>ECE %.3f, after %.3f</small></figcaption>", g->figure[KD_FIG_ECE].mean,
                  g->figure[KD_FIG_ECE_SCALED].mean);
        kd_svg_reliability(t, &WORDS, g->before, g->after, KD_ECE_BINS, i);
        kd_text_add(t, "</figure>\n");
    }
    kd_text_f(t,
              "</div>\n<div class=\"wide\" tabindex=\"0\"><table><caption>ECE over %d equal bins; Brier "
              "over all "
              "classes (0 to 2)</caption><thead><tr><th scope=\"col\">model</th><th "
              "scope=\"col\">ECE</th>"
              "<th scope=\"col\">ECE after</th><th scope=\"col\">NLL</th><th scope=\"col\">NLL after</th>"
              "<th scope=\"col\">Brier</th><th scope=\"col\">temperature</th></tr></thead><tbody>\n",
              KD_ECE_BINS);
    for (size_t i = 0; i < c->n_groups; i++) {
        const kd_spread *f = c->group[i].figure;
        kd_text_add(t, "<tr><th scope=\"row\">");
        kd_svg_key(t, i);
        kd_text_html(t, c->group[i].label);
        kd_text_f(t,
                  "</th><td>%.3f</td><td>%.3f</td><td>%.3f</td><td>%.3f</td><td>%.3f</td><td>%.2f</"
                  "td></tr>\n",
                  f[KD_FIG_ECE].mean, f[KD_FIG_ECE_SCALED].mean, f[KD_FIG_NLL].mean, f[KD_FIG_NLL_SCALED].mean,
                  f[KD_FIG_BRIER].mean, f[KD_FIG_TEMPERATURE].mean);
    }
    kd_text_add(t, "</tbody></table></div></section>\n");
}

/* ---- size and speed -------------------------------------------------------------------------- */

static void count_cell(kd_text *t, int64_t v, int64_t teacher)
{
    static const struct {
        double unit;
        const char *name;
    } UNIT[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    if (v <= 0) {
        kd_text_add(t, "<td>\xe2\x80\x93</td>");
        return;
    }
    size_t u = 0;
    while (u < KD_COUNTOF(UNIT) && (double)v < UNIT[u].unit) {
        u++;
    }
    if (u < KD_COUNTOF(UNIT)) {
        kd_text_f(t, "<td>%.3g %s", (double)v / UNIT[u].unit, UNIT[u].name);
    } else {
        kd_text_f(t, "<td>%lld", (long long)v);
    }
    if (teacher > v) {
        kd_text_f(t, " <small>%.3g\xc3\x97 less</small>", (double)teacher / (double)v);
    }
    kd_text_add(t, "</td>");
}

static void latency_cell(kd_text *t, const kd_comparison *c, const kd_group *g)
{
    const kd_latency *first = &c->group[0].latency;
    if (!c->latency.measured) {
        return;
    }
    kd_text_f(t, "<td>%.3g", g->latency.ms);
    if (g != &c->group[0] && first->ms > g->latency.ms) {
        kd_text_f(t, " <small>%.3g\xc3\x97 faster</small>", first->ms / g->latency.ms);
    }
    kd_text_f(t, "</td><td>%.3g</td>", g->latency.p99_ms);
}

static void about_latency(kd_text *t, const kd_comparison *c)
{
    if (!c->latency.measured) {
        kd_text_add(t, "<p class=\"sub\">No latency: times of different sessions must not be set against each other.  "
                       "<code>distill compare --latency</code> measures all models by turns in one process.</p>\n");
        return;
    }
    kd_text_f(
        t, "<p class=\"sub\">Latency: all models by turns in one process, %d passes each of one sample and one view; ",
        c->group[0].latency.passes);
    kd_text_html(t, c->latency.device);
    kd_text_f(t, ", %s.</p>\n", c->latency.dtype);
}

void kdi_html_size(kd_text *t, const kd_comparison *c)
{
    const kd_report *teacher = c->teacher;
    kdi_html_section(t, "size", "Size and speed");
    kd_text_add(t,
                "<div class=\"wide\" tabindex=\"0\"><table><caption>Multiply-adds are for one sample and view</caption>"
                "<thead><tr><th scope=\"col\">model</th><th scope=\"col\">parameters</th><th "
                "scope=\"col\">multiply-adds</th><th scope=\"col\">bytes</th>");
    kd_text_add(t, c->latency.measured
                       ? "<th scope=\"col\">latency, ms (median)</th><th scope=\"col\">99th percentile, ms</th>"
                       : "");
    kd_text_add(t, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < c->n_groups; i++) {
        const kd_report *r = c->report[c->group[i].typical];
        kd_text_add(t, "<tr><th scope=\"row\">");
        kd_svg_key(t, i);
        kd_text_html(t, c->group[i].label);
        kd_text_add(t, "<br><small>");
        kd_text_html(t, r->model);
        kd_text_add(t, "</small></th>");
        count_cell(t, r->parameters, teacher->parameters);
        count_cell(t, r->macs, teacher->macs);
        count_cell(t, r->bytes, teacher->bytes);
        latency_cell(t, c, &c->group[i]);
        kd_text_add(t, "</tr>\n");
    }
    kd_text_add(t, "</tbody></table></div>\n");
    about_latency(t, c);
    kd_text_add(t, "</section>\n");
}

/* ---- confusion ------------------------------------------------------------------------------- */

static const char *class_of(int i, const void *ctx)
{
    const kd_report *r = ctx;
    return r->class_names != NULL ? r->class_names[i] : "?";
}

kd_status kdi_html_confusion(kd_text *t, const kd_comparison *c, kd_err *err)
{
    static const kd_svg_words WORDS = {"Confusion matrix", "True classes by rows, answers by columns", "answer",
                                       "true class"};
    kdi_html_section(t, "confusion", "Confusion");
    kd_text_add(t,
                "<p>Rows are the true classes, columns the answers; the shade is the part of the row.  The diagonal is "
                "what is right.  Of several seeds, the median run.  Below: every model's most frequent errors.</p>\n"
                "<div class=\"charts\">\n");
    for (size_t i = 0; i < c->n_groups; i++) {
        const kd_report *r = c->report[c->group[i].typical];
        kd_text_f(t, "<details%s><summary>", i == 0 || i + 1 == c->n_groups ? " open" : "");
        kd_svg_key(t, i);
        kd_text_html(t, c->group[i].label);
        kd_text_add(t, "</summary>");
        kd_svg_confusion(t, &WORDS, r->metrics.confusion, c->classes, class_of, r, i);
        kd_text_add(t, "</details>\n");
    }
    kd_text_add(t, "</div>\n<div class=\"grid3\">\n");
    for (size_t i = 0; i < c->n_groups; i++) {
        KD_TRY(pair_table(t, c, i, false, err));
    }
    kd_text_add(t, "</div></section>\n");
    return KD_OK;
}

/* ---- provenance ------------------------------------------------------------------------------ */

static void fact(kd_text *t, const char *name, const char *value, bool mono)
{
    if (value == NULL || value[0] == '\0') {
        return;
    }
    kd_text_f(t, "<dt>%s</dt><dd%s>", name, mono ? " class=\"mono\"" : "");
    kd_text_html(t, value);
    kd_text_add(t, "</dd>\n");
}

static void short_hash(kd_text *t, const char *hash)
{
    char cut[13];
    (void)snprintf(cut, sizeof cut, "%.12s", hash != NULL ? hash : "");
    kd_text_html(t, cut[0] != '\0' ? cut : "\xe2\x80\x93");
}

static void run_facts(kd_text *t, const kd_report *r)
{
    char seed[32];
    char counts[128];
    (void)snprintf(seed, sizeof seed, "%lld", (long long)r->seed);
    (void)snprintf(counts, sizeof counts, "%lld listed = %zu done + %lld failed + %lld excluded", (long long)r->listed,
                   r->n, (long long)r->failed, (long long)r->excluded);
    kd_text_add(t, "<details><summary>");
    kd_text_html(t, r->label);
    kd_text_f(t, ", seed %lld: %.2f %%</summary><dl>\n", (long long)r->seed, 100.0 * r->metrics.top1);
    fact(t, "Report", r->path, true);
    fact(t, "Command", r->command, true);
    fact(t, "Made", r->created, false);
    fact(t, "Program", r->tool, false);
    fact(t, "Seed", seed, false);
    fact(t, "Modality", r->modality, false);
    fact(t, "Joints", r->layout, false);
    fact(t, "Views", r->views, false);
    fact(t, "Views merged by", r->merge, false);
    fact(t, "Samples", counts, false);
    fact(t, "Weights", r->weights_hash, true);
    fact(t, "Phase of training", r->phase, false);
    if (r->unlabelled > 0) {
        (void)snprintf(counts, sizeof counts, "%lld, %lld of them taught by pseudo-labels", (long long)r->unlabelled,
                       (long long)r->pseudo);
        fact(t, "Training samples without label", counts, false);
    }
    fact(t, "Epoch chosen on", r->selected_on != NULL ? r->selected_on : "not chosen", false);
    if (r->taught_by != NULL) {
        fact(t, "Taught by", r->taught_by, false);
    }
    fact(t, "Teacher weights", r->teacher_weights_hash, true);
    fact(t, "Logit store", r->store_hash, true);
    fact(t, "Config", r->config_hash, true);
    fact(t, "Decoder", r->decoder, false);
    kd_text_add(t, "</dl>");
    if (r->config != NULL && r->config[0] != '\0') {
        kd_text_add(t, "<details><summary>Resolved config</summary><pre>");
        kd_text_html(t, r->config);
        kd_text_add(t, "</pre></details>");
    }
    kd_text_add(t, "</details>\n");
}

static void run_table(kd_text *t, const kd_comparison *c)
{
    kd_text_add(t, "<div class=\"wide\" tabindex=\"0\"><table><thead><tr><th scope=\"col\">run</th><th "
                   "scope=\"col\">seed</th><th scope=\"col\">top-1, %</th><th scope=\"col\">weights</th><th "
                   "scope=\"col\">recipe</th><th scope=\"col\">epoch chosen on</th></tr></thead><tbody>\n");
    for (size_t g = 0; g < c->n_groups; g++) {
        for (size_t i = 0; i < c->group[g].n_runs; i++) {
            const kd_report *r = c->report[c->group[g].run[i]];
            kd_text_add(t, "<tr><th scope=\"row\">");
            kd_svg_key(t, g);
            kd_text_html(t, r->label);
            kd_text_f(t, "</th><td>%lld</td><td>%.2f</td><td class=\"mono\">", (long long)r->seed,
                      100.0 * r->metrics.top1);
            short_hash(t, r->weights_hash);
            kd_text_add(t, "</td><td class=\"mono\">");
            short_hash(t, r->config_hash);
            kd_text_add(t, "</td><td>");
            kd_text_html(t, r->selected_on != NULL ? r->selected_on : "not chosen");
            kd_text_add(t, "</td></tr>\n");
        }
    }
    kd_text_add(t, "</tbody></table></div>\n");
}

void kdi_html_provenance(kd_text *t, const kd_comparison *c)
{
    const kd_report *r = c->teacher;
    char number[96];
    kdi_html_section(t, "provenance", "Protocol and provenance");
    kd_text_add(t, "<p>The same for every report here, or the comparison would have been refused:</p><dl>\n");
    fact(t, "Data set", r->dataset, false);
    fact(t, "Split", r->split, false);
    fact(t, "Half", r->half, false);
    (void)snprintf(number, sizeof number, "%zu, joined by id", c->n);
    fact(t, "Samples", number, false);
    fact(t, "Ids and labels", r->ids_hash, true);
    (void)snprintf(number, sizeof number, "percentile bootstrap, %d draws, seed %llu, %.0f %%", c->opts.draws,
                   (unsigned long long)c->opts.seed, 100.0 * c->opts.confidence);
    fact(t, "Intervals", number, false);
    kd_text_add(t, "</dl>\n<h3>Every run</h3>\n");
    run_table(t, c);
    for (size_t i = 0; i < c->n_reports; i++) {
        run_facts(t, c->report[i]);
    }
    if (c->opts.command != NULL) {
        kd_text_add(t, "<h3>This page again</h3>\n<pre>");
        kd_text_html(t, c->opts.command);
        kd_text_add(t, "</pre>\n");
    }
    kd_text_add(t, "</section>\n");
}
