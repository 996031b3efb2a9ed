/* stc_gates and its gradient: shapes. */
#include "kernels/op/rule.h"

/* Samples, frames, joints and taps, once the operands agree about them. */
static kd_status check_gates(const char *op, const kd_spec *in, kd_err *err)
{
    const kd_dtype act = in[0].dtype;
    KD_TRY(kd_rule_float(op, "time", &in[0], 4, err));
    KD_TRY(kd_rule_float(op, "joint", &in[1], 2, err));
    KD_TRY(kd_rule_rank(op, "wt", &in[2], 3, err));
    const int64_t n = in[0].shape.dim[0], v = kd_rule_last(&in[1]), taps = in[2].shape.dim[2];
    if (taps % 2 != 1) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: wt has %lld taps, expected an odd number", op, (long long)taps);
    }
    KD_TRY(kd_rule_is(op, "time", &in[0], act, kd_shape4(n, 2, in[0].shape.dim[2], 1), err));
    KD_TRY(kd_rule_is(op, "joint", &in[1], act, kd_shape2(n, v), err));
    KD_TRY(kd_rule_is(op, "wt", &in[2], act, kd_shape3(1, 2, taps), err));
    return kd_rule_is(op, "ws", &in[3], act, kd_shape2(v, v), err);
}

static kd_status stc_gates_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_gates("stc_gates", in, err));
    out[0] = kd_rule_spec(in[0].dtype, kd_shape2(in[0].shape.dim[0], in[0].shape.dim[2]));
    out[1] = in[1];
    return KD_OK;
}

static kd_status stc_gates_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_gates("stc_gates_bwd", &in[2], err));
    const kd_dtype act = in[2].dtype, stat = kd_stat_dtype(act);
    KD_TRY(kd_rule_maybe("stc_gates_bwd", "dat", &in[0], act, kd_shape2(in[2].shape.dim[0], in[2].shape.dim[2]), err));
    KD_TRY(kd_rule_maybe("stc_gates_bwd", "dav", &in[1], act, in[3].shape, err));
    out[0] = in[2];
    out[1] = in[3];
    out[2] = kd_rule_spec(stat, in[4].shape);
    out[3] = kd_rule_spec(stat, in[5].shape);
    return KD_OK;
}

static kd_status stc_gates_grad(kd_grad_ctx *c)
{
    const kd_val in[6] = {kd_grad_dout(c, 0), kd_grad_dout(c, 1), kd_grad_in(c, 0),
                          kd_grad_in(c, 1),   kd_grad_in(c, 2),   kd_grad_in(c, 3)};
    kd_grad_emit(c, KD_OP_STC_GATES_BWD, NULL, in, 6, (const int[]){0, 1, 2, 3}, 4);
    return KD_OK;
}

/* The convolution over frames, and ws times the joints' means. */
static int64_t stc_gates_macs(const kd_call *c)
{
    const int64_t taps = 2 * c->in[2].shape.dim[2];
    return kd_shape_numel(&c->out[0].shape) * taps + kd_shape_numel(&c->in[1].shape) * c->in[3].shape.dim[1];
}

KD_OP_DEFINE(stc_gates, .infer = stc_gates_infer, .grad = stc_gates_grad, .macs = stc_gates_macs);
KD_OP_DEFINE(stc_gates_bwd, .infer = stc_gates_bwd_infer);
