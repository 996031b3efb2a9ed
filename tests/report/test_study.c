/* Studies: Student's t and Holm's correction against scipy 1.17 and statsmodels 0.15, pairs by seed, pooled folds,
 * plans. */
/* clang-format off */
#include "tests/report/made_reports.h"
/* clang-format on */

#include "distill/study/plan.h"
#include "distill/study/pool.h"
#include "distill/study/study.h"

#include <stdio.h>
#include <unistd.h>

/* ---- statistics ------------------------------------------------------------------------------ */

/* scipy.stats.t: 2 sf(|t|), isf(p / 2). */
static void test_student(void **state)
{
    (void)state;
    static const double P[][3] = {{2.0, 4.0, 0.11611652351681556},    {0.5, 1.0, 0.7048327646991335},
                                  {12.706, 1.0, 0.05000080235813319}, {3.3, 2.5, 0.05940212877944413},
                                  {-1.7, 9.0, 0.12334766214382385},   {40.0, 4.0, 2.3340163226012678e-06},
                                  {0.001, 30.0, 0.9992087357664851},  {2.5, 200.0, 0.013223172641700783}};
    static const double T[][3] = {{0.05, 4.0, 2.7764451051977943},
                                  {0.05, 1.0, 12.706204736174705},
                                  {0.001, 9.0, 4.780912585931139},
                                  {0.32, 2.0, 1.3115784746777812}};
    for (size_t i = 0; i < KD_COUNTOF(P); i++) {
        near(kd_student_p(P[i][0], P[i][1]), P[i][2], 1e-12);
    }
    for (size_t i = 0; i < KD_COUNTOF(T); i++) {
        near(kd_student_t(T[i][0], T[i][1]), T[i][2], 1e-10);
    }
}

/* scipy.stats.ttest_1samp and its confidence_interval. */
static void test_paired_t(void **state)
{
    (void)state;
    const double five[] = {4.8, 3.0, -4.3, 3.5, -3.9}, three[] = {4.8, 10.9, 1.3}, same[] = {0.25, 0.25, 0.25};
    kd_interval v;
    double p;
    kd_paired_t(five, 5, 0.95, &v, &p);
    near(v.mean, 0.62, 1e-12);
    near(v.low, -4.7947086353290675, 1e-9);
    near(v.high, 6.034708635329068, 1e-9);
    near(p, 0.7664573815691815, 1e-12);
    kd_paired_t(three, 3, 0.9, &v, &p);
    near(v.low, -2.523764206903837, 1e-9);
    near(v.high, 13.857097540237163, 1e-9);
    near(p, 0.18077759177342956, 1e-12);
    kd_paired_t(same, 3, 0.95, &v, &p);
    near(v.low, 0.25, 0.0);
    near(p, 0.0, 0.0);
    kd_paired_t(same, 1, 0.95, &v, &p);
    assert_true(isnan(v.low) && isnan(v.high));
    near(p, 1.0, 0.0);
}

/* statsmodels.stats.multitest.multipletests(method="holm"). */
static void test_holm(void **state)
{
    (void)state;
    const double p[] = {0.01, 0.04, 0.03, 0.005, 0.9, 0.03}, want[] = {0.05, 0.12, 0.12, 0.03, 0.9, 0.12};
    const double large[] = {0.6, (double)NAN, 0.7, 0.02}, most[] = {1.0, 0.0, 1.0, 0.06};
    double got[6];
    assert_int_equal(kd_holm(p, 6, got, NULL), KD_OK);
    for (int i = 0; i < 6; i++) {
        near(got[i], want[i], 1e-15);
    }
    assert_int_equal(kd_holm(large, 4, got, NULL), KD_OK);
    for (int i = 0; i < 4; i++) {
        if (i == 1) {
            assert_true(isnan(got[i])); /* no test, and not counted */
        } else {
            near(got[i], most[i], 1e-15);
        }
    }
}

/* ---- studies --------------------------------------------------------------------------------- */

static const int ALL_WRONG[N] = {1, 2, 0, 1, 2, 0, 1, 2};

static void add(kd_study *s, size_t cell, int64_t seed, const int guess[N], bool two_persons)
{
    static const char *const TWO[N] = {"S003C001P003R001A001", "S003C001P003R001A002", "S003C001P003R001A003",
                                       "S003C002P003R001A001", "S003C002P004R001A002", "S003C002P004R001A003",
                                       "S003C003P004R001A001", "S003C003P004R001A002"};
    maker m;
    kd_report r;
    kd_err err = {0};
    make(&m, "student", s->cell[cell].label, seed, guess, seed % 2 == 0 ? 1 : 3);
    for (int i = 0; two_persons && i < N; i++) {
        for (int k = 0; k < N; k++) {
            m.ids[i] = m.ids[i] == IDS[k] ? TWO[k] : m.ids[i];
        }
    }
    m.r.config_hash = s->cell[cell].label;
    written(&m, "report_study.json", &r);
    ok(kd_study_add(s, cell, &r, &err), &err);
}

static void test_pairs(void **state)
{
    (void)state;
    static const char *const LABEL[] = {"ce", "kd", "same", "alone"};
    static const int BASE[] = {0, 0, 0, -1};
    kd_study s;
    kd_err err = {0};
    ok(kd_study_open(&s, LABEL, BASE, 4, &err), &err);
    s.name = "pairs";
    s.draws = 500;
    for (int64_t seed = 0; seed < 5; seed++) {
        add(&s, 0, seed, ALL_WRONG, false);
        add(&s, 2, seed, ALL_WRONG, false);
    }
    for (int64_t seed = 4; seed > 0; seed--) { /* another order, one seed without a partner */
        add(&s, 1, seed, STUDENT_C, false);
    }
    add(&s, 1, 7, ALL_WRONG, false);
    add(&s, 3, 0, STUDENT_A, false);
    ok(kd_study_measure(&s, &err), &err);
    const kd_study_pair *p = &s.cell[1].pair;
    assert_int_equal(p->n, 4);
    assert_int_equal(p->seed[0], 4);
    near(p->by_seed.mean, 1.0, 0.0);
    near(p->by_clip.low, 1.0, 0.0); /* every clip of every pair differs by one */
    near(p->p_clip, 2.0 / 256.0, 1e-12);
    near(p->p, 2.0 / 256.0, 1e-12);
    assert_int_equal(s.n_pairs, 2);
    near(p->adjusted, 4.0 / 256.0, 1e-12);
    assert_int_equal(p->verdict, KD_VERDICT_BETTER);
    assert_int_equal(s.cell[2].pair.verdict, KD_VERDICT_OPEN);
    near(s.cell[2].pair.p, 1.0, 0.0);
    assert_false(s.cell[0].pair.measured || s.cell[3].pair.measured);
    near(s.cell[1].figure[KD_STUDY_TOP1].mean, 0.8, 1e-12);
    char *table = kd_study_table(&s);
    assert_non_null(strstr(table, "| kd | ce | 4 | +100.0 (+100.0 to +100.0) |"));
    assert_non_null(strstr(table, "| better |"));
    kd_free(table);
    ok(kd_io_mkdirs("study", &err), &err);
    ok(kd_study_write(&s, "study", &err), &err);
    kd_study_free(&s);
}

/* Two persons: whatever the clips say, a coin a person cannot go below p = 0.5. */
static void test_persons(void **state)
{
    (void)state;
    static const char *const LABEL[] = {"ce", "kd"};
    static const int BASE[] = {0, 0};
    kd_study s;
    kd_err err = {0};
    ok(kd_study_open(&s, LABEL, BASE, 2, &err), &err);
    for (int64_t seed = 0; seed < 3; seed++) {
        add(&s, 0, seed, ALL_WRONG, true);
        add(&s, 1, seed, STUDENT_C, true);
    }
    ok(kd_study_measure(&s, &err), &err);
    assert_true(kd_study_by_person(&s));
    near(s.cell[1].pair.p_person, 0.5, 1e-12);
    near(s.cell[1].pair.p, 0.5, 1e-12);
    assert_int_equal(s.cell[1].pair.verdict, KD_VERDICT_OPEN);
    kd_study_free(&s);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const LABEL[] = {"ce"};
    static const int BASE[] = {0};
    kd_study s;
    maker m;
    kd_report r;
    kd_err err = {0};
    ok(kd_study_open(&s, LABEL, BASE, 1, &err), &err);
    assert_int_equal(kd_study_measure(&s, &err), KD_E_ARG);
    add(&s, 0, 0, STUDENT_A, false);
    err = (kd_err){0};
    make(&m, "student", "ce", 0, STUDENT_A, 1);
    written(&m, "report_study.json", &r);
    assert_int_equal(kd_study_add(&s, 0, &r, &err), KD_E_DATA);
    says(&err, "expected one run a seed, found another of seed 0");
    err = (kd_err){0};
    make(&m, "student", "ce", 1, STUDENT_A, 1);
    m.labels[2] = 0;
    written(&m, "report_study.json", &r);
    assert_int_equal(kd_study_add(&s, 0, &r, &err), KD_E_DATA);
    says(&err, "has label 2 in");
    kd_study_free(&s);
}

/* ---- folds ----------------------------------------------------------------------------------- */

static void test_pool(void **state)
{
    (void)state;
    maker m;
    kd_report part[2], all;
    kd_err err = {0};
    make(&m, "student", "ce", 3, STUDENT_A, 1); /* wrong: 0, 3 */
    m.r.config_hash = "c";
    m.r.n = 4;
    written(&m, "report_fold0.json", &part[0]);
    m.r.ids += 4;
    m.r.labels += 4;
    m.r.logits += 4 * K;
    written(&m, "report_fold1.json", &part[1]);
    ok(kd_report_pool(part, 2, "2 folds (a, b)", "report_pooled.json", &err), &err);
    ok(kd_report_read("report_pooled.json", &all, &err), &err);
    assert_int_equal(all.n, N);
    near(all.metrics.top1, 0.75, 1e-12);
    assert_string_equal(all.split, "2 folds (a, b)");
    assert_int_equal(all.seed, 3);
    assert_int_equal(strlen(all.config_hash), 64);
    kd_report_free(&all);
    kd_report_free(&part[1]);
    ok(kd_report_read("report_fold0.json", &part[1], &err), &err); /* the same samples again */
    assert_int_equal(kd_report_pool(part, 2, "2 folds", "report_pooled.json", &err), KD_E_DATA);
    says(&err, "occurs twice");
    err = (kd_err){0};
    part[1].seed = 4;
    assert_int_equal(kd_report_pool(part, 2, "2 folds", "report_pooled.json", &err), KD_E_DATA);
    says(&err, "another seed");
    kd_report_free(&part[0]);
    kd_report_free(&part[1]);
}

/* ---- plans ----------------------------------------------------------------------------------- */

static void put(const char *path, const char *text)
{
    kd_err err = {0};
    ok(kd_io_write_file(path, text, strlen(text), &err), &err);
}

static const char PLAN[] =
    "name: a study\n"
    "base: base.yaml\n"
    "recipe: {train.epochs: 7, train: {batch_size: 4}}\n"
    "axes:\n"
    "  student: {nano: {}, sfz: {student.name: sfz-nano}}\n"
    "  loss:\n"
    "    ce: {}\n"
    "    kd: {kd.store: 'rgb-<fold>-<seed>.zst', kd.weight: 0.25}\n"
    "    ls: {label_smoothing: 0.1}\n"
    "folds: {a: {data.split: {by: subject, train: [1, 2]}}, b: {data.split: {by: subject, train: [3]}}}\n"
    "seeds: [5, 9]\n"
    "baseline: {loss: ce}\n"
    "exclude: [{student: sfz, loss: ls}]\n";

static void test_plan(void **state)
{
    (void)state;
    kd_plan *p = NULL;
    kd_err err = {0};
    char label[KD_CFG_NAME];
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    put("plans_base.yaml", "kind: student\ndata: {root: x}\nstudent: {name: last-e3-nano}\ntrain: {epochs: 3}\n");
    ok(kd_io_mkdirs("plans", &err), &err);
    put("plans/base.yaml", "base: ../plans_base.yaml\n");
    put("plans/plan.yaml", PLAN);
    ok(kd_plan_load("plans/plan.yaml", &p, &err), &err);
    assert_int_equal(p->n_cells, 5);
    assert_int_equal(kd_plan_runs(p), 20);
    kd_plan_label(p, 4, label);
    assert_string_equal(label, "sfz kd");
    assert_int_equal(kd_plan_baseline(p, 4), 3);
    assert_int_equal(kd_plan_baseline(p, 3), 3);
    assert_int_equal(kd_plan_baseline(p, 2), 0);
    const kd_plan_run run = kd_plan_at(p, 19);
    char *path = kd_plan_path(p, run);
    assert_string_equal(path, "sfz_kd/b/seed-9");
    kd_free(path);
    ok(kd_plan_recipe(p, run, cfg, &err), &err);
    assert_string_equal(cfg->name, "sfz kd");
    assert_string_equal(cfg->student.name, "sfz-nano");
    assert_int_equal(cfg->train.seed, 9);
    assert_int_equal(cfg->train.epochs, 7);
    assert_int_equal(cfg->train.batch_size, 4);
    near(cfg->kd.weight, 0.25, 0.0);
    assert_int_equal(cfg->kd.store.n, 1);
    assert_non_null(strstr(cfg->kd.store.v[0], "rgb-b-9.zst"));
    assert_int_equal(cfg->data.split.train.n, 1);
    kd_plan_free(p);
    kd_free(cfg);
}

/* A plan that is refused: what is said. */
static void refused(const char *text, const char *part)
{
    kd_plan *p = NULL;
    kd_err err = {0};
    put("plans_bad.yaml", text);
    assert_int_equal(kd_plan_load("plans_bad.yaml", &p, &err), KD_E_CONFIG);
    says(&err, part);
    assert_null(p);
}

static void test_bad_plans(void **state)
{
    (void)state;
    kd_plan *p = NULL;
    kd_err err = {0};
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    refused("axes: {a: {x: {}}}\n", "expected the key seeds, found none");
    refused("seeds: [0]\n", "expected the key axes, found none");
    refused("axes: {a: {x: {}}}\nseeds: [0, 0]\n", "plans_bad.yaml:2:12: seeds: expected a list");
    refused("axes: {a: {x: {}}}\nseeds: [1.5]\n", "found 1.5");
    refused("axis: {a: {x: {}}}\nseeds: [0]\n", "axis: unknown key");
    refused("axes: {a: {x/y: {}}}\nseeds: [0]\n", "found 'x/y'");
    refused("axes: {seed: {x: {}}}\nseeds: [0]\n", "expected another name");
    refused("axes: {a: {x: 3}}\nseeds: [0]\n", "axes.a.x: expected a map of keys of a recipe");
    refused("axes: {a: {x: {train.seed: 3}}}\nseeds: [0]\n", "the plan gives it to every run");
    refused("axes: {a: {x: {}}}\nseeds: [0]\nbaseline: {b: x}\n", "expected the name of an axis, found 'b'");
    refused("axes: {a: {x: {}}}\nseeds: [0]\nbaseline: {a: y}\n", "expected a value of axis a, found y");
    refused("axes: {a: {x: {}}}\nseeds: [0]\nexclude: [{a: x}]\n", "found all excluded");
    put("plans_bad.yaml", "axes: {a: {x: {kd.store: 'b-<fold>.zst'}}}\nseeds: [0]\n");
    ok(kd_plan_load("plans_bad.yaml", &p, &err), &err);
    assert_int_equal(kd_plan_recipe(p, kd_plan_at(p, 0), cfg, &err), KD_E_CONFIG);
    says(&err, "cell x: ");
    says(&err, "<fold> of a plan with folds");
    kd_plan_free(p);
    kd_free(cfg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_student), cmocka_unit_test(test_paired_t), cmocka_unit_test(test_holm),
        cmocka_unit_test(test_pairs),   cmocka_unit_test(test_persons),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_pool),    cmocka_unit_test(test_plan),     cmocka_unit_test(test_bad_plans)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
