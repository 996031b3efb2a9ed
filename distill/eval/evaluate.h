/* Forward passes over a half: every listed sample accounted for, views collected and merged per sample.
 *
 * Used by validation during training, by `eval` (records of a half, then figures and report) and by `dump-logits`
 * (each finished sample is written to the store).
 */
#ifndef KD_DISTILL_EVAL_EVALUATE_H
#define KD_DISTILL_EVAL_EVALUATE_H

#include "distill/batch/loader.h"
#include "distill/model/model.h"
#include "distill/model/task.h"
#include "distill/run/progress.h"

/* One finished sample: out[i] (views, width of m->output[i]) in view order.  Lent for the call. */
typedef kd_status (*kd_eval_emit)(void *user, uint32_t sample, int views, const float *const *out, kd_err *err);

typedef struct kd_eval_opts {
    const kd_producer *producer;
    int batch_size, workers;
    kd_on_bad on_bad;            /* skip: a sample with an unreadable view is not emitted, and counted as failed */
    const kd_progress *progress; /* may be NULL */
    const char *phase;           /* what the progress line calls it */
    bool quiet;                  /* kd_eval_fill: failed samples have been named before */
    uint64_t first_item;         /* items (sample x view) already done elsewhere: a resumed dump */
    /* Samples [from, to) alone, in the batches that they have in a pass over all, so that their bits are the same; to
     * 0: all.  first_item is not before `from`. */
    size_t from, to;
} kd_eval_opts;

typedef struct kd_eval_counts {
    size_t listed, done, failed; /* of the samples asked for */
    double seconds, waited;      /* seconds: total; waited: the part spent waiting for data */
} kd_eval_counts;

/* Who hears of the samples. */
typedef struct kd_eval_sink {
    void *user;
    kd_eval_emit emit;                                                 /* finished ones, in index order */
    void (*failure)(void *user, uint32_t sample, const char *message); /* failed ones at the end; may be NULL */
} kd_eval_sink;

/* `program` from kd_model_eval_program(m, batch_size).  KD_E_NUMERIC: an output that is not finite, with its sample. */
KD_NODISCARD kd_status kd_eval_run(kd_model *m, kd_program *program, const kd_eval_opts *o, const kd_eval_sink *sink,
                                   kd_eval_counts *counts, kd_err *err);

/* Merged predictions of a whole half, by the task's rule.  Free with kd_records_free, also after a failure. */
KD_NODISCARD kd_status kd_eval_fill(kd_model *m, kd_program *program, const kd_config *cfg, const kd_eval_opts *o,
                                    kd_records *out, kd_err *err);
void kd_records_free(kd_records *r); /* zeroed is legal */

#endif
