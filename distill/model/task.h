/* A task: one kind of model, from the samples of a half to the figures of a report.
 *
 * `finetune`, `train`, `eval`, `dump-logits` and `predict` are one code over this table; what differs between a video
 * teacher and a skeleton student (and any further kind) stands in the task's row, in a file of distill/task.
 *
 *   recipe -> open -> build (forward graph) -> loss terms -> program
 *   half   -> source -> rows -> program -> outputs of each view -> gather -> record -> measure -> figures, report
 */
#ifndef KD_DISTILL_MODEL_TASK_H
#define KD_DISTILL_MODEL_TASK_H

#include "configs/schema/kd_config.h"
#include "distill/batch/loader.h"
#include "distill/batch/mixup.h"
#include "distill/model/model.h"
#include "formats/data/dataset.h"
#include "formats/data/rows.h"
#include "formats/store/logit_store.h"
#include "formats/weights/weights.h"

/* What rows are made for. */
typedef enum kd_pass {
    KD_PASS_TRAIN, /* one augmented view */
    KD_PASS_VAL,   /* one view, not augmented; without chance, except for video.val_window: random */
    KD_PASS_TEST   /* all views of the protocol */
} kd_pass;

/* Rows of one half. */
typedef struct kd_source {
    void *ctx;
    kd_producer producer;
    void (*close)(void *ctx);
    /* How a view was cut, for the store; known once one of the sample's rows has been filled.  frames: [view_frames].
     * NULL: views have no description. */
    kd_status (*view)(const void *ctx, uint32_t sample, uint32_t view, kd_store_view *out, int32_t *frames,
                      kd_err *err);
    int view_frames;
    /* Rows of KD_PASS_TRAIN cut as the views of a store were, of sample i in epoch e as cut[i * n + e % n] says; `cut`
     * stays the caller's.  NULL: the task cannot. */
    kd_status (*cut)(void *ctx, const kd_store_cut *cut, int n, kd_err *err);
    uint64_t memory; /* bytes that reading takes besides the rows, about */
} kd_source;

/* The graph to append to. */
typedef struct kd_build {
    int batch;
    bool training;
    bool augmented; /* not training, but of the rows that training is fed with */
    /* inputs perm i32 (B), lam (B) mix the samples of the batch; for pictures cut i32 (B,4), too, and lam (B,T) for
     * sequences that are cut */
    bool mixed;
    bool kept; /* rows are made on the device (kd_task.resident) */
} kd_build;

typedef struct kd_built {
    kd_val logits;   /* (B,classes); KD_NONE: the task has no logits */
    kd_val features; /* (B,feature_dim) */
    kd_val latent;   /* stat (B,2 dims), of the information bottleneck; KD_NONE: it has none */
    kd_val sample;   /* i32 (B): which kept samples the batch is; KD_NONE: rows are fed */
} kd_built;

/* Merged predictions of a half: the samples that could be read, in order, and the others by name. */
typedef struct kd_records {
    size_t n, width;
    float *record; /* [n, width] */
    int n_labels;
    int32_t *label;   /* [n, n_labels] */
    uint32_t *sample; /* [n] index in the half */
    uint32_t *failed; /* [n_failed] */
    kd_fate *why;     /* [n_failed] */
    size_t n_failed;
} kd_records;

/* One figure of merit: "top1" in logs and reports, "top-1" on a screen. */
typedef struct kd_figure {
    const char *name, *text;
    double value;
    bool share; /* of 1: shown in per cent */
    bool lower; /* smaller is better */
} kd_figure;

enum { KD_FIGURES = 16 };

/* figure[0] is kd_task.figure; it decides which epoch is best unless the recipe names another (train.metric). */
typedef struct kd_figures {
    kd_figure figure[KD_FIGURES];
    int n;
    const int64_t *confusion; /* (classes, classes), row: truth; NULL: none */
    int classes;
    void *detail; /* the task's own, for `report` */
    void (*detail_free)(void *detail);
} kd_figures;

void kd_figures_free(kd_figures *f); /* zeroed is legal */

/* A model that was evaluated in eight bits (kernels/kd_quant.h), beside itself in f32 on the same samples. */
typedef struct kd_int8_facts {
    int layers;         /* in eight bits; 0: the model was evaluated as it is */
    int64_t calibrated; /* training samples that set the ranges */
    double figure_f32;  /* the task's figure in f32 */
    double same;        /* share of the samples with the same first of the record */
    double largest;     /* difference of two values of a record */
} kd_int8_facts;

/* What a report says besides the figures. */
typedef struct kd_report_facts {
    const char *label;                 /* NULL: the recipe's name, else the model's */
    const char *command;               /* as typed */
    const char *weights_hash;          /* NULL: no file holds them */
    const kd_identity *origin;         /* of the weights; NULL: they do not say */
    const char *views;                 /* "1x1", "5x3", "1x3x2" */
    const char *phase;                 /* of training that gave the weights; NULL: it had none */
    const char *selected_on;           /* half by which the weights were chosen among epochs; NULL: they were not */
    double latency_ms, latency_p90_ms; /* 0: not measured */
    int64_t macs;
    kd_int8_facts int8;
} kd_report_facts;

typedef struct kd_assessment {
    const kd_config *cfg;
    const kd_dataset *data;
    kd_half_id half;
    kd_model *model;
    const kd_records *records;
    const kd_figures *figures;
    kd_report_facts facts;
} kd_assessment;

/* Training samples kept on the device, from which a batch's rows are computed there. */
typedef struct kd_resident {
    /* Rows to upload once, in listing order: one tensor, into the program's input "table" (S,...). */
    kd_status (*rows)(void *source, kd_producer *out, kd_err *err);
    /* Rows of a batch then: small tensors (draws).  The program's input "sample" i32 (B) says which samples (-1:
     * zeros). */
    kd_producer (*draws)(void *source);
} kd_resident;

typedef struct kd_task {
    const char *kind;      /* value of the recipe's `kind`, and the kind of a report */
    const char *program;   /* the program whose commands run it: "teacher", "distill" */
    const char *modality;  /* in reports: "rgb", "skeleton" */
    unsigned need;         /* KD_NEED_* of a sample */
    const char *start_key; /* recipe key of the weights training starts from */
    const char *example;   /* a recipe to name in messages, below configs/ */
    bool taught;           /* training without a teacher's store is said aloud */
    bool replays;          /* KD_PASS_TRAIN with train.num_sample N makes the rows again whose answers a store holds */

    /* ---- models by name, without a recipe (`kd model info NAME`) ----------------------------- */
    const char *name_key;    /* the key that names a model: "teacher.variant" */
    const char *name_prefix; /* before the name in listings: "videomae2-" */
    const char *(*name_at)(int i);
    const char *depth_key, *recompute_key; /* NULL: the task has no such key */
    const char *const *plain;              /* `--set` texts that leave the training-only extras out; NULL-terminated */

    /* ---- the model --------------------------------------------------------------------------- */
    /* Fills net, name, inputs, outputs, target, record, ... of a model whose other members are set. */
    kd_status (*open)(const kd_config *cfg, kd_model *m, kd_err *err);
    kd_built (*build)(kd_model *m, kd_graph *g, const kd_build *b);
    void (*groups)(kd_model *m, const kd_config *cfg); /* weight decay and learning rate factor of every parameter */
    const char *(*start)(const kd_config *cfg);        /* "": random */
    const char *(*start_key_of)(
        const kd_config *cfg); /* which weights of that file, "": as found; NULL: files hold one */

    /* ---- files of weights -------------------------------------------------------------------- */
    const kd_name_map *names;               /* names that other code gives the tensors; NULL: none */
    bool (*is_head)(const char *name);      /* belongs to the classifier, whose size is the data set's */
    bool (*may_be_fresh)(const char *name); /* a pre-trained file may lack it */
    bool (*is_constant)(const kd_model *m,
                        const char *name); /* in the reference's files, no parameter here; may be NULL */
    /* What the reference's state_dict holds besides our parameters and running statistics: `data`, or `of`, the
     * parameter of which this is another name.  NULL: the task is not exported. */
    kd_status (*extras)(const kd_model *m,
                        kd_status (*visit)(void *user, const char *name, kd_dtype dtype, kd_shape shape,
                                           const void *data, const char *of),
                        void *user);
    const char *match_key; /* recipe key of kd_model.min_match, for messages; NULL: a start needs the whole backbone */
    const char *head_key;  /* that of kd_model.head_row */
    /* Rows that the recipe takes of a classifier with `rows` of them; NULL: always all. */
    int (*head_rows)(const kd_config *cfg, int rows);
    const char *table;     /* a tensor that changes what the model computes: a file that holds one must not be read by a
                            * model without; NULL: none */
    const char *table_key; /* the recipe's line that gives the model one */
    /* Our parameter from the file's tensor of that name and another shape.  *done false: the shapes do not go together;
     * NULL: none does. */
    kd_status (*reshape)(const kd_model *m, const char *name, const int64_t *dim, size_t rank, const float *in,
                         float *out, bool *done);

    /* ---- the data ---------------------------------------------------------------------------- */
    int (*views)(const kd_config *cfg, char text[24]); /* rows a sample has in KD_PASS_TEST, and "5x3" */
    /* cached: rows may be kept in memory between epochs. */
    kd_status (*source)(const kd_config *cfg, const kd_model *m, const kd_half *half, kd_pass pass, bool cached,
                        kd_source *out, kd_err *err);
    /* A file outside a data set: all views of KD_PASS_TEST, dst[i] (views, item i). */
    kd_status (*read)(const kd_config *cfg, const kd_model *m, const char *path, void *const *dst, kd_err *err);
    const kd_resident *resident; /* NULL: batches are always fed */
    /* The batch's labels as the loss reads them: (B, m->target). */
    void (*target)(const kd_model *m, const kd_config *cfg, const kd_batch *b, const kd_mix *mix, float *target);

    /* ---- the results ------------------------------------------------------------------------- */
    const char *figure, *figure_text; /* "top1", "top-1": measure gives it first */
    /* Views of one sample to its record; out[i] (views, width of m->output[i]), work: [2 * record]. */
    void (*gather)(const kd_model *m, const kd_config *cfg, const float *const *out, int views, double *work,
                   float *record);
    kd_status (*measure)(const kd_model *m, const kd_config *cfg, const kd_records *r, kd_figures *out, kd_err *err);
    kd_status (*report)(const kd_assessment *a, const char *path, kd_err *err);
    const char *(*decoder)(void); /* version of what decodes the samples; NULL: nothing does */
    const char *feature;          /* what a store calls the features: "fc_norm" */
    /* Keeps the value `name`, a further feature, as one more output of an open model that is not declared yet: values
     * (B,rows,width).  false: there is none of this name.  NULL: the task has no further features. */
    bool (*tap)(kd_model *m, const char *name, int *rows, int *width);
    const char *taps; /* their names for messages, "temporal, tokens"; NULL without tap */
} kd_task;

/* How many classes a model of this recipe with these weights has, by the bias of their classifier.  *out: the weights,
 * the caller's to kd_weights_close (also after a failure).  *names: of the classes in label order, of `out`; NULL: the
 * weights carry none, or names of more classes than the recipe takes.  KD_E_DATA: there is no classifier. */
KD_NODISCARD kd_status kd_model_classes(const kd_task *task, const kd_config *cfg, const char *weights,
                                        kd_weights **out, const kd_json **names, int *classes, kd_err *err);

#endif
