/* What a store says about its teacher: the share it gets right, and the report that `distill compare` reads. */
#ifndef KD_DISTILL_STORE_STORE_REPORT_H
#define KD_DISTILL_STORE_STORE_REPORT_H

#include "formats/data/dataset.h"
#include "formats/store/logit_store.h"

/* Top-1 of the records of a half; a sample without a record or a label does not count.  NaN: none has one. */
KD_NODISCARD kd_status kd_store_top1(const kd_store *s, const kd_half *half, double *top1, kd_err *err);

typedef struct kd_store_report_opts {
    const kd_data_opts *data; /* resolved; NULL: as the store's own records and manifest show it */
    kd_half_id half;
    const char *label; /* NULL: the teacher's name */
    const char *command;
    const char *out; /* report.json */
    int ece_bins;    /* 0: KD_ECE_BINS */
} kd_store_report_opts;

typedef struct kd_store_report_result {
    size_t listed, done, failed, excluded; /* listed = done + failed + excluded */
    double top1, top5, mean_class_accuracy, nll, ece;
} kd_store_report_result;

/* Writes the report of a half's records.  Parameters, multiply-adds, latency and device are those of a model that is
 * not here: they are left unknown.  KD_E_DATA: the store belongs to another split or class list, or holds no record of
 * this half; without `data`, its records are not provably all of this half. */
KD_NODISCARD kd_status kd_store_report(const kd_store *s, const kd_store_report_opts *o, kd_store_report_result *result,
                                       kd_err *err);

#endif
