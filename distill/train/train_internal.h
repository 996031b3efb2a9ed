/* Inside of training, shared by train.c and train_*.c.  A kd_trainer is one phase of a run; a recipe without phases has
 * one. */
#ifndef KD_DISTILL_TRAIN_TRAIN_INTERNAL_H
#define KD_DISTILL_TRAIN_TRAIN_INTERNAL_H

#include "distill/batch/mixup.h"
#include "distill/eval/evaluate.h"
#include "distill/kd/teacher_table.h"
#include "distill/model/identity.h"
#include "distill/run/run.h"
#include "distill/train/train.h"
#include "formats/weights/checkpoint.h"
#include "kernels/kd_optim.h"
#include "kernels/kd_schedule.h"

/* Where a run stands: everything a checkpoint has to remember besides tensors. */
typedef struct kd_train_state {
    int64_t epoch;                /* epoch in progress */
    int64_t batch;                /* next batch within it */
    int64_t step;                 /* optimiser steps attempted */
    int64_t micro;                /* programs run: the `step` of the random streams */
    int64_t skipped;              /* steps without an update: gradient not finite */
    int64_t broken;               /* of them, those that no loss scale explains */
    double sum_loss, sum_squares; /* of the losses of the epoch's batches so far, and of their squares */
    int64_t sum_batches;
    double best, last;            /* the first figure of the task */
    double first_loss, last_loss; /* mean of the first epoch, NAN before its end, and of the last one that ended */
    double first_error;           /* standard error of first_loss; NAN where the epoch had one batch */
    int64_t best_epoch;
    uint64_t log_bytes;
    /* Epochs, steps and batches count on through the phases of a run. */
    int64_t phase, epoch0, step0; /* the phase in progress, from 0; its first epoch and step */
    int64_t stale, stopped;       /* selections without a better figure; 1: they ended the phase (train.patience) */
    int64_t hits, seen;           /* select: train: samples of the epoch so far, and those that were right */
} kd_train_state;

/* Rows of a batch of the training program. */
static inline int kdi_train_rows(const kd_config *c)
{
    return c->train.batch_size * c->train.num_sample;
}

/* What a batch leaves on the device, on its way to the host. */
typedef struct kd_fetched {
    double ctl[KD_CTL_COUNT]; /* kd_optim_control() */
    float loss;
    float term[]; /* [loss.n] */
} kd_fetched;

/* A batch the device was asked to do; its numbers are looked at one batch later. */
typedef struct kd_pending {
    bool open, steps, logs; /* steps: the optimiser step followed it; logs: that of its step gets a line in the log */
    bool empty;             /* none of its samples could be read: its loss is no loss */
    int *best;              /* [batch_size] select: train: the target's first largest class; -1: no label of its own */
    float *logits;          /* [batch_size, classes] likewise, of host_alloc() */
    int64_t step;           /* the optimiser step that it is part of, from 1 */
    double lr, decay;
    uint64_t mark;   /* when it is reached, `got` is filled */
    kd_fetched *got; /* of host_alloc() */
} kd_pending;

/* Rows that a store of training views has answers to (train_replay.c). */
typedef struct kd_replay {
    int rows;                 /* of each sample; 0: no store has any */
    int64_t seed;             /* of their draws */
    char recipe[KD_CFG_HASH]; /* what else decides them */
    const kd_store_cut *cut; /* skeleton_aug.match_views: how they were cut, of the first such store; NULL: not asked */
    kd_producer all;         /* of all rows, a repeat each */
} kd_replay;

/* Another student of the group: its recipe and its directory. */
typedef struct kd_peer {
    kd_config cfg;
    kd_train_opts o;
    char *dir; /* "<out_dir>/peer-2" */
} kd_peer;

/* An epoch that is over, on its way into log and checkpoints. */
typedef struct kd_epoch_end {
    uint64_t log_bytes; /* of the log before it */
    kd_records records;
    kd_figures figures; /* n 0: it was not validated */
} kd_epoch_end;

typedef struct kd_trainer {
    const kd_train_opts *o;
    const kd_config *cfg; /* of the phase, where the recipe (o->cfg) has phases: own_cfg */
    kd_config *own_cfg;
    kd_run *run;     /* of all phases */
    kd_ckpt *before; /* the checkpoint that the run goes on from; NULL: a new run */
    kd_dataset data;
    kd_identity origin;
    kd_load_report start; /* what became of the weights that the run starts from; zeroed: none */
    kd_model model;
    kd_loss loss;
    kd_teacher_table teacher[KD_STORES_MAX]; /* [loss.stores] */
    kd_source train, val;
    kd_replay replay;
    kd_loader *loader;
    kd_program *program, *eval_program;
    kd_program *self_program; /* the running average on a batch of training; NULL: no term reads it */
    float *averaged;          /* [rows, classes] what it answers */
    float *embed;             /* [classes, loss.embed_dim] embeddings of the classes; NULL: no term reads them */
    int slabs;                /* of the optimiser: moments, averages */
    bool rests;               /* programs that do not run, and gradients between epochs, hold no memory */
    uint64_t memory;          /* forecast of what the process takes; 0: the device has memory of its own */
    kd_optim *optim;
    kd_schedule schedule;
    struct kd_trainer *peer; /* [peers] the other students of the group, of which this is the first; NULL: none */
    kd_peer *own_peer;       /* [peers] */
    int peers;
    float *shown; /* [rows, classes] logits that the others learn from; NULL: there are none */
    kd_epoch_end end;
    int64_t batches; /* micro-batches used of an epoch */
    char figure[40]; /* the one that chooses the best epoch */
    bool share;      /* it is a share of 1 */
    int accumulation;
    /* host side of one batch */
    kd_mix mix;
    int32_t *kept;          /* data that stay on the device: which of them, -1 for a sample that was lost */
    int32_t *pseudo;        /* [samples] kd.pseudo: labels of samples without one; NULL: none */
    int32_t *label;         /* [rows, kdi_train_labels] labels of the batch, those of `pseudo` among them */
    float *labelled, *kind; /* [rows] 1: has one; 0: lost, 1: read, 2: read and has a label */
    float *answered;        /* [rows] 1: was read and a store has a record of it */
    float *target, *teacher_rows, *mixed_rows, *feature_rows;
    double *work;                   /* [3 classes] */
    double *class_weight;           /* [classes]; NULL: all classes weigh the same */
    const void *total;              /* loss on the device */
    const void **term;              /* [loss.n] */
    kd_pending pending[2];          /* by micro-batch, even and odd */
    double suggested, least, tried; /* of a range test: kd_train_result */
    bool diverged;
    double forecast;    /* of a dry run: seconds of all steps */
    double step_loss;   /* mean over the micro-batches of the step so far */
    double *step_term;  /* [loss.n] likewise, of each term, in steps that are logged */
    const void *logits; /* on the device; NULL unless select: train */
    int bad_in_a_row;
    bool failed_named; /* samples of the validation half that cannot be read */
    kd_train_state s;
    double started;
} kd_trainer;

/* Epoch after the last one of the phase. */
static inline int64_t kdi_train_end(const kd_trainer *t)
{
    return t->s.epoch0 + t->cfg->train.epochs;
}

/* Labels of a row; the first is KD_NO_LABEL where the row has none. */
static inline int kdi_train_labels(const kd_trainer *t)
{
    return KD_MAX(t->train.producer.n_labels, 1);
}

/* The phase's name; NULL: the recipe has no phases. */
static inline const char *kdi_train_phase(const kd_trainer *t)
{
    return t->o->cfg->phases.n > 0 ? t->o->cfg->phases.v[t->s.phase].name : NULL;
}

static inline bool kdi_train_last_phase(const kd_trainer *t)
{
    return t->s.phase + 1 >= t->o->cfg->phases.n;
}

static inline bool kdi_train_validates(const kd_trainer *t)
{
    return t->data.half[KD_HALF_VAL].n > 0;
}

/* A record for the log of the run, with the name of the phase. */
kd_json *kdi_train_record(const kd_trainer *t, const char *type);

/* train_epoch.c: the checkpoint to resume from, of all students, if it is due or the user asks for it; that of a run
 * that the user ends (KD_E_CANCELLED); the epoch that is over, with the line that is said of it: "loss 0.7135  val
 * top-1 61.20 %  best 63.00 % (epoch 4)". */
KD_NODISCARD kd_status kdi_epoch_save_last(kd_trainer *t, bool due, kd_err *err);
KD_NODISCARD kd_status kdi_epoch_interrupted(kd_trainer *t, kd_err *err);
KD_NODISCARD kd_status kdi_epoch_end(kd_trainer *t, kd_err *err);
void kdi_epoch_text(const kd_trainer *t, bool chosen, char *text, size_t size);

/* train_select.c: which epoch is best, and when nothing gets better. */
void kdi_select_open(kd_trainer *t);
/* select: train: keep what the targets of a micro-batch say, and count what its logits got right. */
void kdi_select_expect(kd_trainer *t, const kd_batch *b, kd_pending *p);
void kdi_select_count(kd_trainer *t, const kd_pending *p);
typedef struct kd_selection {
    bool best;    /* the epoch is the best so far */
    bool stopped; /* train.patience is at its end: the phase's last epoch */
} kd_selection;
/* At the end of an epoch; figures NULL: it was not validated.  t->s.last is the figure then.  KD_E_CONFIG: the task has
 * no such figure. */
KD_NODISCARD kd_status kdi_select(kd_trainer *t, const kd_figures *figures, kd_selection *out, kd_err *err);
/* A value of the figure as text: "81.25 %", with its name "val top-1 81.25 %"; returns `text`. */
const char *kdi_select_text(const kd_trainer *t, double value, bool named, char text[48]);

/* train_setup.c */
KD_NODISCARD kd_status kdi_train_setup(kd_trainer *t, kd_err *err);
void kdi_train_close(kd_trainer *t); /* but for the run */

/* train_teachers.c: stores, joined to the training half and loaded; what only they can refuse of a recipe. */
KD_NODISCARD kd_status kdi_teachers_open(kd_trainer *t, kd_err *err);
KD_NODISCARD kd_status kdi_teachers_check(const kd_trainer *t, const kd_config *c, kd_err *err);
/* kd.pseudo: labels of samples without one. */
KD_NODISCARD kd_status kdi_teachers_label(kd_trainer *t, kd_err *err);
/* The loss, and whether its terms have rows. */
KD_NODISCARD kd_status kdi_teachers_loss(kd_trainer *t, kd_err *err);
/* All of them as one.  work [2 classes]. */
kd_teachers kdi_teachers(const kd_trainer *t, double *work);

/* train_resident.c: does the training half stay on the device (sets t->model.kept)?  If so, instead of opening
 * t->train: read the half once, put the samples and the teachers' rows into t->program, and make t->train a source of
 * draws. */
KD_NODISCARD kd_status kdi_resident_plan(kd_trainer *t, const kd_memory_need *need, kd_err *err);
KD_NODISCARD kd_status kdi_resident_open(kd_trainer *t, kd_err *err);

/* train_average.c: the epoch that is over, for train.average_last; once training is over, the average into the model
 * and into checkpoints/average. */
KD_NODISCARD kd_status kdi_train_average_epoch(kd_trainer *t, kd_err *err);
KD_NODISCARD kd_status kdi_train_average(kd_trainer *t, kd_err *err);

/* train_find_lr.c: the range test instead of training. */
KD_NODISCARD kd_status kdi_train_find_lr(kd_trainer *t, kd_err *err);

/* train_feed.c: buffers of a batch, and everything that the training program is fed with. */
KD_NODISCARD kd_status kdi_feed_open(kd_trainer *t, kd_err *err);
/* Class weights of the recipe, or of the training half. */
KD_NODISCARD kd_status kdi_feed_weights(kd_trainer *t, kd_err *err);
/* Refuses class_weights that are not one a class. */
KD_NODISCARD kd_status kdi_feed_check_weights(const kd_config *c, int classes, kd_err *err);
void kdi_feed_close(kd_trainer *t);
KD_NODISCARD kd_status kdi_feed(kd_trainer *t, const kd_batch *b, kd_err *err);

/* train_embed.c: embeddings of the classes, read, put into the program, and what a batch is drawn to. */
KD_NODISCARD kd_status kdi_embed_open(kd_trainer *t, kd_err *err);
KD_NODISCARD kd_status kdi_embed_write(kd_trainer *t, kd_err *err);
KD_NODISCARD kd_status kdi_embed_feed(kd_trainer *t, const kd_batch *b, kd_err *err);

/* train_self.c: the answers of the running average to the batch that has been fed. */
KD_NODISCARD kd_status kdi_self_open(kd_trainer *t, kd_err *err);
void kdi_self_close(kd_trainer *t);
KD_NODISCARD kd_status kdi_self_answer(kd_trainer *t, const kd_batch *b, kd_err *err);

/* train_mutual.c: the other students of the recipe (mutual), one kd_trainer each, in step with the first.  open: set
 * up, after the first; begin: their directories; each: `does` for the others, then for the first. */
KD_NODISCARD kd_status kdi_mutual_open(kd_trainer *first, kd_err *err);
KD_NODISCARD kd_status kdi_mutual_begin(kd_trainer *first, kd_err *err);
void kdi_mutual_close(kd_trainer *first);
KD_NODISCARD kd_status kdi_mutual_each(kd_trainer *first, kd_status (*does)(kd_trainer *t, kd_err *err), kd_err *err);
/* Another student's last checkpoint becomes last.prev before a new one is written: a kill at any point leaves the one
 * of the first student's step under one of the names. */
KD_NODISCARD kd_status kdi_mutual_set_aside(kd_trainer *peer, kd_err *err);
/* The forward half of a micro-batch of all students, which have been fed; each has then what the others answer. */
KD_NODISCARD kd_status kdi_mutual_answer(kd_trainer *first, const kd_batch *b, kd_err *err);

/* train_step.c */
KD_NODISCARD kd_status kdi_train_pending_open(kd_trainer *t, kd_err *err);
void kdi_train_pending_close(kd_trainer *t);
/* Asks the device for one micro-batch (t->s.batch) of this and the other students, and settles the one before. */
KD_NODISCARD kd_status kdi_train_batch(kd_trainer *t, const kd_batch *b, kd_err *err);
/* The part of its program before what the other students answer. */
KD_NODISCARD kd_status kdi_train_forward(kd_trainer *t, kd_err *err);
/* Waits for everything asked for: before a checkpoint, at the end of an epoch. */
KD_NODISCARD kd_status kdi_train_settle(kd_trainer *t, kd_err *err);

/* train_origin.c: t->before is opened where --resume finds a run; what differs from it is refused. */
KD_NODISCARD kd_status kdi_train_open_before(kd_trainer *t, kd_err *err);
KD_NODISCARD kd_status kdi_train_same_origin(kd_trainer *t, kd_err *err); /* data and stores */
KD_NODISCARD kd_status kdi_train_start_weights(kd_trainer *t, kd_err *err);
/* The first lines of the log: the weights that the run starts from, every listed sample that is left out. */
KD_NODISCARD kd_status kdi_train_log_data(kd_trainer *t, kd_err *err);
/* The line that a phase begins with. */
KD_NODISCARD kd_status kdi_train_log_phase(kd_trainer *t, kd_err *err);

/* train_state.c: `name` is "last", "best" or "epoch-N". */
KD_NODISCARD kd_status kdi_train_save(kd_trainer *t, const char *name, kd_err *err);
KD_NODISCARD kd_status kdi_train_load(kd_trainer *t, kd_err *err); /* from t->before */
/* Of t->before: the phase it belongs to, which says what is set up. */
KD_NODISCARD kd_status kdi_train_peek_phase(kd_trainer *t, kd_err *err);

/* train_forecast.c: a dry run reads the first sample of each half, for faults that all samples have. */
KD_NODISCARD kd_status kdi_train_read_first(kd_trainer *t, kd_err *err);

/* train_forecast.c: says how long the run would compute, from steps that are run and thrown away.  Inputs are zeros:
 * time does not depend on them. */
KD_NODISCARD kd_status kdi_train_forecast(kd_trainer *t, kd_err *err);

/* train_memory.c: the forecast of memory, of one student and of all that learn from each other; what the process took,
 * once it has run; memory between the halves of an epoch: validation needs no values of training, training none of
 * validation. */
void kdi_train_say_memory(kd_trainer *t);
void kdi_train_say_group_memory(kd_trainer *first);
void kdi_train_say_peak(const kd_trainer *t);
void kdi_train_rest(kd_trainer *t);
void kdi_train_rest_validation(kd_trainer *t);

/* train_measure.c: validation, and the report of the run's last weights. */
KD_NODISCARD kd_status kdi_train_validate(kd_trainer *t, kd_records *records, kd_figures *figures, kd_err *err);
KD_NODISCARD kd_status kdi_train_log_validation(kd_trainer *t, const kd_records *records, const kd_figures *figures,
                                                kd_err *err);
KD_NODISCARD kd_status kdi_train_report(kd_trainer *t, const kd_records *records, const kd_figures *figures,
                                        kd_err *err);
/* The report of a finished run, where it is missing or of other weights. */
KD_NODISCARD kd_status kdi_train_report_late(kd_trainer *t, kd_err *err);

/* A store whose views are rows of training: whether this run can make them again.  The source of training rows, which
 * are then those. */
static inline bool kdi_replay_matches(const kd_config *c)
{
    return c->kind == KD_KIND_STUDENT && c->skeleton_aug.match_views;
}
KD_NODISCARD kd_status kdi_replay_note(kd_trainer *t, const kd_store_manifest *m, const char *path,
                                       const kd_teacher_table *table, kd_err *err);
KD_NODISCARD kd_status kdi_replay_source(kd_trainer *t, kd_source *out, kd_err *err);

#endif
