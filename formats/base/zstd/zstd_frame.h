/* Zstandard frames, the seekable format's table, and skippable frames, in memory.
 *
 * Frames are written with content size and checksum at one fixed level, so equal content gives
 * equal bytes (for one version of libzstd).  Reading never trusts a size from the data before
 * comparing it with what the caller allows. */
#ifndef KD_FORMATS_BASE_ZSTD_ZSTD_FRAME_H
#define KD_FORMATS_BASE_ZSTD_ZSTD_FRAME_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_ZSTD_WINDOW_LOG_MAX 27
#define KD_ZSTD_SKIPPABLE_HEAD 8 /* magic and size */
#define KD_ZSTD_MAGIC          0xFD2FB528u
#define KD_SEEK_TABLE_MAGIC    0x184D2A5Eu
#define KD_SEEK_FOOTER_MAGIC   0x8F92EAB1u
#define KD_SEEK_FOOTER_BYTES   9

/* Compressor that is used for many frames. */
typedef struct kd_zstd_packer kd_zstd_packer;
kd_zstd_packer *kd_zstd_packer_new(void); /* NULL: out of memory */
void kd_zstd_packer_free(kd_zstd_packer *p);

/* One frame holding `bytes` of src; *out is kd_free'd by the caller. */
KD_NODISCARD kd_status kd_zstd_pack(kd_zstd_packer *p, const void *src, size_t bytes, uint8_t **out, size_t *out_bytes,
                                    kd_err *err);

typedef struct kd_zstd_info {
    bool skippable;
    uint32_t magic;
    size_t frame_bytes;   /* whole frame */
    size_t content_bytes; /* unpacked; payload of a skippable frame */
} kd_zstd_info;

/* What starts at `p`.  KD_E_INTEGRITY with a reason when it is no whole frame with a content size
 * of at most max_content. */
KD_NODISCARD kd_status kd_zstd_look(const uint8_t *p, size_t bytes, size_t max_content, kd_zstd_info *out, kd_err *err);

/* Unpack one data frame into dst, which holds exactly its content size. */
KD_NODISCARD kd_status kd_zstd_unpack(const uint8_t *frame, size_t frame_bytes, void *dst, size_t bytes, kd_err *err);

/* One row of a seek table. */
typedef struct kd_seek_entry {
    uint32_t frame_bytes, content_bytes;
    uint32_t checksum; /* low half of XXH64 of the content */
} kd_seek_entry;

/* The table as a whole skippable frame, and back.  Parsing takes exactly that frame; *entries is
 * kd_free'd. */
KD_NODISCARD kd_status kd_seek_table_make(const kd_seek_entry *entries, size_t n, uint8_t **out, size_t *out_bytes,
                                          kd_err *err);
KD_NODISCARD kd_status kd_seek_table_parse(const uint8_t *frame, size_t bytes, kd_seek_entry **entries, size_t *n,
                                           kd_err *err);

const char *kd_zstd_version(void);

/* Little-endian fields in byte buffers. */
static inline void kd_put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static inline void kd_put64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static inline void kd_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline uint16_t kd_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t kd_get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t kd_get64(const uint8_t *p)
{
    return (uint64_t)kd_get32(p) | (uint64_t)kd_get32(p + 4) << 32;
}

#ifdef __cplusplus
}
#endif
#endif
