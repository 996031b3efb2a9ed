/* Shared by compare*.c. */
#ifndef KD_DISTILL_REPORT_COMPARE_INTERNAL_H
#define KD_DISTILL_REPORT_COMPARE_INTERNAL_H

#include "distill/report/compare.h"

#include <stdio.h>

/* Calibration of one run, before and after a temperature that was fitted on the other half of the samples. */
typedef struct compare_calibration {
    double ece, temperature, nll_scaled, ece_scaled;
} compare_calibration;

KD_NODISCARD kd_status kdi_compare_calibrate(const kd_report *r, compare_calibration *out,
                                             kd_calibration_bin before[KD_ECE_BINS],
                                             kd_calibration_bin after[KD_ECE_BINS], kd_err *err);

/* Everything a careful reader should know before believing the figures. */
KD_NODISCARD kd_status kdi_compare_warn(kd_comparison *c, kd_err *err);

/* A warning of the comparison; takes `text`, which may be NULL. */
void kdi_compare_warning(kd_comparison *c, char *text);

/* compare_factors.c: what the ids tell, and the figures that need it. */
KD_NODISCARD kd_status kdi_compare_factors(kd_comparison *c, kd_err *err);
KD_NODISCARD kd_status kdi_compare_by_factor(kd_comparison *c, kd_group *g, kd_err *err);
KD_NODISCARD kd_status kdi_compare_person_intervals(kd_comparison *c, kd_group *g, kd_err *err);
void kdi_compare_factors_free(kd_comparison *c);
/* Why there is no interval by person; NULL where there is one. */
const char *kdi_compare_no_person(const kd_comparison *c);

/* compare_curves.c */
void kdi_compare_curves_free(kd_comparison *c);

/* Where the run `report` errs (and, `teacher_right`, the teacher does not): (label, prediction) pairs, most frequent
 * first.  kd_free. */
typedef struct compare_pair {
    int label, prediction;
    size_t count;
} compare_pair;
KD_NODISCARD kd_status kdi_compare_pairs(const kd_comparison *c, size_t report, bool teacher_right, compare_pair **out,
                                         size_t *n, kd_err *err);

/* The verdict of a group against the baseline. */
kd_verdict kdi_compare_judge(const kd_comparison *c, const kd_group *g);
/* What is missing for a verdict ("1 seed of CE, 1 of CE+KD: 2 and 2 more are needed"); empty where there is one. */
void kdi_compare_missing(const kd_comparison *c, const kd_group *g, char *out, size_t size);

#endif
