/* Rules of the ops that move elements: slice, concat, permute, qkv_bias. */
#include "kernels/op/rule.h"

/* ---- slice ----------------------------------------------------------------------------------- */

static kd_status slice_check(const char *op, const kd_slice_attr *a, const kd_spec *x, int64_t dim, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    KD_TRY(kd_rule_float(op, "operand", x, 1, err));
    if (a->axis < 0 || a->axis >= x->shape.rank) {
        return KD_FAIL(err, KD_E_ARG, "%s: axis %d does not exist in %s", op, (int)a->axis,
                       kd_shape_text(&x->shape, t, sizeof t));
    }
    if (a->start < 0 || a->len < 1 || a->start > dim || a->len > dim - a->start) {
        return KD_FAIL(err, KD_E_ARG, "%s: [%lld, +%lld) is not inside a dim of %lld", op, (long long)a->start,
                       (long long)a->len, (long long)dim);
    }
    return KD_OK;
}

static kd_status slice_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_slice_attr *a = attr;
    const bool named = a->axis >= 0 && a->axis < in[0].shape.rank;
    KD_TRY(slice_check("slice", a, &in[0], named ? in[0].shape.dim[a->axis] : 0, err));
    out[0] = in[0];
    out[0].shape.dim[a->axis] = a->len;
    return KD_OK;
}

static kd_status slice_grad(kd_grad_ctx *c)
{
    kd_slice_attr a = *(const kd_slice_attr *)kd_grad_attr(c);
    a.full = kd_spec_of(kd_grad_graph(c), kd_grad_in(c, 0)).shape.dim[a.axis];
    const kd_val dy = kd_grad_dout(c, 0);
    kd_grad_emit(c, KD_OP_SLICE_BWD, &a, &dy, 1, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(slice, .attr_size = sizeof(kd_slice_attr), .infer = slice_infer, .grad = slice_grad);

static kd_status slice_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_slice_attr *a = attr;
    KD_TRY(slice_check("slice_bwd", a, &in[0], a->full, err));
    kd_shape want = in[0].shape;
    want.dim[a->axis] = a->len;
    KD_TRY(kd_rule_is("slice_bwd", "dy", &in[0], in[0].dtype, want, err));
    out[0] = in[0];
    out[0].shape.dim[a->axis] = a->full;
    return KD_OK;
}

KD_OP_DEFINE(slice_bwd, .attr_size = sizeof(kd_slice_attr), .infer = slice_bwd_infer);

/* ---- concat ---------------------------------------------------------------------------------- */

static kd_status concat_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    const int32_t axis = ((const kd_concat_attr *)attr)->axis;
    char t[KD_SHAPE_TEXT_MAX];
    KD_TRY(kd_rule_float("concat", "operand 0", &in[0], 1, err));
    if (axis < 0 || axis >= in[0].shape.rank) {
        return KD_FAIL(err, KD_E_ARG, "concat: axis %d does not exist in %s", (int)axis,
                       kd_shape_text(&in[0].shape, t, sizeof t));
    }
    out[0] = in[0];
    for (int i = 1; i < n_in; i++) {
        KD_TRY(kd_rule_float("concat", "operand", &in[i], 1, err));
        kd_shape want = in[0].shape;
        if (in[i].shape.rank == want.rank) {
            want.dim[axis] = in[i].shape.dim[axis];
        }
        KD_TRY(kd_rule_is("concat", "operand", &in[i], in[0].dtype, want, err));
        out[0].shape.dim[axis] += want.dim[axis];
    }
    return KD_OK;
}

static kd_status concat_grad(kd_grad_ctx *c)
{
    static const int each[KD_CONCAT_MOST] = {0, 1, 2, 3, 4, 5, 6, 7};
    const kd_val dy = kd_grad_dout(c, 0);
    kd_concat_attr a = {.axis = ((const kd_concat_attr *)kd_grad_attr(c))->axis};
    for (; a.n < KD_CONCAT_MOST; a.n++) {
        const kd_val x = kd_grad_in(c, a.n);
        if (x.id == 0) {
            break;
        }
        a.part[a.n] = kd_spec_of(kd_grad_graph(c), x).shape.dim[a.axis];
    }
    kd_grad_emit(c, KD_OP_CONCAT_BWD, &a, &dy, 1, each, a.n);
    return KD_OK;
}

KD_OP_DEFINE(concat, .attr_size = sizeof(kd_concat_attr), .infer = concat_infer, .grad = concat_grad);

static kd_status concat_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_concat_attr *a = attr;
    KD_TRY(kd_rule_float("concat_bwd", "dy", &in[0], 1, err));
    int64_t sum = 0;
    for (int i = 0; i < a->n; i++) {
        out[i] = in[0];
        out[i].shape.dim[a->axis] = a->part[i];
        sum += a->part[i];
    }
    if (sum != in[0].shape.dim[a->axis]) {
        return KD_FAIL(err, KD_E_SHAPE, "concat_bwd: parts of %lld in all along dim %d of %lld", (long long)sum,
                       (int)a->axis, (long long)in[0].shape.dim[a->axis]);
    }
    return KD_OK;
}

KD_OP_DEFINE(concat_bwd, .attr_size = sizeof(kd_concat_attr), .infer = concat_bwd_infer);

/* ---- permute --------------------------------------------------------------------------------- */

static kd_status permute_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_permute_attr *a = attr;
    KD_TRY(kd_rule_float("permute", "x", &in[0], 1, err));
    uint32_t seen = 0;
    out[0] = in[0];
    for (int i = 0; i < in[0].shape.rank; i++) {
        const int32_t p = a->perm[i];
        if (p < 0 || p >= in[0].shape.rank || ((seen >> p) & 1u) != 0) {
            char t[KD_SHAPE_TEXT_MAX];
            return KD_FAIL(err, KD_E_ARG, "permute: entry %d is %d, expected each dim of %s once", i, (int)p,
                           kd_shape_text(&in[0].shape, t, sizeof t));
        }
        seen |= 1u << p;
        out[0].shape.dim[i] = in[0].shape.dim[p];
    }
    return KD_OK;
}

static kd_status permute_grad(kd_grad_ctx *c)
{
    const kd_permute_attr *f = kd_grad_attr(c);
    const int rank = kd_spec_of(kd_grad_graph(c), kd_grad_in(c, 0)).shape.rank;
    kd_permute_attr a = {{0}};
    for (int i = 0; i < rank; i++) {
        a.perm[f->perm[i]] = i;
    }
    const kd_val dy = kd_grad_dout(c, 0);
    kd_grad_emit(c, KD_OP_PERMUTE, &a, &dy, 1, (const int[]){0}, 1);
    return KD_OK;
}

KD_OP_DEFINE(permute, .attr_size = sizeof(kd_permute_attr), .infer = permute_infer, .grad = permute_grad);

/* ---- qkv_bias -------------------------------------------------------------------------------- */

static kd_status qkv_bias_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("qkv_bias", "q_bias", &in[0], 1, err));
    KD_TRY(kd_rule_rank("qkv_bias", "q_bias", &in[0], 1, err));
    KD_TRY(kd_rule_dtype("qkv_bias", "q_bias", &in[0], kd_stat_dtype(in[0].dtype), err));
    KD_TRY(kd_rule_is("qkv_bias", "v_bias", &in[1], in[0].dtype, in[0].shape, err));
    out[0] = kd_rule_spec(in[0].dtype, kd_shape1(3 * in[0].shape.dim[0]));
    return KD_OK;
}

static kd_status qkv_bias_grad(kd_grad_ctx *c)
{
    const kd_val d = kd_grad_dout(c, 0);
    kd_grad_emit(c, KD_OP_QKV_BIAS_BWD, NULL, &d, 1, (const int[]){0, 1}, 2);
    return KD_OK;
}

KD_OP_DEFINE(qkv_bias, .infer = qkv_bias_infer, .grad = qkv_bias_grad);

static kd_status qkv_bias_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("qkv_bias_bwd", "d", &in[0], 1, err));
    KD_TRY(kd_rule_is("qkv_bias_bwd", "d", &in[0], kd_stat_dtype(in[0].dtype), kd_shape1(in[0].shape.dim[0] / 3 * 3),
                      err));
    out[0] = out[1] = kd_rule_spec(in[0].dtype, kd_shape1(in[0].shape.dim[0] / 3));
    return KD_OK;
}

KD_OP_DEFINE(qkv_bias_bwd, .infer = qkv_bias_bwd_infer);
