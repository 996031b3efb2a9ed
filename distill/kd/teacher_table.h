/* What the teacher left in a store, joined to the samples of a half. */
#ifndef KD_DISTILL_KD_TEACHER_TABLE_H
#define KD_DISTILL_KD_TEACHER_TABLE_H

#include "formats/data/dataset.h"
#include "formats/store/logit_store.h"

/* Rows in sample order.  The logits are such that softmax(logits) is the record's merged
 * prediction: the plain logits of a store with one view a record, the mean of the views' logits
 * under rule "score", the logarithm of the views' mean probability under rule "prob". */
typedef struct kd_teacher_table {
    size_t n;         /* samples of the half */
    int n_classes;    /* K */
    int feature_dim;  /* D; 0: none */
    float *logits;    /* [n, K]; zeros where has[i] is 0 */
    float *feature;   /* [n, D]; NULL when D is 0 */
    uint8_t *has;     /* [n] the store holds the sample */
    size_t joined;    /* samples with a record */
    size_t no_record; /* samples without one */
    size_t extra;     /* records of ids that are not in this half */
    double top1;      /* teacher's accuracy on the joined samples, 0..1 */
} kd_teacher_table;

/* Proves the join, then loads it.  KD_E_DATA: another class list (first difference named),
 * another split, a label that differs (id and both labels named), nothing joined, or no_record >
 * 0 unless allow_missing; KD_E_INTEGRITY from the store. with_features: load them; a store
 * without features is then KD_E_DATA. */
KD_NODISCARD kd_status kd_teacher_table_load(const kd_dataset *ds, kd_half_id half, const kd_store *store,
                                             bool with_features, bool allow_missing, kd_teacher_table *out,
                                             kd_err *err);
void kd_teacher_table_free(kd_teacher_table *t); /* zeroed or NULL is legal */

#endif
