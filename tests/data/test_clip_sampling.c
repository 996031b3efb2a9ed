/* The rules of clips: frames, boxes and pixels against the reference's numbers; erase boxes. */
#include "formats/base/deflate.h"
#include "formats/video/image.h"
#include "formats/weights/safetensors.h"
#include "kernels/kd_ops.h"
#include "teacher/clip/clip.h"
#include "teacher/clip/crops.h"
#include "teacher/model/vit.h"
#include "tools/parity/parity_gen.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

#define GOLDEN KD_GOLDEN_DIR "/videomae/"

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

static const kd_st_entry *need(const kd_st_file *f, const char *name)
{
    const kd_st_entry *e = kd_st_find(f, name);
    if (e == NULL) {
        fail_msg("golden tensor %s is missing", name);
    }
    return e;
}

/* ---- sampling -------------------------------------------------------------------------------- */

static void expect_row(const char *what, int n, const size_t *got, const int32_t *want, int count)
{
    for (int j = 0; j < count; j++) {
        if (got[j] != (size_t)want[j]) {
            fail_msg("%s, %d frames, index %d: %zu, the reference has %d", what, n, j, got[j], want[j]);
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
    const int32_t *range = (const int32_t *)(const void *)need(f, "train_r4_end_randint_range")->data;
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

/* MMAction2's ThreeCrop and CenterCrop, HMDB51's six views (their first three; the others are these mirrored). */
static void other_crops_are_the_references(void **state)
{
    (void)state;
    static const struct {
        kd_crop_rule rule;
        int w, h, side, xy[3][2];
    } CASE[] = {{KD_CROPS_MMACTION2, 340, 256, 256, {{0, 0}, {84, 0}, {42, 0}}},
                {KD_CROPS_MMACTION2, 455, 256, 256, {{0, 0}, {198, 0}, {99, 0}}},
                {KD_CROPS_MMACTION2, 256, 340, 256, {{0, 0}, {0, 84}, {0, 42}}},
                {KD_CROPS_MMACTION2, 299, 224, 224, {{0, 0}, {74, 0}, {37, 0}}},
                {KD_CROPS_MMACTION2, 224, 399, 224, {{0, 0}, {0, 174}, {0, 87}}},
                {KD_CROPS_MMACTION2, 256, 256, 256, {{0, 0}, {0, 0}, {0, 0}}},
                {KD_CROPS_CORNERS, 341, 256, 224, {{58, 16}, {0, 0}, {117, 0}}},
                {KD_CROPS_CORNERS, 256, 341, 224, {{16, 58}, {0, 0}, {0, 117}}},
                {KD_CROPS_CORNERS, 256, 256, 224, {{16, 16}, {0, 0}, {0, 32}}},
                {KD_CROPS_CORNERS, 443, 256, 224, {{110, 16}, {0, 0}, {219, 0}}},
                {KD_CROPS_VIDEOMAE, 340, 256, 224, {{0, 16}, {58, 16}, {116, 16}}}}; /* ours: a larger short side */
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        for (int crop = 0; crop < 3; crop++) {
            const kd_crop_box b = kd_crop_test(CASE[i].rule, CASE[i].w, CASE[i].h, CASE[i].side, crop, 3);
            if (b.x != CASE[i].xy[crop][0] || b.y != CASE[i].xy[crop][1] || b.width != CASE[i].side ||
                b.height != CASE[i].side) {
                fail_msg("case %zu, crop %d: (%d, %d), expected (%d, %d)", i, crop, b.x, b.y, CASE[i].xy[crop][0],
                         CASE[i].xy[crop][1]);
            }
        }
    }
    static const int CENTRE[][5] = {{340, 256, 224, 58, 16}, {257, 300, 224, 16, 38}, {255, 341, 224, 15, 58}};
    for (size_t i = 0; i < KD_COUNTOF(CENTRE); i++) { /* the last: half a pixel, down */
        const int *c = CENTRE[i];
        const kd_crop_box b = kd_crop_test(KD_CROPS_MMACTION2, c[0], c[1], c[2], 0, 1);
        assert_true(b.x == c[3] && b.y == c[4]);
    }
}

/* Every draw lies in the video, every window is reached, one clip is the first window. */
static void draws_stay_inside(void **state)
{
    (void)state;
    size_t idx[16];
    for (int sampler = 0; sampler < 7; sampler++) {
        for (int shorts = 0; shorts < 2; shorts++) {
            const kd_frame_rule r = {
                .sampler = (kd_sampler)sampler, .short_video = (kd_short_video)shorts, .frames = 16, .rate = 4};
            for (size_t n = 1; n < 90; n++) {
                for (uint32_t draw = 0; draw < 20; draw++) {
                    kd_rng rng = kd_rng_make(7, KD_RNG_TEST, (uint32_t)n, draw);
                    kd_frames_train(&r, n, &rng, idx);
                    for (int j = 0; j < 16; j++) { /* MMAction2's clip goes on at the start */
                        assert_true(idx[j] < n && (j == 0 || idx[j] >= idx[j - 1] || sampler == KD_SAMPLER_MMACTION2));
                    }
                }
                kd_frames_val(&r, n, idx);
                assert_true(idx[0] < n && idx[7] < n && idx[15] < n);
                kd_frames_test(&r, n, 0, 1, idx);
                assert_true(idx[0] == 0 || sampler >= KD_SAMPLER_MMACTION2); /* those take the middle */
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

/* One frame of each part: every frame of a part is reached, and none but these. */
static void parts_are_the_references(void **state)
{
    (void)state;
    enum { T = 4, N = 22, DRAWS = 400 };
    static const struct {
        kd_sampler sampler;
        int low[T], high[T], val[T], test[T]; /* of 22 frames: parts of 5; test: the second of two clips */
    } CASE[] = {{KD_SAMPLER_SPARSE, {0, 5, 10, 15}, {3, 8, 13, 18}, {2, 7, 12, 17}, {2, 8, 13, 19}},
                {KD_SAMPLER_SEGMENTS, {0, 5, 10, 15}, {4, 9, 14, 19}, {2, 7, 12, 17}, {2, 8, 13, 19}},
                {KD_SAMPLER_MMACTION2_UNIFORM, {0, 5, 10, 16}, {5, 10, 16, 21}, {2, 7, 12, 18}, {3, 8, 13, 19}}};
    size_t idx[T];
    for (size_t k = 0; k < KD_COUNTOF(CASE); k++) {
        const kd_frame_rule r = {.sampler = CASE[k].sampler, .frames = T, .rate = 4};
        bool seen[N] = {false};
        for (uint32_t draw = 0; draw < DRAWS; draw++) {
            kd_rng rng = kd_rng_make(7, KD_RNG_TEST, 3, draw);
            kd_frames_train(&r, N, &rng, idx);
            for (int j = 0; j < T; j++) {
                assert_true((int)idx[j] >= CASE[k].low[j] && (int)idx[j] <= CASE[k].high[j]);
                seen[idx[j]] = true;
            }
        }
        for (int f = 0; f < N; f++) {
            bool may = false;
            for (int j = 0; j < T; j++) {
                may = may || (f >= CASE[k].low[j] && f <= CASE[k].high[j]);
            }
            assert_int_equal(seen[f], may);
        }
        kd_frames_val(&r, N, idx);
        expect_row("val", N, idx, CASE[k].val, T);
        kd_frames_test(&r, N, 1, 2, idx);
        expect_row("test", N, idx, CASE[k].test, T);
    }
    const kd_frame_rule front = {.sampler = KD_SAMPLER_SEGMENTS, .frames = T},
                        spread = {.sampler = KD_SAMPLER_SPARSE, .frames = T};
    kd_frames_val(&front, 2, idx);
    expect_row("short, in front", 2, idx, (const int32_t[]){0, 0, 0, 1}, T);
    kd_frames_val(&spread, 2, idx);
    expect_row("short, spread", 2, idx, (const int32_t[]){0, 0, 1, 1}, T);
    const kd_frame_rule loop = {.sampler = KD_SAMPLER_MMACTION2, .frames = T, .rate = 3},
                        last = {.sampler = KD_SAMPLER_MMACTION2,
                                .frames = T,
                                .rate = 3,
                                .out_of_bound = KD_BOUND_REPEAT_LAST};
    kd_frames_val(&loop, 8, idx);
    expect_row("loop", 8, idx, (const int32_t[]){0, 3, 6, 1}, T);
    kd_frames_val(&last, 8, idx);
    expect_row("repeat_last", 8, idx, (const int32_t[]){0, 3, 6, 6}, T);
}

/* ---- boxes ----------------------------------------------------------------------------------- */

static void boxes_are_the_references(void **state)
{
    (void)state;
    static const struct {
        int h, w, rh, rw, offset[3], cy, cx;
    } CASE[] = {/* spatial.json */
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
            const kd_crop_box b = kd_crop_test(KD_CROPS_VIDEOMAE, w, h, 224, crop, 3);
            assert_int_equal(h >= w ? b.y : b.x, CASE[i].offset[crop]);
            assert_int_equal(h >= w ? b.x : b.y, 0);
        }
        const kd_crop_box c = kd_crop_center(w, h, 224), one = kd_crop_test(KD_CROPS_VIDEOMAE, w, h, 224, 0, 1);
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
        kd_parity_gen_picture(kd_zip_crc32(0, full, strlen(full)), h, w, rgb + (size_t)t * picture);
    }
    return rgb;
}

/* Boxes of the reference's GroupMultiScaleCrop: shape and place by their number in its lists. */
static void multi_scale_boxes_are_the_references(void **state)
{
    (void)state;
    static const struct {
        int w, h, side, shape, place;
        kd_crop_box box;
    } CASE[] = {{340, 256, 224, 0, 0, {0, 0, 256, 256}},    {340, 256, 224, 1, 3, {116, 0, 224, 256}},
                {340, 256, 224, 2, 4, {42, 16, 256, 224}},  {340, 256, 224, 5, 8, {58, 0, 224, 192}},
                {340, 256, 224, 7, 9, {43, 16, 168, 192}},  {340, 256, 224, 9, 12, {129, 66, 168, 168}},
                {340, 256, 224, 4, 6, {148, 16, 192, 224}}, {320, 240, 224, 2, 4, {40, 14, 240, 210}},
                {171, 226, 224, 0, 0, {0, 0, 171, 171}},    {171, 226, 224, 1, 3, {20, 52, 149, 171}},
                {171, 226, 224, 2, 4, {0, 38, 171, 149}},   {171, 226, 224, 4, 6, {40, 38, 128, 149}},
                {96, 64, 32, 1, 3, {40, 0, 56, 64}},        {96, 64, 32, 5, 8, {20, 0, 56, 48}},
                {96, 64, 32, 7, 9, {13, 4, 42, 48}},        {455, 256, 112, 9, 12, {213, 66, 168, 168}}};
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        const kd_crop_box want = CASE[i].box;
        const kd_crop_box b = kd_crop_multi_scale(CASE[i].w, CASE[i].h, CASE[i].side, CASE[i].shape, CASE[i].place);
        if (b.x != want.x || b.y != want.y || b.width != want.width || b.height != want.height) {
            fail_msg("case %zu: %d %d %d %d", i, b.x, b.y, b.width, b.height);
        }
    }
    int shapes = 0, corners = 0;
    for (uint32_t draw = 0; draw < 2600; draw++) { /* every shape and place as often as the others */
        kd_rng rng = kd_rng_make(1, KD_RNG_TEST, 5, draw);
        const kd_crop_box b = kd_crop_random_multi_scale(340, 256, 224, &rng);
        shapes += b.width == 256 && b.height == 256;
        corners += b.x == 0 && b.y == 0 && b.height < 256;
    }
    assert_true(shapes > 200 && shapes < 320);
    assert_true(corners > 110 && corners < 210); /* 8 shapes of 10, place 0 of 13: 160 expected */
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
    for (size_t j = 0; j < 4; j++) {
        const uint8_t *frame = rgb + idx[j] * (size_t)w * (size_t)h * 3;
        kd_clip_resize(table, frame, w, h, &box, 32, clip + j * 32 * 32, 4 * 32 * 32);
        kd_clip_cut(frame, w, h, &box, cut + j * 32 * 32 * 3);
    }
    normalise(cut, 4, 32, same);
    assert_memory_equal(clip, same, sizeof clip);
    return kd_zip_crc32(0, clip, sizeof clip);
}

/* Bit for bit: every view of both synthetic videos, resized to 32, and the validation clip. */
static void views_are_the_references(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int frames, w, h;
        uint32_t val, crc[9];
    } V[] = {
        {"vidA",
         23,
         100,
         60,
         0xfa8e0b89,
         {0x84b6b67a, 0x2c0d7a34, 0x50b5c1f6, 0x53c00033, 0xe8f32eee, 0xf1515c4b, 0xebf35da3, 0xb16230fe, 0x0a3cdd54}},
        {"vidB",
         6,
         50,
         90,
         0x31d54176,
         {0x556f4d04, 0x82e1a7d6, 0x51e7eaec, 0x556f4d04, 0x82e1a7d6, 0x51e7eaec, 0x556f4d04, 0x82e1a7d6, 0x51e7eaec}}};
    for (size_t i = 0; i < KD_COUNTOF(V); i++) {
        int w, h;
        kd_err err = {0};
        uint8_t *rgb = make_video(V[i].name, V[i].frames, V[i].w, V[i].h);
        kd_image_short_side(V[i].w, V[i].h, 32, &w, &h);
        const size_t in = (size_t)V[i].w * (size_t)V[i].h * 3, out = (size_t)w * (size_t)h * 3;
        uint8_t *small = kd_alloc((size_t)V[i].frames * out);
        for (int t = 0; t < V[i].frames; t++) {
            ok(kd_image_resize_once(KD_RESIZER_OPENCV, rgb + (size_t)t * in, V[i].w, V[i].h, 0, small + (size_t)t * out,
                                    w, h, 0, &err),
               &err);
        }
        const kd_frame_rule rule = {.frames = 4, .rate = 2};
        size_t idx[4];
        for (int view = 0; view < 9; view++) {
            kd_frames_test(&rule, (size_t)V[i].frames, view / 3, 3, idx);
            assert_int_equal(view_crc(small, w, h, idx, kd_crop_test(KD_CROPS_VIDEOMAE, w, h, 32, view % 3, 3)),
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
    } CASE[] = {{KD_GOLDEN_DIR "/parity/pipeline/train_a.safetensors", "train.a", {10, 3, 61, 50}, false},
                {KD_GOLDEN_DIR "/parity/pipeline/train_b.safetensors", "train.b", {30, 20, 22, 17}, true}};
    float table[3 * 256];
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
        for (size_t j = 0; j < 4; j++) {
            kd_clip_resize(table, rgb + j * 100 * 60 * 3, 100, 60, &CASE[i].box, 32, clip + j * 32 * 32, 4 * 32 * 32);
        }
        for (size_t k = 0; k < e->count; k++) {
            /* mirrored later, by the model's first op */
            const float got = clip[CASE[i].flip ? k - k % 32 + 31 - k % 32 : k];
            if (!(fabsf(got - want[k]) <= 2e-6f)) {
                fail_msg("%s[%zu]: %.9g, the reference has %.9g", CASE[i].tensor, k, (double)got, (double)want[k]);
            }
        }
        kd_st_close(f);
    }
    kd_free(rgb);
}

/* The rule of the erase box: area, shape, strictly smaller than the picture, whole, and what the draws give on
 * average. */
static void erase_boxes_follow_the_rule(void **state)
{
    (void)state;
    enum { N = 4000 };
    double share = 0.0, log_ratio = 0.0;
    int top = 0, left = 0;
    for (uint32_t draw = 0; draw < N; draw++) {
        kd_rng rng = kd_rng_make(1, KD_RNG_TEST, 3, draw);
        const kd_crop_box b = kd_erase_random(224, 200, 1, 100, &rng);
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
    const kd_crop_box none = kd_erase_random(1, 1, 1, 100, &rng); /* nothing is smaller than one pixel */
    assert_true(none.width == 0 && none.height == 0);
    assert_true(rng.pos == 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sampling_is_the_references),
                                       cmocka_unit_test(draws_stay_inside),
                                       cmocka_unit_test(parts_are_the_references),
                                       cmocka_unit_test(other_crops_are_the_references),
                                       cmocka_unit_test(boxes_are_the_references),
                                       cmocka_unit_test(random_boxes_fit),
                                       cmocka_unit_test(views_are_the_references),
                                       cmocka_unit_test(training_crops_are_the_references),
                                       cmocka_unit_test(multi_scale_boxes_are_the_references),
                                       cmocka_unit_test(erase_boxes_follow_the_rule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
