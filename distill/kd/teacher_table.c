/* What the teacher left, proved to belong to a half and loaded in its order. */
#include "distill/kd/teacher_table.h"

#include "formats/base/merge.h"

#include <stdio.h>

static kd_status same_classes(const kd_dataset *ds, const kd_store *store, const kd_store_manifest *m, kd_err *err)
{
    if (m->n_classes != ds->n_classes) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: expected the %d classes of the data set, found %d: the teacher and this run need the same "
                       "data.split, data.num_classes and data.classes",
                       kd_store_path(store), ds->n_classes, m->n_classes);
    }
    for (int i = 0; i < ds->n_classes; i++) {
        if (strcmp(m->classes[i], ds->classes[i]) != 0) {
            return KD_FAIL(err, KD_E_DATA, "%s: class %d is '%s', in the data set it is '%s'", kd_store_path(store), i,
                           m->classes[i], ds->classes[i]);
        }
    }
    return KD_OK;
}

/* "S001C001P001R001A001, S001C001P001R001A002, ..." of the samples that are marked; kd_free. */
static char *first_ids(const kd_half *half, const uint8_t *marked)
{
    enum { MOST = 3 };
    char *text = kd_strdup("");
    int n = 0;
    for (size_t i = 0; i < half->n && n <= MOST && text != NULL; i++) {
        if (marked[i] != 0) {
            char *longer = kd_strf("%s%s%s", text, n > 0 ? ", " : "", n < MOST ? half->sample[i].id : "...");
            kd_free(text);
            text = longer;
            n++;
        }
    }
    return text;
}

/* Unmarks the samples that have a record, and compares their labels. */
static kd_status unmark(const kd_half *half, const kd_store *store, uint8_t *lacks, kd_err *err)
{
    for (size_t i = 0; i < half->n; i++) {
        const kd_data_sample *s = &half->sample[i];
        const int64_t record = kd_store_find(store, s->id);
        lacks[i] = lacks[i] != 0 && record < 0;
        const int label = record >= 0 ? kd_store_label(store, record) : KD_NO_LABEL;
        if (label != s->label && label != KD_NO_LABEL && s->label != KD_NO_LABEL) {
            return KD_FAIL(err, KD_E_DATA, "%s: %s has label %d, in the data set it has %d", kd_store_path(store),
                           s->id, label, s->label);
        }
    }
    return KD_OK;
}

/* n: stores, of which `store` is the first. */
static kd_status leave_lacking_out(kd_half *half, const kd_store *store, int n, const uint8_t *lacks, size_t count,
                                   kd_on_bad on_bad, kd_err *err)
{
    kd_status st = KD_OK;
    char more[32] = "";
    if (n > 1) {
        (void)snprintf(more, sizeof more, " and %d more", n - 1);
    }
    char *ids = first_ids(half, lacks);
    if (ids == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory to join %zu samples", half->n);
    }
    if (count == half->n) {
        st = KD_FAIL(err, KD_E_DATA, "%s%s: none of its %lld records is one of the %zu samples (%s)",
                     kd_store_path(store), more, (long long)kd_store_count(store), half->n, ids);
    } else if (on_bad == KD_BAD_FAIL) {
        st = KD_FAIL(err, KD_E_DATA,
                     "%s%s: no record for %zu of %zu samples: %s; dump them, or set data.on_bad_sample: skip to leave "
                     "them out",
                     kd_store_path(store), more, count, half->n, ids);
    } else {
        kd_log(KD_LOG_WARN, "%s%s: %zu of %zu samples left out, %s: %s", kd_store_path(store), more, count, half->n,
               kd_fate_text(KD_FATE_NO_TEACHER), ids);
        st = kd_half_leave_out(half, lacks, KD_FATE_NO_TEACHER, err);
    }
    kd_free(ids);
    return st;
}

static kd_status other_split(const char *path, const char *store, const char *data, kd_err *err)
{
    char expected[KD_SHOWN_PAIR], found[KD_SHOWN_PAIR];
    kd_show_pair(expected, found, data, store);
    return KD_FAIL(err, KD_E_DATA,
                   "%s: expected the split of the data set, '%s', found '%s': give this run the data.split that the "
                   "teacher was dumped with, or dump it with this one",
                   path, expected, found);
}

/* The store is one of this data set. */
static kd_status same_data(const kd_dataset *ds, const kd_store *store, kd_err *err)
{
    const kd_store_manifest *m = kd_store_get_manifest(store);
    KD_TRY(same_classes(ds, store, m, err));
    const bool unknown = m->parts[0] == '\0' && m->split[0] == '\0'; /* made elsewhere and of no data set */
    if (!unknown && strcmp(m->split, ds->split) != 0) {
        return other_split(kd_store_path(store), m->split, ds->split, err);
    }
    if (strcmp(m->data_set, ds->name) != 0) {
        kd_log(KD_LOG_WARN, "%s: made from data set '%s', joined to '%s' by ids and labels alone", kd_store_path(store),
               m->data_set, ds->name);
    }
    return KD_OK;
}

kd_status kd_teacher_join(const kd_dataset *ds, kd_half *half, kd_store *const *store, int n, kd_on_bad on_bad,
                          kd_err *err)
{
    size_t lacking = 0;
    uint8_t *lacks = kd_calloc(KD_MAX(half->n, 1), sizeof *lacks);
    if (lacks == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory to join %zu samples", half->n);
    }
    memset(lacks, 1, half->n);
    kd_status st = KD_OK;
    for (int s = 0; s < n && st == KD_OK; s++) {
        st = same_data(ds, store[s], err);
        st = st == KD_OK ? unmark(half, store[s], lacks, err) : st;
    }
    for (size_t i = 0; i < half->n; i++) {
        lacking += lacks[i];
    }
    if (st == KD_OK && lacking > 0) {
        st = leave_lacking_out(half, store[0], n, lacks, lacking, on_bad, err);
    }
    kd_free(lacks);
    return st;
}

static size_t argmax(const float *v, int n)
{
    size_t best = 0;
    for (int i = 1; i < n; i++) {
        if (v[i] > v[best]) {
            best = (size_t)i;
        }
    }
    return best;
}

/* The time that the views of a record show. */
static kd_status take_cuts(const kd_store *store, const kd_store_record *r, kd_store_cut *cut, kd_err *err)
{
    for (int v = 0; v < r->n_views; v++) {
        const kd_store_view *view = &r->views[v];
        if (view->n_frames < 1) {
            return KD_FAIL(err, KD_E_DATA, "%s: %s: expected the frames of view %d, found none", kd_store_path(store),
                           r->id, v);
        }
        cut[v] = (kd_store_cut){.first = view->frames[0], .last = view->frames[0], .flip = view->flip};
        for (int i = 1; i < view->n_frames; i++) {
            cut[v].first = KD_MIN(cut[v].first, view->frames[i]);
            cut[v].last = KD_MAX(cut[v].last, view->frames[i]);
        }
    }
    return KD_OK;
}

static kd_status load(const kd_half *half, const kd_store *store, int offset, kd_teacher_table *t, kd_err *err)
{
    const bool score = strcmp(kd_store_get_manifest(store)->merge, "score") == 0;
    kd_store_cursor *cursor = NULL;
    kd_status st;
    size_t right = 0, labelled = 0;
    const size_t k = (size_t)t->n_classes, views = (size_t)t->views;
    t->in_order = true;
    double *work = kd_alloc(2 * k * sizeof *work);
    if (work == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "no memory for the teacher's logits");
        goto done;
    }
    KD_GO(kd_store_cursor_new(store, &cursor, err));
    for (size_t i = 0; i < half->n; i++) {
        kd_store_record r;
        float *logits = t->logits + i * views * k;
        t->has[i] = kd_store_find(store, half->sample[i].id) >= 0;
        if (t->has[i] == 0) {
            t->lacking++;
            t->in_order = false;
            continue;
        }
        KD_GO(kd_store_read_id(cursor, half->sample[i].id, &r, err));
        if (views > 1 && (size_t)r.n_views != views) {
            st = KD_FAIL(err, KD_E_DATA, "%s: %s: expected %zu views, found %d", kd_store_path(store), r.id, views,
                         r.n_views);
            goto done;
        }
        for (size_t v = 0; v < views; v++) {
            kd_merge_logits(r.logits + v * k, views > 1 ? 1 : r.n_views, k, score, work, logits + v * k);
        }
        t->in_order = t->in_order && r.order == i;
        if (t->cut != NULL) {
            KD_GO(take_cuts(store, &r, t->cut + i * views, err));
        }
        if (t->feature != NULL) {
            memcpy(t->feature + i * (size_t)t->feature_dim, r.feature + offset,
                   (size_t)t->feature_dim * sizeof *t->feature);
        }
        if (half->sample[i].label != KD_NO_LABEL) {
            right += argmax(views > 1 ? r.prob : logits, t->n_classes) == (size_t)half->sample[i].label;
            labelled++;
        }
    }
    t->extra = (size_t)kd_store_count(store) - (half->n - t->lacking);
    t->top1 = (double)right / (double)KD_MAX(labelled, 1);
done:
    kd_free(work);
    kd_store_cursor_free(cursor);
    return st;
}

static kd_status room(kd_teacher_table *t, bool cuts, kd_err *err)
{
    size_t logits, features;
    if (kd_size_mul(t->n, (size_t)t->n_classes, &logits) && kd_size_mul(logits, (size_t)t->views, &logits) &&
        kd_size_mul(t->n, (size_t)t->feature_dim, &features)) {
        t->has = kd_calloc(KD_MAX(t->n, 1), sizeof *t->has);
        t->logits = kd_calloc(logits, sizeof *t->logits);
        if (features > 0) {
            t->feature = kd_calloc(features, sizeof *t->feature);
        }
        t->cut = cuts ? kd_calloc(KD_MAX(t->n, 1) * (size_t)t->views, sizeof *t->cut) : NULL;
        if (t->has != NULL && t->logits != NULL && (!cuts || t->cut != NULL) && (features == 0 || t->feature != NULL)) {
            return KD_OK;
        }
    }
    return KD_FAIL(err, KD_E_OOM, "no memory for the teacher's logits of %zu samples", t->n);
}

kd_status kd_teacher_table_load(const kd_half *half, const kd_store *store, const char *tap, bool cuts,
                                kd_teacher_table *out, kd_err *err)
{
    const kd_store_manifest *m = kd_store_get_manifest(store);
    kd_teacher_table t = {.n = half->n, .n_classes = m->n_classes, .views = 1};
    int offset = 0;
    if (m->replay_rows[0] != '\0' && sscanf(m->views, "train:%d", &t.views) != 1) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected views train:N, found %s", kd_store_path(store), m->views);
    }
    *out = (kd_teacher_table){0};
    if (tap != NULL) {
        KD_TRY(kd_store_find_tap(store, tap, &offset, &t.feature_dim, err));
    }
    kd_status st = room(&t, cuts && m->replay_rows[0] != '\0', err);
    if (st == KD_OK) {
        st = load(half, store, offset, &t, err);
    }
    if (st != KD_OK) {
        kd_teacher_table_free(&t);
        return st;
    }
    *out = t;
    return KD_OK;
}

void kd_teacher_table_free(kd_teacher_table *t)
{
    if (t == NULL) {
        return;
    }
    kd_free(t->has);
    kd_free(t->logits);
    kd_free(t->feature);
    kd_free(t->cut);
    *t = (kd_teacher_table){0};
}
