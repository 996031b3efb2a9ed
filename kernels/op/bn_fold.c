/* bn_fold: a convolution's weights with the batch-norm behind it folded in (forward-only programs; kd_fuse.c). */
#include "kernels/op/rule.h"

static kd_status bn_fold_infer(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err)
{
    (void)n_in, (void)attr;
    KD_TRY(kd_rule_float("bn_fold", "W", &in[0], 2, err));
    const kd_dtype stat = kd_stat_dtype(in[0].dtype);
    const kd_shape c = kd_shape1(in[0].shape.dim[0]);
    static const char *const names[] = {"gamma", "beta", "running_mean", "running_var"};
    if (!kd_rule_absent(&in[1])) {
        KD_TRY(kd_rule_is("bn_fold", "b", &in[1], stat, c, err));
    }
    for (int i = 0; i < 4; i++) {
        KD_TRY(kd_rule_is("bn_fold", names[i], &in[2 + i], stat, c, err));
    }
    out[0] = in[0];
    out[1] = (kd_spec){stat, c};
    return KD_OK;
}

KD_OP_DEFINE(bn_fold, .attr_size = sizeof(kd_batchnorm_attr), .infer = bn_fold_infer);
