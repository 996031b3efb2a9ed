/* A teacher and its students on the same samples: what differs, how sure that is, and where.
 *
 * Students with the same label are runs of one recipe with different seeds and form a group.  Group 0 is the teacher;
 * group 1, the first student given, is the baseline the other students are measured against.
 *
 * Reports are comparable when data set, split, half, classes, ids and labels are the same; number of views and modality
 * may differ.  Anything else is refused with the first difference (KD_E_DATA).  Samples are joined by id, not by order.
 * A student that names the weights of its teacher is refused beside a report of other weights (KD_E_INTEGRITY), unless
 * the options allow any teacher; then a warning says so.
 *
 * Intervals: percentile bootstrap over samples, and over seeds too in a group of several (metrics.h).  Where the ids
 * name persons, a second one draws persons instead of samples: clips of one person are not independent, and the wider
 * interval is the one that holds for other people.  Where one run has to stand for a group (agreement, McNemar,
 * calibration, confusion), it is the run with the median top-1.
 * Verdicts: "better" and "worse" are said of two students' recipes with at least KD_COMPARE_SEEDS different seeds each
 * and intervals (both, where there are two) on one side of zero.
 * Calibration "after": one temperature per run, fitted on one half of the samples and measured on the other, both ways.
 */
#ifndef KD_DISTILL_REPORT_COMPARE_H
#define KD_DISTILL_REPORT_COMPARE_H

#include "distill/report/report.h"

enum { KD_COMPARE_GROUPS_MAX = 33, KD_COMPARE_RUNS_MAX = 1024, KD_COMPARE_WARNINGS_MAX = 24, KD_COMPARE_SEEDS = 3 };

typedef struct kd_compare_opts {
    int draws;           /* bootstrap; 0: 2000 */
    double confidence;   /* 0: 0.95 */
    uint64_t seed;       /* of the bootstrap */
    const char *command; /* how to make this comparison again; may be NULL */
    bool any_teacher;    /* students of other teacher weights are compared all the same */
} kd_compare_opts;

typedef struct kd_spread {
    double mean, sd, low, high; /* over the runs; sd 0 for one run (n - 1 in the denominator) */
} kd_spread;

/* Of n >= 1 values. */
kd_spread kd_spread_of(const double *value, size_t n);

/* One row of "how good". */
typedef enum kd_compare_figure {
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
} kd_compare_figure;

const char *kd_figure_key(kd_compare_figure f); /* "top1": in JSON and CSV */

/* How a run was trained, by epoch, from its log; n 0: no log beside the report. */
typedef struct kd_curve_term {
    char name[32];
    double *value; /* [n] mean over the epoch's logged steps; NAN where none was logged */
} kd_curve_term;

enum { KD_CURVE_TERMS = 8 };

typedef struct kd_curve {
    size_t n;           /* epochs */
    double *train_loss; /* [n] */
    double *val_top1;   /* [n] NAN where not measured */
    kd_curve_term term[KD_CURVE_TERMS];
    size_t n_terms;
} kd_curve;

/* Time of one forward pass of one sample and view; passes 0: not measured. */
typedef struct kd_latency {
    double ms, p99_ms; /* median, 99th percentile */
    int passes;
} kd_latency;

/* The conditions under which the latencies of all groups were measured, by turns, in one process. */
typedef struct kd_latency_session {
    bool measured;
    char device[300], dtype[8];
    int threads;
} kd_latency_session;

typedef enum kd_verdict {
    KD_VERDICT_FEW_SEEDS,     /* no verdict: a side has fewer than KD_COMPARE_SEEDS seeds */
    KD_VERDICT_MIXED_RECIPES, /* no verdict: the runs of a side are of several recipes */
    KD_VERDICT_OPEN,          /* an interval holds zero */
    KD_VERDICT_BETTER,
    KD_VERDICT_WORSE
} kd_verdict;

typedef struct kd_group {
    const char *label; /* of the reports */
    size_t n_runs;
    size_t n_seeds;     /* different ones; runs with the same weights count once */
    bool mixed_recipes; /* its runs have different config hashes */
    size_t *run;        /* [n_runs] indices into kd_comparison.report */
    size_t typical;     /* index into kd_comparison.report */
    kd_spread figure[KD_FIG_COUNT];
    kd_interval top1;        /* with interval */
    kd_interval to_teacher;  /* top1 - teacher's; zero for group 0 */
    kd_interval to_baseline; /* top1 - group 1's; zero for groups 0 and 1 */
    /* the same by person; zero without two persons */
    kd_interval top1_person, to_teacher_person, to_baseline_person;
    kd_verdict verdict;                 /* to_baseline; of groups 2 and up */
    double *recall;                     /* [classes] mean over the runs; NAN without samples */
    double *by_factor[KD_FACTOR_COUNT]; /* [factor.n] top-1, mean over the runs */
    kd_agreement agreement;             /* first: teacher, second: typical run */
    double mcnemar, mcnemar_person;     /* by sample; with persons as units, NAN without two persons */
    kd_latency latency;
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
    kd_factor factor[KD_FACTOR_COUNT];
    kd_curve *curve; /* [n_reports]; NULL before kd_compare_curves */
    kd_latency_session latency;
    kd_group group[KD_COMPARE_GROUPS_MAX];
    size_t n_groups;
    char *warning[KD_COMPARE_WARNINGS_MAX];
    size_t n_warnings;
} kd_comparison;

/* report[0] is the teacher, the others students; they must outlive the comparison. */
KD_NODISCARD kd_status kd_compare(const kd_report *const *report, size_t n_reports, const kd_compare_opts *opts,
                                  kd_comparison *out, kd_err *err);
void kd_comparison_free(kd_comparison *c);

/* One report beside another of the same protocol: prediction[i] is what `r` says of sample i of `first`.  order:
 * kd_report_order of `first`.  KD_E_DATA names the first difference. */
KD_NODISCARD kd_status kd_compare_join(const kd_report *first, const size_t *order, const kd_report *r,
                                       int32_t *prediction, kd_err *err);

/* "better", "worse", "not settled", "no verdict" */
const char *kd_verdict_word(kd_verdict v);

/* Learning curves: log.jsonl beside each report, where there is one.  A log that cannot be read is a warning of the
 * comparison. */
KD_NODISCARD kd_status kd_compare_curves(kd_comparison *c, kd_err *err);

/* Are there two persons, so that figures by person mean something? */
bool kd_compare_by_person(const kd_comparison *c);

/* The files; every one atomic. */
KD_NODISCARD kd_status kd_compare_write_json(const kd_comparison *c, const char *path, kd_err *err);
KD_NODISCARD kd_status kd_compare_write_markdown(const kd_comparison *c, const char *path, kd_err *err);
KD_NODISCARD kd_status kd_compare_write_csv(const kd_comparison *c, const char *path, kd_err *err);
KD_NODISCARD kd_status kd_compare_write_html(const kd_comparison *c, const char *path, kd_err *err);

/* The finding in a few plain sentences, for a terminal and the head of the page; kd_free. */
char *kd_compare_verdict(const kd_comparison *c);

#endif
