/* samples.tsv of a run directory: ids, labels and sizes of both halves, so that a resume on other data can say what is
 * different.  Lines "half<TAB>id<TAB>label<TAB>bytes<LF>", half train or val, in id order, bytes of the files that are
 * read. */
#ifndef KD_DISTILL_RUN_SAMPLES_H
#define KD_DISTILL_RUN_SAMPLES_H

#include "formats/data/dataset.h"

KD_NODISCARD kd_status kd_samples_write(const char *path, const kd_dataset *ds, unsigned need, kd_err *err);

/* What the file and the data set differ in: "training half: 1 gone (S001...), 0 new, 2 with another label (S003...: 4
 * then, 5 now), 1 of another size (...)"; "" where they agree or the file cannot be read. */
void kd_samples_differ(const char *path, const kd_dataset *ds, unsigned need, char *text, size_t size);

#endif
