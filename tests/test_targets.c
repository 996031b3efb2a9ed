/* Soft targets and mixup pairs: timm's numbers, pairs that are pairs, invalid rows. */
#include "distill/targets.h"
#include "formats/safetensors.h"

#include <math.h>
#include <stdio.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

static void targets_are_timms(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_st_file *f = NULL;
    if (kd_st_open(KD_GOLDEN_DIR "/videomae/mixup_targets.safetensors", &f, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    const int32_t *labels = (const int32_t *)(const void *)kd_st_find(f, "labels")->data;
    static const struct {
        const char *name;
        float lam;
    } CASE[] = {{"lam0.3", 0.3f}, {"lam1", 1.0f}};
    for (int i = 0; i < 2; i++) {
        const float *want = (const float *)(const void *)kd_st_find(f, CASE[i].name)->data;
        const int32_t perm[4] = {3, 2, 1, 0};
        const float lam[4] = {CASE[i].lam, CASE[i].lam, CASE[i].lam, CASE[i].lam};
        float got[20];
        kd_targets(labels, NULL, 4, 5, 0.1, perm, lam, got);
        for (int k = 0; k < 20; k++) {
            if (!(fabsf(got[k] - want[k]) <= 1e-6f)) {
                fail_msg("%s[%d]: %.9g, timm has %.9g", CASE[i].name, k, (double)got[k],
                         (double)want[k]);
            }
        }
        if (i == 1) {
            kd_targets(labels, NULL, 4, 5, 0.1, NULL, NULL, got); /* the same rule without pairs */
            for (int k = 0; k < 20; k++) {
                assert_true(fabsf(got[k] - want[k]) <= 1e-6f);
            }
        }
    }
    kd_st_close(f);
}

static void pairs(void **state)
{
    (void)state;
    enum { B = 10 };
    int32_t perm[B], again[B];
    float lam[B];
    kd_cfg_mixup cfg = {.alpha = 0.8, .prob = 1.0, .partner = KD_PARTNER_FLIP};
    double mean = 0.0;
    for (uint32_t batch = 0; batch < 300; batch++) {
        cfg.partner = batch % 2 == 0 ? KD_PARTNER_FLIP : KD_PARTNER_PERMUTE;
        const float l = kd_mix_draw(&cfg, 3, 1, batch, B, NULL, perm, lam);
        assert_true(l >= 0.0f && l <= 1.0f);
        mean += (double)l / 300.0;
        bool seen[B] = {false};
        for (int i = 0; i < B; i++) {
            assert_true(lam[i] == l && perm[i] >= 0 && perm[i] < B && !seen[perm[i]]);
            seen[perm[i]] = true;
            if (cfg.partner == KD_PARTNER_FLIP) assert_int_equal(perm[i], B - 1 - i);
        }
        assert_true(kd_mix_draw(&cfg, 3, 1, batch, B, NULL, again, lam) == l);
        assert_memory_equal(perm, again, sizeof perm);
    }
    assert_true(mean > 0.42 && mean < 0.58);
    cfg.prob = 0.25;
    int mixed = 0;
    for (uint32_t batch = 0; batch < 400; batch++) {
        mixed += kd_mix_draw(&cfg, 3, 1, batch, B, NULL, perm, lam) < 1.0f;
    }
    assert_true(mixed > 60 && mixed < 140);
    cfg.alpha = 0.0;
    assert_true(kd_mix_draw(&cfg, 3, 1, 0, B, NULL, perm, lam) == 1.0f);
    assert_true(perm[3] == 3 && lam[3] == 1.0f);
}

static void invalid_rows_stay_out(void **state)
{
    (void)state;
    const kd_cfg_mixup cfg = {.alpha = 1.0, .prob = 1.0, .partner = KD_PARTNER_FLIP};
    const float valid[4] = {1, 1, 1, 0}, nan_row[8] = {1, 2, 3, 4, 5, 6, NAN, NAN};
    const int32_t label[4] = {0, 1, 2, 0};
    int32_t perm[4];
    float lam[4], target[12], mixed[8];
    const float l = kd_mix_draw(&cfg, 1, 0, 0, 4, valid, perm, lam);
    assert_true(l < 1.0f);
    assert_true(perm[0] == 0 && lam[0] == 1.0f && perm[3] == 3);
    assert_true(perm[1] == 2 && perm[2] == 1 && lam[1] == l);
    kd_targets(label, valid, 4, 3, 0.0, perm, lam, target);
    assert_true(target[0] == 1.0f && target[9] == 0.0f && target[10] == 0.0f);
    assert_true(fabsf(target[4] - l) <= 1e-6f && fabsf(target[5] - (1.0f - l)) <= 1e-6f);
    kd_mix_rows(nan_row, 4, 2, perm, lam, mixed);
    assert_true(mixed[0] == 1.0f && mixed[1] == 2.0f);
    assert_true(fabsf(mixed[2] - (3.0f * l + 5.0f * (1.0f - l))) <= 1e-5f);
    assert_true(fabsf(mixed[5] - (6.0f * l + 4.0f * (1.0f - l))) <= 1e-5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(targets_are_timms), cmocka_unit_test(pairs),
                                       cmocka_unit_test(invalid_rows_stay_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
