/* Training, one batch: see train.h and kd_pending in train_internal.h.
 *
 * The host asks for a step, then looks at the one before, whose numbers have meanwhile arrived: the device always has
 * work. */
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

/* ---- lost samples ---------------------------------------------------------------------------- */

/* Samples that could not be read (on_bad_sample: skip): each loss goes to the log, the first of a sample to the
 * user. */
static kd_status log_lost(kd_trainer *t, const kd_batch *b, int64_t batch, kd_err *err)
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
            kd_log(KD_LOG_WARN, "left out of training: %s", bad[k].message);
        }
        kd_json *rec = kdi_train_record(t, "lost");
        kd_json_set_i64(rec, "epoch", t->s.epoch);
        kd_json_set_i64(rec, "batch", batch);
        kd_json_set_str(rec, "id", id);
        kd_json_set_str(rec, "message", bad[k].message);
        KD_TRY(kd_run_log(t->run, rec, err));
    }
    return KD_OK;
}

/* ---- what is under way ----------------------------------------------------------------------- */

kd_status kdi_train_pending_open(kd_trainer *t, kd_err *err)
{
    kd_backend *be = t->o->be;
    const size_t n = (size_t)t->loss.n;
    t->total = kd_program_tensor(t->program, "loss").data;
    t->term = kd_calloc(n, sizeof *t->term);
    t->step_term = kd_calloc(n, sizeof *t->step_term);
    if (t->term == NULL || t->step_term == NULL) {
        return KD_FAIL(err, KD_E_OOM, "training: out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        t->term[i] = kd_program_tensor(t->program, t->loss.term[i].log).data;
    }
    for (size_t i = 0; i < KD_COUNTOF(t->pending); i++) {
        if (be->ops->host_alloc(be, sizeof(kd_fetched) + n * sizeof(float), (void **)&t->pending[i].got) != KD_OK) {
            return KD_FAIL(err, KD_E_OOM, "training: out of memory");
        }
    }
    if (t->cfg->train.select != KD_SELECT_TRAIN) {
        return KD_OK;
    }
    const size_t b = (size_t)kdi_train_rows(t->cfg), k = (size_t)t->model.classes;
    t->logits = kd_program_tensor(t->program, "logits").data;
    for (size_t i = 0; i < KD_COUNTOF(t->pending); i++) {
        t->pending[i].best = kd_calloc(b, sizeof *t->pending[i].best);
        if (t->pending[i].best == NULL ||
            be->ops->host_alloc(be, b * k * sizeof(float), (void **)&t->pending[i].logits) != KD_OK) {
            return KD_FAIL(err, KD_E_OOM, "training: out of memory");
        }
    }
    return KD_OK;
}

void kdi_train_pending_close(kd_trainer *t)
{
    for (size_t i = 0; i < KD_COUNTOF(t->pending); i++) {
        if (t->pending[i].got != NULL) {
            t->o->be->ops->host_free(t->o->be, t->pending[i].got);
        }
        if (t->pending[i].logits != NULL) {
            t->o->be->ops->host_free(t->o->be, t->pending[i].logits);
        }
        kd_free(t->pending[i].best);
    }
    kd_free(t->term);
    kd_free(t->step_term);
}

/* The optimiser step p->step, with the rate and the decay of its place in the phase. */
static kd_status step_of(kd_trainer *t, kd_pending *p)
{
    const kd_cfg_optim *c = &t->cfg->optim;
    const int64_t at = t->s.step - t->s.step0;
    p->lr = kd_schedule_lr(&t->schedule, at);
    p->decay = c->weight_decay;
    if (!p->steps) {
        return KD_OK;
    }
    if (c->weight_decay_end >= 0.0) {
        p->decay = kd_schedule_cosine(&t->schedule, c->weight_decay, c->weight_decay_end, at);
        KD_TRY(kd_optim_set_decay(t->optim, p->decay));
    }
    return kd_optim_step(t->optim, p->lr, NULL);
}

static kd_step step_now(const kd_trainer *t)
{
    return (kd_step){.seed = kd_config_init_seed(t->cfg),
                     .step = (uint64_t)t->s.micro,
                     .grad_scale = 1.0f / (float)t->accumulation,
                     .loss_scale = kd_optim_loss_scale(t->optim)};
}

kd_status kdi_train_forward(kd_trainer *t, kd_err *err)
{
    const kd_step step = step_now(t);
    const kd_status st = kd_program_run_until(t->program, &step, "peer");
    return st == KD_OK ? st
                       : KD_FAIL(err, st, "epoch %lld batch %lld: %s: %s", (long long)t->s.epoch + 1,
                                 (long long)t->s.batch, kd_program_where(t->program), kd_status_text(st));
}

/* Forward, loss, backward of one micro-batch, and the optimiser step when it is the last of its step. */
static kd_status issue(kd_trainer *t, kd_pending *p, kd_err *err)
{
    kd_backend *be = t->o->be;
    const kd_step step = step_now(t);
    kd_status st = t->shown != NULL ? kd_program_run_on(t->program) : kd_program_run(t->program, &step);
    if (st != KD_OK) {
        return KD_FAIL(err, st, "epoch %lld batch %lld: %s: %s", (long long)t->s.epoch + 1, (long long)t->s.batch,
                       kd_program_where(t->program), kd_status_text(st));
    }
    t->s.micro++;
    t->s.batch++;
    p->steps = t->s.batch % t->accumulation == 0;
    st = step_of(t, p);
    p->step = t->s.step + 1; /* the one that the micro-batch is part of */
    p->logs = p->step % t->cfg->train.log_interval == 0;
    t->s.step += p->steps ? 1 : 0;
    st = st == KD_OK ? be->ops->fetch(be, &p->got->loss, t->total, sizeof(float)) : st;
    for (int i = 0; i < t->loss.n && p->logs && st == KD_OK; i++) {
        st = be->ops->fetch(be, &p->got->term[i], t->term[i], sizeof(float));
    }
    if (st == KD_OK && t->logits != NULL) {
        const size_t n = (size_t)kdi_train_rows(t->cfg) * (size_t)t->model.classes;
        st = be->ops->fetch(be, p->logits, t->logits, n * sizeof(float));
    }
    if (st == KD_OK && p->steps) {
        st = be->ops->fetch(be, p->got->ctl, kd_optim_control(t->optim), sizeof p->got->ctl);
    }
    st = st == KD_OK ? be->ops->mark(be, &p->mark) : st;
    p->open = true;
    return st == KD_OK ? st : KD_FAIL(err, st, "optimiser step %lld failed", (long long)p->step);
}

static kd_status log_step(kd_trainer *t, const kd_pending *p, kd_err *err)
{
    kd_json *rec = kdi_train_record(t, "train");
    const double norm = p->got->ctl[KD_CTL_NORM];
    char tag[64];
    kd_json_set_i64(rec, "epoch", t->s.epoch);
    kd_json_set_i64(rec, "step", p->step);
    kd_json_set_f64(rec, "loss", t->step_loss);
    kd_run_scalar(t->run, "train/loss", p->step, t->step_loss);
    for (int i = 0; i < t->loss.n; i++) {
        const char *name = t->loss.term[i].log;
        kd_json_set_f64(rec, name, t->step_term[i]);
        (void)snprintf(tag, sizeof tag, "train/%s", name);
        kd_run_scalar(t->run, tag, p->step, t->step_term[i]);
    }
    kd_json_set_f64(rec, "lr", p->lr);
    kd_json_set_f64(rec, "grad_norm", norm);
    kd_run_scalar(t->run, "train/lr", p->step, p->lr);
    kd_run_scalar(t->run, "train/grad_norm", p->step, norm);
    if (t->cfg->optim.weight_decay_end >= 0.0) {
        kd_json_set_f64(rec, "weight_decay", p->decay);
        kd_run_scalar(t->run, "train/weight_decay", p->step, p->decay);
    }
    if (kd_optim_loss_scale(t->optim) != NULL) {
        kd_json_set_f64(rec, "loss_scale", p->got->ctl[KD_CTL_LOSS_SCALE]);
        kd_run_scalar(t->run, "train/loss_scale", p->step, p->got->ctl[KD_CTL_LOSS_SCALE]);
    }
    return kd_run_log(t->run, rec, err);
}

enum { MAX_SKIPPED_IN_A_ROW = 20 };

/* KD_E_NUMERIC where a loss or gradient that is not finite ends the run. */
static kd_status accept_nonfinite(kd_trainer *t, const kd_pending *p, kd_err *err)
{
    if (t->cfg->train.on_nonfinite != KD_NONFINITE_FAIL) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_NUMERIC,
                   "step %lld: loss %g, gradient norm %g, and train.on_nonfinite is fail: the last good state is in %s",
                   (long long)p->step, t->step_loss, p->got->ctl[KD_CTL_NORM], kd_run_path(t->run, "checkpoints/last"));
}

/* A gradient that was not finite.  With a loss scale that is how the scale is found, and no news. */
static kd_status skipped(kd_trainer *t, const kd_pending *p, kd_err *err)
{
    t->s.skipped++;
    if (kd_optim_loss_scale(t->optim) != NULL && p->got->ctl[KD_CTL_LOSS_SCALE] > 1.0) {
        kd_log(KD_LOG_VERBOSE, "step %lld: overflow in the scaled gradient; step skipped, loss scale now %g",
               (long long)p->step, p->got->ctl[KD_CTL_LOSS_SCALE]);
        return KD_OK;
    }
    t->s.broken++;
    KD_TRY(accept_nonfinite(t, p, err));
    kd_log(KD_LOG_WARN, "step %lld: gradient is not finite (loss %g); step skipped, %lld so far", (long long)p->step,
           t->step_loss, (long long)t->s.broken);
    if (++t->bad_in_a_row >= MAX_SKIPPED_IN_A_ROW) {
        return KD_FAIL(err, KD_E_NUMERIC, "%d steps in a row without a finite gradient: last good state is in %s",
                       t->bad_in_a_row, kd_run_path(t->run, "checkpoints/last"));
    }
    return KD_OK;
}

/* The numbers of a batch have come: sums, log, skipped steps. */
static kd_status settle(kd_trainer *t, kd_pending *p, kd_err *err)
{
    if (!p->open) {
        return KD_OK;
    }
    p->open = false;
    const kd_status st = t->o->be->ops->reach(t->o->be, p->mark);
    if (st != KD_OK) {
        return KD_FAIL(err, st, "step %lld failed on the device", (long long)p->step);
    }
    const double loss = (double)p->got->loss;
    if (!p->empty && t->logits != NULL) {
        kdi_select_count(t, p);
    }
    if (!p->empty && isfinite(loss)) { /* a step that is skipped leaves no mark on the mean either */
        t->s.sum_loss += loss;
        t->s.sum_squares += loss * loss;
        t->s.sum_batches++;
    }
    t->step_loss += loss / (double)t->accumulation;
    for (int i = 0; i < t->loss.n && p->logs; i++) {
        t->step_term[i] += (double)p->got->term[i] / (double)t->accumulation;
    }
    if (!p->steps) {
        return KD_OK;
    }
    kd_log(KD_LOG_DEBUG, "step %lld: loss %.6g, lr %.4g, gradient norm %.4g", (long long)p->step, t->step_loss, p->lr,
           p->got->ctl[KD_CTL_NORM]);
    if (p->got->ctl[KD_CTL_APPLY] == 0.0) {
        KD_TRY(skipped(t, p, err));
    } else {
        KD_TRY(isfinite(t->step_loss) ? KD_OK : accept_nonfinite(t, p, err));
        t->bad_in_a_row = 0;
        if (p->logs) {
            KD_TRY(log_step(t, p, err));
        }
    }
    t->step_loss = 0.0;
    memset(t->step_term, 0, (size_t)t->loss.n * sizeof *t->step_term);
    return KD_OK;
}

kd_status kdi_train_settle(kd_trainer *t, kd_err *err)
{
    KD_TRY(settle(t, &t->pending[t->s.micro & 1], err)); /* the older one first */
    return settle(t, &t->pending[~t->s.micro & 1], err);
}

/* What the program of a student reads of a micro-batch. */
static kd_status feed(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    KD_TRY(kdi_feed(t, b, err));
    KD_TRY(kdi_self_answer(t, b, err));
    t->pending[t->s.micro & 1].empty = b->valid_rows == 0;
    return KD_OK;
}

static kd_status run(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    kd_pending *mine = &t->pending[t->s.micro & 1], *before = &t->pending[~t->s.micro & 1];
    KD_TRY(issue(t, mine, err));
    KD_TRY(settle(t, before, err));
    return log_lost(t, b, t->s.batch - 1, err);
}

kd_status kdi_train_batch(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    const kd_batch *other[KD_CFG_PEERS] = {NULL};
    KD_TRY(feed(t, b, err));
    for (int i = 0; i < t->peers; i++) {
        KD_TRY(kd_loader_next(t->peer[i].loader, &other[i], err));
        KD_TRY(feed(&t->peer[i], other[i], err));
    }
    if (t->peers > 0) {
        KD_TRY(kdi_mutual_answer(t, b, err));
    }
    for (int i = 0; i < t->peers; i++) {
        KD_TRY(run(&t->peer[i], other[i], err));
    }
    return run(t, b, err);
}
