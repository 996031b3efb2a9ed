/* Training, set-up: data, join, model, loss, programs, optimiser; every fact printed before the first step. */
#include "distill/train/train_internal.h"

#include <stdio.h>

/* ---- data ------------------------------------------------------------------------------------ */

/* A run whose best epoch the training half chooses may have no validation half. */
static kd_status open_halves(kd_trainer *t, kd_err *err)
{
    const unsigned train = 1u << KD_HALF_TRAIN, both = train | 1u << KD_HALF_VAL;
    const kd_data_opts *data = &t->cfg->data;
    const unsigned need = t->o->task->need;
    if (t->cfg->train.select == KD_SELECT_VAL) {
        return kd_dataset_open(data, need, both, &t->data, err);
    }
    KD_TRY(kd_dataset_open(data, need, train, &t->data, err));
    if (t->data.half[KD_HALF_VAL].n + t->data.half[KD_HALF_VAL].n_left == 0) {
        kd_log(KD_LOG_INFO, "no validation half: nothing is validated, and no report is written");
        return KD_OK;
    }
    kd_dataset_free(&t->data);
    t->data = (kd_dataset){.n_classes = 0};
    return kd_dataset_open(data, need, both, &t->data, err);
}

static kd_status open_data(kd_trainer *t, kd_err *err)
{
    KD_TRY(open_halves(t, err));
    char *text = kd_dataset_summary(&t->data);
    for (char *line = text, *end; line != NULL && *line != '\0'; line = end) {
        end = line + strcspn(line, "\n");
        if (*end != '\0') {
            *end++ = '\0';
        }
        kd_log(KD_LOG_INFO, "  %s", line);
    }
    kd_free(text);
    return KD_OK;
}

/* ---- phases to come -------------------------------------------------------------------------- */

/* The recipe's rules but for those on parameters that only distillation adds. */
static kd_param_rules own_rules(const kd_param_rules *all)
{
    kd_param_rules own = {.n = 0};
    for (int i = 0; i < all->n; i++) {
        if (strncmp(all->v[i].match, "kd.", 3) != 0) {
            own.v[own.n++] = all->v[i];
        }
    }
    return own;
}

/* What only the model can refuse of a recipe. */
static kd_status check_model(kd_trainer *t, const kd_config *c, kd_err *err)
{
    kd_model m = {.task = NULL};
    const kd_param_rules rules = own_rules(&c->optim.rules);
    kd_status st = KD_OK;
    KD_GO(kd_model_open(t->o->task, c, t->data.n_classes, t->o->be, &m, err));
    KD_GO(kd_model_declare(&m, NULL, err));
    t->o->task->groups(&m, c);
    st = kd_param_rules_apply(m.params, c->optim.decay, &rules, err);
done:
    kd_model_close(&m);
    return st;
}

/* What only the samples can refuse of a recipe. */
static kd_status check_samples(const kd_trainer *t, const kd_config *c, kd_err *err)
{
    const size_t n = t->data.half[KD_HALF_TRAIN].n;
    if (c->train.select == KD_SELECT_VAL && t->data.half[KD_HALF_VAL].n == 0) {
        return KD_FAIL(err, KD_E_DATA,
                       "train.select: val, but the validation half is empty; set train.select to train, or name a "
                       "validation half (data.split)");
    }
    if ((size_t)c->train.batch_size * (size_t)c->optim.accumulation > n) {
        return KD_FAIL(err, KD_E_DATA, "%zu training samples do not fill one step of batch %d x accumulation %d", n,
                       c->train.batch_size, c->optim.accumulation);
    }
    return kdi_feed_check_weights(c, t->data.n_classes, err);
}

/* A fault of a phase to come ends the run before its first step, not after the phases before. */
static kd_status check_phases(kd_trainer *t, kd_err *err)
{
    const kd_cfg_phases *p = &t->o->cfg->phases;
    kd_config *c = NULL;
    kd_status st = KD_OK;
    if (kdi_train_last_phase(t) || t->o->dry_run) { /* a dry run sets all phases up */
        return KD_OK;
    }
    c = kd_alloc(sizeof *c);
    if (c == NULL) {
        return KD_FAIL(err, KD_E_OOM, "training: out of memory");
    }
    for (int i = (int)t->s.phase + 1; i < p->n && st == KD_OK; i++) {
        KD_GO(kd_config_phase(t->o->cfg, i, c, err));
        st = check_model(t, c, err);
        st = st == KD_OK ? check_samples(t, c, err) : st;
        st = st == KD_OK ? kdi_teachers_check(t, c, err) : st;
        st = st == KD_OK ? st : kd_err_prefix(err, st, "phase %s", p->v[i].name);
    }
done:
    kd_free(c);
    return st;
}

/* ---- model, optimiser, schedule -------------------------------------------------------------- */

static kd_status open_model(kd_trainer *t, kd_err *err)
{
    const kd_config *c = t->cfg;
    KD_TRY(kd_model_open(t->o->task, c, t->data.n_classes, t->o->be, &t->model, err));
    t->model.check = t->o->check;
    KD_TRY(kdi_teachers_loss(t, err));
    KD_TRY(kd_model_init(&t->model, &t->loss, kd_config_init_seed(c), err));
    KD_TRY(kdi_train_start_weights(t, err));
    t->o->task->groups(&t->model, c);
    KD_TRY(kd_param_rules_apply(t->model.params, c->optim.decay, &c->optim.rules, err));
    const kd_memory_need need = {.loss = &t->loss,
                                 .batch = kdi_train_rows(c),
                                 .eval_batch = c->eval.batch_size,
                                 .optimiser_slabs =
                                     (c->optim.name == KD_OPTIM_ADAMW ? 2 : 1) + (c->optim.ema_decay > 0.0)};
    KD_TRY(kdi_resident_plan(t, &need, err));
    KD_TRY(kd_model_check_memory(&t->model, &need, err));
    KD_TRY(kd_model_train_program(&t->model, &t->loss, kdi_train_rows(c), &t->program, err));
    KD_TRY(kdi_embed_write(t, err));
    KD_TRY(kdi_self_open(t, err));
    if (kdi_train_validates(t)) {
        KD_TRY(kd_model_eval_program(&t->model, c->eval.batch_size, &t->eval_program, err));
    }
    t->slabs = need.optimiser_slabs;
    return KD_OK;
}

static int64_t warmup_steps(const kd_cfg_optim *c, int64_t steps_per_epoch, int64_t total)
{
    return c->warmup_steps >= 0     ? c->warmup_steps
           : c->warmup_ratio >= 0.0 ? (int64_t)(c->warmup_ratio * (double)total)
                                    : (int64_t)(c->warmup_epochs * (double)steps_per_epoch);
}

static kd_schedule schedule_of(const kd_trainer *t, double scale)
{
    const kd_cfg_optim *c = &t->cfg->optim;
    const int64_t steps = t->batches / t->accumulation, epochs = t->cfg->train.epochs;
    /* Hugging Face counts the micro-batches that fill no step, too */
    const int64_t all = (int64_t)kd_loader_batches(t->loader) * epochs / t->accumulation;
    const int64_t total = c->schedule == KD_SCHEDULE_HF_COSINE ? all : steps * epochs;
    return (kd_schedule){.kind = c->schedule,
                         .lr = c->base_lr * scale,
                         .min_lr = c->min_lr * scale,
                         .warmup_lr = c->warmup_start_lr * scale,
                         .steps_per_epoch = steps,
                         .epochs = epochs,
                         .warmup_steps = warmup_steps(c, steps, total),
                         .warmup_epochs = c->warmup_epochs,
                         .total_steps = total,
                         .cosine_epochs = c->cosine_epochs != 0 ? c->cosine_epochs : epochs,
                         .cosine_begin = c->cosine_begin,
                         .cosine_end = c->cosine_end != 0 ? c->cosine_end : epochs,
                         .milestones = c->milestones.v,
                         .n_milestones = c->milestones.n,
                         .gamma = c->gamma};
}

/* A warm-up in steps, or in a share of them, ends before the cosine has come down: mmengine's two rates multiply. */
static kd_status check_warmup(const kd_cfg_optim *c, const kd_schedule *s, kd_err *err)
{
    const bool mm = s->kind == KD_SCHEDULE_MM_EPOCH || s->kind == KD_SCHEDULE_MM_STEP;
    const int64_t down = (s->cosine_begin + s->cosine_epochs) * s->steps_per_epoch;
    if (!mm || s->warmup_steps <= down) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_CONFIG,
                   "optim.%s: expected at most the %lld steps after which the cosine has come down, found %lld steps",
                   c->warmup_steps >= 0 ? "warmup_steps" : "warmup_ratio", (long long)down, (long long)s->warmup_steps);
}

static kd_status open_optimiser(kd_trainer *t, kd_err *err)
{
    const kd_cfg_optim *c = &t->cfg->optim;
    const kd_optim_cfg oc = {.kind = c->name,
                             .beta1 = c->betas[0],
                             .beta2 = c->betas[1],
                             .eps = c->eps,
                             .momentum = c->momentum,
                             .nesterov = c->nesterov,
                             .weight_decay = c->weight_decay,
                             .clip_grad = c->clip_grad,
                             .ema_decay = c->ema_decay,
                             /* torch.amp.GradScaler's defaults */
                             .loss_scale = t->model.dtype == KD_F16 ? 65536.0 : 0.0,
                             .loss_scale_grow = 2000};
    KD_TRY(kd_optim_create(t->model.params, &oc, &t->optim, err));
    const int effective = t->cfg->train.batch_size * t->accumulation;
    const double scale = c->scale_lr ? (double)effective / 256.0 : 1.0;
    const int64_t steps = t->batches / t->accumulation;
    t->schedule = schedule_of(t, scale);
    KD_TRY(check_warmup(c, &t->schedule, err));
    if (c->scale_lr) {
        kd_log(KD_LOG_INFO, "lr = %g x %d (batch) x 1 (ranks) x %d (accumulation) / 256 = %g", c->base_lr,
               t->cfg->train.batch_size, t->accumulation, t->schedule.lr);
    } else {
        kd_log(KD_LOG_INFO, "lr = %g (not scaled by the batch size %d)", t->schedule.lr, effective);
    }
    kd_log(KD_LOG_INFO, "%lld steps an epoch, %d epochs, warm-up %.4g epochs", (long long)steps, t->cfg->train.epochs,
           c->warmup_steps >= 0 || c->warmup_ratio >= 0.0 ? (double)t->schedule.warmup_steps / (double)steps
                                                          : c->warmup_epochs);
    return KD_OK;
}

static kd_status open_batches(kd_trainer *t, kd_err *err)
{
    const kd_config *c = t->cfg;
    const kd_loader_opts lo = {.batch_size = kdi_train_rows(c),
                               /* draws take no time */
                               .workers = t->model.kept > 0 ? 0 : kd_loader_workers(c->train.workers),
                               .train = true,
                               .seed = (uint64_t)c->train.seed,
                               .on_bad = c->data.on_bad_sample};
    KD_TRY(kd_loader_open(&lo, &t->train.producer, &t->loader, err));
    t->accumulation = c->optim.accumulation;
    t->batches = (int64_t)kd_loader_batches(t->loader) / t->accumulation * t->accumulation;
    if (t->batches == 0) {
        return KD_FAIL(err, KD_E_DATA, "%zu training samples do not fill one step of batch %d x accumulation %d",
                       t->data.half[KD_HALF_TRAIN].n, c->train.batch_size, t->accumulation);
    }
    const int64_t step = (int64_t)c->train.batch_size * t->accumulation;
    const int64_t samples = (int64_t)t->data.half[KD_HALF_TRAIN].n;
    const int64_t rest = samples % step, used = samples - rest;
    if (rest != 0) {
        kd_log(KD_LOG_INFO, "an epoch trains %lld of %lld samples: the other %lld fill no step (others in every epoch)",
               (long long)used, (long long)samples, (long long)rest);
    }
    KD_TRY(kdi_feed_weights(t, err));
    return kdi_feed_open(t, err);
}

static kd_status open_sources(kd_trainer *t, kd_err *err)
{
    const kd_task *task = t->o->task;
    if (t->model.kept > 0) {
        KD_TRY(kdi_resident_open(t, err));
    } else {
        KD_TRY(kdi_replay_source(t, &t->train, err));
    }
    return kdi_train_validates(t)
               ? task->source(t->cfg, &t->model, &t->data.half[KD_HALF_VAL], KD_PASS_VAL, true, &t->val, err)
               : KD_OK;
}

/* The recipe of the phase, under the name of the run. */
static kd_status open_phase(kd_trainer *t, kd_err *err)
{
    const kd_cfg_phases *p = &t->o->cfg->phases;
    t->cfg = t->o->cfg;
    if (p->n == 0) {
        return KD_OK;
    }
    t->own_cfg = kd_alloc(sizeof *t->own_cfg);
    if (t->own_cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "training: out of memory");
    }
    t->cfg = t->own_cfg;
    KD_TRY(kd_config_phase(t->o->cfg, (int)t->s.phase, t->own_cfg, err));
    kd_log(KD_LOG_INFO, "phase %lld of %d: %s", (long long)t->s.phase + 1, p->n, kdi_train_phase(t));
    return KD_OK;
}

kd_status kdi_train_setup(kd_trainer *t, kd_err *err)
{
    KD_TRY(open_phase(t, err));
    kdi_select_open(t);
    KD_TRY(open_data(t, err));
    KD_TRY(kdi_teachers_open(t, err));
    KD_TRY(check_phases(t, err));
    KD_TRY(kd_identity_of_data(&t->data, t->o->task->need, &t->origin, err));
    kd_identity_set_layout(&t->origin, t->cfg);
    KD_TRY(kdi_embed_open(t, err));
    KD_TRY(kdi_train_same_origin(t, err));
    KD_TRY(kdi_teachers_label(t, err));
    KD_TRY(open_model(t, err));
    KD_TRY(open_sources(t, err));
    KD_TRY(open_batches(t, err));
    kdi_train_say_memory(t);
    KD_TRY(open_optimiser(t, err));
    return kdi_train_pending_open(t, err);
}

static void close_source(kd_source *s)
{
    if (s->close != NULL) {
        s->close(s->ctx);
    }
}

void kdi_train_close(kd_trainer *t)
{
    kdi_mutual_close(t);
    kd_free(t->shown);
    kdi_train_pending_close(t);
    kd_loader_close(t->loader);
    close_source(&t->train);
    close_source(&t->val);
    kdi_self_close(t);
    kd_free(t->embed);
    kd_program_free(t->program);
    kd_program_free(t->eval_program);
    kd_optim_free(t->optim);
    kd_model_close(&t->model);
    for (int s = 0; s < KD_STORES_MAX; s++) {
        kd_teacher_table_free(&t->teacher[s]);
    }
    kd_loss_free(&t->loss);
    kd_load_report_free(&t->start);
    kd_dataset_free(&t->data);
    kd_ckpt_close(t->before);
    kdi_feed_close(t);
    kd_free(t->own_cfg);
}
