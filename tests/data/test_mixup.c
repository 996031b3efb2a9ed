/* Soft targets and mixed pairs: timm's numbers, pairs that are pairs, boxes, invalid rows. */
#include "distill/batch/mixup.h"
#include "formats/base/json.h"
#include "formats/weights/safetensors.h"
#include "kernels/kd_backend.h"

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
                fail_msg("%s[%d]: %.9g, timm has %.9g", CASE[i].name, k, (double)got[k], (double)want[k]);
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
    int32_t perm[B], again[B], cut[4 * B];
    float lam[B], lam2[B];
    kd_mix m = {.perm = perm, .lam = lam, .cut = cut}, m2 = {.perm = again, .lam = lam2, .cut = cut};
    kd_mixup_opts cfg = {.alpha = 0.8, .prob = 1.0, .partner = KD_PARTNER_FLIP};
    double mean = 0.0;
    for (uint32_t batch = 0; batch < 300; batch++) {
        cfg.partner = batch % 2 == 0 ? KD_PARTNER_FLIP : KD_PARTNER_PERMUTE;
        kd_mix_draw(&cfg, 3, 1, batch, B, NULL, 0, &m);
        const float l = lam[0];
        assert_true(l >= 0.0f && l < 1.0f);
        mean += (double)l / 300.0;
        bool seen[B] = {false};
        for (int i = 0; i < B; i++) {
            assert_true(lam[i] == l && perm[i] >= 0 && perm[i] < B && !seen[perm[i]]);
            seen[perm[i]] = true;
            if (cfg.partner == KD_PARTNER_FLIP) {
                assert_int_equal(perm[i], B - 1 - i);
            }
        }
        kd_mix_draw(&cfg, 3, 1, batch, B, NULL, 0, &m2);
        assert_memory_equal(perm, again, sizeof perm);
        assert_memory_equal(lam, lam2, sizeof lam);
    }
    assert_true(mean > 0.42 && mean < 0.58);
    cfg.prob = 0.25;
    int mixed = 0;
    for (uint32_t batch = 0; batch < 400; batch++) {
        kd_mix_draw(&cfg, 3, 1, batch, B, NULL, 0, &m);
        mixed += lam[0] < 1.0f;
    }
    assert_true(mixed > 60 && mixed < 140);
    cfg.alpha = 0.0;
    kd_mix_draw(&cfg, 3, 1, 0, B, NULL, 0, &m);
    assert_true(perm[3] == 3 && lam[3] == 1.0f);
}

static void invalid_rows_stay_out(void **state)
{
    (void)state;
    const kd_mixup_opts cfg = {.alpha = 1.0, .prob = 1.0, .partner = KD_PARTNER_FLIP};
    const float valid[4] = {1, 1, 1, 0}, nan_row[8] = {1, 2, 3, 4, 5, 6, NAN, NAN};
    const int32_t label[4] = {0, 1, 2, 0};
    int32_t perm[4], cut[16];
    float lam[4], target[12], mixed[8];
    kd_mix m = {.perm = perm, .lam = lam, .cut = cut};
    kd_mix_draw(&cfg, 1, 0, 0, 4, valid, 0, &m);
    const float l = lam[1];
    assert_true(l < 1.0f);
    assert_true(perm[0] == 0 && lam[0] == 1.0f && perm[3] == 3);
    assert_true(perm[1] == 2 && perm[2] == 1 && lam[1] == l);
    kd_targets(label, valid, 4, 3, 0.0, perm, lam, target);
    assert_true(target[0] == 1.0f && target[9] == 0.0f && target[10] == 0.0f);
    assert_true(fabsf(target[4] - l) <= 1e-6f && fabsf(target[5] - (1.0f - l)) <= 1e-6f);
    const float kind[4] = {2, 1, 2, 2}; /* the second row has no label, and neither is it mixed with one that has */
    const int32_t bare[4] = {0, -1, 2, 0};
    float own[12];
    int32_t perm2[4];
    float lam2[4];
    kd_mix m2 = {.perm = perm2, .lam = lam2, .cut = cut};
    kd_mix_draw(&cfg, 1, 0, 0, 4, kind, 0, &m2);
    assert_true(perm2[1] == 1 && lam2[1] == 1.0f && perm2[2] == 2 && lam2[2] == 1.0f);
    assert_true(perm2[0] == 3 && perm2[3] == 0 && lam2[0] == l && lam2[3] == l);
    kd_targets(bare, kind, 4, 3, 0.1, perm2, lam2, own);
    assert_true(own[3] == 0.0f && own[4] == 0.0f && own[5] == 0.0f && own[0] > 0.9f && own[8] > 0.9f);
    kd_mix_rows(nan_row, 4, 2, perm, lam, mixed);
    assert_true(mixed[0] == 1.0f && mixed[1] == 2.0f);
    assert_true(fabsf(mixed[2] - (3.0f * l + 5.0f * (1.0f - l))) <= 1e-5f);
    assert_true(fabsf(mixed[5] - (6.0f * l + 4.0f * (1.0f - l))) <= 1e-5f);
}

/* ---- CutMix ---------------------------------------------------------------------------------- */

/* timm's rand_bbox, by hand: sides int(H sqrt(1 - lam)), half of each (rounded down) both ways from the centre, cut off
 * at the edges; lambda is what is left. */
static void cut_boxes_are_timms(void **state)
{
    (void)state;
    static const struct {
        int h, w, cy, cx;
        double lam;
        int32_t box[4];
    } CASE[] = {
        {32, 32, 16, 16, 0.75, {8, 8, 16, 16}},    /* sides of 16 */
        {32, 32, 0, 31, 0.75, {0, 23, 8, 9}},      /* off the top and the right edge */
        {30, 30, 15, 15, 0.75, {8, 8, 14, 14}},    /* sides of 15 lose a pixel */
        {20, 40, 3, 39, 0.36, {0, 23, 11, 17}},    /* 0.8: sides of 16 and 32 */
        {224, 224, 100, 7, 0.0, {0, 0, 212, 119}}, /* all of it, round the centre */
        {32, 32, 5, 5, 1.0, {5, 5, 0, 0}},         /* nothing */
        {32, 32, 5, 5, 0.999, {5, 5, 0, 0}},       /* a side of 1 loses its pixel */
    };
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        int32_t box[4];
        const double left = kd_cut_box(CASE[i].h, CASE[i].w, CASE[i].lam, CASE[i].cy, CASE[i].cx, box);
        for (int k = 0; k < 4; k++) {
            if (box[k] != CASE[i].box[k]) {
                fail_msg("case %zu, number %d: %d, expected %d", i, k, box[k], CASE[i].box[k]);
            }
        }
        const double area = (double)CASE[i].box[2] * (double)CASE[i].box[3];
        assert_true(left == 1.0 - area / ((double)CASE[i].h * (double)CASE[i].w));
    }
}

/* Boxes lie inside, lambda is the share that is left, centres are everywhere, and the switch is kept to. */
static void cutmix_is_drawn(void **state)
{
    (void)state;
    enum { B = 4, N = 1500, SIDE = 33 };
    int32_t perm[B], cut[4 * B];
    float lam[B];
    kd_mix m = {.perm = perm, .lam = lam, .cut = cut};
    kd_mixup_opts cfg = {
        .alpha = 0.8, .cutmix_alpha = 1.0, .switch_prob = 0.25, .prob = 1.0, .partner = KD_PARTNER_FLIP};
    kd_mixup_opts plain = cfg;
    plain.cutmix_alpha = 0.0;
    int cuts = 0, edges[4] = {0};
    double mean = 0.0;
    for (uint32_t batch = 0; batch < N; batch++) {
        kd_mix_draw(&plain, 3, 1, batch, B, NULL, SIDE, &m);
        const float before = lam[0];
        kd_mix_draw(&cfg, 3, 1, batch, B, NULL, SIDE, &m);
        const float l = lam[0];
        assert_true(perm[0] == (l < 1.0f ? B - 1 : 0) && lam[B - 1] == l);
        assert_memory_equal(cut, cut + 4 * (B - 1), 4 * sizeof *cut);
        const int32_t *box = cut;
        if (box[2] == 0 || box[3] == 0) { /* mixup, its lambda where it was before there was CutMix; or an empty box */
            assert_true(l == before || l == 1.0f);
            continue;
        }
        cuts++;
        assert_true(box[0] >= 0 && box[1] >= 0 && box[2] > 0 && box[3] > 0 && box[0] + box[2] <= SIDE &&
                    box[1] + box[3] <= SIDE);
        assert_true(l == (float)(1.0 - (double)(box[2] * box[3]) / (double)(SIDE * SIDE)));
        edges[0] += box[0] == 0;
        edges[1] += box[1] == 0;
        edges[2] += box[0] + box[2] == SIDE;
        edges[3] += box[1] + box[3] == SIDE;
    }
    assert_true(cuts > N / 5 && cuts < N * 3 / 10);
    for (int k = 0; k < 4; k++) {
        assert_true(edges[k] > cuts / 6 && edges[k] < cuts * 3 / 5);
    }
    cfg.alpha = 0.0; /* alone: every batch, whatever the switch says */
    cfg.switch_prob = 0.0;
    cuts = 0;
    for (uint32_t batch = 0; batch < N; batch++) {
        kd_mix_draw(&cfg, 3, 1, batch, B, NULL, SIDE, &m);
        mean += (double)lam[0] / N;
        cuts += cut[2] > 0;
    }
    assert_true(cuts > N * 9 / 10);
    assert_true(mean > 0.6 && mean < 0.75); /* boxes lose what lies outside: more is left than half */
    const float valid[B] = {1, 0, 1, 1};
    kd_mix_draw(&cfg, 3, 1, 7, B, valid, SIDE, &m);
    assert_true(perm[1] == 1 && perm[2] == 2 && lam[2] == 1.0f && perm[0] == 3 && lam[0] < 1.0f);
    cfg.prob = 0.0;
    kd_mix_draw(&cfg, 3, 1, 0, B, NULL, SIDE, &m);
    assert_true(lam[0] == 1.0f && cut[2] == 0 && perm[0] == 0);
}

/* timm's modes elem and pair: every row (every pair of rows) is drawn by itself: mixed or not, mixup or CutMix, lambda,
 * box.  Partners of a pair share all of it. */
static void rows_are_drawn_by_themselves(void **state)
{
    (void)state;
    enum { B = 8, N = 600, SIDE = 32 };
    int32_t perm[B], cut[4 * B];
    float lam[B], valid[B] = {1, 1, 0, 1, 1, 1, 1, 1};
    kd_mix m = {.perm = perm, .lam = lam, .cut = cut};
    for (int mode = KD_MIXUP_ELEM; mode <= KD_MIXUP_PAIR; mode++) {
        const kd_mixup_opts cfg = {.alpha = 0.8,
                                   .cutmix_alpha = 1.0,
                                   .switch_prob = 0.5,
                                   .prob = 0.75,
                                   .mode = (kd_mixup_mode)mode,
                                   .partner = KD_PARTNER_FLIP};
        int mixed = 0, cuts = 0, alike = 0;
        for (uint32_t batch = 0; batch < N; batch++) {
            kd_mix_draw(&cfg, 3, 1, batch, B, NULL, SIDE, &m);
            for (int i = 0; i < B; i++) {
                const int32_t *box = cut + 4 * i, *other = cut + 4 * (B - 1 - i);
                const bool same = lam[i] == lam[B - 1 - i] && memcmp(box, other, 4 * sizeof *box) == 0;
                assert_true(perm[i] == (lam[i] < 1.0f ? B - 1 - i : i));
                assert_true(mode == KD_MIXUP_ELEM || same);
                mixed += lam[i] < 1.0f;
                cuts += box[2] > 0 && box[3] > 0;
                alike += lam[i] < 1.0f && (i > 0 && lam[i] == lam[i - 1] && i != B / 2);
                if (box[2] > 0 && box[3] > 0) {
                    assert_true(lam[i] == (float)(1.0 - (double)(box[2] * box[3]) / (double)(SIDE * SIDE)));
                }
            }
        }
        assert_true(mixed > N * B * 66 / 100 && mixed < N * B * 78 / 100);
        assert_true(cuts > mixed * 4 / 10 && cuts < mixed * 55 / 100);
        assert_true(alike < N * B / 50); /* boxes of one area are rare */
        kd_mix_draw(&cfg, 3, 1, 5, B, valid, SIDE, &m);
        assert_true(lam[2] == 1.0f && lam[5] == 1.0f && perm[5] == 5 && cut[4 * 5 + 2] == 0);
    }
}

/* ---- runs of frames ---------------------------------------------------------------------------- */

enum { CUT_B = 4, CUT_C = 2, CUT_V = 2, CUT_M = 1, CUT_MOST = CUT_B * CUT_C * 8 * CUT_V * CUT_M };

static double number(const kd_json *of, const char *key)
{
    double v = NAN;
    assert_int_equal(kd_json_get_f64(of, key, &v, NULL), KD_OK);
    return v;
}

/* x of make_cutmix.py, mixed by the shares of each frame, is what the reference's trainer made of it. */
static void compare_stream(const kd_json *want, int stream, int frames, const int32_t *perm, const float *shares)
{
    float x[CUT_MOST], y[CUT_MOST];
    const int64_t row = (int64_t)CUT_C * frames * CUT_V * CUT_M;
    kd_err err = {0};
    for (int i = 0; i < CUT_B * (int)row; i++) {
        const int m = i % CUT_M, v = i / CUT_M % CUT_V, t = i / (CUT_M * CUT_V) % frames;
        const int c = i / (CUT_M * CUT_V * frames) % CUT_C, b = i / (int)row;
        x[i] = (float)(1000 * b + 100 * stream + 10 * t + c + 2 * v + m);
    }
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, &err), KD_OK);
    const kd_tensor in[3] = {{x, KD_F32, kd_shape5(CUT_B, CUT_C, frames, CUT_V, CUT_M)},
                             {(void *)(uintptr_t)perm, KD_I32, kd_shape1(CUT_B)},
                             {(void *)(uintptr_t)shares, KD_F32, kd_shape2(CUT_B, frames)}};
    const kd_tensor out = {y, KD_F32, in[0].shape};
    const kd_call c = {.in = in, .n_in = 3, .out = &out, .n_out = 1};
    assert_int_equal(kd_backend_call(be, KD_OP_MIXUP, KD_F32, &c), KD_OK);
    kd_backend_close(be);
    for (size_t i = 0; i < kd_json_count(want); i++) {
        double w = NAN;
        assert_int_equal(kd_json_as_f64(kd_json_at(want, i), &w, NULL), KD_OK);
        assert_true((double)y[i] == w);
    }
}

static void frames_are_cut_as_the_reference_does(void **state)
{
    (void)state;
    kd_json *doc = NULL;
    kd_err err = {0};
    assert_int_equal(kd_json_load(KD_GOLDEN_DIR "/last/cutmix.json", &doc, &err), KD_OK);
    assert_true(kd_json_count(doc) == 6);
    for (size_t k = 0; k < kd_json_count(doc); k++) {
        const kd_json *c = kd_json_at(doc, k);
        const int frames = (int)number(c, "frames"), cut = kd_cut_frames(frames, number(c, "lam"));
        const int start = (int)number(c, "start");
        const double left = 1.0 - (double)cut / (double)frames;
        const int32_t perm[CUT_B] = {2, 0, 3, 1}, label[CUT_B] = {0, 1, 2, 1};
        const float lam[CUT_B] = {(float)left, (float)left, (float)left, (float)left};
        float target[CUT_B * 3], shares[CUT_B * 64];
        assert_int_equal(cut, (int)number(c, "cut"));
        assert_true(number(c, "starts") == frames - cut + 1); /* first frames that can be drawn */
        assert_true(fabs(left - number(c, "left")) < 1e-15);
        kd_targets(label, NULL, CUT_B, 3, 0.0, perm, lam, target);
        for (size_t i = 0; i < CUT_B * 3; i++) {
            double w = NAN;
            assert_int_equal(kd_json_as_f64(kd_json_at(kd_json_get(c, "target"), i), &w, NULL), KD_OK);
            assert_true(fabs((double)target[i] - w) < 1e-7);
        }
        for (int i = 0; i < CUT_B * frames; i++) {
            shares[i] = i % frames >= start && i % frames < start + cut ? 0.0f : 1.0f;
        }
        if (frames <= 8) {
            compare_stream(kd_json_get(c, "joint"), 0, frames, perm, shares);
            compare_stream(kd_json_get(c, "velocity"), 1, frames, perm, shares);
        }
    }
    kd_json_free(doc);
}

/* What is drawn: runs of the law's length, everywhere, with mixup in between; the rows' shares say the same. */
static void frames_are_drawn(void **state)
{
    (void)state;
    enum { B = 6, FRAMES = 16 };
    int32_t perm[B], cut[4 * B];
    float lam[B], shares[B * FRAMES];
    kd_mix m = {.perm = perm, .lam = lam, .cut = cut, .frames = FRAMES, .frame_lam = shares};
    const kd_mixup_opts cfg = {
        .alpha = 0.8, .cutmix_alpha = 1.0, .switch_prob = 0.5, .prob = 1.0, .partner = KD_PARTNER_PERMUTE};
    int cuts = 0, first[FRAMES] = {0}, seen = 0;
    for (uint32_t batch = 0; batch < 2000; batch++) {
        const float kind[B] = {2, 2, 1, 2, 0, 2};
        kd_mix_draw(&cfg, 5, 0, batch, B, kind, 0, &m);
        int length = 0;
        for (int i = 0; i < B; i++) {
            const int32_t *c = cut + 4 * (ptrdiff_t)i;
            assert_true(kind[i] == kind[perm[i]] && (lam[i] == 1.0f || kind[i] > 0.0f));
            assert_true(c[2] == 0 || (lam[i] < 1.0f && c[0] >= 0 && c[0] + c[2] <= FRAMES));
            assert_true(c[2] == 0 || lam[i] == (float)(1.0 - (double)c[2] / FRAMES));
            for (int t = 0; t < FRAMES; t++) {
                const float want = c[2] == 0 ? lam[i] : t >= c[0] && t < c[0] + c[2] ? 0.0f : 1.0f;
                assert_true(shares[i * FRAMES + t] == want);
            }
            length = KD_MAX(length, c[2]);
            first[c[0]] += c[2] == 1;
        }
        cuts += length > 0;
    }
    for (int t = 0; t < FRAMES; t++) {
        seen += first[t] > 0;
    }
    assert_true(cuts > 900 && cuts < 1100 && seen == FRAMES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(targets_are_timms),
                                       cmocka_unit_test(pairs),
                                       cmocka_unit_test(invalid_rows_stay_out),
                                       cmocka_unit_test(cut_boxes_are_timms),
                                       cmocka_unit_test(cutmix_is_drawn),
                                       cmocka_unit_test(rows_are_drawn_by_themselves),
                                       cmocka_unit_test(frames_are_cut_as_the_reference_does),
                                       cmocka_unit_test(frames_are_drawn)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
