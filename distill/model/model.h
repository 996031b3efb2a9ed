/* A model under training or evaluation: teacher or student behind one face.
 *
 * Owns the parameters; makes programs (train, eval) on demand from the same builders; loads and describes weights.
 * Inputs are named tensors with a leading batch dim: teacher "clip" u8 (B,T,H,W,3), or f32 (B,3,T,H,W) for training
 * where clips are resized on the host (teacher/clip/clip.h); student "joint", "velocity", "bone" f32
 * (B,3,frames,25,bodies). Outputs: "logits" (B,K), "features" (B,D).
 *
 * A student's training data can stay on the device (kd_model_keep): the training program then takes "sample" i32 (B)
 * (-1: a row of zeros), "draw" and "idraw" (skeleton_streams of kernels/kd_ops.h) instead of the streams.  Written
 * once, with kd_program_tensor and upload: "table" (S,3,frames,25,bodies), and where the objective has teacher terms
 * "teacher_has" (S) 1 or 0, "teacher_table" (S,K) and "feature_table" (S,P) in place of "teacher_valid", "teacher" and
 * "teacher_feature"; "teacher" is fed all the same where it holds mixed probabilities.
 */
#ifndef KD_DISTILL_MODEL_MODEL_H
#define KD_DISTILL_MODEL_MODEL_H

#include "configs/schema/kd_config.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_program.h"
#include "student/model/student.h"
#include "teacher/model/vit.h"

typedef struct kd_model {
    bool is_student;
    char name[64];
    int classes;
    int feature_dim;
    kd_vit_cfg vit;
    kd_student_cfg student;
    kd_backend *be; /* borrowed */
    kd_dtype dtype;
    kd_params *params;
    int n_inputs;
    const char *inputs[KD_STUDENT_MAX_STREAMS];
    kd_spec item[KD_STUDENT_MAX_STREAMS];       /* one sample of each input, in evaluation */
    kd_spec train_item[KD_STUDENT_MAX_STREAMS]; /* and in training */
    int64_t kept;                               /* samples that stay on the device; 0: batches are fed */
    kd_skeleton_streams_attr kept_streams;
} kd_model;

/* What a training program optimises. */
typedef struct kd_objective {
    float ce_weight; /* of cross-entropy with the targets */
    bool mixup;      /* inputs "perm" i32 (B) and "lam" f32 (B) mix the model's inputs; a teacher's "cut" i32 (4) too */
    float kd_weight; /* of T^2 KL(teacher || student); 0: no "teacher" input */
    float temperature;
    bool teacher_is_prob; /* "teacher" holds softmax(t/T), mixed, instead of logits */
    int feature;          /* kd_cfg_feature */
    float feature_weight;
    int teacher_dim; /* width of "teacher_feature" */
} kd_objective;

/* Model of a resolved config for `classes` classes; parameters declared but not allocated or drawn. */
KD_NODISCARD kd_status kd_model_open(const kd_config *cfg, int classes, kd_backend *be, kd_model *out, kd_err *err);
void kd_model_close(kd_model *m); /* zeroed is legal */

/* Declare everything (objective: also the projector "kd.projector.*", and gradients; may be NULL) and allocate; values
 * are zero.  Enough where weights are loaded next, or none are needed. */
KD_NODISCARD kd_status kd_model_declare(kd_model *m, const kd_objective *o, kd_err *err);
/* The same, then draw every value from `seed`. */
KD_NODISCARD kd_status kd_model_init(kd_model *m, const kd_objective *o, uint64_t seed, kd_err *err);

/* Training programs from now on read `samples` sequences that stay on the device (0: are fed); before
 * kd_model_check_memory, which then counts them. */
void kd_model_keep(kd_model *m, int64_t samples, const kd_skeleton_streams_attr *streams);

/* The input of a teacher of this vit; resized: training clips come as f32. */
void kd_model_clip_input(kd_model *m, bool resized);

/* Training program: inputs plus "target" (B,K), "valid" (B), a teacher's "place" i32 (B,KD_PLACE), and what the
 * objective names ("teacher" (B,K), "teacher_feature" (B,P), "teacher_valid" (B)).  Outputs "loss", "loss_ce",
 * "loss_kd", "loss_feature", "logits". */
KD_NODISCARD kd_status kd_model_train_program(kd_model *m, const kd_objective *o, int batch, bool recompute,
                                              kd_program **out, kd_err *err);
/* Forward-only program.  Outputs "logits", "features". */
KD_NODISCARD kd_status kd_model_eval_program(kd_model *m, int batch, kd_program **out, kd_err *err);

/* Is there room on the device for training at this batch size?  Called before anything but the parameters is allocated.
 * KD_E_OOM says what is needed for what, what the device has, and the largest batch that would fit. */
typedef struct kd_memory_need {
    const kd_objective *objective;
    int batch, eval_batch;
    bool recompute;
    int optimiser_slabs; /* moments and averages: AdamW 2, SGD 1, EMA one more */
} kd_memory_need;
KD_NODISCARD kd_status kd_model_check_memory(kd_model *m, const kd_memory_need *need, kd_err *err);

typedef struct kd_load_report {
    int matched, missing, unexpected, reshaped; /* tensors; reshaped: head of another class count, left fresh */
    char missing_names[400];                    /* the first few, for the log */
    char unexpected_names[400];
    char sha256[65]; /* of the file(s) */
} kd_load_report;

/* Load weights from a run directory, checkpoint directory, safetensors file or .pth (formats/weights/weights.h).
 * `fresh_head`: a missing or differently sized head, and a missing fc_norm, stay at their initial values (fine-tuning
 * from another data set); any other missing tensor is an error: KD_E_DATA naming the first few. */
KD_NODISCARD kd_status kd_model_load(kd_model *m, const char *path, bool fresh_head, kd_load_report *report,
                                     kd_err *err);

#endif
