/* See svg.h.  Sizes are units of the view box; the page scales it to its column. */
#include "distill/report/svg.h"

#include <math.h>
#include <stdio.h>

/* ---- series ---------------------------------------------------------------------------------- */

int kd_svg_color(size_t series)
{
    return series == 0 ? 0 : 1 + (int)((series - 1) % (KD_SVG_COLORS - 1));
}

const char *kd_svg_letter(size_t series)
{
    static const char LETTER[][2] = {"T", "A", "B", "C", "D", "E", "F", "G", "H", "I", "J",
                                     "K", "L", "M", "N", "O", "P", "Q", "R", "S", "U", "V",
                                     "W", "X", "Y", "Z", "a", "b", "c", "d", "e", "f", "g"};
    return series < KD_COUNTOF(LETTER) ? LETTER[series] : "?";
}

/* The shape of a series around (x, y). */
static void mark(kd_text *t, size_t series, double x, double y, double r)
{
    static const char *const SHAPE[] = {
        "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0z", /* disc */
        "M-.9 -.9h1.8v1.8h-1.8z",              /* square */
        "M0 -1.15L1.1 .85H-1.1z",              /* triangle */
        "M0 -1.25L1.25 0L0 1.25L-1.25 0z",     /* diamond */
        "M0 1.15L1.1 -.85H-1.1z",              /* triangle on its head */
        "M-1.1 -.7L-.7 -1.1L0 -.4L.7 -1.1L1.1 -.7L.4 0L1.1 .7L.7 1.1L0 .4L-.7 1.1L-1.1 .7L-.4 0z", /* cross */
        "M-.35 -1.2H.35V-.35H1.2V.35H.35V1.2H-.35V.35H-1.2V-.35H-.35z",                            /* plus */
    };
    kd_text_f(t, "<path class=\"mark\" transform=\"translate(%.1f %.1f) scale(%.2f)\" d=\"%s\"/>", x, y, r,
              SHAPE[series % KD_COUNTOF(SHAPE)]);
}

static const char *dash(size_t series)
{
    static const char *const DASH[] = {"none", "7 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2", "1 5"};
    return DASH[series % KD_COUNTOF(DASH)];
}

void kd_svg_key(kd_text *t, size_t series)
{
    kd_text_f(t, "<span class=\"key c%d\"><svg viewBox=\"-7 -7 14 14\" aria-hidden=\"true\">", kd_svg_color(series));
    mark(t, series, 0.0, 0.0, 5.0);
    kd_text_f(t, "</svg>%s</span> ", kd_svg_letter(series));
}

/* ---- frame ----------------------------------------------------------------------------------- */

enum { WIDTH = 400 };

static void open_svg(kd_text *t, double w, double h, const kd_svg_words *words, const char *style)
{
    kd_text_f(t, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" class=\"%s\"><title>", w, h, style);
    kd_text_html(t, words->title);
    kd_text_add(t, "</title><desc>");
    kd_text_html(t, words->desc);
    kd_text_add(t, "</desc>");
}

/* At most `room` characters of a label, with the whole of it as a tooltip.  Cuts between UTF-8 characters. */
static void short_label(kd_text *t, const char *label, size_t room)
{
    const size_t len = strlen(label);
    if (len <= room) {
        kd_text_html(t, label);
        return;
    }
    char cut[64];
    size_t n = KD_MIN(room - 1, sizeof cut - 1);
    while (n > 0 && ((unsigned char)label[n] & 0xc0) == 0x80) {
        n--;
    }
    memcpy(cut, label, n);
    cut[n] = '\0';
    kd_text_html(t, cut);
    kd_text_add(t, "\xe2\x80\xa6<title>");
    kd_text_html(t, label);
    kd_text_add(t, "</title>");
}

static void text_at(kd_text *t, const char *style, double x, double y, const char *s)
{
    kd_text_f(t, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", style, x, y);
    kd_text_html(t, s);
    kd_text_add(t, "</text>");
}

/* Upright at the left edge. */
static void text_upright(kd_text *t, double x, double y, const char *s)
{
    kd_text_f(t, "<text class=\"tick\" transform=\"translate(%.1f %.1f) rotate(-90)\">", x, y);
    kd_text_html(t, s);
    kd_text_add(t, "</text>");
}

/* ---- axes ------------------------------------------------------------------------------------ */

typedef struct axis {
    double lo, hi, x0, x1;
    bool whole; /* ticks at whole numbers */
} axis;

/* A round step that gives at most six ticks. */
static double tick_step(const axis *a)
{
    const double range = a->hi - a->lo;
    double step = pow(10.0, floor(log10(range)) - 1.0);
    for (int i = 0; range / step > 6.0 || (a->whole && step < 1.0); i++) {
        step *= i % 3 == 1 ? 2.5 : 2.0; /* 1, 2, 5, 10, ... */
    }
    return step;
}

static int digits_of(double step)
{
    return step < 1.0 ? (int)KD_MIN(6.0, ceil(-log10(step) - 1e-9)) : 0;
}

static double place(const axis *a, double v)
{
    return a->x0 + (v - a->lo) / (a->hi - a->lo) * (a->x1 - a->x0);
}

/* Ticks below a plot from `top` to `bottom`, and what they count. */
static void axis_below(kd_text *t, const axis *a, double top, double bottom, bool signed_values, const char *name)
{
    const double step = tick_step(a);
    const double first = ceil(a->lo / step - 1e-9) * step;
    for (int i = 0; first + i * step <= a->hi + 1e-9; i++) {
        const double v = first + i * step;
        const bool zero = signed_values && fabs(v) < 1e-9;
        char text[32];
        (void)snprintf(text, sizeof text, signed_values && !zero ? "%+.*f" : "%.*f", digits_of(step), zero ? 0.0 : v);
        kd_text_f(t, "<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", zero ? "zero" : "grid",
                  place(a, v), place(a, v), top, bottom);
        text_at(t, "tick", place(a, v), bottom + 14.0, text);
    }
    text_at(t, "tick", 0.5 * (a->x0 + a->x1), bottom + 29.0, name);
}

/* Ticks left of a plot from x0 to x1; a->x0 is its bottom, a->x1 its top. */
static void axis_left(kd_text *t, const axis *a, double x0, double x1, const char *name)
{
    const double step = tick_step(a);
    const double first = ceil(a->lo / step - 1e-9) * step;
    for (int i = 0; first + i * step <= a->hi + 1e-9; i++) {
        const double v = first + i * step;
        char text[32];
        (void)snprintf(text, sizeof text, "%.*f", digits_of(step), v);
        kd_text_f(t, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x0, x1, place(a, v),
                  place(a, v));
        text_at(t, "side", x0 - 5.0, place(a, v) + 4.0, text);
    }
    text_upright(t, 11.0, 0.5 * (a->x0 + a->x1), name);
}

static void widen(axis *a, double v)
{
    if (isfinite(v)) {
        a->lo = KD_MIN(a->lo, v);
        a->hi = KD_MAX(a->hi, v);
    }
}

/* Room at both ends; a range of shares stays within 0 and 100. */
static void round_off(axis *a, bool shares)
{
    if (a->lo > a->hi) {
        a->lo = 0.0;
        a->hi = 1.0;
    }
    const double room = KD_MAX(shares ? 1.0 : 1e-3, 0.05 * (a->hi - a->lo));
    a->lo = shares ? KD_MAX(0.0, a->lo - room) : a->lo - room;
    a->hi = shares ? KD_MIN(100.0, a->hi + room) : a->hi + room;
}

/* ---- intervals ------------------------------------------------------------------------------- */

static axis fit_axis(const kd_svg_row *row, size_t n, bool signed_values)
{
    axis a = {1e9, -1e9, 12.0, WIDTH - 12.0, false};
    for (size_t i = 0; i < n; i++) {
        widen(&a, row[i].interval.low);
        widen(&a, row[i].interval.high);
        widen(&a, row[i].by_person ? row[i].person.low : row[i].interval.low);
        widen(&a, row[i].by_person ? row[i].person.high : row[i].interval.high);
        for (size_t k = 0; k < row[i].n_points; k++) {
            widen(&a, (double)row[i].point[k]);
        }
    }
    if (signed_values) {
        widen(&a, 0.0);
    }
    round_off(&a, !signed_values);
    return a;
}

static void band(kd_text *t, const axis *a, const kd_interval *v, double y, const char *style)
{
    kd_text_f(t, "<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", style, place(a, v->low),
              place(a, v->high), y, y);
}

static void interval_row(kd_text *t, const axis *a, const kd_svg_row *r, double y, bool signed_values)
{
    char text[96];
    kd_text_f(t, "<g class=\"c%d\"><text class=\"name\" x=\"0\" y=\"%.1f\">%s  ", kd_svg_color(r->series), y + 12.0,
              kd_svg_letter(r->series));
    short_label(t, r->label, 29);
    kd_text_add(t, "</text>");
    (void)snprintf(text, sizeof text, signed_values ? "%+.1f (%+.1f to %+.1f)" : "%.1f (%.1f to %.1f)",
                   r->interval.mean, r->interval.low, r->interval.high);
    text_at(t, "value", WIDTH, y + 12.0, text);
    band(t, a, &r->interval, y + 26.0, "band");
    if (r->by_person) {
        (void)snprintf(text, sizeof text, signed_values ? "by person %+.1f to %+.1f" : "by person %.1f to %.1f",
                       r->person.low, r->person.high);
        band(t, a, &r->person, y + 39.0, "whisker");
        for (int end = 0; end < 2; end++) {
            const double x = place(a, end == 0 ? r->person.low : r->person.high);
            kd_text_f(t, "<line class=\"whisker\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x, y + 35.0,
                      y + 43.0);
        }
        text_at(t, "range", WIDTH, y + 55.0, text);
    }
    for (size_t k = 0; k < r->n_points && r->n_points > 1; k++) {
        kd_text_f(t, "<circle class=\"run\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"/>", place(a, (double)r->point[k]),
                  y + 26.0);
    }
    mark(t, r->series, place(a, r->interval.mean), y + 26.0, 5.5);
    kd_text_add(t, "</g>");
}

void kd_svg_intervals(kd_text *t, const kd_svg_words *words, const kd_svg_row *row, size_t n, bool signed_values)
{
    const double step = n > 0 && row[0].by_person ? 64.0 : 46.0;
    const double bottom = 4.0 + step * (double)n;
    const axis a = fit_axis(row, n, signed_values);
    open_svg(t, WIDTH, bottom + 36.0, words, "chart");
    axis_below(t, &a, 2.0, bottom, signed_values, words->x);
    for (size_t i = 0; i < n; i++) {
        interval_row(t, &a, &row[i], 4.0 + step * (double)i, signed_values);
    }
    kd_text_add(t, "</svg>\n");
}

/* ---- bars and dots --------------------------------------------------------------------------- */

void kd_svg_bars(kd_text *t, const kd_svg_words *words, const kd_svg_bar *bar, size_t n, size_t series)
{
    const double step = 19.0;
    const double bottom = 20.0 + step * (double)n;
    axis a = {-2.0, 2.0, 128.0, 284.0, false};
    for (size_t i = 0; i < n; i++) {
        widen(&a, 1.04 * bar[i].value);
    }
    open_svg(t, WIDTH, bottom + 36.0, words, "chart");
    axis_below(t, &a, 18.0, bottom, true, words->x);
    text_at(t, "side", 344.0, 11.0, "points");
    text_at(t, "side", WIDTH, 11.0, "from, %");
    for (size_t i = 0; i < n; i++) {
        const double y = 20.0 + step * (double)i;
        const double x0 = place(&a, KD_MIN(0.0, bar[i].value)), x1 = place(&a, KD_MAX(0.0, bar[i].value));
        char text[2][32];
        (void)snprintf(text[0], sizeof text[0], "%+.1f", bar[i].value);
        (void)snprintf(text[1], sizeof text[1], "%.1f", bar[i].from);
        kd_text_f(t, "<text class=\"name\" x=\"0\" y=\"%.1f\">", y + 13.5);
        short_label(t, bar[i].label, 19);
        kd_text_f(t, "</text><rect class=\"bar %s c%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"13\" rx=\"2\"/>",
                  bar[i].value < 0.0 ? "down" : "up", kd_svg_color(series), x0, y + 3.0, KD_MAX(1.0, x1 - x0));
        text_at(t, "value", 344.0, y + 13.5, text[0]);
        text_at(t, "side", WIDTH, y + 13.5, text[1]);
    }
    kd_text_add(t, "</svg>\n");
}

void kd_svg_dots(kd_text *t, const kd_svg_words *words, const char *const *name, size_t n, const double *const *value,
                 size_t series)
{
    const double step = 22.0;
    const double bottom = 4.0 + step * (double)n;
    axis a = {1e9, -1e9, 66.0, WIDTH - 12.0, false};
    for (size_t s = 0; s < series; s++) {
        for (size_t i = 0; i < n; i++) {
            widen(&a, value[s][i]);
        }
    }
    round_off(&a, true);
    open_svg(t, WIDTH, bottom + 36.0, words, "chart");
    axis_below(t, &a, 2.0, bottom, false, words->x);
    for (size_t i = 0; i < n; i++) {
        const double y = 4.0 + step * ((double)i + 0.5);
        kd_text_f(t, "<line class=\"grid\" x1=\"66\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", WIDTH - 12, y, y);
        text_at(t, "name", 0.0, y + 4.5, name[i]);
        for (size_t s = series; s-- > 0;) {
            if (isfinite(value[s][i])) {
                kd_text_f(t, "<g class=\"c%d\">", kd_svg_color(s));
                mark(t, s, place(&a, value[s][i]), y, 5.0);
                kd_text_f(t, "<title>%s: %.1f</title></g>", kd_svg_letter(s), value[s][i]);
            }
        }
    }
    kd_text_add(t, "</svg>\n");
}

/* ---- curves ---------------------------------------------------------------------------------- */

static void curve(kd_text *t, const axis *x, const axis *y, const kd_svg_line *l)
{
    size_t last = l->n;
    kd_text_f(t, "<g class=\"c%d\"><path class=\"spread\" d=\"", kd_svg_color(l->series));
    for (size_t i = 0, open = 0; i < 2 * l->n; i++) { /* there along the top, back along the bottom */
        const size_t k = i < l->n ? i : 2 * l->n - 1 - i;
        const double v = i < l->n ? l->high[k] : l->low[k];
        if (isfinite(v)) {
            kd_text_f(t, "%s%.1f %.1f", open++ == 0 ? "M" : "L", place(x, (double)k + 1.0), place(y, v));
        }
    }
    kd_text_f(t, "\"/><polyline class=\"curve\" stroke-dasharray=\"%s\" points=\"", dash(l->series));
    for (size_t i = 0; i < l->n; i++) {
        if (isfinite(l->mean[i])) {
            kd_text_f(t, "%.1f,%.1f ", place(x, (double)i + 1.0), place(y, l->mean[i]));
            last = i;
        }
    }
    kd_text_add(t, "\"/>");
    if (last < l->n) {
        mark(t, l->series, place(x, (double)last + 1.0), place(y, l->mean[last]), 4.0);
        text_at(t, "name", place(x, (double)last + 1.0) + 7.0, place(y, l->mean[last]) + 4.5, kd_svg_letter(l->series));
    }
    kd_text_add(t, "</g>");
}

void kd_svg_lines(kd_text *t, const kd_svg_words *words, const kd_svg_line *line, size_t n)
{
    axis x = {1.0, 2.0, 54.0, WIDTH - 20.0, true}, y = {1e300, -1e300, 206.0, 8.0, false};
    for (size_t i = 0; i < n; i++) {
        x.hi = KD_MAX(x.hi, (double)line[i].n);
        for (size_t k = 0; k < line[i].n; k++) {
            widen(&y, line[i].low[k]);
            widen(&y, line[i].high[k]);
        }
    }
    round_off(&y, false);
    open_svg(t, WIDTH, 240.0, words, "chart");
    axis_below(t, &x, 8.0, 206.0, false, words->x);
    axis_left(t, &y, x.x0, x.x1, words->y);
    for (size_t i = 0; i < n; i++) {
        curve(t, &x, &y, &line[i]);
    }
    kd_text_add(t, "</svg>\n");
}

/* ---- calibration ----------------------------------------------------------------------------- */

static void reliability_series(kd_text *t, const kd_calibration_bin *bin, int bins, const char *style)
{
    int64_t most = 1;
    for (int i = 0; i < bins; i++) {
        most = KD_MAX(most, bin[i].count);
    }
    kd_text_f(t, "<polyline class=\"%s\" points=\"", style);
    for (int i = 0; i < bins; i++) {
        if (bin[i].count > 0) {
            kd_text_f(t, "%.1f,%.1f ", 44.0 + 200.0 * bin[i].confidence, 210.0 - 200.0 * bin[i].accuracy);
        }
    }
    kd_text_add(t, "\"/>");
    for (int i = 0; i < bins; i++) {
        if (bin[i].count > 0) {
            kd_text_f(t,
                      "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>confidence %.2f, "
                      "accuracy %.2f, %lld samples</title></circle>",
                      style, 44.0 + 200.0 * bin[i].confidence, 210.0 - 200.0 * bin[i].accuracy,
                      2.0 + 4.0 * sqrt((double)bin[i].count / (double)most), bin[i].confidence, bin[i].accuracy,
                      (long long)bin[i].count);
        }
    }
}

void kd_svg_reliability(kd_text *t, const kd_svg_words *words, const kd_calibration_bin *before,
                        const kd_calibration_bin *after, int bins, size_t series)
{
    const axis x = {0.0, 100.0, 44.0, 244.0, false}, y = {0.0, 100.0, 210.0, 10.0, false};
    open_svg(t, 256.0, 246.0, words, "square");
    axis_below(t, &x, 10.0, 210.0, false, words->x);
    axis_left(t, &y, x.x0, x.x1, words->y);
    kd_text_f(t, "<line class=\"ideal\" x1=\"44\" y1=\"210\" x2=\"244\" y2=\"10\"/><g class=\"c%d\">",
              kd_svg_color(series));
    reliability_series(t, before, bins, "before");
    reliability_series(t, after, bins, "after");
    kd_text_add(t, "</g></svg>\n");
}

/* ---- confusion ------------------------------------------------------------------------------- */

enum { CLASSES_NAMED = 20 };

typedef struct matrix {
    const int64_t *count;
    int classes;
    const char *(*name)(int i, const void *ctx);
    const void *ctx;
    double left, size;
} matrix;

static void matrix_row(kd_text *t, const matrix *m, int r)
{
    const int64_t *row = m->count + (size_t)r * (size_t)m->classes;
    int64_t total = 0;
    for (int k = 0; k < m->classes; k++) {
        total += row[k];
    }
    for (int k = 0; k < m->classes; k++) {
        if (row[k] == 0) {
            continue;
        }
        const double part = (double)row[k] / (double)total;
        const double x = m->left + m->size * k, y = 4.0 + m->size * r;
        kd_text_f(t,
                  "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                  "fill-opacity=\"%.2f\"><title>",
                  r == k ? "hit" : "miss", x + 0.5, y + 0.5, m->size - 1.0, m->size - 1.0, 0.08 + 0.92 * part);
        kd_text_html(t, m->name(r, m->ctx));
        kd_text_add(t, " taken for ");
        kd_text_html(t, m->name(k, m->ctx));
        kd_text_f(t, ": %lld of %lld</title></rect>", (long long)row[k], (long long)total);
        if (m->classes <= CLASSES_NAMED) {
            kd_text_f(t, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">%lld</text>", part > 0.55 ? "cell strong" : "cell",
                      x + 0.5 * m->size, y + 0.5 * m->size + 4.0, (long long)row[k]);
        }
    }
}

void kd_svg_confusion(kd_text *t, const kd_svg_words *words, const int64_t *count, int classes,
                      const char *(*name)(int i, const void *ctx), const void *ctx, size_t series)
{
    const bool named = classes <= CLASSES_NAMED;
    const double left = named ? 118.0 : 18.0;
    const double size = (WIDTH + (named ? 60.0 : 0.0) - left - 4.0) / classes;
    const double side = size * classes, foot = named ? 84.0 : 4.0;
    const matrix m = {count, classes, name, ctx, left, size};
    open_svg(t, left + side + 4.0, side + foot + 20.0, words, "matrix");
    kd_text_f(t,
              "<rect class=\"field\" x=\"%.1f\" y=\"4\" width=\"%.1f\" height=\"%.1f\"/><g "
              "class=\"c%d\">",
              left, side, side, kd_svg_color(series));
    for (int r = 0; r < classes; r++) {
        matrix_row(t, &m, r);
    }
    kd_text_add(t, "</g>");
    for (int k = 0; named && k < classes; k++) {
        const double at = 4.0 + size * (k + 0.5);
        kd_text_f(t, "<text class=\"side\" x=\"%.1f\" y=\"%.1f\">", left - 5.0, at + 4.0);
        short_label(t, name(k, ctx), 16);
        kd_text_f(t, "</text><text class=\"slant\" transform=\"translate(%.1f %.1f) rotate(-50)\">",
                  left + size * (k + 0.6), side + 14.0);
        short_label(t, name(k, ctx), 14);
        kd_text_add(t, "</text>");
    }
    text_at(t, "tick", left + 0.5 * side, side + foot + 16.0, words->x);
    text_upright(t, 11.0, 4.0 + 0.5 * side, words->y);
    kd_text_add(t, "</svg>\n");
}
