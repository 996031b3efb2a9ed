/* batchnorm (training), its gradient, the running-statistics update and the eval form: shapes. */
#include "kernels/op/rule.h"

static kd_status check_channels(const char *op, const kd_spec *x, const kd_spec *in, const char *const *names, int n,
                                kd_err *err)
{
    KD_TRY(kd_rule_float(op, "x", x, 2, err));
    for (int i = 0; i < n; i++) {
        KD_TRY(kd_rule_is(op, names[i], &in[i], kd_stat_dtype(x->dtype), kd_shape1(x->shape.dim[1]), err));
    }
    return KD_OK;
}

/* The attributes that fusion sets. */
static kd_status check_tail(const char *op, const kd_batchnorm_attr *at, kd_err *err)
{
    const bool acts = at->act >= KD_ACT_NONE && at->act <= KD_ACT_LAST_FUSED && at->act_out >= KD_ACT_NONE &&
                      at->act_out <= KD_ACT_LAST_FUSED;
    if (!acts) {
        return KD_FAIL(err, KD_E_ARG, "%s: activations %d and %d, expected 0 to %d", op, (int)at->act, (int)at->act_out,
                       (int)KD_ACT_LAST_FUSED);
    }
    if (!(at->p >= 0.0f && at->p < 1.0f && at->path_p >= 0.0f && at->path_p < 1.0f)) {
        return KD_FAIL(err, KD_E_ARG, "%s: p is %g, path_p %g, expected 0 <= p < 1", op, (double)at->p,
                       (double)at->path_p);
    }
    return KD_OK;
}

static kd_status batchnorm_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    static const char *const names[] = {"gamma", "beta"};
    const char *op = "batchnorm";
    KD_TRY(check_channels(op, &in[0], &in[1], names, 2, err));
    KD_TRY(check_tail(op, attr, err));
    KD_TRY(kd_rule_maybe(op, "residual", &in[3], in[0].dtype, in[0].shape, err));
    if (!kd_rule_absent(&in[4]) || !kd_rule_absent(&in[5])) {
        KD_TRY(kd_rule_is(op, "running_mean", &in[4], in[1].dtype, in[1].shape, err));
        KD_TRY(kd_rule_is(op, "running_var", &in[5], in[1].dtype, in[1].shape, err));
    }
    out[0] = in[0];
    out[1] = out[2] = in[1];
    return KD_OK;
}

static kd_status batchnorm_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    static const char *const names[] = {"gamma", "mean", "var", "beta"};
    const char *op = "batchnorm_bwd";
    const kd_batchnorm_attr *at = attr;
    KD_TRY(check_tail(op, at, err));
    const bool acts = at->act != KD_ACT_NONE || at->act_out != KD_ACT_NONE;
    KD_TRY(check_channels(op, &in[1], &in[2], names, acts ? 4 : 3, err));
    KD_TRY(kd_rule_is(op, "dy", &in[0], in[1].dtype, in[1].shape, err));
    KD_TRY(kd_rule_maybe(op, "residual", &in[6], in[1].dtype, in[1].shape, err));
    if (!kd_rule_absent(&in[6]) && at->act_out == KD_ACT_NONE) {
        return KD_FAIL(err, KD_E_ARG, "%s: a residual without act_out", op);
    }
    out[0] = in[1];
    out[1] = out[2] = in[2];
    if (!kd_rule_absent(&in[6])) {
        out[3] = in[1];
    }
    return KD_OK;
}

static kd_status bn_update_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr, (void)out;
    static const char *const names[] = {"mean", "var", "running_mean", "running_var"};
    KD_TRY(kd_rule_float("bn_update", "mean", &in[0], 1, err));
    for (int i = 1; i < 4; i++) {
        KD_TRY(kd_rule_is("bn_update", names[i], &in[i], in[0].dtype, in[0].shape, err));
    }
    return KD_OK;
}

static kd_status batchnorm_eval_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    static const char *const names[] = {"gamma", "beta", "running_mean", "running_var"};
    KD_TRY(check_channels("batchnorm_eval", &in[0], &in[1], names, 4, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status batchnorm_grad(kd_grad_ctx *c)
{
    const kd_batchnorm_attr *at = kd_grad_attr(c);
    const kd_val dy = kd_grad_dout(c, 0);
    const bool out = at->act_out != KD_ACT_NONE, acts = out || at->act != KD_ACT_NONE;
    const kd_val in[7] = {dy,
                          kd_grad_in(c, 0),
                          kd_grad_in(c, 1),
                          kd_grad_out(c, 1),
                          kd_grad_out(c, 2),
                          acts ? kd_grad_in(c, 2) : KD_NONE,
                          out ? kd_grad_in(c, 3) : KD_NONE};
    kd_grad_emit(c, KD_OP_BATCHNORM_BWD, at, in, 7, (const int[]){0, 1, 2, 3}, 4);
    if (!out) {
        kd_grad_pass(c, 3, dy);
    }
    return KD_OK;
}

KD_OP_DEFINE(batchnorm, .attr_size = sizeof(kd_batchnorm_attr), .infer = batchnorm_infer, .grad = batchnorm_grad);
KD_OP_DEFINE(batchnorm_bwd, .attr_size = sizeof(kd_batchnorm_attr), .infer = batchnorm_bwd_infer);
KD_OP_DEFINE(bn_update, .attr_size = sizeof(kd_batchnorm_attr), .infer = bn_update_infer);
KD_OP_DEFINE(batchnorm_eval, .attr_size = sizeof(kd_batchnorm_attr), .infer = batchnorm_eval_infer);

/* ---- bn_fold --------------------------------------------------------------------------------- */

static kd_status bn_fold_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("bn_fold", "W", &in[0], 2, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    const kd_shape c = kd_shape1(in[0].shape.dim[0]);
    static const char *const names[] = {"gamma", "beta", "running_mean", "running_var"};
    if (!kd_rule_absent(&in[1])) {
        KD_TRY(kd_rule_is("bn_fold", "b", &in[1], stat, c, err));
    }
    for (int i = 0; i < 4; i++) {
        KD_TRY(kd_rule_is("bn_fold", names[i], &in[2 + i], stat, c, err));
    }
    out[0] = in[0];
    out[1] = (kd_spec){stat, c};
    return KD_OK;
}

KD_OP_DEFINE(bn_fold, .attr_size = sizeof(kd_batchnorm_attr), .infer = bn_fold_infer);
