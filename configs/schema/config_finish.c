/* Values taken from elsewhere, and checks that need more than one key. */
#include "configs/schema/config_table.h"

#include <math.h>

typedef struct vit_size {
    int img_size, patch, tubelet, frames, dim, depth, heads, mlp_hidden;
} vit_size;

/* In the order of kd_cfg_variant; published sizes are those of VideoMAE v1/v2.  custom: zeros must
 * be given. */
static const vit_size VIT[] = {
    {224, 16, 2, 16, 384, 12, 6, 1536},   /* s */
    {224, 16, 2, 16, 768, 12, 12, 3072},  /* b */
    {224, 16, 2, 16, 1024, 24, 16, 4096}, /* l */
    {224, 16, 2, 16, 1280, 32, 16, 5120}, /* h */
    {224, 14, 2, 16, 1408, 40, 16, 6144}, /* g */
    {64, 8, 2, 8, 96, 4, 3, 384},         /* tiny */
    {224, 16, 2, 16, 0, 0, 0, 0},         /* custom */
};

static void fill(int *field, int value)
{
    if (*field == 0) {
        *field = value;
    }
}

static kd_status finish_teacher(kd_cfg_teacher *t, kd_err *err)
{
    const vit_size *v = &VIT[t->variant];
    fill(&t->img_size, v->img_size);
    fill(&t->patch, v->patch);
    fill(&t->tubelet, v->tubelet);
    fill(&t->frames, v->frames);
    fill(&t->dim, v->dim);
    fill(&t->depth, v->depth);
    fill(&t->heads, v->heads);
    fill(&t->mlp_hidden, v->mlp_hidden > 0 ? v->mlp_hidden : 4 * t->dim);
    if (t->dim == 0 || t->depth == 0 || t->heads == 0) {
        return KD_FAIL(err, KD_E_CONFIG, "teacher: variant custom needs dim, depth and heads; found %d, %d, %d", t->dim,
                       t->depth, t->heads);
    }
    if (t->dim % t->heads != 0) {
        return KD_FAIL(err, KD_E_CONFIG, "teacher.dim: expected a multiple of heads (%d), found %d", t->heads, t->dim);
    }
    if (t->dim % 2 != 0) {
        return KD_FAIL(err, KD_E_CONFIG, "teacher.dim: expected an even number, found %d", t->dim);
    }
    if (t->img_size % t->patch != 0) {
        return KD_FAIL(err, KD_E_CONFIG, "teacher.img_size: expected a multiple of patch (%d), found %d", t->patch,
                       t->img_size);
    }
    if (t->frames % t->tubelet != 0) {
        return KD_FAIL(err, KD_E_CONFIG, "teacher.frames: expected a multiple of tubelet (%d), found %d", t->tubelet,
                       t->frames);
    }
    return KD_OK;
}

static kd_status ordered(const char *key, const double range[2], kd_err *err)
{
    if (range[0] <= range[1]) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_CONFIG, "%s: expected [low, high], found [%g, %g]", key, range[0], range[1]);
}

static kd_status finish_data(kd_cfg_data *d, kd_err *err)
{
    static const int CLASSES[] = {60, 60, 120, 120, 0, 0, 0, 0}; /* by kd_cfg_split */
    const int fixed = CLASSES[d->split.by];
    if (fixed > 0 && d->num_classes != 0 && d->num_classes != fixed) {
        return KD_FAIL(err, KD_E_CONFIG, "data.num_classes: the split has %d classes, found %d", fixed, d->num_classes);
    }
    fill(&d->num_classes, fixed > 0 ? fixed : d->classes.n);
    if (d->classes.n > 0 && d->classes.n != d->num_classes) {
        return KD_FAIL(err, KD_E_CONFIG, "data.classes: expected %d names, found %d", d->num_classes, d->classes.n);
    }
    for (int i = 0; i < d->classes.n; i++) {
        for (int j = 0; j < i; j++) {
            if (strcmp(d->classes.v[i], d->classes.v[j]) == 0) {
                return KD_FAIL(err, KD_E_CONFIG, "data.classes: '%s' is there twice, at %d and %d", d->classes.v[i], j,
                               i);
            }
        }
    }
    const bool by_field = d->split.by >= KD_SPLIT_SUBJECT && d->split.by <= KD_SPLIT_SETUP;
    if (by_field && d->split.train.n == 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "data.split.train: a split of this kind names its training half; found nothing");
    }
    if (!by_field && (d->split.train.n > 0 || d->split.val.n > 0)) {
        return KD_FAIL(err, KD_E_CONFIG, "data.split.train: only for splits by subject, camera or setup; remove it");
    }
    for (int i = 0; i < d->split.val.n; i++) {
        for (int j = 0; j < d->split.train.n; j++) {
            if (d->split.val.v[i] == d->split.train.v[j]) {
                return KD_FAIL(err, KD_E_CONFIG, "data.split: %d is in train and in val", d->split.val.v[i]);
            }
        }
    }
    const bool lists = d->layout == KD_LAYOUT_LIST || d->split.by == KD_SPLIT_LIST;
    if (lists && d->train_list[0] == '\0' && d->val_list[0] == '\0') {
        return KD_FAIL(err, KD_E_CONFIG, "data.train_list: expected a list file (layout or split is list), found none");
    }
    return KD_OK;
}

static kd_status finish_optim(kd_config *c, kd_err *err)
{
    const kd_cfg_optim *o = &c->optim;
    if (o->schedule == KD_SCHED_MULTISTEP && o->milestones.n == 0) {
        return KD_FAIL(err, KD_E_CONFIG, "optim.milestones: multistep needs at least one epoch");
    }
    for (int i = 1; i < o->milestones.n; i++) {
        if (o->milestones.v[i] <= o->milestones.v[i - 1]) {
            return KD_FAIL(err, KD_E_CONFIG, "optim.milestones: expected rising epochs, found %d after %d",
                           o->milestones.v[i], o->milestones.v[i - 1]);
        }
    }
    if (o->min_lr > o->base_lr) {
        return KD_FAIL(err, KD_E_CONFIG, "optim.min_lr: expected at most base_lr (%g), found %g", o->base_lr,
                       o->min_lr);
    }
    if (o->warmup_start_lr > o->base_lr) {
        return KD_FAIL(err, KD_E_CONFIG, "optim.warmup_start_lr: expected at most base_lr (%g), found %g", o->base_lr,
                       o->warmup_start_lr);
    }
    if (o->warmup_steps < 0 && o->warmup_epochs > c->train.epochs) { /* a short trial of a long recipe */
        kd_log(KD_LOG_WARN, "optim.warmup_epochs: %g is more than train.epochs; %d is used", o->warmup_epochs,
               c->train.epochs);
        c->optim.warmup_epochs = c->train.epochs;
    }
    if (c->train.eval_ema && o->ema_decay <= 0.0) {
        return KD_FAIL(err, KD_E_CONFIG, "train.eval_ema: needs optim.ema_decay above 0");
    }
    if ((c->mixup.alpha > 0.0 || c->mixup.cutmix_alpha > 0.0) && c->mixup.partner == KD_PARTNER_FLIP &&
        c->train.batch_size % 2 != 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "train.batch_size: mixup with partner flip pairs samples; expected an even "
                       "number, found %d",
                       c->train.batch_size);
    }
    return KD_OK;
}

static kd_status finish_kd(kd_cfg_kd *k, kd_err *err)
{
    if (k->ce_weight < 0.0) {
        if (k->weight > 1.0) {
            return KD_FAIL(err, KD_E_CONFIG, "kd.weight: above 1 (%g) needs kd.ce_weight, since 1 - weight is negative",
                           k->weight);
        }
        k->ce_weight = 1.0 - k->weight;
    }
    return KD_OK;
}

kd_status kd_config_finish(kd_config *cfg, kd_err *err)
{
    KD_TRY(finish_data(&cfg->data, err));
    if (cfg->kind == KD_KIND_TEACHER) {
        KD_TRY(finish_teacher(&cfg->teacher, err));
        cfg->video.short_side = cfg->teacher.img_size; /* test crops leave the short side whole */
        KD_TRY(ordered("video.rrc_scale", cfg->video.rrc_scale, err));
        KD_TRY(ordered("video.rrc_ratio", cfg->video.rrc_ratio, err));
        if (cfg->video.spatial == KD_SPATIAL_SHORT_SIDE_CROP && cfg->video.train_short_side < cfg->teacher.img_size) {
            return KD_FAIL(err, KD_E_CONFIG, "video.train_short_side: expected at least img_size (%d), found %d",
                           cfg->teacher.img_size, cfg->video.train_short_side);
        }
    } else {
        KD_TRY(ordered("skeleton_aug.scale", cfg->skeleton_aug.scale, err));
        KD_TRY(ordered("skeleton_aug.speed", cfg->skeleton_aug.speed, err));
        KD_TRY(finish_kd(&cfg->kd, err));
    }
    fill(&cfg->eval.batch_size, cfg->train.batch_size);
    return finish_optim(cfg, err);
}
