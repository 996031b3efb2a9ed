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

void kdi_clip_place(const kd_clip_source *s, const kd_item *item, int32_t *place)
{
    const kd_clip_opts *v = &s->spec.video;
    const int side = s->spec.side;
    kd_crop_box box = {0};
    kd_rng rng = kdi_clip_draws(s, item, KDI_DRAW_FLIP);
    place[KD_PLACE_FLIP] = kd_rng_uniform(&rng) < v->flip_prob;
    rng = kdi_clip_draws(s, item, KDI_DRAW_ERASE);
    if (kd_rng_uniform(&rng) < v->erase_prob) {
        box = kd_erase_random(side, side, &rng);
    }
    place[KD_PLACE_TOP] = box.y;
    place[KD_PLACE_LEFT] = box.x;
    place[KD_PLACE_HEIGHT] = box.height;
    place[KD_PLACE_WIDTH] = box.width;
    place[KD_PLACE_SEED_LOW] = (int32_t)(uint32_t)rng.seed;
    place[KD_PLACE_SEED_HIGH] = (int32_t)(uint32_t)(rng.seed >> 32);
    place[KD_PLACE_ITEM] = (int32_t)rng.item;
    place[KD_PLACE_EPOCH] = (int32_t)rng.epoch;
}
