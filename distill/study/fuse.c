/* Score fusion: see fuse.h. */
#include "distill/study/fuse.h"

#include "formats/base/hash.h"
#include "formats/base/merge.h"

#include <math.h>
#include <stdio.h>

/* ---- join ------------------------------------------------------------------------------------ */

static const char *name_of(const kd_report *r)
{
    return r->path != NULL ? r->path : r->label;
}

static kd_status alike(const kd_report *a, const kd_report *b, kd_err *err)
{
    const char *const text[][3] = {{"data set", a->dataset, b->dataset}, {"half", a->half, b->half}};
    for (size_t i = 0; i < KD_COUNTOF(text); i++) {
        if (strcmp(text[i][1], text[i][2]) != 0) {
            return KD_FAIL(err, KD_E_DATA,
                           "fuse: %s is '%s' in %s, '%s' in %s; only answers about one half can be "
                           "summed",
                           text[i][0], text[i][1], name_of(a), text[i][2], name_of(b));
        }
    }
    if (a->classes != b->classes) {
        return KD_FAIL(err, KD_E_DATA, "fuse: %d classes in %s, %d in %s", a->classes, name_of(a), b->classes,
                       name_of(b));
    }
    for (int k = 0; k < a->classes; k++) {
        char x[24], y[24];
        if (strcmp(kd_report_class(a, k, x), kd_report_class(b, k, y)) != 0) {
            return KD_FAIL(err, KD_E_DATA, "fuse: class %d is '%s' in %s, '%s' in %s", k, kd_report_class(a, k, x),
                           name_of(a), kd_report_class(b, k, y), name_of(b));
        }
    }
    return KD_OK;
}

static void warn_of_twins(const kd_report *part, size_t k)
{
    const kd_report *b = &part[k];
    for (size_t i = 0; i < k; i++) {
        const kd_report *a = &part[i];
        if (a->n == b->n && memcmp(a->logits, b->logits, a->n * (size_t)a->classes * sizeof *a->logits) == 0) {
            kd_log(KD_LOG_WARN, "fuse: %s and %s hold the same answers, which count twice", name_of(a), name_of(b));
        }
    }
}

static kd_status find_all(const kd_report *a, const kd_report *b, size_t *at, size_t *found, kd_err *err)
{
    size_t *order = NULL;
    KD_TRY(kd_report_order(a, &order, err));
    const kd_status st = kd_report_join(a, order, b, at, found, err);
    kd_free(order);
    return st;
}

kd_status kd_report_shared(const kd_report *a, const kd_report *b, size_t *n, kd_err *err)
{
    size_t *at = kd_calloc(a->n, sizeof *at);
    const kd_status st = at != NULL ? find_all(a, b, at, n, err) : KD_FAIL(err, KD_E_OOM, "fuse: out of memory");
    kd_free(at);
    return st;
}

static kd_status same_labels(const kd_report *a, const kd_report *b, const size_t *at, kd_err *err)
{
    for (size_t i = 0; i < a->n; i++) {
        if (at[i] != SIZE_MAX && a->labels[i] != b->labels[at[i]]) {
            return KD_FAIL(err, KD_E_DATA, "fuse: sample %s has label %d in %s, %d in %s", a->ids[i], (int)a->labels[i],
                           name_of(a), (int)b->labels[at[i]], name_of(b));
        }
    }
    return KD_OK;
}

/* Samples that only some reports have, each named once. */
static kd_status take_left(kd_fusion *f, const bool *whole, kd_err *err)
{
    size_t most = f->part[0].n + f->part[0].n_left;
    for (size_t k = 1; k < f->n_parts; k++) {
        most += f->part[k].n;
    }
    f->left = kd_calloc(most + 1, sizeof *f->left);
    size_t *at = kd_calloc(most + 1, sizeof *at);
    kd_status st = f->left != NULL && at != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "fuse: out of memory");
    for (size_t i = 0; i < f->part[0].n && st == KD_OK; i++) {
        if (!whole[i]) {
            f->left[f->n_left++] = (kd_report_left){f->part[0].ids[i], "not in every report", false};
        }
    }
    for (size_t k = 1; k < f->n_parts && st == KD_OK; k++) {
        const kd_report *r = &f->part[k];
        for (size_t j = 0; j < k && st == KD_OK; j++) { /* those that no report before has */
            size_t found = 0;
            size_t *here = kd_calloc(r->n, sizeof *here);
            st = here != NULL ? find_all(r, &f->part[j], here, &found, err) : KD_FAIL(err, KD_E_OOM, "fuse: no memory");
            for (size_t i = 0; i < r->n && st == KD_OK; i++) {
                at[i] = (j == 0 ? 0 : at[i]) + (here[i] != SIZE_MAX);
            }
            kd_free(here);
        }
        for (size_t i = 0; i < r->n && st == KD_OK; i++) {
            if (at[i] == 0) {
                f->left[f->n_left++] = (kd_report_left){r->ids[i], "not in every report", false};
            }
        }
    }
    kd_free(at);
    return st;
}

kd_status kd_fusion_open(const kd_report *part, size_t n_parts, kd_fusion *out, kd_err *err)
{
    *out = (kd_fusion){.part = part, .n_parts = n_parts};
    const size_t n = part[0].n;
    bool *whole = kd_calloc(n, sizeof *whole);
    out->ids = kd_calloc(n, sizeof *out->ids);
    out->label = kd_calloc(n, sizeof *out->label);
    kd_status st =
        whole != NULL && out->ids != NULL && out->label != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "fuse: no memory");
    KD_GO(st);
    memset(whole, true, n * sizeof *whole);
    for (size_t k = 0; k < n_parts; k++) {
        size_t found = 0;
        out->at[k] = kd_calloc(n, sizeof **out->at);
        if (out->at[k] == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "fuse: out of memory");
            goto done;
        }
        KD_GO(alike(&part[0], &part[k], err));
        KD_GO(find_all(&part[0], &part[k], out->at[k], &found, err));
        KD_GO(same_labels(&part[0], &part[k], out->at[k], err));
        warn_of_twins(part, k);
        for (size_t i = 0; i < n; i++) {
            whole[i] = whole[i] && out->at[k][i] != SIZE_MAX;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (whole[i]) {
            out->ids[out->n] = part[0].ids[i];
            out->label[out->n] = part[0].labels[i];
            for (size_t k = 0; k < n_parts; k++) {
                out->at[k][out->n] = out->at[k][i];
            }
            out->n++;
        }
    }
    if (out->n == 0) {
        st = KD_FAIL(err, KD_E_DATA, "fuse: no sample is in all %zu reports", n_parts);
        goto done;
    }
    st = take_left(out, whole, err);
done:
    kd_free(whole);
    return st;
}

void kd_fusion_free(kd_fusion *f)
{
    for (size_t k = 0; k < f->n_parts; k++) {
        kd_free(f->at[k]);
    }
    kd_free((void *)f->ids);
    kd_free(f->label);
    kd_free(f->left);
    *f = (kd_fusion){.n = 0};
}

/* ---- sum ------------------------------------------------------------------------------------- */

/* Rows [n][classes] of the weighted average; `work` [classes]. */
static void average(const kd_fusion *f, const double *weight, bool prob, double *work, float *out)
{
    const size_t classes = (size_t)f->part[0].classes;
    double all = 0.0;
    for (size_t k = 0; k < f->n_parts; k++) {
        all += weight[k];
    }
    for (size_t i = 0; i < f->n; i++) {
        double *sum = work + classes;
        memset(sum, 0, classes * sizeof *sum);
        for (size_t k = 0; k < f->n_parts; k++) {
            const float *row = f->part[k].logits + f->at[k][i] * classes;
            for (size_t c = 0; c < classes; c++) {
                work[c] = (double)row[c];
            }
            if (prob) {
                kd_probabilities(work, classes, 1.0);
            }
            for (size_t c = 0; c < classes; c++) {
                sum[c] += weight[k] / all * work[c];
            }
        }
        for (size_t c = 0; c < classes; c++) {
            out[i * classes + c] = (float)(prob ? log(fmax(sum[c], 1e-45)) : sum[c]); /* the least float */
        }
    }
}

/* ---- the report ------------------------------------------------------------------------------ */

typedef struct texts {
    char model[400], modality[80], views[80], weights[KD_SHA256_HEX], config[KD_SHA256_HEX];
} texts;

/* "a + b", names that are there already once. */
static void join_name(char *to, size_t size, const char *name)
{
    const size_t n = strlen(to), length = strlen(name);
    const char *at = strstr(to, name);
    const bool there = at != NULL && (at[length] == '\0' || at[length] == ' ') && (at == to || at[-1] == ' ');
    if (!there && n + length + 4 < size) {
        (void)snprintf(to + n, size - n, "%s%s", n > 0 ? " + " : "", name);
    }
}

static kd_status describe(const kd_fusion *f, const double *weight, bool prob, texts *t, kd_err *err)
{
    char *row[2] = {kd_strf("%s", prob ? "prob" : "logits"), kd_strdup("")};
    bool known[2] = {true, true};
    kd_status st = KD_OK;
    for (size_t k = 0; k < f->n_parts; k++) {
        const kd_report *r = &f->part[k];
        join_name(t->model, sizeof t->model, r->model);
        join_name(t->modality, sizeof t->modality, r->modality);
        join_name(t->views, sizeof t->views, r->views);
        const char *hash[2] = {r->config_hash, r->weights_hash};
        for (int i = 0; i < 2; i++) {
            known[i] = known[i] && hash[i] != NULL;
            char *more =
                kd_strf("%s %s %.17g", row[i] != NULL ? row[i] : "", hash[i] != NULL ? hash[i] : "", weight[k]);
            kd_free(row[i]);
            row[i] = more;
        }
    }
    if (row[0] == NULL || row[1] == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "fuse: out of memory");
    }
    if (st == KD_OK && known[0]) {
        st = kd_sha256(row[0], strlen(row[0]), t->config, err);
    }
    if (st == KD_OK && known[1]) {
        st = kd_sha256(row[1], strlen(row[1]), t->weights, err);
    }
    kd_free(row[0]);
    kd_free(row[1]);
    return st;
}

/* What the parts cost together; 0 where one does not say. */
static void add_costs(const kd_fusion *f, kd_report *r)
{
    bool known[4] = {true, true, true, true};
    r->parameters = r->macs = r->bytes = 0;
    r->latency_ms = r->latency_p90_ms = 0.0;
    for (size_t k = 0; k < f->n_parts; k++) {
        const kd_report *p = &f->part[k];
        r->parameters += p->parameters;
        r->macs += p->macs;
        r->bytes += p->bytes;
        r->latency_ms += p->latency_ms;
        known[0] = known[0] && p->parameters > 0;
        known[1] = known[1] && p->macs > 0;
        known[2] = known[2] && p->bytes > 0;
        known[3] = known[3] && p->latency_ms > 0.0;
    }
    r->parameters = known[0] ? r->parameters : 0;
    r->macs = known[1] ? r->macs : 0;
    r->bytes = known[2] ? r->bytes : 0;
    r->latency_ms = known[3] ? r->latency_ms : 0.0;
}

kd_status kd_fuse_write(const kd_fusion *f, const double *weight, const kd_fuse_opts *o, const char *path,
                        kd_metrics *metrics, kd_err *err)
{
    const kd_report *first = &f->part[0];
    const size_t classes = (size_t)first->classes;
    texts t = {.model = ""};
    float *logits = kd_calloc(f->n * classes, sizeof *logits);
    double *work = kd_calloc(2 * classes, sizeof *work);
    kd_status st = logits != NULL && work != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "fuse: out of memory");
    KD_GO(st);
    average(f, weight, o->prob, work, logits);
    KD_GO(describe(f, weight, o->prob, &t, err));
    kd_report r = {.kind = first->kind,
                   .label = o->label,
                   .command = o->command,
                   .seed = first->seed,
                   .dataset = first->dataset,
                   .split = first->split,
                   .half = first->half,
                   .modality = t.modality,
                   .views = t.views,
                   .merge = o->prob ? "fused probabilities" : "fused logits",
                   .class_names = first->class_names,
                   .classes = first->classes,
                   .root = first->root,
                   .left = f->left,
                   .n_left = f->n_left,
                   .config_hash = t.config[0] != '\0' ? t.config : NULL,
                   .weights_hash = t.weights[0] != '\0' ? t.weights : NULL,
                   .model = t.model,
                   .selected_on = o->judged ? first->half : NULL,
                   .latency_batch = first->latency_batch,
                   .threads = first->threads,
                   .device = first->device,
                   .dtype = first->dtype,
                   .ids = f->ids,
                   .labels = f->label,
                   .logits = logits,
                   .n = f->n};
    add_costs(f, &r);
    KD_GO(kd_report_write(&r, path, err));
    *metrics = r.metrics;
done:
    kd_free(logits);
    kd_free(work);
    return st;
}

/* ---- weights --------------------------------------------------------------------------------- */

static bool better(const kd_metrics *a, const kd_metrics *b)
{
    return a->top1 > b->top1 || (a->top1 == b->top1 && a->nll < b->nll);
}

kd_status kd_fuse_search(const kd_fusion *f, bool prob, double *weight, kd_metrics *metrics, kd_err *err)
{
    enum { STEPS = 10, ROUNDS = 20 };
    const size_t classes = (size_t)f->part[0].classes;
    float *logits = kd_calloc(f->n * classes, sizeof *logits);
    double *work = kd_calloc(2 * classes, sizeof *work);
    const kd_scores s = {logits, f->label, f->n, f->part[0].classes};
    kd_status st = logits != NULL && work != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "fuse: out of memory");
    *metrics = (kd_metrics){.n = 0};
    KD_GO(st);
    average(f, weight, prob, work, logits);
    KD_GO(kd_metrics_compute(&s, 1.0, KD_ECE_BINS, metrics, err));
    bool changed = true;
    for (int round = 0; round < ROUNDS && changed; round++) {
        changed = false;
        for (size_t k = 0; k < f->n_parts; k++) {
            double best = weight[k], others = 0.0;
            for (size_t j = 0; j < f->n_parts; j++) {
                others += j != k ? weight[j] : 0.0;
            }
            for (int step = others > 0.0 ? 0 : 1; step <= STEPS; step++) {
                kd_metrics m;
                weight[k] = (double)step / STEPS;
                average(f, weight, prob, work, logits);
                KD_GO(kd_metrics_compute(&s, 1.0, KD_ECE_BINS, &m, err));
                const bool won = better(&m, metrics);
                best = won ? weight[k] : best;
                changed = changed || won;
                kd_metrics_free(won ? metrics : &m);
                *metrics = won ? m : *metrics;
            }
            weight[k] = best;
        }
    }
done:
    kd_free(logits);
    kd_free(work);
    return st;
}
