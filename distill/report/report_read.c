/* Reading report.json: see report.h. */
#include "distill/report/report_internal.h"

#include <math.h>

/* Strings that may be null or absent. */
static kd_status optional(const kd_json *o, const char *key, const char **out, kd_err *err)
{
    *out = NULL;
    const kd_json *v = kd_json_get(o, key);
    if (v == NULL || kd_json_type_of(v) == KD_JSON_NULL) {
        return KD_OK;
    }
    return kd_json_get_str(o, key, out, err);
}

static kd_status strings(const kd_json *o, const char *key, const char ***out, size_t *n, void **owner, kd_err *err)
{
    const kd_json *a = NULL;
    KD_TRY(kd_json_get_array(o, key, &a, err));
    *n = kd_json_count(a);
    *out = kd_calloc(KD_MAX(*n, (size_t)1), sizeof **out);
    *owner = (void *)*out;
    if (*out == NULL) {
        return KD_FAIL(err, KD_E_OOM, "report: out of memory");
    }
    for (size_t i = 0; i < *n; i++) {
        KD_TRY(kd_json_as_str(kd_json_at(a, i), &(*out)[i], err));
    }
    return KD_OK;
}

static kd_status read_head(kd_report *r, kd_err *err)
{
    const char *format = NULL;
    int64_t version = 0;
    KD_TRY(kd_json_opt_str(r->doc, "format", "", &format, err));
    if (strcmp(format, REPORT_FORMAT) != 0) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: not a report (no `format: \"%s\"`)", r->path, REPORT_FORMAT);
    }
    KD_TRY(kd_json_get_range(r->doc, "version", 1, INT32_MAX, &version, err));
    if (version > KD_REPORT_VERSION) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "%s: report version %lld: this program reads up to %d; take a newer one",
                       r->path, (long long)version, KD_REPORT_VERSION);
    }
    KD_TRY(kd_json_get_str(r->doc, "kind", &r->kind, err));
    KD_TRY(kd_json_get_str(r->doc, "label", &r->label, err));
    KD_TRY(kd_json_opt_i64(r->doc, "seed", 0, &r->seed, err));
    KD_TRY(optional(r->doc, "created", &r->created, err));
    KD_TRY(optional(r->doc, "tool", &r->tool, err));
    KD_TRY(optional(r->doc, "command", &r->command, err));
    return optional(r->doc, "config", &r->config, err);
}

static kd_status read_protocol(kd_report *r, kd_err *err)
{
    const kd_json *p = NULL;
    const char **names = NULL;
    size_t n = 0;
    KD_TRY(kd_json_get_object(r->doc, "protocol", &p, err));
    KD_TRY(kd_json_get_str(p, "dataset", &r->dataset, err));
    KD_TRY(kd_json_get_str(p, "split", &r->split, err));
    KD_TRY(kd_json_get_str(p, "half", &r->half, err));
    KD_TRY(kd_json_get_str(p, "modality", &r->modality, err));
    KD_TRY(kd_json_get_str(p, "views", &r->views, err));
    KD_TRY(optional(p, "layout", &r->layout, err));
    KD_TRY(optional(p, "merge", &r->merge, err));
    KD_TRY(strings(p, "classes", &names, &n, &r->owned[0], err));
    if (n < 1 || n > 1000000) {
        return KD_FAIL(err, KD_E_DATA, "%s: protocol.classes: %zu names", r->path, n);
    }
    r->class_names = names;
    r->classes = (int)n;
    return KD_OK;
}

/* Pairs of ids and reasons, appended to r->left. */
static kd_status read_pairs(const kd_json *p, bool failed, kd_report_left *left, size_t *at, kd_err *err)
{
    const kd_json *ids = NULL, *why = NULL;
    KD_TRY(kd_json_get_array(p, failed ? "failed_ids" : "excluded_ids", &ids, err));
    KD_TRY(kd_json_get_array(p, failed ? "failed_why" : "excluded_why", &why, err));
    for (size_t i = 0; i < kd_json_count(ids); i++) {
        kd_report_left *l = &left[(*at)++];
        l->failed = failed;
        KD_TRY(kd_json_as_str(kd_json_at(ids, i), &l->id, err));
        KD_TRY(kd_json_as_str(kd_json_at(why, i), &l->why, err));
    }
    return KD_OK;
}

/* The account of the half: every listed sample is done, failed or excluded, and named. */
static kd_status read_left(kd_report *r, const kd_json *p, kd_err *err)
{
    int64_t done = 0;
    KD_TRY(kd_json_get_i64(p, "listed", &r->listed, err));
    KD_TRY(kd_json_get_i64(p, "done", &done, err));
    KD_TRY(kd_json_get_i64(p, "failed", &r->failed, err));
    KD_TRY(kd_json_get_i64(p, "excluded", &r->excluded, err));
    const size_t n_failed = kd_json_count(kd_json_get(p, "failed_ids"));
    const size_t n_excluded = kd_json_count(kd_json_get(p, "excluded_ids"));
    if (r->failed != (int64_t)n_failed || r->excluded != (int64_t)n_excluded ||
        (uint64_t)r->listed != (uint64_t)done + n_failed + n_excluded) {
        return KD_FAIL(err, KD_E_INTEGRITY,
                       "%s: data: expected listed = done + failed + excluded, each named; found %lld, %lld, %lld (%zu "
                       "named), %lld (%zu named)",
                       r->path, (long long)r->listed, (long long)done, (long long)r->failed, n_failed,
                       (long long)r->excluded, n_excluded);
    }
    kd_report_left *left = kd_calloc(n_failed + n_excluded + 1, sizeof *left);
    r->owned[1] = left;
    r->left = left;
    if (left == NULL) {
        return KD_FAIL(err, KD_E_OOM, "report: out of memory");
    }
    KD_TRY(read_pairs(p, true, left, &r->n_left, err));
    return read_pairs(p, false, left, &r->n_left, err);
}

static kd_status read_data(kd_report *r, kd_err *err)
{
    const kd_json *p = NULL;
    const kd_json *h = NULL;
    KD_TRY(kd_json_get_object(r->doc, "data", &p, err));
    KD_TRY(optional(p, "root", &r->root, err));
    KD_TRY(read_left(r, p, err));
    KD_TRY(kd_json_get_object(r->doc, "hashes", &h, err));
    KD_TRY(optional(h, "config", &r->config_hash, err));
    KD_TRY(optional(h, "weights", &r->weights_hash, err));
    KD_TRY(optional(h, "start_weights", &r->start_weights_hash, err));
    KD_TRY(optional(h, "train_ids", &r->train_ids_hash, err));
    KD_TRY(optional(h, "val_ids", &r->val_ids_hash, err));
    KD_TRY(optional(h, "teacher_weights", &r->teacher_weights_hash, err));
    KD_TRY(optional(h, "store", &r->store_hash, err));
    return optional(h, "decoder", &r->decoder, err);
}

static kd_status read_model(kd_report *r, kd_err *err)
{
    const kd_json *m = NULL;
    const kd_json *l = NULL;
    int64_t batch = 0;
    int64_t threads = 0;
    KD_TRY(kd_json_get_object(r->doc, "model", &m, err));
    KD_TRY(kd_json_get_str(m, "name", &r->model, err));
    KD_TRY(optional(m, "phase", &r->phase, err));
    KD_TRY(optional(m, "selected_on", &r->selected_on, err));
    KD_TRY(optional(m, "taught_by", &r->taught_by, err));
    KD_TRY(kd_json_opt_i64(m, "unlabelled", 0, &r->unlabelled, err));
    KD_TRY(kd_json_opt_i64(m, "pseudo_labelled", 0, &r->pseudo, err));
    KD_TRY(kd_json_opt_i64(m, "parameters", 0, &r->parameters, err));
    KD_TRY(kd_json_opt_i64(m, "macs", 0, &r->macs, err));
    KD_TRY(kd_json_opt_i64(m, "bytes", 0, &r->bytes, err));
    KD_TRY(kd_json_get_object(m, "latency", &l, err));
    KD_TRY(kd_json_opt_f64(l, "ms", 0.0, &r->latency_ms, err));
    KD_TRY(kd_json_opt_f64(l, "p90_ms", 0.0, &r->latency_p90_ms, err));
    KD_TRY(kd_json_get_range(l, "batch", 0, INT32_MAX, &batch, err));
    KD_TRY(kd_json_get_range(l, "threads", 0, INT32_MAX, &threads, err));
    KD_TRY(optional(l, "device", &r->device, err));
    KD_TRY(optional(l, "dtype", &r->dtype, err));
    r->latency_batch = (int)batch;
    r->threads = (int)threads;
    return KD_OK;
}

static kd_status read_row(kd_report *r, const kd_json *logits, size_t i, float *row, kd_err *err)
{
    const kd_json *a = kd_json_at(logits, i);
    if (kd_json_count(a) != (size_t)r->classes) {
        return KD_FAIL(err, KD_E_DATA, "%s: predictions.logits[%zu]: %zu numbers for %d classes", r->path, i,
                       kd_json_count(a), r->classes);
    }
    for (int c = 0; c < r->classes; c++) {
        double v = 0.0;
        KD_TRY(kd_json_as_f64(kd_json_at(a, (size_t)c), &v, err));
        row[c] = (float)v;
    }
    return KD_OK;
}

static kd_status read_predictions(kd_report *r, kd_err *err)
{
    const kd_json *p = NULL;
    const kd_json *labels = NULL;
    const kd_json *logits = NULL;
    const char **ids = NULL;
    size_t count = 0;
    KD_TRY(kd_json_get_object(r->doc, "predictions", &p, err));
    KD_TRY(strings(p, "ids", &ids, &r->n, &r->owned[2], err));
    KD_TRY(kd_json_get_array(p, "labels", &labels, err));
    KD_TRY(kd_json_get_array(p, "logits", &logits, err));
    if (r->n == 0 || kd_json_count(labels) != r->n || kd_json_count(logits) != r->n) {
        return KD_FAIL(err, KD_E_DATA, "%s: predictions: %zu ids, %zu labels, %zu rows of logits", r->path, r->n,
                       kd_json_count(labels), kd_json_count(logits));
    }
    if (!kd_size_mul(r->n, (size_t)r->classes, &count)) {
        return KD_FAIL(err, KD_E_DATA, "%s: predictions: too many", r->path);
    }
    int32_t *label = kd_calloc(r->n, sizeof *label);
    float *score = kd_calloc(count, sizeof *score);
    r->owned[3] = label;
    r->owned[4] = score;
    if (label == NULL || score == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory for %zu predictions", r->path, r->n);
    }
    for (size_t i = 0; i < r->n; i++) {
        int64_t v = 0;
        KD_TRY(kd_json_as_i64(kd_json_at(labels, i), &v, err));
        if (v < 0 || v >= r->classes) {
            return KD_FAIL(err, KD_E_DATA, "%s: sample %s has label %lld: expected 0 to %d", r->path, ids[i],
                           (long long)v, r->classes - 1);
        }
        label[i] = (int32_t)v;
        KD_TRY(read_row(r, logits, i, score + i * (size_t)r->classes, err));
    }
    r->ids = ids;
    r->labels = label;
    r->logits = score;
    return KD_OK;
}

/* The figures in the file must follow from its predictions. */
static kd_status prove(kd_report *r, kd_err *err)
{
    const kd_json *m = NULL;
    const kd_json *h = NULL;
    const char *hash = NULL;
    double top1 = 0.0;
    double nll = 0.0;
    KD_TRY(kdi_report_hash_ids(r, err));
    KD_TRY(kdi_report_measure(r, err));
    KD_TRY(kd_json_get_object(r->doc, "metrics", &m, err));
    KD_TRY(kd_json_get_f64(m, "top1", &top1, err));
    KD_TRY(kd_json_get_f64(m, "nll", &nll, err));
    if (!(fabs(top1 - r->metrics.top1) <= 1e-9) || !(fabs(nll - r->metrics.nll) <= 1e-6 * (1.0 + fabs(nll)))) {
        return KD_FAIL(err, KD_E_INTEGRITY, "%s: says top-1 %.6f, NLL %.6f, but its predictions give %.6f, %.6f",
                       r->path, top1, nll, r->metrics.top1, r->metrics.nll);
    }
    KD_TRY(kd_json_get_object(r->doc, "hashes", &h, err));
    KD_TRY(kd_json_get_str(h, "ids", &hash, err));
    if (strcmp(hash, r->ids_hash) != 0) {
        return KD_FAIL(err, KD_E_INTEGRITY, "%s: hashes.ids does not match the ids and labels", r->path);
    }
    return KD_OK;
}

kd_status kd_report_read(const char *path, kd_report *out, kd_err *err)
{
    memset(out, 0, sizeof *out);
    kd_status st;
    out->path = kd_strdup(path);
    if (out->path == NULL) {
        return KD_FAIL(err, KD_E_OOM, "report: out of memory");
    }
    KD_GO(kd_json_load(path, &out->doc, err));
    KD_GO(read_head(out, err));
    KD_GO(read_protocol(out, err));
    KD_GO(read_data(out, err));
    KD_GO(read_model(out, err));
    KD_GO(read_predictions(out, err));
    KD_GO(prove(out, err));
done:
    if (st != KD_OK) {
        kd_report_free(out);
    }
    return st;
}
