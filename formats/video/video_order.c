/* Which compressed pictures the wanted frames need: see video_av.h.
 *
 * The decoder gives pictures in the order of the screen, a file holds them in the order of decoding.  Where the place
 * of each on the screen can be told beforehand, work for pictures that nobody wants is saved. */
#include "formats/video/video_av.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdlib.h>

/* One picture, as it is sorted. */
typedef struct picture {
    int64_t group; /* pictures of a later group are all shown later */
    int64_t place; /* inside the group */
    uint32_t packet;
} picture;

static int by_place(const void *a, const void *b)
{
    const picture *p = a, *q = b;
    if (p->group != q->group) {
        return p->group < q->group ? -1 : 1;
    }
    return p->place < q->place ? -1 : p->place > q->place;
}

/* AVI keeps no time stamps of pictures that are stored out of order.  Their order is in the stream: the picture order
 * count, which begins anew at an IDR picture. */
static bool place_by_count(const kd_av_input *in, picture *p)
{
    AVCodecParserContext *parser = av_parser_init((int)in->par->codec_id);
    AVCodecContext *c = avcodec_alloc_context3(NULL);
    bool ok = parser != NULL && c != NULL && avcodec_parameters_to_context(c, in->par) >= 0;
    int64_t group = 0;
    if (ok) {
        parser->flags |= PARSER_FLAG_COMPLETE_FRAMES;
    }
    for (size_t i = 0; ok && i < in->n_packets; i++) {
        uint8_t *out = NULL;
        int bytes = 0;
        parser->output_picture_number = INT_MIN;
        (void)av_parser_parse2(parser, c, &out, &bytes, in->packet[i]->data, in->packet[i]->size, AV_NOPTS_VALUE,
                               AV_NOPTS_VALUE, -1);
        ok = parser->output_picture_number != INT_MIN;
        group += parser->key_frame == 1 && parser->output_picture_number == 0;
        p[i] = (picture){.group = group, .place = parser->output_picture_number};
    }
    av_parser_close(parser);
    avcodec_free_context(&c);
    return ok;
}

static bool place_by_time(const kd_av_input *in, picture *p)
{
    for (size_t i = 0; i < in->n_packets; i++) {
        if (in->packet[i]->pts == AV_NOPTS_VALUE) {
            return false;
        }
        p[i] = (picture){.place = in->packet[i]->pts};
    }
    return true;
}

static bool stored_as_shown(const kd_av_input *in, picture *p)
{
    const AVCodecDescriptor *d = avcodec_descriptor_get(in->par->codec_id);
    for (size_t i = 0; i < in->n_packets; i++) {
        p[i] = (picture){.place = (int64_t)i};
    }
    return d != NULL && (d->props & AV_CODEC_PROP_INTRA_ONLY) != 0;
}

/* plan->rank, where it can be told and no place is taken twice.  Decoders of other codecs do not tell reliably which
 * picture a frame comes from. */
static bool rank_pictures(const kd_av_input *in, picture *p, uint32_t *rank)
{
    const size_t n = in->n_packets;
    const enum AVCodecID codec = in->par->codec_id;
    const bool counted = codec == AV_CODEC_ID_H264 || codec == AV_CODEC_ID_HEVC;
    if (!stored_as_shown(in, p) && !(counted && (place_by_time(in, p) || place_by_count(in, p)))) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        p[i].packet = (uint32_t)i;
    }
    qsort(p, n, sizeof *p, by_place);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && by_place(&p[i - 1], &p[i]) == 0) {
            return false;
        }
        rank[p[i].packet] = (uint32_t)i;
    }
    return true;
}

/* Pictures from..to-1 lie between two key pictures and are shown next to each other: they need none of the others. */
static void plan_group(kd_av_plan *plan, size_t from, size_t to)
{
    while (to > from && plan->use[to - 1] != KD_AV_WHOLE) {
        plan->use[--to] = KD_AV_PASS_OVER;
    }
}

static void plan_groups(const kd_av_input *in, kd_av_plan *plan)
{
    size_t from = 0;
    uint32_t last = 0; /* highest rank since `from` */
    for (size_t i = 0; i < in->n_packets; i++) {
        const bool key = (in->packet[i]->flags & AV_PKT_FLAG_KEY) != 0;
        if (i > from && key && last + 1 == i) { /* everything before is shown before */
            plan_group(plan, from, i);
            from = i;
        }
        last = KD_MAX(last, plan->rank[i]);
    }
    plan_group(plan, from, in->n_packets);
}

kd_status kd_av_plan_make(const kd_av_input *in, const uint8_t *want, size_t frames, bool checked, kd_av_plan *plan,
                          kd_err *err)
{
    const size_t n = in->n_packets;
    *plan = (kd_av_plan){.checked = checked};
    if (in->dir != NULL || in->opts.lenient || in->discarded != 0 || n != frames || n > UINT32_MAX) {
        return KD_OK;
    }
    picture *p = kd_calloc(n, sizeof *p);
    plan->rank = kd_calloc(n, sizeof *plan->rank);
    plan->use = kd_calloc(n, 1);
    if (p == NULL || plan->rank == NULL || plan->use == NULL) {
        kd_free(p);
        kd_av_plan_free(plan);
        return KD_FAIL(err, KD_E_OOM, "%s: no memory to order %zu pictures", in->path, n);
    }
    if (rank_pictures(in, p, plan->rank)) {
        for (size_t i = 0; i < n; i++) {
            plan->use[i] = want[plan->rank[i]] != 0 ? KD_AV_WHOLE : KD_AV_ROUGH;
            in->packet[i]->pts = plan->rank[i];
        }
        if (checked) {
            plan_groups(in, plan);
        }
    } else {
        kd_av_plan_free(plan);
    }
    kd_free(p);
    return KD_OK;
}

void kd_av_plan_free(kd_av_plan *plan)
{
    kd_free(plan->rank);
    kd_free(plan->use);
    *plan = (kd_av_plan){0};
}
