/* VideoMAE / VideoMAE-2 fine-tuning model: a plain ViT over space-time tubelets.
 *
 * Sources: MCG-NJU/VideoMAE and OpenGVLab/VideoMAEv2, modeling_finetune.py (the two give bit-identical results on equal
 * weights); Tong et al. 2022; Wang et al. 2023.  Parameter names and shapes are those of their checkpoints.
 *
 *   clip (B,3,T,H,W), or pictures u8 (B,T,H,W,3) -> tubelet rows (B,N,3*t*p*p) -> patch_embed.proj -> + position table
 *        -> depth pre-norm blocks
 *        -> mean over tokens -> fc_norm -> head      (pooling mean; the default)
 *        -> token 0 -> norm -> head                  (pooling cls: there is no class token, token 0 is the first patch)
 *
 * Kept as in the reference: q and v have a bias, k has none; GELU is the erf form; a learnable position table is used
 * detached and so never learns; the fixed table is sinusoidal over the flattened token index.
 */
#ifndef KD_TEACHER_MODEL_VIT_H
#define KD_TEACHER_MODEL_VIT_H

#include "kernels/kd_graph.h"
#include "kernels/kd_params.h"

typedef struct kd_vit_cfg {
    int img_size, frames; /* pixels of the square input, frames of a clip */
    int patch, tubelet;
    int dim, depth, heads, mlp_hidden;
    int classes;
    float init_values; /* layer scale gamma_1/2 start value; 0: no gammas */
    bool qkv_bias, cos_attn, learnable_pos, cls_pooling;
    bool table_resized; /* the fixed table is that of 16 x 224 x 224, resized; else the sinusoid of the grid itself */
    float drop, drop_path, head_drop; /* rates; block i of n gets drop_path * i / (n-1) */
    float mean[3], std[3];            /* of RGB in [0, 1]: what pictures of bytes are normalised with */
    float eps, fc_norm_eps;           /* LayerNorm epsilons: 1e-6 in the official code */
    float init_scale;                 /* head weight and bias are multiplied by this at init */
    bool xavier;    /* linear layers drawn Xavier-uniform (the pre-training code) instead of N(0, 0.02^2) */
    bool recompute; /* blocks are recompute segments */
    /* keep activations as outputs act.patch_embed, act.blockN, act.blockN.attn, act.blockN.mlp */
    bool taps;
    /* keep what a store may hold: output "temporal" (B,T/tubelet,dim), the mean over space of the last block's tokens,
     * and "tokens" (B,N,dim), all of them, time slowest */
    bool temporal, tokens;
} kd_vit_cfg;

/* Official defaults with a size of the teachers' table (teacher.h).  false: no such size. */
bool kd_vit_preset(const char *size, kd_vit_cfg *out);

/* Tokens of a clip. */
int64_t kd_vit_tokens(const kd_vit_cfg *c);

/* KD_E_CONFIG: the sizes cannot be built; the message names the config's key. */
KD_NODISCARD kd_status kd_vit_check(const kd_vit_cfg *c, kd_err *err);

typedef struct kd_vit_out {
    kd_val logits;   /* (B,classes) stat dtype; output "logits" */
    kd_val features; /* (B,dim), what the head reads (after fc_norm); output "features" */
} kd_vit_out;

/* What the model reads; all but the clip may be KD_NONE, their meaning is that of patchify (kernels/kd_ops.h). */
typedef struct kd_vit_input {
    /* (B,3,T,H,W), normalised RGB, stat or activation dtype; or u8 (B,T,H,W,3), normalised by the model */
    kd_val clip;
    kd_val place;          /* i32 (B, KD_PLACE + KD_BOX m): mirrored, erased */
    kd_val perm, lam, cut; /* i32 (B), stat (B), i32 (B,4): mixed with another sample of the batch */
} kd_vit_input;

/* Append the model to g. */
kd_vit_out kd_vit_build(kd_graph *g, const kd_vit_cfg *c, const kd_vit_input *in);

/* table (3,256): (v / 255 - mean) / std of each byte v, in f32 operations. */
void kd_vit_pixel_table(const float mean[3], const float std[3], float *table);

/* The position table (tokens, dim), row-major f32: angle n / 10000^(2 floor(j/2)/dim), even j sine, odd cosine. */
void kd_vit_sinusoid(int64_t tokens, int64_t dim, float *out);

/* Tokens as a grid: time steps of side x side patches. */
typedef struct kd_vit_grid {
    int steps, side;
} kd_vit_grid;

kd_vit_grid kd_vit_grid_of(const kd_vit_cfg *c);        /* of the model's clips */
kd_vit_grid kd_vit_grid_published(const kd_vit_cfg *c); /* of clips of 16 frames of 224 x 224 */
/* The grid that a stored table of so many rows was made for: the model's frames and pictures of another size, else the
 * model's pictures and another number of frames, else 16 frames.  false: none of them. */
bool kd_vit_grid_of_tokens(const kd_vit_cfg *c, int64_t tokens, kd_vit_grid *out);

/* A position table (from, dim) for another grid: out (to, dim).  Bicubic in space (half-pixel centres, align_corners
 * False, constant -0.75) time step by time step, then linear in time.  Sources: VideoMAE's run_class_finetuning.py
 * (space), VideoMAEv2's modeling_finetune.py (time); PyTorch's interpolate.  KD_E_OOM. */
KD_NODISCARD kd_status kd_vit_table_resize(const float *in, kd_vit_grid from, kd_vit_grid to, int64_t dim, float *out);

/* The table (tokens, dim) that the model adds to its tokens, unless it has one of its own.  KD_E_OOM. */
KD_NODISCARD kd_status kd_vit_fixed_table(const kd_vit_cfg *c, float *table);

/* Is a stored table (tokens, dim) the fixed one, to half precision? */
bool kd_vit_is_sinusoid(const float *table, int64_t tokens, int64_t dim);

/* Layer id of a parameter for layer-wise learning rate decay: 0 patch embedding and position, i+1 block i, depth+1
 * rest. */
int kd_vit_layer_id(const char *name, int depth);

/* Set lr_scale = layer_decay^(depth + 1 - id) and the official no-decay rule (1-D tensors, biases, pos_embed). */
void kd_vit_param_groups(kd_params *p, int depth, float layer_decay);

#endif
