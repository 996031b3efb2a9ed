/* Checksums and digests.  XXH64 guards against accidents (records, blocks); SHA-256 names things
 * (weights, configs). */
#ifndef KD_FORMATS_BASE_HASH_H
#define KD_FORMATS_BASE_HASH_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_SHA256_HEX 65 /* 64 hex digits and the NUL */

/* A mapped file may be as large as memory, and its pages count as this process's: every KD_HASH_STEP bytes `passed`
 * hears how many are done and may give them back.  NULL: nobody hears. */
#define KD_HASH_STEP ((size_t)4 << 20)
typedef void (*kd_hash_passed)(const void *ctx, size_t bytes);

uint64_t kd_xxh64_passing(const void *data, size_t bytes, kd_hash_passed passed, const void *ctx);
KD_NODISCARD kd_status kd_sha256_passing(const void *data, size_t bytes, kd_hash_passed passed, const void *ctx,
                                         char hex[KD_SHA256_HEX], kd_err *err);

/* Seed 0, as zstd uses it. */
static inline uint64_t kd_xxh64(const void *data, size_t bytes)
{
    return kd_xxh64_passing(data, bytes, NULL, NULL);
}

/* Lower-case hex digest of a memory block or of a regular file's content. */
KD_NODISCARD static inline kd_status kd_sha256(const void *data, size_t bytes, char hex[KD_SHA256_HEX], kd_err *err)
{
    return kd_sha256_passing(data, bytes, NULL, NULL, hex, err);
}
KD_NODISCARD kd_status kd_sha256_file(const char *path, char hex[KD_SHA256_HEX], kd_err *err);

#ifdef __cplusplus
}
#endif
#endif
