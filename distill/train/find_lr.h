/* A learning-rate range test (Smith 2017, "Cyclical Learning Rates", section 3.3): the rate grows exponentially from
 * step to step, and the loss tells which rates learn, and from where on they destroy.
 *
 * The loss is smoothed by an exponential mean (0.98, corrected for its start).  The test ends early where the smoothed
 * loss is four times its least value, or a loss is not finite.  Suggested is the rate at which the smoothed loss falls
 * steepest over the logarithm of the rate, the first tenth of the steps and everything from the least loss on left out.
 */
#ifndef KD_DISTILL_TRAIN_FIND_LR_H
#define KD_DISTILL_TRAIN_FIND_LR_H

#include "kernels/kd_base.h"

typedef struct kd_find_lr {
    double from, to; /* optim.base_lr, as the recipe scales it */
    int steps;       /* optimiser steps, 10 or more */
    const char *dir; /* lr_find.{json,csv,html} are written there */
} kd_find_lr;

typedef struct kd_lr_curve {
    double *rate, *loss, *smooth; /* [n] rate: optim.base_lr */
    int n;
    bool diverged;
    int least, steepest; /* indices; steepest -1: the loss does not fall */
} kd_lr_curve;

/* The curve's smoothing, end and suggestion from its raw losses; `n` is cut where the test would have ended. */
void kd_lr_judge(kd_lr_curve *c);

/* The three files. */
KD_NODISCARD kd_status kd_lr_write(const kd_lr_curve *c, const char *dir, const char *name, kd_err *err);

#endif
