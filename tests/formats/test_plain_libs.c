/* What replaces libraries that are configured out (formats/base/hash_plain.c, formats/base/deflate_none.c) against
 * those libraries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#include <cmocka.h>

#define kd_xxh64             plain_xxh64
#define kd_sha256            plain_sha256
#define kd_sha256_file       plain_sha256_file
#define kd_zip_crc32         plain_crc32
#define kd_inflate           plain_inflate
#define kd_inflate_available plain_inflate_available
#define kd_deflate           plain_deflate
#define kd_deflate_bound     plain_deflate_bound
#include "formats/base/deflate_none.c"
#include "formats/base/hash_plain.c"
#undef kd_xxh64
#undef kd_sha256
#undef kd_sha256_file
#undef kd_zip_crc32
#undef kd_inflate
#undef kd_inflate_available
#undef kd_deflate
#undef kd_deflate_bound
#undef KD_FORMATS_BASE_HASH_H
#undef KD_FORMATS_BASE_DEFLATE_H
#include "formats/base/deflate.h"
#include "formats/base/hash.h"

#define BYTES 200000

static uint8_t data[BYTES];

/* Every length up to 300 (all ends of blocks), then some that span the blocks of a stream. */
static size_t next(size_t n)
{
    return n < 300 ? n + 1 : n + 19991;
}

static void fill(void)
{
    uint32_t x = 1;
    for (size_t i = 0; i < BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        data[i] = (uint8_t)(x >> 24);
    }
}

static void test_hashes(void **state)
{
    (void)state;
    for (size_t n = 0; n <= BYTES; n = next(n)) {
        char ours[KD_SHA256_HEX], theirs[KD_SHA256_HEX];
        assert_int_equal(plain_sha256(data, n, ours, NULL), KD_OK);
        assert_int_equal(kd_sha256(data, n, theirs, NULL), KD_OK);
        assert_string_equal(ours, theirs);
        assert_true(plain_xxh64(data, n) == kd_xxh64(data, n));
    }
}

static void test_crc(void **state)
{
    (void)state;
    for (size_t n = 0; n <= BYTES; n = next(n)) {
        const uint32_t want = kd_zip_crc32(0, data, n);
        assert_int_equal(plain_crc32(0, data, n), want);
        assert_int_equal(plain_crc32(plain_crc32(0, data, n / 3), data + n / 3, n - n / 3), want);
    }
}

/* A stream without compression is one that zlib reads, checksum included. */
static void test_stream(void **state)
{
    (void)state;
    for (size_t n = 0; n <= BYTES; n = next(n)) {
        size_t packed = 0;
        uint8_t *const stream = kd_alloc(plain_deflate_bound(n)), *const back = kd_alloc(n + 1);
        assert_true(stream != NULL && back != NULL && plain_deflate(data, n, stream, &packed));
        assert_true(packed <= plain_deflate_bound(n) && packed > 6);
        uLongf len = (uLongf)n + 1;
        assert_int_equal(uncompress(back, &len, stream, (uLong)packed), Z_OK);
        assert_true(len == n);
        assert_memory_equal(back, data, n);
        kd_free(stream);
        kd_free(back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hashes), cmocka_unit_test(test_crc),
                                       cmocka_unit_test(test_stream)};
    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
