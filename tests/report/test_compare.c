/* Reports and comparisons: round trips, refusals, hand-counted tables, hostile names, and a full page for the
 * browser. */
/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
/* clang-format on */

#include "kernels/kd_rng.h"
#include "tests/report/made_reports.h"

#define OUT KD_BUILD_DIR "/tests/compare-out"

static int set_up(void **state)
{
    (void)state;
    kd_err err = {0};
    ok(kd_io_remove_tree(OUT, &err), &err);
    ok(kd_io_mkdirs(OUT, &err), &err);
    return 0;
}

static void test_round_trip(void **state)
{
    (void)state;
    maker m;
    kd_report r;
    make(&m, "teacher", "VideoMAE tiny", 3, TEACHER, 1);
    m.logits[4] = 0.1f; /* not a short decimal in binary */
    m.logits[5] = -1.17549435e-38f;
    m.r.command = "teacher eval \"x\" <y>\n";
    m.r.parameters = 123456789;
    m.r.latency_ms = 1.5;
    static const kd_report_left GONE[2] = {{"a", "over the limit", false}, {"b", "unreadable", true}};
    m.r.left = GONE;
    m.r.n_left = 2;
    written(&m, OUT "/r.json", &r);
    assert_int_equal(r.n, N);
    assert_int_equal(r.classes, K);
    assert_int_equal(r.seed, 3);
    assert_int_equal(r.listed, N + 2);
    assert_int_equal(r.n_left, 2);
    assert_int_equal(r.failed, 1);
    assert_int_equal(r.excluded, 1);
    assert_string_equal(r.left[0].id, "b");
    assert_string_equal(r.left[0].why, "unreadable");
    assert_string_equal(r.command, "teacher eval \"x\" <y>\n");
    assert_int_equal(r.parameters, 123456789);
    assert_memory_equal(r.logits, m.logits, sizeof m.logits); /* bit for bit */
    near(r.metrics.top1, 7.0 / 8.0, 0.0);
    kd_report_free(&r);
}

/* One byte of the file after another is replaced: never a crash, and never a report with other predictions. */
static void test_damage(void **state)
{
    (void)state;
    maker m;
    kd_err err = {0};
    uint8_t *data = NULL;
    size_t bytes = 0;
    make(&m, "teacher", "t", 0, TEACHER, 1);
    written(&m, OUT "/whole.json", NULL);
    ok(kd_io_read_file(OUT "/whole.json", 1 << 20, &data, &bytes, &err), &err);
    for (size_t i = 0; i < bytes; i += 7) {
        kd_report r;
        FILE *f = fopen(OUT "/damaged.json", "wb");
        assert_non_null(f);
        const uint8_t was = data[i];
        data[i] = was == '1' ? '2' : '1';
        assert_int_equal(fwrite(data, 1, bytes, f), bytes);
        assert_int_equal(fclose(f), 0);
        data[i] = was;
        if (kd_report_read(OUT "/damaged.json", &r, NULL) == KD_OK) {
            near(r.metrics.top1, 7.0 / 8.0, 0.0);
            kd_report_free(&r);
        }
    }
    kd_free(data);
}

static void replace(const char *path, const char *from, const char *to)
{
    uint8_t *data = NULL;
    size_t bytes = 0;
    kd_err err = {0};
    ok(kd_io_read_file(path, 1 << 20, &data, &bytes, &err), &err);
    char *hit = strstr((char *)data, from);
    assert_non_null(hit);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(hit, to, strlen(to));
    ok(kd_io_write_file(path, data, bytes, &err), &err);
    kd_free(data);
}

static void refused(const char *from, const char *to, kd_status want, const char *part)
{
    maker m;
    kd_report r;
    kd_err err = {0};
    make(&m, "teacher", "t", 0, TEACHER, 1);
    written(&m, OUT "/x.json", NULL);
    replace(OUT "/x.json", from, to);
    assert_int_equal(kd_report_read(OUT "/x.json", &r, &err), want);
    says(&err, part);
}

static void test_refused_reports(void **state)
{
    (void)state;
    refused("\"version\": 1", "\"version\": 2", KD_E_UNSUPPORTED, "version 2");
    refused("lastkd report", "lastkd repork", KD_E_FORMAT, "not a report");
    refused("\"top1\": 0.875", "\"top1\": 0.975", KD_E_INTEGRITY, "predictions give");
    refused("\"ids\": [\"S003C001P003R001A001\"", "\"ids\": [\"S003C001P003R001A009\"", KD_E_INTEGRITY, "hashes.ids");
    refused("\"ids\": [\"S003C001P003R001A001\"", "\"ids\": [\"S003C001P003R001A002\"", KD_E_DATA, "twice");
    refused("\"listed\": 8", "\"listed\": 9", KD_E_INTEGRITY, "done + failed + excluded");
    refused("\"labels\": [0", "\"labels\": [7", KD_E_DATA, "label 7");
    maker m;
    kd_err err = {0};
    make(&m, "teacher", "t", 0, TEACHER, 1);
    m.r.split = NULL;
    assert_int_equal(kd_report_write(&m.r, OUT "/x.json", &err), KD_E_ARG);
    says(&err, "split");
    kd_report r;
    assert_int_equal(kd_report_read(OUT "/none.json", &r, NULL), KD_E_IO);
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void test_tables(void **state)
{
    (void)state;
    maker m[4];
    kd_report r[4];
    const kd_report *list[4];
    kd_err err = {0};
    make(&m[0], "teacher", "T", 0, TEACHER, 1);
    make(&m[1], "student", "CE", 0, STUDENT_A, 3); /* other sample orders: joined by id */
    make(&m[2], "student", "CE+KD", 1, STUDENT_C, 5);
    make(&m[3], "student", "CE", 1, STUDENT_B, 7);
    for (int i = 0; i < 4; i++) {
        char path[256];
        (void)snprintf(path, sizeof path, OUT "/t%d.json", i);
        written(&m[i], path, &r[i]);
        list[i] = &r[i];
    }
    kd_comparison c;
    ok(kd_compare(list, 4, NULL, &c, &err), &err);
    assert_int_equal(c.n_groups, 3);
    assert_string_equal(c.group[1].label, "CE");
    assert_int_equal(c.group[1].n_runs, 2);
    near(c.group[1].top1.mean, 6.0 / 8.0, 1e-12);
    near(c.group[2].to_baseline.mean, 2.0 / 8.0, 1e-12);
    near(c.group[2].to_teacher.mean, 1.0 / 8.0, 1e-12);
    assert_int_equal(c.group[1].typical, 1);
    assert_int_equal(c.group[1].agreement.both_right, 5);
    assert_int_equal(c.group[1].agreement.only_first, 2);
    assert_int_equal(c.group[1].agreement.only_second, 1);
    assert_int_equal(c.group[1].agreement.both_wrong, 0);
    near(c.group[1].mcnemar, 1.0, 1e-12); /* 2 against 1 */
    near(c.group[2].mcnemar, 1.0, 1e-12); /* 0 against 1 */
    near(c.group[1].recall[0], (1.0 / 3.0 + 1.0 / 3.0) / 2.0, 1e-12);
    for (int i = 0; i < N; i++) {
        assert_int_equal(c.prediction[1][i], STUDENT_A[i]);
    }
    kd_comparison_free(&c);
    for (int i = 0; i < 4; i++) {
        kd_report_free(&r[i]);
    }
}

static void unlike(void (*change)(maker *m), const char *part)
{
    maker m[2];
    kd_report r[2];
    const kd_report *list[2] = {&r[0], &r[1]};
    kd_comparison c;
    kd_err err = {0};
    make(&m[0], "teacher", "T", 0, TEACHER, 1);
    make(&m[1], "student", "S", 0, STUDENT_A, 1);
    change(&m[1]);
    written(&m[0], OUT "/u0.json", &r[0]);
    written(&m[1], OUT "/u1.json", &r[1]);
    assert_int_equal(kd_compare(list, 2, NULL, &c, &err), KD_E_DATA);
    assert_int_equal(kd_status_exit_code(KD_E_DATA), 3);
    says(&err, "unlike protocols");
    says(&err, part);
    kd_report_free(&r[0]);
    kd_report_free(&r[1]);
}

static void other_split(maker *m)
{
    m->r.split = "ntu60-xview";
}

static void other_half(maker *m)
{
    m->r.half = "train";
}

static void other_class(maker *m)
{
    static const char *const NAMES2[K] = {"drink", "sip", "wave"};
    m->r.class_names = NAMES2;
}

static void fewer_samples(maker *m)
{
    m->r.n = N - 1;
}

static void other_label(maker *m)
{
    m->labels[2] = 0;
}

static void test_unlike(void **state)
{
    (void)state;
    unlike(other_split, "split is 'ntu60-xsub'");
    unlike(other_half, "half");
    unlike(other_class, "name of class 1");
    unlike(fewer_samples, "S003C003P003R001A002");
    unlike(other_label, "label 2");
}

/* ---- a page with everything ------------------------------------------------------------------ */

enum { BIG_N = 288, BIG_K = 12 };

static const char *const BIG_NAMES[BIG_K] = {"drink",         "eat",  "phone call",  "hammer",
                                             "ring a bell",   "wave", "wave a flag", "throw a ball",
                                             "pick up a box", "kick", "clap",        "jump"};

typedef struct big {
    float logits[BIG_N * BIG_K];
    int32_t labels[BIG_N];
    char text[BIG_N][24];
    const char *ids[BIG_N];
} big;

/* Scores of a model that is `sure` of the right class and mixes the pairs (drink, eat), (hammer, bell), (wave,
 * flag). */
static void fill_big(big *b, uint32_t item, double sure, double mix)
{
    kd_rng g = kd_rng_make(5, KD_RNG_TEST, item, 0);
    for (int i = 0; i < BIG_N; i++) {
        const int label = i % BIG_K;
        (void)snprintf(b->text[i], sizeof b->text[i], "S003C%03dP%03dR%03dA%03d", 1 + i / 12 % 3, 3 + i / 36 % 4,
                       1 + i / 144, 1 + label);
        b->ids[i] = b->text[i];
        b->labels[i] = label;
        for (int k = 0; k < BIG_K; k++) {
            b->logits[i * BIG_K + k] = (float)kd_rng_normal(&g);
        }
        b->logits[i * BIG_K + label] += (float)sure;
        const int pair = label < 2                  ? 1 - label
                         : label == 3 || label == 4 ? 7 - label
                         : label == 5 || label == 6 ? 11 - label
                                                    : -1;
        if (pair >= 0) {
            b->logits[i * BIG_K + pair] += (float)mix;
        }
    }
}

static void big_report(const big *b, kd_report *r, const char *kind, const char *label, int64_t seed)
{
    memset(r, 0, sizeof *r);
    r->kind = kind;
    r->label = label;
    r->seed = seed;
    r->created = "2026-01-01T00:00:00Z";
    r->tool = "test";
    r->command = "distill eval --weights runs/x --data sample";
    r->dataset = "lastkd sample";
    r->split = "ntu60-xsub";
    r->half = "val";
    r->modality = strcmp(kind, "teacher") == 0 ? "rgb" : "skeleton";
    r->views = "1x1";
    r->merge = "prob";
    r->class_names = BIG_NAMES;
    r->classes = BIG_K;
    r->model = strcmp(kind, "teacher") == 0 ? "videomae-tiny" : "sfz-nano";
    r->parameters = strcmp(kind, "teacher") == 0 ? 5300000 : 84000;
    r->macs = strcmp(kind, "teacher") == 0 ? 1900000000 : 9100000;
    r->bytes = r->parameters * 4;
    r->latency_ms = strcmp(kind, "teacher") == 0 ? 41.0 : 1.9;
    r->latency_batch = 1;
    r->threads = 1;
    r->device = "cpu";
    r->dtype = "f32";
    r->weights_hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    r->config = "name: x\ntrain:\n  epochs: 30\n";
    r->ids = b->ids;
    r->labels = b->labels;
    r->logits = b->logits;
    r->n = BIG_N;
}

static char *slurp(const char *path)
{
    enum { MOST = 64 << 20 };
    FILE *f = fopen(path, "rb"); /* our reader takes no web page for a file of data */
    char *text = kd_alloc(MOST);
    assert_non_null(f);
    assert_non_null(text);
    text[fread(text, 1, MOST - 1, f)] = '\0';
    assert_int_equal(fclose(f), 0);
    return text;
}

static void test_page(void **state)
{
    (void)state;
    enum { RUNS = 7 };
    big *b = kd_calloc(RUNS, sizeof *b);
    kd_report w[RUNS];
    kd_report r[RUNS];
    const kd_report *list[RUNS];
    kd_err err = {0};
    assert_non_null(b);
    static const char *const HASH[RUNS] = {"t", "a", "b", "c", "d", "e", "f"};
    for (int i = 0; i < RUNS; i++) {
        char path[256];
        const bool kd = i >= 4;
        fill_big(&b[i], (uint32_t)i, i == 0 ? 4.6 : kd ? 3.0 : 2.7, i == 0 ? 1.0 : kd ? 2.4 : 2.5);
        big_report(&b[i], &w[i], i == 0 ? "teacher" : "student",
                   i == 0 ? "VideoMAE tiny"
                   : kd   ? "sfz-nano CE+KD"
                          : "sfz-nano CE",
                   (i + 2) % 3);
        w[i].weights_hash = HASH[i];
        (void)snprintf(path, sizeof path, OUT "/big%d.json", i);
        ok(kd_report_write(&w[i], path, &err), &err);
        kd_metrics_free(&w[i].metrics);
        ok(kd_report_read(path, &r[i], &err), &err);
        list[i] = &r[i];
    }
    const kd_compare_opts opts = {1000, 0.95, 1, "distill compare t.json s.json --out compare", false};
    kd_comparison *c = kd_calloc(1, sizeof *c);
    assert_non_null(c);
    ok(kd_compare(list, RUNS, &opts, c, &err), &err);
    ok(kd_compare_write_html(c, OUT "/report.html", &err), &err);
    ok(kd_compare_write_markdown(c, OUT "/report.md", &err), &err);
    ok(kd_compare_write_csv(c, OUT "/report.csv", &err), &err);
    ok(kd_compare_write_json(c, OUT "/report.json", &err), &err);
    char *one = slurp(OUT "/report.html");
    ok(kd_compare_write_html(c, OUT "/again.html", &err), &err);
    char *two = slurp(OUT "/again.html");
    assert_string_equal(one, two);
    assert_null(strstr(one, "<script"));
    assert_null(strstr(one, "http://"));
    assert_null(strstr(one, "https://"));
    assert_null(strstr(one, ">nan"));
    assert_null(strstr(one, "\"nan"));
    assert_non_null(strstr(one, "prefers-color-scheme:dark"));
    kd_json *doc = NULL;
    ok(kd_json_load(OUT "/report.json", &doc, &err), &err);
    assert_int_equal(kd_json_count(kd_json_get(doc, "groups")), 3);
    kd_json_free(doc);
    kd_free(one);
    kd_free(two);
    kd_comparison_free(c);
    kd_free(c);
    for (int i = 0; i < RUNS; i++) {
        kd_report_free(&r[i]);
    }
    kd_free(b);
}

/* Names that would be markup, formulas or new lines if they were not escaped. */
static void test_hostile_names(void **state)
{
    (void)state;
    static const char *const EVIL[K] = {"<script>alert(1)</script>", "a\"b'c&d", "=HYPERLINK(1)|*x*"};
    maker m[2];
    kd_report r[2];
    const kd_report *list[2] = {&r[0], &r[1]};
    kd_comparison c;
    kd_err err = {0};
    make(&m[0], "teacher", "<img src=x onerror=y>", 0, TEACHER, 1);
    make(&m[1], "student", "=1+1,\"x\"", 0, STUDENT_A, 1);
    for (int i = 0; i < 2; i++) {
        m[i].r.class_names = EVIL;
        m[i].r.command = "x</pre><script>";
        m[i].r.device = "<b>";
        m[i].r.latency_ms = 1.0;
    }
    written(&m[0], OUT "/h0.json", &r[0]);
    written(&m[1], OUT "/h1.json", &r[1]);
    const kd_compare_opts opts = {200, 0.9, 0, "</pre><script>", false};
    ok(kd_compare(list, 2, &opts, &c, &err), &err);
    ok(kd_compare_write_html(&c, OUT "/hostile.html", &err), &err);
    ok(kd_compare_write_csv(&c, OUT "/hostile.csv", &err), &err);
    ok(kd_compare_write_markdown(&c, OUT "/hostile.md", &err), &err);
    char *html = slurp(OUT "/hostile.html");
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "<img"));
    assert_null(strstr(html, "<b></"));
    assert_non_null(strstr(html, "&lt;script&gt;"));
    char *csv = slurp(OUT "/hostile.csv");
    assert_null(strstr(csv, "\"=1"));
    assert_non_null(strstr(csv, "\"'=1+1,\"\"x\"\"\""));
    kd_free(html);
    kd_free(csv);
    kd_comparison_free(&c);
    kd_report_free(&r[0]);
    kd_report_free(&r[1]);
}

/* Every allocation fails once: an orderly KD_E_OOM, nothing leaked (the sanitizer build looks). */
static void test_out_of_memory(void **state)
{
    (void)state;
    maker m[2];
    kd_report r[2];
    const kd_report *list[2] = {&r[0], &r[1]};
    make(&m[0], "teacher", "T", 0, TEACHER, 1);
    make(&m[1], "student", "S", 0, STUDENT_A, 1);
    written(&m[0], OUT "/o0.json", &r[0]);
    written(&m[1], OUT "/o1.json", &r[1]);
    const kd_compare_opts opts = {100, 0.9, 0, NULL, false};
    bool done = false;
    for (uint64_t n = 1; n < 2000 && !done; n++) {
        kd_comparison c;
        kd_alloc_fail_at(n);
        const kd_status st = kd_compare(list, 2, &opts, &c, NULL);
        kd_alloc_fail_at(0);
        assert_true(st == KD_OK || st == KD_E_OOM);
        if (st == KD_OK) {
            done = c.n_warnings > 0 && n > 20;
            kd_comparison_free(&c);
        }
    }
    assert_true(done);
    kd_report_free(&r[0]);
    kd_report_free(&r[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_damage),
        cmocka_unit_test(test_refused_reports), cmocka_unit_test(test_tables),
        cmocka_unit_test(test_unlike),          cmocka_unit_test(test_page),
        cmocka_unit_test(test_hostile_names),   cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
