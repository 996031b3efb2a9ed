/* The operations: attributes, operands, formulas.  This file is the reference of every op of kd_op_list.inc.  Shape and
 * gradient rules are in op/, kernels in cpu/ (reference), fast/ (oneDNN, AVX-512, AMX) and cuda/.
 *
 * How to read an entry
 *   in, out   Operands in order, with dtype and shape.  `?` marks an operand that may be absent.
 *   act       The program's activation dtype: f32, bf16 or f16 (f64 in tests).
 *   stat      The dtype of statistics, small parameters, losses and parameter gradients: f32 (f64 in f64 programs).
 *   [any]     Every operand is act, or every operand is stat.  Such an op serves weights and adjacencies as well.
 *   accum     The kernel can add to this output instead of overwriting it (kd_call.accum).
 *   in place  The output may share the bytes of the named operand.
 *   NODIFF    Gradients stop at this op.
 * A `_bwd` op lists the forward operands it reads.  Outputs named d* are gradients.  Gradients of parameters are stat
 * and honour accum.  Weight matrices (W of linear and convolutions) are act.
 * plus? of a gradient op is another gradient of the same x, act, of the shape of dx.  The kernel adds plus before it
 * rounds dx, and dx may share the bytes of plus.  The compiler's fusion sets plus (graph/fuse.c); gradient rules never
 * do.
 *
 * Dims: B batch, N tokens (samples in student ops), C channels, Ci and Co input and output channels, H heads, D head
 * dim, T frames, V joints, M persons, K classes, partitions, taps or landmarks.
 */
#ifndef KD_KERNELS_KD_OPS_H
#define KD_KERNELS_KD_OPS_H

#include "kernels/kd_op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- limits: the shape rules refuse more; kernels size their arrays by these ---- */
#define KD_MAX_JOINTS          256 /* V of any operand (N,C,T,V) and of adjacencies */
#define KD_MAX_HEAD_DIM        256 /* D of attention and cos_qk */
#define KD_MAX_LINEAR_HEAD_DIM 96  /* D of linear_attention: the state of a head is D x D */
#define KD_MAX_PATCH           512 /* side of a patch in pixels */
#define KD_CONCAT_MOST         8   /* operands of concat */
#define KD_SKELETON_MAX_JOINTS 64  /* V of skeleton_streams: joints are bits of two i32 */
#define KD_SKELETON_MAX_BODIES 4   /* M of skeleton_streams */

typedef enum kd_act_kind {
    KD_ACT_NONE,
    KD_ACT_RELU,
    KD_ACT_GELU,      /* exact erf form */
    KD_ACT_HARDSWISH, /* x clip(x+3,0,6)/6; derivative 0 below -3, 1 above 3, else x/3 + 1/2 */
    KD_ACT_SILU,
    KD_ACT_SIGMOID,
    KD_ACT_EXP,
    KD_ACT_LOG /* natural; -inf at 0, NaN below */
} kd_act_kind;

/* The op act computes every kind; conv2d, linear and batch norm compute the kinds up to this one on their results. */
#define KD_ACT_LAST_FUSED KD_ACT_SIGMOID

/* ============================ elementwise ====================================================================== */

/* add [any]: y = a + b.
 *   in   a (...), b of a's shape or of its trailing dims (broadcast over the leading dims)
 *   out  y of a's shape; in place of a */

/* scale [any]: y = value x.
 *   in   x (...)
 *   out  y of x's shape, accum; in place of x */
typedef struct kd_scale_attr {
    float value;
} kd_scale_attr;

/* mul [any]: y = a b, element by element.
 *   in   a (...), b of a's shape
 *   out  y of a's shape, accum */

/* act: y = f(x), f of kd_act_kind.
 *   in   x act (...)
 *   out  y act, x's shape; in place of x
 * act_bwd: dx = dy f'(x).
 *   in   x act, dy act
 *   out  dx act; in place of x */
typedef struct kd_act_attr {
    int32_t kind; /* kd_act_kind */
} kd_act_attr;

/* dropout: y = x mask / (1 - p).
 *   in   x act (rows, ...)
 *   out  y act, x's shape; in place of x
 * The mask of draw i is 1 iff kd_rng_unit(kd_rng_at(step.seed, KD_RNG_DROPOUT, rng_id, step.step, i)) >= p.  i is the
 * element's index; with per_row (drop path) it is the index of the leading dim.  The op is linear in x, so its backward
 * is the same op on dy. */
typedef struct kd_dropout_attr {
    float p;
    uint32_t rng_id;
    int32_t per_row;
} kd_dropout_attr;

/* scale_last: y = x g, g broadcast over the leading dims.
 *   in   x act (..., C), g stat (C)
 *   out  y act, x's shape; in place of x
 * scale_last_bwd
 *   in   x, g, dy act
 *   out  dx act, dg stat (C) accum */

/* cast: y = x in another floating dtype.
 *   in   x (...)
 *   out  y of x's shape, accum */
typedef struct kd_cast_attr {
    int32_t to; /* kd_dtype */
} kd_cast_attr;

/* mixup: y[i] = lam[i] x[i] + (1 - lam[i]) x[perm[i]]; NODIFF.
 *   in   x (B, ...), perm i32 (B) within 0 .. B-1, lam stat (B); or of sequences x (B, C, T, ...) lam (B, T), a share a
 *        frame
 *   out  y of x's shape and dtype */

/* grad_seed: y = step.grad_scale, times *step.loss_scale where that is set; NODIFF.  Every backward starts here.
 *   in   none
 *   out  y (), the loss's dtype */
typedef struct kd_grad_seed_attr {
    int32_t dtype; /* kd_dtype of the loss */
} kd_grad_seed_attr;

/* ============================ reductions ======================================================================= */

/* sum_lead [any]: the sum over all but the trailing `keep` dims.
 *   in   x (...)
 *   out  y of the trailing dims, accum; stat with to_stat, else x's dtype */
typedef struct kd_sum_lead_attr {
    int32_t keep;    /* how many trailing dims stay */
    int32_t to_stat; /* result in stat dtype (parameter gradient) */
} kd_sum_lead_attr;

/* reduce [any]: mean, sum or maximum over the dims in `axes`, which are removed.
 *   in   x (...)
 *   out  y of the remaining dims
 * reduce_bwd
 *   in   dy, x? (max only), y? (max only), plus?
 *   out  dx of shape x_shape; in place of plus
 * The gradient of a maximum over one dim is passed to the first maximum.  The gradient of a maximum over several dims
 * is split evenly between equal maxima (torch.max, torch.amax). */
typedef enum kd_reduce_kind { KD_REDUCE_MEAN, KD_REDUCE_SUM, KD_REDUCE_MAX } kd_reduce_kind;
typedef struct kd_reduce_attr {
    int32_t kind;
    uint32_t axes;    /* bit i: dim i */
    kd_shape x_shape; /* reduce_bwd: set by the gradient rule */
} kd_reduce_attr;

/* softmax: y = out_scale softmax(x) over the last dim.
 *   in   x act (..., K)
 *   out  y act, x's shape; in place of x
 * softmax_bwd
 *   in   dy act, y act
 *   out  dx act */
typedef struct kd_softmax_attr {
    float out_scale;
} kd_softmax_attr;

/* ============================ layout =========================================================================== */

/* slice [any]: y = x[.., start : start+len, ..] along axis.
 *   in   x (...)
 *   out  y of x's shape, `len` long along axis
 * slice_bwd: dy at its place, zero elsewhere.
 *   in   dy
 *   out  dx, `full` long along axis */
typedef struct kd_slice_attr {
    int32_t axis;
    int64_t start, len, full; /* full: x's length along axis */
} kd_slice_attr;

/* concat [any]: the operands one after the other along axis.
 *   in   up to KD_CONCAT_MOST operands, equal in all other dims
 *   out  y
 * concat_bwd
 *   in   dy
 *   out  the gradient of each operand, accum */
typedef struct kd_concat_attr {
    int32_t axis;
    int32_t n;                    /* concat_bwd: number of operands */
    int64_t part[KD_CONCAT_MOST]; /* concat_bwd: length of each operand along axis */
} kd_concat_attr;

/* permute [any]: y.dim[i] = x.dim[perm[i]].
 *   in   x (...)
 *   out  y */
typedef struct kd_permute_attr {
    int32_t perm[KD_MAX_RANK];
} kd_permute_attr;

/* qkv_bias: y = [q_bias, 0, v_bias].
 *   in   q_bias stat (C), v_bias stat (C)
 *   out  y stat (3C)
 * qkv_bias_bwd
 *   in   d stat (3C)
 *   out  dq stat (C) accum, dv stat (C) accum */

/* ============================ transformer ====================================================================== */

/* linear: pre = x W^T + b, y = f(pre), f of `act`.
 *   in   x act (..., Ci), W act (Co, Ci), b? stat (Co)
 *   out  y act (..., Co), stat with stat_out; pre? act (..., Co), only with an activation and without stat_out
 * Models build linear without activation.  The compiler's fusion sets `act` (graph/fuse.c), and training keeps pre for
 * the gradient.
 * linear_bwd_x: dx = dy W; with pre, dx = (dy W) f'(pre).
 *   in   dy act (..., Co), W act (Co, Ci), pre? act (..., Ci): the pre-activation of the layer that made x
 *   out  dx act (..., Ci)
 * linear_bwd_w
 *   in   dy act (..., Co), x act (..., Ci)
 *   out  dW stat (Co, Ci) accum, db? stat (Co) accum */
typedef struct kd_linear_attr {
    int32_t act;      /* kd_act_kind */
    int32_t stat_out; /* y is stat */
    int32_t has_bias; /* linear_bwd_w: db exists */
} kd_linear_attr;

/* layernorm: y = (x - mean) rstd gamma + beta over the last dim.  The variance is biased and takes two passes.
 *   in   x act (..., C), gamma stat (C), beta stat (C)
 *   out  y act, mean stat (rows), rstd stat (rows)
 * layernorm_bwd
 *   in   dy act, x act, gamma, mean, rstd
 *   out  dx act, dgamma stat (C) accum, dbeta stat (C) accum */
typedef struct kd_layernorm_attr {
    float eps;
} kd_layernorm_attr;

/* add_layernorm: s = round(a + keep b), y = layernorm(s).
 *   in   a act (B,...,C), b act of a's shape, gamma stat (C), beta stat (C)
 *   out  s act, y act, mean stat (rows), rstd stat (rows); s in place of a
 * keep is the factor of dropout with per_row (drop path): 0 or 1/(1-p), one draw an index of B; 1 where p is 0.
 * add_layernorm_bwd: da = ds + the gradient of layernorm at s, db = keep da.
 *   in   dy act, ds? act, s act, gamma, mean, rstd
 *   out  da act, db? act (exists where p > 0), dgamma stat (C) accum, dbeta stat (C) accum; da in place of dy */
typedef struct kd_add_layernorm_attr {
    float eps;
    float p; /* as in dropout */
    uint32_t rng_id;
} kd_add_layernorm_attr;

/* pool_layernorm: y = layernorm(pooled), pooled = mean of x over N.  pooled is not rounded to act.
 *   in   x act (B,N,C), gamma stat (C), beta stat (C)
 *   out  y act (B,C), pooled stat (B,C), mean stat (B), rstd stat (B)
 * pool_layernorm_bwd
 *   in   dy act (B,C), pooled, gamma, mean, rstd
 *   out  dx act (B,N,C), the same row for every token; dgamma stat (C) accum, dbeta stat (C) accum */
typedef struct kd_pool_layernorm_attr {
    float eps;
    int64_t tokens; /* pool_layernorm_bwd: N */
} kd_pool_layernorm_attr;

/* attention: o = softmax(scale q k^T) v, head by head.
 *   in   qkv act (B,N,3C), C = H*D, D at most KD_MAX_HEAD_DIM; q, k, v are thirds, head h has channels h*D .. h*D+D-1
 *   out  o act (B,N,C), lse stat (B,H,N) = log sum exp of the scaled logits
 * attention_bwd
 *   in   do act (B,N,C), qkv, o, lse
 *   out  dqkv act (B,N,3C) */
typedef struct kd_attention_attr {
    int32_t heads;
    float scale; /* 0: D^-1/2 */
} kd_attention_attr;

/* cos_qk: q' = q / max(|q|, 1e-12) exp(min(log_scale, 4.6052)), k' = k / max(|k|, 1e-12), v unchanged.
 *   in   qkv act (B,N,3C) as in attention, log_scale stat (H)
 *   out  qkv' act (B,N,3C), norms stat (B,N,2,H)
 * cos_qk_bwd
 *   in   dqkv' act, qkv, log_scale, norms
 *   out  dqkv act, dlog_scale stat (H) accum */
typedef struct kd_cos_qk_attr {
    int32_t heads;
} kd_cos_qk_attr;

/* patchify: the pixels of each patch as one row.
 *   in   x, table?, place?, perm?, lam?, cut?
 *   out  rows act (B, N, C*tubelet*patch*patch): patches in (t,y,x) order, pixels of a row in (c,dt,dy,dx) order
 * The pixels pass through these steps in this order (kd_pixels.h):
 *   x, table   x is act or stat (B,C,T,H,W); or u8 pictures (B,T,H,W,3), and `table` stat (3,256) is the value of each
 *              byte by channel
 *   place      i32 (B, KD_PLACE + KD_BOX m).  The clip is mirrored in x; then the m >= 1 erase boxes are filled, one
 *              after the other.  A box may reach beyond the picture.  Noise is N(0,1), a function of (seed,
 *              KD_RNG_SAMPLE, item, epoch) and of the element, or of frame, box and channel (KD_ERASE_RAND)
 *   perm, lam  perm i32 (B) within 0 .. B-1, lam stat (B): lam[i] x[i] + (1 - lam[i]) x[perm[i]]
 *   cut        i32 (B,4) = top, left, height, width.  Where the box of sample i has an area, the mix is x[perm[i]]
 *              inside the box and x[i] outside, and lam[i] is not used
 * patchify_bwd (x act or stat, without any other operand; else there is no gradient)
 *   in   dy act, shape of rows
 *   out  dx (x_shape) of x_dtype */
enum {
    KD_PLACE_FLIP,  /* 0 or 1 */
    KD_PLACE_ERASE, /* what fills the boxes: KD_ERASE_*; any other number is KD_ERASE_PIXEL */
    KD_PLACE_SEED_LOW,
    KD_PLACE_SEED_HIGH,
    KD_PLACE_ITEM,
    KD_PLACE_EPOCH,
    KD_PLACE /* where the boxes begin */
};
enum {
    KD_BOX_FRAME, /* below 0: of every frame */
    KD_BOX_TOP,
    KD_BOX_LEFT,
    KD_BOX_HEIGHT, /* of 0, or a width of 0: no box */
    KD_BOX_WIDTH,
    KD_BOX
};
enum {
    KD_ERASE_PIXEL, /* noise, fresh for each frame, channel and pixel */
    KD_ERASE_RAND,  /* one number for each frame, box and channel */
    KD_ERASE_CONST  /* 0 */
};
typedef struct kd_patchify_attr {
    int32_t tubelet, patch; /* patch: at most KD_MAX_PATCH */
    kd_shape x_shape;
    int32_t x_dtype;
} kd_patchify_attr;

/* ============================ convolution and normalisation ==================================================== */

/* conv2d: y = f(conv(x, W) + b), f of `act`, with symmetric zero padding.  For skeletons H = T and W = V.
 *   in   x act (N,Ci,H,W), W act (Co,Ci/groups,kh,kw), b? stat (Co)
 *   out  y act (N,Co,Ho,Wo)
 * Models build conv2d without activation; the compiler's fusion sets `act` in forward-only programs.
 * conv2d_bwd_x
 *   in   dy act (N,Co,Ho,Wo), W, plus? (only where groups == Ci == Co)
 *   out  dx act (x_shape); in place of plus
 * conv2d_bwd_w
 *   in   dy act, x act
 *   out  dW stat accum, db? stat (Co) accum */
typedef struct kd_conv2d_attr {
    int32_t stride[2], pad[2], dilation[2];
    int32_t groups;
    int32_t act;
    int32_t has_bias;  /* conv2d_bwd_w: db exists */
    int32_t kernel[2]; /* conv2d_bwd_w: kh, kw of dW */
    kd_shape x_shape;  /* conv2d_bwd_x */
} kd_conv2d_attr;

/* conv3d: y = conv(x, W) + b, with symmetric zero padding.  Attributes are in the order T, H, W.
 *   in   x act (N,Ci,T,H,W), W act (Co,Ci/groups,kt,kh,kw), b? stat (Co)
 *   out  y act (N,Co,To,Ho,Wo)
 * conv3d_bwd_x
 *   in   dy act, W
 *   out  dx act (x_shape)
 * conv3d_bwd_w
 *   in   dy act, x act
 *   out  dW stat accum, db? stat (Co) accum */
typedef struct kd_conv3d_attr {
    int32_t stride[3], pad[3], dilation[3];
    int32_t groups;
    int32_t has_bias;  /* conv3d_bwd_w: db exists */
    int32_t kernel[3]; /* conv3d_bwd_w: kt, kh, kw of dW */
    kd_shape x_shape;  /* conv3d_bwd_x */
} kd_conv3d_attr;

/* conv_separable: for each of one or two branches, h = f(depthwise(x, Wd) + bd), f of `act`, and then y = Wp h + bp.
 * The channels of y are those of the first branch, then those of the second.
 *   in   x act (N,C,H,W), then for each branch Wd act (C,1,kh,kw), bd? stat (C), Wp act (Co,C,1,1), bp? stat (Co)
 *   out  y act (N, Co of all branches, Ho,Wo), h? act (N,C,Ho,Wo) of each branch
 * Only the compiler's fusion makes this op: of two conv2d, and of a concat of two conv_separable.  y is computed from h
 * before h is rounded.  h is an output because the gradients, those of concat and conv2d, read it. */
typedef struct kd_conv_separable_attr {
    int32_t stride[2];                 /* of the depthwise convolutions */
    int32_t pad[2][2], dilation[2][2]; /* [branch][dim] */
    int32_t act;
} kd_conv_separable_attr;

/* batchnorm (training): z = (x - mean) gamma / sqrt(var + eps) + beta, y = f_out(path(drop(f(z))) + residual).
 *   in   x act (N,C,...), gamma stat (C), beta stat (C), residual? act (x's shape), running_mean? stat (C),
 *        running_var? stat (C)
 *   out  y act (x's shape), mean stat (C), var stat (C), biased
 * Models build batchnorm with y = z; the compiler's fusion adds the rest (graph/fuse.c):
 *   f, f_out    `act` and `act_out`
 *   drop        dropout of elements with p and rng_id, the same draws as the op's own; none where p is 0
 *   path        dropout of rows (drop path) with path_p and path_rng_id; none where path_p is 0
 *   running_*   both or none; written in place as bn_update does, whichever outputs exist
 * batchnorm_bwd
 *   in   dy act, x, gamma, mean, var, beta? (with act or act_out), residual? (with act_out, where forward had one)
 *   out  dx act, dgamma stat (C) accum, dbeta stat (C) accum, dresidual? act = dy f_out' (only with act_out: without it
 *        dresidual is dy)
 * bn_update [EFFECT]: running = (1 - momentum) running + momentum batch, with the unbiased variance var n/(n-1), n =
 * count (count 1: biased).
 *   in   mean stat (C), var stat (C), running_mean stat (C), running_var stat (C); the last two are written in place
 *   out  none
 * bn_fold: the weights of conv2d followed by batchnorm_eval as one convolution.  s = gamma / sqrt(running_var + eps),
 * W' = s W, b' = s (b - running_mean) + beta.
 *   in   W act (Co,...), b? stat (Co), gamma, beta, running_mean, running_var, all stat (Co)
 *   out  W' act, b' stat (Co)
 * batchnorm_eval: y = f((x - running_mean) / sqrt(running_var + eps) gamma + beta), f of `act`.
 *   in   x act (N,C,...), gamma, beta, running_mean, running_var, all stat (C)
 *   out  y act */
typedef struct kd_batchnorm_attr {
    float eps, momentum;
    int64_t count; /* running statistics: elements per channel */
    int32_t act;
    int32_t act_out; /* batchnorm and batchnorm_bwd alone, as are the members below */
    float p, path_p;
    uint32_t rng_id, path_rng_id;
} kd_batchnorm_attr;

/* ============================ skeleton graphs ================================================================== */

/* joint_mix: y[.., w] = sum_v x[.., v] A[.., v, w]; with `transpose`, A[.., w, v].
 *   in   x act, A stat (SAMPLE: act or stat)
 *   out  y act
 *   mode     x               A         y
 *   SHARED   (N,C,T,V)       (V,V)     (N,C,T,V)
 *   EXPAND   (N,C,T,V)       (K,V,V)   (N,K*C,T,V), channel k*C+c uses A[k]
 *   GROUPED  (N,K*C,T,V)     (K,V,V)   (N,K*C,T,V), channel k*C+c uses A[k]
 *   SAMPLE   (N,C,T,V)       (N,V,V)   (N,C,T,V)
 * joint_mix_bwd_x
 *   in   dy act, A, plus?
 *   out  dx act with x_channels channels; in place of plus
 * joint_mix_bwd_a
 *   in   dy act, x act
 *   out  dA stat accum */
typedef enum kd_mix_mode { KD_MIX_SHARED, KD_MIX_EXPAND, KD_MIX_GROUPED, KD_MIX_SAMPLE } kd_mix_mode;
typedef struct kd_joint_mix_attr {
    int32_t mode, transpose;
    int64_t x_channels; /* gradients: channels of x */
    int64_t parts;      /* gradients: K (1 for SHARED, N for SAMPLE) */
} kd_joint_mix_attr;

/* group_sum: y[n,c] = scale sum_k a[n,k] z[n,k*C+c]; a absent: 1.
 *   in   z act (N,K*C,T,V), a? act (N,K)
 *   out  y act (N,C,T,V)
 * group_sum_bwd
 *   in   dy act, z?, a?
 *   out  dz act, da? act */
typedef struct kd_group_sum_attr {
    int32_t parts; /* K */
    float scale;
} kd_group_sum_attr;

/* adj_norm: a normalised adjacency.
 *   in   learned stat (V,V), fixed? stat (V,V)
 *   out  A stat (V,V)
 *   V1   L = learned, S = diag(rowsum(L)^-1/2) with infinite entries replaced by 0, A = S L S; NaN for a negative row
 *        sum
 *   ABS  Q = |fixed + learned|, d = max(rowsum(Q), 1e-6)^-1/2, A[v,w] = d_v Q[v,w] d_w.  The derivative of |.| at 0 is
 *        0; the clamp passes gradient where rowsum >= 1e-6
 * adj_norm_bwd
 *   in   dA stat, learned, fixed?
 *   out  dlearned stat (V,V) accum */
typedef enum kd_adj_norm_mode { KD_ADJ_V1, KD_ADJ_ABS } kd_adj_norm_mode;
typedef struct kd_adj_norm_attr {
    int32_t mode;
} kd_adj_norm_attr;

/* dyn_adj (LAST v1): A = softmax(u^T u) over the last dim, u = e / (|e|_E + 1e-8).
 *   in   e act (N,E,V)
 *   out  A stat (N,V,V)
 * dyn_adj_bwd
 *   in   dA stat, e, A
 *   out  de act */

/* time_shift (TSM): channels [0,s) have y[t] = x[t-1], y[0] = x[0]; channels [s,2s) have y[t] = x[t+1], y[T-1] =
 * x[T-1]; the other channels are copied.  s is `channels`.
 *   in   x act (N,C,T,V)
 *   out  y act
 * The gradient is the same op with `reverse`, the adjoint. */
typedef struct kd_time_shift_attr {
    int32_t channels, reverse;
} kd_time_shift_attr;

/* joint_gather: y[n,c,t,v] = x[n,c,t,idx[c,v]] + w[v,c].  Joint shifts (any number of them composed into one map) and a
 * joint embedding in one pass.
 *   in   x act (N,C,T,V), idx i32 (C,V) within 0 .. V-1, w? stat (V,C)
 *   out  y act
 * joint_gather_bwd_x: the scatter-add of dy.
 *   in   dy act, idx, plus?
 *   out  dx act; in place of plus
 * joint_gather_bwd_w: the sum of dy over n and t.
 *   in   dy act
 *   out  dw stat (V,C) accum */

/* body_select: one body of several, or all as samples; NODIFF.
 *   in   x (N,C,T,V,M)
 *   out  y of x's dtype
 *   ACTIVE  (N,C,T,V): the body with the most frames whose sum of |x| over (C,V) is > 0; the first of equals
 *   FIRST   (N,C,T,V): body 0
 *   STACK   (M*N,C,T,V): [all body 0; all body 1; ...] */
typedef enum kd_body_mode { KD_BODY_ACTIVE, KD_BODY_FIRST, KD_BODY_STACK } kd_body_mode;
typedef struct kd_body_select_attr {
    int32_t mode;
} kd_body_select_attr;

/* linear_attention (LAST v1, v2): o = (phi(q) KV) / guard(phi(q) . sum_t phi(k_t)), KV = sum_t phi(k_t) v_t^T per head,
 * phi(u) = elu(u) + 1, guard(z) = z + 1e-6 (v1) or max(z, 1e-4) (v2; no gradient below).  Logits are not scaled.
 *   in   qkv act (S,T,3C) as in attention, D at most KD_MAX_LINEAR_HEAD_DIM
 *   out  o act (S,T,C)
 * linear_attention_bwd
 *   in   do act, qkv
 *   out  dqkv act */
typedef enum kd_linear_guard { KD_GUARD_ADD, KD_GUARD_CLAMP } kd_linear_guard;
typedef struct kd_linear_attention_attr {
    int32_t heads;
    int32_t guard; /* kd_linear_guard */
} kd_linear_attention_attr;

/* landmark_interp: p = sigmoid(anchor) (T-1), f = trunc(p) clamped to [0,T-2], l = u[f] + (p-f) (u[f+1] - u[f]).
 *   in   u act (N,T,C), T at least 2; anchors stat (K)
 *   out  l act (N,K,C)
 * landmark_interp_bwd (f passes no gradient)
 *   in   dl act, u, anchors
 *   out  du act, danchors stat (K) accum */

/* landmark_attention: p = softmax_k(q k^T / sqrt(D)), o = p v.
 *   in   q act (N,T,D), k act (N,K,D), v act (N,K,D)
 *   out  o act (N,T,D), p act (N,T,K)
 * landmark_attention_bwd
 *   in   do act, q, k, v, p
 *   out  dq act, dk act, dv act */

/* motion: m = mean over (T-1,V) of |x[t+1] - x[t]|.
 *   in   x act (N,C,T,V), T at least 2
 *   out  m act (N,C)
 * motion_bwd
 *   in   dm act, x, plus?
 *   out  dx act; in place of plus */

/* channel_gate: y = x + alpha (x g - x).
 *   in   x act (N,C,T,V), g act (N,C), alpha stat (C)
 *   out  y act
 * channel_gate_bwd
 *   in   dy act, x, g, alpha
 *   out  dx act, dg act, dalpha stat (C) accum */

/* st_gate: y = x + alpha (x at av - x).
 *   in   x act (N,C,T,V), at act (N,C,T), av act (N,C,V), alpha stat (C)
 *   out  y act
 * st_gate_bwd
 *   in   dy act, x, at, av, alpha
 *   out  dx act, dat act, dav act, dalpha stat (C) accum */

/* stc_pool: the statistics that stc_gates reads, in one pass over x.
 *   in   x act (N,C,T,V)
 *   out  time act (N,2,T,1) = mean and maximum over C and V; joint act (N,V) = mean over C and T; ties stat (N,T) = how
 *        many elements of the frame equal its maximum (NaN equals NaN)
 * stc_pool_bwd: dx = djoint / (C T) + dtime[0] / (C V) + (where x is the maximum) dtime[1] / ties.
 *   in   dtime? act, djoint? act, x, time? (with dtime), ties? (with dtime), plus?
 *   out  dx act; in place of plus */

/* stc_gates: at = sigmoid(conv over frames of time with wt, padded by K/2 zeros), av = V softmax_v(sum_u ws[v,u]
 * joint[u]).
 *   in   time act (N,2,T,1), joint act (N,V), wt act (1,2,K) with K odd, ws act (V,V)
 *   out  at act (N,T), av act (N,V)
 * stc_gates_bwd (computes at and av again)
 *   in   dat? act, dav? act, time, joint, wt, ws
 *   out  dtime act, djoint act, dwt stat accum, dws stat accum */

/* stc_gate: y = x (1 - s) + x at av ac s, s = sigmoid(gate); absent factors are 1.
 *   in   x act (N,C,T,V), at act (N,T), av? act (N,V), ac? act (N,C), gate stat (1)
 *   out  y act
 * stc_gate_bwd
 *   in   dy act, x, at, av?, ac?, gate
 *   out  dx act, dat act, dav? act, dac? act, dgate stat (1) accum */

/* gated_add: y = x + sigmoid(gate) o, o broadcast over V.
 *   in   x act (N,C,T,V), o act (N,C,T), gate stat (1)
 *   out  y act
 * gated_add_bwd (dx is dy)
 *   in   dy act, o, gate
 *   out  do act, dgate stat (1) accum */

/* gate_mix: y = s a + (1 - s) b, s = sigmoid(gate).
 *   in   a act (N,C), b act (N,C), gate stat (1) or (C)
 *   out  y act
 * gate_mix_bwd
 *   in   dy act, a, b, gate
 *   out  da act, db act, dgate stat accum */

/* ============================ data that stay on the device ===================================================== */

/* take_rows: y[b] = table[idx[b]]; zeros where idx[b] is outside 0 .. S-1 (use -1); NODIFF.
 *   in   table stat (S, ...), idx i32 (B)
 *   out  y stat (B, ...) */

/* skeleton_streams: augmented streams of normalised sequences, by the formulas of kd_skeleton.h; NODIFF.
 *   in   table stat (S,3,T,V,M), idx i32 (B) as in take_rows, draw stat (B,KD_SKEL_DRAW) = cosine, sine, scale, shear,
 *        idraw i32 (B,KD_SKEL_IDRAW), the numbers listed below
 *   out  joint? stat (B,3,T,V,M), velocity?, bone? and bone_velocity? of the same shape
 * Noise is a function of (seed, KD_RNG_SAMPLE, item, epoch) and the element.  A source frame outside 0 .. T-1 is
 * replaced by the nearest frame. */
enum {
    KD_SKEL_AUGMENTED = 1,
    KD_SKEL_TURNED = 2,
    KD_SKEL_REVERSED = 4,
    KD_SKEL_MIRRORED = 8
}; /* without the first: none */
enum { KD_SKEL_DRAW = 4, KD_SKEL_STREAMS = 4 };
enum {
    KD_SKEL_FLAGS,
    KD_SKEL_SPEED_FRAMES, /* length and start of the part kept; length 0: all */
    KD_SKEL_SPEED_START,
    KD_SKEL_MASKED_LOW,  /* bit v: joint v is zeroed */
    KD_SKEL_MASKED_HIGH, /* the same of joint 32 + v */
    KD_SKEL_SEED_LOW,
    KD_SKEL_SEED_HIGH,
    KD_SKEL_ITEM,
    KD_SKEL_EPOCH,
    KD_SKEL_IDRAW
};
typedef struct kd_skeleton_streams_attr {
    double sigma[KD_SKEL_STREAMS];          /* noise of joint, velocity, bone, bone velocity; 0: none */
    double clamp;                           /* results are clamped to +- this; 0: not clamped */
    uint8_t parent[KD_SKELETON_MAX_JOINTS]; /* a joint that is its own parent has a bone of 0 */
    uint8_t mirror[KD_SKELETON_MAX_JOINTS]; /* the joint on the other side */
    int32_t scored;                         /* coordinates are x, y and a confidence, 0: not seen */
} kd_skeleton_streams_attr;

/* ============================ losses =========================================================================== */

/* class_loss: cross-entropy and distillation of the same logits.
 *   in   z stat (B,K) logits, target? stat (B,K) probabilities, valid? stat (B) 0 or 1, teacher? stat (B,K),
 *        teacher_valid? stat (B) 0 or 1
 *   out  ce? stat (), exists where target does; kd? stat (), exists where teacher does
 *   ce = mean over valid rows of -sum_k target log_softmax(z)
 *   kd = T^2 mean over rows with teacher_valid of KL(softmax(teacher/T) || softmax(z/T))
 * Source of kd: Hinton et al. 2015, section 2.  A mean without a valid row is 0; a row that is not valid is not read.
 * Rows are summed in order.
 * class_loss_bwd: both terms in one pass; target and teacher get no gradient.
 *   in   dce? stat (), dkd? stat (), z, target?, valid?, teacher?, teacher_valid?
 *   out  dz stat (B,K) */
typedef struct kd_class_loss_attr {
    float temperature; /* T; more than 0 where there is a teacher */
    int32_t t_is_prob; /* teacher holds probabilities (mixed teacher targets), used as they are */
} kd_class_loss_attr;

/* feature_loss: MSE = mean over all entries of valid rows of (s - f)^2; COSINE = mean over valid rows of 1 - cos(s,f),
 * norms clamped at 1e-8.
 *   in   s stat (B,P), f stat (B,P), valid? stat (B) 0 or 1
 *   out  loss stat ()
 * feature_loss_bwd
 *   in   dloss stat (), s, f, valid?
 *   out  ds stat (B,P) */
typedef enum kd_feature_kind { KD_FEATURE_MSE, KD_FEATURE_COSINE } kd_feature_kind;
typedef struct kd_feature_loss_attr {
    int32_t kind;
} kd_feature_loss_attr;

/* match_loss: how far a batch is from a teacher's answers, by one of the measures of the literature.
 *   in   a stat (B,K), b stat (B,P), target? stat (B,K), valid? stat (B) 0 or 1
 *   out  loss stat (), grad stat (B,K) = d loss / d a, saved for backward
 * Only valid rows take part, also in what compares rows with each other; n counts them, and with n = 0 the loss is 0.
 * All is computed in f64.  p = softmax(a/T), q = softmax(b/T), or b itself where t_is_prob; y the largest entry of
 * target; a hat: renormalised without class y.  Kinds on scores (P is K; means over rows unless said):
 *   DKD         T^2 (alpha KL of (q_y, 1 - q_y) to (p_y, 1 - p_y) + beta KL(q^ || p^)); Zhao et al. 2022, eq. 7
 *   DIST        T^2 (beta mean over rows of 1 - corr(p, q) + gamma mean over columns of the same); Pearson's
 *               correlation, the product of norms at least 1e-8; Huang et al. 2022, eq. 6 to 9
 *   NKD         -q_y log p_y, both at T = 1, - gamma T^2 sum q^ log p^; Yang et al. 2023, eq. 9
 *   LOGIT_STD   T^2 KL of the softmaxes after (x - mean)/(std + 1e-7) row by row; Sun et al. 2024
 *   LOGIT_MSE   mean over all entries of (a - b)^2; Ba and Caruana 2014
 *   TOPK        T^2 sum r (log r - log p), r: the k largest of q, the others by `tail`
 *   JSD         T^2 (KL(p || m) + KL(q || m))/2, m = (p + q)/2; Lin 1991
 * Kinds on features (P may be another width but for INFONCE):
 *   RKD_DISTANCE  smooth L1, mean over all n^2 pairs, of distances divided by their mean over the pairs of different
 *                 rows; squared distances at least 1e-12; Park et al. 2019, eq. 5
 *   RKD_ANGLE     the same over the n^3 cosines of angles between rows; Park et al. 2019, eq. 8
 *   SP            squared difference of the Gram matrices, rows at length 1, over n^2; Tung and Mori 2019, eq. 3
 *   PKT           mean over n^2 pairs of u log((u + eps)/(v + eps)), u of the teacher and v: (cos + 1)/2, rows at sum
 *                 1, eps 1e-7; Passalis and Tefas 2018, eq. 8, eps as in their code
 *   INFONCE       cross-entropy of cos(a_i, b_j)/T over j with j = i as target, norms at least 1e-8; van den Oord et
 *                 al. 2018, eq. 4
 * Of features and a table of classes, b stat (C,K), target stat (B,C):
 *   CLASS_EMBED   mean over rows of -sum_c target_c log softmax_c(cos(a_i, b_c)/T), norms at least 1e-8 (a classifier
 *                 whose weights are the embeddings of the classes' names; Radford et al. 2021, section 3.1.2)
 * match_loss_bwd: b and target get no gradient.
 *   in   dloss stat (), grad stat (B,K)
 *   out  da stat (B,K) */
typedef enum kd_match_kind {
    KD_MATCH_DKD,
    KD_MATCH_DIST,
    KD_MATCH_NKD,
    KD_MATCH_LOGIT_STD,
    KD_MATCH_LOGIT_MSE,
    KD_MATCH_TOPK,
    KD_MATCH_JSD,
    KD_MATCH_RKD_DISTANCE,
    KD_MATCH_RKD_ANGLE,
    KD_MATCH_SP,
    KD_MATCH_PKT,
    KD_MATCH_INFONCE,
    KD_MATCH_CLASS_EMBED,
    KD_MATCH_KINDS
} kd_match_kind;
/* What TOPK gives the classes beyond the k largest: nothing; nothing, and the k scaled to sum 1; the mass that the k
 * leave, in equal parts. */
typedef enum kd_tail { KD_TAIL_ZERO, KD_TAIL_RENORM, KD_TAIL_UNIFORM } kd_tail;
typedef struct kd_match_loss_attr {
    int32_t kind;
    int32_t t_is_prob; /* b holds probabilities (mixed teacher targets), used as they are */
    int32_t k, tail;   /* TOPK */
    double p[3];       /* T first where the kind has one; then DKD: alpha, beta; DIST: beta, gamma; NKD: gamma */
} kd_match_loss_attr;

/* weighted_sum: sum_i w[i] x_i.  The gradient is one scale an operand.
 *   in   up to 6 operands x_i stat ()
 *   out  y stat () */
typedef struct kd_weighted_sum_attr {
    float w[6];
} kd_weighted_sum_attr;

/* ============================ optimiser ======================================================================== */

/* kd_optim calls these ops on the flat slabs of kd_params.  No graph contains them: they have no rules.
 *   in, out     out[i] is in[i], updated in place; an absent in[i] has an absent out[i]
 *   real        the parameters' dtype: f32, f64 in tests
 *   seg         i64 (S,2) = offset and count in elements, ascending and disjoint
 *   seg_f       f32 (S,2) = learning rate factor and weight decay of each segment
 *   ctl         f64 (KD_CTL_COUNT) in device memory
 * What lies between segments is padding and stays as it is.  ctl holds all numbers that differ from step to step, so
 * that the host need not wait for the gradient's norm and a captured graph contains no frozen number.  A step whose
 * norm is not finite has APPLY 0 and changes nothing. */
enum {
    KD_CTL_LR,         /* written by the host before each step; optim_control writes the others */
    KD_CTL_T,          /* steps applied: the t of the bias correction */
    KD_CTL_NORM,       /* global gradient norm before clipping, loss scale divided out */
    KD_CTL_APPLY,      /* 1: the norm is finite */
    KD_CTL_MULT,       /* factor of the gradients: clip factor over loss scale */
    KD_CTL_BIAS1,      /* 1 - beta1^T */
    KD_CTL_BIAS2,      /* 1 - beta2^T */
    KD_CTL_LOSS_SCALE, /* fp16: factor of the loss (kd_step.loss_scale); else 1 */
    KD_CTL_GOOD,       /* finite steps since the loss scale last changed */
    KD_CTL_SKIPPED,    /* steps not applied, in all */
    KD_CTL_COUNT = 16
};

/* optim_control [EFFECT]: norm = sqrt(sum) / LOSS_SCALE, clip factor = min(1, clip / (norm + 1e-6)), 1 where clip is 0
 * (torch clip_grad_norm_).
 *   in   ctl, sum f64 () = squared norm of the gradient as stored
 *   out  ctl
 * With grow_every > 0 the loss scale is halved, to no less than 1, by a step that is not finite, and doubled, to no
 * more than 2^24, after grow_every finite steps in a row (the rule of torch.amp.GradScaler). */
typedef struct kd_optim_control_attr {
    double clip, beta1, beta2;
    int64_t grow_every;
} kd_optim_control_attr;

/* adamw [EFFECT].  With g' = MULT g and lr' = LR factor, in PyTorch's order:
 *   p *= 1 - lr' wd;  m += (1 - beta1) (g' - m);  v = beta2 v + (1 - beta2) g' g';
 *   p -= lr' / BIAS1 * m / (sqrt(v) / sqrt(BIAS2) + eps)
 * then ema = ema_decay ema + (1 - ema_decay) p, and shadow = p, rounded.
 *   in   p real (n), m real (n), v real (n), ema? real (n), shadow? act (n), g real (n), seg, seg_f, ctl
 *   out  p, m, v, ema, shadow
 * Source: Loshchilov and Hutter 2019, algorithm 2. */
typedef struct kd_adamw_attr {
    double beta1, beta2, eps;
    double ema_decay;
} kd_adamw_attr;

/* sgd [EFFECT].  d = MULT g + wd p;  buf = T == 1 ? d : momentum buf + d;
 *   p -= lr' (nesterov ? d + momentum buf : buf); ema and shadow as in adamw.
 *   in   p, buf? (absent only where momentum is 0: d is used), ema?, shadow? act, g, seg, seg_f, ctl
 *   out  p, buf, ema, shadow */
typedef struct kd_sgd_attr {
    double momentum;
    int32_t nesterov;
    double ema_decay;
} kd_sgd_attr;

/* grad_norm: the sum of squares of g, in f64, in an order fixed by n.
 *   in   g real (n)
 *   out  f64 () */

/* ema [EFFECT]: avg = decay avg + (1 - decay) x.  Averaged running statistics follow the averaged parameters.
 *   in   avg real (n), x real (n), ctl
 *   out  avg */
typedef struct kd_ema_attr {
    double decay;
} kd_ema_attr;

#ifdef __cplusplus
}
#endif
#endif
