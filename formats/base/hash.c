/* The only file that sees xxhash and libcrypto: see hash.h.  What is not built in, hash_plain.c does. */
#include "formats/base/hash.h"

#include "formats/base/io.h"

#if defined(KD_HAVE_XXHASH)
#    include <xxhash.h>

uint64_t kd_xxh64_passing(const void *data, size_t bytes, kd_hash_passed passed, const void *ctx)
{
    XXH64_state_t *s = passed != NULL ? XXH64_createState() : NULL;
    if (s == NULL) {
        return XXH64(data, bytes, 0);
    }
    (void)XXH64_reset(s, 0);
    for (size_t at = 0; at < bytes; at += KD_MIN(KD_HASH_STEP, bytes - at)) {
        const size_t n = KD_MIN(KD_HASH_STEP, bytes - at);
        (void)XXH64_update(s, (const uint8_t *)data + at, n);
        passed(ctx, at + n);
    }
    const uint64_t hash = XXH64_digest(s);
    (void)XXH64_freeState(s);
    return hash;
}
#endif

#if defined(KD_HAVE_OPENSSL)
#    include <openssl/evp.h>

static bool digest_of(EVP_MD_CTX *md, const uint8_t *data, size_t bytes, kd_hash_passed passed, const void *ctx,
                      unsigned char digest[EVP_MAX_MD_SIZE])
{
    unsigned int n = 0;
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;
    for (size_t at = 0; ok && at < bytes; at += KD_MIN(KD_HASH_STEP, bytes - at)) {
        const size_t step = KD_MIN(KD_HASH_STEP, bytes - at);
        ok = EVP_DigestUpdate(md, data + at, step) == 1;
        if (passed != NULL) {
            passed(ctx, at + step);
        }
    }
    return ok && EVP_DigestFinal_ex(md, digest, &n) == 1 && n == 32;
}

kd_status kd_sha256_passing(const void *data, size_t bytes, kd_hash_passed passed, const void *ctx,
                            char hex[KD_SHA256_HEX], kd_err *err)
{
    static const char DIGITS[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    const bool ok = digest_of(md, data, bytes, passed, ctx, digest);
    EVP_MD_CTX_free(md);
    if (!ok) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "SHA-256 is not available in this libcrypto");
    }
    for (unsigned int i = 0; i < 32; i++) {
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
    const kd_status st = kd_sha256_passing(map.data, map.bytes, kd_io_map_passed, &map, hex, err);
    kd_io_unmap(&map);
    return st;
}
