/* Pictures of a folder as the packets of a video: see video_av.h. */
#include "formats/base/io.h"
#include "formats/video/video_av.h"

#include <libavcodec/avcodec.h>
#include <stdio.h>

/* By content: an ending may lie. */
static enum AVCodecID codec_of(const uint8_t *p, size_t n)
{
    if (n >= 12 && memcmp(p, "RIFF", 4) == 0 && memcmp(p + 8, "WEBP", 4) == 0) {
        return AV_CODEC_ID_WEBP;
    }
    if (n >= 8 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0) {
        return AV_CODEC_ID_PNG;
    }
    if (n >= 3 && memcmp(p, "\xff\xd8\xff", 3) == 0) {
        return AV_CODEC_ID_MJPEG;
    }
    return n >= 2 && memcmp(p, "BM", 2) == 0 ? AV_CODEC_ID_BMP : AV_CODEC_ID_NONE;
}

static kd_status read_picture(kd_av_input *in, size_t i, uint8_t **data, size_t *n, kd_err *err)
{
    kd_free(in->picture_path);
    in->picture_path = kd_path_join(in->dir, in->frames.name[i]);
    in->path = in->picture_path != NULL ? in->picture_path : in->dir;
    if (in->picture_path == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for the name of picture %zu", in->dir, i);
    }
    KD_TRY(kd_io_read_file(in->picture_path, (size_t)in->opts.max_bytes, data, n, err));
    const enum AVCodecID codec = codec_of(*data, *n);
    const char *want = avcodec_get_name(in->par->codec_id);
    if (codec == AV_CODEC_ID_NONE || (in->par->codec_id != AV_CODEC_ID_NONE && codec != in->par->codec_id)) {
        kd_free(*data);
        *data = NULL;
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected %s, found %s; extract the frames again", in->path,
                       in->par->codec_id != AV_CODEC_ID_NONE ? want : "a JPEG, PNG, BMP or WebP picture",
                       codec != AV_CODEC_ID_NONE ? avcodec_get_name(codec)
                       : *n == 0                 ? "an empty file"
                                                 : "something else");
    }
    in->par->codec_id = codec;
    return KD_OK;
}

kd_status kd_av_folder_load(kd_av_input *in, kd_err *err)
{
    kd_video_info *info = in->info;
    uint8_t *data = NULL;
    size_t n = 0;
    in->dir = in->path;
    in->par = avcodec_parameters_alloc();
    in->picture = av_packet_alloc();
    if (in->par == NULL || in->picture == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory to read its pictures", in->dir);
    }
    in->par->codec_type = AVMEDIA_TYPE_VIDEO;
    KD_TRY(kd_frames_list(in->dir, in->opts.numbered ? &in->opts.first_number : NULL, &in->frames, err));
    if (in->frames.n > in->opts.max_frames) {
        return KD_FAIL(err, KD_E_DATA, "%s: more than %zu frames, the limit", in->dir, in->opts.max_frames);
    }
    KD_TRY(read_picture(in, 0, &data, &n, err));
    if (!kd_picture_size(data, n, &info->width, &info->height)) {
        info->width = info->height = 0; /* known once a picture is decoded */
    }
    kd_free(data);
    in->path = in->dir;
    in->n_packets = info->packets = info->claimed = in->frames.n;
    (void)snprintf(info->codec, sizeof info->codec, "%s", avcodec_get_name(in->par->codec_id));
    (void)snprintf(info->container, sizeof info->container, "folder");
    (void)snprintf(info->pix_fmt, sizeof info->pix_fmt, "unknown");
    return KD_OK;
}

kd_status kd_av_folder_packet(kd_av_input *in, size_t i, kd_err *err)
{
    uint8_t *data = NULL;
    size_t n = 0;
    av_packet_unref(in->picture);
    KD_TRY(read_picture(in, i, &data, &n, err));
    const bool room = n <= INT32_MAX / 2 && av_new_packet(in->picture, (int)n) >= 0;
    if (room) {
        memcpy(in->picture->data, data, n);
        in->picture->flags |= AV_PKT_FLAG_KEY;
    }
    kd_free(data);
    return room ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu bytes", in->path, n);
}

void kd_av_folder_free(kd_av_input *in)
{
    if (in->dir != NULL) {
        avcodec_parameters_free(&in->par);
        av_packet_free(&in->picture);
        kd_frames_free(&in->frames);
        kd_free(in->picture_path);
    }
}
