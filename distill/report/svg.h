/* Charts as inline SVG.  Colours are classes that the page's style sheet defines for light and dark (c0 the teacher, c1
 * .. c6 the students); every chart has a title and a description for readers that do not see it. */
#ifndef KD_DISTILL_REPORT_SVG_H
#define KD_DISTILL_REPORT_SVG_H

#include "distill/report/metrics.h"
#include "distill/report/text.h"

typedef struct kd_svg_row {
    const char *label;
    int color;            /* 0..6 */
    kd_interval interval; /* in the axis' unit */
    const float *point;   /* single runs; may be NULL */
    size_t n_points;
} kd_svg_row;

/* Means with intervals and the single runs, a row each.  `signed_values` draws zero and prints signs. */
void kd_svg_intervals(kd_text *t, const char *title, const char *desc, const kd_svg_row *row, size_t n,
                      bool signed_values);

typedef struct kd_svg_bar {
    const char *label;
    double value; /* points, -100..100 */
    double from;  /* what it is the difference to, for the right column */
} kd_svg_bar;

/* Differences around zero, as bars. */
void kd_svg_bars(kd_text *t, const char *title, const char *desc, const kd_svg_bar *bar, size_t n, int color);

/* Confidence against accuracy, before and after a temperature. */
void kd_svg_reliability(kd_text *t, const char *title, const char *desc, const kd_calibration_bin *before,
                        const kd_calibration_bin *after, int bins, int color);

/* Row: label, column: prediction; shade: part of the row. `name(i, ctx)` is the class. */
void kd_svg_confusion(kd_text *t, const char *title, const char *desc, const int64_t *count, int classes,
                      const char *(*name)(int i, const void *ctx), const void *ctx, int color);

#endif
