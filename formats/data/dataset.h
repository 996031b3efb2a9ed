/* Which samples a run sees: the folder scan, the split, the labels, and the join of all of them
 * by sample id.
 *
 * Opened once for both halves, so that the split can be proved: no id twice, no subject (camera,
 * setup) in both halves of a split by it, every label inside the class list, no half empty that
 * is asked for.  Samples of a half are sorted by id (bytes); their number in that order is the
 * sample index that keys every random draw, so `data.limit` keeps the first ones and their
 * draws.
 *
 * A listed sample that lacks a file that is needed is never replaced.  In a half that is asked for, data.on_bad_sample
 * decides: fail refuses, with the number, the first ids and the paths that were tried; skip leaves the sample out, says
 * so and names it in kd_half.left.  Without lists nobody promised a file: the samples are those that are found by
 * either kind, and one that lacks a needed kind is left out, said and named, as under skip.  Those on a published list
 * of missing skeletons (in published splits alone; other data may reuse NTU's names) and in data.quarantine are left
 * out without that question.
 *
 * Layout list needs split list: paths in the lists are relative to root (and
 * data.video_dir or data.skeleton_dir).
 *
 * Where data.skeleton_file, or data.root itself, is a skeleton archive (formats/base/archive.h), its rows are the
 * skeletons, joined with videos below the root by their ids; a split by list may name a half of the archive.  A label
 * of the archive must be that of the list and of the NTU name.  Rows that are only numbered are in no split but the
 * archive's own.
 *
 * Where data.video_dir is a pack (pack.h), its table says which videos there are: one that could not be packed is
 * absent.
 *
 * Labels: action - 1 for NTU names; the list's where the split is a list (split_lists.h; they are checked).
 * Without a label (KD_NO_LABEL): the samples that data.unlabelled names, whatever their names or lists say, and rows of
 * the training list that give none (listing.h).  They stay in the half; what reads labels passes them over.  Of the ids
 * in data.unlabelled those of the validation half are refused, and so is a file that names no training sample; ids that
 * no list has are said.  A share S in its place forgets, in each class of n listed training samples, all labels but
 * max(2, n (1 - S)), rounded; which ones follows from data.unlabelled_seed and the ids alone.
 *
 * Class names: data.classes; else those of the lists; else `<root>/classes.txt` (one a line, label
 * order); else NTU's own for a published split; else A001... for NTU names and class-0... for others.  Classes without
 * a training sample are said aloud.
 *
 * Errors: KD_E_CONFIG (keys that cannot be used together), KD_E_DATA (anything about the
 * samples), KD_E_IO, KD_E_FORMAT (lists), KD_E_OOM.
 */
#ifndef KD_FORMATS_DATA_DATASET_H
#define KD_FORMATS_DATA_DATASET_H

#include "formats/base/archive.h"
#include "formats/base/hash.h"
#include "formats/data/data_opts.h"
#include "formats/data/fate.h"

#define KD_NEED_VIDEO    1u
#define KD_NEED_SKELETON 2u

#define KD_NO_LABEL (-1)

typedef enum kd_half_id { KD_HALF_TRAIN, KD_HALF_VAL, KD_HALVES } kd_half_id;

typedef struct kd_data_sample {
    const char *id;            /* "S001C001P001R001A001", or by data.key the stem or the path of the file */
    const char *video;         /* path that can be opened, of a file or of a folder of pictures; NULL: there is none */
    const char *skeleton;      /* likewise; path of the archive where it is a row of one */
    const kd_archive *archive; /* holds the skeleton; NULL: a file of its own does */
    size_t row;                /* in the archive */
    int label;                 /* KD_NO_LABEL: none; training half alone */
    int frames;                /* of the video, as the list says; 0: the list does not */
    size_t packed_frames;      /* of the video, as its pack (pack.h) counted; 0: no pack */
    int setup, camera, performer, replication, action; /* of the NTU name; 0 otherwise */
} kd_data_sample;

typedef struct kd_half_counts {
    size_t listed;                   /* on this side of the split: n + n_left */
    size_t left[KD_FATES];           /* of kd_half.left, by fate */
    size_t videos, skeletons, pairs; /* of the samples kept: those that have the file, and both */
    size_t unlabelled;               /* of the samples kept */
} kd_half_counts;

/* Every listed sample is in `sample` or in `left`, in one of them. */
typedef struct kd_half {
    kd_data_sample *sample; /* [n], sorted by id */
    size_t n;
    kd_left_out *left; /* [n_left], sorted by id */
    size_t n_left;
    kd_half_counts counts;
} kd_half;

typedef struct kd_dataset {
    kd_half half[KD_HALVES];
    int n_classes;
    char **classes;           /* [n_classes] names in label order */
    bool named;               /* by the lists or by classes.txt */
    char *name;               /* "ntu60", "ntu120", or the last folder of root: stores and reports carry it */
    char *split;              /* "ntu60-xsub"; "subject train=[1,2]"; "list": equal texts mean equal splits */
    char pack[KD_SHA256_HEX]; /* recipe of the pack that data.video_dir is; "": no pack */
    kd_archive *archive;      /* of data.skeleton_file; NULL: none */
    size_t unplaced;          /* found on disk, on neither side of the split */
    char **text;              /* owns the strings */
    size_t n_text;
} kd_dataset;

/* `cfg` resolved.  need: KD_NEED_* bits.  halves: bit 1 << KD_HALF_TRAIN, 1 << KD_HALF_VAL of
 * those that must not be empty (both are filled in any case).  *out is the caller's to
 * kd_dataset_free, zeroed on failure. */
KD_NODISCARD kd_status kd_dataset_open(const kd_data_opts *cfg, unsigned need, unsigned halves, kd_dataset *out,
                                       kd_err *err);
void kd_dataset_free(kd_dataset *ds); /* zeroed or NULL is legal */

/* How cfg reads skeleton archives; without its list of names. */
kd_archive_opts kd_dataset_archive_opts(const kd_data_opts *cfg);

/* data.skeleton_file, or data.root where that is one, opened by the options of cfg; *out NULL: neither is an archive.
 */
KD_NODISCARD kd_status kd_dataset_archive(const kd_data_opts *cfg, kd_archive **out, kd_err *err);

/* The join as text, a line per half ("train: 40091 samples, ... left out: ..."); kd_free.  NULL
 * when memory runs out. */
char *kd_dataset_summary(const kd_dataset *ds);

/* Index of an id in a half; -1 when absent. */
int64_t kd_half_find(const kd_half *half, const char *id);

/* Takes the samples whose drop[i] is not 0 out of `sample` and puts them into `left`.  KD_E_OOM changes nothing. */
KD_NODISCARD kd_status kd_half_leave_out(kd_half *half, const uint8_t *drop, kd_fate why, kd_err *err);

/* The identity of a half: SHA-256 over the lines "id<TAB>label<LF>" of its samples, in their order. */
KD_NODISCARD kd_status kd_half_digest(const kd_half *half, char hex[KD_SHA256_HEX], kd_err *err);
/* The same over all that is listed, but what data.limit cuts off: files that come or go do not change it. */
KD_NODISCARD kd_status kd_half_list_digest(const kd_half *half, char hex[KD_SHA256_HEX], kd_err *err);

/* The recordings of a half: SHA-256 over the lines "id<TAB>bytes<LF>", bytes of the files that `need` (KD_NEED_*)
 * names. Asks the file system for every size. */
KD_NODISCARD kd_status kd_half_files_digest(const kd_half *half, unsigned need, char hex[KD_SHA256_HEX], kd_err *err);
/* Of one sample; 0: nobody can say. */
int64_t kd_sample_bytes(const kd_data_sample *s, unsigned need);

/* Takes the samples without a label out, under KD_FATE_NO_LABEL: for what measures. */
KD_NODISCARD kd_status kd_half_leave_unlabelled(kd_half *half, kd_err *err);

/* How many of `left` are failures (kd_fate_is_failure). */
size_t kd_half_failures(const kd_half *half);

#endif
