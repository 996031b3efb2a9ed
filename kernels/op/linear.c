/* Rule of linear: y = act(pre), pre = x W^T + b. */
#include "kernels/op/rule.h"

static kd_status weight_check(const char *op, const kd_spec *x, const kd_spec *w, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "x", x, 1, err));
    KD_TRY(kd_rule_rank(op, "W", w, 2, err));
    return kd_rule_is(op, "W", w, x->dtype, kd_shape2(w->shape.dim[0], kd_rule_last(x)), err);
}

static kd_status linear_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_linear_attr *a = attr;
    KD_TRY(weight_check("linear", &in[0], &in[1], err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    KD_TRY(kd_rule_maybe("linear", "b", &in[2], stat, kd_shape1(in[1].shape.dim[0]), err));
    if (a->act < KD_ACT_NONE || a->act > KD_ACT_LAST_FUSED) {
        return KD_FAIL(err, KD_E_ARG, "linear: activation %d, expected 0 to %d", (int)a->act, (int)KD_ACT_LAST_FUSED);
    }
    out[0] = kd_rule_spec(a->stat_out ? stat : in[0].dtype, in[0].shape);
    out[0].shape.dim[in[0].shape.rank - 1] = in[1].shape.dim[0];
    if (a->act != KD_ACT_NONE && !a->stat_out) {
        out[1] = out[0];
    }
    return KD_OK;
}

static kd_status linear_grad(kd_grad_ctx *c)
{
    kd_graph *g = kd_grad_graph(c);
    kd_linear_attr a = *(const kd_linear_attr *)kd_grad_attr(c);
    const kd_val x = kd_grad_in(c, 0), w = kd_grad_in(c, 1), b = kd_grad_in(c, 2);
    kd_val dy = kd_grad_dout(c, 0);
    if (a.act != KD_ACT_NONE) {
        const kd_act_attr how = {a.act};
        const kd_val pre = kd_grad_out(c, 1);
        if (pre.id == 0) {
            kd_graph_fail(g, KD_E_STATE, "linear: an activation that keeps nothing has no gradient");
            return KD_E_STATE;
        }
        dy = dy.id != 0 ? kd_node2(g, KD_OP_ACT_BWD, &how, pre, dy) : dy;
        const kd_val dpre = kd_grad_dout(c, 1);
        dy = dy.id == 0 ? dpre : dpre.id == 0 ? dy : kd_node2(g, KD_OP_ADD, NULL, dy, dpre);
        a.act = KD_ACT_NONE;
    }
    const kd_dtype act = kd_spec_of(g, x).dtype;
    if (kd_spec_of(g, dy).dtype != act) { /* stat_out: back to what the matmuls read */
        const kd_cast_attr cast = {(int32_t)act};
        dy = kd_node1(g, KD_OP_CAST, &cast, dy);
    }
    a.has_bias = b.id != 0;
    kd_grad_emit(c, KD_OP_LINEAR_BWD_X, &a, (const kd_val[]){dy, w}, 2, (const int[]){0}, 1);
    kd_grad_emit(c, KD_OP_LINEAR_BWD_W, &a, (const kd_val[]){dy, x}, 2, (const int[]){1, 2}, 2);
    return KD_OK;
}

static int64_t linear_macs(const kd_call *c)
{
    return kd_shape_numel(&c->out[0].shape) * c->in[1].shape.dim[1];
}

KD_OP_DEFINE(linear, .attr_size = sizeof(kd_linear_attr), .infer = linear_infer, .grad = linear_grad,
             .macs = linear_macs);

static kd_status linear_bwd_x_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(kd_rule_float("linear_bwd_x", "dy", &in[0], 1, err));
    KD_TRY(kd_rule_rank("linear_bwd_x", "W", &in[1], 2, err));
    KD_TRY(
        kd_rule_is("linear_bwd_x", "W", &in[1], in[0].dtype, kd_shape2(kd_rule_last(&in[0]), in[1].shape.dim[1]), err));
    out[0] = in[0];
    out[0].shape.dim[in[0].shape.rank - 1] = in[1].shape.dim[1];
    if (((const kd_linear_attr *)attr)->act != KD_ACT_NONE) {
        return kd_rule_is("linear_bwd_x", "pre", &in[2], out[0].dtype, out[0].shape, err);
    }
    return KD_OK;
}

KD_OP_DEFINE(linear_bwd_x, .attr_size = sizeof(kd_linear_attr), .infer = linear_bwd_x_infer);

static kd_status linear_bwd_w_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(kd_rule_float("linear_bwd_w", "dy", &in[0], 1, err));
    KD_TRY(kd_rule_float("linear_bwd_w", "x", &in[1], 1, err));
    kd_shape want = in[0].shape;
    want.dim[want.rank - 1] = kd_rule_last(&in[1]);
    KD_TRY(kd_rule_is("linear_bwd_w", "x", &in[1], in[0].dtype, want, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    out[0] = kd_rule_spec(stat, kd_shape2(kd_rule_last(&in[0]), kd_rule_last(&in[1])));
    if (((const kd_linear_attr *)attr)->has_bias) {
        out[1] = kd_rule_spec(stat, kd_shape1(kd_rule_last(&in[0])));
    }
    return KD_OK;
}

KD_OP_DEFINE(linear_bwd_w, .attr_size = sizeof(kd_linear_attr), .infer = linear_bwd_w_infer);
