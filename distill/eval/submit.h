/* `predict --submission`: the classes of unlabelled videos as the CSV that a benchmark's server reads.
 *
 *   id,class
 *   0,clap
 *   10,brush hair
 *
 * Rows are sorted by id: as numbers where all ids are digits, else by bytes.  LF; a field with a comma, a quote or a
 * line end stands in quotes.  The views are those of the recipe's test.
 */
#ifndef KD_DISTILL_EVAL_SUBMIT_H
#define KD_DISTILL_EVAL_SUBMIT_H

#include "distill/model/task.h"
#include "distill/run/progress.h"

typedef struct kd_submit_opts {
    const kd_task *task;
    const kd_config *cfg; /* resolved; data.root is where the videos lie */
    const char *weights;
    /* A text of one id a line, of which all from the first comma or tab on is not looked at, and the heading "id"
     * neither.  An id is a path below data.root, with or without the ending of a video, or the name of a file or of a
     * folder of pictures anywhere below it.  Or a folder: everything in it that is a video. */
    const char *ids;
    const char *out; /* the CSV */
    kd_backend *be;
    const kd_progress *progress;
} kd_submit_opts;

typedef struct kd_submit_result {
    size_t listed, done, failed; /* listed = done + failed */
} kd_submit_result;

/* data.on_bad_sample: fail ends at the first id without a readable video, and writes nothing; skip names it, and it has
 * no row.  KD_E_DATA: an id twice, one that names several files, weights without class names. */
KD_NODISCARD kd_status kd_submit(const kd_submit_opts *o, kd_submit_result *result, kd_err *err);

#endif
