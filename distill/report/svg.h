/* Charts as inline SVG, 400 units wide: a page shows them at 300 to 460 pixels, so that their text can be read on a
 * telephone, on a screen two abreast, and in print.
 *
 * A series is told by its number (0 the teacher, 1.. the students): a colour that the page's style sheet defines for
 * light and dark (kd_svg_color), a letter, a shape of mark and a dash pattern, so that no chart needs its colours.
 * Every chart has a title and a description for readers that do not see it, and names quantity and unit at its axes. */
#ifndef KD_DISTILL_REPORT_SVG_H
#define KD_DISTILL_REPORT_SVG_H

#include "distill/report/metrics.h"
#include "distill/report/text.h"

enum { KD_SVG_COLORS = 7 };

int kd_svg_color(size_t series);            /* 0 the teacher's, 1..6 in turn: class "c3" */
const char *kd_svg_letter(size_t series);   /* "T", "A", "B", ... */
void kd_svg_key(kd_text *t, size_t series); /* for running text: the mark and the letter */

typedef struct kd_svg_words {
    const char *title, *desc;
    const char *x, *y; /* quantity and unit of the axes; y where the chart has one */
} kd_svg_words;

typedef struct kd_svg_row {
    const char *label;
    size_t series;
    kd_interval interval; /* in the axis' unit */
    kd_interval person;   /* by person; used if by_person */
    bool by_person;
    const float *point; /* single runs; may be NULL */
    size_t n_points;
} kd_svg_row;

/* Means with intervals and the single runs, a row each.  `signed_values` draws zero and prints signs. */
void kd_svg_intervals(kd_text *t, const kd_svg_words *words, const kd_svg_row *row, size_t n, bool signed_values);

typedef struct kd_svg_bar {
    const char *label;
    double value; /* points, -100..100 */
    double from;  /* what it is the difference to, for the right column */
} kd_svg_bar;

/* Differences around zero, as bars. */
void kd_svg_bars(kd_text *t, const kd_svg_words *words, const kd_svg_bar *bar, size_t n, size_t series);

/* Shares in per cent of several series by rows: value[series][row]; NAN is not drawn. */
void kd_svg_dots(kd_text *t, const kd_svg_words *words, const char *const *name, size_t n, const double *const *value,
                 size_t series);

typedef struct kd_svg_line {
    size_t series;
    size_t n;                        /* x = 1..n */
    const double *mean, *low, *high; /* [n]; NAN: a gap */
} kd_svg_line;

/* Curves over 1..n with bands. */
void kd_svg_lines(kd_text *t, const kd_svg_words *words, const kd_svg_line *line, size_t n);

/* Confidence against accuracy, before and after a temperature. */
void kd_svg_reliability(kd_text *t, const kd_svg_words *words, const kd_calibration_bin *before,
                        const kd_calibration_bin *after, int bins, size_t series);

/* Row: label, column: prediction; shade: part of the row. `name(i, ctx)` is the class. */
void kd_svg_confusion(kd_text *t, const kd_svg_words *words, const int64_t *count, int classes,
                      const char *(*name)(int i, const void *ctx), const void *ctx, size_t series);

#endif
