/* Training, the forecast of a dry run. */
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

kd_status kdi_train_forecast(kd_trainer *t, kd_err *err)
{
    enum { RUNS = 3 };
    const double enough = 10.0; /* seconds of measuring */
    const kd_step step = {.grad_scale = 1.0f};
    const double start = kd_now();
    double fastest = INFINITY;
    for (int i = 0; i < RUNS && (i == 0 || kd_now() - start < enough); i++) {
        const double t0 = kd_now();
        kd_status st = kd_program_run(t->program, &step);
        st = st == KD_OK && t->self_program != NULL ? kd_program_run(t->self_program, NULL) : st;
        st = st == KD_OK ? t->o->be->ops->sync(t->o->be) : st;
        if (st != KD_OK) {
            return KD_FAIL(err, st, "dry run: %s: %s", kd_program_where(t->program), kd_status_text(st));
        }
        fastest = fmin(fastest, kd_now() - t0);
    }
    const double all = fastest * (double)t->batches * (double)t->cfg->train.epochs;
    char text[48];
    t->forecast = all;
    if (all < 3600.0) {
        (void)snprintf(text, sizeof text, all < 60.0 ? "%.0f s" : "%.0f min",
                       all < 60.0 ? ceil(all) : ceil(all / 60.0));
    } else {
        (void)snprintf(text, sizeof text, "%.0f h %.0f min", floor(all / 3600.0), floor(fmod(all, 3600.0) / 60.0));
    }
    kd_log(
        KD_LOG_INFO,
        "a batch of %d takes %.3g s to compute: about %s for %lld of them in each of %d epochs; reading and validation "
        "come on top",
        t->cfg->train.batch_size, fastest, text, (long long)t->batches, t->cfg->train.epochs);
    return KD_OK;
}
