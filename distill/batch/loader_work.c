/* The loader's rows and the threads that make them: see loader_internal.h. */
#include "distill/batch/loader_internal.h"
#include "kernels/kd_rng.h"

#include <stdio.h>

typedef struct worker_arg {
    kd_loader *l;
    int number;
} worker_arg;

/* ---- one unit of rows ------------------------------------------------------------------------ */

uint64_t kdi_loader_items(const kd_loader *l)
{
    return (uint64_t)l->p.samples * l->p.views;
}

/* Which item row `row` of batch `index` is; false for padding. */
static bool row_item(const kd_loader *l, uint32_t epoch, uint64_t index, int row, kd_item *item)
{
    const uint64_t n = kdi_loader_items(l);
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

static void fill_row(const kd_loader *l, kd_loader_slot *s, int row, void *scratch)
{
    kd_batch *b = &s->batch;
    kd_row_fault *fault = &s->fault[row];
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

kd_loader_slot *kdi_loader_slot(const kd_loader *l, uint64_t g)
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

void kdi_loader_fill(const kd_loader *l, uint64_t row, uint64_t end, void *scratch)
{
    const uint64_t rows = (uint64_t)l->o.batch_size;
    for (; row < end; row++) {
        fill_row(l, kdi_loader_slot(l, row / rows), (int)(row % rows), scratch);
    }
}

void kdi_loader_begin(const kd_loader *l, kd_loader_slot *s, uint64_t g)
{
    s->left = l->o.batch_size;
    s->batch.epoch = (uint32_t)(g / l->batches);
    s->batch.index = g % l->batches;
    s->batch.last = s->batch.index + 1 == l->batches;
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
        kdi_loader_begin(l, kdi_loader_slot(l, g), g);
    }
    l->next = *end;
    l->busy++;
}

static void finish_unit(kd_loader *l, uint64_t row, uint64_t end)
{
    const uint64_t rows = (uint64_t)l->o.batch_size;
    bool ready = --l->busy == 0;
    for (uint64_t upto; row < end; row = upto) {
        kd_loader_slot *s = kdi_loader_slot(l, row / rows);
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
        kdi_loader_fill(l, row, end, scratch);
        pthread_mutex_lock(&l->lock);
        finish_unit(l, row, end);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

kd_status kdi_loader_start(kd_loader *l, kd_err *err)
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
