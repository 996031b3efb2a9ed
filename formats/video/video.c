/* Decoding with FFmpeg: see video.h.
 *
 * kd_av_input_load (demux once) -> decode_pass (once, or twice when the decoder's count differs
 * from the packets') -> verdict.  Everything a pass counts goes to kd_video_info; the strict rules
 * read it from there. */
#include "formats/video/video.h"

#include "formats/video/image.h"
#include "formats/video/video_av.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

/* what FFmpeg's own filters default to, hence what other readers give */
#define SWS_FLAGS SWS_BICUBIC

typedef struct reader {
    kd_av_input in;
    AVCodecContext *dec;
    AVFrame *frame;
    struct SwsContext *sws;
    int sws_w, sws_h, sws_fmt, sws_space, sws_range;
    int w, h; /* of the first frame, before it is turned */
    uint8_t *rgb;
    size_t rgb_stride;
    uint8_t *turned; /* the frame as its rotation tag shows it; NULL: no tag */
    uint8_t *want;
    size_t want_n, want_last; /* frames marked; index behind the last marked one */
    kd_av_plan plan;
    bool refused; /* by the sink */
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

/* ---- decoding -------------------------------------------------------------------------------- */

static kd_status open_decoder(reader *r, kd_err *err)
{
    const AVCodecParameters *par = r->in.par;
    const AVCodec *codec = avcodec_find_decoder(par->codec_id);
    if (codec == NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: this FFmpeg has no decoder for %s", r->in.path, r->in.info->codec);
    }
    avcodec_free_context(&r->dec);
    r->dec = avcodec_alloc_context3(codec);
    if (r->frame == NULL) {
        r->frame = av_frame_alloc();
    }
    if (r->dec == NULL || r->frame == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for the decoder", r->in.path);
    }
    int rc = avcodec_parameters_to_context(r->dec, par);
    r->dec->thread_count = 1;
    r->dec->max_pixels = (int64_t)r->in.opts.max_pixels;
    if (!r->in.opts.lenient) {
        r->dec->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_EXPLODE;
    }
    if (rc >= 0) {
        rc = avcodec_open2(r->dec, codec, NULL);
    }
    if (rc < 0) {
        return kd_av_input_fail(&r->in, rc, "open its decoder", err);
    }
    return KD_OK;
}

/* The scaler follows the frame: its size, format, matrix and range may differ from the first
 * frame's. */
static kd_status set_scaler(reader *r, const AVFrame *f, kd_err *err)
{
    const int w = r->w;
    const int h = r->h;
    if (r->sws != NULL && r->sws_w == f->width && r->sws_h == f->height && r->sws_fmt == f->format &&
        r->sws_space == (int)f->colorspace && r->sws_range == (int)f->color_range) {
        return KD_OK;
    }
    if (r->rgb == NULL) {
        r->rgb_stride = ((size_t)w * 3 + 127) / 64 * 64; /* swscale writes whole vectors at a row's end */
        size_t bytes;
        if (!kd_size_mul(r->rgb_stride, (size_t)h + 1, &bytes) || (r->rgb = kd_alloc(bytes)) == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for a frame of %dx%d", r->in.path, w, h);
        }
        if (r->in.info->rotation != 0 && (r->turned = kd_alloc((size_t)w * (size_t)h * 3)) == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory to turn a frame of %dx%d", r->in.path, w, h);
        }
    }
    sws_freeContext(r->sws);
    r->sws = sws_getContext(f->width, f->height, (enum AVPixelFormat)f->format, w, h, AV_PIX_FMT_RGB24, SWS_FLAGS, NULL,
                            NULL, NULL);
    if (r->sws == NULL) {
        const char *name = av_get_pix_fmt_name((enum AVPixelFormat)f->format);
        return KD_FAIL(err, KD_E_FORMAT, "%s: cannot convert %dx%d %s to RGB", r->in.path, f->width, f->height,
                       name != NULL ? name : "?");
    }
    const bool tagged = f->colorspace != AVCOL_SPC_UNSPECIFIED && f->colorspace != AVCOL_SPC_RGB;
    const int *matrix = sws_getCoefficients(tagged ? (int)f->colorspace : SWS_CS_ITU601);
    /* yuvj formats carry full range in their name, and swscale knows them */
    const bool full = f->color_range == AVCOL_RANGE_JPEG;
    int *inv, *table, src_range, dst_range, brightness, contrast, saturation;
    if (sws_getColorspaceDetails(r->sws, &inv, &src_range, &table, &dst_range, &brightness, &contrast, &saturation) >=
        0) { /* fails for RGB sources: nothing to set */
        (void)sws_setColorspaceDetails(r->sws, matrix, full || src_range != 0, sws_getCoefficients(SWS_CS_ITU601), 1,
                                       brightness, contrast, saturation);
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
    const int rows =
        sws_scale(r->sws, (const uint8_t *const *)r->frame->data, r->frame->linesize, 0, r->frame->height, dst, stride);
    if (rows != r->h) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: frame %zu: converting to RGB gave %d of %d rows", r->in.path, index, rows,
                       r->h);
    }
    const kd_video_info *info = r->in.info;
    kd_status st;
    if (info->rotation == 0) {
        st = r->sink(r->ctx, index, r->rgb, r->w, r->h, r->rgb_stride, err);
    } else {
        kd_image_turn(r->rgb, r->w, r->h, r->rgb_stride, info->rotation, r->turned, 0);
        st = r->sink(r->ctx, index, r->turned, info->width, info->height, (size_t)info->width * 3, err);
    }
    r->refused = st != KD_OK;
    return st;
}

static kd_status judge_frame(reader *r, size_t index, kd_err *err)
{
    const AVFrame *f = r->frame;
    kd_video_info *info = r->in.info;
    if (f->width <= 0 || f->height <= 0 || (uint64_t)f->width * (uint64_t)f->height > r->in.opts.max_pixels) {
        return KD_FAIL(err, KD_E_DATA, "%s: frame %zu is %dx%d, at most %zu pixels are read", r->in.path, index,
                       f->width, f->height, r->in.opts.max_pixels);
    }
    if (index >= r->in.opts.max_frames) {
        return KD_FAIL(err, KD_E_DATA, "%s: more than %zu frames, the limit", r->in.path, r->in.opts.max_frames);
    }
    if (r->w == 0) { /* the first frame; of a folder, the first that is wanted */
        const bool upright = info->rotation % 180 == 0;
        r->w = f->width;
        r->h = f->height;
        info->width = upright ? f->width : f->height;
        info->height = upright ? f->height : f->width;
    } else if (f->width != r->w || f->height != r->h) {
        info->size_changes++;
        if (!r->in.opts.lenient) {
            return KD_FAIL(err, KD_E_DATA, "%s: frame %zu is %dx%d, the frames before are %dx%d", r->in.path, index,
                           f->width, f->height, r->w, r->h);
        }
    }
    const bool flagged = f->decode_error_flags != 0 || (f->flags & AV_FRAME_FLAG_CORRUPT) != 0;
    if (flagged || r->in.log.errors != 0) {
        info->damaged++;
        if (!r->in.opts.lenient) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: frame %zu is corrupt%s%s; fetch the file again", r->in.path, index,
                           r->in.log.last[0] != '\0' ? ": " : "", r->in.log.last);
        }
        r->in.log.errors = 0;
    }
    return KD_OK;
}

/* Number of the frame the decoder gave after `count` others.  Under a plan pictures may be missing, rough ones alone.
 */
static kd_status number_frame(reader *r, size_t *count, kd_err *err)
{
    if (r->plan.rank == NULL) {
        return KD_OK;
    }
    const int64_t told = r->frame->pts;
    bool good = told >= (int64_t)*count && told < (int64_t)r->want_n;
    for (int64_t f = (int64_t)*count; good && f < told; f++) {
        good = r->plan.checked && r->want[f] == 0;
    }
    if (!good) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: frame %zu is shown in another place than the stream says", r->in.path,
                       *count);
    }
    *count = (size_t)told;
    return KD_OK;
}

/* All frames the decoder has ready.  *stop: the last wanted one is out and the count is known. */
static kd_status drain(reader *r, size_t *count, bool *stop, kd_err *err)
{
    for (;;) {
        const int rc = avcodec_receive_frame(r->dec, r->frame);
        if (rc == AVERROR(EAGAIN) || rc == AVERROR_EOF) {
            return KD_OK;
        }
        if (rc == AVERROR(ENOMEM)) {
            return kd_av_input_fail(&r->in, rc, "decode a frame", err);
        }
        if (rc < 0) {
            r->in.info->damaged++;
            if (!r->in.opts.lenient) {
                return kd_av_input_fail(&r->in, rc, "decode a frame", err);
            }
            return KD_OK;
        }
        r->in.info->decoded++;
        KD_TRY(number_frame(r, count, err));
        KD_TRY(judge_frame(r, *count, err));
        const size_t index = (*count)++;
        if (r->sink != NULL && index < r->want_n && r->want[index] != 0) {
            KD_TRY(deliver(r, index, err));
        }
        av_frame_unref(r->frame);
        if (r->in.opts.known_frames != 0 && r->sink != NULL && *count >= r->want_last) {
            *stop = true;
            return KD_OK;
        }
    }
}

/* The pictures of a folder do not need each other: only those that are wanted are read. */
static bool passed_over(const reader *r, size_t i)
{
    return r->in.dir != NULL && r->sink != NULL && (i >= r->want_n || r->want[i] == 0);
}

/* Is picture i decoded, and how? */
static bool set_effort(reader *r, size_t i)
{
    const kd_av_use use = r->plan.rank != NULL ? (kd_av_use)r->plan.use[i] : KD_AV_WHOLE;
    const enum AVDiscard rough = use == KD_AV_ROUGH ? AVDISCARD_NONREF : AVDISCARD_DEFAULT;
    r->dec->skip_loop_filter = rough;
    r->dec->skip_frame = r->plan.checked ? rough : AVDISCARD_DEFAULT;
    return use != KD_AV_PASS_OVER;
}

static kd_status decode_pass(reader *r, size_t *count, kd_err *err)
{
    bool stop = false;
    *count = 0;
    r->in.info->passes++;
    r->in.info->size_changes = 0;
    r->in.info->damaged = r->in.damaged; /* a second pass meets the same damage again */
    KD_TRY(open_decoder(r, err));
    r->in.log.errors = 0; /* what probing said about streams we do not read is not about our frames */
    r->in.log.last[0] = '\0';
    for (size_t i = 0; i <= r->in.n_packets && !stop; i++) {
        const AVPacket *packet = NULL; /* the last one, NULL: flush */
        if (i < r->in.n_packets && passed_over(r, i)) {
            (*count)++;
            continue;
        }
        if (i < r->in.n_packets) {
            if (!set_effort(r, i)) {
                continue;
            }
            KD_TRY(kd_av_input_packet(&r->in, i, &packet, err));
        }
        const int rc = avcodec_send_packet(r->dec, packet);
        if (rc == AVERROR(ENOMEM)) {
            return kd_av_input_fail(&r->in, rc, "decode a picture", err);
        }
        if (rc < 0 && rc != AVERROR_EOF) { /* never EAGAIN: everything ready was drained */
            char text[KD_AV_ERRSTR];
            r->in.info->damaged++;
            if (!r->in.opts.lenient) {
                return KD_FAIL(err, KD_E_FORMAT, "%s: picture %zu does not decode: %s%s%s; fetch the file again",
                               r->in.path, i, kd_av_strerror(rc, text), r->in.log.last[0] != '\0' ? "; " : "",
                               r->in.log.last);
            }
        }
        KD_TRY(drain(r, count, &stop, err));
        if (r->in.dir != NULL && packet != NULL && *count != i + 1 && !r->in.opts.lenient) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: no picture decodes from it; extract the frames again", r->in.path);
        }
    }
    if (r->in.dir != NULL) {
        r->in.path = r->in.dir;
    }
    if (r->in.log.errors != 0 && !r->in.opts.lenient) {
        r->in.info->damaged++;
        return KD_FAIL(err, KD_E_FORMAT, "%s: the decoder reports damage behind frame %zu: %s", r->in.path, *count,
                       r->in.log.last);
    }
    if (*count == 0) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: no frame of %zu compressed pictures decodes", r->in.path,
                       r->in.n_packets);
    }
    return KD_OK;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void reader_free(reader *r)
{
    sws_freeContext(r->sws);
    av_frame_free(&r->frame);
    avcodec_free_context(&r->dec);
    kd_av_plan_free(&r->plan);
    kd_free(r->want);
    kd_free(r->rgb);
    kd_free(r->turned);
    kd_av_input_free(&r->in);
}

static kd_status run_pick(reader *r, size_t n, kd_err *err)
{
    if (r->pick == NULL) {
        return KD_OK;
    }
    kd_free(r->want);
    r->want = kd_calloc(n, 1);
    r->want_n = n;
    if (r->want == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu frame marks", r->in.path, n);
    }
    KD_TRY(r->pick(r->ctx, n, r->want, err));
    for (r->want_last = n; r->want_last > 0 && r->want[r->want_last - 1] == 0;) {
        r->want_last--;
    }
    return KD_OK;
}

/* One pass, with a plan where there can be one; a file that fails under its plan is judged without. */
static kd_status decode(reader *r, size_t *count, kd_err *err)
{
    const bool known = r->in.opts.known_frames != 0;
    kd_err own = {0};
    if (r->want != NULL) {
        KD_TRY(kd_av_plan_make(&r->in, r->want, r->want_n, known, &r->plan, err));
    }
    if (r->plan.rank == NULL) {
        return decode_pass(r, count, err);
    }
    const kd_status st = decode_pass(r, count, &own);
    const bool whole = st == KD_OK && *count >= r->want_last && (known || *count == r->want_n);
    kd_av_plan_free(&r->plan);
    if (whole || r->refused || st == KD_E_OOM) {
        if (err != NULL && st != KD_OK) {
            *err = own;
        }
        return st;
    }
    KD_TRY(run_pick(r, r->want_n, err));
    return decode_pass(r, count, err);
}

kd_status kd_video_probe(const char *path, const kd_video_opts *opts, kd_video_info *info, kd_err *err)
{
    kd_av_input in;
    kd_av_input_init(&in, path, opts, info);
    const kd_status st = kd_av_input_load(&in, err);
    info->frames = in.n_packets;
    kd_av_input_free(&in);
    return st;
}

kd_status kd_video_scan(const char *path, const kd_video_opts *opts, kd_video_pick pick, kd_video_sink sink, void *ctx,
                        kd_video_info *info, kd_err *err)
{
    reader r = {.pick = pick, .sink = sink, .ctx = ctx};
    kd_status st;
    size_t count = 0;
    kd_av_input_init(&r.in, path, opts, info);

    KD_GO(kd_av_input_load(&r.in, err));
    size_t expected = r.in.n_packets - r.in.discarded;
    if (r.in.opts.known_frames != 0) {
        expected = r.in.opts.known_frames;
    }
    if (expected == 0) {
        expected = r.in.n_packets;
    }
    if (expected > r.in.opts.max_frames) {
        st = KD_FAIL(err, KD_E_DATA, "%s: %zu frames said to be known, the limit is %zu", path, expected,
                     r.in.opts.max_frames);
        goto done;
    }
    KD_GO(run_pick(&r, expected, err));
    KD_GO(decode(&r, &count, err));
    if (r.in.opts.known_frames != 0 && r.want_last != 0) {
        if (count < r.want_last) {
            st = KD_FAIL(err, KD_E_DATA, "%s: %zu frames recorded for it, %zu decoded: the file has changed", path,
                         r.in.opts.known_frames, count);
            goto done;
        }
        count = r.in.opts.known_frames;
    } else if (count != expected && pick != NULL) { /* packets and frames differ: pick from the truth */
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

kd_status kd_video_count(const char *path, const kd_video_opts *opts, kd_video_info *info, kd_err *err)
{
    return kd_video_scan(path, opts, NULL, NULL, NULL, info, err);
}
