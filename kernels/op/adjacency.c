/* adj_norm (normalised learned adjacency) and dyn_adj (adjacency from the data): shapes. */
#include "kernels/op/skeleton.h"

static kd_status check_square(const char *op, const char *what, const kd_spec *s, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    KD_TRY(kd_rule_float(op, what, s, 0, err));
    if (s->shape.rank != 2 || s->shape.dim[0] != s->shape.dim[1] || s->shape.dim[0] > KD_MAX_JOINTS ||
        s->shape.dim[0] < 1) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: %s is %s, expected (V,V) with V at most %d", op, what,
                       kd_shape_text(&s->shape, t, sizeof t), KD_MAX_JOINTS);
    }
    return kd_rule_dtype(op, what, s, kd_stat_dtype(s->dtype), err);
}

static kd_status adj_norm_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_square("adj_norm", "learned", &in[0], err));
    KD_TRY(kd_rule_maybe("adj_norm", "fixed", &in[1], in[0].dtype, in[0].shape, err));
    out[0] = in[0];
    return KD_OK;
}

static kd_status adj_norm_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_square("adj_norm_bwd", "dA", &in[0], err));
    KD_TRY(kd_rule_is("adj_norm_bwd", "learned", &in[1], in[0].dtype, in[0].shape, err));
    KD_TRY(kd_rule_maybe("adj_norm_bwd", "fixed", &in[2], in[0].dtype, in[0].shape, err));
    out[0] = in[1];
    return KD_OK;
}

static kd_status adj_norm_grad(kd_grad_ctx *c)
{
    const kd_val in[3] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_in(c, 1)};
    kd_grad_emit(c, KD_OP_ADJ_NORM_BWD, kd_grad_attr(c), in, 3, (const int[]){0}, 1);
    return KD_OK;
}

static kd_status check_embedding(const char *op, const kd_spec *e, kd_err *err)
{
    KD_TRY(kd_rule_float(op, "e", e, 0, err));
    KD_TRY(kd_rule_rank(op, "e", e, 3, err));
    if (kd_rule_dim(e, 2) < 1 || kd_rule_dim(e, 2) > KD_MAX_JOINTS) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: e has %lld joints, expected 1 to %d", op, (long long)kd_rule_dim(e, 2),
                       KD_MAX_JOINTS);
    }
    return KD_OK;
}

static kd_status dyn_adj_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(check_embedding("dyn_adj", &in[0], err));
    const int64_t v = kd_rule_dim(&in[0], 2);
    out[0] = kd_rule_spec(kd_stat_dtype(in[0].dtype), kd_shape3(kd_rule_dim(&in[0], 0), v, v));
    return KD_OK;
}

static kd_status dyn_adj_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    kd_spec adj = {0};
    KD_TRY(dyn_adj_infer(&in[1], 1, NULL, &adj, err));
    KD_TRY(kd_rule_is("dyn_adj_bwd", "dA", &in[0], adj.dtype, adj.shape, err));
    KD_TRY(kd_rule_is("dyn_adj_bwd", "A", &in[2], adj.dtype, adj.shape, err));
    out[0] = in[1];
    return KD_OK;
}

static kd_status dyn_adj_grad(kd_grad_ctx *c)
{
    const kd_val in[3] = {kd_grad_dout(c, 0), kd_grad_in(c, 0), kd_grad_out(c, 0)};
    kd_grad_emit(c, KD_OP_DYN_ADJ_BWD, NULL, in, 3, (const int[]){0}, 1);
    return KD_OK;
}

/* u^T u. */
static int64_t dyn_adj_macs(const kd_call *c)
{
    return kd_shape_numel(&c->out[0].shape) * c->in[0].shape.dim[1];
}

KD_OP_DEFINE(adj_norm, .attr_size = sizeof(kd_adj_norm_attr), .infer = adj_norm_infer, .grad = adj_norm_grad);
KD_OP_DEFINE(adj_norm_bwd, .attr_size = sizeof(kd_adj_norm_attr), .infer = adj_norm_bwd_infer);
KD_OP_DEFINE(dyn_adj, .infer = dyn_adj_infer, .grad = dyn_adj_grad, .macs = dyn_adj_macs);
KD_OP_DEFINE(dyn_adj_bwd, .infer = dyn_adj_bwd_infer);
