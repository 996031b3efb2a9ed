/* Small networks for the rules of fusion: see fuse_nets.h. */
#include "tests/kernels/fuse_nets.h"

#include "kernels/kd_layers.h"
#include "kernels/kd_ops.h"

static kd_val head(kd_graph *g, kd_val x, bool features)
{
    const kd_linear_opts lo = {.weight = kd_init_uniform(0.5f), .bias = kd_init_uniform(0.1f), .f32_out = true};
    const kd_val logits = kd_linear(g, x, "head", CLASSES, &lo);
    if (features) {
        kd_output(g, "features", logits);
    }
    kd_output(g, "logits", logits);
    return logits;
}

/* A depthwise and a pointwise convolution with what is between them as an output. */
kd_val two_convolutions(kd_graph *g, kd_val x)
{
    const kd_conv_opts deep = {.kernel = {9, 1}, .pad = {4, 0}, .groups = 3};
    const kd_val h = kd_conv2d(g, x, "deep", 3, &deep);
    kd_output(g, "features", h);
    const kd_val y = kd_conv2d(g, h, "point", 4, &(kd_conv_opts){.kernel = {1, 1}});
    return head(g, kd_reduce(g, y, KD_REDUCE_MEAN, 1u << 2 | 1u << 3), false);
}

/* Two separable branches of unequal width side by side; one of the halves may be an output. */
static kd_val branches(kd_graph *g, kd_val x, bool keep)
{
    kd_val half[2];
    for (int i = 0; i < 2; i++) {
        const kd_conv_opts deep = {
            .kernel = {9, 1}, .pad = {i == 0 ? 4 : 8, 0}, .dilation = {1 + i, 1}, .groups = 3, .bias = i == 0};
        const kd_val h = kd_conv2d(g, x, i == 0 ? "deep1" : "deep2", 3, &deep);
        half[i] =
            kd_conv2d(g, h, i == 0 ? "point1" : "point2", 3 + 2 * i, &(kd_conv_opts){.kernel = {1, 1}, .bias = i == 1});
    }
    const kd_val y = kd_act(g, kd_concat(g, half, 2, 1), KD_ACT_GELU);
    const kd_val mean = kd_reduce(g, y, KD_REDUCE_MEAN, 1u << 2 | 1u << 3);
    kd_output(g, "features", keep ? half[1] : mean);
    return head(g, mean, false);
}

kd_val two_branches(kd_graph *g, kd_val x)
{
    return branches(g, x, false);
}

kd_val kept_branch(kd_graph *g, kd_val x)
{
    return branches(g, x, true);
}

/* The gradient of the mean is needed twice: as the gradient of x (an output of the program), and for a convolution
 * whose result has two readers. */
kd_val shared_gradient(kd_graph *g, kd_val x)
{
    const uint32_t frames_joints = 1u << 2 | 1u << 3;
    const kd_val h = kd_conv2d(g, kd_detach(g, x), "point", 3, &(kd_conv_opts){.kernel = {1, 1}});
    const kd_val a = kd_reduce(g, kd_act(g, h, KD_ACT_GELU), KD_REDUCE_SUM, frames_joints);
    const kd_val b = kd_reduce(g, kd_add(g, x, h), KD_REDUCE_MEAN, frames_joints);
    kd_output(g, "features", b);
    return head(g, kd_mul(g, a, b), false);
}

/* Two gradients meet at h: that of the activation, whose op has no `plus`, and that of stc_pool, all of whose outputs
 * are read. */
kd_val pooled_twice(kd_graph *g, kd_val x)
{
    const kd_val h = kd_conv2d(g, x, "point", 3, &(kd_conv_opts){.kernel = {1, 1}});
    kd_val pooled[3];
    (void)kd_node(g, KD_OP_STC_POOL, NULL, &h, 1, pooled);
    const kd_val all[3] = {kd_reshape(g, pooled[0], kd_shape2(BATCH, 2 * FRAMES)), pooled[1],
                           kd_reduce(g, kd_act(g, h, KD_ACT_GELU), KD_REDUCE_MEAN, 1u << 2 | 1u << 3)};
    return head(g, kd_concat(g, all, 3, 1), true);
}

static kd_val convolution(kd_graph *g, kd_val x, const char *name)
{
    return kd_conv2d(g, x, name, 3, &(kd_conv_opts){.kernel = {1, 1}});
}

/* Batch norms as the students do not have them.  By themselves: one whose y is an output, one that two read, a sum with
 * another shape, what is behind the end of a recomputed segment.  Fused: a sum with the norm as its second operand, a
 * sum of two norms, which the longer one takes. */
kd_val norms(kd_graph *g, kd_val x)
{
    const kd_val kept = kd_batchnorm(g, convolution(g, x, "c0"), "bn0");
    kd_output(g, "features", kept);
    kd_val y = kd_act(g, kept, KD_ACT_SILU);
    y = kd_act(g, kd_add(g, y, kd_batchnorm(g, convolution(g, y, "c1"), "bn1")), KD_ACT_GELU);
    const kd_val plain = kd_batchnorm(g, convolution(g, y, "c2"), "bn2");
    const kd_val longer = kd_dropout(g, kd_act(g, kd_batchnorm(g, convolution(g, y, "c3"), "bn3"), KD_ACT_SILU), 0.3f);
    y = kd_add(g, plain, longer);
    const kd_val twice = kd_batchnorm(g, convolution(g, y, "c4"), "bn4");
    kd_recompute_begin(g);
    y = kd_batchnorm(g, kd_mul(g, twice, kd_act(g, twice, KD_ACT_SIGMOID)), "bn5");
    kd_recompute_end(g);
    const kd_val row = kd_param(g, "row", kd_shape1(JOINTS), kd_init_uniform(0.5f), KD_PARAM_MATRIX);
    y = kd_add(g, kd_drop_path(g, y, 0.4f), row);
    return head(g, kd_reduce(g, y, KD_REDUCE_MEAN, 1u << 2 | 1u << 3), false);
}

/* Activations that no other op computes on its results: after a batch norm and after a linear layer. */
kd_val exponentials(kd_graph *g, kd_val x)
{
    const kd_linear_opts lo = {.weight = kd_init_uniform(0.5f), .bias = kd_init_uniform(0.1f)};
    kd_val y = kd_act(g, kd_batchnorm(g, convolution(g, x, "c0"), "bn0"), KD_ACT_EXP);
    y = kd_linear(g, kd_reduce(g, y, KD_REDUCE_MEAN, 1u << 2 | 1u << 3), "between", 6, &lo);
    kd_output(g, "features", y);
    y = kd_act(g, kd_linear(g, y, "after", 6, &lo), KD_ACT_EXP);
    return head(g, kd_act(g, y, KD_ACT_LOG), false);
}
