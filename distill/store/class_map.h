/* Which column of another program's logits is which class: for import.c alone; the rules stand in import.h. */
#ifndef KD_DISTILL_STORE_CLASS_MAP_H
#define KD_DISTILL_STORE_CLASS_MAP_H

#include "distill/store/outside.h"
#include "formats/data/dataset.h"

/* column [classes of the data set] (kd_free): of each class, in label order.  path: of a map, or NULL.  data NULL: the
 * columns are the classes.  KD_E_DATA: a class without a column, names or numbers that nobody has, other counts. */
KD_NODISCARD kd_status kdi_class_columns(const kd_outside *in, const char *path, const kd_dataset *data,
                                         uint32_t **column, kd_err *err);

#endif
