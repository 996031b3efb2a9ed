/* Encoding with FFmpeg: see video.h.  One thread, bit-exact flags: the same frames give the same
 * bytes. */
#include "formats/base/io.h"
#include "formats/video/video.h"
#include "formats/video/video_av.h"

#include <errno.h>
#include <fcntl.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <stdio.h>
#include <unistd.h>

#define GOP_ONE_KEY 1000000 /* longer than any clip: the first picture stays the only key frame */

struct kd_video_writer {
    char *path, *target, *tmp; /* as given, what is replaced, under construction */
    AVFormatContext *fmt;
    AVStream *stream;
    AVCodecContext *enc;
    struct SwsContext *sws;
    AVFrame *frame;
    uint8_t *rgb; /* copy of the picture with slack behind it: swscale reads whole vectors */
    size_t rgb_stride;
    AVPacket *packet;
    int64_t n;
    bool header, failed;
};

static kd_status fail_av(kd_video_writer *w, const kd_av_log *log, int rc, const char *what, kd_err *err)
{
    char text[KD_AV_ERRSTR];
    w->failed = true;
    if (rc == AVERROR(ENOMEM)) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory to %s", w->path, what);
    }
    return KD_FAIL(err, KD_E_WRITE, "%s: cannot %s: %s%s%s", w->path, what, kd_av_strerror(rc, text),
                   log->last[0] != '\0' ? "; " : "", log->last);
}

static const AVCodec *find_encoder(kd_video_codec codec)
{
    switch (codec) {
    case KD_VIDEO_H264:
        return avcodec_find_encoder_by_name("libx264");
    case KD_VIDEO_MPEG4:
        return avcodec_find_encoder(AV_CODEC_ID_MPEG4);
    case KD_VIDEO_MJPEG:
        return avcodec_find_encoder(AV_CODEC_ID_MJPEG);
    case KD_VIDEO_RAW:
        return avcodec_find_encoder(AV_CODEC_ID_RAWVIDEO);
    case KD_VIDEO_AUTO:
        break;
    }
    const AVCodec *h264 = avcodec_find_encoder_by_name("libx264");
    return h264 != NULL ? h264 : avcodec_find_encoder(AV_CODEC_ID_MPEG4);
}

static kd_status open_encoder(kd_video_writer *w, const AVCodec *codec, int width, int height, int fps_num, int fps_den,
                              const kd_video_writer_opts *o, const kd_av_log *log, kd_err *err)
{
    const bool x264 = codec->id == AV_CODEC_ID_H264;
    const bool jpeg = codec->id == AV_CODEC_ID_MJPEG;
    const bool raw = codec->id == AV_CODEC_ID_RAWVIDEO;
    w->enc = avcodec_alloc_context3(codec);
    if (w->enc == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for the encoder", w->path);
    }
    AVCodecContext *c = w->enc;
    c->width = width;
    c->height = height;
    c->pix_fmt = raw ? AV_PIX_FMT_RGB24 : jpeg ? AV_PIX_FMT_YUVJ420P : AV_PIX_FMT_YUV420P;
    c->time_base = (AVRational){fps_den, fps_num};
    c->framerate = (AVRational){fps_num, fps_den};
    c->gop_size = o->gop > 0 ? o->gop : GOP_ONE_KEY;
    c->max_b_frames = raw || jpeg || o->b_frames < 0 ? 0 : o->b_frames > 0 ? o->b_frames : 2;
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    if ((w->fmt->oformat->flags & AVFMT_GLOBALHEADER) != 0) {
        c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    }
    int rc = 0;
    if (x264) {
        rc = av_opt_set_int(c->priv_data, "crf", o->quality > 0 ? o->quality : 20, 0);
        if (rc >= 0) {
            rc = av_opt_set(c->priv_data, "preset", "veryfast", 0);
        }
        if (rc >= 0) {
            rc = av_opt_set(c->priv_data, "profile", "high", 0);
        }
        /* no scene-cut key frames: NTU's clips have one; FFmpeg caps MPEG-4's gop itself */
        if (rc >= 0) {
            rc = av_opt_set(c->priv_data, "x264-params", "scenecut=0:log-level=0", 0);
        }
    } else if (!raw) {
        if (!jpeg) {
            c->gop_size = KD_MIN(c->gop_size, 600); /* MPEG-4 part 2's own limit */
        }
        c->flags |= AV_CODEC_FLAG_QSCALE;
        c->global_quality = (o->quality > 0 ? KD_MIN(o->quality, 31) : 3) * FF_QP2LAMBDA;
    }
    if (rc >= 0) {
        rc = avcodec_open2(c, codec, NULL);
    }
    return rc >= 0 ? KD_OK : fail_av(w, log, rc, "open the encoder", err);
}

static kd_status open_output(kd_video_writer *w, const char *container, const kd_av_log *log, kd_err *err)
{
    w->stream = avformat_new_stream(w->fmt, NULL);
    if (w->stream == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for a %s stream", w->path, container);
    }
    w->stream->time_base = w->enc->time_base;
    w->stream->avg_frame_rate = w->enc->framerate;
    int rc = avcodec_parameters_from_context(w->stream->codecpar, w->enc);
    if (rc < 0) {
        return fail_av(w, log, rc, "describe the stream", err);
    }
    /* Created here, so that it is empty and ours; FFmpeg opens by URL and "file:" keeps odd names
     * literal. */
    int fd = -1;
    KD_TRY(kd_io_temp_open(w->target, &w->tmp, &fd, err));
    (void)close(fd);
    char *url = kd_strf("file:%s", w->tmp);
    if (url == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for its name", w->path);
    }
    rc = avio_open(&w->fmt->pb, url, AVIO_FLAG_WRITE);
    kd_free(url);
    if (rc < 0) {
        return fail_av(w, log, rc, "open it", err);
    }
    w->fmt->flags |= AVFMT_FLAG_BITEXACT;
    rc = avformat_write_header(w->fmt, NULL);
    if (rc < 0) {
        return fail_av(w, log, rc, "write its header", err);
    }
    w->header = true;
    return KD_OK;
}

static kd_status open_converter(kd_video_writer *w, kd_err *err)
{
    const AVCodecContext *c = w->enc;
    w->frame = av_frame_alloc();
    w->packet = av_packet_alloc();
    w->sws = sws_getContext(c->width, c->height, AV_PIX_FMT_RGB24, c->width, c->height, c->pix_fmt,
                            SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT, NULL, NULL, NULL);
    w->rgb_stride = ((size_t)c->width * 3 + 127) / 64 * 64;
    w->rgb = kd_calloc((size_t)c->height + 1, w->rgb_stride);
    if (w->frame == NULL || w->packet == NULL || w->sws == NULL || w->rgb == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory to convert frames", w->path);
    }
    const int *bt601 = sws_getCoefficients(SWS_CS_ITU601);
    const int full = c->pix_fmt == AV_PIX_FMT_YUVJ420P;
    (void)sws_setColorspaceDetails(w->sws, bt601, 1, bt601, full, 0, 1 << 16, 1 << 16);
    w->frame->format = c->pix_fmt;
    w->frame->width = c->width;
    w->frame->height = c->height;
    if (av_frame_get_buffer(w->frame, 0) < 0) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for a frame", w->path);
    }
    return KD_OK;
}

static void writer_free(kd_video_writer *w)
{
    if (w->fmt != NULL) {
        if (w->fmt->pb != NULL) {
            (void)avio_closep(&w->fmt->pb);
        }
        avformat_free_context(w->fmt);
    }
    avcodec_free_context(&w->enc);
    sws_freeContext(w->sws);
    av_frame_free(&w->frame);
    av_packet_free(&w->packet);
    kd_free(w->rgb);
    kd_io_temp_end(w->tmp);
    kd_free(w->path);
    kd_free(w->target);
    kd_free(w->tmp);
    kd_free(w);
}

kd_status kd_video_writer_open(const char *path, int width, int height, int fps_num, int fps_den,
                               const kd_video_writer_opts *opts, kd_video_writer **out, kd_err *err)
{
    const kd_video_writer_opts o = opts != NULL ? *opts : (kd_video_writer_opts){0};
    const char *container = o.container != NULL ? o.container : "avi";
    kd_av_log log;
    kd_status st = KD_OK;
    *out = NULL;
    if (width < 16 || height < 16 || width > 8192 || height > 8192 || width % 2 != 0 || height % 2 != 0) {
        return KD_FAIL(err, KD_E_ARG, "%s: expected an even size from 16 to 8192, found %dx%d", path, width, height);
    }
    if (fps_num <= 0 || fps_den <= 0 || fps_num > 65535 || fps_den > 65535) {
        return KD_FAIL(err, KD_E_ARG, "%s: expected a frame rate of 1..65535 / 1..65535, found %d/%d", path, fps_num,
                       fps_den);
    }
    const AVCodec *codec = find_encoder(o.codec);
    if (codec == NULL) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "%s: this FFmpeg lacks the wanted encoder; ask for auto", path);
    }
    kd_video_writer *w = kd_calloc(1, sizeof *w);
    if (w == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for a video writer", path);
    }
    kd_av_log_enter(&log);
    w->path = kd_strdup(path);
    if (w->path == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for its name", path);
        goto done;
    }
    KD_GO(kd_io_target(path, &w->target, err));
    if (avformat_alloc_output_context2(&w->fmt, NULL, container, NULL) < 0 || w->fmt == NULL) {
        st = KD_FAIL(err, KD_E_UNSUPPORTED, "%s: this FFmpeg writes no container '%s'", path, container);
        goto done;
    }
    KD_GO(open_encoder(w, codec, width, height, fps_num, fps_den, &o, &log, err));
    KD_GO(open_output(w, container, &log, err));
    KD_GO(open_converter(w, err));
    *out = w;
    w = NULL;
done:
    kd_av_log_leave(&log);
    kd_video_writer_abort(w);
    return st;
}

/* Hand one frame (NULL: flush) to the encoder and write what it gives back. */
static kd_status encode(kd_video_writer *w, const AVFrame *frame, const kd_av_log *log, kd_err *err)
{
    int rc = avcodec_send_frame(w->enc, frame);
    if (rc < 0) {
        return fail_av(w, log, rc, "encode a frame", err);
    }
    for (;;) {
        rc = avcodec_receive_packet(w->enc, w->packet);
        if (rc == AVERROR(EAGAIN) || rc == AVERROR_EOF) {
            return KD_OK;
        }
        if (rc < 0) {
            return fail_av(w, log, rc, "encode a frame", err);
        }
        w->packet->duration = 1;
        av_packet_rescale_ts(w->packet, w->enc->time_base, w->stream->time_base);
        w->packet->stream_index = w->stream->index;
        rc = av_interleaved_write_frame(w->fmt, w->packet);
        if (rc >= 0 && w->fmt->pb->error < 0) {
            rc = w->fmt->pb->error;
        }
        if (rc < 0) {
            return fail_av(w, log, rc, "write", err);
        }
    }
}

kd_status kd_video_writer_frame(kd_video_writer *w, const uint8_t *rgb, size_t stride, kd_err *err)
{
    kd_av_log log;
    const size_t row = stride != 0 ? stride : (size_t)w->enc->width * 3;
    if (w->failed) {
        return KD_FAIL(err, KD_E_STATE, "%s: writing failed before; close or abort it", w->path);
    }
    for (size_t y = 0; y < (size_t)w->enc->height; y++) {
        memcpy(w->rgb + y * w->rgb_stride, rgb + y * row, (size_t)w->enc->width * 3);
    }
    kd_av_log_enter(&log);
    const uint8_t *src[4] = {w->rgb, NULL, NULL, NULL};
    const int src_stride[4] = {(int)w->rgb_stride, 0, 0, 0};
    kd_status st = KD_OK;
    const int rc = av_frame_make_writable(w->frame); /* the encoder may still hold the one before */
    if (rc < 0) {
        st = fail_av(w, &log, rc, "reuse a frame", err);
    } else {
        (void)sws_scale(w->sws, src, src_stride, 0, w->enc->height, w->frame->data, w->frame->linesize);
        w->frame->pts = w->n++;
        w->frame->quality = w->enc->global_quality;
        st = encode(w, w->frame, &log, err);
    }
    kd_av_log_leave(&log);
    return st;
}

kd_status kd_video_writer_close(kd_video_writer *w, kd_err *err)
{
    kd_av_log log;
    kd_status st = KD_OK;
    bool kept = false;
    kd_av_log_enter(&log);
    if (w->failed) {
        st = KD_FAIL(err, KD_E_STATE, "%s: writing failed before, the video is not kept", w->path);
        goto done;
    }
    if (w->n == 0) {
        st = KD_FAIL(err, KD_E_STATE, "%s: no frame was written, the video is not kept", w->path);
        goto done;
    }
    KD_GO(encode(w, NULL, &log, err));
    int rc = av_write_trailer(w->fmt);
    w->header = false;
    if (rc >= 0 && w->fmt->pb->error < 0) {
        rc = w->fmt->pb->error;
    }
    if (rc >= 0) {
        rc = avio_closep(&w->fmt->pb);
    }
    if (rc < 0) {
        st = fail_av(w, &log, rc, "finish it", err);
        goto done;
    }
    const int fd = kd_io_open(w->tmp, O_WRONLY);
    if (fd < 0) {
        st = KD_FAIL(err, KD_E_WRITE, "%s: cannot open to flush: %s", w->tmp, strerror(errno));
        goto done;
    }
    st = kd_io_fd_sync(fd, w->tmp, err);
    (void)close(fd);
    if (st == KD_OK) {
        st = kd_io_rename(w->tmp, w->target, err);
    }
    kept = st == KD_OK;
done:
    if (!kept && w->tmp != NULL) {
        (void)unlink(w->tmp);
    }
    writer_free(w);
    kd_av_log_leave(&log);
    return st;
}

void kd_video_writer_abort(kd_video_writer *w)
{
    if (w == NULL) {
        return;
    }
    if (w->header) {
        kd_av_log log;
        kd_av_log_enter(&log);
        (void)av_write_trailer(w->fmt); /* frees what the muxer allocated for the header */
        kd_av_log_leave(&log);
    }
    if (w->tmp != NULL) {
        (void)unlink(w->tmp);
    }
    writer_free(w);
}

const char *kd_video_writer_codec(const kd_video_writer *w)
{
    return w->enc->codec->name;
}
