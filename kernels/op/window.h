/* Rules shared by conv2d and conv3d: shapes of a sliding window over any number of dims. */
#ifndef KD_KERNELS_OP_WINDOW_H
#define KD_KERNELS_OP_WINDOW_H

#include "kernels/op/rule.h"

/* The attributes of either op. */
typedef struct kd_window {
    int dims; /* 2 or 3 */
    int32_t stride[3], pad[3], dilation[3], kernel[3];
    int32_t groups;
    bool has_bias;
    const kd_shape *x_shape;
} kd_window;

static inline int64_t kd_window_out(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation)
{
    const int64_t span = in + 2 * pad - dilation * (kernel - 1) - 1;
    return span < 0 ? 0 : span / stride + 1;
}

static inline kd_status kd_window_check(const char *op, const kd_window *a, kd_err *err)
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
static inline kd_status kd_window_shapes(const char *op, const kd_window *a, const kd_shape *x, const kd_shape *w,
                                         kd_shape *y, kd_err *err)
{
    char tx[KD_SHAPE_TEXT_MAX], tw[KD_SHAPE_TEXT_MAX];
    const int rank = 2 + a->dims;
    bool larger = false;
    KD_TRY(kd_window_check(op, a, err));
    if (x->rank != rank || w->rank != rank || w->dim[1] * a->groups != x->dim[1] || w->dim[0] % a->groups != 0) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: x %s and W %s do not fit, expected %s and (Co,Ci/%d,%s)", op,
                       kd_shape_text(x, tx, sizeof tx), kd_shape_text(w, tw, sizeof tw),
                       a->dims == 2 ? "(N,Ci,H,W)" : "(N,Ci,T,H,W)", a->groups, a->dims == 2 ? "kh,kw" : "kt,kh,kw");
    }
    *y = (kd_shape){rank, {x->dim[0], w->dim[0]}};
    for (int i = 0; i < a->dims; i++) {
        y->dim[2 + i] = kd_window_out(x->dim[2 + i], w->dim[2 + i], a->stride[i], a->pad[i], a->dilation[i]);
        larger = larger || y->dim[2 + i] < 1;
    }
    if (larger) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: kernel of W %s is larger than the padded input %s", op,
                       kd_shape_text(w, tw, sizeof tw), kd_shape_text(x, tx, sizeof tx));
    }
    return KD_OK;
}

static inline kd_status kd_window_infer(const char *op, const kd_window *a, const kd_spec *in, kd_spec *out,
                                        kd_err *err)
{
    kd_shape y = {0};
    KD_TRY(kd_rule_float(op, "x", &in[0], 2 + a->dims, err));
    KD_TRY(kd_rule_dtype(op, "W", &in[1], in[0].dtype, err));
    KD_TRY(kd_window_shapes(op, a, &in[0].shape, &in[1].shape, &y, err));
    KD_TRY(kd_rule_maybe(op, "b", &in[2], kd_stat_dtype(in[0].dtype), kd_shape1(y.dim[1]), err));
    out[0] = kd_rule_spec(in[0].dtype, y);
    return KD_OK;
}

static inline kd_status kd_window_infer_bwd_x(const char *op, const kd_window *a, const kd_spec *in, kd_spec *out,
                                              kd_err *err)
{
    kd_shape y = {0};
    KD_TRY(kd_rule_float(op, "dy", &in[0], 2 + a->dims, err));
    KD_TRY(kd_rule_dtype(op, "W", &in[1], in[0].dtype, err));
    KD_TRY(kd_window_shapes(op, a, a->x_shape, &in[1].shape, &y, err));
    KD_TRY(kd_rule_is(op, "dy", &in[0], in[0].dtype, y, err));
    out[0] = kd_rule_spec(in[0].dtype, *a->x_shape);
    return KD_OK;
}

static inline kd_status kd_window_infer_bwd_w(const char *op, const kd_window *a, const kd_spec *in, kd_spec *out,
                                              kd_err *err)
{
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    kd_shape y = {0};
    KD_TRY(kd_rule_float(op, "dy", &in[0], 2 + a->dims, err));
    KD_TRY(kd_rule_dtype(op, "x", &in[1], in[0].dtype, err));
    KD_TRY(kd_rule_rank(op, "x", &in[1], 2 + a->dims, err));
    KD_TRY(kd_window_check(op, a, err));
    kd_shape w = {2 + a->dims, {in[0].shape.dim[1], in[1].shape.dim[1] / a->groups}};
    for (int i = 0; i < a->dims; i++) {
        w.dim[2 + i] = a->kernel[i];
    }
    KD_TRY(kd_window_shapes(op, a, &in[1].shape, &w, &y, err));
    KD_TRY(kd_rule_is(op, "dy", &in[0], in[0].dtype, y, err));
    out[0] = kd_rule_spec(stat, w);
    if (a->has_bias) {
        out[1] = kd_rule_spec(stat, kd_shape1(w.dim[0]));
    }
    return KD_OK;
}

static inline void kd_window_grad(kd_grad_ctx *c, kd_op bwd_x, kd_op bwd_w, const void *attr)
{
    const kd_val for_x[2] = {kd_grad_dout(c, 0), kd_grad_in(c, 1)};
    const kd_val for_w[2] = {kd_grad_dout(c, 0), kd_grad_in(c, 0)};
    kd_grad_emit(c, bwd_x, attr, for_x, 2, (const int[]){0}, 1);
    kd_grad_emit(c, bwd_w, attr, for_w, 2, (const int[]){1, 2}, 2);
}

/* Every output element sums one filter: channels of a group times taps. */
static inline int64_t kd_window_macs(const kd_call *c)
{
    const kd_shape *w = &c->in[1].shape;
    return kd_shape_numel(&c->out[0].shape) * kd_shape_span(w, 1, w->rank);
}

#endif
