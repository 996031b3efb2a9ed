/* What tasks of one label a sample share: targets, merged logits, figures, the report. */
#ifndef KD_DISTILL_TASK_CLASSIFY_H
#define KD_DISTILL_TASK_CLASSIFY_H

#include "distill/model/task.h"

/* Members of kd_task of the same names. */
void kd_classify_target(const kd_model *m, const kd_config *cfg, const kd_batch *b, const kd_mix *mix, float *target);
void kd_classify_gather(const kd_model *m, const kd_config *cfg, const float *const *out, int views, double *work,
                        float *record);
KD_NODISCARD kd_status kd_classify_measure(const kd_model *m, const kd_config *cfg, const kd_records *r,
                                           kd_figures *out, kd_err *err);
KD_NODISCARD kd_status kd_classify_report(const kd_assessment *a, const char *path, kd_err *err);

/* Outputs "logits" and "features" of a classifier whose feature_dim is set. */
void kd_classify_outputs(kd_model *m);

#endif
