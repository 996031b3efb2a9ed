/* conv_separable: a depthwise convolution and the pointwise one after it, or two such branches of
 * one input side by side.  Its gradients are those of concat and conv2d. */
#include "kernels/op/rule.h"

enum { EACH = 4 }; /* operands of a branch: Wd, bd, Wp, bp */

static const kd_conv2d_attr pointwise = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .kernel = {1, 1}};

static kd_conv2d_attr depthwise_attr(const kd_conv_separable_attr *a, int branch, int64_t channels)
{
    kd_conv2d_attr d = {.groups = (int32_t)channels};
    memcpy(d.stride, a->stride, sizeof d.stride);
    memcpy(d.pad, a->pad[branch], sizeof d.pad);
    memcpy(d.dilation, a->dilation[branch], sizeof d.dilation);
    return d;
}

/* One branch: `of` are its four operands. */
static kd_status branch_infer(const kd_spec *x, const kd_spec *of, const kd_conv_separable_attr *a, int branch,
                              kd_spec *y, kd_spec *h, kd_err *err)
{
    const int64_t channels = x->shape.dim[1];
    kd_conv2d_attr deep = depthwise_attr(a, branch, channels);
    deep.act = a->act;
    const kd_spec in[3] = {*x, of[0], of[1]};
    KD_TRY(kd_op_def_conv2d.infer(in, 3, &deep, h, err));
    KD_TRY(kd_rule_is("conv_separable", "Wd", &of[0], x->dtype,
                      kd_shape4(channels, 1, of[0].shape.dim[2], of[0].shape.dim[3]), err));
    const kd_spec point[3] = {*h, of[2], of[3]};
    KD_TRY(kd_op_def_conv2d.infer(point, 3, &pointwise, y, err));
    return kd_rule_is("conv_separable", "Wp", &of[2], x->dtype, kd_shape4(of[2].shape.dim[0], channels, 1, 1), err);
}

static kd_status conv_separable_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(kd_rule_float("conv_separable", "x", &in[0], 4, err));
    KD_TRY(kd_rule_rank("conv_separable", "x", &in[0], 4, err));
    KD_TRY(branch_infer(&in[0], &in[1], attr, 0, &out[0], &out[1], err));
    const kd_spec *second = &in[1 + EACH];
    bool any = false;
    for (int i = 0; i < EACH; i++) {
        any = any || !kd_rule_absent(&second[i]);
    }
    if (any) {
        kd_spec y;
        KD_TRY(branch_infer(&in[0], second, attr, 1, &y, &out[2], err));
        KD_TRY(kd_rule_is("conv_separable", "h of the second branch", &out[2], in[0].dtype, out[1].shape, err));
        out[0].shape.dim[1] += y.shape.dim[1];
    }
    return KD_OK;
}

/* dy is the gradient of the branch's part of y. */
static void branch_grad(kd_grad_ctx *c, int branch, kd_val dy)
{
    kd_graph *g = kd_grad_graph(c);
    const int at = 1 + branch * EACH;
    const kd_val x = kd_grad_in(c, 0), wd = kd_grad_in(c, at), wp = kd_grad_in(c, at + 2);
    const kd_val h = kd_grad_out(c, 1 + branch);
    const kd_spec sx = kd_spec_of(g, x), sw = kd_spec_of(g, wd);
    kd_conv2d_attr point = pointwise;
    point.has_bias = kd_grad_in(c, at + 3).id != 0;
    point.x_shape = kd_spec_of(g, h).shape;
    const kd_val for_wp[2] = {dy, h}, for_h[2] = {dy, wp};
    kd_grad_emit(c, KD_OP_CONV2D_BWD_W, &point, for_wp, 2, (const int[]){at + 2, at + 3}, 2);
    if (!kd_grad_wants(c, 0) && !kd_grad_wants(c, at) && !kd_grad_wants(c, at + 1)) {
        return;
    }
    kd_conv2d_attr deep = depthwise_attr(kd_grad_attr(c), branch, sx.shape.dim[1]);
    deep.has_bias = kd_grad_in(c, at + 1).id != 0;
    deep.x_shape = sx.shape;
    deep.kernel[0] = (int32_t)sw.shape.dim[2];
    deep.kernel[1] = (int32_t)sw.shape.dim[3];
    const kd_val dh = kd_node(g, KD_OP_CONV2D_BWD_X, &point, for_h, 2, NULL);
    const kd_val for_x[2] = {dh, wd}, for_wd[2] = {dh, x};
    kd_grad_emit(c, KD_OP_CONV2D_BWD_X, &deep, for_x, 2, (const int[]){0}, 1);
    kd_grad_emit(c, KD_OP_CONV2D_BWD_W, &deep, for_wd, 2, (const int[]){at, at + 1}, 2);
}

static kd_status conv_separable_grad(kd_grad_ctx *c)
{
    kd_graph *g = kd_grad_graph(c);
    const kd_val dy = kd_grad_dout(c, 0);
    if (((const kd_conv_separable_attr *)kd_grad_attr(c))->act != KD_ACT_NONE) {
        kd_graph_fail(g, KD_E_UNSUPPORTED, "conv_separable: a fused activation has no gradient");
        return KD_E_UNSUPPORTED;
    }
    if (kd_grad_in(c, 1 + EACH).id == 0) {
        branch_grad(c, 0, dy);
        return KD_OK;
    }
    kd_concat_attr parts = {.axis = 1, .n = 2};
    for (int b = 0; b < 2; b++) {
        parts.part[b] = kd_spec_of(g, kd_grad_in(c, b * EACH + 3)).shape.dim[0];
    }
    kd_val each[KD_MAX_OUT];
    (void)kd_node(g, KD_OP_CONCAT_BWD, &parts, &dy, 1, each);
    for (int b = 1; b >= 0; b--) { /* backwards, as everywhere */
        branch_grad(c, b, each[b]);
    }
    return KD_OK;
}

/* The product over channels, and the depthwise convolution of each branch. */
static int64_t conv_separable_macs(const kd_call *c)
{
    const int64_t channels = c->in[0].shape.dim[1], y = kd_shape_numel(&c->out[0].shape);
    const int64_t h = y / c->out[0].shape.dim[1] * channels;
    int64_t macs = y * channels;
    for (int i = 1; i < c->n_in; i += 4) { /* Wd of each branch */
        const int64_t *w = c->in[i].shape.dim;
        macs += c->in[i].data != NULL ? h * w[2] * w[3] : 0;
    }
    return macs;
}

KD_OP_DEFINE(conv_separable, .attr_size = sizeof(kd_conv_separable_attr), .infer = conv_separable_infer,
             .grad = conv_separable_grad, .macs = conv_separable_macs);
