/* Clips: frames, boxes and pixels against the reference's numbers; the source with real videos. */
#include "distill/clip.h"
#include "formats/image.h"
#include "formats/io.h"
#include "formats/safetensors.h"
#include "formats/video.h"
#include "kernels/kd_ops.h"
#include "teacher/vit.h"
#include "tools/parity_gen.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

#define GOLDEN KD_GOLDEN_DIR "/videomae/"

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) fail_msg("%s: %s", kd_status_text(st), err->msg);
}

static const kd_st_entry *need(const kd_st_file *f, const char *name)
{
    const kd_st_entry *e = kd_st_find(f, name);
    if (e == NULL) fail_msg("golden tensor %s is missing", name);
    return e;
}

/* ---- sampling -------------------------------------------------------------------------------- */

static void expect_row(const char *what, int n, const size_t *got, const int32_t *want, int count)
{
    for (int j = 0; j < count; j++) {
        if (got[j] != (size_t)want[j]) {
            fail_msg("%s, %d frames, index %d: %zu, the reference has %d", what, n, j, got[j],
                     want[j]);
        }
    }
}

static void sampling_is_the_references(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_st_file *f = NULL;
    ok(kd_st_open(GOLDEN "sampling.safetensors", &f, &err), &err);
    const kd_st_entry *lengths = need(f, "lengths");
    const int32_t *n = (const int32_t *)(const void *)lengths->data;
    const int32_t *val4 = (const int32_t *)(const void *)need(f, "val_r4")->data;
    const int32_t *val2 = (const int32_t *)(const void *)need(f, "val_r2")->data;
    const int32_t *lo = (const int32_t *)(const void *)need(f, "train_r4_end_min")->data;
    const int32_t *hi = (const int32_t *)(const void *)need(f, "train_r4_end_max")->data;
    const int32_t *range =
        (const int32_t *)(const void *)need(f, "train_r4_end_randint_range")->data;
    const int32_t *test = (const int32_t *)(const void *)need(f, "test_r4_seg10")->data;
    const kd_frame_rule r4 = {.frames = 16, .rate = 4}, r2 = {.frames = 16, .rate = 2};
    size_t idx[16];
    assert_true(lengths->count > 60);
    for (size_t i = 0; i < lengths->count; i++) {
        const size_t frames = (size_t)n[i];
        kd_frames_val(&r4, frames, idx);
        expect_row("val, rate 4", n[i], idx, val4 + 16 * i, 16);
        kd_frames_val(&r2, frames, idx);
        expect_row("val, rate 2", n[i], idx, val2 + 16 * i, 16);
        kd_frames_window(&r4, frames, frames > 64 ? 64 : 0, idx);
        expect_row("train, first window", n[i], idx, lo + 16 * i, 16);
        kd_frames_window(&r4, frames, frames - 1, idx);
        expect_row("train, last window", n[i], idx, hi + 16 * i, 16);
        if (frames > 64) { /* our range of ends is the reference's randint(low, high) */
            assert_int_equal(range[2 * i], 64);
            assert_int_equal(range[2 * i + 1], n[i]);
        }
        for (int clip = 0; clip < 10; clip++) {
            kd_frames_test(&r4, frames, clip, 10, idx);
            expect_row("test", n[i], idx, test + (i * 10 + (size_t)clip) * 16, 16);
        }
    }
    kd_st_close(f);
}

/* Every draw lies in the video, every window is reached, one clip is the first window. */
static void draws_stay_inside(void **state)
{
    (void)state;
    size_t idx[16];
    for (int sampler = 0; sampler < 3; sampler++) {
        for (int shorts = 0; shorts < 2; shorts++) {
            const kd_frame_rule r = {.sampler = (kd_cfg_sampler)sampler,
                                     .short_video = (kd_cfg_short)shorts,
                                     .frames = 16,
                                     .rate = 4};
            for (size_t n = 1; n < 90; n++) {
                for (uint32_t draw = 0; draw < 20; draw++) {
                    kd_rng rng = kd_rng_make(7, KD_RNG_TEST, (uint32_t)n, draw);
                    kd_frames_train(&r, n, &rng, idx);
                    for (int j = 0; j < 16; j++) {
                        assert_true(idx[j] < n && (j == 0 || idx[j] >= idx[j - 1]));
                    }
                }
                kd_frames_test(&r, n, 0, 1, idx);
                assert_int_equal(idx[0], 0);
                assert_true(idx[15] < n);
            }
        }
    }
    const kd_frame_rule dense = {.frames = 16, .rate = 4};
    bool first[7] = {false};
    for (uint32_t draw = 0; draw < 200; draw++) {
        kd_rng rng = kd_rng_make(7, KD_RNG_TEST, 1, draw);
        kd_frames_train(&dense, 71, &rng, idx); /* ends 64..70: starts 0..6 */
        assert_true(idx[0] < 7);
        first[idx[0]] = true;
    }
    for (int i = 0; i < 7; i++) {
        assert_true(first[i]);
    }
    const kd_frame_rule stride = {.short_video = KD_SHORT_STRIDE_REPEAT, .frames = 16, .rate = 4};
    kd_frames_val(&stride, 10, idx);
    expect_row("stride_repeat", 10, idx, (const int32_t[]){0, 4, 8, 8, 8}, 5);
    const kd_frame_rule whole = {.sampler = KD_SAMPLER_UNIFORM_LINSPACE, .frames = 16, .rate = 4};
    kd_frames_val(&whole, 31, idx);
    for (int j = 0; j < 16; j++) {
        assert_int_equal(idx[j], 2 * j);
    }
}

/* ---- boxes ----------------------------------------------------------------------------------- */

static void boxes_are_the_references(void **state)
{
    (void)state;
    static const struct {
        int h, w, rh, rw, offset[3], cy, cx;
    } CASE[] = {
        /* spatial.json */
        {1080, 1920, 224, 398, {0, 87, 174}, 0, 87}, {240, 320, 224, 298, {0, 37, 74}, 0, 37},
        {256, 340, 224, 297, {0, 36, 73}, 0, 36},    {340, 256, 297, 224, {0, 36, 73}, 36, 0},
        {224, 224, 224, 224, {0, 0, 0}, 0, 0},       {320, 568, 224, 397, {0, 86, 173}, 0, 86},
        {1920, 1080, 398, 224, {0, 87, 174}, 87, 0}};
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        int w, h;
        kd_image_short_side(CASE[i].w, CASE[i].h, 224, &w, &h);
        assert_int_equal(w, CASE[i].rw);
        assert_int_equal(h, CASE[i].rh);
        for (int crop = 0; crop < 3; crop++) {
            const kd_crop_box b = kd_crop_test(w, h, 224, crop, 3);
            assert_int_equal(h >= w ? b.y : b.x, CASE[i].offset[crop]);
            assert_int_equal(h >= w ? b.x : b.y, 0);
        }
        const kd_crop_box c = kd_crop_center(w, h, 224), one = kd_crop_test(w, h, 224, 0, 1);
        assert_int_equal(c.x, CASE[i].cx);
        assert_int_equal(c.y, CASE[i].cy);
        assert_memory_equal(&c, &one, sizeof c);
    }
    static const struct {
        double share, log_ratio;
        int w, h;
    } SIZE[] = {{0.08, -0.2876820724517809, 353, 470},
                {0.5, 0.0, 1018, 1018},
                {1.0, 0.28765707213927566, 1663, 1247},
                {0.33, 0.1, 870, 787}};
    for (size_t i = 0; i < KD_COUNTOF(SIZE); i++) {
        int w, h;
        const bool fits = kd_crop_area_size(1920, 1080, SIZE[i].share, SIZE[i].log_ratio, &w, &h);
        assert_int_equal(w, SIZE[i].w);
        assert_int_equal(h, SIZE[i].h);
        assert_int_equal(fits, SIZE[i].h <= 1080);
    }
}

static void random_boxes_fit(void **state)
{
    (void)state;
    const double scale[2] = {0.08, 1.0}, ratio[2] = {0.75, 4.0 / 3.0};
    static const int SIZES[][2] = {{320, 240}, {1, 1}, {400, 20}, {20, 400}, {3, 2}};
    for (size_t i = 0; i < KD_COUNTOF(SIZES); i++) {
        for (uint32_t draw = 0; draw < 500; draw++) {
            kd_rng rng = kd_rng_make(1, KD_RNG_TEST, (uint32_t)i, draw);
            const kd_crop_box b = kd_crop_random_area(SIZES[i][0], SIZES[i][1], scale, ratio, &rng);
            assert_true(b.x >= 0 && b.y >= 0 && b.width > 0 && b.height > 0);
            assert_true(b.x + b.width <= SIZES[i][0] && b.y + b.height <= SIZES[i][1]);
            assert_true(rng.pos <= 112); /* the flip has its own place behind */
        }
    }
}

/* ---- pixels ---------------------------------------------------------------------------------- */

static uint8_t *make_video(const char *name, int frames, int w, int h)
{
    const size_t picture = (size_t)w * (size_t)h * 3;
    uint8_t *rgb = kd_alloc((size_t)frames * picture);
    assert_non_null(rgb);
    for (int t = 0; t < frames; t++) {
        char full[64];
        (void)snprintf(full, sizeof full, "%s.%d", name, t);
        parity_gen_picture((uint32_t)crc32(0, (const Bytef *)full, (uInt)strlen(full)), h, w, rgb + (size_t)t * picture);
    }
    return rgb;
}

static const float MEAN[3] = {0.485f, 0.456f, 0.406f}, STD[3] = {0.229f, 0.224f, 0.225f};

/* Bytes (T, side, side, 3) as the normalised floats (3, T, side, side). */
static void normalise(const uint8_t *rgb, int frames, int side, float *clip)
{
    float table[3 * 256];
    const size_t plane = (size_t)frames * (size_t)side * (size_t)side;
    kd_vit_pixel_table(MEAN, STD, table);
    for (size_t i = 0; i < plane; i++) {
        for (size_t c = 0; c < 3; c++) {
            clip[c * plane + i] = table[256 * c + rgb[3 * i + c]];
        }
    }
}

/* A box as large as the clip is the same cut as bytes and "resized". */
static uint32_t view_crc(const uint8_t *rgb, int w, int h, const size_t *idx, kd_crop_box box)
{
    static float table[3 * 256], clip[3 * 4 * 32 * 32], same[3 * 4 * 32 * 32];
    static uint8_t cut[4 * 32 * 32 * 3];
    kd_vit_pixel_table(MEAN, STD, table);
    kd_clip_resize(table, rgb, w, h, idx, 4, &box, 32, clip);
    kd_clip_cut(rgb, w, h, idx, 4, &box, cut);
    normalise(cut, 4, 32, same);
    assert_memory_equal(clip, same, sizeof clip);
    return (uint32_t)crc32(0, (const Bytef *)clip, sizeof clip);
}

/* Bit for bit: every view of both synthetic videos, resized to 32, and the validation clip. */
static void views_are_the_references(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int frames, w, h;
        uint32_t val, crc[9];
    } V[] = {{"vidA",
              23,
              100,
              60,
              0xfa8e0b89,
              {0x84b6b67a, 0x2c0d7a34, 0x50b5c1f6, 0x53c00033, 0xe8f32eee, 0xf1515c4b, 0xebf35da3,
               0xb16230fe, 0x0a3cdd54}},
             {"vidB",
              6,
              50,
              90,
              0x31d54176,
              {0x556f4d04, 0x82e1a7d6, 0x51e7eaec, 0x556f4d04, 0x82e1a7d6, 0x51e7eaec, 0x556f4d04,
               0x82e1a7d6, 0x51e7eaec}}};
    for (size_t i = 0; i < KD_COUNTOF(V); i++) {
        int w, h;
        kd_err err = {0};
        uint8_t *rgb = make_video(V[i].name, V[i].frames, V[i].w, V[i].h);
        kd_image_short_side(V[i].w, V[i].h, 32, &w, &h);
        const size_t in = (size_t)V[i].w * (size_t)V[i].h * 3, out = (size_t)w * (size_t)h * 3;
        uint8_t *small = kd_alloc((size_t)V[i].frames * out);
        for (int t = 0; t < V[i].frames; t++) {
            ok(kd_image_resize_once(rgb + (size_t)t * in, V[i].w, V[i].h, 0,
                                    small + (size_t)t * out, w, h, 0, &err),
               &err);
        }
        const kd_frame_rule rule = {.frames = 4, .rate = 2};
        size_t idx[4];
        for (int view = 0; view < 9; view++) {
            kd_frames_test(&rule, (size_t)V[i].frames, view / 3, 3, idx);
            assert_int_equal(view_crc(small, w, h, idx, kd_crop_test(w, h, 32, view % 3, 3)),
                             V[i].crc[view]);
        }
        kd_frames_val(&rule, (size_t)V[i].frames, idx);
        assert_int_equal(view_crc(small, w, h, idx, kd_crop_center(w, h, 32)), V[i].val);
        kd_free(small);
        kd_free(rgb);
    }
}

static void training_crops_are_the_references(void **state)
{
    (void)state;
    static const struct {
        const char *file, *tensor;
        kd_crop_box box;
        bool flip;
    } CASE[] = {{GOLDEN "train_a.safetensors", "train.a", {10, 3, 61, 50}, false},
                {GOLDEN "train_b.safetensors", "train.b", {30, 20, 22, 17}, true}};
    float table[3 * 256];
    const size_t idx[4] = {0, 1, 2, 3};
    kd_vit_pixel_table(MEAN, STD, table);
    uint8_t *rgb = make_video("vidT", 4, 100, 60);
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        kd_err err = {0};
        kd_st_file *f = NULL;
        static float clip[3 * 4 * 32 * 32];
        ok(kd_st_open(CASE[i].file, &f, &err), &err);
        const kd_st_entry *e = need(f, CASE[i].tensor);
        const float *want = (const float *)(const void *)e->data;
        assert_int_equal(e->count, KD_COUNTOF(clip));
        kd_clip_resize(table, rgb, 100, 60, idx, 4, &CASE[i].box, 32, clip);
        for (size_t k = 0; k < e->count; k++) {
            const float got = clip[CASE[i].flip ? k - k % 32 + 31 - k % 32 : k]; /* mirrored later, by the model's first op */
            if (!(fabsf(got - want[k]) <= 2e-6f)) {
                fail_msg("%s[%zu]: %.9g, the reference has %.9g", CASE[i].tensor, k,
                         (double)got, (double)want[k]);
            }
        }
        kd_st_close(f);
    }
    kd_free(rgb);
}

/* The rule of the erase box: area, shape, strictly smaller than the picture, whole, and what the draws give on average. */
static void erase_boxes_follow_the_rule(void **state)
{
    (void)state;
    enum { N = 4000 };
    double share = 0.0, log_ratio = 0.0;
    int top = 0, left = 0;
    for (uint32_t draw = 0; draw < N; draw++) {
        kd_rng rng = kd_rng_make(1, KD_RNG_TEST, 3, draw);
        const kd_crop_box b = kd_erase_random(224, 200, &rng);
        assert_true(b.width > 0 && b.height > 0 && b.width < 224 && b.height < 200);
        assert_true(b.x >= 0 && b.y >= 0 && b.x + b.width <= 224 && b.y + b.height <= 200);
        assert_true(rng.pos <= 100 * 4 + 2);
        const double part = (double)(b.width * b.height) / (224.0 * 200.0), r = (double)b.height / (double)b.width;
        assert_true(part > 0.0195 && part < 0.336); /* sides are rounded */
        assert_true(r > 0.29 && r < 3.45);
        share += part / N;
        log_ratio += log(r) / N;
        top += b.y == 0;
        left += b.x + b.width == 224;
    }
    assert_true(share > 0.165 && share < 0.18); /* (0.02 + 1/3) / 2, a little less for boxes that did not fit */
    assert_true(fabs(log_ratio) < 0.05);
    assert_true(top > 5 && left > 5); /* the ends are possible */
    kd_rng rng = kd_rng_make(1, KD_RNG_TEST, 3, 0);
    const kd_crop_box none = kd_erase_random(1, 1, &rng); /* nothing is smaller than one pixel */
    assert_true(none.width == 0 && none.height == 0);
    assert_true(rng.pos == 400);
}

/* ---- the source ------------------------------------------------------------------------------ */

enum { VIDEOS = 4 };
static const int FRAMES[VIDEOS] = {20, 41, 9, 33};

typedef struct world {
    char dir[64];
    char path[VIDEOS][128];
    kd_data_sample sample[VIDEOS];
    kd_half half;
    kd_config *cfg;
} world;

static kd_config *recipe(void)
{
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    assert_non_null(cfg);
    cfg->kind = KD_KIND_TEACHER;
    cfg->teacher.img_size = 32;
    cfg->teacher.frames = 8;
    cfg->video = (kd_cfg_video){.sampling_rate = 2,
                                .short_side = 32,
                                .train_short_side = 40,
                                .rrc_scale = {0.2, 1.0},
                                .rrc_ratio = {0.75, 1.333},
                                .flip_prob = 0.5,
                                .erase_prob = 0.4,
                                .mean = {0.485, 0.456, 0.406},
                                .std = {0.229, 0.224, 0.225}};
    cfg->train.seed = 11;
    cfg->eval.clips = 2;
    cfg->eval.crops = 3;
    return cfg;
}

static int make_world(void **state)
{
    world *w = kd_calloc(1, sizeof *w);
    (void)snprintf(w->dir, sizeof w->dir, "clip_test_XXXXXX");
    if (mkdtemp(w->dir) == NULL) return -1;
    for (int i = 0; i < VIDEOS; i++) {
        kd_err err = {0};
        kd_video_writer *out = NULL;
        (void)snprintf(w->path[i], sizeof w->path[i], "%s/v%d.avi", w->dir, i);
        uint8_t *rgb = make_video("w", FRAMES[i], 64, 48);
        ok(kd_video_writer_open(w->path[i], 64, 48, 30, 1, NULL, &out, &err), &err);
        for (int t = 0; t < FRAMES[i]; t++) {
            ok(kd_video_writer_frame(out, rgb + (size_t)t * 64 * 48 * 3, 0, &err), &err);
        }
        ok(kd_video_writer_close(out, &err), &err);
        kd_free(rgb);
        w->sample[i] = (kd_data_sample){
            .id = w->path[i] + strlen(w->dir) + 1, .video = w->path[i], .label = i};
    }
    w->half = (kd_half){.sample = w->sample, .n = VIDEOS};
    w->cfg = recipe();
    *state = w;
    return 0;
}

static int end_world(void **state)
{
    world *w = *state;
    const kd_status st = kd_io_remove_tree(w->dir, NULL);
    kd_free(w->cfg);
    kd_free(w);
    return st == KD_OK ? 0 : -1;
}

/* All batches of an epoch, valid rows only, as one checksum. */
static uint32_t epoch_crc(world *w, kd_clip_mode mode, uint64_t cache, int workers, uint32_t epochs)
{
    kd_err err = {0};
    kd_clip_source *s = NULL;
    kd_loader *l = NULL;
    ok(kd_clip_source_open(w->cfg, &w->half, mode, cache, &s, &err), &err);
    const kd_producer p = kd_clip_producer(s);
    const kd_loader_opts o = {
        .batch_size = 2, .workers = workers, .train = mode == KD_CLIP_TRAIN, .seed = 5};
    ok(kd_loader_open(&o, &p, &l, &err), &err);
    uint32_t crc = 0;
    for (uint32_t e = 0; e < epochs; e++) {
        ok(kd_loader_seek(l, e, 0, &err), &err);
        for (uint64_t b = 0; b < kd_loader_batches(l); b++) {
            const kd_batch *batch;
            ok(kd_loader_next(l, &batch, &err), &err);
            const float *clip = batch->tensor[0];
            for (size_t i = 0; p.tensor[0].dtype == KD_F32 && i < p.tensor[0].bytes * 2 / sizeof *clip; i++) {
                assert_true(isfinite(clip[i]));
            }
            for (int t = 0; t < p.n_tensors; t++) {
                crc = (uint32_t)crc32(crc, (const Bytef *)batch->tensor[t], (uInt)(p.tensor[t].bytes * 2));
            }
            crc = (uint32_t)crc32(crc, (const Bytef *)batch->label, 2 * sizeof(int32_t));
        }
    }
    kd_loader_close(l);
    kd_clip_source_close(s);
    return crc;
}

static void cache_and_workers_change_nothing(void **state)
{
    world *w = *state;
    for (int mode = 0; mode < 3; mode++) {
        for (int spatial = 0; spatial < 2; spatial++) {
            w->cfg->video.spatial = (kd_cfg_spatial)spatial;
            const uint32_t want = epoch_crc(w, (kd_clip_mode)mode, 0, 0, 2);
            assert_int_equal(epoch_crc(w, (kd_clip_mode)mode, 1 << 26, 0, 2), want);
            assert_int_equal(epoch_crc(w, (kd_clip_mode)mode, 400000, 3, 2), want); /* some fit */
            assert_int_equal(epoch_crc(w, (kd_clip_mode)mode, 1 << 26, 2, 2), want);
        }
    }
    w->cfg->video.spatial = KD_SPATIAL_RRC;
    w->cfg->video.val_window = KD_WINDOW_RANDOM;
    const uint32_t want = epoch_crc(w, KD_CLIP_VAL, 0, 0, 2);
    assert_int_equal(epoch_crc(w, KD_CLIP_VAL, 1 << 26, 2, 2), want);
    w->cfg->video.val_window = KD_WINDOW_CENTER;
}

/* A test row is decode -> resize -> crop of the frames that kd_clip_view names. */
static void test_rows_are_what_the_view_says(void **state)
{
    world *w = *state;
    kd_err err = {0};
    kd_clip_source *s = NULL;
    void *scratch = NULL;
    static uint8_t row[8 * 32 * 32 * 3], want[8 * 32 * 32 * 3];
    ok(kd_clip_source_open(w->cfg, &w->half, KD_CLIP_TEST, 0, &s, &err), &err);
    const kd_producer p = kd_clip_producer(s);
    assert_int_equal(p.views, 6);
    assert_int_equal(p.n_tensors, 1);
    assert_int_equal(p.tensor[0].dtype, KD_U8);
    assert_int_equal(p.tensor[0].bytes, sizeof row);
    ok(p.scratch_new(p.ctx, &scratch, &err), &err);
    kd_store_view view;
    int32_t frames[8];
    assert_int_equal(kd_clip_view(s, 1, 4, &view, frames, &err), KD_E_STATE);
    void *dst = row;
    const kd_item item = {.sample = 1, .view = 4};
    err = (kd_err){0};
    ok(p.fill(p.ctx, &item, scratch, &dst, &err), &err);
    ok(kd_clip_view(s, 1, 4, &view, frames, &err), &err);
    assert_int_equal(view.clip, 1);
    assert_int_equal(view.crop, 1);
    assert_int_equal(view.crop_x, 5); /* 64x48 -> 42x32 */
    assert_int_equal(view.crop_y, 0);
    assert_int_equal(frames[7], 40);
    size_t idx[8];
    const size_t order[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    for (int j = 0; j < 8; j++) {
        idx[j] = (size_t)frames[j];
    }
    kd_video_clip clip;
    ok(kd_video_read(w->path[1], NULL, idx, 8, &clip, NULL, &err), &err);
    uint8_t small[8 * 42 * 32 * 3];
    for (size_t j = 0; j < 8; j++) {
        ok(kd_image_resize_once(clip.rgb + j * 64 * 48 * 3, 64, 48, 0, small + j * 42 * 32 * 3, 42,
                                32, 0, &err),
           &err);
    }
    const kd_crop_box box = {.x = view.crop_x, .y = view.crop_y, .width = 32, .height = 32};
    kd_clip_cut(small, 42, 32, order, 8, &box, want);
    assert_memory_equal(row, want, sizeof row);
    kd_video_clip_free(&clip);
    p.scratch_free(p.ctx, scratch);
    kd_clip_source_close(s);
    /* the same through the call for single files */
    uint8_t *all = kd_alloc(6 * sizeof row);
    ok(kd_clip_read(w->cfg, w->path[1], KD_CLIP_TEST, all, &err), &err);
    assert_memory_equal(all + 4 * sizeof row, want, sizeof row);
    kd_free(all);
}

/* The second tensor of training rows: flips and boxes as often as asked, with the keys of their sample and epoch; no draw
 * moves another. */
static void places_are_drawn(void **state)
{
    world *w = *state;
    kd_err err = {0};
    int flips = 0, boxes = 0, boxes_alone = 0;
    enum { EPOCHS = 60 };
    for (int spatial = 0; spatial < 2; spatial++) {
        kd_clip_source *s = NULL;
        void *scratch = NULL;
        static float clip[3 * 8 * 32 * 32], other[3 * 8 * 32 * 32];
        int32_t place[KD_PLACE];
        w->cfg->video.spatial = (kd_cfg_spatial)spatial;
        ok(kd_clip_source_open(w->cfg, &w->half, KD_CLIP_TRAIN, 1 << 26, &s, &err), &err);
        const kd_producer p = kd_clip_producer(s);
        assert_int_equal(p.n_tensors, 2);
        assert_string_equal(p.tensor[1].name, "place");
        assert_int_equal(p.tensor[0].dtype, spatial == KD_SPATIAL_RRC ? KD_F32 : KD_U8);
        assert_int_equal(p.tensor[1].bytes, sizeof place);
        ok(p.scratch_new(p.ctx, &scratch, &err), &err);
        for (uint32_t e = 0; e < EPOCHS; e++) {
            const kd_item item = {.sample = e % VIDEOS, .epoch = e};
            ok(p.fill(p.ctx, &item, scratch, (void *[]){clip, place}, &err), &err);
            const bool box = place[KD_PLACE_HEIGHT] > 0 && place[KD_PLACE_WIDTH] > 0;
            assert_true(place[KD_PLACE_FLIP] == 0 || place[KD_PLACE_FLIP] == 1);
            assert_true(place[KD_PLACE_TOP] + place[KD_PLACE_HEIGHT] <= 32 && place[KD_PLACE_LEFT] + place[KD_PLACE_WIDTH] <= 32);
            assert_true(place[KD_PLACE_SEED_LOW] == 11 && place[KD_PLACE_SEED_HIGH] == 0);
            assert_true(place[KD_PLACE_ITEM] == (int32_t)(e % VIDEOS) && place[KD_PLACE_EPOCH] == (int32_t)e);
            flips += place[KD_PLACE_FLIP];
            boxes += box;
            boxes_alone += box && place[KD_PLACE_FLIP] == 0;
            w->cfg->video.erase_prob = 0.0;
            int32_t plain[KD_PLACE];
            ok(p.fill(p.ctx, &item, scratch, (void *[]){other, plain}, &err), &err);
            w->cfg->video.erase_prob = 0.4;
            assert_memory_equal(clip, other, p.tensor[0].bytes);
            assert_true(plain[KD_PLACE_HEIGHT] == 0 && plain[KD_PLACE_FLIP] == place[KD_PLACE_FLIP]);
        }
        p.scratch_free(p.ctx, scratch);
        kd_clip_source_close(s);
    }
    assert_true(flips > 40 && flips < 80);  /* of 120 at 0.5; both spatial rules draw the same */
    assert_true(boxes > 28 && boxes < 68); /* at 0.4 */
    assert_true(boxes_alone > boxes / 4 && boxes_alone < boxes * 3 / 4); /* one says nothing of the other */
}

static void damage_is_named(void **state)
{
    world *w = *state;
    kd_err err = {0};
    char bad[128];
    (void)snprintf(bad, sizeof bad, "%s/bad.avi", w->dir);
    uint8_t *data;
    size_t bytes;
    ok(kd_io_read_file(w->path[0], 1 << 24, &data, &bytes, &err), &err);
    ok(kd_io_write_file(bad, data, bytes / 2, &err), &err);
    kd_free(data);
    uint8_t *row = kd_alloc(8 * 32 * 32 * 3);
    const kd_status st = kd_clip_read(w->cfg, bad, KD_CLIP_VAL, row, &err);
    assert_true(st == KD_E_DATA || st == KD_E_FORMAT);
    assert_non_null(strstr(err.msg, "bad.avi"));
    err = (kd_err){0};
    assert_int_equal(kd_clip_read(w->cfg, "no/such.avi", KD_CLIP_VAL, row, &err), KD_E_IO);
    assert_int_equal(kd_clip_read(w->cfg, bad, KD_CLIP_TRAIN, row, NULL), KD_E_ARG);
    kd_free(row);
}

int main(void)
{
    const struct CMUnitTest rules[] = {cmocka_unit_test(sampling_is_the_references),
                                       cmocka_unit_test(draws_stay_inside),
                                       cmocka_unit_test(boxes_are_the_references),
                                       cmocka_unit_test(random_boxes_fit),
                                       cmocka_unit_test(views_are_the_references),
                                       cmocka_unit_test(training_crops_are_the_references),
                                       cmocka_unit_test(erase_boxes_follow_the_rule)};
    const struct CMUnitTest source[] = {cmocka_unit_test(cache_and_workers_change_nothing),
                                        cmocka_unit_test(test_rows_are_what_the_view_says),
                                        cmocka_unit_test(places_are_drawn),
                                        cmocka_unit_test(damage_is_named)};
    int failed = cmocka_run_group_tests(rules, NULL, NULL);
    if (kd_video_available()) failed += cmocka_run_group_tests(source, make_world, end_world);
    return failed;
}
