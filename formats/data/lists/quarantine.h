/* Samples that a run is to leave out, or whose labels it is not to use (data.unlabelled): quarantine.tsv of
 * `kd dataset check`, or a key a line.
 *
 * A line with tabs is key, kind, path, problem; the heading and lines of kind "unequal" (two lengths, no damage) name
 * nothing.  A sample is named by its key or by the path of one of its files, relative to the data set's root.
 */
#ifndef KD_FORMATS_DATA_LISTS_QUARANTINE_H
#define KD_FORMATS_DATA_LISTS_QUARANTINE_H

#include "kernels/kd_base.h"

#define KD_QUARANTINE_FILE    "quarantine.tsv"
#define KD_QUARANTINE_HEADING "key\tkind\tpath\tproblem"
#define KD_QUARANTINE_UNEQUAL "unequal"

typedef struct kd_quarantine {
    char **name; /* [n], sorted: keys and paths */
    size_t n;
} kd_quarantine;

KD_NODISCARD kd_status kd_quarantine_read(const char *path, kd_quarantine *out, kd_err *err);
void kd_quarantine_free(kd_quarantine *q); /* zeroed or NULL is legal */

bool kd_quarantine_has(const kd_quarantine *q, const char *name); /* NULL is never there */

#endif
