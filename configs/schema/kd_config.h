/* The configuration of one recipe: a plain nested struct, filled from YAML.
 *
 * Every key is one row of configs/schema/schema.inc (path, type, default, bounds, documentation); loading,
 * checking, `--set`, printing and hashing all walk that one table, so a field below without a row
 * cannot be set and a row without a field does not compile.  Whoever adds a key adds the code that
 * obeys it in the same commit: an accepted key that does nothing is a bug.
 *
 * The struct owns nothing and holds no pointers: copy it with `=`, keep it as long as you like.  It
 * is large (about 50 KiB), so put it in a struct on the heap rather than on a thread's stack.
 *
 * Resolution.  Loading ends with kd_config_finish(): values that mean "take it from elsewhere" are
 * replaced by the numbers in force (teacher sizes of the variant, kd.ce_weight = 1 - kd.weight,
 * eval.batch_size = train.batch_size, data.num_classes of a named split), so that users of the
 * struct never see them and the printed config is complete.
 */
#ifndef KD_CONFIGS_SCHEMA_KD_CONFIG_H
#define KD_CONFIGS_SCHEMA_KD_CONFIG_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_CFG_PATH        512 /* bytes of a path, with the NUL */
#define KD_CFG_NAME        64
#define KD_CFG_MAX_IDS     256 /* subjects, cameras or setups in a split */
#define KD_CFG_MAX_CLASSES 512
#define KD_CFG_MAX_STEPS   16
#define KD_CFG_HASH        65 /* SHA-256 as hex, with the NUL */

typedef struct kd_cfg_ints {
    int n;
    int v[KD_CFG_MAX_IDS];
} kd_cfg_ints;

typedef struct kd_cfg_steps {
    int n;
    int v[KD_CFG_MAX_STEPS];
} kd_cfg_steps;

typedef struct kd_cfg_names {
    int n;
    char v[KD_CFG_MAX_CLASSES][KD_CFG_NAME];
} kd_cfg_names;

/* The enums below are listed in the order of their names in schema.inc. */
typedef enum kd_cfg_kind { KD_KIND_TEACHER, KD_KIND_STUDENT } kd_cfg_kind;
typedef enum kd_cfg_layout { KD_LAYOUT_NTU, KD_LAYOUT_FLAT, KD_LAYOUT_LIST } kd_cfg_layout;
typedef enum kd_cfg_split {
    KD_SPLIT_NTU60_XSUB,
    KD_SPLIT_NTU60_XVIEW,
    KD_SPLIT_NTU120_XSUB,
    KD_SPLIT_NTU120_XSET,
    KD_SPLIT_SUBJECT,
    KD_SPLIT_CAMERA,
    KD_SPLIT_SETUP,
    KD_SPLIT_LIST
} kd_cfg_split;
typedef enum kd_cfg_bad { KD_BAD_FAIL, KD_BAD_SKIP } kd_cfg_bad;
typedef enum kd_cfg_variant {
    KD_VIT_S,
    KD_VIT_B,
    KD_VIT_L,
    KD_VIT_H,
    KD_VIT_G,
    KD_VIT_TINY,
    KD_VIT_CUSTOM
} kd_cfg_variant;
typedef enum kd_cfg_init { KD_TEACHER_INIT_NORMAL, KD_TEACHER_INIT_XAVIER } kd_cfg_init;
typedef enum kd_cfg_pooling { KD_POOL_MEAN, KD_POOL_CLS } kd_cfg_pooling;
typedef enum kd_cfg_sampler {
    KD_SAMPLER_OFFICIAL_DENSE,
    KD_SAMPLER_SEED_RANDOM_WINDOW,
    KD_SAMPLER_UNIFORM_LINSPACE
} kd_cfg_sampler;
typedef enum kd_cfg_short { KD_SHORT_OFFICIAL, KD_SHORT_STRIDE_REPEAT } kd_cfg_short;
typedef enum kd_cfg_window { KD_WINDOW_CENTER, KD_WINDOW_RANDOM } kd_cfg_window;
typedef enum kd_cfg_spatial { KD_SPATIAL_RRC, KD_SPATIAL_SHORT_SIDE_CROP } kd_cfg_spatial;
typedef enum kd_cfg_merge { KD_MERGE_PROB, KD_MERGE_SCORE } kd_cfg_merge;
typedef enum kd_cfg_partner { KD_PARTNER_FLIP, KD_PARTNER_PERMUTE } kd_cfg_partner;
typedef enum kd_cfg_optimizer { KD_OPT_ADAMW, KD_OPT_SGD } kd_cfg_optimizer;
typedef enum kd_cfg_schedule {
    KD_SCHED_COSINE_STEP,
    KD_SCHED_COSINE_EPOCH,
    KD_SCHED_MULTISTEP,
    KD_SCHED_CONSTANT
} kd_cfg_schedule;
typedef enum kd_cfg_student_name {
    KD_STUDENT_LAST_V1_BASE,
    KD_STUDENT_LAST_E3_NANO,
    KD_STUDENT_SFZ_NANO
} kd_cfg_student_name;
typedef enum kd_cfg_bodies { KD_BODIES_FILE_ORDER, KD_BODIES_TRACKED } kd_cfg_bodies;
typedef enum kd_cfg_resample { KD_RESAMPLE_PAD, KD_RESAMPLE_LINEAR } kd_cfg_resample;
typedef enum kd_cfg_normalize { KD_NORM_NONE, KD_NORM_CENTER_SPINE, KD_NORM_FIRST_FRAME } kd_cfg_normalize;
typedef enum kd_cfg_yaw { KD_YAW_NONE, KD_YAW_REFERENCE, KD_YAW_CORRECTED } kd_cfg_yaw;
typedef enum kd_cfg_feature { KD_CFG_FEATURE_NONE, KD_CFG_FEATURE_MSE, KD_CFG_FEATURE_COSINE } kd_cfg_feature;
typedef enum kd_cfg_device { KD_CFG_AUTO, KD_CFG_CPU, KD_CFG_CUDA } kd_cfg_device;
typedef enum kd_cfg_resident { KD_RESIDENT_AUTO, KD_RESIDENT_ON, KD_RESIDENT_OFF } kd_cfg_resident;

/* Which samples, where, what they are called. */
typedef struct kd_cfg_data {
    char root[KD_CFG_PATH];
    kd_cfg_layout layout;
    char video_dir[KD_CFG_PATH];    /* below root; empty: that of the layout */
    char skeleton_dir[KD_CFG_PATH]; /* below root; empty: that of the layout */
    char train_list[KD_CFG_PATH];   /* split.by list, or layout list */
    char val_list[KD_CFG_PATH];
    struct {
        kd_cfg_split by;
        kd_cfg_ints train; /* subjects, cameras or setups of the training half */
        kd_cfg_ints val;   /* empty: all others */
    } split;
    bool with_missing; /* keep samples on the known missing-skeleton lists */
    int num_classes;   /* resolved from a named split or `classes`; 0: as the data turn out */
    kd_cfg_names classes;
    kd_cfg_bad on_bad_sample;
    int limit; /* first N samples of each half; 0: all */
} kd_cfg_data;

/* VideoMAE ViT.  After kd_config_finish all sizes are real numbers. */
typedef struct kd_cfg_teacher {
    kd_cfg_variant variant;
    int img_size, patch, tubelet, frames;
    int dim, depth, heads, mlp_hidden;
    double init_values; /* layer scale; 0: none */
    bool qkv_bias, cos_attn;
    kd_cfg_pooling pooling;
    double norm_eps;
    double drop_path, head_drop;
    double init_scale; /* factor on the fresh head */
    kd_cfg_init init;
    bool recompute;
    char weights[KD_CFG_PATH]; /* starting checkpoint; empty: random start */
} kd_cfg_teacher;

/* From video frames to clips (spec: VideoMAE 3). */
typedef struct kd_cfg_video {
    int sampling_rate;
    kd_cfg_sampler sampler;
    kd_cfg_short short_video;
    kd_cfg_window val_window;
    kd_cfg_spatial spatial;
    int short_side;       /* validation and test; no key: always teacher.img_size */
    int train_short_side; /* spatial short_side_crop */
    double rrc_scale[2], rrc_ratio[2];
    double flip_prob;
    double erase_prob; /* 0: off */
    double mean[3], std[3];
} kd_cfg_video;

typedef struct kd_cfg_mixup {
    double alpha;        /* 0: off */
    double cutmix_alpha; /* 0: off */
    double switch_prob;  /* of CutMix, where both are on */
    double prob;
    kd_cfg_partner partner;
} kd_cfg_mixup;

typedef struct kd_cfg_optim {
    kd_cfg_optimizer name;
    double base_lr;
    bool scale_lr; /* base_lr, min_lr, warmup_start_lr x batch x ranks x accumulation / 256 */
    double betas[2], eps;
    double momentum;
    bool nesterov;
    double weight_decay, layer_decay;
    double clip_grad; /* global L2 norm; 0: off */
    int accumulation;
    double ema_decay; /* 0: off */
    kd_cfg_schedule schedule;
    double warmup_epochs;
    int warmup_steps; /* -1: use warmup_epochs */
    double warmup_start_lr, min_lr;
    kd_cfg_steps milestones; /* epochs, multistep */
    double gamma;
} kd_cfg_optim;

typedef struct kd_cfg_student {
    kd_cfg_student_name name;
    double dropout;   /* before the classifier; -1: the model's own */
    double drop_path; /* maximum over depth; -1: the model's own */
    char weights[KD_CFG_PATH];
} kd_cfg_student;

/* From .skeleton text to (3, frames, 25, bodies) (spec: LAST 5). */
typedef struct kd_cfg_skeleton {
    int frames;
    kd_cfg_bodies bodies;
    int max_bodies;
    kd_cfg_resample resample;
    kd_cfg_normalize normalize;
    bool bone_scale; /* divide by the mean spine-base-to-neck length of the body */
    kd_cfg_yaw yaw;
    double clamp; /* inputs end in [-clamp, clamp]; 0: off */
} kd_cfg_skeleton;

/* Training-time skeleton augmentation; all streams share the draws. */
typedef struct kd_cfg_skeleton_aug {
    double rotate_deg; /* about y, uniform in +- */
    double scale[2];
    double shear;
    double flip_prob;      /* left-right, with the joint swap */
    double time_flip_prob; /* play backwards */
    double speed[2];
    double speed_prob;
    double noise_joint, noise_velocity, noise_bone; /* standard deviations */
    double joint_mask;                              /* share of joints zeroed */
} kd_cfg_skeleton_aug;

typedef struct kd_cfg_kd {
    char store[KD_CFG_PATH]; /* teacher logits; empty: cross-entropy alone */
    double weight;           /* of T^2 KL(teacher || student) */
    double temperature;
    double ce_weight; /* resolved: 1 - weight unless given */
    kd_cfg_feature feature;
    double feature_weight;
} kd_cfg_kd;

typedef struct kd_cfg_train {
    int epochs, batch_size;
    int64_t seed;
    bool deterministic;
    int workers, threads; /* threads 0: all cores this process may use */
    kd_cfg_device device;
    kd_cfg_resident resident;
    kd_dtype dtype;             /* KD_F32, KD_BF16 or KD_F16 */
    int checkpoint_every;       /* epochs */
    int checkpoint_every_steps; /* 0: off */
    int keep;                   /* epoch-N checkpoints kept; last and best always are; 0: none */
    int log_interval;           /* optimiser steps */
    int eval_every;             /* epochs */
    bool eval_ema;
} kd_cfg_train;

typedef struct kd_cfg_eval {
    int clips, crops;
    kd_cfg_merge merge;
    int batch_size;
} kd_cfg_eval;

typedef struct kd_cfg_report {
    int ece_bins;
} kd_cfg_report;

typedef struct kd_config {
    char name[KD_CFG_NAME];
    kd_cfg_kind kind; /* sections that belong to the other kind cannot be set and are not printed */
    kd_cfg_data data;
    kd_cfg_teacher teacher;
    kd_cfg_video video;
    kd_cfg_student student;
    kd_cfg_skeleton skeleton;
    kd_cfg_skeleton_aug skeleton_aug;
    kd_cfg_mixup mixup;
    double label_smoothing;
    kd_cfg_optim optim;
    kd_cfg_kd kd;
    kd_cfg_train train;
    kd_cfg_eval eval;
    kd_cfg_report report;
} kd_config;

/* Fill `out` with: schema defaults, then the file and its `base:` chain, then the `--set` texts
 * ("a.b=value", value in YAML flow form) in order, then kd_config_finish.  `path` NULL: no file.  A
 * file whose first key chain has no `kind` is a teacher recipe. KD_E_CONFIG with "file:line:column:
 * key: ..." for every fault of the text (unknown key with the nearest known name, wrong type, out
 * of range, duplicate key, alias growth, base cycle); KD_E_IO when a file cannot be read. */
KD_NODISCARD kd_status kd_config_load(const char *path, const char *const *sets, size_t n_sets, kd_config *out,
                                      kd_err *err);

/* The same from memory; `name` appears in messages.  A `base:` key is refused. */
KD_NODISCARD kd_status kd_config_parse(const void *text, size_t len, const char *name, const char *const *sets,
                                       size_t n_sets, kd_config *out, kd_err *err);

/* The recipe that belongs to weights: `config` when given, else config.yaml of the run they lie in.  sets: `--set` texts on
 * top.  KD_E_CONFIG when there is none, KD_E_IO when the weights are not there. */
KD_NODISCARD kd_status kd_config_of_weights(const char *config, const char *weights, const char *const *sets,
                                            size_t n_sets, kd_config *out, kd_err *err);

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

/* SHA-256 (hex) of kd_config_yaml(cfg, false, true) with train.seed 0: runs of one recipe with several seeds share it;
 * equal hash and equal seed mean that equal results are expected. */
KD_NODISCARD kd_status kd_config_hash(const kd_config *cfg, char hex[KD_CFG_HASH]);

/* First difference between two configs among portable keys: "optim.base_lr: 0.001 here, 0.002
 * there" into `text`; false when there is none.  Used to refuse a resume with another recipe. */
bool kd_config_diff(const kd_config *a, const kd_config *b, char *text, size_t size);

/* The name of an enum value as the YAML spells it, in `buf`, which is returned:
 * kd_config_enum_name("train.device", KD_CFG_CPU, buf) is "cpu"; "?" when there is no such key or
 * value. */
const char *kd_config_enum_name(const char *path, int value, char buf[KD_CFG_NAME]);

#ifdef __cplusplus
}
#endif
#endif
