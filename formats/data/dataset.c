/* From files and lists to the two halves. */
#include "formats/data/dataset.h"

#include "formats/base/io.h"
#include "formats/data/catalog.h"
#include "formats/data/dataset_internal.h"
#include "formats/data/listing.h"
#include "formats/data/sets/data_set.h"

#include <stdlib.h>

typedef struct builder {
    const kd_data_opts *cfg;
    const kd_data_set *set; /* the published split's; NULL: another split */
    unsigned need;
    kd_dataset *ds;
    kd_catalog files;
    kd_listing list[KD_HALVES];
    char *list_path[KD_HALVES];
    size_t room[KD_HALVES], left_room[KD_HALVES], text_room;
    int most; /* largest label listed */
    kd_err *err;
} builder;

/* One listed sample, before it is known whether its files are there. */
typedef struct listed {
    const char *key;
    const char *video_dir, *video, *skeleton_dir, *skeleton;
    const char *path;       /* as the list names the sample; NULL: no list does */
    const kd_sample_id *id; /* NULL: the key is no data set's sample name */
    int label;
} listed;

static kd_status no_memory(const builder *b)
{
    return KD_FAIL(b->err, KD_E_OOM, "%s: no memory for its samples", b->cfg->root);
}

/* The data set owns `text` from here on; NULL stands for failed allocation. */
static kd_status own(builder *b, char *text, const char **out)
{
    kd_dataset *ds = b->ds;
    if (text == NULL) {
        return no_memory(b);
    }
    if (ds->n_text == b->text_room) {
        const size_t room = b->text_room == 0 ? 1024 : 2 * b->text_room;
        char **p = kd_realloc(ds->text, b->text_room * sizeof *p, room * sizeof *p);
        if (p == NULL) {
            kd_free(text);
            return no_memory(b);
        }
        ds->text = p;
        b->text_room = room;
    }
    ds->text[ds->n_text++] = text;
    *out = text;
    return KD_OK;
}

/* Where the file of one kind was looked for; NULL: out of memory. */
static char *tried(const builder *b, const listed *s, bool video)
{
    const kd_data_opts *cfg = b->cfg;
    const kd_data_set *layout = kd_data_set_of_layout(cfg->layout);
    const char *own = video ? cfg->video_dir : cfg->skeleton_dir;
    const char *below = own[0] != '\0' || layout == NULL ? own : video ? layout->video_dir : layout->skeleton_dir;
    char *dir = below[0] != '\0' ? kd_path_join(cfg->root, below) : kd_strdup(cfg->root);
    char *path = NULL;
    if (dir == NULL) {
        return NULL;
    }
    if (s->path != NULL && video != kd_is_skeleton_name(s->path)) {
        path = kd_path_join(strcmp(cfg->layout, KD_LAYOUT_LIST) == 0 ? dir : cfg->root, s->path);
    } else {
        path = kd_strf("%s/%s%s", dir, s->key, video ? s->id != NULL ? "_rgb.avi" : ".*" : ".skeleton");
    }
    kd_free(dir);
    return path;
}

/* The sample is listed and not used. */
static kd_status leave(builder *b, kd_half_id which, const listed *s, kd_fate why)
{
    kd_half *half = &b->ds->half[which];
    kd_left_out l = {.why = why, .label = s->label};
    if (why == KD_FATE_NO_VIDEO || why == KD_FATE_NO_SKELETON) {
        KD_TRY(own(b, tried(b, s, why == KD_FATE_NO_VIDEO), &l.file));
    }
    KD_TRY(own(b, kd_strdup(s->key), &l.id));
    if (half->n_left == b->left_room[which]) {
        const size_t room = b->left_room[which] == 0 ? 64 : 2 * b->left_room[which];
        kd_left_out *p = kd_realloc(half->left, half->n_left * sizeof *p, room * sizeof *p);
        if (p == NULL) {
            return no_memory(b);
        }
        half->left = p;
        b->left_room[which] = room;
    }
    half->left[half->n_left++] = l;
    half->counts.left[why]++;
    return KD_OK;
}

static kd_status add(builder *b, kd_half_id which, const listed *s)
{
    kd_half *half = &b->ds->half[which];
    half->counts.listed++;
    b->most = KD_MAX(b->most, s->label);
    const bool missing = b->set != NULL && b->set->missing != NULL && s->id != NULL && b->set->missing(s->id);
    if (missing && !b->cfg->with_missing) {
        return leave(b, which, s, KD_FATE_KNOWN_MISSING);
    }
    if ((b->need & KD_NEED_VIDEO) != 0 && s->video == NULL) {
        return leave(b, which, s, KD_FATE_NO_VIDEO);
    }
    if ((b->need & KD_NEED_SKELETON) != 0 && s->skeleton == NULL) {
        return leave(b, which, s, KD_FATE_NO_SKELETON);
    }
    if (half->n == b->room[which]) {
        const size_t room = b->room[which] == 0 ? 1024 : 2 * b->room[which];
        kd_data_sample *p = kd_realloc(half->sample, half->n * sizeof *p, room * sizeof *p);
        if (p == NULL) {
            return no_memory(b);
        }
        half->sample = p;
        b->room[which] = room;
    }
    kd_data_sample d = {.label = s->label};
    KD_TRY(own(b, kd_strdup(s->key), &d.id));
    if (s->video != NULL) {
        KD_TRY(own(b, kd_path_join(s->video_dir, s->video), &d.video));
    }
    if (s->skeleton != NULL) {
        KD_TRY(own(b, kd_path_join(s->skeleton_dir, s->skeleton), &d.skeleton));
    }
    if (s->id != NULL) {
        d.setup = s->id->setup;
        d.camera = s->id->camera;
        d.performer = s->id->subject;
        d.replication = s->id->replication;
        d.action = s->id->action;
    }
    half->sample[half->n++] = d;
    return KD_OK;
}

static listed from_file(const kd_catalog_item *it)
{
    return (listed){.key = it->key,
                    .video_dir = it->video_dir,
                    .video = it->video,
                    .skeleton_dir = it->skeleton_dir,
                    .skeleton = it->skeleton,
                    .id = it->set != NULL ? &it->id : NULL,
                    .label = it->set != NULL ? it->id.action - 1 : -1};
}

/* ---- splits by name -------------------------------------------------------------------------- */

static kd_status split_files(builder *b)
{
    for (size_t i = 0; i < b->files.n; i++) {
        const kd_catalog_item *it = &b->files.item[i];
        const kd_split_side side = kd_split_side_of(&b->cfg->split, it->key, it->set != NULL ? &it->id : NULL);
        if (side == KD_SIDE_NONE) {
            b->ds->unplaced++;
            continue;
        }
        const listed s = from_file(it);
        KD_TRY(add(b, side == KD_SIDE_TRAIN ? KD_HALF_TRAIN : KD_HALF_VAL, &s));
    }
    return KD_OK;
}

/* ---- splits by list -------------------------------------------------------------------------- */

/* A list's path is tried as it stands, then below the root. */
static kd_status read_list(builder *b, kd_half_id which, const char *path)
{
    if (path[0] == '\0') {
        return KD_OK;
    }
    b->list_path[which] = kd_path_is_file(path) ? kd_strdup(path) : kd_path_join(b->cfg->root, path);
    if (b->list_path[which] == NULL) {
        return no_memory(b);
    }
    KD_TRY(kd_listing_read(b->list_path[which], &b->list[which], b->err));
    return kd_listing_check(&b->list[which], b->list_path[which], b->cfg->num_classes, false, b->err);
}

/* The list says where its own file lies, relative to the root or to the folder of its kind. */
static void listed_path(const builder *b, const char *path, listed *s)
{
    const kd_data_opts *cfg = b->cfg;
    const bool skeleton = kd_is_skeleton_name(path);
    const char *dir = cfg->root;
    if (skeleton && cfg->skeleton_dir[0] != '\0') {
        dir = b->files.dir[1];
    }
    if (!skeleton && cfg->video_dir[0] != '\0') {
        dir = b->files.dir[0];
    }
    char *full = kd_path_join(dir, path);
    const bool there = full != NULL && kd_path_is_file(full);
    kd_free(full);
    if (skeleton) {
        s->skeleton_dir = dir;
        s->skeleton = there ? path : NULL;
    } else {
        s->video_dir = dir;
        s->video = there ? path : NULL;
    }
}

static kd_status split_lists(builder *b)
{
    size_t found = 0;
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < b->list[h].n; i++) {
            const kd_list_item *item = &b->list[h].item[i];
            const kd_catalog_item *it = kd_catalog_find(&b->files, item->key);
            listed s = {.key = item->key};
            if (it != NULL) {
                s = from_file(it);
            }
            s.path = item->path;
            found += it != NULL;
            s.label = item->label;
            if (strcmp(b->cfg->layout, KD_LAYOUT_LIST) == 0) {
                listed_path(b, item->path, &s);
            }
            KD_TRY(add(b, (kd_half_id)h, &s));
        }
    }
    b->ds->unplaced = b->files.n > found ? b->files.n - found : 0;
    return KD_OK;
}

/* ---- checks ---------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    return strcmp(((const kd_data_sample *)a)->id, ((const kd_data_sample *)b)->id);
}

static int by_left_id(const void *a, const void *b)
{
    return strcmp(((const kd_left_out *)a)->id, ((const kd_left_out *)b)->id);
}

static bool left_find(const kd_half *half, const char *id)
{
    const kd_left_out key = {.id = id};
    return half->n_left > 0 && bsearch(&key, half->left, half->n_left, sizeof key, by_left_id) != NULL;
}

/* Ids of all that is listed, on either side, kept or left out: each once. */
static kd_status disjoint(const builder *b)
{
    const kd_half *t = &b->ds->half[KD_HALF_TRAIN], *v = &b->ds->half[KD_HALF_VAL];
    for (size_t i = 0; i < v->n + v->n_left; i++) {
        const char *id = i < v->n ? v->sample[i].id : v->left[i - v->n].id;
        if (kd_half_find(t, id) >= 0 || left_find(t, id)) {
            return KD_FAIL(b->err, KD_E_DATA, "%s: in the training and in the validation half", id);
        }
    }
    for (int h = 0; h < KD_HALVES; h++) {
        const kd_half *half = &b->ds->half[h];
        for (size_t i = 1; i < half->n; i++) {
            if (strcmp(half->sample[i - 1].id, half->sample[i].id) == 0) {
                return KD_FAIL(b->err, KD_E_DATA, "%s: there twice", half->sample[i].id);
            }
        }
    }
    return KD_OK;
}

static kd_status labels(const builder *b)
{
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < b->ds->half[h].n; i++) {
            const kd_data_sample *s = &b->ds->half[h].sample[i];
            if (s->label < 0 || s->label >= b->ds->n_classes) {
                return KD_FAIL(b->err, KD_E_DATA,
                               "%s: label %d, but the %d classes are 0 to %d; see "
                               "data.num_classes and data.classes",
                               s->id, s->label, b->ds->n_classes, b->ds->n_classes - 1);
            }
        }
    }
    return KD_OK;
}

static kd_status finish_half(builder *b, kd_half_id which)
{
    kd_half *half = &b->ds->half[which];
    const size_t limit = (size_t)b->cfg->limit;
    if (half->n > 1) {
        qsort(half->sample, half->n, sizeof *half->sample, by_id);
    }
    while (limit > 0 && half->n > limit) {
        const kd_data_sample *s = &half->sample[--half->n];
        const listed l = {.key = s->id, .label = s->label};
        KD_TRY(leave(b, which, &l, KD_FATE_OVER_LIMIT));
    }
    if (half->n_left > 1) {
        qsort(half->left, half->n_left, sizeof *half->left, by_left_id);
    }
    for (size_t i = 0; i < half->n; i++) {
        const kd_data_sample *s = &half->sample[i];
        half->counts.videos += s->video != NULL;
        half->counts.skeletons += s->skeleton != NULL;
        half->counts.pairs += s->video != NULL && s->skeleton != NULL;
    }
    return KD_OK;
}

static kd_status not_empty(const builder *b, unsigned halves)
{
    static const char *const NAME[] = {"training", "validation"};
    for (int h = 0; h < KD_HALVES; h++) {
        const kd_half *half = &b->ds->half[h];
        if ((halves >> h & 1) == 0 || half->n > 0) {
            continue;
        }
        char *left = kd_fates_text(half->counts.left);
        if (left == NULL) {
            return no_memory(b);
        }
        const char *file = half->n_left > 0 ? half->left[0].file : NULL;
        const kd_status st =
            KD_FAIL(b->err, KD_E_DATA, "%s: the %s half is empty (split %s: %zu listed; left out: %s%s%s; %zu outside)",
                    b->cfg->root, NAME[h], b->ds->split, half->counts.listed, left, file != NULL ? ", tried " : "",
                    file != NULL ? file : "", b->ds->unplaced);
        kd_free(left);
        return st;
    }
    return KD_OK;
}

static kd_status build(builder *b, unsigned halves)
{
    const kd_data_opts *cfg = b->cfg;
    const bool lists = strcmp(cfg->split.by, KD_SPLIT_LIST) == 0;
    if (strcmp(cfg->layout, KD_LAYOUT_LIST) == 0 && !lists) {
        return KD_FAIL(b->err, KD_E_CONFIG, "data.split: layout list takes its halves from lists; expected list");
    }
    KD_TRY(kd_catalog_open(cfg, &b->files, b->err));
    if (lists) {
        KD_TRY(read_list(b, KD_HALF_TRAIN, cfg->train_list));
        KD_TRY(read_list(b, KD_HALF_VAL, cfg->val_list));
    }
    KD_TRY(lists ? split_lists(b) : split_files(b));
    KD_TRY(kd_dataset_name_split(cfg, b->list, b->ds, b->err));
    KD_TRY(kd_dataset_name_classes(cfg, b->most + 1, b->ds, b->err));
    for (int h = 0; h < KD_HALVES; h++) {
        KD_TRY(finish_half(b, (kd_half_id)h));
    }
    KD_TRY(not_empty(b, halves));
    KD_TRY(disjoint(b));
    return labels(b);
}

kd_status kd_dataset_open(const kd_data_opts *cfg, unsigned need, unsigned halves, kd_dataset *out, kd_err *err)
{
    const kd_named_split *split = NULL;
    const kd_data_set *set = kd_data_set_of_split(cfg->split.by, &split);
    builder b = {.cfg = cfg, .set = set, .need = need, .ds = out, .most = -1, .err = err};
    *out = (kd_dataset){0};
    const kd_status st = build(&b, halves);
    for (int h = 0; h < KD_HALVES; h++) {
        kd_listing_free(&b.list[h]);
        kd_free(b.list_path[h]);
    }
    kd_catalog_free(&b.files);
    if (st != KD_OK) {
        kd_dataset_free(out);
    }
    return st;
}

void kd_dataset_free(kd_dataset *ds)
{
    if (ds == NULL) {
        return;
    }
    for (size_t i = 0; i < ds->n_text; i++) {
        kd_free(ds->text[i]);
    }
    for (int i = 0; ds->classes != NULL && i < ds->n_classes; i++) {
        kd_free(ds->classes[i]);
    }
    kd_free(ds->classes);
    kd_free(ds->text);
    kd_free(ds->name);
    kd_free(ds->split);
    for (int h = 0; h < KD_HALVES; h++) {
        kd_free(ds->half[h].sample);
        kd_free(ds->half[h].left);
    }
    *ds = (kd_dataset){0};
}
