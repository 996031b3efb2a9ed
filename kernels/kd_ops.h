/* The operations: attributes, operands and contracts.  One comment block an op; kernels are in cpu/ (reference), fast/
 * (oneDNN, AVX) and cuda/.
 *
 * Reading the contracts: `act` is the program's activation dtype, `stat` its statistics dtype (f32, or f64 in f64
 * programs).  "x act (N,C,T,V)" means dtype and shape.  `?` marks an operand that may be absent.  A `_bwd` op lists the
 * forward operands it reads; outputs named d* are gradients, those of parameters are stat and honour accum.
 * Dims: B batch, N tokens (or samples in student ops), C channels, H heads, D head dim, T frames, V joints, M persons,
 * K classes, partitions or landmarks.  Weight-like operands (W of linear and convolutions) are act, their gradients
 * stat.
 *
 * `plus?` of a gradient is act, what else is known of dx: it is added before dx is rounded, and dx may be plus.  The
 * compiler gives it (kd_fuse.c), gradient rules never do.
 *
 * Utility ops marked [any] accept operands that are all act or all stat: they serve weights and adjacencies as well.
 */
#ifndef KD_KERNELS_KD_OPS_H
#define KD_KERNELS_KD_OPS_H

#include "kernels/kd_op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kd_act_kind {
    KD_ACT_NONE,
    KD_ACT_RELU,
    KD_ACT_GELU,      /* exact erf form */
    KD_ACT_HARDSWISH, /* x clip(x+3,0,6)/6; derivative 0 below -3, 1 above 3, else x/3 + 1/2 */
    KD_ACT_SILU,
    KD_ACT_SIGMOID
} kd_act_kind;

/* ============================ utility and elementwise (op/elementwise.c, op/layout.c, op/reduce.c) ============= */

/* add [any]: a, b -> y.  b has a's shape or a suffix of it (broadcast over leading dims).  y may be a. */
/* sum_lead [any]: x, -> y stat or x's dtype; sums the leading dims away; honours accum. */
typedef struct kd_sum_lead_attr {
    int32_t keep;    /* how many trailing dims stay */
    int32_t to_stat; /* result in stat dtype (parameter gradient) */
} kd_sum_lead_attr;
/* scale [any]: x -> y = value * x; honours accum.  y may be x. */
typedef struct kd_scale_attr {
    float value;
} kd_scale_attr;
/* mul [any]: a, b of one shape -> y; honours accum. */
/* act: x -> y.  act_bwd: x, dy -> dx. */
typedef struct kd_act_attr {
    int32_t kind; /* kd_act_kind */
} kd_act_attr;
/* dropout: x (rows, ...) -> y = x * mask / (1-p).  per_row: one draw a leading index (drop path), else one an element.
 * keep iff kd_rng_unit(kd_rng_at(step.seed, KD_RNG_DROPOUT, rng_id, step.step, i)) >= p, i the element or row index.
 * Linear in x: its backward is the same op on dy. */
typedef struct kd_dropout_attr {
    float p;
    uint32_t rng_id;
    int32_t per_row;
} kd_dropout_attr;
/* scale_last: x act (..., C), g stat (C) -> y = x * g.  scale_last_bwd: x, g, dy -> dx, dg. */
/* cast: x -> y of another floating dtype; honours accum. */
typedef struct kd_cast_attr {
    int32_t to; /* kd_dtype */
} kd_cast_attr;
/* slice [any]: x -> y = x[.., start : start+len, ..] along axis.  slice_bwd: dy -> dx, zero elsewhere (full = dim of
 * x). */
typedef struct kd_slice_attr {
    int32_t axis;
    int64_t start, len, full;
} kd_slice_attr;
/* concat [any]: up to 8 inputs -> y along axis.  concat_bwd: dy -> the gradient of each input (accum). */
#define KD_CONCAT_MOST 8
typedef struct kd_concat_attr {
    int32_t axis;
    int32_t n; /* bwd: inputs of concat, and how long each is along axis */
    int64_t part[KD_CONCAT_MOST];
} kd_concat_attr;
/* permute [any]: x -> y, y.dim[i] = x.dim[perm[i]]. */
typedef struct kd_permute_attr {
    int32_t perm[KD_MAX_RANK];
} kd_permute_attr;
/* reduce: x act -> y act, the dims in `axes` (bit i = dim i) removed.
 * reduce_bwd: dy, x?, y? (max only), plus? (x_shape) -> dx.  Max over one dim sends the gradient to the first maximum,
 * over several dims splits it evenly between ties (torch max / amax). */
typedef enum kd_reduce_kind { KD_REDUCE_MEAN, KD_REDUCE_SUM, KD_REDUCE_MAX } kd_reduce_kind;
typedef struct kd_reduce_attr {
    int32_t kind;
    uint32_t axes;
    kd_shape x_shape; /* filled by the rule for reduce_bwd */
} kd_reduce_attr;
/* softmax: x act (..., K) -> y = out_scale * softmax over the last dim.  softmax_bwd: dy, y -> dx. */
typedef struct kd_softmax_attr {
    float out_scale;
} kd_softmax_attr;
/* mixup: x (B, ...), perm i32 (B), lam stat (B) -> y[i] = lam[i] x[i] + (1 - lam[i]) x[perm[i]]; NODIFF. */
/* grad_seed: -> scalar stat = step.grad_scale, times *step.loss_scale where there is one.  The start of every
 * backward. */
typedef struct kd_grad_seed_attr {
    int32_t dtype; /* kd_dtype of the loss */
} kd_grad_seed_attr;

/* ============================ transformer ====================================================================== */

/* linear: x act (..., Ci), W act (Co, Ci), b? stat (Co) -> y (..., Co) = act(pre), pre? act (..., Co) = x W^T + b.
 * `act` is set by the compiler's fusion (kd_fuse.c); pre exists with one, and training keeps it.  stat_out: y in the
 * stat dtype, and no pre.
 * linear_bwd_x: dy act, W, pre? act (..., Ci) -> dx = (dy W) act'(pre): the activation is that of the layer before,
 * whose gradient is taken along; none without pre.   linear_bwd_w: dy act, x -> dW stat (Co,Ci), db? stat (Co); both
 * honour accum. */
typedef struct kd_linear_attr {
    int32_t act;
    int32_t stat_out;
    int32_t has_bias; /* bwd_w: db exists */
} kd_linear_attr;
/* layernorm: x act (..., C), gamma stat (C), beta stat (C) -> y act, mean stat (rows), rstd stat (rows).
 * layernorm_bwd: dy, x, gamma, mean, rstd -> dx act, dgamma stat, dbeta stat (accum).  Two-pass variance, biased. */
typedef struct kd_layernorm_attr {
    float eps;
} kd_layernorm_attr;
/* add_layernorm: a act (B,...,C), b act (same), gamma stat (C), beta stat (C) -> s act = a + keep b, y act, mean stat
 * (rows), rstd stat (rows): the layernorm of s as it is stored.  keep is dropout's factor with per_row (drop path): 0
 * or 1 / (1-p), one draw for each index of B; 1 where p is 0.  s may be a.
 * add_layernorm_bwd: dy, ds?, s, gamma, mean, rstd -> da act = ds + the layernorm's dx, db act = keep da (exists where
 * p > 0), dgamma, dbeta (accum).  da may be dy. */
typedef struct kd_add_layernorm_attr {
    float eps;
    float p;
    uint32_t rng_id;
} kd_add_layernorm_attr;
/* pool_layernorm: x act (B,N,C), gamma stat (C), beta stat (C) -> y act (B,C) = layernorm(mean of x over N), pooled
 * stat (B,C) = that mean, mean stat (B), rstd stat (B).  The mean is not rounded to act in between.
 * pool_layernorm_bwd: dy, pooled, gamma, mean, rstd -> dx act (B,N,C), the same row for all N; dgamma stat, dbeta stat
 * (accum). */
typedef struct kd_pool_layernorm_attr {
    float eps;
    int64_t tokens; /* bwd: N */
} kd_pool_layernorm_attr;
/* qkv_bias: q_bias stat (C), v_bias stat (C) -> (3C) = [q_bias, 0, v_bias].  qkv_bias_bwd: d (3C) -> dq, dv (accum). */
/* attention: qkv act (B,N,3C), C = H*D, channel h*D+d in each third -> o act (B,N,C), lse stat (B,H,N).
 * o = softmax(scale q k^T) v; lse = log sum exp of the scaled logits.  scale 0 means D^-1/2.
 * attention_bwd: do, qkv, o, lse -> dqkv. */
typedef struct kd_attention_attr {
    int32_t heads;
    float scale;
} kd_attention_attr;
/* cos_qk: qkv act (B,N,3C), log_scale stat (H) -> qkv' act with q' = q/max(|q|,1e-12) * exp(min(log_scale, 4.6052)),
 * k' = k/max(|k|,1e-12), v unchanged; norms stat (B,N,2,H).  cos_qk_bwd: dqkv', qkv, log_scale, norms -> dqkv,
 * dlog_scale. */
typedef struct kd_cos_qk_attr {
    int32_t heads;
} kd_cos_qk_attr;
/* patchify: x, table?, place?, perm?, lam?, cut? -> rows act (B, N, C*t*p*p), N in (t,y,x) order, row in (c,dt,dy,dx)
 * order; patch is at most 512.  What a clip goes through on the way, in this order (op/patchify.c, kd_pixels.h):
 *   x      act or stat (B,C,T,H,W); or u8 pictures (B,T,H,W,3) with `table` stat (3,256), the value of each byte by
 *   channel place  i32 (B,KD_PLACE): mirrored in x; then the erase box holds N(0,1) noise, fresh for each frame,
 *          channel and pixel, a function of (seed, KD_RNG_SAMPLE, item, epoch) and the element.  A box may reach beyond
 *          the picture
 *   perm   i32 (B) within 0 .. B-1, lam stat (B): lam[i] x[i] + (1 - lam[i]) x[perm[i]]; with `cut` i32 (4) = top,
 *          left, height, width of some area instead x[perm[i]] inside that box and x[i] outside (lam is not used)
 * patchify_bwd: dy -> dx (x_shape), of x act or stat alone: with any other operand there is no gradient. */
enum {
    KD_PLACE_FLIP, /* 0 or 1 */
    KD_PLACE_TOP,  /* the erase box; a height or width of 0: none */
    KD_PLACE_LEFT,
    KD_PLACE_HEIGHT,
    KD_PLACE_WIDTH,
    KD_PLACE_SEED_LOW,
    KD_PLACE_SEED_HIGH,
    KD_PLACE_ITEM,
    KD_PLACE_EPOCH,
    KD_PLACE
};
typedef struct kd_patchify_attr {
    int32_t tubelet, patch;
    kd_shape x_shape;
    int32_t x_dtype;
} kd_patchify_attr;

/* ============================ convolution and normalisation ===================================================== */

/* conv2d: x act (N,Ci,H,W), W act (Co,Ci/groups,kh,kw), b? stat (Co) -> y act (N,Co,Ho,Wo) = act(conv + b).
 * For skeletons H = T, W = V.  Symmetric padding.  `act` as in linear.
 * conv2d_bwd_x: dy, W, plus? (x_shape; where groups == Ci == Co) -> dx (x_shape).  conv2d_bwd_w: dy, x -> dW stat, db?
 * stat (accum). */
typedef struct kd_conv2d_attr {
    int32_t stride[2], pad[2], dilation[2];
    int32_t groups;
    int32_t act;
    int32_t has_bias;
    int32_t kernel[2]; /* bwd_w: shape of dW */
    kd_shape x_shape;  /* bwd_x */
} kd_conv2d_attr;
/* conv3d: x act (N,Ci,T,H,W), W act (Co,Ci/groups,kt,kh,kw), b? stat (Co) -> y act (N,Co,To,Ho,Wo) = conv + b.  Three
 * of each in the order T, H, W; symmetric padding.
 * conv3d_bwd_x: dy, W -> dx (x_shape).  conv3d_bwd_w: dy, x -> dW stat, db? stat (accum). */
typedef struct kd_conv3d_attr {
    int32_t stride[3], pad[3], dilation[3];
    int32_t groups;
    int32_t has_bias;
    int32_t kernel[3]; /* bwd_w: shape of dW */
    kd_shape x_shape;  /* bwd_x */
} kd_conv3d_attr;
/* conv_separable: x act (N,C,H,W), then one branch or two of Wd act (C,1,kh,kw), bd? stat (C), Wp act (Co,C,1,1), bp?
 * stat (Co)
 *   -> y act (N, Co of all branches, Ho,Wo), then h? act (N,C,Ho,Wo) of each branch: h = act(depthwise convolution of x
 *   by Wd, + bd); y = Wp h + bp, the branches one behind the other along the channels.
 * Made by the compiler's fusion of two conv2d, and of a concat of two of these, never by a model.  y is computed from h
 * before it is rounded; h is what the gradients need, which are those of concat and conv2d.  `act` as in linear. */
typedef struct kd_conv_separable_attr {
    int32_t stride[2];                 /* of the depthwise convolutions */
    int32_t pad[2][2], dilation[2][2]; /* of the first branch's and the second's */
    int32_t act;
} kd_conv_separable_attr;
/* batchnorm (training): x act (N,C,...), gamma stat (C), beta stat (C) -> y act, mean stat (C), var stat (C, biased).
 *   With what the compiler's fusion puts behind it (kd_fuse.c; never a model), residual? act (shape of x):
 *     z = (x - mean) gamma / sqrt(var + eps) + beta;  y = act_out(path(drop(act(z))) + residual)
 *   drop is `dropout` of elements with p and rng_id, path that of rows (drop path) with path_p and path_rng_id, the
 *   same draws as the op's own; a p of 0: none.  running_mean? stat, running_var? stat (both or none) are written in
 *   place as bn_update does, whichever outputs there are.
 * batchnorm_bwd: dy, x, gamma, mean, var, beta?, residual? -> dx, dgamma, dbeta (accum), dresidual.  beta is there with
 *   act or act_out, residual with act_out where forward had one, and then dresidual = dy act_out'; without act_out it
 *   would be dy itself.
 * bn_update [EFFECT]: mean, var, running_mean, running_var -> (none); writes in[2], in[3] in place:
 *   running = (1-momentum) running + momentum batch, with the unbiased variance n/(n-1) (n = count; count 1: biased).
 * bn_fold: W act (Co,..), b? stat, gamma, beta, running_mean, running_var -> W' act, b' stat: a convolution with the
 *   batchnorm_eval behind it folded in.
 * batchnorm_eval: x, gamma, beta, running_mean, running_var -> y = act((x-rm)/sqrt(rv+eps)*gamma+beta). */
typedef struct kd_batchnorm_attr {
    float eps, momentum;
    int64_t count; /* running statistics: elements per channel */
    int32_t act;
    int32_t act_out; /* this one and those below: batchnorm in training alone */
    float p, path_p;
    uint32_t rng_id, path_rng_id;
} kd_batchnorm_attr;

/* ============================ skeleton graphs ==================================================================== */

/* joint_mix: x act, A stat -> y act (.., w) = sum_v x[.., v] A[.., v, w]  (transpose: A[.., w, v]).
 *   SHARED  x (N,C,T,V), A (V,V)            -> (N,C,T,V)
 *   EXPAND  x (N,C,T,V), A (K,V,V)          -> (N,K*C,T,V), channel k*C+c
 *   GROUPED x (N,K*C,T,V), A (K,V,V)        -> (N,K*C,T,V), group k uses A[k]
 *   SAMPLE  x (N,C,T,V), A act-or-stat (N,V,V) -> (N,C,T,V)
 * joint_mix_bwd_x: dy, A, plus? (dx's shape) -> dx (x has channels x_channels).  joint_mix_bwd_a: dy, x -> dA stat
 * (accum). */
typedef enum kd_mix_mode { KD_MIX_SHARED, KD_MIX_EXPAND, KD_MIX_GROUPED, KD_MIX_SAMPLE } kd_mix_mode;
typedef struct kd_joint_mix_attr {
    int32_t mode, transpose;
    int64_t x_channels; /* bwd: channels of x */
    int64_t parts;      /* bwd: K (1 for SHARED, N for SAMPLE) */
} kd_joint_mix_attr;
/* group_sum: z act (N,K*C,T,V), a? act (N,K) -> y act (N,C,T,V) = scale * sum_k a[n,k] z[n,k*C+c].
 * group_sum_bwd: dy, z?, a? -> dz, da?. */
typedef struct kd_group_sum_attr {
    int32_t parts;
    float scale;
} kd_group_sum_attr;
/* adj_norm: learned stat (V,V), fixed? stat (V,V) -> A stat (V,V).
 *   V1:  A = S L S, S = diag(rowsum(L)^-1/2), infinite entries of S replaced by 0; NaN for a negative row sum
 *   ABS: B = |fixed + L|, d = max(rowsum(B), 1e-6)^-1/2, A[v,w] = d_v B[v,w] d_w   (derivative of |.| at 0 is 0;
 *        the clamp passes gradient where rowsum >= 1e-6)
 * adj_norm_bwd: dA, learned, fixed? -> dlearned (accum). */
typedef enum kd_adj_norm_mode { KD_ADJ_V1, KD_ADJ_ABS } kd_adj_norm_mode;
typedef struct kd_adj_norm_attr {
    int32_t mode;
} kd_adj_norm_attr;
/* dyn_adj (LAST v1): e act (N,E,V) -> A stat (N,V,V) = softmax over the last dim of (u^T u), u = e/(|e|_E + 1e-8).
 * dyn_adj_bwd: dA stat, e, A -> de. */
/* time_shift (TSM): x act (N,C,T,V) -> y.  Channels [0,s): y[t] = x[t-1], y[0] = x[0]; [s,2s): y[t] = x[t+1],
 * y[T-1] = x[T-1]; rest copied.  reverse: the adjoint (used as its own backward). */
typedef struct kd_time_shift_attr {
    int32_t channels, reverse;
} kd_time_shift_attr;
/* joint_gather: x act (N,C,T,V), idx i32 (C,V), w? stat (V,C) -> y[n,c,t,v] = x[n,c,t,idx[c,v]] + w[v,c]: joint shifts
 * (any number of them composed into one map) and a joint embedding in one pass.
 * joint_gather_bwd_x: dy, idx, plus? (dx's shape) -> dx (scatter-add).  joint_gather_bwd_w: dy -> dw (accum), the sum
 * over n and t. */
/* linear_attention (LAST v1): qkv act (S,T,3C) -> o act (S,T,C); phi(u) = elu(u)+1 on q and k, no scaling;
 * o = (phi(q) KV) / (phi(q) . sum_t phi(k) + 1e-6), KV = sum_t phi(k_t) v_t^T per head.  linear_attention_bwd: do, qkv
 * -> dqkv. */
typedef struct kd_linear_attention_attr {
    int32_t heads;
} kd_linear_attention_attr;
/* motion: x act (N,C,T,V) -> m act (N,C) = mean over (T-1,V) of |x[t+1]-x[t]|.  motion_bwd: dm, x, plus? (x's
 * shape) -> dx. */
/* channel_gate: x act (N,C,T,V), g act (N,C), alpha stat (C) -> y = x + alpha (x g - x).
 * channel_gate_bwd: dy, x, g, alpha -> dx, dg, dalpha (accum). */
/* st_gate: x act (N,C,T,V), at act (N,C,T), av act (N,C,V), alpha stat (C) -> y = x + alpha (x at av - x).
 * st_gate_bwd: dy, x, at, av, alpha -> dx, dat, dav, dalpha (accum). */
/* stc_pool: x act (N,C,T,V) -> time act (N,2,T,1): mean and maximum over C and V; joint act (N,V): mean over C and T;
 * ties stat (N,T): how many elements equal the maximum (NaN equals NaN).  What stc_gate is computed from, in one pass.
 * stc_pool_bwd: dtime?, djoint?, x, time?, ties?, plus? (x's shape) -> dx = djoint / (C T) + dtime[0] / (C V), and
 * where x is the maximum + dtime[1] / ties.  time and ties belong to dtime. */
/* stc_gates: the gates of stc_gate from the statistics of its x: time act (N,2,T,1), joint act (N,V), wt act (1,2,K),
 * ws act (V,V)
 *   -> at act (N,T) = sigmoid(convolution of time over frames with wt, K odd, padded by K/2 zeros),
 *      av act (N,V) = V softmax_v(sum_u ws[v,u] joint[u]).
 * stc_gates_bwd: dat?, dav?, time, joint, wt, ws -> dtime, djoint, dwt stat (accum), dws stat (accum).  Gates are made
 * again. */
/* stc_gate: x act (N,C,T,V), at act (N,T), av? act (N,V), ac? act (N,C), gate stat (1) ->
 *   y = x (1-s) + x at av ac s, s = sigmoid(gate); absent factors are 1.
 * stc_gate_bwd: dy, x, at, av?, ac?, gate -> dx, dat, dav?, dac?, dgate (accum). */
/* landmark_interp: u act (N,T,C), anchors stat (K) -> l act (N,K,C): p = sigmoid(anchor) (T-1); f = trunc(p) clamped to
 * [0,T-2]; l = u[f] + (p-f)(u[f+1]-u[f]).  landmark_interp_bwd: dl, u, anchors -> du, danchors (accum; only through
 * p-f). */
/* landmark_attention: q act (N,T,D), k act (N,K,D), v act (N,K,D) -> o act (N,T,D), p act (N,T,K) =
 * softmax_k(q.k/sqrt(D)). landmark_attention_bwd: do, q, k, v, p -> dq, dk, dv. */
/* gated_add: x act (N,C,T,V), o act (N,C,T), gate stat (1) -> y = x + sigmoid(gate) o (broadcast over V).
 * gated_add_bwd: dy, o, gate -> do, dgate (accum). */
/* gate_mix: a act (N,C), b act (N,C), gate stat (1) or (C) -> y = s a + (1-s) b, s = sigmoid(gate).
 * gate_mix_bwd: dy, a, b, gate -> da, db, dgate (accum). */
/* body_select: x (N,C,T,V,M) -> bodies; NODIFF.
 *   ACTIVE (N,C,T,V): the body with the most frames whose sum of |x| over (C,V) is > 0, first on a tie
 *   FIRST  (N,C,T,V): body 0
 *   STACK  (M*N,C,T,V): [all body 0; all body 1; ...] */
typedef enum kd_body_mode { KD_BODY_ACTIVE, KD_BODY_FIRST, KD_BODY_STACK } kd_body_mode;
typedef struct kd_body_select_attr {
    int32_t mode;
} kd_body_select_attr;

/* ============================ data that stay on the device (op/resident.c)
 * ========================================= */

/* take_rows: table stat (S, ...), idx i32 (B) -> y stat (B, ...), y[b] = table[idx[b]], zeros where idx[b] is outside 0
 * .. S-1 (by custom -1); NODIFF. */
/* skeleton_streams: table stat (S,3,T,V,M) of normalised sequences, idx i32 (B) as in take_rows, draw stat (B,4) =
 * cosine, sine, scale, shear, idraw i32 (B,8) as listed -> joint?, velocity?, bone? stat (B,3,T,V,M); NODIFF.  The
 * formulas: kd_skeleton.h. Noise is a function of (seed, KD_RNG_SAMPLE, item, epoch) and the element.  A source frame
 * outside 0 .. T-1 is moved to its nearest end. */
#define KD_SKELETON_MAX_JOINTS 32
#define KD_SKELETON_MAX_BODIES 4
/* flags; without the first: none */
enum { KD_SKEL_AUGMENTED = 1, KD_SKEL_TURNED = 2, KD_SKEL_REVERSED = 4, KD_SKEL_MIRRORED = 8 };
enum { KD_SKEL_DRAW = 4 };
enum {
    KD_SKEL_FLAGS,
    KD_SKEL_SPEED_FRAMES, /* length and start of the part kept; length 0: all */
    KD_SKEL_SPEED_START,
    KD_SKEL_MASKED, /* bit v: joint v is zeroed */
    KD_SKEL_SEED_LOW,
    KD_SKEL_SEED_HIGH,
    KD_SKEL_ITEM,
    KD_SKEL_EPOCH,
    KD_SKEL_IDRAW
};
typedef struct kd_skeleton_streams_attr {
    double sigma[3];                        /* noise of joint, velocity, bone; 0: none */
    double clamp;                           /* to +- this; 0: not */
    uint8_t parent[KD_SKELETON_MAX_JOINTS]; /* a joint that is its own parent has a bone of 0 */
    uint8_t mirror[KD_SKELETON_MAX_JOINTS]; /* the joint on the other side */
} kd_skeleton_streams_attr;

/* ============================ losses
 * ================================================================================ */

/* class_loss: z stat (B,K) logits, target? stat (B,K) probabilities, valid? stat (B) 0/1, teacher? stat (B,K),
 * teacher_valid? stat (B) -> ce? stat (), kd? stat ().
 *   ce = mean over valid rows of -sum_k target log_softmax(z); exists where target does
 *   kd = T^2 mean over rows with teacher_valid of KL(softmax(teacher/T) || softmax(z/T)); exists where teacher does
 * A mean without a valid row is 0; a row that is not valid is not read.  t_is_prob: teacher holds probabilities (mixed
 * teacher targets), used as they are.  Rows are summed in order: deterministic.  Source of kd: Hinton et al. 2015,
 * section 2. class_loss_bwd: dce?, dkd?, z, target?, valid?, teacher?, teacher_valid? -> dz, both terms in one pass; no
 * gradient goes to target or teacher. */
typedef struct kd_class_loss_attr {
    float temperature; /* of the second term; more than 0 where there is one */
    int32_t t_is_prob;
} kd_class_loss_attr;
/* feature_loss: s stat (B,P), f stat (B,P), valid? stat (B) -> loss ().  MSE: mean over all valid entries of (s-f)^2;
 * COSINE: mean over valid rows of 1 - cos(s,f), norms clamped at 1e-8.  feature_loss_bwd: dloss, s, f, valid? -> ds. */
typedef enum kd_feature_kind { KD_FEATURE_MSE, KD_FEATURE_COSINE } kd_feature_kind;
typedef struct kd_feature_loss_attr {
    int32_t kind;
} kd_feature_loss_attr;
/* weighted_sum: up to 6 scalar losses stat -> sum_i w[i] x_i.  Its backward is one scale an input. */
typedef struct kd_weighted_sum_attr {
    float w[6];
} kd_weighted_sum_attr;

/* ============================ optimiser
 * ============================================================================ */

/* Called by kd_optim on the flat slabs of kd_params, never by a graph: no shape rule, no gradient.  out[i] is in[i],
 * updated in place; an absent in[i] has an absent out[i].  `real` below is the parameters' dtype (f32, f64 in tests),
 * `act` the one of their low-precision copy.
 * Segments: seg i64 (S,2) = offset, count in elements, ascending and disjoint; seg_f f32 (S,2) = learning rate factor,
 * weight decay.  What lies between segments is padding and stays as it is.
 * What differs from step to step is in ctl f64 (KD_CTL_COUNT), in device memory, so that the host neither waits for the
 * gradient's norm nor freezes a number into a captured graph.  A step whose norm is not finite has APPLY 0: nothing
 * changes. */
enum {
    KD_CTL_LR,    /* written by the host before each step; all others by optim_control */
    KD_CTL_T,     /* steps applied: the t of the bias correction */
    KD_CTL_NORM,  /* global gradient norm before clipping, loss scale divided out */
    KD_CTL_APPLY, /* 1: the norm is finite */
    KD_CTL_MULT,  /* gradients times this: clip factor over loss scale */
    KD_CTL_BIAS1, /* 1 - beta1^T, 1 - beta2^T */
    KD_CTL_BIAS2,
    KD_CTL_LOSS_SCALE, /* fp16: what the loss is multiplied with (kd_step.loss_scale); else 1 */
    KD_CTL_GOOD,       /* finite steps since the loss scale last changed */
    KD_CTL_SKIPPED,    /* steps not applied, in all */
    KD_CTL_COUNT = 16
};
/* optim_control: ctl, sum f64 () the squared norm of the gradient as it is stored -> ctl.
 *   norm = sqrt(sum) / LOSS_SCALE; clip factor = min(1, clip / (norm + 1e-6)), 1 when clip is 0 (torch
 *   clip_grad_norm_). grow_every > 0: the loss scale is halved (to no less than 1) by a step that is not finite and
 *   doubled (to no more than
 *   2^24) after grow_every finite ones in a row (torch.amp.GradScaler's rule). */
typedef struct kd_optim_control_attr {
    double clip, beta1, beta2;
    int64_t grow_every;
} kd_optim_control_attr;
/* adamw: p, m, v, ema?, shadow? act, g, seg, seg_f, ctl -> p, m, v, ema, shadow.  With g' = MULT g and lr' = LR *
 * factor, in PyTorch's order:
 *   p *= 1 - lr' wd;  m += (1 - beta1) (g' - m);  v = beta2 v + (1 - beta2) g' g';
 *   p -= lr' / BIAS1 * m / (sqrt(v) / sqrt(BIAS2) + eps)
 * then ema = ema_decay ema + (1 - ema_decay) p and shadow = p, rounded.  Source: Loshchilov and Hutter 2019, algorithm
 * 2. */
typedef struct kd_adamw_attr {
    double beta1, beta2, eps;
    double ema_decay;
} kd_adamw_attr;
/* sgd: p, buf?, ema?, shadow? act, g, seg, seg_f, ctl -> p, buf, ema, shadow.  d = MULT g + wd p;
 *   buf = T == 1 ? d : momentum buf + d;  p -= lr' * (nesterov ? d + momentum buf : buf).  momentum 0: buf may be
 *   absent, d is used. */
typedef struct kd_sgd_attr {
    double momentum;
    int32_t nesterov;
    double ema_decay;
} kd_sgd_attr;
/* grad_norm: g (n) -> f64 (): sum of squares, in f64, in an order fixed by n. */
/* ema: avg, x, ctl -> avg = decay avg + (1 - decay) x (running statistics follow the parameters' average). */
typedef struct kd_ema_attr {
    double decay;
} kd_ema_attr;

#ifdef __cplusplus
}
#endif
#endif
