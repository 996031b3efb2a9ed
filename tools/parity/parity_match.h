/* The losses of op match_loss by their names in the fixtures: dkd_T4_a1_b8, dist_tau1, dist_tau4_b2_g2, nkd_T1_g1.5,
 * logit_std_T2, logit_mse, topk3_zero_T4, rkd_distance, rkd_angle, sp, infonce_0.07. */
#ifndef KD_TOOLS_PARITY_PARITY_MATCH_H
#define KD_TOOLS_PARITY_PARITY_MATCH_H

#include "kernels/kd_ops.h"

/* False: not such a name. */
bool kd_parity_match_named(const char *name, kd_match_loss_attr *out);

static inline bool kd_parity_match_reads_class(const kd_match_loss_attr *at)
{
    return at->kind == KD_MATCH_DKD || at->kind == KD_MATCH_NKD;
}

static inline bool kd_parity_match_reads_features(const kd_match_loss_attr *at)
{
    return at->kind > KD_MATCH_JSD;
}

#endif
