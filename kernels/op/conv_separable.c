/* conv_separable: a depthwise convolution and the pointwise one behind it.  Its gradients are those
 * of conv2d. */
#include "kernels/op/rule.h"

static const kd_conv2d_attr pointwise = {
    .stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .kernel = {1, 1}};

static kd_conv2d_attr depthwise_attr(const kd_conv_separable_attr *a, int64_t channels)
{
    kd_conv2d_attr d = {.groups = (int32_t)channels};
    memcpy(d.stride, a->stride, sizeof d.stride);
    memcpy(d.pad, a->pad, sizeof d.pad);
    memcpy(d.dilation, a->dilation, sizeof d.dilation);
    return d;
}

static kd_status conv_separable_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                      kd_err *err)
{
    (void)n_in;
    KD_TRY(kd_rule_float("conv_separable", "x", &in[0], 4, err));
    KD_TRY(kd_rule_rank("conv_separable", "x", &in[0], 4, err));
    const int64_t channels = in[0].shape.dim[1];
    kd_conv2d_attr deep = depthwise_attr(attr, channels);
    deep.act = ((const kd_conv_separable_attr *)attr)->act;
    KD_TRY(kd_op_rule_conv2d.infer(in, 3, &deep, &out[1], err));
    KD_TRY(kd_rule_is("conv_separable", "Wd", &in[1], in[0].dtype,
                      kd_shape4(channels, 1, in[1].shape.dim[2], in[1].shape.dim[3]), err));
    const kd_spec behind[3] = {out[1], in[3], in[4]};
    KD_TRY(kd_op_rule_conv2d.infer(behind, 3, &pointwise, &out[0], err));
    return kd_rule_is("conv_separable", "Wp", &in[3], in[0].dtype,
                      kd_shape4(in[3].shape.dim[0], channels, 1, 1), err);
}

static kd_status conv_separable_grad(kd_grad_ctx *c)
{
    kd_graph *g = kd_grad_graph(c);
    const kd_conv_separable_attr *a = kd_grad_attr(c);
    const kd_val x = kd_grad_in(c, 0), wd = kd_grad_in(c, 1), wp = kd_grad_in(c, 3);
    const kd_val h = kd_grad_out(c, 1), dy = kd_grad_dout(c, 0);
    const kd_spec sx = kd_spec_of(g, x), sw = kd_spec_of(g, wd);
    if (a->act != KD_ACT_NONE) {
        kd_graph_fail(g, KD_E_UNSUPPORTED, "conv_separable: a fused activation has no gradient");
        return KD_E_UNSUPPORTED;
    }
    kd_conv2d_attr point = pointwise;
    point.has_bias = kd_grad_in(c, 4).id != 0;
    point.x_shape = kd_spec_of(g, h).shape;
    const kd_val for_wp[2] = {dy, h}, for_h[2] = {dy, wp};
    kd_grad_emit(c, KD_OP_CONV2D_BWD_W, &point, for_wp, 2, (const int[]){3, 4}, 2);
    if (!kd_grad_wants(c, 0) && !kd_grad_wants(c, 1) && !kd_grad_wants(c, 2)) {
        return KD_OK;
    }
    kd_conv2d_attr deep = depthwise_attr(a, sx.shape.dim[1]);
    deep.has_bias = kd_grad_in(c, 2).id != 0;
    deep.x_shape = sx.shape;
    deep.kernel[0] = (int32_t)sw.shape.dim[2];
    deep.kernel[1] = (int32_t)sw.shape.dim[3];
    const kd_val dh = kd_node(g, KD_OP_CONV2D_BWD_X, &point, for_h, 2, NULL);
    const kd_val for_x[2] = {dh, wd}, for_wd[2] = {dh, x};
    kd_grad_emit(c, KD_OP_CONV2D_BWD_X, &deep, for_x, 2, (const int[]){0}, 1);
    kd_grad_emit(c, KD_OP_CONV2D_BWD_W, &deep, for_wd, 2, (const int[]){1, 2}, 2);
    return KD_OK;
}

const kd_op_rule kd_op_rule_conv_separable = {sizeof(kd_conv_separable_attr), conv_separable_infer,
                                              conv_separable_grad};
