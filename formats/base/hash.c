/* The only file that sees xxhash and libcrypto: see hash.h.  What is not built in, hash_plain.c does. */
#include "formats/base/hash.h"

#include "formats/base/io.h"

#if defined(KD_HAVE_XXHASH)
#    include <xxhash.h>

uint64_t kd_xxh64(const void *data, size_t bytes)
{
    return XXH64(data, bytes, 0);
}
#endif

#if defined(KD_HAVE_OPENSSL)
#    include <openssl/evp.h>

kd_status kd_sha256(const void *data, size_t bytes, char hex[KD_SHA256_HEX], kd_err *err)
{
    static const char DIGITS[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    if (EVP_Digest(data, bytes, digest, &n, EVP_sha256(), NULL) != 1 || n != 32) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "SHA-256 is not available in this libcrypto");
    }
    for (unsigned int i = 0; i < n; i++) {
        hex[2 * i] = DIGITS[digest[i] >> 4];
        hex[2 * i + 1] = DIGITS[digest[i] & 15u];
    }
    hex[64] = '\0';
    return KD_OK;
}
#endif

kd_status kd_sha256_file(const char *path, char hex[KD_SHA256_HEX], kd_err *err)
{
    kd_map map = {NULL, 0};
    KD_TRY(kd_io_map(path, &map, err));
    const kd_status st = kd_sha256(map.data, map.bytes, hex, err);
    kd_io_unmap(&map);
    return st;
}
