/* Batches ahead of time: worker threads fill a fixed ring of batch slots, the consumer takes
 * them in order.
 *
 * What a batch holds is a pure function of (options, epoch, batch number): the order comes from
 * kd_rng_permute, each row from the producer, whose draws are keyed by (seed, sample, epoch).
 * So the bytes are the same for any number of workers, and a run is continued by naming its
 * epoch and batch.  With workers = 0 the consumer's own thread does the work inside
 * kd_loader_next.
 *
 * Training: all samples in a fresh order every epoch, the last incomplete batch dropped; batches
 * go on from epoch to epoch.  Where a sample has several rows (repeated augmentation) they follow each other:
 * a1 a2 b1 b2.  Evaluation: items (sample x view) in listing order, view fastest;
 * the last batch is padded with rows of zeros that `valid` marks; after it kd_loader_next gives
 * NULL.
 *
 * A sample that cannot be read (KD_E_IO, KD_E_FORMAT, KD_E_DATA, KD_E_NUMERIC from the producer)
 * ends the run under KD_BAD_FAIL, with the first of them in batch order.  Under KD_BAD_SKIP its
 * row stays zero and invalid and the sample is listed; nothing takes its place.  Other failures
 * (memory, cancel) always end the run.
 *
 * Slots, rows and worker scratch are made when the loader is opened: in the steady state nothing
 * is allocated here.
 */
#ifndef KD_DISTILL_BATCH_LOADER_H
#define KD_DISTILL_BATCH_LOADER_H

#include "formats/data/data_opts.h"
#include "formats/data/rows.h"

typedef struct kd_loader_opts {
    int batch_size; /* rows of a batch of this rank; in training a multiple of the producer's views */
    int workers;    /* 0: synchronous */
    int depth;      /* slots of the ring; 0: two more than the workers keep busy, 1 GiB of views at most */
    bool train;     /* shuffled, incomplete batch dropped, endless; else listing order, padded */
    uint64_t seed;
    kd_on_bad on_bad;
    int rank, ranks; /* this process takes rows rank * batch_size ... of a global batch; 0 means 1 */
} kd_loader_opts;

/* One batch, valid until the next call on the loader. */
typedef struct kd_batch {
    uint32_t epoch;
    uint64_t index;               /* number within the epoch */
    bool last;                    /* of its epoch */
    int rows;                     /* batch_size */
    int valid_rows;               /* rows with valid = 1 */
    void *tensor[KD_ROW_TENSORS]; /* [rows, row_spec.dim...]; the consumer may write */
    int32_t *label;               /* [rows, n_labels of the producer]; 0 where invalid */
    float *valid;                 /* [rows] 1 or 0 */
    uint32_t *sample;             /* [rows]; UINT32_MAX for padding */
    uint32_t *view;               /* [rows] */
} kd_batch;

typedef struct kd_bad_sample {
    uint32_t sample;
    uint32_t times; /* rows lost to it so far */
    char message[256];
} kd_bad_sample;

typedef struct kd_loader kd_loader;

/* train.workers as a number of threads: 0 means one less than the cores this process may use (none on one core). */
int kd_loader_workers(int asked);

/* `producer` is copied; its ctx must outlive the loader.  KD_E_DATA: fewer samples than one
 * training batch needs. Nothing is read before kd_loader_seek. */
KD_NODISCARD kd_status kd_loader_open(const kd_loader_opts *opts, const kd_producer *producer, kd_loader **out,
                                      kd_err *err);
void kd_loader_close(kd_loader *l); /* stops the workers after the row at hand; NULL is legal */

uint64_t kd_loader_batches(const kd_loader *l); /* of one epoch */
uint64_t kd_loader_items(const kd_loader *l);   /* rows of one epoch over all ranks, without padding */

uint64_t kd_loader_bytes(const kd_loader *l); /* of the ring: all rows of all slots */

/* Start (again) at a batch of an epoch.  Cheap when workers are idle; what they prepared for
 * elsewhere is dropped. */
KD_NODISCARD kd_status kd_loader_seek(kd_loader *l, uint32_t epoch, uint64_t batch, kd_err *err);

/* The next batch; *out NULL after the last one of an evaluation.  KD_E_CANCELLED after
 * kd_loader_cancel. */
KD_NODISCARD kd_status kd_loader_next(kd_loader *l, const kd_batch **out, kd_err *err);

/* From any thread: a waiting kd_loader_next returns.  Not for signal handlers. */
void kd_loader_cancel(kd_loader *l);

/* Samples skipped so far, by first loss in batch order; valid until the next kd_loader_next. */
size_t kd_loader_bad(const kd_loader *l, const kd_bad_sample **list);

/* Seconds kd_loader_next has waited for rows: the data path is the bottleneck where this is a
 * large share. */
double kd_loader_waited(const kd_loader *l);

#endif
