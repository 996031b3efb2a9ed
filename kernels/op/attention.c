/* Rules of attention. */
#include "kernels/op/rule.h"

static kd_shape o_shape(const kd_spec *qkv)
{
    return kd_shape3(qkv->shape.dim[0], qkv->shape.dim[1], qkv->shape.dim[2] / 3);
}

static kd_status attention_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_attention_attr *a = attr;
    KD_TRY(kd_rule_qkv("attention", &in[0], a->heads, err));
    out[0] = kd_rule_spec(in[0].dtype, o_shape(&in[0]));
    out[1] = kd_rule_spec(kd_stat_dtype(in[0].dtype), kd_shape3(in[0].shape.dim[0], a->heads, in[0].shape.dim[1]));
    return KD_OK;
}

static kd_status attention_grad(kd_grad_ctx *c)
{
    const kd_val in[4] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_out(c, 0), kd_grad_out(c, 1)};
    kd_grad_emit(c, KD_OP_ATTENTION_BWD, kd_grad_attr(c), in, 4, (const int[]){0}, 1);
    return KD_OK;
}

/* q k^T and p v. */
static int64_t attention_macs(const kd_call *c)
{
    return 2 * kd_shape_numel(&c->out[0].shape) * c->in[0].shape.dim[1];
}

KD_OP_DEFINE(attention, .attr_size = sizeof(kd_attention_attr), .infer = attention_infer, .grad = attention_grad,
             .macs = attention_macs);

static kd_status attention_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_attention_attr *a = attr;
    KD_TRY(kd_rule_qkv("attention_bwd", &in[1], a->heads, err));
    KD_TRY(kd_rule_is("attention_bwd", "do", &in[0], in[1].dtype, o_shape(&in[1]), err));
    KD_TRY(kd_rule_is("attention_bwd", "o", &in[2], in[1].dtype, o_shape(&in[1]), err));
    KD_TRY(kd_rule_is("attention_bwd", "lse", &in[3], kd_stat_dtype(in[1].dtype),
                      kd_shape3(in[1].shape.dim[0], a->heads, in[1].shape.dim[1]), err));
    out[0] = in[1];
    return KD_OK;
}

KD_OP_DEFINE(attention_bwd, .attr_size = sizeof(kd_attention_attr), .infer = attention_bwd_infer);
