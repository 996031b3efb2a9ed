/* From a trained model to a report: evaluate a half under a stated protocol, measure latency, write report.json. */
#ifndef KD_DISTILL_EVAL_ASSESS_H
#define KD_DISTILL_EVAL_ASSESS_H

#include "distill/eval/evaluate.h"
#include "kernels/kd_quant.h"

typedef struct kd_assess_opts {
    const kd_task *task;
    const kd_config *cfg; /* resolved */
    const char *weights;  /* path as kd_weights_open takes it */
    const char *out;      /* report.json; NULL: none */
    const char *label, *command;
    kd_half_id half;
    int64_t int8; /* 0: as it is; else in eight bits, calibrated with so many training samples: a CPU and f32 */
    kd_backend *be;
    const kd_progress *progress;
} kd_assess_opts;

typedef struct kd_assess_result {
    kd_figures figures;                    /* freed by kd_figures_free; `detail` is gone */
    size_t listed, done, failed, excluded; /* listed = done + failed + excluded */
    double latency_ms;
    kd_int8_facts int8;
    char views[24];
} kd_assess_result;

/* `eval`: load, run all views of the half, report. */
KD_NODISCARD kd_status kd_assess(const kd_assess_opts *o, kd_assess_result *result, kd_err *err);

/* Median and 90th percentile of single-sample forward passes in milliseconds, and their multiply-adds.  q: the layers
 * in eight bits, NULL: none are. */
KD_NODISCARD kd_status kd_assess_latency(kd_model *m, const kd_quant *q, kd_report_facts *facts, kd_err *err);

#endif
