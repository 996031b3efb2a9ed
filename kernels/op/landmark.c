/* Temporal landmarks: interpolation at learned positions and attention over them. */
#include "kernels/op/rule.h"

static kd_status check_interp(const char *op, const kd_spec *u, const kd_spec *anchors, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    KD_TRY(kd_rule_float(op, "u", u, 0, err));
    KD_TRY(kd_rule_rank(op, "u", u, 3, err));
    KD_TRY(kd_rule_rank(op, "anchors", anchors, 1, err));
    KD_TRY(kd_rule_dtype(op, "anchors", anchors, kd_stat_dtype(u->dtype), err));
    if (u->shape.dim[1] < 2) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: u is %s, expected at least 2 frames", op,
                       kd_shape_text(&u->shape, t, sizeof t));
    }
    return KD_OK;
}

static kd_status landmark_interp_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_interp("landmark_interp", &in[0], &in[1], err));
    out[0] = in[0];
    out[0].shape.dim[1] = in[1].shape.dim[0];
    return KD_OK;
}

static kd_status landmark_interp_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_interp("landmark_interp_bwd", &in[1], &in[2], err));
    kd_shape want = in[1].shape;
    want.dim[1] = in[2].shape.dim[0];
    KD_TRY(kd_rule_is("landmark_interp_bwd", "dl", &in[0], in[1].dtype, want, err));
    out[0] = in[1];
    out[1] = in[2];
    return KD_OK;
}

static kd_status landmark_interp_grad(kd_grad_ctx *c)
{
    const kd_val in[3] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1)};
    kd_grad_emit(c, KD_OP_LANDMARK_INTERP_BWD, NULL, in, 3, (const int[]){0, 1}, 2);
    return KD_OK;
}

static kd_status check_attention(const char *op, const kd_spec *in, kd_shape *p, kd_err *err)
{
    const kd_dtype act = in[0].dtype;
    KD_TRY(kd_rule_float(op, "q", &in[0], 0, err));
    KD_TRY(kd_rule_rank(op, "q", &in[0], 3, err));
    KD_TRY(kd_rule_rank(op, "k", &in[1], 3, err));
    const int64_t n = in[0].shape.dim[0], k = in[1].shape.dim[1], d = in[0].shape.dim[2];
    KD_TRY(kd_rule_is(op, "k", &in[1], act, kd_shape3(n, k, d), err));
    KD_TRY(kd_rule_is(op, "v", &in[2], act, kd_shape3(n, k, d), err));
    *p = kd_shape3(n, in[0].shape.dim[1], k);
    return KD_OK;
}

static kd_status landmark_attention_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    kd_shape p = {0};
    KD_TRY(check_attention("landmark_attention", in, &p, err));
    out[0] = in[0];
    out[1] = kd_rule_spec(in[0].dtype, p);
    return KD_OK;
}

static kd_status landmark_attention_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    static const char op[] = "landmark_attention_bwd";
    kd_shape p = {0};
    KD_TRY(check_attention(op, &in[1], &p, err));
    KD_TRY(kd_rule_is(op, "do", &in[0], in[1].dtype, in[1].shape, err));
    KD_TRY(kd_rule_is(op, "p", &in[4], in[1].dtype, p, err));
    for (int i = 0; i < 3; i++) {
        out[i] = in[i + 1];
    }
    return KD_OK;
}

static kd_status landmark_attention_grad(kd_grad_ctx *c)
{
    const kd_val in[5] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_in(c, 2), kd_grad_out(c, 1)};
    kd_grad_emit(c, KD_OP_LANDMARK_ATTENTION_BWD, NULL, in, 5, (const int[]){0, 1, 2}, 3);
    return KD_OK;
}

/* q k^T and p v. */
static int64_t landmark_attention_macs(const kd_call *c)
{
    return 2 * kd_shape_numel(&c->out[0].shape) * c->in[1].shape.dim[1];
}

KD_OP_DEFINE(landmark_interp, .infer = landmark_interp_infer, .grad = landmark_interp_grad);
KD_OP_DEFINE(landmark_interp_bwd, .infer = landmark_interp_bwd_infer);
KD_OP_DEFINE(landmark_attention, .infer = landmark_attention_infer, .grad = landmark_attention_grad,
             .macs = landmark_attention_macs);
KD_OP_DEFINE(landmark_attention_bwd, .infer = landmark_attention_bwd_infer);
