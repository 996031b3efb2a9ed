/* Training, the loop: see train.h. */
#include "distill/train/train.h"

#include "distill/run/samples.h"
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

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

/* The checkpoint to resume from, if it is due or the user asks for it. */
static kd_status save_last(kd_trainer *t, bool due, kd_err *err)
{
    const bool asked = kd_progress_save(t->o->progress);
    if (!due && !asked) {
        return KD_OK;
    }
    KD_TRY(kdi_train_settle(t, err));
    KD_TRY(kdi_train_save(t, "last", err));
    if (asked) {
        kd_progress_note(t->o->progress, "checkpoint saved as asked; training goes on");
    }
    return KD_OK;
}

static kd_status interrupted(kd_trainer *t, kd_err *err)
{
    KD_TRY(kdi_train_save(t, "last", err));
    return KD_FAIL(err, KD_E_CANCELLED, "interrupted in epoch %lld at batch %lld: state saved, continue with --resume",
                   (long long)t->s.epoch + 1, (long long)t->s.batch);
}

/* Every trained tensor's values, where train.histograms asks for them. */
static kd_status log_weights(kd_trainer *t, kd_err *err)
{
    const int every = t->cfg->train.histograms;
    if (every == 0 || (t->s.epoch + 1) % every != 0) {
        return KD_OK;
    }
    for (int i = 0; i < kd_params_count(t->model.params); i++) {
        const kd_param_info *e = kd_params_at(t->model.params, i);
        float *value = e->buffer ? NULL : kd_alloc((size_t)e->numel * sizeof *value);
        char tag[160];
        if (e->buffer) {
            continue;
        }
        if (value == NULL) {
            return KD_FAIL(err, KD_E_OOM, "histograms: out of memory for %s", e->name);
        }
        const kd_status st = kd_params_read(t->model.params, i, value, e->numel);
        (void)snprintf(tag, sizeof tag, "weights/%s", e->name);
        if (st == KD_OK) {
            kd_run_histogram(t->run, tag, t->s.step, value, e->numel);
        }
        kd_free(value);
        if (st != KD_OK) {
            return KD_FAIL(err, st, "histograms: %s cannot be read", e->name);
        }
    }
    return KD_OK;
}

static kd_status log_epoch(kd_trainer *t, kd_err *err)
{
    const kd_bad_sample *bad = NULL;
    const size_t n_bad = kd_loader_bad(t->loader, &bad);
    if (t->s.sum_batches == 0) {
        return KD_FAIL(err, KD_E_DATA, "training half: none of %lld samples can be read, the first: %s",
                       (long long)t->batches * t->cfg->train.batch_size, n_bad > 0 ? bad[0].message : "?");
    }
    t->s.last_loss = t->s.sum_loss / (double)t->s.sum_batches;
    if (t->s.epoch == 0) {
        const double n = (double)t->s.sum_batches, mean = t->s.last_loss;
        t->s.first_loss = mean;
        t->s.first_error = n > 1.0 ? sqrt(fmax(t->s.sum_squares / n - mean * mean, 0.0) / (n - 1.0)) : NAN;
    }
    kd_json *rec = kd_json_object();
    kd_json_set_str(rec, "type", "epoch");
    kd_json_set_i64(rec, "epoch", t->s.epoch);
    kd_json_set_f64(rec, "train_loss", t->s.last_loss);
    kd_json_set_i64(rec, "skipped_steps", t->s.skipped);
    KD_TRY(kd_run_log(t->run, rec, err));
    kd_run_scalar(t->run, "epoch/train_loss", t->s.step, t->s.last_loss);
    return log_weights(t, err);
}

/* The epoch is done and measured: its checkpoints. */
static kd_status save_epoch(kd_trainer *t, bool best, bool last, kd_err *err)
{
    const kd_cfg_train *c = &t->cfg->train;
    const int64_t epoch = t->s.epoch;
    char name[48];
    if (best) {
        t->s.best = t->s.last;
        t->s.best_epoch = epoch;
    }
    t->s.epoch = epoch + 1;
    t->s.batch = 0;
    t->s.sum_loss = t->s.sum_squares = 0.0;
    t->s.sum_batches = 0;
    if (best) {
        KD_TRY(save_best(t, err));
    }
    if (c->keep > 0 && (epoch + 1) % c->checkpoint_every == 0) {
        (void)snprintf(name, sizeof name, "epoch-%lld", (long long)epoch);
        KD_TRY(kdi_train_save(t, name, err));
    }
    return save_last(t, last || (epoch + 1) % c->checkpoint_every == 0, err);
}

static kd_status end_of_epoch(kd_trainer *t, kd_err *err)
{
    const kd_cfg_train *c = &t->cfg->train;
    const uint64_t log_before = kd_run_log_bytes(t->run);
    const bool last = t->s.epoch + 1 == c->epochs;
    const bool measure = last || (t->s.epoch + 1) % c->eval_every == 0;
    kd_records records = {.n = 0};
    kd_figures figures = {.n = 0};
    kd_status st = KD_OK;
    KD_GO(log_epoch(t, err));
    st = measure ? kdi_train_validate(t, &records, &figures, err) : KD_OK;
    if (st == KD_E_CANCELLED) { /* resume goes on behind the last batch: the epoch is logged and measured again */
        if (err != NULL) {
            err->code = KD_OK; /* the first message would stay */
        }
        KD_GO(kd_run_log_cut(t->run, log_before, err));
        st = interrupted(t, err);
        goto done;
    }
    KD_GO(st);
    if (measure) {
        t->s.last = figures.figure[0].value;
        KD_GO(kdi_train_log_validation(t, &records, &figures, err));
    }
    KD_GO(save_epoch(t, measure && t->s.last > t->s.best, last, err));
    if (last) { /* after the last checkpoint: a run with a report is finished */
        st = kdi_train_report(t, &records, &figures, err);
    }
done:
    kd_figures_free(&figures);
    kd_records_free(&records);
    return st;
}

static kd_status run_epoch(kd_trainer *t, kd_err *err)
{
    char phase[48];
    (void)snprintf(phase, sizeof phase, "epoch %lld/%d", (long long)t->s.epoch + 1, t->cfg->train.epochs);
    KD_TRY(kd_loader_seek(t->loader, (uint32_t)t->s.epoch, (uint64_t)t->s.batch, err));
    const uint64_t rows = (uint64_t)t->cfg->train.batch_size;
    const double began = kd_now();
    const int64_t from = t->s.batch;
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
        if (t->s.batch < t->batches) { /* the end of the epoch has its own */
            KD_TRY(save_last(t, every > 0 && t->s.step % every == 0, err));
        }
        if (kd_progress_stop(t->o->progress)) {
            KD_TRY(kdi_train_settle(t, err));
            return interrupted(t, err);
        }
    }
    KD_TRY(kdi_train_settle(t, err));
    kd_progress_step(t->o->progress, (uint64_t)t->s.batch * rows, t->s.sum_loss / (double)KD_MAX(t->s.sum_batches, 1));
    kd_run_scalar(t->run, "epoch/samples_per_second", t->s.step,
                  (double)(t->s.batch - from) * (double)rows / fmax(kd_now() - began, 1e-9));
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

/* ---- the run --------------------------------------------------------------------------------- */

/* The share of a healthy run's steps that may lack a finite gradient. */
#define MAX_BROKEN 0.10

/* How far chance alone takes the mean loss of one epoch above that of another: three standard errors, but not less than
 * 5 % and not more than a quarter of the loss, or of a uniform guess's where that is larger.  Where an epoch is one
 * batch, nothing is known of its spread, and the quarter stands. */
static double by_chance(const kd_trainer *t)
{
    const double loss = fabs(t->s.first_loss), most = 0.25 * fmax(loss, log((double)t->model.classes));
    return isnan(t->s.first_error) ? most : fmax(fmin(3.0 * sqrt(2.0) * t->s.first_error, most), 0.05 * loss);
}

/* Weights that change over the epochs change the loss with them. */
static bool loss_is_steady(const kd_trainer *t)
{
    for (int i = 0; i < t->loss.n; i++) {
        if (kd_term_is_scheduled(&t->loss.term[i])) {
            return false;
        }
    }
    return true;
}

static kd_status check_converged(kd_trainer *t, kd_err *err)
{
    const char *kept = kd_run_path(t->run, "checkpoints");
    if ((double)t->s.broken > MAX_BROKEN * (double)t->s.step) {
        return KD_FAIL(
            err, KD_E_NUMERIC,
            "diverged: %lld of %lld steps had no finite gradient (at most %.0f %% are accepted); the weights "
            "are kept in %s",
            (long long)t->s.broken, (long long)t->s.step, 100.0 * MAX_BROKEN, kept);
    }
    if (loss_is_steady(t) && !(t->s.last_loss <= t->s.first_loss + by_chance(t))) {
        return KD_FAIL(err, KD_E_NUMERIC,
                       "diverged: mean loss %.4g in the last epoch, %.4g in the first; the weights are kept in %s",
                       t->s.last_loss, t->s.first_loss, kept);
    }
    return KD_OK;
}

static kd_status begin(kd_trainer *t, kd_err *err)
{
    KD_TRY(kd_run_write_config(t->run, t->cfg, err));
    if (t->before != NULL) {
        KD_TRY(kdi_train_load(t, err));
    } else {
        KD_TRY(kd_samples_write(kd_run_path(t->run, "samples.tsv"), &t->data, t->o->task->need, err));
        KD_TRY(kdi_train_save(t, "last", err)); /* from here on there is something to resume from */
    }
    return kd_run_log_bytes(t->run) == 0 ? kdi_train_log_data(t, err) : KD_OK;
}

static kd_status plan_only(kd_trainer *t, kd_err *err)
{
    KD_TRY(kdi_train_forecast(t, err));
    if (t->before != NULL) {
        kd_log(KD_LOG_INFO, "would resume from %s", kd_ckpt_dir(t->before));
    }
    kd_log(KD_LOG_INFO, "dry run: nothing was trained or written");
    return KD_OK;
}

kd_status kd_train(const kd_train_opts *o, kd_train_result *result, kd_err *err)
{
    kd_trainer t = {.o = o, .cfg = o->cfg, .started = kd_now()};
    kd_status st = KD_OK;
    t.s.best = -1.0;
    t.s.best_epoch = -1;
    t.s.first_loss = t.s.first_error = NAN;
    if (!o->dry_run) {
        KD_GO(kd_run_open(o->out_dir, o->resume, o->force, &t.run, err));
    }
    KD_GO(kdi_train_open_before(&t, err));
    KD_GO(kdi_train_setup(&t, err));
    if (o->dry_run) {
        st = plan_only(&t, err);
        goto done;
    }
    if (o->force) {
        KD_GO(kd_run_replace(t.run, err));
    }
    KD_GO(begin(&t, err));
    KD_GO(kd_run_events(t.run, t.s.step, err));
    kd_run_recipe(t.run, t.cfg, t.model.name);
    const uint64_t samples = (uint64_t)t.batches * (uint64_t)o->cfg->train.batch_size; /* of an epoch */
    kd_progress_whole(o->progress,
                      (uint64_t)t.s.epoch * samples + (uint64_t)t.s.batch * (uint64_t)o->cfg->train.batch_size,
                      (uint64_t)o->cfg->train.epochs * samples);
    while (t.s.epoch < o->cfg->train.epochs) {
        KD_GO(run_epoch(&t, err));
    }
    KD_GO(kdi_train_report_late(&t, err));
    st = check_converged(&t, err);
done:
    if (result != NULL) {
        *result = (kd_train_result){(int)t.s.epoch,      t.s.last,      t.s.best,
                                    (int)t.s.best_epoch, t.s.last_loss, kd_now() - t.started};
    }
    kdi_train_close(&t);
    return st;
}
