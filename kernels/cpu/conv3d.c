/* conv3d and its gradients: the kernels of conv2d.c on a geometry of three dims. */
#include "kernels/cpu/conv_geom.h"

static kd_status conv3d_run(const kd_call *c)
{
    const kd_shape *w = &c->in[1].shape;
    const conv_geom g = conv3d_geometry(c->attr, &c->in[0].shape, &c->out[0].shape, w->dim[2], w->dim[3], w->dim[4]);
    return KD_K(conv_forward)(&g, c, KD_ACT_NONE);
}

const kd_kernel_def KD_K(conv3d) = {.run = conv3d_run};

static kd_status conv3d_bwd_x_run(const kd_call *c)
{
    const kd_conv3d_attr *a = c->attr;
    const kd_shape *w = &c->in[1].shape;
    const conv_geom g = conv3d_geometry(a, &a->x_shape, &c->in[0].shape, w->dim[2], w->dim[3], w->dim[4]);
    return KD_K(conv_backward_x)(&g, c);
}

const kd_kernel_def KD_K(conv3d_bwd_x) = {.run = conv3d_bwd_x_run};

static kd_status conv3d_bwd_w_run(const kd_call *c)
{
    const kd_conv3d_attr *a = c->attr;
    const conv_geom g = conv3d_geometry(a, &c->in[1].shape, &c->in[0].shape, a->kernel[0], a->kernel[1], a->kernel[2]);
    return KD_K(conv_backward_w)(&g, c);
}

const kd_kernel_def KD_K(conv3d_bwd_w) = {.run = conv3d_bwd_w_run};
