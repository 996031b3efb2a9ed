/* One video written anew, smaller: see video.h.  No FFmpeg in here. */
#include "formats/video/image.h"
#include "formats/video/video.h"

#include <math.h>

typedef struct transcode {
    const char *to;
    int short_side;
    const kd_video_writer_opts *opts;
    kd_video_info in;
    kd_video_writer *writer;
    kd_image_resizer *resizer;
    uint8_t *rgb; /* [height][width][3] of a resized frame */
    int width, height;
    size_t frames;
} transcode;

static void start_over(transcode *t)
{
    kd_video_writer_abort(t->writer);
    kd_image_resizer_free(t->resizer);
    kd_free(t->rgb);
    t->writer = NULL;
    t->resizer = NULL;
    t->rgb = NULL;
    t->frames = 0;
}

static kd_status want_all(void *ctx, size_t n, uint8_t *want, kd_err *err)
{
    (void)err;
    start_over(ctx);
    memset(want, 1, n);
    return KD_OK;
}

/* Encoders take even sizes. */
static int even(int n)
{
    return KD_MAX(16, (n + 1) / 2 * 2);
}

static kd_status start(transcode *t, int width, int height, kd_err *err)
{
    int w = width, h = height;
    if (KD_MIN(width, height) > t->short_side) {
        kd_image_short_side(width, height, t->short_side, &w, &h);
    }
    t->width = even(w);
    t->height = even(h);
    if (t->width != width || t->height != height) {
        t->rgb = kd_alloc((size_t)t->width * (size_t)t->height * 3);
        if (t->rgb == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for a frame of %dx%d", t->to, t->width, t->height);
        }
        KD_TRY(
            kd_image_resizer_create(KD_RESIZER_PILLOW_BICUBIC, width, height, t->width, t->height, &t->resizer, err));
    }
    const double fps = t->in.fps > 0.0 && t->in.fps <= 1000.0 ? t->in.fps : 30.0;
    const int den = fps <= 60.0 ? 1000 : 60;
    return kd_video_writer_open(t->to, t->width, t->height, KD_MAX(1, (int)lround(fps * den)), den, t->opts, &t->writer,
                                err);
}

static kd_status on_frame(void *ctx, size_t index, const uint8_t *rgb, int width, int height, size_t stride,
                          kd_err *err)
{
    transcode *t = ctx;
    (void)index;
    if (t->writer == NULL) {
        KD_TRY(start(t, width, height, err));
    }
    t->frames++;
    if (t->resizer == NULL) {
        return kd_video_writer_frame(t->writer, rgb, stride, err);
    }
    kd_image_resize(t->resizer, rgb, stride, t->rgb, (size_t)t->width * 3);
    return kd_video_writer_frame(t->writer, t->rgb, 0, err);
}

kd_status kd_video_transcode(const char *from, const char *to, int short_side, const kd_video_writer_opts *opts,
                             kd_video_info *info, kd_err *err)
{
    transcode t = {.to = to, .short_side = short_side, .opts = opts};
    kd_status st = kd_video_scan(from, NULL, want_all, on_frame, &t, &t.in, err);
    if (st == KD_OK) {
        kd_video_writer *w = t.writer;
        t.writer = NULL;
        st = kd_video_writer_close(w, err);
    }
    const size_t frames = t.frames;
    start_over(&t);
    KD_TRY(st);
    KD_TRY(kd_video_count(to, NULL, info, err));
    if (info->frames != frames) {
        return KD_FAIL(err, KD_E_DATA, "%s: %zu frames were written, %zu come back", to, frames, info->frames);
    }
    return KD_OK;
}
