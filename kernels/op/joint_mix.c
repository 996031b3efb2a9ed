/* joint_mix (aggregation with an adjacency) and group_sum (sum over partitions): shapes. */
#include "kernels/op/skeleton.h"

/* Partitions K (SAMPLE: N, SHARED: 1) and channels of y, given those of x. */
static kd_status mix_dims(const char *op, const kd_joint_mix_attr *a, const kd_spec *x, const kd_spec *adj, int64_t *k,
                          int64_t *cy, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    const int64_t v = kd_rule_dim(x, 3);
    const kd_shape *s = &adj->shape;
    const int rank = a->mode == KD_MIX_SHARED ? 2 : 3;
    if (s->rank != rank || s->dim[rank - 1] != v || s->dim[rank - 2] != v ||
        (a->mode == KD_MIX_SAMPLE && s->dim[0] != kd_rule_dim(x, 0))) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: A is %s, expected %s with V = %lld", op, kd_shape_text(s, t, sizeof t),
                       a->mode == KD_MIX_SHARED   ? "(V,V)"
                       : a->mode == KD_MIX_SAMPLE ? "(N,V,V)"
                                                  : "(K,V,V)",
                       (long long)v);
    }
    *k = a->mode == KD_MIX_SHARED ? 1 : s->dim[0];
    *cy = kd_rule_dim(x, 1) * (a->mode == KD_MIX_EXPAND ? *k : 1);
    if (a->mode == KD_MIX_GROUPED && kd_rule_dim(x, 1) % *k != 0) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: %lld channels do not split into %lld groups", op,
                       (long long)kd_rule_dim(x, 1), (long long)*k);
    }
    return KD_OK;
}

static kd_status joint_mix_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_joint_mix_attr *a = attr;
    int64_t k = 0, cy = 0;
    KD_TRY(kd_rule_nctv("joint_mix", "x", &in[0], err));
    KD_TRY(kd_rule_float("joint_mix", "A", &in[1], 2, err));
    if (a->mode != KD_MIX_SAMPLE || in[1].dtype != in[0].dtype) {
        KD_TRY(kd_rule_dtype("joint_mix", "A", &in[1], kd_stat_dtype(in[0].dtype), err));
    }
    KD_TRY(mix_dims("joint_mix", a, &in[0], &in[1], &k, &cy, err));
    out[0] = in[0];
    out[0].shape.dim[1] = cy;
    return KD_OK;
}

static kd_status joint_mix_bwd_x_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_joint_mix_attr *a = attr;
    int64_t k = 0, cy = 0;
    KD_TRY(kd_rule_nctv("joint_mix_bwd_x", "dy", &in[0], err));
    out[0] = in[0];
    out[0].shape.dim[1] = a->x_channels;
    KD_TRY(mix_dims("joint_mix_bwd_x", a, &out[0], &in[1], &k, &cy, err));
    if (cy != kd_rule_dim(&in[0], 1)) {
        return KD_FAIL(err, KD_E_SHAPE, "joint_mix_bwd_x: dy has %lld channels, expected %lld",
                       (long long)kd_rule_dim(&in[0], 1), (long long)cy);
    }
    return kd_rule_maybe("joint_mix_bwd_x", "plus", &in[2], in[0].dtype, out[0].shape, err);
}

static kd_status joint_mix_bwd_a_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_joint_mix_attr *a = attr;
    int64_t k = 0, cy = 0;
    KD_TRY(kd_rule_nctv("joint_mix_bwd_a", "dy", &in[0], err));
    KD_TRY(kd_rule_nctv("joint_mix_bwd_a", "x", &in[1], err));
    const int64_t v = kd_rule_dim(&in[1], 3);
    out[0] = kd_rule_spec(kd_stat_dtype(in[0].dtype),
                          a->mode == KD_MIX_SHARED ? kd_shape2(v, v) : kd_shape3(a->parts, v, v));
    KD_TRY(mix_dims("joint_mix_bwd_a", a, &in[1], &out[0], &k, &cy, err));
    kd_shape want = in[1].shape;
    want.dim[1] = cy;
    return kd_rule_is("joint_mix_bwd_a", "dy", &in[0], in[1].dtype, want, err);
}

static kd_status joint_mix_grad(kd_grad_ctx *c)
{
    kd_graph *g = kd_grad_graph(c);
    kd_joint_mix_attr a = *(const kd_joint_mix_attr *)kd_grad_attr(c);
    const kd_spec adj = kd_spec_of(g, kd_grad_in(c, 1));
    a.x_channels = kd_spec_of(g, kd_grad_in(c, 0)).shape.dim[1];
    a.parts = a.mode == KD_MIX_SHARED ? 1 : adj.shape.dim[0];
    const kd_val for_x[2] = {kd_grad_dout(c, 0), kd_grad_in(c, 1)};
    const kd_val for_a[2] = {kd_grad_dout(c, 0), kd_grad_in(c, 0)};
    kd_grad_emit(c, KD_OP_JOINT_MIX_BWD_X, &a, for_x, 2, (const int[]){0}, 1);
    kd_grad_emit(c, KD_OP_JOINT_MIX_BWD_A, &a, for_a, 2, (const int[]){1}, 1);
    return KD_OK;
}

static kd_status check_parts(const char *op, const kd_group_sum_attr *a, int64_t channels, kd_err *err)
{
    if (a->parts < 1 || channels % a->parts != 0) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: %lld channels do not split into %d parts", op, (long long)channels,
                       a->parts);
    }
    return KD_OK;
}

static kd_status group_sum_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_group_sum_attr *a = attr;
    KD_TRY(kd_rule_float("group_sum", "z", &in[0], 4, err));
    KD_TRY(kd_rule_rank("group_sum", "z", &in[0], 4, err));
    KD_TRY(check_parts("group_sum", a, kd_rule_dim(&in[0], 1), err));
    KD_TRY(kd_rule_maybe("group_sum", "a", &in[1], in[0].dtype, kd_shape2(kd_rule_dim(&in[0], 0), a->parts), err));
    out[0] = in[0];
    out[0].shape.dim[1] /= a->parts;
    return KD_OK;
}

static kd_status group_sum_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_group_sum_attr *a = attr;
    KD_TRY(kd_rule_float("group_sum_bwd", "dy", &in[0], 4, err));
    KD_TRY(kd_rule_rank("group_sum_bwd", "dy", &in[0], 4, err));
    KD_TRY(check_parts("group_sum_bwd", a, a->parts, err));
    out[0] = in[0];
    out[0].shape.dim[1] *= a->parts;
    KD_TRY(kd_rule_maybe("group_sum_bwd", "z", &in[1], in[0].dtype, out[0].shape, err));
    if (!kd_rule_absent(&in[2])) {
        KD_TRY(kd_rule_is("group_sum_bwd", "z", &in[1], in[0].dtype, out[0].shape, err));
        KD_TRY(kd_rule_is("group_sum_bwd", "a", &in[2], in[0].dtype, kd_shape2(kd_rule_dim(&in[0], 0), a->parts), err));
        out[1] = in[2];
    }
    return KD_OK;
}

static kd_status group_sum_grad(kd_grad_ctx *c)
{
    const kd_val a = kd_grad_in(c, 1);
    const kd_val in[3] = {kd_grad_dout(c, 0), a.id != 0 ? kd_grad_in(c, 0) : KD_NONE, a};
    kd_grad_emit(c, KD_OP_GROUP_SUM_BWD, kd_grad_attr(c), in, 3, (const int[]){0, 1}, 2);
    return KD_OK;
}

static int64_t joint_mix_macs(const kd_call *c)
{
    const kd_shape *adj = &c->in[1].shape;
    return kd_shape_numel(&c->out[0].shape) * adj->dim[adj->rank - 1];
}

/* Without `a` the partitions are added only. */
static int64_t group_sum_macs(const kd_call *c)
{
    const bool weighted = c->n_in > 1 && c->in[1].data != NULL;
    return weighted ? kd_shape_numel(&c->in[0].shape) : 0;
}

KD_OP_DEFINE(joint_mix, .attr_size = sizeof(kd_joint_mix_attr), .infer = joint_mix_infer, .grad = joint_mix_grad,
             .macs = joint_mix_macs);
KD_OP_DEFINE(joint_mix_bwd_x, .attr_size = sizeof(kd_joint_mix_attr), .infer = joint_mix_bwd_x_infer);
KD_OP_DEFINE(joint_mix_bwd_a, .attr_size = sizeof(kd_joint_mix_attr), .infer = joint_mix_bwd_a_infer);
KD_OP_DEFINE(group_sum, .attr_size = sizeof(kd_group_sum_attr), .infer = group_sum_infer, .grad = group_sum_grad,
             .macs = group_sum_macs);
KD_OP_DEFINE(group_sum_bwd, .attr_size = sizeof(kd_group_sum_attr), .infer = group_sum_bwd_infer);
