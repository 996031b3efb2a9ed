/* Rules of layernorm and of the residual sum in front of it. */
#include "kernels/op/rule.h"

static kd_shape rows_of(const kd_spec *x)
{
    return kd_shape1(kd_shape_span(&x->shape, 0, x->shape.rank - 1));
}

static kd_status layernorm_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("layernorm", "x", &in[0], 1, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    const kd_shape channels = kd_shape1(kd_rule_last(&in[0]));
    KD_TRY(kd_rule_is("layernorm", "gamma", &in[1], stat, channels, err));
    KD_TRY(kd_rule_is("layernorm", "beta", &in[2], stat, channels, err));
    out[0] = in[0];
    out[1] = out[2] = kd_rule_spec(stat, rows_of(&in[0]));
    return KD_OK;
}

static kd_status layernorm_grad(kd_grad_ctx *c)
{
    const kd_val in[5] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_out(c, 1), kd_grad_out(c, 2)};
    kd_grad_emit(c, KD_OP_LAYERNORM_BWD, kd_grad_attr(c), in, 5, (const int[]){0, 1, 2}, 3);
    return KD_OK;
}

KD_OP_DEFINE(layernorm, .attr_size = sizeof(kd_layernorm_attr), .infer = layernorm_infer, .grad = layernorm_grad);

/* dy, and from `in` on x, gamma, mean, rstd; gives the spec of dgamma and dbeta. */
static kd_status backward_check(const char *op, const kd_spec *dy, const kd_spec *in, kd_spec *params, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "x", &in[0], 1, err));
    KD_TRY(kd_rule_is(op, "dy", dy, in[0].dtype, in[0].shape, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    *params = kd_rule_spec(stat, kd_shape1(kd_rule_last(&in[0])));
    KD_TRY(kd_rule_is(op, "gamma", &in[1], stat, params->shape, err));
    KD_TRY(kd_rule_is(op, "mean", &in[2], stat, rows_of(&in[0]), err));
    return kd_rule_is(op, "rstd", &in[3], stat, rows_of(&in[0]), err);
}

static kd_status layernorm_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(backward_check("layernorm_bwd", &in[0], &in[1], &out[1], err));
    out[0] = in[1];
    out[2] = out[1];
    return KD_OK;
}

KD_OP_DEFINE(layernorm_bwd, .attr_size = sizeof(kd_layernorm_attr), .infer = layernorm_bwd_infer);

/* ---- add_layernorm --------------------------------------------------------------------------- */

static kd_status add_layernorm_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_add_layernorm_attr *at = attr;
    if (!(at->p >= 0.0f && at->p < 1.0f)) {
        return KD_FAIL(err, KD_E_ARG, "add_layernorm: p is %g, expected 0 <= p < 1", (double)at->p);
    }
    KD_TRY(kd_rule_float("add_layernorm", "a", &in[0], 1, err));
    KD_TRY(kd_rule_is("add_layernorm", "b", &in[1], in[0].dtype, in[0].shape, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    const kd_shape channels = kd_shape1(kd_rule_last(&in[0]));
    KD_TRY(kd_rule_is("add_layernorm", "gamma", &in[2], stat, channels, err));
    KD_TRY(kd_rule_is("add_layernorm", "beta", &in[3], stat, channels, err));
    out[0] = out[1] = in[0];
    out[2] = out[3] = kd_rule_spec(stat, rows_of(&in[0]));
    return KD_OK;
}

static kd_status add_layernorm_grad(kd_grad_ctx *c)
{
    const kd_add_layernorm_attr *at = kd_grad_attr(c);
    const kd_val ds = kd_grad_dout(c, 0), dy = kd_grad_dout(c, 1);
    const kd_dropout_attr drop = {at->p, at->rng_id, 1};
    const bool drops = at->p > 0.0f;
    if (dy.id == 0) { /* the normalised rows have no reader: only the sum is left */
        kd_grad_pass(c, 0, ds);
        if (drops) {
            kd_grad_emit(c, KD_OP_DROPOUT, &drop, &ds, 1, (const int[]){1}, 1);
        } else {
            kd_grad_pass(c, 1, ds);
        }
        return KD_OK;
    }
    const kd_val in[6] = {dy, ds, kd_grad_out(c, 0), kd_grad_in(c, 2), kd_grad_out(c, 2), kd_grad_out(c, 3)};
    const int first = kd_grad_wants(c, 0) ? 0 : drops ? -1 : 1;
    const kd_val da =
        kd_grad_emit(c, KD_OP_ADD_LAYERNORM_BWD, at, in, 6, (const int[]){first, drops ? 1 : -1, 2, 3}, 4);
    if (!drops && first == 0) {
        kd_grad_pass(c, 1, da);
    }
    return KD_OK;
}

KD_OP_DEFINE(add_layernorm, .attr_size = sizeof(kd_add_layernorm_attr), .infer = add_layernorm_infer,
             .grad = add_layernorm_grad);

static kd_status add_layernorm_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const char *op = "add_layernorm_bwd";
    KD_TRY(backward_check(op, &in[0], &in[2], &out[2], err));
    KD_TRY(kd_rule_maybe(op, "ds", &in[1], in[2].dtype, in[2].shape, err));
    out[0] = in[2];
    if (((const kd_add_layernorm_attr *)attr)->p > 0.0f) {
        out[1] = in[2];
    }
    out[3] = out[2];
    return KD_OK;
}

KD_OP_DEFINE(add_layernorm_bwd, .attr_size = sizeof(kd_add_layernorm_attr), .infer = add_layernorm_bwd_infer);
