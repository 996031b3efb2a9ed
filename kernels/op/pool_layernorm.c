/* Rule of pool_layernorm. */
#include "kernels/op/rule.h"

static kd_status pool_layernorm_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("pool_layernorm", "x", &in[0], 3, err));
    KD_TRY(kd_rule_rank("pool_layernorm", "x", &in[0], 3, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    const int64_t B = in[0].shape.dim[0], C = in[0].shape.dim[2];
    KD_TRY(kd_rule_is("pool_layernorm", "gamma", &in[1], stat, kd_shape1(C), err));
    KD_TRY(kd_rule_is("pool_layernorm", "beta", &in[2], stat, kd_shape1(C), err));
    out[0] = kd_rule_spec(in[0].dtype, kd_shape2(B, C));
    out[1] = kd_rule_spec(stat, kd_shape2(B, C));
    out[2] = out[3] = kd_rule_spec(stat, kd_shape1(B));
    return KD_OK;
}

static kd_status pool_layernorm_grad(kd_grad_ctx *c)
{
    kd_pool_layernorm_attr a = *(const kd_pool_layernorm_attr *)kd_grad_attr(c);
    const kd_val in[5] = {kd_grad_dout(c, 0), kd_grad_out(c, 1), kd_grad_in(c, 1), kd_grad_out(c, 2),
                          kd_grad_out(c, 3)};
    a.tokens = kd_spec_of(kd_grad_graph(c), kd_grad_in(c, 0)).shape.dim[1];
    kd_grad_emit(c, KD_OP_POOL_LAYERNORM_BWD, &a, in, 5, (const int[]){0, 1, 2}, 3);
    return KD_OK;
}

KD_OP_DEFINE(pool_layernorm, .attr_size = sizeof(kd_pool_layernorm_attr), .infer = pool_layernorm_infer,
             .grad = pool_layernorm_grad);

static kd_status pool_layernorm_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const int64_t tokens = ((const kd_pool_layernorm_attr *)attr)->tokens;
    KD_TRY(kd_rule_float("pool_layernorm_bwd", "dy", &in[0], 2, err));
    KD_TRY(kd_rule_rank("pool_layernorm_bwd", "dy", &in[0], 2, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    const kd_shape rows = kd_shape1(in[0].shape.dim[0]), channels = kd_shape1(in[0].shape.dim[1]);
    KD_TRY(kd_rule_is("pool_layernorm_bwd", "pooled", &in[1], stat, in[0].shape, err));
    KD_TRY(kd_rule_is("pool_layernorm_bwd", "gamma", &in[2], stat, channels, err));
    KD_TRY(kd_rule_is("pool_layernorm_bwd", "mean", &in[3], stat, rows, err));
    KD_TRY(kd_rule_is("pool_layernorm_bwd", "rstd", &in[4], stat, rows, err));
    if (tokens < 0) {
        return KD_FAIL(err, KD_E_ARG, "pool_layernorm_bwd: %lld tokens", (long long)tokens);
    }
    out[0] = kd_rule_spec(in[0].dtype, kd_shape3(rows.dim[0], tokens, channels.dim[0]));
    out[1] = out[2] = kd_rule_spec(stat, channels);
    return KD_OK;
}

KD_OP_DEFINE(pool_layernorm_bwd, .attr_size = sizeof(kd_pool_layernorm_attr), .infer = pool_layernorm_bwd_infer);
