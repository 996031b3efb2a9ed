/* The logit store `NAME.logits.zst`: what the teacher leaves per sample, one file, random access by
 * sample id.
 *
 * The file is a Zstandard stream in the seekable format (byte layout: formats/README.md): a
 * skippable frame with the manifest as JSON, one data frame per block of records, a skippable frame
 * with the id index, a skippable frame with the seek table.  `zstd -t` checks it, `zstd -dc`
 * unpacks the blocks.
 *
 * Writing.  Records go to `NAME.logits.zst.part`; each full block is compressed, written and
 * flushed to disk, and the records of the block in progress are kept beside it in
 * `NAME.logits.zst.part.tail`, so that a kill at any byte loses the record being written and
 * nothing else.  Closing adds the index and the seek table, flushes and renames: the final name
 * always holds a complete store.  Opening again with `resume` continues; the finished bytes depend
 * on the manifest and the order of the records alone, not on where a run was interrupted.  One
 * writer at a time (flock).
 *
 * Reading.  A kd_store is immutable after opening and may be shared by threads; each thread reads
 * through its own cursor.  Every read checks the frame's and the record's checksums; a damaged
 * block or record fails with its block number, file offset and id, the others stay readable.
 */
#ifndef KD_FORMATS_STORE_LOGIT_STORE_H
#define KD_FORMATS_STORE_LOGIT_STORE_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_STORE_ID_MAX      255 /* bytes of an id, without the NUL */
#define KD_STORE_MAX_VIEWS   1024
#define KD_STORE_MAX_FRAMES  4096 /* frame indices of one view */
#define KD_STORE_MAX_CLASSES 65536
#define KD_STORE_MAX_DIM     4194304 /* values of a feature: 4096 tokens of 1024 */
#define KD_STORE_TAPS        4

/* A part of a record's feature, row-major. */
typedef struct kd_store_tap {
    const char *name; /* "fc_norm", "temporal", "tokens" */
    int rows, width;  /* rows 1: a vector */
} kd_store_tap;

/* What all records of a store share.  Two stores can be merged, and a store resumed, only when all
 * of it is equal. Strings may be NULL (empty).  Caller-owned on input; owned by the store on
 * output. */
typedef struct kd_store_manifest {
    const char *teacher;        /* "videomae2-l", a run's name */
    const char *teacher_sha256; /* of the weights file, hex */
    const char *config_hash;    /* of the teacher's resolved config, hex */
    const char *data_set;       /* "ntu60", "sample" */
    const char *split;          /* "ntu60-xsub", or the rule of another split */
    const char *train_ids;      /* SHA-256 of the training half's list, "id<TAB>label" lines; */
    const char *val_ids;        /* and of the validation half's, hex */
    const char *parts;          /* halves dumped: "train", "val", "train,val" */
    const char *views;          /* "5x3": clips x crops; "5x3x2": each of them mirrored too */
    const char *merge;          /* how views were averaged into prob: "prob" (softmax first) or "score" */
    const char *decoder;        /* decoder and its version; frames depend on it */
    const char *feature;        /* "fc_norm", "fc_norm,temporal"; NULL or "": no features */
    const char *const *classes; /* n_classes names, in label order */
    int n_classes;
    kd_dtype logit_dtype; /* KD_F16 or KD_F32 */
    int feature_dim;
    kd_dtype feature_dtype; /* KD_F16, KD_BF16 or KD_F32 */
    int block_records;      /* records per block; 0: 32 */
    int64_t expected;       /* records a finished store holds; 0: not known */
    /* The next ones stand in the JSON where they are not empty. */
    kd_store_tap tap[KD_STORE_TAPS]; /* the parts of `feature`, in order */
    int n_taps;                      /* 0: the feature is one vector */
    const char *shard;               /* "2/4": this store holds the second of four parts of what `parts` names */
    bool features_only;              /* nobody gave logits: those of the records are zeros and say nothing */
    const char *replay_rows;         /* the views are rows of training: hash of all that decides them but the seed, */
    int64_t replay_seed;             /* and the seed */
    const char *provenance;    /* of values made elsewhere: what whoever brought them says of them; of a model that
                                        was distilled: "taught by" its teachers, theirs included */
    const char *source_sha256; /* of the file that held them, hex */
} kd_store_manifest;

/* How one view was cut, so that a student can replay time window and flip. */
typedef struct kd_store_view {
    int clip, crop;     /* index among the clips and among the crops */
    int crop_x, crop_y; /* offset of the crop in the resized frame */
    bool flip;
    uint64_t seed;
    int n_frames;
    const int32_t *frames; /* [n_frames] decoded frame indices */
} kd_store_view;

/* What of a view a student of another modality can replay: the time between its first and its last frame, and whether
 * it was mirrored. */
typedef struct kd_store_cut {
    int32_t first, last; /* decoded frames; last: included */
    bool flip;
} kd_store_cut;

/* One record, as given to the writer or lent by a cursor (then valid until the cursor's next read). */
typedef struct kd_store_record {
    const char *id; /* "S001C001P001R001A001", or any string of 1 to 64 bytes */
    uint64_t order; /* position in the listing; a merge sorts by it */
    int label;      /* 0 <= label < n_classes; -1: none */
    int n_views;
    const float *logits;        /* [n_views, n_classes] */
    const float *prob;          /* [n_classes]; NULL on writing: computed from the logits by the manifest's rule */
    const float *feature;       /* [feature_dim]; NULL without features */
    const kd_store_view *views; /* [n_views] */
} kd_store_record;

/* ---- writing --------------------------------------------------------------------------------- */
typedef struct kd_store_writer kd_store_writer;

typedef struct kd_store_resume_info {
    int64_t records;        /* records kept */
    int64_t tail_records;   /* of them, from the block in progress */
    uint64_t dropped_bytes; /* bytes of a damaged or unfinished end that were cut off */
    bool was_complete;      /* the store had been finished; appending reopens it */
} kd_store_resume_info;

/* A store that is written stands in "<path>.part", the records of its last block in "<path>.part.tail", until it is
 * finished. */
typedef enum kd_store_start {
    KD_STORE_NEW,     /* an existing store or part file is refused (KD_E_STATE) */
    KD_STORE_RESUME,  /* whole valid blocks and tail records are kept; no file starts a new one */
    KD_STORE_REPLACE, /* starts over; an existing store stays until the new one is finished */
    KD_STORE_ONCE     /* KD_STORE_REPLACE that nobody resumes: the part has a temporary name (io.h) */
} kd_store_start;

/* Open `path` for writing.  KD_STORE_RESUME refuses a manifest that differs with the first difference (KD_E_DATA).
 * Files under the names of part and tail that are not of a store are refused (KD_E_STATE).  `info` may be NULL.
 * KD_E_LOCKED when another process writes here, KD_E_IO / KD_E_WRITE from the system. */
KD_NODISCARD kd_status kd_store_writer_open(const char *path, const kd_store_manifest *manifest, kd_store_start start,
                                            kd_store_writer **out, kd_store_resume_info *info, kd_err *err);

/* True when a record with this id has been appended (now or before the resume). */
bool kd_store_has(const kd_store_writer *w, const char *id);
int64_t kd_store_writer_count(const kd_store_writer *w);

/* Append one record; its arrays are copied.  KD_E_DATA: duplicate id, label out of range, wrong
 * view count or frame count; KD_E_NUMERIC: a value that is not finite in the stored dtype;
 * KD_E_WRITE: the system refused (disk full: what is on disk stays resumable, this record is not
 * counted). */
KD_NODISCARD kd_status kd_store_append(kd_store_writer *w, const kd_store_record *rec, kd_err *err);

/* Finish: last block, index, seek table, flush, rename to the final name.  Fails with KD_E_DATA
 * when manifest.expected is set and the count differs (the part file stays).  Frees `w` in every
 * case; NULL is legal. */
KD_NODISCARD kd_status kd_store_writer_close(kd_store_writer *w, kd_err *err);

/* Stop without finishing: the part file stays for a later resume.  NULL is legal. */
void kd_store_writer_abandon(kd_store_writer *w);

/* Stop and remove what this writer made (a merge that failed).  NULL is legal. */
void kd_store_writer_discard(kd_store_writer *w);

/* ---- reading --------------------------------------------------------------------------------- */
typedef struct kd_store kd_store;
typedef struct kd_store_cursor kd_store_cursor;

/* Open a finished store.  KD_E_IO; KD_E_FORMAT when it is not a store (or an unfinished one: says
 * how to resume); KD_E_INTEGRITY when manifest, index or seek table are damaged. */
KD_NODISCARD kd_status kd_store_open(const char *path, kd_store **out, kd_err *err);
void kd_store_close(kd_store *s); /* NULL is legal */

const kd_store_manifest *kd_store_get_manifest(const kd_store *s);
const char *kd_store_manifest_json(const kd_store *s); /* as stored */
/* The part of the features that is called `name` ("" : fc_norm where that is one of several, else the first):
 * feature[*offset .. + *width).  KD_E_DATA: no features, or none of this name. */
KD_NODISCARD kd_status kd_store_find_tap(const kd_store *s, const char *name, int *offset, int *width, kd_err *err);
int64_t kd_store_count(const kd_store *s);
int64_t kd_store_block_count(const kd_store *s);
const char *kd_store_path(const kd_store *s);
uint64_t kd_store_file_bytes(const kd_store *s);
uint64_t kd_store_raw_bytes(const kd_store *s); /* of the blocks, uncompressed */

/* Without reading blocks: the i-th record's label, and the number of an id (-1: absent). */
int kd_store_label(const kd_store *s, int64_t i);
int64_t kd_store_find(const kd_store *s, const char *id);

KD_NODISCARD kd_status kd_store_cursor_new(const kd_store *s, kd_store_cursor **out, kd_err *err);
void kd_store_cursor_free(kd_store_cursor *c); /* NULL is legal */

/* Lend record i (0 <= i < count).  Consecutive reads of one block unpack it once. */
KD_NODISCARD kd_status kd_store_read(kd_store_cursor *c, int64_t i, kd_store_record *out, kd_err *err);
KD_NODISCARD kd_status kd_store_read_id(kd_store_cursor *c, const char *id, kd_store_record *out, kd_err *err);

/* ---- whole-file work ------------------------------------------------------------------------- */
typedef struct kd_store_verify_report {
    int64_t records, blocks; /* good ones */
    int64_t bad_records, bad_blocks;
    uint64_t bad_structure; /* faults in manifest, index, seek table, counts */
} kd_store_verify_report;

/* Check everything: frame checksums, record hashes, seek table against frames, index against
 * records, ids unique, labels in range, values finite, prob equal to the merged logits, counts
 * against the manifest.  Each fault is told to `fault` (NULL: silent) as one line with block,
 * offset and id; the walk goes on past it where the structure allows. KD_OK, or KD_E_INTEGRITY with
 * the first fault in `err`. */
KD_NODISCARD kd_status kd_store_verify(const char *path, void (*fault)(void *user, const char *line), void *user,
                                       kd_store_verify_report *report, kd_err *err);

/* Merge stores with equal manifests (rank shards) into `out_path`, by `order`; the bytes are those
 * of one writer given all records in that order.  Stores that say which shard of a dump they are must be all of them;
 * the merged store is the one that was dumped as a whole.  A killed merge is repeated.  KD_E_DATA: manifests differ
 * (says where), a shard is missing, an id occurs twice.  KD_E_STATE: there is an `out_path`, and no `replace`. */
KD_NODISCARD kd_status kd_store_merge(const char *const *paths, size_t n, const char *out_path, bool replace,
                                      kd_err *err);

/* NumPy archive, written atomically, gathered in memory first.  N records, V views in all: ids S64 (S255 where one is
 * longer), labels i4, order u8, n_views i4 [N]; view_offset i8 [N + 1] into logits f4 [V, C], view i4 [V, 5]
 * (clip, crop, crop x, crop y, flip) and seed u8 [V]; frame_offset i8 [V + 1] into frames i4; prob
 * f4 [N, C]; feature f4 [N, D] if there are features; manifest u1 (JSON). */
KD_NODISCARD kd_status kd_store_export_npz(const char *path, const char *out_path, kd_err *err);

#ifdef __cplusplus
}
#endif
#endif
