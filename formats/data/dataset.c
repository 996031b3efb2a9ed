/* From files and lists to the two halves. */
#include "formats/data/dataset.h"

#include "formats/base/io.h"
#include "formats/data/dataset_internal.h"
#include "formats/data/lists/quarantine.h"
#include "formats/data/pack.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct builder {
    const kd_data_opts *cfg;
    const kd_data_set *set; /* the published split's; NULL: another split */
    unsigned need;
    kd_dataset *ds;
    kd_scan files;
    kd_split_lists lists;
    kd_quarantine quarantine, unlabelled;
    char *video_dir; /* of data.video_dir; NULL: not given */
    kd_pack pack;    /* that lies there; no rows: none does */
    size_t room[KD_HALVES], left_room[KD_HALVES], text_room;
    int most; /* largest label listed */
    kd_err *err;
} builder;

/* One listed sample, before it is known whether its files are there. */
typedef struct listed {
    const char *key;
    const char *video, *skeleton; /* as in kd_scan_item; NULL: absent */
    const char *path;             /* as the list names the sample; NULL: no list does */
    const kd_sample_id *id;       /* NULL: the key is no data set's sample name */
    int label, frames;
} listed;

static kd_status no_memory(const builder *b)
{
    return KD_FAIL(b->err, KD_E_OOM, "%s: no memory for its samples", b->cfg->root);
}

/* The data set owns `text` from here on; NULL stands for failed allocation. */
static kd_status own_text(builder *b, char *text, const char **out)
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

/* The folder of one kind, with `path` behind it; kd_free, NULL: out of memory. */
static char *in_folder(const builder *b, bool video, const char *path)
{
    const char *own = video ? b->cfg->video_dir : b->cfg->skeleton_dir;
    char *dir = own[0] != '\0' ? kd_path_join(b->cfg->root, own) : kd_strdup(b->cfg->root);
    char *full = dir != NULL ? kd_path_join(dir, path) : NULL;
    kd_free(dir);
    return full;
}

/* Where the file of one kind was looked for; NULL: out of memory. */
static char *tried(const builder *b, const listed *s, bool video)
{
    const kd_data_set *layout = b->files.layout;
    const char *own = video ? b->cfg->video_dir : b->cfg->skeleton_dir;
    if (!video && b->ds->archive != NULL) {
        return kd_strdup(b->ds->archive->path);
    }
    if (s->path != NULL && video != kd_is_skeleton_name(s->path)) {
        return in_folder(b, video, s->path);
    }
    const char *below = own[0] != '\0' || layout == NULL ? "" : video ? layout->video_dir : layout->skeleton_dir;
    char *name = kd_strf("%s%s%s%s", below, below[0] != '\0' ? "/" : "", s->key,
                         !video          ? ".skeleton"
                         : s->id != NULL ? "_rgb.avi"
                                         : ".*");
    char *path = name != NULL ? in_folder(b, video, name) : NULL;
    kd_free(name);
    return path;
}

/* The sample is listed and not used. */
static kd_status leave(builder *b, kd_half_id which, const listed *s, kd_fate why)
{
    kd_half *half = &b->ds->half[which];
    kd_left_out l = {.why = why, .label = s->label};
    if (why == KD_FATE_NO_VIDEO || why == KD_FATE_NO_SKELETON) {
        KD_TRY(own_text(b, tried(b, s, why == KD_FATE_NO_VIDEO), &l.file));
    }
    KD_TRY(own_text(b, kd_strdup(s->key), &l.id));
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

/* What the pack says about a video; NULL: the pack has none of that name. */
static const kd_pack_row *packed(const builder *b, const char *video)
{
    char *full = kd_path_join(b->cfg->root, video);
    const size_t n = strlen(b->video_dir);
    const bool below = full != NULL && strncmp(full, b->video_dir, n) == 0;
    const char *rest = below ? full + n : "";
    const kd_pack_row *row = kd_pack_find(&b->pack, rest + strspn(rest, "/"));
    kd_free(full);
    return row;
}

static kd_status add_skeleton(builder *b, const listed *s, kd_data_sample *d)
{
    const kd_archive *a = b->ds->archive;
    if (a == NULL) {
        return own_text(b, kd_path_join(b->cfg->root, s->skeleton), &d->skeleton);
    }
    d->archive = a;
    d->skeleton = a->path;
    d->row = kd_archive_find(a, s->skeleton);
    return kdi_dataset_row_label(a, d->row, s->key, s->label, b->err);
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
    if (kd_quarantine_has(&b->quarantine, s->key) || kd_quarantine_has(&b->quarantine, s->video) ||
        kd_quarantine_has(&b->quarantine, s->skeleton)) {
        return leave(b, which, s, KD_FATE_QUARANTINED);
    }
    const kd_pack_row *row = s->video != NULL && b->pack.n > 0 ? packed(b, s->video) : NULL;
    if ((b->need & KD_NEED_VIDEO) != 0 && (s->video == NULL || (b->pack.n > 0 && row == NULL))) {
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
    kd_data_sample d = {
        .label = s->label, .frames = KD_MAX(s->frames, 0), .packed_frames = row != NULL ? (size_t)row->frames : 0};
    KD_TRY(own_text(b, kd_strdup(s->key), &d.id));
    if (s->video != NULL) {
        KD_TRY(own_text(b, kd_path_join(b->cfg->root, s->video), &d.video));
    }
    KD_TRY(s->skeleton != NULL ? add_skeleton(b, s, &d) : KD_OK);
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

static listed from_file(const kd_scan_item *it)
{
    return (listed){.key = it->key,
                    .video = it->video,
                    .skeleton = it->skeleton,
                    .id = it->set != NULL ? &it->id : NULL,
                    .label = it->set != NULL ? it->id.action - 1 : -1};
}

/* ---- splits by name -------------------------------------------------------------------------- */

static kd_status split_files(builder *b)
{
    const kd_archive *a = b->ds->archive;
    if (a != NULL && a->numbered) {
        return KD_FAIL(b->err, KD_E_DATA,
                       "%s: its rows have no ids, only numbers (%s), so split %s cannot place them; data.names gives "
                       "ids, or data.split: list takes the file's own halves (data.train_list: %s)",
                       a->path, a->row[0].id, b->cfg->split.by, a->half[0].name);
    }
    for (size_t i = 0; i < b->files.n; i++) {
        const kd_scan_item *it = &b->files.item[i];
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

/* The list says where its own file lies, relative to the root or to the folder of its kind.  *there: it is there. */
static kd_status listed_path(builder *b, const char *path, listed *s, bool *there)
{
    const bool skeleton = kd_is_skeleton_name(path);
    const char *own = skeleton ? b->cfg->skeleton_dir : b->cfg->video_dir;
    const char *below = NULL; /* the root */
    char *full = in_folder(b, !skeleton, path);
    if (full == NULL) {
        return no_memory(b);
    }
    *there = kd_path_is_file(full) || (!skeleton && kd_path_is_dir(full));
    kd_free(full);
    char *made = NULL; /* a folder of pictures is one file in a pack */
    if (!*there && !skeleton && b->pack.n > 0) {
        made = kd_strf("%s" KD_PACK_OF_FOLDER, path);
        *there = made != NULL && kd_pack_find(&b->pack, made) != NULL;
    }
    if (*there) {
        const char *name = made != NULL ? made : path;
        KD_TRY(own_text(b, own[0] != '\0' ? kd_path_join(own, name) : kd_strdup(name), &below));
    }
    kd_free(made);
    if (skeleton) {
        s->skeleton = below;
    } else {
        s->video = below;
    }
    return KD_OK;
}

static kd_status add_row(builder *b, kd_half_id which, const kd_list_item *row)
{
    const kd_list_form form = b->lists.list[which].form;
    const bool named = form == KD_LIST_MARKS || form == KD_LIST_KINETICS || form == KD_LIST_SSV2;
    const bool files = b->ds->archive == NULL;
    const bool by_path = strcmp(b->cfg->layout, KD_LAYOUT_LIST) == 0 && !named && files;
    const kd_scan_item *it = kd_scan_find(&b->files, row->key);
    listed s = {.key = row->key};
    bool there = false;
    if (it != NULL) {
        s = from_file(it);
    }
    s.path = row->path;
    s.label = row->label == KD_LIST_NO_LABEL ? KD_NO_LABEL : row->label;
    s.frames = row->frames;
    if (by_path || (it == NULL && !named && files)) { /* a file of an ending that the scan does not know */
        KD_TRY(listed_path(b, row->path, &s, &there));
    }
    return add(b, which, &s);
}

static kd_status split_lists(builder *b)
{
    size_t found = 0;
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < b->lists.list[h].n; i++) {
            found += kd_scan_find(&b->files, b->lists.list[h].item[i].key) != NULL;
            KD_TRY(add_row(b, (kd_half_id)h, &b->lists.list[h].item[i]));
        }
    }
    b->ds->unplaced = b->files.n > found ? b->files.n - found : 0;
    return KD_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    return strcmp(((const kd_data_sample *)a)->id, ((const kd_data_sample *)b)->id);
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
        qsort(half->left, half->n_left, sizeof *half->left, kdi_by_left_id);
    }
    kdi_half_count(half);
    return KD_OK;
}

/* What lies below the root, by the keys that suit the lists too. */
static kd_status scan(builder *b, bool lists)
{
    const kd_data_opts *cfg = b->cfg;
    kd_scan_opts o = {.root = cfg->root,
                      .video_dir = cfg->video_dir,
                      .skeleton_dir = cfg->skeleton_dir,
                      .key = cfg->key,
                      .archive = b->ds->archive};
    const kd_data_set *layout = kd_data_set_of_layout(cfg->layout);
    bool differ = true;
    if (lists && cfg->key == KD_KEY_AUTO) {
        KD_TRY(kd_listing_stems_differ(b->lists.list, KD_HALVES, &differ, b->err));
        o.key = differ ? KD_KEY_AUTO : KD_KEY_PATH;
    }
    KD_TRY(kd_scan_folder(&o, &b->files, b->err));
    if (cfg->video_dir[0] == '\0' && cfg->skeleton_dir[0] == '\0' && layout != NULL && b->files.layout != layout &&
        o.archive == NULL) {
        return KD_FAIL(b->err, KD_E_DATA,
                       "%s: expected %s/ or %s/ below it, found neither; data.layout flat takes files as they lie",
                       cfg->root, layout->video_dir, layout->skeleton_dir);
    }
    if (cfg->key == KD_KEY_AUTO && b->files.key == KD_KEY_PATH) {
        kd_log(KD_LOG_INFO, "samples are named by their paths: file names alone are not unique%s%s%s%s%s",
               b->files.twice[0] != NULL ? " (" : "", b->files.twice[0] != NULL ? b->files.twice[0] : "",
               b->files.twice[0] != NULL ? ", " : "", b->files.twice[0] != NULL ? b->files.twice[1] : "",
               b->files.twice[0] != NULL ? ")" : "");
    }
    for (int h = 0; h < KD_HALVES; h++) {
        kd_listing *list = &b->lists.list[h];
        char *dir = list->n > 0 ? in_folder(b, !kd_is_skeleton_name(list->item[0].path), "") : NULL;
        if (list->n > 0 && dir == NULL) {
            return no_memory(b);
        }
        const kd_status st = list->n > 0 ? kd_listing_keys(list, b->lists.path[h], b->files.key, dir, b->err) : KD_OK;
        kd_free(dir);
        KD_TRY(st);
    }
    return KD_OK;
}

/* A file of names: as it stands, then below the root, as lists are. */
static kd_status read_names(builder *b, const char *name, kd_quarantine *to)
{
    if (name[0] == '\0') {
        return KD_OK;
    }
    char *path = kd_path_exists(name) ? kd_strdup(name) : kd_path_join(b->cfg->root, name);
    const kd_status st = path != NULL ? kd_quarantine_read(path, to, b->err) : no_memory(b);
    kd_free(path);
    return st;
}

/* Videos of a pack that is not named as one would lose its hash and its list. */
static kd_status refuse_hidden_pack(builder *b, const char *key, const char *folder)
{
    char *dir = kd_strdup(folder);
    kd_status st = dir != NULL ? KD_OK : no_memory(b);
    for (int up = 0; up < 3 && st == KD_OK; up++) { /* PACK, PACK/nturgb+d_rgb, PACK/frames/class */
        if (kd_pack_is(dir)) {
            st = KD_FAIL(b->err, KD_E_CONFIG,
                         "%s: %s is %s of `kd dataset pack`; name the pack itself, data.video_dir: %s, so that "
                         "its hash stays with the figures",
                         key, folder, up == 0 ? "a pack" : "inside of a pack", dir);
        }
        char *parent = kd_path_dir(dir);
        kd_free(dir);
        dir = parent;
        st = st == KD_OK && dir == NULL ? no_memory(b) : st;
    }
    kd_free(dir);
    return st;
}

static kd_status read_pack(builder *b)
{
    if (b->cfg->video_dir[0] == '\0') {
        return (b->need & KD_NEED_VIDEO) != 0 ? refuse_hidden_pack(b, "data.root", b->cfg->root) : KD_OK;
    }
    b->video_dir = kd_path_join(b->cfg->root, b->cfg->video_dir);
    if (b->video_dir == NULL) {
        return no_memory(b);
    }
    for (size_t n = strlen(b->video_dir); n > 1 && b->video_dir[n - 1] == '/'; n--) {
        b->video_dir[n - 1] = '\0'; /* as a scan does */
    }
    if (kd_pack_is(b->video_dir)) {
        KD_TRY(kd_pack_read(b->video_dir, &b->pack, b->err));
        (void)snprintf(b->ds->pack, sizeof b->ds->pack, "%s", b->pack.sha256);
        return KD_OK;
    }
    return refuse_hidden_pack(b, "data.video_dir", b->video_dir);
}

static kd_status build(builder *b, unsigned halves)
{
    const kd_data_opts *cfg = b->cfg;
    const bool lists = strcmp(cfg->split.by, KD_SPLIT_LIST) == 0;
    if (cfg->root[0] == '\0') {
        return KD_FAIL(b->err, KD_E_CONFIG, "data.root: expected the folder of the data set (--data)");
    }
    if (strcmp(cfg->layout, KD_LAYOUT_LIST) == 0 && !lists) {
        return KD_FAIL(b->err, KD_E_CONFIG, "data.split: layout list takes its halves from lists; expected list");
    }
    KD_TRY(kd_dataset_archive(cfg, &b->ds->archive, b->err));
    if (lists) {
        KD_TRY(kd_split_lists_read(cfg, b->ds->archive, &b->lists, b->err));
    }
    KD_TRY(read_names(b, cfg->quarantine, &b->quarantine));
    KD_TRY(read_names(b, kd_unlabelled_share(cfg->unlabelled) > 0.0 ? "" : cfg->unlabelled, &b->unlabelled));
    KD_TRY(read_pack(b));
    KD_TRY(scan(b, lists));
    KD_TRY(lists ? split_lists(b) : split_files(b));
    KD_TRY(kd_dataset_name_split(cfg, b->lists.list, b->ds, b->err));
    KD_TRY(kd_dataset_name_classes(cfg, &b->lists.classes, b->most + 1, b->ds, b->err));
    if (lists) {
        const bool names = cfg->classes.n > 0 || b->ds->named, known = cfg->num_classes > 0 || names;
        KD_TRY(kd_split_lists_check(&b->lists, names ? (const char *const *)b->ds->classes : NULL,
                                    known ? b->ds->n_classes : 0, b->err));
    }
    for (int h = 0; h < KD_HALVES; h++) {
        KD_TRY(finish_half(b, (kd_half_id)h));
    }
    KD_TRY(kdi_dataset_forget_labels(cfg, &b->unlabelled, b->ds, b->err));
    return kdi_dataset_check(cfg, halves, b->ds, b->err);
}

kd_status kd_dataset_open(const kd_data_opts *cfg, unsigned need, unsigned halves, kd_dataset *out, kd_err *err)
{
    const kd_named_split *split = NULL;
    const kd_data_set *set = kd_data_set_of_split(cfg->split.by, &split);
    builder b = {.cfg = cfg, .set = set, .need = need, .ds = out, .most = -1, .err = err};
    *out = (kd_dataset){0};
    const kd_status st = build(&b, halves);
    kd_split_lists_free(&b.lists);
    kd_quarantine_free(&b.quarantine);
    kd_quarantine_free(&b.unlabelled);
    kd_pack_free(&b.pack);
    kd_free(b.video_dir);
    kd_scan_free(&b.files);
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
    kd_archive_close(ds->archive);
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
