/* From the frames of a reel to the pixels of a row: augmented, then cut or resized, one frame after the other. */
#include "teacher/clip/clip_internal.h"

enum { DRAWS_PER_FRAME = 4 * KD_AUGMENT_MAX };

/* What the row needs of the worker: a resizer of this box, two frames to work in. */
static kd_status prepare(const kd_clip_source *s, kd_clip_worker *w, const kd_reel *r, const kd_crop_box *box,
                         bool augmented, kd_err *err)
{
    const int side = s->spec.side;
    const size_t bytes = 2 * (size_t)r->width * (size_t)r->height * 3;
    if (s->fit == KDI_FIT_BYTES && (w->fitter == NULL || w->box_w != box->width || w->box_h != box->height)) {
        kd_image_resizer_free(w->fitter);
        w->fitter = NULL;
        KD_TRY(kd_image_resizer_create(s->spec.video.resizer, box->width, box->height, side, side, &w->fitter, err));
        w->box_w = box->width;
        w->box_h = box->height;
    }
    if (augmented && w->frame_capacity < bytes) {
        kd_free(w->frame);
        w->frame_capacity = 0;
        w->frame = kd_alloc(bytes);
        if (w->frame == NULL) {
            return KD_FAIL(err, KD_E_OOM, "no memory to augment frames of %dx%d", r->width, r->height);
        }
        w->frame_capacity = bytes;
    }
    return KD_OK;
}

/* Frame `number` of the row after every operation: `rgb` itself or one of the worker's two. */
static const uint8_t *augment(const kd_clip_source *s, kd_clip_worker *w, const kd_item *item,
                              const kd_augment_plan *plan, int number, const uint8_t *rgb, const kd_reel *r)
{
    uint8_t *const frame[2] = {w->frame, w->frame + (size_t)r->width * (size_t)r->height * 3};
    kd_rng rng = kdi_clip_draws(s, item, KDI_DRAW_WARP + (uint64_t)number * DRAWS_PER_FRAME);
    for (int k = 0; k < plan->n; k++) {
        kd_warp warp = s->spec.video.rand_augment_interpolation;
        if (warp == KD_WARP_RANDOM) {
            warp = kd_rng_below(&rng, 2) != 0 ? KD_WARP_BICUBIC : KD_WARP_BILINEAR;
        }
        kd_augment_apply(&plan->step[k], warp, rgb, r->width, r->height, frame[k % 2]);
        rgb = frame[k % 2];
    }
    return rgb;
}

kd_status kdi_clip_pixels(const kd_clip_source *s, kd_clip_worker *w, const kd_item *item, const kd_reel *r,
                          const kd_crop_box *box, void *dst, kd_err *err)
{
    const size_t side = (size_t)s->spec.side, frames = (size_t)s->rule.frames;
    const size_t picture = (size_t)r->width * (size_t)r->height * 3, stride = (size_t)r->width * 3;
    kd_rng rng = kdi_clip_draws(s, item, KDI_DRAW_AUGMENT);
    kd_augment_plan plan;
    kd_augment_draw(&s->augment, &rng, &plan);
    KD_TRY(prepare(s, w, r, box, plan.n > 0, err));
    for (size_t j = 0; j < frames; j++) {
        const uint8_t *rgb = r->rgb + w->slot[j] * picture;
        uint8_t *bytes = (uint8_t *)dst + j * side * side * 3;
        if (plan.n > 0) {
            rgb = augment(s, w, item, &plan, (int)j, rgb, r);
        }
        switch (s->fit) {
        case KDI_FIT_CUT:
            kd_clip_cut(rgb, r->width, r->height, box, bytes);
            break;
        case KDI_FIT_BYTES:
            kd_image_resize(w->fitter, rgb + (size_t)box->y * stride + 3 * (size_t)box->x, stride, bytes, 0);
            break;
        case KDI_FIT_FLOATS:
            kd_clip_resize(s->table, rgb, r->width, r->height, box, (int)side, (float *)dst + j * side * side,
                           frames * side * side);
            break;
        }
    }
    return KD_OK;
}
