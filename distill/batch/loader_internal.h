/* Inside of the loader, shared by loader.c (the consumer's side), loader_work.c (rows, workers) and loader_open.c.
 *
 * Batches are numbered through (`g` = epoch * batches + index), and so are rows (g * batch_size +
 * row).  Batch g lives in slot g mod depth.  Work is handed out in units of up to `grain` rows, in
 * order; a unit is handed out once the slots of all its batches are free, that is once the consumer
 * has moved past batch g - depth.  In an evaluation with views a unit is all rows of a sample, in
 * however many batches they lie, so that one worker decodes the sample once; other units end with
 * their batch.  One mutex guards all numbers; rows are written outside it, each by one thread. */
#ifndef KD_DISTILL_BATCH_LOADER_INTERNAL_H
#define KD_DISTILL_BATCH_LOADER_INTERNAL_H

#include "distill/batch/loader.h"

#include <pthread.h>

typedef struct kd_row_fault {
    kd_status code; /* KD_OK: the row is good */
    char message[256];
} kd_row_fault;

typedef struct kd_loader_slot {
    kd_batch batch;
    kd_row_fault *fault; /* [rows] */
    int left;            /* rows not finished; -1: nobody's batch */
} kd_loader_slot;

struct kd_loader {
    kd_loader_opts o;
    kd_producer p;
    size_t labels;        /* of a sample */
    uint64_t batches;     /* of an epoch */
    bool spanning;        /* units go on over the ends of batches */
    kd_loader_slot *slot; /* [depth] */
    void **scratch;       /* [max(workers, 1)] */
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

uint64_t kdi_loader_items(const kd_loader *l); /* rows of an epoch that have a sample */
kd_loader_slot *kdi_loader_slot(const kd_loader *l, uint64_t g);

/* Rows [row, end), whose batches have begun. */
void kdi_loader_fill(const kd_loader *l, uint64_t row, uint64_t end, void *scratch);
void kdi_loader_begin(const kd_loader *l, kd_loader_slot *s, uint64_t g); /* batch g in its slot */

KD_NODISCARD kd_status kdi_loader_start(kd_loader *l, kd_err *err); /* the worker threads */

#endif
