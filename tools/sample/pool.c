/* See pool.h. */
#include "tools/sample/pool.h"

#include "kernels/kd_backend.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct pool {
    kd_pool_fn fn;
    void *ctx;
    size_t n;
    const kd_progress *progress;
    _Atomic size_t next, done;
    _Atomic bool stop;
    pthread_mutex_t lock; /* guards the two below */
    kd_status status;
    kd_err err;
} pool;

static void fail(pool *p, kd_status st, const kd_err *err)
{
    (void)pthread_mutex_lock(&p->lock);
    if (p->status == KD_OK) {
        p->status = st;
        p->err = *err;
    }
    (void)pthread_mutex_unlock(&p->lock);
    atomic_store(&p->stop, true);
}

static void work(pool *p, bool reports)
{
    while (!atomic_load(&p->stop)) {
        const size_t i = atomic_fetch_add(&p->next, 1);
        if (i >= p->n) {
            return;
        }
        kd_err err = {0};
        const kd_status st = p->fn(p->ctx, i, &err);
        if (st != KD_OK) {
            fail(p, st, &err);
            return;
        }
        atomic_fetch_add(&p->done, 1);
        if (reports) {
            kd_progress_step(p->progress, atomic_load(&p->done), NAN);
            if (kd_progress_stop(p->progress)) {
                fail(p, KD_FAIL(&err, KD_E_CANCELLED, "interrupted"), &err);
            }
        }
    }
}

static void *work_thread(void *arg)
{
    work(arg, false);
    return NULL;
}

kd_status kd_pool_run(kd_pool_fn fn, void *ctx, size_t n, int threads, const kd_progress *progress, kd_err *err)
{
    enum { MOST = 128 };
    pthread_t thread[MOST];
    int started = 0;
    pool p;
    memset(&p, 0, sizeof p);
    p.fn = fn;
    p.ctx = ctx;
    p.n = n;
    p.progress = progress;
    (void)pthread_mutex_init(&p.lock, NULL);
    for (int i = 1; i < threads && i < MOST; i++) {
        if (pthread_create(&thread[started], NULL, work_thread, &p) == 0) {
            started++;
        }
    }
    work(&p, true);
    for (int i = 0; i < started; i++) {
        (void)pthread_join(thread[i], NULL);
    }
    (void)pthread_mutex_destroy(&p.lock);
    kd_progress_step(progress, atomic_load(&p.done), NAN);
    if (p.status != KD_OK && err != NULL && err->code == KD_OK) {
        *err = p.err;
    }
    return p.status;
}

int kd_pool_threads(int64_t asked)
{
    return asked > 0 ? (int)asked : kd_cores();
}
