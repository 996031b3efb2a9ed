/* Opening and closing a loader: see loader_internal.h. */
#include "distill/batch/loader_internal.h"
#include "kernels/kd_backend.h"

enum { RING_BYTES = 1 << 30 };

int kd_loader_workers(int asked)
{
    return asked > 0 ? asked : kd_cores() - 1;
}

static kd_status slot_make(kd_loader *l, kd_loader_slot *s, kd_err *err)
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

static void slot_drop(const kd_loader *l, kd_loader_slot *s)
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
    const uint64_t n = kdi_loader_items(l);
    l->batches = l->o.train ? n / step : (n + step - 1) / step;
    if (l->batches > 0) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA, "%zu samples do not fill one batch of %llu; lower train.batch_size", l->p.samples,
                   (unsigned long long)(step / l->p.views));
}

/* One batch is the consumer's, and a unit needs all of its own. */
static int least_depth(const kd_loader *l)
{
    return l->spanning ? (l->p.grain + l->o.batch_size - 2) / l->o.batch_size + 2 : 2;
}

/* As many batches as keep all workers busy.  Where each of them holds many views, at most RING_BYTES of rows: fewer
 * workers are busy then, but none decodes what another one has decoded. */
static int default_depth(const kd_loader *l)
{
    const int64_t batch = l->o.batch_size;
    const int64_t busy = (int64_t)l->o.workers * (l->spanning ? l->p.grain : KD_MIN(l->p.grain, l->o.batch_size));
    int64_t depth = 2 + (busy + batch - 1) / batch, bytes = 1;
    for (int t = 0; t < l->p.n_tensors; t++) {
        bytes += (int64_t)l->p.tensor[t].bytes;
    }
    if (l->spanning) {
        depth = KD_MAX(KD_MIN(depth, RING_BYTES / batch / bytes), least_depth(l));
    }
    return (int)depth;
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
    return kdi_loader_start(l, err);
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
