/* Several stores as one teacher: probabilities against those of PyTorch (golden/terms/combine.json, in f64). */
#include "configs/schema/kd_config.h"
#include "distill/kd/teacher_table.h"
#include "formats/base/json.h"
#include "tools/parity/parity_gen.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { B = 6, K = 11, S = 3 };

static uint8_t has[S][B] = {{1, 1, 0, 1, 1, 0}, {1, 1, 1, 0, 1, 1}, {1, 1, 1, 0, 1, 0}};
static float logits[S][B * K];
static kd_teacher_table table[S];

static int make(void **state)
{
    (void)state;
    for (int s = 0; s < S; s++) {
        char name[16];
        (void)snprintf(name, sizeof name, "store.%d", s);
        const uint32_t crc = kd_crc32(name, strlen(name));
        for (int i = 0; i < B * K; i++) {
            logits[s][i] = (float)(kd_parity_gen_unit(crc, (uint32_t)i) * (float)(2 + s));
        }
        table[s] = (kd_teacher_table){.n = B, .n_classes = K, .views = 1, .has = has[s], .logits = logits[s]};
    }
    return 0;
}

static double number(const kd_json *list, size_t i)
{
    double v = NAN;
    assert_int_equal(kd_json_as_f64(kd_json_at(list, i), &v, NULL), KD_OK);
    return v;
}

static void one_case(const kd_json *c)
{
    const char *how = "";
    char name[KD_CFG_NAME];
    double temperature = NAN, weight[S], work[2 * K], p[K];
    kd_combine value = KD_COMBINE_EACH;
    assert_int_equal(kd_json_get_str(c, "how", &how, NULL), KD_OK);
    assert_int_equal(kd_json_get_f64(c, "temperature", &temperature, NULL), KD_OK);
    while (strcmp(kd_config_enum_name("kd.combine", (int)value, name), how) != 0) {
        assert_string_not_equal(name, "?");
        value++;
    }
    for (size_t s = 0; s < S; s++) {
        weight[s] = number(kd_json_get(c, "weights"), s);
    }
    const kd_teachers all = {.table = table, .n = S, .how = value, .weight = weight, .work = work};
    for (size_t b = 0; b < B; b++) {
        const int label = (int)number(kd_json_get(c, "labels"), b);
        assert_true(kd_teachers_answer(&all, b, 0, label, temperature, p));
        for (size_t k = 0; k < K; k++) {
            const double want = number(kd_json_get(c, "p"), b * K + k);
            if (!(fabs(p[k] - want) <= 1e-14)) {
                fail_msg("%s at T = %g: sample %zu, class %zu: %.17g, golden %.17g", how, temperature, b, k, p[k],
                         want);
            }
        }
    }
}

static void answers_as_pytorch(void **state)
{
    (void)state;
    kd_json *doc = NULL;
    kd_err err = {0};
    assert_int_equal(kd_json_load(KD_GOLDEN_DIR "/terms/combine.json", &doc, &err), KD_OK);
    assert_int_equal(kd_json_count(doc), 5);
    for (size_t i = 0; i < kd_json_count(doc); i++) {
        one_case(kd_json_at(doc, i));
    }
    kd_json_free(doc);
}

/* A sample that no store has a record of has no answer; an answer without weights is that with equal ones. */
static void absent_samples(void **state)
{
    (void)state;
    const double equal[S] = {2.0, 2.0, 2.0};
    double work[2 * K], p[K], q[K];
    kd_teachers all = {.table = table, .n = 1, .how = KD_COMBINE_AVERAGE, .work = work};
    assert_false(kd_teachers_answer(&all, 2, 0, 0, 1.0, p));
    all.n = S;
    assert_true(kd_teachers_answer(&all, 2, 0, 0, 1.0, p));
    all.weight = equal;
    assert_true(kd_teachers_answer(&all, 2, 0, 0, 1.0, q));
    assert_memory_equal(p, q, sizeof p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers_as_pytorch), cmocka_unit_test(absent_samples)};
    return cmocka_run_group_tests(tests, make, NULL);
}
