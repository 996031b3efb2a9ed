/* The ids of a submission and the videos that they name: see submit.h. */
#ifndef KD_DISTILL_EVAL_SUBMIT_IDS_H
#define KD_DISTILL_EVAL_SUBMIT_IDS_H

#include "formats/data/dataset.h"

typedef struct kd_id_list {
    kd_half half;    /* those with a video, sorted as the rows of the submission; label -1 */
    size_t n_absent; /* those without: named in the log */
    char **text;     /* owns the strings; [n_text] */
    size_t n_text;
} kd_id_list;

/* ids: list or folder.  root: below which the videos of a list lie.  on_bad: of an id without a video. */
KD_NODISCARD kd_status kd_id_list_open(const char *ids, const char *root, kd_key_rule key, kd_on_bad on_bad,
                                       kd_id_list *out, kd_err *err);
void kd_id_list_free(kd_id_list *l); /* zeroed is legal */

#endif
