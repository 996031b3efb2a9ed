/* The folds of one data set as one report. */
#ifndef KD_DISTILL_STUDY_POOL_H
#define KD_DISTILL_STUDY_POOL_H

#include "distill/report/report.h"

/* Predictions of n reports of one seed, one a fold, whose samples are different ones, as one report at `path`.  split
 * names the folds for the protocol.  Hashes of recipe and weights are
 * those of the parts in a row, hashed; latency and size are the first part's.  KD_E_DATA: another data set, half, views
 * or classes, another seed or label, or a sample that two folds test. */
KD_NODISCARD kd_status kd_report_pool(const kd_report *part, size_t n, const char *split, const char *path,
                                      kd_err *err);

#endif
