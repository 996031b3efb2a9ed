/* Training rows from a video to pixels: what the source makes is what its parts make one after the other by hand. */
#include "formats/base/io.h"
#include "formats/video/video.h"
#include "kernels/kd_ops.h"
#include "teacher/clip/clip_internal.h"
#include "teacher/model/vit.h"
#include "tools/parity/parity_gen.h"

#include <stdio.h>
#include <stdlib.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

enum { FRAMES = 4, SIDE = 32, W = 64, H = 48, LENGTH = 9, ROW = FRAMES * SIDE * SIDE * 3 };

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

typedef struct world {
    char dir[64], path[128];
    kd_data_sample sample;
} world;

static int make_world(void **state)
{
    world *w = kd_calloc(1, sizeof *w);
    kd_err err = {0};
    kd_video_writer *out = NULL;
    uint8_t rgb[W * H * 3];
    (void)snprintf(w->dir, sizeof w->dir, "clip_train_XXXXXX");
    if (mkdtemp(w->dir) == NULL) {
        return -1;
    }
    (void)snprintf(w->path, sizeof w->path, "%s/v.avi", w->dir);
    ok(kd_video_writer_open(w->path, W, H, 30, 1, NULL, &out, &err), &err);
    for (int t = 0; t < LENGTH; t++) {
        kd_parity_gen_picture((uint32_t)t, H, W, rgb);
        ok(kd_video_writer_frame(out, rgb, 0, &err), &err);
    }
    ok(kd_video_writer_close(out, &err), &err);
    w->sample = (kd_data_sample){.id = "v", .video = w->path, .label = 0};
    *state = w;
    return 0;
}

static int end_world(void **state)
{
    world *w = *state;
    const kd_status st = kd_io_remove_tree(w->dir, NULL);
    kd_free(w);
    return st == KD_OK ? 0 : -1;
}

/* Frames of the whole video, evenly, with the short side the rule asks for. */
static uint8_t *stored_frames(const world *w, const kd_clip_spec *spec, int *sw, int *sh)
{
    static const size_t IDX[FRAMES] = {0, 2, 5, 8};
    kd_err err = {0};
    kd_video_clip clip;
    *sw = W;
    *sh = H;
    if (spec->video.spatial != KD_SPATIAL_RRC && spec->video.train_short_side > 0) {
        kd_image_short_side(W, H, spec->video.train_short_side, sw, sh);
    }
    const size_t n = (size_t)(*sw * *sh) * 3;
    uint8_t *out = kd_alloc(FRAMES * n);
    assert_non_null(out);
    ok(kd_video_read(w->path, NULL, IDX, FRAMES, &clip, NULL, &err), &err);
    for (size_t j = 0; j < FRAMES; j++) {
        ok(kd_image_resize_once(spec->video.resizer, clip.rgb + j * W * H * 3, W, H, 0, out + j * n, *sw, *sh, 0, &err),
           &err);
    }
    kd_video_clip_free(&clip);
    return out;
}

/* Frame j augmented: every filter drawn anew where the policy says random. */
static int augmented_by_hand(const kd_clip_source *s, const kd_item *item, int j, int w, int h, uint8_t *rgb)
{
    kd_augment_plan plan;
    kd_rng rng = kdi_clip_draws(s, item, KDI_DRAW_AUGMENT);
    kd_augment_draw(&s->augment, &rng, &plan);
    rng = kdi_clip_draws(s, item, KDI_DRAW_WARP + (uint64_t)j * 4 * KD_AUGMENT_MAX);
    for (int k = 0; k < plan.n; k++) {
        static uint8_t other[W * H * 3];
        kd_warp warp = s->spec.video.rand_augment_interpolation;
        if (warp == KD_WARP_RANDOM) {
            warp = kd_rng_below(&rng, 2) != 0 ? KD_WARP_BICUBIC : KD_WARP_BILINEAR;
        }
        kd_augment_apply(&plan.step[k], warp, rgb, w, h, other);
        memcpy(rgb, other, (size_t)(w * h) * 3);
    }
    return plan.n;
}

/* One row of a rule against its parts; how many operations changed it. */
static int row_is_its_parts(const world *w, const kd_clip_spec *spec, uint32_t epoch)
{
    static float row[ROW], want[ROW];
    kd_err err = {0};
    kd_clip_source *s = NULL;
    void *scratch = NULL;
    int32_t place[KD_PLACE + KD_BOX];
    int sw, sh, operations = 0;
    const kd_half half = {.sample = (kd_data_sample *)&w->sample, .n = 1};
    const kd_item item = {.epoch = epoch};
    float table[3 * 256];
    const float mean[3] = {0.5f, 0.4f, 0.3f}, std[3] = {0.2f, 0.2f, 0.25f};
    kd_vit_pixel_table(mean, std, table);
    ok(kd_clip_source_open(spec, &half, KD_CLIP_TRAIN, 0, &s, &err), &err);
    const kd_producer p = kd_clip_producer(s);
    ok(p.scratch_new(p.ctx, &scratch, &err), &err);
    ok(p.fill(p.ctx, &item, scratch, (void *[]){row, place}, &err), &err);
    uint8_t *frames = stored_frames(w, spec, &sw, &sh);
    kd_rng rng = kdi_clip_draws(s, &item, KDI_DRAW_CROP);
    const bool multi = spec->video.spatial == KD_SPATIAL_MULTI_SCALE;
    const kd_crop_box box = multi ? kd_crop_random_multi_scale(sw, sh, SIDE, &rng)
                                  : kd_crop_random_area(sw, sh, spec->video.rrc_scale, spec->video.rrc_ratio, &rng);
    for (int j = 0; j < FRAMES; j++) {
        uint8_t *rgb = frames + (size_t)(j * sw * sh) * 3;
        operations = augmented_by_hand(s, &item, j, sw, sh, rgb);
        if (spec->video.spatial == KD_SPATIAL_RRC) {
            kd_clip_resize(table, rgb, sw, sh, &box, SIDE, want + j * SIDE * SIDE, FRAMES * SIDE * SIDE);
            continue;
        }
        uint8_t cut[W * H * 3];
        kd_clip_cut(rgb, sw, sh, &box, cut);
        ok(kd_image_resize_once(spec->video.resizer, cut, box.width, box.height, 0,
                                (uint8_t *)want + j * SIDE * SIDE * 3, SIDE, SIDE, 0, &err),
           &err);
    }
    assert_memory_equal(row, want, p.tensor[0].bytes);
    p.scratch_free(p.ctx, scratch);
    kd_clip_source_close(s);
    kd_free(frames);
    return operations;
}

static void rows_are_their_parts(void **state)
{
    const world *w = *state;
    static const struct {
        kd_spatial spatial;
        kd_resizer resizer;
        int short_side;
        const char *policy;
        kd_warp warp;
    } CASE[] = {{KD_SPATIAL_RRC, KD_RESIZER_OPENCV, 256, "rand-m7-n4-mstd0.5-inc1", KD_WARP_BICUBIC},
                {KD_SPATIAL_RRC_U8, KD_RESIZER_PILLOW_BILINEAR, 40, "", KD_WARP_BICUBIC},
                {KD_SPATIAL_RRC_U8, KD_RESIZER_PILLOW_BICUBIC, 0, "rand-m9-n3", KD_WARP_BILINEAR},
                {KD_SPATIAL_RRC_U8, KD_RESIZER_OPENCV, 44, "rand-m9-n6-inc1", KD_WARP_RANDOM},
                {KD_SPATIAL_MULTI_SCALE, KD_RESIZER_PILLOW_BILINEAR, 0, "", KD_WARP_BICUBIC}};
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        kd_clip_spec spec = {.video = {.sampler = KD_SAMPLER_UNIFORM_LINSPACE,
                                       .sampling_rate = 1,
                                       .spatial = CASE[i].spatial,
                                       .resizer = CASE[i].resizer,
                                       .train_short_side = CASE[i].short_side,
                                       .rrc_scale = {0.2, 1.0},
                                       .rrc_ratio = {0.75, 1.333},
                                       .rand_augment_interpolation = CASE[i].warp,
                                       .erase_count = 1,
                                       .erase_cube = true,
                                       .mean = {0.5, 0.4, 0.3},
                                       .std = {0.2, 0.2, 0.25}},
                             .frames = FRAMES,
                             .side = SIDE,
                             .clips = 1,
                             .crops = 1,
                             .seed = 3};
        int operations = 0;
        (void)snprintf(spec.video.rand_augment, sizeof spec.video.rand_augment, "%s", CASE[i].policy);
        for (uint32_t epoch = 0; epoch < 12; epoch++) {
            operations += row_is_its_parts(w, &spec, epoch);
        }
        assert_true(CASE[i].policy[0] == '\0' ? operations == 0 : operations > 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_are_their_parts)};
    return cmocka_run_group_tests(tests, make_world, end_world);
}
