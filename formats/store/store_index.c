/* Ids and blocks of a store: the table in memory and the index frame. */
#include "formats/store/store_internal.h"

/* payload: 0 "KDIX" | 4 u32 version | 8 u64 XXH64 of the manifest | 16 u64 records | 24 u64 blocks
 * | per block: u64 offset, u32 frame bytes, u32 content bytes, u32 records, u32 0, u64 XXH64 of the
 * frame | per record: i32 label, u8 id bytes, id | u64 XXH64 of everything before */

#define MAGIC     0x5849444Bu /* "KDIX" */
#define HEAD      32
#define BLOCK_ROW 32

void kd_index_free(kd_store_index *ix)
{
    kd_free(ix->block);
    kd_free(ix->id);
    kd_free(ix->label);
    kd_free(ix->slot);
    *ix = (kd_store_index){0};
}

static size_t slot_of(const kd_store_index *ix, const char *id)
{
    size_t i = (size_t)kd_xxh64(id, strlen(id)) & (ix->n_slots - 1);
    while (ix->slot[i] != 0 && strcmp(ix->id[ix->slot[i] - 1], id) != 0) {
        i = (i + 1) & (ix->n_slots - 1);
    }
    return i;
}

int64_t kd_index_find(const kd_store_index *ix, const char *id)
{
    if (ix->n_slots == 0 || id == NULL) {
        return -1;
    }
    return (int64_t)ix->slot[slot_of(ix, id)] - 1;
}

static bool grow(kd_store_index *ix)
{
    const size_t cap = ix->cap == 0 ? 64 : ix->cap * 2;
    if (cap > 0x40000000u) {
        return false;
    }
    void *id = kd_realloc(ix->id, ix->cap * sizeof *ix->id, cap * sizeof *ix->id);
    if (id == NULL) {
        return false;
    }
    ix->id = id;
    void *label = kd_realloc(ix->label, ix->cap * sizeof *ix->label, cap * sizeof *ix->label);
    if (label == NULL) {
        return false;
    }
    ix->label = label;
    uint32_t *slot = kd_calloc(2 * cap, sizeof *slot);
    if (slot == NULL) {
        return false;
    }
    kd_free(ix->slot);
    ix->slot = slot;
    ix->n_slots = 2 * cap;
    ix->cap = cap;
    for (size_t i = 0; i < ix->n; i++) {
        ix->slot[slot_of(ix, ix->id[i])] = (uint32_t)i + 1;
    }
    return true;
}

bool kd_index_add(kd_store_index *ix, const char *id, int label)
{
    if (ix->n == ix->cap && !grow(ix)) {
        return false;
    }
    const size_t at = slot_of(ix, id);
    memset(ix->id[ix->n], 0, sizeof ix->id[0]);
    memcpy(ix->id[ix->n], id, strlen(id));
    ix->label[ix->n] = (int32_t)label;
    ix->n++;
    ix->slot[at] = (uint32_t)ix->n;
    return true;
}

bool kd_index_add_block(kd_store_index *ix, const kd_block_ref *ref)
{
    if (ix->n_blocks == ix->cap_blocks) {
        const size_t cap = ix->cap_blocks == 0 ? 64 : ix->cap_blocks * 2;
        void *p = kd_realloc(ix->block, ix->cap_blocks * sizeof *ix->block, cap * sizeof *ix->block);
        if (p == NULL) {
            return false;
        }
        ix->block = p;
        ix->cap_blocks = cap;
    }
    ix->block[ix->n_blocks++] = *ref;
    return true;
}

kd_status kd_index_make(const kd_store_index *ix, uint64_t manifest_hash, uint8_t **out, size_t *bytes, kd_err *err)
{
    size_t n = HEAD + ix->n_blocks * BLOCK_ROW + 8;
    for (size_t i = 0; i < ix->n; i++) {
        n += 5 + strlen(ix->id[i]);
    }
    if (n > 0xffffffffu) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "store: the index passes 4 GiB");
    }
    uint8_t *frame = kd_alloc(n + KD_ZSTD_SKIPPABLE_HEAD);
    if (frame == NULL) {
        return KD_FAIL(err, KD_E_OOM, "store: no memory for the index");
    }
    kd_put32(frame, KD_STORE_INDEX_MAGIC);
    kd_put32(frame + 4, (uint32_t)n);
    uint8_t *head = frame + KD_ZSTD_SKIPPABLE_HEAD;
    kd_put32(head, MAGIC);
    kd_put32(head + 4, KD_STORE_VERSION);
    kd_put64(head + 8, manifest_hash);
    kd_put64(head + 16, ix->n);
    kd_put64(head + 24, ix->n_blocks);
    uint8_t *p = head + HEAD;
    for (size_t i = 0; i < ix->n_blocks; i++, p += BLOCK_ROW) {
        const kd_block_ref *b = &ix->block[i];
        kd_put64(p, b->offset);
        kd_put32(p + 8, b->frame_bytes);
        kd_put32(p + 12, b->content_bytes);
        kd_put32(p + 16, b->n);
        kd_put32(p + 20, 0);
        kd_put64(p + 24, b->frame_xxh);
    }
    for (size_t i = 0; i < ix->n; i++) {
        const size_t len = strlen(ix->id[i]);
        kd_put32(p, (uint32_t)ix->label[i]);
        p[4] = (uint8_t)len;
        memcpy(p + 5, ix->id[i], len);
        p += 5 + len;
    }
    kd_put64(p, kd_xxh64(head, n - 8));
    *out = frame;
    *bytes = n + KD_ZSTD_SKIPPABLE_HEAD;
    return KD_OK;
}

static kd_status parse_rows(const uint8_t *p, const uint8_t *end, uint64_t n_records, uint64_t n_blocks,
                            kd_store_index *out, kd_err *err)
{
    uint64_t first = 0;
    for (uint64_t i = 0; i < n_blocks; i++, p += BLOCK_ROW) {
        const kd_block_ref b = {.offset = kd_get64(p),
                                .frame_bytes = kd_get32(p + 8),
                                .content_bytes = kd_get32(p + 12),
                                .n = kd_get32(p + 16),
                                .first = first,
                                .frame_xxh = kd_get64(p + 24)};
        first += b.n;
        if (!kd_index_add_block(out, &b)) {
            return KD_FAIL(err, KD_E_OOM, "index: out of memory");
        }
    }
    for (uint64_t i = 0; i < n_records; i++) {
        const size_t left = (size_t)(end - p);
        const size_t len = left < 5 ? 0 : p[4];
        char id[KD_STORE_ID_MAX + 1] = {0};
        if (len < 1 || len > KD_STORE_ID_MAX || left < 5 + len || memchr(p + 5, 0, len) != NULL) {
            return KD_FAIL(err, KD_E_INTEGRITY, "index: record %llu is malformed", (unsigned long long)i);
        }
        memcpy(id, p + 5, len);
        if (kd_index_find(out, id) >= 0) {
            return KD_FAIL(err, KD_E_INTEGRITY, "index: id %s is there twice", id);
        }
        if (!kd_index_add(out, id, (int)(int32_t)kd_get32(p))) {
            return KD_FAIL(err, KD_E_OOM, "index: out of memory");
        }
        p += 5 + len;
    }
    if (p != end || first != n_records) {
        return KD_FAIL(err, KD_E_INTEGRITY, "index: counts contradict each other");
    }
    return KD_OK;
}

kd_status kd_index_parse(const uint8_t *frame, size_t bytes, uint64_t manifest_hash, kd_store_index *out, kd_err *err)
{
    *out = (kd_store_index){0};
    const uint8_t *p = frame + KD_ZSTD_SKIPPABLE_HEAD;
    if (bytes < KD_ZSTD_SKIPPABLE_HEAD + HEAD + 8 || kd_get32(frame) != KD_STORE_INDEX_MAGIC ||
        kd_get32(frame + 4) != bytes - KD_ZSTD_SKIPPABLE_HEAD) {
        return KD_FAIL(err, KD_E_INTEGRITY, "no index frame");
    }
    const size_t n = bytes - KD_ZSTD_SKIPPABLE_HEAD;
    if (kd_get32(p) != MAGIC || kd_get32(p + 4) != KD_STORE_VERSION || kd_get64(p + n - 8) != kd_xxh64(p, n - 8)) {
        return KD_FAIL(err, KD_E_INTEGRITY, "index: checksum does not match");
    }
    if (kd_get64(p + 8) != manifest_hash) {
        return KD_FAIL(err, KD_E_INTEGRITY, "index: written under another manifest");
    }
    const uint64_t records = kd_get64(p + 16);
    const uint64_t blocks = kd_get64(p + 24);
    if (blocks > (n - HEAD - 8) / BLOCK_ROW || records > n) {
        return KD_FAIL(err, KD_E_INTEGRITY, "index: %llu records in %llu blocks do not fit",
                       (unsigned long long)records, (unsigned long long)blocks);
    }
    const kd_status st = parse_rows(p + HEAD, p + n - 8, records, blocks, out, err);
    if (st != KD_OK) {
        kd_index_free(out);
    }
    return st;
}
