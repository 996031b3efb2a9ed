/* The batch ring, the consumer's side: see loader_internal.h. */
#include "distill/batch/loader_internal.h"

uint64_t kd_loader_batches(const kd_loader *l)
{
    return l->batches;
}

uint64_t kd_loader_items(const kd_loader *l)
{
    const uint64_t step = (uint64_t)l->o.batch_size * (uint64_t)l->o.ranks;
    return KD_MIN(l->batches * step, kdi_loader_items(l));
}

uint64_t kd_loader_bytes(const kd_loader *l)
{
    uint64_t row = 0;
    for (int t = 0; t < l->p.n_tensors; t++) {
        row += l->p.tensor[t].bytes;
    }
    return row * (uint64_t)l->o.batch_size * (uint64_t)l->o.depth;
}

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
static kd_status judge(kd_loader *l, kd_loader_slot *s, kd_err *err)
{
    s->batch.valid_rows = 0;
    for (int row = 0; row < l->o.batch_size; row++) {
        const kd_row_fault *f = &s->fault[row];
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
        kdi_loader_slot(l, l->taken)->left = -1;
        l->taken++;
        l->holding = false;
        pthread_cond_broadcast(&l->work);
    }
    const bool started = l->started;
    const uint64_t g = l->taken, end = l->end;
    kd_loader_slot *s = kdi_loader_slot(l, g);
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
        kdi_loader_begin(l, s, g);
        kdi_loader_fill(l, g * (uint64_t)l->o.batch_size, (g + 1) * (uint64_t)l->o.batch_size, l->scratch[0]);
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
