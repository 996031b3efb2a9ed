/* Inside the data set: what it is called, and its classes. */
#ifndef KD_FORMATS_DATA_DATASET_INTERNAL_H
#define KD_FORMATS_DATA_DATASET_INTERNAL_H

#include "formats/data/dataset.h"
#include "formats/data/listing.h"
#include "formats/data/sets/data_set.h"

/* ds->name and ds->split.  list: the halves' lists under a split by list. */
kd_status kd_dataset_name_split(const kd_data_opts *cfg, const kd_listing list[KD_HALVES], kd_dataset *ds, kd_err *err);

/* ds->classes and ds->n_classes; `seen`: classes the labels need at least. */
kd_status kd_dataset_name_classes(const kd_data_opts *cfg, int seen, kd_dataset *ds, kd_err *err);

#endif
