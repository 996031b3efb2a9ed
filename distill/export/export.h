/* `distill export`: a student's weights as a file that other programs run or read.
 *
 * A format is one row of the table in export.c.  What a file holds, its inputs and its metadata:
 * distill/export/README.md.
 */
#ifndef KD_DISTILL_EXPORT_EXPORT_H
#define KD_DISTILL_EXPORT_EXPORT_H

#include "configs/schema/kd_config.h"
#include "distill/model/task.h"
#include "distill/run/progress.h"

typedef struct kd_export_opts {
    const kd_task *task;
    const kd_config *cfg; /* resolved */
    const char *weights;  /* path as kd_weights_open takes it */
    const char *format;   /* name of a row; NULL: by the ending of `out` */
    const char *out;
    bool int8;
    int64_t int8_samples; /* int8: training samples whose activations set the ranges */
    kd_backend *be;       /* a CPU that computes in f32 */
    const kd_progress *progress;
} kd_export_opts;

typedef struct kd_export_result {
    const char *format;
    int64_t bytes;      /* of the file */
    int64_t tensors;    /* of a file of weights; 0: the file holds a graph */
    int nodes, kinds;   /* of a graph: nodes, and different operators */
    int layers;         /* in eight bits */
    int64_t calibrated; /* samples */
} kd_export_result;

/* Write o->out, whole or not at all.  KD_E_ARG: no format of this name or ending, or no int8 form of it;
 * KD_E_UNSUPPORTED names what the format cannot hold; and what loading weights and reading samples can fail with. */
KD_NODISCARD kd_status kd_export(const kd_export_opts *o, kd_export_result *r, kd_err *err);

#endif
