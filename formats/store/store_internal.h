/* The parts the logit store is made of; private to formats/store/store_*.c.  Byte layout: README.md. */
#ifndef KD_FORMATS_STORE_STORE_INTERNAL_H
#define KD_FORMATS_STORE_STORE_INTERNAL_H

#include "formats/base/hash.h"
#include "formats/base/json.h"
#include "formats/base/zstd/zstd_frame.h"
#include "formats/store/logit_store.h"

#define KD_STORE_VERSION        1
#define KD_STORE_MANIFEST_MAGIC 0x184D2A50u
#define KD_STORE_INDEX_MAGIC    0x184D2A51u
#define KD_STORE_BLOCK_HEAD     72
#define KD_STORE_RECORD_HEAD    28
#define KD_STORE_VIEW_HEAD      24
#define KD_STORE_TAIL_HEAD      16
#define KD_STORE_BLOCK_MAX      ((size_t)256 << 20) /* bytes of an unpacked block */
#define KD_STORE_BLOCK_SOFT     ((size_t)64 << 20)  /* a block is closed before it grows past this */
#define KD_STORE_MANIFEST_MAX   ((size_t)16 << 20)

/* ---- manifest -------------------------------------------------------------------------------- */
typedef struct kd_store_head {
    kd_json *doc; /* owns the strings */
    const char **classes;
    kd_store_manifest m; /* points into doc and classes */
    char *json;
    size_t json_bytes;
    uint64_t hash; /* XXH64 of json */
} kd_store_head;

KD_NODISCARD kd_status kd_store_head_make(const kd_store_manifest *m, kd_store_head *out, kd_err *err);
KD_NODISCARD kd_status kd_store_head_parse(const char *json, size_t bytes, const char *origin, kd_store_head *out,
                                           kd_err *err);
void kd_store_head_free(kd_store_head *h);
/* First difference into text; empty when equal.  of_a and of_b say whose the values are: "then" and "now" make
 * "views: 1x1 then, 5x3 now".  KD_E_OOM. */
KD_NODISCARD kd_status kd_store_head_same(const kd_store_head *a, const char *of_a, const kd_store_head *b,
                                          const char *of_b, char *text, size_t size, kd_err *err);
/* The manifest as a skippable frame (kd_free). */
KD_NODISCARD kd_status kd_store_head_frame(const kd_store_head *h, uint8_t **out, size_t *bytes, kd_err *err);

/* ---- records and blocks ---------------------------------------------------------------------- */

/* One record in its stored form, slices of one buffer. */
typedef struct kd_raw {
    uint8_t *data; /* meta | logits | prob | feature; NULL when the slices belong to a block */
    const uint8_t *meta, *logits, *prob, *feature;
    size_t meta_bytes, logits_bytes, prob_bytes, feature_bytes;
} kd_raw;

size_t kd_raw_bytes(const kd_raw *r);
uint64_t kd_raw_hash(const kd_raw *r);
void kd_raw_id(const kd_raw *r, char id[KD_STORE_ID_MAX + 1]);
static inline int kd_raw_label(const kd_raw *r)
{
    return (int)(int32_t)kd_get32(r->meta + 20);
}
static inline int kd_raw_views(const kd_raw *r)
{
    return kd_get16(r->meta + 24);
}
static inline uint64_t kd_raw_order(const kd_raw *r)
{
    return kd_get64(r->meta + 12);
}

KD_NODISCARD kd_status kd_raw_encode(const kd_store_head *h, const kd_store_record *rec, kd_raw *out, kd_err *err);
/* Take `data` (kd_alloc'd, becomes owned by `out` on success) apart; checks sizes and the record's
 * hash. */
KD_NODISCARD kd_status kd_raw_adopt(const kd_store_head *h, uint8_t *data, size_t bytes, kd_raw *out, kd_err *err);
void kd_raw_free(kd_raw *r);

/* Mean over views in double: softmax first, or of raw scores with the softmax last.  scratch: 2 * c
 * values. */
void kdi_store_merge_views(const float *logits, int n_views, size_t c, bool score, double *scratch, float *prob);

/* Checks one meta entry at p: its length, or 0 when it does not fit or contradicts itself. */
size_t kd_meta_check(const uint8_t *p, size_t room, const kd_store_head *h);

typedef struct kd_block {
    uint8_t *content; /* as unpacked, sections byte-shuffled back */
    size_t content_bytes;
    uint32_t content_xxh; /* low half, of the content before that */
    kd_raw *rec;
    int n;
    uint32_t number;
    uint64_t first;
} kd_block;

/* The block of `n` records as a zstd frame (kd_free). */
KD_NODISCARD kd_status kd_block_pack(const kd_store_head *h, kd_zstd_packer *z, const kd_raw *rec, int n,
                                     uint32_t number, uint64_t first, uint8_t **frame, size_t *frame_bytes,
                                     kd_seek_entry *entry, kd_err *err);

/* Unpack and take apart; the structure is checked, record hashes are not (kd_raw_hash against the
 * meta's).  `frame` must be one whole data frame. */
KD_NODISCARD kd_status kd_block_unpack(const kd_store_head *h, const uint8_t *frame, size_t bytes, kd_block *out,
                                       kd_err *err);
void kd_block_free(kd_block *b);

/* ---- index ----------------------------------------------------------------------------------- */
typedef struct kd_block_ref {
    uint64_t offset;
    uint32_t frame_bytes, content_bytes;
    uint32_t n;
    uint64_t first;       /* number of its first record; follows from the counts */
    uint64_t frame_xxh;   /* of the compressed bytes */
    uint32_t content_xxh; /* low half; from the seek table */
} kd_block_ref;

/* Growing lists of blocks and of records with their ids, and a hash from id to record number. */
typedef struct kd_store_index {
    kd_block_ref *block;
    size_t n_blocks, cap_blocks;
    char (*id)[KD_STORE_ID_MAX + 1];
    int32_t *label;
    size_t n, cap;
    uint32_t *slot; /* open addressing, record number + 1 */
    size_t n_slots;
} kd_store_index;

void kd_index_free(kd_store_index *ix);
int64_t kd_index_find(const kd_store_index *ix, const char *id);
/* false: out of memory.  The id must be new. */
bool kd_index_add(kd_store_index *ix, const char *id, int label);
bool kd_index_add_block(kd_store_index *ix, const kd_block_ref *ref);
/* As a skippable frame, and back. */
KD_NODISCARD kd_status kd_index_make(const kd_store_index *ix, uint64_t manifest_hash, uint8_t **out, size_t *bytes,
                                     kd_err *err);
KD_NODISCARD kd_status kd_index_parse(const uint8_t *frame, size_t bytes, uint64_t manifest_hash, kd_store_index *out,
                                      kd_err *err);

/* What a reader holds. */
const kd_store_head *kd_store_head_of(const kd_store *s);
const kd_store_index *kd_store_index_of(const kd_store *s);

#endif
