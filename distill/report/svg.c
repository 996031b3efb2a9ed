/* See svg.h.  Sizes are units of the view box; the page scales it to its column. */
#include "distill/report/svg.h"

#include <math.h>
#include <stdio.h>

static void open_svg(kd_text *t, double w, double h, const char *title, const char *desc, const char *extra)
{
    kd_text_f(t, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" class=\"%s\"><title>", w, h, extra);
    kd_text_html(t, title);
    kd_text_add(t, "</title><desc>");
    kd_text_html(t, desc);
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

/* A round step that gives four to eight ticks. */
static double tick_step(double range)
{
    static const double STEP[] = {0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 25.0};
    for (size_t i = 0; i < KD_COUNTOF(STEP); i++) {
        if (range / STEP[i] <= 8.0) {
            return STEP[i];
        }
    }
    return 50.0;
}

typedef struct axis {
    double lo, hi, x0, x1;
} axis;

static double place(const axis *a, double v)
{
    return a->x0 + (v - a->lo) / (a->hi - a->lo) * (a->x1 - a->x0);
}

static void draw_axis(kd_text *t, const axis *a, double top, double bottom, bool signed_values)
{
    const double step = tick_step(a->hi - a->lo);
    const double first = ceil(a->lo / step - 1e-9) * step;
    for (int i = 0; first + i * step <= a->hi + 1e-9; i++) {
        const double v = first + i * step;
        const bool zero = signed_values && fabs(v) < 1e-9;
        kd_text_f(t, "<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", zero ? "zero" : "grid",
                  place(a, v), place(a, v), top, bottom);
        kd_text_f(t,
                  signed_values && !zero ? "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\">%+.*f</text>"
                                         : "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\">%.*f</text>",
                  place(a, v), bottom + 16.0, step < 1.0 ? 1 : 0, zero ? 0.0 : v);
    }
}

static axis fit_axis(const kd_svg_row *row, size_t n, bool signed_values)
{
    axis a = {1e9, -1e9, 212.0, 548.0};
    for (size_t i = 0; i < n; i++) {
        a.lo = KD_MIN(a.lo, row[i].interval.low);
        a.hi = KD_MAX(a.hi, row[i].interval.high);
        for (size_t k = 0; k < row[i].n_points; k++) {
            a.lo = KD_MIN(a.lo, (double)row[i].point[k]);
            a.hi = KD_MAX(a.hi, (double)row[i].point[k]);
        }
    }
    if (signed_values) {
        a.lo = KD_MIN(a.lo, 0.0);
        a.hi = KD_MAX(a.hi, 0.0);
    }
    const double room = KD_MAX(1.0, 0.06 * (a.hi - a.lo));
    a.lo = signed_values ? a.lo - room : KD_MAX(0.0, a.lo - room);
    a.hi = signed_values ? a.hi + room : KD_MIN(100.0, a.hi + room);
    if (!(a.hi - a.lo > 1e-6)) {
        a.hi = a.lo + 1.0;
    }
    return a;
}

void kd_svg_intervals(kd_text *t, const char *title, const char *desc, const kd_svg_row *row, size_t n,
                      bool signed_values)
{
    const double step = 42.0;
    const double bottom = 12.0 + step * (double)n;
    const axis a = fit_axis(row, n, signed_values);
    open_svg(t, 720.0, bottom + 24.0, title, desc, "chart");
    draw_axis(t, &a, 6.0, bottom, signed_values);
    for (size_t i = 0; i < n; i++) {
        const kd_svg_row *r = &row[i];
        const double y = 12.0 + step * ((double)i + 0.5);
        const double x = place(&a, r->interval.mean);
        kd_text_f(t, "<g class=\"c%d\"><text class=\"name\" x=\"0\" y=\"%.1f\">", r->color, y + 4.5);
        short_label(t, r->label, 27);
        kd_text_f(t, "</text><line class=\"band\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                  place(&a, r->interval.low), place(&a, r->interval.high), y, y);
        for (size_t k = 0; k < r->n_points && r->n_points > 1; k++) {
            kd_text_f(t, "<circle class=\"run\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>", place(&a, (double)r->point[k]),
                      y);
        }
        kd_text_f(t, "<line class=\"mean\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x, y - 10.0,
                  y + 10.0);
        kd_text_f(t,
                  signed_values ? "<text class=\"value\" x=\"562\" y=\"%.1f\">%+.1f</text>"
                                : "<text class=\"value\" x=\"562\" y=\"%.1f\">%.1f</text>",
                  y + 5.0, r->interval.mean);
        kd_text_f(t,
                  signed_values ? "<text class=\"range\" x=\"620\" y=\"%.1f\">%+.1f to %+.1f</text></g>"
                                : "<text class=\"range\" x=\"620\" y=\"%.1f\">%.1f to %.1f</text></g>",
                  y + 4.5, r->interval.low, r->interval.high);
    }
    kd_text_add(t, "</svg>\n");
}

void kd_svg_bars(kd_text *t, const char *title, const char *desc, const kd_svg_bar *bar, size_t n, int color)
{
    const double step = 24.0;
    const double bottom = 8.0 + step * (double)n;
    axis a = {-2.0, 2.0, 186.0, 548.0};
    for (size_t i = 0; i < n; i++) {
        a.lo = KD_MIN(a.lo, 1.04 * bar[i].value);
        a.hi = KD_MAX(a.hi, 1.04 * bar[i].value);
    }
    open_svg(t, 720.0, bottom + 24.0, title, desc, "chart");
    draw_axis(t, &a, 4.0, bottom, true);
    for (size_t i = 0; i < n; i++) {
        const double y = 8.0 + step * (double)i;
        const double x0 = place(&a, KD_MIN(0.0, bar[i].value));
        const double x1 = place(&a, KD_MAX(0.0, bar[i].value));
        kd_text_f(t, "<text class=\"name\" x=\"0\" y=\"%.1f\">", y + 16.0);
        short_label(t, bar[i].label, 24);
        kd_text_f(t,
                  "</text><rect class=\"bar %s c%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                  "height=\"16\" rx=\"2\"/>",
                  bar[i].value < 0.0 ? "down" : "up", color, x0, y + 4.0, KD_MAX(1.0, x1 - x0));
        kd_text_f(t,
                  "<text class=\"value\" x=\"562\" y=\"%.1f\">%+.1f</text>"
                  "<text class=\"range\" x=\"620\" y=\"%.1f\">from %.1f</text>",
                  y + 16.5, bar[i].value, y + 16.0, bar[i].from);
    }
    kd_text_add(t, "</svg>\n");
}

static void reliability_series(kd_text *t, const kd_calibration_bin *bin, int bins, const char *style)
{
    int64_t most = 1;
    for (int i = 0; i < bins; i++) {
        most = KD_MAX(most, bin[i].count);
    }
    kd_text_f(t, "<polyline class=\"%s\" points=\"", style);
    for (int i = 0; i < bins; i++) {
        if (bin[i].count > 0) {
            kd_text_f(t, "%.1f,%.1f ", 34.0 + 200.0 * bin[i].confidence, 210.0 - 200.0 * bin[i].accuracy);
        }
    }
    kd_text_add(t, "\"/>");
    for (int i = 0; i < bins; i++) {
        if (bin[i].count > 0) {
            kd_text_f(t,
                      "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>confidence %.2f, "
                      "accuracy %.2f, %lld samples</title></circle>",
                      style, 34.0 + 200.0 * bin[i].confidence, 210.0 - 200.0 * bin[i].accuracy,
                      2.0 + 4.0 * sqrt((double)bin[i].count / (double)most), bin[i].confidence, bin[i].accuracy,
                      (long long)bin[i].count);
        }
    }
}

void kd_svg_reliability(kd_text *t, const char *title, const char *desc, const kd_calibration_bin *before,
                        const kd_calibration_bin *after, int bins, int color)
{
    open_svg(t, 250.0, 250.0, title, desc, "square");
    for (int i = 0; i <= 4; i++) {
        const double v = 0.25 * i;
        kd_text_f(t, "<line class=\"grid\" x1=\"34\" x2=\"234\" y1=\"%.1f\" y2=\"%.1f\"/>", 210.0 - 200.0 * v,
                  210.0 - 200.0 * v);
        kd_text_f(t, "<text class=\"tick\" x=\"%.1f\" y=\"225\">%.0f</text>", 34.0 + 200.0 * v, 100.0 * v);
        kd_text_f(t, "<text class=\"side\" x=\"29\" y=\"%.1f\">%.0f</text>", 214.0 - 200.0 * v, 100.0 * v);
    }
    kd_text_add(t, "<line class=\"ideal\" x1=\"34\" y1=\"210\" x2=\"234\" y2=\"10\"/>"
                   "<text class=\"tick\" x=\"134\" y=\"243\">confidence, %</text>");
    kd_text_f(t, "<g class=\"c%d\">", color);
    reliability_series(t, before, bins, "before");
    reliability_series(t, after, bins, "after");
    kd_text_add(t, "</g></svg>\n");
}

void kd_svg_confusion(kd_text *t, const char *title, const char *desc, const int64_t *count, int classes,
                      const char *(*name)(int i, const void *ctx), const void *ctx, int color)
{
    const bool named = classes <= 24;
    const double left = named ? 128.0 : 8.0;
    const double size = named ? 26.0 : KD_MAX(4.0, 620.0 / classes);
    const double side = size * classes;
    open_svg(t, left + side + 8.0, side + (named ? 120.0 : 12.0), title, desc, "matrix");
    kd_text_f(t,
              "<rect class=\"field\" x=\"%.1f\" y=\"4\" width=\"%.1f\" height=\"%.1f\"/><g "
              "class=\"c%d\">",
              left, side, side, color);
    for (int r = 0; r < classes; r++) {
        int64_t total = 0;
        for (int k = 0; k < classes; k++) {
            total += count[(size_t)r * (size_t)classes + (size_t)k];
        }
        for (int k = 0; k < classes; k++) {
            const int64_t v = count[(size_t)r * (size_t)classes + (size_t)k];
            if (v == 0) {
                continue;
            }
            const double part = (double)v / (double)total;
            const double x = left + size * k;
            const double y = 4.0 + size * r;
            kd_text_f(t,
                      "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                      "fill-opacity=\"%.2f\"><title>",
                      r == k ? "hit" : "miss", x + 0.5, y + 0.5, size - 1.0, size - 1.0, 0.08 + 0.92 * part);
            kd_text_html(t, name(r, ctx));
            kd_text_add(t, " taken for ");
            kd_text_html(t, name(k, ctx));
            kd_text_f(t, ": %lld of %lld</title></rect>", (long long)v, (long long)total);
            if (named) {
                kd_text_f(t, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">%lld</text>",
                          part > 0.55 ? "cell strong" : "cell", x + 0.5 * size, y + 0.5 * size + 4.0, (long long)v);
            }
        }
    }
    kd_text_add(t, "</g>");
    for (int k = 0; named && k < classes; k++) {
        const double at = 4.0 + size * (k + 0.5);
        kd_text_f(t, "<text class=\"side\" x=\"%.1f\" y=\"%.1f\">", left - 6.0, at + 4.0);
        short_label(t, name(k, ctx), 18);
        kd_text_f(t, "</text><text class=\"slant\" transform=\"translate(%.1f %.1f) rotate(-50)\">",
                  left + size * (k + 0.6), side + 16.0);
        short_label(t, name(k, ctx), 16);
        kd_text_add(t, "</text>");
    }
    kd_text_add(t, "</svg>\n");
}
