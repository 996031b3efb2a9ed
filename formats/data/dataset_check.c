/* Is a data set sound?  Ids, labels, absent files, empty halves and classes. */
#include "formats/base/io.h"
#include "formats/data/dataset_internal.h"

#include <stdlib.h>

#define IDS_SHOWN 3

static const char *const HALF[KD_HALVES] = {"training", "validation"};

static kd_status no_memory(const kd_data_opts *cfg, kd_err *err)
{
    return KD_FAIL(err, KD_E_OOM, "%s: no memory to check its samples", cfg->root);
}

/* ---- skeleton archives ----------------------------------------------------------------------- */

kd_archive_opts kd_dataset_archive_opts(const kd_data_opts *cfg)
{
    kd_archive_opts o = {
        .scale = cfg->skeleton_scale, .score_scale = cfg->skeleton_score_scale, .missing = cfg->skeleton_missing};
    for (int i = 0; i < cfg->skeleton_channels.n && i < KD_ARCHIVE_CHANNELS; i++) {
        o.channel[i] = cfg->skeleton_channels.v[i];
        o.channels = true;
    }
    return o;
}

/* Half of an id under the split of cfg, for archives that list their names in another order. */
static int side_of(const void *user, const char *id)
{
    const kd_data_opts *cfg = user;
    kd_sample_id name;
    const bool named = kd_data_set_of_name(id, strlen(id), &name) != NULL;
    const kd_split_side side = named ? kd_split_side_of(&cfg->split, id, &name) : KD_SIDE_NONE;
    return side == KD_SIDE_NONE ? -1 : side == KD_SIDE_TRAIN ? 0 : 1;
}

kd_status kd_dataset_archive(const kd_data_opts *cfg, kd_archive **out, kd_err *err)
{
    const bool given = cfg->skeleton_file[0] != '\0', found = !given && kd_archive_is(cfg->root);
    kd_archive_opts o = kd_dataset_archive_opts(cfg);
    *out = NULL;
    if (!given && !found && kd_path_is_file(cfg->root)) {
        return kd_archive_open(cfg->root, NULL, out, err); /* says what the file is */
    }
    const char *idle = cfg->names[0] != '\0'                                                  ? "names"
                       : cfg->skeleton_scale != 0.0 && cfg->skeleton_scale != 1.0             ? "skeleton_scale"
                       : cfg->skeleton_score_scale != 0.0 && cfg->skeleton_score_scale != 1.0 ? "skeleton_score_scale"
                       : cfg->skeleton_missing != 0.0                                         ? "skeleton_missing"
                       : cfg->skeleton_channels.n > 0                                         ? "skeleton_channels"
                                                                                              : NULL;
    if (!given && !found) {
        return idle == NULL
                   ? KD_OK
                   : KD_FAIL(err, KD_E_CONFIG, "data.%s: only with data.skeleton_file, found none; remove it", idle);
    }
    /* as they stand, then below the root: as lists are */
    const bool here = !given || kd_path_exists(cfg->skeleton_file);
    const bool names_here = cfg->names[0] != '\0' && kd_path_exists(cfg->names);
    char *path = !given ? kd_strdup(cfg->root)
                 : here ? kd_strdup(cfg->skeleton_file)
                        : kd_path_join(cfg->root, cfg->skeleton_file);
    char *names = names_here ? kd_strdup(cfg->names) : kd_path_join(cfg->root, cfg->names);
    kd_status st = path != NULL && names != NULL ? KD_OK : no_memory(cfg, err);
    o.names = cfg->names[0] != '\0' ? names : NULL;
    o.side = strcmp(cfg->split.by, KD_SPLIT_LIST) != 0 ? side_of : NULL;
    o.user = cfg;
    st = st == KD_OK ? kd_archive_open(path, &o, out, err) : st;
    kd_free(path);
    kd_free(names);
    if (st == KD_OK) {
        kd_log(KD_LOG_INFO, "skeletons: %s, %zu samples of a %s%s", (*out)->path, (*out)->n, (*out)->form,
               (*out)->numbered ? "; it names none, so a store is joined by row numbers alone (data.names gives ids)"
                                : "");
    }
    return st;
}

kd_status kdi_dataset_row_label(const kd_archive *a, size_t row, const char *key, int label, kd_err *err)
{
    const int64_t own = a->row[row].label;
    return own < 0 || label == KD_NO_LABEL || own == label
               ? KD_OK
               : KD_FAIL(err, KD_E_DATA, "%s: expected label %lld, as %s has, found %d", key, (long long)own, a->path,
                         label);
}

/* ---- ids ------------------------------------------------------------------------------------- */

int kdi_by_left_id(const void *a, const void *b)
{
    return strcmp(((const kd_left_out *)a)->id, ((const kd_left_out *)b)->id);
}

static bool left_has(const kd_half *half, const char *id)
{
    const kd_left_out key = {.id = id};
    return half->n_left > 0 && bsearch(&key, half->left, half->n_left, sizeof key, kdi_by_left_id) != NULL;
}

/* Ids of all that is listed, on either side, kept or left out: each once. */
static kd_status disjoint(const kd_dataset *ds, kd_err *err)
{
    const kd_half *t = &ds->half[KD_HALF_TRAIN], *v = &ds->half[KD_HALF_VAL];
    for (size_t i = 0; i < v->n + v->n_left; i++) {
        const char *id = i < v->n ? v->sample[i].id : v->left[i - v->n].id;
        if (kd_half_find(t, id) >= 0 || left_has(t, id)) {
            return KD_FAIL(err, KD_E_DATA, "%s: in the training and in the validation half", id);
        }
    }
    for (int h = 0; h < KD_HALVES; h++) {
        const kd_half *half = &ds->half[h];
        for (size_t i = 1; i < half->n; i++) {
            if (strcmp(half->sample[i - 1].id, half->sample[i].id) == 0) {
                return KD_FAIL(err, KD_E_DATA, "%s: there twice", half->sample[i].id);
            }
        }
    }
    return KD_OK;
}

/* ---- absent files ---------------------------------------------------------------------------- */

/* A file of a sample that the run would have used: one beyond a limit that is reached is not asked for. */
static bool is_absent(const kd_data_opts *cfg, const kd_half *half, const kd_left_out *l)
{
    const bool limit = cfg->limit > 0 && half->n == (size_t)cfg->limit;
    return (l->why == KD_FATE_NO_VIDEO || l->why == KD_FATE_NO_SKELETON) &&
           !(limit && strcmp(l->id, half->sample[half->n - 1].id) > 0);
}

/* "id (path), id (path), id (path) and 4 more"; NULL: out of memory. */
static char *absent_text(const kd_data_opts *cfg, const kd_half *half, size_t n)
{
    char *text = kd_strdup("");
    size_t shown = 0;
    for (size_t i = 0; i < half->n_left && shown < IDS_SHOWN && text != NULL; i++) {
        const kd_left_out *l = &half->left[i];
        if (is_absent(cfg, half, l)) {
            char *longer = kd_strf("%s%s%s (tried %s)", text, shown > 0 ? ", " : "", l->id, l->file);
            kd_free(text);
            text = longer;
            shown++;
        }
    }
    if (text != NULL && n > shown) {
        char *longer = kd_strf("%s and %zu more", text, n - shown);
        kd_free(text);
        text = longer;
    }
    return text;
}

static kd_status present(const kd_data_opts *cfg, const kd_dataset *ds, kd_half_id which, kd_err *err)
{
    const kd_half *half = &ds->half[which];
    size_t n[KD_FATES] = {0}, all = 0;
    for (size_t i = 0; i < half->n_left; i++) {
        const bool absent = is_absent(cfg, half, &half->left[i]);
        n[half->left[i].why] += absent;
        all += absent;
    }
    if (all == 0) {
        return KD_OK;
    }
    char *fates = kd_fates_text(n);
    char *first = absent_text(cfg, half, all);
    kd_status st = KD_OK;
    if (fates == NULL || first == NULL) {
        st = no_memory(cfg, err);
    } else if (cfg->on_bad_sample == KD_BAD_FAIL && strcmp(cfg->split.by, KD_SPLIT_LIST) == 0) {
        st = KD_FAIL(err, KD_E_DATA,
                     "%s: %s half: of %zu listed samples: %s (data.on_bad_sample: skip leaves them out): %s", cfg->root,
                     HALF[which], half->counts.listed, fates, first);
    } else {
        kd_log(KD_LOG_WARN, "%s half: left out of %zu listed samples: %s: %s", HALF[which], half->counts.listed, fates,
               first);
    }
    kd_free(fates);
    kd_free(first);
    return st;
}

static kd_status not_empty(const kd_data_opts *cfg, const kd_dataset *ds, kd_half_id which, kd_err *err)
{
    const kd_half *half = &ds->half[which];
    if (half->n > 0) {
        return KD_OK;
    }
    char *left = kd_fates_text(half->counts.left);
    if (left == NULL) {
        return no_memory(cfg, err);
    }
    const char *file = half->n_left > 0 ? half->left[0].file : NULL;
    char split[160];
    const kd_status st =
        KD_FAIL(err, KD_E_DATA, "%s: the %s half is empty (split %s: %zu listed; left out: %s%s%s; %zu found outside)",
                cfg->root, HALF[which], kd_show_lists(split, sizeof split, ds->split), half->counts.listed, left,
                file != NULL ? ", tried " : "", file != NULL ? file : "", ds->unplaced);
    kd_free(left);
    return st;
}

/* ---- labels ---------------------------------------------------------------------------------- */

static kd_status labels(const kd_data_opts *cfg, const kd_dataset *ds, kd_err *err)
{
    const bool may_lack = cfg->unlabelled[0] != '\0' || strcmp(cfg->split.by, KD_SPLIT_LIST) == 0;
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < ds->half[h].n; i++) {
            const kd_data_sample *s = &ds->half[h].sample[i];
            if (s->label == KD_NO_LABEL && may_lack && h == KD_HALF_TRAIN) {
                continue;
            }
            if (s->label < 0 || s->label >= ds->n_classes) {
                return KD_FAIL(err, KD_E_DATA,
                               "%s: label %d, but the %d classes are 0 to %d; see data.num_classes and data.classes",
                               s->id, s->label, ds->n_classes, ds->n_classes - 1);
            }
        }
    }
    return KD_OK;
}

static void count_labels(const kd_half *half, int n_classes, size_t *n)
{
    for (size_t i = 0; i < half->n; i++) {
        if (half->sample[i].label != KD_NO_LABEL) {
            n[half->sample[i].label]++;
        }
    }
    for (size_t i = 0; i < half->n_left; i++) { /* a short trial is no sign of a wrong list */
        const kd_left_out *l = &half->left[i];
        if (l->why == KD_FATE_OVER_LIMIT && l->label >= 0 && l->label < n_classes) {
            n[l->label]++;
        }
    }
}

/* Classes that no training sample has are legal, and said. */
static kd_status empty_classes(const kd_data_opts *cfg, const kd_dataset *ds, kd_err *err)
{
    const size_t k = (size_t)ds->n_classes;
    size_t *n = kd_calloc(2 * k, sizeof *n), empty = 0, tested = 0, first = 0;
    if (n == NULL) {
        return no_memory(cfg, err);
    }
    count_labels(&ds->half[KD_HALF_TRAIN], ds->n_classes, n);
    count_labels(&ds->half[KD_HALF_VAL], ds->n_classes, n + k);
    for (size_t i = 0; i < k; i++) {
        first = n[i] == 0 && empty == 0 ? i : first;
        empty += n[i] == 0;
        tested += n[i] == 0 && n[k + i] > 0;
    }
    if (empty > 0) {
        kd_log(KD_LOG_WARN,
               "%zu of %zu classes have no training sample%s (the first: %zu, %s); %zu of them have validation "
               "samples",
               empty, k, ds->half[KD_HALF_TRAIN].counts.unlabelled > 0 ? " with a label" : "", first,
               ds->classes[first], tested);
    }
    kd_free(n);
    return KD_OK;
}

kd_status kdi_dataset_check(const kd_data_opts *cfg, unsigned halves, const kd_dataset *ds, kd_err *err)
{
    for (int h = 0; h < KD_HALVES; h++) {
        if ((halves >> h & 1) != 0) {
            KD_TRY(present(cfg, ds, (kd_half_id)h, err));
            KD_TRY(not_empty(cfg, ds, (kd_half_id)h, err));
        }
    }
    KD_TRY(disjoint(ds, err));
    KD_TRY(labels(cfg, ds, err));
    return (halves >> KD_HALF_TRAIN & 1) != 0 ? empty_classes(cfg, ds, err) : KD_OK;
}
