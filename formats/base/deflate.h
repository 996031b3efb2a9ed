/* CRC-32 and deflate.  deflate.c does it with zlib; deflate_none.c (KD_ZLIB=OFF) computes the CRC itself, writes
 * streams without compression, and reads none. */
#ifndef KD_FORMATS_BASE_DEFLATE_H
#define KD_FORMATS_BASE_DEFLATE_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

uint32_t kd_zip_crc32(uint32_t crc, const void *p, size_t n); /* start from 0; n may be 0 */

bool kd_inflate_available(void);
/* Unpack a raw deflate stream of exactly `packed` bytes to exactly `bytes`; false: it is not that. */
KD_NODISCARD bool kd_inflate(const uint8_t *in, uint64_t packed, uint8_t *out, uint64_t bytes);

/* A zlib stream (RFC 1950) of n bytes into out, which has room for kd_deflate_bound(n); *packed: its length. */
size_t kd_deflate_bound(size_t n);
KD_NODISCARD bool kd_deflate(const uint8_t *in, size_t n, uint8_t *out, size_t *packed); /* false: out of memory */

#ifdef __cplusplus
}
#endif
#endif
