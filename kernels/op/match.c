/* Rules of match_loss. */
#include "kernels/op/rule.h"

static bool on_scores(int32_t kind)
{
    return kind <= KD_MATCH_JSD;
}

static kd_status attr_check(const char *op, const kd_match_loss_attr *at, kd_err *err)
{
    if (at->kind < 0 || at->kind >= KD_MATCH_KINDS) {
        return KD_FAIL(err, KD_E_ARG, "%s: kind %d is not a kd_match_kind", op, (int)at->kind);
    }
    const bool has_t = on_scores(at->kind) ? at->kind != KD_MATCH_LOGIT_MSE : at->kind >= KD_MATCH_INFONCE;
    if (has_t && !(at->p[0] > 0.0)) {
        return KD_FAIL(err, KD_E_ARG, "%s: temperature is %g, expected more than 0", op, at->p[0]);
    }
    if (at->kind == KD_MATCH_TOPK && (at->k < 1 || at->tail < KD_TAIL_ZERO || at->tail > KD_TAIL_UNIFORM)) {
        return KD_FAIL(err, KD_E_ARG, "%s: %d classes kept and tail %d, expected at least 1 and a kd_tail", op,
                       (int)at->k, (int)at->tail);
    }
    return KD_OK;
}

static kd_status match_loss_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    static const char op[] = "match_loss";
    (void)n_in;
    const kd_match_loss_attr *at = attr;
    KD_TRY(attr_check(op, at, err));
    KD_TRY(kd_rule_float(op, "a", &in[0], 1, err));
    KD_TRY(kd_rule_rank(op, "a", &in[0], 2, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    KD_TRY(kd_rule_dtype(op, "a", &in[0], stat, err));
    KD_TRY(kd_rule_rank(op, "b", &in[1], 2, err));
    const bool same = on_scores(at->kind) || at->kind >= KD_MATCH_INFONCE, table = at->kind == KD_MATCH_CLASS_EMBED;
    const int64_t width = same ? in[0].shape.dim[1] : in[1].shape.dim[1], classes = in[1].shape.dim[0];
    KD_TRY(kd_rule_is(op, "b", &in[1], stat, kd_shape2(table ? classes : in[0].shape.dim[0], width), err));
    if (table) {
        KD_TRY(kd_rule_is(op, "target", &in[2], stat, kd_shape2(in[0].shape.dim[0], classes), err));
    } else if (at->kind == KD_MATCH_DKD || at->kind == KD_MATCH_NKD) {
        KD_TRY(kd_rule_is(op, "target", &in[2], stat, in[0].shape, err));
    } else if (!kd_rule_absent(&in[2])) {
        return KD_FAIL(err, KD_E_ARG, "%s: a target, which only DKD, NKD and CLASS_EMBED read", op);
    }
    if (at->kind == KD_MATCH_TOPK && at->k > in[0].shape.dim[1]) {
        return KD_FAIL(err, KD_E_ARG, "%s: top %d of %lld classes, expected at most all", op, (int)at->k,
                       (long long)in[0].shape.dim[1]);
    }
    KD_TRY(kd_rule_maybe(op, "valid", &in[3], stat, kd_shape1(in[0].shape.dim[0]), err));
    out[0] = kd_rule_spec(in[0].dtype, kd_shape0());
    out[1] = in[0];
    return KD_OK;
}

static kd_status match_loss_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    static const char op[] = "match_loss_bwd";
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float(op, "grad", &in[1], 1, err));
    KD_TRY(kd_rule_rank(op, "grad", &in[1], 2, err));
    KD_TRY(kd_rule_is(op, "dloss", &in[0], in[1].dtype, kd_shape0(), err));
    out[0] = in[1];
    return KD_OK;
}

static kd_status match_loss_grad(kd_grad_ctx *c)
{
    const kd_val in[2] = {kd_grad_dout(c, 0), kd_grad_out(c, 1)};
    kd_grad_emit(c, KD_OP_MATCH_LOSS_BWD, NULL, in, 2, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(match_loss, .attr_size = sizeof(kd_match_loss_attr), .infer = match_loss_infer, .grad = match_loss_grad);
KD_OP_DEFINE(match_loss_bwd, .infer = match_loss_bwd_infer);
