/* A teacher's report from its store.  See store_report.h. */
#include "distill/store/store_report.h"

#include "distill/kd/teacher_table.h"
#include "distill/report/report.h"

#include <math.h>

kd_status kd_store_top1(const kd_store *s, const kd_half *half, double *top1, kd_err *err)
{
    kd_store_cursor *cursor = NULL;
    const int classes = kd_store_get_manifest(s)->n_classes;
    size_t right = 0, seen = 0;
    kd_status st = kd_store_cursor_new(s, &cursor, err);
    for (size_t i = 0; i < half->n && st == KD_OK; i++) {
        const int64_t at = kd_store_find(s, half->sample[i].id);
        kd_store_record r;
        if (at < 0) {
            continue; /* it failed */
        }
        st = kd_store_read(cursor, at, &r, err);
        if (st == KD_OK) {
            int best = 0;
            for (int k = 1; k < classes; k++) {
                best = r.prob[k] > r.prob[best] ? k : best;
            }
            seen += r.label != KD_NO_LABEL;
            right += best == r.label;
        }
    }
    kd_store_cursor_free(cursor);
    *top1 = seen != 0 ? (double)right / (double)seen : NAN;
    return st;
}

/* ---- the halves of a store ------------------------------------------------------------------- */

/* All records, in their order, as one half; ids and classes belong to ds. */
static kd_status take_records(const kd_store *s, kd_dataset *ds, kd_half *half, kd_err *err)
{
    const kd_store_manifest *m = kd_store_get_manifest(s);
    const size_t n = (size_t)kd_store_count(s), classes = (size_t)m->n_classes;
    kd_store_cursor *cursor = NULL;
    half->sample = kd_calloc(KD_MAX(n, 1), sizeof *half->sample);
    ds->text = kd_calloc(KD_MAX(n, 1), sizeof *ds->text);
    ds->classes = kd_calloc(classes, sizeof *ds->classes);
    ds->name = kd_strdup(m->data_set);
    ds->split = kd_strdup(m->split);
    bool room =
        half->sample != NULL && ds->text != NULL && ds->classes != NULL && ds->name != NULL && ds->split != NULL;
    for (size_t k = 0; k < classes && room; k++) {
        ds->classes[k] = kd_strdup(m->classes[k]);
        ds->n_classes = (int)k + 1;
        room = ds->classes[k] != NULL;
    }
    kd_status st = kd_store_cursor_new(s, &cursor, err);
    for (size_t i = 0; i < n && st == KD_OK && room; i++) {
        kd_store_record r;
        st = kd_store_read(cursor, (int64_t)i, &r, err);
        if (st == KD_OK) {
            room = (ds->text[i] = kd_strdup(r.id)) != NULL;
            ds->n_text = i + 1;
            half->sample[i] = (kd_data_sample){.id = ds->text[i], .label = r.label};
            half->n = i + 1;
            half->counts.unlabelled += r.label == KD_NO_LABEL;
        }
    }
    kd_store_cursor_free(cursor);
    return st == KD_OK && !room ? KD_FAIL(err, KD_E_OOM, "%s: out of memory", kd_store_path(s)) : st;
}

/* The data set as far as the store knows it: the training records come first, each half is sorted by id, and the hash
 * of the wanted half's list proves that this is all of it. */
static kd_status data_of_store(const kd_store *s, kd_half_id wanted, kd_dataset *ds, kd_err *err)
{
    const kd_store_manifest *m = kd_store_get_manifest(s);
    const char *list = wanted == KD_HALF_TRAIN ? m->train_ids : m->val_ids;
    char hex[KD_SHA256_HEX];
    kd_half *half = &ds->half[wanted];
    KD_TRY(take_records(s, ds, half, err));
    if (strcmp(m->parts, "train,val") == 0) {
        size_t cut = 1;
        while (cut < half->n && strcmp(half->sample[cut - 1].id, half->sample[cut].id) < 0) {
            cut++;
        }
        const size_t first = wanted == KD_HALF_TRAIN ? 0 : cut, n = wanted == KD_HALF_TRAIN ? cut : half->n - cut;
        memmove(half->sample, half->sample + first, n * sizeof *half->sample);
        half->n = n;
    }
    KD_TRY(kd_half_list_digest(half, hex, err));
    if (strcmp(hex, list) != 0) {
        return KD_FAIL(
            err, KD_E_DATA,
            "%s: its records (%s) do not show by themselves which samples the %s half has: name the data set "
            "with --config or --data",
            kd_store_path(s), m->parts[0] != '\0' ? m->parts : "of no data set",
            wanted == KD_HALF_TRAIN ? "train" : "val");
    }
    return KD_OK;
}

/* ---- the report ------------------------------------------------------------------------------ */

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static kd_report describe(const kd_store *s, const kd_store_report_opts *o, const kd_dataset *ds,
                          const kd_teacher_table *t)
{
    const kd_store_manifest *m = kd_store_get_manifest(s);
    const kd_half *half = &ds->half[o->half];
    return (kd_report){.kind = "teacher",
                       .label = o->label != NULL ? o->label : m->teacher,
                       .command = o->command,
                       .dataset = ds->name,
                       .split = ds->split,
                       .half = o->half == KD_HALF_TRAIN ? "train" : "val",
                       .modality = m->decoder[0] != '\0' ? "rgb" : "unknown",
                       .views = m->views,
                       .merge = m->merge,
                       .class_names = (const char *const *)ds->classes,
                       .classes = ds->n_classes,
                       .root = o->data != NULL ? o->data->root : NULL,
                       .n_left = half->n_left,
                       .config_hash = or_null(m->config_hash),
                       .weights_hash = or_null(m->teacher_sha256),
                       .train_ids_hash = or_null(m->train_ids),
                       .val_ids_hash = or_null(m->val_ids),
                       .decoder = or_null(m->decoder),
                       .model = m->teacher,
                       .logits = t->logits,
                       .n = half->n,
                       .ece_bins = o->ece_bins};
}

static kd_status write_report(kd_report *rep, const kd_half *half, const kd_store_report_opts *o,
                              kd_store_report_result *result, kd_err *err)
{
    const char **ids = kd_calloc(half->n + 1, sizeof *ids);
    int32_t *label = kd_calloc(half->n + 1, sizeof *label);
    kd_report_left *left = kd_calloc(half->n_left + 1, sizeof *left);
    kd_status st = KD_OK;
    if (ids == NULL || label == NULL || left == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "report: out of memory");
        goto done;
    }
    for (size_t i = 0; i < half->n; i++) {
        ids[i] = half->sample[i].id;
        label[i] = half->sample[i].label;
    }
    for (size_t i = 0; i < half->n_left; i++) {
        const kd_left_out *l = &half->left[i];
        left[i] = (kd_report_left){l->id, kd_fate_text(l->why), kd_fate_is_failure(l->why)};
    }
    rep->ids = ids;
    rep->labels = label;
    rep->left = left;
    KD_GO(kd_report_write(rep, o->out, err));
    *result = (kd_store_report_result){.listed = (size_t)rep->listed,
                                       .done = half->n,
                                       .failed = (size_t)rep->failed,
                                       .excluded = (size_t)rep->excluded,
                                       .top1 = rep->metrics.top1,
                                       .top5 = rep->metrics.top5,
                                       .mean_class_accuracy = rep->metrics.mean_class_accuracy,
                                       .nll = rep->metrics.nll,
                                       .ece = rep->metrics.ece};
done:
    kd_metrics_free(&rep->metrics);
    kd_free(ids);
    kd_free(label);
    kd_free(left);
    return st;
}

kd_status kd_store_report(const kd_store *s, const kd_store_report_opts *o, kd_store_report_result *result, kd_err *err)
{
    kd_dataset ds = {.n_classes = 0};
    kd_teacher_table table = {.n = 0};
    kd_status st = KD_OK;
    kd_half *half = &ds.half[o->half];
    if (kd_store_get_manifest(s)->features_only) {
        return KD_FAIL(err, KD_E_DATA, "%s: it holds features alone: there is no answer to report", kd_store_path(s));
    }
    if (o->data != NULL) {
        KD_GO(kd_dataset_open(o->data, 0, 1u << o->half, &ds, err));
        kd_store *const one = (kd_store *)(uintptr_t)s;
        KD_GO(kd_teacher_join(&ds, half, &one, 1, o->data->on_bad_sample, err));
    } else {
        KD_GO(data_of_store(s, o->half, &ds, err));
    }
    KD_GO(kd_half_leave_unlabelled(half, err));
    KD_GO(kd_teacher_table_load(half, s, NULL, false, &table, err));
    kd_report rep = describe(s, o, &ds, &table);
    KD_GO(write_report(&rep, half, o, result, err));
done:
    kd_teacher_table_free(&table);
    kd_dataset_free(&ds);
    return st;
}
