/* Forward passes over a half: every listed sample accounted for, views collected and merged per sample.
 *
 * Used by validation during training, by `eval` (table of merged logits, then metrics and report) and by `dump-logits`
 * (each finished sample goes to the store).
 */
#ifndef KD_DISTILL_EVAL_EVALUATE_H
#define KD_DISTILL_EVAL_EVALUATE_H

#include "distill/batch/loader.h"
#include "distill/model/model.h"
#include "distill/run/progress.h"

/* One finished sample: logits (views, K) in view order, feature (D) averaged over the views.  Lent for the call. */
typedef kd_status (*kd_eval_emit)(void *user, uint32_t sample, int views, const float *logits, const float *feature,
                                  kd_err *err);

typedef struct kd_eval_opts {
    const kd_producer *producer;
    int batch_size, workers;
    kd_cfg_bad on_bad;           /* skip: a sample with an unreadable view is not emitted, and counted as failed */
    const kd_progress *progress; /* may be NULL */
    const char *phase;           /* what the progress line calls it */
    uint64_t first_item;         /* items (sample x view) already done elsewhere: a resumed dump */
} kd_eval_opts;

typedef struct kd_eval_counts {
    size_t listed, done, failed;
    double seconds, waited; /* in all; of it waiting for data */
} kd_eval_counts;

/* `program` from kd_model_eval_program(m, batch_size).  Samples are emitted in index order.  `failures` (may be NULL)
 * receives "id: message" lines, one a failed sample. */
KD_NODISCARD kd_status kd_eval_run(kd_model *m, kd_program *program, const kd_eval_opts *o, kd_eval_emit emit,
                                   void *user, void (*failure)(void *user, uint32_t sample, const char *message),
                                   kd_eval_counts *counts, kd_err *err);

/* Merge views (n, K) into one row of logits.  One view: copied.  prob: log of the mean of the views' softmax (f64
 * sums); score: mean of the logits.  softmax of the result is the merged prediction either way. */
void kd_merge_views(const float *views, int n, int classes, kd_cfg_merge rule, float *out);

/* Merged logits of a whole half. */
typedef struct kd_eval_table {
    size_t n;
    int classes;
    float *logits;  /* [n, K] */
    int32_t *label; /* [n] */
    uint8_t *done;  /* [n] 0: failed, row is zero */
    kd_eval_counts counts;
} kd_eval_table;

KD_NODISCARD kd_status kd_eval_fill(kd_model *m, kd_program *program, const kd_eval_opts *o, kd_cfg_merge rule,
                                    kd_eval_table *out, kd_err *err);
void kd_eval_table_free(kd_eval_table *t); /* zeroed is legal */

#endif
