/* Weights that are packed or claim more than they are: deflated .pth read like stored ones, bombs refused before they
 * cost memory. */
#include "formats/base/deflate.h"
#include "formats/base/io.h"
#include "formats/base/python/npy.h"
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

/* ---- a zip of deflated members --------------------------------------------------------------- */

typedef struct packer {
    uint8_t *p, *central;
    size_t n, central_n, members;
} packer;

static void put(uint8_t *to, size_t *at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        to[(*at)++] = i < 8 ? (uint8_t)(v >> (8 * i)) : 0;
    }
}

enum { ROOM = 4 << 20 };

static packer packer_new(void)
{
    packer z = {.p = calloc(1, ROOM), .central = calloc(1, ROOM)};
    assert_non_null(z.p);
    assert_non_null(z.central);
    return z;
}

/* claim: 0, or what the directory says instead of the true size. */
static void add(packer *z, const char *name, const uint8_t *data, size_t bytes, uint32_t claim)
{
    size_t packed = kd_deflate_bound(bytes);
    uint8_t *zlib = malloc(packed);
    assert_non_null(zlib);
    assert_true(kd_deflate(data, bytes, zlib, &packed));
    packed -= 6; /* a zlib stream has two bytes before and four after the deflated data */
    const uint32_t said = claim != 0 ? claim : (uint32_t)bytes;
    const size_t head = z->n, len = strlen(name);
    assert_true(z->n + packed + len + 64 < ROOM);
    for (int central = 0; central < 2; central++) {
        uint8_t *to = central ? z->central : z->p;
        size_t *at = central ? &z->central_n : &z->n;
        put(to, at, central ? 0x02014b50u : 0x04034b50u, 4);
        put(to, at, 20, central ? 4 : 2);
        put(to, at, 0, 2);
        put(to, at, 8, 2); /* deflate */
        put(to, at, 0, 4);
        put(to, at, kd_zip_crc32(0, data, bytes), 4);
        put(to, at, packed, 4);
        put(to, at, said, 4);
        put(to, at, len, 2);
        put(to, at, 0, central ? 12 : 2);
        if (central) {
            put(to, at, 0, 0);
            put(to, at, head, 4);
        }
        memcpy(to + *at, name, len);
        *at += len;
    }
    memcpy(z->p + z->n, zlib + 2, packed);
    z->n += packed;
    z->members++;
    free(zlib);
}

static void finish(packer *z, const char *path)
{
    const size_t at = z->n;
    memcpy(z->p + z->n, z->central, z->central_n);
    z->n += z->central_n;
    put(z->p, &z->n, 0x06054b50u, 4);
    put(z->p, &z->n, 0, 4);
    put(z->p, &z->n, z->members, 2);
    put(z->p, &z->n, z->members, 2);
    put(z->p, &z->n, z->central_n, 4);
    put(z->p, &z->n, at, 4);
    put(z->p, &z->n, 0, 2);
    assert_int_equal(kd_io_write_file(path, z->p, z->n, NULL), KD_OK);
    free(z->p);
    free(z->central);
}

/* Every member of a stored archive, deflated; `grow` bytes are appended to the member `grown` (a part of its name);
 * `order`: the text of a byteorder member, NULL for none. */
static void repack(const char *from, const char *to, const char *grown, size_t grow, const char *order)
{
    kd_map map;
    kd_zip *z = NULL;
    packer out = packer_new();
    assert_int_equal(kd_io_map(from, &map, NULL), KD_OK);
    assert_int_equal(kd_zip_parse(map.data, map.bytes, from, &z, NULL), KD_OK);
    for (size_t i = 0; i < kd_zip_count(z); i++) {
        const kd_zip_entry *e = kd_zip_at(z, i);
        uint8_t *data = calloc(1, (size_t)e->bytes + grow + 1);
        assert_non_null(data);
        memcpy(data, e->data, (size_t)e->bytes);
        const bool more = grown != NULL && strstr(e->name, grown) != NULL;
        add(&out, e->name, data, (size_t)e->bytes + (more ? grow : 0), 0);
        free(data);
    }
    if (order != NULL) {
        char name[128];
        const char *first = kd_zip_at(z, 0)->name;
        (void)snprintf(name, sizeof name, "%.*s/byteorder", (int)strcspn(first, "/"), first);
        add(&out, name, (const uint8_t *)order, strlen(order), 0);
    }
    kd_zip_close(z);
    kd_io_unmap(&map);
    finish(&out, to);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static kd_pth *open_ok(const char *path)
{
    kd_pth *p = NULL;
    kd_err err = {0};
    if (kd_pth_open(path, "", &p, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return p;
}

/* In two orders, so that storages are unpacked more than once. */
static void test_deflated(void **state)
{
    (void)state;
    static const char *const file[] = {"finetuned_model_f32.pth", "strided_views.pth", "deepspeed_module_f16.pth"};
    for (size_t k = 0; k < KD_COUNTOF(file); k++) {
        char path[512];
        (void)snprintf(path, sizeof path, GOLDEN "%s", file[k]);
        repack(path, "packed.pth", NULL, 0, "little");
        kd_pth *a = open_ok(path), *b = open_ok("packed.pth");
        const size_t n = kd_pth_count(a);
        assert_int_equal(kd_pth_count(b), n);
        for (size_t i = 0; i < 2 * n; i++) {
            const size_t at = i < n ? i : 2 * n - 1 - i;
            const kd_pth_tensor *x = kd_pth_at(a, at), *y = kd_pth_find(b, x->name);
            uint8_t *p = malloc(x->bytes + 1), *q = malloc(x->bytes + 1);
            assert_int_equal(y->bytes, x->bytes);
            assert_int_equal(kd_pth_read(a, x, p, NULL), KD_OK);
            assert_int_equal(kd_pth_read(b, y, q, NULL), KD_OK);
            assert_memory_equal(p, q, x->bytes);
            free(p);
            free(q);
        }
        kd_pth_close(a);
        kd_pth_close(b);
    }
    assert_int_equal(unlink("packed.pth"), 0);
}

static void refused(const char *path, kd_status want, const char *says)
{
    kd_pth *p = NULL;
    kd_err err = {0};
    const kd_status st = kd_pth_open(path, "", &p, &err);
    if (st != want || strstr(err.msg, says) == NULL) {
        fail_msg("%s: status %d, says '%s', expected %d '%s'", path, st, err.msg, want, says);
    }
    assert_int_equal(unlink(path), 0);
}

static void test_deflated_refused(void **state)
{
    (void)state;
    repack(GOLDEN "finetuned_model_f32.pth", "grown.pth", "/data/3", 64, NULL);
    refused("grown.pth", KD_E_FORMAT, "unpacks to more than it says");
    repack(GOLDEN "finetuned_model_f32.pth", "order.pth", NULL, 0, "big");
    refused("order.pth", KD_E_UNSUPPORTED, "big-endian");

    /* one byte of a storage is another: the tensor of it is refused, by name of the member */
    repack(GOLDEN "finetuned_model_f32.pth", "bad.pth", NULL, 0, NULL);
    uint8_t *p = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_read_file("bad.pth", 1 << 24, &p, &n, NULL), KD_OK);
    p[n / 2] ^= 16;
    assert_int_equal(kd_io_write_file("bad.pth", p, n, NULL), KD_OK);
    kd_free(p);
    kd_pth *f = open_ok("bad.pth");
    size_t damaged = 0;
    for (size_t i = 0; i < kd_pth_count(f); i++) {
        const kd_pth_tensor *t = kd_pth_at(f, i);
        kd_err err = {0};
        uint8_t *d = malloc(t->bytes + 1);
        const kd_status st = kd_pth_read(f, t, d, &err);
        assert_true(st == KD_OK || (st == KD_E_INTEGRITY && strstr(err.msg, "/data/") != NULL));
        damaged += st != KD_OK;
        free(d);
    }
    assert_int_equal(damaged, 1);
    kd_pth_close(f);
    assert_int_equal(unlink("bad.pth"), 0);
}

/* What a small file claims is judged before memory is taken: the allocations of the whole call stay few. */
static void test_bombs(void **state)
{
    (void)state;
    uint8_t *zeros = calloc(1, 1 << 20);
    assert_non_null(zeros);
    kd_npz *npz = NULL;
    kd_err err = {0};
    packer z = packer_new();
    add(&z, "archive/data.pkl", zeros, 1 << 20, 1000u << 20);
    finish(&z, "claims.pth");
    refused("claims.pth", KD_E_DATA, "claims to unpack to 1048576000 bytes");
    z = packer_new();
    add(&z, "archive/data.pkl", zeros, 1 << 20, (64u << 20) + 1); /* within what all members may, not a pickle */
    finish(&z, "pickle.pth");
    refused("pickle.pth", KD_E_DATA, "claims 67108865 bytes, at most 67108864");
    z = packer_new();
    add(&z, "a.npy", zeros, 1 << 20, 1000u << 20);
    finish(&z, "claims.npz");
    assert_int_equal(kd_npz_open("claims.npz", (size_t)1 << 33, &npz, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "claims to unpack"));
    assert_int_equal(unlink("claims.npz"), 0);
    free(zeros);
}

/* A safetensors header whose tree would take gigabytes; the limits themselves are accepted. */
static void test_headers(void **state)
{
    (void)state;
    enum { VALUES = 3000000 };
    char *text = malloc(8 + 2 * VALUES + 64);
    assert_non_null(text);
    for (int deep = 0; deep < 2; deep++) {
        size_t n = 8;
        n += (size_t)sprintf(text + n, "{\"a\":");
        for (int i = 0; i < (deep ? 20 : 1); i++) {
            text[n++] = '[';
        }
        for (int i = 0; i < (deep ? 4 : VALUES); i++) {
            text[n++] = '0';
            text[n++] = ',';
        }
        text[n - 1] = ']';
        for (int i = 0; i < (deep ? 19 : 0); i++) {
            text[n++] = ']';
        }
        text[n++] = '}';
        size_t at = 0;
        put((uint8_t *)text, &at, n - 8, 8);
        kd_st_file *f = NULL;
        kd_err err = {0};
        const uint64_t calls = kd_alloc_calls();
        assert_int_equal(kd_st_parse(text, n, "m.safetensors", &f, &err), KD_E_DATA);
        assert_non_null(strstr(err.msg, deep ? "21 deep" : "3000001 values"));
        assert_true(kd_alloc_calls() - calls < 4);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deflated),
        cmocka_unit_test(test_deflated_refused),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_headers),
    };
    return cmocka_run_group_tests_name("packed weights", tests, NULL, NULL);
}
