/* Training, the steps of the range test (find_lr.h): those of a run, at rates that grow, and nothing kept of them. */
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

/* One optimiser step at a rate; its loss is the mean over its micro-batches. */
static kd_status one_step(kd_trainer *t, double rate, double *loss, kd_err *err)
{
    kd_backend *be = t->o->be;
    float *got = &t->pending[0].got->loss;
    *loss = 0.0;
    for (int i = 0; i < t->accumulation; i++) {
        const kd_batch *b = NULL;
        if (t->s.batch == t->batches) {
            t->s.batch = 0;
            t->s.epoch++;
            KD_TRY(kd_loader_seek(t->loader, (uint32_t)t->s.epoch, 0, err));
        }
        const kd_step step = {.seed = kd_config_init_seed(t->cfg),
                              .step = (uint64_t)t->s.micro++,
                              .grad_scale = 1.0f / (float)t->accumulation,
                              .loss_scale = kd_optim_loss_scale(t->optim)};
        KD_TRY(kd_loader_next(t->loader, &b, err));
        KD_TRY(kdi_feed(t, b, err));
        t->s.batch++;
        kd_status st = kd_program_run(t->program, &step);
        st = st == KD_OK ? be->ops->fetch(be, got, t->total, sizeof *got) : st;
        st = st == KD_OK ? be->ops->sync(be) : st;
        if (st != KD_OK) {
            return KD_FAIL(err, st, "rate %g: %s: %s", rate, kd_program_where(t->program), kd_status_text(st));
        }
        *loss += (double)*got / (double)t->accumulation;
    }
    const kd_status st = kd_optim_step(t->optim, rate, NULL);
    return st == KD_OK ? st : KD_FAIL(err, st, "rate %g: the optimiser step failed", rate);
}

static kd_status ramp(kd_trainer *t, kd_lr_curve *c, kd_err *err)
{
    const kd_find_lr *f = t->o->find_lr;
    const kd_cfg_optim *o = &t->cfg->optim;
    const double scale = o->scale_lr ? (double)(t->cfg->train.batch_size * t->accumulation) / 256.0 : 1.0;
    kd_progress_begin(t->o->progress, "learning rates", "steps", 0, (uint64_t)f->steps);
    KD_TRY(kd_loader_seek(t->loader, 0, 0, err));
    for (int i = 0; i < f->steps; i++) {
        c->rate[i] = f->from * pow(f->to / f->from, (double)i / (f->steps - 1));
        KD_TRY(one_step(t, scale * c->rate[i], &c->loss[i], err));
        c->n = i + 1;
        kd_lr_judge(c);
        kd_progress_step(t->o->progress, (uint64_t)i + 1, c->loss[i]);
        if (c->diverged) {
            break;
        }
        if (kd_progress_stop(t->o->progress)) {
            return KD_FAIL(err, KD_E_CANCELLED, "interrupted at rate %g: nothing is kept", c->rate[i]);
        }
    }
    kd_progress_end(t->o->progress, c->diverged ? "diverged" : "done");
    return KD_OK;
}

kd_status kdi_train_find_lr(kd_trainer *t, kd_err *err)
{
    const kd_find_lr *f = t->o->find_lr;
    const size_t n = (size_t)f->steps;
    kd_lr_curve c = {.rate = kd_calloc(n, sizeof *c.rate),
                     .loss = kd_calloc(n, sizeof *c.loss),
                     .smooth = kd_calloc(n, sizeof *c.smooth)};
    kd_status st = c.rate != NULL && c.loss != NULL && c.smooth != NULL
                       ? KD_OK
                       : KD_FAIL(err, KD_E_OOM, "learning rates: out of memory");
    KD_GO(st);
    KD_GO(ramp(t, &c, err));
    if (c.n < 2) {
        st =
            KD_FAIL(err, KD_E_NUMERIC, "the loss is not finite at the first rate, %g: begin at a smaller one", f->from);
        goto done;
    }
    t->suggested = c.steepest >= 0 ? c.rate[c.steepest] : (double)NAN;
    t->least = c.rate[c.least];
    t->tried = c.rate[c.n - 1];
    t->diverged = c.diverged;
    st = kd_lr_write(&c, f->dir, t->cfg->name[0] != '\0' ? t->cfg->name : t->model.name, err);
done:
    kd_free(c.rate);
    kd_free(c.loss);
    kd_free(c.smooth);
    return st;
}
