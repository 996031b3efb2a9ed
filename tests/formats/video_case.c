/* See video_case.h. */
#include "tests/formats/video_case.h"

#include <stdio.h>
#include <unistd.h>

char root[64];

const char *in_root(const char *name)
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

void make(const char *path, int w, int h, int frames, const kd_video_writer_opts *opts)
{
    kd_video_writer *v = NULL;
    kd_err err = {0};
    uint8_t *rgb = kd_alloc((size_t)w * (size_t)h * 3);
    assert_non_null(rgb);
    if (kd_video_writer_open(path, w, h, 30, 1, opts, &v, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    for (int t = 0; t < frames; t++) {
        paint(rgb, w, h, t);
        if (kd_video_writer_frame(v, rgb, 0, &err) != KD_OK) {
            fail_msg("%s", err.msg);
        }
    }
    if (kd_video_writer_close(v, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    kd_free(rgb);
}

/* From its red channel away from the square. */
int which(const uint8_t *rgb)
{
    return (rgb[0] - 40 + 2) / 4;
}

uint8_t *load(const char *path, size_t *n)
{
    uint8_t *p = NULL;
    assert_int_equal(kd_io_read_file(path, 64 << 20, &p, n, NULL), KD_OK);
    return p;
}

void save(const char *path, const uint8_t *p, size_t n)
{
    assert_int_equal(kd_io_write_file(path, p, n, NULL), KD_OK);
}

kd_status choose_ends(void *ctx, size_t frames, size_t *idx, size_t n, kd_err *err)
{
    (void)err;
    *(size_t *)ctx += 1;
    idx[0] = 0;
    idx[n - 1] = frames - 1;
    return KD_OK;
}

int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "test_video.%ld", (long)getpid());
    if (kd_io_mkdirs(root, NULL) != KD_OK) {
        return -1;
    }
    make(in_root("good.avi"), W, H, N, NULL);
    return 0;
}

int drop_root(void **state)
{
    (void)state;
    return kd_io_remove_tree(root, NULL) == KD_OK ? 0 : -1;
}
