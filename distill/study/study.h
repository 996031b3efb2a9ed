/* The findings of a study: cells of runs on the same samples, paired with their baselines by seed.
 *
 * Runs are added one by one; of a report only what the statistics need is kept, so that a study may have thousands of
 * runs.  All reports must be of the same protocol and samples (kd_compare_join); where the runs of a study are folds of
 * one data set, the folds of a seed are pooled to one report first (pool.h).
 *
 * Of a cell: mean and spread over its seeds, and the interval of its top-1 by clip and seed (kd_bootstrap), beside the
 * one by person (kd_bootstrap_clusters) where the ids name persons.
 *
 * Of a cell and its baseline, over the seeds that both have:
 *   differences    top-1 minus the baseline's, seed by seed
 *   by seed        mean and interval of the differences, paired t test (kd_paired_t)
 *   by clip        bootstrap of the mean difference in which clips and pairs of runs are drawn: a pair stays a pair;
 *                  exact test in which the sign of every clip's difference, summed over the seeds, is a coin
 *                  (kd_mcnemar_clusters)
 *   by person      the same with persons drawn, and with persons as the coins
 *   p              the largest of the tests: another seed, other clips and other persons would all have to agree
 *   adjusted       p corrected by Holm's method for the number of pairs in the study
 *   verdict        "better" and "worse" need KD_COMPARE_SEEDS pairs, one recipe a side, all intervals on one side of
 *                  zero and adjusted below 1 - confidence */
#ifndef KD_DISTILL_STUDY_STUDY_H
#define KD_DISTILL_STUDY_STUDY_H

#include "distill/report/compare.h"

enum { KD_STUDY_RUNS = 64 }; /* of a cell */

typedef enum kd_study_figure {
    KD_STUDY_TOP1,
    KD_STUDY_MEAN_CLASS,
    KD_STUDY_MACRO_F1,
    KD_STUDY_NLL,
    KD_STUDY_ECE,
    KD_STUDY_FIGURES
} kd_study_figure;

const char *kd_study_key(kd_study_figure f); /* "top1" */

typedef struct kd_study_run {
    int64_t seed;
    double figure[KD_STUDY_FIGURES];
    char *path; /* of the report */
    char config[65], weights[65];
} kd_study_run;

/* A cell against its baseline. */
typedef struct kd_study_pair {
    bool measured; /* false: a baseline, or no seed in common */
    size_t n;      /* seeds that both have */
    int64_t seed[KD_STUDY_RUNS];
    double difference[KD_STUDY_RUNS]; /* top-1, by seed */
    kd_interval by_seed, by_clip, by_person;
    double p_seed, p_clip, p_person; /* p_person NAN without persons */
    double p, adjusted;
    kd_verdict verdict;
} kd_study_pair;

typedef struct kd_study_cell {
    char *label;
    int baseline; /* index of a cell; its own: it is one; -1: none */
    kd_study_run run[KD_STUDY_RUNS];
    float *right[KD_STUDY_RUNS]; /* [samples] 1 where the run is right */
    size_t n;
    bool mixed_recipes;
    kd_spread figure[KD_STUDY_FIGURES];
    kd_interval by_clip, by_person; /* of top-1 */
    kd_study_pair pair;
} kd_study_cell;

typedef struct kd_study {
    const char *name, *command; /* borrowed */
    int draws;                  /* of the bootstrap; 0: 2000 */
    double confidence;          /* 0: 0.95 */
    kd_report first;            /* what all others must be like; owned */
    size_t *order;              /* kd_report_order of it */
    kd_factor factor[KD_FACTOR_COUNT];
    kd_study_cell *cell;
    size_t n_cells, n_pairs; /* pairs that are measured */
} kd_study;

/* n cells, labels copied.  kd_study_free ends it, after a failure too. */
KD_NODISCARD kd_status kd_study_open(kd_study *s, const char *const *label, const int *baseline, size_t n, kd_err *err);
/* Takes `r`, also when it fails.  KD_E_DATA: of another protocol, or the cell has a run of that seed. */
KD_NODISCARD kd_status kd_study_add(kd_study *s, size_t cell, kd_report *r, kd_err *err);
/* Once all runs are added.  KD_E_ARG: there is none. */
KD_NODISCARD kd_status kd_study_measure(kd_study *s, kd_err *err);
void kd_study_free(kd_study *s);

bool kd_study_by_person(const kd_study *s);

/* The files, every one atomic: sweep.json, sweep.csv (a row a cell), sweep.md, sweep.html. */
KD_NODISCARD kd_status kd_study_write(const kd_study *s, const char *dir, kd_err *err);
/* The table as Markdown, for a terminal too; kd_free.  NULL: out of memory. */
char *kd_study_table(const kd_study *s);

#endif
