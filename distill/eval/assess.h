/* From a trained model to a report: evaluate a half under a stated protocol, measure latency, write report.json. */
#ifndef KD_DISTILL_EVAL_ASSESS_H
#define KD_DISTILL_EVAL_ASSESS_H

#include "distill/eval/evaluate.h"

typedef struct kd_assess_opts {
    const kd_task *task;
    const kd_config *cfg; /* resolved */
    const char *weights;  /* path as kd_weights_open takes it */
    const char *out;      /* report.json; NULL: none */
    const char *label, *command;
    kd_half_id half;
    kd_backend *be;
    const kd_progress *progress;
} kd_assess_opts;

typedef struct kd_assess_result {
    kd_figures figures;                    /* freed by kd_figures_free; `detail` is gone */
    size_t listed, done, failed, excluded; /* listed = done + failed + excluded */
    double latency_ms;
    char views[24];
} kd_assess_result;

/* `eval`: load, run all views of the half, report. */
KD_NODISCARD kd_status kd_assess(const kd_assess_opts *o, kd_assess_result *result, kd_err *err);

/* Median and 90th percentile of single-sample forward passes in milliseconds, and their multiply-adds. */
KD_NODISCARD kd_status kd_assess_latency(kd_model *m, kd_report_facts *facts, kd_err *err);

#endif
