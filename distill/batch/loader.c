/* The batch ring.
 *
 * Batches are numbered through (`g` = epoch * batches + index), and so are rows (g * batch_size +
 * row).  Batch g lives in slot g mod depth.  Work is handed out in units of up to `grain` rows, in
 * order; a unit is handed out once the slots of all its batches are free, that is once the consumer
 * has moved past batch g - depth.  In an evaluation with views a unit is all rows of a sample, in
 * however many batches they lie, so that one worker decodes the sample once; other units end with
 * their batch.  One mutex guards all numbers; rows are written outside it, each by one thread. */
#include "distill/batch/loader.h"

#include "kernels/kd_backend.h"
#include "kernels/kd_rng.h"

#include <pthread.h>
#include <stdio.h>

typedef struct row_fault {
    kd_status code; /* KD_OK: the row is good */
    char message[256];
} row_fault;

typedef struct slot {
    kd_batch batch;
    row_fault *fault; /* [rows] */
    int left;         /* rows not finished; -1: nobody's batch */
} slot;

struct kd_loader {
    kd_loader_opts o;
    kd_producer p;
    size_t labels;    /* of a sample */
    uint64_t batches; /* of an epoch */
    bool spanning;    /* units go on over the ends of batches */
    slot *slot;       /* [depth] */
    void **scratch;   /* [max(workers, 1)] */
    pthread_t *thread;
    int threads; /* started */
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    bool sync_made;
    /* guarded by lock */
    uint64_t taken;      /* batch the consumer holds or waits for next */
    bool holding;        /* it has been handed to the consumer */
    uint64_t next;       /* row handed out to workers next */
    uint64_t first, end; /* batches that exist: [first, end) */
    int busy;            /* workers inside a unit */
    bool started, paused, stop, cancelled;
    /* the consumer's */
    kd_bad_sample *bad;
    size_t n_bad, bad_room;
    double waited;
};

typedef struct worker_arg {
    kd_loader *l;
    int number;
} worker_arg;

/* ---- one unit of rows ------------------------------------------------------------------------ */

static uint64_t item_count(const kd_loader *l)
{
    return (uint64_t)l->p.samples * l->p.views;
}

/* Which item row `row` of batch `index` is; false for padding. */
static bool row_item(const kd_loader *l, uint32_t epoch, uint64_t index, int row, kd_item *item)
{
    const uint64_t n = item_count(l);
    const uint64_t block = index * (uint64_t)l->o.ranks + (uint64_t)l->o.rank;
    const uint64_t at = block * (uint64_t)l->o.batch_size + (uint64_t)row;
    if (at >= n) {
        return false;
    }
    item->epoch = epoch;
    item->sample = (uint32_t)(at / l->p.views);
    item->view = (uint32_t)(at % l->p.views);
    if (l->o.train) {
        item->sample = kd_rng_permute(l->o.seed, KD_RNG_ORDER, 0, epoch, (uint32_t)l->p.samples, item->sample);
    }
    return true;
}

static void fill_row(const kd_loader *l, slot *s, int row, void *scratch)
{
    kd_batch *b = &s->batch;
    row_fault *fault = &s->fault[row];
    void *dst[KD_ROW_TENSORS] = {0};
    kd_item item;
    kd_err err = {.code = KD_OK};
    for (int t = 0; t < l->p.n_tensors; t++) {
        dst[t] = (char *)b->tensor[t] + (size_t)row * l->p.tensor[t].bytes;
    }
    fault->code = KD_OK;
    b->sample[row] = UINT32_MAX;
    b->view[row] = 0;
    memset(b->label + (size_t)row * l->labels, 0, l->labels * sizeof *b->label);
    b->valid[row] = 0.0f;
    bool good = row_item(l, b->epoch, b->index, row, &item);
    if (good) {
        b->sample[row] = item.sample;
        b->view[row] = item.view;
        fault->code = l->p.fill(l->p.ctx, &item, scratch, dst, &err);
        good = fault->code == KD_OK;
        if (!good) {
            (void)snprintf(fault->message, sizeof fault->message, "%.255s",
                           err.code != KD_OK ? err.msg : kd_status_text(fault->code));
        }
    }
    if (good) {
        l->p.label(l->p.ctx, &item, b->label + (size_t)row * l->labels);
        b->valid[row] = 1.0f;
        return;
    }
    for (int t = 0; t < l->p.n_tensors; t++) {
        memset(dst[t], 0, l->p.tensor[t].bytes);
    }
}

static slot *slot_of(const kd_loader *l, uint64_t g)
{
    return &l->slot[g % (uint64_t)l->o.depth];
}

/* Where the unit that begins with this row ends. */
static uint64_t unit_end(const kd_loader *l, uint64_t row)
{
    const uint64_t rows = (uint64_t)l->o.batch_size * (l->spanning ? l->batches : 1), grain = (uint64_t)l->p.grain;
    const uint64_t start = row / rows * rows;
    return start + KD_MIN(((row - start) / grain + 1) * grain, rows);
}

static void fill_unit(const kd_loader *l, uint64_t row, uint64_t end, void *scratch)
{
    const uint64_t rows = (uint64_t)l->o.batch_size;
    for (; row < end; row++) {
        fill_row(l, slot_of(l, row / rows), (int)(row % rows), scratch);
    }
}

static void begin_batch(const kd_loader *l, slot *s, uint64_t g)
{
    s->left = l->o.batch_size;
    s->batch.epoch = (uint32_t)(g / l->batches);
    s->batch.index = g % l->batches;
    s->batch.last = s->batch.index + 1 == l->batches;
}

int kd_loader_workers(int asked)
{
    return asked > 0 ? asked : kd_cores() - 1;
}

/* ---- workers --------------------------------------------------------------------------------- */

static bool has_work(const kd_loader *l)
{
    const uint64_t rows = (uint64_t)l->o.batch_size;
    return l->started && !l->paused && l->next / rows < l->end &&
           (unit_end(l, l->next) - 1) / rows < l->taken + (uint64_t)l->o.depth;
}

/* The next unit is this worker's: rows [*row, *end). */
static void take_unit(kd_loader *l, uint64_t *row, uint64_t *end)
{
    const uint64_t rows = (uint64_t)l->o.batch_size;
    *row = l->next;
    *end = unit_end(l, l->next);
    for (uint64_t g = (*row + rows - 1) / rows; g * rows < *end; g++) { /* batches whose first row is in the unit */
        begin_batch(l, slot_of(l, g), g);
    }
    l->next = *end;
    l->busy++;
}

static void finish_unit(kd_loader *l, uint64_t row, uint64_t end)
{
    const uint64_t rows = (uint64_t)l->o.batch_size;
    bool ready = --l->busy == 0;
    for (uint64_t upto; row < end; row = upto) {
        slot *s = slot_of(l, row / rows);
        upto = KD_MIN((row / rows + 1) * rows, end);
        s->left -= (int)(upto - row);
        ready = ready || s->left == 0;
    }
    if (ready) {
        pthread_cond_broadcast(&l->ready);
    }
}

static void *worker_main(void *arg_)
{
    worker_arg *arg = arg_;
    kd_loader *l = arg->l;
    void *scratch = l->scratch[arg->number];
    kd_free(arg);
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        if (!has_work(l)) {
            pthread_cond_wait(&l->work, &l->lock);
            continue;
        }
        uint64_t row, end;
        take_unit(l, &row, &end);
        pthread_mutex_unlock(&l->lock);
        fill_unit(l, row, end, scratch);
        pthread_mutex_lock(&l->lock);
        finish_unit(l, row, end);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static kd_status start_threads(kd_loader *l, kd_err *err)
{
    for (int i = 0; i < l->o.workers; i++) {
        worker_arg *arg = kd_alloc(sizeof *arg);
        if (arg == NULL) {
            return KD_FAIL(err, KD_E_OOM, "no memory for loader threads");
        }
        *arg = (worker_arg){.l = l, .number = i};
        const int rc = pthread_create(&l->thread[i], NULL, worker_main, arg);
        if (rc != 0) {
            kd_free(arg);
            return KD_FAIL(err, KD_E_OOM, "cannot start loader thread %d of %d: %s", i + 1, l->o.workers, strerror(rc));
        }
        l->threads++;
    }
    return KD_OK;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static kd_status slot_make(kd_loader *l, slot *s, kd_err *err)
{
    const size_t rows = (size_t)l->o.batch_size;
    kd_batch *b = &s->batch;
    b->rows = l->o.batch_size;
    b->label = kd_calloc(rows * l->labels, sizeof *b->label);
    b->valid = kd_calloc(rows, sizeof *b->valid);
    b->sample = kd_calloc(rows, sizeof *b->sample);
    b->view = kd_calloc(rows, sizeof *b->view);
    s->fault = kd_calloc(rows, sizeof *s->fault);
    bool good = b->label != NULL && b->valid != NULL && b->sample != NULL && b->view != NULL && s->fault != NULL;
    size_t bytes = 0;
    for (int t = 0; good && t < l->p.n_tensors; t++) {
        good = kd_size_mul(rows, l->p.tensor[t].bytes, &bytes) && (b->tensor[t] = kd_alloc(bytes)) != NULL;
    }
    if (good) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_OOM,
                   "no memory for %d batches of %d rows (%zu bytes each); lower the "
                   "batch size or --workers",
                   l->o.depth, l->o.batch_size, bytes);
}

static void slot_drop(const kd_loader *l, slot *s)
{
    for (int t = 0; t < l->p.n_tensors; t++) {
        kd_free(s->batch.tensor[t]);
    }
    kd_free(s->batch.label);
    kd_free(s->batch.valid);
    kd_free(s->batch.sample);
    kd_free(s->batch.view);
    kd_free(s->fault);
}

static kd_status check_opts(const kd_loader_opts *o, const kd_producer *p, kd_err *err)
{
    if (o->batch_size < 1 || o->workers < 0 || o->depth < 0 || o->ranks < 0 || o->rank < 0 ||
        o->rank >= KD_MAX(o->ranks, 1) || p->n_tensors < 1 || p->n_tensors > KD_ROW_TENSORS || p->views < 1 ||
        (o->train && (uint32_t)o->batch_size % p->views != 0)) {
        return KD_FAIL(err, KD_E_ARG, "loader: batch %d, workers %d, depth %d, rank %d of %d", o->batch_size,
                       o->workers, o->depth, o->rank, o->ranks);
    }
    if (p->samples > INT32_MAX) {
        return KD_FAIL(err, KD_E_ARG, "loader: %zu samples are more than it can number", p->samples);
    }
    return KD_OK;
}

static kd_status count_batches(kd_loader *l, kd_err *err)
{
    const uint64_t step = (uint64_t)l->o.batch_size * (uint64_t)l->o.ranks;
    const uint64_t n = item_count(l);
    l->batches = l->o.train ? n / step : (n + step - 1) / step;
    if (l->batches > 0) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA, "%zu samples do not fill one batch of %llu; lower train.batch_size", l->p.samples,
                   (unsigned long long)(step / l->p.views));
}

static int default_depth(const kd_loader *l)
{
    const int64_t busy = (int64_t)l->o.workers * (l->spanning ? l->p.grain : KD_MIN(l->p.grain, l->o.batch_size));
    return 2 + (int)((busy + l->o.batch_size - 1) / l->o.batch_size);
}

/* One batch is the consumer's, and a unit needs all of its own. */
static int least_depth(const kd_loader *l)
{
    return l->spanning ? (l->p.grain + l->o.batch_size - 2) / l->o.batch_size + 2 : 2;
}

static kd_status make_parts(kd_loader *l, kd_err *err)
{
    const int scratches = KD_MAX(l->o.workers, 1);
    if (pthread_mutex_init(&l->lock, NULL) != 0) {
        return KD_FAIL(err, KD_E_OOM, "loader: no mutex");
    }
    if (pthread_cond_init(&l->work, NULL) != 0) {
        pthread_mutex_destroy(&l->lock);
        return KD_FAIL(err, KD_E_OOM, "loader: no condition");
    }
    if (pthread_cond_init(&l->ready, NULL) != 0) {
        pthread_cond_destroy(&l->work);
        pthread_mutex_destroy(&l->lock);
        return KD_FAIL(err, KD_E_OOM, "loader: no condition");
    }
    l->sync_made = true;
    l->slot = kd_calloc((size_t)l->o.depth, sizeof *l->slot);
    l->scratch = kd_calloc((size_t)scratches, sizeof *l->scratch);
    l->thread = kd_calloc((size_t)scratches, sizeof *l->thread);
    if (l->slot == NULL || l->scratch == NULL || l->thread == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for a loader of %d slots", l->o.depth);
    }
    for (int i = 0; i < l->o.depth; i++) {
        KD_TRY(slot_make(l, &l->slot[i], err));
    }
    for (int i = 0; i < scratches && l->p.scratch_new != NULL; i++) {
        KD_TRY(l->p.scratch_new(l->p.ctx, &l->scratch[i], err));
    }
    return start_threads(l, err);
}

kd_status kd_loader_open(const kd_loader_opts *opts, const kd_producer *producer, kd_loader **out, kd_err *err)
{
    kd_status st = KD_OK;
    *out = NULL;
    KD_TRY(check_opts(opts, producer, err));
    kd_loader *l = kd_calloc(1, sizeof *l);
    if (l == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for a loader");
    }
    l->o = *opts;
    l->p = *producer;
    l->labels = (size_t)KD_MAX(producer->n_labels, 1);
    l->o.ranks = KD_MAX(opts->ranks, 1);
    l->p.grain = KD_MAX(producer->grain, 1);
    l->spanning = !l->o.train && l->p.views > 1 && l->p.grain > 1 && l->o.ranks == 1;
    if (l->o.workers == 0) {
        l->o.depth = 1;
    } else if (l->o.depth == 0) {
        l->o.depth = default_depth(l);
    } else {
        l->o.depth = KD_MAX(l->o.depth, least_depth(l));
    }
    KD_GO(count_batches(l, err));
    KD_GO(make_parts(l, err));
    *out = l;
    return KD_OK;
done:
    kd_loader_close(l);
    return st;
}

void kd_loader_close(kd_loader *l)
{
    if (l == NULL) {
        return;
    }
    if (l->sync_made) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_broadcast(&l->work);
        pthread_mutex_unlock(&l->lock);
        for (int i = 0; i < l->threads; i++) {
            pthread_join(l->thread[i], NULL);
        }
        pthread_cond_destroy(&l->ready);
        pthread_cond_destroy(&l->work);
        pthread_mutex_destroy(&l->lock);
    }
    for (int i = 0; l->scratch != NULL && i < KD_MAX(l->o.workers, 1); i++) {
        if (l->p.scratch_free != NULL) {
            l->p.scratch_free(l->p.ctx, l->scratch[i]);
        }
    }
    for (int i = 0; l->slot != NULL && i < l->o.depth; i++) {
        slot_drop(l, &l->slot[i]);
    }
    kd_free(l->slot);
    kd_free(l->scratch);
    kd_free(l->thread);
    kd_free(l->bad);
    kd_free(l);
}

uint64_t kd_loader_batches(const kd_loader *l)
{
    return l->batches;
}

uint64_t kd_loader_items(const kd_loader *l)
{
    const uint64_t step = (uint64_t)l->o.batch_size * (uint64_t)l->o.ranks;
    return KD_MIN(l->batches * step, item_count(l));
}

/* ---- the consumer's side --------------------------------------------------------------------- */

kd_status kd_loader_seek(kd_loader *l, uint32_t epoch, uint64_t batch, kd_err *err)
{
    if (batch > l->batches) {
        return KD_FAIL(err, KD_E_ARG, "batch %llu of an epoch of %llu", (unsigned long long)batch,
                       (unsigned long long)l->batches);
    }
    pthread_mutex_lock(&l->lock);
    l->paused = true;
    while (l->busy > 0) {
        pthread_cond_wait(&l->ready, &l->lock);
    }
    l->first = (uint64_t)epoch * l->batches + batch;
    l->end = l->o.train ? UINT64_MAX : ((uint64_t)epoch + 1) * l->batches;
    l->taken = l->first;
    l->next = l->first * (uint64_t)l->o.batch_size;
    l->holding = false;
    l->started = true;
    l->paused = false;
    for (int i = 0; i < l->o.depth; i++) {
        l->slot[i].left = -1; /* nobody's batch */
    }
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return KD_OK;
}

static kd_status note_bad(kd_loader *l, uint32_t sample, const char *message, kd_err *err)
{
    for (size_t i = 0; i < l->n_bad; i++) {
        if (l->bad[i].sample == sample) {
            l->bad[i].times++;
            return KD_OK;
        }
    }
    if (l->n_bad == l->bad_room) {
        const size_t room = l->bad_room == 0 ? 16 : 2 * l->bad_room;
        kd_bad_sample *p = kd_realloc(l->bad, l->bad_room * sizeof *l->bad, room * sizeof *l->bad);
        if (p == NULL) {
            return KD_FAIL(err, KD_E_OOM, "no memory for %zu skipped samples", room);
        }
        l->bad = p;
        l->bad_room = room;
    }
    kd_bad_sample *b = &l->bad[l->n_bad++];
    b->sample = sample;
    b->times = 1;
    memcpy(b->message, message, sizeof b->message);
    return KD_OK;
}

/* Apply the policy to a finished batch. */
static kd_status judge(kd_loader *l, slot *s, kd_err *err)
{
    s->batch.valid_rows = 0;
    for (int row = 0; row < l->o.batch_size; row++) {
        const row_fault *f = &s->fault[row];
        if (f->code != KD_OK) {
            if (!kd_sample_unreadable(f->code)) {
                return KD_FAIL(err, f->code, "%s", f->message);
            }
            if (l->o.on_bad != KD_BAD_SKIP) {
                return KD_FAIL(err, f->code, "%s (data.on_bad_sample: skip leaves it out)", f->message);
            }
            KD_TRY(note_bad(l, s->batch.sample[row], f->message, err));
        }
        s->batch.valid_rows += s->batch.valid[row] > 0.0f;
    }
    return KD_OK;
}

kd_status kd_loader_next(kd_loader *l, const kd_batch **out, kd_err *err)
{
    *out = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->holding) {
        slot_of(l, l->taken)->left = -1;
        l->taken++;
        l->holding = false;
        pthread_cond_broadcast(&l->work);
    }
    const bool started = l->started;
    const uint64_t g = l->taken, end = l->end;
    slot *s = slot_of(l, g);
    if (l->o.workers > 0 && started && g < end) {
        const double t0 = kd_now();
        while (!l->cancelled && s->left != 0) {
            pthread_cond_wait(&l->ready, &l->lock);
        }
        l->waited += kd_now() - t0;
    }
    const bool cancelled = l->cancelled;
    pthread_mutex_unlock(&l->lock);
    if (cancelled) {
        return KD_FAIL(err, KD_E_CANCELLED, "the loader was cancelled");
    }
    if (!started) {
        return KD_FAIL(err, KD_E_STATE, "kd_loader_seek comes before kd_loader_next");
    }
    if (g >= end) {
        return KD_OK;
    }
    if (l->o.workers == 0) {
        const double t0 = kd_now();
        begin_batch(l, s, g);
        fill_unit(l, g * (uint64_t)l->o.batch_size, (g + 1) * (uint64_t)l->o.batch_size, l->scratch[0]);
        l->waited += kd_now() - t0;
    }
    KD_TRY(judge(l, s, err));
    l->holding = true;
    *out = &s->batch;
    return KD_OK;
}

void kd_loader_cancel(kd_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->cancelled = true;
    pthread_cond_broadcast(&l->ready);
    pthread_mutex_unlock(&l->lock);
}

size_t kd_loader_bad(const kd_loader *l, const kd_bad_sample **list)
{
    *list = l->bad;
    return l->n_bad;
}

double kd_loader_waited(const kd_loader *l)
{
    return l->waited;
}
