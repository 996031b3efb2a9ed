/* The sample data set: the same bits everywhere, believable bodies, files in NTU's form, drawing. */
/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
/* clang-format on */

#include "formats/base/hash.h"
#include "formats/base/io.h"
#include "formats/skeleton/skeleton_file.h"
#include "formats/video/video.h"
#include "tools/sample/render.h"
#include "tools/sample/sample.h"
#include "tools/sample/vec3.h"

#define OUT KD_BUILD_DIR "/tests/sample-out"

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

static kd_synth_clip *clip_of(uint64_t seed, int performer, int replication, int action, int camera)
{
    kd_synth_clip *c = kd_alloc(sizeof *c);
    const kd_synth_id id = {performer, replication, action, camera};
    kd_err err = {0};
    assert_non_null(c);
    ok(kd_synth_make(seed, id, c, &err), &err);
    return c;
}

static void test_sine(void **state)
{
    (void)state;
    for (int i = -4000; i <= 4000; i++) {
        const double x = 0.0137 * i;
        assert_true(fabs(kd_synth_sin(x) - sin(x)) < 1e-10);
        assert_true(fabs(kd_synth_cos(x) - cos(x)) < 1e-10);
    }
}

/* Hash of what a Kinect would report: any change of a bit on any machine or compiler shows. */
static void test_same_bits(void **state)
{
    (void)state;
    static const uint64_t GOLDEN[3] = {0xf12f4bd63f7ec556u, 0x4c6a46882e22c01cu, 0xdeb41f53dd1096abu};
    static const int ID[3][4] = {{1, 1, 1, 1}, {7, 2, 8, 3}, {10, 2, 12, 2}};
    for (int i = 0; i < 3; i++) {
        kd_synth_clip *c = clip_of(0, ID[i][0], ID[i][1], ID[i][2], ID[i][3]);
        uint64_t h = 0;
        for (int t = 0; t < c->frames; t++) {
            h = h * 31u + kd_xxh64(c->tracked[t].joint, sizeof c->tracked[t].joint);
            h = h * 31u + kd_xxh64(c->tracked[t].state, sizeof c->tracked[t].state);
        }
        if (h != GOLDEN[i]) {
            fail_msg("clip %d: 0x%016llx", i, (unsigned long long)h);
        }
        kd_free(c);
    }
}

static vec3 joint_of(const kd_synth_clip *c, int t, int j)
{
    const double *p = c->frame[t].joint[j];
    return v3(p[0], p[1], p[2]);
}

/* Bones keep their lengths, feet stay above the floor, everybody is in the picture. */
static void test_bodies(void **state)
{
    (void)state;
    static const int BONE[][2] = {{4, 5},   {5, 6},   {8, 9},   {9, 10}, {12, 13},
                                  {13, 14}, {16, 17}, {17, 18}, {1, 20}, {20, 2}};
    size_t outside = 0;
    size_t seen = 0;
    for (int action = 1; action <= KD_SYNTH_ACTIONS; action++) {
        kd_synth_clip *c = clip_of(3, action % 10 + 1, 1, action, action % 3 + 1);
        assert_true(c->frames >= KD_SYNTH_MIN_FRAMES && c->frames <= KD_SYNTH_MAX_FRAMES);
        const vec3 up = v3(c->up[0], c->up[1], c->up[2]);
        for (int t = 0; t < c->frames; t++) {
            for (size_t b = 0; b < KD_COUNTOF(BONE); b++) {
                const double now = v3_len(v3_sub(joint_of(c, t, BONE[b][0]), joint_of(c, t, BONE[b][1])));
                const double first = v3_len(v3_sub(joint_of(c, 0, BONE[b][0]), joint_of(c, 0, BONE[b][1])));
                assert_true(fabs(now - first) < 1e-6);
            }
            for (int j = 0; j < KD_SYNTH_JOINTS; j++) {
                const vec3 p = joint_of(c, t, j);
                assert_true(p.z > 1.0 && p.z < 6.0);
                assert_true(v3_dot(p, up) + c->camera_above > -0.02);
                seen++;
                outside += fabs(p.y / p.z) > 0.5 / 1.08 || fabs(p.x / p.z) > 0.5 / 1.08 * 160.0 / 120.0;
            }
        }
        kd_free(c);
    }
    assert_true(outside * 200 < seen);
}

static void test_props_and_tracking(void **state)
{
    (void)state;
    size_t bad = 0;
    size_t n = 0;
    for (int person = 1; person <= 10; person++) {
        for (int action = 1; action <= KD_SYNTH_ACTIONS; action++) {
            kd_synth_clip *c = clip_of(0, person, 1, action, 2);
            double error = 0.0;
            bad += c->badly_tracked;
            n++;
            for (int t = 0; t < c->frames; t++) {
                error += fabs((double)c->tracked[t].joint[0][0] - c->frame[t].joint[0][0]) / c->frames;
            }
            assert_true(error < (c->badly_tracked ? 0.06 : 0.015));
            assert_true((c->prop != KD_PROP_NONE) == c->frame[0].prop_seen);
            kd_free(c);
        }
    }
    assert_true(bad * 100 > n * 15 && bad * 100 < n * 35);
    /* The three pairs hold different things. */
    static const int PAIR[3][2] = {{1, 2}, {4, 5}, {6, 7}};
    for (int i = 0; i < 3; i++) {
        kd_synth_clip *a = clip_of(0, 1, 1, PAIR[i][0], 1);
        kd_synth_clip *b = clip_of(0, 1, 1, PAIR[i][1], 1);
        assert_int_not_equal(a->prop, b->prop);
        kd_free(a);
        kd_free(b);
    }
    kd_err err = {0};
    kd_synth_clip *c = kd_alloc(sizeof *c);
    const kd_synth_id wrong = {1, 1, 13, 1};
    assert_int_equal(kd_synth_make(0, wrong, c, &err), KD_E_ARG);
    kd_free(c);
}

/* The same performance before three cameras: one rigid motion between them. */
static void test_cameras(void **state)
{
    (void)state;
    kd_synth_clip *a = clip_of(0, 2, 1, 10, 1);
    kd_synth_clip *b = clip_of(0, 2, 1, 10, 3);
    assert_int_equal(a->frames, b->frames);
    for (int t = 0; t < a->frames; t += 7) {
        for (int j = 1; j < KD_SYNTH_JOINTS; j++) {
            const double x = v3_len(v3_sub(joint_of(a, t, j), joint_of(a, t, 0)));
            const double y = v3_len(v3_sub(joint_of(b, t, j), joint_of(b, t, 0)));
            assert_true(fabs(x - y) < 1e-9);
        }
    }
    kd_free(a);
    kd_free(b);
}

/* ---- files ----------------------------------------------------------------------------------- */

static kd_sample_opts small(size_t clips, int threads)
{
    return (kd_sample_opts){.seed = 7,
                            .performers = 2,
                            .cameras = 3,
                            .replications = 1,
                            .clips = clips,
                            .width = 96,
                            .height = 64,
                            .threads = threads,
                            .rooms = 1};
}

static void test_files(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_sample_result r;
    ok(kd_io_remove_tree(OUT, &err), &err);
    kd_sample_opts o = small(26, 1);
    o.skeletons_only = !kd_video_available();
    ok(kd_sample_write(OUT "/a", &o, NULL, &r, &err), &err);
    assert_int_equal(r.clips, 26);
    assert_int_equal(r.written, 26);
    o.threads = 3;
    ok(kd_sample_write(OUT "/b", &o, NULL, &r, &err), &err);
    char **names = NULL;
    size_t count = 0;
    ok(kd_io_list_dir(OUT "/a/nturgb+d_skeletons", &names, &count, &err), &err);
    assert_int_equal(count, 26);
    for (size_t i = 0; i < count; i++) {
        char path[2][512];
        char hex[2][KD_SHA256_HEX];
        for (int k = 0; k < 2; k++) {
            (void)snprintf(path[k], sizeof path[k], "%s/%c/nturgb+d_skeletons/%s", OUT, 'a' + k, names[i]);
            ok(kd_sha256_file(path[k], hex[k], &err), &err);
        }
        assert_string_equal(hex[0], hex[1]);
        kd_skeleton s;
        ok(kd_skeleton_read(path[0], NULL, &s, &err), &err);
        if (kd_video_available()) {
            kd_video_info info;
            char video[512];
            (void)snprintf(video, sizeof video, OUT "/a/nturgb+d_rgb/%.20s_rgb.avi", names[i]);
            ok(kd_video_count(video, NULL, &info, &err), &err);
            assert_int_equal(info.frames, s.frames);
            assert_int_equal(info.width, 96);
        }
        kd_skeleton_free(&s);
    }
    kd_free(names);
    o.resume = true;
    ok(kd_sample_write(OUT "/a", &o, NULL, &r, &err), &err);
    assert_int_equal(r.written, 0);
    o.clips = 30;
    ok(kd_sample_write(OUT "/a", &o, NULL, &r, &err), &err);
    assert_int_equal(r.written, 4);
    o.seed++;
    assert_int_equal(kd_sample_write(OUT "/a", &o, NULL, &r, &err), KD_E_ARG);
    err.code = KD_OK;
    assert_int_equal(kd_sample_write(KD_BUILD_DIR "/tests", &o, NULL, &r, &err), KD_E_ARG);
    o.width = 97;
    err.code = KD_OK;
    assert_int_equal(kd_sample_write(OUT "/c", &o, NULL, &r, &err), KD_E_ARG);
}

/* With two rooms a camera the second person stands in another one; the first, and all skeletons, are as with one. */
static void test_rooms(void **state)
{
    (void)state;
    static const char *const FILE_OF[2] = {"nturgb+d_rgb/S003C001P001R001A001_rgb.avi",
                                           "nturgb+d_rgb/S003C002P002R001A001_rgb.avi"};
    kd_err err = {0};
    kd_sample_result r;
    kd_sample_opts o = small(24, 1);
    o.rooms = 201;
    assert_int_equal(kd_sample_write(OUT "/r", &o, NULL, &r, &err), KD_E_ARG);
    err.code = KD_OK;
    if (!kd_video_available()) {
        return;
    }
    for (o.rooms = 1; o.rooms <= 2; o.rooms++) {
        ok(kd_sample_write(o.rooms == 1 ? OUT "/r1" : OUT "/r2", &o, NULL, &r, &err), &err);
    }
    for (int person = 0; person < 2; person++) {
        char path[2][512];
        char hex[2][KD_SHA256_HEX];
        for (int k = 0; k < 2; k++) {
            (void)snprintf(path[k], sizeof path[k], "%s/r%d/%s", OUT, k + 1, FILE_OF[person]);
            ok(kd_sha256_file(path[k], hex[k], &err), &err);
        }
        assert_int_equal(strcmp(hex[0], hex[1]) == 0, person == 0);
    }
    char hex[2][KD_SHA256_HEX];
    ok(kd_sha256_file(OUT "/r1/nturgb+d_skeletons/S003C002P002R001A001.skeleton", hex[0], &err), &err);
    ok(kd_sha256_file(OUT "/r2/nturgb+d_skeletons/S003C002P002R001A001.skeleton", hex[1], &err), &err);
    assert_string_equal(hex[0], hex[1]);
}

static bool stop_at_once(void *user)
{
    (void)user;
    return true;
}

static void test_interrupt(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_sample_result r;
    kd_sample_opts o = small(0, 1);
    o.skeletons_only = true;
    const kd_progress p = {.stop = stop_at_once};
    assert_int_equal(kd_sample_write(OUT "/i", &o, &p, &r, &err), KD_E_CANCELLED);
    assert_int_equal(r.written, 1);
    o.resume = true;
    err.code = KD_OK;
    ok(kd_sample_write(OUT "/i", &o, NULL, &r, &err), &err);
    assert_int_equal(r.written, r.clips - 1);
}

/* ---- drawing --------------------------------------------------------------------------------- */

static size_t changed(const uint8_t *a, const uint8_t *b, size_t pixels)
{
    size_t n = 0;
    for (size_t i = 0; i < pixels; i++) {
        n += memcmp(a + 3 * i, b + 3 * i, 3) != 0;
    }
    return n;
}

static void test_renderer(void **state)
{
    (void)state;
    enum { W = 160, H = 120 };
    static uint8_t empty[W * H * 3];
    static uint8_t person[W * H * 3];
    kd_synth_clip *c = clip_of(0, 1, 1, 1, 2);
    const kd_render_view view = {W, H, 130.0, 80.0, 60.0, {c->up[0], c->up[1], c->up[2]}, c->camera_above};
    kd_render_room room;
    kd_render_clothes clothes;
    kd_renderer *r = NULL;
    kd_err err = {0};
    kd_render_furnish(0, 1, &room);
    kd_render_dress(0, 1, &clothes);
    ok(kd_renderer_open(&view, &room, &r, &err), &err);
    memcpy(empty, kd_renderer_rgb(r), sizeof empty);
    kd_renderer_body(r, &c->frame[0].joint[0][0], &clothes);
    memcpy(person, kd_renderer_rgb(r), sizeof person);
    const size_t body = changed(empty, person, (size_t)W * H);
    assert_true(body > 600 && body < 6000);
    kd_renderer_prop(r, KD_PROP_CUP, c->frame[0].prop_at, c->frame[0].prop_axis);
    assert_true(changed(person, kd_renderer_rgb(r), (size_t)W * H) > 3);
    kd_renderer_begin(r);
    assert_int_equal(changed(empty, kd_renderer_rgb(r), (size_t)W * H), 0);
    double joint[75]; /* lost, behind the camera, not numbers: nothing drawn, nothing broken */
    for (int i = 0; i < 75; i++) {
        joint[i] = 0.0;
    }
    kd_renderer_body(r, joint, &clothes);
    for (int i = 0; i < 75; i++) {
        joint[i] = -c->frame[0].joint[i / 3][i % 3];
    }
    kd_renderer_body(r, joint, &clothes);
    for (int i = 0; i < 75; i++) {
        joint[i] = c->frame[0].joint[i / 3][i % 3];
    }
    joint[3 * 11] = NAN;
    joint[3 * 7 + 2] = INFINITY;
    joint[3 * 15] = 1e300;
    kd_renderer_body(r, joint, &clothes);
    kd_renderer_close(r);
    kd_free(c);
}

static void test_render_files(void **state)
{
    (void)state;
    if (!kd_video_available()) {
        skip();
    }
    kd_err err = {0};
    kd_sample_result result;
    const kd_render_opts o = {0, 64, 48, 30, 1, 1};
    size_t frames = 0;
    kd_sample_opts s = small(1, 1);
    s.skeletons_only = true;
    ok(kd_sample_write(OUT "/r", &s, NULL, &result, &err), &err);
    ok(kd_sample_render(OUT "/r/nturgb+d_skeletons/S003C001P001R001A001.skeleton", OUT "/r.avi", &o, &frames, &err),
       &err);
    kd_video_info info;
    ok(kd_video_count(OUT "/r.avi", NULL, &info, &err), &err);
    assert_int_equal(info.frames, frames);
    assert_int_equal(info.width, 64);
    kd_skeleton lost;
    ok(kd_skeleton_alloc(3, 3, &lost, &err), &err);
    for (uint32_t i = 0; i <= 3; i++) {
        lost.first[i] = i;
    }
    ok(kd_skeleton_write(OUT "/lost.skeleton", &lost, &err), &err);
    kd_skeleton_free(&lost);
    assert_int_equal(kd_sample_render(OUT "/lost.skeleton", OUT "/lost.avi", &o, &frames, &err), KD_E_DATA);
    assert_false(kd_path_exists(OUT "/lost.avi"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sine),     cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_bodies),   cmocka_unit_test(test_props_and_tracking),
        cmocka_unit_test(test_cameras),  cmocka_unit_test(test_files),
        cmocka_unit_test(test_rooms),    cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_renderer), cmocka_unit_test(test_render_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
