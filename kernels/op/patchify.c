/* Rules of patchify: clips or pictures to rows of patches. */
#include "kernels/op/rule.h"

static kd_status patch_shape(const char *op, const kd_patchify_attr *a, const kd_shape *x, kd_shape *rows, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    if (a->tubelet < 1 || a->patch < 1 || a->patch > KD_MAX_PATCH) {
        return KD_FAIL(err, KD_E_ARG, "%s: tubelet %d, patch %d, expected at least 1 and a patch of at most %d", op,
                       (int)a->tubelet, (int)a->patch, KD_MAX_PATCH);
    }
    if (x->rank != 5 || x->dim[2] % a->tubelet != 0 || x->dim[3] % a->patch != 0 || x->dim[4] % a->patch != 0) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: clip is %s, expected (B,C,T,H,W) with T a multiple of %d and H, W of %d",
                       op, kd_shape_text(x, t, sizeof t), (int)a->tubelet, (int)a->patch);
    }
    const int64_t n = x->dim[2] / a->tubelet * (x->dim[3] / a->patch) * (x->dim[4] / a->patch);
    *rows = kd_shape3(x->dim[0], n, x->dim[1] * a->tubelet * a->patch * a->patch);
    return KD_OK;
}

/* The clip's shape as (B,C,T,H,W). */
static kd_status clip_shape(const kd_spec *x, kd_shape *clip, kd_err *err)
{
    const int64_t *d = x->shape.dim;
    *clip = x->shape;
    if (x->dtype != KD_U8) {
        return kd_rule_float("patchify", "x", x, 5, err);
    }
    if (x->shape.rank != 5 || d[4] != 3) {
        char t[KD_SHAPE_TEXT_MAX];
        return KD_FAIL(err, KD_E_SHAPE, "patchify: pictures are %s, expected (B,T,H,W,3)",
                       kd_shape_text(&x->shape, t, sizeof t));
    }
    *clip = kd_shape5(d[0], 3, d[1], d[2], d[3]);
    return KD_OK;
}

enum { X, TABLE, PLACE, PERM, LAM, CUT, OPERANDS };

static kd_status mixing(const kd_spec *in, int64_t batch, kd_dtype stat, kd_err *err)
{
    if (kd_rule_absent(&in[PERM]) != kd_rule_absent(&in[LAM]) ||
        (kd_rule_absent(&in[PERM]) && !kd_rule_absent(&in[CUT]))) {
        return KD_FAIL(err, KD_E_ARG, "patchify: perm and lam come together, cut only with them");
    }
    KD_TRY(kd_rule_maybe("patchify", "perm", &in[PERM], KD_I32, kd_shape1(batch), err));
    KD_TRY(kd_rule_maybe("patchify", "lam", &in[LAM], stat, kd_shape1(batch), err));
    return kd_rule_maybe("patchify", "cut", &in[CUT], KD_I32, kd_shape2(batch, 4), err);
}

static kd_status patchify_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_patchify_attr *a = attr;
    /* out[0] comes in with the program's activation dtype */
    const kd_dtype act = out[0].dtype, stat = kd_stat_dtype(act);
    kd_shape clip;
    KD_TRY(clip_shape(&in[X], &clip, err));
    KD_TRY(patch_shape("patchify", a, &clip, &out[0].shape, err));
    if (kd_rule_absent(&in[TABLE]) != (in[X].dtype != KD_U8)) {
        return KD_FAIL(err, KD_E_ARG, "patchify: a table of values belongs to u8 pictures, and they to it");
    }
    KD_TRY(kd_rule_maybe("patchify", "table", &in[TABLE], stat, kd_shape2(3, 256), err));
    const int64_t boxes = in[PLACE].shape.rank == 2 ? (in[PLACE].shape.dim[1] - KD_PLACE) / KD_BOX : 1;
    KD_TRY(kd_rule_maybe("patchify", "place", &in[PLACE], KD_I32,
                         kd_shape2(clip.dim[0], KD_PLACE + KD_BOX * KD_MAX(boxes, 1)), err));
    KD_TRY(mixing(in, clip.dim[0], stat, err));
    return in[X].dtype == KD_U8 || in[X].dtype == stat ? KD_OK : kd_rule_dtype("patchify", "x", &in[X], act, err);
}

static kd_status patchify_grad(kd_grad_ctx *c)
{
    for (int i = TABLE; i < OPERANDS; i++) {
        if (kd_grad_in(c, i).id != 0) {
            kd_graph_fail(kd_grad_graph(c), KD_E_UNSUPPORTED,
                          "patchify: there is no gradient of pictures, nor of placed or mixed clips");
            return KD_E_UNSUPPORTED;
        }
    }
    const kd_spec x = kd_spec_of(kd_grad_graph(c), kd_grad_in(c, X));
    kd_patchify_attr a = *(const kd_patchify_attr *)kd_grad_attr(c);
    a.x_shape = x.shape;
    a.x_dtype = (int32_t)x.dtype;
    const kd_val dy = kd_grad_dout(c, 0);
    kd_grad_emit(c, KD_OP_PATCHIFY_BWD, &a, &dy, 1, (const int[]){X}, 1);
    return KD_OK;
}

KD_OP_DEFINE(patchify, .attr_size = sizeof(kd_patchify_attr), .infer = patchify_infer, .grad = patchify_grad);

static kd_status patchify_bwd_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in;
    const kd_patchify_attr *a = attr;
    kd_shape rows;
    KD_TRY(patch_shape("patchify_bwd", a, &a->x_shape, &rows, err));
    KD_TRY(kd_rule_is("patchify_bwd", "dy", &in[0], in[0].dtype, rows, err));
    out[0] = kd_rule_spec((kd_dtype)a->x_dtype, a->x_shape);
    return KD_OK;
}

KD_OP_DEFINE(patchify_bwd, .attr_size = sizeof(kd_patchify_attr), .infer = patchify_bwd_infer);
