/* Training: one loop for teacher and student, with exact resume.
 *
 *   for each epoch: batches in the loader's order -> mixup and targets -> program (forward, losses, backward)
 *                   -> every `accumulation` batches: optimiser step at the schedule's learning rate
 *   then validation, log, checkpoints.
 *
 * Everything random is a function of (seed, epoch, batch, sample, step): the state of a run is its counters, the
 * parameters, the optimiser's slabs and the running sums of the epoch.  A run killed at any point and resumed ends with
 * the same bytes.
 */
#ifndef KD_DISTILL_TRAIN_TRAIN_H
#define KD_DISTILL_TRAIN_TRAIN_H

#include "distill/model/task.h"
#include "distill/run/progress.h"
#include "kernels/kd_backend.h"

typedef struct kd_train_opts {
    const kd_task *task;
    const kd_config *cfg; /* resolved */
    const char *out_dir;
    const char *command;  /* as typed, for the log */
    bool resume, dry_run; /* dry run: check everything, print the plan, train nothing */
    bool force;           /* a run that is in out_dir is replaced, once everything else has been checked */
    bool check;           /* --debug: scan every node's output */
    kd_backend *be;
    const kd_progress *progress;
} kd_train_opts;

typedef struct kd_train_result {
    int epochs;
    double last, best; /* the task's first figure on the validation half; last and best epoch */
    int best_epoch;
    double train_loss; /* mean of the last epoch */
    double seconds;
} kd_train_result;

/* Runs to the end, or returns KD_E_CANCELLED with the state saved.  result may be NULL. */
KD_NODISCARD kd_status kd_train(const kd_train_opts *o, kd_train_result *result, kd_err *err);

#endif
