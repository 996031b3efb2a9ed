/* The schema table, and the nearest name of a key. */
#include "configs/schema/config_table.h"

#include "formats/data/sets/data_set.h"
#include "student/model/student.h"
#include "teacher/model/teacher.h"

#define TEACHER KD_CFG_TEACHER
#define STUDENT KD_CFG_STUDENT
#define BOTH    KD_CFG_BOTH
#define LOCAL   KD_CFG_LOCAL
#define HERE    KD_CFG_HERE
#define LISTED  KD_CFG_LISTED

#define KD_ROW_TEXT_(...)  #__VA_ARGS__
#define KD_ROW_TEXT(...)   KD_ROW_TEXT_(__VA_ARGS__)
#define SECTION(key, text) {.path = (key), .type = KD_CFG_SECTION, .fallback = "", .doc = (text)},

static const kd_cfg_row RULE_ROWS[] = {
#define KD_OWNER   kd_param_rule
#define KD_SECTION /* the item itself */
#define KD_OPTIONS "kernels/optim/param_rule.inc"
#include "configs/schema/rows.inc"
#undef KD_OWNER
};
static const kd_cfg_item rule_item = {.row = RULE_ROWS,
                                      .n_rows = KD_COUNTOF(RULE_ROWS),
                                      .first = offsetof(kd_param_rules, v),
                                      .bytes = sizeof(kd_param_rule)};

static const kd_cfg_row PHASE_ROWS[] = {
#define KD_OWNER   kd_cfg_phase
#define KD_SECTION /* the item itself */
#define KD_OPTIONS "configs/schema/phase.inc"
#include "configs/schema/rows.inc"
#undef KD_OWNER
};
static const kd_cfg_item phase_item = {.row = PHASE_ROWS,
                                       .n_rows = KD_COUNTOF(PHASE_ROWS),
                                       .first = offsetof(kd_cfg_phases, v),
                                       .bytes = sizeof(kd_cfg_phase)};

static const kd_cfg_row PEER_ROWS[] = {
#define KD_OWNER   kd_cfg_peer
#define KD_SECTION /* the item itself */
#define KD_OPTIONS "configs/schema/peer.inc"
#include "configs/schema/rows.inc"
#undef KD_OWNER
};
static const kd_cfg_item peer_item = {.row = PEER_ROWS,
                                      .n_rows = KD_COUNTOF(PEER_ROWS),
                                      .first = offsetof(kd_cfg_peers, v),
                                      .bytes = sizeof(kd_cfg_peer)};

#define KD_OWNER kd_config
const kd_cfg_row kd_cfg_rows[] = {
#include "configs/schema/schema.inc"
};
const size_t kd_cfg_row_count = KD_COUNTOF(kd_cfg_rows);

/* Spellings of other toolkits, and ours that moved: what people type by habit. */
static const struct {
    const char *word, *path;
} HABITS[] = {
    {"lr", "optim.base_lr"},
    {"learning_rate", "optim.base_lr"},
    {"optimizer", "optim.name"},
    {"scheduler", "optim.schedule"},
    {"gradient_clip", "optim.clip_grad"},
    {"update_freq", "optim.accumulation"},
    {"gradient_accumulation_steps", "optim.accumulation"},
    {"model", "student.name"},
    {"model_ema_decay", "optim.ema_decay"},
    {"opt_betas", "optim.betas"},
    {"opt_eps", "optim.eps"},
    {"smoothing", "label_smoothing"},
    {"mixup_alpha", "mixup.alpha"},
    {"cutmix", "mixup.cutmix_alpha"},
    {"mixup_switch_prob", "mixup.switch_prob"},
    {"reprob", "video.erase_prob"},
    {"flip_label_map", "video.flip_labels"},
    {"remode", "video.erase_mode"},
    {"recount", "video.erase_count"},
    {"aa", "video.rand_augment"},
    {"auto_augment", "video.rand_augment"},
    {"train_interpolation", "video.rand_augment_interpolation"},
    {"erasing_prob", "video.erase_prob"},
    {"kd_weight", "kd.weight"},
    {"alpha", "kd.weight"},
    {"kd_temperature", "kd.temperature"},
    {"kd_temp", "kd.temperature"},
    {"tau", "kd.temperature"},
    {"teacher_logits", "kd.store"},
    {"input_size", "teacher.img_size"},
    {"num_frames", "teacher.frames"},
    {"input_frames", "skeleton.frames"},
    {"tubelet_size", "teacher.tubelet"},
    {"patch_size", "teacher.patch"},
    {"embed_dim", "teacher.dim"},
    {"num_heads", "teacher.heads"},
    {"test_num_segment", "eval.clips"},
    {"test_num_crop", "eval.crops"},
    {"short_side_size", "video.short_side"},
    {"frame_interval", "video.sampling_rate"},
    {"out_of_bound_opt", "video.out_of_bound"},
    {"mixup_mode", "mixup.mode"},
    {"nb_classes", "data.num_classes"},
    {"data_root", "data.root"},
    {"data_path", "data.root"},
    {"dataset", "data.split"},
    {"num_workers", "train.workers"},
    {"use_amp", "train.dtype"},
    {"metric_for_best_model", "train.metric"},
    {"save_best", "train.metric"},
    {"early_stopping_patience", "train.patience"},
    {"lr_scheduler_type", "optim.schedule"},
    {"class_weight", "class_weights"},
    {"stages", "phases"},
    {"peers", "mutual"},
    {"dml", "mutual"},
};

const kd_cfg_row *kd_cfg_find(const char *path)
{
    for (size_t i = 0; i < kd_cfg_row_count; i++) {
        if (strcmp(kd_cfg_rows[i].path, path) == 0) {
            return &kd_cfg_rows[i];
        }
    }
    return NULL;
}

unsigned kd_cfg_kinds_of(const kd_cfg_row *row)
{
    if (row->type != KD_CFG_SECTION) {
        return row->flags & BOTH;
    }
    const size_t n = strlen(row->path);
    unsigned kinds = 0;
    for (size_t i = 0; i < kd_cfg_row_count; i++) {
        const char *p = kd_cfg_rows[i].path;
        if (strncmp(p, row->path, n) == 0 && p[n] == '.') {
            kinds |= kd_cfg_rows[i].flags & BOTH;
        }
    }
    return kinds;
}

/* ---- nearest name ---------------------------------------------------------------------------- */

static const char *last_part(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot == NULL ? path : dot + 1;
}

/* Last name of row i if it is in the section of the path `user`. */
static const char *sibling(size_t i, const void *user)
{
    const char *path = user;
    const size_t head = (size_t)(last_part(path) - path);
    const char *p = kd_cfg_rows[i].path;
    const char *w = last_part(p);
    return (size_t)(w - p) == head && strncmp(p, path, head) == 0 ? w : NULL;
}

const char *kd_cfg_nearest(const char *path)
{
    const char *word = last_part(path);
    const int limit = kd_edit_limit(strlen(word));
    const char *near = kd_nearest(word, kd_cfg_row_count, sibling, path);
    const char *best = near != NULL ? near - (word - path) : NULL; /* the row's whole path */
    for (size_t i = 0; i < KD_COUNTOF(HABITS) && best == NULL; i++) {
        if (strcmp(word, HABITS[i].word) == 0) {
            best = HABITS[i].path;
        }
    }
    for (int slack = 0; slack <= 1 && best == NULL; slack++) { /* the right word in the wrong place */
        for (size_t i = 0; i < kd_cfg_row_count && best == NULL; i++) {
            if (kd_edit_distance(word, last_part(kd_cfg_rows[i].path)) <= KD_MIN(slack, limit)) {
                best = kd_cfg_rows[i].path;
            }
        }
    }
    return best;
}
