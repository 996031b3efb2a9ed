/* Rules of the losses: ce, kd_kl, feature_loss, weighted_sum. */
#include "kernels/op/rule.h"

/* a, b (B,K) and valid? (B), all of the stat dtype. */
static kd_status pair_check(const char *op, const kd_spec *a, const kd_spec *b,
                            const kd_spec *valid, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "first operand", a, 1, err));
    KD_TRY(kd_rule_rank(op, "first operand", a, 2, err));
    const kd_dtype stat = kd_stat_dtype(a->dtype);
    KD_TRY(kd_rule_dtype(op, "first operand", a, stat, err));
    KD_TRY(kd_rule_is(op, "second operand", b, stat, a->shape, err));
    return kd_rule_maybe(op, "valid", valid, stat, kd_shape1(a->shape.dim[0]), err);
}

static kd_status loss_infer(const char *op, const kd_spec *in, kd_spec *out, kd_err *err)
{
    KD_TRY(pair_check(op, &in[0], &in[1], &in[2], err));
    out[0] = kd_rule_spec(in[0].dtype, kd_shape0());
    return KD_OK;
}

static kd_status loss_bwd_infer(const char *op, const kd_spec *in, kd_spec *out, kd_err *err)
{
    KD_TRY(pair_check(op, &in[1], &in[2], &in[3], err));
    KD_TRY(kd_rule_is(op, "dloss", &in[0], in[1].dtype, kd_shape0(), err));
    out[0] = in[1];
    return KD_OK;
}

static kd_status loss_grad(kd_grad_ctx *c, kd_op bwd)
{
    const kd_val in[4] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_in(c, 2)};
    kd_grad_emit(c, bwd, kd_grad_attr(c), in, 4, (const int[]){0}, 1);
    return KD_OK;
}

/* ---- ce ----------------------------------------------------------------------------------------------------------- */

static kd_status ce_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    return loss_infer("ce", in, out, err);
}

static kd_status ce_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                              kd_err *err)
{
    (void)n_in, (void)attr;
    return loss_bwd_infer("ce_bwd", in, out, err);
}

static kd_status ce_grad(kd_grad_ctx *c)
{
    return loss_grad(c, KD_OP_CE_BWD);
}

const kd_op_rule kd_op_rule_ce = {0, ce_infer, ce_grad};
const kd_op_rule kd_op_rule_ce_bwd = {0, ce_bwd_infer, NULL};

/* ---- kd_kl -------------------------------------------------------------------------------------------------------- */

static kd_status temperature_check(const char *op, const void *attr, kd_err *err)
{
    const float t = ((const kd_kl_attr *)attr)->temperature;
    if (!(t > 0.0f)) {
        return KD_FAIL(err, KD_E_ARG, "%s: temperature is %g, expected more than 0", op, (double)t);
    }
    return KD_OK;
}

static kd_status kd_kl_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                             kd_err *err)
{
    (void)n_in;
    KD_TRY(temperature_check("kd_kl", attr, err));
    return loss_infer("kd_kl", in, out, err);
}

static kd_status kd_kl_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                 kd_err *err)
{
    (void)n_in;
    KD_TRY(temperature_check("kd_kl_bwd", attr, err));
    return loss_bwd_infer("kd_kl_bwd", in, out, err);
}

static kd_status kd_kl_grad(kd_grad_ctx *c)
{
    return loss_grad(c, KD_OP_KD_KL_BWD);
}

const kd_op_rule kd_op_rule_kd_kl = {sizeof(kd_kl_attr), kd_kl_infer, kd_kl_grad};
const kd_op_rule kd_op_rule_kd_kl_bwd = {sizeof(kd_kl_attr), kd_kl_bwd_infer, NULL};

/* ---- feature_loss --------------------------------------------------------------------------------------------------- */

static kd_status feature_kind_check(const char *op, const void *attr, kd_err *err)
{
    const int32_t kind = ((const kd_feature_loss_attr *)attr)->kind;
    if (kind != KD_FEATURE_MSE && kind != KD_FEATURE_COSINE) {
        return KD_FAIL(err, KD_E_ARG, "%s: kind %d is not a kd_feature_kind", op, (int)kind);
    }
    return KD_OK;
}

static kd_status feature_loss_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                    kd_err *err)
{
    (void)n_in;
    KD_TRY(feature_kind_check("feature_loss", attr, err));
    return loss_infer("feature_loss", in, out, err);
}

static kd_status feature_loss_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                        kd_err *err)
{
    (void)n_in;
    KD_TRY(feature_kind_check("feature_loss_bwd", attr, err));
    return loss_bwd_infer("feature_loss_bwd", in, out, err);
}

static kd_status feature_loss_grad(kd_grad_ctx *c)
{
    return loss_grad(c, KD_OP_FEATURE_LOSS_BWD);
}

const kd_op_rule kd_op_rule_feature_loss = {sizeof(kd_feature_loss_attr), feature_loss_infer,
                                            feature_loss_grad};
const kd_op_rule kd_op_rule_feature_loss_bwd = {sizeof(kd_feature_loss_attr),
                                                feature_loss_bwd_infer, NULL};

/* ---- weighted_sum --------------------------------------------------------------------------------------------------- */

static kd_status weighted_sum_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out,
                                    kd_err *err)
{
    (void)attr;
    KD_TRY(kd_rule_float("weighted_sum", "loss 0", &in[0], 0, err));
    for (int i = 0; i < n_in; i++) {
        KD_TRY(kd_rule_maybe("weighted_sum", "a loss", &in[i], in[0].dtype, kd_shape0(), err));
    }
    out[0] = in[0];
    return kd_rule_is("weighted_sum", "loss 0", &in[0], kd_stat_dtype(in[0].dtype), kd_shape0(),
                      err);
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

const kd_op_rule kd_op_rule_weighted_sum = {sizeof(kd_weighted_sum_attr), weighted_sum_infer,
                                            weighted_sum_grad};
