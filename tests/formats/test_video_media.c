/* Video as users have it: AVI with repeats, rotation tags, folders of pictures. */
#include "formats/video/png.h"
#include "tests/formats/media_case.h"
#include "tests/formats/video_case.h"

#include <stdio.h>
#include <unistd.h>

enum { FRAME = KD_MEDIA_W * KD_MEDIA_H * 3, CENTRE = 3 * (KD_MEDIA_H / 2 * KD_MEDIA_W + KD_MEDIA_W / 2) };

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s", err->msg);
    }
}

static void refused(const char *path, kd_status want, const char *says)
{
    kd_video_info info;
    kd_err err = {0};
    const kd_status st = kd_video_count(path, NULL, &info, &err);
    if (st != want || strstr(err.msg, says) == NULL) {
        fail_msg("%s: status %d, says '%s', expected %d '%s'", path, st, err.msg, want, says);
    }
}

/* ---- repeats --------------------------------------------------------------------------------- */

static void expect_frames(const char *path, size_t frames, size_t claimed)
{
    kd_video_info info;
    kd_video_clip clip;
    kd_err err = {0};
    const size_t idx[] = {0, frames / 2, frames - 1};
    ok(kd_video_count(path, NULL, &info, &err), &err);
    assert_int_equal(info.frames, frames);
    assert_int_equal(info.claimed, claimed);
    ok(kd_video_read(path, NULL, idx, KD_COUNTOF(idx), &clip, NULL, &err), &err);
    for (size_t i = 0; i < KD_COUNTOF(idx); i++) {
        assert_int_equal(kd_media_which(clip.rgb + i * FRAME + CENTRE), idx[i]);
    }
    kd_video_clip_free(&clip);
}

static void test_repeats(void **state)
{
    (void)state;
    static const int inside[] = {0, 3, 3, 3, 9, 17}, first[] = {-1, -1}, last[] = {5, 19, 19, 19};
    kd_err err = {0};
    ok(kd_media_repeats(in_root("in.avi"), 20, inside, KD_COUNTOF(inside), &err), &err);
    expect_frames(in_root("in.avi"), 20, 26);
    ok(kd_media_repeats(in_root("first.avi"), 20, first, KD_COUNTOF(first), &err), &err);
    expect_frames(in_root("first.avi"), 20, 22);
    ok(kd_media_repeats(in_root("last.avi"), 20, last, KD_COUNTOF(last), &err), &err);
    expect_frames(in_root("last.avi"), 20, 24);
}

static size_t nth_chunk(const uint8_t *p, size_t n, int k)
{
    bool inside = false; /* the header names the chunks too */
    for (size_t i = 0; i + 4 <= n; i++) {
        inside = inside || memcmp(p + i, "movi", 4) == 0;
        if (inside && memcmp(p + i, "00dc", 4) == 0 && k-- == 0) {
            return i;
        }
    }
    fail_msg("no chunk %d", k);
    return 0;
}

/* Repeats are no excuse: cut at a picture's start, in it, or with pictures gone from the middle, a clip is refused. */
static void test_repeats_damaged(void **state)
{
    (void)state;
    static const int after[] = {0, 3, 3, 9};
    kd_err err = {0};
    size_t n = 0;
    ok(kd_media_repeats(in_root("whole.avi"), 20, after, KD_COUNTOF(after), &err), &err);
    uint8_t *p = load(in_root("whole.avi"), &n);
    for (int k = 1; k < 24; k++) { /* 24 chunks, some without bytes */
        const size_t at = nth_chunk(p, n, k);
        save(in_root("cut.avi"), p, at);
        refused(in_root("cut.avi"), KD_E_DATA, "the container claims 24 frames");
    }
    save(in_root("cut.avi"), p, nth_chunk(p, n, 12) + 40);
    refused(in_root("cut.avi"), KD_E_FORMAT, "cut or corrupt");
    const size_t from = nth_chunk(p, n, 10), to = nth_chunk(p, n, 14);
    memset(p + from, 0, to - from);
    save(in_root("hole.avi"), p, n);
    kd_video_info info;
    assert_int_not_equal(kd_video_count(in_root("hole.avi"), NULL, &info, &err), KD_OK);
    kd_free(p);
}

/* A chunk may claim any size; what is allocated for the claim has a bound, so a lie of 1.5 GB is refused at once. */
static void test_claimed_size(void **state)
{
    (void)state;
    static const uint8_t lie[] = {'s', 't', 'r', 'n', 0, 0, 0, 0x60, 'n', 'a', 'm', 'e'};
    kd_err err = {0};
    size_t n = 0, list = 0;
    ok(kd_media_clip(in_root("plain.avi"), 4, &err), &err);
    uint8_t *p = load(in_root("plain.avi"), &n);
    while (list + 12 < n && memcmp(p + list + 8, "movi", 4) != 0) {
        list++;
    }
    uint8_t *q = kd_calloc(1, n + sizeof lie);
    assert_non_null(q);
    memcpy(q, p, list);
    memcpy(q + list, lie, sizeof lie);
    memcpy(q + list + sizeof lie, p + list, n - list);
    save(in_root("lie.avi"), q, n + sizeof lie);
    refused(in_root("lie.avi"), KD_E_FORMAT, "it asks for a piece of more than 512 MiB");
    kd_free(p);
    kd_free(q);
}

/* ---- rotation -------------------------------------------------------------------------------- */

/* Is the corner that was painted green at the top left now at (x, y) of 0 or 1? */
static bool corner_at(const kd_video_clip *c, int x, int y)
{
    const int px = x == 0 ? 4 : c->width - 5;
    const int py = y == 0 ? 4 : c->height - 5;
    return c->rgb[3 * (py * c->width + px) + 1] > 150;
}

static void expect_turn(const char *path, int degrees)
{
    static const int corner[4][2] = {{0, 0}, {1, 0}, {1, 1}, {0, 1}};
    kd_video_info info;
    kd_video_clip clip;
    kd_err err = {0};
    const size_t idx[] = {7};
    const bool upright = degrees % 180 == 0;
    ok(kd_video_probe(path, NULL, &info, &err), &err);
    assert_int_equal(info.rotation, degrees);
    assert_int_equal(info.width, upright ? KD_MEDIA_W : KD_MEDIA_H);
    ok(kd_video_read(path, NULL, idx, 1, &clip, &info, &err), &err);
    assert_int_equal(info.rotation, degrees);
    assert_int_equal(clip.width, upright ? KD_MEDIA_W : KD_MEDIA_H);
    assert_int_equal(clip.height, upright ? KD_MEDIA_H : KD_MEDIA_W);
    assert_int_equal(info.height, clip.height);
    for (int k = 0; k < 4; k++) {
        assert_int_equal(corner_at(&clip, corner[k][0], corner[k][1]), k == degrees / 90);
    }
    kd_video_clip_free(&clip);
}

static void test_rotation(void **state)
{
    (void)state;
    enum { ONE = 1 << 16 };
    /* What OpenCV and decord make of the others: the angle alone counts; slanted and empty ones are no turn. */
    static const struct {
        int degrees;
        int32_t m[9];
    } other[] = {{180, {-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30}},     {0, {ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30}},
                 {90, {0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30}},       {270, {0, -ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30}},
                 {0, {46341, 46341, 0, -46341, 46341, 0, 0, 0, 1}}, {0, {0}}};
    kd_err err = {0};
    const char *path = in_root("turned.mp4");
    ok(kd_media_clip(path, 12, &err), &err);
    expect_turn(path, 0);
    for (int k = 0; k < 4; k++) {
        ok(kd_media_matrix(path, kd_media_turn[k], &err), &err);
        expect_turn(path, 90 * k);
    }
    for (size_t i = 0; i < KD_COUNTOF(other); i++) {
        ok(kd_media_matrix(path, other[i].m, &err), &err);
        expect_turn(path, other[i].degrees);
    }
}

static void test_rotation_memory(void **state)
{
    (void)state;
    const size_t idx[] = {3, 9};
    kd_err err = {0};
    ok(kd_media_clip(in_root("m.mp4"), 12, &err), &err);
    ok(kd_media_matrix(in_root("m.mp4"), kd_media_turn[1], &err), &err);
    for (uint64_t n = 1;; n++) {
        kd_video_clip clip;
        kd_alloc_fail_at(n);
        const kd_status st = kd_video_read(in_root("m.mp4"), NULL, idx, 2, &clip, NULL, NULL);
        kd_alloc_fail_at(0);
        kd_video_clip_free(&clip);
        if (st == KD_OK) {
            assert_true(n > 4);
            break;
        }
        assert_int_equal(st, KD_E_OOM);
    }
}

/* ---- folders --------------------------------------------------------------------------------- */

static void test_folder(void **state)
{
    (void)state;
    static const struct {
        const char *prefix;
        int first;
    } form[] = {{"img_", 1}, {"image_", 1}, {"frame_", 0}, {"", 1}};
    kd_err err = {0};
    for (size_t k = 0; k < KD_COUNTOF(form); k++) {
        kd_video_info info;
        kd_video_clip clip;
        const size_t idx[] = {11, 0, 4, 4};
        char dir[96];
        (void)snprintf(dir, sizeof dir, "%s/f%zu", root, k);
        ok(kd_media_frames(dir, form[k].prefix, form[k].first, 12, &err), &err);
        ok(kd_media_frames(dir, "flow_x_", 1, 11, &err), &err); /* MMAction2's neighbours of the frames */
        char *note = kd_path_join(dir, "Thumbs.db");
        save(note, (const uint8_t *)"x", 1);
        kd_free(note);
        ok(kd_video_count(dir, NULL, &info, &err), &err);
        assert_int_equal(info.frames, 12);
        assert_string_equal(info.codec, "png");
        ok(kd_video_probe(dir, NULL, &info, &err), &err);
        assert_int_equal(info.width, KD_MEDIA_W);
        assert_int_equal(info.height, KD_MEDIA_H);
        ok(kd_video_read(dir, NULL, idx, KD_COUNTOF(idx), &clip, &info, &err), &err);
        uint8_t want[FRAME];
        for (size_t i = 0; i < KD_COUNTOF(idx); i++) {
            kd_media_paint(want, KD_MEDIA_W, KD_MEDIA_H, (int)idx[i]);
            assert_memory_equal(clip.rgb + i * FRAME, want, FRAME); /* PNG loses nothing */
        }
        assert_int_equal(info.frames, 12);
        kd_video_clip_free(&clip);
    }
}

/* Unpadded numbers are in the order of the numbers; only the wanted pictures are read. */
static void test_folder_order(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_video_info info;
    kd_video_clip clip;
    const size_t idx[] = {9, 10, 2};
    ok(kd_media_frames(in_root("order"), "i", 1, 12, &err), &err);
    for (int t = 1; t <= 12; t++) {
        char from[32], to[32];
        (void)snprintf(from, sizeof from, "order/i%05d.png", t);
        (void)snprintf(to, sizeof to, "order/i%d.png", t);
        assert_int_equal(rename(in_root(from), in_root(to)), 0);
    }
    save(in_root("order/i5.png"), (const uint8_t *)"no picture", 10);
    ok(kd_video_read(in_root("order"), NULL, idx, 3, &clip, &info, &err), &err);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(kd_media_which(clip.rgb + i * FRAME + CENTRE), idx[i]);
    }
    kd_video_clip_free(&clip);
    refused(in_root("order"), KD_E_FORMAT, "order/i5.png: expected png, found something else");
    save(in_root("order/i5.png"), (const uint8_t *)"", 0);
    refused(in_root("order"), KD_E_FORMAT, "order/i5.png: expected png, found an empty file");
}

static void test_folder_refused(void **state)
{
    (void)state;
    kd_err err = {0};
    uint8_t rgb[FRAME];
    ok(kd_media_frames(in_root("gap"), "img_", 1, 8, &err), &err);
    assert_int_equal(unlink(in_root("gap/img_00004.png")), 0);
    refused(in_root("gap"), KD_E_DATA, "picture 4 is missing: img_00003.png is followed by img_00005.png");
    ok(kd_media_frames(in_root("late"), "img_", 7, 3, &err), &err);
    refused(in_root("late"), KD_E_DATA, "numbered from 0 or 1, the first is img_00007.png");
    ok(kd_media_frames(in_root("two"), "img_", 1, 3, &err), &err);
    ok(kd_media_frames(in_root("two"), "mask_", 1, 3, &err), &err);
    refused(in_root("two"), KD_E_DATA, "expected pictures of one name and ending");
    ok(kd_media_frames(in_root("twice"), "img_", 1, 3, &err), &err);
    size_t n = 0;
    uint8_t *p = load(in_root("twice/img_00002.png"), &n);
    save(in_root("twice/img_2.png"), p, n);
    refused(in_root("twice"), KD_E_DATA, "have one number");
    ok(kd_media_frames(in_root("cut"), "img_", 1, 3, &err), &err);
    save(in_root("cut/img_00002.png"), p, n / 2);
    refused(in_root("cut"), KD_E_FORMAT, "cut/img_00002.png");
    kd_free(p);
    ok(kd_media_frames(in_root("size"), "img_", 1, 2, &err), &err);
    kd_media_paint(rgb, KD_MEDIA_H, KD_MEDIA_W, 1);
    ok(kd_png_encode(rgb, KD_MEDIA_H, KD_MEDIA_W, 3, &p, &n, &err), &err);
    save(in_root("size/img_00003.png"), p, n);
    kd_free(p);
    refused(in_root("size"), KD_E_DATA, "frame 2 is 64x96, the frames before are 96x64");
    ok(kd_media_frames(in_root("named"), "img_", 1, 2, &err), &err);
    save(in_root("named/cover.png"), rgb, 8);
    refused(in_root("named"), KD_E_DATA, "found cover.png");
    assert_int_equal(kd_io_mkdirs(in_root("bare"), NULL), KD_OK);
    refused(in_root("bare"), KD_E_IO, "a folder without pictures");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repeats),        cmocka_unit_test(test_repeats_damaged),
        cmocka_unit_test(test_rotation),       cmocka_unit_test(test_rotation_memory),
        cmocka_unit_test(test_folder),         cmocka_unit_test(test_folder_order),
        cmocka_unit_test(test_folder_refused), cmocka_unit_test(test_claimed_size),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
