/* Folds to one report: see pool.h. */
#include "distill/study/pool.h"

#include "formats/base/hash.h"

typedef struct pooled {
    const char **ids;
    int32_t *labels;
    float *logits;
    kd_report_left *left;
    char *row;
    char config[KD_SHA256_HEX], weights[KD_SHA256_HEX];
} pooled;

static bool same(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static kd_status alike(const kd_report *a, const kd_report *b, kd_err *err)
{
    const struct {
        const char *what, *a, *b;
    } text[] = {{"kind", a->kind, b->kind},    {"data set", a->dataset, b->dataset}, {"half", a->half, b->half},
                {"views", a->views, b->views}, {"label", a->label, b->label},        {"model", a->model, b->model}};
    for (size_t i = 0; i < KD_COUNTOF(text); i++) {
        if (!same(text[i].a, text[i].b)) {
            return KD_FAIL(err, KD_E_DATA, "folds: %s is '%s' in %s, '%s' in %s", text[i].what, text[i].a, a->path,
                           text[i].b, b->path);
        }
    }
    bool classes = a->classes == b->classes;
    for (int k = 0; classes && k < a->classes; k++) {
        char x[24], y[24];
        classes = same(kd_report_class(a, k, x), kd_report_class(b, k, y));
    }
    if (!classes || a->seed != b->seed) {
        return KD_FAIL(err, KD_E_DATA, "folds: %s has %s than %s", b->path, classes ? "another seed" : "other classes",
                       a->path);
    }
    return KD_OK;
}

/* SHA-256 of the parts' hashes in a row; "" where one has none. */
static kd_status hash_row(const kd_report *part, size_t n, bool weights, pooled *p, kd_err *err)
{
    char *hex = weights ? p->weights : p->config;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const char *h = weights ? part[i].weights_hash : part[i].config_hash;
        if (h == NULL || strlen(h) >= KD_SHA256_HEX) {
            return KD_OK;
        }
        memcpy(p->row + at, h, strlen(h));
        at += strlen(h);
    }
    return kd_sha256(p->row, at, hex, err);
}

static kd_status gather(const kd_report *part, size_t n, kd_report *r, pooled *p, kd_err *err)
{
    const size_t k = (size_t)r->classes;
    size_t samples = 0, left = 0;
    for (size_t i = 0; i < n; i++) {
        samples += part[i].n;
        left += part[i].n_left;
    }
    p->ids = kd_calloc(samples, sizeof *p->ids);
    p->labels = kd_calloc(samples, sizeof *p->labels);
    p->logits = kd_calloc(samples, k * sizeof *p->logits);
    p->left = kd_calloc(left + 1, sizeof *p->left);
    p->row = kd_calloc(n, KD_SHA256_HEX);
    if (p->ids == NULL || p->labels == NULL || p->logits == NULL || p->left == NULL || p->row == NULL) {
        return KD_FAIL(err, KD_E_OOM, "folds: out of memory for %zu samples", samples);
    }
    r->n = r->n_left = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(p->ids + r->n, part[i].ids, part[i].n * sizeof *p->ids);
        memcpy(p->labels + r->n, part[i].labels, part[i].n * sizeof *p->labels);
        memcpy(p->logits + r->n * k, part[i].logits, part[i].n * k * sizeof *p->logits);
        memcpy(p->left + r->n_left, part[i].left, part[i].n_left * sizeof *p->left);
        r->n += part[i].n;
        r->n_left += part[i].n_left;
    }
    KD_TRY(hash_row(part, n, false, p, err));
    return hash_row(part, n, true, p, err);
}

/* A hash that all parts share; NULL: they do not. */
static const char *shared(const kd_report *part, size_t n, size_t offset)
{
    const char *first = NULL;
    memcpy(&first, (const char *)part + offset, sizeof first);
    for (size_t i = 1; i < n; i++) {
        const char *other = NULL;
        memcpy(&other, (const char *)&part[i] + offset, sizeof other);
        first = first != NULL && other != NULL && strcmp(first, other) == 0 ? first : NULL;
    }
    return first;
}

kd_status kd_report_pool(const kd_report *part, size_t n, const char *split, const char *path, kd_err *err)
{
    pooled p = {.ids = NULL};
    kd_report r = part[0];
    kd_status st = KD_OK;
    for (size_t i = 1; i < n; i++) {
        KD_GO(alike(&part[0], &part[i], err));
    }
    KD_GO(gather(part, n, &r, &p, err));
    r.created = r.tool = r.command = NULL;
    r.metrics = (kd_metrics){.n = 0};
    r.measured = NULL;
    r.doc = NULL;
    r.path = NULL;
    memset(r.owned, 0, sizeof r.owned);
    r.split = split;
    r.ids = p.ids;
    r.labels = p.labels;
    r.logits = p.logits;
    r.left = p.left;
    r.config_hash = p.config[0] != '\0' ? p.config : NULL;
    r.weights_hash = p.weights[0] != '\0' ? p.weights : NULL;
    r.teacher_weights_hash = shared(part, n, offsetof(kd_report, teacher_weights_hash));
    r.store_hash = shared(part, n, offsetof(kd_report, store_hash));
    r.start_weights_hash = shared(part, n, offsetof(kd_report, start_weights_hash));
    r.train_ids_hash = r.val_ids_hash = NULL;
    r.config = NULL; /* the folds' recipes differ in their split */
    st = kd_report_write(&r, path, err);
    kd_metrics_free(&r.metrics);
done:
    kd_free((void *)p.ids);
    kd_free(p.labels);
    kd_free(p.logits);
    kd_free(p.left);
    kd_free(p.row);
    return st;
}
