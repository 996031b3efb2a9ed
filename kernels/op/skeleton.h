/* Checks shared by the rules of skeleton ops: operands (N,C,T,V) and what hangs on them. */
#ifndef KD_KERNELS_OP_SKELETON_H
#define KD_KERNELS_OP_SKELETON_H

#include "kernels/op/rule.h"

/* x floating (N,C,T,V), V within KD_MAX_JOINTS. */
static inline kd_status kd_rule_nctv(const char *op, const char *what, const kd_spec *x, kd_err *err)
{
    KD_TRY(kd_rule_float(op, what, x, 0, err));
    KD_TRY(kd_rule_rank(op, what, x, 4, err));
    if (x->shape.dim[3] < 1 || x->shape.dim[3] > KD_MAX_JOINTS) {
        return KD_FAIL(err, KD_E_SHAPE, "%s: %s has %lld joints, expected 1 to %d", op, what,
                       (long long)x->shape.dim[3], KD_MAX_JOINTS);
    }
    return KD_OK;
}

/* dim(s, i) without the noise. */
static inline int64_t kd_rule_dim(const kd_spec *s, int i)
{
    return s->shape.dim[i];
}

#endif
