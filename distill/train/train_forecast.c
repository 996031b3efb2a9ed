/* Training, what a dry run does beyond setting up: one sample of each half, the forecast. */
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

/* The first row of a half: joints, channels and paths that no sample has right are found in it. */
static kd_status read_first(const kd_trainer *t, const kd_producer *p, kd_err *err)
{
    const kd_loader_opts lo = {.batch_size = 1, .on_bad = t->cfg->data.on_bad_sample};
    const kd_batch *b = NULL;
    kd_loader *l = NULL;
    KD_TRY(kd_loader_open(&lo, p, &l, err));
    kd_status st = kd_loader_seek(l, 0, 0, err);
    st = st == KD_OK ? kd_loader_next(l, &b, err) : st;
    kd_loader_close(l);
    return st;
}

kd_status kdi_train_read_first(kd_trainer *t, kd_err *err)
{
    kd_producer p = t->train.producer;
    if (t->model.kept > 0) { /* its batches are draws alone */
        KD_TRY(t->o->task->resident->rows(t->train.ctx, &p, err));
    }
    KD_TRY(read_first(t, &p, err));
    return kdi_train_validates(t) ? read_first(t, &t->val.producer, err) : KD_OK;
}

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
