/* Score fusion: sums against values worked out with plain formulas, the join, the choice of weights. */
/* clang-format off */
#include "tests/report/made_reports.h"
/* clang-format on */

#include "distill/study/fuse.h"

/* A report of the two first samples. */
static void two(maker *m, const float logits[2 * K], const char *path, kd_report *back)
{
    make(m, "student", "s", 0, STUDENT_C, 1);
    memcpy(m->logits, logits, 2 * K * sizeof *logits);
    m->r.n = 2;
    written(m, path, back);
}

static void test_sums(void **state)
{
    (void)state;
    static const float A[2 * K] = {1.5f, -0.5f, 0.25f, 0.0f, 2.0f, -1.0f};
    static const float B[2 * K] = {-1.0f, 2.0f, 0.5f, 3.0f, 0.5f, 0.0f};
    static const double WEIGHT[2] = {0.6, 0.2};
    static const double LOGITS[2 * K] = {0.875, 0.125, 0.3125, 0.75, 1.625, -0.75};
    static const double PROB[2 * K] = {-0.621266382527, -1.3175646761,   -1.63501360543,
                                       -1.18247417147,  -0.429281870485, -3.1581530979};
    for (int prob = 0; prob < 2; prob++) {
        maker m;
        kd_report part[2], r;
        kd_fusion f;
        kd_metrics metrics;
        kd_err err = {0};
        two(&m, A, "fuse_a.json", &part[0]);
        two(&m, B, "fuse_b.json", &part[1]);
        ok(kd_fusion_open(part, 2, &f, &err), &err);
        const kd_fuse_opts o = {.prob = prob == 1, .label = "both", .judged = prob == 1};
        ok(kd_fuse_write(&f, WEIGHT, &o, "fuse.json", &metrics, &err), &err);
        ok(kd_report_read("fuse.json", &r, &err), &err);
        for (int i = 0; i < 2 * K; i++) {
            near((double)r.logits[i], prob == 1 ? PROB[i] : LOGITS[i], 1e-6);
        }
        near(r.metrics.nll, metrics.nll, 1e-9);
        assert_string_equal(r.label, "both");
        assert_string_equal(r.merge, prob == 1 ? "fused probabilities" : "fused logits");
        assert_true(prob == 1 ? strcmp(r.selected_on, "val") == 0 : r.selected_on == NULL);
        kd_metrics_free(&metrics);
        kd_fusion_free(&f);
        kd_report_free(&r);
        kd_report_free(&part[0]);
        kd_report_free(&part[1]);
    }
}

/* Reports in other orders, of which each lacks some samples. */
static void test_join(void **state)
{
    (void)state;
    static const double WEIGHT[2] = {1.0, 1.0};
    maker a, b;
    kd_report part[2], r;
    kd_fusion f;
    kd_metrics metrics;
    kd_err err = {0};
    make(&a, "student", "a", 0, STUDENT_C, 1);
    a.r.n = 6; /* samples 0 to 5 */
    make(&b, "student", "b", 0, STUDENT_C, 3);
    b.r.n = 7; /* 0, 3, 6, 1, 4, 7, 2 */
    written(&a, "fuse_a.json", &part[0]);
    written(&b, "fuse_b.json", &part[1]);
    ok(kd_fusion_open(part, 2, &f, &err), &err);
    assert_int_equal(f.n, 5);      /* 0 to 4 */
    assert_int_equal(f.n_left, 3); /* 5, 6, 7 */
    const kd_fuse_opts o = {.label = "both"};
    ok(kd_fuse_write(&f, WEIGHT, &o, "fuse.json", &metrics, &err), &err);
    near(metrics.top1, 1.0, 0.0);
    ok(kd_report_read("fuse.json", &r, &err), &err);
    assert_int_equal(r.listed, N);
    assert_int_equal(r.excluded, 3);
    size_t shared = 0;
    ok(kd_report_shared(&part[0], &part[1], &shared, &err), &err);
    assert_int_equal(shared, 5);
    kd_report_free(&r);
    kd_metrics_free(&metrics);
    kd_fusion_free(&f);
    kd_report_free(&part[0]);
    kd_report_free(&part[1]);
}

/* What the second report is changed to, and what is said. */
static void refused(void (*change)(maker *m), const char *part_of_message)
{
    maker m;
    kd_report part[2];
    kd_fusion f;
    kd_err err = {0};
    make(&m, "student", "a", 0, STUDENT_C, 1);
    written(&m, "fuse_a.json", &part[0]);
    change(&m);
    written(&m, "fuse_b.json", &part[1]);
    assert_int_equal(kd_fusion_open(part, 2, &f, &err), KD_E_DATA);
    says(&err, part_of_message);
    kd_fusion_free(&f);
    kd_report_free(&part[0]);
    kd_report_free(&part[1]);
}

static void other_label(maker *m)
{
    m->labels[3] = 2;
}

static void other_class(maker *m)
{
    static const char *const OTHER[K] = {"drink", "eat", "clap"};
    m->r.class_names = OTHER;
}

static void other_half(maker *m)
{
    m->r.half = "train";
}

static void other_samples(maker *m)
{
    static const char *const OTHER[N] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    m->r.ids = OTHER;
}

static void test_refused(void **state)
{
    (void)state;
    refused(other_label, "has label 0 in fuse_a.json, 2 in fuse_b.json");
    refused(other_class, "class 2 is 'wave' in fuse_a.json, 'clap' in fuse_b.json");
    refused(other_half, "half is 'val' in fuse_a.json, 'train' in fuse_b.json");
    refused(other_samples, "no sample is in all 2 reports");
}

/* One report is right and unsure, the other one sure and wrong: only little of the second leaves the answers right. */
static void test_search(void **state)
{
    (void)state;
    static const int WRONG[N] = {1, 2, 0, 1, 2, 0, 1, 2};
    maker m;
    kd_report part[2];
    kd_fusion f;
    kd_metrics metrics;
    double weight[2] = {0.1, 1.0};
    kd_err err = {0};
    make(&m, "student", "a", 0, STUDENT_C, 1);
    written(&m, "fuse_a.json", &part[0]);
    make(&m, "student", "b", 0, WRONG, 1);
    written(&m, "fuse_b.json", &part[1]);
    ok(kd_fusion_open(part, 2, &f, &err), &err);
    ok(kd_fuse_search(&f, false, weight, &metrics, &err), &err);
    near(metrics.top1, 1.0, 0.0);
    near(weight[1], 0.0, 0.0); /* the least NLL */
    assert_true(weight[0] > 0.0);
    kd_metrics_free(&metrics);
    kd_fusion_free(&f);
    kd_report_free(&part[0]);
    kd_report_free(&part[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums), cmocka_unit_test(test_join),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_search)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
