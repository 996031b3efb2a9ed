/* formats/weights/safetensors: accepts and refuses what the Rust crate does; equal content gives its bytes. */
#include "formats/base/io.h"
#include "formats/weights/safetensors.h"

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

/* header text + `data` zero bytes after it, as a malloc'ed block of exactly that size (ASan sees overreads) */
static uint8_t *make(const char *header, size_t data, size_t *bytes)
{
    const size_t n = strlen(header);
    uint8_t *p = malloc(8 + n + data);
    assert_non_null(p);
    for (unsigned i = 0; i < 8; i++) {
        p[i] = (uint8_t)((uint64_t)n >> (8 * i));
    }
    memcpy(p + 8, header, n);
    memset(p + 8 + n, 0, data);
    *bytes = 8 + n + data;
    return p;
}

static kd_status try_parse(const char *header, size_t data, kd_err *err)
{
    size_t n = 0;
    uint8_t *p = make(header, data, &n);
    kd_st_file *f = NULL;
    const kd_status st = kd_st_parse(p, n, "m.safetensors", &f, err);
    assert_true((st == KD_OK) == (f != NULL));
    kd_st_close(f);
    free(p);
    return st;
}

static void test_accept(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
    } ok[] = {
        {"{}", 0},
        {"{}      ", 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0},
        {"{\"t\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}   ", 16},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2,0],\"data_offsets\":[0,0]}}", 0},
        {"{\"t\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]},"
         "\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         4},
        {"{\"z\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4},
        {"{\"t\":{\"shape\":[1],\"data_offsets\":[0,8],\"dtype\":\"C64\",\"note\":1}}", 8},
    };
    for (size_t i = 0; i < KD_COUNTOF(ok); i++) {
        kd_err err = {0};
        if (try_parse(ok[i].header, ok[i].data, &err) != KD_OK) {
            fail_msg("case %zu: %s", i, err.msg);
        }
    }
}

static void test_refuse(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } bad[] = {
        {"", 0, "does not start"},
        {" {}", 0, "does not start"},
        {"[]", 0, "does not start"},
        {"{", 0, "not valid JSON"},
        {"{\"\xff\":1}", 0, "not valid JSON"},
        {"{} {}", 0, "not valid JSON"},
        {"{\"a\":1,\"a\":2}", 0, "duplicate"},
        {"{}", 1, "the file has 1 bytes"},
        {"{\"t\":1}", 0, "a member of an object"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__.a"},
        {"{\"t\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "t.dtype"},
        {"{\"t\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "expected 2"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "expected 2"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "negative"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "an integer"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":\"1\",\"data_offsets\":[0,4]}}", 4, "an array"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "need 8 bytes"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "no range"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "no range"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3, "truncated"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "tensors end at 4"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "no holes"},
        {"{\"t\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole number"},
        {"{\"t\":{\"dtype\":\"F6_E2M3\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, "whole number"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4611686018427387904],"
         "\"data_offsets\":[0,0]}}",
         0, "overflows"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, "overflows"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
         6, "no overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
         4, "no overlap"},
    };
    for (size_t i = 0; i < KD_COUNTOF(bad); i++) {
        kd_err err = {0};
        if (try_parse(bad[i].header, bad[i].data, &err) != KD_E_FORMAT) {
            fail_msg("case %zu accepted: %s", i, bad[i].header);
        }
        if (strncmp(err.msg, "m.safetensors: ", 15) != 0 || strstr(err.msg, bad[i].message) == NULL) {
            fail_msg("case %zu: %s", i, err.msg);
        }
    }
}

static void test_length_field(void **state)
{
    (void)state;
    kd_st_file *f = NULL;
    uint8_t raw[16] = {0};
    for (size_t n = 0; n < 8; n++) {
        assert_int_equal(kd_st_parse(raw, n, "x", &f, NULL), KD_E_FORMAT);
    }
    memset(raw, 0xff, 8); /* 2^64 - 1 */
    assert_int_equal(kd_st_parse(raw, 16, "x", &f, NULL), KD_E_FORMAT);
    memcpy(raw, "\x01\xe1\xf5\x05\0\0\0\0", 8); /* 100 000 001 */
    kd_err err = {0};
    assert_int_equal(kd_st_parse(raw, 16, "x", &f, &err), KD_E_FORMAT);
    assert_non_null(strstr(err.msg, "100000001 bytes, at most"));
    memcpy(raw, "\x09\0\0\0\0\0\0\0", 8);
    assert_int_equal(kd_st_parse(raw, 16, "x", &f, NULL), KD_E_FORMAT);
}

/* Every truncation of a good file is refused. */
static void test_truncated(void **state)
{
    (void)state;
    size_t n = 0;
    uint8_t *p = make("{\"t\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", 16, &n);
    for (size_t k = 0; k < n; k++) {
        uint8_t *cut = malloc(k + 1);
        memcpy(cut, p, k);
        kd_st_file *f = NULL;
        assert_int_equal(kd_st_parse(cut, k, "x", &f, NULL), KD_E_FORMAT);
        free(cut);
    }
    free(p);
}

static void test_write(void **state)
{
    (void)state;
    char path[] = "/tmp/kd_st_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    const float a[6] = {1, 2, 3, 4, 5, 6};
    const int64_t step = 7;
    const uint16_t h[2] = {0x3c00, 0xc000};
    const int64_t da[2] = {2, 3};
    const int64_t dh[1] = {2};
    const kd_st_tensor t[4] = {
        {"h", KD_ST_F16, 1, dh, h},
        {"b", KD_ST_F32, 2, da, a},
        {"step", KD_ST_I64, 0, NULL, &step},
        {"a", KD_ST_F32, 2, da, a},
    };
    kd_json *meta = kd_json_object();
    kd_json_set_str(meta, "format", "pt");
    assert_int_equal(kd_st_write(path, t, 4, meta, NULL), KD_OK);
    uint8_t *data = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_read_file(path, 4096, &data, &n, NULL), KD_OK);
    /* what the crate writes for the same content: widest dtype first, then by name, padded to 8 */
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"step\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]},"
                         "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[32,56]},"
                         "\"h\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[56,60]}}";
    const size_t padded = (strlen(header) + 7) / 8 * 8;
    assert_int_equal(data[0] | data[1] << 8, padded);
    assert_memory_equal(data + 8, header, strlen(header));
    assert_int_equal(n, 8 + padded + 60);
    kd_free(data);

    kd_st_file *f = NULL;
    assert_int_equal(kd_st_open(path, &f, NULL), KD_OK);
    assert_int_equal(kd_st_count(f), 4);
    assert_string_equal(kd_st_meta(f, "format"), "pt");
    assert_null(kd_st_meta(f, "other"));
    const kd_st_entry *e = NULL;
    assert_int_equal(kd_st_need(f, "b", KD_ST_F32, 2, da, &e, NULL), KD_OK);
    assert_memory_equal(e->data, a, sizeof a);
    assert_int_equal((uintptr_t)e->data % 8, 0);
    kd_err err = {0};
    const int64_t other[2] = {3, 2};
    assert_int_equal(kd_st_need(f, "b", KD_ST_F32, 2, other, &e, &err), KD_E_DATA);
    assert_int_equal(kd_st_need(f, "b", KD_ST_F16, -1, NULL, &e, NULL), KD_E_DATA);
    assert_int_equal(kd_st_need(f, "none", KD_ST_F16, -1, NULL, &e, NULL), KD_E_DATA);
    float out[2];
    e = kd_st_find(f, "h");
    assert_true(kd_st_to_f32(e->dtype, e->data, e->count, out));
    assert_true(out[0] == 1.0f && out[1] == -2.0f);
    assert_null(kd_st_find(f, "c"));
    kd_st_close(f);

    const kd_st_tensor twice[2] = {t[0], t[0]};
    assert_int_equal(kd_st_write(path, twice, 2, NULL, NULL), KD_E_ARG);
    kd_st_writer *w = NULL;
    assert_int_equal(kd_st_writer_open(path, t, 1, NULL, &w, NULL), KD_OK);
    assert_int_equal(kd_st_writer_put(w, h, 2, NULL), KD_OK);
    assert_int_equal(kd_st_writer_put(w, h, 4, NULL), KD_E_ARG); /* too much */
    assert_int_equal(kd_st_writer_commit(w, NULL), KD_E_ARG);    /* too little */
    kd_io_fail_after_bytes(100);
    assert_int_equal(kd_st_write(path, t, 4, meta, NULL), KD_E_WRITE);
    kd_io_fail_after_bytes(-1);
    assert_int_equal(kd_st_open(path, &f, NULL), KD_OK); /* the old file is whole */
    assert_int_equal(kd_st_count(f), 4);
    kd_st_close(f);
    kd_json_free(meta);
    assert_int_equal(unlink(path), 0);
}

static void test_dtypes(void **state)
{
    (void)state;
    for (int t = 0; t < KD_ST_DTYPE_COUNT; t++) {
        kd_st_dtype back;
        assert_true(kd_st_dtype_parse(kd_st_dtype_name((kd_st_dtype)t), &back));
        assert_int_equal(back, t);
    }
    for (int t = 0; t < KD_DTYPE_COUNT; t++) {
        kd_dtype back;
        assert_true(kd_st_dtype_to(kd_st_dtype_from((kd_dtype)t), &back));
        assert_int_equal(back, t);
        assert_int_equal(kd_st_dtype_bits(kd_st_dtype_from(back)), 8 * kd_dtype_size(back));
    }
    kd_dtype d;
    assert_false(kd_st_dtype_to(KD_ST_F8_E5M2, &d));
    float x = 0;
    const int8_t i8 = -3;
    const double f64 = 0.1;
    const uint64_t u64 = 1ull << 40;
    assert_true(kd_st_to_f32(KD_ST_I8, &i8, 1, &x) && x == -3.0f);
    assert_true(kd_st_to_f32(KD_ST_F64, &f64, 1, &x) && x == 0.1f);
    assert_true(kd_st_to_f32(KD_ST_U64, &u64, 1, &x) && x == 0x1p40f);
    assert_false(kd_st_to_f32(KD_ST_C64, &u64, 1, &x));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept),    cmocka_unit_test(test_refuse), cmocka_unit_test(test_length_field),
        cmocka_unit_test(test_truncated), cmocka_unit_test(test_write),  cmocka_unit_test(test_dtypes),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
