/* Learning-rate schedules: see kd_schedule.h. */
#include "kernels/kd_schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* Rate of the first step as a share of the peak; a peak of 0 is flat. */
static double start_factor(const kd_schedule *s)
{
    return s->lr > 0.0 ? s->warmup_lr / s->lr : 1.0;
}

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
        const double start = start_factor(s);
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

static double hugging_face(const kd_schedule *s, int64_t step)
{
    const int64_t w = s->warmup_steps, total = s->total_steps > 0 ? s->total_steps : s->epochs * s->steps_per_epoch;
    if (step < w) {
        return s->lr * (double)step / (double)KD_MAX(w, 1);
    }
    return cosine(s, (double)(step - w), (double)KD_MAX(total - w, 1));
}

/* Changes that CosineAnnealingLR has made by step k. */
static int64_t cosine_changes(const kd_schedule *s, int64_t k, int64_t unit)
{
    const int64_t most = (s->cosine_end - s->cosine_begin) * (s->steps_per_epoch / unit) - 1;
    return KD_MAX(KD_MIN(k / unit - s->cosine_begin * (s->steps_per_epoch / unit), most), 0);
}

/* unit: steps between changes of the cosine. */
static double mm_engine(const kd_schedule *s, int64_t step, int64_t unit)
{
    const int64_t w = s->warmup_steps > 1 ? s->warmup_steps : 0;
    const double start = start_factor(s), rise = 1.0 - start;
    const int64_t period_units = s->cosine_epochs * (s->steps_per_epoch / unit);
    const double period = (double)period_units;
    double lr = w > 0 ? s->warmup_lr : s->lr;
    int64_t t = 0;
    for (int64_t k = 1; k <= step && k < w; k++) { /* while both act, the recursion itself: order matters to min_lr */
        const double before = (double)(w - 1) * start + (double)(k - 1) * rise;
        /* from a rate of 0, which the recursion never leaves, to the step that a straight line takes */
        lr = before > 0.0 ? lr * (1.0 + rise / before) : s->lr * rise / (double)(w - 1);
        const int64_t now = cosine_changes(s, k, unit);
        if (now > t) {
            t = now;
            lr = (1.0 + cos(pi * (double)t / period)) / (1.0 + cos(pi * (double)(t - 1) / period)) * (lr - s->min_lr) +
                 s->min_lr;
        }
    }
    const int64_t now = cosine_changes(s, step, unit);
    return now == t ? lr
                    : (1.0 + cos(pi * (double)now / period)) / (1.0 + cos(pi * (double)t / period)) * (lr - s->min_lr) +
                          s->min_lr;
}

double kd_schedule_lr(const kd_schedule *s, int64_t step)
{
    switch (s->kind) {
    case KD_SCHEDULE_COSINE_STEP:
        return by_step(s, step);
    case KD_SCHEDULE_HF_COSINE:
        return hugging_face(s, step);
    case KD_SCHEDULE_MM_EPOCH:
        return mm_engine(s, step, s->steps_per_epoch);
    case KD_SCHEDULE_MM_STEP:
        return mm_engine(s, step, 1);
    case KD_SCHEDULE_COSINE_EPOCH:
    case KD_SCHEDULE_MULTISTEP:
    case KD_SCHEDULE_CONSTANT:
        break;
    }
    return by_epoch(s, step);
}

double kd_schedule_cosine(const kd_schedule *s, double from, double to, int64_t step)
{
    return to + 0.5 * (from - to) * (1.0 + cos(pi * (double)step / (double)(s->epochs * s->steps_per_epoch)));
}
