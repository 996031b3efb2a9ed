/* Videos of a half as rows of clips: which frames and box of a reel (clip_decode.c), cut or resized. */
#include "formats/video/video.h"
#include "kernels/kd_ops.h"
#include "teacher/clip/clip_internal.h"
#include "teacher/model/vit.h"

/* What a view of a test is: crops of a clip, then the same mirrored, then those of the next clip. */
typedef struct view_parts {
    int clip, crop, crops;
    bool flip;
} view_parts;

static view_parts view_of(const kd_clip_source *s, uint32_t number)
{
    const bool test = s->mode == KD_CLIP_TEST;
    const int crops = test ? s->spec.crops : 1, flips = test && s->spec.flips ? 2 : 1, at = test ? (int)number : 0;
    return (view_parts){
        .clip = at / (crops * flips), .crop = at % crops, .crops = crops, .flip = at / crops % flips != 0};
}

/* Frames of one row of a video of n frames. */
void kdi_clip_frames(const kd_clip_source *s, const kd_item *item, size_t n, size_t *idx)
{
    kd_rng rng = kdi_clip_draws(s, item, kd_frames_each(s->rule.sampler) ? KDI_DRAW_FRAMES : KDI_DRAW_WINDOW);
    if (s->mode == KD_CLIP_TEST) {
        kd_frames_test(&s->rule, n, view_of(s, item->view).clip, s->spec.clips, idx);
    } else if (s->mode == KD_CLIP_TRAIN || s->spec.video.val_window == KD_WINDOW_RANDOM) {
        kd_frames_train(&s->rule, n, &rng, idx);
    } else {
        kd_frames_val(&s->rule, n, idx);
    }
}

static kd_crop_box row_box(const kd_clip_source *s, const kd_item *item, int width, int height)
{
    if (s->mode == KD_CLIP_TRAIN) {
        return kdi_clip_train_box(s, item, width, height);
    }
    if (s->mode == KD_CLIP_VAL && s->spec.video.val_crop == KD_WINDOW_RANDOM) {
        kd_rng rng = kdi_clip_draws(s, item, KDI_DRAW_CROP);
        return kd_crop_random(width, height, s->spec.side, &rng);
    }
    const view_parts v = view_of(s, item->view);
    return kd_crop_test(s->spec.crop_rule, width, height, s->spec.side, v.crop, v.crops);
}

/* Place of frame `f`; the reel holds it. */
static size_t reel_find(const kd_reel *r, size_t f)
{
    size_t lo = 0, hi = r->n;
    while (hi - lo > 1) {
        const size_t mid = lo + (hi - lo) / 2;
        if (r->number[mid] <= f) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* Rows of `width` pixels, from right to left. */
static void mirror(uint8_t *rgb, int rows, int width)
{
    for (int y = 0; y < rows; y++, rgb += (size_t)width * 3) {
        for (int a = 0, b = width - 1; a < b; a++, b--) {
            uint8_t t[3];
            memcpy(t, rgb + 3 * a, 3);
            memcpy(rgb + 3 * a, rgb + 3 * b, 3);
            memcpy(rgb + 3 * b, t, 3);
        }
    }
}

/* ---- the producer ---------------------------------------------------------------------------- */

static kd_status clip_fill(void *ctx, const kd_item *item, void *scratch, void *const *dst, kd_err *err)
{
    kd_clip_source *s = ctx;
    kd_clip_worker *w = scratch;
    const kd_reel *r = s->cache != NULL ? kd_cache_get(s->cache, item->sample) : NULL;
    if (r == NULL && w->sample == item->sample && (s->fixed || w->epoch == item->epoch)) {
        r = w->block;
    }
    if (r != NULL) {
        kdi_clip_frames(s, item, r->frames, w->idx);
    } else {
        KD_TRY(kdi_clip_decode(s, w, item, &r, err));
    }
    for (int j = 0; j < s->rule.frames; j++) {
        w->slot[j] = reel_find(r, w->idx[j]);
    }
    const kd_crop_box box = row_box(s, item, r->width, r->height);
    KD_TRY(kdi_clip_pixels(s, w, item, r, &box, dst[0], err));
    if (view_of(s, item->view).flip) {
        mirror(dst[0], s->rule.frames * s->spec.side, s->spec.side);
    }
    if (s->mode == KD_CLIP_TRAIN) {
        kdi_clip_place(s, item, dst[1]);
    }
    return KD_OK;
}

static void worker_free(void *ctx, void *scratch)
{
    (void)ctx;
    kd_clip_worker *w = scratch;
    if (w == NULL) {
        return;
    }
    kd_image_resizer_free(w->resizer);
    kd_image_resizer_free(w->fitter);
    kd_free(w->frame);
    kd_free(w->block);
    kd_free(w->idx);
    kd_free(w);
}

static kd_status worker_new(void *ctx, void **scratch, kd_err *err)
{
    const kd_clip_source *s = ctx;
    const size_t t = (size_t)s->rule.frames;
    kd_clip_worker *w = kd_calloc(1, sizeof *w);
    if (w != NULL) {
        w->idx = kd_calloc((2 + s->views) * t, sizeof *w->idx);
    }
    if (w == NULL || w->idx == NULL) {
        kd_free(w);
        return KD_FAIL(err, KD_E_OOM, "no memory for a clip worker");
    }
    w->slot = w->idx + t;
    w->need = w->slot + t;
    w->sample = UINT32_MAX;
    *scratch = w;
    return KD_OK;
}

static void clip_label(void *ctx, const kd_item *item, int32_t *dst)
{
    const kd_clip_source *s = ctx;
    *dst = s->half->sample[item->sample].label;
    if (s->mode == KD_CLIP_TRAIN && kdi_clip_flip(s, item)) {
        *dst = kd_clip_mirrored_label(&s->spec.video, *dst);
    }
}

static const char *clip_id(void *ctx, uint32_t sample)
{
    return ((const kd_clip_source *)ctx)->half->sample[sample].id;
}

uint64_t kd_clip_default_cache(void)
{
    return kd_cache_default((uint64_t)1 << 30);
}

uint32_t kd_clip_views(const kd_clip_spec *spec, kd_clip_mode mode)
{
    switch (mode) {
    case KD_CLIP_TRAIN:
        return (uint32_t)KD_MAX(spec->repeats, 1);
    case KD_CLIP_VAL:
        return 1;
    case KD_CLIP_TEST:
        break;
    }
    return (uint32_t)(spec->clips * spec->crops * (spec->flips ? 2 : 1));
}

static kd_status check(const kd_clip_spec *spec, const kd_half *half, kd_err *err)
{
    if (spec->frames < 1 || spec->frames > KD_CLIP_MAX_FRAMES || spec->side < 1 || spec->side > KD_CLIP_MAX_SIDE) {
        return KD_FAIL(err, KD_E_CONFIG, "clips: expected 1 to %d frames of 1 to %d pixels, found %d of %d",
                       KD_CLIP_MAX_FRAMES, KD_CLIP_MAX_SIDE, spec->frames, spec->side);
    }
    if (!kd_video_available()) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "this build has no FFmpeg: videos cannot be read");
    }
    if (half->n > UINT32_MAX - 1) {
        return KD_FAIL(err, KD_E_DATA, "%zu samples in one half", half->n);
    }
    for (size_t i = 0; i < half->n; i++) {
        if (half->sample[i].video == NULL) {
            return KD_FAIL(err, KD_E_DATA, "%s: there is no video", half->sample[i].id);
        }
    }
    return KD_OK;
}

bool kd_clip_resized(const kd_clip_opts *video)
{
    return video->spatial == KD_SPATIAL_RRC;
}

static int stored_side(const kd_clip_spec *spec, kd_clip_mode mode)
{
    if (mode != KD_CLIP_TRAIN) {
        return spec->video.short_side > 0 ? spec->video.short_side : spec->side;
    }
    return kd_clip_resized(&spec->video) ? 0 : spec->video.train_short_side;
}

kd_status kd_clip_source_open(const kd_clip_spec *spec, const kd_half *half, kd_clip_mode mode, uint64_t cache_bytes,
                              kd_clip_source **out, kd_err *err)
{
    KD_TRY(check(spec, half, err));
    kd_clip_source *s = kd_calloc(1, sizeof *s);
    if (s != NULL) {
        s->known = kd_calloc(KD_MAX(half->n, 1), sizeof *s->known);
        if (cache_bytes > 0) {
            s->cache = kd_cache_new(half->n, cache_bytes);
        }
    }
    if (s == NULL || s->known == NULL || (cache_bytes > 0 && s->cache == NULL)) {
        kd_clip_source_close(s);
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu videos", half->n);
    }
    s->spec = *spec;
    s->half = half;
    s->mode = mode;
    s->fixed = mode == KD_CLIP_TEST || spec->video.sampler == KD_SAMPLER_UNIFORM_LINSPACE ||
               (mode == KD_CLIP_VAL && spec->video.val_window == KD_WINDOW_CENTER);
    s->fit = mode == KD_CLIP_TRAIN ? kdi_clip_fit(spec->video.spatial) : KDI_FIT_CUT;
    s->cache_bytes = cache_bytes;
    s->short_side = stored_side(spec, mode);
    s->views = kd_clip_views(spec, mode);
    s->rule = (kd_frame_rule){.sampler = spec->video.sampler,
                              .short_video = spec->video.short_video,
                              .out_of_bound = spec->video.out_of_bound,
                              .frames = spec->frames,
                              .rate = spec->video.sampling_rate};
    if (mode == KD_CLIP_TRAIN) {
        const kd_status st = kd_rand_augment_parse(spec->video.rand_augment, &s->augment, err);
        if (st != KD_OK) {
            kd_clip_source_close(s);
            return st;
        }
    }
    float mean[3], std[3];
    for (int c = 0; c < 3; c++) {
        mean[c] = (float)spec->video.mean[c];
        std[c] = (float)spec->video.std[c];
    }
    kd_vit_pixel_table(mean, std, s->table);
    *out = s;
    return KD_OK;
}

void kd_clip_source_close(kd_clip_source *s)
{
    if (s == NULL) {
        return;
    }
    kd_cache_free(s->cache);
    kd_free(s->known);
    kd_free(s);
}

kd_producer kd_clip_producer(kd_clip_source *s)
{
    const int64_t t = s->rule.frames, side = s->spec.side;
    kd_producer p = {.ctx = s,
                     .samples = s->half->n,
                     .views = s->views,
                     .n_tensors = s->mode == KD_CLIP_TRAIN ? 2 : 1,
                     .grain = (int)s->views, /* the rows of a video share its decoding */
                     .scratch_new = worker_new,
                     .scratch_free = worker_free,
                     .fill = clip_fill,
                     .label = clip_label,
                     .id = clip_id};
    const bool floats = s->fit == KDI_FIT_FLOATS;
    const int64_t resized[4] = {3, t, side, side}, cut[4] = {t, side, side, 3};
    p.tensor[0] = kd_row_spec_of("clip", floats ? KD_F32 : KD_U8, 4, floats ? resized : cut);
    p.tensor[1] =
        kd_row_spec_of("place", KD_I32, 1, (const int64_t[]){kd_clip_place_width(&s->spec.video, s->rule.frames)});
    return p;
}

kd_status kd_clip_view(const kd_clip_source *s, uint32_t sample, uint32_t view, kd_store_view *out, int32_t *frames,
                       kd_err *err)
{
    if (sample >= s->half->n || view >= s->views) {
        return KD_FAIL(err, KD_E_ARG, "view %u of sample %u: there are %u of %zu", view, sample, s->views, s->half->n);
    }
    const uint64_t known = atomic_load(&((kd_clip_source *)s)->known[sample]);
    size_t idx[KD_CLIP_MAX_FRAMES];
    if (known == 0) {
        return KD_FAIL(err, KD_E_STATE, "%s: no row of it was read yet", s->half->sample[sample].id);
    }
    const kd_item item = {.sample = sample, .view = view};
    kdi_clip_frames(s, &item, (size_t)(known >> 32), idx);
    for (int j = 0; j < s->rule.frames; j++) {
        frames[j] = (int32_t)idx[j];
    }
    const int w = (int)(known >> 16 & 0xffff), h = (int)(known & 0xffff);
    const kd_crop_box box = row_box(s, &item, w, h);
    const view_parts v = view_of(s, view);
    const bool train = s->mode == KD_CLIP_TRAIN;
    *out = (kd_store_view){.clip = train ? (int)view : v.clip,
                           .crop = v.crop,
                           .flip = train ? kdi_clip_flip(s, &item) : v.flip,
                           .crop_x = box.x,
                           .crop_y = box.y,
                           .seed = train ? kdi_clip_draws(s, &item, 0).seed : s->spec.seed,
                           .n_frames = s->rule.frames,
                           .frames = frames};
    return KD_OK;
}

kd_status kd_clip_read(const kd_clip_spec *spec, const char *path, kd_clip_mode mode, uint8_t *dst, kd_err *err)
{
    kd_data_sample sample = {.video = path};
    const kd_half half = {.sample = &sample, .n = 1};
    kd_clip_source *s = NULL;
    void *scratch = NULL;
    kd_status st;
    if (mode == KD_CLIP_TRAIN) {
        return KD_FAIL(err, KD_E_ARG, "%s: training clips come from a data set", path);
    }
    KD_GO(kd_clip_source_open(spec, &half, mode, 0, &s, err));
    KD_GO(worker_new(s, &scratch, err));
    const size_t bytes = kd_clip_producer(s).tensor[0].bytes;
    for (uint32_t v = 0; v < s->views; v++) {
        void *row = dst + v * bytes;
        KD_GO(clip_fill(s, &(kd_item){.view = v}, scratch, &row, err));
    }
done:
    worker_free(s, scratch);
    kd_clip_source_close(s);
    return st;
}
