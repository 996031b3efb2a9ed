/* Sequences of other joints than NTU's, and of x, y and a confidence. */
#include "student/skeleton/sequence.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

enum { T = 4, V = 17 };

static float x[3 * T * V], out[3][3 * T * V];

static float *at(float *a, int c, int t, int v)
{
    return &a[(c * T + t) * V + v];
}

/* Four frames of one body: joint v of frame t at (100 v + t, 10 v + 2 t), confidence 0.5. */
static kd_skeleton recording(int joints, bool scored)
{
    kd_skeleton s = {0};
    assert_int_equal(kd_skeleton_alloc(T, T, &s, NULL), KD_OK);
    s.joints = joints;
    s.scored = scored;
    for (uint32_t t = 0; t < T; t++) {
        s.first[t + 1] = t + 1;
        for (int v = 0; v < joints; v++) {
            s.body[t].xyz[v][0] = (float)(100 * v) + (float)t;
            s.body[t].xyz[v][1] = (float)(10 * v) + 2.0f * (float)t;
            s.body[t].xyz[v][2] = scored ? 0.5f : 1.0f + (float)v;
        }
    }
    return s;
}

static kd_sequence_spec coco(kd_normalize normalize, bool bone_scale)
{
    return (kd_sequence_spec){.skeleton = {.frames = T,
                                           .max_bodies = 1,
                                           .channels = KD_CHANNELS_XY_SCORE,
                                           .normalize = normalize,
                                           .bone_scale = bone_scale},
                              .aug = {.scale = {1, 1}, .speed = {1, 1}},
                              .layout = *kd_layout_find("coco17")};
}

static void streams(const kd_sequence_spec *spec, const kd_sequence_draw *d)
{
    float *dst[3] = {out[0], out[1], out[2]};
    kd_sequence_streams(spec, d, x, 7, dst);
}

static void near(float got, double want)
{
    if (!(fabs((double)got - want) <= 1e-5 * (1.0 + fabs(want)))) {
        fail_msg("expected %g, found %g", want, (double)got);
    }
}

/* PYSKL's JointToBone and ToMotion, by hand. */
static void confidences_are_pyskls(void **state)
{
    (void)state;
    kd_skeleton s = recording(V, true);
    const kd_sequence_spec spec = coco(KD_NORM_NONE, false);
    s.body[1].xyz[7][2] = 0.9f;
    assert_int_equal(kd_sequence_make(&spec, &s, x, NULL), KD_OK);
    streams(&spec, NULL);
    near(*at(out[0], 0, 1, 7), 701.0);
    near(*at(out[0], 2, 1, 7), 0.9);
    near(*at(out[2], 0, 1, 7), 200.0); /* left elbow less left shoulder */
    near(*at(out[2], 1, 1, 7), 20.0);
    near(*at(out[2], 2, 1, 7), 0.7);
    near(*at(out[2], 0, 1, 0), 0.0); /* the nose has no bone, but a confidence */
    near(*at(out[2], 2, 1, 0), 0.5);
    near(*at(out[1], 0, 0, 7), 1.0);
    near(*at(out[1], 1, 0, 7), 2.0);
    near(*at(out[1], 2, 0, 7), 0.7);
    for (int c = 0; c < 3; c++) {
        near(*at(out[1], c, T - 1, 7), 0.0); /* the last velocity */
    }
    kd_skeleton_free(&s);
}

static void joints_not_seen_stay_zero(void **state)
{
    (void)state;
    kd_skeleton s = recording(V, true);
    kd_sequence_spec spec = coco(KD_NORM_CENTER_SPINE, true);
    s.body[1].xyz[5][2] = 0.0f;   /* a shoulder: the other one stands for the top */
    s.body[2].xyz[11][2] = -1.0f; /* both hips: the origin of the frame before */
    s.body[2].xyz[12][2] = 0.0f;
    assert_int_equal(kd_sequence_make(&spec, &s, x, NULL), KD_OK);
    /* hips at (1150, 115), shoulders at (550, 55) on average; a frame with one shoulder, one without hips */
    const double side = sqrt(600.0 * 600.0 + 60.0 * 60.0),
                 unit = (2.0 * side + sqrt(550.0 * 550.0 + 55.0 * 55.0)) / 3.0;
    near(*at(x, 0, 0, 11), -50.0 / unit);
    near(*at(x, 1, 0, 12), 5.0 / unit);
    near(*at(x, 2, 0, 11), 0.5);
    near(*at(x, 0, 2, 16), (1602.0 - 1151.0) / unit);
    for (int c = 0; c < 3; c++) {
        near(*at(x, c, 1, 5), 0.0);
        near(*at(x, c, 2, 11), 0.0);
    }
    const kd_sequence_draw d = {.scale = 2.0, .flip = true, .noise = kd_rng_make(1, KD_RNG_SAMPLE, 0, 0)};
    spec.aug.noise_joint = spec.aug.noise_bone = spec.aug.noise_velocity = 0.1;
    streams(&spec, &d);
    for (int c = 0; c < 3; c++) {
        near(*at(out[0], c, 1, 6), 0.0); /* the mirror image */
        near(*at(out[2], c, 1, 8), 0.0); /* its elbow's bone ends there */
        near(*at(out[1], c, 0, 6), 0.0); /* so do the velocities to it and from it */
        near(*at(out[1], c, 1, 6), 0.0);
    }
    near(*at(out[0], 2, 0, 6), 0.5); /* neither scaled nor disturbed */
    assert_true(fabs((double)*at(out[0], 0, 0, 16) + 2.0 * (1500.0 - 1150.0) / unit) < 1.0); /* ankle 15, negated */
    assert_true((double)*at(out[0], 0, 0, 16) != -2.0 * (1500.0 - 1150.0) / unit);
    kd_skeleton_free(&s);
}

static void torso_never_seen(void **state)
{
    (void)state;
    kd_skeleton s = recording(V, true);
    const kd_sequence_spec spec = coco(KD_NORM_FIRST_FRAME, true);
    for (int t = 0; t < T; t++) {
        s.body[t].xyz[11][2] = s.body[t].xyz[12][2] = 0.0f;
    }
    assert_int_equal(kd_sequence_make(&spec, &s, x, NULL), KD_OK);
    double sum = 0.0, square = 0.0;
    for (int v = 0; v < V; v++) {
        sum += (double)*at(x, 0, 0, v);
        square += (double)*at(x, 0, 0, v) * (double)*at(x, 0, 0, v);
    }
    assert_true(fabs(sum) < 1e-3 && square > 1.0 && square < 100.0); /* around its middle, of the size of one */
    kd_skeleton_free(&s);
}

static void joints_are_chosen_by_name(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_skeleton s = recording(33, false);
    kd_sequence_spec spec = coco(KD_NORM_NONE, false);
    spec.skeleton.channels = KD_CHANNELS_XYZ;
    spec.file_layout = *kd_layout_find("mediapipe33");
    assert_int_equal(kd_sequence_file_opts(&spec).joints, 33);
    assert_int_equal(kd_sequence_make(&spec, &s, x, &err), KD_OK);
    near(*at(x, 0, 0, 13), 2500.0); /* left knee */
    near(*at(x, 2, 0, 13), 26.0);
    spec.file_layout.joints = 0;
    assert_int_equal(kd_sequence_make(&spec, &s, x, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "expected 17 joints (layout coco17), found 33"));
    err = (kd_err){0};
    s.joints = 17;
    s.scored = true;
    assert_int_equal(kd_sequence_make(&spec, &s, x, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "expected joints of x, y and z (skeleton.channels), found x, y and a confidence"));
    kd_skeleton_free(&s);
}

/* Masks reach joints beyond 31. */
static void many_joints_are_masked(void **state)
{
    (void)state;
    kd_sequence_spec spec = {
        .skeleton = {.frames = T}, .aug = {.joint_mask = 1.0}, .layout = *kd_layout_find("mediapipe33")};
    const kd_sequence_draw d = kd_sequence_draw_make(&spec, kd_rng_make(3, KD_RNG_SAMPLE, 0, 0));
    assert_true(d.masked == ((uint64_t)1 << 33) - 1);
    int32_t whole[KD_SKEL_IDRAW];
    float real[KD_SKEL_DRAW];
    kd_sequence_draw_pack(&d, real, whole);
    assert_int_equal(whole[KD_SKEL_MASKED_LOW], -1);
    assert_int_equal(whole[KD_SKEL_MASKED_HIGH], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(confidences_are_pyskls),
                                       cmocka_unit_test(joints_not_seen_stay_zero), cmocka_unit_test(torso_never_seen),
                                       cmocka_unit_test(joints_are_chosen_by_name),
                                       cmocka_unit_test(many_joints_are_masked)};
    return cmocka_run_group_tests_name("sequences of other layouts", tests, NULL, NULL);
}
