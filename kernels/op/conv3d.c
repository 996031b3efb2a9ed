/* Rules of conv3d and its gradients. */
#include "kernels/op/window.h"

static kd_window window3(const kd_conv3d_attr *a)
{
    kd_window w = {.dims = 3, .groups = a->groups, .has_bias = a->has_bias != 0, .x_shape = &a->x_shape};
    memcpy(w.stride, a->stride, sizeof a->stride);
    memcpy(w.pad, a->pad, sizeof a->pad);
    memcpy(w.dilation, a->dilation, sizeof a->dilation);
    memcpy(w.kernel, a->kernel, sizeof a->kernel);
    return w;
}

static kd_status conv3d_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_window a = window3(attr);
    return kd_window_infer("conv3d", &a, in, out, err);
}

static kd_status conv3d_bwd_x_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_window a = window3(attr);
    return kd_window_infer_bwd_x("conv3d_bwd_x", &a, in, out, err);
}

static kd_status conv3d_bwd_w_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_window a = window3(attr);
    return kd_window_infer_bwd_w("conv3d_bwd_w", &a, in, out, err);
}

static kd_status conv3d_grad(kd_grad_ctx *c)
{
    kd_graph *g = kd_grad_graph(c);
    kd_conv3d_attr a = *(const kd_conv3d_attr *)kd_grad_attr(c);
    const kd_spec w = kd_spec_of(g, kd_grad_in(c, 1));
    a.x_shape = kd_spec_of(g, kd_grad_in(c, 0)).shape;
    for (int i = 0; i < 3; i++) {
        a.kernel[i] = (int32_t)w.shape.dim[2 + i];
    }
    a.has_bias = kd_grad_in(c, 2).id != 0;
    kd_window_grad(c, KD_OP_CONV3D_BWD_X, KD_OP_CONV3D_BWD_W, &a);
    return KD_OK;
}

KD_OP_DEFINE(conv3d, .attr_size = sizeof(kd_conv3d_attr), .infer = conv3d_infer, .grad = conv3d_grad,
             .macs = kd_window_macs);
KD_OP_DEFINE(conv3d_bwd_x, .attr_size = sizeof(kd_conv3d_attr), .infer = conv3d_bwd_x_infer);
KD_OP_DEFINE(conv3d_bwd_w, .attr_size = sizeof(kd_conv3d_attr), .infer = conv3d_bwd_w_infer);
