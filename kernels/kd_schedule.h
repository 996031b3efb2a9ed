/* Learning-rate schedules: pure functions of a step or epoch counter; nothing to save, nothing to resume. */
#ifndef KD_KERNELS_KD_SCHEDULE_H
#define KD_KERNELS_KD_SCHEDULE_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kd_schedule_kind {
    KD_SCHEDULE_COSINE_STEP,  /* VideoMAE: linear warm-up and cosine, a value a step */
    KD_SCHEDULE_COSINE_EPOCH, /* LAST: linear warm-up and cosine, a value an epoch */
    KD_SCHEDULE_MULTISTEP,    /* lr * gamma^(milestones passed), a value an epoch, after the linear warm-up */
    KD_SCHEDULE_CONSTANT      /* after the linear warm-up */
} kd_schedule_kind;

typedef struct kd_schedule {
    kd_schedule_kind kind;
    double lr, min_lr, warmup_lr; /* peak, end, start of the warm-up */
    int64_t steps_per_epoch, epochs;
    int64_t warmup_steps; /* COSINE_STEP, in steps; the others count warmup_epochs */
    double warmup_epochs;
    const int *milestones; /* MULTISTEP, epochs, borrowed */
    int n_milestones;
    double gamma;
} kd_schedule;

/* Learning rate of optimiser step `step` (0-based) of the run.
 *
 * COSINE_STEP, w = warmup_steps, n = epochs * steps_per_epoch - w (VideoMAE utils.cosine_scheduler):
 *   step < w:  warmup_lr + (lr - warmup_lr) * step / (w - 1)        (w = 1: warmup_lr)
 *   else:      min_lr + (lr - min_lr) (1 + cos(pi (step - w) / n)) / 2
 *   so the steps w-1 and w both use the peak, and the last step does not reach min_lr.
 * COSINE_EPOCH, e the epoch, W = warmup_epochs, E = epochs (LAST):
 *   e < W:  lr (s + (1 - s) e / W), s = warmup_lr / lr
 *   else:   min_lr + (lr - min_lr) (1 + cos(pi (e - W) / (E - W))) / 2 */
double kd_schedule_lr(const kd_schedule *s, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
