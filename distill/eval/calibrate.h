/* Calibration: one temperature that a model's logits are divided by (Guo et al. 2017), fitted on one set of samples and
 * judged on another. */
#ifndef KD_DISTILL_EVAL_CALIBRATE_H
#define KD_DISTILL_EVAL_CALIBRATE_H

#include "distill/model/model.h"
#include "distill/model/task.h"

typedef struct kd_calibration {
    double temperature;    /* of the model's own logits, whatever the report's were divided by */
    size_t n;              /* samples of the fit; 0: the temperature was given */
    double nll[2], ece[2]; /* of the fit's samples, before and after */
    size_t shared;         /* samples that the half to be judged has too */
} kd_calibration;

/* `from`: a temperature as text, or a report of these weights, on which the temperature with the least NLL is found.
 * half: what will be judged.  KD_E_ARG: neither a report nor a number from 0.05 to 20.  KD_E_INTEGRITY: the report is
 * of other weights.  KD_E_DATA: the report has samples that are judged, and same_samples is false. */
KD_NODISCARD kd_status kd_calibrate(const char *from, const kd_task *task, const kd_config *cfg, const char *weights,
                                    kd_half_id half, bool same_samples, kd_calibration *out, kd_err *err);

/* Keeps the recipe of the weights, with this eval.temperature, beside the weights of a checkpoint: from then on it is
 * their recipe (kd_config_of_weights).  *where (kd_free): the file; NULL: the weights lie in no checkpoint, and nothing
 * is written. */
KD_NODISCARD kd_status kd_calibration_keep(const char *weights, const kd_task *task, double temperature, char **where,
                                           kd_err *err);

#endif
