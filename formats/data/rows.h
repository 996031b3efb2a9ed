/* Rows: what one sample of a half becomes in a batch, and who makes it.
 *
 * A source (teacher/clip, student/skeleton) describes its rows and fills them; the loader (distill/batch) gathers them
 * into batches.  Neither knows the other.
 */
#ifndef KD_FORMATS_DATA_ROWS_H
#define KD_FORMATS_DATA_ROWS_H

#include "kernels/kd_base.h"

#define KD_ROW_TENSORS 8
#define KD_ROW_RANK    5

/* One tensor of a row: (dim[0], ..., dim[rank-1]), row-major. */
typedef struct kd_row_spec {
    const char *name; /* "clip", "place"; "joint", "velocity", "bone" */
    kd_dtype dtype;
    int rank;
    int64_t dim[KD_ROW_RANK];
    size_t bytes; /* of a row: product of dim and the size of the dtype */
} kd_row_spec;

typedef struct kd_item {
    uint32_t sample; /* index in the half */
    uint32_t view;   /* in training the number of the repeat */
    uint32_t epoch;  /* the epoch this row belongs to; in evaluation the one given to kd_loader_seek */
} kd_item;

/* Makes rows; implemented by teacher/clip and student/skeleton.  Functions are called from several threads
 * at once. */
typedef struct kd_producer {
    void *ctx;
    size_t samples;
    uint32_t views; /* rows a sample has: in evaluation its views, in training its repeats in a batch */
    int n_tensors;
    kd_row_spec tensor[KD_ROW_TENSORS];
    int grain; /* rows handed to a worker at once: those of one video, or as many small rows as are worth it */
    /* Work space of one worker, NULL when none is needed. */
    kd_status (*scratch_new)(void *ctx, void **scratch, kd_err *err);
    void (*scratch_free)(void *ctx, void *scratch);
    /* Write every byte of dst[0..n_tensors-1].  The message names the sample's id and file. */
    kd_status (*fill)(void *ctx, const kd_item *item, void *scratch, void *const *dst, kd_err *err);
    int n_labels; /* of a sample; 0 means 1 */
    /* dst[n_labels], padded with -1: of the row, since a mirrored clip can be of another class. */
    void (*label)(void *ctx, const kd_item *item, int32_t *dst);
    const char *(*id)(void *ctx, uint32_t sample);
} kd_producer;

/* The spec of a tensor of this dtype and shape. */
kd_row_spec kd_row_spec_of(const char *name, kd_dtype dtype, int rank, const int64_t *dim);

/* Does this failure of a producer mean that the sample cannot be read?  Others (memory, cancel) end the run. */
bool kd_sample_unreadable(kd_status st);

#endif
