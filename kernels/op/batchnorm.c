/* batchnorm (training), its gradient, the running-statistics update and the eval form: shapes. */
#include "kernels/op/rule.h"

static kd_status check_channels(const char *op, const kd_spec *x, const kd_spec *in,
                                const char *const *names, int n, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "x", x, 2, err));
    for (int i = 0; i < n; i++) {
        KD_TRY(kd_rule_is(op, names[i], &in[i], kd_stat_dtype(x->dtype), kd_shape1(x->shape.dim[1]),
                          err));
    }
    return KD_OK;
}

static kd_status batchnorm_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                 kd_err *err)
{
    (void)n_in, (void)attr;
    static const char *const names[] = {"gamma", "beta"};
    KD_TRY(check_channels("batchnorm", &in[0], &in[1], names, 2, err));
    out[0] = in[0];
    out[1] = out[2] = in[1];
    return KD_OK;
}

static kd_status batchnorm_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                     kd_err *err)
{
    (void)n_in, (void)attr;
    static const char *const names[] = {"gamma", "mean", "var"};
    KD_TRY(check_channels("batchnorm_bwd", &in[1], &in[2], names, 3, err));
    KD_TRY(kd_rule_is("batchnorm_bwd", "dy", &in[0], in[1].dtype, in[1].shape, err));
    out[0] = in[1];
    out[1] = out[2] = in[2];
    return KD_OK;
}

static kd_status bn_update_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                 kd_err *err)
{
    (void)n_in, (void)attr, (void)out;
    static const char *const names[] = {"mean", "var", "running_mean", "running_var"};
    KD_TRY(kd_rule_float("bn_update", "mean", &in[0], 1, err));
    for (int i = 1; i < 4; i++) {
        KD_TRY(kd_rule_is("bn_update", names[i], &in[i], in[0].dtype, in[0].shape, err));
    }
    return KD_OK;
}

static kd_status batchnorm_eval_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                      kd_err *err)
{
    (void)n_in, (void)attr;
    static const char *const names[] = {"gamma", "beta", "running_mean", "running_var"};
    KD_TRY(check_channels("batchnorm_eval", &in[0], &in[1], names, 4, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status batchnorm_grad(kd_grad_ctx *c)
{
    const kd_val in[5] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_out(c, 1),
                          kd_grad_out(c, 2)};
    kd_grad_emit(c, KD_OP_BATCHNORM_BWD, kd_grad_attr(c), in, 5, (const int[]){0, 1, 2}, 3);
    return KD_OK;
}

const kd_op_rule kd_op_rule_batchnorm = {sizeof(kd_batchnorm_attr), batchnorm_infer,
                                         batchnorm_grad};
const kd_op_rule kd_op_rule_batchnorm_bwd = {sizeof(kd_batchnorm_attr), batchnorm_bwd_infer, NULL};
const kd_op_rule kd_op_rule_bn_update = {sizeof(kd_batchnorm_attr), bn_update_infer, NULL};
const kd_op_rule kd_op_rule_batchnorm_eval = {sizeof(kd_batchnorm_attr), batchnorm_eval_infer,
                                              NULL};
