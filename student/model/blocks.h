/* Pieces that several students share.  All take and return activations (N,C,T,V). */
#ifndef KD_STUDENT_MODEL_BLOCKS_H
#define KD_STUDENT_MODEL_BLOCKS_H

#include "kernels/kd_layers.h"

/* How a family initialises convolutions: PyTorch's default, or N(0, 2/fan_out) with fan_out =
 * out_channels * kh * kw (not divided by groups) as the reference's own loop does. */
typedef enum kd_block_init { KD_BLOCK_INIT_TORCH, KD_BLOCK_INIT_FAN_OUT } kd_block_init;

typedef struct kd_block_conv {
    int kernel, stride, dilation; /* over frames: kernel (k,1), stride (s,1); zeros mean 1 */
    bool depthwise, bias;
    kd_block_init init;
} kd_block_conv;

/* Convolution over frames with the padding that keeps T (at stride 1). */
kd_val kd_block_conv1d(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_block_conv *o);

/* "<name>.0" convolution, "<name>.1" BatchNorm, then the activation. */
kd_val kd_block_conv_bn(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_block_conv *o, kd_act_kind act);

/* Linear map without bias. */
kd_val kd_block_linear(kd_graph *g, kd_val x, const char *name, int64_t co, kd_init init);

/* One node of joint_mix. */
kd_val kd_block_mix(kd_graph *g, kd_val x, kd_val adj, kd_mix_mode mode, bool transpose);

/* A constant of the program's stat dtype. */
kd_val kd_block_constant(kd_graph *g, const char *name, kd_shape shape, const float *v);

/* A constant of one value: of the program's stat dtype, or an activation. */
kd_val kd_block_constant_of(kd_graph *g, const char *name, kd_shape shape, float value);
kd_val kd_block_filled(kd_graph *g, const char *name, kd_shape shape, float value);

/* A stack of adjacencies (k,V,V) as a constant of the program's stat dtype; k == 0: one (V,V) matrix. */
kd_val kd_block_adjacency(kd_graph *g, const char *name, const float *a, int k, int64_t joints);

/* Body selection. */
kd_val kd_block_bodies(kd_graph *g, kd_val x, kd_body_mode mode);

/* Mean over the bodies of rows stacked [all body 0; all body 1; ...]. */
kd_val kd_block_mean_of_bodies(kd_graph *g, kd_val x, int64_t bodies);

/* StreamFusionConcat in scope "fusion": BatchNorm a stream, concatenation, 1x1 convolution,
 * BatchNorm, activation. */
kd_val kd_block_fusion(kd_graph *g, const kd_val *streams, int n, int64_t co, kd_block_init init, kd_act_kind act);

/* Identity when shape stays, else "residual.0" 1x1 convolution with stride and "residual.1"
 * BatchNorm. */
kd_val kd_block_residual(kd_graph *g, kd_val x, int64_t co, int stride, kd_block_init init);

/* x at av with at (N,C,T) and av (N,C,V); an absent at is 1. */
kd_val kd_block_axis_product(kd_graph *g, kd_val x, kd_val at, kd_val av);

/* Dimension i of a value; 0 for an absent one (the graph has its error by then). */
int64_t kd_block_dim(kd_graph *g, kd_val x, int i);

/* When asked, keep x as output "act.<path>". */
void kd_block_tap(kd_graph *g, bool asked, kd_val x, const char *path, ...) KD_PRINTF(4, 5);

#endif
