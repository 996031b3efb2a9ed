/* Checks shared by the shape rules.  Each returns KD_OK or a failure whose message names op, operand, expected,
 * found. */
#ifndef KD_KERNELS_OP_RULE_H
#define KD_KERNELS_OP_RULE_H

#include "kernels/kd_graph.h"
#include "kernels/kd_ops.h"

static inline bool kd_rule_absent(const kd_spec *s)
{
    return s->shape.rank < 0;
}

static inline bool kd_rule_is_float(kd_dtype t)
{
    return t == KD_F32 || t == KD_BF16 || t == KD_F16 || t == KD_F64;
}

/* A present operand of a floating dtype and at least min_rank dims. */
static inline kd_status kd_rule_float(const char *op, const char *what, const kd_spec *s, int min_rank, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    if (s->shape.rank < min_rank) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: %s is %s, expected at least %d dims", op, what,
                       kd_shape_text(&s->shape, t, sizeof t), min_rank);
    }
    if (!kd_rule_is_float(s->dtype)) {
        return KD_FAIL(err, KD_E_DTYPE, "%s: %s is %s, expected a floating dtype", op, what, kd_dtype_name(s->dtype));
    }
    return KD_OK;
}

static inline kd_status kd_rule_rank(const char *op, const char *what, const kd_spec *s, int rank, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    if (s->shape.rank != rank) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: %s is %s, expected %d dims", op, what,
                       kd_shape_text(&s->shape, t, sizeof t), rank);
    }
    return KD_OK;
}

static inline kd_status kd_rule_dtype(const char *op, const char *what, const kd_spec *s, kd_dtype want, kd_err *err)
{
    if (s->dtype != want) {
        return KD_FAIL(err, KD_E_DTYPE, "%s: %s is %s, expected %s", op, what, kd_dtype_name(s->dtype),
                       kd_dtype_name(want));
    }
    return KD_OK;
}

/* Exactly this shape and dtype. */
static inline kd_status kd_rule_is(const char *op, const char *what, const kd_spec *s, kd_dtype dtype, kd_shape shape,
                                   kd_err *err)
{
    char a[KD_SHAPE_TEXT_MAX], b[KD_SHAPE_TEXT_MAX];
    if (!kd_shape_equal(&s->shape, &shape)) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: %s is %s, expected %s", op, what, kd_shape_text(&s->shape, a, sizeof a),
                       kd_shape_text(&shape, b, sizeof b));
    }
    return kd_rule_dtype(op, what, s, dtype, err);
}

/* Absent, or exactly this. */
static inline kd_status kd_rule_maybe(const char *op, const char *what, const kd_spec *s, kd_dtype dtype,
                                      kd_shape shape, kd_err *err)
{
    return kd_rule_absent(s) ? KD_OK : kd_rule_is(op, what, s, dtype, shape, err);
}

static inline int64_t kd_rule_last(const kd_spec *s)
{
    return s->shape.dim[s->shape.rank - 1];
}

static inline kd_spec kd_rule_spec(kd_dtype dtype, kd_shape shape)
{
    kd_spec s;
    s.dtype = dtype;
    s.shape = shape;
    return s;
}

/* qkv (B,N,3C) of attention: C a multiple of heads, heads of at most KD_MAX_HEAD_DIM channels. */
static inline kd_status kd_rule_qkv(const char *op, const kd_spec *qkv, int32_t heads, kd_err *err)
{
    char t[KD_SHAPE_TEXT_MAX];
    KD_TRY(kd_rule_float(op, "qkv", qkv, 3, err));
    KD_TRY(kd_rule_rank(op, "qkv", qkv, 3, err));
    const int64_t w = qkv->shape.dim[2];
    if (heads < 1 || w == 0 || w % (3 * (int64_t)heads) != 0 || w / (3 * (int64_t)heads) > KD_MAX_HEAD_DIM) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: qkv is %s with %d heads, expected (B,N,3*heads*D), D at most %d", op,
                       kd_shape_text(&qkv->shape, t, sizeof t), (int)heads, KD_MAX_HEAD_DIM);
    }
    return KD_OK;
}

#endif
