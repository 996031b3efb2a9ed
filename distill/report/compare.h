/* A teacher and its students on the same samples: what differs, how sure that is, and where.
 *
 * Students with the same label are runs of one recipe with different seeds and form a group.  Group 0 is the teacher;
 * group 1, the first student given, is the baseline the other students are measured against.
 *
 * Reports are comparable when data set, split, half, classes, ids and labels are the same; number of views and modality
 * may differ.  Anything else is refused with the first difference (KD_E_DATA).  Samples are joined by id, not by order.
 *
 * Intervals: percentile bootstrap over samples, and over seeds too in a group of several (metrics.h).  Where one run
 * has to stand for a group (agreement, McNemar, calibration, confusion), it is the run with the median top-1.
 * Calibration "after": one temperature per run, fitted on one half of the samples and measured on the other, both ways.
 */
#ifndef KD_DISTILL_REPORT_COMPARE_H
#define KD_DISTILL_REPORT_COMPARE_H

#include "distill/report/report.h"

enum { KD_COMPARE_GROUPS_MAX = 33, KD_COMPARE_RUNS_MAX = 1024, KD_COMPARE_WARNINGS_MAX = 24 };

typedef struct kd_compare_opts {
    int draws;           /* bootstrap; 0: 2000 */
    double confidence;   /* 0: 0.95 */
    uint64_t seed;       /* of the bootstrap */
    const char *command; /* how to make this comparison again; may be NULL */
} kd_compare_opts;

typedef struct kd_spread {
    double mean, sd, low, high; /* over the runs; sd 0 for one run (n - 1 in the denominator) */
} kd_spread;

/* One row of "how good". */
typedef enum kd_figure {
    KD_FIG_TOP1,
    KD_FIG_TOP5,
    KD_FIG_MEAN_CLASS,
    KD_FIG_MACRO_F1,
    KD_FIG_NLL,
    KD_FIG_ECE,
    KD_FIG_BRIER,
    KD_FIG_TEMPERATURE, /* that fits all samples */
    KD_FIG_NLL_SCALED,  /* two-fold, see above */
    KD_FIG_ECE_SCALED,
    KD_FIG_COUNT
} kd_figure;

const char *kd_figure_key(kd_figure f); /* "top1": in JSON and CSV */

typedef struct kd_group {
    const char *label; /* of the reports */
    size_t n_runs;
    size_t *run;    /* [n_runs] indices into kd_comparison.report */
    size_t typical; /* index into kd_comparison.report */
    kd_spread figure[KD_FIG_COUNT];
    kd_interval top1;        /* with interval */
    kd_interval to_teacher;  /* top1 - teacher's; zero for group 0 */
    kd_interval to_baseline; /* top1 - group 1's; zero for groups 0 and 1 */
    double *recall;          /* [classes] mean over the runs; NAN without samples */
    kd_agreement agreement;  /* first: teacher, second: typical run */
    double mcnemar;
    kd_calibration_bin before[KD_ECE_BINS], after[KD_ECE_BINS]; /* typical run */
    float *right; /* [n_runs][n] 1 where the run is right, in the teacher's sample order */
} kd_group;

typedef struct kd_comparison {
    kd_compare_opts opts;
    const kd_report *const *report; /* [n_reports], 0 the teacher; borrowed */
    size_t n_reports;
    const kd_report *teacher; /* report[0] */
    size_t n;                 /* samples */
    int classes;
    int32_t **prediction; /* [n_reports][n], in the teacher's sample order */
    kd_group group[KD_COMPARE_GROUPS_MAX];
    size_t n_groups;
    char *warning[KD_COMPARE_WARNINGS_MAX];
    size_t n_warnings;
} kd_comparison;

/* report[0] is the teacher, the others students; they must outlive the comparison. */
KD_NODISCARD kd_status kd_compare(const kd_report *const *report, size_t n_reports, const kd_compare_opts *opts,
                                  kd_comparison *out, kd_err *err);
void kd_comparison_free(kd_comparison *c);

/* The files; every one atomic. */
KD_NODISCARD kd_status kd_compare_write_json(const kd_comparison *c, const char *path, kd_err *err);
KD_NODISCARD kd_status kd_compare_write_markdown(const kd_comparison *c, const char *path, kd_err *err);
KD_NODISCARD kd_status kd_compare_write_csv(const kd_comparison *c, const char *path, kd_err *err);
KD_NODISCARD kd_status kd_compare_write_html(const kd_comparison *c, const char *path, kd_err *err);

/* The finding in one or two plain sentences, for a terminal and the head of the page; kd_free. */
char *kd_compare_verdict(const kd_comparison *c);

#endif
