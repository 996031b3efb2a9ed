/* Training, the loop: see train.h. */
#include "distill/train.h"

#include "distill/assess.h"
#include "distill/metrics.h"
#include "distill/targets.h"
#include "distill/train_internal.h"

#include <math.h>
#include <stdio.h>

/* ---- one batch ---------------------------------------------------------------------------------------------------------- */

static kd_status put(kd_trainer *t, const char *name, const void *data, size_t bytes, kd_err *err)
{
    const kd_status st = kd_program_write(t->program, name, data, bytes);
    return st == KD_OK ? st : KD_FAIL(err, st, "training input %s: shape is not the program's", name);
}

/* softmax(row / T) in place. */
static void soften(float *row, int k, double temperature)
{
    double top = (double)row[0], sum = 0.0;
    for (int j = 1; j < k; j++) {
        top = fmax(top, (double)row[j]);
    }
    for (int j = 0; j < k; j++) {
        sum += exp(((double)row[j] - top) / temperature);
    }
    for (int j = 0; j < k; j++) {
        row[j] = (float)(exp(((double)row[j] - top) / temperature) / sum);
    }
}

/* The teacher's rows for the batch; mixed samples get mixed probabilities at the temperature. */
static kd_status put_teacher(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    const size_t k = (size_t)t->model.classes, dim = (size_t)t->teacher.feature_dim;
    const kd_objective *o = &t->objective;
    for (int i = 0; i < b->rows; i++) {
        const uint32_t s = b->sample[i];
        const bool has = b->valid[i] != 0.0f && t->teacher.has[s];
        t->teacher_valid[i] = has ? 1.0f : 0.0f;
        float *row = t->teacher_rows + (size_t)i * k;
        memset(row, 0, k * sizeof *row);
        memset(t->feature_rows + (size_t)i * dim, 0, dim * sizeof(float));
        if (has) {
            memcpy(row, t->teacher.logits + s * k, k * sizeof *row);
            if (dim != 0) {
                memcpy(t->feature_rows + (size_t)i * dim, t->teacher.feature + s * dim, dim * sizeof(float));
            }
        }
        if (o->teacher_is_prob) {
            soften(row, (int)k, (double)o->temperature);
        }
    }
    const float *rows = t->teacher_rows;
    if (o->teacher_is_prob) {
        kd_mix_rows(t->teacher_rows, b->rows, k, t->perm, t->lam, t->mixed_rows);
        rows = t->mixed_rows;
    }
    const size_t n = (size_t)b->rows;
    const bool kd = o->kd_weight > 0.0f, feature = o->feature != KD_CFG_FEATURE_NONE && o->feature_weight > 0.0f;
    if (kd || feature) { /* a store whose terms all weigh 0 changes nothing */
        KD_TRY(put(t, "teacher_valid", t->teacher_valid, n * sizeof(float), err));
    }
    if (kd) {
        KD_TRY(put(t, "teacher", rows, n * k * sizeof(float), err));
    }
    if (feature) {
        KD_TRY(put(t, "teacher_feature", t->feature_rows, n * dim * sizeof(float), err));
    }
    return KD_OK;
}

static kd_status feed(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    const kd_config *c = t->cfg;
    const kd_producer *src = &t->train.producer;
    const size_t n = (size_t)b->rows;
    for (int i = 0; i < src->n_tensors; i++) {
        KD_TRY(put(t, src->tensor[i].name, b->tensor[i], src->tensor[i].floats * n * sizeof(float), err));
    }
    const bool mixup = t->objective.mixup;
    if (mixup) {
        (void)kd_mix_draw(&c->mixup, (uint64_t)c->train.seed, b->epoch, (uint32_t)b->index, b->rows, b->valid, t->perm,
                          t->lam);
        KD_TRY(put(t, "perm", t->perm, n * sizeof *t->perm, err));
        KD_TRY(put(t, "lam", t->lam, n * sizeof *t->lam, err));
    }
    kd_targets(b->label, b->valid, b->rows, t->model.classes, c->label_smoothing, mixup ? t->perm : NULL,
               mixup ? t->lam : NULL, t->target);
    KD_TRY(put(t, "target", t->target, n * (size_t)t->model.classes * sizeof(float), err));
    KD_TRY(put(t, "valid", b->valid, n * sizeof(float), err));
    return t->has_teacher ? put_teacher(t, b, err) : KD_OK;
}

/* Samples that could not be read (on_bad_sample: skip): each loss goes to the log, the first of a sample to the user. */
static kd_status log_lost(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    const kd_bad_sample *bad;
    const size_t n = kd_loader_bad(t->loader, &bad);
    for (int i = 0; i < b->rows && b->valid_rows < b->rows; i++) {
        size_t k = 0;
        while (k < n && bad[k].sample != b->sample[i]) {
            k++;
        }
        if (b->valid[i] != 0.0f || k == n) {
            continue;
        }
        const char *id = t->data.half[KD_HALF_TRAIN].sample[b->sample[i]].id;
        if (bad[k].times == 1) {
            kd_log(KD_LOG_WARN, "%s: left out of training: %s", id, bad[k].message);
        }
        kd_json *rec = kd_json_object();
        kd_json_set_str(rec, "type", "lost");
        kd_json_set_i64(rec, "epoch", t->s.epoch);
        kd_json_set_i64(rec, "batch", t->s.batch);
        kd_json_set_str(rec, "id", id);
        kd_json_set_str(rec, "message", bad[k].message);
        KD_TRY(kd_run_log(t->run, rec, err));
    }
    return KD_OK;
}

/* Forward, loss, backward of one micro-batch; *loss is its loss. */
static kd_status run_batch(kd_trainer *t, double *loss, kd_err *err)
{
    const kd_step step = {.seed = (uint64_t)t->cfg->train.seed,
                          .step = (uint64_t)t->s.micro,
                          .grad_scale = 1.0f / (float)t->accumulation};
    const kd_status st = kd_program_run(t->program, &step);
    float value = 0.0f;
    if (st != KD_OK) {
        return KD_FAIL(err, st, "epoch %lld batch %lld: %s: %s", (long long)t->s.epoch, (long long)t->s.batch,
                       kd_program_where(t->program), kd_status_text(st));
    }
    KD_TRY(kd_program_read_f32(t->program, "loss", &value, 1));
    *loss = (double)value;
    t->s.micro++;
    return KD_OK;
}

/* ---- optimiser step and its log line -------------------------------------------------------------------------------------- */

static void add_term(kd_trainer *t, kd_json *rec, const char *name)
{
    float v = 0.0f;
    if (kd_program_tensor(t->program, name).data != NULL && kd_program_read_f32(t->program, name, &v, 1) == KD_OK) {
        char tag[64];
        kd_json_set_f64(rec, name, (double)v);
        (void)snprintf(tag, sizeof tag, "train/%s", name);
        kd_run_scalar(t->run, tag, t->s.step, (double)v);
    }
}

static kd_status log_step(kd_trainer *t, double loss, double lr, double norm, kd_err *err)
{
    if (t->s.step % t->cfg->train.log_interval != 0) {
        return KD_OK;
    }
    kd_json *rec = kd_json_object();
    kd_json_set_str(rec, "type", "train");
    kd_json_set_i64(rec, "epoch", t->s.epoch);
    kd_json_set_i64(rec, "step", t->s.step);
    kd_json_set_f64(rec, "loss", loss);
    add_term(t, rec, "loss_ce");
    add_term(t, rec, "loss_kd");
    add_term(t, rec, "loss_feature");
    kd_json_set_f64(rec, "lr", lr);
    kd_json_set_f64(rec, "grad_norm", norm);
    kd_run_scalar(t->run, "train/loss", t->s.step, loss);
    kd_run_scalar(t->run, "train/lr", t->s.step, lr);
    kd_run_scalar(t->run, "train/grad_norm", t->s.step, norm);
    return kd_run_log(t->run, rec, err);
}

enum { MAX_SKIPPED_IN_A_ROW = 20 };

static kd_status optimise(kd_trainer *t, double loss, int *bad_in_a_row, kd_err *err)
{
    const double lr = kd_schedule_lr(&t->schedule, t->s.step);
    double norm = 0.0;
    const kd_status st = kd_optim_step(t->optim, lr, &norm);
    t->s.step++;
    if (st == KD_E_NUMERIC) {
        t->s.skipped++;
        kd_log(KD_LOG_WARN, "step %lld: gradient is not finite (loss %g); step skipped", (long long)t->s.step, loss);
        if (++*bad_in_a_row >= MAX_SKIPPED_IN_A_ROW) {
            return KD_FAIL(err, KD_E_NUMERIC, "%d steps in a row without a finite gradient: last good state is in %s",
                           *bad_in_a_row, kd_run_path(t->run, "checkpoints/last"));
        }
        return KD_OK;
    }
    *bad_in_a_row = 0;
    if (st != KD_OK) {
        return KD_FAIL(err, st, "optimiser step %lld failed", (long long)t->s.step);
    }
    return log_step(t, loss, lr, norm, err);
}

/* ---- validation --------------------------------------------------------------------------------------------------------------- */

/* The report of the run: its last weights on the validation half. */
static kd_status write_report(kd_trainer *t, const kd_eval_table *table, kd_err *err)
{
    int64_t macs = 0;
    kd_assess_facts facts = {.command = t->o->command, .views = "1x1"};
    KD_TRY(kd_assess_latency(&t->model, &facts.latency_ms, &facts.latency_p90_ms, &macs, err));
    return kd_assess_write(t->cfg, &t->data, KD_HALF_VAL, &t->model, table, macs, &facts,
                           kd_run_path(t->run, "report.json"), err);
}

/* A validation has no line of its own (the epoch's is still open), but the user may stop it. */
static kd_progress stop_only(const kd_progress *p)
{
    return p != NULL ? (kd_progress){.user = p->user, .stop = p->stop} : (kd_progress){.user = NULL};
}

static kd_status validate(kd_trainer *t, bool last, kd_err *err)
{
    const kd_config *c = t->cfg;
    const kd_progress progress = stop_only(t->o->progress);
    kd_eval_table table = {0};
    kd_metrics m = {0};
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
    st = kd_eval_fill(&t->model, t->eval_program, &eo, c->eval.merge, &table, err);
    if (st == KD_OK && last) {
        st = write_report(t, &table, err);
    }
    if (ema && kd_optim_swap_ema(t->optim) != KD_OK && st == KD_OK) {
        st = KD_FAIL(err, KD_E_DEVICE, "exchange of the averaged weights failed");
    }
    if (st != KD_OK) {
        goto done;
    }
    size_t n = 0; /* failed samples (on_bad_sample: skip) are left out of the figures and counted in the log */
    for (size_t i = 0; i < table.n; i++) {
        if (table.done[i]) {
            memmove(table.logits + n * (size_t)table.classes, table.logits + i * (size_t)table.classes,
                    (size_t)table.classes * sizeof(float));
            table.label[n++] = table.label[i];
        }
    }
    const kd_scores scores = {table.logits, table.label, n, table.classes};
    KD_GO(kd_metrics_compute(&scores, 1.0, c->report.ece_bins, &m, err));
    t->s.last_top1 = m.top1;
    kd_json *rec = kd_json_object();
    kd_json_set_str(rec, "type", "val");
    kd_json_set_i64(rec, "epoch", t->s.epoch);
    kd_json_set_i64(rec, "step", t->s.step);
    kd_json_set_i64(rec, "samples", (int64_t)n);
    kd_json_set_i64(rec, "failed", (int64_t)table.counts.failed);
    kd_json_set_f64(rec, "top1", m.top1);
    kd_json_set_f64(rec, "top5", m.top5);
    kd_json_set_f64(rec, "mean_class_accuracy", m.mean_class_accuracy);
    kd_json_set_f64(rec, "nll", m.nll);
    kd_json_set_f64(rec, "ece", m.ece);
    kd_run_scalar(t->run, "val/top1", t->s.step, m.top1);
    kd_run_scalar(t->run, "val/nll", t->s.step, m.nll);
    kd_run_confusion(t->run, "val/confusion", t->s.step, m.confusion, m.classes);
    st = kd_run_log(t->run, rec, err);
done:
    kd_metrics_free(&m);
    kd_eval_table_free(&table);
    return st;
}

/* ---- epochs --------------------------------------------------------------------------------------------------------------------- */

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
    const bool best = measure && t->s.last_top1 > t->s.best_top1;
    if (best) {
        t->s.best_top1 = t->s.last_top1;
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
    int bad = 0;
    double step_loss = 0.0;
    (void)snprintf(phase, sizeof phase, "epoch %lld/%d", (long long)t->s.epoch + 1, t->cfg->train.epochs);
    KD_TRY(kd_loader_seek(t->loader, (uint32_t)t->s.epoch, (uint64_t)t->s.batch, err));
    const uint64_t rows = (uint64_t)t->cfg->train.batch_size;
    kd_progress_begin(t->o->progress, phase, "samples", (uint64_t)t->s.batch * rows, (uint64_t)t->batches * rows);
    while (t->s.batch < t->batches) {
        const kd_batch *b = NULL;
        double loss = 0.0;
        KD_TRY(kd_loader_next(t->loader, &b, err));
        KD_TRY(log_lost(t, b, err));
        KD_TRY(feed(t, b, err));
        KD_TRY(run_batch(t, &loss, err));
        t->s.sum_loss += loss;
        t->s.sum_batches++;
        t->s.batch++;
        step_loss += loss / (double)t->accumulation;
        if (t->s.batch % t->accumulation != 0) {
            continue;
        }
        KD_TRY(optimise(t, step_loss, &bad, err));
        step_loss = 0.0;
        kd_progress_step(t->o->progress, (uint64_t)t->s.batch * rows, t->s.sum_loss / (double)t->s.sum_batches);
        const int every = t->cfg->train.checkpoint_every_steps;
        if (every > 0 && t->s.step % every == 0 && t->s.batch < t->batches) {
            KD_TRY(kdi_train_save(t, "last", err));
        }
        if (kd_progress_stop(t->o->progress)) {
            return interrupted(t, err);
        }
    }
    KD_TRY(end_of_epoch(t, err));
    char text[120];
    const bool measured = t->s.epoch % t->cfg->train.eval_every == 0 || t->s.epoch == t->cfg->train.epochs;
    if (!measured || t->s.best_epoch < 0) {
        (void)snprintf(text, sizeof text, "loss %.4f", t->s.last_loss);
    } else {
        (void)snprintf(text, sizeof text, "loss %.4f  val top-1 %.2f %%  best %.2f %% (epoch %lld)", t->s.last_loss,
                       100.0 * t->s.last_top1, 100.0 * t->s.best_top1, (long long)t->s.best_epoch + 1);
    }
    kd_progress_end(t->o->progress, text);
    return KD_OK;
}

kd_status kd_train(const kd_train_opts *o, kd_train_result *result, kd_err *err)
{
    kd_trainer t = {.o = o, .cfg = o->cfg, .started = kd_now()};
    kd_status st = KD_OK;
    t.s.best_top1 = -1.0;
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
        *result = (kd_train_result){(int)t.s.epoch,      t.s.last_top1, t.s.best_top1,
                                    (int)t.s.best_epoch, t.s.last_loss, kd_now() - t.started};
    }
    kdi_train_close(&t);
    return st;
}
