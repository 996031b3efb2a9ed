/* Training, the loop: see train.h. */
#include "distill/train/train.h"

#include "distill/eval/assess.h"
#include "distill/train/train_internal.h"

#include <stdio.h>

/* ---- validation ------------------------------------------------------------------------------ */

/* The report of the run: its last weights on the validation half. */
static kd_status write_report(kd_trainer *t, const kd_records *records, const kd_figures *figures, kd_err *err)
{
    kd_assessment found = {.cfg = t->cfg,
                           .data = &t->data,
                           .half = KD_HALF_VAL,
                           .model = &t->model,
                           .records = records,
                           .figures = figures,
                           .facts = {.command = t->o->command, .views = "1x1"}};
    KD_TRY(kd_assess_latency(&t->model, &found.facts, err));
    return t->o->task->report(&found, kd_run_path(t->run, "report.json"), err);
}

/* A validation has no line of its own (the epoch's is still open), but the user may stop it. */
static kd_progress stop_only(const kd_progress *p)
{
    return p != NULL ? (kd_progress){.user = p->user, .stop = p->stop} : (kd_progress){.user = NULL};
}

/* The line of a validation in the log, and its curves. */
static kd_status log_validation(kd_trainer *t, const kd_records *records, const kd_figures *f, kd_err *err)
{
    char tag[64];
    kd_json *rec = kd_json_object();
    kd_json_set_str(rec, "type", "val");
    kd_json_set_i64(rec, "epoch", t->s.epoch);
    kd_json_set_i64(rec, "step", t->s.step);
    kd_json_set_i64(rec, "samples", (int64_t)records->n);
    kd_json_set_i64(rec, "failed", (int64_t)records->n_failed);
    for (int i = 0; i < f->n; i++) {
        kd_json_set_f64(rec, f->figure[i].name, f->figure[i].value);
        (void)snprintf(tag, sizeof tag, "val/%s", f->figure[i].name);
        kd_run_scalar(t->run, tag, t->s.step, f->figure[i].value);
    }
    if (f->confusion != NULL) {
        kd_run_confusion(t->run, "val/confusion", t->s.step, f->confusion, f->classes);
    }
    return kd_run_log(t->run, rec, err);
}

static kd_status validate(kd_trainer *t, bool last, kd_err *err)
{
    const kd_config *c = t->cfg;
    const kd_progress progress = stop_only(t->o->progress);
    kd_records records = {.n = 0};
    kd_figures figures = {.n = 0};
    kd_status st = KD_OK;
    const bool ema = c->train.eval_ema && c->optim.ema_decay > 0.0;
    const kd_eval_opts eo = {.producer = &t->val.producer,
                             .batch_size = c->eval.batch_size,
                             .workers = kd_loader_workers(c->train.workers),
                             .on_bad = c->data.on_bad_sample,
                             .progress = &progress};
    if (ema) {
        KD_GO(kd_optim_swap_ema(t->optim));
    }
    st = kd_eval_fill(&t->model, t->eval_program, c, &eo, &records, err);
    if (st == KD_OK) {
        st = t->o->task->measure(&t->model, c, &records, &figures, err);
    }
    if (st == KD_OK && last) {
        st = write_report(t, &records, &figures, err);
    }
    if (ema && kd_optim_swap_ema(t->optim) != KD_OK && st == KD_OK) {
        st = KD_FAIL(err, KD_E_DEVICE, "exchange of the averaged weights failed");
    }
    if (st == KD_OK) {
        t->s.last = figures.figure[0].value;
        st = log_validation(t, &records, &figures, err);
    }
done:
    kd_figures_free(&figures);
    kd_records_free(&records);
    return st;
}

/* ---- epochs ---------------------------------------------------------------------------------- */

/* "best" holds the weights that were measured: the averaged ones under train.eval_ema. */
static kd_status save_best(kd_trainer *t, kd_err *err)
{
    const bool ema = t->cfg->train.eval_ema && t->cfg->optim.ema_decay > 0.0;
    if (ema) {
        KD_TRY(kd_optim_swap_ema(t->optim));
    }
    kd_status st = kdi_train_save(t, "best", err);
    if (ema && kd_optim_swap_ema(t->optim) != KD_OK && st == KD_OK) {
        st = KD_FAIL(err, KD_E_DEVICE, "exchange of the averaged weights failed");
    }
    return st;
}

static kd_status interrupted(kd_trainer *t, kd_err *err)
{
    KD_TRY(kdi_train_save(t, "last", err));
    return KD_FAIL(err, KD_E_CANCELLED, "interrupted in epoch %lld at batch %lld: state saved, continue with --resume",
                   (long long)t->s.epoch, (long long)t->s.batch);
}

static kd_status end_of_epoch(kd_trainer *t, kd_err *err)
{
    const kd_cfg_train *c = &t->cfg->train;
    const int64_t epoch = t->s.epoch;
    const uint64_t log_before = kd_run_log_bytes(t->run);
    t->s.last_loss = t->s.sum_loss / (double)KD_MAX(t->s.sum_batches, 1);
    kd_json *rec = kd_json_object();
    kd_json_set_str(rec, "type", "epoch");
    kd_json_set_i64(rec, "epoch", epoch);
    kd_json_set_f64(rec, "train_loss", t->s.last_loss);
    kd_json_set_i64(rec, "skipped_steps", t->s.skipped);
    KD_TRY(kd_run_log(t->run, rec, err));
    const bool last = epoch + 1 == c->epochs;
    const bool measure = last || (epoch + 1) % c->eval_every == 0;
    const kd_status st = measure ? validate(t, last, err) : KD_OK;
    if (st == KD_E_CANCELLED) { /* resume goes on behind the last batch: the epoch is logged and measured again */
        if (err != NULL) {
            err->code = KD_OK; /* the first message would stay */
        }
        KD_TRY(kd_run_log_cut(t->run, log_before, err));
        return interrupted(t, err);
    }
    KD_TRY(st);
    const bool best = measure && t->s.last > t->s.best;
    if (best) {
        t->s.best = t->s.last;
        t->s.best_epoch = epoch;
    }
    t->s.epoch = epoch + 1;
    t->s.batch = 0;
    t->s.sum_loss = 0.0;
    t->s.sum_batches = 0;
    char name[48];
    if (best) {
        KD_TRY(save_best(t, err));
    }
    if (c->keep > 0 && (epoch + 1) % c->checkpoint_every == 0) {
        (void)snprintf(name, sizeof name, "epoch-%lld", (long long)epoch);
        KD_TRY(kdi_train_save(t, name, err));
    }
    if (last || (epoch + 1) % c->checkpoint_every == 0) {
        KD_TRY(kdi_train_save(t, "last", err));
    }
    return KD_OK;
}

static kd_status run_epoch(kd_trainer *t, kd_err *err)
{
    char phase[48];
    (void)snprintf(phase, sizeof phase, "epoch %lld/%d", (long long)t->s.epoch + 1, t->cfg->train.epochs);
    KD_TRY(kd_loader_seek(t->loader, (uint32_t)t->s.epoch, (uint64_t)t->s.batch, err));
    const uint64_t rows = (uint64_t)t->cfg->train.batch_size;
    kd_progress_begin(t->o->progress, phase, "samples", (uint64_t)t->s.batch * rows, (uint64_t)t->batches * rows);
    while (t->s.batch < t->batches) {
        const kd_batch *b = NULL;
        KD_TRY(kd_loader_next(t->loader, &b, err));
        KD_TRY(kdi_train_batch(t, b, err));
        if (t->s.batch % t->accumulation != 0) {
            continue;
        }
        if (t->s.sum_batches > 0) {
            kd_progress_step(t->o->progress, (uint64_t)t->s.batch * rows, t->s.sum_loss / (double)t->s.sum_batches);
        }
        const int every = t->cfg->train.checkpoint_every_steps;
        if (every > 0 && t->s.step % every == 0 && t->s.batch < t->batches) {
            KD_TRY(kdi_train_settle(t, err));
            KD_TRY(kdi_train_save(t, "last", err));
        }
        if (kd_progress_stop(t->o->progress)) {
            KD_TRY(kdi_train_settle(t, err));
            return interrupted(t, err);
        }
    }
    KD_TRY(kdi_train_settle(t, err));
    KD_TRY(end_of_epoch(t, err));
    char text[120];
    const bool measured = t->s.epoch % t->cfg->train.eval_every == 0 || t->s.epoch == t->cfg->train.epochs;
    if (!measured || t->s.best_epoch < 0) {
        (void)snprintf(text, sizeof text, "loss %.4f", t->s.last_loss);
    } else {
        (void)snprintf(text, sizeof text, "loss %.4f  val %s %.2f %%  best %.2f %% (epoch %lld)", t->s.last_loss,
                       t->o->task->figure_text, 100.0 * t->s.last, 100.0 * t->s.best, (long long)t->s.best_epoch + 1);
    }
    kd_progress_end(t->o->progress, text);
    return KD_OK;
}

kd_status kd_train(const kd_train_opts *o, kd_train_result *result, kd_err *err)
{
    kd_trainer t = {.o = o, .cfg = o->cfg, .started = kd_now()};
    kd_status st = KD_OK;
    t.s.best = -1.0;
    t.s.best_epoch = -1;
    if (!o->dry_run) {
        KD_GO(kd_run_open(o->out_dir, o->cfg, o->resume, &t.run, err));
    }
    KD_GO(kdi_train_setup(&t, err));
    if (o->dry_run) {
        kd_log(KD_LOG_INFO, "dry run: nothing was trained or written");
        goto done;
    }
    if (o->resume && kd_run_has_checkpoint(t.run)) {
        KD_GO(kdi_train_load(&t, err));
    }
    KD_GO(kd_run_events(t.run, t.s.step, err));
    kd_run_recipe(t.run, t.cfg, t.model.name);
    while (t.s.epoch < o->cfg->train.epochs) {
        KD_GO(run_epoch(&t, err));
    }
done:
    if (result != NULL) {
        *result = (kd_train_result){(int)t.s.epoch,      t.s.last,      t.s.best,
                                    (int)t.s.best_epoch, t.s.last_loss, kd_now() - t.started};
    }
    kdi_train_close(&t);
    return st;
}
