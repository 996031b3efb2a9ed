/* Rules of the losses: class_loss, feature_loss, weighted_sum. */
#include "kernels/op/rule.h"

/* ---- class_loss ------------------------------------------------------------------------------ */

/* in: z, target?, valid?, teacher?, teacher_valid?. */
static kd_status class_loss_check(const char *op, const kd_class_loss_attr *at, const kd_spec *in, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "z", &in[0], 1, err));
    KD_TRY(kd_rule_rank(op, "z", &in[0], 2, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    const kd_shape rows = kd_shape1(in[0].shape.dim[0]);
    KD_TRY(kd_rule_dtype(op, "z", &in[0], stat, err));
    KD_TRY(kd_rule_maybe(op, "target", &in[1], stat, in[0].shape, err));
    KD_TRY(kd_rule_maybe(op, "valid", &in[2], stat, rows, err));
    KD_TRY(kd_rule_maybe(op, "teacher", &in[3], stat, in[0].shape, err));
    KD_TRY(kd_rule_maybe(op, "teacher_valid", &in[4], stat, rows, err));
    if (kd_rule_absent(&in[1]) && kd_rule_absent(&in[3])) {
        return KD_FAIL(err, KD_E_ARG, "%s: neither target nor teacher", op);
    }
    if (!kd_rule_absent(&in[3]) && !(at->temperature > 0.0f)) {
        return KD_FAIL(err, KD_E_ARG, "%s: temperature is %g, expected more than 0", op, (double)at->temperature);
    }
    return KD_OK;
}

static kd_status class_loss_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(class_loss_check("class_loss", attr, in, err));
    for (int i = 0; i < 2; i++) {
        if (!kd_rule_absent(&in[1 + 2 * i])) {
            out[i] = kd_rule_spec(in[0].dtype, kd_shape0());
        }
    }
    return KD_OK;
}

static kd_status class_loss_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(class_loss_check("class_loss_bwd", attr, in + 2, err));
    for (int i = 0; i < 2; i++) {
        const char *what = i == 0 ? "dce" : "dkd";
        KD_TRY(kd_rule_maybe("class_loss_bwd", what, &in[i], in[2].dtype, kd_shape0(), err));
        if (!kd_rule_absent(&in[i]) && kd_rule_absent(&in[3 + 2 * i])) {
            return KD_FAIL(err, KD_E_ARG, "class_loss_bwd: %s of a term that is absent", what);
        }
    }
    out[0] = in[2];
    return KD_OK;
}

static kd_status class_loss_grad(kd_grad_ctx *c)
{
    kd_val in[7] = {kd_grad_dout(c, 0), kd_grad_dout(c, 1)};
    for (int i = 0; i < 5; i++) {
        in[2 + i] = kd_grad_in(c, i);
    }
    kd_grad_emit(c, KD_OP_CLASS_LOSS_BWD, kd_grad_attr(c), in, 7, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(class_loss, .attr_size = sizeof(kd_class_loss_attr), .infer = class_loss_infer, .grad = class_loss_grad);
KD_OP_DEFINE(class_loss_bwd, .attr_size = sizeof(kd_class_loss_attr), .infer = class_loss_bwd_infer);

/* ---- feature_loss ---------------------------------------------------------------------------- */

/* a, b (B,K) and valid? (B), all of the stat dtype. */
static kd_status pair_check(const char *op, const kd_spec *a, const kd_spec *b, const kd_spec *valid, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "first operand", a, 1, err));
    KD_TRY(kd_rule_rank(op, "first operand", a, 2, err));
    const kd_dtype stat = kd_stat_dtype(a->dtype);
    KD_TRY(kd_rule_dtype(op, "first operand", a, stat, err));
    KD_TRY(kd_rule_is(op, "second operand", b, stat, a->shape, err));
    return kd_rule_maybe(op, "valid", valid, stat, kd_shape1(a->shape.dim[0]), err);
}

static kd_status feature_kind_check(const char *op, const void *attr, kd_err *err)
{
    const int32_t kind = ((const kd_feature_loss_attr *)attr)->kind;
    if (kind != KD_FEATURE_MSE && kind != KD_FEATURE_COSINE) {
        return KD_FAIL(err, KD_E_ARG, "%s: kind %d is not a kd_feature_kind", op, (int)kind);
    }
    return KD_OK;
}

static kd_status feature_loss_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(feature_kind_check("feature_loss", attr, err));
    KD_TRY(pair_check("feature_loss", &in[0], &in[1], &in[2], err));
    out[0] = kd_rule_spec(in[0].dtype, kd_shape0());
    return KD_OK;
}

static kd_status feature_loss_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(feature_kind_check("feature_loss_bwd", attr, err));
    KD_TRY(pair_check("feature_loss_bwd", &in[1], &in[2], &in[3], err));
    KD_TRY(kd_rule_is("feature_loss_bwd", "dloss", &in[0], in[1].dtype, kd_shape0(), err));
    out[0] = in[1];
    return KD_OK;
}

static kd_status feature_loss_grad(kd_grad_ctx *c)
{
    const kd_val in[4] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_in(c, 2)};
    kd_grad_emit(c, KD_OP_FEATURE_LOSS_BWD, kd_grad_attr(c), in, 4, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(feature_loss, .attr_size = sizeof(kd_feature_loss_attr), .infer = feature_loss_infer,
             .grad = feature_loss_grad);
KD_OP_DEFINE(feature_loss_bwd, .attr_size = sizeof(kd_feature_loss_attr), .infer = feature_loss_bwd_infer);

/* ---- weighted_sum ---------------------------------------------------------------------------- */

static kd_status weighted_sum_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)attr;
    KD_TRY(kd_rule_float("weighted_sum", "loss 0", &in[0], 0, err));
    for (int i = 0; i < n_in; i++) {
        KD_TRY(kd_rule_maybe("weighted_sum", "a loss", &in[i], in[0].dtype, kd_shape0(), err));
    }
    out[0] = in[0];
    return kd_rule_is("weighted_sum", "loss 0", &in[0], kd_stat_dtype(in[0].dtype), kd_shape0(), err);
}

static kd_status weighted_sum_grad(kd_grad_ctx *c)
{
    const kd_weighted_sum_attr *a = kd_grad_attr(c);
    const kd_val dy = kd_grad_dout(c, 0);
    for (int i = 0; i < 6; i++) {
        const kd_scale_attr s = {a->w[i]};
        kd_grad_emit(c, KD_OP_SCALE, &s, &dy, 1, &i, 1);
    }
    return KD_OK;
}

KD_OP_DEFINE(weighted_sum, .attr_size = sizeof(kd_weighted_sum_attr), .infer = weighted_sum_infer,
             .grad = weighted_sum_grad);
