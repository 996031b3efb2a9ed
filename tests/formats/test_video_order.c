/* Video: frames are the same bytes whatever else is left undecoded, in every order of storing. */
#include "tests/formats/video_case.h"

#include <stdio.h>

typedef struct form {
    const char *name;
    kd_video_writer_opts opts;
    bool skips; /* decodes less than all of a known file */
} form;

static const form FORMS[] = {
    {"one_key.avi", {.codec = KD_VIDEO_H264}, true},
    {"one_key.mp4", {.codec = KD_VIDEO_H264, .container = "mp4"}, true},
    {"one_key.mkv", {.codec = KD_VIDEO_H264, .container = "matroska"}, true},
    {"pyramid.avi", {.codec = KD_VIDEO_H264, .b_frames = 3}, true},
    {"pyramid.mp4", {.codec = KD_VIDEO_H264, .b_frames = 5, .container = "mp4"}, true},
    {"no_b.avi", {.codec = KD_VIDEO_H264, .b_frames = -1}, false},
    {"gop8.avi", {.codec = KD_VIDEO_H264, .gop = 8}, true},
    {"gop8.mp4", {.codec = KD_VIDEO_H264, .gop = 8, .b_frames = 3, .container = "mp4"}, true},
    {"intra.avi", {.codec = KD_VIDEO_H264, .gop = 1, .b_frames = -1}, true},
    {"jpeg.avi", {.codec = KD_VIDEO_MJPEG}, true},
    {"part2.avi", {.codec = KD_VIDEO_MPEG4}, false},
    {"part2.mp4", {.codec = KD_VIDEO_MPEG4, .container = "mp4"}, false},
};

enum { PICKS = 5, ROUNDS = 12, FRAME = W * H * 3 };

/* PICKS frames of one round, in any order. */
static void choose(unsigned round, size_t *idx)
{
    uint32_t x = 77 * round + 5;
    for (int i = 0; i < PICKS; i++) {
        x = x * 1664525u + 1013904223u;
        idx[i] = (x >> 16) % (round < 3 ? 9 : N); /* the first rounds end early */
    }
}

static void check_form(const form *f)
{
    const char *path = in_root(f->name);
    kd_err err = {0};
    kd_video_clip whole, some;
    kd_video_info info;
    size_t all[N], idx[PICKS], least = N;
    make(path, W, H, N, &f->opts);
    for (size_t i = 0; i < N; i++) {
        all[i] = i;
    }
    if (kd_video_read(path, NULL, all, N, &whole, &info, &err) != KD_OK) {
        fail_msg("%s: %s", f->name, err.msg);
    }
    assert_int_equal(info.decoded, N);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (size_t known = 0; known <= N; known += N) {
            const kd_video_opts o = {.known_frames = known};
            choose(round, idx);
            if (kd_video_read(path, &o, idx, PICKS, &some, &info, &err) != KD_OK) {
                fail_msg("%s: %s", f->name, err.msg);
            }
            if (info.passes != 1 || info.frames != N) {
                fail_msg("%s: %zu passes, %zu frames", f->name, info.passes, info.frames);
            }
            if (known == 0) {
                assert_int_equal(info.decoded, N);
            } else if (round >= 3) {
                least = KD_MIN(least, info.decoded);
            }
            for (int i = 0; i < PICKS; i++) {
                if (memcmp(some.rgb + (size_t)i * FRAME, whole.rgb + idx[i] * FRAME, FRAME) != 0) {
                    fail_msg("%s, round %u, %zu frames known: frame %zu differs", f->name, round, known, idx[i]);
                }
            }
            kd_video_clip_free(&some);
        }
    }
    if (f->skips && least > N - 10) {
        fail_msg("%s: %zu of %d frames decoded", f->name, least, N);
    }
    kd_video_clip_free(&whole);
}

static void test_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(FORMS); i++) {
        check_form(&FORMS[i]);
    }
}

/* A known file that was replaced, or was never whole: what its wanted frames need is judged as ever. */
static void test_replaced(void **state)
{
    (void)state;
    const kd_video_opts known = {.known_frames = N};
    const size_t idx[] = {3, N - 1};
    kd_video_clip clip;
    kd_err err = {0};
    size_t n;
    uint8_t *p = load(in_root("good.avi"), &n);
    for (size_t i = 2 * n / 3; i < 2 * n / 3 + 60; i++) {
        p[i] ^= 0x5a;
    }
    save(in_root("hurt.avi"), p, n);
    kd_free(p);
    assert_int_not_equal(kd_video_read(in_root("hurt.avi"), NULL, idx, 2, &clip, NULL, &err), KD_OK);
    err = (kd_err){0};
    make(in_root("other.avi"), W, H, N / 2, NULL);
    assert_int_equal(kd_video_read(in_root("other.avi"), &known, idx, 2, &clip, NULL, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "the file has changed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_replaced)};
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
