/* report.json: what an evaluation found, with everything needed to trust it, compare it and run it again.
 *
 * Schema, version 1 (keys in this order; unknown keys are ignored, a higher version is refused):
 *   format "lastkd report", version
 *   kind "teacher" | "student", label, seed, created, tool, command
 *   protocol   dataset, split, half, modality, layout (skeletons), views, merge, classes [names], samples
 *   data       root, listed, done, failed, failed_ids [..], failed_why [..], excluded,
 *              excluded_ids [..], excluded_why [..]; done + failed + excluded = listed; ids and reasons in pairs
 *   hashes     ids (SHA-256 of "id label" lines in id order), config, weights, decoder; of what the weights came from:
 *              start_weights, train_ids, val_ids (SHA-256 of "id<TAB>label" lines), teacher_weights, store; null where
 *              there is none or nobody knows
 *   model      name, phase (of the training that gave the weights; only where it had phases), selected_on (the half on
 *              which these weights did best of their run's epochs; null: not chosen), taught_by (teachers, and those
 *              who taught them; only where there were some), unlabelled (training samples
 *              whose labels were not used; only where there were some), pseudo_labelled (of these, those that learned
 *              a teacher's class as their label; likewise), parameters, macs, bytes;
 *              latency {ms, p90_ms, batch, device, threads, dtype}; only of a model in eight bits int8 {layers,
 *              calibrated (training samples), top1_f32 (the same samples in f32), same_top1 (share of the samples),
 *              largest_difference (of two logits)}
 *   config     the resolved recipe as YAML text
 *   metrics    top1, top5, mean_class_accuracy, macro_f1, micro_f1, nll, ece, brier (fractions of 1)
 *   per_class  [{class, name, samples, predicted, correct, recall, precision, f1}]
 *   per_person, per_camera, per_setup
 *              [{name, samples, correct, accuracy}], each where every id says it (S001C001P003R001A001: P003)
 *   confusion  [[..]] row: label, column: prediction
 *   calibration {bins [{count, confidence, accuracy}]; where the logits were divided by a temperature: temperature,
 *              uncalibrated {nll, ece} of the model's own logits}
 *   predictions {ids [..], labels [..], logits [[..]]}
 *
 * `label` names what is compared: runs of the same recipe with different seeds carry the same label ("sfz-nano CE+KD").
 * Logits are scores whose softmax is the model's answer: for several views, the log of the averaged probabilities.
 *
 * Writing: fill the members (strings are borrowed), call kd_report_write, which computes the metrics.
 * Reading: kd_report_read; strings and arrays then belong to the report until kd_report_free.  The metrics are computed
 * again from the logits; a file whose stored figures do not follow from its predictions is refused (KD_E_INTEGRITY).
 */
#ifndef KD_DISTILL_REPORT_REPORT_H
#define KD_DISTILL_REPORT_REPORT_H

#include "distill/report/metrics.h"
#include "formats/base/json.h"

enum { KD_REPORT_VERSION = 1 };

/* A listed sample without a prediction. */
typedef struct kd_report_left {
    const char *id, *why;
    bool failed; /* wanted and not to be had; false: excluded on purpose */
} kd_report_left;

typedef struct kd_report {
    const char *kind, *label, *created, *command; /* created NULL: now, UTC */
    const char *tool;                             /* NULL: this build's kd_version() */
    int64_t seed;

    const char *dataset, *split, *half, *modality, *views, *merge;
    const char *layout;             /* joints of the skeletons, kd_layout_identity; NULL: no skeletons, or not said */
    const char *const *class_names; /* [classes]; NULL: "class 0", ... */
    int classes;

    const char *root;
    const kd_report_left *left; /* [n_left]: failed and excluded samples */
    size_t n_left;
    int64_t listed, failed, excluded; /* computed */

    const char *config_hash, *weights_hash, *teacher_weights_hash, *store_hash, *decoder;
    const char *start_weights_hash, *train_ids_hash, *val_ids_hash;
    char ids_hash[65]; /* computed */

    const char *model;
    const char *phase;                 /* of training that gave the weights; NULL: it had none */
    const char *selected_on;           /* NULL: the weights were not chosen among epochs */
    const char *taught_by;             /* teachers, and theirs; NULL: none */
    int64_t unlabelled, pseudo;        /* training samples without a label; of these, taught a teacher's class */
    int64_t parameters, macs, bytes;   /* 0: not known */
    double latency_ms, latency_p90_ms; /* 0: not measured */
    int latency_batch, threads;
    int int8_layers;         /* 0: not in eight bits, and none of the following */
    int64_t int8_calibrated; /* samples */
    double int8_top1_f32, int8_same_top1, int8_largest_difference;
    const char *device, *dtype;
    const char *config; /* YAML text, may be NULL */

    const char *const *ids; /* [n] */
    const int32_t *labels;  /* [n] */
    const float *logits;    /* [n][classes] */
    size_t n;
    int ece_bins;       /* 0: KD_ECE_BINS */
    double temperature; /* that the logits were divided by; 0, 1: they are the model's own */

    const kd_metrics *measured; /* of these predictions with these bins, lent to write; NULL: write computes them */

    kd_metrics metrics; /* computed by write and read; freed by kd_report_free */
    char *path;         /* where it was read from */
    kd_json *doc;       /* owners of what the members above point at, after reading */
    void *owned[5];
} kd_report;

/* Checks the members (KD_E_ARG names the first missing one, duplicate ids are KD_E_DATA), computes metrics and the hash
 * of the ids, writes `path` atomically. */
KD_NODISCARD kd_status kd_report_write(kd_report *r, const char *path, kd_err *err);

/* KD_E_IO, KD_E_FORMAT (not a report, wrong types), KD_E_DATA (lengths disagree, duplicate ids, label out of range),
 * KD_E_INTEGRITY, KD_E_UNSUPPORTED (written by a later version), KD_E_OOM. */
KD_NODISCARD kd_status kd_report_read(const char *path, kd_report *out, kd_err *err);

void kd_report_free(kd_report *r); /* zeroed is legal */

/* Indices of the samples in the order of their ids (*order [n]: kd_free).  KD_E_DATA: an id occurs twice. */
KD_NODISCARD kd_status kd_report_order(const kd_report *r, size_t **order, kd_err *err);

/* Where each sample of `a` is in `b`, by id: at[i] for sample i of `a`, SIZE_MAX where `b` has none; *found: how many
 * it has.  order: kd_report_order of `a`. */
KD_NODISCARD kd_status kd_report_join(const kd_report *a, const size_t *order, const kd_report *b, size_t *at,
                                      size_t *found, kd_err *err);

/* Class name for messages and tables, never NULL. `buf` is used for a nameless class. */
const char *kd_report_class(const kd_report *r, int label, char buf[24]);

#endif
