/* Training, the loop: see train.h. */
#include "distill/train/train.h"

#include "distill/run/samples.h"
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

/* ---- epochs ---------------------------------------------------------------------------------- */

static kd_status seek(kd_trainer *t, kd_err *err)
{
    return kd_loader_seek(t->loader, (uint32_t)t->s.epoch, (uint64_t)t->s.batch, err);
}

static kd_status run_epoch(kd_trainer *t, kd_err *err)
{
    char phase[KD_CFG_NAME + 48];
    const char *name = kdi_train_phase(t);
    (void)snprintf(phase, sizeof phase, "%s%sepoch %lld/%lld", name != NULL ? name : "", name != NULL ? ", " : "",
                   (long long)t->s.epoch + 1, (long long)kdi_train_end(t));
    KD_TRY(kdi_mutual_each(t, seek, err));
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
            KD_TRY(kdi_epoch_save_last(t, every > 0 && t->s.step % every == 0, err));
        }
        if (kd_progress_stop(t->o->progress)) {
            KD_TRY(kdi_mutual_each(t, kdi_train_settle, err));
            return kdi_epoch_interrupted(t, err);
        }
    }
    KD_TRY(kdi_mutual_each(t, kdi_train_settle, err));
    kd_progress_step(t->o->progress, (uint64_t)t->s.batch * rows, t->s.sum_loss / (double)KD_MAX(t->s.sum_batches, 1));
    kd_run_scalar(t->run, "epoch/samples_per_second", t->s.step,
                  (double)(t->s.batch - from) * (double)rows / fmax(kd_now() - began, 1e-9));
    KD_TRY(kdi_epoch_end(t, err));
    char text[160];
    const kd_cfg_train *c = &t->cfg->train;
    const bool chosen = c->select == KD_SELECT_TRAIN || (t->s.epoch - t->s.epoch0) % c->eval_every == 0 ||
                        t->s.epoch == kdi_train_end(t);
    kdi_epoch_text(t, chosen, text, sizeof text);
    kd_progress_end(t->o->progress, text);
    for (int i = 0; i < t->peers; i++) {
        kdi_epoch_text(&t->peer[i], chosen, text, sizeof text);
        kd_log(KD_LOG_INFO, "  peer-%d %s: %s", i + 2, t->peer[i].model.name, text);
    }
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
    if (t->before != NULL) {
        KD_TRY(kdi_train_load(t, err));
    } else if (t->s.phase > 0) {
        KD_TRY(kdi_train_log_phase(t, err));
        return kdi_train_save(t, "last", err); /* from here on the phase is resumed, not begun */
    } else {
        KD_TRY(kd_samples_write(kd_run_path(t->run, "samples.tsv"), &t->data, t->o->task->need, err));
        KD_TRY(kdi_train_save(t, "last", err)); /* from here on there is something to resume from */
    }
    if (kd_run_log_bytes(t->run) > 0) {
        return KD_OK;
    }
    KD_TRY(kdi_train_log_data(t, err));
    return kdi_train_log_phase(t, err);
}

static kd_status plan_only(kd_trainer *t, kd_err *err)
{
    KD_TRY(kdi_train_read_first(t, err));
    if (!t->o->unmeasured) {
        KD_TRY(kdi_mutual_each(t, kdi_train_forecast, err));
        for (int i = 0; i < t->peers; i++) {
            t->forecast += t->peer[i].forecast;
        }
    }
    if (t->before != NULL) {
        kd_log(KD_LOG_INFO, "would resume from %s", kd_ckpt_dir(t->before));
    }
    if (!kdi_train_last_phase(t)) {
        return KD_OK;
    }
    kd_log(KD_LOG_INFO, "dry run: nothing was trained or written");
    return KD_OK;
}

/* Samples that a phase of the recipe trains in all. */
static uint64_t samples_of(const kd_trainer *t, const kd_config *c)
{
    const uint64_t step = (uint64_t)c->train.batch_size * (uint64_t)c->optim.accumulation;
    return (uint64_t)t->data.half[KD_HALF_TRAIN].n / step * step * (uint64_t)c->train.epochs;
}

/* The whole of the run for the forecast: this phase, and the others. */
static kd_status begin_progress(kd_trainer *t, kd_err *err)
{
    const int phases = t->o->cfg->phases.n;
    const uint64_t epoch = (uint64_t)t->batches * (uint64_t)t->cfg->train.batch_size;
    uint64_t first = (uint64_t)(t->s.epoch - t->s.epoch0) * epoch + (uint64_t)(t->s.batch * t->cfg->train.batch_size);
    uint64_t all = (uint64_t)t->cfg->train.epochs * epoch;
    kd_config *other = phases > 1 ? kd_alloc(sizeof *other) : NULL;
    kd_status st = KD_OK;
    if (phases > 1 && other == NULL) {
        return KD_FAIL(err, KD_E_OOM, "training: out of memory");
    }
    for (int i = 0; i < phases && st == KD_OK; i++) {
        if (i != t->s.phase && other != NULL) {
            st = kd_config_phase(t->o->cfg, i, other, err);
            const uint64_t n = st == KD_OK ? samples_of(t, other) : 0;
            first += i < t->s.phase ? n : 0;
            all += n;
        }
    }
    kd_free(other);
    if (st == KD_OK) {
        kd_progress_whole(t->o->progress, first, all);
    }
    return st;
}

static kd_status begin_events(kd_trainer *t, kd_err *err)
{
    KD_TRY(kd_run_events(t->run, t->s.step, err));
    kd_run_recipe(t->run, t->o->cfg, t->model.name);
    return KD_OK;
}

static kd_status report_late(kd_trainer *t, kd_err *err)
{
    return kdi_train_last_phase(t) && kdi_train_validates(t) ? kdi_train_report_late(t, err) : KD_OK;
}

/* From the phase's set-up to its end. */
static kd_status run_phase(kd_trainer *t, bool first, kd_err *err)
{
    KD_TRY(kdi_train_setup(t, err));
    KD_TRY(kdi_mutual_open(t, err));
    if (t->o->dry_run) {
        return plan_only(t, err);
    }
    if (t->o->find_lr != NULL) {
        return kdi_train_find_lr(t, err);
    }
    if (first && t->o->force) {
        KD_TRY(kd_run_replace(t->run, err));
    }
    KD_TRY(kd_run_write_config(t->run, t->o->cfg, err)); /* without it there is no run: before all others */
    KD_TRY(kdi_mutual_begin(t, err));
    KD_TRY(kdi_mutual_each(t, begin, err));
    if (first) {
        KD_TRY(kdi_mutual_each(t, begin_events, err));
    }
    KD_TRY(begin_progress(t, err));
    while (t->s.epoch < kdi_train_end(t) && t->s.stopped == 0) {
        KD_TRY(run_epoch(t, err));
    }
    KD_TRY(kdi_mutual_each(t, kdi_train_average, err));
    KD_TRY(kdi_mutual_each(t, report_late, err));
    kdi_train_say_peak(t);
    return kdi_mutual_each(t, check_converged, err);
}

/* Where the next phase stands before its first batch. */
static kd_train_state next_state(const kd_train_state *s, const kd_config *recipe)
{
    kd_train_state n = *s;
    n.phase++;
    n.epoch0 = n.epoch;
    n.step0 = n.step;
    n.stale = n.stopped = 0;
    n.first_loss = n.first_error = NAN;
    if (n.phase < recipe->phases.n && !recipe->phases.v[n.phase].keep_best) {
        n.best = -1.0;
        n.best_epoch = -1;
    }
    return n;
}

static size_t lost_samples(const kd_trainer *t)
{
    const kd_bad_sample *bad = NULL;
    return t->loader != NULL ? kd_loader_bad(t->loader, &bad) : 0;
}

static kd_train_result result_of(const kd_trainer *t)
{
    kd_train_result r = {.epochs = (int)t->s.epoch,
                         .last = t->s.last,
                         .best = t->s.best,
                         .best_epoch = (int)t->s.best_epoch,
                         .train_loss = t->s.last_loss,
                         .skipped = t->s.broken,
                         .lost = lost_samples(t),
                         .stopped = t->s.stopped != 0,
                         .suggested = t->suggested,
                         .least = t->least,
                         .tried = t->tried,
                         .diverged = t->diverged,
                         .origin = t->origin};
    (void)snprintf(r.figure, sizeof r.figure, "%s", t->figure);
    (void)snprintf(r.phase, sizeof r.phase, "%s", kdi_train_phase(t) != NULL ? kdi_train_phase(t) : "");
    (void)kdi_select_text(t, t->s.last, true, r.last_text);
    (void)kdi_select_text(t, t->s.best, false, r.best_text);
    return r;
}

/* What phase i begins with: the checkpoint to go on from, where it is the one that was interrupted. */
static kd_status open_trainer(kd_trainer *t, const kd_train_opts *o, kd_run *run, const kd_train_state *s, bool first,
                              kd_err *err)
{
    *t = (kd_trainer){.o = o, .cfg = o->cfg, .run = run, .s = *s};
    if (!first) {
        return KD_OK;
    }
    KD_TRY(kdi_train_open_before(t, err));
    return t->before != NULL ? kdi_train_peek_phase(t, err) : KD_OK;
}

kd_status kd_train(const kd_train_opts *o, kd_train_result *result, kd_err *err)
{
    const double started = kd_now();
    double forecast = 0.0;
    kd_train_state s = {.best = -1.0, .best_epoch = -1, .first_loss = NAN, .first_error = NAN};
    char weights[KD_SHA256_HEX] = "";
    kd_run *run = NULL;
    kd_train_result r = {.epochs = 0};
    kd_status st = o->dry_run || o->find_lr != NULL ? KD_OK : kd_run_open(o->out_dir, o->resume, o->force, &run, err);
    const int phases = o->find_lr != NULL ? 0 : o->cfg->phases.n; /* a rate is looked for in the first one */
    for (bool first = true; st == KD_OK && (first || s.phase < phases); first = false) {
        kd_trainer t;
        st = open_trainer(&t, o, run, &s, first, err);
        if (!first) {
            memcpy(t.origin.weights, weights, sizeof weights); /* a run starts from what its first phase did */
        }
        st = st == KD_OK ? run_phase(&t, first, err) : st;
        memcpy(weights, t.origin.weights, sizeof weights);
        r = result_of(&t);
        forecast += t.forecast;
        s = next_state(&t.s, o->cfg);
        kdi_train_close(&t);
    }
    r.forecast = forecast;
    r.seconds = kd_now() - started;
    if (result != NULL) {
        *result = r;
    }
    kd_run_close(run);
    return st;
}
