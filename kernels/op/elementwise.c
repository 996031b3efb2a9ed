/* Rules of the elementwise ops: add, scale, mul, act, dropout, scale_last, cast, mixup, grad_seed. */
#include "kernels/op/rule.h"

static kd_status same_as_first(const char *op, const kd_spec *in, const char *name, kd_spec *out, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "x", &in[0], 0, err));
    KD_TRY(kd_rule_is(op, name, &in[1], in[0].dtype, in[0].shape, err));
    out[0] = in[0];
    return KD_OK;
}

/* ---- add ------------------------------------------------------------------------------------- */

static kd_status add_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("add", "a", &in[0], 0, err));
    KD_TRY(kd_rule_float("add", "b", &in[1], 0, err));
    KD_TRY(kd_rule_dtype("add", "b", &in[1], in[0].dtype, err));
    const kd_shape *a = &in[0].shape, *b = &in[1].shape;
    bool suffix = b->rank <= a->rank;
    for (int i = 1; suffix && i <= b->rank; i++) {
        suffix = b->dim[b->rank - i] == a->dim[a->rank - i];
    }
    if (!suffix) {
        char ta[KD_SHAPE_TEXT_MAX], tb[KD_SHAPE_TEXT_MAX];
        return KD_FAIL(err, KD_E_SHAPE, "add: b is %s, expected %s or trailing dims of it",
                       kd_shape_text(b, tb, sizeof tb), kd_shape_text(a, ta, sizeof ta));
    }
    out[0] = in[0];
    return KD_OK;
}

static kd_status add_grad(kd_grad_ctx *c)
{
    const kd_val dy = kd_grad_dout(c, 0);
    const kd_spec a = kd_spec_of(kd_grad_graph(c), kd_grad_in(c, 0));
    const kd_spec b = kd_spec_of(kd_grad_graph(c), kd_grad_in(c, 1));
    kd_grad_pass(c, 0, dy);
    if (kd_shape_equal(&a.shape, &b.shape)) {
        kd_grad_pass(c, 1, dy);
    } else {
        const kd_sum_lead_attr s = {b.shape.rank, 0};
        kd_grad_emit(c, KD_OP_SUM_LEAD, &s, &dy, 1, (const int[]){1}, 1);
    }
    return KD_OK;
}

KD_OP_DEFINE(add, .infer = add_infer, .grad = add_grad);

/* ---- scale, mul ------------------------------------------------------------------------------ */

static kd_status scale_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("scale", "x", &in[0], 0, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status scale_grad(kd_grad_ctx *c)
{
    const kd_val dy = kd_grad_dout(c, 0);
    kd_grad_emit(c, KD_OP_SCALE, kd_grad_attr(c), &dy, 1, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(scale, .attr_size = sizeof(kd_scale_attr), .infer = scale_infer, .grad = scale_grad);

static kd_status mul_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    return same_as_first("mul", in, "b", out, err);
}

static kd_status mul_grad(kd_grad_ctx *c)
{
    const kd_val dy = kd_grad_dout(c, 0), a = kd_grad_in(c, 0), b = kd_grad_in(c, 1);
    kd_grad_emit(c, KD_OP_MUL, NULL, (const kd_val[]){dy, b}, 2, (const int[]){0}, 1);
    kd_grad_emit(c, KD_OP_MUL, NULL, (const kd_val[]){dy, a}, 2, (const int[]){1}, 1);
    return KD_OK;
}

KD_OP_DEFINE(mul, .infer = mul_infer, .grad = mul_grad);

/* ---- act ------------------------------------------------------------------------------------- */

static kd_status act_kind_check(const char *op, const void *attr, kd_err *err)
{
    const int32_t kind = ((const kd_act_attr *)attr)->kind;
    if (kind < KD_ACT_NONE || kind > KD_ACT_LOG) {
        return KD_FAIL(err, KD_E_ARG, "%s: kind %d is not a kd_act_kind", op, (int)kind);
    }
    return KD_OK;
}

static kd_status act_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(act_kind_check("act", attr, err));
    KD_TRY(kd_rule_float("act", "x", &in[0], 0, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status act_grad(kd_grad_ctx *c)
{
    const kd_val in[2] = {kd_grad_in(c, 0), kd_grad_dout(c, 0)};
    kd_grad_emit(c, KD_OP_ACT_BWD, kd_grad_attr(c), in, 2, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(act, .attr_size = sizeof(kd_act_attr), .infer = act_infer, .grad = act_grad);

static kd_status act_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    KD_TRY(act_kind_check("act_bwd", attr, err));
    return same_as_first("act_bwd", in, "dy", out, err);
}

KD_OP_DEFINE(act_bwd, .attr_size = sizeof(kd_act_attr), .infer = act_bwd_infer);

/* ---- dropout --------------------------------------------------------------------------------- */

static kd_status dropout_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_dropout_attr *a = attr;
    if (!(a->p >= 0.0f && a->p < 1.0f)) {
        return KD_FAIL(err, KD_E_ARG, "dropout: p is %g, expected 0 <= p < 1", (double)a->p);
    }
    KD_TRY(kd_rule_float("dropout", "x", &in[0], a->per_row ? 1 : 0, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status dropout_grad(kd_grad_ctx *c)
{
    const kd_val dy = kd_grad_dout(c, 0);
    kd_grad_emit(c, KD_OP_DROPOUT, kd_grad_attr(c), &dy, 1, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(dropout, .attr_size = sizeof(kd_dropout_attr), .infer = dropout_infer, .grad = dropout_grad);

/* ---- scale_last ------------------------------------------------------------------------------ */

static kd_status scale_last_check(const char *op, const kd_spec *in, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "x", &in[0], 1, err));
    return kd_rule_is(op, "g", &in[1], kd_stat_dtype(in[0].dtype), kd_shape1(kd_rule_last(&in[0])), err);
}

static kd_status scale_last_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(scale_last_check("scale_last", in, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status scale_last_grad(kd_grad_ctx *c)
{
    const kd_val in[3] = {kd_grad_in(c, 0), kd_grad_in(c, 1), kd_grad_dout(c, 0)};
    kd_grad_emit(c, KD_OP_SCALE_LAST_BWD, NULL, in, 3, (const int[]){0, 1}, 2);
    return KD_OK;
}

KD_OP_DEFINE(scale_last, .infer = scale_last_infer, .grad = scale_last_grad);

static kd_status scale_last_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(scale_last_check("scale_last_bwd", in, err));
    KD_TRY(kd_rule_is("scale_last_bwd", "dy", &in[2], in[0].dtype, in[0].shape, err));
    out[0] = in[0];
    out[1] = in[1];
    return KD_OK;
}

KD_OP_DEFINE(scale_last_bwd, .infer = scale_last_bwd_infer);

/* ---- cast ------------------------------------------------------------------------------------ */

static kd_status cast_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_dtype to = (kd_dtype)((const kd_cast_attr *)attr)->to;
    KD_TRY(kd_rule_float("cast", "x", &in[0], 0, err));
    if (!kd_rule_is_float(to)) {
        return KD_FAIL(err, KD_E_DTYPE, "cast: target %d is not a floating dtype", (int)to);
    }
    out[0] = kd_rule_spec(to, in[0].shape);
    return KD_OK;
}

static kd_status cast_grad(kd_grad_ctx *c)
{
    const kd_val dy = kd_grad_dout(c, 0);
    const kd_cast_attr back = {(int32_t)kd_spec_of(kd_grad_graph(c), kd_grad_in(c, 0)).dtype};
    kd_grad_emit(c, KD_OP_CAST, &back, &dy, 1, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(cast, .attr_size = sizeof(kd_cast_attr), .infer = cast_infer, .grad = cast_grad);

/* ---- mixup, grad_seed ------------------------------------------------------------------------ */

static kd_status mixup_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("mixup", "x", &in[0], 1, err));
    const kd_shape batch = kd_shape1(in[0].shape.dim[0]);
    KD_TRY(kd_rule_is("mixup", "perm", &in[1], KD_I32, batch, err));
    const bool frames = in[2].shape.rank == 2 && in[0].shape.rank > 2;
    KD_TRY(kd_rule_is("mixup", "lam", &in[2], kd_stat_dtype(in[0].dtype),
                      frames ? kd_shape2(in[0].shape.dim[0], in[0].shape.dim[2]) : batch, err));
    out[0] = in[0];
    return KD_OK;
}

KD_OP_DEFINE(mixup, .infer = mixup_infer);

static kd_status grad_seed_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)in, (void)n_in;
    const kd_dtype t = (kd_dtype)((const kd_grad_seed_attr *)attr)->dtype;
    if (!kd_rule_is_float(t)) {
        return KD_FAIL(err, KD_E_DTYPE, "grad_seed: the loss must have a floating dtype");
    }
    out[0] = kd_rule_spec(t, kd_shape0());
    return KD_OK;
}

KD_OP_DEFINE(grad_seed, .attr_size = sizeof(kd_grad_seed_attr), .infer = grad_seed_infer);
