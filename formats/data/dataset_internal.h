/* Inside the data set: what it is called, and its classes. */
#ifndef KD_FORMATS_DATA_DATASET_INTERNAL_H
#define KD_FORMATS_DATA_DATASET_INTERNAL_H

#include "formats/data/dataset.h"
#include "formats/data/lists/quarantine.h"
#include "formats/data/scan.h"
#include "formats/data/split_lists.h"

/* ds->name and ds->split.  list: the halves' lists under a split by list. */
kd_status kd_dataset_name_split(const kd_data_opts *cfg, const kd_listing list[KD_HALVES], kd_dataset *ds, kd_err *err);

/* ds->classes, ds->n_classes and ds->named.  own: names that the lists bring; `seen`: classes the labels need at
 * least. */
kd_status kd_dataset_name_classes(const kd_data_opts *cfg, const kd_class_names *own, int seen, kd_dataset *ds,
                                  kd_err *err);

/* data.unlabelled; names: the ids of its file, where it is one. */
KD_NODISCARD kd_status kdi_dataset_forget_labels(const kd_data_opts *cfg, const kd_quarantine *names, kd_dataset *ds,
                                                 kd_err *err);

/* Absent files of the halves asked for, by data.on_bad_sample; empty halves, ids, labels. */
kd_status kdi_dataset_check(const kd_data_opts *cfg, unsigned halves, const kd_dataset *ds, kd_err *err);

/* counts.videos, skeletons, pairs and unlabelled of the samples that are kept. */
void kdi_half_count(kd_half *half);

/* The label of a listed sample against that of its row.  KD_E_DATA: another one. */
KD_NODISCARD kd_status kdi_dataset_row_label(const kd_archive *a, size_t row, const char *key, int label, kd_err *err);

int kdi_by_left_id(const void *a, const void *b); /* orders kd_left_out */

#endif
