/* The range test's judgement and its files: see find_lr.h. */
#include "distill/train/find_lr.h"

#include "distill/report/compare_style.h"
#include "distill/report/svg.h"
#include "formats/base/io.h"
#include "formats/base/json.h"

#include <math.h>
#include <stdio.h>

#define SMOOTHING 0.98
#define DIVERGED  4.0

/* Slope of the smoothed loss over the logarithm of the rate at step i, by its neighbours. */
static double slope(const kd_lr_curve *c, int i)
{
    return (c->smooth[i + 1] - c->smooth[i - 1]) / (log(c->rate[i + 1]) - log(c->rate[i - 1]));
}

void kd_lr_judge(kd_lr_curve *c)
{
    double mean = 0.0, weight = 1.0;
    c->diverged = false;
    c->least = 0;
    for (int i = 0; i < c->n && !c->diverged; i++) {
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * c->loss[i];
        weight *= SMOOTHING;
        c->smooth[i] = mean / (1.0 - weight);
        c->least = c->smooth[i] < c->smooth[c->least] ? i : c->least;
        c->diverged = !isfinite(c->loss[i]) || c->smooth[i] > DIVERGED * c->smooth[c->least];
        if (c->diverged) {
            c->n = isfinite(c->smooth[i]) ? i + 1 : i;
        }
    }
    c->steepest = -1;
    double steepest = 0.0;
    for (int i = KD_MAX(c->n / 10, 1); i < c->least && i + 1 < c->n; i++) {
        if (slope(c, i) < steepest) {
            steepest = slope(c, i);
            c->steepest = i;
        }
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static kd_status write_json(const kd_lr_curve *c, const char *path, const char *name, kd_err *err)
{
    kd_json *d = kd_json_object();
    kd_json_set_str(d, "format", "lastkd learning rates");
    kd_json_set_i64(d, "version", 1);
    kd_json_set_str(d, "recipe", name);
    kd_json_set_str(d, "tool", kd_version());
    kd_json_set_f64(d, "suggested_base_lr", c->steepest >= 0 ? c->rate[c->steepest] : (double)NAN);
    kd_json_set_f64(d, "base_lr_of_least_loss", c->n > 0 ? c->rate[c->least] : (double)NAN);
    kd_json_set_bool(d, "diverged", c->diverged);
    kd_json_set_f64s(d, "base_lr", c->rate, (size_t)c->n);
    kd_json_set_f64s(d, "loss", c->loss, (size_t)c->n);
    kd_json_set_f64s(d, "smoothed_loss", c->smooth, (size_t)c->n);
    const kd_status st = kd_json_write(d, path, err);
    kd_json_free(d);
    return st;
}

static kd_status write_csv(const kd_lr_curve *c, const char *path, const char *name, kd_err *err)
{
    kd_text t;
    (void)name;
    memset(&t, 0, sizeof t);
    kd_text_add(&t, "step,base_lr,loss,smoothed_loss\n");
    for (int i = 0; i < c->n; i++) {
        kd_text_f(&t, "%d,%.9g,%.9g,%.9g\n", i + 1, c->rate[i], c->loss[i], c->smooth[i]);
    }
    const kd_status st = kd_text_write(&t, path, err);
    kd_text_free(&t);
    return st;
}

static void table(kd_text *t, const kd_lr_curve *c)
{
    enum { ROWS = 25 };
    const int every = KD_MAX(1, c->n / ROWS);
    kd_text_add(t, "<div class=\"wide\" tabindex=\"0\"><table><caption>Losses by rate</caption><thead><tr><th "
                   "scope=\"col\">step</th><th scope=\"col\">optim.base_lr</th><th scope=\"col\">loss</th><th "
                   "scope=\"col\">smoothed</th></tr></thead><tbody>\n");
    for (int i = 0; i < c->n; i++) {
        if (i % every == 0 || i == c->steepest || i == c->least) {
            kd_text_f(t, "<tr><th scope=\"row\">%d</th><td>%.3g</td><td>%.4f</td><td>%.4f%s</td></tr>\n", i + 1,
                      c->rate[i], c->loss[i], c->smooth[i],
                      i == c->steepest ? " <b>steepest</b>"
                      : i == c->least  ? " <b>least</b>"
                                       : "");
        }
    }
    kd_text_add(t, "</tbody></table></div>\n");
}

static kd_status write_html(const kd_lr_curve *c, const char *path, const char *name, kd_err *err)
{
    char x[120];
    kd_text t;
    memset(&t, 0, sizeof t);
    (void)snprintf(x, sizeof x, "step; optim.base_lr grows from %.2g to %.2g, by the same factor each step", c->rate[0],
                   c->rate[c->n - 1]);
    const kd_svg_words words = {"Loss while the rate grows", "Smoothed training loss by step of the range test", x,
                                "smoothed loss"};
    const kd_svg_line line = {.series = 1, .n = (size_t)c->n, .mean = c->smooth, .low = c->smooth, .high = c->smooth};
    kd_page_begin(&t, "Learning rates", name, "rates");
    kd_text_add(&t, "<header><h1>Learning rates: ");
    kd_text_html(&t, name);
    kd_text_add(&t, "</h1>\n<p class=\"lead\">");
    if (c->steepest >= 0) {
        kd_text_f(&t, "The loss falls steepest at optim.base_lr %.2g and is least at %.2g", c->rate[c->steepest],
                  c->rate[c->least]);
    } else {
        kd_text_add(&t, "The loss falls at no rate of this range");
    }
    kd_text_f(&t, c->diverged ? "; it diverges at %.2g.</p>" : "; up to %.2g it does not diverge.</p>",
              c->rate[c->n - 1]);
    kd_text_add(&t, "\n</header>\n<main>\n<section id=\"rates\"><h2>Range test</h2>\n<div class=\"charts\"><div>");
    kd_svg_lines(&t, &words, &line, 1);
    kd_text_add(&t, "</div></div>\n");
    table(&t, c);
    kd_text_add(&t, "</section>\n");
    kd_page_end(&t);
    const kd_status st = kd_text_write(&t, path, err);
    kd_text_free(&t);
    return st;
}

kd_status kd_lr_write(const kd_lr_curve *c, const char *dir, const char *name, kd_err *err)
{
    static const struct {
        const char *name;
        kd_status (*write)(const kd_lr_curve *c, const char *path, const char *name, kd_err *err);
    } FILES[] = {{"lr_find.json", write_json}, {"lr_find.csv", write_csv}, {"lr_find.html", write_html}};
    KD_TRY(kd_io_mkdirs(dir, err));
    for (size_t i = 0; i < KD_COUNTOF(FILES); i++) {
        char *path = kd_path_join(dir, FILES[i].name);
        const kd_status st =
            path != NULL ? FILES[i].write(c, path, name, err) : KD_FAIL(err, KD_E_OOM, "learning rates: no memory");
        kd_free(path);
        KD_TRY(st);
    }
    return KD_OK;
}
