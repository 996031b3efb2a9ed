/* Training: one loop for teacher and student, in one phase or several, with exact resume.
 *
 *   for each epoch: batches in the loader's order -> mixup and targets -> program (forward, losses, backward)
 *                   -> every `accumulation` batches: optimiser step at the schedule's learning rate
 *   then validation, log, checkpoints.
 *
 * A phase is a loop with an optimiser and a schedule of its own, which begins with the best or the last weights of the
 * phase before.  All phases write into one run directory: log, events and counters go on, checkpoints/best and
 * checkpoints/last are those of the run, and `phase` of a checkpoint's state says which phase it belongs to.
 *
 * Everything random is a function of (seed, epoch, batch, sample, step): the state of a run is its counters, the
 * parameters, the optimiser's slabs and the running sums of the epoch.  A run killed at any point and resumed ends with
 * the same bytes.
 */
#ifndef KD_DISTILL_TRAIN_TRAIN_H
#define KD_DISTILL_TRAIN_TRAIN_H

#include "distill/model/task.h"
#include "distill/run/progress.h"
#include "distill/train/find_lr.h"
#include "kernels/kd_backend.h"

typedef struct kd_train_opts {
    const kd_task *task;
    const kd_config *cfg; /* resolved */
    const char *out_dir;
    const char *command;       /* as typed, for the log */
    bool resume, dry_run;      /* dry run: check everything, read a sample, train nothing */
    bool unmeasured;           /* a dry run without the few steps of its forecast */
    bool force;                /* a run that is in out_dir is replaced, once everything else has been checked */
    const kd_find_lr *find_lr; /* instead of training, look for a rate; nothing else is written.  NULL: train */
    bool check;                /* --debug: scan every node's output */
    kd_backend *be;
    const kd_progress *progress;
} kd_train_opts;

typedef struct kd_train_result {
    int epochs;
    double last, best; /* of the figure that chooses the best epoch; last and best epoch */
    int best_epoch;    /* counted through all phases */
    double train_loss; /* mean of the last epoch */
    double seconds;
    double suggested, least, tried; /* find_lr: optim.base_lr of the steepest descent (NAN: there is none), of the least
                                     * loss, of the last step */
    bool diverged;                  /* find_lr: at `tried` */
    double forecast;                /* of a dry run: seconds that the steps of all epochs take to compute */
    kd_identity origin;             /* what the run is made of */
    int64_t skipped;                /* steps without a finite gradient */
    size_t lost;                    /* samples that could not be read and were left out (on_bad_sample: skip) */
    bool stopped;                   /* train.patience ended the last phase that ran */
    char figure[KD_CFG_NAME];       /* "top1"; select: train: "train_top1" */
    char phase[KD_CFG_NAME];        /* the last one that ran; "": the recipe has none */
    char last_text[48], best_text[48]; /* "val top-1 81.25 %", "83.33 %" */
} kd_train_result;

/* Runs to the end, or returns KD_E_CANCELLED with the state saved.  result may be NULL. */
KD_NODISCARD kd_status kd_train(const kd_train_opts *o, kd_train_result *result, kd_err *err);

#endif
