/* Writing report.json: see report.h. */
#include "distill/report/report.h"

#include "distill/report/report_internal.h"
#include "formats/base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

const char *kd_report_class(const kd_report *r, int label, char buf[24])
{
    if (r->class_names != NULL && label >= 0 && label < r->classes) {
        return r->class_names[label];
    }
    (void)snprintf(buf, 24, "class %d", label);
    return buf;
}

void kd_report_free(kd_report *r)
{
    kd_metrics_free(&r->metrics);
    kd_json_free(r->doc);
    kd_free(r->path);
    for (size_t i = 0; i < KD_COUNTOF(r->owned); i++) {
        kd_free(r->owned[i]);
    }
    memset(r, 0, sizeof *r);
}

/* ---- identity of the evaluated set ----------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
    return strcmp(**(const char *const *const *)a, **(const char *const *const *)b);
}

kd_status kd_report_order(const kd_report *r, size_t **out, kd_err *err)
{
    const char *const **at = kd_calloc(r->n, sizeof *at);
    size_t *order = kd_calloc(r->n, sizeof *order);
    kd_status st = KD_OK;
    if (at == NULL || order == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "report: out of memory");
        goto done;
    }
    for (size_t i = 0; i < r->n; i++) {
        at[i] = &r->ids[i];
    }
    qsort((void *)at, r->n, sizeof *at, compare_ids);
    for (size_t i = 0; i < r->n; i++) {
        order[i] = (size_t)(at[i] - r->ids);
        if (i > 0 && strcmp(*at[i], *at[i - 1]) == 0) {
            st = KD_FAIL(err, KD_E_DATA, "report: sample %s occurs twice", *at[i]);
            goto done;
        }
    }
done:
    kd_free((void *)at);
    if (st != KD_OK) {
        kd_free(order);
        order = NULL;
    }
    *out = order;
    return st;
}

kd_status kd_report_join(const kd_report *a, const size_t *order, const kd_report *b, size_t *at, size_t *found,
                         kd_err *err)
{
    size_t *own = NULL, j = 0;
    *found = 0;
    KD_TRY(kd_report_order(b, &own, err));
    for (size_t i = 0; i < a->n; i++) {
        int side = -1;
        while (j < b->n && (side = strcmp(a->ids[order[i]], b->ids[own[j]])) > 0) {
            j++;
        }
        const bool there = j < b->n && side == 0;
        at[order[i]] = there ? own[j] : SIZE_MAX;
        *found += there;
    }
    kd_free(own);
    return KD_OK;
}

kd_status kdi_report_hash_ids(kd_report *r, kd_err *err)
{
    size_t *order = NULL;
    size_t bytes = 0, used = 0;
    KD_TRY(kd_report_order(r, &order, err));
    for (size_t i = 0; i < r->n; i++) {
        bytes += strlen(r->ids[i]) + 13; /* blank, up to eleven characters, newline */
    }
    char *text = kd_alloc(bytes + 1);
    for (size_t i = 0; i < r->n && text != NULL; i++) {
        used += (size_t)snprintf(text + used, bytes + 1 - used, "%s %d\n", r->ids[order[i]], (int)r->labels[order[i]]);
    }
    const kd_status st =
        text != NULL ? kd_sha256(text, used, r->ids_hash, err) : KD_FAIL(err, KD_E_OOM, "report: out of memory");
    kd_free(order);
    kd_free(text);
    return st;
}

kd_status kdi_report_measure(kd_report *r, kd_err *err)
{
    const kd_scores s = {r->logits, r->labels, r->n, r->classes};
    return kd_metrics_compute(&s, 1.0, r->ece_bins > 0 ? r->ece_bins : KD_ECE_BINS, &r->metrics, err);
}

/* ---- sections -------------------------------------------------------------------------------- */

static void put_protocol(kd_json *d, const kd_report *r)
{
    kd_json *p = kd_json_set_object(d, "protocol");
    kd_json_set_str(p, "dataset", r->dataset);
    kd_json_set_str(p, "split", r->split);
    kd_json_set_str(p, "half", r->half);
    kd_json_set_str(p, "modality", r->modality);
    if (r->layout != NULL) {
        kd_json_set_str(p, "layout", r->layout);
    }
    kd_json_set_str(p, "views", r->views);
    kd_json_set_str(p, "merge", r->merge);
    kd_json *names = kd_json_set_array(p, "classes");
    for (int c = 0; c < r->classes; c++) {
        char buf[24];
        kd_json_push_str(names, kd_report_class(r, c, buf));
    }
    kd_json_set_i64(p, "samples", (int64_t)r->n);
}

/* "failed", "failed_ids", "failed_why", or the same of "excluded". */
static void put_left(kd_json *p, const kd_report *r, bool failed)
{
    kd_json_set_i64(p, failed ? "failed" : "excluded", failed ? r->failed : r->excluded);
    kd_json *ids = kd_json_set_array(p, failed ? "failed_ids" : "excluded_ids");
    kd_json *why = kd_json_set_array(p, failed ? "failed_why" : "excluded_why");
    for (size_t i = 0; i < r->n_left; i++) {
        if (r->left[i].failed == failed) {
            kd_json_push_str(ids, r->left[i].id);
            kd_json_push_str(why, r->left[i].why);
        }
    }
}

static void put_data(kd_json *d, const kd_report *r)
{
    kd_json *p = kd_json_set_object(d, "data");
    kd_json_set_str(p, "root", r->root);
    kd_json_set_i64(p, "listed", r->listed);
    kd_json_set_i64(p, "done", (int64_t)r->n);
    put_left(p, r, true);
    put_left(p, r, false);
    kd_json *h = kd_json_set_object(d, "hashes");
    kd_json_set_str(h, "ids", r->ids_hash);
    kd_json_set_str(h, "config", r->config_hash);
    kd_json_set_str(h, "weights", r->weights_hash);
    kd_json_set_str(h, "start_weights", r->start_weights_hash);
    kd_json_set_str(h, "train_ids", r->train_ids_hash);
    kd_json_set_str(h, "val_ids", r->val_ids_hash);
    kd_json_set_str(h, "teacher_weights", r->teacher_weights_hash);
    kd_json_set_str(h, "store", r->store_hash);
    kd_json_set_str(h, "decoder", r->decoder);
}

static void put_model(kd_json *d, const kd_report *r)
{
    kd_json *m = kd_json_set_object(d, "model");
    kd_json_set_str(m, "name", r->model);
    if (r->phase != NULL) {
        kd_json_set_str(m, "phase", r->phase);
    }
    kd_json_set_str(m, "selected_on", r->selected_on);
    if (r->taught_by != NULL) {
        kd_json_set_str(m, "taught_by", r->taught_by);
    }
    if (r->unlabelled > 0) {
        kd_json_set_i64(m, "unlabelled", r->unlabelled);
    }
    if (r->pseudo > 0) {
        kd_json_set_i64(m, "pseudo_labelled", r->pseudo);
    }
    kd_json_set_i64(m, "parameters", r->parameters);
    kd_json_set_i64(m, "macs", r->macs);
    kd_json_set_i64(m, "bytes", r->bytes);
    kd_json *l = kd_json_set_object(m, "latency");
    kd_json_set_f64(l, "ms", r->latency_ms);
    kd_json_set_f64(l, "p90_ms", r->latency_p90_ms);
    kd_json_set_i64(l, "batch", r->latency_batch);
    kd_json_set_str(l, "device", r->device);
    kd_json_set_i64(l, "threads", r->threads);
    kd_json_set_str(l, "dtype", r->dtype);
    if (r->int8_layers > 0) {
        kd_json *q = kd_json_set_object(m, "int8");
        kd_json_set_i64(q, "layers", r->int8_layers);
        kd_json_set_i64(q, "calibrated", r->int8_calibrated);
        kd_json_set_f64(q, "top1_f32", r->int8_top1_f32);
        kd_json_set_f64(q, "same_top1", r->int8_same_top1);
        kd_json_set_f64(q, "largest_difference", r->int8_largest_difference);
    }
    kd_json_set_str(d, "config", r->config);
}

static void put_metrics(kd_json *d, const kd_report *r)
{
    const kd_metrics *m = &r->metrics;
    kd_json *o = kd_json_set_object(d, "metrics");
    kd_json_set_f64(o, "top1", m->top1);
    kd_json_set_f64(o, "top5", m->top5);
    kd_json_set_f64(o, "mean_class_accuracy", m->mean_class_accuracy);
    kd_json_set_f64(o, "macro_f1", m->macro_f1);
    kd_json_set_f64(o, "micro_f1", m->micro_f1);
    kd_json_set_f64(o, "nll", m->nll);
    kd_json_set_f64(o, "ece", m->ece);
    kd_json_set_f64(o, "brier", m->brier);
    kd_json *table = kd_json_set_array(d, "per_class");
    for (int c = 0; c < r->classes; c++) {
        const kd_class_metrics *k = &m->per_class[c];
        char buf[24];
        kd_json *row = kd_json_push_object(table);
        kd_json_set_i64(row, "class", c);
        kd_json_set_str(row, "name", kd_report_class(r, c, buf));
        kd_json_set_i64(row, "samples", k->support);
        kd_json_set_i64(row, "predicted", k->predicted);
        kd_json_set_i64(row, "correct", k->correct);
        kd_json_set_f64(row, "recall", k->recall);
        kd_json_set_f64(row, "precision", k->precision);
        kd_json_set_f64(row, "f1", k->f1);
    }
}

/* "per_person" and the like. */
static kd_status put_factors(kd_json *d, const kd_report *r, kd_err *err)
{
    kd_factor factor[KD_FACTOR_COUNT] = {{0}};
    int64_t *correct = kd_calloc(r->n, sizeof *correct);
    kd_status st = correct != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "report: out of memory");
    KD_GO(st);
    KD_GO(kd_factors_of(r->ids, r->n, factor, err));
    for (int f = 0; f < KD_FACTOR_COUNT; f++) {
        const kd_factor *x = &factor[f];
        char key[32];
        (void)snprintf(key, sizeof key, "per_%s", kd_factor_key((kd_factor_id)f));
        kd_json *table = x->n > 0 ? kd_json_set_array(d, key) : NULL;
        memset(correct, 0, r->n * sizeof *correct);
        for (size_t i = 0; i < r->n && x->n > 0; i++) {
            correct[x->of[i]] += r->metrics.prediction[i] == r->labels[i];
        }
        for (size_t k = 0; k < x->n; k++) {
            kd_json *row = kd_json_push_object(table);
            kd_json_set_str(row, "name", x->name[k]);
            kd_json_set_i64(row, "samples", (int64_t)x->support[k]);
            kd_json_set_i64(row, "correct", correct[k]);
            kd_json_set_f64(row, "accuracy", (double)correct[k] / (double)x->support[k]);
        }
    }
done:
    kd_factors_free(factor);
    kd_free(correct);
    return st;
}

/* Logits that were divided by a temperature: by which, and what they were worth before. */
static kd_status put_temperature(kd_json *calibration, const kd_report *r, kd_err *err)
{
    const kd_scores s = {r->logits, r->labels, r->n, r->classes};
    kd_metrics raw;
    if (r->temperature <= 0.0 || r->temperature == 1.0) {
        return KD_OK;
    }
    KD_TRY(kd_metrics_compute(&s, 1.0 / r->temperature, r->metrics.bins, &raw, err));
    kd_json_set_f64(calibration, "temperature", r->temperature);
    kd_json *o = kd_json_set_object(calibration, "uncalibrated");
    kd_json_set_f64(o, "nll", raw.nll);
    kd_json_set_f64(o, "ece", raw.ece);
    kd_metrics_free(&raw);
    return KD_OK;
}

static kd_status put_tables(kd_json *d, const kd_report *r, kd_err *err)
{
    const kd_metrics *m = &r->metrics;
    kd_json *matrix = kd_json_set_array(d, "confusion");
    for (int c = 0; c < r->classes; c++) {
        kd_json *row = kd_json_push_array(matrix);
        for (int k = 0; k < r->classes; k++) {
            kd_json_push_i64(row, m->confusion[(size_t)c * (size_t)r->classes + (size_t)k]);
        }
    }
    kd_json *calibration = kd_json_set_object(d, "calibration");
    kd_json *bins = kd_json_set_array(calibration, "bins");
    for (int b = 0; b < m->bins; b++) {
        kd_json *row = kd_json_push_object(bins);
        kd_json_set_i64(row, "count", m->bin[b].count);
        kd_json_set_f64(row, "confidence", m->bin[b].confidence);
        kd_json_set_f64(row, "accuracy", m->bin[b].accuracy);
    }
    return put_temperature(calibration, r, err);
}

/* The double with the fewest digits that still reads back as the same float: half the file size. */
static double shortest(float v)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.9g", (double)v);
    return strtod(text, NULL);
}

static void put_predictions(kd_json *d, const kd_report *r)
{
    kd_json *p = kd_json_set_object(d, "predictions");
    kd_json *ids = kd_json_set_array(p, "ids");
    kd_json *labels = kd_json_set_array(p, "labels");
    kd_json *logits = kd_json_set_array(p, "logits");
    for (size_t i = 0; i < r->n; i++) {
        kd_json_push_str(ids, r->ids[i]);
        kd_json_push_i64(labels, r->labels[i]);
        kd_json *row = kd_json_push_array(logits);
        for (int c = 0; c < r->classes; c++) {
            kd_json_push_f64(row, shortest(r->logits[i * (size_t)r->classes + (size_t)c]));
        }
    }
}

/* ---- the file -------------------------------------------------------------------------------- */

static kd_status check_members(const kd_report *r, kd_err *err)
{
    const struct {
        const char *name, *value;
    } needed[] = {
        {"kind", r->kind}, {"label", r->label}, {"dataset", r->dataset},   {"split", r->split},
        {"half", r->half}, {"model", r->model}, {"modality", r->modality}, {"views", r->views},
    };
    for (size_t i = 0; i < KD_COUNTOF(needed); i++) {
        if (needed[i].value == NULL || needed[i].value[0] == '\0') {
            return KD_FAIL(err, KD_E_ARG, "report: `%s` is missing", needed[i].name);
        }
    }
    if (r->n == 0 || r->classes < 1 || r->ids == NULL || r->labels == NULL || r->logits == NULL) {
        return KD_FAIL(err, KD_E_ARG, "report: no predictions");
    }
    return KD_OK;
}

static void now_utc(char out[32])
{
    const time_t t = time(NULL);
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        out[0] = '\0';
    }
}

kd_status kd_report_write(kd_report *r, const char *path, kd_err *err)
{
    KD_TRY(check_members(r, err));
    KD_TRY(kdi_report_hash_ids(r, err));
    kd_metrics_free(&r->metrics);
    if (r->measured == NULL) {
        KD_TRY(kdi_report_measure(r, err));
    } else {
        r->metrics = *r->measured;
    }
    r->failed = r->excluded = 0;
    for (size_t i = 0; i < r->n_left; i++) {
        r->failed += r->left[i].failed;
        r->excluded += !r->left[i].failed;
    }
    r->listed = (int64_t)(r->n + r->n_left);
    char now[32];
    now_utc(now);
    kd_json *d = kd_json_object();
    kd_json_set_str(d, "format", REPORT_FORMAT);
    kd_json_set_i64(d, "version", KD_REPORT_VERSION);
    kd_json_set_str(d, "kind", r->kind);
    kd_json_set_str(d, "label", r->label);
    kd_json_set_i64(d, "seed", r->seed);
    kd_json_set_str(d, "created", r->created != NULL ? r->created : now);
    kd_json_set_str(d, "tool", r->tool != NULL ? r->tool : kd_version());
    kd_json_set_str(d, "command", r->command);
    put_protocol(d, r);
    put_data(d, r);
    put_model(d, r);
    put_metrics(d, r);
    kd_status st = put_factors(d, r, err);
    st = st == KD_OK ? put_tables(d, r, err) : st;
    put_predictions(d, r);
    st = st == KD_OK ? kd_json_write(d, path, err) : st;
    kd_json_free(d);
    if (r->measured != NULL) {
        r->metrics = (kd_metrics){.n = 0}; /* lent */
    }
    return st;
}
