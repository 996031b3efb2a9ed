/* Layers: see kd_layers.h. */
#include "kernels/kd_layers.h"

#include <math.h>
#include <stdio.h>

kd_init kd_init_const(float value)
{
    return (kd_init){.kind = KD_INIT_CONST, .a = value};
}

kd_init kd_init_uniform(float bound)
{
    return (kd_init){.kind = KD_INIT_UNIFORM, .a = bound};
}

kd_init kd_init_normal(float std)
{
    return (kd_init){.kind = KD_INIT_NORMAL, .a = std};
}

kd_init kd_init_trunc_normal(float std)
{
    return (kd_init){.kind = KD_INIT_TRUNC_NORMAL, .a = std};
}

kd_init kd_init_torch(int64_t fan_in)
{
    return kd_init_uniform((float)(1.0 / sqrt((double)fan_in)));
}

static kd_val named_param(kd_graph *g, const char *name, const char *leaf, kd_shape shape, kd_init init, unsigned flags)
{
    char full[160];
    (void)snprintf(full, sizeof full, "%s.%s", name, leaf);
    return kd_param(g, full, shape, init, flags);
}

/* Activations enter matmuls in the program's dtype: a stat-dtype operand (an f32 input of a bf16 program) is cast. */
static kd_val to_act(kd_graph *g, kd_val x)
{
    return kd_cast(g, x, kd_graph_dtype(g));
}

kd_val kd_linear(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_linear_opts *o)
{
    x = to_act(g, x);
    const kd_spec s = kd_spec_of(g, x);
    if (s.shape.rank < 1) {
        return KD_NONE;
    }
    const int64_t ci = s.shape.dim[s.shape.rank - 1];
    const kd_val w = named_param(g, name, "weight", kd_shape2(co, ci), o->weight, KD_PARAM_MATRIX);
    kd_val b = KD_NONE;
    if (!o->no_bias) {
        b = named_param(g, name, "bias", kd_shape1(co), o->bias, KD_PARAM_NO_DECAY);
    }
    const kd_linear_attr attr = {.stat_out = o->f32_out, .has_bias = !o->no_bias};
    return kd_node3(g, KD_OP_LINEAR, &attr, x, w, b);
}

static int or1(int v)
{
    return v == 0 ? 1 : v;
}

typedef struct conv_params {
    kd_val w, b;
    int groups;
} conv_params;

/* "name.weight" (co, Ci/groups, kernel) and "name.bias" of a convolution over the dims of x from the third on. */
static conv_params named_conv(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_conv_opts *o)
{
    const kd_shape in = kd_spec_of(g, x).shape;
    conv_params p = {KD_NONE, KD_NONE, or1(o->groups)};
    kd_shape w = {in.rank, {co, in.dim[1] / p.groups}};
    for (int i = 2; i < in.rank; i++) {
        w.dim[i] = or1(o->kernel[i - 2]);
    }
    const kd_init fan = kd_init_torch(kd_shape_span(&w, 1, w.rank));
    p.w = named_param(g, name, "weight", w, o->has_weight_init ? o->weight_init : fan, KD_PARAM_MATRIX);
    if (o->bias) {
        p.b = named_param(g, name, "bias", kd_shape1(co), o->has_weight_init ? o->bias_init : fan, KD_PARAM_NO_DECAY);
    }
    return p;
}

kd_val kd_conv2d(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_conv_opts *o)
{
    x = to_act(g, x);
    const kd_spec s = kd_spec_of(g, x);
    if (s.shape.rank != 4) {
        kd_graph_fail(g, KD_E_SHAPE, "conv2d %s: expects (N,C,H,W), got rank %d", name, (int)s.shape.rank);
        return KD_NONE;
    }
    const conv_params p = named_conv(g, x, name, co, o);
    kd_conv2d_attr attr = {.groups = p.groups, .has_bias = o->bias};
    for (int i = 0; i < 2; i++) {
        attr.stride[i] = or1(o->stride[i]);
        attr.pad[i] = o->pad[i];
        attr.dilation[i] = or1(o->dilation[i]);
        attr.kernel[i] = or1(o->kernel[i]);
    }
    return kd_node3(g, KD_OP_CONV2D, &attr, x, p.w, p.b);
}

kd_val kd_conv3d(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_conv_opts *o)
{
    x = to_act(g, x);
    const kd_spec s = kd_spec_of(g, x);
    if (s.shape.rank != 5) {
        kd_graph_fail(g, KD_E_SHAPE, "conv3d %s: expects (N,C,T,H,W), got rank %d", name, (int)s.shape.rank);
        return KD_NONE;
    }
    const conv_params p = named_conv(g, x, name, co, o);
    kd_conv3d_attr attr = {.groups = p.groups, .has_bias = o->bias};
    for (int i = 0; i < 3; i++) {
        attr.stride[i] = or1(o->stride[i]);
        attr.pad[i] = o->pad[i];
        attr.dilation[i] = or1(o->dilation[i]);
        attr.kernel[i] = or1(o->kernel[i]);
    }
    return kd_node3(g, KD_OP_CONV3D, &attr, x, p.w, p.b);
}

kd_val kd_layernorm(kd_graph *g, kd_val x, const char *name, float eps)
{
    const kd_spec s = kd_spec_of(g, x);
    if (s.shape.rank < 1) {
        return KD_NONE;
    }
    const kd_shape c = kd_shape1(s.shape.dim[s.shape.rank - 1]);
    const kd_val w = named_param(g, name, "weight", c, kd_init_const(1.0f), KD_PARAM_NO_DECAY);
    const kd_val b = named_param(g, name, "bias", c, kd_init_const(0.0f), KD_PARAM_NO_DECAY);
    const kd_layernorm_attr attr = {eps};
    return kd_node3(g, KD_OP_LAYERNORM, &attr, x, w, b);
}

kd_val kd_batchnorm(kd_graph *g, kd_val x, const char *name)
{
    x = to_act(g, x);
    const kd_spec s = kd_spec_of(g, x);
    if (s.shape.rank < 2) {
        return KD_NONE;
    }
    const kd_shape c = kd_shape1(s.shape.dim[1]);
    char full[160];
    const kd_val w = named_param(g, name, "weight", c, kd_init_const(1.0f), KD_PARAM_NO_DECAY);
    const kd_val b = named_param(g, name, "bias", c, kd_init_const(0.0f), KD_PARAM_NO_DECAY);
    (void)snprintf(full, sizeof full, "%s.running_mean", name);
    const kd_val rm = kd_buffer(g, full, c, 0.0f);
    (void)snprintf(full, sizeof full, "%s.running_var", name);
    const kd_val rv = kd_buffer(g, full, c, 1.0f);
    const kd_batchnorm_attr attr = {.eps = 1e-5f, .momentum = 0.1f, .count = kd_shape_numel(&s.shape) / s.shape.dim[1]};
    if (!kd_graph_training(g)) {
        const kd_val in[5] = {x, w, b, rm, rv};
        return kd_node(g, KD_OP_BATCHNORM_EVAL, &attr, in, 5, NULL);
    }
    const kd_val in[3] = {x, w, b};
    kd_val out[3];
    const kd_val y = kd_node(g, KD_OP_BATCHNORM, &attr, in, 3, out);
    const kd_val upd[4] = {out[1], out[2], rm, rv};
    (void)kd_node(g, KD_OP_BN_UPDATE, &attr, upd, 4, NULL);
    return y;
}

/* ---- without parameters ---------------------------------------------------------------------- */

kd_val kd_add(kd_graph *g, kd_val a, kd_val b)
{
    return kd_node2(g, KD_OP_ADD, NULL, a, b);
}

kd_val kd_mul(kd_graph *g, kd_val a, kd_val b)
{
    return kd_node2(g, KD_OP_MUL, NULL, a, b);
}

kd_val kd_scale(kd_graph *g, kd_val x, float value)
{
    const kd_scale_attr attr = {value};
    return kd_node1(g, KD_OP_SCALE, &attr, x);
}

kd_val kd_act(kd_graph *g, kd_val x, kd_act_kind kind)
{
    const kd_act_attr attr = {(int32_t)kind};
    return kd_node1(g, KD_OP_ACT, &attr, x);
}

static kd_val drop(kd_graph *g, kd_val x, float p, bool per_row)
{
    const uint32_t id = kd_graph_next_rng(g); /* drawn even when unused: ids depend on the model alone */
    if (p <= 0.0f || !kd_graph_training(g)) {
        return x;
    }
    const kd_dropout_attr attr = {.p = p, .rng_id = id, .per_row = per_row};
    return kd_node1(g, KD_OP_DROPOUT, &attr, x);
}

kd_val kd_dropout(kd_graph *g, kd_val x, float p)
{
    return drop(g, x, p, false);
}

kd_val kd_drop_path(kd_graph *g, kd_val x, float p)
{
    return drop(g, x, p, true);
}

kd_val kd_reduce(kd_graph *g, kd_val x, kd_reduce_kind kind, uint32_t axes)
{
    const kd_reduce_attr attr = {.kind = (int32_t)kind, .axes = axes};
    return kd_node1(g, KD_OP_REDUCE, &attr, x);
}

kd_val kd_softmax(kd_graph *g, kd_val x, float out_scale)
{
    const kd_softmax_attr attr = {out_scale};
    return kd_node1(g, KD_OP_SOFTMAX, &attr, x);
}

kd_val kd_permute(kd_graph *g, kd_val x, int a, int b, int c, int d)
{
    const kd_permute_attr attr = {{a, b, c, d}};
    return kd_node1(g, KD_OP_PERMUTE, &attr, x);
}

kd_val kd_slice(kd_graph *g, kd_val x, int axis, int64_t start, int64_t len)
{
    const kd_spec s = kd_spec_of(g, x);
    const kd_slice_attr attr = {axis, start, len, s.shape.rank > axis ? s.shape.dim[axis] : 0};
    return kd_node1(g, KD_OP_SLICE, &attr, x);
}

kd_val kd_concat(kd_graph *g, const kd_val *parts, int n, int axis)
{
    const kd_concat_attr attr = {.axis = axis};
    return kd_node(g, KD_OP_CONCAT, &attr, parts, n, NULL);
}

kd_val kd_cast(kd_graph *g, kd_val x, kd_dtype to)
{
    const kd_spec s = kd_spec_of(g, x);
    if (x.id == 0 || s.dtype == to) {
        return x;
    }
    const kd_cast_attr attr = {(int32_t)to};
    return kd_node1(g, KD_OP_CAST, &attr, x);
}

/* ---- losses ---------------------------------------------------------------------------------- */

static kd_val to_stat(kd_graph *g, kd_val x)
{
    return kd_cast(g, x, kd_stat_dtype(kd_graph_dtype(g)));
}

kd_val kd_ce_kl(kd_graph *g, kd_val logits, kd_val target, kd_val valid, kd_val teacher, kd_val teacher_valid,
                float temperature, bool teacher_is_prob, kd_val *kd)
{
    const kd_class_loss_attr attr = {temperature, teacher_is_prob};
    const kd_val in[5] = {to_stat(g, logits), target, valid, teacher, teacher_valid};
    kd_val out[2];
    (void)kd_node(g, KD_OP_CLASS_LOSS, &attr, in, 5, out);
    *kd = out[1];
    return out[0];
}

kd_val kd_ce(kd_graph *g, kd_val logits, kd_val target, kd_val valid)
{
    kd_val none;
    return kd_ce_kl(g, logits, target, valid, KD_NONE, KD_NONE, 0.0f, false, &none);
}

kd_val kd_kl(kd_graph *g, kd_val logits, kd_val teacher, kd_val valid, float temperature, bool teacher_is_prob)
{
    kd_val kd;
    (void)kd_ce_kl(g, logits, KD_NONE, KD_NONE, teacher, valid, temperature, teacher_is_prob, &kd);
    return kd;
}

kd_val kd_feature_loss(kd_graph *g, kd_val s, kd_val f, kd_val valid, kd_feature_kind kind)
{
    const kd_feature_loss_attr attr = {(int32_t)kind};
    return kd_node3(g, KD_OP_FEATURE_LOSS, &attr, to_stat(g, s), f, valid);
}

kd_val kd_match_loss(kd_graph *g, kd_val a, kd_val b, kd_val target, kd_val valid, const kd_match_loss_attr *at)
{
    const kd_val in[4] = {to_stat(g, a), b, target, valid};
    kd_val out[2];
    (void)kd_node(g, KD_OP_MATCH_LOSS, at, in, 4, out);
    return out[0];
}

kd_val kd_weighted_sum(kd_graph *g, const kd_val *losses, const float *w, int n)
{
    kd_weighted_sum_attr attr = {{0}};
    for (int i = 0; i < n && i < (int)KD_COUNTOF(attr.w); i++) {
        attr.w[i] = w[i];
    }
    return kd_node(g, KD_OP_WEIGHTED_SUM, &attr, losses, n, NULL);
}
