/* `kd logits verify --recompute`: run the model again over some of a store's records and compare the logits.
 *
 * Which records: `count` of them, evenly spread over the store and always the same ones.  A logit may differ by the
 * rounding of the dtype that stores it plus that of the dtype in which the model runs, both in units of the record's
 * largest logit: batches of other samples and other machines move the last bits. */
#ifndef KD_DISTILL_EVAL_RECOMPUTE_H
#define KD_DISTILL_EVAL_RECOMPUTE_H

#include "distill/model/task.h"
#include "distill/run/progress.h"

typedef struct kd_recompute_opts {
    const kd_task *task;
    const kd_config *cfg; /* resolved */
    const char *weights;
    const kd_store *store;
    int64_t count; /* records, 1 to those of the store */
    kd_backend *be;
    const kd_progress *progress;
    void *user;
    void (*differs)(void *user, const char *line); /* told of every record that does, by id */
} kd_recompute_opts;

typedef struct kd_recompute_result {
    size_t records, differing;
    double worst; /* largest difference, in units of what is allowed */
} kd_recompute_result;

/* KD_E_INTEGRITY: records differ, or their samples cannot be had.  KD_E_DATA: other weights, data set, classes or views
 * than the manifest names, or an imported store. */
KD_NODISCARD kd_status kd_recompute(const kd_recompute_opts *o, kd_recompute_result *result, kd_err *err);

#endif
