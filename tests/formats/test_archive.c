/* Skeleton archives: every form against what its own readers see, names and halves, the refuse corpus, every cut,
 * memory failures. */
#include "formats/base/io.h"
#include "formats/base/python/npy.h"
#include "formats/skeleton/archive.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

#define GOLDEN KD_TEST_DIR "/golden/skeletons/"

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s", err->msg);
    }
}

/* ---- against the readers of each form -------------------------------------------------------- */

/* A skeleton against (T, M, V, 3); a body of zeros is not there. */
static void check_skeleton(const kd_skeleton *s, const kd_npy *want, const char *id)
{
    float *x = kd_alloc(want->bytes);
    assert_non_null(x);
    ok(kd_npy_to_f32(want, x, NULL), &(kd_err){0});
    const size_t bodies = (size_t)want->dim[1], joints = (size_t)want->dim[2];
    if (s->frames != (size_t)want->dim[0] || s->joints != (int)joints) {
        fail_msg("%s: %zu frames of %d joints, expected %lld of %zu", id, s->frames, s->joints, (long long)want->dim[0],
                 joints);
    }
    for (size_t t = 0; t < s->frames; t++) {
        uint32_t b = s->first[t];
        for (size_t m = 0; m < bodies; m++) {
            const float *p = x + (t * bodies + m) * joints * 3;
            bool there = false;
            for (size_t i = 0; i < joints * 3; i++) {
                there = there || p[i] != 0.0f;
            }
            if (!there) {
                continue;
            }
            assert_true(b < s->first[t + 1]);
            assert_int_equal(s->body[b].id, m);
            for (size_t i = 0; i < joints * 3; i++) {
                const float got = s->body[b].xyz[i / 3][i % 3];
                if (got != p[i]) {
                    fail_msg("%s: frame %zu body %zu number %zu: %.9g, expected %.9g", id, t, m, i, (double)got,
                             (double)p[i]);
                }
            }
            b++;
        }
        assert_int_equal(b, s->first[t + 1]);
    }
    kd_free(x);
}

static void check_form(const char *file, const kd_archive_opts *o, const char *form, int joints, bool scored)
{
    const kd_skel_opts so = {.joints = joints, .scored = scored};
    kd_err err = {0};
    kd_archive *a;
    kd_npz *golden;
    char path[512], key[128];
    (void)snprintf(path, sizeof path, "%s%s", GOLDEN, file);
    assert_true(kd_archive_is(path));
    ok(kd_archive_open(path, o, &a, &err), &err);
    ok(kd_npz_open(GOLDEN "golden.npz", (size_t)1 << 20, &golden, &err), &err);
    assert_true(a->n > 0);
    for (size_t i = 0; i < a->n; i++) {
        kd_skeleton s;
        kd_npy want;
        (void)snprintf(key, sizeof key, "%s/%s", form, a->row[i].id);
        ok(kd_npz_get(golden, key, &want, &err), &err);
        ok(kd_archive_read(a, i, &so, &s, &err), &err);
        check_skeleton(&s, &want, key);
        assert_int_equal(s.scored, scored);
        kd_skeleton_free(&s);
        assert_int_equal(kd_archive_find(a, a->row[i].id), i);
        assert_true(a->row[i].bytes > 0);
    }
    assert_int_equal(kd_archive_find(a, "nobody"), a->n);
    kd_npz_close(golden);
    kd_archive_close(a);
}

static void test_forms(void **state)
{
    (void)state;
    const kd_archive_opts names = {.names = GOLDEN "ctrgcn_names.txt"};
    const kd_archive_opts mm = {.scale = 0.001, .missing = -32768, .channel = {3, 4, 5}, .channels = true};
    check_form("ctrgcn.npz", &names, "ctrgcn", 0, false);
    check_form("pyskl_p2.pkl", NULL, "pyskl", 0, false);
    check_form("pyskl_p3.pkl", NULL, "pyskl", 0, false);
    check_form("pyskl_p4.pkl", NULL, "pyskl", 0, false);
    check_form("pyskl_p5.pkl", NULL, "pyskl", 0, false);
    check_form("last", NULL, "last", 0, false);
    check_form("last_bare", &names, "last", 0, false);
    check_form("nwucla", NULL, "nwucla", 20, false);
    check_form("hrnet.pkl", NULL, "hrnet", 17, true);
    check_form("ids.npz", &mm, "npz", 0, false);
}

/* Places and confidences have scales of their own; the file's numbers are those of the golden of hrnet.pkl. */
static void test_score_scale(void **state)
{
    (void)state;
    const kd_archive_opts scaled = {.scale = 2.0, .score_scale = 0.001};
    const kd_skel_opts so = {.joints = 17, .scored = true};
    kd_err err = {0};
    kd_archive *plain, *both;
    size_t seen = 0;
    ok(kd_archive_open(GOLDEN "hrnet.pkl", NULL, &plain, &err), &err);
    ok(kd_archive_open(GOLDEN "hrnet.pkl", &scaled, &both, &err), &err);
    for (size_t i = 0; i < plain->n; i++) {
        kd_skeleton a, b;
        ok(kd_archive_read(plain, i, &so, &a, &err), &err);
        ok(kd_archive_read(both, i, &so, &b, &err), &err);
        assert_int_equal(a.n_bodies, b.n_bodies);
        for (size_t k = 0; k < a.n_bodies; k++) {
            for (int v = 0; v < 17; v++) {
                const float *x = a.body[k].xyz[v], *y = b.body[k].xyz[v];
                assert_true(y[0] == 2.0f * x[0] && y[1] == 2.0f * x[1]);
                assert_true(y[2] == (float)((double)x[2] * 0.001));
                seen += x[2] > 0.0f;
            }
        }
        kd_skeleton_free(&a);
        kd_skeleton_free(&b);
    }
    assert_true(seen > 0);
    kd_archive_close(plain);
    kd_archive_close(both);
}

static void test_halves(void **state)
{
    (void)state;
    kd_archive *a;
    kd_err err = {0};
    ok(kd_archive_open(GOLDEN "pyskl_p4.pkl", NULL, &a, &err), &err);
    assert_int_equal(a->n_halves, 4);
    const kd_archive_half *h = kd_archive_find_half(a, "xsub_val");
    assert_non_null(h);
    assert_int_equal(h->n, 3);
    assert_string_equal(h->id[2], "S001C001P003R001A003"); /* no annotation has this name */
    assert_int_equal(kd_archive_find(a, h->id[2]), a->n);
    assert_null(kd_archive_find_half(a, "xset_val"));
    assert_false(a->numbered);
    assert_int_equal(a->row[1].label, 1); /* a scalar of NumPy */
    kd_archive_close(a);

    ok(kd_archive_open(GOLDEN "ctrgcn.npz", NULL, &a, &err), &err);
    assert_true(a->numbered);
    assert_string_equal(a->form, "CTR-GCN npz");
    assert_string_equal(a->row[3].id, "train-000003");
    assert_string_equal(a->row[4].id, "test-000000");
    assert_int_equal(a->row[3].label, 3);
    assert_int_equal(kd_archive_find_half(a, "test")->n, 2);
    kd_archive_close(a);

    const kd_archive_opts names = {.names = GOLDEN "ctrgcn_names.txt"};
    ok(kd_archive_open(GOLDEN "last_bare", &names, &a, &err), &err);
    assert_false(a->numbered);
    assert_string_equal(kd_archive_find_half(a, "val")->id[0], "S001C001P003R001A001");
    kd_archive_close(a);
}

/* ---- refused --------------------------------------------------------------------------------- */

static kd_status read_all(const char *path, const kd_archive_opts *o, kd_err *err)
{
    kd_archive *a;
    kd_status st = kd_archive_open(path, o, &a, err);
    for (size_t i = 0; st == KD_OK && i < a->n; i++) {
        kd_skeleton s;
        st = kd_archive_read(a, i, NULL, &s, err);
        kd_skeleton_free(&s);
    }
    kd_archive_close(a);
    return st;
}

static void test_refuse_corpus(void **state)
{
    (void)state;
    uint8_t *list;
    size_t len, files = 0;
    assert_int_equal(kd_io_read_file(KD_TEST_DIR "/refuse/archive/EXPECT", 1 << 20, &list, &len, NULL), KD_OK);
    char *save = NULL;
    for (char *line = strtok_r((char *)list, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char *says = strchr(line, '\t');
        assert_non_null(says);
        *says++ = '\0';
        char *path = kd_strf("%s/refuse/archive/%s", KD_TEST_DIR, line);
        kd_err err = {0};
        const kd_status st = read_all(path, NULL, &err);
        if ((st != KD_E_FORMAT && st != KD_E_DATA) || strstr(err.msg, says) == NULL || strstr(err.msg, line) == NULL) {
            fail_msg("%s: status %d, says '%s', expected '%s'", line, st, err.msg, says);
        }
        kd_free(path);
        files++;
    }
    assert_true(files >= 40);
    kd_free(list);
}

static void refused_names(const char *text, const char *says)
{
    const kd_archive_opts o = {.names = "test_archive_names.txt"};
    kd_err err = {0};
    assert_int_equal(kd_io_write_file(o.names, text, strlen(text), NULL), KD_OK);
    const kd_status st = read_all(GOLDEN "ctrgcn.npz", &o, &err);
    if (st != KD_E_DATA || strstr(err.msg, says) == NULL) {
        fail_msg("status %d, says '%s', expected '%s'", st, err.msg, says);
    }
    assert_int_equal(remove(o.names), 0);
}

static void test_names(void **state)
{
    (void)state;
    kd_err err = {0};
    refused_names("a\nb\n", "test_archive_names.txt: expected 6 names, one a row of ");
    refused_names("a\n\n# no name\nb\r\nc\nd\ne\nf\ng", "found 7");
    refused_names("a\nb\nc\nd\ne\na\n", "sample a is there twice, as row 0 and 5");
    refused_names(
        "S001C001P001R001A002\nb\nc\nd\ne\nf\n",
        "row 0: expected label 1 of its name S001C001P001R001A002, found 0; the rows have another order than");
    const kd_archive_opts o = {.names = GOLDEN "ctrgcn_names.txt"};
    assert_int_equal(read_all(GOLDEN "pyskl_p4.pkl", &o, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "names its samples itself"));
    assert_int_equal(read_all("none.npz", NULL, NULL), KD_E_IO);
    err = (kd_err){0};
    assert_int_equal(read_all(KD_TEST_DIR, NULL, &err), KD_E_FORMAT);
    assert_non_null(strstr(err.msg, "found a folder without them"));
    assert_false(kd_archive_is(KD_TEST_DIR));
    assert_false(kd_archive_is("none.npz"));
}

static void test_channels(void **state)
{
    (void)state;
    kd_err err = {0};
    const kd_archive_opts o = {.channel = {0, 1, 6}, .channels = true};
    assert_int_equal(read_all(GOLDEN "ids.npz", &o, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "data.skeleton_channels: 6, but a joint has 6 numbers"));
}

/* A prefix of a file is refused, whatever its length. */
static void test_cuts(void **state)
{
    (void)state;
    static const char *const FILES[] = {"pyskl_p2.pkl", "pyskl_p4.pkl", "ids_metres.npz", "ctrgcn.npz"};
    for (size_t f = 0; f < KD_COUNTOF(FILES); f++) {
        char path[512];
        uint8_t *data;
        size_t n;
        (void)snprintf(path, sizeof path, "%s%s", GOLDEN, FILES[f]);
        assert_int_equal(kd_io_read_file(path, (size_t)1 << 20, &data, &n, NULL), KD_OK);
        for (size_t cut = 0; cut < n; cut += 1 + n / 97) {
            kd_err err = {0};
            assert_int_equal(kd_io_write_file("test_archive_cut", data, cut, NULL), KD_OK);
            if (read_all("test_archive_cut", NULL, &err) == KD_OK) {
                fail_msg("%s: %zu of %zu bytes are accepted", FILES[f], cut, n);
            }
        }
        kd_free(data);
    }
    assert_int_equal(remove("test_archive_cut"), 0);
}

static void test_no_memory(void **state)
{
    (void)state;
    static const char *const FILES[] = {"pyskl_p2.pkl", "ids_metres.npz", "ctrgcn.npz", "last"};
    for (size_t f = 0; f < KD_COUNTOF(FILES); f++) {
        char path[512];
        kd_status st = KD_E_OOM;
        (void)snprintf(path, sizeof path, "%s%s", GOLDEN, FILES[f]);
        for (uint64_t k = 1; st != KD_OK; k++) {
            kd_err err = {0};
            kd_alloc_fail_at(k);
            st = read_all(path, NULL, &err);
            kd_alloc_fail_at(0);
            if (st != KD_OK && st != KD_E_OOM) {
                fail_msg("%s: allocation %llu: status %d, %s", FILES[f], (unsigned long long)k, st, err.msg);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms),         cmocka_unit_test(test_score_scale),
                                       cmocka_unit_test(test_halves),        cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_refuse_corpus), cmocka_unit_test(test_channels),
                                       cmocka_unit_test(test_cuts),          cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
