/* Clips gathered from kd_video_scan: the caller's indices, in the caller's order.  No FFmpeg in
 * here. */
#include "formats/video/video.h"

typedef struct gather {
    const char *path;
    kd_video_choose choose; /* NULL: idx is given */
    void *choose_ctx;
    size_t *idx; /* [n] frame of every slot */
    size_t n;
    kd_video_clip *clip;
} gather;

void kd_video_clip_free(kd_video_clip *clip)
{
    if (clip != NULL) {
        kd_free(clip->rgb);
        *clip = (kd_video_clip){0};
    }
}

static kd_status pick(void *ctx, size_t frames, uint8_t *want, kd_err *err)
{
    gather *g = ctx;
    if (g->choose != NULL) {
        KD_TRY(g->choose(g->choose_ctx, frames, g->idx, g->n, err));
    }
    for (size_t i = 0; i < g->n; i++) {
        if (g->idx[i] >= frames) {
            return KD_FAIL(err, KD_E_DATA, "%s: frame %zu wanted, the clip has frames 0 to %zu", g->path, g->idx[i],
                           frames - 1);
        }
        want[g->idx[i]] = 1;
    }
    return KD_OK;
}

static kd_status sink(void *ctx, size_t index, const uint8_t *rgb, int width, int height, size_t stride, kd_err *err)
{
    gather *g = ctx;
    kd_video_clip *clip = g->clip;
    const size_t row = (size_t)width * 3;
    const size_t size = row * (size_t)height; /* bounded by max_pixels */
    if (clip->rgb == NULL) {
        size_t bytes;
        if (!kd_size_mul(size, g->n, &bytes) || (clip->rgb = kd_alloc(bytes)) == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu frames of %dx%d", g->path, g->n, width, height);
        }
        clip->n = g->n;
        clip->width = width;
        clip->height = height;
    }
    for (size_t i = 0; i < g->n; i++) {
        if (g->idx[i] != index) {
            continue;
        }
        uint8_t *dst = clip->rgb + i * size;
        for (size_t y = 0; y < (size_t)height; y++) {
            memcpy(dst + y * row, rgb + y * stride, row);
        }
    }
    return KD_OK;
}

static kd_status gather_clip(gather *g, const kd_video_opts *opts, kd_video_info *info, kd_err *err)
{
    kd_video_info unused;
    if (g->n == 0) {
        return KD_FAIL(err, KD_E_ARG, "%s: a clip of 0 frames was asked for", g->path);
    }
    const kd_status st = kd_video_scan(g->path, opts, pick, sink, g, info != NULL ? info : &unused, err);
    if (st != KD_OK) {
        kd_video_clip_free(g->clip);
    }
    return st;
}

static size_t *index_room(const char *path, size_t n, kd_status *st, kd_err *err)
{
    size_t *idx = kd_calloc(n == 0 ? 1 : n, sizeof *idx);
    *st = idx != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu frame indices", path, n);
    return idx;
}

kd_status kd_video_read(const char *path, const kd_video_opts *opts, const size_t *idx, size_t n, kd_video_clip *clip,
                        kd_video_info *info, kd_err *err)
{
    kd_status st;
    *clip = (kd_video_clip){0};
    size_t *copy = index_room(path, n, &st, err);
    if (st == KD_OK) {
        if (n != 0) {
            memcpy(copy, idx, n * sizeof *copy);
        }
        gather g = {path, NULL, NULL, copy, n, clip};
        st = gather_clip(&g, opts, info, err);
    }
    kd_free(copy);
    return st;
}

kd_status kd_video_sample(const char *path, const kd_video_opts *opts, kd_video_choose choose, void *ctx, size_t n,
                          kd_video_clip *clip, kd_video_info *info, kd_err *err)
{
    kd_status st;
    *clip = (kd_video_clip){0};
    size_t *idx = index_room(path, n, &st, err);
    if (st == KD_OK) {
        gather g = {path, choose, ctx, idx, n, clip};
        st = gather_clip(&g, opts, info, err);
    }
    kd_free(idx);
    return st;
}
