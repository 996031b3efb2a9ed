/* Forward passes over a half: see evaluate.h. */
#include "distill/eval/evaluate.h"

#include <math.h>
#include <stdio.h>

/* The sample whose views are being collected: views are fastest in loader order, so one at a time. */
typedef struct collector {
    float *rows[KD_MODEL_OUTPUTS];  /* [batch, width] of the program's outputs */
    float *views[KD_MODEL_OUTPUTS]; /* [views, width] of the sample */
    uint32_t sample;
    int seen;
    bool broken;
} collector;

typedef struct pass {
    kd_model *m;
    kd_program *prog;
    const kd_eval_opts *o;
    const kd_eval_sink *sink;
    kd_loader *loader;
    kd_eval_counts *counts;
    collector c;
    int views;
    uint64_t item, end; /* the next one; that behind the last one asked for */
} pass;

static kd_status finish_sample(pass *p, kd_err *err)
{
    collector *c = &p->c;
    kd_status st = KD_OK;
    if (c->broken) {
        p->counts->failed++;
    } else {
        st = p->sink->emit(p->sink->user, c->sample, p->views, (const float *const *)c->views, err);
        p->counts->done++;
    }
    c->seen = 0;
    c->broken = false;
    return st;
}

/* Copies one output of one row to its view. */
static kd_status take_output(pass *p, const kd_batch *b, int row, int i, kd_err *err)
{
    const kd_model_output *out = &p->m->output[i];
    const size_t width = (size_t)out->width;
    const float *x = p->c.rows[i] + (size_t)row * width;
    for (size_t j = 0; j < width; j++) {
        if (!isfinite(x[j])) {
            return KD_FAIL(err, KD_E_NUMERIC, "sample %s: the model gave %s that are not finite (value %zu)",
                           p->o->producer->id(p->o->producer->ctx, b->sample[row]), out->name, j);
        }
    }
    memcpy(p->c.views[i] + (size_t)p->c.seen * width, x, width * sizeof *x);
    return KD_OK;
}

static kd_status take_row(pass *p, const kd_batch *b, int row, kd_err *err)
{
    collector *c = &p->c;
    if (b->sample[row] == UINT32_MAX) {
        return KD_OK; /* padding */
    }
    const uint64_t item = p->item++;
    if (item < p->o->first_item || item >= p->end) {
        return KD_OK;
    }
    c->sample = b->sample[row];
    for (int i = 0; i < p->m->n_outputs && b->valid[row] != 0.0f; i++) {
        KD_TRY(take_output(p, b, row, i, err));
    }
    c->broken = c->broken || b->valid[row] == 0.0f;
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
    for (int i = 0; i < p->m->n_outputs && st == KD_OK; i++) {
        const kd_model_output *out = &p->m->output[i];
        st = kd_program_read_f32(p->prog, out->name, p->c.rows[i], (int64_t)b->rows * out->width);
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
    const uint64_t first = p->o->first_item / (uint64_t)p->o->batch_size;
    p->item = first * (uint64_t)p->o->batch_size;
    KD_TRY(kd_loader_seek(p->loader, 0, first, err));
    kd_progress_begin(p->o->progress, p->o->phase, "views", p->o->first_item, p->end);
    while (p->item < p->end) {
        const kd_batch *b = NULL;
        KD_TRY(kd_loader_next(p->loader, &b, err));
        if (b == NULL) {
            break;
        }
        KD_TRY(run_batch(p, b, err));
        kd_progress_step(p->o->progress, KD_MIN(p->item, p->end), NAN);
        if (kd_progress_stop(p->o->progress)) {
            return KD_FAIL(err, KD_E_CANCELLED, "interrupted after %llu of %llu views", (unsigned long long)p->item,
                           (unsigned long long)p->end);
        }
    }
    return KD_OK;
}

static kd_status collector_open(collector *c, const kd_model *m, int views, int batch)
{
    for (int i = 0; i < m->n_outputs; i++) {
        const size_t width = (size_t)m->output[i].width;
        c->rows[i] = kd_calloc((size_t)batch * width, sizeof(float));
        c->views[i] = kd_calloc((size_t)views * width, sizeof(float));
        if (c->rows[i] == NULL || c->views[i] == NULL) {
            return KD_E_OOM;
        }
    }
    return KD_OK;
}

static void collector_close(collector *c)
{
    for (int i = 0; i < KD_MODEL_OUTPUTS; i++) {
        kd_free(c->rows[i]);
        kd_free(c->views[i]);
    }
}

kd_status kd_eval_run(kd_model *m, kd_program *program, const kd_eval_opts *o, const kd_eval_sink *sink,
                      kd_eval_counts *counts, kd_err *err)
{
    const kd_loader_opts lo = {.batch_size = o->batch_size, .workers = o->workers, .on_bad = o->on_bad};
    pass p = {.m = m, .prog = program, .o = o, .sink = sink, .counts = counts, .views = (int)o->producer->views};
    kd_status st = KD_OK;
    const double t0 = kd_now();
    memset(counts, 0, sizeof *counts);
    const size_t to = o->to != 0 ? o->to : o->producer->samples;
    counts->listed = to - o->from;
    p.end = (uint64_t)to * o->producer->views;
    if (collector_open(&p.c, m, p.views, o->batch_size) != KD_OK) {
        st = KD_FAIL(err, KD_E_OOM, "evaluation: out of memory");
        goto done;
    }
    KD_GO(kd_loader_open(&lo, o->producer, &p.loader, err));
    st = walk(&p, err);
    const kd_bad_sample *bad = NULL;
    const size_t n_bad = kd_loader_bad(p.loader, &bad);
    for (size_t i = 0; i < n_bad && sink->failure != NULL; i++) {
        if (bad[i].sample >= o->from && bad[i].sample < to) {
            sink->failure(sink->user, bad[i].sample, bad[i].message);
        }
    }
    if (st == KD_OK && n_bad > 0 && counts->failed == counts->listed) {
        st = KD_FAIL(err, KD_E_DATA, "none of %zu samples can be read, the first: %s", counts->listed, bad[0].message);
    }
    counts->waited = kd_loader_waited(p.loader);
    counts->seconds = kd_now() - t0;
    char text[96];
    (void)snprintf(text, sizeof text, "%zu of %zu samples, %zu failed",
                   (size_t)(o->first_item / o->producer->views) - o->from + counts->done, counts->listed,
                   counts->failed);
    kd_progress_end(o->progress, st == KD_OK ? text : NULL);
done:
    kd_loader_close(p.loader);
    collector_close(&p.c);
    return st;
}

/* ---- records --------------------------------------------------------------------------------- */

typedef struct filling {
    kd_model *m;
    const kd_config *cfg;
    const kd_producer *producer;
    kd_records *r;
    double *work;
    bool quiet;
} filling;

static kd_status fill_record(void *user, uint32_t sample, int views, const float *const *out, kd_err *err)
{
    filling *f = user;
    kd_records *r = f->r;
    (void)err;
    f->m->task->gather(f->m, f->cfg, out, views, f->work, r->record + r->n * r->width);
    f->producer->label(f->producer->ctx, &(kd_item){.sample = sample}, r->label + r->n * (size_t)r->n_labels);
    r->sample[r->n++] = sample;
    return KD_OK;
}

/* Until list_failed, why[sample] is that of the sample. */
static void note_failed(void *user, uint32_t sample, const char *message)
{
    const filling *f = user;
    f->r->why[sample] = kd_fate_of(message);
    if (!f->quiet) {
        kd_log(KD_LOG_WARN, "left out: %s", message);
    }
}

/* The samples of the half that are not among the records; their fates move to the front. */
static void list_failed(kd_records *r, size_t listed)
{
    size_t done = 0;
    for (size_t i = 0; i < listed; i++) {
        if (done < r->n && r->sample[done] == i) {
            done++;
        } else {
            r->why[r->n_failed] = r->why[i];
            r->failed[r->n_failed++] = (uint32_t)i;
        }
    }
}

static kd_status make_room(kd_records *r, size_t n, size_t width, int labels, double **work, kd_err *err)
{
    size_t floats;
    *r = (kd_records){.width = width, .n_labels = KD_MAX(labels, 1)};
    *work = kd_calloc(2 * width, sizeof **work);
    if (kd_size_mul(KD_MAX(n, 1), width, &floats)) {
        r->record = kd_calloc(floats, sizeof *r->record);
    }
    r->label = kd_calloc(KD_MAX(n, 1) * (size_t)r->n_labels, sizeof *r->label);
    r->sample = kd_calloc(KD_MAX(n, 1), sizeof *r->sample);
    r->failed = kd_calloc(KD_MAX(n, 1), sizeof *r->failed);
    r->why = kd_alloc(KD_MAX(n, 1) * sizeof *r->why);
    for (size_t i = 0; i < n && r->why != NULL; i++) {
        r->why[i] = KD_FATE_UNREADABLE;
    }
    const bool good = r->record != NULL && r->label != NULL && r->sample != NULL && r->failed != NULL &&
                      r->why != NULL && *work != NULL;
    return good ? KD_OK : KD_FAIL(err, KD_E_OOM, "evaluation: out of memory for %zu samples", n);
}

kd_status kd_eval_fill(kd_model *m, kd_program *program, const kd_config *cfg, const kd_eval_opts *o, kd_records *out,
                       kd_err *err)
{
    const kd_producer *p = o->producer;
    filling f = {.m = m, .cfg = cfg, .producer = p, .r = out, .quiet = o->quiet};
    const kd_eval_sink sink = {.user = &f, .emit = fill_record, .failure = note_failed};
    kd_eval_counts counts;
    kd_status st = KD_OK;
    KD_GO(make_room(out, p->samples, (size_t)m->record, p->n_labels, &f.work, err));
    KD_GO(kd_eval_run(m, program, o, &sink, &counts, err));
    list_failed(out, p->samples);
done:
    kd_free(f.work);
    if (st != KD_OK) {
        kd_records_free(out);
    }
    return st;
}

void kd_records_free(kd_records *r)
{
    kd_free(r->record);
    kd_free(r->label);
    kd_free(r->sample);
    kd_free(r->failed);
    kd_free(r->why);
    *r = (kd_records){.n = 0};
}
