/* Learning-rate schedules: see kd_schedule.h. */
#include "kernels/kd_schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

static double cosine(const kd_schedule *s, double at, double length)
{
    return s->min_lr + 0.5 * (s->lr - s->min_lr) * (1.0 + cos(pi * at / length));
}

static double by_step(const kd_schedule *s, int64_t step)
{
    const int64_t w = s->warmup_steps;
    if (step < w) {
        return w == 1 ? s->warmup_lr : s->warmup_lr + (s->lr - s->warmup_lr) * (double)step / (double)(w - 1);
    }
    return cosine(s, (double)(step - w), (double)(s->epochs * s->steps_per_epoch - w));
}

static double by_epoch(const kd_schedule *s, int64_t step)
{
    const int64_t epoch = step / s->steps_per_epoch;
    const double e = (double)epoch;
    if (e < s->warmup_epochs) {
        const double start = s->warmup_lr / s->lr;
        return s->lr * (start + (1.0 - start) * e / s->warmup_epochs);
    }
    if (s->kind == KD_SCHEDULE_COSINE_EPOCH) {
        return cosine(s, e - s->warmup_epochs, (double)s->epochs - s->warmup_epochs);
    }
    double lr = s->lr;
    for (int i = 0; i < s->n_milestones && s->kind == KD_SCHEDULE_MULTISTEP; i++) {
        lr *= e >= (double)s->milestones[i] ? s->gamma : 1.0;
    }
    return lr;
}

double kd_schedule_lr(const kd_schedule *s, int64_t step)
{
    return s->kind == KD_SCHEDULE_COSINE_STEP ? by_step(s, step) : by_epoch(s, step);
}
