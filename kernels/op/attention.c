/* Rules of attention and of the cosine form of its queries and keys. */
#include "kernels/op/rule.h"

/* qkv (B,N,3C) with C a multiple of heads. */
static kd_status qkv_check(const char *op, const kd_spec *qkv, int32_t heads, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    KD_TRY(kd_rule_float(op, "qkv", qkv, 3, err));
    KD_TRY(kd_rule_rank(op, "qkv", qkv, 3, err));
    const int64_t w = qkv->shape.dim[2];
    if (heads < 1 || w == 0 || w % (3 * (int64_t)heads) != 0 || w / (3 * (int64_t)heads) > KD_MAX_HEAD_DIM) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: qkv is %s with %d heads, expected (B,N,3*heads*D), D at most %d", op,
                       kd_shape_text(&qkv->shape, t, sizeof t), (int)heads, KD_MAX_HEAD_DIM);
    }
    return KD_OK;
}

static kd_shape o_shape(const kd_spec *qkv)
{
    return kd_shape3(qkv->shape.dim[0], qkv->shape.dim[1], qkv->shape.dim[2] / 3);
}

static kd_status attention_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_attention_attr *a = attr;
    KD_TRY(qkv_check("attention", &in[0], a->heads, err));
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
    KD_TRY(qkv_check("attention_bwd", &in[1], a->heads, err));
    KD_TRY(kd_rule_is("attention_bwd", "do", &in[0], in[1].dtype, o_shape(&in[1]), err));
    KD_TRY(kd_rule_is("attention_bwd", "o", &in[2], in[1].dtype, o_shape(&in[1]), err));
    KD_TRY(kd_rule_is("attention_bwd", "lse", &in[3], kd_stat_dtype(in[1].dtype),
                      kd_shape3(in[1].shape.dim[0], a->heads, in[1].shape.dim[1]), err));
    out[0] = in[1];
    return KD_OK;
}

KD_OP_DEFINE(attention_bwd, .attr_size = sizeof(kd_attention_attr), .infer = attention_bwd_infer);

/* ---- cos_qk ---------------------------------------------------------------------------------- */

static kd_shape norms_shape(const kd_spec *qkv, int32_t heads)
{
    return kd_shape4(qkv->shape.dim[0], qkv->shape.dim[1], 2, heads);
}

static kd_status cos_qk_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_cos_qk_attr *a = attr;
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    KD_TRY(qkv_check("cos_qk", &in[0], a->heads, err));
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
    KD_TRY(qkv_check("cos_qk_bwd", &in[1], a->heads, err));
    KD_TRY(kd_rule_is("cos_qk_bwd", "dqkv'", &in[0], in[1].dtype, in[1].shape, err));
    KD_TRY(kd_rule_is("cos_qk_bwd", "log_scale", &in[2], stat, kd_shape1(a->heads), err));
    KD_TRY(kd_rule_is("cos_qk_bwd", "norms", &in[3], stat, norms_shape(&in[1], a->heads), err));
    out[0] = in[1];
    out[1] = in[2];
    return KD_OK;
}

KD_OP_DEFINE(cos_qk_bwd, .attr_size = sizeof(kd_cos_qk_attr), .infer = cos_qk_bwd_infer);
