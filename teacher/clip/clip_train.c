/* What chance decides of a training row: its box and how the device places it. */
#include "kernels/kd_ops.h"
#include "teacher/clip/clip_internal.h"

kd_rng kdi_clip_draws(const kd_clip_source *s, const kd_item *item, uint64_t position)
{
    /* repeat 0 is the row of a run without repeats; another key gives another sequence, of the noise too */
    const uint64_t repeat = s->mode == KD_CLIP_TRAIN ? item->view : 0;
    kd_rng r = kd_rng_make(s->spec.seed + repeat * 0x9e3779b97f4a7c15u, KD_RNG_SAMPLE, item->sample, item->epoch);
    r.pos = position;
    return r;
}

kdi_fit kdi_clip_fit(kd_spatial spatial)
{
    switch (spatial) {
    case KD_SPATIAL_RRC:
        return KDI_FIT_FLOATS;
    case KD_SPATIAL_RRC_U8:
    case KD_SPATIAL_MULTI_SCALE:
        return KDI_FIT_BYTES;
    case KD_SPATIAL_SHORT_SIDE_CROP:
        break;
    }
    return KDI_FIT_CUT;
}

kd_crop_box kdi_clip_train_box(const kd_clip_source *s, const kd_item *item, int width, int height)
{
    const kd_clip_opts *v = &s->spec.video;
    kd_rng rng = kdi_clip_draws(s, item, KDI_DRAW_CROP);
    switch (v->spatial) {
    case KD_SPATIAL_RRC:
    case KD_SPATIAL_RRC_U8:
        return kd_crop_random_area(width, height, v->rrc_scale, v->rrc_ratio, &rng);
    case KD_SPATIAL_MULTI_SCALE:
        return kd_crop_random_multi_scale(width, height, s->spec.side, &rng);
    case KD_SPATIAL_SHORT_SIDE_CROP:
        break;
    }
    return kd_crop_random(width, height, s->spec.side, &rng);
}

/* ---- place ----------------------------------------------------------------------------------- */

/* timm tries 10 boxes a picture, VideoMAE 100 a clip whose frames share them. */
enum { TRIES_FRAME = 10, TRIES_CLIP = 100 };

/* Boxes of one draw: of a frame, or (-1) of all. */
static void draw_boxes(const kd_clip_source *s, int frame, kd_rng *rng, int32_t *box)
{
    const kd_clip_opts *v = &s->spec.video;
    const int side = s->spec.side;
    int boxes = 0;
    if (kd_rng_uniform(rng) < v->erase_prob) {
        boxes = v->erase_count > 1 ? 1 + (int)kd_rng_below(rng, (uint32_t)v->erase_count) : 1;
    }
    for (int k = 0; k < v->erase_count; k++, box += KD_BOX) {
        kd_crop_box b = {0};
        if (k < boxes) {
            b = kd_erase_random(side, side, boxes, frame < 0 ? TRIES_CLIP : TRIES_FRAME, rng);
        }
        box[KD_BOX_FRAME] = frame;
        box[KD_BOX_TOP] = b.y;
        box[KD_BOX_LEFT] = b.x;
        box[KD_BOX_HEIGHT] = b.height;
        box[KD_BOX_WIDTH] = b.width;
    }
}

bool kdi_clip_flip(const kd_clip_source *s, const kd_item *item)
{
    kd_rng rng = kdi_clip_draws(s, item, KDI_DRAW_FLIP);
    return kd_rng_uniform(&rng) < s->spec.video.flip_prob;
}

int32_t kd_clip_mirrored_label(const kd_clip_opts *video, int32_t label)
{
    for (int i = 0; i < video->flip_labels.n; i++) {
        if (video->flip_labels.v[i] == label) {
            return video->flip_labels.v[i ^ 1];
        }
    }
    return label;
}

int kd_clip_place_width(const kd_clip_opts *video, int frames)
{
    return KD_PLACE + KD_BOX * video->erase_count * (video->erase_cube ? 1 : frames);
}

void kdi_clip_place(const kd_clip_source *s, const kd_item *item, int32_t *place)
{
    static const int32_t FILL[] = {
        [KD_ERASED_PIXEL] = KD_ERASE_PIXEL, [KD_ERASED_RAND] = KD_ERASE_RAND, [KD_ERASED_CONST] = KD_ERASE_CONST};
    const kd_clip_opts *v = &s->spec.video;
    kd_rng rng = kdi_clip_draws(s, item, KDI_DRAW_FLIP);
    place[KD_PLACE_FLIP] = kdi_clip_flip(s, item);
    place[KD_PLACE_ERASE] = FILL[v->erase_mode];
    place[KD_PLACE_SEED_LOW] = (int32_t)(uint32_t)rng.seed;
    place[KD_PLACE_SEED_HIGH] = (int32_t)(uint32_t)(rng.seed >> 32);
    place[KD_PLACE_ITEM] = (int32_t)rng.item;
    place[KD_PLACE_EPOCH] = (int32_t)rng.epoch;
    if (v->erase_cube) {
        rng = kdi_clip_draws(s, item, KDI_DRAW_ERASE);
        draw_boxes(s, -1, &rng, place + KD_PLACE);
        return;
    }
    for (int t = 0; t < s->rule.frames; t++) {
        rng = kdi_clip_draws(s, item, KDI_DRAW_ERASE_FRAMES + (uint64_t)t * KDI_DRAWS_PER_FRAME);
        draw_boxes(s, t, &rng, place + KD_PLACE + t * v->erase_count * KD_BOX);
    }
}
