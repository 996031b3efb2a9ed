/* Options of mixed batches: config section `mixup`; each is documented in mixup_opts.inc. */
#ifndef KD_DISTILL_BATCH_MIXUP_OPTS_H
#define KD_DISTILL_BATCH_MIXUP_OPTS_H

#include "kernels/kd_options.h"

#define KD_MIXUP_PARTNER_MAP(X) \
    X(KD_PARTNER_FLIP, "flip")  \
    X(KD_PARTNER_PERMUTE, "permute")

#define KD_MIXUP_MODE_MAP(X)   \
    X(KD_MIXUP_BATCH, "batch") \
    X(KD_MIXUP_ELEM, "elem")   \
    X(KD_MIXUP_PAIR, "pair")

KD_ENUM_OF(kd_mixup_partner, KD_MIXUP_PARTNER_MAP);
KD_ENUM_OF(kd_mixup_mode, KD_MIXUP_MODE_MAP);

typedef struct kd_mixup_opts {
#define KD_OPTIONS "distill/batch/mixup_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_mixup_opts;

#endif
