/* RandAugment: what a policy's text says and what it refuses, what clips draw, and that operations take pictures of any
 * size.  The bytes of every operation are compared by parity_golden. */
#include "teacher/clip/augment.h"

#include <math.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

static kd_rand_augment policy_of(const char *text)
{
    kd_rand_augment p;
    kd_err err = {0};
    if (kd_rand_augment_parse(text, &p, &err) != KD_OK) {
        fail_msg("%s: %s", text, err.msg);
    }
    return p;
}

static void texts_are_read(void **state)
{
    (void)state;
    kd_rand_augment p = policy_of("rand-m7-n4-mstd0.5-inc1");
    assert_true(p.magnitude == 7 && p.ops == 4 && p.std == 0.5 && p.increasing && !p.weighted);
    p = policy_of("rand-mstd1-w0"); /* timm's defaults: level 10, two operations */
    assert_true(p.magnitude == 10 && p.ops == 2 && p.std == 1.0 && !p.increasing && p.weighted);
    p = policy_of("rand");
    assert_true(p.magnitude == 10 && p.ops == 2 && p.std == 0.0 && !p.increasing && !p.weighted);
    assert_int_equal(policy_of("").ops, 0);
}

static void texts_are_refused(void **state)
{
    (void)state;
    static const char *const CASE[][2] = {{"augmix-m3", "found 'augmix-m3'"},
                                          {"random-m7", "found 'random-m7'"},
                                          {"rand-m7-p0.5", "found 'p0.5'"},
                                          {"rand-mmax10", "found 'mmax10'"},
                                          {"rand-m7-", "found ''"},
                                          {"rand--m7", "found ''"},
                                          {"rand-m", "m (level)"},
                                          {"rand-m7.5", "a whole number from 0 to 10, found 'm7.5'"},
                                          {"rand-m11", "from 0 to 10, found 'm11'"},
                                          {"rand-n0", "n (number of operations)"},
                                          {"rand-mstd0.5x", "found 'mstd0.5x'"},
                                          {"rand-mstd0x1", "found 'mstd0x1'"},
                                          {"rand-inc0", "found 'inc0'; leave the part out"},
                                          {"rand-w1", "found 'w1'"},
                                          {"rand-w0-n14", "among 13 operations, found n14"},
                                          {"rand-m7-m8", "m is there twice, the second time as 'm8'"}};
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        kd_rand_augment p;
        kd_err err = {0};
        assert_int_equal(kd_rand_augment_parse(CASE[i][0], &p, &err), KD_E_CONFIG);
        if (strncmp(err.msg, "video.rand_augment: ", 20) != 0 || strstr(err.msg, CASE[i][1]) == NULL) {
            fail_msg("%s: no '%s' in '%s'", CASE[i][0], CASE[i][1], err.msg);
        }
    }
}

/* Every operation as often as the others, half of them left out, both directions, levels around m. */
static void clips_draw_by_the_policy(void **state)
{
    (void)state;
    enum { N = 4000 };
    const kd_rand_augment p = policy_of("rand-m7-n4-mstd0.5-inc1");
    int seen[KD_AUGMENT_OPS] = {0}, applied = 0, negative = 0, twice = 0;
    double sum = 0.0, squares = 0.0;
    for (uint32_t draw = 0; draw < N; draw++) {
        kd_rng rng = kd_rng_make(1, KD_RNG_TEST, 8, draw);
        kd_augment_plan plan;
        kd_augment_draw(&p, &rng, &plan);
        assert_true(plan.n <= 4);
        applied += plan.n;
        twice += plan.n >= 2 && plan.step[0].op == plan.step[1].op;
        for (int k = 0; k < plan.n; k++) {
            seen[plan.step[k].op]++;
            if (plan.step[k].op == KD_AUGMENT_ROTATE) {
                const double level = fabs(plan.step[k].arg) / 3.0;
                assert_true(level >= 0.0 && level <= 10.0);
                negative += plan.step[k].arg < 0.0;
                sum += level;
                squares += level * level;
            }
        }
    }
    assert_true(applied > 2 * N - 130 && applied < 2 * N + 130); /* 4 standard deviations of 32 */
    for (int op = 0; op < KD_AUGMENT_OPS; op++) {
        assert_true(seen[op] > 440 && seen[op] < 630); /* 533 expected */
    }
    const double n = seen[KD_AUGMENT_ROTATE], mean = sum / n;
    assert_true(negative > 0.4 * n && negative < 0.6 * n);
    assert_true(fabs(mean - 7.0) < 0.1 && fabs(sqrt(squares / n - mean * mean) - 0.5) < 0.08);
    assert_true(twice > 60); /* with replacement */
}

/* By weight and without replacement: rotation most often, Posterize and Invert never. */
static void weights_choose(void **state)
{
    (void)state;
    enum { N = 4000 };
    const kd_rand_augment p = policy_of("rand-m9-n13-w0"), one = policy_of("rand-m9-n1-w0");
    int seen[KD_AUGMENT_OPS] = {0};
    for (uint32_t draw = 0; draw < N; draw++) {
        kd_rng rng = kd_rng_make(2, KD_RNG_TEST, 8, draw);
        kd_augment_plan plan;
        bool taken[KD_AUGMENT_OPS] = {false};
        kd_augment_draw(&p, &rng, &plan);
        for (int k = 0; k < plan.n; k++) {
            assert_false(taken[plan.step[k].op]);
            taken[plan.step[k].op] = true;
        }
        kd_augment_draw(&one, &rng, &plan);
        seen[plan.step[0].op] += plan.n;
    }
    assert_int_equal(seen[KD_AUGMENT_POSTERIZE] + seen[KD_AUGMENT_INVERT], 0);
    assert_true(seen[KD_AUGMENT_ROTATE] > 510 && seen[KD_AUGMENT_ROTATE] < 690); /* 0.3 of half of N */
    assert_true(seen[KD_AUGMENT_SHEAR_X] > 320 && seen[KD_AUGMENT_SHEAR_X] < 480);
    assert_true(seen[KD_AUGMENT_SOLARIZE] < 30);
}

/* Arguments that change nothing give the picture back, whatever its size; one of a single colour stays one. */
static void plain_pictures_stay(void **state)
{
    (void)state;
    static const double KEEP[KD_AUGMENT_OPS] = {
        [KD_AUGMENT_POSTERIZE] = 8, [KD_AUGMENT_SOLARIZE] = 256, [KD_AUGMENT_COLOR] = 1,
        [KD_AUGMENT_CONTRAST] = 1,  [KD_AUGMENT_BRIGHTNESS] = 1, [KD_AUGMENT_SHARPNESS] = 1};
    uint8_t in[5 * 4 * 3], out[5 * 4 * 3];
    for (int w = 1; w <= 5; w++) {
        for (int h = 1; h <= 4; h++) {
            const size_t n = (size_t)(w * h) * 3;
            for (size_t i = 0; i < n; i++) {
                in[i] = (uint8_t)kd_rng_at(1, KD_RNG_TEST, 9, (uint32_t)n, i);
            }
            for (int op = 0; op < KD_AUGMENT_OPS; op++) {
                const kd_augment_step s = {.op = (kd_augment_op)op, .arg = KEEP[op]};
                if (op == KD_AUGMENT_AUTO_CONTRAST || op == KD_AUGMENT_EQUALIZE || op == KD_AUGMENT_INVERT) {
                    memset(in, 77, n);
                }
                kd_augment_apply(&s, w % 2 != 0 ? KD_WARP_BICUBIC : KD_WARP_BILINEAR, in, w, h, out);
                for (size_t i = 0; i < n; i++) {
                    assert_int_equal(out[i], op == KD_AUGMENT_INVERT ? 255 - 77 : in[i]);
                }
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_are_read), cmocka_unit_test(texts_are_refused),
                                       cmocka_unit_test(clips_draw_by_the_policy), cmocka_unit_test(weights_choose),
                                       cmocka_unit_test(plain_pictures_stay)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
