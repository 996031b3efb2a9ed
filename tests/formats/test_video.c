/* Video: what the encoder writes comes back in order, on any number of threads. */
#include "tests/formats/video_case.h"

#include <pthread.h>
#include <stdio.h>

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
    if (kd_video_read(in_root("good.avi"), NULL, idx, KD_COUNTOF(idx), &clip, &info, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(info.passes, 1);
    assert_int_equal(clip.n, KD_COUNTOF(idx));
    for (size_t i = 0; i < clip.n; i++) {
        const uint8_t *p = clip.rgb + i * W * H * 3;
        assert_int_equal(which(p), idx[i]);
        const int x = 16 * (int)(idx[i] % 5) + 8; /* the square is where it was painted, and green */
        assert_true(p[3 * (24 * W + x) + 1] > 180);
        assert_true(p[3 * (24 * W + (x + 32) % 80) + 1] < 100);
    }
    kd_video_clip_free(&clip);

    const size_t beyond = N;
    assert_int_equal(kd_video_read(in_root("good.avi"), NULL, &beyond, 1, &clip, NULL, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "frame 40 wanted, the clip has frames 0 to 39"));
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
    const kd_video_opts known = {.known_frames = N}, early = {.known_frames = 10}, late = {.known_frames = N + 5};
    assert_int_equal(kd_video_sample(in_root("good.avi"), NULL, choose_ends, &calls, 2, &clip, &info, NULL), KD_OK);
    assert_int_equal(calls, 1);
    assert_int_equal(which(clip.rgb + W * H * 3), N - 1);
    kd_video_clip_free(&clip);
    assert_int_equal(kd_video_sample(in_root("good.avi"), &known, choose_ends, &calls, 2, &clip, &info, NULL), KD_OK);
    assert_int_equal(which(clip.rgb + W * H * 3), N - 1);
    kd_video_clip_free(&clip);
    assert_int_equal(kd_video_sample(in_root("good.avi"), &early, choose_ends, &calls, 2, &clip, &info, NULL), KD_OK);
    assert_int_equal(which(clip.rgb + W * H * 3), 9);
    assert_int_equal(info.frames, 10);
    kd_video_clip_free(&clip);
    assert_int_equal(kd_video_sample(in_root("good.avi"), &late, choose_ends, &calls, 2, &clip, &info, &err),
                     KD_E_DATA);
    assert_non_null(strstr(err.msg, "the file has changed"));
    err = (kd_err){0};
    assert_int_equal(kd_video_sample(in_root("good.avi"), NULL, choose_fails, NULL, 2, &clip, &info, &err),
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
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(which(clip.rgb + i * W * H * 3), 0);
    }
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
        assert_int_equal(kd_video_read(in_root("other.avi"), NULL, &last, 1, &clip, &info, NULL), KD_OK);
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
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 33, 64, 30, 1, NULL, &v, &err), KD_E_ARG);
    assert_non_null(strstr(err.msg, "33x64"));
    assert_null(v);
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 32, 64, 0, 1, NULL, &v, NULL), KD_E_ARG);
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 32, 64, 30, 1, &odd, &v, NULL), KD_E_UNSUPPORTED);
    assert_int_equal(kd_video_writer_open(in_root("none/x.avi"), 32, 64, 30, 1, NULL, &v, NULL), KD_E_WRITE);
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 32, 64, 30, 1, NULL, &v, NULL), KD_OK);
    kd_video_writer_abort(v);
    assert_int_equal(kd_video_writer_open(in_root("x.avi"), 32, 64, 30, 1, NULL, &v, NULL), KD_OK);
    assert_int_equal(kd_video_writer_close(v, &(kd_err){0}), KD_E_STATE); /* no frame */
    char **names;
    size_t n;
    assert_int_equal(kd_io_list_dir(root, &names, &n, NULL), KD_OK);
    for (size_t i = 0; i < n; i++) {
        assert_null(strstr(names[i], "x.avi")); /* nor its temporary name */
    }
    kd_free(names);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),   cmocka_unit_test(test_sample),         cmocka_unit_test(test_one_frame),
        cmocka_unit_test(test_writer),  cmocka_unit_test(test_writer_refuses), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_version),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
