/* Rules of cos_qk: queries and keys of unit length. */
#include "kernels/op/rule.h"

static kd_shape norms_shape(const kd_spec *qkv, int32_t heads)
{
    return kd_shape4(qkv->shape.dim[0], qkv->shape.dim[1], 2, heads);
}

static kd_status cos_qk_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_cos_qk_attr *a = attr;
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    KD_TRY(kd_rule_qkv("cos_qk", &in[0], a->heads, err));
    KD_TRY(kd_rule_is("cos_qk", "log_scale", &in[1], stat, kd_shape1(a->heads), err));
    out[0] = in[0];
    out[1] = kd_rule_spec(stat, norms_shape(&in[0], a->heads));
    return KD_OK;
}

static kd_status cos_qk_grad(kd_grad_ctx *c)
{
    const kd_val in[4] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_out(c, 1)};
    kd_grad_emit(c, KD_OP_COS_QK_BWD, kd_grad_attr(c), in, 4, (const int[]){0, 1}, 2);
    return KD_OK;
}

KD_OP_DEFINE(cos_qk, .attr_size = sizeof(kd_cos_qk_attr), .infer = cos_qk_infer, .grad = cos_qk_grad);

static kd_status cos_qk_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_cos_qk_attr *a = attr;
    const kd_dtype stat = kd_stat_dtype(in[1].dtype);
    KD_TRY(kd_rule_qkv("cos_qk_bwd", &in[1], a->heads, err));
    KD_TRY(kd_rule_is("cos_qk_bwd", "dqkv'", &in[0], in[1].dtype, in[1].shape, err));
    KD_TRY(kd_rule_is("cos_qk_bwd", "log_scale", &in[2], stat, kd_shape1(a->heads), err));
    KD_TRY(kd_rule_is("cos_qk_bwd", "norms", &in[3], stat, norms_shape(&in[1], a->heads), err));
    out[0] = in[1];
    out[1] = in[2];
    return KD_OK;
}

KD_OP_DEFINE(cos_qk_bwd, .attr_size = sizeof(kd_cos_qk_attr), .infer = cos_qk_bwd_infer);
