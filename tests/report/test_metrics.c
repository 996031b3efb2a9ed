/* Metrics: hand-computed values, scikit-learn's numbers on the generated score table, intervals and tests. */
/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

#include "distill/report/metrics.h"
#include "tools/parity/parity_gen.h"

static void near(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol)) {
        fail_msg("got %.12g, expected %.12g within %g", got, want, tol);
    }
}

/* Labels of the fixture "metrics": 96 samples, 52 classes. */
static const int32_t FIXTURE_LABELS[96] = {
    10, 20, 15, 45, 0,  0,  46, 16, 12, 17, 3,  30, 25, 25, 14, 6,  16, 8,  7,  6,  16, 0,  31, 0,
    8,  38, 1,  49, 21, 30, 17, 31, 20, 29, 32, 35, 12, 32, 1,  19, 12, 28, 26, 36, 29, 5,  28, 35,
    41, 10, 22, 49, 34, 16, 32, 21, 35, 27, 3,  0,  31, 2,  27, 20, 20, 29, 6,  20, 19, 21, 7,  16,
    11, 22, 35, 20, 31, 36, 32, 5,  14, 2,  19, 14, 8,  19, 25, 9,  29, 11, 38, 3,  31, 9,  28, 27,
};

/* The fixtures' generator: a hash of the index and the name's CRC-32. */
static uint32_t crc32_of(const char *s)
{
    uint32_t c = 0xffffffffu;
    for (; *s != '\0'; s++) {
        c ^= (uint8_t)*s;
        for (int k = 0; k < 8; k++) {
            c = (c >> 1) ^ (0xedb88320u & (0u - (c & 1u)));
        }
    }
    return ~c;
}

static void scores_of_fixture(float *score)
{
    const uint32_t crc = crc32_of("metrics.scores");
    for (uint32_t i = 0; i < 96 * 52; i++) {
        score[i] = kd_parity_gen_unit(crc, i);
    }
}

static void test_hand(void **state)
{
    (void)state;
    static const double P[4][3] = {{0.7, 0.2, 0.1}, {0.6, 0.3, 0.1}, {0.1, 0.1, 0.8}, {0.2, 0.5, 0.3}};
    static const int32_t LABEL[4] = {0, 1, 2, 1};
    float score[12];
    for (int i = 0; i < 12; i++) {
        score[i] = (float)log(P[i / 3][i % 3]);
    }
    const kd_scores s = {score, LABEL, 4, 3};
    kd_metrics m;
    assert_int_equal(kd_metrics_compute(&s, 1.0, 15, &m, NULL), KD_OK);
    near(m.top1, 0.75, 0.0);
    near(m.top5, 1.0, 0.0);
    near(m.micro_f1, 0.75, 0.0);
    near(m.mean_class_accuracy, 2.5 / 3.0, 1e-12);
    near(m.macro_f1, (2.0 / 3.0 + 2.0 / 3.0 + 1.0) / 3.0, 1e-12);
    near(m.nll, -(log(0.7) + log(0.3) + log(0.8) + log(0.5)) / 4.0, 1e-6);
    near(m.brier, 0.36, 1e-6);
    near(m.ece, 0.4, 1e-6);
    assert_int_equal(m.confusion[1 * 3 + 0], 1);
    assert_int_equal(m.confusion[1 * 3 + 1], 1);
    assert_int_equal(m.per_class[1].support, 2);
    assert_int_equal(m.per_class[0].predicted, 2);
    near(m.per_class[0].precision, 0.5, 0.0);
    kd_metrics_free(&m);
}

static void test_fixture(void **state)
{
    (void)state;
    static float score[96 * 52];
    scores_of_fixture(score);
    near((double)score[0], -0.07567334175109863, 0.0);
    const kd_scores s = {score, FIXTURE_LABELS, 96, 52};
    kd_metrics m;
    assert_int_equal(kd_metrics_compute(&s, 1.0, KD_ECE_BINS, &m, NULL), KD_OK);
    near(m.top1, 0.3541666666666667, 1e-15);
    near(m.top5, 0.3958333333333333, 1e-15);
    near(m.macro_f1, 0.2905797101449275, 1e-12);
    near(m.mean_class_accuracy, 0.41944444444444445, 1e-12);
    int64_t total = 0;
    for (int i = 0; i < 52 * 52; i++) {
        total += m.confusion[i];
    }
    assert_int_equal(total, 96);
    kd_metrics_free(&m);
}

static void test_ties_and_absent_classes(void **state)
{
    (void)state;
    static const float SCORE[2 * 7] = {1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 5};
    static const int32_t LABEL[2] = {5, 6};
    const kd_scores s = {SCORE, LABEL, 2, 7};
    kd_metrics m;
    assert_int_equal(kd_metrics_compute(&s, 1.0, 15, &m, NULL), KD_OK);
    assert_int_equal(m.prediction[0], 0); /* the lowest of equals */
    near(m.top5, 0.5, 0.0);               /* five classes of equal score come before class 5 */
    near(m.mean_class_accuracy, 0.5, 0.0);
    near(m.macro_f1, 1.0 / 3.0, 1e-12); /* classes 0, 5, 6 occur */
    assert_true(isnan(m.per_class[3].recall));
    kd_metrics_free(&m);
}

static void test_refusals(void **state)
{
    (void)state;
    float score[4] = {0.0f, 1.0f, NAN, 0.0f};
    int32_t label[2] = {0, 1};
    const kd_scores s = {score, label, 2, 2};
    kd_metrics m;
    assert_int_equal(kd_metrics_compute(&s, 1.0, 15, &m, NULL), KD_E_NUMERIC);
    score[2] = INFINITY;
    assert_int_equal(kd_metrics_compute(&s, 1.0, 15, &m, NULL), KD_E_NUMERIC);
    score[2] = 0.0f;
    label[1] = 2;
    assert_int_equal(kd_metrics_compute(&s, 1.0, 15, &m, NULL), KD_E_DATA);
    label[1] = 1;
    assert_int_equal(kd_metrics_compute(&s, 0.0, 15, &m, NULL), KD_E_ARG);
    assert_int_equal(kd_metrics_compute(&s, 1.0, 0, &m, NULL), KD_E_ARG);
    const kd_scores none = {score, label, 0, 2};
    assert_int_equal(kd_metrics_compute(&none, 1.0, 15, &m, NULL), KD_E_DATA);
    kd_alloc_fail_at(2);
    assert_int_equal(kd_metrics_compute(&s, 1.0, 15, &m, NULL), KD_E_OOM);
    kd_alloc_fail_at(0);
}

static void test_large_scores(void **state)
{
    (void)state;
    static const float SCORE[4] = {3.0e4f, -3.0e4f, -3.0e4f, 3.0e4f};
    static const int32_t LABEL[2] = {0, 0};
    const kd_scores s = {SCORE, LABEL, 2, 2};
    kd_metrics m;
    assert_int_equal(kd_metrics_compute(&s, 1.0, 15, &m, NULL), KD_OK);
    near(m.nll, 3.0e4, 1e-6);
    near(m.ece, 0.5, 1e-12);
    kd_metrics_free(&m);
}

static void test_temperature(void **state)
{
    (void)state;
    /* Every score says 2 : 0 and three of four are right: sigmoid(2 / T) = 3/4. */
    static const float SCORE[8] = {2, 0, 2, 0, 2, 0, 2, 0};
    static const int32_t LABEL[4] = {0, 0, 0, 1};
    const kd_scores s = {SCORE, LABEL, 4, 2};
    double t = 0.0;
    assert_int_equal(kd_temperature_fit(&s, &t, NULL), KD_OK);
    near(t, 2.0 / log(3.0), 1e-5);
    kd_metrics m;
    assert_int_equal(kd_metrics_compute(&s, t, 15, &m, NULL), KD_OK);
    near(m.ece, 0.0, 1e-5);
    kd_metrics_free(&m);
}

static void test_bootstrap(void **state)
{
    (void)state;
    enum { N = 400 };
    static float value[2 * N];
    for (int i = 0; i < N; i++) {
        value[i] = i % 4 != 0 ? 1.0f : 0.0f;
        value[N + i] = value[i];
    }
    kd_interval a;
    kd_interval b;
    assert_int_equal(kd_bootstrap(value, 1, N, 4000, 0.95, 7, &a, NULL), KD_OK);
    near(a.mean, 0.75, 0.0);
    near(a.high - a.low, 2.0 * 1.96 * sqrt(0.75 * 0.25 / N), 0.008);
    near(0.5 * (a.low + a.high), 0.75, 0.006);
    assert_int_equal(kd_bootstrap(value, 1, N, 4000, 0.95, 7, &b, NULL), KD_OK);
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(kd_bootstrap_difference(value, 1, value + N, 1, N, 500, 0.95, 7, &b, NULL), KD_OK);
    near(b.mean, 0.0, 0.0); /* paired: the same samples on both sides */
    near(b.low, 0.0, 0.0);
    near(b.high, 0.0, 0.0);
    for (int i = 0; i < N; i++) {
        value[N + i] = 0.5f; /* a second seed that always scores half: the spread of seeds widens the interval */
    }
    assert_int_equal(kd_bootstrap(value, 2, N, 2000, 0.95, 7, &b, NULL), KD_OK);
    assert_true(b.high - b.low > 0.2);
    assert_int_equal(kd_bootstrap(value, 1, N, 10, 0.95, 7, &b, NULL), KD_E_ARG);
}

static void test_mcnemar(void **state)
{
    (void)state;
    near(kd_mcnemar(0, 0), 1.0, 0.0);
    near(kd_mcnemar(5, 5), 1.0, 0.0);
    near(kd_mcnemar(1, 9), 0.021484375, 1e-12);
    near(kd_mcnemar(9, 1), 0.021484375, 1e-12);
    near(kd_mcnemar(3, 0), 0.25, 1e-12);
    assert_true(kd_mcnemar(400, 900) < 1e-40);
    assert_true(kd_mcnemar(400, 900) > 0.0);
}

/* Persons that are all right or all wrong: clips tell nothing that the person does not. */
static void test_clusters(void **state)
{
    (void)state;
    enum { N = 400, PERSONS = 4 };
    static float value[N];
    static uint32_t of[N], own[N];
    for (int i = 0; i < N; i++) {
        of[i] = (uint32_t)(i * PERSONS / N);
        own[i] = (uint32_t)i;
        value[i] = of[i] != 3 ? 1.0f : 0.0f;
    }
    const kd_clusters persons = {of, PERSONS}, singles = {own, N}, one = {of, 1};
    kd_interval clip, person, single;
    assert_int_equal(kd_bootstrap(value, 1, N, 4000, 0.95, 7, &clip, NULL), KD_OK);
    assert_int_equal(kd_bootstrap_clusters(value, 1, NULL, 0, N, &persons, 4000, 0.95, 7, &person, NULL), KD_OK);
    near(person.mean, 0.75, 0.0);
    near(person.low, 0.25, 0.0); /* draws of 4 persons: 0, 1/4, ... with 1/256, 12/256, 54/256, ... */
    near(person.high, 1.0, 0.0);
    assert_true(clip.high - clip.low < 0.1);
    assert_int_equal(kd_bootstrap_clusters(value, 1, NULL, 0, N, &singles, 4000, 0.95, 7, &single, NULL), KD_OK);
    near(single.low, clip.low, 0.01); /* a clip a cluster: the plain bootstrap, with other draws */
    near(single.high, clip.high, 0.01);
    assert_int_equal(kd_bootstrap_clusters(value, 1, value, 1, N, &persons, 500, 0.95, 7, &single, NULL), KD_OK);
    near(single.low, 0.0, 0.0); /* paired: the same persons on both sides */
    near(single.high, 0.0, 0.0);
    assert_int_equal(kd_bootstrap_clusters(value, 1, NULL, 0, N, &one, 500, 0.95, 7, &single, NULL), KD_E_ARG);
}

static void test_mcnemar_clusters(void **state)
{
    (void)state;
    int64_t single[13], few[4] = {30, 2, 5, 1}, torn[4] = {30, -20, -5, 1}, none[3] = {0, 0, 0};
    double p = 0.0;
    for (int i = 0; i < 13; i++) { /* 10 against 3, one sample a cluster */
        single[i] = i < 10 ? 1 : -1;
    }
    assert_int_equal(kd_mcnemar_clusters(single, 13, &p, NULL), KD_OK);
    near(p, kd_mcnemar(10, 3), 1e-12);
    assert_int_equal(kd_mcnemar_clusters(few, 4, &p, NULL), KD_OK);
    near(p, 2.0 / 16.0, 1e-12); /* 38 against 0: by clip 7e-12, but only four people */
    assert_int_equal(kd_mcnemar_clusters(torn, 4, &p, NULL), KD_OK);
    near(p, 14.0 / 16.0, 1e-12); /* only 30 - 20 - 5 - 1 and its negative are nearer to zero than 6 */
    assert_int_equal(kd_mcnemar_clusters(none, 3, &p, NULL), KD_OK);
    near(p, 1.0, 0.0);
    kd_alloc_fail_at(2);
    assert_int_equal(kd_mcnemar_clusters(few, 4, &p, NULL), KD_E_OOM);
    kd_alloc_fail_at(0);
}

static void test_agreement(void **state)
{
    (void)state;
    static const int32_t LABEL[5] = {0, 1, 2, 0, 1};
    static const int32_t A[5] = {0, 1, 0, 1, 1};
    static const int32_t B[5] = {0, 2, 2, 1, 1};
    const kd_agreement g = kd_agree(A, B, LABEL, 5);
    assert_int_equal(g.both_right, 2);
    assert_int_equal(g.only_first, 1);
    assert_int_equal(g.only_second, 1);
    assert_int_equal(g.both_wrong, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hand),
        cmocka_unit_test(test_fixture),
        cmocka_unit_test(test_ties_and_absent_classes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_bootstrap),
        cmocka_unit_test(test_mcnemar),
        cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_mcnemar_clusters),
        cmocka_unit_test(test_agreement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
