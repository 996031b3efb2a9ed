/* `dump-logits`: run a model over halves of a data set, one store record a sample, resumable. */
#ifndef KD_DISTILL_EVAL_DUMP_H
#define KD_DISTILL_EVAL_DUMP_H

#include "distill/model/task.h"
#include "distill/run/progress.h"
#include "formats/store/logit_store.h"

typedef struct kd_dump_opts {
    const kd_task *task;
    const kd_config *cfg; /* resolved; the views are those of its protocol */
    const char *weights;
    const char *out;      /* NAME.logits.zst */
    bool train, val;      /* halves, in this order */
    int shard, shards;    /* the shard-th of `shards` equal parts of each half, from 1; shards 0: all */
    int replay;           /* N: N rows of training of each sample, not the views of a test; 0: views */
    const char *features; /* "fc_norm,temporal": names of features to store, f16; NULL: none */
    kd_dtype logit_dtype; /* KD_F16 or KD_F32 */
    kd_store_start start; /* of the store: new, resumed or replaced */
    bool dry_run;
    kd_backend *be;
    const kd_progress *progress;
} kd_dump_opts;

typedef struct kd_dump_result {
    size_t listed, done, failed, excluded; /* listed = done + failed + excluded */
    size_t resumed;                        /* of the done: they were there already */
    double top1_train, top1_val;           /* of the half's records; NaN for a half that was not dumped */
    uint64_t bytes;
    double seconds;
} kd_dump_result;

/* Every listed sample ends as a record or, under on_bad_sample: skip, as a counted and named failure. */
KD_NODISCARD kd_status kd_dump(const kd_dump_opts *o, kd_dump_result *result, kd_err *err);

#endif
