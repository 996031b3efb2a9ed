/* PNG: see png.h.  One IDAT chunk, row filter "up", zlib level 6. */
#include "formats/video/png.h"

#include "formats/base/deflate.h"
#include "formats/base/io.h"

#define SIDE_MAX 16384

static uint8_t *put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (24 - 8 * i));
    }
    return p + 4;
}

/* Length, type, data, CRC of type and data.  The data may already be in its place. */
static uint8_t *put_chunk(uint8_t *p, const char type[4], const uint8_t *data, size_t n)
{
    p = put_u32(p, (uint32_t)n);
    uint8_t *start = p;
    memcpy(p, type, 4);
    if (n != 0 && data != p + 4) {
        memcpy(p + 4, data, n);
    }
    p += 4 + n;
    return put_u32(p, kd_zip_crc32(0, start, 4 + n));
}

kd_status kd_png_encode(const uint8_t *pixels, int width, int height, int channels, uint8_t **png, size_t *len,
                        kd_err *err)
{
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    kd_status st = KD_OK;
    uint8_t *raw = NULL;
    uint8_t *out = NULL;
    if (width < 1 || height < 1 || width > SIDE_MAX || height > SIDE_MAX ||
        (channels != 1 && channels != 3 && channels != 4)) {
        return KD_FAIL(err, KD_E_ARG, "png: expected 1, 3 or 4 channels and sides of 1 to %d, found %dx%dx%d", SIDE_MAX,
                       width, height, channels);
    }
    const size_t row = (size_t)width * (size_t)channels;
    const size_t raw_len = (row + 1) * (size_t)height; /* at most 1 GiB */
    size_t packed = kd_deflate_bound(raw_len);
    raw = kd_alloc(raw_len);
    out = kd_alloc(packed + 128);
    if (raw == NULL || out == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "png: no memory for %dx%dx%d", width, height, channels);
        goto done;
    }
    for (size_t y = 0; y < (size_t)height; y++) {
        uint8_t *r = raw + y * (row + 1);
        const uint8_t *p = pixels + y * row;
        r[0] = 2; /* filter "up": the difference to the row above */
        for (size_t i = 0; i < row; i++) {
            r[1 + i] = (uint8_t)(p[i] - (y == 0 ? 0 : p[i - row]));
        }
    }
    uint8_t head[13];
    uint8_t *h = put_u32(put_u32(head, (uint32_t)width), (uint32_t)height);
    h[0] = 8; /* bits a channel */
    h[1] = channels == 1 ? 0 : channels == 3 ? 2 : 6;
    h[2] = h[3] = h[4] = 0;

    uint8_t *p = out;
    memcpy(p, signature, sizeof signature);
    p = put_chunk(p + sizeof signature, "IHDR", head, sizeof head);
    if (!kd_deflate(raw, raw_len, p + 8, &packed)) {
        st = KD_FAIL(err, KD_E_OOM, "png: zlib has no memory for %dx%dx%d", width, height, channels);
        goto done;
    }
    p = put_chunk(p, "IDAT", p + 8, packed);
    p = put_chunk(p, "IEND", NULL, 0);
    *png = out;
    *len = (size_t)(p - out);
    out = NULL;
done:
    kd_free(raw);
    kd_free(out);
    return st;
}
