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
    KD_SCHEDULE_CONSTANT,     /* after the linear warm-up */
    KD_SCHEDULE_HF_COSINE,    /* Hugging Face: linear warm-up from 0 and half a cosine, a value a step */
    KD_SCHEDULE_MM_EPOCH,     /* MMEngine: LinearLR a step, times CosineAnnealingLR an epoch */
    KD_SCHEDULE_MM_STEP       /* the same, CosineAnnealingLR a step */
} kd_schedule_kind;

typedef struct kd_schedule {
    kd_schedule_kind kind;
    double lr, min_lr, warmup_lr; /* peak, end, start of the warm-up */
    int64_t steps_per_epoch, epochs;
    int64_t warmup_steps; /* COSINE_STEP, HF_COSINE, MM_*: in steps; the others count warmup_epochs */
    double warmup_epochs;
    int64_t total_steps; /* HF_COSINE: where the cosine ends; 0: epochs * steps_per_epoch */
    /* MM_*: epochs of the cosine's half period, of its first and of the one that its last change comes before */
    int64_t cosine_epochs, cosine_begin, cosine_end;
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
 *   else:   min_lr + (lr - min_lr) (1 + cos(pi (e - W) / (E - W))) / 2
 * HF_COSINE, w = warmup_steps, n = total_steps - w (transformers get_cosine_schedule_with_warmup, min_lr 0):
 *   step < w:  lr step / w
 *   else:      min_lr + (lr - min_lr) (1 + cos(pi (step - w) / n)) / 2
 * MM_*, w = warmup_steps (MMEngine's chained schedulers; each multiplies what the other left):
 *   LinearLR, in step k < w:       lr *= 1 + (1 - s) / ((w - 1) s + (k - 1) (1 - s)), s = warmup_lr / lr, from s at 0
 *   CosineAnnealingLR, change t of T, before the end:
 *                                  lr  = (1 + cos(pi t / T)) / (1 + cos(pi (t - 1) / T)) (lr - min_lr) + min_lr
 *   t counts epochs or steps from cosine_begin; the warm-up must end before t = T.  With w = 1 MMEngine stays at
 *   warmup_lr for ever; here one step is no warm-up.  From s = 0 MMEngine divides by 0; here step 1 takes
 *   lr (1 - s) / (w - 1), the limit of small s.
 * A peak of 0 has s = 1. */
double kd_schedule_lr(const kd_schedule *s, int64_t step);

/* A cosine from `from` to `to` over the steps of the run, without warm-up (VideoMAE's weight decay):
 *   to + (from - to) (1 + cos(pi step / (epochs * steps_per_epoch))) / 2 */
double kd_schedule_cosine(const kd_schedule *s, double from, double to, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
