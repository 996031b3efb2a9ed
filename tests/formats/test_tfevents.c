/* formats/log/tfevents: the published vectors byte for byte, framing of every record, fields by an
 * independent decoder. */
#include "formats/base/io.h"
#include "formats/log/tfevents.h"

#include <stdio.h>
#include <stdlib.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/kd_tf_XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int drop_dir(void **state)
{
    (void)state;
    return kd_io_remove_tree(dir, NULL) == KD_OK ? 0 : -1;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t mask(uint32_t crc)
{
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

typedef struct file {
    uint8_t *bytes;
    size_t n, at;
    const uint8_t *rec; /* current record */
    size_t len;
} file;

static void load(file *f, const char *path)
{
    *f = (file){0};
    assert_int_equal(kd_io_read_file(path, (size_t)1 << 20, &f->bytes, &f->n, NULL), KD_OK);
}

/* Next record, its two checksums verified; false at the end. */
static bool next(file *f)
{
    if (f->at == f->n) {
        return false;
    }
    assert_true(f->n - f->at >= 16);
    const uint8_t *p = f->bytes + f->at;
    f->len = get32(p);
    assert_int_equal(get32(p + 4), 0);
    assert_int_equal(get32(p + 8), mask(kd_crc32c(p, 8)));
    assert_true(f->len <= f->n - f->at - 16);
    f->rec = p + 12;
    assert_int_equal(get32(p + 12 + f->len), mask(kd_crc32c(f->rec, f->len)));
    f->at += f->len + 16;
    return true;
}

static uint64_t varint(const uint8_t **p)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            break;
        }
    }
    return v;
}

/* Descend `path` (field numbers, 0-terminated) through length-delimited fields, the first of each
 * number; value fields end it. Returns the bytes of the last one, or NULL. */
static const uint8_t *find(const uint8_t *p, size_t n, const unsigned *path, size_t *len)
{
    const uint8_t *end = p + n;
    while (p < end) {
        const uint64_t key = varint(&p);
        const uint8_t *at = p;
        uint64_t size = 0;
        switch (key & 7) {
        case 0:
            (void)varint(&p);
            size = (uint64_t)(p - at);
            break;
        case 1:
            size = 8;
            p += 8;
            break;
        case 2:
            size = varint(&p);
            at = p;
            p += size;
            break;
        case 5:
            size = 4;
            p += 4;
            break;
        default:
            fail_msg("wire type");
        }
        assert_true(p <= end);
        if (key >> 3 != path[0]) {
            continue;
        }
        *len = (size_t)size;
        return path[1] == 0 ? at : find(at, (size_t)size, path + 1, len);
    }
    return NULL;
}

static void field_is(const file *f, const unsigned *path, const void *want, size_t n)
{
    size_t len = 0;
    const uint8_t *p = find(f->rec, f->len, path, &len);
    assert_non_null(p);
    assert_int_equal(len, n);
    assert_memory_equal(p, want, n);
}
#define PATH(...)          ((const unsigned[]){__VA_ARGS__, 0})
#define IS_STR(f, s, ...)  field_is(f, PATH(__VA_ARGS__), s, strlen(s))
#define IS_BYTE(f, b, ...) field_is(f, PATH(__VA_ARGS__), &(uint8_t){b}, 1)

static void test_crc(void **state)
{
    (void)state;
    assert_int_equal(kd_crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(mask(kd_crc32c("123456789", 9)), 0xc78ab0e5u);
}

static void hex_is(const uint8_t *p, size_t n, const char *hex)
{
    assert_int_equal(strlen(hex), 2 * n);
    for (size_t i = 0; i < n; i++) {
        char two[3];
        (void)snprintf(two, sizeof two, "%02x", p[i]);
        assert_memory_equal(two, hex + 2 * i, 2);
    }
}

static void test_vectors(void **state)
{
    (void)state;
    kd_tfevents *t = NULL;
    kd_err err = {0};
    file f;
    assert_int_equal(kd_tfevents_open(dir, -1, &t, &err), KD_OK);
    kd_tfevents_set_time(t, 2.0);
    assert_int_equal(kd_tfevents_scalar(t, "train/loss", 7, 0.5, &err), KD_OK);
    load(&f, kd_tfevents_path(t));
    kd_tfevents_close(t);
    assert_true(next(&f));
    const uint8_t *first = f.bytes;
    /* the version record at t = 1.0: the clock's bytes and the checksum over them aside, it is the
     * vector */
    assert_int_equal(f.len, 0x18);
    hex_is(first, 12, "1800000000000000a37f4b22");
    hex_is(f.rec + 9, f.len - 9, "1a0d627261696e2e4576656e743a32");
    uint8_t at_one[24];
    memcpy(at_one, f.rec, 24);
    memcpy(at_one + 1, "\x00\x00\x00\x00\x00\x00\xf0\x3f", 8);
    assert_int_equal(mask(kd_crc32c(at_one, 24)), 0x7a57bf86u);
    const size_t second = f.at;
    assert_true(next(&f));
    hex_is(f.bytes + second, f.at - second,
           "200000000000000029eda95009000000000000004010072a130a110a0a747261696e2f6c6f7373150000003"
           "f9e1bfae5");
    assert_false(next(&f));
    kd_free(f.bytes);
}

static void test_records(void **state)
{
    (void)state;
    kd_tfevents *t = NULL;
    kd_err err = {0};
    file f;
    const kd_tf_hparam hp[] = {{"optim.name", "sgd", 0}, {"optim.base_lr", NULL, 0.1}};
    const char *metrics[] = {"val/top1"};
    assert_int_equal(kd_tfevents_open(dir, 300, &t, &err), KD_OK);
    assert_int_equal(kd_tfevents_image(t, "confusion", 3, "PNG", 3, 20, 10, 4, &err), KD_OK);
    const kd_tf_histogram histogram = {
        -1.0, 3.0, 5.0, 4.0, 14.0, (const double[]){1.0, 3.0}, (const double[]){3.0, 2.0}, 2};
    assert_int_equal(kd_tfevents_histogram(t, "weights/a", 3, &histogram, &err), KD_OK);
    assert_int_equal(kd_tfevents_text(t, "config", 0, "# yaml", &err), KD_OK);
    assert_int_equal(kd_tfevents_hparams(t, "run", hp, 2, metrics, 1, &err), KD_OK);
    assert_int_equal(kd_tfevents_end(t, true, &err), KD_OK);
    load(&f, kd_tfevents_path(t));
    kd_tfevents_close(t);

    assert_true(next(&f));
    assert_true(next(&f)); /* START at step 300 */
    field_is(&f, PATH(2), "\xac\x02", 2);
    IS_BYTE(&f, 1, 7, 1);
    assert_true(next(&f));
    IS_STR(&f, "confusion", 5, 1, 1);
    IS_BYTE(&f, 10, 5, 1, 4, 1);
    IS_BYTE(&f, 20, 5, 1, 4, 2);
    IS_BYTE(&f, 4, 5, 1, 4, 3);
    IS_STR(&f, "PNG", 5, 1, 4, 4);
    assert_true(next(&f));
    IS_STR(&f, "weights/a", 5, 1, 1);
    field_is(&f, PATH(5, 1, 5, 1), "\0\0\0\0\0\0\xf0\xbf", 8);                      /* least -1 */
    field_is(&f, PATH(5, 1, 5, 5), "\0\0\0\0\0\0\x2c\x40", 8);                      /* sum of squares 14 */
    field_is(&f, PATH(5, 1, 5, 6), "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\x08\x40", 16); /* limits 1, 3 */
    field_is(&f, PATH(5, 1, 5, 7), "\0\0\0\0\0\0\x08\x40\0\0\0\0\0\0\x00\x40", 16); /* counts 3, 2 */
    assert_true(next(&f));
    IS_STR(&f, "config", 5, 1, 1);
    IS_STR(&f, "text", 5, 1, 9, 1, 1);
    IS_BYTE(&f, 7, 5, 1, 8, 1);
    IS_BYTE(&f, 1, 5, 1, 8, 2, 2, 1);
    IS_STR(&f, "# yaml", 5, 1, 8, 8);
    assert_true(next(&f));
    IS_STR(&f, "_hparams_/experiment", 5, 1, 1);
    IS_STR(&f, "hparams", 5, 1, 9, 1, 1);
    IS_STR(&f, "optim.name", 5, 1, 9, 1, 2, 2, 4, 1);
    IS_STR(&f, "val/top1", 5, 1, 9, 1, 2, 2, 5, 1, 2);
    assert_true(next(&f));
    IS_STR(&f, "_hparams_/session_start_info", 5, 1, 1);
    IS_STR(&f, "optim.name", 5, 1, 9, 1, 2, 3, 1, 1);
    IS_STR(&f, "sgd", 5, 1, 9, 1, 2, 3, 1, 2, 3);
    IS_STR(&f, "run", 5, 1, 9, 1, 2, 3, 4);
    assert_true(next(&f));
    IS_STR(&f, "_hparams_/session_end_info", 5, 1, 1);
    IS_BYTE(&f, 1, 5, 1, 9, 1, 2, 4, 1);
    assert_false(next(&f));
    kd_free(f.bytes);
}

/* A full disk leaves whole records only; a closed door is an error; no events object is no error.
 */
static void test_faults(void **state)
{
    (void)state;
    kd_tfevents *t = NULL;
    file f;
    int kept = 0;
    assert_int_equal(kd_tfevents_open(dir, -1, &t, NULL), KD_OK);
    kd_io_fail_after_bytes(130);
    while (kd_tfevents_scalar(t, "a", kept + 1, 1.0, NULL) == KD_OK) {
        kept++;
    }
    kd_io_fail_after_bytes(-1);
    assert_int_equal(kd_tfevents_scalar(t, "a", 99, 1.0, NULL), KD_OK);
    load(&f, kd_tfevents_path(t));
    kd_tfevents_close(t);
    int records = 0;
    while (next(&f)) {
        records++;
    }
    assert_int_equal(records, kept + 2);
    kd_free(f.bytes);
    assert_int_equal(kd_tfevents_open("/proc/nowhere", -1, &t, NULL), KD_E_WRITE);
    assert_null(t);
    assert_int_equal(kd_tfevents_scalar(NULL, "a", 1, 1.0, NULL), KD_OK);
    for (uint64_t n = 1; n < 40; n++) {
        kd_alloc_fail_at(n);
        kd_status st = kd_tfevents_open(dir, 1, &t, NULL);
        if (st == KD_OK) {
            st = kd_tfevents_hparams(t, "x", &(kd_tf_hparam){"k", "v", 0}, 1, NULL, 0, NULL);
        }
        kd_alloc_fail_at(0);
        kd_tfevents_close(t);
        assert_true(st == KD_OK || st == KD_E_OOM || st == KD_E_WRITE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
