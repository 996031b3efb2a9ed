/* Rules of sum_lead, reduce, softmax. */
#include "kernels/op/rule.h"

static kd_status sum_lead_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_sum_lead_attr *a = attr;
    KD_TRY(kd_rule_float("sum_lead", "x", &in[0], 0, err));
    if (a->keep < 0 || a->keep > in[0].shape.rank) {
        char t[KD_SHAPE_TEXT_MAX];
        return KD_FAIL(err, KD_E_ARG, "sum_lead: cannot keep %d dims of %s", (int)a->keep,
                       kd_shape_text(&in[0].shape, t, sizeof t));
    }
    kd_shape s = {a->keep, {0}};
    for (int i = 0; i < a->keep; i++) {
        s.dim[i] = in[0].shape.dim[in[0].shape.rank - a->keep + i];
    }
    out[0] = kd_rule_spec(a->to_stat ? kd_stat_dtype(in[0].dtype) : in[0].dtype, s);
    return KD_OK;
}

KD_OP_DEFINE(sum_lead, .attr_size = sizeof(kd_sum_lead_attr), .infer = sum_lead_infer);

/* ---- reduce ---------------------------------------------------------------------------------- */

static kd_status reduced_shape(const char *op, const kd_reduce_attr *a, const kd_shape *x, kd_shape *y, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    if (a->kind < KD_REDUCE_MEAN || a->kind > KD_REDUCE_MAX) {
        return KD_FAIL(err, KD_E_ARG, "%s: kind %d is not a kd_reduce_kind", op, (int)a->kind);
    }
    if (a->axes == 0 || x->rank < 1 || (a->axes >> x->rank) != 0) {
        return KD_FAIL(err, KD_E_ARG, "%s: axes 0x%x do not name dims of %s", op, (unsigned)a->axes,
                       kd_shape_text(x, t, sizeof t));
    }
    *y = kd_shape0();
    for (int i = 0; i < x->rank; i++) {
        if (((a->axes >> i) & 1u) == 0) {
            y->dim[y->rank++] = x->dim[i];
        } else if (x->dim[i] == 0) {
            return KD_FAIL(err, KD_E_SHAPE, "%s: dim %d of %s is empty", op, i, kd_shape_text(x, t, sizeof t));
        }
    }
    return KD_OK;
}

static kd_status reduce_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(kd_rule_float("reduce", "x", &in[0], 1, err));
    out[0].dtype = in[0].dtype;
    return reduced_shape("reduce", attr, &in[0].shape, &out[0].shape, err);
}

static kd_status reduce_grad(kd_grad_ctx *c)
{
    const kd_reduce_attr *f = kd_grad_attr(c);
    kd_reduce_attr a = *f;
    a.x_shape = kd_spec_of(kd_grad_graph(c), kd_grad_in(c, 0)).shape;
    const bool max = a.kind == KD_REDUCE_MAX;
    const kd_val in[3] = {kd_grad_dout(c, 0), max ? kd_grad_in(c, 0) : KD_NONE, max ? kd_grad_out(c, 0) : KD_NONE};
    kd_grad_emit(c, KD_OP_REDUCE_BWD, &a, in, 3, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(reduce, .attr_size = sizeof(kd_reduce_attr), .infer = reduce_infer, .grad = reduce_grad);

static kd_status reduce_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_reduce_attr *a = attr;
    kd_shape y;
    KD_TRY(reduced_shape("reduce_bwd", a, &a->x_shape, &y, err));
    KD_TRY(kd_rule_float("reduce_bwd", "dy", &in[0], 0, err));
    KD_TRY(kd_rule_is("reduce_bwd", "dy", &in[0], in[0].dtype, y, err));
    if (a->kind == KD_REDUCE_MAX) {
        KD_TRY(kd_rule_is("reduce_bwd", "x", &in[1], in[0].dtype, a->x_shape, err));
        KD_TRY(kd_rule_is("reduce_bwd", "y", &in[2], in[0].dtype, y, err));
    }
    KD_TRY(kd_rule_maybe("reduce_bwd", "plus", &in[3], in[0].dtype, a->x_shape, err));
    out[0] = kd_rule_spec(in[0].dtype, a->x_shape);
    return KD_OK;
}

KD_OP_DEFINE(reduce_bwd, .attr_size = sizeof(kd_reduce_attr), .infer = reduce_bwd_infer);

/* ---- softmax --------------------------------------------------------------------------------- */

static kd_status softmax_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("softmax", "x", &in[0], 1, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status softmax_grad(kd_grad_ctx *c)
{
    const kd_val in[2] = {kd_grad_dout(c, 0), kd_grad_out(c, 0)};
    kd_grad_emit(c, KD_OP_SOFTMAX_BWD, kd_grad_attr(c), in, 2, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(softmax, .attr_size = sizeof(kd_softmax_attr), .infer = softmax_infer, .grad = softmax_grad);

static kd_status softmax_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    if (((const kd_softmax_attr *)attr)->out_scale == 0.0f) {
        return KD_FAIL(err, KD_E_ARG, "softmax_bwd: out_scale is 0");
    }
    KD_TRY(kd_rule_float("softmax_bwd", "dy", &in[0], 1, err));
    KD_TRY(kd_rule_is("softmax_bwd", "y", &in[1], in[0].dtype, in[0].shape, err));
    out[0] = in[0];
    return KD_OK;
}

KD_OP_DEFINE(softmax_bwd, .attr_size = sizeof(kd_softmax_attr), .infer = softmax_bwd_infer);
