/* XXH64 and SHA-256 in plain C, for builds without libxxhash (KD_XXHASH=OFF) or libcrypto (KD_OPENSSL=OFF): hash.c uses
 * what it has, this file the rest.  Sources: the XXH64 description by Y. Collet; FIPS 180-4. */
#include "formats/base/hash.h"

#if !defined(KD_HAVE_XXHASH)
#    define P1 0x9E3779B185EBCA87u
#    define P2 0xC2B2AE3D27D4EB4Fu
#    define P3 0x165667B19E3779F9u
#    define P4 0x85EBCA77C2B2AE63u
#    define P5 0x27D4EB2F165667C5u

static uint64_t rotl(uint64_t x, int r)
{
    return x << r | x >> (64 - r);
}

static uint64_t read_le(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static uint64_t step(uint64_t acc, uint64_t word)
{
    return rotl(acc + word * P2, 31) * P1;
}

uint64_t kd_xxh64_passing(const void *data, size_t bytes, kd_hash_passed passed, const void *ctx)
{
    const uint8_t *p = data;
    size_t left = bytes;
    uint64_t h = P5;
    if (bytes >= 32) {
        uint64_t lane[4] = {P1 + P2, P2, 0, 0 - P1};
        for (; left >= 32; left -= 32, p += 32) {
            for (int i = 0; i < 4; i++) {
                lane[i] = step(lane[i], read_le(p + 8 * i, 8));
            }
            if (passed != NULL && (bytes - left + 32) % KD_HASH_STEP == 0) {
                passed(ctx, bytes - left + 32);
            }
        }
        h = rotl(lane[0], 1) + rotl(lane[1], 7) + rotl(lane[2], 12) + rotl(lane[3], 18);
        for (int i = 0; i < 4; i++) {
            h = (h ^ step(0, lane[i])) * P1 + P4;
        }
    }
    h += bytes;
    for (; left >= 8; left -= 8, p += 8) {
        h = rotl(h ^ step(0, read_le(p, 8)), 27) * P1 + P4;
    }
    if (left >= 4) {
        h = rotl(h ^ read_le(p, 4) * P1, 23) * P2 + P3;
        left -= 4;
        p += 4;
    }
    for (; left > 0; left--, p++) {
        h = rotl(h ^ *p * P5, 11) * P1;
    }
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}
#endif

#if !defined(KD_HAVE_OPENSSL)
static uint32_t rotr(uint32_t x, int r)
{
    return x >> r | x << (32 - r);
}

static void sha_block(uint32_t h[8], const uint8_t *p)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    }
    for (int i = 16; i < 64; i++) {
        const uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotr(a, 7) ^ rotr(a, 18) ^ a >> 3) + w[i - 7] + (rotr(b, 17) ^ rotr(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 64; i++) {
        const uint32_t e = v[4], a = v[0];
        const uint32_t t1 = v[7] + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & v[5]) ^ (~e & v[6])) + k[i] + w[i];
        const uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) {
        h[i] += v[i];
    }
}

kd_status kd_sha256_passing(const void *data, size_t bytes, kd_hash_passed passed, const void *ctx,
                            char hex[KD_SHA256_HEX], kd_err *err)
{
    static const char DIGITS[] = "0123456789abcdef";
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const uint8_t *p = data;
    size_t left = bytes;
    uint8_t tail[128] = {0};
    (void)err;
    for (; left >= 64; left -= 64, p += 64) {
        sha_block(h, p);
        if (passed != NULL && (bytes - left + 64) % KD_HASH_STEP == 0) {
            passed(ctx, bytes - left + 64);
        }
    }
    if (left > 0) {
        memcpy(tail, p, left);
    }
    tail[left] = 0x80;
    const size_t end = left < 56 ? 64 : 128;
    for (size_t i = 0; i < 8; i++) {
        tail[end - 1 - i] = (uint8_t)((uint64_t)bytes * 8 >> (8 * i));
    }
    for (size_t at = 0; at < end; at += 64) {
        sha_block(h, tail + at);
    }
    for (size_t i = 0; i < 64; i++) {
        hex[i] = DIGITS[h[i / 8] >> (28 - 4 * (i % 8)) & 15u];
    }
    hex[64] = '\0';
    return KD_OK;
}
#endif
