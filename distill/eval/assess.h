/* From a trained model to a report: evaluate a half under a stated protocol, measure latency, write report.json. */
#ifndef KD_DISTILL_EVAL_ASSESS_H
#define KD_DISTILL_EVAL_ASSESS_H

#include "distill/eval/evaluate.h"
#include "distill/model/model.h"
#include "formats/data/dataset.h"

/* What a report says besides the figures. */
typedef struct kd_assess_facts {
    const char *label; /* NULL: the config's name, else the model's */
    const char *command;
    const char *weights_hash;          /* NULL: not from a file (end of training) */
    const char *views;                 /* "1x1", "5x3" */
    double latency_ms, latency_p90_ms; /* 0: not measured */
} kd_assess_facts;

/* Write the report of an evaluated half.  Failed samples are listed as excluded. */
KD_NODISCARD kd_status kd_assess_write(const kd_config *cfg, const kd_dataset *data, kd_half_id half, kd_model *m,
                                       const kd_eval_table *table, int64_t macs, const kd_assess_facts *facts,
                                       const char *path, kd_err *err);

typedef struct kd_assess_opts {
    const kd_config *cfg; /* resolved */
    const char *weights;  /* path as kd_weights_open takes it */
    const char *out;      /* report.json; NULL: none */
    const char *label, *command;
    kd_half_id half;
    kd_backend *be;
    const kd_progress *progress;
} kd_assess_opts;

typedef struct kd_assess_result {
    double top1, top5, mean_class_accuracy, nll, ece;
    size_t listed, done, failed;
    double latency_ms;
    char views[24];
} kd_assess_result;

/* `eval`: load, run all views of the half, report. */
KD_NODISCARD kd_status kd_assess(const kd_assess_opts *o, kd_assess_result *result, kd_err *err);

/* Median and 90th percentile of single-sample forward passes, in milliseconds. */
KD_NODISCARD kd_status kd_assess_latency(kd_model *m, double *median_ms, double *p90_ms, int64_t *macs, kd_err *err);

/* The recipe that belongs to weights: `config` when given, else config.yaml of the run they lie in, else the one inside
 * the checkpoint's state.  sets: `--set` texts on top. */
KD_NODISCARD kd_status kd_assess_config(const char *config, const char *weights, const char *const *sets, size_t n_sets,
                                        kd_config *out, kd_err *err);

#endif
