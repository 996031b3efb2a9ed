/* Ops that move or mark joints and frames: time_shift, joint_gather, body_select. */
#include "kernels/op/skeleton.h"

static kd_status time_shift_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_time_shift_attr *a = attr;
    KD_TRY(kd_rule_float("time_shift", "x", &in[0], 4, err));
    KD_TRY(kd_rule_rank("time_shift", "x", &in[0], 4, err));
    if (a->channels < 0 || 2 * (int64_t)a->channels > kd_rule_dim(&in[0], 1)) {
        return KD_FAIL(err, KD_E_ARG, "time_shift: 2 x %d shifted channels, x has %lld", a->channels,
                       (long long)kd_rule_dim(&in[0], 1));
    }
    out[0] = in[0];
    return KD_OK;
}

static kd_status time_shift_grad(kd_grad_ctx *c)
{
    kd_time_shift_attr a = *(const kd_time_shift_attr *)kd_grad_attr(c);
    const kd_val dy = kd_grad_dout(c, 0);
    a.reverse = a.reverse == 0;
    kd_grad_emit(c, KD_OP_TIME_SHIFT, &a, &dy, 1, (const int[]){0}, 1);
    return KD_OK;
}

static kd_status joint_gather_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_nctv("joint_gather", "x", &in[0], err));
    const int64_t c = kd_rule_dim(&in[0], 1), v = kd_rule_dim(&in[0], 3);
    KD_TRY(kd_rule_is("joint_gather", "idx", &in[1], KD_I32, kd_shape2(c, v), err));
    KD_TRY(kd_rule_maybe("joint_gather", "w", &in[2], kd_stat_dtype(in[0].dtype), kd_shape2(v, c), err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status joint_gather_bwd_x_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_nctv("joint_gather_bwd_x", "dy", &in[0], err));
    KD_TRY(kd_rule_is("joint_gather_bwd_x", "idx", &in[1], KD_I32,
                      kd_shape2(kd_rule_dim(&in[0], 1), kd_rule_dim(&in[0], 3)), err));
    KD_TRY(kd_rule_maybe("joint_gather_bwd_x", "plus", &in[2], in[0].dtype, in[0].shape, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status joint_gather_bwd_w_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_nctv("joint_gather_bwd_w", "dy", &in[0], err));
    out[0] = kd_rule_spec(kd_stat_dtype(in[0].dtype), kd_shape2(kd_rule_dim(&in[0], 3), kd_rule_dim(&in[0], 1)));
    return KD_OK;
}

static kd_status joint_gather_grad(kd_grad_ctx *c)
{
    const kd_val in[2] = {kd_grad_dout(c, 0), kd_grad_in(c, 1)};
    kd_grad_emit(c, KD_OP_JOINT_GATHER_BWD_X, NULL, in, 2, (const int[]){0}, 1);
    kd_grad_emit(c, KD_OP_JOINT_GATHER_BWD_W, NULL, in, 1, (const int[]){2}, 1);
    return KD_OK;
}

static kd_status body_select_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_body_select_attr *a = attr;
    KD_TRY(kd_rule_float("body_select", "x", &in[0], 5, err));
    KD_TRY(kd_rule_rank("body_select", "x", &in[0], 5, err));
    if (a->mode < KD_BODY_ACTIVE || a->mode > KD_BODY_STACK || kd_rule_dim(&in[0], 4) < 1) {
        return KD_FAIL(err, KD_E_ARG, "body_select: mode %d with %lld bodies", a->mode,
                       (long long)kd_rule_dim(&in[0], 4));
    }
    out[0] = in[0];
    out[0].shape.rank = 4;
    if (a->mode == KD_BODY_STACK) {
        out[0].shape.dim[0] *= kd_rule_dim(&in[0], 4);
    }
    return KD_OK;
}

KD_OP_DEFINE(time_shift, .attr_size = sizeof(kd_time_shift_attr), .infer = time_shift_infer, .grad = time_shift_grad);
KD_OP_DEFINE(joint_gather, .infer = joint_gather_infer, .grad = joint_gather_grad);
KD_OP_DEFINE(joint_gather_bwd_x, .infer = joint_gather_bwd_x_infer);
KD_OP_DEFINE(joint_gather_bwd_w, .infer = joint_gather_bwd_w_infer);
KD_OP_DEFINE(body_select, .attr_size = sizeof(kd_body_select_attr), .infer = body_select_infer);
