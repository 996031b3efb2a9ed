/* The only file that sees zlib: see deflate.h. */
#include "formats/base/deflate.h"

#include <zlib.h>

uint32_t kd_zip_crc32(uint32_t crc, const void *p, size_t n)
{
    return n > 0 ? (uint32_t)crc32_z(crc, p, n) : crc;
}

bool kd_inflate_available(void)
{
    return true;
}

bool kd_inflate(const uint8_t *in, uint64_t packed, uint8_t *out, uint64_t bytes)
{
    z_stream s;
    memset(&s, 0, sizeof s);
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK) {
        return false;
    }
    uint64_t left = packed;
    uint64_t room = bytes;
    s.next_in = (Bytef *)(uintptr_t)in;
    s.next_out = out;
    int rc = Z_OK;
    while (rc == Z_OK) { /* zlib counts in 32 bits */
        const uInt give = (uInt)KD_MIN(left, (uint64_t)1 << 30);
        const uInt take = (uInt)KD_MIN(room, (uint64_t)1 << 30);
        s.avail_in = give;
        s.avail_out = take;
        rc = inflate(&s, Z_NO_FLUSH);
        left -= give - s.avail_in;
        room -= take - s.avail_out;
    }
    (void)inflateEnd(&s);
    return rc == Z_STREAM_END && left == 0 && room == 0;
}

size_t kd_deflate_bound(size_t n)
{
    return compressBound((uLong)n);
}

bool kd_deflate(const uint8_t *in, size_t n, uint8_t *out, size_t *packed)
{
    uLongf len = compressBound((uLong)n);
    if (compress2(out, &len, in, (uLong)n, 6) != Z_OK) {
        return false;
    }
    *packed = (size_t)len;
    return true;
}
