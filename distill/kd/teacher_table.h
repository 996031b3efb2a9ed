/* What the teacher left in a store, joined to the samples of a half. */
#ifndef KD_DISTILL_KD_TEACHER_TABLE_H
#define KD_DISTILL_KD_TEACHER_TABLE_H

#include "distill/kd/loss_opts.h"
#include "formats/data/dataset.h"
#include "formats/store/logit_store.h"

/* Proves that n stores belong to the data set and to `half`, one of its halves: same class list, same split (a store
 * that was imported without a data set names none), same label of every sample that has one on both sides.  A sample
 * of which none of them has a record is a bad sample: under KD_BAD_FAIL it is refused (their number and the first ids
 * named), under KD_BAD_SKIP left out of the half and warned of.  KD_E_DATA: any of these, or nothing joined. */
KD_NODISCARD kd_status kd_teacher_join(const kd_dataset *ds, kd_half *half, kd_store *const *store, int n,
                                       kd_on_bad on_bad, kd_err *err);

/* Rows in sample order.  Of a store whose views are rows of training (dump-logits --views train:V) each view stands by
 * itself: epoch e is taught by view e mod V.  Of any other store the views of a sample are one answer.  The logits are
 * such that softmax(logits) is the record's merged prediction: the plain logits of a store with one view a record, the
 * mean of the views' logits under rule "score", the logarithm of the views' mean probability under rule "prob". */
typedef struct kd_teacher_table {
    size_t n;          /* samples of the half */
    int n_classes;     /* K */
    int feature_dim;   /* D; 0: none */
    int views;         /* V: answers to each sample, 1 but for a store whose views are rows of training */
    bool in_order;     /* record and sample have the same number, as draws count them */
    uint8_t *has;      /* [n] 1: there is a record; 0: rows of zeros */
    float *logits;     /* [n, V, K] */
    float *feature;    /* [n, D]; NULL when D is 0 */
    kd_store_cut *cut; /* [n, V] how the views were cut; NULL unless asked for */
    size_t extra;      /* records of ids that are not in this half */
    size_t lacking;    /* samples without a record */
    double top1;       /* teacher's accuracy on the samples that have a label and a record, 0..1 */
} kd_teacher_table;

/* Loads the rows of a half that kd_teacher_join has proved; samples without a record are legal where another store of
 * the join has one.  tap: the feature to load besides, as kd_store_find_tap
 * names it; NULL: none.  cuts: how the views were cut, too.  KD_E_DATA: the store has no such feature, or a view
 * without frames.  KD_E_INTEGRITY from the store. */
KD_NODISCARD kd_status kd_teacher_table_load(const kd_half *half, const kd_store *store, const char *tap, bool cuts,
                                             kd_teacher_table *out, kd_err *err);

/* Several stores as one teacher of the terms on logits (kd.combine). */
typedef struct kd_teachers {
    const kd_teacher_table *table; /* [n] */
    int n;
    kd_combine how;       /* KD_COMBINE_EACH: as average */
    const double *weight; /* [n]; NULL: 1 each */
    double *work;         /* [2 K] */
} kd_teachers;

/* p [K]: the teachers' answer to a sample in an epoch, probabilities at temperature T,
 *     p = sum_s w_s g_s softmax(z_s / T) / sum_s w_s g_s      over the stores that have a record of it,
 * with g_s, from q_s = softmax(z_s): average 1; confidence max q_s; entropy 1 - H(q_s) / ln K (H: Shannon's, in nats);
 * correctness 1 where argmax z_s is `label`, else 0.  Where all w_s g_s are 0, and under correctness where the sample
 * has no label (KD_NO_LABEL), g_s is 1.  False, and p is not written: no store with a weight above 0 has a record. */
bool kd_teachers_answer(const kd_teachers *t, size_t sample, uint32_t epoch, int label, double temperature, double *p);

void kd_teacher_table_free(kd_teacher_table *t); /* zeroed or NULL is legal */

#endif
