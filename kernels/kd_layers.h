/* Layers: thin builders over the ops that declare their parameters under the names PyTorch gives them
 * ("<scope>.<name>.weight", ".bias", ".running_mean", ...).  Model code is written with these and kd_graph.h alone.
 * Contracts of the ops (shapes, dtypes, formulas): kd_ops.h. */
#ifndef KD_KERNELS_KD_LAYERS_H
#define KD_KERNELS_KD_LAYERS_H

#include "kernels/kd_graph.h"
#include "kernels/kd_ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- initialisers ---------------------------------------------------------------------------- */
kd_init kd_init_const(float value);
kd_init kd_init_uniform(float bound);
kd_init kd_init_normal(float std);
kd_init kd_init_trunc_normal(float std);
kd_init kd_init_torch(int64_t fan_in); /* PyTorch's default for conv and linear weight and bias: U(+-1/sqrt(fan_in)) */

/* ---- layers with parameters ------------------------------------------------------------------ */

typedef struct kd_linear_opts {
    kd_init weight, bias;
    bool no_bias;
    bool f32_out; /* result in the stat dtype: logits */
} kd_linear_opts;

/* x (..., Ci) -> (..., co); "name.weight" (co,Ci), "name.bias" (co). */
kd_val kd_linear(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_linear_opts *o);

typedef struct kd_conv_opts {
    int kernel[3], stride[3], pad[3], dilation[3]; /* zeros mean 1, 1, 0, 1; conv2d takes the first two */
    int groups;                                    /* 0: 1 */
    bool bias;
    kd_init weight_init, bias_init; /* all-zero weight_init: PyTorch default from fan_in */
    bool has_weight_init;
} kd_conv_opts;

/* x (N,Ci,H,W) -> (N,co,Ho,Wo); "name.weight" (co,Ci/groups,kh,kw), "name.bias". */
kd_val kd_conv2d(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_conv_opts *o);

/* x (N,Ci,T,H,W) -> (N,co,To,Ho,Wo); "name.weight" (co,Ci/groups,kt,kh,kw), "name.bias". */
kd_val kd_conv3d(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_conv_opts *o);

/* LayerNorm over the last dim; "name.weight", "name.bias". */
kd_val kd_layernorm(kd_graph *g, kd_val x, const char *name, float eps);

/* BatchNorm over all dims but 1 (eps 1e-5, momentum 0.1); batch statistics in a training graph, running ones otherwise.
 * "name.weight", ".bias", buffers ".running_mean", ".running_var". */
kd_val kd_batchnorm(kd_graph *g, kd_val x, const char *name);

/* ---- without parameters ---------------------------------------------------------------------- */
kd_val kd_add(kd_graph *g, kd_val a, kd_val b);
kd_val kd_mul(kd_graph *g, kd_val a, kd_val b);
kd_val kd_scale(kd_graph *g, kd_val x, float value);
kd_val kd_act(kd_graph *g, kd_val x, kd_act_kind kind);
kd_val kd_dropout(kd_graph *g, kd_val x, float p);   /* identity when not training or p == 0 */
kd_val kd_drop_path(kd_graph *g, kd_val x, float p); /* one draw a leading index */
kd_val kd_reduce(kd_graph *g, kd_val x, kd_reduce_kind kind, uint32_t axes);
kd_val kd_softmax(kd_graph *g, kd_val x, float out_scale);
kd_val kd_permute(kd_graph *g, kd_val x, int a, int b, int c, int d); /* unused places -1 */
kd_val kd_slice(kd_graph *g, kd_val x, int axis, int64_t start, int64_t len);
kd_val kd_concat(kd_graph *g, const kd_val *parts, int n, int axis);
kd_val kd_cast(kd_graph *g, kd_val x, kd_dtype to); /* x itself when it already is */

/* ---- losses (stat scalars) ------------------------------------------------------------------- */
kd_val kd_ce(kd_graph *g, kd_val logits, kd_val target, kd_val valid);
kd_val kd_kl(kd_graph *g, kd_val logits, kd_val teacher, kd_val valid, float temperature, bool teacher_is_prob);
/* Both in one op: *kd is set beside the cross-entropy returned. */
kd_val kd_ce_kl(kd_graph *g, kd_val logits, kd_val target, kd_val valid, kd_val teacher, kd_val teacher_valid,
                float temperature, bool teacher_is_prob, kd_val *kd);
kd_val kd_feature_loss(kd_graph *g, kd_val s, kd_val f, kd_val valid, kd_feature_kind kind);
/* op match_loss; target KD_NONE for the kinds that read no class. */
kd_val kd_match_loss(kd_graph *g, kd_val a, kd_val b, kd_val target, kd_val valid, const kd_match_loss_attr *at);
kd_val kd_weighted_sum(kd_graph *g, const kd_val *losses, const float *w, int n);

#ifdef __cplusplus
}
#endif
#endif
