/* The configuration of one recipe: a plain nested struct, filled from YAML.
 *
 * A key is one row (kernels/kd_options.h) of its section's list: field, type, default, bounds and documentation.  The
 * list makes the section's struct below and, through configs/schema/schema.inc, the rows of the table that loading,
 * checking, `--set`, printing and hashing walk.  Whoever adds a key adds the code that obeys it in the same commit: an
 * accepted key that does nothing is a bug.
 *
 * The struct owns nothing and holds no pointers: copy it with `=`, keep it as long as you like.  It
 * is large (about 80 KiB), so put it in a struct on the heap rather than on a thread's stack.
 *
 * Resolution.  Loading ends with kd_config_finish(): values that mean "take it from elsewhere" are
 * replaced by the numbers in force (teacher sizes of the variant, kd.ce_weight = 1 - kd.weight,
 * eval.batch_size = train.batch_size, data.num_classes of a named split), so that users of the
 * struct never see them and the printed config is complete.
 */
#ifndef KD_CONFIGS_SCHEMA_KD_CONFIG_H
#define KD_CONFIGS_SCHEMA_KD_CONFIG_H

#include "distill/batch/mixup_opts.h"
#include "distill/kd/loss_opts.h"
#include "formats/base/json.h"
#include "formats/data/data_opts.h"
#include "kernels/kd_optim.h"
#include "kernels/kd_schedule.h"
#include "kernels/optim/param_rules.h"
#include "student/model/student_opts.h"
#include "student/skeleton/skeleton_opts.h"
#include "teacher/clip/clip_opts.h"
#include "teacher/model/teacher_opts.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_CFG_HASH 65 /* SHA-256 as hex, with the NUL */

#define KD_CFG_KIND_MAP(X)        \
    X(KD_KIND_TEACHER, "teacher") \
    X(KD_KIND_STUDENT, "student")
#define KD_CFG_MERGE_MAP(X)  \
    X(KD_MERGE_PROB, "prob") \
    X(KD_MERGE_SCORE, "score")
#define KD_CFG_OPTIMIZER_MAP(X) \
    X(KD_OPTIM_ADAMW, "adamw")  \
    X(KD_OPTIM_SGD, "sgd")
#define KD_CFG_SCHEDULE_MAP(X)                  \
    X(KD_SCHEDULE_COSINE_STEP, "cosine_step")   \
    X(KD_SCHEDULE_COSINE_EPOCH, "cosine_epoch") \
    X(KD_SCHEDULE_MULTISTEP, "multistep")       \
    X(KD_SCHEDULE_CONSTANT, "constant")         \
    X(KD_SCHEDULE_HF_COSINE, "hf_cosine")       \
    X(KD_SCHEDULE_MM_EPOCH, "mmengine_epoch")   \
    X(KD_SCHEDULE_MM_STEP, "mmengine_step")
#define KD_CFG_DEVICE_MAP(X) \
    X(KD_CFG_AUTO, "auto")   \
    X(KD_CFG_CPU, "cpu")     \
    X(KD_CFG_CUDA, "cuda")
#define KD_CFG_RESIDENT_MAP(X)  \
    X(KD_RESIDENT_AUTO, "auto") \
    X(KD_RESIDENT_ON, "on")     \
    X(KD_RESIDENT_OFF, "off")
#define KD_CFG_SELECT_MAP(X) \
    X(KD_SELECT_VAL, "val")  \
    X(KD_SELECT_TRAIN, "train")
#define KD_CFG_METRIC_MAP(X)                                \
    X(KD_METRIC_AUTO, "auto")                               \
    X(KD_METRIC_TOP1, "top1")                               \
    X(KD_METRIC_TOP5, "top5")                               \
    X(KD_METRIC_MEAN_CLASS_ACCURACY, "mean_class_accuracy") \
    X(KD_METRIC_MACRO_F1, "macro_f1")                       \
    X(KD_METRIC_NLL, "nll")                                 \
    X(KD_METRIC_ECE, "ece")
#define KD_CFG_AVERAGE_BN_MAP(X)        \
    X(KD_AVERAGE_BN_AVERAGE, "average") \
    X(KD_AVERAGE_BN_RECOMPUTE, "recompute")
#define KD_CFG_NONFINITE_MAP(X)  \
    X(KD_NONFINITE_SKIP, "skip") \
    X(KD_NONFINITE_FAIL, "fail")
#define KD_CFG_DTYPE_MAP(X) /* of kd_dtype, those a program can compute in */ \
    X(KD_F32, "f32")                                                          \
    X(KD_BF16, "bf16")                                                        \
    X(KD_F16, "fp16")

KD_ENUM_OF(kd_cfg_kind, KD_CFG_KIND_MAP);
KD_ENUM_OF(kd_cfg_merge, KD_CFG_MERGE_MAP);
KD_ENUM_OF(kd_cfg_device, KD_CFG_DEVICE_MAP);
KD_ENUM_OF(kd_cfg_resident, KD_CFG_RESIDENT_MAP);
KD_ENUM_OF(kd_cfg_select, KD_CFG_SELECT_MAP);
KD_ENUM_OF(kd_cfg_metric, KD_CFG_METRIC_MAP);
KD_ENUM_OF(kd_cfg_average_bn, KD_CFG_AVERAGE_BN_MAP);
KD_ENUM_OF(kd_cfg_nonfinite, KD_CFG_NONFINITE_MAP);

/* A phase of a recipe: keys laid upon it.  keys: one line of YAML, "train: {epochs: 10}, label_smoothing: 0.1". */
#define KD_CFG_PHASES     8
#define KD_CFG_PHASE_TEXT 2048
#define KD_CFG_START_MAP(X)  \
    X(KD_START_BEST, "best") \
    X(KD_START_LAST, "last")
KD_ENUM_OF(kd_cfg_start, KD_CFG_START_MAP);

typedef struct kd_cfg_phase {
#define KD_OPTIONS "configs/schema/phase.inc"
#include "kernels/kd_options_struct.inc"
} kd_cfg_phase;

typedef struct kd_cfg_phases {
    int n;
    kd_cfg_phase v[KD_CFG_PHASES];
} kd_cfg_phases;

/* Students that learn with the recipe's own. */
#define KD_CFG_PEERS 7
typedef struct kd_cfg_peer {
#define KD_OPTIONS "configs/schema/peer.inc"
#include "kernels/kd_options_struct.inc"
} kd_cfg_peer;

typedef struct kd_cfg_peers {
    int n;
    kd_cfg_peer v[KD_CFG_PEERS];
} kd_cfg_peers;

typedef struct kd_cfg_optim {
#define KD_OPTIONS "configs/schema/optim.inc"
#include "kernels/kd_options_struct.inc"
} kd_cfg_optim;

typedef struct kd_cfg_train {
#define KD_OPTIONS "configs/schema/train.inc"
#include "kernels/kd_options_struct.inc"
} kd_cfg_train;

/* Bounds of eval.temperature, and so of what a calibration fits. */
#define KD_CFG_TEMPERATURE_LEAST 0.05
#define KD_CFG_TEMPERATURE_MOST  20.0

typedef struct kd_cfg_eval {
#define KD_OPTIONS "configs/schema/eval.inc"
#include "kernels/kd_options_struct.inc"
} kd_cfg_eval;

typedef struct kd_cfg_report {
#define KD_OPTIONS "configs/schema/report.inc"
#include "kernels/kd_options_struct.inc"
} kd_cfg_report;

typedef struct kd_config {
#define KD_OPTIONS "configs/schema/head.inc" /* name, kind, phases, mutual */
#include "kernels/kd_options_struct.inc"
    kd_data_opts data;
    kd_teacher_opts teacher; /* sections that belong to the other kind cannot be set and are not printed */
    kd_clip_opts video;
    kd_student_opts student;
    kd_skeleton_opts skeleton;
    kd_skeleton_aug_opts skeleton_aug;
    kd_mixup_opts mixup;
#define KD_OPTIONS "configs/schema/smoothing.inc" /* label_smoothing, class_weights, class_balance */
#include "kernels/kd_options_struct.inc"
    kd_cfg_optim optim;
    kd_loss_opts kd;
    kd_cfg_train train;
    kd_cfg_eval eval;
    kd_cfg_report report;
    /* Not keys: what skeleton.layout and skeleton.file_layout name.  A teacher has none, and file_layout has no joints
     * where the key is empty. */
    kd_layout layout, file_layout;
} kd_config;

/* Fill `out` with: schema defaults, then the files in order, then the `--set` texts ("a.b=value", value in YAML flow
 * form) in order, then kd_config_finish.  A file's `base:`, a path or a list of paths relative to the file, is merged
 * before the file, in order.  Maps merge key by key; lists and values replace.  Without files: the defaults.  Where no
 * file has `kind` the recipe is a teacher's.  A teacher whose `teacher.weights` is a Hugging Face folder takes what the
 * recipe leaves out (sizes, epsilons, pooling, mean and std of pixels) from the folder's config.json.
 * KD_E_CONFIG with "file:line:column: key: ..." for every fault of the text (unknown key with the nearest known name,
 * wrong type, out of range, duplicate key, alias growth, base cycle, a file that cannot be read), or where the recipe
 * says otherwise than config.json. */
KD_NODISCARD kd_status kd_config_load(const char *const *paths, size_t n_paths, const char *const *sets, size_t n_sets,
                                      kd_config *out, kd_err *err);

/* The recipe of phase i of a finished recipe: the phase's keys laid upon the recipe, finished.  `phases` stays, so that
 * the text of a phase's recipe names all of them.  out is not recipe.  KD_E_CONFIG: a key of the phase, or what the
 * phase comes to, is refused (kd_config_load has checked). */
KD_NODISCARD kd_status kd_config_phase(const kd_config *recipe, int i, kd_config *out, kd_err *err);

/* The recipe of student i of `mutual`: that of the same group with this student as its own and the first one in the
 * list.  out is not recipe.  KD_E_CONFIG: what the recipe comes to is refused. */
KD_NODISCARD kd_status kd_config_peer(const kd_config *recipe, int i, kd_config *out, kd_err *err);

/* The seed of initial weights, dropout and drop path: train.init_seed, or train.seed where that is -1. */
static inline uint64_t kd_config_init_seed(const kd_config *cfg)
{
    return (uint64_t)(cfg->train.init_seed >= 0 ? cfg->train.init_seed : cfg->train.seed);
}

/* The same from memory; `name` appears in messages.  A `base:` key is refused. */
KD_NODISCARD kd_status kd_config_parse(const void *text, size_t len, const char *name, const char *const *sets,
                                       size_t n_sets, kd_config *out, kd_err *err);

/* The recipe that belongs to weights, of its last phase where it has phases: the files when there are some, merged in
 * order, else config.yaml of the checkpoint that the weights are (what a calibration keeps), else that of the run that
 * they lie in, else what config.json of their Hugging Face folder says.
 * sets: `--set` texts on top.  Where there is a config.json the recipe must agree with it.  KD_E_CONFIG: there is no
 * recipe, or it does not; KD_E_IO: there are no weights. */
KD_NODISCARD kd_status kd_config_of_weights(const char *const *configs, size_t n_configs, const char *weights,
                                            const char *const *sets, size_t n_sets, kd_config *out, kd_err *err);

/* Schema defaults, not yet resolved. */
void kd_config_defaults(kd_config *out);

/* Replace "from elsewhere" values and check what one key alone cannot show (img_size multiple of
 * patch, dim multiple of heads, split lists present, ...).  Idempotent.  Call again after changing
 * fields in code. */
KD_NODISCARD kd_status kd_config_finish(kd_config *cfg, kd_err *err);

/* YAML that loads back to the same struct; kd_free it.  NULL when memory runs out.
 * docs: each key preceded by its documentation, type, bounds and default.
 * portable_only: leave out keys that name this machine (paths, threads, device...): the text that
 * is hashed. */
char *kd_config_yaml(const kd_config *cfg, bool docs, bool portable_only);

/* SHA-256 (hex) of kd_config_yaml(cfg, false, true) with train.seed 0 and init_seeds -1, and of `inputs`: runs of one
 * recipe with several seeds share it.  inputs: text that stands for the contents of the files that the recipe names
 * (weights, stores, lists), whose paths are not portable; "" when it names none, or for the recipe's text alone. */
KD_NODISCARD kd_status kd_config_hash(const kd_config *cfg, const char *inputs, char hex[KD_CFG_HASH]);

/* The hash of what decides the training rows of videos but data set and seed: section `video`, frames and size. */
KD_NODISCARD kd_status kd_config_rows_hash(const kd_config *cfg, char hex[KD_CFG_HASH]);

/* Paths that the present directory gives their meaning (data.root, weights, stores, lists that are there) become
 * absolute, so that the recipe of a run is understood from everywhere.  KD_E_IO: there is no present directory;
 * KD_E_CONFIG: too long. */
KD_NODISCARD kd_status kd_config_absolute(kd_config *cfg, kd_err *err);

/* First difference between two configs among portable keys: "optim.base_lr: 0.001 then, 0.002 now" into
 * `text`, a first; false when there is none.  Used to refuse a resume with another recipe. */
bool kd_config_diff(const kd_config *a, const kd_config *b, char *text, size_t size);

/* The same model for transformers: config.json and preprocessor_config.json into two empty objects.  names: class names
 * in label order (an array, may be NULL); classes: of the head, 0 for none.  KD_E_ARG: transformers has no such
 * model. */
KD_NODISCARD kd_status kd_config_to_hf(const kd_config *cfg, const kd_json *names, int classes, kd_json *config,
                                       kd_json *processor, kd_err *err);

/* What clips and sequences of a finished config depend on. */
kd_clip_spec kd_config_clip(const kd_config *cfg);
kd_sequence_spec kd_config_sequence(const kd_config *cfg);

/* The name of an enum value as the YAML spells it, in `buf`, which is returned:
 * kd_config_enum_name("train.device", KD_CFG_CPU, buf) is "cpu"; "?" when there is no such key or
 * value. */
const char *kd_config_enum_name(const char *path, int value, char buf[KD_CFG_NAME]);

#ifdef __cplusplus
}
#endif
#endif
