/* Rows of a classifier of Kinetics-710 that are those of Kinetics-400, 600 and 700.
 *
 * Kinetics-710 unites the classes of the three data sets: row[i] is the row of the 710 that answers for class i, in the
 * order of the smaller set's own list of classes (alphabetical).  A head of 710 rows that is cut down to them is a head
 * for the smaller set, which the 710's training has trained.
 */
#ifndef KD_TEACHER_MODEL_KINETICS_H
#define KD_TEACHER_MODEL_KINETICS_H

#include "kernels/kd_options.h"

#define KD_HEAD_ROWS_MAP(X)      \
    X(KD_HEAD_ROWS_NONE, "none") \
    X(KD_HEAD_ROWS_K400, "k400") \
    X(KD_HEAD_ROWS_K600, "k600") \
    X(KD_HEAD_ROWS_K700, "k700")

KD_ENUM_OF(kd_head_rows, KD_HEAD_ROWS_MAP);

#define KD_KINETICS_710 710 /* classes of the united set */

/* The rows, and how many; NULL and 0 for KD_HEAD_ROWS_NONE.  Source: OpenGVLab/VideoMAEv2, misc/label_710to400.json,
 * label_710to600.json, label_710to700.json. */
const uint16_t *kd_kinetics_rows(kd_head_rows which, int *n);

#endif
