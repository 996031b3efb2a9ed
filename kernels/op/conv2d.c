/* Rules of conv2d and its gradients. */
#include "kernels/op/window.h"

static kd_window window2(const kd_conv2d_attr *a)
{
    kd_window w = {.dims = 2, .groups = a->groups, .has_bias = a->has_bias != 0, .x_shape = &a->x_shape};
    memcpy(w.stride, a->stride, sizeof a->stride);
    memcpy(w.pad, a->pad, sizeof a->pad);
    memcpy(w.dilation, a->dilation, sizeof a->dilation);
    memcpy(w.kernel, a->kernel, sizeof a->kernel);
    return w;
}

static kd_status conv2d_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_window a = window2(attr);
    return kd_window_infer("conv2d", &a, in, out, err);
}

static kd_status conv2d_bwd_x_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_window a = window2(attr);
    KD_TRY(kd_window_infer_bwd_x("conv2d_bwd_x", &a, in, out, err));
    if (in[2].shape.rank >= 0 && (a.groups != a.x_shape->dim[1] || a.groups != in[1].shape.dim[0])) {
        return KD_FAIL(err, KD_E_ARG,
                       "conv2d_bwd_x: `plus` with %d groups of %lld channels, expected a channel a group", a.groups,
                       (long long)a.x_shape->dim[1]);
    }
    return kd_rule_maybe("conv2d_bwd_x", "plus", &in[2], in[0].dtype, out[0].shape, err);
}

static kd_status conv2d_bwd_w_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_window a = window2(attr);
    return kd_window_infer_bwd_w("conv2d_bwd_w", &a, in, out, err);
}

static kd_status conv2d_grad(kd_grad_ctx *c)
{
    kd_graph *g = kd_grad_graph(c);
    kd_conv2d_attr a = *(const kd_conv2d_attr *)kd_grad_attr(c);
    const kd_spec w = kd_spec_of(g, kd_grad_in(c, 1));
    if (a.act != KD_ACT_NONE) {
        kd_graph_fail(g, KD_E_UNSUPPORTED, "conv2d: a fused activation has no gradient");
        return KD_E_UNSUPPORTED;
    }
    a.x_shape = kd_spec_of(g, kd_grad_in(c, 0)).shape;
    for (int i = 0; i < 2; i++) {
        a.kernel[i] = (int32_t)w.shape.dim[2 + i];
    }
    a.has_bias = kd_grad_in(c, 2).id != 0;
    kd_window_grad(c, KD_OP_CONV2D_BWD_X, KD_OP_CONV2D_BWD_W, &a);
    return KD_OK;
}

KD_OP_DEFINE(conv2d, .attr_size = sizeof(kd_conv2d_attr), .infer = conv2d_infer, .grad = conv2d_grad,
             .macs = kd_window_macs);
KD_OP_DEFINE(conv2d_bwd_x, .attr_size = sizeof(kd_conv2d_attr), .infer = conv2d_bwd_x_infer);
KD_OP_DEFINE(conv2d_bwd_w, .attr_size = sizeof(kd_conv2d_attr), .infer = conv2d_bwd_w_infer);
