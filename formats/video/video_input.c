/* Opening a video and reading its packets: see video_av.h. */
#include "formats/base/io.h"
#include "formats/video/video_av.h"

#include <errno.h>
#include <inttypes.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>
#include <stdio.h>
#include <unistd.h>

#define IO_BUFFER   (64 * 1024)
#define STREAMS_MAX "64"
#define FIRST_ROOM  256

/* ---- input ----------------------------------------------------------------------------------- */

static int io_read(void *opaque, uint8_t *buf, int n)
{
    kd_av_input *in = opaque;
    for (int tries = 0;; tries++) {
        const ssize_t got = pread(in->fd, buf, (size_t)n, (off_t)in->at);
        if (got > 0) {
            in->at += (uint64_t)got;
            return (int)got;
        }
        if (got == 0) {
            return AVERROR_EOF;
        }
        if ((errno == EINTR || errno == EAGAIN || errno == ESTALE) && tries < 16) {
            continue;
        }
        in->read_errno = errno;
        return AVERROR(errno);
    }
}

static int64_t io_seek(void *opaque, int64_t offset, int whence)
{
    kd_av_input *in = opaque;
    if ((whence & AVSEEK_SIZE) != 0) {
        return (int64_t)in->size;
    }
    const int64_t base = (whence & 3) == SEEK_SET ? 0 : (whence & 3) == SEEK_CUR ? (int64_t)in->at : (int64_t)in->size;
    int64_t to;
    if (__builtin_add_overflow(base, offset, &to) || to < 0) {
        return AVERROR(EINVAL);
    }
    in->at = (uint64_t)to;
    return to;
}

/* Play lists and the like name further files or URLs: one path is asked for, one file is opened. */
static int io_open_other(AVFormatContext *s, AVIOContext **pb, const char *url, int flags, AVDictionary **options)
{
    (void)s;
    (void)pb;
    (void)url;
    (void)flags;
    (void)options;
    return AVERROR(EPERM);
}

kd_status kd_av_input_fail(const kd_av_input *in, int rc, const char *what, kd_err *err)
{
    char text[KD_AV_ERRSTR];
    if (rc == AVERROR(ENOMEM)) {
        void *piece = av_malloc(KD_AV_ALLOC_MAX);
        const bool bound = piece != NULL; /* memory is there: the file asked for more than the bound */
        av_free(piece);
        return bound ? KD_FAIL(err, KD_E_FORMAT, "%s: cannot %s: it asks for a piece of more than %zu MiB", in->path,
                               what, KD_AV_ALLOC_MAX >> 20)
                     : KD_FAIL(err, KD_E_OOM, "%s: no memory to %s", in->path, what);
    }
    if (in->read_errno != 0) {
        return KD_FAIL(err, KD_E_IO, "%s: cannot read at byte %" PRIu64 ": %s", in->path, in->at,
                       strerror(in->read_errno));
    }
    return KD_FAIL(err, KD_E_FORMAT, "%s: cannot %s: %s%s%s", in->path, what, kd_av_strerror(rc, text),
                   in->log.last[0] != '\0' ? "; " : "", in->log.last);
}

/* The container, told by the file's content.  Lists that name other files, and text, are no videos.
 */
static kd_status probe_container(kd_av_input *in, const AVInputFormat **found, kd_err *err)
{
    static const char *const refused[] = {"hls", "dash", "concat", "imf", "sdp", "tty", "ffmetadata"};
    const int rc = av_probe_input_buffer2(in->io, found, "", NULL, 0, 0);
    if (rc < 0) {
        return kd_av_input_fail(in, rc, "recognise a video", err);
    }
    for (size_t i = 0; i < KD_COUNTOF(refused); i++) {
        if (strcmp((*found)->name, refused[i]) == 0) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: expected a video, found %s", in->path,
                           (*found)->long_name != NULL ? (*found)->long_name : (*found)->name);
        }
    }
    return KD_OK;
}

static kd_status pick_stream(kd_av_input *in, kd_err *err)
{
    size_t audio = 0;
    for (unsigned i = 0; i < in->fmt->nb_streams; i++) {
        AVStream *s = in->fmt->streams[i];
        const enum AVMediaType type = s->codecpar->codec_type;
        audio += type == AVMEDIA_TYPE_AUDIO;
        /* FFmpeg shows text as a screen of characters: not a video for us. */
        const bool text = s->codecpar->codec_id == AV_CODEC_ID_ANSI || s->codecpar->codec_id == AV_CODEC_ID_BINTEXT ||
                          s->codecpar->codec_id == AV_CODEC_ID_XBIN || s->codecpar->codec_id == AV_CODEC_ID_IDF;
        if (type == AVMEDIA_TYPE_VIDEO && !text && in->stream == NULL &&
            (s->disposition & AV_DISPOSITION_ATTACHED_PIC) == 0) {
            in->stream = s;
        } else {
            s->discard = AVDISCARD_ALL;
        }
    }
    if (in->stream == NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected a video stream, found none (%zu audio)", in->path, audio);
    }
    return KD_OK;
}

static void describe(kd_av_input *in)
{
    kd_video_info *info = in->info;
    const AVCodecParameters *par = in->stream->codecpar;
    const char *pix = av_get_pix_fmt_name((enum AVPixelFormat)par->format);
    in->par = in->stream->codecpar;
    info->rotation = kd_av_rotation(in->stream);
    info->width = info->rotation % 180 == 0 ? par->width : par->height;
    info->height = info->rotation % 180 == 0 ? par->height : par->width;
    info->claimed = in->stream->nb_frames > 0 ? (uint64_t)in->stream->nb_frames : 0;
    const AVRational rate = in->stream->avg_frame_rate;
    info->fps = rate.den != 0 ? (double)rate.num / (double)rate.den : 0.0;
    (void)snprintf(info->codec, sizeof info->codec, "%s", avcodec_get_name(par->codec_id));
    (void)snprintf(info->container, sizeof info->container, "%s", in->fmt->iformat->name);
    (void)snprintf(info->pix_fmt, sizeof info->pix_fmt, "%s", pix != NULL ? pix : "unknown");
}

static kd_status open_input(kd_av_input *in, kd_err *err)
{
    AVDictionary *options = NULL;
    KD_TRY(kd_io_open_read(in->path, &in->fd, &in->size, err));
    if (in->size == 0) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected a video, found an empty file", in->path);
    }
    if (in->size > in->opts.max_bytes) {
        return KD_FAIL(err, KD_E_DATA, "%s: %" PRIu64 " bytes, at most %" PRIu64 " are read", in->path, in->size,
                       in->opts.max_bytes);
    }
    uint8_t *buffer = av_malloc(IO_BUFFER); /* FFmpeg may replace it, so it must be FFmpeg's */
    in->io = buffer == NULL ? NULL : avio_alloc_context(buffer, IO_BUFFER, 0, in, io_read, NULL, io_seek);
    in->fmt = avformat_alloc_context();
    if (in->io == NULL || in->fmt == NULL) {
        if (in->io == NULL) {
            av_free(buffer);
        }
        return KD_FAIL(err, KD_E_OOM, "%s: no memory to open it", in->path);
    }
    in->fmt->pb = in->io;
    in->fmt->io_open = io_open_other;
    in->fmt->flags |= AVFMT_FLAG_CUSTOM_IO;
    const AVInputFormat *container = NULL;
    KD_TRY(probe_container(in, &container, err));
    int rc = av_dict_set(&options, "max_streams", STREAMS_MAX, 0);
    /* frees fmt when it fails */
    if (rc >= 0) {
        rc = avformat_open_input(&in->fmt, "", container, &options);
    }
    av_dict_free(&options);
    if (rc < 0) {
        return kd_av_input_fail(in, rc, "open it as a video", err);
    }
    rc = avformat_find_stream_info(in->fmt, NULL);
    if (rc < 0) {
        return kd_av_input_fail(in, rc, "find its streams", err);
    }
    KD_TRY(pick_stream(in, err));
    describe(in);
    return KD_OK;
}

/* ---- packets --------------------------------------------------------------------------------- */

static kd_status keep_packet(kd_av_input *in, AVPacket *packet, kd_err *err)
{
    if (in->n_packets == in->room) {
        const size_t room = in->room == 0 ? FIRST_ROOM : 2 * in->room;
        AVPacket **grown = kd_realloc(in->packet, in->room * sizeof *grown, room * sizeof *grown);
        if (grown == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for packet %zu", in->path, in->n_packets);
        }
        in->packet = grown;
        in->room = room;
    }
    AVPacket *own = av_packet_alloc();
    if (own == NULL || av_packet_make_refcounted(packet) < 0) {
        av_packet_free(&own);
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for packet %zu", in->path, in->n_packets);
    }
    in->discarded += (packet->flags & AV_PKT_FLAG_DISCARD) != 0;
    av_packet_move_ref(own, packet);
    in->packet[in->n_packets++] = own;
    return KD_OK;
}

/* AVI numbers its chunks: a chunk without bytes means "show the last picture again", and FFmpeg passes over such chunks
 * but counts them in the time stamps. */
static bool is_avi(const kd_av_input *in)
{
    return strcmp(in->fmt->iformat->name, "avi") == 0;
}

/* Chunks without bytes that follow the last picture, whose data end at `at`: no time stamp tells of them. */
static uint64_t empty_tail(const kd_av_input *in, uint64_t at)
{
    const int stream = in->stream->index;
    uint8_t h[8];
    uint64_t n = 0;
    for (at += at & 1; at <= in->size - KD_MIN(in->size, sizeof h); n++) {
        const ssize_t got = pread(in->fd, h, sizeof h, (off_t)at);
        const bool chunk = got == sizeof h && h[0] == '0' + stream / 10 && h[1] == '0' + stream % 10 && h[2] == 'd' &&
                           (h[3] == 'c' || h[3] == 'b');
        if (!chunk || (h[4] | h[5] | h[6] | h[7]) != 0) {
            break;
        }
        at += sizeof h;
    }
    return n;
}

/* A claim that neither the pictures nor, in AVI, the last time stamp bear out. */
static kd_status judge_claim(const kd_av_input *in, size_t empty, uint64_t end, kd_err *err)
{
    const uint64_t claimed = in->info->claimed;
    if (in->opts.lenient || claimed <= in->n_packets + empty || claimed <= in->shown) {
        return KD_OK;
    }
    if (is_avi(in) && claimed <= in->shown + empty_tail(in, end)) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA,
                   "%s: truncated or a wrong header: the container claims %" PRIu64
                   " frames, the file holds %zu; fetch it again",
                   in->path, claimed, in->n_packets);
}

static kd_status load_packets(kd_av_input *in, kd_err *err)
{
    kd_status st = KD_OK;
    size_t empty = 0;
    uint64_t end = 0; /* of the last picture's data */
    AVPacket *packet = av_packet_alloc();
    if (packet == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for a packet", in->path);
    }
    for (;;) {
        const int rc = av_read_frame(in->fmt, packet);
        if (rc == AVERROR_EOF && in->read_errno == 0) {
            break;
        }
        if (rc < 0) {
            if (in->read_errno == 0 && in->opts.lenient) {
                in->info->damaged++;
                break;
            }
            st = kd_av_input_fail(in, rc, "read on", err);
            goto done;
        }
        if (packet->stream_index != in->stream->index || packet->size == 0) {
            /* claimed, never decoded */
            empty += packet->stream_index == in->stream->index;
            av_packet_unref(packet);
            continue;
        }
        if ((packet->flags & AV_PKT_FLAG_CORRUPT) != 0) {
            in->info->damaged++;
            if (!in->opts.lenient) {
                st = KD_FAIL(err, KD_E_FORMAT,
                             "%s: compressed picture %zu is cut or corrupt (the container claims %" PRIu64
                             " frames); fetch the file again",
                             in->path, in->n_packets, in->info->claimed);
                goto done;
            }
        }
        if (in->n_packets >= in->opts.max_frames) {
            st = KD_FAIL(err, KD_E_DATA, "%s: more than %zu frames, the limit", in->path, in->opts.max_frames);
            goto done;
        }
        if (is_avi(in) && packet->dts >= 0) {
            in->shown = KD_MAX(in->shown, (uint64_t)packet->dts + 1);
            end = (uint64_t)KD_MAX(packet->pos, 0) + (uint64_t)packet->size;
        }
        KD_GO(keep_packet(in, packet, err));
    }
    in->info->packets = in->n_packets;
    in->damaged = in->info->damaged;
    if (in->n_packets == 0) {
        st = KD_FAIL(err, KD_E_FORMAT, "%s: expected frames, found none (the container claims %" PRIu64 ")", in->path,
                     in->info->claimed);
    } else {
        st = judge_claim(in, empty, end, err);
    }
done:
    av_packet_free(&packet);
    return st;
}

/* ---- calls ----------------------------------------------------------------------------------- */

void kd_av_input_init(kd_av_input *in, const char *path, const kd_video_opts *opts, kd_video_info *info)
{
    *in = (kd_av_input){.path = path, .fd = -1, .info = info};
    *info = (kd_video_info){0};
    if (opts != NULL) {
        in->opts = *opts;
    }
    if (in->opts.max_frames == 0) {
        in->opts.max_frames = 100000;
    }
    if (in->opts.max_pixels == 0) {
        in->opts.max_pixels = (size_t)8192 * 4320;
    }
    if (in->opts.max_bytes == 0) {
        in->opts.max_bytes = (uint64_t)1 << 30;
    }
    kd_av_log_enter(&in->log);
}

kd_status kd_av_input_load(kd_av_input *in, kd_err *err)
{
    if (kd_path_is_dir(in->path)) {
        return kd_av_folder_load(in, err);
    }
    KD_TRY(open_input(in, err));
    return load_packets(in, err);
}

kd_status kd_av_input_packet(kd_av_input *in, size_t i, const AVPacket **packet, kd_err *err)
{
    if (in->dir == NULL) {
        *packet = in->packet[i];
        return KD_OK;
    }
    *packet = in->picture;
    return kd_av_folder_packet(in, i, err);
}

void kd_av_input_free(kd_av_input *in)
{
    kd_av_folder_free(in);
    for (size_t i = 0; in->packet != NULL && i < in->n_packets; i++) {
        av_packet_free(&in->packet[i]);
    }
    kd_free(in->packet);
    avformat_close_input(&in->fmt);
    if (in->io != NULL) {
        av_freep(&in->io->buffer);
    }
    avio_context_free(&in->io);
    if (in->fd >= 0) {
        (void)close(in->fd);
    }
    kd_av_log_leave(&in->log);
}
