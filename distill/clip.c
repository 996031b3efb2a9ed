/* Videos of a half as rows of clips: decode what is wanted, resize, keep, cut.
 *
 * The frames of one video that are in memory are a `reel`: a sorted list of frame numbers and
 * their pictures.  A reel in the cache holds all that any later row can want of its video; the
 * reel of a worker holds what its last row wanted and, outside training, what the other views of
 * the same video want. */
#include "distill/clip.h"

#include "distill/cache.h"
#include "formats/image.h"
#include "formats/video.h"

#include <stdatomic.h>

typedef struct reel {
    size_t frames; /* of the video */
    size_t n;      /* kept */
    int width, height;
    uint32_t *number; /* [n] rising; in the same block */
    uint8_t *rgb;     /* [n][height][width][3]; in the same block */
} reel;

struct kd_clip_source {
    const kd_config *cfg;
    const kd_half *half;
    kd_clip_mode mode;
    bool fixed;     /* the frames of a row do not depend on draws: test, val with centre window,
                       whole videos; a cached reel then holds these frames alone */
    int short_side; /* of stored frames; 0: as decoded */
    uint32_t views;
    kd_frame_rule rule;
    kd_pixel_table table;
    kd_cache *cache;
    _Atomic uint64_t
        *known; /* per sample: frames << 32 | width << 16 | height of stored frames; 0: not yet */
};

typedef struct worker {
    size_t *idx;     /* [T] frames of the row */
    size_t *slot;    /* [T] their places in the reel */
    size_t *more;    /* [T] frames of another view */
    void *block;     /* the worker's reel */
    size_t capacity; /* bytes of block */
    uint32_t sample; /* whose reel it is; UINT32_MAX: nobody's */
    kd_image_resizer *resizer;
    int in_w, in_h; /* the resizer's */
} worker;

/* Positions in a sample's random sequence: each purpose has its own, whatever the others draw. */
enum { DRAW_WINDOW = 0, DRAW_CROP = 16, DRAW_FLIP = 128 };

static kd_rng draws(const kd_clip_source *s, const kd_item *item, uint64_t position)
{
    kd_rng r = kd_rng_make((uint64_t)s->cfg->train.seed, KD_RNG_SAMPLE, item->sample, item->epoch);
    r.pos = position;
    return r;
}

/* Frames of one row of a video of n frames. */
static void row_frames(const kd_clip_source *s, const kd_item *item, size_t n, size_t *idx)
{
    kd_rng rng = draws(s, item, DRAW_WINDOW);
    if (s->mode == KD_CLIP_TEST) {
        kd_frames_test(&s->rule, n, (int)item->view / s->cfg->eval.crops, s->cfg->eval.clips, idx);
    } else if (s->mode == KD_CLIP_TRAIN || s->cfg->video.val_window == KD_WINDOW_RANDOM) {
        kd_frames_train(&s->rule, n, &rng, idx);
    } else {
        kd_frames_val(&s->rule, n, idx);
    }
}

static kd_crop_box row_box(const kd_clip_source *s, const kd_item *item, int width, int height)
{
    const kd_cfg_video *v = &s->cfg->video;
    const int side = s->cfg->teacher.img_size;
    if (s->mode == KD_CLIP_VAL) return kd_crop_center(width, height, side);
    if (s->mode == KD_CLIP_TEST) {
        const int crops = s->cfg->eval.crops;
        return kd_crop_test(width, height, side, (int)item->view % crops, crops);
    }
    kd_rng rng = draws(s, item, DRAW_CROP);
    kd_crop_box box = v->spatial == KD_SPATIAL_RRC
                          ? kd_crop_random_area(width, height, v->rrc_scale, v->rrc_ratio, &rng)
                          : kd_crop_random(width, height, side, &rng);
    rng = draws(s, item, DRAW_FLIP);
    box.flip = kd_rng_uniform(&rng) < v->flip_prob;
    return box;
}

/* ---- reels ----------------------------------------------------------------------------------- */

static bool reel_bytes(size_t n, int width, int height, size_t *bytes)
{
    size_t picture, pictures, numbers;
    return kd_size_mul((size_t)width * 3, (size_t)height, &picture) &&
           kd_size_mul(n, picture, &pictures) && kd_size_mul(n, sizeof(uint32_t), &numbers) &&
           kd_size_add(numbers, sizeof(reel) + 64, &numbers) &&
           kd_size_add(numbers, pictures, bytes);
}

/* Lay a reel out in a block of reel_bytes(). */
static reel *reel_place(void *block, size_t frames, size_t n, int width, int height)
{
    reel *r = block;
    *r = (reel){.frames = frames, .n = n, .width = width, .height = height};
    r->number = (uint32_t *)(void *)((uint8_t *)block + sizeof(reel));
    r->rgb = (uint8_t *)(r->number + n);
    return r;
}

/* Place of frame `f`; the reel holds it. */
static size_t reel_find(const reel *r, size_t f)
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

/* ---- decoding -------------------------------------------------------------------------------- */

typedef struct decode {
    kd_clip_source *s;
    worker *w;
    const kd_item *item;
    const char *path;
    kd_video_info info;
    size_t frames, n;  /* of the video; wanted */
    bool all;          /* everything later rows want */
    uint64_t reserved; /* from the cache */
    void *block;       /* NULL until the first frame is here */
    reel *r;
    size_t done;
} decode;

static void stored_size(const kd_clip_source *s, int width, int height, int *w, int *h)
{
    *w = width;
    *h = height;
    if (s->short_side > 0) kd_image_short_side(width, height, s->short_side, w, h);
}

static void forget(decode *d)
{
    if (d->reserved > 0) kd_cache_give_back(d->s->cache, d->reserved);
    if (d->block != d->w->block) kd_free(d->block);
    d->reserved = 0;
    d->block = NULL;
    d->r = NULL;
    d->done = 0;
}

/* All frames that rows of this sample can ask for. */
static void want_all(decode *d, size_t frames, uint8_t *want)
{
    if (!d->s->fixed) {
        memset(want, 1, frames);
        return;
    }
    kd_item other = *d->item;
    for (other.view = 0; other.view < d->s->views; other.view++) {
        row_frames(d->s, &other, frames, d->w->more);
        for (int j = 0; j < d->s->rule.frames; j++) {
            want[d->w->more[j]] = 1;
        }
    }
}

static kd_status on_pick(void *ctx, size_t frames, uint8_t *want, kd_err *err)
{
    decode *d = ctx;
    forget(d);
    if (frames == 0 || frames > UINT32_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: %zu frames", d->path, frames);
    }
    d->frames = frames;
    row_frames(d->s, d->item, frames, d->w->idx);
    int w, h;
    size_t bytes;
    stored_size(d->s, KD_MAX(d->info.width, 1), KD_MAX(d->info.height, 1), &w, &h);
    d->all = d->s->fixed;
    if (!d->all && d->s->cache != NULL && reel_bytes(frames, w, h, &bytes)) {
        d->all = kd_cache_reserve(d->s->cache, bytes);
        if (d->all) d->reserved = bytes;
    }
    if (d->all) {
        want_all(d, frames, want);
    } else {
        for (int j = 0; j < d->s->rule.frames; j++) {
            want[d->w->idx[j]] = 1;
        }
    }
    d->n = 0;
    for (size_t f = 0; f < frames; f++) {
        d->n += want[f];
    }
    return KD_OK;
}

static bool in_row(const size_t *idx, int n, size_t f)
{
    for (int j = 0; j < n; j++) {
        if (idx[j] == f) return true;
    }
    return false;
}

static size_t count_unique(const size_t *idx, int n)
{
    size_t unique = 0;
    for (int j = 0; j < n; j++) {
        unique += !in_row(idx, j, idx[j]);
    }
    return unique;
}

/* Room for the reel, once the true picture size is known. */
static kd_status make_room(decode *d, int width, int height, kd_err *err)
{
    worker *w = d->w;
    int ow, oh;
    size_t bytes;
    stored_size(d->s, width, height, &ow, &oh);
    if (!reel_bytes(d->n, ow, oh, &bytes) || ow > UINT16_MAX || oh > UINT16_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: %zu frames of %dx%d", d->path, d->n, ow, oh);
    }
    if (d->s->cache != NULL && d->all && d->reserved != bytes) {
        if (d->reserved > 0) kd_cache_give_back(d->s->cache, d->reserved);
        d->reserved = kd_cache_reserve(d->s->cache, bytes) ? bytes : 0;
        if (d->reserved == 0 && !d->s->fixed) { /* larger than the header said: the row's alone */
            d->all = false;
            d->n = count_unique(w->idx, d->s->rule.frames);
            if (!reel_bytes(d->n, ow, oh, &bytes)) return KD_FAIL(err, KD_E_DATA, "%s", d->path);
        }
    }
    if (d->reserved > 0) {
        d->block = kd_alloc(bytes);
    } else {
        if (w->capacity < bytes) {
            kd_free(w->block);
            w->capacity = 0;
            w->block = kd_alloc(bytes);
            if (w->block != NULL) w->capacity = bytes;
        }
        w->sample = UINT32_MAX;
        d->block = w->block;
    }
    if (d->block == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu frames of %dx%d", d->path, d->n, ow,
                       oh);
    }
    d->r = reel_place(d->block, d->frames, d->n, ow, oh);
    if ((ow != width || oh != height) &&
        (w->resizer == NULL || w->in_w != width || w->in_h != height)) {
        kd_image_resizer_free(w->resizer);
        w->resizer = NULL;
        KD_TRY(kd_image_resizer_create(width, height, ow, oh, &w->resizer, err));
        w->in_w = width;
        w->in_h = height;
    }
    return KD_OK;
}

static kd_status on_frame(void *ctx, size_t index, const uint8_t *rgb, int width, int height,
                          size_t stride, kd_err *err)
{
    decode *d = ctx;
    if (d->r == NULL) KD_TRY(make_room(d, width, height, err));
    reel *r = d->r;
    if (!d->all && !in_row(d->w->idx, d->s->rule.frames, index)) return KD_OK;
    if (d->done >= r->n) {
        return KD_FAIL(err, KD_E_STATE, "%s: frame %zu was not asked for", d->path, index);
    }
    const size_t row = (size_t)r->width * 3;
    uint8_t *dst = r->rgb + d->done * row * (size_t)r->height;
    r->number[d->done++] = (uint32_t)index;
    if (r->width != width || r->height != height) {
        kd_image_resize(d->w->resizer, rgb, stride, dst, row);
        return KD_OK;
    }
    for (int y = 0; y < height; y++) {
        memcpy(dst + (size_t)y * row, rgb + (size_t)y * stride, row);
    }
    return KD_OK;
}

/* The reel of a sample with at least the frames of the row; w->idx holds the row's frames. */
static kd_status decode_reel(kd_clip_source *s, worker *w, const kd_item *item, const reel **out,
                             kd_err *err)
{
    const kd_data_sample *sample = &s->half->sample[item->sample];
    const uint64_t known = atomic_load(&s->known[item->sample]);
    const kd_video_opts opts = {.known_frames = (size_t)(known >> 32)};
    decode d = {.s = s, .w = w, .item = item, .path = sample->video};
    kd_status st = kd_video_scan(d.path, &opts, on_pick, on_frame, &d, &d.info, err);
    if (st == KD_OK && (d.r == NULL || d.done != d.n)) {
        st = KD_FAIL(err, KD_E_DATA, "%s: expected %zu frames, the decoder gave %zu", d.path, d.n,
                     d.done);
    }
    if (st != KD_OK) {
        forget(&d);
        return kd_err_prefix(err, st, "%s", sample->id);
    }
    atomic_store(&s->known[item->sample],
                 (uint64_t)d.frames << 32 | (uint64_t)d.r->width << 16 | (uint64_t)d.r->height);
    if (d.reserved > 0) {
        *out = kd_cache_put(s->cache, item->sample, d.block, d.reserved);
    } else {
        w->sample = s->fixed ? item->sample : UINT32_MAX;
        *out = d.r;
    }
    return KD_OK;
}

/* ---- the producer ---------------------------------------------------------------------------- */

static kd_status clip_fill(void *ctx, const kd_item *item, void *scratch, float *const *dst,
                           kd_err *err)
{
    kd_clip_source *s = ctx;
    worker *w = scratch;
    const reel *r = s->cache != NULL ? kd_cache_get(s->cache, item->sample) : NULL;
    if (r == NULL && w->sample == item->sample) r = w->block;
    if (r != NULL) {
        row_frames(s, item, r->frames, w->idx);
    } else {
        KD_TRY(decode_reel(s, w, item, &r, err));
    }
    for (int j = 0; j < s->rule.frames; j++) {
        w->slot[j] = reel_find(r, w->idx[j]);
    }
    const kd_crop_box box = row_box(s, item, r->width, r->height);
    kd_clip_write(&s->table, r->rgb, r->width, r->height, w->slot, s->rule.frames, &box,
                  s->cfg->teacher.img_size, dst[0]);
    return KD_OK;
}

static void worker_free(void *ctx, void *scratch)
{
    (void)ctx;
    worker *w = scratch;
    if (w == NULL) return;
    kd_image_resizer_free(w->resizer);
    kd_free(w->block);
    kd_free(w->idx);
    kd_free(w);
}

static kd_status worker_new(void *ctx, void **scratch, kd_err *err)
{
    const kd_clip_source *s = ctx;
    const size_t t = (size_t)s->rule.frames;
    worker *w = kd_calloc(1, sizeof *w);
    if (w != NULL) w->idx = kd_calloc(3 * t, sizeof *w->idx);
    if (w == NULL || w->idx == NULL) {
        kd_free(w);
        return KD_FAIL(err, KD_E_OOM, "no memory for a clip worker");
    }
    w->slot = w->idx + t;
    w->more = w->slot + t;
    w->sample = UINT32_MAX;
    *scratch = w;
    return KD_OK;
}

static int clip_label(void *ctx, uint32_t sample)
{
    return ((const kd_clip_source *)ctx)->half->sample[sample].label;
}

static const char *clip_id(void *ctx, uint32_t sample)
{
    return ((const kd_clip_source *)ctx)->half->sample[sample].id;
}

uint64_t kd_clip_default_cache(void)
{
    return kd_cache_default((uint64_t)1 << 30);
}

uint32_t kd_clip_views(const kd_config *cfg, kd_clip_mode mode)
{
    return mode == KD_CLIP_TEST ? (uint32_t)(cfg->eval.clips * cfg->eval.crops) : 1;
}

static kd_status check(const kd_config *cfg, const kd_half *half, kd_err *err)
{
    const kd_cfg_teacher *t = &cfg->teacher;
    if (cfg->kind != KD_KIND_TEACHER || t->frames < 1 || t->frames > KD_CLIP_MAX_FRAMES ||
        t->img_size < 1 || t->img_size > KD_CLIP_MAX_SIDE) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "clips: expected a resolved teacher recipe, at most %d frames of %d pixels; "
                       "found %d of %d",
                       KD_CLIP_MAX_FRAMES, KD_CLIP_MAX_SIDE, t->frames, t->img_size);
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

static int stored_side(const kd_config *cfg, kd_clip_mode mode)
{
    if (mode != KD_CLIP_TRAIN) return cfg->teacher.img_size;
    return cfg->video.spatial == KD_SPATIAL_SHORT_SIDE_CROP ? cfg->video.train_short_side : 0;
}

kd_status kd_clip_source_open(const kd_config *cfg, const kd_half *half, kd_clip_mode mode,
                              uint64_t cache_bytes, kd_clip_source **out, kd_err *err)
{
    KD_TRY(check(cfg, half, err));
    kd_clip_source *s = kd_calloc(1, sizeof *s);
    if (s != NULL) {
        s->known = kd_calloc(KD_MAX(half->n, 1), sizeof *s->known);
        if (cache_bytes > 0) s->cache = kd_cache_new(half->n, cache_bytes);
    }
    if (s == NULL || s->known == NULL || (cache_bytes > 0 && s->cache == NULL)) {
        kd_clip_source_close(s);
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu videos", half->n);
    }
    s->cfg = cfg;
    s->half = half;
    s->mode = mode;
    s->fixed = mode == KD_CLIP_TEST || cfg->video.sampler == KD_SAMPLER_UNIFORM_LINSPACE ||
               (mode == KD_CLIP_VAL && cfg->video.val_window == KD_WINDOW_CENTER);
    s->short_side = stored_side(cfg, mode);
    s->views = kd_clip_views(cfg, mode);
    s->rule = (kd_frame_rule){.sampler = cfg->video.sampler,
                              .short_video = cfg->video.short_video,
                              .frames = cfg->teacher.frames,
                              .rate = cfg->video.sampling_rate};
    kd_pixel_table_init(&s->table, cfg->video.mean, cfg->video.std);
    *out = s;
    return KD_OK;
}

void kd_clip_source_close(kd_clip_source *s)
{
    if (s == NULL) return;
    kd_cache_free(s->cache);
    kd_free(s->known);
    kd_free(s);
}

kd_producer kd_clip_producer(kd_clip_source *s)
{
    const int64_t t = s->rule.frames, side = s->cfg->teacher.img_size;
    kd_producer p = {.ctx = s,
                     .samples = s->half->n,
                     .views = s->views,
                     .n_tensors = 1,
                     .grain = (int)s->views, /* the views of a video share its decoding */
                     .scratch_new = worker_new,
                     .scratch_free = worker_free,
                     .fill = clip_fill,
                     .label = clip_label,
                     .id = clip_id};
    p.tensor[0] = (kd_row_spec){.name = "clip",
                                .rank = 4,
                                .dim = {3, t, side, side},
                                .floats = (size_t)(3 * t * side * side)};
    return p;
}

kd_status kd_clip_view(const kd_clip_source *s, uint32_t sample, uint32_t view, kd_store_view *out,
                       int32_t *frames, kd_err *err)
{
    if (sample >= s->half->n || view >= s->views || s->mode == KD_CLIP_TRAIN) {
        return KD_FAIL(err, KD_E_ARG, "view %u of sample %u is not one of a test", view, sample);
    }
    const uint64_t known = atomic_load(&((kd_clip_source *)s)->known[sample]);
    size_t idx[KD_CLIP_MAX_FRAMES];
    if (known == 0) {
        return KD_FAIL(err, KD_E_STATE, "%s: no row of it was read yet",
                       s->half->sample[sample].id);
    }
    const kd_item item = {.sample = sample, .view = view};
    row_frames(s, &item, (size_t)(known >> 32), idx);
    for (int j = 0; j < s->rule.frames; j++) {
        frames[j] = (int32_t)idx[j];
    }
    const int w = (int)(known >> 16 & 0xffff), h = (int)(known & 0xffff);
    const kd_crop_box box = row_box(s, &item, w, h);
    const int crops = s->mode == KD_CLIP_TEST ? s->cfg->eval.crops : 1;
    *out = (kd_store_view){.clip = (int)view / crops,
                           .crop = (int)view % crops,
                           .crop_x = box.x,
                           .crop_y = box.y,
                           .seed = (uint64_t)s->cfg->train.seed,
                           .n_frames = s->rule.frames,
                           .frames = frames};
    return KD_OK;
}

kd_status kd_clip_read(const kd_config *cfg, const char *path, kd_clip_mode mode, float *dst,
                       kd_err *err)
{
    kd_data_sample sample = {.id = path, .video = path};
    const kd_half half = {.sample = &sample, .n = 1};
    kd_clip_source *s = NULL;
    void *scratch = NULL;
    kd_status st;
    if (mode == KD_CLIP_TRAIN) {
        return KD_FAIL(err, KD_E_ARG, "%s: training clips come from a data set", path);
    }
    KD_GO(kd_clip_source_open(cfg, &half, mode, 0, &s, err));
    KD_GO(worker_new(s, &scratch, err));
    const size_t floats = kd_clip_producer(s).tensor[0].floats;
    for (uint32_t v = 0; v < s->views; v++) {
        float *row = dst + v * floats;
        KD_GO(clip_fill(s, &(kd_item){.view = v}, scratch, &row, err));
    }
done:
    worker_free(s, scratch);
    kd_clip_source_close(s);
    return st;
}
