/* Score fusion: the answers of several models about the same samples as one report.
 *
 * Space "logits" sums the weighted logits, as the ensembles of 2s-AGCN and CTR-GCN do: four streams, joint and bone
 * with 0.6, their motions with 0.4.  Space "prob" sums the weighted softmax, as pyskl does; the report then holds the
 * logarithm of the sum.  Weights are divided by their sum, which changes no prediction and keeps NLL and ECE those of
 * an average. */
#ifndef KD_DISTILL_STUDY_FUSE_H
#define KD_DISTILL_STUDY_FUSE_H

#include "distill/report/report.h"

enum { KD_FUSE_MAX = 32 };

typedef struct kd_fuse_opts {
    bool prob;
    const char *label, *command;
    bool judged; /* the weights were chosen on the samples that are reported: the report says so (selected_on) */
} kd_fuse_opts;

/* Reports joined by id, in the order of the first one. */
typedef struct kd_fusion {
    const kd_report *part; /* [n_parts]; borrowed */
    size_t n_parts;
    size_t *at[KD_FUSE_MAX]; /* [n] sample i in report k */
    size_t n;                /* samples that all reports have */
    kd_report_left *left;    /* the samples that only some reports have, a row each */
    size_t n_left;
    const char **ids;
    int32_t *label;
} kd_fusion;

/* KD_E_DATA: other classes, half or data set, a label that differs, no sample in common.  kd_fusion_free ends `out`,
 * after a failure too. */
KD_NODISCARD kd_status kd_fusion_open(const kd_report *part, size_t n_parts, kd_fusion *out, kd_err *err);
void kd_fusion_free(kd_fusion *f);

/* The fused report as a file; *metrics (kd_metrics_free) are its figures. */
KD_NODISCARD kd_status kd_fuse_write(const kd_fusion *f, const double *weight, const kd_fuse_opts *o, const char *path,
                                     kd_metrics *metrics, kd_err *err);

/* The weights, multiples of 0.1 from 0 to 1, with the best top-1 (of equals, the least NLL), by changing one at a time
 * until none gets better; weight [n_parts] is the start and the result. */
KD_NODISCARD kd_status kd_fuse_search(const kd_fusion *f, bool prob, double *weight, kd_metrics *metrics, kd_err *err);

/* Samples that both reports have. */
KD_NODISCARD kd_status kd_report_shared(const kd_report *a, const kd_report *b, size_t *n, kd_err *err);

#endif
