/* What replaces libraries that are configured out (formats/base/hash_plain.c, formats/base/deflate_none.c) against
 * those libraries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>

#include <cmocka.h>

#define kd_xxh64             plain_xxh64
#define kd_sha256            plain_sha256
#define kd_sha256_file       plain_sha256_file
#define kd_xxh64_passing     plain_xxh64_passing
#define kd_sha256_passing    plain_sha256_passing
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
#undef kd_xxh64_passing
#undef kd_sha256_passing
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

static void count(const void *ctx, size_t bytes)
{
    size_t *steps = (size_t *)(uintptr_t)ctx;
    assert_true(bytes > steps[1]);
    steps[0]++;
    steps[1] = bytes;
}

/* In steps: the same hashes, and who listens hears of nearly everything. */
static void test_steps(void **state)
{
    const size_t n = 2 * KD_HASH_STEP + 12345;
    uint8_t *big = malloc(n);
    char ours[KD_SHA256_HEX], theirs[KD_SHA256_HEX], whole[KD_SHA256_HEX];
    size_t a[2] = {0}, b[2] = {0}, c[2] = {0}, d[2] = {0};
    (void)state;
    assert_non_null(big);
    for (size_t i = 0; i < n; i++) {
        big[i] = data[i % BYTES];
    }
    assert_int_equal(plain_sha256_passing(big, n, count, a, ours, NULL), KD_OK);
    assert_int_equal(kd_sha256_passing(big, n, count, b, theirs, NULL), KD_OK);
    assert_int_equal(kd_sha256(big, n, whole, NULL), KD_OK);
    assert_string_equal(ours, theirs);
    assert_string_equal(whole, theirs);
    assert_true(plain_xxh64_passing(big, n, count, c) == kd_xxh64(big, n));
    assert_true(kd_xxh64_passing(big, n, count, d) == kd_xxh64(big, n));
    assert_true(a[0] >= 2 && b[0] >= 2 && c[0] >= 2 && d[0] >= 2);
    free(big);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hashes), cmocka_unit_test(test_steps),
                                       cmocka_unit_test(test_crc), cmocka_unit_test(test_stream)};
    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
