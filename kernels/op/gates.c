/* Gates of the skeleton students: motion, channel_gate, st_gate, stc_gate, gated_add, gate_mix. */
#include "kernels/op/skeleton.h"

#define DIM kd_rule_dim

static kd_status motion_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_nctv("motion", "x", &in[0], err));
    if (DIM(&in[0], 2) < 2) {
        return KD_FAIL(err, KD_E_SHAPE, "motion: x has %lld frames, expected at least 2", (long long)DIM(&in[0], 2));
    }
    out[0] = kd_rule_spec(in[0].dtype, kd_shape2(DIM(&in[0], 0), DIM(&in[0], 1)));
    return KD_OK;
}

static kd_status motion_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    kd_spec m = {0};
    KD_TRY(motion_infer(&in[1], 1, NULL, &m, err));
    KD_TRY(kd_rule_is("motion_bwd", "dm", &in[0], m.dtype, m.shape, err));
    KD_TRY(kd_rule_maybe("motion_bwd", "plus", &in[2], in[1].dtype, in[1].shape, err));
    out[0] = in[1];
    return KD_OK;
}

static kd_status motion_grad(kd_grad_ctx *c)
{
    const kd_val in[2] = {kd_grad_dout(c, 0), kd_grad_in(c, 0)};
    kd_grad_emit(c, KD_OP_MOTION_BWD, NULL, in, 2, (const int[]){0}, 1);
    return KD_OK;
}

static kd_status check_channel_gate(const char *op, const kd_spec *in, kd_err *err)
{
    const kd_dtype act = in[0].dtype;
    KD_TRY(kd_rule_nctv(op, "x", &in[0], err));
    KD_TRY(kd_rule_is(op, "g", &in[1], act, kd_shape2(DIM(&in[0], 0), DIM(&in[0], 1)), err));
    return kd_rule_is(op, "alpha", &in[2], kd_stat_dtype(act), kd_shape1(DIM(&in[0], 1)), err);
}

static kd_status channel_gate_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_channel_gate("channel_gate", in, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status channel_gate_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_channel_gate("channel_gate_bwd", &in[1], err));
    KD_TRY(kd_rule_is("channel_gate_bwd", "dy", &in[0], in[1].dtype, in[1].shape, err));
    out[0] = in[1];
    out[1] = in[2];
    out[2] = in[3];
    return KD_OK;
}

static kd_status channel_gate_grad(kd_grad_ctx *c)
{
    const kd_val in[4] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_in(c, 2)};
    kd_grad_emit(c, KD_OP_CHANNEL_GATE_BWD, NULL, in, 4, (const int[]){0, 1, 2}, 3);
    return KD_OK;
}

static kd_status check_st_gate(const char *op, const kd_spec *in, kd_err *err)
{
    const kd_dtype act = in[0].dtype;
    KD_TRY(kd_rule_nctv(op, "x", &in[0], err));
    const int64_t n = DIM(&in[0], 0), c = DIM(&in[0], 1);
    KD_TRY(kd_rule_is(op, "at", &in[1], act, kd_shape3(n, c, DIM(&in[0], 2)), err));
    KD_TRY(kd_rule_is(op, "av", &in[2], act, kd_shape3(n, c, DIM(&in[0], 3)), err));
    return kd_rule_is(op, "alpha", &in[3], kd_stat_dtype(act), kd_shape1(c), err);
}

static kd_status st_gate_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_st_gate("st_gate", in, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status st_gate_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_st_gate("st_gate_bwd", &in[1], err));
    KD_TRY(kd_rule_is("st_gate_bwd", "dy", &in[0], in[1].dtype, in[1].shape, err));
    for (int i = 0; i < 4; i++) {
        out[i] = in[i + 1];
    }
    return KD_OK;
}

static kd_status st_gate_grad(kd_grad_ctx *c)
{
    const kd_val in[5] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_in(c, 2), kd_grad_in(c, 3)};
    kd_grad_emit(c, KD_OP_ST_GATE_BWD, NULL, in, 5, (const int[]){0, 1, 2, 3}, 4);
    return KD_OK;
}

static kd_status check_stc_gate(const char *op, const kd_spec *in, kd_err *err)
{
    const kd_dtype act = in[0].dtype;
    KD_TRY(kd_rule_nctv(op, "x", &in[0], err));
    const int64_t n = DIM(&in[0], 0);
    KD_TRY(kd_rule_is(op, "at", &in[1], act, kd_shape2(n, DIM(&in[0], 2)), err));
    KD_TRY(kd_rule_maybe(op, "av", &in[2], act, kd_shape2(n, DIM(&in[0], 3)), err));
    KD_TRY(kd_rule_maybe(op, "ac", &in[3], act, kd_shape2(n, DIM(&in[0], 1)), err));
    return kd_rule_is(op, "gate", &in[4], kd_stat_dtype(act), kd_shape1(1), err);
}

static kd_status stc_gate_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_stc_gate("stc_gate", in, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status stc_gate_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_stc_gate("stc_gate_bwd", &in[1], err));
    KD_TRY(kd_rule_is("stc_gate_bwd", "dy", &in[0], in[1].dtype, in[1].shape, err));
    for (int i = 0; i < 5; i++) {
        out[i] = in[i + 1]; /* absent factors have no gradient */
    }
    return KD_OK;
}

static kd_status stc_gate_grad(kd_grad_ctx *c)
{
    const kd_val in[6] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1),
                          kd_grad_in(c, 2),   kd_grad_in(c, 3), kd_grad_in(c, 4)};
    kd_grad_emit(c, KD_OP_STC_GATE_BWD, NULL, in, 6, (const int[]){0, 1, 2, 3, 4}, 5);
    return KD_OK;
}

static kd_status gated_add_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_nctv("gated_add", "x", &in[0], err));
    KD_TRY(kd_rule_is("gated_add", "o", &in[1], in[0].dtype, kd_shape3(DIM(&in[0], 0), DIM(&in[0], 1), DIM(&in[0], 2)),
                      err));
    KD_TRY(kd_rule_is("gated_add", "gate", &in[2], kd_stat_dtype(in[0].dtype), kd_shape1(1), err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status gated_add_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_nctv("gated_add_bwd", "dy", &in[0], err));
    KD_TRY(kd_rule_is("gated_add_bwd", "o", &in[1], in[0].dtype,
                      kd_shape3(DIM(&in[0], 0), DIM(&in[0], 1), DIM(&in[0], 2)), err));
    KD_TRY(kd_rule_is("gated_add_bwd", "gate", &in[2], kd_stat_dtype(in[0].dtype), kd_shape1(1), err));
    out[0] = in[1];
    out[1] = in[2];
    return KD_OK;
}

static kd_status gated_add_grad(kd_grad_ctx *c)
{
    const kd_val dy = kd_grad_dout(c, 0);
    const kd_val in[3] = {dy, kd_grad_in(c, 1), kd_grad_in(c, 2)};
    kd_grad_emit(c, KD_OP_GATED_ADD_BWD, NULL, in, 3, (const int[]){1, 2}, 2);
    kd_grad_pass(c, 0, dy);
    return KD_OK;
}

static kd_status check_gate_mix(const char *op, const kd_spec *in, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "a", &in[0], 2, err));
    KD_TRY(kd_rule_rank(op, "a", &in[0], 2, err));
    KD_TRY(kd_rule_is(op, "b", &in[1], in[0].dtype, in[0].shape, err));
    const int64_t len = in[2].shape.rank == 1 && in[2].shape.dim[0] == 1 ? 1 : DIM(&in[0], 1);
    return kd_rule_is(op, "gate", &in[2], kd_stat_dtype(in[0].dtype), kd_shape1(len), err);
}

static kd_status gate_mix_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_gate_mix("gate_mix", in, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status gate_mix_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_gate_mix("gate_mix_bwd", &in[1], err));
    KD_TRY(kd_rule_is("gate_mix_bwd", "dy", &in[0], in[1].dtype, in[1].shape, err));
    out[0] = out[1] = in[1];
    out[2] = in[3];
    return KD_OK;
}

static kd_status gate_mix_grad(kd_grad_ctx *c)
{
    const kd_val in[4] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_in(c, 2)};
    kd_grad_emit(c, KD_OP_GATE_MIX_BWD, NULL, in, 4, (const int[]){0, 1, 2}, 3);
    return KD_OK;
}

KD_OP_DEFINE(motion, .infer = motion_infer, .grad = motion_grad);
KD_OP_DEFINE(motion_bwd, .infer = motion_bwd_infer);
KD_OP_DEFINE(channel_gate, .infer = channel_gate_infer, .grad = channel_gate_grad);
KD_OP_DEFINE(channel_gate_bwd, .infer = channel_gate_bwd_infer);
KD_OP_DEFINE(st_gate, .infer = st_gate_infer, .grad = st_gate_grad);
KD_OP_DEFINE(st_gate_bwd, .infer = st_gate_bwd_infer);
KD_OP_DEFINE(stc_gate, .infer = stc_gate_infer, .grad = stc_gate_grad);
KD_OP_DEFINE(stc_gate_bwd, .infer = stc_gate_bwd_infer);
KD_OP_DEFINE(gated_add, .infer = gated_add_infer, .grad = gated_add_grad);
KD_OP_DEFINE(gated_add_bwd, .infer = gated_add_bwd_infer);
KD_OP_DEFINE(gate_mix, .infer = gate_mix_infer, .grad = gate_mix_grad);
KD_OP_DEFINE(gate_mix_bwd, .infer = gate_mix_bwd_infer);
