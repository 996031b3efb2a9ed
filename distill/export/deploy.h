/* A trained student as one file of liblast (student/stream/README.md): its parameters and running statistics in f32,
 * and its recipe in __metadata__; or its convolutions and linear layers in eight bits. */
#ifndef KD_DISTILL_EXPORT_DEPLOY_H
#define KD_DISTILL_EXPORT_DEPLOY_H

#include "distill/model/model.h"
#include "kernels/kd_quant.h"

typedef struct kd_deploy {
    const kd_config *cfg;      /* of a student */
    kd_model *model;           /* loaded */
    const kd_json *names;      /* of classes, texts in label order; NULL: none */
    double temperature;        /* that logits are divided by; 1: not calibrated */
    const kd_quant *quant;     /* finished; NULL: f32 */
    const kd_program *program; /* of one sample, which quant describes; NULL without it */
} kd_deploy;

/* The file in memory, kd_free(*out).  The same model gives the same bytes.  KD_E_DATA: a class name of more than one
 * line. */
KD_NODISCARD kd_status kd_deploy_image(const kd_deploy *d, void **out, size_t *bytes, kd_err *err);
KD_NODISCARD kd_status kd_deploy_write(const kd_deploy *d, const char *path, kd_err *err); /* whole or not at all */

#endif
