/* `kd logits import`: logits and features made elsewhere (outside.h) become a store like any other.
 *
 * With a data set the store gets what a dumped one has: the labels, split and class order of the data set, the hashes
 * of the lists of its halves, its records in the order of the listing.  The files of the samples need not be there.  A
 * sample without a row is a bad sample (data.on_bad_sample); a row whose id is no sample of either half is named and
 * left out.  Labels that the file holds must be those of the data set.
 *
 * A file of features alone gives a store of features alone: its logits are zeros, and losses that read logits refuse
 * it.
 *
 * Without a data set the file must hold labels and classes; the store then names no split, and a student joins it by
 * ids and labels alone.
 *
 * Columns of the logits.  Where the file names its classes and these are those of the data set, columns are put into
 * the data set's order by name.  Other names need a class map: a text file, "column<TAB>class of the data set" a line,
 * in which each class of the data set stands once; a column is named, or numbered from 0 where the file names no
 * classes. Columns that the map does not mention are dropped.  Without names there are as many columns as classes, in
 * label order.
 */
#ifndef KD_DISTILL_STORE_IMPORT_H
#define KD_DISTILL_STORE_IMPORT_H

#include "distill/store/outside.h"
#include "formats/data/dataset.h"
#include "formats/store/logit_store.h"

typedef struct kd_import_opts {
    const char *path;
    kd_outside_names names;
    const char *class_map;    /* file; NULL: none */
    const kd_data_opts *data; /* resolved; NULL: no data set */
    bool train, val;          /* halves of the data set, in this order */
    const char *out;          /* NAME.logits.zst; whether it may be written has been asked */
    const char *teacher, *provenance;
    int clips, crops;  /* clips x crops are the file's views; 0: every view is a clip */
    bool flips;        /* and each of them mirrored: crops, the same mirrored, the next clip */
    const char *merge; /* "prob" or "score" */
    kd_dtype stored;   /* of logits and features: KD_F16, KD_F32, or KD_DTYPE_COUNT: as the file has them */
    void *user;
    /* Told of every sample without a row (failed or excluded) and of every row without a sample; may be NULL. */
    void (*left)(void *user, const char *id, const char *why);
} kd_import_opts;

typedef struct kd_import_result {
    size_t rows;                           /* of the file */
    size_t unknown;                        /* rows that are no sample */
    size_t listed, done, failed, excluded; /* samples; listed = done + failed + excluded */
    double top1_train,
        top1_val; /* of the halves' records; NaN: that half was not imported, no data set, or no logits */
    uint64_t bytes;
} kd_import_result;

/* KD_E_DATA: nothing joins, a sample lacks a row under on_bad_sample: fail, classes or labels disagree; what
 * kd_outside_read, kd_dataset_open and the store's writer refuse. */
KD_NODISCARD kd_status kd_import(const kd_import_opts *o, kd_import_result *result, kd_err *err);

#endif
