/* Facts of NTU RGB+D 60 and 120, and the splits of any data set with NTU names.
 *
 * NTU60: setups 1..17, actions 1..60, 56 880 samples; 302 have no usable skeleton.  NTU120 adds
 * setups 18..32 with actions 61..120: 114 480 samples, 535 without.  Sources: Shahroudy et al.
 * 2016, Liu et al. 2019, the authors' lists of samples with missing skeletons.
 */
#ifndef KD_FORMATS_DATA_NTU_H
#define KD_FORMATS_DATA_NTU_H

#include "formats/data/sample_id.h"

#define KD_NTU_CLASSES 120

/* name, text, classes: cross-subject, cross-view (camera), cross-setup */
#define KD_NTU_SPLIT_MAP(X)               \
    X(KD_NTU60_XSUB, "ntu60-xsub", 60)    \
    X(KD_NTU60_XVIEW, "ntu60-xview", 60)  \
    X(KD_NTU120_XSUB, "ntu120-xsub", 120) \
    X(KD_NTU120_XSET, "ntu120-xset", 120)

typedef enum kd_ntu_split {
#define KD_NTU_SPLIT_ENUM(name, text, classes) name,
    KD_NTU_SPLIT_MAP(KD_NTU_SPLIT_ENUM)
#undef KD_NTU_SPLIT_ENUM
        KD_NTU_SPLIT_COUNT
} kd_ntu_split;

typedef enum kd_split_side { KD_SIDE_NONE, KD_SIDE_TRAIN, KD_SIDE_VAL } kd_split_side;

bool kd_ntu_split_parse(const char *text, kd_ntu_split *out); /* "ntu60-xsub"; '_' counts as '-' */
const char *kd_ntu_split_name(kd_ntu_split split);
int kd_ntu_split_classes(kd_ntu_split split); /* 60 or 120 */

/* NONE when the sample is not of that data set (NTU60: setup > 17 or action > 60). */
kd_split_side kd_ntu_side(kd_ntu_split split, const kd_sample_id *id);

bool kd_ntu_exists(const kd_sample_id *id);           /* the data set (120) holds this sample */
bool kd_ntu_missing_skeleton(const kd_sample_id *id); /* on the authors' list of 535 (302 of NTU60) */
const char *kd_ntu_class_name(int label);             /* label 0..119, else NULL */

/* Walk over all samples of NTU120 (or of NTU60 alone) in name order: start with a zeroed id; false
 * at the end. */
bool kd_ntu_next(kd_sample_id *id, bool ntu60);

/* ---- splits of other data with NTU names: `split: {by: ..., train: [...], val: [...]}` ------- */

typedef enum kd_split_by { KD_BY_SUBJECT, KD_BY_CAMERA, KD_BY_SETUP, KD_BY_REPLICATION, KD_BY_LIST } kd_split_by;

typedef struct kd_split_rule {
    kd_split_by by;
    const uint32_t *train, *val; /* numbers, any order; n_val 0: everything that is not train */
    size_t n_train, n_val;
    const char *const *train_keys, *const *val_keys; /* BY_LIST: sample keys sorted by strcmp */
} kd_split_rule;

bool kd_split_by_parse(const char *text, kd_split_by *out); /* "subject", "camera", "setup", "replication", "list" */

/* KD_E_ARG: nothing on the train side; KD_E_DATA: a number or key on both sides. */
KD_NODISCARD kd_status kd_split_rule_check(const kd_split_rule *rule, kd_err *err);

/* Side of a sample.  `id` may be NULL (not an NTU name): then only BY_LIST can place it. */
kd_split_side kd_split_rule_side(const kd_split_rule *rule, const char *key, const kd_sample_id *id);

#endif
