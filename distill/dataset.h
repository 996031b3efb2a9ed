/* Which samples a run sees: the folder scan, the split, the labels, and the join of all of them
 * by sample id.
 *
 * Opened once for both halves, so that the split can be proved: no id twice, no subject (camera,
 * setup) in both halves of a split by it, every label inside the class list, no half empty that
 * is asked for.  Samples of a half are sorted by id (bytes); their number in that order is the
 * sample index that keys every random draw, so `data.limit` keeps the first ones and their
 * draws.  A sample that lacks a file that is needed is left out and counted, never replaced.
 *
 * The published missing-skeleton lists apply to the published splits; other data may reuse NTU's
 * names. Layout list needs split list: paths in the lists are relative to root (and
 * data.video_dir or data.skeleton_dir).
 *
 * Labels: action - 1 for NTU names; the list's number where the split or the layout is a list.
 * Class names: data.classes; else `<root>/classes.txt` (one a line, label order); else NTU's own
 * for a published split; else A001... for NTU names and class-0... for others.
 *
 * Errors: KD_E_CONFIG (keys that cannot be used together), KD_E_DATA (anything about the
 * samples), KD_E_IO, KD_E_FORMAT (lists), KD_E_OOM.
 */
#ifndef KD_DATASET_H
#define KD_DATASET_H

#include "configs/kd_config.h"
#include "formats/logit_store.h"

#define KD_NEED_VIDEO    1u
#define KD_NEED_SKELETON 2u

typedef enum kd_half_id { KD_HALF_TRAIN, KD_HALF_VAL, KD_HALVES } kd_half_id;

typedef struct kd_data_sample {
    const char *id;       /* "S001C001P001R001A001", or the stem of the file name */
    const char *video;    /* path that can be opened; NULL: there is none */
    const char *skeleton; /* likewise */
    int label;
    int setup, camera, performer, replication, action; /* of the NTU name; 0 otherwise */
} kd_data_sample;

/* Why listed samples are not in a half. */
typedef struct kd_half_counts {
    size_t listed;        /* on this side of the split */
    size_t no_video;      /* left out: video needed and absent */
    size_t no_skeleton;   /* left out: skeleton needed and absent */
    size_t known_missing; /* left out: published missing-skeleton list, without data.with_missing */
    size_t over_limit;    /* left out: data.limit */
    size_t videos, skeletons, pairs; /* of the samples kept: those that have the file, and both */
} kd_half_counts;

typedef struct kd_half {
    kd_data_sample *sample; /* [n], sorted by id */
    size_t n;
    kd_half_counts counts;
} kd_half;

typedef struct kd_dataset {
    kd_half half[KD_HALVES];
    int n_classes;
    char **classes; /* [n_classes] names in label order */
    char *name;     /* "ntu60", "ntu120", or the last folder of root: stores and reports carry it */
    char *split;    /* "ntu60-xsub"; "subject train=[1,2]"; "list": equal texts mean equal splits */
    size_t unplaced; /* found on disk, on neither side of the split */
    char **text;     /* owns the strings */
    size_t n_text;
} kd_dataset;

/* `cfg` resolved.  need: KD_NEED_* bits.  halves: bit 1 << KD_HALF_TRAIN, 1 << KD_HALF_VAL of
 * those that must not be empty (both are filled in any case).  *out is the caller's to
 * kd_dataset_free, zeroed on failure. */
KD_NODISCARD kd_status kd_dataset_open(const kd_cfg_data *cfg, unsigned need, unsigned halves,
                                       kd_dataset *out, kd_err *err);
void kd_dataset_free(kd_dataset *ds); /* zeroed or NULL is legal */

/* The join as text, a line per half ("train: 40091 samples, ... left out: ..."); kd_free.  NULL
 * when memory runs out. */
char *kd_dataset_summary(const kd_dataset *ds);

/* Index of an id in a half; -1 when absent. */
int64_t kd_half_find(const kd_half *half, const char *id);

/* ---- what the teacher left, joined to a half ------------------------------------------------- */

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
KD_NODISCARD kd_status kd_teacher_table_load(const kd_dataset *ds, kd_half_id half,
                                             const kd_store *store, bool with_features,
                                             bool allow_missing, kd_teacher_table *out,
                                             kd_err *err);
void kd_teacher_table_free(kd_teacher_table *t); /* zeroed or NULL is legal */

#endif
