/* Video: what the encoder writes comes back in order; every kind of damage is refused by name,
 * nothing is patched. */
#include "formats/io.h"
#include "formats/video.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

enum { W = 96, H = 64, N = 40 };

static char root[64];

static const char *in_root(const char *name)
{
    static char buf[8][160];
    static unsigned next;
    char *p = buf[next++ % 8];
    (void)snprintf(p, sizeof buf[0], "%s/%s", root, name);
    return p;
}

/* Frame t: a flat colour that tells t, and a square that moves, so that coding it needs motion. */
static void paint(uint8_t *rgb, int w, int h, int t)
{
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            const bool square = x / 16 == t % 5 && y / 16 == 1;
            uint8_t *p = rgb + 3 * (y * w + x);
            p[0] = (uint8_t)(40 + 4 * t);
            p[1] = square ? 220 : 60;
            p[2] = (uint8_t)(200 - 4 * t);
        }
    }
}

static void make(const char *path, int w, int h, int frames, const kd_video_writer_opts *opts)
{
    kd_video_writer *v = NULL;
    kd_err err = {0};
    uint8_t *rgb = kd_alloc((size_t)w * (size_t)h * 3);
    assert_non_null(rgb);
    if (kd_video_writer_open(path, w, h, 30, 1, opts, &v, &err) != KD_OK) fail_msg("%s", err.msg);
    for (int t = 0; t < frames; t++) {
        paint(rgb, w, h, t);
        if (kd_video_writer_frame(v, rgb, 0, &err) != KD_OK) fail_msg("%s", err.msg);
    }
    if (kd_video_writer_close(v, &err) != KD_OK) fail_msg("%s", err.msg);
    kd_free(rgb);
}

/* Which frame a picture of make() is, from its red channel away from the square. */
static int which(const uint8_t *rgb)
{
    return (rgb[0] - 40 + 2) / 4;
}

static uint8_t *load(const char *path, size_t *n)
{
    uint8_t *p = NULL;
    assert_int_equal(kd_io_read_file(path, 64 << 20, &p, n, NULL), KD_OK);
    return p;
}

static void save(const char *path, const uint8_t *p, size_t n)
{
    assert_int_equal(kd_io_write_file(path, p, n, NULL), KD_OK);
}

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

/* ---- good clips ------------------------------------------------------------------------------ */

static void test_order(void **state)
{
    (void)state;
    kd_video_info info;
    kd_video_clip clip;
    kd_err err = {0};
    static const size_t idx[] = {39, 0, 7, 7, 20, 1, 38};
    assert_int_equal(kd_video_count(in_root("good.avi"), NULL, &info, &err), KD_OK);
    assert_int_equal(info.frames, N);
    assert_int_equal(info.claimed, N);
    assert_int_equal(info.width, W);
    assert_int_equal(info.height, H);
    assert_int_equal(info.damaged, 0);
    assert_true(info.fps > 29.9 && info.fps < 30.1);
    assert_int_equal(kd_video_probe(in_root("good.avi"), NULL, &info, &err), KD_OK);
    assert_int_equal(info.packets, N);
    if (kd_video_read(in_root("good.avi"), NULL, idx, KD_COUNTOF(idx), &clip, &info, &err) !=
        KD_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(info.passes, 1);
    assert_int_equal(clip.n, KD_COUNTOF(idx));
    for (size_t i = 0; i < clip.n; i++) {
        const uint8_t *p = clip.rgb + i * W * H * 3;
        assert_int_equal(which(p), idx[i]);
        const int x =
            16 * (int)(idx[i] % 5) + 8; /* the square is where it was painted, and green */
        assert_true(p[3 * (24 * W + x) + 1] > 180);
        assert_true(p[3 * (24 * W + (x + 32) % 80) + 1] < 100);
    }
    kd_video_clip_free(&clip);

    const size_t beyond = N;
    assert_int_equal(kd_video_read(in_root("good.avi"), NULL, &beyond, 1, &clip, NULL, &err),
                     KD_E_DATA);
    assert_non_null(strstr(err.msg, "frame 40 wanted, the clip has frames 0 to 39"));
}

static kd_status choose_ends(void *ctx, size_t frames, size_t *idx, size_t n, kd_err *err)
{
    (void)err;
    *(size_t *)ctx += 1;
    idx[0] = 0;
    idx[n - 1] = frames - 1;
    return KD_OK;
}

static kd_status choose_fails(void *ctx, size_t frames, size_t *idx, size_t n, kd_err *err)
{
    (void)ctx;
    (void)idx;
    (void)n;
    return KD_FAIL(err, KD_E_NUMERIC, "no frame of %zu suits", frames);
}

static void test_sample(void **state)
{
    (void)state;
    kd_video_clip clip;
    kd_video_info info;
    kd_err err = {0};
    size_t calls = 0;
    const kd_video_opts known = {.known_frames = N}, early = {.known_frames = 10},
                        late = {.known_frames = N + 5};
    assert_int_equal(
        kd_video_sample(in_root("good.avi"), NULL, choose_ends, &calls, 2, &clip, &info, NULL),
        KD_OK);
    assert_int_equal(calls, 1);
    assert_int_equal(which(clip.rgb + W * H * 3), N - 1);
    kd_video_clip_free(&clip);
    assert_int_equal(
        kd_video_sample(in_root("good.avi"), &known, choose_ends, &calls, 2, &clip, &info, NULL),
        KD_OK);
    assert_int_equal(which(clip.rgb + W * H * 3), N - 1);
    kd_video_clip_free(&clip);
    assert_int_equal(
        kd_video_sample(in_root("good.avi"), &early, choose_ends, &calls, 2, &clip, &info, NULL),
        KD_OK);
    assert_int_equal(which(clip.rgb + W * H * 3), 9);
    assert_int_equal(info.frames, 10);
    kd_video_clip_free(&clip);
    assert_int_equal(
        kd_video_sample(in_root("good.avi"), &late, choose_ends, &calls, 2, &clip, &info, &err),
        KD_E_DATA);
    assert_non_null(strstr(err.msg, "the file has changed"));
    err = (kd_err){0};
    assert_int_equal(
        kd_video_sample(in_root("good.avi"), NULL, choose_fails, NULL, 2, &clip, &info, &err),
        KD_E_NUMERIC);
    assert_string_equal(err.msg, "no frame of 40 suits");
}

static void test_one_frame(void **state)
{
    (void)state;
    kd_video_info info;
    kd_video_clip clip;
    const size_t idx[] = {0, 0, 0};
    make(in_root("one.avi"), W, H, 1, NULL);
    assert_int_equal(kd_video_read(in_root("one.avi"), NULL, idx, 3, &clip, &info, NULL), KD_OK);
    assert_int_equal(info.frames, 1);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(which(clip.rgb + i * W * H * 3), 0);
    kd_video_clip_free(&clip);
}

/* Same frames, same bytes; every codec comes back; a stride is honoured. */
static void test_writer(void **state)
{
    (void)state;
    size_t n[2];
    make(in_root("again.avi"), W, H, N, NULL);
    uint8_t *a = load(in_root("good.avi"), &n[0]);
    uint8_t *b = load(in_root("again.avi"), &n[1]);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(a, b, n[0]);
    kd_free(a);
    kd_free(b);
    static const kd_video_codec codec[] = {KD_VIDEO_MPEG4, KD_VIDEO_MJPEG};
    for (size_t i = 0; i < KD_COUNTOF(codec); i++) {
        const kd_video_writer_opts opts = {.codec = codec[i]};
        kd_video_info info;
        kd_video_clip clip;
        const size_t last = N - 1;
        make(in_root("other.avi"), W, H, N, &opts);
        assert_int_equal(kd_video_read(in_root("other.avi"), NULL, &last, 1, &clip, &info, NULL),
                         KD_OK);
        assert_int_equal(info.frames, N);
        assert_int_equal(which(clip.rgb), N - 1);
        kd_video_clip_free(&clip);
    }
}

static void test_writer_refuses(void **state)
{
    (void)state;
    kd_video_writer *v;
    kd_err err = {0};
    const kd_video_writer_opts odd = {.container = "no-such-container"};
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 33, 64, 30, 1, NULL, &v, &err),
                     KD_E_ARG);
    assert_non_null(strstr(err.msg, "33x64"));
    assert_null(v);
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 32, 64, 0, 1, NULL, &v, NULL),
                     KD_E_ARG);
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 32, 64, 30, 1, &odd, &v, NULL),
                     KD_E_UNSUPPORTED);
    assert_int_equal(kd_video_writer_open(in_root("none/x.avi"), 32, 64, 30, 1, NULL, &v, NULL),
                     KD_E_WRITE);
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 32, 64, 30, 1, NULL, &v, NULL), KD_OK);
    kd_video_writer_abort(v);
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 32, 64, 30, 1, NULL, &v, NULL), KD_OK);
    assert_int_equal(kd_video_writer_close(v, &(kd_err){0}), KD_E_STATE); /* no frame */
    char **names;
    size_t n;
    assert_int_equal(kd_io_list_dir(root, &names, &n, NULL), KD_OK);
    for (size_t i = 0; i < n; i++)
        assert_null(strstr(names[i], "x.avi")); /* nor its temporary name */
    kd_free(names);
}

/* ---- damaged clips --------------------------------------------------------------------------- */

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
        if (memcmp(p + i, tag, 4) == 0) return p + i;
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
    if (kd_video_read(in_root("both.mjpeg"), &lenient, idx, 2, &clip, &info, &err) != KD_OK)
        fail_msg("%s", err.msg);
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
    for (int k = 0; k < 11; k++)
        c = find(c + 4, n - (size_t)(c + 4 - p), "00dc");
    memset(c + 8, 0, c[4] | (size_t)c[5] << 8); /* the payload of picture 10 */
    save(in_root("lost.avi"), p, n);
    kd_free(p);
    refused(in_root("lost.avi"), KD_E_FORMAT, "picture 10 does not decode");
    assert_int_equal(
        kd_video_sample(in_root("lost.avi"), &lenient, choose_ends, &calls, 2, &clip, &info, NULL),
        KD_OK);
    assert_int_equal(info.frames, N - 1);
    assert_int_equal(info.passes, 2);
    assert_int_equal(calls, 2);
    assert_true(info.damaged >= 1);
    assert_int_equal(which(clip.rgb + W * H * 3), N - 1);
    kd_video_clip_free(&clip);
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void test_not_videos(void **state)
{
    (void)state;
    uint8_t bytes[4096];
    save(in_root("empty.avi"), bytes, 0);
    refused(in_root("empty.avi"), KD_E_FORMAT, "empty file");
    uint32_t x = 3;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
    save(in_root("noise.avi"), bytes, sizeof bytes);
    refused(in_root("noise.avi"), KD_E_FORMAT, "cannot");
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t) "lorem ipsum dolor sit\n"[i % 22];
    save(in_root("text.avi"), bytes, sizeof bytes);
    refused(in_root("text.avi"), KD_E_FORMAT, "text.avi");
    static const char playlist[] =
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ngood.avi\n#EXT-X-ENDLIST\n";
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

static void test_memory(void **state)
{
    (void)state;
    const size_t idx[] = {3, 9};
    for (uint64_t n = 1;; n++) {
        kd_video_clip clip;
        kd_alloc_fail_at(n);
        const kd_status st = kd_video_read(in_root("good.avi"), NULL, idx, 2, &clip, NULL, NULL);
        kd_alloc_fail_at(0);
        kd_video_clip_free(&clip);
        if (st == KD_OK) {
            assert_true(n > 3);
            break;
        }
        assert_int_equal(st, KD_E_OOM);
    }
}

/* Clips on several threads: results and messages stay apart, no descriptor is left open. */
typedef struct job {
    const char *path;
    kd_status st;
    size_t frames;
    kd_err err;
} job;

static void *run_job(void *arg)
{
    job *j = arg;
    for (int i = 0; i < 8; i++) {
        kd_video_info info;
        j->err = (kd_err){0};
        j->st = kd_video_count(j->path, NULL, &info, &j->err);
        j->frames = info.frames;
    }
    return NULL;
}

static size_t open_files(void)
{
    char **names;
    size_t n;
    assert_int_equal(kd_io_list_dir("/proc/self/fd", &names, &n, NULL), KD_OK);
    kd_free(names);
    return n;
}

static void test_threads(void **state)
{
    (void)state;
    size_t n;
    uint8_t *p = load(in_root("good.avi"), &n);
    save(in_root("hurt.avi"), p, n * 3 / 4);
    kd_free(p);
    char good[96], hurt[96];
    (void)snprintf(good, sizeof good, "%s/good.avi", root);
    (void)snprintf(hurt, sizeof hurt, "%s/hurt.avi", root);
    const size_t before = open_files();
    job jobs[4];
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) {
        jobs[i] = (job){.path = i % 2 == 0 ? good : hurt};
        assert_int_equal(pthread_create(&thread[i], NULL, run_job, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        if (i % 2 == 0) {
            assert_int_equal(jobs[i].st, KD_OK);
            assert_int_equal(jobs[i].frames, N);
            assert_string_equal(jobs[i].err.msg, "");
        } else {
            assert_int_equal(jobs[i].st, KD_E_FORMAT);
            assert_non_null(strstr(jobs[i].err.msg, hurt));
        }
    }
    assert_int_equal(open_files(), before);
}

static void test_version(void **state)
{
    (void)state;
    assert_true(kd_video_available());
    assert_non_null(strstr(kd_video_decoder_version(), "avcodec"));
    assert_non_null(strstr(kd_video_decoder_version(), "bt601"));
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "test_video.%ld", (long)getpid());
    if (kd_io_mkdirs(root, NULL) != KD_OK) return -1;
    make(in_root("good.avi"), W, H, N, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return kd_io_remove_tree(root, NULL) == KD_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),          cmocka_unit_test(test_sample),
        cmocka_unit_test(test_one_frame),      cmocka_unit_test(test_writer),
        cmocka_unit_test(test_writer_refuses), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_flips),          cmocka_unit_test(test_header_lies),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_size_change),
        cmocka_unit_test(test_not_videos),     cmocka_unit_test(test_no_frames),
        cmocka_unit_test(test_lost_frame),     cmocka_unit_test(test_memory),
        cmocka_unit_test(test_threads),        cmocka_unit_test(test_version),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
