/* See store_rebuild.h.  The layout: formats/README.md. */
#include "tests/fuzz/store_rebuild.h"

#include "formats/base/hash.h"
#include "formats/base/zstd/zstd_frame.h"
#include "formats/store/store_internal.h"

#define MANIFEST_MAGIC 0x184D2A50u
#define INDEX_MAGIC    0x184D2A51u

enum { HEAD = 72, LARGEST = 1 << 16 };

static bool copy(const uint8_t *data, size_t bytes, piece *out)
{
    *out = (piece){kd_alloc(bytes + 1), bytes};
    if (out->data != NULL) {
        memcpy(out->data, data, bytes);
    }
    return out->data != NULL;
}

static bool take_frame(const uint8_t *p, const kd_zstd_info *f, store_pieces *out)
{
    if (f->skippable) {
        const uint8_t *payload = p + KD_ZSTD_SKIPPABLE_HEAD;
        const bool wanted = f->magic == MANIFEST_MAGIC ? out->manifest.data == NULL
                                                       : f->magic == INDEX_MAGIC && out->index.data == NULL;
        return !wanted || copy(payload, f->content_bytes, f->magic == INDEX_MAGIC ? &out->index : &out->manifest);
    }
    if (out->n_blocks == PIECE_BLOCKS) {
        return true;
    }
    piece *b = &out->block[out->n_blocks];
    *b = (piece){kd_alloc(f->content_bytes + 1), f->content_bytes};
    if (b->data == NULL || kd_zstd_unpack(p, f->frame_bytes, b->data, b->bytes, NULL) != KD_OK) {
        kd_free(b->data);
        *b = (piece){NULL, 0};
        return true; /* a damaged block is left out */
    }
    out->n_blocks++;
    return true;
}

bool store_take_apart(const uint8_t *data, size_t bytes, store_pieces *out)
{
    kd_zstd_info f;
    *out = (store_pieces){.n_blocks = 0};
    for (size_t at = 0; at < bytes; at += f.frame_bytes) {
        if (kd_zstd_look(data + at, bytes - at, LARGEST, &f, NULL) != KD_OK || !take_frame(data + at, &f, out)) {
            break;
        }
    }
    if (out->manifest.data == NULL) {
        store_pieces_free(out);
        return false;
    }
    return true;
}

void store_pieces_free(store_pieces *p)
{
    kd_free(p->manifest.data);
    kd_free(p->index.data);
    for (int i = 0; i < p->n_blocks; i++) {
        kd_free(p->block[i].data);
    }
    *p = (store_pieces){.n_blocks = 0};
}

/* ---- together -------------------------------------------------------------------------------- */

typedef struct rebuilt {
    uint8_t *data;
    size_t bytes;
    kd_store_head head;
    bool known; /* the manifest is one */
    kd_store_index index;
    kd_seek_entry row[PIECE_BLOCKS + 2];
    kd_zstd_packer *z;
} rebuilt;

static bool append(rebuilt *r, const void *data, size_t bytes)
{
    uint8_t *grown = kd_realloc(r->data, r->bytes, r->bytes + bytes + 1);
    if (grown == NULL) {
        return false;
    }
    memcpy(grown + r->bytes, data, bytes);
    r->data = grown;
    r->bytes += bytes;
    return true;
}

static bool append_skippable(rebuilt *r, uint32_t magic, const piece *p)
{
    uint8_t head[KD_ZSTD_SKIPPABLE_HEAD];
    kd_put32(head, magic);
    kd_put32(head + 4, (uint32_t)p->bytes);
    return append(r, head, sizeof head) && append(r, p->data, p->bytes);
}

/* Hashes inside a block: of its records, of its header.  The records are found by taking apart what is there. */
static void seal_block(rebuilt *r, piece *b)
{
    uint8_t *frame = NULL;
    size_t bytes = 0;
    kd_block block = {.n = 0};
    if (b->bytes < HEAD) {
        return;
    }
    kd_put64(b->data + 64, kd_xxh64(b->data, 64));
    if (!r->known || kd_zstd_pack(r->z, b->data, b->bytes, &frame, &bytes, NULL) != KD_OK) {
        return;
    }
    if (kd_block_unpack(&r->head, frame, bytes, &block, NULL) == KD_OK) {
        size_t at = HEAD;
        for (int i = 0; i < block.n; i++) {
            char id[KD_STORE_ID_MAX + 1];
            kd_put64(b->data + at + 4, kd_raw_hash(&block.rec[i]));
            at += block.rec[i].meta_bytes;
            kd_raw_id(&block.rec[i], id);
            if (kd_index_find(&r->index, id) < 0) {
                (void)kd_index_add(&r->index, id, kd_raw_label(&block.rec[i]));
            }
        }
        kd_block_free(&block);
    }
    kd_free(frame);
}

static bool append_block(rebuilt *r, piece *b, int number)
{
    uint8_t *frame = NULL;
    size_t bytes = 0;
    seal_block(r, b);
    if (kd_zstd_pack(r->z, b->data, b->bytes, &frame, &bytes, NULL) != KD_OK) {
        return false;
    }
    const kd_block_ref ref = {.offset = r->bytes,
                              .frame_bytes = (uint32_t)bytes,
                              .content_bytes = (uint32_t)b->bytes,
                              .n = b->bytes >= HEAD ? kd_get32(b->data + 12) : 0,
                              .frame_xxh = kd_xxh64(frame, bytes),
                              .content_xxh = (uint32_t)kd_xxh64(b->data, b->bytes)};
    r->row[number] = (kd_seek_entry){ref.frame_bytes, ref.content_bytes, ref.content_xxh};
    const bool ok = kd_index_add_block(&r->index, &ref) && append(r, frame, bytes);
    kd_free(frame);
    return ok;
}

/* The index that the blocks ask for, or the one that was changed with its hashes. */
static bool append_index(rebuilt *r, piece *index, uint64_t manifest, kd_seek_entry *row)
{
    const size_t before = r->bytes;
    bool ok = false;
    if (index->bytes >= 24) {
        kd_put64(index->data + 8, manifest);
        kd_put64(index->data + index->bytes - 8, kd_xxh64(index->data, index->bytes - 8));
        ok = append_skippable(r, INDEX_MAGIC, index);
    } else {
        uint8_t *frame = NULL;
        size_t bytes = 0;
        ok = kd_index_make(&r->index, manifest, &frame, &bytes, NULL) == KD_OK && append(r, frame, bytes);
        kd_free(frame);
    }
    *row = (kd_seek_entry){(uint32_t)(r->bytes - before), 0, (uint32_t)kd_xxh64("", 0)};
    return ok;
}

static bool build(rebuilt *r, store_pieces *p)
{
    const uint64_t manifest = kd_xxh64(p->manifest.data, p->manifest.bytes);
    uint8_t *table = NULL;
    size_t bytes = 0;
    bool ok = append_skippable(r, MANIFEST_MAGIC, &p->manifest);
    r->row[0] = (kd_seek_entry){(uint32_t)r->bytes, 0, (uint32_t)kd_xxh64("", 0)};
    for (int i = 0; i < p->n_blocks && ok; i++) {
        if (p->block[i].bytes >= HEAD) {
            kd_put64(p->block[i].data + 56, manifest);
        }
        ok = append_block(r, &p->block[i], i + 1);
    }
    const size_t rows = (size_t)p->n_blocks + 2;
    ok = ok && append_index(r, &p->index, manifest, &r->row[rows - 1]);
    ok = ok && kd_seek_table_make(r->row, rows, &table, &bytes, NULL) == KD_OK && append(r, table, bytes);
    kd_free(table);
    return ok;
}

uint8_t *store_put_together(store_pieces *p, size_t *bytes)
{
    rebuilt r = {.z = kd_zstd_packer_new()};
    r.known = kd_store_head_parse((const char *)p->manifest.data, p->manifest.bytes, "fuzz", &r.head, NULL) == KD_OK;
    const bool ok = r.z != NULL && build(&r, p);
    kd_store_head_free(&r.head);
    kd_index_free(&r.index);
    kd_zstd_packer_free(r.z);
    if (!ok) {
        kd_free(r.data);
        return NULL;
    }
    *bytes = r.bytes;
    return r.data;
}
