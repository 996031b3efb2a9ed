/* Decoding with FFmpeg: see video.h.
 *
 * open_input -> load_packets (demux once) -> decode_pass (once, or twice when the decoder's count differs from the
 * packets') -> verdict.  Everything a pass counts goes to kd_video_info; the strict rules read it from there. */
#include "formats/video.h"

#include "formats/io.h"
#include "formats/video_av.h"

#include <errno.h>
#include <inttypes.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <stdio.h>
#include <unistd.h>

#define IO_BUFFER   (64 * 1024)
#define STREAMS_MAX "64"
#define SWS_FLAGS                                                                                  \
    SWS_BICUBIC /* what FFmpeg's own filters default to, hence what other readers give */
#define FIRST_ROOM 256

typedef struct reader {
    const char *path;
    kd_video_opts opts; /* resolved */
    kd_video_info *info;
    kd_av_log log;
    /* input */
    int fd;
    uint64_t size, at;
    int read_errno;
    AVIOContext *io;
    AVFormatContext *fmt;
    AVStream *stream;
    /* compressed pictures */
    AVPacket **packet;
    size_t n_packets, room;
    size_t damaged_packets;
    size_t discarded; /* packets an edit list cuts off: decoded, never shown */
    /* decoding */
    AVCodecContext *dec;
    AVFrame *frame;
    struct SwsContext *sws;
    int sws_w, sws_h, sws_fmt, sws_space, sws_range;
    uint8_t *rgb;
    size_t rgb_stride;
    uint8_t *want;
    size_t want_n, want_last; /* frames marked; index behind the last marked one */
    kd_video_pick pick;
    kd_video_sink sink;
    void *ctx;
} reader;

bool kd_video_available(void)
{
    return true;
}

const char *kd_video_decoder_version(void)
{
    /* clang-format off */
    return "ffmpeg avformat " AV_STRINGIFY(LIBAVFORMAT_VERSION)
           " avcodec " AV_STRINGIFY(LIBAVCODEC_VERSION)
           " swscale " AV_STRINGIFY(LIBSWSCALE_VERSION)
           "; decoder order; rgb24 full range, untagged = bt601 limited; bicubic";
    /* clang-format on */
}

/* ---- input ---------------------------------------------------------------------------------------------------- */

static int io_read(void *opaque, uint8_t *buf, int n)
{
    reader *r = opaque;
    for (int tries = 0;; tries++) {
        const ssize_t got = pread(r->fd, buf, (size_t)n, (off_t)r->at);
        if (got > 0) {
            r->at += (uint64_t)got;
            return (int)got;
        }
        if (got == 0) return AVERROR_EOF;
        if ((errno == EINTR || errno == EAGAIN || errno == ESTALE) && tries < 16) continue;
        r->read_errno = errno;
        return AVERROR(errno);
    }
}

static int64_t io_seek(void *opaque, int64_t offset, int whence)
{
    reader *r = opaque;
    if ((whence & AVSEEK_SIZE) != 0) return (int64_t)r->size;
    const int64_t base = (whence & 3) == SEEK_SET   ? 0
                         : (whence & 3) == SEEK_CUR ? (int64_t)r->at
                                                    : (int64_t)r->size;
    int64_t to;
    if (__builtin_add_overflow(base, offset, &to) || to < 0) return AVERROR(EINVAL);
    r->at = (uint64_t)to;
    return to;
}

/* Play lists and the like name further files or URLs: one path is asked for, one file is opened. */
static int io_open_other(AVFormatContext *s, AVIOContext **pb, const char *url, int flags,
                         AVDictionary **options)
{
    (void)s;
    (void)pb;
    (void)url;
    (void)flags;
    (void)options;
    return AVERROR(EPERM);
}

static kd_status not_a_video(reader *r, int rc, const char *what, kd_err *err)
{
    char text[KD_AV_ERRSTR];
    if (rc == AVERROR(ENOMEM)) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory to %s", r->path, what);
    }
    if (r->read_errno != 0) {
        return KD_FAIL(err, KD_E_IO, "%s: cannot read at byte %" PRIu64 ": %s", r->path, r->at,
                       strerror(r->read_errno));
    }
    return KD_FAIL(err, KD_E_FORMAT, "%s: cannot %s: %s%s%s", r->path, what,
                   kd_av_strerror(rc, text), r->log.last[0] != '\0' ? "; " : "", r->log.last);
}

/* The container, told by the file's content.  Lists that name other files, and text, are no videos. */
static kd_status probe_container(reader *r, const AVInputFormat **found, kd_err *err)
{
    static const char *const refused[] = {"hls", "dash", "concat",    "imf",
                                          "sdp", "tty",  "ffmetadata"};
    const int rc = av_probe_input_buffer2(r->io, found, "", NULL, 0, 0);
    if (rc < 0) {
        return not_a_video(r, rc, "recognise a video", err);
    }
    for (size_t i = 0; i < KD_COUNTOF(refused); i++) {
        if (strcmp((*found)->name, refused[i]) == 0) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: expected a video, found %s", r->path,
                           (*found)->long_name != NULL ? (*found)->long_name : (*found)->name);
        }
    }
    return KD_OK;
}

static kd_status pick_stream(reader *r, kd_err *err)
{
    size_t audio = 0;
    for (unsigned i = 0; i < r->fmt->nb_streams; i++) {
        AVStream *s = r->fmt->streams[i];
        const enum AVMediaType type = s->codecpar->codec_type;
        audio += type == AVMEDIA_TYPE_AUDIO;
        /* FFmpeg shows text as a screen of characters: not a video for us. */
        const bool text = s->codecpar->codec_id == AV_CODEC_ID_ANSI ||
                          s->codecpar->codec_id == AV_CODEC_ID_BINTEXT ||
                          s->codecpar->codec_id == AV_CODEC_ID_XBIN ||
                          s->codecpar->codec_id == AV_CODEC_ID_IDF;
        if (type == AVMEDIA_TYPE_VIDEO && !text && r->stream == NULL &&
            (s->disposition & AV_DISPOSITION_ATTACHED_PIC) == 0) {
            r->stream = s;
        } else {
            s->discard = AVDISCARD_ALL;
        }
    }
    if (r->stream == NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected a video stream, found none (%zu audio)",
                       r->path, audio);
    }
    return KD_OK;
}

static void describe(reader *r)
{
    kd_video_info *info = r->info;
    const AVCodecParameters *par = r->stream->codecpar;
    const char *pix = av_get_pix_fmt_name((enum AVPixelFormat)par->format);
    info->width = par->width;
    info->height = par->height;
    info->claimed = r->stream->nb_frames > 0 ? (uint64_t)r->stream->nb_frames : 0;
    const AVRational rate = r->stream->avg_frame_rate;
    info->fps = rate.den != 0 ? (double)rate.num / (double)rate.den : 0.0;
    (void)snprintf(info->codec, sizeof info->codec, "%s", avcodec_get_name(par->codec_id));
    (void)snprintf(info->container, sizeof info->container, "%s", r->fmt->iformat->name);
    (void)snprintf(info->pix_fmt, sizeof info->pix_fmt, "%s", pix != NULL ? pix : "unknown");
}

static kd_status open_input(reader *r, kd_err *err)
{
    AVDictionary *options = NULL;
    KD_TRY(kd_io_open_read(r->path, &r->fd, &r->size, err));
    if (r->size == 0) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected a video, found an empty file", r->path);
    }
    if (r->size > r->opts.max_bytes) {
        return KD_FAIL(err, KD_E_DATA, "%s: %" PRIu64 " bytes, at most %" PRIu64 " are read",
                       r->path, r->size, r->opts.max_bytes);
    }
    uint8_t *buffer = av_malloc(IO_BUFFER); /* FFmpeg may replace it, so it must be FFmpeg's */
    r->io =
        buffer == NULL ? NULL : avio_alloc_context(buffer, IO_BUFFER, 0, r, io_read, NULL, io_seek);
    r->fmt = avformat_alloc_context();
    if (r->io == NULL || r->fmt == NULL) {
        if (r->io == NULL) av_free(buffer);
        return KD_FAIL(err, KD_E_OOM, "%s: no memory to open it", r->path);
    }
    r->fmt->pb = r->io;
    r->fmt->io_open = io_open_other;
    r->fmt->flags |= AVFMT_FLAG_CUSTOM_IO;
    const AVInputFormat *container = NULL;
    KD_TRY(probe_container(r, &container, err));
    int rc = av_dict_set(&options, "max_streams", STREAMS_MAX, 0);
    /* frees fmt when it fails */
    if (rc >= 0) rc = avformat_open_input(&r->fmt, "", container, &options);
    av_dict_free(&options);
    if (rc < 0) {
        return not_a_video(r, rc, "open it as a video", err);
    }
    rc = avformat_find_stream_info(r->fmt, NULL);
    if (rc < 0) {
        return not_a_video(r, rc, "find its streams", err);
    }
    KD_TRY(pick_stream(r, err));
    describe(r);
    return KD_OK;
}

/* ---- packets ---------------------------------------------------------------------------------------------------- */

static kd_status keep_packet(reader *r, AVPacket *packet, kd_err *err)
{
    if (r->n_packets == r->room) {
        const size_t room = r->room == 0 ? FIRST_ROOM : 2 * r->room;
        AVPacket **grown = kd_realloc(r->packet, r->room * sizeof *grown, room * sizeof *grown);
        if (grown == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for packet %zu", r->path, r->n_packets);
        }
        r->packet = grown;
        r->room = room;
    }
    AVPacket *own = av_packet_alloc();
    if (own == NULL || av_packet_make_refcounted(packet) < 0) {
        av_packet_free(&own);
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for packet %zu", r->path, r->n_packets);
    }
    r->discarded += (packet->flags & AV_PKT_FLAG_DISCARD) != 0;
    av_packet_move_ref(own, packet);
    r->packet[r->n_packets++] = own;
    return KD_OK;
}

static kd_status load_packets(reader *r, kd_err *err)
{
    kd_status st = KD_OK;
    size_t empty = 0;
    AVPacket *packet = av_packet_alloc();
    if (packet == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for a packet", r->path);
    }
    for (;;) {
        const int rc = av_read_frame(r->fmt, packet);
        if (rc == AVERROR_EOF && r->read_errno == 0) break;
        if (rc < 0) {
            if (r->read_errno == 0 && r->opts.lenient) {
                r->info->damaged++;
                break;
            }
            st = not_a_video(r, rc, "read on", err);
            goto done;
        }
        if (packet->stream_index != r->stream->index || packet->size == 0) {
            /* an empty picture in AVI means "show the last one again": claimed, never decoded */
            empty += packet->stream_index == r->stream->index;
            av_packet_unref(packet);
            continue;
        }
        if ((packet->flags & AV_PKT_FLAG_CORRUPT) != 0) {
            r->info->damaged++;
            if (!r->opts.lenient) {
                st = KD_FAIL(
                    err, KD_E_FORMAT,
                    "%s: compressed picture %zu is cut or corrupt (the container claims %" PRIu64
                    " frames); fetch the file again",
                    r->path, r->n_packets, r->info->claimed);
                goto done;
            }
        }
        if (r->n_packets >= r->opts.max_frames) {
            st = KD_FAIL(err, KD_E_DATA, "%s: more than %zu frames, the limit", r->path,
                         r->opts.max_frames);
            goto done;
        }
        KD_GO(keep_packet(r, packet, err));
    }
    r->info->packets = r->n_packets;
    r->damaged_packets = r->info->damaged;
    if (r->n_packets == 0) {
        st = KD_FAIL(err, KD_E_FORMAT,
                     "%s: expected frames, found none (the container claims %" PRIu64 ")", r->path,
                     r->info->claimed);
    } else if (r->info->claimed > r->n_packets + empty && !r->opts.lenient) {
        st = KD_FAIL(err, KD_E_DATA,
                     "%s: truncated or a wrong header: the container claims %" PRIu64
                     " frames, the file holds %zu; fetch it again",
                     r->path, r->info->claimed, r->n_packets);
    }
done:
    av_packet_free(&packet);
    return st;
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

static kd_status open_decoder(reader *r, kd_err *err)
{
    const AVCodecParameters *par = r->stream->codecpar;
    const AVCodec *codec = avcodec_find_decoder(par->codec_id);
    if (codec == NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: this FFmpeg has no decoder for %s", r->path,
                       r->info->codec);
    }
    avcodec_free_context(&r->dec);
    r->dec = avcodec_alloc_context3(codec);
    if (r->frame == NULL) r->frame = av_frame_alloc();
    if (r->dec == NULL || r->frame == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for the decoder", r->path);
    }
    int rc = avcodec_parameters_to_context(r->dec, par);
    r->dec->thread_count = 1;
    r->dec->max_pixels = (int64_t)r->opts.max_pixels;
    if (!r->opts.lenient) {
        r->dec->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_EXPLODE;
    }
    if (rc >= 0) rc = avcodec_open2(r->dec, codec, NULL);
    if (rc < 0) {
        return not_a_video(r, rc, "open its decoder", err);
    }
    return KD_OK;
}

/* The scaler follows the frame: its size, format, matrix and range may differ from the first frame's. */
static kd_status set_scaler(reader *r, const AVFrame *f, kd_err *err)
{
    const int w = r->info->width;
    const int h = r->info->height;
    if (r->sws != NULL && r->sws_w == f->width && r->sws_h == f->height &&
        r->sws_fmt == f->format && r->sws_space == (int)f->colorspace &&
        r->sws_range == (int)f->color_range) {
        return KD_OK;
    }
    if (r->rgb == NULL) {
        r->rgb_stride =
            ((size_t)w * 3 + 127) / 64 * 64; /* swscale writes whole vectors at a row's end */
        size_t bytes;
        if (!kd_size_mul(r->rgb_stride, (size_t)h + 1, &bytes) ||
            (r->rgb = kd_alloc(bytes)) == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for a frame of %dx%d", r->path, w, h);
        }
    }
    sws_freeContext(r->sws);
    r->sws = sws_getContext(f->width, f->height, (enum AVPixelFormat)f->format, w, h,
                            AV_PIX_FMT_RGB24, SWS_FLAGS, NULL, NULL, NULL);
    if (r->sws == NULL) {
        const char *name = av_get_pix_fmt_name((enum AVPixelFormat)f->format);
        return KD_FAIL(err, KD_E_FORMAT, "%s: cannot convert %dx%d %s to RGB", r->path, f->width,
                       f->height, name != NULL ? name : "?");
    }
    const bool tagged = f->colorspace != AVCOL_SPC_UNSPECIFIED && f->colorspace != AVCOL_SPC_RGB;
    const int *matrix = sws_getCoefficients(tagged ? (int)f->colorspace : SWS_CS_ITU601);
    /* yuvj formats carry full range in their name, and swscale knows them */
    const bool full = f->color_range == AVCOL_RANGE_JPEG;
    int *inv, *table, src_range, dst_range, brightness, contrast, saturation;
    if (sws_getColorspaceDetails(r->sws, &inv, &src_range, &table, &dst_range, &brightness,
                                 &contrast,
                                 &saturation) >= 0) { /* fails for RGB sources: nothing to set */
        (void)sws_setColorspaceDetails(r->sws, matrix, full || src_range != 0,
                                       sws_getCoefficients(SWS_CS_ITU601), 1, brightness, contrast,
                                       saturation);
    }
    r->sws_w = f->width;
    r->sws_h = f->height;
    r->sws_fmt = f->format;
    r->sws_space = (int)f->colorspace;
    r->sws_range = (int)f->color_range;
    return KD_OK;
}

static kd_status deliver(reader *r, size_t index, kd_err *err)
{
    KD_TRY(set_scaler(r, r->frame, err));
    uint8_t *dst[4] = {r->rgb, NULL, NULL, NULL};
    const int stride[4] = {(int)r->rgb_stride, 0, 0, 0};
    const int rows = sws_scale(r->sws, (const uint8_t *const *)r->frame->data, r->frame->linesize,
                               0, r->frame->height, dst, stride);
    if (rows != r->info->height) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: frame %zu: converting to RGB gave %d of %d rows",
                       r->path, index, rows, r->info->height);
    }
    return r->sink(r->ctx, index, r->rgb, r->info->width, r->info->height, r->rgb_stride, err);
}

static kd_status judge_frame(reader *r, size_t index, kd_err *err)
{
    const AVFrame *f = r->frame;
    kd_video_info *info = r->info;
    if (f->width <= 0 || f->height <= 0 ||
        (uint64_t)f->width * (uint64_t)f->height > r->opts.max_pixels) {
        return KD_FAIL(err, KD_E_DATA, "%s: frame %zu is %dx%d, at most %zu pixels are read",
                       r->path, index, f->width, f->height, r->opts.max_pixels);
    }
    if (index >= r->opts.max_frames) {
        return KD_FAIL(err, KD_E_DATA, "%s: more than %zu frames, the limit", r->path,
                       r->opts.max_frames);
    }
    if (index == 0) {
        info->width = f->width;
        info->height = f->height;
    } else if (f->width != info->width || f->height != info->height) {
        info->size_changes++;
        if (!r->opts.lenient) {
            return KD_FAIL(err, KD_E_DATA, "%s: frame %zu is %dx%d, the frames before are %dx%d",
                           r->path, index, f->width, f->height, info->width, info->height);
        }
    }
    const bool flagged = f->decode_error_flags != 0 || (f->flags & AV_FRAME_FLAG_CORRUPT) != 0;
    if (flagged || r->log.errors != 0) {
        info->damaged++;
        if (!r->opts.lenient) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: frame %zu is corrupt%s%s; fetch the file again",
                           r->path, index, r->log.last[0] != '\0' ? ": " : "", r->log.last);
        }
        r->log.errors = 0;
    }
    return KD_OK;
}

/* All frames the decoder has ready.  *stop: the last wanted one is out and the count is known. */
static kd_status drain(reader *r, size_t *count, bool *stop, kd_err *err)
{
    for (;;) {
        const int rc = avcodec_receive_frame(r->dec, r->frame);
        if (rc == AVERROR(EAGAIN) || rc == AVERROR_EOF) return KD_OK;
        if (rc == AVERROR(ENOMEM)) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory to decode frame %zu", r->path, *count);
        }
        if (rc < 0) {
            r->info->damaged++;
            if (!r->opts.lenient) return not_a_video(r, rc, "decode a frame", err);
            return KD_OK;
        }
        KD_TRY(judge_frame(r, *count, err));
        const size_t index = (*count)++;
        if (r->sink != NULL && index < r->want_n && r->want[index] != 0) {
            KD_TRY(deliver(r, index, err));
        }
        av_frame_unref(r->frame);
        if (r->opts.known_frames != 0 && r->sink != NULL && *count >= r->want_last) {
            *stop = true;
            return KD_OK;
        }
    }
}

static kd_status decode_pass(reader *r, size_t *count, kd_err *err)
{
    bool stop = false;
    *count = 0;
    r->info->passes++;
    r->info->size_changes = 0;
    r->info->damaged = r->damaged_packets; /* a second pass meets the same damage again */
    KD_TRY(open_decoder(r, err));
    r->log.errors = 0; /* what probing said about streams we do not read is not about our frames */
    r->log.last[0] = '\0';
    for (size_t i = 0; i <= r->n_packets && !stop; i++) {
        const AVPacket *packet = i < r->n_packets ? r->packet[i] : NULL; /* NULL: flush */
        const int rc = avcodec_send_packet(r->dec, packet);
        if (rc == AVERROR(ENOMEM)) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory to decode picture %zu", r->path, i);
        }
        if (rc < 0 && rc != AVERROR_EOF) { /* never EAGAIN: everything ready was drained */
            char text[KD_AV_ERRSTR];
            r->info->damaged++;
            if (!r->opts.lenient) {
                return KD_FAIL(err, KD_E_FORMAT,
                               "%s: picture %zu does not decode: %s%s%s; fetch the file again",
                               r->path, i, kd_av_strerror(rc, text),
                               r->log.last[0] != '\0' ? "; " : "", r->log.last);
            }
        }
        KD_TRY(drain(r, count, &stop, err));
    }
    if (r->log.errors != 0 && !r->opts.lenient) {
        r->info->damaged++;
        return KD_FAIL(err, KD_E_FORMAT, "%s: the decoder reports damage behind frame %zu: %s",
                       r->path, *count, r->log.last);
    }
    if (*count == 0) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: no frame of %zu compressed pictures decodes", r->path,
                       r->n_packets);
    }
    return KD_OK;
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

static void reader_init(reader *r, const char *path, const kd_video_opts *opts, kd_video_info *info)
{
    *r = (reader){.path = path, .fd = -1, .info = info};
    *info = (kd_video_info){0};
    if (opts != NULL) r->opts = *opts;
    if (r->opts.max_frames == 0) r->opts.max_frames = 100000;
    if (r->opts.max_pixels == 0) r->opts.max_pixels = (size_t)8192 * 4320;
    if (r->opts.max_bytes == 0) r->opts.max_bytes = (uint64_t)1 << 30;
    kd_av_log_enter(&r->log);
}

static void reader_free(reader *r)
{
    sws_freeContext(r->sws);
    av_frame_free(&r->frame);
    avcodec_free_context(&r->dec);
    for (size_t i = 0; i < r->n_packets; i++) {
        av_packet_free(&r->packet[i]);
    }
    kd_free(r->packet);
    kd_free(r->want);
    kd_free(r->rgb);
    avformat_close_input(&r->fmt);
    if (r->io != NULL) av_freep(&r->io->buffer);
    avio_context_free(&r->io);
    if (r->fd >= 0) (void)close(r->fd);
    kd_av_log_leave(&r->log);
}

static kd_status run_pick(reader *r, size_t n, kd_err *err)
{
    if (r->pick == NULL) return KD_OK;
    kd_free(r->want);
    r->want = kd_calloc(n, 1);
    r->want_n = n;
    if (r->want == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu frame marks", r->path, n);
    }
    KD_TRY(r->pick(r->ctx, n, r->want, err));
    for (r->want_last = n; r->want_last > 0 && r->want[r->want_last - 1] == 0;) {
        r->want_last--;
    }
    return KD_OK;
}

kd_status kd_video_probe(const char *path, const kd_video_opts *opts, kd_video_info *info,
                         kd_err *err)
{
    reader r;
    reader_init(&r, path, opts, info);
    kd_status st = open_input(&r, err);
    if (st == KD_OK) st = load_packets(&r, err);
    info->frames = r.n_packets;
    reader_free(&r);
    return st;
}

kd_status kd_video_scan(const char *path, const kd_video_opts *opts, kd_video_pick pick,
                        kd_video_sink sink, void *ctx, kd_video_info *info, kd_err *err)
{
    reader r;
    kd_status st;
    size_t count = 0;
    reader_init(&r, path, opts, info);
    r.pick = pick;
    r.sink = sink;
    r.ctx = ctx;

    KD_GO(open_input(&r, err));
    KD_GO(load_packets(&r, err));
    size_t expected = r.n_packets - r.discarded;
    if (r.opts.known_frames != 0) expected = r.opts.known_frames;
    if (expected == 0) expected = r.n_packets;
    if (expected > r.opts.max_frames) {
        st = KD_FAIL(err, KD_E_DATA, "%s: %zu frames said to be known, the limit is %zu", path,
                     expected, r.opts.max_frames);
        goto done;
    }
    KD_GO(run_pick(&r, expected, err));
    KD_GO(decode_pass(&r, &count, err));
    if (r.opts.known_frames != 0 && r.want_last != 0) {
        if (count < r.want_last) {
            st = KD_FAIL(err, KD_E_DATA,
                         "%s: %zu frames recorded for it, %zu decoded: the file has changed", path,
                         r.opts.known_frames, count);
            goto done;
        }
        count = r.opts.known_frames;
    } else if (count != expected &&
               pick != NULL) { /* packets and frames differ: pick from the truth */
        KD_GO(run_pick(&r, count, err));
        expected = count;
        KD_GO(decode_pass(&r, &count, err));
        KD_ASSERT(count == expected);
    }
    info->frames = count;
done:
    reader_free(&r);
    return st;
}

kd_status kd_video_count(const char *path, const kd_video_opts *opts, kd_video_info *info,
                         kd_err *err)
{
    return kd_video_scan(path, opts, NULL, NULL, NULL, info, err);
}
