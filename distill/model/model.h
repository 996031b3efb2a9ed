/* A model under training or evaluation, whatever its task (task.h).
 *
 * Owns the parameters; makes programs (training, evaluation) on demand from one builder; loads and describes weights.
 * Inputs and outputs are named tensors with a leading batch dim; which ones is the task's business.  Every training
 * program also takes what the loss reads (distill/kd/loss.h).
 */
#ifndef KD_DISTILL_MODEL_MODEL_H
#define KD_DISTILL_MODEL_MODEL_H

#include "distill/kd/loss.h"
#include "distill/model/identity.h"
#include "kernels/kd_params.h"
#include "kernels/kd_program.h"

enum { KD_MODEL_INPUTS = 8, KD_MODEL_OUTPUTS = 4 };

struct kd_task;

/* What evaluation reads of a sample. */
typedef struct kd_model_output {
    const char *name; /* program output (B,width) */
    int64_t width;    /* values a sample */
} kd_model_output;

typedef struct kd_model {
    const struct kd_task *task;
    void *net; /* the task's description of the network; owned */
    char name[64];
    int classes;
    char layout[KD_CFG_NAME]; /* joints of the skeletons that it sees, kd_layout_identity; "": it sees none */
    int feature_dim;          /* of what the classifier reads; 0: the model has no features */
    bool latent;              /* it has an information bottleneck */
    kd_shape target;          /* labels of one sample as the loss reads them: (classes) */
    int64_t record;           /* values of a merged prediction: classes for a classifier */
    int side;                 /* of the square pictures CutMix cuts; 0: inputs are no pictures */
    int cut_frames;           /* of the sequences CutMix cuts: "lam" has a share a frame; 0: nothing is cut in time */
    int place_width;          /* numbers of a row of "place" where pictures are placed on the device; 0: none are */
    bool check;               /* --debug: programs look for values that are not finite, node by node */
    bool recompute;           /* training keeps the activations between blocks alone */
    kd_backend *be;           /* borrowed */
    kd_dtype dtype;           /* of activations */
    kd_params *params;
    int n_inputs, n_outputs;
    const char *inputs[KD_MODEL_INPUTS];
    kd_spec item[KD_MODEL_INPUTS];       /* one sample of each input, in evaluation */
    kd_spec train_item[KD_MODEL_INPUTS]; /* and in training */
    kd_model_output output[KD_MODEL_OUTPUTS];
    int64_t kept;     /* training samples that stay on the device; 0: batches are fed */
    double min_match; /* share of the backbone's parameters that a file to start from must hold */
    /* Rows of a classifier of head_of classes that make up this model's; NULL: its rows are taken as they are. */
    const uint16_t *head_row;
    int head_of;
} kd_model;

/* The model of a resolved recipe for `classes` classes; parameters are declared but not allocated or drawn. */
KD_NODISCARD kd_status kd_model_open(const struct kd_task *task, const kd_config *cfg, int classes, kd_backend *be,
                                     kd_model *out, kd_err *err);
void kd_model_close(kd_model *m); /* zeroed is legal */

/* Declare everything and allocate; values are zero.  loss: what is trained for (gradients, and parameters that terms
 * bring along); NULL: evaluation.  Enough where weights are loaded next, or none are needed. */
KD_NODISCARD kd_status kd_model_declare(kd_model *m, const kd_loss *loss, kd_err *err);
/* The same, then draw every value from `seed`. */
KD_NODISCARD kd_status kd_model_init(kd_model *m, const kd_loss *loss, uint64_t seed, kd_err *err);

/* Keep `samples` training samples on the device (0: feed batches).  Call before kd_model_check_memory.  Only for tasks
 * with kd_task.resident; the inputs of the training program are then those of that interface. */
void kd_model_keep(kd_model *m, int64_t samples);

/* Training program.  Outputs: those of the task and of the loss. */
KD_NODISCARD kd_status kd_model_train_program(kd_model *m, const kd_loss *loss, int batch, kd_program **out,
                                              kd_err *err);
/* Forward program.  Outputs: m->output. */
KD_NODISCARD kd_status kd_model_eval_program(kd_model *m, int batch, kd_program **out, kd_err *err);

/* The same with every op as the model's builder wrote it, nothing fused or folded. */
KD_NODISCARD kd_status kd_model_plain_program(kd_model *m, int batch, kd_program **out, kd_err *err);

/* The forward program of the augmented rows that training is fed with; mixed: as its batches are. */
KD_NODISCARD kd_status kd_model_replay_program(kd_model *m, bool mixed, int batch, kd_program **out, kd_err *err);

/* What a model takes on its device, in bytes; a member is 0 where the model has none. */
typedef struct kd_memory {
    size_t parameters; /* values, running statistics, and the copy in the dtype of activations */
    size_t gradients;
    size_t moments;     /* of the optimiser, and averages of the weights */
    size_t activations; /* and scratch: the arenas of its programs */
    size_t data;        /* in the host's memory, where that is the device's: batches, pictures, the program itself */
} kd_memory;

/* Of an allocated model.  optimiser_slabs: as in kd_memory_need, 0 without training; activations:
 * kd_program_arena_bytes of the programs that are held at once. */
kd_memory kd_model_memory(const kd_model *m, int optimiser_slabs, size_t activations);
size_t kd_memory_total(const kd_memory *m);
/* "4.92 GiB (parameters 1.13 GiB, gradients 1.13 GiB, moments 2.26 GiB, activations 410 MiB, data 60 MiB)"; size 200 is
 * enough. */
void kd_memory_text(const kd_memory *m, char *out, size_t size);

/* Is there room on the device for training at this batch size?  Called before anything but the parameters is allocated.
 * KD_E_OOM says what is needed for what, what the device has, and the largest batch that would fit. */
typedef struct kd_memory_need {
    const kd_loss *loss;
    int batch, eval_batch;
    int optimiser_slabs; /* moments and averages: AdamW 2, SGD 1, EMA one more */
} kd_memory_need;
KD_NODISCARD kd_status kd_model_check_memory(kd_model *m, const kd_memory_need *need, kd_err *err);

typedef struct kd_load_report {
    /* Tensors.  reshaped: in the file, but of another shape or for other classes: a head that is left fresh, a head cut
     * down to rows, a position table of another grid. */
    int matched, missing, unexpected, reshaped;
    int file_classes;      /* rows of the file's head; 0: it has none */
    double share;          /* of the backbone's parameters: came from the file */
    char fresh_names[400]; /* left at their initial values; the first few, for the log */
    char unexpected_names[400];
    kd_json *keys;           /* {"missing": [...], "unexpected": [...], "reshaped": [...]}: all of them; owned */
    char sha256[65];         /* of the file(s) */
    bool best;               /* a run's `best` checkpoint: chosen among its epochs */
    char selected_on[8];     /* by the figures of that half: "val" */
    char phase[KD_CFG_NAME]; /* of training that the checkpoint belongs to; "": the run had none */
    bool has_origin;         /* a checkpoint of ours: */
    kd_identity origin;      /* what it came from */
} kd_load_report;

void kd_load_report_free(kd_load_report *r); /* zeroed is legal */

/* Load weights from a run directory, checkpoint directory, safetensors file or .pth (formats/weights/weights.h); key:
 * which of several weights of a file, "": as found.
 * `fresh_head`: training starts from them.  A missing head, one of another size or of other class names, a missing
 * fc_norm, and up to 1 - m->min_match of the backbone's parameters stay at their initial values; otherwise, and beyond
 * that, a missing tensor is KD_E_DATA naming the first few.  classes: [m->classes] names of the data set in label
 * order, compared with those that the weights carry; NULL: there is no data set.  Without `fresh_head` other names, or
 * the same in another order, are KD_E_DATA.  KD_E_NUMERIC: a value that is not finite.  *report is the caller's to
 * free. */
KD_NODISCARD kd_status kd_model_load(kd_model *m, const char *path, const char *key, bool fresh_head,
                                     char *const *classes, kd_load_report *report, kd_err *err);

#endif
