/* Inside of training, shared by train.c and train_*.c. */
#ifndef KD_DISTILL_TRAIN_TRAIN_INTERNAL_H
#define KD_DISTILL_TRAIN_TRAIN_INTERNAL_H

#include "distill/batch/loader.h"
#include "distill/batch/targets.h"
#include "distill/eval/evaluate.h"
#include "distill/kd/teacher_table.h"
#include "distill/model/model.h"
#include "distill/run/run.h"
#include "distill/train/train.h"
#include "formats/data/dataset.h"
#include "kernels/kd_optim.h"
#include "kernels/kd_schedule.h"
#include "student/skeleton/sequence.h"
#include "teacher/clip/clip.h"

/* Video or skeleton source of one half. */
typedef struct kd_source {
    kd_clip_source *clip;
    kd_sequence_source *sequence;
    kd_producer producer;
} kd_source;

/* Where a run stands: everything a checkpoint has to remember besides tensors. */
typedef struct kd_train_state {
    int64_t epoch;   /* epoch in progress */
    int64_t batch;   /* next batch within it */
    int64_t step;    /* optimiser steps attempted */
    int64_t micro;   /* programs run: the `step` of the random streams */
    int64_t skipped; /* steps without an update: gradient not finite */
    double sum_loss; /* over the batches of the epoch so far */
    int64_t sum_batches;
    double best_top1, last_top1, last_loss;
    int64_t best_epoch;
    uint64_t log_bytes;
} kd_train_state;

enum { KD_TERMS = 4 }; /* loss and its parts */

/* What a batch leaves on the device, on its way to the host. */
typedef struct kd_fetched {
    float term[KD_TERMS];
    double ctl[KD_CTL_COUNT]; /* kd_optim_control() */
} kd_fetched;

/* A batch the device was asked to do; its numbers are looked at one batch later. */
typedef struct kd_pending {
    bool open, steps, logs; /* steps: the optimiser step followed it; logs: and its log line is wanted */
    int64_t step;           /* optimiser steps attempted, this one included */
    double lr;
    uint64_t mark;   /* when it is reached, `got` is filled */
    kd_fetched *got; /* of host_alloc() */
} kd_pending;

typedef struct kd_trainer {
    const kd_train_opts *o;
    const kd_config *cfg;
    kd_run *run;
    kd_dataset data;
    kd_model model;
    kd_objective objective;
    kd_teacher_table teacher;
    bool has_teacher;
    kd_source train, val;
    kd_loader *loader;
    kd_program *program, *eval_program;
    kd_optim *optim;
    kd_schedule schedule;
    int64_t batches; /* micro-batches used of an epoch */
    int accumulation;
    /* host side of one batch */
    kd_mix mix;
    int32_t *kept; /* data that stay on the device: which of them, -1 for a sample that was lost */
    float *target, *teacher_rows, *mixed_rows, *feature_rows, *teacher_valid;
    const void *term[KD_TERMS]; /* device; NULL: this objective has none */
    kd_pending pending[2];      /* by micro-batch, even and odd */
    double step_loss;           /* mean over the micro-batches of the step so far */
    int bad_in_a_row;
    kd_train_state s;
    double started;
} kd_trainer;

/* train_setup.c */
KD_NODISCARD kd_status kdi_source_open(const kd_config *cfg, const kd_model *m, const kd_half *half, bool training,
                                       kd_source *out, kd_err *err);
void kdi_source_close(kd_source *s);
KD_NODISCARD kd_status kdi_train_setup(kd_trainer *t, kd_err *err);
void kdi_train_close(kd_trainer *t);

/* train_resident.c: does the training half stay on the device (sets t->model.kept)?  Then, instead of kdi_source_open:
 * read it once, put it and the teacher's rows into t->program, and make t->train a source of draws. */
KD_NODISCARD kd_status kdi_resident_plan(kd_trainer *t, const kd_memory_need *need, kd_err *err);
KD_NODISCARD kd_status kdi_resident_open(kd_trainer *t, kd_err *err);

/* train_step.c */
KD_NODISCARD kd_status kdi_train_pending_open(kd_trainer *t, kd_err *err);
void kdi_train_pending_close(kd_trainer *t);
/* Asks the device for one micro-batch (t->s.batch) and settles the one before. */
KD_NODISCARD kd_status kdi_train_batch(kd_trainer *t, const kd_batch *b, kd_err *err);
/* Waits for everything asked for: before a checkpoint, at the end of an epoch. */
KD_NODISCARD kd_status kdi_train_settle(kd_trainer *t, kd_err *err);

/* train_state.c: `name` is "last", "best" or "epoch-N". */
KD_NODISCARD kd_status kdi_train_save(kd_trainer *t, const char *name, kd_err *err);
KD_NODISCARD kd_status kdi_train_load(kd_trainer *t, kd_err *err);

#endif
