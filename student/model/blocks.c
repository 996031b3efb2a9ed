/* Shared pieces of the students: see blocks.h. */
#include "student/model/blocks.h"

#include <math.h>
#include <stdio.h>

int64_t kd_block_dim(kd_graph *g, kd_val x, int i)
{
    const kd_spec s = kd_spec_of(g, x);
    return i < s.shape.rank ? s.shape.dim[i] : 0;
}

static int or1(int v)
{
    return v == 0 ? 1 : v;
}

kd_val kd_block_conv1d(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_block_conv *o)
{
    const int kernel = or1(o->kernel), dilation = or1(o->dilation);
    const int64_t ci = kd_block_dim(g, x, 1);
    kd_conv_opts c = {.kernel = {kernel, 1},
                      .stride = {or1(o->stride), 1},
                      .pad = {dilation * (kernel - 1) / 2, 0},
                      .dilation = {dilation, 1},
                      .groups = o->depthwise ? (int)ci : 1,
                      .bias = o->bias};
    if (o->init == KD_BLOCK_INIT_FAN_OUT) {
        c.has_weight_init = true;
        c.weight_init = kd_init_normal((float)sqrt(2.0 / (double)(co * kernel)));
        c.bias_init = kd_init_torch((o->depthwise ? 1 : KD_MAX(ci, (int64_t)1)) * kernel);
    }
    return kd_conv2d(g, x, name, co, &c);
}

kd_val kd_block_conv_bn(kd_graph *g, kd_val x, const char *name, int64_t co, const kd_block_conv *o, kd_act_kind act)
{
    kd_scope_push(g, "%s", name);
    kd_val y = kd_batchnorm(g, kd_block_conv1d(g, x, "0", co, o), "1");
    kd_scope_pop(g);
    return act == KD_ACT_NONE ? y : kd_act(g, y, act);
}

kd_val kd_block_linear(kd_graph *g, kd_val x, const char *name, int64_t co, kd_init init)
{
    return kd_linear(g, x, name, co, &(kd_linear_opts){.weight = init, .no_bias = true});
}

kd_val kd_block_mix(kd_graph *g, kd_val x, kd_val adj, kd_mix_mode mode, bool transpose)
{
    const kd_joint_mix_attr a = {.mode = (int32_t)mode, .transpose = transpose};
    return kd_node2(g, KD_OP_JOINT_MIX, &a, x, adj);
}

kd_val kd_block_constant(kd_graph *g, const char *name, kd_shape shape, const float *v)
{
    const int64_t n = kd_shape_numel(&shape);
    if (kd_stat_dtype(kd_graph_dtype(g)) != KD_F64) {
        return kd_const(g, name, KD_F32, shape, v);
    }
    double *wide = kd_alloc((size_t)n * sizeof *wide);
    if (wide == NULL) {
        kd_graph_fail(g, KD_E_OOM, "constant %s: out of memory", name);
        return KD_NONE;
    }
    for (int64_t i = 0; i < n; i++) {
        wide[i] = (double)v[i];
    }
    const kd_val c = kd_const(g, name, KD_F64, shape, wide);
    kd_free(wide);
    return c;
}

kd_val kd_block_adjacency(kd_graph *g, const char *name, const float *a, int k, int64_t joints)
{
    return kd_block_constant(g, name, k == 0 ? kd_shape2(joints, joints) : kd_shape3(k, joints, joints), a);
}

kd_val kd_block_constant_of(kd_graph *g, const char *name, kd_shape shape, float value)
{
    const int64_t n = kd_shape_numel(&shape);
    float *v = kd_alloc((size_t)KD_MAX(n, (int64_t)1) * sizeof *v);
    if (v == NULL) {
        kd_graph_fail(g, KD_E_OOM, "constant %s: out of memory", name);
        return KD_NONE;
    }
    for (int64_t i = 0; i < n; i++) {
        v[i] = value;
    }
    const kd_val c = kd_block_constant(g, name, shape, v);
    kd_free(v);
    return c;
}

kd_val kd_block_filled(kd_graph *g, const char *name, kd_shape shape, float value)
{
    return kd_cast(g, kd_block_constant_of(g, name, shape, value), kd_graph_dtype(g));
}

kd_val kd_block_axis_product(kd_graph *g, kd_val x, kd_val at, kd_val av)
{
    const int64_t n = kd_block_dim(g, x, 0), c = kd_block_dim(g, x, 1), t = kd_block_dim(g, x, 2);
    const kd_val frames = at.id != 0 ? at : kd_block_filled(g, "every_frame", kd_shape3(n, c, t), 1.0f);
    const kd_val in[4] = {x, frames, av, kd_block_constant_of(g, "whole", kd_shape1(c), 1.0f)};
    return kd_node(g, KD_OP_ST_GATE, NULL, in, 4, NULL);
}

kd_val kd_block_bodies(kd_graph *g, kd_val x, kd_body_mode mode)
{
    const kd_body_select_attr a = {(int32_t)mode};
    const kd_shape s = kd_spec_of(g, x).shape;
    if (s.rank == 5 && s.dim[4] == 1) { /* nothing to choose or stack */
        return kd_reshape(g, x, kd_shape4(s.dim[0], s.dim[1], s.dim[2], s.dim[3]));
    }
    return kd_node1(g, KD_OP_BODY_SELECT, &a, x);
}

kd_val kd_block_mean_of_bodies(kd_graph *g, kd_val x, int64_t bodies)
{
    const int64_t n = kd_block_dim(g, x, 0) / bodies;
    if (bodies == 1) {
        return x;
    }
    kd_val sum = kd_slice(g, x, 0, 0, n);
    for (int64_t m = 1; m < bodies; m++) {
        sum = kd_add(g, sum, kd_slice(g, x, 0, m * n, n));
    }
    return kd_scale(g, sum, 1.0f / (float)bodies);
}

kd_val kd_block_fusion(kd_graph *g, const kd_val *streams, int n, int64_t co, kd_block_init init, kd_act_kind act)
{
    enum { MOST = 8 };
    kd_val parts[MOST] = {{0}};
    kd_scope_push(g, "fusion");
    for (int i = 0; i < n && i < MOST; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "stream_bn.%d", i);
        parts[i] = kd_batchnorm(g, streams[i], name);
    }
    const kd_val all = n == 1 ? parts[0] : kd_concat(g, parts, n, 1);
    const kd_val y = kd_block_conv_bn(g, all, "proj", co, &(kd_block_conv){.init = init}, act);
    kd_scope_pop(g);
    return y;
}

kd_val kd_block_residual(kd_graph *g, kd_val x, int64_t co, int stride, kd_block_init init)
{
    if (kd_block_dim(g, x, 1) == co && stride == 1) {
        return x;
    }
    return kd_block_conv_bn(g, x, "residual", co, &(kd_block_conv){.stride = stride, .init = init}, KD_ACT_NONE);
}

void kd_block_tap(kd_graph *g, bool asked, kd_val x, const char *path, ...)
{
    char name[128] = "act.";
    if (!asked) {
        return;
    }
    va_list ap;
    va_start(ap, path);
    (void)vsnprintf(name + 4, sizeof name - 4, path, ap);
    va_end(ap);
    kd_output(g, name, x);
}
