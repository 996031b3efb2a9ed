/* `.skeleton` text: the refuse corpus, what is accepted, numbers, round trips, every cut, memory
 * failures. */
#include "formats/base/io.h"
#include "formats/skeleton/skeleton_file.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

#define HEAD  "72057594037932358 0 1 1 1 1 0 0.01 -0.02 2"
#define JOINT "0.1 0.2 2.5 250.1 200.2 1000 500 0 0 0 0 2"

typedef struct text {
    char *p;
    size_t n, room;
} text;

static void add(text *t, const char *fmt, ...) KD_PRINTF(2, 3);
static void add(text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(t->p + t->n, t->room - t->n, fmt, ap);
    va_end(ap);
    assert_true(n >= 0 && (size_t)n < t->room - t->n);
    t->n += (size_t)n;
}

static text begin(size_t room)
{
    text t = {kd_alloc(room), 0, room};
    assert_non_null(t.p);
    return t;
}

static void add_body(text *t, const char *head, const char *joint0, const char *joint, const char *eol)
{
    add(t, "%s%s25%s%s%s", head, eol, eol, joint0, eol);
    for (int j = 1; j < KD_SKEL_JOINTS; j++) {
        add(t, "%s%s", joint, eol);
    }
}

/* ---- refused --------------------------------------------------------------------------------- */

static void test_refuse_corpus(void **state)
{
    (void)state;
    uint8_t *list;
    size_t len, files = 0;
    assert_int_equal(kd_io_read_file(KD_TEST_DIR "/refuse/skeleton/EXPECT", 1 << 20, &list, &len, NULL), KD_OK);
    char *save = NULL;
    for (char *line = strtok_r((char *)list, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char *says = strchr(line, '\t');
        assert_non_null(says);
        *says++ = '\0';
        char *path = kd_strf("%s/refuse/skeleton/%s", KD_TEST_DIR, line);
        kd_skeleton s;
        kd_err err = {0};
        const kd_status st = kd_skeleton_read(path, NULL, &s, &err);
        if (st != KD_E_FORMAT || strstr(err.msg, says) == NULL || strstr(err.msg, line) == NULL) {
            fail_msg("%s: status %d, says '%s', expected '%s'", line, st, err.msg, says);
        }
        assert_null(s.first);
        kd_free(path);
        files++;
    }
    assert_true(files >= 30);
    kd_free(list);
}

/* Whatever prefix of a good file is left: an error or, when only the last line's end is missing,
 * the same skeleton. */
static void test_every_cut(void **state)
{
    (void)state;
    text t = begin(1 << 16);
    add(&t, "2\n1\n");
    add_body(&t, HEAD, JOINT, JOINT, "\n");
    add(&t, "0\n");
    for (size_t n = 0; n < t.n; n++) {
        char *copy = kd_alloc(n + 1); /* its own block: a read behind the end is seen */
        assert_non_null(copy);
        memcpy(copy, t.p, n);
        kd_skeleton s;
        kd_err err = {0};
        const kd_status st = kd_skeleton_parse(copy, n, "cut", NULL, &s, &err);
        if (n + 1 == t.n) {
            assert_int_equal(st, KD_OK);
        } else {
            assert_int_equal(st, KD_E_FORMAT);
            assert_memory_equal(err.msg, "cut:", 4);
        }
        kd_skeleton_free(&s);
        kd_free(copy);
    }
    kd_free(t.p);
}

static void test_not_a_file(void **state)
{
    (void)state;
    kd_skeleton s;
    kd_err err = {0};
    assert_int_equal(kd_skeleton_read("none.skeleton", NULL, &s, &err), KD_E_IO);
    assert_non_null(strstr(err.msg, "none.skeleton"));
    assert_int_equal(kd_skeleton_read(".", NULL, &s, NULL), KD_E_IO);
}

/* ---- accepted -------------------------------------------------------------------------------- */

static void test_accepted(void **state)
{
    (void)state;
    static const char *const eol[] = {"\n", "\r\n", " \r\n", "\t\n"};
    for (size_t e = 0; e < KD_COUNTOF(eol); e++) {
        text t = begin(1 << 16);
        add(&t, "4%s0%s2%s", eol[e], eol[e], eol[e]);
        /* columns that are not kept may hold what the Kinect writes for "unknown" */
        add_body(&t, HEAD, "-1.25 +0.5 3e0 -1.#IND 1.#QNAN -inf nan Infinity 0 0 0 1", JOINT, eol[e]);
        add_body(&t, "18446744073709551615 0 0 0 0 0 0 0 0 0", JOINT, JOINT, eol[e]);
        add(&t, "0%s1%s", eol[e], eol[e]);
        add_body(&t, HEAD, JOINT, JOINT, eol[e]);
        add(&t, "\n  \r\n\n");
        kd_skeleton s;
        kd_err err = {0};
        if (kd_skeleton_parse(t.p, t.n, "mem", NULL, &s, &err) != KD_OK) {
            fail_msg("%zu: %s", e, err.msg);
        }
        assert_int_equal(s.frames, 4);
        assert_int_equal(s.n_bodies, 3);
        assert_int_equal(s.empty_frames, 2);
        static const uint32_t first[] = {0, 0, 2, 2, 3};
        assert_memory_equal(s.first, first, sizeof first);
        assert_true(s.body[0].id == 72057594037932358u && s.body[1].id == UINT64_MAX);
        assert_true(s.body[0].xyz[0][0] == -1.25f && s.body[0].xyz[0][1] == 0.5f && s.body[0].xyz[0][2] == 3.0f);
        assert_true(s.body[2].xyz[24][2] == 2.5f);
        assert_int_equal(s.body[0].tracking[0], 1);
        assert_int_equal(s.body[0].tracking[24], 2);
        kd_skeleton_free(&s);
        kd_free(t.p);
    }
}

static void test_policies(void **state)
{
    (void)state;
    text t = begin(1 << 16);
    add(&t, "2\n2\n");
    add_body(&t, HEAD, "nan 0 1 0 0 0 0 0 0 0 0 0", JOINT, "\n");
    add_body(&t, "7 0 1 1 1 1 0 0 0 2", JOINT, JOINT, "\n");
    add(&t, "1\n");
    add_body(&t, HEAD, JOINT, "0 0 101 0 0 0 0 0 0 0 0 0", "\n");
    kd_skel_opts opts = {.nan = KD_SKEL_NAN_DROP};
    kd_skeleton s;
    kd_err err = {0};
    assert_int_equal(kd_skeleton_parse(t.p, t.n, "mem", NULL, &s, &err), KD_E_FORMAT);
    assert_string_equal(err.msg, "mem:5: joint 0: expected a finite x of at most 100 m, found 'nan'");
    assert_int_equal(kd_skeleton_parse(t.p, t.n, "mem", &opts, &s, NULL), KD_OK);
    assert_int_equal(s.n_bodies, 1);
    assert_int_equal(s.dropped, 2);
    assert_int_equal(s.empty_frames, 1);
    assert_true(s.body[0].id == 7);
    kd_skeleton_free(&s);
    kd_free(t.p);

    opts = (kd_skel_opts){.allow_no_body = true};
    assert_int_equal(kd_skeleton_parse("2\n0\n0\n", 6, "mem", &opts, &s, NULL), KD_OK);
    assert_int_equal(s.frames, 2);
    assert_int_equal(s.empty_frames, 2);
    kd_skeleton_free(&s);
}

/* Zero bodies alone are no recording; beside another they stay. */
static void test_zero_bodies(void **state)
{
    (void)state;
    static const char zero[] = "0 0 0 0 0 0 0 0 0 0 0 0";
    kd_skeleton s;
    kd_err err = {0};
    text t = begin(1 << 16);
    add(&t, "2\n1\n");
    add_body(&t, HEAD, zero, zero, "\n");
    const size_t one = t.n;
    add(&t, "1\n");
    add_body(&t, HEAD, zero, zero, "\n");
    assert_int_equal(kd_skeleton_parse(t.p, t.n, "mem", NULL, &s, &err), KD_E_DATA);
    assert_string_equal(err.msg, "mem: no body: expected a body, found 2 whose joints are all 0 (tracking lost) in 2 "
                                 "frames");
    assert_int_equal(kd_skeleton_parse(t.p, t.n, "mem", &(kd_skel_opts){.allow_no_body = true}, &s, NULL), KD_OK);
    kd_skeleton_free(&s);
    t.n = one;
    add(&t, "1\n");
    add_body(&t, HEAD, zero, JOINT, "\n");
    assert_int_equal(kd_skeleton_parse(t.p, t.n, "mem", NULL, &s, NULL), KD_OK);
    assert_int_equal(s.n_bodies, 2);
    assert_true(kd_skel_body_is_zero(&s.body[0]) && !kd_skel_body_is_zero(&s.body[1]));
    kd_skeleton_free(&s);
    kd_free(t.p);
}

/* The reader's numbers against the C library's, as the nearest float of the nearest double. */
static void test_numbers(void **state)
{
    (void)state;
    static const char *const given[] = {"0",
                                        "-0",
                                        "0.2181153",
                                        "-0.007861772",
                                        "3.786",
                                        "1.234e-05",
                                        "1E2",
                                        "99.99999999",
                                        "1e-45",
                                        "1e-400",
                                        "0.1",
                                        ".5",
                                        "5.",
                                        "0.30000000000000004",
                                        "0.12345678901234567890123456789",
                                        "2.2250738585072014e-308",
                                        "100",
                                        "-100.0",
                                        "0000000000000000000000001.5",
                                        "0.00000000000000000000000000012345e25",
                                        "1.17549435e-38"};
    for (size_t i = 0; i < KD_COUNTOF(given); i++) {
        text t = begin(1 << 14);
        char joint[160];
        (void)snprintf(joint, sizeof joint, "%s 0 0 0 0 0 0 0 0 0 0 0", given[i]);
        add(&t, "1\n1\n");
        add_body(&t, HEAD, joint, JOINT, "\n");
        kd_skeleton s;
        kd_err err = {0};
        if (kd_skeleton_parse(t.p, t.n, "mem", NULL, &s, &err) != KD_OK) {
            fail_msg("%s: %s", given[i], err.msg);
        }
        const float want = (float)strtod(given[i], NULL);
        if (kd_f32_bits(s.body[0].xyz[0][0]) != kd_f32_bits(want)) {
            fail_msg("%s: read as %.9g, expected %.9g", given[i], (double)s.body[0].xyz[0][0], (double)want);
        }
        kd_skeleton_free(&s);
        kd_free(t.p);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static kd_skeleton make(size_t frames)
{
    kd_skeleton s;
    uint32_t x = 1;
    assert_int_equal(kd_skeleton_alloc(frames, frames / 2 * 3, &s, NULL), KD_OK);
    for (size_t t = 0; t < frames; t++) { /* 2, 1, 2, 1, ... bodies, a frame without one where the sum ends */
        s.first[t + 1] = s.first[t] + (t % 2 == 0 ? 2 : 1);
        if (s.first[t + 1] > s.n_bodies) {
            s.first[t + 1] = s.first[t];
        }
    }
    s.n_bodies = s.first[frames];
    for (size_t b = 0; b < s.n_bodies; b++) {
        s.body[b].id = 72057594037927936u + b;
        for (size_t j = 0; j < KD_SKEL_JOINTS; j++) {
            for (int k = 0; k < 3; k++) {
                x = x * 1664525u + 1013904223u;
                s.body[b].xyz[j][k] = ((float)(x >> 8) / 16777216.0f - 0.5f) * 7.0f;
            }
            s.body[b].tracking[j] = (uint8_t)(x >> 4 & 1) + 1;
        }
    }
    return s;
}

static void test_round_trip(void **state)
{
    (void)state;
    kd_skeleton s = make(41), back;
    char *a, *b;
    size_t na, nb;
    kd_err err = {0};
    assert_int_equal(kd_skeleton_format(&s, &a, &na, &err), KD_OK);
    assert_int_equal(strlen(a), na);
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8") != NULL) {
        print_message("with a decimal comma\n");
    }
    assert_int_equal(kd_skeleton_format(&s, &b, &nb, &err), KD_OK);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na);
    assert_int_equal(kd_skeleton_parse(a, na, "mem", NULL, &back, &err), KD_OK);
    (void)setlocale(LC_NUMERIC, "C");
    assert_int_equal(back.frames, s.frames);
    assert_int_equal(back.n_bodies, s.n_bodies);
    assert_memory_equal(back.first, s.first, (s.frames + 1) * sizeof *s.first);
    assert_memory_equal(back.body, s.body, s.n_bodies * sizeof *s.body);
    kd_skeleton_free(&back);

    assert_int_equal(kd_skeleton_write("test_skeleton.skeleton", &s, NULL), KD_OK);
    assert_int_equal(kd_skeleton_read("test_skeleton.skeleton", NULL, &back, NULL), KD_OK);
    assert_memory_equal(back.body, s.body, s.n_bodies * sizeof *s.body);
    assert_int_equal(unlink("test_skeleton.skeleton"), 0);
    kd_skeleton_free(&back);

    s.body[3].xyz[2][1] = NAN;
    assert_int_equal(kd_skeleton_write("test_skeleton.skeleton", &s, &err), KD_E_NUMERIC);
    assert_non_null(strstr(err.msg, "body 3 joint 2"));
    assert_false(kd_path_exists("test_skeleton.skeleton"));
    kd_skeleton_free(&s);
    kd_free(a);
    kd_free(b);
}

static void test_memory(void **state)
{
    (void)state;
    kd_skeleton s = make(9);
    char *text_of = NULL;
    size_t n = 0;
    assert_int_equal(kd_skeleton_format(&s, &text_of, &n, NULL), KD_OK);
    kd_skeleton_free(&s);
    uint64_t k = 1;
    for (;; k++) {
        kd_alloc_fail_at(k);
        const kd_status st = kd_skeleton_parse(text_of, n, "mem", NULL, &s, NULL);
        kd_alloc_fail_at(0);
        kd_skeleton_free(&s);
        if (st == KD_OK) {
            break;
        }
        assert_int_equal(st, KD_E_OOM);
    }
    assert_true(k > 2);
    kd_free(text_of);
    assert_int_equal(kd_skeleton_alloc(0, 0, &s, NULL), KD_E_ARG);
    assert_int_equal(kd_skeleton_alloc(1, SIZE_MAX, &s, NULL), KD_E_ARG);
}

static void test_project(void **state)
{
    (void)state;
    float x, y;
    kd_skeleton_project((const float[3]){0.0f, 0.0f, 2.0f}, &x, &y);
    assert_true(x == 960.0f && y == 540.0f);
    kd_skeleton_project((const float[3]){1.0f, 1.0f, 2.0f}, &x, &y);
    assert_true(x == 1490.0f && y == 10.0f); /* right is right, up is up */
    kd_skeleton_project((const float[3]){1.0f, 1.0f, 0.0f}, &x, &y);
    assert_true(x == 0.0f && y == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuse_corpus), cmocka_unit_test(test_every_cut),  cmocka_unit_test(test_not_a_file),
        cmocka_unit_test(test_accepted),      cmocka_unit_test(test_policies),   cmocka_unit_test(test_zero_bodies),
        cmocka_unit_test(test_numbers),       cmocka_unit_test(test_round_trip), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_project),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
