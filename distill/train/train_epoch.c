/* Training, the end of an epoch: its figures, its lines in the log, its checkpoints.  Where several students learn from
 * each other, all are measured before one is saved. */
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

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

static kd_status save_now(kd_trainer *t, kd_err *err)
{
    return kdi_train_save(t, "last", err);
}

static void say_saved(const kd_trainer *t)
{
    kd_progress_note(t->o->progress, "checkpoint saved as asked; training goes on");
}

kd_status kdi_epoch_save_last(kd_trainer *t, bool due, kd_err *err)
{
    const bool asked = kd_progress_save(t->o->progress);
    if (!due && !asked) {
        return KD_OK;
    }
    KD_TRY(kdi_mutual_each(t, kdi_train_settle, err));
    KD_TRY(kdi_mutual_each(t, save_now, err));
    if (asked) {
        say_saved(t);
    }
    return KD_OK;
}

kd_status kdi_epoch_interrupted(kd_trainer *t, kd_err *err)
{
    KD_TRY(kdi_mutual_each(t, save_now, err));
    const char *phase = kdi_train_phase(t);
    return KD_FAIL(err, KD_E_CANCELLED,
                   "interrupted in %s%s%sepoch %lld at batch %lld: state saved, continue with --resume",
                   phase != NULL ? "phase " : "", phase != NULL ? phase : "", phase != NULL ? ", " : "",
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
    if (t->s.sum_batches == 0 && n_bad == 0) {
        return KD_FAIL(err, KD_E_NUMERIC, "epoch %lld: no batch had a finite loss; the last good state is in %s",
                       (long long)t->s.epoch + 1, kd_run_path(t->run, "checkpoints/last"));
    }
    if (t->s.sum_batches == 0) {
        return KD_FAIL(err, KD_E_DATA, "training half: none of %lld samples can be read, the first: %s",
                       (long long)t->batches * t->cfg->train.batch_size, n_bad > 0 ? bad[0].message : "?");
    }
    t->s.last_loss = t->s.sum_loss / (double)t->s.sum_batches;
    if (t->s.epoch == t->s.epoch0) {
        const double n = (double)t->s.sum_batches, mean = t->s.last_loss;
        t->s.first_loss = mean;
        t->s.first_error = n > 1.0 ? sqrt(fmax(t->s.sum_squares / n - mean * mean, 0.0) / (n - 1.0)) : NAN;
    }
    kd_json *rec = kdi_train_record(t, "epoch");
    kd_json_set_i64(rec, "epoch", t->s.epoch);
    kd_json_set_f64(rec, "train_loss", t->s.last_loss);
    if (t->s.seen > 0) {
        const double top1 = (double)t->s.hits / (double)t->s.seen;
        kd_json_set_f64(rec, t->figure, top1);
        kd_run_scalar(t->run, "epoch/train_top1", t->s.step, top1);
    }
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
    t->s.sum_batches = t->s.hits = t->s.seen = 0;
    if (best) {
        KD_TRY(save_best(t, err));
    }
    const bool due = (epoch + 1 - t->s.epoch0) % c->checkpoint_every == 0;
    if (c->keep > 0 && due) {
        (void)snprintf(name, sizeof name, "epoch-%lld", (long long)epoch);
        KD_TRY(kdi_train_save(t, name, err));
    }
    KD_TRY(kdi_train_average_epoch(t, err));
    if (!last && !due) {
        return t->origin.peer > 0 ? KD_OK : kdi_epoch_save_last(t, false, err);
    }
    KD_TRY(save_now(t, err)); /* each student its own: the checkpoint before stays beside it */
    if (t->origin.peer == 0 && kd_progress_save(t->o->progress)) {
        say_saved(t);
    }
    return KD_OK;
}

static kd_status log_stop(kd_trainer *t, kd_err *err)
{
    kd_json *rec = kdi_train_record(t, "stop");
    kd_json_set_i64(rec, "epoch", t->s.epoch);
    kd_json_set_str(rec, "figure", t->figure);
    kd_json_set_i64(rec, "best_epoch", t->s.best_epoch);
    kd_json_set_i64(rec, "without_better", t->s.stale);
    kd_log(KD_LOG_INFO,
           "%s ends early, after epoch %lld: no better %s in %lld (train.patience); the best was epoch %lld",
           kdi_train_phase(t) != NULL ? kdi_train_phase(t) : "training", (long long)t->s.epoch + 1, t->figure,
           (long long)t->s.stale, (long long)t->s.best_epoch + 1);
    return kd_run_log(t->run, rec, err);
}

/* Is the epoch that ends the last one; is it validated? */
static bool is_final(const kd_trainer *t)
{
    return t->s.epoch + 1 - t->s.epoch0 == t->cfg->train.epochs;
}

static bool measures(const kd_trainer *t)
{
    return kdi_train_validates(t) && (is_final(t) || (t->s.epoch + 1 - t->s.epoch0) % t->cfg->train.eval_every == 0);
}

static kd_status measure_epoch(kd_trainer *t, kd_err *err)
{
    t->end.log_bytes = kd_run_log_bytes(t->run);
    KD_TRY(log_epoch(t, err));
    return measures(t) ? kdi_train_validate(t, &t->end.records, &t->end.figures, err) : KD_OK;
}

static kd_status forget_epoch(kd_trainer *t, kd_err *err)
{
    return t->end.log_bytes > 0 ? kd_run_log_cut(t->run, t->end.log_bytes, err) : KD_OK;
}

static void free_epoch(kd_trainer *t)
{
    kd_figures_free(&t->end.figures);
    kd_records_free(&t->end.records);
    t->end = (kd_epoch_end){.log_bytes = 0};
}

static kd_status keep_epoch(kd_trainer *t, kd_err *err)
{
    const bool measure = measures(t), final = is_final(t);
    kd_epoch_end *e = &t->end;
    kd_selection chosen = {.best = false};
    KD_TRY(kdi_select(t, measure ? &e->figures : NULL, &chosen, err));
    if (measure) {
        KD_TRY(kdi_train_log_validation(t, &e->records, &e->figures, err));
    }
    if (chosen.stopped) {
        KD_TRY(log_stop(t, err));
    }
    KD_TRY(save_epoch(t, chosen.best, final || chosen.stopped, err));
    /* after the last checkpoint: a run with a report is finished */
    return measure && (final || chosen.stopped) && kdi_train_last_phase(t) && t->cfg->train.average_last == 0
               ? kdi_train_report(t, &e->records, &e->figures, err)
               : KD_OK;
}

/* All students are measured before one is saved. */
kd_status kdi_epoch_end(kd_trainer *t, kd_err *err)
{
    kd_status st = kdi_mutual_each(t, measure_epoch, err);
    if (st == KD_E_CANCELLED) { /* resume goes on behind the last batch: the epoch is logged and measured again */
        if (err != NULL) {
            err->code = KD_OK; /* the first message would stay */
        }
        st = kdi_mutual_each(t, forget_epoch, err);
        st = st == KD_OK ? kdi_epoch_interrupted(t, err) : st;
    } else if (st == KD_OK) {
        st = kdi_mutual_each(t, keep_epoch, err);
    }
    for (int i = 0; i < t->peers; i++) {
        free_epoch(&t->peer[i]);
    }
    free_epoch(t);
    return st;
}

void kdi_epoch_text(const kd_trainer *t, bool chosen, char *text, size_t size)
{
    char last[48], best[48];
    if (!chosen || t->s.best_epoch < 0) {
        (void)snprintf(text, size, "loss %.4f", t->s.last_loss);
        return;
    }
    (void)snprintf(text, size, "loss %.4f  %s  best %s (epoch %lld)", t->s.last_loss,
                   kdi_select_text(t, t->s.last, true, last), kdi_select_text(t, t->s.best, false, best),
                   (long long)t->s.best_epoch + 1);
}
