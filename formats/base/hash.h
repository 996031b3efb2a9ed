/* Checksums and digests.  XXH64 guards against accidents (records, blocks); SHA-256 names things
 * (weights, configs). */
#ifndef KD_FORMATS_BASE_HASH_H
#define KD_FORMATS_BASE_HASH_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_SHA256_HEX 65 /* 64 hex digits and the NUL */

uint64_t kd_xxh64(const void *data, size_t bytes); /* seed 0, as zstd uses it */

/* Lower-case hex digest of a memory block or of a regular file's content. */
KD_NODISCARD kd_status kd_sha256(const void *data, size_t bytes, char hex[KD_SHA256_HEX], kd_err *err);
KD_NODISCARD kd_status kd_sha256_file(const char *path, char hex[KD_SHA256_HEX], kd_err *err);

#ifdef __cplusplus
}
#endif
#endif
