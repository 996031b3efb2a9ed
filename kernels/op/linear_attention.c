/* linear_attention (LAST v1, v2) and its gradient: shapes. */
#include "kernels/op/rule.h"

static kd_status check_qkv(const char *op, const kd_linear_attention_attr *a, const kd_spec *qkv, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    KD_TRY(kd_rule_float(op, "qkv", qkv, 0, err));
    const int64_t c3 = qkv->shape.rank == 3 ? qkv->shape.dim[2] : -1;
    if (c3 < 3 || a->heads < 1 || c3 % (3 * (int64_t)a->heads) != 0 || c3 / 3 / a->heads > KD_MAX_LINEAR_HEAD_DIM) {
        return KD_FAIL(err, KD_E_SHAPE,
                       "%s: qkv is %s, expected (S,T,3C) with C a multiple of %d heads and at most "
                       "%d channels a head",
                       op, kd_shape_text(&qkv->shape, t, sizeof t), a->heads, KD_MAX_LINEAR_HEAD_DIM);
    }
    if (a->guard < KD_GUARD_ADD || a->guard > KD_GUARD_CLAMP) {
        return KD_FAIL(err, KD_E_ARG, "%s: guard %d is not a kd_linear_guard", op, (int)a->guard);
    }
    return KD_OK;
}

static kd_status linear_attention_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(check_qkv("linear_attention", attr, &in[0], err));
    out[0] = in[0];
    out[0].shape.dim[2] /= 3;
    return KD_OK;
}

static kd_status linear_attention_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(check_qkv("linear_attention_bwd", attr, &in[1], err));
    kd_shape want = in[1].shape;
    want.dim[2] /= 3;
    KD_TRY(kd_rule_is("linear_attention_bwd", "do", &in[0], in[1].dtype, want, err));
    out[0] = in[1];
    return KD_OK;
}

static kd_status linear_attention_grad(kd_grad_ctx *c)
{
    const kd_val in[2] = {kd_grad_dout(c, 0), kd_grad_in(c, 0)};
    kd_grad_emit(c, KD_OP_LINEAR_ATTENTION_BWD, kd_grad_attr(c), in, 2, (const int[]){0}, 1);
    return KD_OK;
}

/* k^T v and q KV, of D x D each. */
static int64_t linear_attention_macs(const kd_call *c)
{
    const kd_linear_attention_attr *a = c->attr;
    return 2 * kd_shape_numel(&c->out[0].shape) * (c->out[0].shape.dim[2] / a->heads);
}

KD_OP_DEFINE(linear_attention, .attr_size = sizeof(kd_linear_attention_attr), .infer = linear_attention_infer,
             .grad = linear_attention_grad, .macs = linear_attention_macs);
KD_OP_DEFINE(linear_attention_bwd, .attr_size = sizeof(kd_linear_attention_attr), .infer = linear_attention_bwd_infer);
