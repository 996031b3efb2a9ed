/* Video without FFmpeg: every call says which build option brings it. */
#include "formats/video/video.h"

static kd_status refuse(const char *path, kd_err *err)
{
    return KD_FAIL(err, KD_E_UNSUPPORTED, "%s: this build reads and writes no video; configure with -DKD_FFMPEG=ON",
                   path);
}

bool kd_video_available(void)
{
    return false;
}

const char *kd_video_decoder_version(void)
{
    return "none (built with KD_FFMPEG=OFF)";
}

kd_status kd_video_probe(const char *path, const kd_video_opts *opts, kd_video_info *info, kd_err *err)
{
    (void)opts;
    (void)info;
    return refuse(path, err);
}

kd_status kd_video_count(const char *path, const kd_video_opts *opts, kd_video_info *info, kd_err *err)
{
    (void)opts;
    (void)info;
    return refuse(path, err);
}

kd_status kd_video_scan(const char *path, const kd_video_opts *opts, kd_video_pick pick, kd_video_sink sink, void *ctx,
                        kd_video_info *info, kd_err *err)
{
    (void)opts;
    (void)pick;
    (void)sink;
    (void)ctx;
    (void)info;
    return refuse(path, err);
}

kd_status kd_video_writer_open(const char *path, int width, int height, int fps_num, int fps_den,
                               const kd_video_writer_opts *opts, kd_video_writer **out, kd_err *err)
{
    (void)width;
    (void)height;
    (void)fps_num;
    (void)fps_den;
    (void)opts;
    *out = NULL;
    return refuse(path, err);
}

kd_status kd_video_writer_frame(kd_video_writer *w, const uint8_t *rgb, size_t stride, kd_err *err)
{
    (void)w;
    (void)rgb;
    (void)stride;
    return refuse("video", err);
}

kd_status kd_video_writer_close(kd_video_writer *w, kd_err *err)
{
    (void)w;
    return refuse("video", err);
}

void kd_video_writer_abort(kd_video_writer *w)
{
    (void)w;
}

const char *kd_video_writer_codec(const kd_video_writer *w)
{
    (void)w;
    return "none";
}
