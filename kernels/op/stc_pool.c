/* Rules of stc_pool. */
#include "kernels/op/skeleton.h"

#define DIM kd_rule_dim

/* x, and the specs that hang on it: time, joint, ties. */
static kd_status pooled(const char *op, const kd_spec *x, kd_spec *out, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    KD_TRY(kd_rule_nctv(op, "x", x, err));
    if (DIM(x, 1) < 1 || DIM(x, 2) < 1) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: x is %s, expected channels and frames", op,
                       kd_shape_text(&x->shape, t, sizeof t));
    }
    const int64_t n = DIM(x, 0), frames = DIM(x, 2);
    out[0] = kd_rule_spec(x->dtype, kd_shape4(n, 2, frames, 1));
    out[1] = kd_rule_spec(x->dtype, kd_shape2(n, DIM(x, 3)));
    out[2] = kd_rule_spec(kd_stat_dtype(x->dtype), kd_shape2(n, frames));
    return KD_OK;
}

static kd_status stc_pool_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    return pooled("stc_pool", &in[0], out, err);
}

/* The maximum passes a gradient to where it was found: what says where goes with dtime. */
static kd_status stc_pool_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    const char *op = "stc_pool_bwd";
    kd_spec of[3] = {0};
    KD_TRY(pooled(op, &in[2], of, err));
    KD_TRY(kd_rule_maybe(op, "dtime", &in[0], of[0].dtype, of[0].shape, err));
    KD_TRY(kd_rule_maybe(op, "djoint", &in[1], of[1].dtype, of[1].shape, err));
    if (!kd_rule_absent(&in[0])) {
        KD_TRY(kd_rule_is(op, "time", &in[3], of[0].dtype, of[0].shape, err));
        KD_TRY(kd_rule_is(op, "ties", &in[4], of[2].dtype, of[2].shape, err));
    }
    KD_TRY(kd_rule_maybe(op, "plus", &in[5], in[2].dtype, in[2].shape, err));
    out[0] = in[2];
    return KD_OK;
}

static kd_status stc_pool_grad(kd_grad_ctx *c)
{
    const kd_val dtime = kd_grad_dout(c, 0);
    const bool timed = dtime.id != 0;
    const kd_val in[5] = {dtime, kd_grad_dout(c, 1), kd_grad_in(c, 0), timed ? kd_grad_out(c, 0) : KD_NONE,
                          timed ? kd_grad_out(c, 2) : KD_NONE};
    kd_grad_emit(c, KD_OP_STC_POOL_BWD, NULL, in, 5, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(stc_pool, .infer = stc_pool_infer, .grad = stc_pool_grad);
KD_OP_DEFINE(stc_pool_bwd, .infer = stc_pool_bwd_infer);
