/* CRC-32 and streams without compression, for builds without zlib: see deflate.h. */
#include "formats/base/deflate.h"

#define STORED_MAX 65535u /* bytes of a block that is not compressed */

uint32_t kd_zip_crc32(uint32_t crc, const void *p, size_t n)
{
    static const uint32_t nibble[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const uint8_t *b = p;
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= b[i];
        crc = crc >> 4 ^ nibble[crc & 15u];
        crc = crc >> 4 ^ nibble[crc & 15u];
    }
    return ~crc;
}

bool kd_inflate_available(void)
{
    return false;
}

bool kd_inflate(const uint8_t *in, uint64_t packed, uint8_t *out, uint64_t bytes)
{
    (void)in, (void)packed, (void)out, (void)bytes;
    return false;
}

size_t kd_deflate_bound(size_t n)
{
    return n + 5 * (n / STORED_MAX + 1) + 6;
}

bool kd_deflate(const uint8_t *in, size_t n, uint8_t *out, size_t *packed)
{
    uint32_t a = 1, b = 0; /* Adler-32 */
    uint8_t *p = out;
    *p++ = 0x78;
    *p++ = 0x01;
    size_t at = 0;
    do {
        const size_t len = KD_MIN(n - at, (size_t)STORED_MAX);
        *p++ = at + len == n; /* last block */
        *p++ = (uint8_t)len;
        *p++ = (uint8_t)(len >> 8);
        *p++ = (uint8_t)~len;
        *p++ = (uint8_t)(~len >> 8);
        for (size_t i = 0; i < len; i++) {
            a = (a + in[at + i]) % 65521u;
            b = (b + a) % 65521u;
            *p++ = in[at + i];
        }
        at += len;
    } while (at < n);
    const uint32_t sum = b << 16 | a;
    for (int i = 0; i < 4; i++) {
        *p++ = (uint8_t)(sum >> (24 - 8 * i));
    }
    *packed = (size_t)(p - out);
    return true;
}
