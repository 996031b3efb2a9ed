/* Forward passes over a half: see evaluate.h. */
#include "distill/eval/evaluate.h"

#include <math.h>
#include <stdio.h>

/* The sample whose views are being collected: views are fastest in loader order, so one at a time. */
typedef struct collector {
    float *logits;   /* [views, K] */
    float *features; /* [batch, D] of the program's output, f32 */
    double *mean;    /* [D] sum of the features */
    float *feature;  /* [D] */
    float *rows;     /* [batch, K] */
    uint32_t sample;
    int seen;
    bool broken;
} collector;

typedef struct pass {
    kd_model *m;
    kd_program *prog;
    const kd_eval_opts *o;
    kd_loader *loader;
    kd_eval_emit emit;
    void *user;
    void (*failure)(void *user, uint32_t sample, const char *message);
    kd_eval_counts *counts;
    collector c;
    int views;
    uint64_t item;
} pass;

static kd_status finish_sample(pass *p, kd_err *err)
{
    collector *c = &p->c;
    const int dim = p->m->feature_dim;
    const int views = p->views;
    kd_status st = KD_OK;
    if (c->broken) {
        p->counts->failed++;
    } else {
        for (int d = 0; d < dim; d++) {
            c->feature[d] = (float)(c->mean[d] / (double)views);
        }
        st = p->emit(p->user, c->sample, views, c->logits, c->feature, err);
        p->counts->done++;
    }
    c->seen = 0;
    c->broken = false;
    memset(c->mean, 0, (size_t)dim * sizeof *c->mean);
    return st;
}

static kd_status check_finite(const pass *p, const kd_batch *b, int row, kd_err *err)
{
    const int k = p->m->classes;
    for (int j = 0; j < k; j++) {
        if (!isfinite(p->c.rows[(size_t)row * (size_t)k + (size_t)j])) {
            return KD_FAIL(err, KD_E_NUMERIC, "sample %s: the model gave a logit that is not finite (class %d)",
                           p->o->producer->id(p->o->producer->ctx, b->sample[row]), j);
        }
    }
    return KD_OK;
}

static kd_status take_row(pass *p, const kd_batch *b, int row, kd_err *err)
{
    collector *c = &p->c;
    const size_t k = (size_t)p->m->classes, dim = (size_t)p->m->feature_dim;
    if (b->sample[row] == UINT32_MAX) {
        return KD_OK; /* padding */
    }
    if (p->item++ < p->o->first_item) {
        return KD_OK;
    }
    c->sample = b->sample[row];
    if (b->valid[row] != 0.0f) {
        KD_TRY(check_finite(p, b, row, err));
        memcpy(c->logits + (size_t)c->seen * k, c->rows + (size_t)row * k, k * sizeof(float));
        for (size_t d = 0; d < dim; d++) {
            c->mean[d] += (double)c->features[(size_t)row * dim + d];
        }
    } else {
        c->broken = true;
    }
    c->seen++;
    return c->seen == p->views ? finish_sample(p, err) : KD_OK;
}

static kd_status run_batch(pass *p, const kd_batch *b, kd_err *err)
{
    const kd_producer *src = p->o->producer;
    for (int i = 0; i < src->n_tensors; i++) {
        const size_t bytes = src->tensor[i].bytes * (size_t)b->rows;
        const kd_status st = kd_program_write(p->prog, src->tensor[i].name, b->tensor[i], bytes);
        if (st != KD_OK) {
            return KD_FAIL(err, st, "model input %s: the data's shape is not the model's", src->tensor[i].name);
        }
    }
    kd_status st = kd_program_run(p->prog, NULL);
    if (st == KD_OK) {
        st = kd_program_read_f32(p->prog, "logits", p->c.rows, (int64_t)b->rows * p->m->classes);
    }
    if (st == KD_OK) {
        st = kd_program_read_f32(p->prog, "features", p->c.features, (int64_t)b->rows * p->m->feature_dim);
    }
    if (st != KD_OK) {
        return KD_FAIL(err, st, "forward pass failed in %s: %s", kd_program_where(p->prog), kd_status_text(st));
    }
    for (int row = 0; row < b->rows; row++) {
        KD_TRY(take_row(p, b, row, err));
    }
    return KD_OK;
}

static kd_status walk(pass *p, kd_err *err)
{
    const uint64_t items = kd_loader_items(p->loader);
    const uint64_t first = p->o->first_item / (uint64_t)p->o->batch_size;
    p->item = first * (uint64_t)p->o->batch_size;
    KD_TRY(kd_loader_seek(p->loader, 0, first, err));
    kd_progress_begin(p->o->progress, p->o->phase, "views", p->o->first_item, items);
    for (;;) {
        const kd_batch *b = NULL;
        KD_TRY(kd_loader_next(p->loader, &b, err));
        if (b == NULL) {
            return KD_OK;
        }
        KD_TRY(run_batch(p, b, err));
        kd_progress_step(p->o->progress, KD_MIN(p->item, items), NAN);
        if (kd_progress_stop(p->o->progress)) {
            return KD_FAIL(err, KD_E_CANCELLED, "interrupted after %llu of %llu views", (unsigned long long)p->item,
                           (unsigned long long)items);
        }
    }
}

static kd_status collector_open(collector *c, const kd_model *m, int views, int batch)
{
    const size_t k = (size_t)m->classes, d = (size_t)m->feature_dim, b = (size_t)batch;
    c->logits = kd_calloc((size_t)views * k, sizeof(float));
    c->rows = kd_calloc(b * k, sizeof(float));
    c->features = kd_calloc(b * d, sizeof(float));
    c->feature = kd_calloc(d, sizeof(float));
    c->mean = kd_calloc(d, sizeof(double));
    return c->logits && c->rows && c->features && c->feature && c->mean ? KD_OK : KD_E_OOM;
}

kd_status kd_eval_run(kd_model *m, kd_program *program, const kd_eval_opts *o, kd_eval_emit emit, void *user,
                      void (*failure)(void *user, uint32_t sample, const char *message), kd_eval_counts *counts,
                      kd_err *err)
{
    const kd_loader_opts lo = {.batch_size = o->batch_size, .workers = o->workers, .on_bad = o->on_bad};
    pass p = {.m = m,
              .prog = program,
              .o = o,
              .emit = emit,
              .user = user,
              .failure = failure,
              .counts = counts,
              .views = (int)o->producer->views};
    kd_status st = KD_OK;
    const double t0 = kd_now();
    memset(counts, 0, sizeof *counts);
    counts->listed = o->producer->samples;
    if (collector_open(&p.c, m, p.views, o->batch_size) != KD_OK) {
        st = KD_FAIL(err, KD_E_OOM, "evaluation: out of memory");
        goto done;
    }
    KD_GO(kd_loader_open(&lo, o->producer, &p.loader, err));
    st = walk(&p, err);
    const kd_bad_sample *bad = NULL;
    const size_t n_bad = kd_loader_bad(p.loader, &bad);
    for (size_t i = 0; i < n_bad && failure != NULL; i++) {
        failure(user, bad[i].sample, bad[i].message);
    }
    counts->waited = kd_loader_waited(p.loader);
    counts->seconds = kd_now() - t0;
    char text[96];
    (void)snprintf(text, sizeof text, "%zu of %zu samples, %zu failed", counts->done, counts->listed, counts->failed);
    kd_progress_end(o->progress, st == KD_OK ? text : NULL);
done:
    kd_loader_close(p.loader);
    kd_free(p.c.logits);
    kd_free(p.c.rows);
    kd_free(p.c.features);
    kd_free(p.c.feature);
    kd_free(p.c.mean);
    return st;
}

/* ---- merging --------------------------------------------------------------------------------- */

void kd_merge_views(const float *views, int n, int classes, kd_cfg_merge rule, float *out)
{
    if (n == 1) {
        memcpy(out, views, (size_t)classes * sizeof *out);
        return;
    }
    for (int j = 0; j < classes; j++) {
        double sum = 0.0;
        for (int v = 0; v < n; v++) {
            const float *z = views + (size_t)v * (size_t)classes;
            if (rule == KD_MERGE_SCORE) {
                sum += (double)z[j];
                continue;
            }
            double top = (double)z[0], den = 0.0;
            for (int i = 1; i < classes; i++) {
                top = fmax(top, (double)z[i]);
            }
            for (int i = 0; i < classes; i++) {
                den += exp((double)z[i] - top);
            }
            sum += exp((double)z[j] - top) / den;
        }
        sum /= (double)n;
        out[j] = (float)(rule == KD_MERGE_SCORE ? sum : log(fmax(sum, 1e-300)));
    }
}

/* ---- table ----------------------------------------------------------------------------------- */

typedef struct fill_ctx {
    kd_eval_table *t;
    kd_cfg_merge rule;
} fill_ctx;

static kd_status fill_row(void *user, uint32_t sample, int views, const float *logits, const float *feature,
                          kd_err *err)
{
    fill_ctx *f = user;
    (void)feature, (void)err;
    kd_merge_views(logits, views, f->t->classes, f->rule, f->t->logits + (size_t)sample * (size_t)f->t->classes);
    f->t->done[sample] = 1;
    return KD_OK;
}

kd_status kd_eval_fill(kd_model *m, kd_program *program, const kd_eval_opts *o, kd_cfg_merge rule, kd_eval_table *out,
                       kd_err *err)
{
    const size_t n = o->producer->samples;
    memset(out, 0, sizeof *out);
    out->n = n;
    out->classes = m->classes;
    out->logits = kd_calloc(n * (size_t)m->classes, sizeof *out->logits);
    out->label = kd_calloc(n, sizeof *out->label);
    out->done = kd_calloc(n, sizeof *out->done);
    kd_status st = KD_E_OOM;
    if (out->logits == NULL || out->label == NULL || out->done == NULL) {
        (void)KD_FAIL(err, KD_E_OOM, "evaluation: out of memory for %zu samples", n);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        out->label[i] = o->producer->label(o->producer->ctx, (uint32_t)i);
    }
    fill_ctx f = {out, rule};
    st = kd_eval_run(m, program, o, fill_row, &f, NULL, &out->counts, err);
done:
    if (st != KD_OK) {
        kd_eval_table_free(out);
    }
    return st;
}

void kd_eval_table_free(kd_eval_table *t)
{
    kd_free(t->logits);
    kd_free(t->label);
    kd_free(t->done);
    memset(t, 0, sizeof *t);
}
