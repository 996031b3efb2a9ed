/* What the commands of `kd dataset` share. */
#ifndef KD_TOOLS_DATASET_DATASET_INTERNAL_H
#define KD_TOOLS_DATASET_DATASET_INTERNAL_H

#include "formats/data/scan.h"

/* kd_scan_folder of a data set's root, which may be a skeleton archive: then *archive is the caller's to
 * kd_archive_close, after the scan; else it is NULL.  KD_E_DATA when there is nothing, with what there is instead. */
KD_NODISCARD kd_status kdi_dataset_scan(const char *dir, kd_scan *s, kd_archive **archive, kd_err *err);

#endif
