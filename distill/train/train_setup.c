/* Training, set-up: data, join, model, objective, programs, optimiser; every fact printed before the first step. */
#include "distill/batch/targets.h"
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

/* ---- sources --------------------------------------------------------------------------------- */

kd_status kdi_source_open(const kd_config *cfg, const kd_model *m, const kd_half *half, bool training, kd_source *out,
                          kd_err *err)
{
    memset(out, 0, sizeof *out);
    if (m->is_student) {
        KD_TRY(kd_sequence_source_open(cfg, half, training, m->inputs, m->n_inputs, kd_sequence_default_cache(),
                                       &out->sequence, err));
        out->producer = kd_sequence_producer(out->sequence);
        return KD_OK;
    }
    KD_TRY(kd_clip_source_open(cfg, half, training ? KD_CLIP_TRAIN : KD_CLIP_VAL, kd_clip_default_cache(), &out->clip,
                               err));
    out->producer = kd_clip_producer(out->clip);
    return KD_OK;
}

void kdi_source_close(kd_source *s)
{
    kd_clip_source_close(s->clip);
    kd_sequence_source_close(s->sequence);
    memset(s, 0, sizeof *s);
}

static kd_status open_data(kd_trainer *t, kd_err *err)
{
    const unsigned need = t->cfg->kind == KD_KIND_STUDENT ? KD_NEED_SKELETON : KD_NEED_VIDEO;
    KD_TRY(kd_dataset_open(&t->cfg->data, need, 1u << KD_HALF_TRAIN | 1u << KD_HALF_VAL, &t->data, err));
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

/* ---- teacher --------------------------------------------------------------------------------- */

static kd_status open_teacher(kd_trainer *t, kd_err *err)
{
    const kd_cfg_kd *kd = &t->cfg->kd;
    kd_store *store = NULL;
    kd_status st = KD_OK;
    if (t->cfg->kind != KD_KIND_STUDENT) {
        return KD_OK;
    }
    if (kd->store[0] == '\0') {
        kd_log(KD_LOG_INFO, "no teacher logits: training with cross-entropy alone");
        return KD_OK;
    }
    const bool feature = kd->feature != KD_CFG_FEATURE_NONE;
    KD_GO(kd_store_open(kd->store, &store, err));
    KD_GO(kd_teacher_table_load(&t->data, KD_HALF_TRAIN, store, feature, false, &t->teacher, err));
    t->has_teacher = true;
    const kd_store_manifest *m = kd_store_get_manifest(store);
    kd_log(KD_LOG_INFO, "teacher %s (%s): joined %zu of %zu training samples, teacher top-1 on them %.2f %%",
           m->teacher, kd->store, t->teacher.joined, t->teacher.n, 100.0 * t->teacher.top1);
done:
    kd_store_close(store);
    return st;
}

static void set_objective(kd_trainer *t)
{
    const kd_cfg_kd *kd = &t->cfg->kd;
    const bool mixup = t->cfg->mixup.alpha > 0.0 || t->cfg->mixup.cutmix_alpha > 0.0;
    t->objective = (kd_objective){.ce_weight = 1.0f, .mixup = mixup};
    if (t->has_teacher) {
        t->objective.ce_weight = (float)kd->ce_weight;
        t->objective.kd_weight = (float)kd->weight;
        t->objective.temperature = (float)kd->temperature;
        t->objective.teacher_is_prob = mixup; /* mixed samples: probabilities are mixed, not logits */
        t->objective.feature = (int)kd->feature;
        t->objective.feature_weight = (float)kd->feature_weight;
        t->objective.teacher_dim = t->teacher.feature_dim;
        kd_log(KD_LOG_INFO, "loss = %g CE + %g T^2 KL(teacher || student), T = %g%s", kd->ce_weight, kd->weight,
               kd->temperature,
               kd->feature == KD_CFG_FEATURE_NONE  ? ""
               : kd->feature == KD_CFG_FEATURE_MSE ? ", + feature MSE"
                                                   : ", + feature cosine");
    }
}

/* ---- model, optimiser, schedule -------------------------------------------------------------- */

static kd_status load_start(kd_trainer *t, kd_err *err)
{
    const char *path = t->model.is_student ? t->cfg->student.weights : t->cfg->teacher.weights;
    if (path[0] == '\0') {
        kd_log(KD_LOG_INFO, "weights: random start, seed %lld", (long long)t->cfg->train.seed);
        return KD_OK;
    }
    kd_load_report r;
    KD_TRY(kd_model_load(&t->model, path, true, &r, err));
    kd_log(KD_LOG_INFO, "weights %s: %d tensors matched, %d left fresh%s%s, %d unused%s%s; sha256 %.12s", path,
           r.matched, r.missing + r.reshaped, r.missing_names[0] != '\0' ? ": " : "", r.missing_names, r.unexpected,
           r.unexpected_names[0] != '\0' ? ": " : "", r.unexpected_names, r.sha256);
    return KD_OK;
}

static kd_status open_model(kd_trainer *t, kd_err *err)
{
    const kd_config *c = t->cfg;
    KD_TRY(kd_model_open(c, t->data.n_classes, t->o->be, &t->model, err));
    KD_TRY(kd_model_init(&t->model, &t->objective, (uint64_t)c->train.seed, err));
    KD_TRY(load_start(t, err));
    if (t->model.is_student) {
        kd_student_param_groups(t->model.params, t->model.student.model, true);
    } else {
        kd_vit_param_groups(t->model.params, t->model.vit.depth, (float)c->optim.layer_decay);
    }
    const kd_memory_need need = {.objective = &t->objective,
                                 .batch = c->train.batch_size,
                                 .eval_batch = c->eval.batch_size,
                                 .recompute = t->model.vit.recompute,
                                 .optimiser_slabs =
                                     (c->optim.name == KD_OPT_ADAMW ? 2 : 1) + (c->optim.ema_decay > 0.0)};
    KD_TRY(kdi_resident_plan(t, &need, err));
    KD_TRY(kd_model_check_memory(&t->model, &need, err));
    KD_TRY(kd_model_train_program(&t->model, &t->objective, c->train.batch_size, t->model.vit.recompute, &t->program,
                                  err));
    KD_TRY(kd_model_eval_program(&t->model, c->eval.batch_size, &t->eval_program, err));
    kd_log(KD_LOG_INFO, "model %s: %lld parameters, %s on %s; memory %.1f MiB training, %.1f MiB evaluation",
           t->model.name, (long long)kd_params_numel(t->model.params), kd_dtype_name(t->model.dtype),
           t->o->be->ops->name, (double)kd_program_arena_bytes(t->program) / 1048576.0,
           (double)kd_program_arena_bytes(t->eval_program) / 1048576.0);
    return KD_OK;
}

static kd_status open_optimiser(kd_trainer *t, kd_err *err)
{
    const kd_cfg_optim *c = &t->cfg->optim;
    const kd_optim_cfg oc = {.kind = c->name == KD_OPT_ADAMW ? KD_OPTIM_ADAMW : KD_OPTIM_SGD,
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
    static const kd_schedule_kind kind[] = {KD_SCHEDULE_COSINE_STEP, KD_SCHEDULE_COSINE_EPOCH, KD_SCHEDULE_MULTISTEP,
                                            KD_SCHEDULE_CONSTANT};
    t->schedule = (kd_schedule){.kind = kind[c->schedule],
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
    const size_t b = (size_t)c->train.batch_size, k = (size_t)t->data.n_classes;
    const kd_loader_opts lo = {.batch_size = c->train.batch_size,
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
    t->mix.perm = kd_calloc(b, sizeof *t->mix.perm);
    t->kept = kd_calloc(b, sizeof *t->kept);
    t->mix.lam = kd_calloc(b, sizeof *t->mix.lam);
    t->target = kd_calloc(b * k, sizeof *t->target);
    t->teacher_rows = kd_calloc(b * k, sizeof *t->teacher_rows);
    t->mixed_rows = kd_calloc(b * k, sizeof *t->mixed_rows);
    t->teacher_valid = kd_calloc(b, sizeof *t->teacher_valid);
    t->feature_rows = kd_calloc(b * (size_t)KD_MAX(t->teacher.feature_dim, 1), sizeof *t->feature_rows);
    const bool ok = t->mix.perm && t->kept && t->mix.lam && t->target && t->teacher_rows && t->mixed_rows &&
                    t->teacher_valid && t->feature_rows;
    return ok ? KD_OK : KD_FAIL(err, KD_E_OOM, "training: out of memory for a batch");
}

kd_status kdi_train_setup(kd_trainer *t, kd_err *err)
{
    KD_TRY(open_data(t, err));
    KD_TRY(open_teacher(t, err));
    set_objective(t);
    KD_TRY(open_model(t, err));
    if (t->model.kept > 0) {
        KD_TRY(kdi_resident_open(t, err));
    } else {
        KD_TRY(kdi_source_open(t->cfg, &t->model, &t->data.half[KD_HALF_TRAIN], true, &t->train, err));
    }
    KD_TRY(kdi_source_open(t->cfg, &t->model, &t->data.half[KD_HALF_VAL], false, &t->val, err));
    KD_TRY(open_batches(t, err));
    KD_TRY(open_optimiser(t, err));
    return kdi_train_pending_open(t, err);
}

void kdi_train_close(kd_trainer *t)
{
    kdi_train_pending_close(t);
    kd_loader_close(t->loader);
    kdi_source_close(&t->train);
    kdi_source_close(&t->val);
    kd_program_free(t->program);
    kd_program_free(t->eval_program);
    kd_optim_free(t->optim);
    kd_model_close(&t->model);
    kd_teacher_table_free(&t->teacher);
    kd_dataset_free(&t->data);
    kd_run_close(t->run);
    kd_free(t->mix.perm);
    kd_free(t->kept);
    kd_free(t->mix.lam);
    kd_free(t->target);
    kd_free(t->teacher_rows);
    kd_free(t->mixed_rows);
    kd_free(t->teacher_valid);
    kd_free(t->feature_rows);
}
