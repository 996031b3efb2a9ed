/* Values taken from elsewhere, and checks that need more than one key. */
#include "configs/schema/config_table.h"
#include "formats/base/archive.h"
#include "formats/base/io.h"
#include "formats/data/sets/data_set.h"
#include "teacher/clip/augment.h"
#include "teacher/model/teacher.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static void fill(int *field, int value)
{
    if (*field == 0) {
        *field = value;
    }
}

static kd_status ordered(const char *key, const double range[2], kd_err *err)
{
    if (range[0] <= range[1]) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_CONFIG, "%s: expected [low, high], found [%g, %g]", key, range[0], range[1]);
}

/* Keys of data.skeleton_file; whether there is an archive is known when the data are opened. */
static kd_status finish_archive(const kd_data_opts *d, kd_err *err)
{
    if (d->skeleton_channels.n != 0 && d->skeleton_channels.n != KD_ARCHIVE_CHANNELS) {
        return KD_FAIL(err, KD_E_CONFIG, "data.skeleton_channels: expected the places of x, y and z, found %d numbers",
                       d->skeleton_channels.n);
    }
    if (d->skeleton_file[0] != '\0' && d->skeleton_dir[0] != '\0') {
        return KD_FAIL(err, KD_E_CONFIG,
                       "data.skeleton_dir: %s, but data.skeleton_file holds all skeletons; remove one of them",
                       d->skeleton_dir);
    }
    return KD_OK;
}

static kd_status check_unlabelled(const kd_data_opts *d, kd_err *err)
{
    const bool share = kd_unlabelled_share(d->unlabelled) > 0.0;
    const size_t n = strlen(d->unlabelled);
    if (!share && n > 0 && strspn(d->unlabelled, "+-.0123456789") == n && !kd_path_exists(d->unlabelled)) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "data.unlabelled: expected a share above 0 and below 1, or a file of ids, found %s",
                       d->unlabelled);
    }
    return share || d->unlabelled_seed == 0
               ? KD_OK
               : KD_FAIL(err, KD_E_CONFIG,
                         "data.unlabelled_seed: %lld, but data.unlabelled is no share that is drawn; remove it",
                         (long long)d->unlabelled_seed);
}

static kd_status finish_data(kd_config *c, kd_err *err)
{
    kd_data_opts *d = &c->data;
    const kd_named_split *split = NULL;
    const kd_data_set *set = kd_data_set_of_split(d->split.by, &split);
    const int fixed = set != NULL ? set->n_classes : 0;
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
    KD_TRY(kd_split_check(&d->split, err));
    KD_TRY(check_unlabelled(d, err));
    const bool lists = strcmp(d->layout, KD_LAYOUT_LIST) == 0 || strcmp(d->split.by, KD_SPLIT_LIST) == 0;
    if (lists && d->train_list[0] == '\0' && d->val_list[0] == '\0') {
        return KD_FAIL(err, KD_E_CONFIG, "data.train_list: expected a list file (layout or split is list), found none");
    }
    const char *idle = d->train_list[0] != '\0' ? "train_list" : d->val_list[0] != '\0' ? "val_list" : "label_base";
    if (!lists && (d->train_list[0] != '\0' || d->val_list[0] != '\0' || d->label_base != 0)) {
        return KD_FAIL(err, KD_E_CONFIG, "data.%s: only where layout or split is list, found split %s; remove it", idle,
                       d->split.by);
    }
    return finish_archive(d, err);
}

/* Keys that only some schedules obey. */
static kd_status finish_schedule(const kd_config *c, kd_err *err)
{
    const kd_cfg_optim *o = &c->optim;
    char name[KD_CFG_NAME];
    (void)kd_config_enum_name("optim.schedule", (int)o->schedule, name);
    const bool mm = o->schedule == KD_SCHEDULE_MM_EPOCH || o->schedule == KD_SCHEDULE_MM_STEP;
    const bool by_step = mm || o->schedule == KD_SCHEDULE_COSINE_STEP || o->schedule == KD_SCHEDULE_HF_COSINE;
    if (o->warmup_ratio >= 0.0 && !by_step) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "optim.warmup_ratio: %g, but schedule %s counts its warm-up in epochs; use "
                       "optim.warmup_epochs",
                       o->warmup_ratio, name);
    }
    if (o->warmup_ratio >= 0.0 && o->warmup_steps >= 0) {
        return KD_FAIL(err, KD_E_CONFIG, "optim.warmup_ratio: %g, but optim.warmup_steps says %d; remove one",
                       o->warmup_ratio, o->warmup_steps);
    }
    if (o->schedule == KD_SCHEDULE_HF_COSINE && o->warmup_start_lr != 0.0) {
        return KD_FAIL(err, KD_E_CONFIG, "optim.warmup_start_lr: %g, but schedule hf_cosine starts from 0; remove it",
                       o->warmup_start_lr);
    }
    const char *idle = o->cosine_epochs != 0  ? "cosine_epochs"
                       : o->cosine_begin != 0 ? "cosine_begin"
                       : o->cosine_end != 0   ? "cosine_end"
                                              : NULL;
    if (!mm && idle != NULL) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "optim.%s: only the schedules mmengine_epoch and mmengine_step obey it, found "
                       "%s; remove it",
                       idle, name);
    }
    const int end = o->cosine_end != 0 ? o->cosine_end : c->train.epochs;
    const int period = o->cosine_epochs != 0 ? o->cosine_epochs : c->train.epochs;
    if (mm && o->cosine_begin >= end) {
        return KD_FAIL(err, KD_E_CONFIG, "optim.cosine_begin: expected less than the end of the cosine, %d, found %d",
                       end, o->cosine_begin);
    }
    if (mm && o->warmup_ratio < 0.0 && o->warmup_steps < 0 && o->warmup_epochs >= o->cosine_begin + period) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "optim.warmup_epochs: expected less than the %d epochs after which the cosine "
                       "has come down, found %g",
                       o->cosine_begin + period, o->warmup_epochs);
    }
    return KD_OK;
}

static kd_status finish_selection(const kd_config *c, kd_err *err)
{
    const kd_cfg_train *t = &c->train;
    char name[KD_CFG_NAME];
    if (t->select == KD_SELECT_TRAIN && t->metric != KD_METRIC_AUTO && t->metric != KD_METRIC_TOP1) {
        return KD_FAIL(err, KD_E_CONFIG, "train.metric: %s, but select: train knows top1 alone; set it to auto",
                       kd_config_enum_name("train.metric", (int)t->metric, name));
    }
    if (t->select == KD_SELECT_TRAIN && t->eval_ema) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "train.eval_ema: the averaged weights are measured by a validation; select: "
                       "train chooses by what training shows; remove one");
    }
    return KD_OK;
}

/* Below 0 only -1 has a meaning, "not set". */
static kd_status unset(const char *key, double value, kd_err *err)
{
    return value >= 0.0 || value == -1.0
               ? KD_OK
               : KD_FAIL(err, KD_E_CONFIG, "%s: expected -1 (not set) or at least 0, found %g", key, value);
}

static kd_status finish_optim(kd_config *c, kd_err *err)
{
    const kd_cfg_optim *o = &c->optim;
    char name[KD_CFG_NAME];
    KD_TRY(unset("optim.weight_decay_end", o->weight_decay_end, err));
    KD_TRY(unset("optim.warmup_ratio", o->warmup_ratio, err));
    KD_TRY(finish_schedule(c, err));
    KD_TRY(finish_selection(c, err));
    if (o->schedule == KD_SCHEDULE_MULTISTEP && o->milestones.n == 0) {
        return KD_FAIL(err, KD_E_CONFIG, "optim.milestones: multistep needs at least one epoch");
    }
    if (o->schedule != KD_SCHEDULE_MULTISTEP && o->milestones.n > 0) {
        return KD_FAIL(err, KD_E_CONFIG, "optim.milestones: only schedule multistep obeys them, found %s; remove them",
                       kd_config_enum_name("optim.schedule", (int)o->schedule, name));
    }
    for (int i = 1; i < o->milestones.n; i++) {
        if (o->milestones.v[i] <= o->milestones.v[i - 1]) {
            return KD_FAIL(err, KD_E_CONFIG, "optim.milestones: expected rising epochs, found %d after %d",
                           o->milestones.v[i], o->milestones.v[i - 1]);
        }
    }
    for (int i = 0; i < o->rules.n; i++) {
        if (o->rules.v[i].match[0] == '\0') {
            return KD_FAIL(err, KD_E_CONFIG,
                           "optim.rules[%d].match: expected the start of a parameter's name, found nothing", i);
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
    if (o->warmup_steps < 0 && o->warmup_ratio < 0.0 &&
        o->warmup_epochs > c->train.epochs) { /* a short trial of a long recipe */
        kd_log(KD_LOG_WARN, "optim.warmup_epochs: %g is more than train.epochs; %d is used", o->warmup_epochs,
               c->train.epochs);
        c->optim.warmup_epochs = c->train.epochs;
    }
    if (c->train.eval_ema && o->ema_decay <= 0.0) {
        return KD_FAIL(err, KD_E_CONFIG, "train.eval_ema: needs optim.ema_decay above 0");
    }
    if (c->train.average_last > 0 && c->train.eval_ema) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "train.average_last: %d, and train.eval_ema: the report is of one average; set "
                       "one of them",
                       c->train.average_last);
    }
    if (c->train.average_last == 0 && c->train.average_bn != KD_AVERAGE_BN_AVERAGE) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "train.average_bn: recompute does nothing without train.average_last; remove it");
    }
    return KD_OK;
}

static kd_status finish_mixup(kd_config *c, kd_err *err)
{
    const kd_mixup_opts *m = &c->mixup;
    const bool on = m->alpha > 0.0 || m->cutmix_alpha > 0.0;
    if (on && m->partner == KD_PARTNER_FLIP && c->train.batch_size * c->train.num_sample % 2 != 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "train.batch_size: mixup with partner flip pairs samples; expected an even "
                       "number, found %d",
                       c->train.batch_size);
    }
    if (m->mode != KD_MIXUP_BATCH && !on) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "mixup.mode: expected batch where nothing is mixed (mixup.alpha and mixup.cutmix_alpha are 0), "
                       "found %s; remove it",
                       m->mode == KD_MIXUP_ELEM ? "elem" : "pair");
    }
    if (m->mode == KD_MIXUP_PAIR && m->partner != KD_PARTNER_FLIP) {
        return KD_FAIL(
            err, KD_E_CONFIG,
            "mixup.partner: expected flip with mixup.mode pair (a permutation makes no pairs), found permute");
    }
    return KD_OK;
}

/* Labels in pairs, each in one pair; whether they are classes is known with the data. */
static kd_status check_pairs(const kd_clip_opts *v, kd_err *err)
{
    const kd_cfg_ints *l = &v->flip_labels;
    if (l->n % 2 != 0) {
        return KD_FAIL(err, KD_E_CONFIG, "video.flip_labels: expected pairs of labels, found %d labels", l->n);
    }
    if (l->n > 0 && v->flip_prob <= 0.0) {
        return KD_FAIL(err, KD_E_CONFIG, "video.flip_labels: nothing is mirrored with video.flip_prob 0; remove it");
    }
    for (int i = 0; i < l->n; i++) {
        for (int j = 0; j < i; j++) {
            if (l->v[i] == l->v[j]) {
                return KD_FAIL(err, KD_E_CONFIG, "video.flip_labels: label %d is there twice, at %d and %d", l->v[i], j,
                               i);
            }
        }
    }
    return KD_OK;
}

/* Keys of the training pixels that say nothing, or something else, under the others. */
static kd_status finish_pixels(const kd_clip_opts *v, kd_err *err)
{
    kd_rand_augment policy;
    KD_TRY(kd_rand_augment_parse(v->rand_augment, &policy, err));
    if (policy.ops == 0 && v->rand_augment_interpolation != KD_WARP_BICUBIC) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "video.rand_augment_interpolation: only with video.rand_augment, which is empty; remove it");
    }
    KD_TRY(check_pairs(v, err));
    const char *erase = v->erase_mode != KD_ERASED_PIXEL ? "mode" : v->erase_count != 1 ? "count" : "cube";
    if (v->erase_prob <= 0.0 && (v->erase_mode != KD_ERASED_PIXEL || v->erase_count != 1 || !v->erase_cube)) {
        return KD_FAIL(err, KD_E_CONFIG, "video.erase_%s: nothing is erased with video.erase_prob 0; remove it", erase);
    }
    if (v->spatial == KD_SPATIAL_MULTI_SCALE && v->resizer != KD_RESIZER_PILLOW_BILINEAR) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "video.resizer: expected pillow_bilinear, with which multi_scale resizes its boxes, found %s",
                       v->resizer == KD_RESIZER_OPENCV ? "opencv" : "pillow_bicubic");
    }
    return KD_OK;
}

/* Keys that the sampler does not read. */
static kd_status idle_sampling(const kd_clip_opts *v, kd_err *err)
{
    char name[KD_CFG_NAME];
    const char *sampler = kd_config_enum_name("video.sampler", (int)v->sampler, name);
    const bool each = kd_frames_each(v->sampler), whole = each || v->sampler == KD_SAMPLER_UNIFORM_LINSPACE;
    if (v->out_of_bound != KD_BOUND_LOOP && v->sampler != KD_SAMPLER_MMACTION2) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "video.out_of_bound: repeat_last, but sampler %s has no frames behind the end; "
                       "remove it",
                       sampler);
    }
    if (v->short_video != KD_SHORT_OFFICIAL && (whole || v->sampler == KD_SAMPLER_MMACTION2)) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "video.short_video: stride_repeat, but sampler %s has a rule of its own; remove "
                       "it",
                       sampler);
    }
    if (v->sampling_rate != 4 && whole) {
        return KD_FAIL(err, KD_E_CONFIG, "video.sampling_rate: %d, but sampler %s has none; remove it",
                       v->sampling_rate, sampler);
    }
    return KD_OK;
}

static kd_status finish_clips(kd_config *c, kd_err *err)
{
    KD_TRY(kd_teacher_finish(&c->teacher, err));
    KD_TRY(ordered("video.rrc_scale", c->video.rrc_scale, err));
    KD_TRY(ordered("video.rrc_ratio", c->video.rrc_ratio, err));
    KD_TRY(finish_pixels(&c->video, err));
    if (c->video.spatial == KD_SPATIAL_SHORT_SIDE_CROP && c->video.train_short_side < c->teacher.img_size) {
        return KD_FAIL(err, KD_E_CONFIG, "video.train_short_side: expected at least img_size (%d), found %d",
                       c->teacher.img_size, c->video.train_short_side);
    }
    if (c->video.short_side != 0 && c->video.short_side < c->teacher.img_size) {
        return KD_FAIL(err, KD_E_CONFIG, "video.short_side: expected 0 or at least img_size (%d), found %d",
                       c->teacher.img_size, c->video.short_side);
    }
    if (c->eval.crop_rule != KD_CROPS_VIDEOMAE && c->eval.crops != 1 && c->eval.crops != 3) {
        return KD_FAIL(err, KD_E_CONFIG, "eval.crops: expected 1 or 3 with eval.crop_rule %s, found %d",
                       c->eval.crop_rule == KD_CROPS_CORNERS ? "corners" : "mmaction2", c->eval.crops);
    }
    return idle_sampling(&c->video, err);
}

/* The store's views say what these would draw. */
static kd_status check_views(const kd_skeleton_aug_opts *a, kd_err *err)
{
    const struct {
        const char *key;
        double value;
    } drawn[] = {{"flip_prob", a->flip_prob}, {"time_flip_prob", a->time_flip_prob}, {"speed_prob", a->speed_prob}};
    for (size_t i = 0; i < KD_COUNTOF(drawn) && a->match_views; i++) {
        if (drawn[i].value > 0.0) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "skeleton_aug.%s: %g, but with skeleton_aug.match_views time and mirror are those of the "
                           "store's views; set it to 0",
                           drawn[i].key, drawn[i].value);
        }
    }
    return KD_OK;
}

static kd_status finish_sequences(kd_config *c, kd_err *err)
{
    KD_TRY(check_views(&c->skeleton_aug, err));
    if (c->data.skeleton_score_scale != 1.0 && c->skeleton.channels != KD_CHANNELS_XY_SCORE) {
        return KD_FAIL(
            err, KD_E_CONFIG,
            "data.skeleton_score_scale: %g, but joints have no confidence (skeleton.channels: xyz); remove it",
            c->data.skeleton_score_scale);
    }
    KD_TRY(kd_cfg_finish_layout(c, err));
    KD_TRY(ordered("skeleton_aug.scale", c->skeleton_aug.scale, err));
    if (c->data.denoise != KD_DENOISE_NONE && c->skeleton_aug.match_views) {
        return KD_FAIL(
            err, KD_E_CONFIG,
            "skeleton_aug.match_views: data.denoise leaves frames out, so that those of a view are others; set "
            "one of them to its default");
    }
    if (c->data.denoise != KD_DENOISE_NONE && c->skeleton.bodies != KD_BODIES_FILE_ORDER) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "skeleton.bodies: tracked, but data.denoise says who is actor 1 and 2; expected file_order");
    }
    return ordered("skeleton_aug.speed", c->skeleton_aug.speed, err);
}

static kd_status finish_class_weights(const kd_config *c, kd_err *err)
{
    bool any = c->class_weights.n == 0;
    for (int i = 0; i < c->class_weights.n; i++) {
        any = any || c->class_weights.v[i] > 0.0;
    }
    if (!any) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "class_weights: all %d are 0, so nothing is learned from labels; give one a "
                       "number above 0",
                       c->class_weights.n);
    }
    if (c->class_weights.n > 0 && c->class_balance) {
        return KD_FAIL(err, KD_E_CONFIG, "class_balance: true, but class_weights says the weights; remove one");
    }
    if (c->class_weights.n > 0 && c->data.num_classes > 0 && c->class_weights.n != c->data.num_classes) {
        return KD_FAIL(err, KD_E_CONFIG, "class_weights: expected %d numbers, one a class, found %d",
                       c->data.num_classes, c->class_weights.n);
    }
    return KD_OK;
}

static kd_status finish_all(kd_config *c, kd_err *err)
{
    KD_TRY(finish_class_weights(c, err));
    fill(&c->eval.batch_size, c->train.batch_size);
    if (c->phases.n > 0) { /* what is trained is the phases, each of which comes here by itself */
        return KD_OK;
    }
    KD_TRY(finish_optim(c, err));
    return finish_mixup(c, err);
}

kd_status kd_config_finish(kd_config *cfg, kd_err *err)
{
    static const struct {
        unsigned kinds; /* that have the sections */
        kd_status (*finish)(kd_config *c, kd_err *err);
    } part[] = {
        {KD_CFG_BOTH, finish_data},      {KD_CFG_TEACHER, finish_clips},         {KD_CFG_STUDENT, finish_sequences},
        {KD_CFG_BOTH, kd_cfg_finish_kd}, {KD_CFG_STUDENT, kd_cfg_finish_mutual}, {KD_CFG_BOTH, finish_all}};
    for (size_t i = 0; i < KD_COUNTOF(part); i++) {
        if ((part[i].kinds & kd_cfg_kind_flag(cfg)) != 0) {
            KD_TRY(part[i].finish(cfg, err));
        }
    }
    return KD_OK;
}

kd_clip_spec kd_config_clip(const kd_config *cfg)
{
    return (kd_clip_spec){.video = cfg->video,
                          .frames = cfg->teacher.frames,
                          .side = cfg->teacher.img_size,
                          .clips = cfg->eval.clips,
                          .crops = cfg->eval.crops,
                          .flips = cfg->eval.flips,
                          .crop_rule = cfg->eval.crop_rule,
                          .repeats = cfg->train.num_sample,
                          .seed = (uint64_t)cfg->train.seed};
}

kd_sequence_spec kd_config_sequence(const kd_config *cfg)
{
    return (kd_sequence_spec){.skeleton = cfg->skeleton,
                              .aug = cfg->skeleton_aug,
                              .denoise = cfg->data.denoise != KD_DENOISE_NONE,
                              .seed = (uint64_t)cfg->train.seed,
                              .layout = cfg->layout,
                              .file_layout = cfg->file_layout};
}
