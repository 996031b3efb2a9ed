/* From a video file to a reel of frames: decode what is wanted, resize, keep.
 *
 * A reel is a sorted list of frame numbers and their pictures.  One in the cache holds all that any later row can want
 * of its video; the reel of a worker holds what the rows of its last sample want: all views, or the repeats of an
 * epoch. */
#include "formats/video/video.h"
#include "teacher/clip/clip_internal.h"

/* ---- reels ----------------------------------------------------------------------------------- */

static bool reel_bytes(size_t n, int width, int height, size_t *bytes)
{
    size_t picture, pictures, numbers;
    return kd_size_mul((size_t)width * 3, (size_t)height, &picture) && kd_size_mul(n, picture, &pictures) &&
           kd_size_mul(n, sizeof(uint32_t), &numbers) && kd_size_add(numbers, sizeof(kd_reel) + 64, &numbers) &&
           kd_size_add(numbers, pictures, bytes);
}

/* Lay a reel out in a block of reel_bytes(). */
static kd_reel *reel_place(void *block, size_t frames, size_t n, int width, int height)
{
    kd_reel *r = block;
    *r = (kd_reel){.frames = frames, .n = n, .width = width, .height = height};
    r->number = (uint32_t *)(void *)((uint8_t *)block + sizeof(kd_reel));
    r->rgb = (uint8_t *)(r->number + n);
    return r;
}

/* ---- decoding -------------------------------------------------------------------------------- */

typedef struct decode {
    kd_clip_source *s;
    kd_clip_worker *w;
    const kd_item *item;
    const char *path;
    kd_video_info info;
    size_t frames, n;  /* of the video; wanted */
    bool all;          /* everything later rows want */
    uint64_t reserved; /* from the cache */
    void *block;       /* NULL until the first frame is here */
    kd_reel *r;
    size_t done;
} decode;

static void stored_size(const kd_clip_source *s, int width, int height, int *w, int *h)
{
    *w = width;
    *h = height;
    if (s->short_side > 0 && s->mode != KD_CLIP_TRAIN && s->spec.crop_rule == KD_CROPS_MMACTION2) {
        kd_image_short_side_rounded(width, height, s->short_side, w, h);
    } else if (s->short_side > 0) {
        kd_image_short_side(width, height, s->short_side, w, h);
    }
}

static void forget(decode *d)
{
    if (d->reserved > 0) {
        kd_cache_give_back(d->s->cache, d->reserved);
    }
    if (d->block != d->w->block) {
        kd_free(d->block);
    }
    d->reserved = 0;
    d->block = NULL;
    d->r = NULL;
    d->done = 0;
}

/* Frames that the rows of this sample ask for: the views, or the repeats of this epoch. */
static size_t needed(const decode *d)
{
    return (size_t)d->s->views * (size_t)d->s->rule.frames;
}

static void find_needed(decode *d, size_t frames)
{
    kd_item other = *d->item;
    for (other.view = 0; other.view < d->s->views; other.view++) {
        kdi_clip_frames(d->s, &other, frames, d->w->need + (size_t)other.view * (size_t)d->s->rule.frames);
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
    kdi_clip_frames(d->s, d->item, frames, d->w->idx);
    find_needed(d, frames);
    int w, h;
    size_t bytes;
    stored_size(d->s, KD_MAX(d->info.width, 1), KD_MAX(d->info.height, 1), &w, &h);
    d->all = d->s->fixed;
    if (!d->all && d->s->cache != NULL && reel_bytes(frames, w, h, &bytes)) {
        d->all = kd_cache_reserve(d->s->cache, bytes);
        if (d->all) {
            d->reserved = bytes;
        }
    }
    if (d->all && !d->s->fixed) { /* other epochs draw others */
        memset(want, 1, frames);
    }
    for (size_t j = 0; j < needed(d); j++) {
        want[d->w->need[j]] = 1;
    }
    d->n = 0;
    for (size_t f = 0; f < frames; f++) {
        d->n += want[f];
    }
    return KD_OK;
}

static bool is_among(const size_t *idx, size_t n, size_t f)
{
    for (size_t j = 0; j < n; j++) {
        if (idx[j] == f) {
            return true;
        }
    }
    return false;
}

static size_t count_unique(const size_t *idx, size_t n)
{
    size_t unique = 0;
    for (size_t j = 0; j < n; j++) {
        unique += !is_among(idx, j, idx[j]);
    }
    return unique;
}

/* Room for the reel, once the true picture size is known. */
static kd_status make_room(decode *d, int width, int height, kd_err *err)
{
    kd_clip_worker *w = d->w;
    int ow, oh;
    size_t bytes;
    stored_size(d->s, width, height, &ow, &oh);
    if (!reel_bytes(d->n, ow, oh, &bytes) || ow > UINT16_MAX || oh > UINT16_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: %zu frames of %dx%d", d->path, d->n, ow, oh);
    }
    if (d->s->cache != NULL && d->all && d->reserved != bytes) {
        if (d->reserved > 0) {
            kd_cache_give_back(d->s->cache, d->reserved);
        }
        d->reserved = kd_cache_reserve(d->s->cache, bytes) ? bytes : 0;
        if (d->reserved == 0 && !d->s->fixed) { /* larger than the header said: the sample's rows' alone */
            d->all = false;
            d->n = count_unique(w->need, needed(d));
            if (!reel_bytes(d->n, ow, oh, &bytes)) {
                return KD_FAIL(err, KD_E_DATA, "%s", d->path);
            }
        }
    }
    if (d->reserved > 0) {
        d->block = kd_alloc(bytes);
    } else {
        if (w->capacity < bytes) {
            kd_free(w->block);
            w->capacity = 0;
            w->block = kd_alloc(bytes);
            if (w->block != NULL) {
                w->capacity = bytes;
            }
        }
        w->sample = UINT32_MAX;
        d->block = w->block;
    }
    if (d->block == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu frames of %dx%d", d->path, d->n, ow, oh);
    }
    d->r = reel_place(d->block, d->frames, d->n, ow, oh);
    if ((ow != width || oh != height) && (w->resizer == NULL || w->in_w != width || w->in_h != height)) {
        kd_image_resizer_free(w->resizer);
        w->resizer = NULL;
        KD_TRY(kd_image_resizer_create(d->s->spec.video.resizer, width, height, ow, oh, &w->resizer, err));
        w->in_w = width;
        w->in_h = height;
    }
    return KD_OK;
}

static kd_status on_frame(void *ctx, size_t index, const uint8_t *rgb, int width, int height, size_t stride,
                          kd_err *err)
{
    decode *d = ctx;
    if (d->r == NULL) {
        KD_TRY(make_room(d, width, height, err));
    }
    kd_reel *r = d->r;
    if (!d->all && !is_among(d->w->need, needed(d), index)) {
        return KD_OK;
    }
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

/* Once a process: a data set of phone clips has thousands. */
static void say_rotation(const decode *d)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    if (d->info.rotation != 0 && !atomic_flag_test_and_set(&said)) {
        kd_log(KD_LOG_INFO,
               "%s: rotated by %d degrees as its tag says, and so is every clip with such a tag "
               "(`kd dataset check` counts them)",
               d->path, d->info.rotation);
    }
}

kd_status kdi_clip_decode(kd_clip_source *s, kd_clip_worker *w, const kd_item *item, const kd_reel **out, kd_err *err)
{
    const kd_data_sample *sample = &s->half->sample[item->sample];
    const uint64_t known = atomic_load(&s->known[item->sample]);
    const int first = s->spec.video.start_index;
    const kd_video_opts opts = {.known_frames = known != 0 ? (size_t)(known >> 32) : sample->packed_frames,
                                .numbered = first >= 0,
                                .first_number = (size_t)KD_MAX(first, 0)};
    decode d = {.s = s, .w = w, .item = item, .path = sample->video};
    kd_status st = kd_video_scan(d.path, &opts, on_pick, on_frame, &d, &d.info, err);
    if (st == KD_OK && (d.r == NULL || d.done != d.n)) {
        st = KD_FAIL(err, KD_E_DATA, "%s: expected %zu frames, the decoder gave %zu", d.path, d.n, d.done);
    }
    if (st != KD_OK) {
        forget(&d);
        return sample->id != NULL ? kd_err_prefix(err, st, "%s", sample->id) : st;
    }
    if (sample->frames > 0 && d.frames != (size_t)sample->frames) {
        forget(&d);
        return KD_FAIL(err, KD_E_DATA,
                       "%s: the list says %d frames, the video holds %zu: %s (is the number in front of the label a "
                       "label too? lists of several labels are not read)",
                       sample->id, sample->frames, d.frames, d.path);
    }
    say_rotation(&d);
    atomic_store(&s->known[item->sample],
                 (uint64_t)d.frames << 32 | (uint64_t)d.r->width << 16 | (uint64_t)d.r->height);
    if (d.reserved > 0) {
        *out = kd_cache_put(s->cache, item->sample, d.block, d.reserved);
    } else {
        w->sample = item->sample;
        w->epoch = item->epoch;
        *out = d.r;
    }
    return KD_OK;
}

/* ---- memory ---------------------------------------------------------------------------------- */

uint64_t kd_clip_memory(const kd_clip_source *s, int workers)
{
    enum { DECODER = 16 }; /* pictures that FFmpeg holds: references, those of its queue */
    kd_video_info info;
    int w, h;
    size_t kept, row;
    if (s->half->n == 0 || kd_video_probe(s->half->sample[0].video, NULL, &info, NULL) != KD_OK) {
        return 0;
    }
    stored_size(s, KD_MAX(info.width, 1), KD_MAX(info.height, 1), &w, &h);
    const size_t rows = (size_t)s->rule.frames * (s->fixed ? s->views : 1), n = KD_MAX(info.frames, 1);
    if (!reel_bytes(s->fixed ? KD_MIN(rows, n) : n, w, h, &kept) || !reel_bytes(KD_MIN(rows, n), w, h, &row)) {
        return 0;
    }
    const uint64_t all = (uint64_t)kept * s->half->n;
    const uint64_t picture = (uint64_t)info.width * (uint64_t)info.height * 3;
    return (s->cache != NULL ? KD_MIN(s->cache_bytes, all) : 0) +
           (uint64_t)KD_MAX(workers, 1) * (DECODER * picture / 2 + (s->cache_bytes >= all ? 0 : row));
}
