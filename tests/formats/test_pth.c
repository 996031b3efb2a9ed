/* formats/base/python/pickle, formats/base/zip, formats/weights/pth: the reference's files bit for bit, hostile
 * pickles, our own writer. */
#include "formats/base/io.h"
#include "formats/base/json.h"
#include "formats/base/python/pickle.h"
#include "formats/base/zip.h"
#include "formats/weights/pth.h"

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

#define GOLDEN KD_GOLDEN_DIR "/pth/"

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) {
            c = (c >> 1) ^ (0xedb88320u & (0u - (c & 1u)));
        }
    }
    return ~c;
}

static kd_pth *open_ok(const char *path)
{
    kd_pth *p = NULL;
    kd_err err = {0};
    if (kd_pth_open(path, "", &p, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return p;
}

static void *read_tensor(kd_pth *p, const kd_pth_tensor *t)
{
    void *d = kd_alloc(t->bytes + 1);
    kd_err err = {0};
    if (kd_pth_read(p, t, d, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return d;
}

static void check_shape(const kd_pth_tensor *t, const kd_json *shapes, const char *name)
{
    const kd_json *s = kd_json_get(shapes, name);
    assert_non_null(s);
    assert_int_equal(t->rank, kd_json_count(s));
    for (size_t k = 0; k < t->rank; k++) {
        int64_t d = -1;
        assert_int_equal(kd_json_as_i64(kd_json_at(s, k), &d, NULL), KD_OK);
        assert_int_equal(t->dim[k], d);
    }
}

/* Every tensor of the file against shape and CRC of the manifest. */
static void check_file(const char *file, const char *key, kd_st_dtype dtype, const char *crcs)
{
    kd_json *man = NULL;
    assert_int_equal(kd_json_load(GOLDEN "manifest.json", &man, NULL), KD_OK);
    char path[512];
    (void)snprintf(path, sizeof path, GOLDEN "%s", file);
    kd_pth *p = open_ok(path);
    assert_string_equal(kd_pth_key(p), key);
    const kd_json *names = kd_json_get(man, "keys");
    assert_int_equal(kd_pth_count(p), kd_json_count(names));
    for (size_t i = 0; i < kd_json_count(names); i++) {
        const char *name = NULL;
        const char *crc = NULL;
        char found[16];
        assert_int_equal(kd_json_as_str(kd_json_at(names, i), &name, NULL), KD_OK);
        const kd_pth_tensor *t = kd_pth_find(p, name);
        assert_non_null(t);
        assert_int_equal(t->dtype, dtype);
        check_shape(t, kd_json_get(man, "shapes"), name);
        uint8_t *d = read_tensor(p, t);
        (void)snprintf(found, sizeof found, "%08x", crc32_of(d, t->bytes));
        kd_free(d);
        if (crcs == NULL) {
            continue;
        }
        assert_int_equal(kd_json_get_str(kd_json_get(man, crcs), name, &crc, NULL), KD_OK);
        assert_string_equal(found, crc);
    }
    kd_pth_close(p);
    kd_json_free(man);
}

static void test_golden(void **state)
{
    (void)state;
    check_file("finetuned_model_f32.pth", "model", KD_ST_F32, "crc32");
    check_file("legacy_nonzip_f32.pth", "model", KD_ST_F32, "crc32");
    check_file("deepspeed_module_f16.pth", "module", KD_ST_F16, "crc32_f16");
}

static void test_bf16(void **state)
{
    (void)state;
    kd_pth *h = open_ok(GOLDEN "model_bf16.pth");
    kd_pth *f = open_ok(GOLDEN "finetuned_model_f32.pth");
    assert_int_equal(kd_pth_count(h), kd_pth_count(f));
    for (size_t i = 0; i < kd_pth_count(h); i++) {
        const kd_pth_tensor *a = kd_pth_at(h, i);
        const kd_pth_tensor *b = kd_pth_find(f, a->name);
        assert_int_equal(a->dtype, KD_ST_BF16);
        assert_int_equal(a->count, b->count);
        uint16_t *x = read_tensor(h, a);
        float *y = read_tensor(f, b);
        for (size_t k = 0; k < a->count; k++) {
            assert_int_equal(x[k], kd_f32_to_bf16(y[k]));
        }
        kd_free(x);
        kd_free(y);
    }
    kd_pth_close(h);
    kd_pth_close(f);
}

static void test_pretrain(void **state)
{
    (void)state;
    kd_json *man = NULL;
    assert_int_equal(kd_json_load(GOLDEN "manifest.json", &man, NULL), KD_OK);
    kd_pth *p = open_ok(GOLDEN "pretrain_encoder_f32.pth");
    const kd_json *names = kd_json_get(man, "pretrain_keys");
    assert_int_equal(kd_pth_count(p), kd_json_count(names));
    for (size_t i = 0; i < kd_json_count(names); i++) {
        const char *name = NULL;
        assert_int_equal(kd_json_as_str(kd_json_at(names, i), &name, NULL), KD_OK);
        assert_string_equal(kd_pth_at(p, i)->name, name);
    }
    kd_pth_close(p);
    kd_json_free(man);
}

static void test_strided(void **state)
{
    (void)state;
    kd_pth *p = open_ok(GOLDEN "strided_views.pth");
    const kd_pth_tensor *t = kd_pth_find(p, "view_t"); /* transpose of a 4 x 6 ramp */
    assert_non_null(t);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->dim[0], 6);
    assert_int_equal(t->dim[1], 4);
    assert_false(t->contiguous);
    float *d = read_tensor(p, t);
    for (int r = 0; r < 6; r++) {
        for (int c = 0; c < 4; c++) {
            assert_true(d[r * 4 + c] == (float)(c * 6 + r));
        }
    }
    kd_free(d);
    t = kd_pth_find(p, "slice"); /* [1:3, 2:5] */
    d = read_tensor(p, t);
    assert_int_equal(t->count, 6);
    for (int r = 0; r < 2; r++) {
        for (int c = 0; c < 3; c++) {
            assert_true(d[r * 3 + c] == (float)((r + 1) * 6 + c + 2));
        }
    }
    kd_free(d);
    t = kd_pth_find(p, "shared"); /* row 0 */
    d = read_tensor(p, t);
    for (int c = 0; c < 6; c++) {
        assert_true(d[c] == (float)c);
    }
    kd_free(d);
    kd_pth_close(p);
}

/* Copies of exactly k bytes: ASan sees any read beyond. */
static void cut_everywhere(const char *path, size_t step)
{
    uint8_t *data = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_read_file(path, 1 << 20, &data, &n, NULL), KD_OK);
    for (size_t k = 0; k < n; k += step) {
        uint8_t *cut = malloc(k + 1);
        memcpy(cut, data, k);
        kd_pth *p = NULL;
        kd_err err = {0};
        const kd_status st = kd_pth_parse(cut, k, "cut", &p, &err);
        if (st != KD_E_FORMAT) {
            fail_msg("%s cut at %zu: %d %s", path, k, st, err.msg);
        }
        free(cut);
    }
    kd_free(data);
}

static void test_truncated(void **state)
{
    (void)state;
    cut_everywhere(GOLDEN "strided_views.pth", 1);
    cut_everywhere(GOLDEN "legacy_nonzip_f32.pth", 97);
}

/* Any flipped byte: an error, or the same values. */
static void test_flipped(void **state)
{
    (void)state;
    uint8_t *data = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_read_file(GOLDEN "strided_views.pth", 1 << 20, &data, &n, NULL), KD_OK);
    for (size_t i = 0; i < n; i++) {
        data[i] ^= (uint8_t)(1u << (i % 8));
        kd_pth *p = NULL;
        if (kd_pth_parse(data, n, "flip", &p, NULL) == KD_OK) {
            for (size_t k = 0; k < kd_pth_count(p); k++) {
                const kd_pth_tensor *t = kd_pth_at(p, k);
                float *d = kd_alloc(t->bytes + 1);
                if (kd_pth_read(p, t, d, NULL) == KD_OK && strcmp(t->name, "shared") == 0) {
                    assert_true(d[1] == 1.0f && d[5] == 5.0f);
                }
                kd_free(d);
            }
        }
        kd_pth_close(p);
        data[i] ^= (uint8_t)(1u << (i % 8));
    }
    kd_free(data);
}

/* ---- pickles by hand ------------------------------------------------------------------------- */

static kd_status parse_pickle(const char *bytes, size_t n, kd_pk **out, kd_err *err)
{
    uint8_t *exact = calloc(1, n + 1);
    memcpy(exact, bytes, n);
    kd_pk *p = NULL;
    const kd_status st = kd_pk_parse(exact, n, "p", &p, NULL, err);
    if (out == NULL || st != KD_OK) {
        kd_pk_free(p);
        free(exact);
    } else {
        *out = p; /* the bytes stay: the test ends soon */
    }
    return st;
}

#define PICKLE(text, out, err) parse_pickle(text, sizeof(text) - 1, out, err)

static void test_inert(void **state)
{
    (void)state;
    (void)unlink("/tmp/kd_pickle_was_run");
    static const char bomb[] = "\x80\x02"
                               "cos\nsystem\nX\x1c\0\0\0"
                               "touch /tmp/kd_pickle_was_run"
                               "\x85R.";
    kd_pk *p = NULL;
    const kd_status st = kd_pk_parse(bomb, sizeof bomb - 1, "p", &p, NULL, NULL);
    assert_int_equal(st, KD_OK); /* a tree that names the function, nothing more */
    assert_true(kd_pk_is_call(kd_pk_root(p), "os", "system"));
    char what[64];
    kd_pk_describe(kd_pk_root(p), what, sizeof what);
    assert_string_equal(what, "a call of os.system");
    kd_pk_free(p);
    assert_false(kd_path_exists("/tmp/kd_pickle_was_run"));
    /* the same through STACK_GLOBAL and NEWOBJ */
    static const char newer[] = "\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93)\x81.";
    assert_int_equal(kd_pk_parse(newer, sizeof newer - 1, "p", &p, NULL, NULL), KD_OK);
    assert_true(kd_pk_is_call(kd_pk_root(p), "posix", "system"));
    kd_pk_free(p);
}

static void test_values(void **state)
{
    (void)state;
    /* [None, True, -2, 300, 2**40 as LONG1, 1.5, 'ab', b'\0', (1, 2), {1: 2}, set()] */
    static const char v[] = "\x80\x03](N\x88J\xfe\xff\xff\xffM\x2c\x01\x8a\x06\0\0\0\0\0\x01"
                            "G\x3f\xf8\0\0\0\0\0\0X\x02\0\0\0"
                            "abC\x01\0K\x01K\x02\x86}K\x01K\x02s"
                            "\x8f"
                            "e.";
    kd_pk *p = NULL;
    kd_err err = {0};
    if (kd_pk_parse(v, sizeof v - 1, "p", &p, NULL, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    const kd_pk_node *r = kd_pk_root(p);
    assert_int_equal(kd_pk_count(r), 11);
    assert_int_equal(kd_pk_at(r, 0)->type, KD_PK_NONE);
    assert_true(kd_pk_at(r, 1)->u.b);
    int64_t i = 0;
    assert_true(kd_pk_int(kd_pk_at(r, 2), &i) && i == -2);
    assert_true(kd_pk_int(kd_pk_at(r, 3), &i) && i == 300);
    assert_true(kd_pk_int(kd_pk_at(r, 4), &i) && i == (int64_t)1 << 40);
    assert_true(kd_pk_at(r, 5)->u.f == 1.5);
    assert_true(kd_pk_is_str(kd_pk_at(r, 6), "ab"));
    assert_int_equal(kd_pk_at(r, 7)->type, KD_PK_BYTES);
    assert_int_equal(kd_pk_count(kd_pk_at(r, 8)), 2);
    assert_int_equal(kd_pk_count(kd_pk_at(r, 9)), 2);
    assert_int_equal(kd_pk_at(r, 10)->type, KD_PK_SET);
    kd_pk_free(p);
    /* a list that holds itself */
    assert_int_equal(PICKLE("]q\0h\0a.", NULL, NULL), KD_OK);
}

static void test_hostile(void **state)
{
    (void)state;
    assert_int_equal(PICKLE("", NULL, NULL), KD_E_FORMAT);
    assert_int_equal(PICKLE(".", NULL, NULL), KD_E_FORMAT);      /* no value */
    assert_int_equal(PICKLE("NN.", NULL, NULL), KD_E_FORMAT);    /* two values */
    assert_int_equal(PICKLE("(.", NULL, NULL), KD_E_FORMAT);     /* an open mark */
    assert_int_equal(PICKLE("t.", NULL, NULL), KD_E_FORMAT);     /* no mark */
    assert_int_equal(PICKLE("(R.", NULL, NULL), KD_E_FORMAT);    /* nothing to call */
    assert_int_equal(PICKLE("h\x05.", NULL, NULL), KD_E_FORMAT); /* never stored */
    assert_int_equal(PICKLE("j\xff\xff\xff\xff.", NULL, NULL), KD_E_FORMAT);
    assert_int_equal(PICKLE("Nr\xff\xff\xff\xff.", NULL, NULL), KD_OK); /* an index is only a key */
    assert_int_equal(PICKLE("X\xff\xff\xff\xff"
                            "a.",
                            NULL, NULL),
                     KD_E_FORMAT);
    assert_int_equal(PICKLE("\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", NULL, NULL), KD_E_FORMAT);
    assert_int_equal(PICKLE("\x8b\xff\xff\xff\xff.", NULL, NULL), KD_E_FORMAT);
    assert_int_equal(PICKLE("}Na.", NULL, NULL), KD_E_FORMAT);   /* append to a dict */
    assert_int_equal(PICKLE("N(NNu.", NULL, NULL), KD_E_FORMAT); /* items for None */
    assert_int_equal(PICKLE("}(Nu.", NULL, NULL), KD_E_FORMAT);  /* half a pair */
    assert_int_equal(PICKLE("cos\nsystem", NULL, NULL), KD_E_FORMAT);
    assert_int_equal(PICKLE("\x80\x06N.", NULL, NULL), KD_E_FORMAT);
    assert_int_equal(PICKLE("\x95\xff\xff\xff\xff\0\0\0\0N.", NULL, NULL), KD_E_FORMAT);
    kd_err err = {0};
    assert_int_equal(PICKLE("\x82\x01.", NULL, &err), KD_E_FORMAT); /* extension registry */
    assert_string_equal(err.msg, "p: pickle byte 0: opcode 0x82 is not accepted");
    assert_int_equal(PICKLE("(ios\nsystem\n.", NULL, NULL), KD_E_FORMAT); /* INST */
    assert_int_equal(PICKLE("P1\n.", NULL, NULL), KD_E_FORMAT);           /* PERSID */
    assert_int_equal(PICKLE("\x97.", NULL, NULL), KD_E_FORMAT);           /* NEXT_BUFFER */
}

static void test_bombs(void **state)
{
    (void)state;
    /* marks and empty tuples before the first push: there is no stack yet */
    assert_int_not_equal(parse_pickle("(1", 2, NULL, NULL), KD_OK);
    assert_int_equal(parse_pickle("(t.", 3, NULL, NULL), KD_OK);
    assert_int_equal(parse_pickle(").", 2, NULL, NULL), KD_OK);
    const size_t n = 1 << 20;
    char *b = malloc(n + 1);
    memset(b, ']', n); /* a million empty lists: one step of the budget */
    memset(b + n / 2, 'a', n / 2);
    b[n / 2 + n / 2 - 1] = '.';
    assert_int_equal(parse_pickle(b, n, NULL, NULL), KD_OK); /* nested half a million deep */
    for (size_t i = 0; i < n; i++) {
        b[i] = i % 2 == 0 ? '(' : 'l';
    }
    b[n - 1] = '.';
    assert_int_equal(parse_pickle(b, n, NULL, NULL), KD_E_FORMAT);
    free(b);
    const size_t big = (size_t)32 << 20; /* 32 MiB of opcodes would be 2 GiB of nodes: refused early */
    b = malloc(big + 1);
    memset(b, ']', big);
    kd_err err = {0};
    assert_int_equal(parse_pickle(b, big, NULL, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "64 MiB beyond its own size"));
    free(b);
    /* ten lists, each twice ten times the one before: shared, not copied */
    char laughs[400];
    size_t k = 0;
    laughs[k++] = ']';
    for (char i = 0; i < 20; i++) {
        k += (size_t)snprintf(laughs + k, sizeof laughs - k, "q%c](", i + 1);
        for (int j = 0; j < 3; j++) {
            laughs[k++] = 'h';
            laughs[k++] = (char)(i + 1);
        }
        laughs[k++] = 'e';
    }
    k += (size_t)snprintf(laughs + k, sizeof laughs - k, "\x86.");
    (void)k;
    (void)parse_pickle(laughs, k, NULL, NULL); /* returns at once, whatever it says */
}

/* ---- hostile archives around a valid pickle -------------------------------------------------- */

static const char path_tmp[] = "/tmp/kd_test_pth.tmp.pth";

static kd_status zip_pickle(const char *pickle, size_t n, const char *member, size_t data, kd_err *err)
{
    static const uint8_t zeros[256];
    kd_zip_writer *w = NULL;
    assert_int_equal(kd_zip_writer_open(path_tmp, &w, NULL), KD_OK);
    assert_int_equal(kd_zip_writer_add(w, "a/data.pkl", pickle, n, NULL), KD_OK);
    assert_int_equal(kd_zip_writer_add(w, member, zeros, data, NULL), KD_OK);
    assert_int_equal(kd_zip_writer_commit(w, NULL), KD_OK);
    kd_pth *p = NULL;
    const kd_status st = kd_pth_open(path_tmp, "", &p, err);
    kd_pth_close(p);
    return st;
}

/* {'w': _rebuild_tensor_v2(storage '0' of 4 floats, offset, (d0,), (s0,), False, OrderedDict())} */
static size_t tensor_pickle(char *out, size_t cap, int32_t offset, int32_t d0, int32_t s0, const char *storage,
                            const char *func)
{
    size_t n = (size_t)snprintf(out, cap, "}X%c%c%c%cwc%s\n((X%c%c%c%cstoragectorch\n%s\nX%c%c%c%c0X%c%c%c%ccpuK%ctQ",
                                1, 1, 1, 1, func, 7, 1, 1, 1, storage, 1, 1, 1, 1, 3, 1, 1, 1, 4);
    for (size_t i = 0; i + 1 < n; i++) { /* lengths were written with 1 for every zero byte */
        if (out[i] == 'X') {
            out[i + 2] = out[i + 3] = out[i + 4] = 0;
            i += 4;
        }
    }
    const int32_t v[3] = {offset, d0, s0};
    for (int k = 0; k < 3; k++) {
        if (k > 0) {
            out[n++] = '(';
        }
        out[n++] = 'J';
        memcpy(out + n, &v[k], 4);
        n += 4;
        if (k > 0) {
            out[n++] = 't';
        }
    }
    static const char end[] = "\x89"
                              "ccollections\nOrderedDict\n)RtRs.";
    memcpy(out + n, end, sizeof end - 1);
    return n + sizeof end - 1;
}

static kd_status try_tensor(int32_t offset, int32_t d0, int32_t s0, const char *storage, const char *func, size_t data,
                            kd_err *err)
{
    char b[512];
    const size_t n = tensor_pickle(b, sizeof b, offset, d0, s0, storage, func);
    return zip_pickle(b, n, "a/data/0", data, err);
}

static void test_bounds(void **state)
{
    (void)state;
    const char *v2 = "torch._utils\n_rebuild_tensor_v2";
    kd_err err = {0};
    if (try_tensor(0, 4, 1, "FloatStorage", v2, 16, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(try_tensor(3, 1, 1, "FloatStorage", v2, 16, NULL), KD_OK);
    assert_int_equal(try_tensor(9, 0, 1, "FloatStorage", v2, 16, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(1, 4, 1, "FloatStorage", v2, 16, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(0, 5, 1, "FloatStorage", v2, 16, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(0, 3, 2, "FloatStorage", v2, 16, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(0, 2, 2147483647, "FloatStorage", v2, 16, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(-1, 1, 1, "FloatStorage", v2, 16, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(0, -1, 1, "FloatStorage", v2, 16, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(0, 2, -1, "FloatStorage", v2, 16, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(0, 4, 1, "FloatStorage", v2, 15, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(0, 2147483647, 0, "FloatStorage", v2, 16, NULL), KD_E_FORMAT);
    assert_int_equal(try_tensor(0, 4, 1, "QInt8Storage", v2, 16, NULL), KD_E_FORMAT);
    err = (kd_err){0};
    assert_int_equal(try_tensor(0, 4, 1, "FloatStorage", "torch._utils\n_rebuild_qtensor", 16, &err), KD_E_FORMAT);
    assert_int_equal(try_tensor(0, 4, 1, "FloatStorage", "os\nsystem", 16, &err), KD_E_FORMAT);
    assert_int_equal(unlink(path_tmp), 0);
}

static void test_zip_refuse(void **state)
{
    (void)state;
    uint8_t *data = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_read_file(GOLDEN "strided_views.pth", 1 << 20, &data, &n, NULL), KD_OK);
    kd_zip *z = NULL;
    assert_int_equal(kd_zip_parse(data, n, "z", &z, NULL), KD_OK);
    assert_int_equal(kd_zip_count(z), 3);
    const kd_zip_entry *e = kd_zip_find(z, "strided_views/data/0");
    assert_non_null(e);
    assert_int_equal(e->bytes, 96);
    assert_int_equal(kd_zip_check_stored(z, e, NULL), KD_OK);
    uint8_t *copy = NULL;
    assert_int_equal(kd_zip_read(z, e, 95, &copy, NULL), KD_E_DATA);
    assert_null(copy);
    assert_int_equal(kd_zip_read(z, e, 96, &copy, NULL), KD_OK);
    kd_free(copy);
    data[e->data - data] ^= 1;
    kd_err err = {0};
    assert_int_equal(kd_zip_check_stored(z, e, &err), KD_E_INTEGRITY);
    assert_non_null(strstr(err.msg, "strided_views/data/0 is damaged"));
    kd_zip_close(z);
    data[n - 12]++; /* one member more than there are */
    assert_int_equal(kd_zip_parse(data, n, "z", &z, NULL), KD_E_FORMAT);
    kd_free(data);
    /* a tar archive gets advice */
    char tar[512] = {0};
    memcpy(tar + 257, "ustar", 5);
    kd_pth *p = NULL;
    err = (kd_err){0};
    assert_int_equal(kd_pth_parse(tar, sizeof tar, "t.pth", &p, &err), KD_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "save it again"));
    assert_int_equal(kd_pth_parse("hello", 5, "t.pth", &p, NULL), KD_E_FORMAT);
}

static void test_write(void **state)
{
    (void)state;
    const float a[6] = {1, -2, 3.5f, 4, 5, 6};
    const int64_t big[3] = {1, (int64_t)1 << 40, -7};
    const uint16_t h[1] = {0x3f80};
    const int64_t da[2] = {2, 3};
    const int64_t db[1] = {3};
    const kd_st_tensor t[3] = {
        {"blocks.0.w", KD_ST_F32, 2, da, a}, {"num", KD_ST_I64, 1, db, big}, {"scalar", KD_ST_BF16, 0, NULL, h}};
    for (int bare = 0; bare < 2; bare++) {
        assert_int_equal(kd_pth_write(path_tmp, bare ? NULL : "model", t, 3, NULL), KD_OK);
        kd_pth *p = open_ok(path_tmp);
        assert_string_equal(kd_pth_key(p), bare ? "" : "model");
        assert_int_equal(kd_pth_count(p), 3);
        for (size_t i = 0; i < 3; i++) {
            const kd_pth_tensor *x = kd_pth_at(p, i);
            assert_string_equal(x->name, t[i].name);
            assert_int_equal(x->dtype, t[i].dtype);
            assert_int_equal(x->rank, t[i].rank);
            void *d = read_tensor(p, x);
            assert_memory_equal(d, t[i].data, x->bytes);
            kd_free(d);
        }
        kd_pth_close(p);
    }
    const kd_st_tensor bad = {"x", KD_ST_F8_E5M2, 0, NULL, h};
    assert_int_equal(kd_pth_write(path_tmp, NULL, &bad, 1, NULL), KD_E_DTYPE);
    kd_io_fail_after_bytes(200);
    assert_int_equal(kd_pth_write(path_tmp, "model", t, 3, NULL), KD_E_WRITE);
    kd_io_fail_after_bytes(-1);
    kd_pth_close(open_ok(path_tmp)); /* the old file is whole */
    assert_int_equal(unlink(path_tmp), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),  cmocka_unit_test(test_bf16),      cmocka_unit_test(test_pretrain),
        cmocka_unit_test(test_strided), cmocka_unit_test(test_truncated), cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_inert),   cmocka_unit_test(test_values),    cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_bombs),   cmocka_unit_test(test_bounds),    cmocka_unit_test(test_zip_refuse),
        cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests_name("pth", tests, NULL, NULL);
}
