/* What the teacher left, proved to belong to a half and loaded in its order. */
#include "distill/kd/teacher_table.h"

#include "formats/base/merge.h"

static kd_status same_classes(const kd_dataset *ds, const kd_store *store, const kd_store_manifest *m, kd_err *err)
{
    if (m->n_classes != ds->n_classes) {
        return KD_FAIL(err, KD_E_DATA, "%s: %d classes, the data set has %d", kd_store_path(store), m->n_classes,
                       ds->n_classes);
    }
    for (int i = 0; i < ds->n_classes; i++) {
        if (strcmp(m->classes[i], ds->classes[i]) != 0) {
            return KD_FAIL(err, KD_E_DATA, "%s: class %d is '%s', in the data set it is '%s'", kd_store_path(store), i,
                           m->classes[i], ds->classes[i]);
        }
    }
    return KD_OK;
}

/* Records of ids outside the half, per sample the record number (-1: none), labels agree. */
static kd_status join(const kd_half *half, const kd_store *store, bool allow_missing, int64_t *record,
                      kd_teacher_table *t, kd_err *err)
{
    const char *lacking = NULL;
    for (size_t i = 0; i < half->n; i++) {
        const kd_data_sample *s = &half->sample[i];
        record[i] = kd_store_find(store, s->id);
        if (record[i] < 0) {
            if (lacking == NULL) {
                lacking = s->id;
            }
            t->no_record++;
            continue;
        }
        t->joined++;
        const int label = kd_store_label(store, record[i]);
        if (label != s->label) {
            return KD_FAIL(err, KD_E_DATA, "%s: %s has label %d, in the data set it has %d", kd_store_path(store),
                           s->id, label, s->label);
        }
    }
    t->extra = (size_t)kd_store_count(store) - t->joined;
    if (t->joined == 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: none of its %lld records is one of the %zu samples", kd_store_path(store),
                       (long long)kd_store_count(store), half->n);
    }
    if (t->no_record > 0 && !allow_missing) {
        return KD_FAIL(err, KD_E_DATA, "%s: no record for %zu of %zu samples, the first is %s; dump the half whole",
                       kd_store_path(store), t->no_record, half->n, lacking);
    }
    return KD_OK;
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

static kd_status load(const kd_half *half, const kd_store *store, const int64_t *record, kd_teacher_table *t,
                      kd_err *err)
{
    const bool score = strcmp(kd_store_get_manifest(store)->merge, "score") == 0;
    kd_store_cursor *cursor = NULL;
    kd_status st;
    size_t right = 0;
    const size_t k = (size_t)t->n_classes;
    double *work = kd_alloc(2 * k * sizeof *work);
    if (work == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "no memory for the teacher's logits");
        goto done;
    }
    KD_GO(kd_store_cursor_new(store, &cursor, err));
    for (size_t i = 0; i < half->n; i++) {
        if (record[i] < 0) {
            continue;
        }
        kd_store_record r;
        float *logits = t->logits + i * k;
        KD_GO(kd_store_read(cursor, record[i], &r, err));
        kd_merge_logits(r.logits, r.n_views, k, score, work, logits);
        if (t->feature != NULL) {
            memcpy(t->feature + i * (size_t)t->feature_dim, r.feature, (size_t)t->feature_dim * sizeof *t->feature);
        }
        right += argmax(logits, t->n_classes) == (size_t)half->sample[i].label;
        t->has[i] = 1;
    }
    t->top1 = (double)right / (double)t->joined;
done:
    kd_free(work);
    kd_store_cursor_free(cursor);
    return st;
}

static kd_status room(kd_teacher_table *t, kd_err *err)
{
    size_t logits, features;
    if (kd_size_mul(t->n, (size_t)t->n_classes, &logits) && kd_size_mul(t->n, (size_t)t->feature_dim, &features)) {
        t->logits = kd_calloc(logits, sizeof *t->logits);
        t->has = kd_calloc(t->n, sizeof *t->has);
        if (features > 0) {
            t->feature = kd_calloc(features, sizeof *t->feature);
        }
        if (t->logits != NULL && t->has != NULL && (features == 0 || t->feature != NULL)) {
            return KD_OK;
        }
    }
    return KD_FAIL(err, KD_E_OOM, "no memory for the teacher's logits of %zu samples", t->n);
}

kd_status kd_teacher_table_load(const kd_dataset *ds, kd_half_id which, const kd_store *store, bool with_features,
                                bool allow_missing, kd_teacher_table *out, kd_err *err)
{
    const kd_half *half = &ds->half[which];
    const kd_store_manifest *m = kd_store_get_manifest(store);
    kd_teacher_table t = {.n = half->n, .n_classes = ds->n_classes};
    int64_t *record = NULL;
    kd_status st;
    *out = (kd_teacher_table){0};
    KD_TRY(same_classes(ds, store, m, err));
    if (m->split == NULL || strcmp(m->split, ds->split) != 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: of split '%s', the data set is split '%s'", kd_store_path(store),
                       m->split != NULL ? m->split : "", ds->split);
    }
    if (with_features && m->feature_dim == 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: holds no features; dump it with --features, or set kd.feature to none",
                       kd_store_path(store));
    }
    t.feature_dim = with_features ? m->feature_dim : 0;
    record = kd_calloc(KD_MAX(half->n, 1), sizeof *record);
    if (record == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory to join %zu samples", half->n);
    }
    KD_GO(join(half, store, allow_missing, record, &t, err));
    KD_GO(room(&t, err));
    KD_GO(load(half, store, record, &t, err));
    *out = t;
    t = (kd_teacher_table){0};
done:
    kd_free(record);
    kd_teacher_table_free(&t);
    return st;
}

void kd_teacher_table_free(kd_teacher_table *t)
{
    if (t == NULL) {
        return;
    }
    kd_free(t->logits);
    kd_free(t->feature);
    kd_free(t->has);
    *t = (kd_teacher_table){0};
}
