/* Pictures: the resizes against OpenCV's and Pillow's bytes, crops, flip, PNG unpacked again. */
#include "formats/base/deflate.h"
#include "formats/video/image.h"
#include "formats/video/png.h"
#include "tools/parity/parity_gen.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
/* clang-format on */

static uint8_t *smooth_image(const char *name, int h, int w)
{
    const uint32_t seed = kd_zip_crc32(0, name, strlen(name));
    uint8_t *p = kd_alloc((size_t)h * (size_t)w * 3);
    assert_non_null(p);
    kd_parity_gen_picture(seed, h, w, p);
    return p;
}

static uint32_t crc(const uint8_t *p, size_t n)
{
    return kd_zip_crc32(0, p, n);
}

/* Sizes and CRC-32 of input and output bytes, from cv2.resize(INTER_LINEAR) of OpenCV 4.6. */
static const struct {
    const char *name;
    int h, w, oh, ow;
    uint32_t in_crc, out_crc;
} golden[] = {
    {"cv2.d1", 54, 96, 22, 39, 0xf30b9701, 0xb5421917},
    {"cv2.d2", 48, 64, 24, 32, 0x18ad1c05, 0x66e9e67f},
    {"cv2.d3", 40, 40, 30, 30, 0x6e742c30, 0xfa92c773},
    {"cv2.u1", 17, 23, 40, 51, 0xa7f00b43, 0x359996a6},
    {"cv2.u2", 30, 20, 60, 40, 0x973d7420, 0x1ca5f007},
    {"cv2.ntu_like", 135, 240, 28, 50, 0x0da48884, 0xcb1dc751},
    {"cv2.odd", 33, 71, 29, 62, 0x99a31f02, 0xedd401a1},
    {"cv2.big", 90, 160, 31, 55, 0x6067951b, 0x301c362d},
    {"cv2.full", 1080, 1920, 224, 398, 0x5b989cb8, 0xad35e993},
};

static void same_bytes(kd_resizer rule, const char *name, int h, int w, int oh, int ow, uint32_t want)
{
    uint8_t *in = smooth_image(name, h, w);
    uint8_t *out = kd_alloc((size_t)oh * (size_t)ow * 3);
    kd_err err = {0};
    assert_int_equal(kd_image_resize_once(rule, in, w, h, 0, out, ow, oh, 0, &err), KD_OK);
    if (crc(out, (size_t)oh * (size_t)ow * 3) != want) {
        fail_msg("%s, rule %d: bytes differ from the reference's", name, (int)rule);
    }
    kd_free(in);
    kd_free(out);
}

static void test_resize_golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(golden); i++) {
        const int h = golden[i].h, w = golden[i].w;
        uint8_t *in = smooth_image(golden[i].name, h, w);
        assert_int_equal(crc(in, (size_t)h * (size_t)w * 3), golden[i].in_crc);
        kd_free(in);
        same_bytes(KD_RESIZER_OPENCV, golden[i].name, h, w, golden[i].oh, golden[i].ow, golden[i].out_crc);
    }
}

/* CRC-32 of Image.resize(BILINEAR) and (BICUBIC) of Pillow 13.0; Pillow 9.4 gave the bytes of parity/spatial_other. */
static void test_resize_pillow(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int h, w, oh, ow;
        uint32_t bilinear, bicubic;
    } CASE[] = {
        {"cv2.d1", 54, 96, 22, 39, 0xea72582f, 0x5aab68c3},
        {"cv2.d3", 40, 40, 30, 30, 0x61d17651, 0x1bff019d},
        {"cv2.u1", 17, 23, 40, 51, 0xeb5e3d80, 0xb7eef853},
        {"cv2.odd", 33, 71, 29, 62, 0xe74810e9, 0x1a6cd72a},
        {"cv2.same", 33, 30, 33, 17, 0x34beb3a3, 0x4aaf1a0e}, /* the height stays */
        {"cv2.full", 1080, 1920, 224, 398, 0x22c928fe, 0x6ed7d52c},
        {"cv2.big", 90, 160, 31, 55, 0x3b251360, 0xdea2be78},
    };
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        same_bytes(KD_RESIZER_PILLOW_BILINEAR, CASE[i].name, CASE[i].h, CASE[i].w, CASE[i].oh, CASE[i].ow,
                   CASE[i].bilinear);
        same_bytes(KD_RESIZER_PILLOW_BICUBIC, CASE[i].name, CASE[i].h, CASE[i].w, CASE[i].oh, CASE[i].ow,
                   CASE[i].bicubic);
    }
}

/* Strides are honoured and the bytes between rows stay as they are; one resizer serves many
 * pictures. */
static void test_resize_strides(void **state)
{
    (void)state;
    enum { W = 20, H = 14, OW = 9, OH = 7, IN = W * 3 + 5, OUT = OW * 3 + 11 };
    uint8_t src[H * IN], dst[OH * OUT], tight[H * W * 3], want[OH * OW * 3];
    for (int round = 0; round < 6; round++) {
        const kd_resizer rule = (kd_resizer)(round % 3);
        kd_image_resizer *r = NULL;
        assert_int_equal(kd_image_resizer_create(rule, W, H, OW, OH, &r, NULL), KD_OK);
        for (size_t i = 0; i < sizeof src; i++) {
            src[i] = (uint8_t)kd_parity_gen_u24((uint32_t)round, (uint32_t)i);
        }
        for (int y = 0; y < H; y++) {
            memcpy(tight + y * W * 3, src + y * IN, W * 3);
        }
        memset(dst, 0xa5, sizeof dst);
        kd_image_resize(r, tight, 0, want, 0);
        kd_image_resize(r, src, IN, dst, OUT);
        for (int y = 0; y < OH; y++) {
            assert_memory_equal(dst + y * OUT, want + y * OW * 3, OW * 3);
            for (int i = OW * 3; i < OUT; i++) {
                assert_int_equal(dst[y * OUT + i], 0xa5);
            }
        }
        kd_image_resizer_free(r);
    }
}

static void test_resize_limits(void **state)
{
    (void)state;
    uint8_t one[3] = {10, 200, 77};
    uint8_t out[5 * 4 * 3];
    kd_err err = {0};
    for (int rule = 0; rule < 3; rule++) {
        assert_int_equal(kd_image_resize_once((kd_resizer)rule, one, 1, 1, 0, out, 5, 4, 0, NULL), KD_OK);
        for (size_t i = 0; i < sizeof out; i++) {
            assert_int_equal(out[i], one[i % 3]);
        }
    }
    kd_image_resizer *r;
    assert_int_equal(kd_image_resizer_create(KD_RESIZER_OPENCV, 0, 4, 4, 4, &r, &err), KD_E_ARG);
    assert_non_null(strstr(err.msg, "0x4"));
    assert_null(r);
    for (uint64_t n = 1; n <= 5; n++) { /* every allocation fails once */
        kd_alloc_fail_at(n);
        assert_int_equal(kd_image_resizer_create(KD_RESIZER_OPENCV, 8, 8, 4, 4, &r, NULL), KD_E_OOM);
    }
    for (uint64_t n = 1; n <= 12; n++) {
        kd_alloc_fail_at(n);
        assert_int_equal(kd_image_resizer_create(KD_RESIZER_PILLOW_BICUBIC, 8, 8, 4, 4, &r, NULL), KD_E_OOM);
    }
    kd_alloc_fail_at(0);
}

static void test_short_side(void **state)
{
    (void)state;
    static const int cases[][5] = {{1920, 1080, 224, 398, 224}, {1080, 1920, 224, 224, 398}, {224, 300, 224, 224, 300},
                                   {340, 256, 224, 297, 224},   {64, 64, 224, 224, 224},     {320, 240, 256, 341, 256}};
    for (size_t i = 0; i < KD_COUNTOF(cases); i++) {
        int w, h;
        kd_image_short_side(cases[i][0], cases[i][1], cases[i][2], &w, &h);
        assert_int_equal(w, cases[i][3]);
        assert_int_equal(h, cases[i][4]);
    }
}

static void test_crop(void **state)
{
    (void)state;
    enum { W = 7, H = 5 };
    uint8_t src[W * H * 3], out[3 * 2 * 3];
    kd_err err = {0};
    for (size_t i = 0; i < sizeof src; i++) {
        src[i] = (uint8_t)i;
    }
    for (int flip = 0; flip < 2; flip++) {
        assert_int_equal(kd_image_crop(src, W, H, 0, 4, 3, 3, 2, flip != 0, out, 0, NULL), KD_OK);
        for (int y = 0; y < 2; y++) {
            for (int x = 0; x < 3; x++) {
                for (int c = 0; c < 3; c++) {
                    const int sx = 4 + (flip != 0 ? 2 - x : x);
                    assert_int_equal(out[(y * 3 + x) * 3 + c], src[((3 + y) * W + sx) * 3 + c]);
                }
            }
        }
    }
    assert_int_equal(kd_image_crop(src, W, H, 0, 5, 0, 3, 2, false, out, 0, &err), KD_E_ARG);
    assert_non_null(strstr(err.msg, "3x2 at (5, 0)"));
    assert_int_equal(kd_image_crop(src, W, H, 0, -1, 0, 3, 2, false, out, 0, NULL), KD_E_ARG);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t adler32(const uint8_t *p, size_t n)
{
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < n; i++) {
        a = (a + p[i]) % 65521u;
        b = (b + a) % 65521u;
    }
    return b << 16 | a;
}

/* The IDAT stream of `packed` bytes: the rows of pix under filter 2 ("up"). */
static void check_rows(const uint8_t *stream, size_t packed, const uint8_t *pix, size_t row, size_t h)
{
    uint8_t raw[(13 * 4 + 1) * 9];
    const size_t n = (row + 1) * h;
    assert_true(n <= sizeof raw);
    if (!kd_inflate_available()) {
        return; /* test_plain_libs unpacks what is written without zlib */
    }
    assert_true(kd_inflate(stream + 2, packed - 6, raw, n)); /* between the head of 2 bytes and the sum of 4 */
    assert_int_equal(be32(stream + packed - 4), adler32(raw, n));
    for (size_t y = 0; y < h; y++) {
        assert_int_equal(raw[y * (row + 1)], 2);
        for (size_t i = 0; i < row; i++) {
            const int up = y == 0 ? 0 : pix[(y - 1) * row + i];
            assert_int_equal((raw[y * (row + 1) + 1 + i] + up) & 255, pix[y * row + i]);
        }
    }
}

static void check_png(const uint8_t *pix, int w, int h, int c)
{
    uint8_t *png = NULL;
    size_t len = 0;
    assert_int_equal(kd_png_encode(pix, w, h, c, &png, &len, NULL), KD_OK);
    assert_memory_equal(png, "\x89PNG\r\n\x1a\n", 8);
    assert_int_equal(be32(png + 8), 13);
    assert_memory_equal(png + 12, "IHDR", 4);
    assert_int_equal(be32(png + 16), w);
    assert_int_equal(be32(png + 20), h);
    assert_int_equal(be32(png + 29), crc(png + 12, 17));
    const uint32_t packed = be32(png + 33);
    assert_memory_equal(png + 37, "IDAT", 4);
    assert_int_equal(be32(png + 41 + packed), crc(png + 37, 4 + packed));
    check_rows(png + 41, packed, pix, (size_t)(w * c), (size_t)h);
    assert_int_equal(len, 41 + packed + 4 + 12);
    assert_memory_equal(png + len - 8, "IEND\xae\x42\x60\x82", 8);
    kd_free(png);
}

static void test_png(void **state)
{
    (void)state;
    static const int channels[] = {1, 3, 4};
    uint8_t pix[13 * 9 * 4];
    for (size_t i = 0; i < sizeof pix; i++) {
        pix[i] = (uint8_t)kd_parity_gen_u24(3, (uint32_t)i);
    }
    for (size_t k = 0; k < KD_COUNTOF(channels); k++) {
        check_png(pix, 13, 9, channels[k]);
    }
    kd_err err = {0};
    uint8_t *png;
    size_t len;
    assert_int_equal(kd_png_encode((const uint8_t *)"", 1, 1, 2, &png, &len, &err), KD_E_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resize_golden),
        cmocka_unit_test(test_resize_pillow),
        cmocka_unit_test(test_resize_strides),
        cmocka_unit_test(test_resize_limits),
        cmocka_unit_test(test_short_side),
        cmocka_unit_test(test_crop),
        cmocka_unit_test(test_png),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
