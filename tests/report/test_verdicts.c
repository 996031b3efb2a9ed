/* Comparisons: verdicts, persons, the teacher that taught, the half a checkpoint was chosen on, learning curves. */
/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
/* clang-format on */

#include "tests/report/made_reports.h"

#define OUT KD_BUILD_DIR "/tests/verdicts-out"

static int set_up(void **state)
{
    (void)state;
    kd_err err = {0};
    ok(kd_io_remove_tree(OUT, &err), &err);
    ok(kd_io_mkdirs(OUT, &err), &err);
    return 0;
}

/* ---- verdicts, persons, teachers ------------------------------------------------------------- */

enum { MOST = 8 };

typedef struct set {
    maker m[MOST];
    kd_report r[MOST];
    const kd_report *list[MOST];
    int n;
    kd_comparison c;
} set;

static maker *add(set *s, const char *label, int64_t seed, const int guess[N])
{
    make(&s->m[s->n], s->n == 0 ? "teacher" : "student", label, seed, guess, 1);
    return &s->m[s->n++];
}

static kd_status compare_set(set *s, bool any_teacher, kd_err *err)
{
    const kd_compare_opts opts = {200, 0.9, 0, NULL, any_teacher};
    for (int i = 0; i < s->n; i++) {
        char path[256];
        (void)snprintf(path, sizeof path, OUT "/s%d.json", i);
        written(&s->m[i], path, &s->r[i]);
        s->list[i] = &s->r[i];
    }
    return kd_compare(s->list, (size_t)s->n, &opts, &s->c, err);
}

static void end_set(set *s)
{
    kd_comparison_free(&s->c);
    for (int i = 0; i < s->n; i++) {
        kd_report_free(&s->r[i]);
    }
    s->n = 0;
}

static bool warned(const kd_comparison *c, const char *part)
{
    for (size_t i = 0; i < c->n_warnings; i++) {
        if (strstr(c->warning[i], part) != NULL) {
            return true;
        }
    }
    return false;
}

static void verdict_says(const kd_comparison *c, const char *part)
{
    char *text = kd_compare_verdict(c);
    assert_non_null(text);
    if (strstr(text, part) == NULL) {
        fail_msg("the verdict '%s' does not say '%s'", text, part);
    }
    kd_free(text);
}

static const int ALL_WRONG[N] = {1, 2, 0, 1, 2, 0, 1, 2};
static const char *const WEIGHTS[MOST] = {"w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7"};

/* A student that is right everywhere against one that is right nowhere: the figures are clear, the seeds too few. */
static void test_verdicts(void **state)
{
    (void)state;
    set *s = kd_calloc(1, sizeof *s);
    kd_err err = {0};
    assert_non_null(s);
    for (int seeds = 1; seeds <= 3; seeds++) {
        add(s, "T", 0, TEACHER);
        for (int i = 0; i < 2 * seeds; i++) {
            add(s, i < seeds ? "bad" : "good", i % seeds, i < seeds ? ALL_WRONG : STUDENT_C)->r.weights_hash =
                WEIGHTS[i];
        }
        ok(compare_set(s, false, &err), &err);
        assert_int_equal(s->c.group[2].n_seeds, seeds);
        assert_int_equal(s->c.group[2].verdict, seeds < 3 ? KD_VERDICT_FEW_SEEDS : KD_VERDICT_BETTER);
        verdict_says(&s->c, seeds == 1   ? "no verdict, 1 seed of bad (2 missing) and 1 seed of good (2 missing)"
                            : seeds == 2 ? "no verdict, 2 seeds of bad (1 missing)"
                                         : ": better.");
        end_set(s);
    }
    for (int same = 0; same < 2; same++) { /* three reports of one run are one seed */
        add(s, "T", 0, TEACHER);
        for (int i = 0; i < 6; i++) {
            add(s, i < 3 ? "bad" : "good", i < 3 || same == 1 ? i % 3 : 0, i < 3 ? ALL_WRONG : STUDENT_C)
                ->r.weights_hash = WEIGHTS[i < 3 || same == 0 ? i : 3];
        }
        ok(compare_set(s, false, &err), &err);
        assert_int_equal(s->c.group[2].n_seeds, 1);
        assert_int_equal(s->c.group[2].verdict, KD_VERDICT_FEW_SEEDS);
        end_set(s);
    }
    add(s, "T", 0, TEACHER); /* one label, two recipes */
    for (int i = 0; i < 6; i++) {
        add(s, i < 3 ? "bad" : "good", i % 3, i < 3 ? ALL_WRONG : STUDENT_C)->r.config_hash = i == 5 ? "x" : "y";
    }
    ok(compare_set(s, false, &err), &err);
    assert_int_equal(s->c.group[2].verdict, KD_VERDICT_MIXED_RECIPES);
    verdict_says(&s->c, "the runs of good are of several recipes");
    end_set(s);
    kd_free(s);
}

/* Ids of 8 samples by persons 1 and 2 (four each), cameras 1 to 4; of one person; of nobody. */
static void test_persons(void **state)
{
    (void)state;
    static const char *const FORM[] = {"S001C%03dP%03dR001A001", "v_Clap_c%02d_g%02d", "v%02d_a01_s%02d_e01",
                                       "box_d%d_person%02d", "clip-%d-%d"};
    static const int LUCK[N] = {0, 1, 2, 0, 2, 0, 1, 2}; /* the first four right, the others wrong */
    char text[N][32];
    set *s = kd_calloc(1, sizeof *s);
    kd_err err = {0};
    assert_non_null(s);
    for (size_t form = 0; form < KD_COUNTOF(FORM); form++) {
        for (int persons = 1; persons <= 2; persons++) {
            for (int i = 0; i < N; i++) {
                (void)snprintf(text[i], sizeof text[i], FORM[form], 1 + i, 1 + i * persons / N);
            }
            for (int k = 0; k < 2; k++) {
                maker *m = add(s, k == 0 ? "T" : "A", 0, k == 0 ? LUCK : STUDENT_C);
                for (int i = 0; i < N; i++) {
                    m->ids[i] = text[i];
                }
            }
            ok(compare_set(s, false, &err), &err);
            const kd_factor *f = &s->c.factor[KD_FACTOR_PERSON];
            const bool named = form < 4;
            assert_int_equal(f->n, named ? persons : 0);
            assert_int_equal(s->c.factor[KD_FACTOR_CAMERA].n, form == 0 || form == 2 ? N : 0);
            assert_true(warned(&s->c, !named ? "do not name persons" : persons == 1 ? "one person" : "Only 2 persons"));
            if (named && persons == 2) {
                assert_string_equal(f->name[0], "P001");
                near(s->c.group[0].by_factor[KD_FACTOR_PERSON][0], 1.0, 1e-12);
                near(s->c.group[0].by_factor[KD_FACTOR_PERSON][1], 0.0, 1e-12);
                near(s->c.group[0].top1_person.low, 0.0, 0.0); /* either person twice */
                near(s->c.group[0].top1_person.high, 1.0, 0.0);
                near(s->c.group[1].mcnemar, 0.125, 1e-12);      /* 0 against 4 */
                near(s->c.group[1].mcnemar_person, 1.0, 1e-12); /* one person decides */
            } else {
                assert_true(isnan(s->c.group[1].mcnemar_person));
            }
            end_set(s);
        }
    }
    kd_free(s);
}

static void test_teachers(void **state)
{
    (void)state;
    set *s = kd_calloc(1, sizeof *s);
    kd_err err = {0};
    assert_non_null(s);
    for (int run = 0; run < 4; run++) {
        add(s, "T", 0, TEACHER)->r.weights_hash = run == 2 ? NULL : "aaaa1111aaaa1111";
        add(s, "A", 0, STUDENT_A)->r.teacher_weights_hash = run == 3 ? "aaaa1111aaaa1111" : "bbbb2222bbbb2222";
        const kd_status st = compare_set(s, run == 1, &err);
        if (run == 0) {
            assert_int_equal(st, KD_E_INTEGRITY);
            says(&err, "bbbb2222bbbb");
            says(&err, "aaaa1111aaaa");
            says(&err, "--any-teacher");
            err = (kd_err){0};
        } else {
            ok(st, &err);
            assert_int_equal(warned(&s->c, "taught by other weights (bbbb2222bbbb)"), run == 1);
            assert_int_equal(warned(&s->c, "cannot be checked"), run == 2);
        }
        end_set(s);
    }
    kd_free(s);
}

/* Weights chosen by the half that is reported. */
static void test_chosen(void **state)
{
    (void)state;
    set *s = kd_calloc(1, sizeof *s);
    kd_err err = {0};
    assert_non_null(s);
    add(s, "T", 0, TEACHER)->r.selected_on = "val";
    add(s, "A", 0, STUDENT_A)->r.selected_on = "train";
    ok(compare_set(s, false, &err), &err);
    assert_string_equal(s->r[0].selected_on, "val");
    assert_true(warned(&s->c, "T: in 1 of 1 runs the epoch was chosen"));
    assert_false(warned(&s->c, "A: in 1 of 1"));
    end_set(s);
    kd_free(s);
}

static void test_curves(void **state)
{
    (void)state;
    static const char LOG[] =
        "{\"type\":\"train\",\"epoch\":0,\"step\":1,\"loss\":3.0,\"loss_ce\":1.0,\"loss_kd\":8.0}\n"
        "{\"type\":\"train\",\"epoch\":0,\"step\":2,\"loss\":3.0,\"loss_ce\":2.0,\"loss_kd\":4.0}\n"
        "{\"type\":\"epoch\",\"epoch\":0,\"train_loss\":2.5}\n"
        "{\"type\":\"epoch\",\"epoch\":1,\"train_loss\":1.5}\n"
        "{\"type\":\"val\",\"epoch\":1,\"top1\":0.75}\n"
        "{\"type\":\"train\",\"epoch\":2,\"step\":5,\"loss\":3.0,\"loss_ce\":9.0}\n";
    set *s = kd_calloc(1, sizeof *s);
    kd_err err = {0};
    assert_non_null(s);
    for (int run = 0; run < 3; run++) { /* no log; a log; a damaged one */
        add(s, "T", 0, TEACHER);
        add(s, "A", 0, STUDENT_A);
        ok(compare_set(s, false, &err), &err);
        if (run > 0) {
            ok(kd_io_write_file(OUT "/log.jsonl", LOG, sizeof LOG - (run == 1 ? 1 : 8), &err), &err);
        }
        ok(kd_compare_curves(&s->c, &err), &err);
        const kd_curve *v = &s->c.curve[1];
        assert_int_equal(v->n, run == 1 ? 2 : 0);
        if (run == 1) {
            near(v->train_loss[1], 1.5, 0.0);
            assert_true(isnan(v->val_top1[0]));
            near(v->val_top1[1], 0.75, 0.0);
            assert_int_equal(v->n_terms, 2);
            assert_string_equal(v->term[1].name, "loss_kd");
            near(v->term[1].value[0], 6.0, 1e-12);
        }
        assert_int_equal(warned(&s->c, "log.jsonl: line 6"), run == 2);
        end_set(s);
    }
    ok(kd_io_remove_tree(OUT "/log.jsonl", &err), &err);
    kd_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts), cmocka_unit_test(test_persons), cmocka_unit_test(test_teachers),
        cmocka_unit_test(test_chosen),   cmocka_unit_test(test_curves),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
