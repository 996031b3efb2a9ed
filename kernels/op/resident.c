/* Rules of the ops on data that stay on the device: take_rows, skeleton_streams; and the streams of one sample. */
#include "kernels/kd_skeleton.h"
#include "kernels/op/rule.h"

/* The leading dim of `row` replaced by that of the index. */
static kd_spec rows_of(const kd_spec *table, const kd_spec *idx)
{
    kd_spec s = *table;
    s.shape.dim[0] = idx->shape.dim[0];
    return s;
}

static kd_status take_rows_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("take_rows", "table", &in[0], 1, err));
    KD_TRY(kd_rule_dtype("take_rows", "table", &in[0], kd_stat_dtype(in[0].dtype), err));
    KD_TRY(kd_rule_rank("take_rows", "idx", &in[1], 1, err));
    KD_TRY(kd_rule_dtype("take_rows", "idx", &in[1], KD_I32, err));
    out[0] = rows_of(&in[0], &in[1]);
    return KD_OK;
}

KD_OP_DEFINE(take_rows, .infer = take_rows_infer);

static kd_status check_attr(const kd_skeleton_streams_attr *a, int64_t joints, kd_err *err)
{
    for (int s = 0; s < KD_SKEL_STREAMS; s++) {
        if (!(a->sigma[s] >= 0.0)) {
            return KD_FAIL(err, KD_E_ARG, "skeleton_streams: noise of %g in stream %d", a->sigma[s], s);
        }
    }
    if (a->scored != 0 && a->scored != 1) {
        return KD_FAIL(err, KD_E_ARG, "skeleton_streams: scored is %d, expected 0 or 1", (int)a->scored);
    }
    if (!(a->clamp >= 0.0)) {
        return KD_FAIL(err, KD_E_ARG, "skeleton_streams: a clamp at %g", a->clamp);
    }
    for (int64_t v = 0; v < joints; v++) {
        if (a->parent[v] >= joints || a->mirror[v] >= joints) {
            return KD_FAIL(err, KD_E_ARG,
                           "skeleton_streams: joint %d has parent %d and mirror image %d among %d joints", (int)v,
                           a->parent[v], a->mirror[v], (int)joints);
        }
    }
    return KD_OK;
}

static kd_status skeleton_streams_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const char *const op = "skeleton_streams";
    const kd_shape *x = &in[0].shape;
    KD_TRY(kd_rule_float(op, "table", &in[0], 1, err));
    KD_TRY(kd_rule_dtype(op, "table", &in[0], kd_stat_dtype(in[0].dtype), err));
    KD_TRY(kd_rule_rank(op, "table", &in[0], 5, err));
    if (x->dim[1] != 3 || x->dim[2] < 1 || x->dim[2] > INT32_MAX / KD_SKELETON_MAX_BODIES || x->dim[3] < 1 ||
        x->dim[3] > KD_SKELETON_MAX_JOINTS || x->dim[4] < 1 || x->dim[4] > KD_SKELETON_MAX_BODIES) {
        char t[KD_SHAPE_TEXT_MAX];
        return KD_FAIL(err, KD_E_SHAPE, "%s: table is %s, expected (S, 3, T, at most %d joints, at most %d bodies)", op,
                       kd_shape_text(x, t, sizeof t), KD_SKELETON_MAX_JOINTS, KD_SKELETON_MAX_BODIES);
    }
    KD_TRY(kd_rule_rank(op, "idx", &in[1], 1, err));
    KD_TRY(kd_rule_dtype(op, "idx", &in[1], KD_I32, err));
    const int64_t rows = in[1].shape.dim[0];
    KD_TRY(kd_rule_is(op, "draw", &in[2], in[0].dtype, kd_shape2(rows, KD_SKEL_DRAW), err));
    KD_TRY(kd_rule_is(op, "idraw", &in[3], KD_I32, kd_shape2(rows, KD_SKEL_IDRAW), err));
    KD_TRY(check_attr(attr, x->dim[3], err));
    out[0] = out[1] = out[2] = out[3] = rows_of(&in[0], &in[1]);
    return KD_OK;
}

KD_OP_DEFINE(skeleton_streams, .attr_size = sizeof(kd_skeleton_streams_attr), .infer = skeleton_streams_infer);

/* The streams of one sample, for the data path; this file is compiled without fused multiply-add. */
void kd_skel_streams(const kd_skel_form *f, const kd_skeleton_streams_attr *a, const kd_skel_draw *d, const float *x,
                     float *const *y)
{
    KD_ASSERT(f->joints <= KD_SKELETON_MAX_JOINTS && f->bodies <= KD_SKELETON_MAX_BODIES);
    kd_skel_streams_of(f, a, d, x, y);
}
