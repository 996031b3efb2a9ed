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

/* Where the run `report` errs and the teacher does not: (label, prediction) pairs, most frequent first.  kd_free. */
typedef struct compare_pair {
    int label, prediction;
    size_t count;
} compare_pair;
KD_NODISCARD kd_status kdi_compare_pairs(const kd_comparison *c, size_t report, compare_pair **out, size_t *n,
                                         kd_err *err);

/* Words for an interval of a difference: "better", "worse", or that it is not settled. */
const char *kdi_compare_word(const kd_interval *difference);

#endif
