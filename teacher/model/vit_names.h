/* VideoMAE tensor names in three dialects: official (v1, v2, DeepSpeed), Hugging Face and MMAction2.
 *
 * Weights are a VideoMAE's if a patch embedding is among them.  Reading: runs of the prefixes _orig_mod. module. model.
 * model_ema. ema_model. ema. teacher. student., and of official names backbone. encoder., are dropped, Hugging Face's
 * and MMAction2's names are mapped, query/key/value matrices are stacked into qkv along the rows, a key bias (which
 * softmax cancels) and stored position tables of sines and cosines are left out; a table of other values is
 * "pos_embed". Source: the loaders of VideoMAE v1 and v2, transformers' conversion script, MMAction2's vit_mae.
 */
#ifndef KD_TEACHER_MODEL_VIT_NAMES_H
#define KD_TEACHER_MODEL_VIT_NAMES_H

#include "kernels/kd_names.h"

enum {
    KD_VIT_OFFICIAL, /* blocks.3.attn.qkv.weight */
    KD_VIT_HF,       /* "hf": transformers VideoMAEForVideoClassification */
    KD_VIT_MMACTION  /* "mmaction2": MMAction2 vit_mae */
};

extern const kd_name_map kd_vit_names;

/* Is the parameter (official name) one of the head, whose shape follows the number of classes? */
bool kd_vit_is_head(const char *name);

/* May pre-trained weights lack the parameter: the head, or the norm that follows the pooling? */
bool kd_vit_may_be_fresh(const char *name);

#endif
