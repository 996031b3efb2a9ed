/* The only file that sees libzstd: see zstd_frame.h.  Seekable format: contrib/seekable_format of
 * Zstandard. */
#include "formats/base/zstd/zstd_frame.h"

#include <zstd.h>

#define LEVEL           3
#define SEEK_ROW        12   /* with checksums */
#define SEEK_DESCRIPTOR 0x80 /* checksums present, reserved bits zero */

struct kd_zstd_packer {
    ZSTD_CCtx *ctx;
};

kd_zstd_packer *kd_zstd_packer_new(void)
{
    kd_zstd_packer *p = kd_calloc(1, sizeof *p);
    if (p == NULL) {
        return NULL;
    }
    p->ctx = ZSTD_createCCtx();
    if (p->ctx == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_checksumFlag, 1)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_compressionLevel, LEVEL))) {
        kd_zstd_packer_free(p);
        return NULL;
    }
    return p;
}

void kd_zstd_packer_free(kd_zstd_packer *p)
{
    if (p == NULL) {
        return;
    }
    (void)ZSTD_freeCCtx(p->ctx);
    kd_free(p);
}

kd_status kd_zstd_pack(kd_zstd_packer *p, const void *src, size_t bytes, uint8_t **out, size_t *out_bytes, kd_err *err)
{
    const size_t room = ZSTD_compressBound(bytes);
    uint8_t *dst = kd_alloc(room);
    if (dst == NULL) {
        return KD_FAIL(err, KD_E_OOM, "zstd: no memory for %zu bytes", room);
    }
    const size_t n = ZSTD_compress2(p->ctx, dst, room, src, bytes);
    if (ZSTD_isError(n)) {
        kd_free(dst);
        return KD_FAIL(err, KD_E_OOM, "zstd: %s", ZSTD_getErrorName(n));
    }
    *out = dst;
    *out_bytes = n;
    return KD_OK;
}

kd_status kd_zstd_look(const uint8_t *p, size_t bytes, size_t max_content, kd_zstd_info *out, kd_err *err)
{
    *out = (kd_zstd_info){0};
    if (bytes < KD_ZSTD_SKIPPABLE_HEAD) {
        return KD_FAIL(err, KD_E_INTEGRITY, "the file ends inside a frame header");
    }
    out->magic = kd_get32(p);
    out->skippable = (out->magic & 0xFFFFFFF0u) == 0x184D2A50u;
    if (out->skippable) {
        out->content_bytes = kd_get32(p + 4);
        if (out->content_bytes > bytes - KD_ZSTD_SKIPPABLE_HEAD) {
            return KD_FAIL(err, KD_E_INTEGRITY, "a skippable frame of %zu bytes runs past the end", out->content_bytes);
        }
        out->frame_bytes = out->content_bytes + KD_ZSTD_SKIPPABLE_HEAD;
        return KD_OK;
    }
    if (out->magic != KD_ZSTD_MAGIC) {
        return KD_FAIL(err, KD_E_INTEGRITY, "no frame starts here (found %08x)", out->magic);
    }
    const unsigned long long content = ZSTD_getFrameContentSize(p, bytes);
    if (content == ZSTD_CONTENTSIZE_ERROR || content == ZSTD_CONTENTSIZE_UNKNOWN || content > max_content) {
        return KD_FAIL(err, KD_E_INTEGRITY, "a frame without a content size of at most %zu bytes", max_content);
    }
    const size_t n = ZSTD_findFrameCompressedSize(p, bytes);
    if (ZSTD_isError(n)) {
        return KD_FAIL(err, KD_E_INTEGRITY, "damaged or unfinished frame: %s", ZSTD_getErrorName(n));
    }
    out->frame_bytes = n;
    out->content_bytes = (size_t)content;
    return KD_OK;
}

kd_status kd_zstd_unpack(const uint8_t *frame, size_t frame_bytes, void *dst, size_t bytes, kd_err *err)
{
    ZSTD_DCtx *ctx = ZSTD_createDCtx();
    if (ctx == NULL) {
        return KD_FAIL(err, KD_E_OOM, "zstd: out of memory");
    }
    kd_status st = KD_OK;
    size_t n = ZSTD_DCtx_setParameter(ctx, ZSTD_d_windowLogMax, KD_ZSTD_WINDOW_LOG_MAX);
    if (!ZSTD_isError(n)) {
        n = ZSTD_decompressDCtx(ctx, dst, bytes, frame, frame_bytes);
    }
    if (ZSTD_isError(n)) {
        st = KD_FAIL(err, KD_E_INTEGRITY, "zstd: %s", ZSTD_getErrorName(n));
    } else if (n != bytes) {
        st = KD_FAIL(err, KD_E_INTEGRITY, "unpacked to %zu bytes, expected %zu", n, bytes);
    }
    (void)ZSTD_freeDCtx(ctx);
    return st;
}

kd_status kd_seek_table_make(const kd_seek_entry *entries, size_t n, uint8_t **out, size_t *out_bytes, kd_err *err)
{
    if (n > 0x8000000u) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "seek table: %zu frames", n);
    }
    const size_t content = n * SEEK_ROW + KD_SEEK_FOOTER_BYTES;
    uint8_t *p = kd_alloc(content + KD_ZSTD_SKIPPABLE_HEAD);
    if (p == NULL) {
        return KD_FAIL(err, KD_E_OOM, "seek table: out of memory");
    }
    kd_put32(p, KD_SEEK_TABLE_MAGIC);
    kd_put32(p + 4, (uint32_t)content);
    uint8_t *row = p + KD_ZSTD_SKIPPABLE_HEAD;
    for (size_t i = 0; i < n; i++, row += SEEK_ROW) {
        kd_put32(row, entries[i].frame_bytes);
        kd_put32(row + 4, entries[i].content_bytes);
        kd_put32(row + 8, entries[i].checksum);
    }
    kd_put32(row, (uint32_t)n);
    row[4] = SEEK_DESCRIPTOR;
    kd_put32(row + 5, KD_SEEK_FOOTER_MAGIC);
    *out = p;
    *out_bytes = content + KD_ZSTD_SKIPPABLE_HEAD;
    return KD_OK;
}

kd_status kd_seek_table_parse(const uint8_t *frame, size_t bytes, kd_seek_entry **entries, size_t *n, kd_err *err)
{
    *entries = NULL;
    *n = 0;
    if (bytes < KD_ZSTD_SKIPPABLE_HEAD + KD_SEEK_FOOTER_BYTES || kd_get32(frame) != KD_SEEK_TABLE_MAGIC ||
        kd_get32(frame + 4) != bytes - 8 || kd_get32(frame + bytes - 4) != KD_SEEK_FOOTER_MAGIC) {
        return KD_FAIL(err, KD_E_INTEGRITY, "no seek table");
    }
    const uint8_t *footer = frame + bytes - KD_SEEK_FOOTER_BYTES;
    const size_t count = kd_get32(footer);
    if (footer[4] != SEEK_DESCRIPTOR || count != (bytes - KD_ZSTD_SKIPPABLE_HEAD - KD_SEEK_FOOTER_BYTES) / SEEK_ROW ||
        bytes != count * SEEK_ROW + KD_SEEK_FOOTER_BYTES + KD_ZSTD_SKIPPABLE_HEAD) {
        return KD_FAIL(err, KD_E_INTEGRITY, "seek table: its size does not fit %zu frames", count);
    }
    if (count == 0) {
        return KD_OK;
    }
    *entries = kd_calloc(count, sizeof **entries);
    if (*entries == NULL) {
        return KD_FAIL(err, KD_E_OOM, "seek table: out of memory");
    }
    const uint8_t *row = frame + KD_ZSTD_SKIPPABLE_HEAD;
    for (size_t i = 0; i < count; i++, row += SEEK_ROW) {
        (*entries)[i] = (kd_seek_entry){kd_get32(row), kd_get32(row + 4), kd_get32(row + 8)};
    }
    *n = count;
    return KD_OK;
}

const char *kd_zstd_version(void)
{
    return ZSTD_versionString();
}
