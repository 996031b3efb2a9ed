/* Training, set-up: data, join, model, loss, programs, optimiser; every fact printed before the first step. */
#include "distill/train/train_internal.h"

#include <stdio.h>

/* ---- data ------------------------------------------------------------------------------------ */

static kd_status open_data(kd_trainer *t, kd_err *err)
{
    KD_TRY(kd_dataset_open(&t->cfg->data, t->o->task->need, 1u << KD_HALF_TRAIN | 1u << KD_HALF_VAL, &t->data, err));
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

/* ---- teachers and the loss ------------------------------------------------------------------- */

/* Opens all stores before one is loaded: what a store lacks is left out of the half that all are joined to. */
static kd_status join_teachers(kd_trainer *t, kd_store **store, kd_err *err)
{
    const kd_cfg_paths *paths = &t->cfg->kd.store;
    kd_half *half = &t->data.half[KD_HALF_TRAIN];
    for (int i = 0; i < paths->n; i++) {
        KD_TRY(kd_store_open(paths->v[i], &store[i], err));
        KD_TRY(kd_teacher_join(&t->data, half, store[i], t->cfg->data.on_bad_sample, err));
        KD_TRY(kd_identity_add_store(&t->origin, store[i], err));
    }
    return KD_OK;
}

static kd_status load_teacher(kd_trainer *t, const kd_store *store, kd_err *err)
{
    kd_teacher_table *table = &t->teacher[t->loss.stores];
    const kd_half *half = &t->data.half[KD_HALF_TRAIN];
    KD_TRY(kd_teacher_table_load(half, store, kd_loss_wants_features(&t->cfg->kd), table, err));
    t->loss.feature_dim[t->loss.stores++] = table->feature_dim;
    kd_log(KD_LOG_INFO, "teacher %s (%s): joined %zu of %zu training samples, teacher top-1 on them %.2f %%",
           kd_store_get_manifest(store)->teacher, kd_store_path(store), table->n, half->n + half->n_left,
           100.0 * table->top1);
    return KD_OK;
}

static kd_status open_teachers(kd_trainer *t, kd_err *err)
{
    kd_store *store[KD_STORES_MAX] = {NULL};
    kd_status st = KD_OK;
    KD_GO(join_teachers(t, store, err));
    for (int i = 0; i < t->origin.n_stores; i++) {
        KD_GO(load_teacher(t, store[i], err));
    }
done:
    for (int i = 0; i < KD_STORES_MAX; i++) {
        kd_store_close(store[i]);
    }
    return st;
}

static kd_status make_loss(kd_trainer *t, kd_err *err)
{
    char text[600];
    t->loss.mixed = t->cfg->mixup.alpha > 0.0 || t->cfg->mixup.cutmix_alpha > 0.0;
    KD_TRY(kd_loss_make(&t->cfg->kd, &t->loss, err));
    if (kd_loss_coupled(&t->loss) != NULL && t->cfg->optim.accumulation > 1) {
        kd_log(KD_LOG_WARN, "loss term %s compares the samples of a batch: those of one of the %d micro-batches of %d",
               kd_loss_coupled(&t->loss), t->cfg->optim.accumulation, t->cfg->train.batch_size);
    }
    if (t->loss.stores > 0) {
        kd_loss_text(&t->loss, text, sizeof text);
        kd_log(KD_LOG_INFO, "loss = %s", text);
    } else if (t->o->task->may_distil) {
        kd_log(KD_LOG_INFO, "no teacher logits: training with cross-entropy alone");
    }
    return KD_OK;
}

/* ---- model, optimiser, schedule -------------------------------------------------------------- */

static kd_status open_model(kd_trainer *t, kd_err *err)
{
    const kd_config *c = t->cfg;
    KD_TRY(kd_model_open(t->o->task, c, t->data.n_classes, t->o->be, &t->model, err));
    t->model.check = t->o->check;
    KD_TRY(kd_model_init(&t->model, &t->loss, (uint64_t)c->train.seed, err));
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
    KD_TRY(kd_model_eval_program(&t->model, c->eval.batch_size, &t->eval_program, err));
    const kd_memory memory = kd_model_memory(
        &t->model, need.optimiser_slabs, kd_program_arena_bytes(t->program) + kd_program_arena_bytes(t->eval_program));
    char text[160];
    kd_memory_text(&memory, text, sizeof text);
    kd_log(KD_LOG_INFO, "model %s: %lld parameters, %s on %s; memory %s", t->model.name,
           (long long)kd_params_numel(t->model.params), kd_dtype_name(t->model.dtype), t->o->be->ops->name, text);
    return KD_OK;
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
    t->schedule = (kd_schedule){.kind = c->schedule,
                                .lr = c->base_lr * scale,
                                .min_lr = c->min_lr * scale,
                                .warmup_lr = c->warmup_start_lr * scale,
                                .steps_per_epoch = steps,
                                .epochs = t->cfg->train.epochs,
                                .warmup_steps = c->warmup_steps >= 0 ? c->warmup_steps
                                                                     : (int64_t)(c->warmup_epochs * (double)steps),
                                .warmup_epochs = c->warmup_epochs,
                                .milestones = c->milestones.v,
                                .n_milestones = c->milestones.n,
                                .gamma = c->gamma};
    if (c->scale_lr) {
        kd_log(KD_LOG_INFO, "lr = %g x %d (batch) x 1 (ranks) x %d (accumulation) / 256 = %g", c->base_lr,
               t->cfg->train.batch_size, t->accumulation, t->schedule.lr);
    } else {
        kd_log(KD_LOG_INFO, "lr = %g (not scaled by the batch size %d)", t->schedule.lr, effective);
    }
    kd_log(KD_LOG_INFO, "%lld steps an epoch, %d epochs, warm-up %.4g epochs", (long long)steps, t->cfg->train.epochs,
           c->warmup_steps >= 0 ? (double)c->warmup_steps / (double)steps : c->warmup_epochs);
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
    return kdi_feed_open(t, err);
}

static kd_status open_sources(kd_trainer *t, kd_err *err)
{
    const kd_task *task = t->o->task;
    if (t->model.kept > 0) {
        KD_TRY(kdi_resident_open(t, err));
    } else {
        KD_TRY(task->source(t->cfg, &t->model, &t->data.half[KD_HALF_TRAIN], KD_PASS_TRAIN, true, &t->train, err));
    }
    return task->source(t->cfg, &t->model, &t->data.half[KD_HALF_VAL], KD_PASS_VAL, true, &t->val, err);
}

kd_status kdi_train_setup(kd_trainer *t, kd_err *err)
{
    KD_TRY(open_data(t, err));
    if (t->o->task->may_distil) {
        KD_TRY(open_teachers(t, err));
    }
    KD_TRY(kd_identity_of_data(&t->data, t->o->task->need, &t->origin, err));
    KD_TRY(kdi_train_same_origin(t, err));
    KD_TRY(make_loss(t, err));
    KD_TRY(open_model(t, err));
    KD_TRY(open_sources(t, err));
    KD_TRY(open_batches(t, err));
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
    kdi_train_pending_close(t);
    kd_loader_close(t->loader);
    close_source(&t->train);
    close_source(&t->val);
    kd_program_free(t->program);
    kd_program_free(t->eval_program);
    kd_optim_free(t->optim);
    kd_model_close(&t->model);
    for (int s = 0; s < KD_STORES_MAX; s++) {
        kd_teacher_table_free(&t->teacher[s]);
    }
    kd_loss_free(&t->loss);
    kd_dataset_free(&t->data);
    kd_ckpt_close(t->before);
    kd_run_close(t->run);
    kdi_feed_close(t);
}
