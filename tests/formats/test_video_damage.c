/* Video: every kind of damage is refused by name, nothing is patched; what leniency gives is counted. */
#include "tests/formats/video_case.h"

#include <stdio.h>
#include <sys/stat.h>

static void refused(const char *path, kd_status want, const char *says)
{
    kd_video_info info;
    kd_video_clip clip;
    kd_err err = {0};
    const size_t zero = 0;
    const kd_status st = kd_video_count(path, NULL, &info, &err);
    if (st != want || strstr(err.msg, says) == NULL || strstr(err.msg, path) == NULL) {
        fail_msg("%s: status %d, says '%s', expected %d '%s'", path, st, err.msg, want, says);
    }
    assert_null(strchr(err.msg, '\n'));
    assert_int_not_equal(kd_video_read(path, NULL, &zero, 1, &clip, NULL, NULL), KD_OK);
    assert_null(clip.rgb);
}

static void test_cut(void **state)
{
    (void)state;
    size_t n;
    uint8_t *p = load(in_root("good.avi"), &n);
    save(in_root("cut.avi"), p, n * 3 / 4);
    refused(in_root("cut.avi"), KD_E_FORMAT, "40 frames");
    const kd_video_opts lenient = {.lenient = true};
    kd_video_info info;
    assert_int_equal(kd_video_count(in_root("cut.avi"), &lenient, &info, NULL), KD_OK);
    assert_true(info.frames > 0 && info.frames < N);
    /* every cut ends in an answer: refused, or, behind the last picture, all frames */
    size_t whole = 0;
    for (size_t len = 0; len < n; len += n / 61) {
        kd_err err = {0};
        save(in_root("cut.avi"), p, len);
        const kd_status st = kd_video_count(in_root("cut.avi"), NULL, &info, &err);
        if (st == KD_OK) {
            assert_int_equal(info.frames, N);
            whole++;
        } else {
            assert_true(st == KD_E_FORMAT || st == KD_E_DATA);
        }
    }
    assert_true(whole < 10);
    save(in_root("tail.avi"), p, n - 200); /* only the index at the end is hurt */
    assert_int_equal(kd_video_count(in_root("tail.avi"), NULL, &info, NULL), KD_OK);
    assert_int_equal(info.frames, N);
    kd_free(p);
}

static void test_flips(void **state)
{
    (void)state;
    size_t n, seen = 0;
    uint8_t *p = load(in_root("good.avi"), &n);
    uint32_t x = 7;
    enum { ROUNDS = 40, FLIPS = 40 };
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t *q = kd_alloc(n);
        kd_video_info info;
        kd_err err = {0};
        assert_non_null(q);
        memcpy(q, p, n);
        for (int k = 0; k < FLIPS; k++) {
            x = x * 1664525u + 1013904223u;
            q[(size_t)(x >> 4) % n] ^= (uint8_t)(1u << (x >> 1 & 7));
        }
        save(in_root("flip.avi"), q, n);
        const kd_status st = kd_video_count(in_root("flip.avi"), NULL, &info, &err);
        assert_true(st == KD_OK || st == KD_E_FORMAT || st == KD_E_DATA);
        seen += st != KD_OK;
        kd_free(q);
    }
    assert_true(seen >= ROUNDS - 2);
    kd_free(p);
}

static uint8_t *find(uint8_t *p, size_t n, const char tag[4])
{
    for (size_t i = 0; i + 4 <= n; i++) {
        if (memcmp(p + i, tag, 4) == 0) {
            return p + i;
        }
    }
    fail_msg("no %.4s", tag);
    return NULL;
}

static void test_header_lies(void **state)
{
    (void)state;
    static const uint8_t billion[4] = {0x00, 0xca, 0x9a, 0x3b};
    size_t n;
    uint8_t *p = load(in_root("good.avi"), &n);
    const uint64_t before = kd_alloc_calls();
    memcpy(find(p, n, "avih") + 8 + 16, billion, 4);
    memcpy(find(p, n, "strh") + 8 + 32, billion, 4);
    save(in_root("lie.avi"), p, n);
    refused(in_root("lie.avi"), KD_E_DATA, "claims 1000000000 frames, the file holds 40");
    assert_true(kd_alloc_calls() - before < 200);
    kd_video_opts opts = {.lenient = true};
    kd_video_info info;
    assert_int_equal(kd_video_count(in_root("lie.avi"), &opts, &info, NULL), KD_OK);
    assert_int_equal(info.frames, N);

    static const uint8_t two[4] = {2, 0, 0, 0}; /* the decoded count is the truth, not the header */
    memcpy(find(p, n, "avih") + 8 + 16, two, 4);
    memcpy(find(p, n, "strh") + 8 + 32, two, 4);
    save(in_root("lie.avi"), p, n);
    assert_int_equal(kd_video_count(in_root("lie.avi"), NULL, &info, NULL), KD_OK);
    assert_int_equal(info.frames, N);
    kd_free(p);
}

static void test_limits(void **state)
{
    (void)state;
    kd_video_info info;
    kd_err err = {0};
    kd_video_opts opts = {.max_frames = 12};
    assert_int_equal(kd_video_count(in_root("good.avi"), &opts, &info, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "more than 12 frames"));
    opts = (kd_video_opts){.max_pixels = W * H - 1};
    assert_int_not_equal(kd_video_count(in_root("good.avi"), &opts, &info, NULL), KD_OK);
    err = (kd_err){0};
    opts = (kd_video_opts){.max_bytes = 1000};
    assert_int_equal(kd_video_count(in_root("good.avi"), &opts, &info, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "at most 1000"));
}

/* Two raw streams of pictures, one behind the other: the size changes at frame 6. */
static void test_size_change(void **state)
{
    (void)state;
    size_t na, nb;
    kd_video_info info;
    kd_video_clip clip;
    kd_err err = {0};
    const kd_video_writer_opts raw = {.codec = KD_VIDEO_MJPEG, .container = "mjpeg"};
    make(in_root("a.mjpeg"), W, H, 6, &raw);
    make(in_root("b.mjpeg"), 2 * W, 2 * H, 6, &raw);
    uint8_t *a = load(in_root("a.mjpeg"), &na);
    uint8_t *b = load(in_root("b.mjpeg"), &nb);
    uint8_t *both = kd_alloc(na + nb);
    assert_non_null(both);
    memcpy(both, a, na);
    memcpy(both + na, b, nb);
    save(in_root("both.mjpeg"), both, na + nb);
    kd_free(a);
    kd_free(b);
    kd_free(both);
    refused(in_root("both.mjpeg"), KD_E_DATA, "frame 6 is 192x128, the frames before are 96x64");
    const kd_video_opts lenient = {.lenient = true};
    const size_t idx[] = {5, 11};
    if (kd_video_read(in_root("both.mjpeg"), &lenient, idx, 2, &clip, &info, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(info.size_changes, 6);
    assert_int_equal(clip.width, W);
    assert_int_equal(clip.height, H);
    assert_int_equal(which(clip.rgb), 5);
    assert_int_equal(which(clip.rgb + W * H * 3), 5); /* the second clip's last frame, scaled */
    kd_video_clip_free(&clip);
}

/* A picture that does not decode: refused; leniently the frames behind it move up and the caller
 * picks again. */
static void test_lost_frame(void **state)
{
    (void)state;
    size_t n, calls = 0;
    kd_video_info info;
    kd_video_clip clip;
    const kd_video_writer_opts jpeg = {.codec = KD_VIDEO_MJPEG};
    const kd_video_opts lenient = {.lenient = true};
    make(in_root("jpeg.avi"), W, H, N, &jpeg);
    uint8_t *p = load(in_root("jpeg.avi"), &n);
    uint8_t *c = find(p, n, "movi");
    for (int k = 0; k < 11; k++) {
        c = find(c + 4, n - (size_t)(c + 4 - p), "00dc");
    }
    memset(c + 8, 0, c[4] | (size_t)c[5] << 8); /* the payload of picture 10 */
    save(in_root("lost.avi"), p, n);
    kd_free(p);
    refused(in_root("lost.avi"), KD_E_FORMAT, "picture 10 does not decode");
    assert_int_equal(kd_video_sample(in_root("lost.avi"), &lenient, choose_ends, &calls, 2, &clip, &info, NULL), KD_OK);
    assert_int_equal(info.frames, N - 1);
    assert_int_equal(info.passes, 2);
    assert_int_equal(calls, 2);
    assert_true(info.damaged >= 1);
    assert_int_equal(which(clip.rgb + W * H * 3), N - 1);
    kd_video_clip_free(&clip);
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static void test_not_videos(void **state)
{
    (void)state;
    uint8_t bytes[4096];
    save(in_root("empty.avi"), bytes, 0);
    refused(in_root("empty.avi"), KD_E_FORMAT, "empty file");
    uint32_t x = 3;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
    }
    save(in_root("noise.avi"), bytes, sizeof bytes);
    refused(in_root("noise.avi"), KD_E_FORMAT, "cannot");
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t) "lorem ipsum dolor sit\n"[i % 22];
    }
    save(in_root("text.avi"), bytes, sizeof bytes);
    refused(in_root("text.avi"), KD_E_FORMAT, "text.avi");
    static const char playlist[] = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ngood.avi\n#EXT-X-ENDLIST\n";
    save(in_root("list.m3u8"), (const uint8_t *)playlist, sizeof playlist - 1);
    refused(in_root("list.m3u8"), KD_E_FORMAT, "list.m3u8");

    uint8_t wav[44 + 16000] = "RIFF....WAVEfmt "; /* 16-bit mono silence of one second */
    put32(wav + 4, sizeof wav - 8);
    put32(wav + 16, 16);
    put32(wav + 20, 1 | 1 << 16);
    put32(wav + 24, 8000);
    put32(wav + 28, 16000);
    put32(wav + 32, 2 | 16 << 16);
    memcpy(wav + 36, "data", 4);
    put32(wav + 40, 16000);
    save(in_root("audio.avi"), wav, sizeof wav);
    refused(in_root("audio.avi"), KD_E_FORMAT, "expected a video stream, found none (1 audio)");

    assert_int_equal(mkfifo(in_root("fifo.avi"), 0600), 0);
    refused(in_root("fifo.avi"), KD_E_IO, "fifo.avi"); /* and does not wait for a writer */
    refused(root, KD_E_IO, root);
    refused(in_root("absent.avi"), KD_E_IO, "absent.avi");
}

/* AVI whose stream holds no picture: the list of pictures is emptied. */
static void test_no_frames(void **state)
{
    (void)state;
    size_t n;
    uint8_t *p = load(in_root("good.avi"), &n);
    uint8_t *movi = find(p, n, "movi");
    save(in_root("none.avi"), p, (size_t)(movi + 4 - p));
    kd_video_info info;
    kd_err err = {0};
    const kd_status st = kd_video_count(in_root("none.avi"), NULL, &info, &err);
    assert_true(st == KD_E_FORMAT || st == KD_E_DATA);
    assert_non_null(strstr(err.msg, "none.avi"));
    kd_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),       cmocka_unit_test(test_flips),       cmocka_unit_test(test_header_lies),
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_size_change), cmocka_unit_test(test_not_videos),
        cmocka_unit_test(test_no_frames), cmocka_unit_test(test_lost_frame),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
