/* Rule of layernorm. */
#include "kernels/op/rule.h"

static kd_shape rows_of(const kd_spec *x)
{
    return kd_shape1(kd_shape_span(&x->shape, 0, x->shape.rank - 1));
}

static kd_status layernorm_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                 kd_err *err)
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
    const kd_val in[5] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_out(c, 1),
                          kd_grad_out(c, 2)};
    kd_grad_emit(c, KD_OP_LAYERNORM_BWD, kd_grad_attr(c), in, 5, (const int[]){0, 1, 2}, 3);
    return KD_OK;
}

const kd_op_rule kd_op_rule_layernorm = {sizeof(kd_layernorm_attr), layernorm_infer,
                                         layernorm_grad};

static kd_status layernorm_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                     kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("layernorm_bwd", "x", &in[1], 1, err));
    KD_TRY(kd_rule_is("layernorm_bwd", "dy", &in[0], in[1].dtype, in[1].shape, err));
    const kd_dtype stat = kd_stat_dtype(in[1].dtype);
    const kd_shape channels = kd_shape1(kd_rule_last(&in[1]));
    KD_TRY(kd_rule_is("layernorm_bwd", "gamma", &in[2], stat, channels, err));
    KD_TRY(kd_rule_is("layernorm_bwd", "mean", &in[3], stat, rows_of(&in[1]), err));
    KD_TRY(kd_rule_is("layernorm_bwd", "rstd", &in[4], stat, rows_of(&in[1]), err));
    out[0] = in[1];
    out[1] = out[2] = kd_rule_spec(stat, channels);
    return KD_OK;
}

const kd_op_rule kd_op_rule_layernorm_bwd = {sizeof(kd_layernorm_attr), layernorm_bwd_infer, NULL};
