/* npy.h and npy_write.h: arrays of every kind and order, what must be refused, archives, our own writer. */
#include "formats/base/io.h"
#include "formats/weights/npy_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

/* version 1 file of exactly the right size (ASan sees overreads) */
static uint8_t *make(const char *header, const void *data, size_t bytes, size_t *total)
{
    const size_t n = strlen(header);
    uint8_t *p = malloc(10 + n + bytes);
    memcpy(p, "\x93NUMPY\x01\x00", 8);
    p[8] = (uint8_t)n;
    p[9] = (uint8_t)(n >> 8);
    memcpy(p + 10, header, n);
    if (bytes > 0) {
        memcpy(p + 10 + n, data, bytes);
    }
    *total = 10 + n + bytes;
    return p;
}

static kd_status try_parse(const char *header, size_t bytes, kd_err *err)
{
    static const uint8_t zeros[256];
    size_t n = 0;
    uint8_t *p = make(header, zeros, bytes, &n);
    kd_npy a;
    const kd_status st = kd_npy_parse(p, n, "a.npy", &a, err);
    free(p);
    return st;
}

#define HEADER(descr, fortran, shape) "{'descr': '" descr "', 'fortran_order': " fortran ", 'shape': " shape ", }\n"

static void test_accept(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t bytes;
    } ok[] = {
        {HEADER("<f4", "False", "(3, 4)"), 48},
        {HEADER("<f4", "False", "(3,4,)"), 48},
        {HEADER("<f8", "True", "(2,)"), 16},
        {HEADER("|b1", "False", "()"), 1},
        {HEADER("<i8", "False", "(0, 5)"), 0},
        {HEADER(">u2", "False", "(1L, 3L)"), 6},
        {HEADER("<f2", "False", "(1,1,1,1,1,1,1,2)"), 4},
        {HEADER("|S7", "False", "(2,)"), 14},
        {HEADER("<U3", "False", "(2,)"), 24},
        {"{\"shape\": (1,), \"descr\": \"|u1\", \"fortran_order\": False}", 1},
    };
    for (size_t i = 0; i < KD_COUNTOF(ok); i++) {
        kd_err err = {0};
        if (try_parse(ok[i].header, ok[i].bytes, &err) != KD_OK) {
            fail_msg("%zu: %s", i, err.msg);
        }
    }
}

static void test_refuse(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t bytes;
        kd_status st;
        const char *message;
    } bad[] = {
        {HEADER("|O", "False", "(1,)"), 8, KD_E_UNSUPPORTED, "Python objects"},
        {HEADER("<c8", "False", "(1,)"), 8, KD_E_UNSUPPORTED, "'<c8'"},
        {HEADER("<f3", "False", "(1,)"), 3, KD_E_UNSUPPORTED, "'<f3'"},
        {HEADER("<f", "False", "(1,)"), 4, KD_E_UNSUPPORTED, "'<f'"},
        {HEADER("<f4x", "False", "(1,)"), 4, KD_E_UNSUPPORTED, "'<f4x'"},
        {HEADER("", "False", "(1,)"), 4, KD_E_UNSUPPORTED, "''"},
        {HEADER("<f4", "False", "(1)"), 4, KD_E_FORMAT, "header is not"},
        {HEADER("<f4", "False", "(-1,)"), 4, KD_E_FORMAT, "header is not"},
        {HEADER("<f4", "False", "[1]"), 4, KD_E_FORMAT, "header is not"},
        {HEADER("<f4", "0", "(1,)"), 4, KD_E_FORMAT, "header is not"},
        {HEADER("<f4", "False", "(1,1,1,1,1,1,1,1,1)"), 4, KD_E_FORMAT, "at most 8"},
        {HEADER("<f4", "False", "(99999999999999999999,)"), 4, KD_E_FORMAT, "header is not"},
        {HEADER("<f4", "False", "(4294967296, 4294967296)"), 0, KD_E_FORMAT, "overflows"},
        {HEADER("<f4", "False", "(9223372036854775807, 0)"), 4, KD_E_FORMAT, "need 0 bytes"},
        {HEADER("<f4", "False", "(2,)"), 4, KD_E_FORMAT, "need 8 bytes"},
        {HEADER("<f4", "False", "(2,)"), 12, KD_E_FORMAT, "need 8 bytes"},
        {"{'descr': '<f4', 'fortran_order': False}", 4, KD_E_FORMAT, "header is not"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", 4, KD_E_FORMAT, "header is not"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}", 4, KD_E_FORMAT, "header is not"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", 4, KD_E_FORMAT, "header is not"},
        {"__import__('os').system('id')", 4, KD_E_FORMAT, "header is not"},
        {HEADER("<f4", "False", "()") "garbage", 4, KD_E_FORMAT, "header is not"},
        {"", 0, KD_E_FORMAT, "header is not"},
    };
    for (size_t i = 0; i < KD_COUNTOF(bad); i++) {
        kd_err err = {0};
        const kd_status st = try_parse(bad[i].header, bad[i].bytes, &err);
        if (st != bad[i].st || strstr(err.msg, bad[i].message) == NULL) {
            fail_msg("case %zu: %d %s", i, (int)st, err.msg);
        }
    }
    kd_npy a;
    assert_int_equal(kd_npy_parse("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12, "x", &a, NULL), KD_E_FORMAT);
    assert_int_equal(kd_npy_parse("\x93NUMPY\x04\x00\0\0\0\0", 12, "x", &a, NULL), KD_E_FORMAT);
    size_t n = 0;
    uint8_t *p = make(HEADER("<f4", "False", "(1,)"), "abcd", 4, &n);
    for (size_t k = 0; k < n; k++) {
        uint8_t *cut = malloc(k + 1);
        memcpy(cut, p, k);
        assert_int_equal(kd_npy_parse(cut, k, "x", &a, NULL), KD_E_FORMAT);
        free(cut);
    }
    free(p);
}

static void test_orders(void **state)
{
    (void)state;
    /* rows 0 1 2 / 3 4 5, column by column, big-endian i2 */
    static const uint8_t data[] = {0, 0, 0, 3, 0, 1, 0, 4, 0, 2, 0xff, 0xfb};
    size_t n = 0;
    uint8_t *p = make(HEADER(">i2", "True", "(2, 3)"), data, sizeof data, &n);
    kd_npy a;
    assert_int_equal(kd_npy_parse(p, n, "x", &a, NULL), KD_OK);
    assert_true(a.swapped && a.fortran);
    int16_t v[6];
    kd_npy_copy(&a, v);
    const int16_t expected[6] = {0, 1, 2, 3, 4, -5};
    assert_memory_equal(v, expected, sizeof v);
    float f[6];
    int64_t i[6];
    assert_int_equal(kd_npy_to_f32(&a, f, NULL), KD_OK);
    assert_int_equal(kd_npy_to_i64(&a, i, NULL), KD_OK);
    for (int k = 0; k < 6; k++) {
        assert_true(f[k] == (float)expected[k]);
        assert_int_equal(i[k], expected[k]);
    }
    free(p);
    static const uint8_t big[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    p = make(HEADER("<u8", "False", "(1,)"), big, 8, &n);
    assert_int_equal(kd_npy_parse(p, n, "x", &a, NULL), KD_OK);
    assert_int_equal(kd_npy_to_i64(&a, i, NULL), KD_E_DATA);
    free(p);
    p = make(HEADER("<f8", "False", "(1,)"), big, 8, &n);
    assert_int_equal(kd_npy_parse(p, n, "x", &a, NULL), KD_OK);
    assert_int_equal(kd_npy_to_i64(&a, i, NULL), KD_E_DTYPE);
    free(p);
    p = make(HEADER("|S4", "False", "(2,)"), "abcdx\0\0\0", 8, &n);
    assert_int_equal(kd_npy_parse(p, n, "x", &a, NULL), KD_OK);
    assert_int_equal(kd_npy_to_f32(&a, f, NULL), KD_E_DTYPE);
    char *s = kd_npy_text(&a, 0);
    assert_string_equal(s, "abcd");
    kd_free(s);
    s = kd_npy_text(&a, 1);
    assert_string_equal(s, "x");
    kd_free(s);
    assert_null(kd_npy_text(&a, 2));
    free(p);
}

static void test_npz(void **state)
{
    (void)state;
    kd_npz *z = NULL;
    kd_err err = {0};
    if (kd_npz_open(KD_GOLDEN_DIR "/npy/deflated.npz", 1 << 20, &z, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(kd_npz_count(z), 3);
    assert_string_equal(kd_npz_name(z, 0), "names");
    kd_npy a;
    assert_int_equal(kd_npz_get(z, "x_train", &a, NULL), KD_OK);
    assert_int_equal(a.rank, 2);
    float f[12];
    assert_int_equal(kd_npy_to_f32(&a, f, NULL), KD_OK);
    assert_true(f[11] == 11.0f);
    assert_int_equal(kd_npz_get(z, "y", &a, NULL), KD_OK);
    assert_int_equal(a.count, 300);
    int64_t y[300];
    assert_int_equal(kd_npy_to_i64(&a, y, NULL), KD_OK);
    assert_int_equal(y[299], 299 % 7);
    assert_int_equal(kd_npz_get(z, "names", &a, NULL), KD_OK);
    char *s = kd_npy_text(&a, 1);
    assert_string_equal(s, "\xc3\xa9t\xc3\xa9");
    kd_free(s);
    assert_int_equal(kd_npz_get(z, "z", &a, &err), KD_E_DATA);
    kd_npz_close(z);
    /* a bound on what is unpacked */
    assert_int_equal(kd_npz_open(KD_GOLDEN_DIR "/npy/deflated.npz", 100, &z, NULL), KD_OK);
    err = (kd_err){0};
    assert_int_equal(kd_npz_get(z, "y", &a, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "y.npy claims"));
    kd_npz_close(z);
}

/* Every flipped byte of an archive: an error, or the right values. */
static void test_npz_flips(void **state)
{
    (void)state;
    char path[] = "/tmp/kd_npz_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    uint8_t *data = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_read_file(KD_GOLDEN_DIR "/npy/deflated.npz", 1 << 20, &data, &n, NULL), KD_OK);
    for (size_t i = 0; i < n; i++) {
        data[i] ^= (uint8_t)(1u << (i % 8));
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, n, f), n);
        assert_int_equal(fclose(f), 0);
        kd_npz *z = NULL;
        kd_npy a;
        if (kd_npz_open(path, 1 << 16, &z, NULL) == KD_OK && kd_npz_get(z, "y", &a, NULL) == KD_OK) {
            int64_t y[300];
            assert_int_equal(a.count, 300);
            assert_int_equal(kd_npy_to_i64(&a, y, NULL), KD_OK);
            for (int k = 0; k < 300; k++) {
                assert_int_equal(y[k], k % 7);
            }
        }
        kd_npz_close(z);
        data[i] ^= (uint8_t)(1u << (i % 8));
    }
    kd_free(data);
    assert_int_equal(unlink(path), 0);
}

static void test_write(void **state)
{
    (void)state;
    char path[] = "/tmp/kd_npy_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    const float v[6] = {0, 1, 2, 3, 4, 5};
    const int64_t label[2] = {7, -1};
    const int64_t d[2] = {2, 3};
    const kd_st_tensor t[3] = {
        {"logits", KD_ST_F32, 2, d, v}, {"label", KD_ST_I64, 1, d, label}, {"n", KD_ST_F32, 0, NULL, v + 4}};
    assert_int_equal(kd_npy_write(path, &t[0], NULL), KD_OK);
    kd_npy_file *f = NULL;
    assert_int_equal(kd_npy_open(path, &f, NULL), KD_OK);
    const kd_npy *a = kd_npy_array(f);
    assert_int_equal(a->rank, 2);
    assert_int_equal((uintptr_t)a->data % 64, 0);
    assert_memory_equal(a->data, v, sizeof v);
    kd_npy_close(f);
    uint8_t *raw = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_read_file(path, 4096, &raw, &n, NULL), KD_OK);
    assert_memory_equal(raw + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 58);
    kd_free(raw);
    assert_int_equal(kd_npz_write(path, t, 3, NULL), KD_OK);
    kd_npz *z = NULL;
    assert_int_equal(kd_npz_open(path, 1 << 20, &z, NULL), KD_OK);
    kd_npy b;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(kd_npz_get(z, t[i].name, &b, NULL), KD_OK);
        assert_int_equal(b.rank, t[i].rank);
        assert_memory_equal(b.data, t[i].data, b.bytes);
    }
    kd_npz_close(z);
    const kd_st_tensor bf16 = {"x", KD_ST_BF16, 0, NULL, v};
    assert_int_equal(kd_npy_write(path, &bf16, NULL), KD_E_DTYPE);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept), cmocka_unit_test(test_refuse),    cmocka_unit_test(test_orders),
        cmocka_unit_test(test_npz),    cmocka_unit_test(test_npz_flips), cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests_name("npy", tests, NULL, NULL);
}
