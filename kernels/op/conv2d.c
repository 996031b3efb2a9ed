/* conv2d and its two gradients: shapes. */
#include "kernels/op/rule.h"

static int64_t out_dim(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation)
{
    const int64_t span = in + 2 * pad - dilation * (kernel - 1) - 1;
    return span < 0 ? 0 : span / stride + 1;
}

static kd_status check_attr(const char *op, const kd_conv2d_attr *a, kd_err *err)
{
    for (int i = 0; i < 2; i++) {
        if (a->stride[i] < 1 || a->dilation[i] < 1 || a->pad[i] < 0) {
            return KD_FAIL(err, KD_E_ARG,
                           "%s: stride %d, padding %d, dilation %d; expected >= 1, >= 0, >= 1", op,
                           a->stride[i], a->pad[i], a->dilation[i]);
        }
    }
    if (a->groups < 1) {
        return KD_FAIL(err, KD_E_ARG, "%s: groups is %d, expected >= 1", op, a->groups);
    }
    return KD_OK;
}

/* Does dy (N,Co,Ho,Wo) follow from x and W?  Fills the shape of y. */
static kd_status check_shapes(const char *op, const kd_conv2d_attr *a, const kd_shape *x,
                              const kd_shape *w, kd_shape *y, kd_err *err)
{
    char tx[KD_SHAPE_TEXT_MAX], tw[KD_SHAPE_TEXT_MAX];
    KD_TRY(check_attr(op, a, err));
    if (x->rank != 4 || w->rank != 4 || w->dim[1] * a->groups != x->dim[1] ||
        w->dim[0] % a->groups != 0) {
        return KD_FAIL(err, KD_E_SHAPE,
                       "%s: x %s and W %s do not fit, expected (N,Ci,H,W) and (Co,Ci/%d,kh,kw)", op,
                       kd_shape_text(x, tx, sizeof tx), kd_shape_text(w, tw, sizeof tw), a->groups);
    }
    *y = kd_shape4(x->dim[0], w->dim[0],
                   out_dim(x->dim[2], w->dim[2], a->stride[0], a->pad[0], a->dilation[0]),
                   out_dim(x->dim[3], w->dim[3], a->stride[1], a->pad[1], a->dilation[1]));
    if (y->dim[2] < 1 || y->dim[3] < 1) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: kernel of W %s is larger than the padded input %s", op,
                       kd_shape_text(w, tw, sizeof tw), kd_shape_text(x, tx, sizeof tx));
    }
    return KD_OK;
}

static kd_status conv2d_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                              kd_err *err)
{
    (void)n_in;
    kd_shape y = {0};
    KD_TRY(kd_rule_float("conv2d", "x", &in[0], 4, err));
    KD_TRY(kd_rule_dtype("conv2d", "W", &in[1], in[0].dtype, err));
    KD_TRY(check_shapes("conv2d", attr, &in[0].shape, &in[1].shape, &y, err));
    KD_TRY(
        kd_rule_maybe("conv2d", "b", &in[2], kd_stat_dtype(in[0].dtype), kd_shape1(y.dim[1]), err));
    out[0] = kd_rule_spec(in[0].dtype, y);
    return KD_OK;
}

static kd_status conv2d_bwd_x_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                    kd_err *err)
{
    (void)n_in;
    const kd_conv2d_attr *a = attr;
    kd_shape y = {0};
    KD_TRY(kd_rule_float("conv2d_bwd_x", "dy", &in[0], 4, err));
    KD_TRY(kd_rule_dtype("conv2d_bwd_x", "W", &in[1], in[0].dtype, err));
    KD_TRY(check_shapes("conv2d_bwd_x", a, &a->x_shape, &in[1].shape, &y, err));
    KD_TRY(kd_rule_is("conv2d_bwd_x", "dy", &in[0], in[0].dtype, y, err));
    out[0] = kd_rule_spec(in[0].dtype, a->x_shape);
    return KD_OK;
}

static kd_status conv2d_bwd_w_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                    kd_err *err)
{
    (void)n_in;
    const kd_conv2d_attr *a = attr;
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    kd_shape y = {0};
    KD_TRY(kd_rule_float("conv2d_bwd_w", "dy", &in[0], 4, err));
    KD_TRY(kd_rule_dtype("conv2d_bwd_w", "x", &in[1], in[0].dtype, err));
    KD_TRY(kd_rule_rank("conv2d_bwd_w", "x", &in[1], 4, err));
    KD_TRY(check_attr("conv2d_bwd_w", a, err));
    const kd_shape w =
        kd_shape4(in[0].shape.dim[1], in[1].shape.dim[1] / a->groups, a->kernel[0], a->kernel[1]);
    KD_TRY(check_shapes("conv2d_bwd_w", a, &in[1].shape, &w, &y, err));
    KD_TRY(kd_rule_is("conv2d_bwd_w", "dy", &in[0], in[0].dtype, y, err));
    out[0] = kd_rule_spec(stat, w);
    if (a->has_bias != 0) {
        out[1] = kd_rule_spec(stat, kd_shape1(w.dim[0]));
    }
    return KD_OK;
}

static kd_status conv2d_grad(kd_grad_ctx *c)
{
    kd_graph *g = kd_grad_graph(c);
    kd_conv2d_attr a = *(const kd_conv2d_attr *)kd_grad_attr(c);
    const kd_spec w = kd_spec_of(g, kd_grad_in(c, 1));
    const kd_val dy = kd_grad_dout(c, 0);
    if (a.act != KD_ACT_NONE) {
        kd_graph_fail(g, KD_E_UNSUPPORTED, "conv2d: a fused activation has no gradient");
        return KD_E_UNSUPPORTED;
    }
    a.x_shape = kd_spec_of(g, kd_grad_in(c, 0)).shape;
    a.kernel[0] = (int32_t)w.shape.dim[2];
    a.kernel[1] = (int32_t)w.shape.dim[3];
    a.has_bias = kd_grad_in(c, 2).id != 0;
    const kd_val for_x[2] = {dy, kd_grad_in(c, 1)};
    const kd_val for_w[2] = {dy, kd_grad_in(c, 0)};
    kd_grad_emit(c, KD_OP_CONV2D_BWD_X, &a, for_x, 2, (const int[]){0}, 1);
    kd_grad_emit(c, KD_OP_CONV2D_BWD_W, &a, for_w, 2, (const int[]){1, 2}, 2);
    return KD_OK;
}

const kd_op_rule kd_op_rule_conv2d = {sizeof(kd_conv2d_attr), conv2d_infer, conv2d_grad};
const kd_op_rule kd_op_rule_conv2d_bwd_x = {sizeof(kd_conv2d_attr), conv2d_bwd_x_infer, NULL};
const kd_op_rule kd_op_rule_conv2d_bwd_w = {sizeof(kd_conv2d_attr), conv2d_bwd_w_infer, NULL};
