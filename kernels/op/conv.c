/* conv2d, conv3d and their gradients: shapes.  One set of rules for any number of spatial dims. */
#include "kernels/op/rule.h"

/* What the attributes of both say. */
typedef struct window {
    int dims; /* 2 or 3 */
    int32_t stride[3], pad[3], dilation[3], kernel[3];
    int32_t groups;
    bool has_bias;
    const kd_shape *x_shape;
} window;

static window window2(const kd_conv2d_attr *a)
{
    window w = {.dims = 2, .groups = a->groups, .has_bias = a->has_bias != 0, .x_shape = &a->x_shape};
    memcpy(w.stride, a->stride, sizeof a->stride);
    memcpy(w.pad, a->pad, sizeof a->pad);
    memcpy(w.dilation, a->dilation, sizeof a->dilation);
    memcpy(w.kernel, a->kernel, sizeof a->kernel);
    return w;
}

static window window3(const kd_conv3d_attr *a)
{
    window w = {.dims = 3, .groups = a->groups, .has_bias = a->has_bias != 0, .x_shape = &a->x_shape};
    memcpy(w.stride, a->stride, sizeof a->stride);
    memcpy(w.pad, a->pad, sizeof a->pad);
    memcpy(w.dilation, a->dilation, sizeof a->dilation);
    memcpy(w.kernel, a->kernel, sizeof a->kernel);
    return w;
}

static int64_t out_dim(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation)
{
    const int64_t span = in + 2 * pad - dilation * (kernel - 1) - 1;
    return span < 0 ? 0 : span / stride + 1;
}

static kd_status check_window(const char *op, const window *a, kd_err *err)
{
    for (int i = 0; i < a->dims; i++) {
        if (a->stride[i] < 1 || a->dilation[i] < 1 || a->pad[i] < 0) {
            return KD_FAIL(err, KD_E_ARG, "%s: stride %d, padding %d, dilation %d; expected >= 1, >= 0, >= 1", op,
                           a->stride[i], a->pad[i], a->dilation[i]);
        }
    }
    if (a->groups < 1) {
        return KD_FAIL(err, KD_E_ARG, "%s: groups is %d, expected >= 1", op, a->groups);
    }
    return KD_OK;
}

/* Does dy (N,Co,..) follow from x and W?  Fills the shape of y. */
static kd_status check_shapes(const char *op, const window *a, const kd_shape *x, const kd_shape *w, kd_shape *y,
                              kd_err *err)
{
    char tx[KD_SHAPE_TEXT_MAX], tw[KD_SHAPE_TEXT_MAX];
    const int rank = 2 + a->dims;
    bool larger = false;
    KD_TRY(check_window(op, a, err));
    if (x->rank != rank || w->rank != rank || w->dim[1] * a->groups != x->dim[1] || w->dim[0] % a->groups != 0) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: x %s and W %s do not fit, expected %s and (Co,Ci/%d,%s)", op,
                       kd_shape_text(x, tx, sizeof tx), kd_shape_text(w, tw, sizeof tw),
                       a->dims == 2 ? "(N,Ci,H,W)" : "(N,Ci,T,H,W)", a->groups, a->dims == 2 ? "kh,kw" : "kt,kh,kw");
    }
    *y = (kd_shape){rank, {x->dim[0], w->dim[0]}};
    for (int i = 0; i < a->dims; i++) {
        y->dim[2 + i] = out_dim(x->dim[2 + i], w->dim[2 + i], a->stride[i], a->pad[i], a->dilation[i]);
        larger = larger || y->dim[2 + i] < 1;
    }
    if (larger) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: kernel of W %s is larger than the padded input %s", op,
                       kd_shape_text(w, tw, sizeof tw), kd_shape_text(x, tx, sizeof tx));
    }
    return KD_OK;
}

static kd_status infer(const char *op, const window *a, const kd_spec *in, kd_spec *out, kd_err *err)
{
    kd_shape y = {0};
    KD_TRY(kd_rule_float(op, "x", &in[0], 2 + a->dims, err));
    KD_TRY(kd_rule_dtype(op, "W", &in[1], in[0].dtype, err));
    KD_TRY(check_shapes(op, a, &in[0].shape, &in[1].shape, &y, err));
    KD_TRY(kd_rule_maybe(op, "b", &in[2], kd_stat_dtype(in[0].dtype), kd_shape1(y.dim[1]), err));
    out[0] = kd_rule_spec(in[0].dtype, y);
    return KD_OK;
}

static kd_status infer_bwd_x(const char *op, const window *a, const kd_spec *in, kd_spec *out, kd_err *err)
{
    kd_shape y = {0};
    KD_TRY(kd_rule_float(op, "dy", &in[0], 2 + a->dims, err));
    KD_TRY(kd_rule_dtype(op, "W", &in[1], in[0].dtype, err));
    KD_TRY(check_shapes(op, a, a->x_shape, &in[1].shape, &y, err));
    KD_TRY(kd_rule_is(op, "dy", &in[0], in[0].dtype, y, err));
    out[0] = kd_rule_spec(in[0].dtype, *a->x_shape);
    return KD_OK;
}

static kd_status infer_bwd_w(const char *op, const window *a, const kd_spec *in, kd_spec *out, kd_err *err)
{
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    kd_shape y = {0};
    KD_TRY(kd_rule_float(op, "dy", &in[0], 2 + a->dims, err));
    KD_TRY(kd_rule_dtype(op, "x", &in[1], in[0].dtype, err));
    KD_TRY(kd_rule_rank(op, "x", &in[1], 2 + a->dims, err));
    KD_TRY(check_window(op, a, err));
    kd_shape w = {2 + a->dims, {in[0].shape.dim[1], in[1].shape.dim[1] / a->groups}};
    for (int i = 0; i < a->dims; i++) {
        w.dim[2 + i] = a->kernel[i];
    }
    KD_TRY(check_shapes(op, a, &in[1].shape, &w, &y, err));
    KD_TRY(kd_rule_is(op, "dy", &in[0], in[0].dtype, y, err));
    out[0] = kd_rule_spec(stat, w);
    if (a->has_bias) {
        out[1] = kd_rule_spec(stat, kd_shape1(w.dim[0]));
    }
    return KD_OK;
}

static void emit(kd_grad_ctx *c, kd_op bwd_x, kd_op bwd_w, const void *attr)
{
    const kd_val for_x[2] = {kd_grad_dout(c, 0), kd_grad_in(c, 1)};
    const kd_val for_w[2] = {kd_grad_dout(c, 0), kd_grad_in(c, 0)};
    kd_grad_emit(c, bwd_x, attr, for_x, 2, (const int[]){0}, 1);
    kd_grad_emit(c, bwd_w, attr, for_w, 2, (const int[]){1, 2}, 2);
}

/* ---- conv2d ---------------------------------------------------------------------------------- */

static kd_status conv2d_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const window a = window2(attr);
    return infer("conv2d", &a, in, out, err);
}

static kd_status conv2d_bwd_x_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const window a = window2(attr);
    KD_TRY(infer_bwd_x("conv2d_bwd_x", &a, in, out, err));
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
    const window a = window2(attr);
    return infer_bwd_w("conv2d_bwd_w", &a, in, out, err);
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
    emit(c, KD_OP_CONV2D_BWD_X, KD_OP_CONV2D_BWD_W, &a);
    return KD_OK;
}

/* Every output element sums one filter: channels of a group times taps. */
static int64_t conv2d_macs(const kd_call *c)
{
    const kd_shape *w = &c->in[1].shape;
    return kd_shape_numel(&c->out[0].shape) * kd_shape_span(w, 1, w->rank);
}

KD_OP_DEFINE(conv2d, .attr_size = sizeof(kd_conv2d_attr), .infer = conv2d_infer, .grad = conv2d_grad,
             .macs = conv2d_macs);
KD_OP_DEFINE(conv2d_bwd_x, .attr_size = sizeof(kd_conv2d_attr), .infer = conv2d_bwd_x_infer);
KD_OP_DEFINE(conv2d_bwd_w, .attr_size = sizeof(kd_conv2d_attr), .infer = conv2d_bwd_w_infer);

/* ---- conv3d ---------------------------------------------------------------------------------- */

static kd_status conv3d_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const window a = window3(attr);
    return infer("conv3d", &a, in, out, err);
}

static kd_status conv3d_bwd_x_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const window a = window3(attr);
    return infer_bwd_x("conv3d_bwd_x", &a, in, out, err);
}

static kd_status conv3d_bwd_w_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const window a = window3(attr);
    return infer_bwd_w("conv3d_bwd_w", &a, in, out, err);
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
    emit(c, KD_OP_CONV3D_BWD_X, KD_OP_CONV3D_BWD_W, &a);
    return KD_OK;
}

static int64_t conv3d_macs(const kd_call *c)
{
    const kd_shape *w = &c->in[1].shape;
    return kd_shape_numel(&c->out[0].shape) * kd_shape_span(w, 1, w->rank);
}

KD_OP_DEFINE(conv3d, .attr_size = sizeof(kd_conv3d_attr), .infer = conv3d_infer, .grad = conv3d_grad,
             .macs = conv3d_macs);
KD_OP_DEFINE(conv3d_bwd_x, .attr_size = sizeof(kd_conv3d_attr), .infer = conv3d_bwd_x_infer);
KD_OP_DEFINE(conv3d_bwd_w, .attr_size = sizeof(kd_conv3d_attr), .infer = conv3d_bwd_w_infer);
