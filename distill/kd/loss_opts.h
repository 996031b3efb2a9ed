/* Options of the loss: config section `kd`; each is documented in terms.inc and loss_opts.inc. */
#ifndef KD_DISTILL_KD_LOSS_OPTS_H
#define KD_DISTILL_KD_LOSS_OPTS_H

#include "kernels/kd_options.h"

/* How the weight of a term goes over the epochs of the run. */
#define KD_WEIGHT_SHAPE_MAP(X)        \
    X(KD_WEIGHT_CONSTANT, "constant") \
    X(KD_WEIGHT_LINEAR, "linear")     \
    X(KD_WEIGHT_COSINE, "cosine")

#define KD_FEATURE_MATCH_MAP(X)      \
    X(KD_FEATURE_MATCH_NONE, "none") \
    X(KD_FEATURE_MATCH_MSE, "mse")   \
    X(KD_FEATURE_MATCH_COSINE, "cosine")

/* In the order of kd_tail (kernels/kd_ops.h). */
#define KD_TOPK_TAIL_MAP(X)     \
    X(KD_TOPK_ZERO, "zero")     \
    X(KD_TOPK_RENORM, "renorm") \
    X(KD_TOPK_UNIFORM, "uniform")

KD_ENUM_OF(kd_topk_tail, KD_TOPK_TAIL_MAP);
KD_ENUM_OF(kd_weight_shape, KD_WEIGHT_SHAPE_MAP);
KD_ENUM_OF(kd_feature_match, KD_FEATURE_MATCH_MAP);

typedef struct kd_loss_opts {
#define KD_OPTIONS "distill/kd/loss_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_loss_opts;

#endif
