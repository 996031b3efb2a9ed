/* samples.tsv of a run directory: ids and labels of both halves, so that a resume on other data can say what is
 * different.  Lines "half<TAB>id<TAB>label<LF>", half train or val, in id order. */
#ifndef KD_DISTILL_RUN_SAMPLES_H
#define KD_DISTILL_RUN_SAMPLES_H

#include "formats/data/dataset.h"

KD_NODISCARD kd_status kd_samples_write(const char *path, const kd_dataset *ds, kd_err *err);

/* What the file and the data set differ in: "training half: 1 gone (S001...), 0 new, 2 with another label (S003...: 4
 * then, 5 now)"; "" where they agree or the file cannot be read. */
void kd_samples_differ(const char *path, const kd_dataset *ds, char *text, size_t size);

#endif
