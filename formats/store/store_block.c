/* A block of records as one zstd frame. */
#include "formats/store/store_internal.h"

/* content: 0 "KDLB" | 4 u16 version | 6 u16 flags: 1 logits, 2 prob, 4 feature are byte-shuffled |
 * 8 u32 number | 12 u32 records | 16 u64 first record | 24 u32 meta bytes | 28 u32 views | 32 u64
 * logits bytes | 40 u64 prob bytes | 48 u64 feature bytes | 56 u64 XXH64 of the manifest | 64 u64
 * XXH64 of the 64 bytes before | metas | logits | prob | feature.  Sections hold the values of all
 * records one after another. */

#define MAGIC 0x424C444Bu /* "KDLB" */

typedef struct block_head {
    unsigned flags;
    uint32_t number, n, meta_bytes, views;
    uint64_t first;
    size_t section[3];
} block_head;

static void put_head(const block_head *b, uint64_t manifest, uint8_t *p)
{
    kd_put32(p, MAGIC);
    kd_put16(p + 4, KD_STORE_VERSION);
    kd_put16(p + 6, (uint16_t)b->flags);
    kd_put32(p + 8, b->number);
    kd_put32(p + 12, b->n);
    kd_put64(p + 16, b->first);
    kd_put32(p + 24, b->meta_bytes);
    kd_put32(p + 28, b->views);
    for (int i = 0; i < 3; i++) {
        kd_put64(p + 32 + 8 * i, b->section[i]);
    }
    kd_put64(p + 56, manifest);
    kd_put64(p + 64, kd_xxh64(p, 64));
}

static void widths(const kd_store_head *h, size_t w[3])
{
    w[0] = kd_dtype_size(h->m.logit_dtype);
    w[1] = 4;
    w[2] = kd_dtype_size(h->m.feature_dtype);
}

/* All first bytes of the values, then all second bytes, ...: equal exponents come to lie side by
 * side. */
static void shuffle(const uint8_t *src, uint8_t *dst, size_t bytes, size_t width)
{
    const size_t n = bytes / width;
    for (size_t b = 0; b < width; b++) {
        for (size_t i = 0; i < n; i++) {
            dst[b * n + i] = src[i * width + b];
        }
    }
}

static void unshuffle(const uint8_t *src, uint8_t *dst, size_t bytes, size_t width)
{
    const size_t n = bytes / width;
    for (size_t b = 0; b < width; b++) {
        for (size_t i = 0; i < n; i++) {
            dst[i * width + b] = src[b * n + i];
        }
    }
}

/* Shuffle a section in place when that makes it compress better. */
static kd_status maybe_shuffle(kd_zstd_packer *z, uint8_t *section, size_t bytes, size_t width, bool *shuffled,
                               kd_err *err)
{
    *shuffled = false;
    if (bytes == 0) {
        return KD_OK;
    }
    uint8_t *other = kd_alloc(bytes);
    uint8_t *packed = NULL;
    size_t plain = 0;
    size_t split = 0;
    kd_status st = KD_OK;
    if (other == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "store: no memory for a section of %zu bytes", bytes);
        goto done;
    }
    shuffle(section, other, bytes, width);
    KD_GO(kd_zstd_pack(z, section, bytes, &packed, &plain, err));
    kd_free(packed);
    packed = NULL;
    KD_GO(kd_zstd_pack(z, other, bytes, &packed, &split, err));
    *shuffled = split < plain;
    if (*shuffled) {
        memcpy(section, other, bytes);
    }
done:
    kd_free(packed);
    kd_free(other);
    return st;
}

static void gather(const kd_raw *rec, int n, uint8_t *p)
{
    for (int i = 0; i < n; i++) {
        memcpy(p, rec[i].meta, rec[i].meta_bytes);
        p += rec[i].meta_bytes;
    }
    for (int i = 0; i < n; i++) {
        memcpy(p, rec[i].logits, rec[i].logits_bytes);
        p += rec[i].logits_bytes;
    }
    for (int i = 0; i < n; i++) {
        memcpy(p, rec[i].prob, rec[i].prob_bytes);
        p += rec[i].prob_bytes;
    }
    for (int i = 0; i < n; i++) {
        if (rec[i].feature_bytes > 0) {
            memcpy(p, rec[i].feature, rec[i].feature_bytes);
        }
        p += rec[i].feature_bytes;
    }
}

kd_status kd_block_pack(const kd_store_head *h, kd_zstd_packer *z, const kd_raw *rec, int n, uint32_t number,
                        uint64_t first, uint8_t **frame, size_t *frame_bytes, kd_seek_entry *entry, kd_err *err)
{
    block_head b = {.number = number, .n = (uint32_t)n, .first = first};
    for (int i = 0; i < n; i++) {
        b.meta_bytes += (uint32_t)rec[i].meta_bytes;
        b.views += (uint32_t)kd_raw_views(&rec[i]);
        b.section[0] += rec[i].logits_bytes;
        b.section[1] += rec[i].prob_bytes;
        b.section[2] += rec[i].feature_bytes;
    }
    const size_t bytes = KD_STORE_BLOCK_HEAD + b.meta_bytes + b.section[0] + b.section[1] + b.section[2];
    uint8_t *content = kd_alloc(bytes);
    if (content == NULL) {
        return KD_FAIL(err, KD_E_OOM, "store: no memory for a block");
    }
    gather(rec, n, content + KD_STORE_BLOCK_HEAD);
    size_t w[3];
    widths(h, w);
    uint8_t *section = content + KD_STORE_BLOCK_HEAD + b.meta_bytes;
    kd_status st = KD_OK;
    for (int i = 0; i < 3; i++) {
        bool shuffled = false;
        KD_GO(maybe_shuffle(z, section, b.section[i], w[i], &shuffled, err));
        if (shuffled) {
            b.flags |= 1u << i;
        }
        section += b.section[i];
    }
    put_head(&b, h->hash, content);
    KD_GO(kd_zstd_pack(z, content, bytes, frame, frame_bytes, err));
    *entry = (kd_seek_entry){(uint32_t)*frame_bytes, (uint32_t)bytes, (uint32_t)kd_xxh64(content, bytes)};
done:
    kd_free(content);
    return st;
}

/* ---- back ------------------------------------------------------------------------------------ */

static kd_status get_head(const kd_store_head *h, const uint8_t *p, size_t bytes, block_head *b, kd_err *err)
{
    if (bytes < KD_STORE_BLOCK_HEAD || kd_get32(p) != MAGIC || kd_get64(p + 64) != kd_xxh64(p, 64)) {
        return KD_FAIL(err, KD_E_INTEGRITY, "no block header");
    }
    if (kd_get16(p + 4) != KD_STORE_VERSION) {
        return KD_FAIL(err, KD_E_FORMAT, "block of version %d, expected %d", kd_get16(p + 4), KD_STORE_VERSION);
    }
    if (kd_get64(p + 56) != h->hash) {
        return KD_FAIL(err, KD_E_INTEGRITY, "the block was written under another manifest");
    }
    *b = (block_head){.flags = kd_get16(p + 6),
                      .number = kd_get32(p + 8),
                      .n = kd_get32(p + 12),
                      .first = kd_get64(p + 16),
                      .meta_bytes = kd_get32(p + 24),
                      .views = kd_get32(p + 28)};
    uint64_t left = bytes - KD_STORE_BLOCK_HEAD;
    bool fits = b->meta_bytes <= left;
    left -= fits ? b->meta_bytes : 0;
    for (int i = 0; i < 3; i++) {
        const uint64_t s = kd_get64(p + 32 + 8 * i);
        fits = fits && s <= left;
        b->section[i] = fits ? (size_t)s : 0;
        left -= b->section[i];
    }
    const uint64_t c = (uint64_t)h->m.n_classes;
    fits = fits && left == 0 && b->n >= 1 && b->n <= 4096 &&
           b->section[0] == b->views * c * kd_dtype_size(h->m.logit_dtype) && b->section[1] == b->n * c * 4 &&
           b->section[2] == b->n * (uint64_t)h->m.feature_dim * kd_dtype_size(h->m.feature_dtype);
    return fits ? KD_OK : KD_FAIL(err, KD_E_INTEGRITY, "block %u: sizes contradict each other", b->number);
}

static kd_status restore_sections(const kd_store_head *h, const block_head *b, uint8_t *section, kd_err *err)
{
    size_t w[3];
    widths(h, w);
    for (int i = 0; i < 3; i++) {
        if ((b->flags & (1u << i)) != 0 && b->section[i] > 0) {
            uint8_t *copy = kd_alloc(b->section[i]);
            if (copy == NULL) {
                return KD_FAIL(err, KD_E_OOM, "store: out of memory");
            }
            memcpy(copy, section, b->section[i]);
            unshuffle(copy, section, b->section[i], w[i]);
            kd_free(copy);
        }
        section += b->section[i];
    }
    return KD_OK;
}

static kd_status split_records(const kd_store_head *h, const block_head *b, const uint8_t *content, kd_block *out,
                               kd_err *err)
{
    const uint8_t *meta = content + KD_STORE_BLOCK_HEAD;
    const uint8_t *end = meta + b->meta_bytes;
    const uint8_t *at[3] = {end, end + b->section[0], end + b->section[0] + b->section[1]};
    size_t views = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const size_t meta_bytes = kd_meta_check(meta, (size_t)(end - meta), h);
        if (meta_bytes == 0) {
            return KD_FAIL(err, KD_E_INTEGRITY, "block %u: record %u contradicts itself", b->number, i);
        }
        kd_raw *r = &out->rec[i];
        *r = (kd_raw){.meta = meta, .meta_bytes = meta_bytes};
        views += kd_get16(meta + 24);
        if (views > b->views) {
            break;
        }
        r->logits_bytes = b->section[0] / b->views * kd_get16(meta + 24);
        r->prob_bytes = b->section[1] / b->n;
        r->feature_bytes = b->section[2] / b->n;
        r->logits = at[0];
        r->prob = at[1];
        r->feature = at[2];
        at[0] += r->logits_bytes;
        at[1] += r->prob_bytes;
        at[2] += r->feature_bytes;
        meta += meta_bytes;
    }
    if (meta != end || views != b->views) {
        return KD_FAIL(err, KD_E_INTEGRITY, "block %u: records do not fill it", b->number);
    }
    return KD_OK;
}

kd_status kd_block_unpack(const kd_store_head *h, const uint8_t *frame, size_t bytes, kd_block *out, kd_err *err)
{
    kd_block_free(out);
    kd_zstd_info info;
    KD_TRY(kd_zstd_look(frame, bytes, KD_STORE_BLOCK_MAX, &info, err));
    if (info.skippable || info.frame_bytes != bytes) {
        return KD_FAIL(err, KD_E_INTEGRITY, "expected a data frame of %zu bytes", bytes);
    }
    block_head b;
    kd_status st = KD_OK;
    out->content = kd_alloc(KD_MAX(info.content_bytes, (size_t)1));
    if (out->content == NULL) {
        return KD_FAIL(err, KD_E_OOM, "store: no memory for a block of %zu bytes", info.content_bytes);
    }
    KD_GO(kd_zstd_unpack(frame, bytes, out->content, info.content_bytes, err));
    KD_GO(get_head(h, out->content, info.content_bytes, &b, err));
    out->content_bytes = info.content_bytes;
    out->content_xxh = (uint32_t)kd_xxh64(out->content, info.content_bytes);
    out->rec = kd_calloc(b.n, sizeof *out->rec);
    if (out->rec == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "store: out of memory");
        goto done;
    }
    out->n = (int)b.n;
    out->number = b.number;
    out->first = b.first;
    KD_GO(restore_sections(h, &b, out->content + KD_STORE_BLOCK_HEAD + b.meta_bytes, err));
    KD_GO(split_records(h, &b, out->content, out, err));
done:
    if (st != KD_OK) {
        kd_block_free(out);
    }
    return st;
}

void kd_block_free(kd_block *b)
{
    kd_free(b->content);
    kd_free(b->rec);
    *b = (kd_block){0};
}
