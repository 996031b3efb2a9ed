/* The source of clips, with real videos: cache, workers, views, what is drawn, damage. */
#include "distill/batch/loader.h"
#include "formats/base/deflate.h"
#include "formats/base/io.h"
#include "formats/video/image.h"
#include "formats/video/video.h"
#include "kernels/kd_ops.h"
#include "teacher/clip/clip.h"
#include "teacher/clip/crops.h"
#include "tools/parity/parity_gen.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

enum { VIDEOS = 4 };
static const int FRAMES[VIDEOS] = {20, 41, 9, 33};

typedef struct world {
    char dir[64];
    char path[VIDEOS][128];
    kd_data_sample sample[VIDEOS];
    kd_half half;
    kd_clip_spec spec;
} world;

static kd_clip_spec recipe(void)
{
    return (kd_clip_spec){.video = {.sampling_rate = 2,
                                    .train_short_side = 40,
                                    .rrc_scale = {0.2, 1.0},
                                    .rrc_ratio = {0.75, 1.333},
                                    .flip_prob = 0.5,
                                    .erase_prob = 0.4,
                                    .erase_count = 1,
                                    .erase_cube = true,
                                    .mean = {0.485, 0.456, 0.406},
                                    .std = {0.229, 0.224, 0.225}},
                          .side = 32,
                          .frames = 8,
                          .clips = 2,
                          .crops = 3,
                          .seed = 11};
}

static int make_world(void **state)
{
    world *w = kd_calloc(1, sizeof *w);
    (void)snprintf(w->dir, sizeof w->dir, "clip_test_XXXXXX");
    if (mkdtemp(w->dir) == NULL) {
        return -1;
    }
    for (int i = 0; i < VIDEOS; i++) {
        kd_err err = {0};
        kd_video_writer *out = NULL;
        (void)snprintf(w->path[i], sizeof w->path[i], "%s/v%d.avi", w->dir, i);
        uint8_t *rgb = kd_alloc(64 * 48 * 3);
        assert_non_null(rgb);
        ok(kd_video_writer_open(w->path[i], 64, 48, 30, 1, NULL, &out, &err), &err);
        for (int t = 0; t < FRAMES[i]; t++) {
            kd_parity_gen_picture((uint32_t)(1000 * i + t), 48, 64, rgb);
            ok(kd_video_writer_frame(out, rgb, 0, &err), &err);
        }
        ok(kd_video_writer_close(out, &err), &err);
        kd_free(rgb);
        w->sample[i] = (kd_data_sample){.id = w->path[i] + strlen(w->dir) + 1, .video = w->path[i], .label = i};
    }
    w->half = (kd_half){.sample = w->sample, .n = VIDEOS};
    w->spec = recipe();
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

/* All batches of an epoch, valid rows only, as one checksum. */
static uint32_t epoch_crc(world *w, kd_clip_mode mode, uint64_t cache, int workers, uint32_t epochs)
{
    kd_err err = {0};
    kd_clip_source *s = NULL;
    kd_loader *l = NULL;
    ok(kd_clip_source_open(&w->spec, &w->half, mode, cache, &s, &err), &err);
    const kd_producer p = kd_clip_producer(s);
    const kd_loader_opts o = {.batch_size = 2, .workers = workers, .train = mode == KD_CLIP_TRAIN, .seed = 5};
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
                crc = kd_zip_crc32(crc, batch->tensor[t], p.tensor[t].bytes * 2);
            }
            crc = kd_zip_crc32(crc, batch->label, 2 * sizeof(int32_t));
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
        for (int spatial = 0; spatial < 4; spatial++) {
            w->spec.video.spatial = (kd_spatial)spatial;
            (void)strcpy(w->spec.video.rand_augment, spatial < 2 ? "" : "rand-m9-n3-mstd0.5-inc1");
            const uint32_t want = epoch_crc(w, (kd_clip_mode)mode, 0, 0, 2);
            assert_int_equal(epoch_crc(w, (kd_clip_mode)mode, 1 << 26, 0, 2), want);
            assert_int_equal(epoch_crc(w, (kd_clip_mode)mode, 400000, 3, 2), want); /* some fit */
            assert_int_equal(epoch_crc(w, (kd_clip_mode)mode, 1 << 26, 2, 2), want);
        }
    }
    w->spec.video.rand_augment[0] = '\0';
    w->spec.video.spatial = KD_SPATIAL_RRC;
    w->spec.video.val_window = KD_WINDOW_RANDOM;
    const uint32_t want = epoch_crc(w, KD_CLIP_VAL, 0, 0, 2);
    assert_int_equal(epoch_crc(w, KD_CLIP_VAL, 1 << 26, 2, 2), want);
    w->spec.video.val_window = KD_WINDOW_CENTER;
    w->spec.video.val_crop = KD_WINDOW_RANDOM;
    const uint32_t crops = epoch_crc(w, KD_CLIP_VAL, 0, 0, 2), test = epoch_crc(w, KD_CLIP_TEST, 0, 0, 1);
    assert_int_equal(epoch_crc(w, KD_CLIP_VAL, 1 << 26, 2, 2), crops);
    w->spec.video.val_crop = KD_WINDOW_CENTER;
    assert_int_not_equal(epoch_crc(w, KD_CLIP_VAL, 0, 0, 2), crops);
    assert_int_equal(epoch_crc(w, KD_CLIP_TEST, 0, 0, 1), test); /* tests cut as ever */
}

/* A test row is decode -> resize -> crop of the frames that kd_clip_view names. */
static void test_rows_are_what_the_view_says(void **state)
{
    world *w = *state;
    kd_err err = {0};
    kd_clip_source *s = NULL;
    void *scratch = NULL;
    static uint8_t row[8 * 32 * 32 * 3], want[8 * 32 * 32 * 3];
    ok(kd_clip_source_open(&w->spec, &w->half, KD_CLIP_TEST, 0, &s, &err), &err);
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
    for (int j = 0; j < 8; j++) {
        idx[j] = (size_t)frames[j];
    }
    kd_video_clip clip;
    ok(kd_video_read(w->path[1], NULL, idx, 8, &clip, NULL, &err), &err);
    uint8_t small[8 * 42 * 32 * 3];
    for (size_t j = 0; j < 8; j++) {
        ok(kd_image_resize_once(KD_RESIZER_OPENCV, clip.rgb + j * 64 * 48 * 3, 64, 48, 0, small + j * 42 * 32 * 3, 42,
                                32, 0, &err),
           &err);
    }
    const kd_crop_box box = {.x = view.crop_x, .y = view.crop_y, .width = 32, .height = 32};
    for (size_t j = 0; j < 8; j++) {
        kd_clip_cut(small + j * 42 * 32 * 3, 42, 32, &box, want + j * 32 * 32 * 3);
    }
    assert_memory_equal(row, want, sizeof row);
    kd_video_clip_free(&clip);
    p.scratch_free(p.ctx, scratch);
    kd_clip_source_close(s);
    /* the same through the call for single files */
    uint8_t *all = kd_alloc(6 * sizeof row);
    ok(kd_clip_read(&w->spec, w->path[1], KD_CLIP_TEST, all, &err), &err);
    assert_memory_equal(all + 4 * sizeof row, want, sizeof row);
    kd_free(all);
}

/* Frames of a view of the second video, resized to 53x40 by hand: what its crops are cut from. */
static void frames_by_hand(const world *w, const kd_store_view *view, uint8_t *small)
{
    kd_err err = {0};
    kd_video_clip clip;
    size_t idx[8];
    for (int j = 0; j < 8; j++) {
        idx[j] = (size_t)view->frames[j];
    }
    ok(kd_video_read(w->path[1], NULL, idx, 8, &clip, NULL, &err), &err);
    for (size_t j = 0; j < 8; j++) {
        ok(kd_image_resize_once(KD_RESIZER_OPENCV, clip.rgb + j * 64 * 48 * 3, 64, 48, 0, small + j * 53 * 40 * 3, 53,
                                40, 0, &err),
           &err);
    }
    kd_video_clip_free(&clip);
}

/* The six views of HMDB51's reference: short side 256 in the small (40 for 32), centre and two corners, then the same
 * mirrored; one decoding gives them all. */
static void six_views(void **state)
{
    world *w = *state;
    kd_err err = {0};
    enum { ROW = 8 * 32 * 32 * 3 };
    static uint8_t row[6][ROW], small[8 * 53 * 40 * 3], want[ROW];
    kd_clip_spec spec = w->spec;
    kd_clip_source *s = NULL;
    void *scratch = NULL;
    char copy[128];
    uint8_t *data;
    size_t bytes;
    spec.clips = 1;
    spec.flips = true;
    spec.crop_rule = KD_CROPS_CORNERS;
    spec.video.short_side = 40;
    spec.video.sampler = KD_SAMPLER_UNIFORM_LINSPACE;
    (void)snprintf(copy, sizeof copy, "%s/once.avi", w->dir);
    ok(kd_io_read_file(w->path[1], 1 << 24, &data, &bytes, &err), &err);
    ok(kd_io_write_file(copy, data, bytes, &err), &err);
    kd_free(data);
    kd_data_sample sample = {.id = "once", .video = copy};
    const kd_half half = {.sample = &sample, .n = 1};
    ok(kd_clip_source_open(&spec, &half, KD_CLIP_TEST, 0, &s, &err), &err);
    const kd_producer p = kd_clip_producer(s);
    assert_int_equal(p.views, 6);
    assert_int_equal(p.grain, 6);
    ok(p.scratch_new(p.ctx, &scratch, &err), &err);
    for (uint32_t v = 0; v < 6; v++) {
        void *dst = row[v];
        ok(p.fill(p.ctx, &(kd_item){.view = v}, scratch, &dst, &err), &err);
        if (v == 0) {
            assert_int_equal(unlink(copy), 0); /* whoever decodes again fails */
        }
    }
    kd_store_view view;
    int32_t frames[8];
    ok(kd_clip_view(s, 0, 5, &view, frames, &err), &err);
    assert_true(view.clip == 0 && view.crop == 2 && view.flip && view.crop_x == 21 && view.crop_y == 0);
    frames_by_hand(w, &view, small);
    static const int TOP_LEFT[3][2] = {{4, 10}, {0, 0}, {0, 21}}; /* (53 - 32) / 2 = 10.5, half to even */
    for (int v = 0; v < 6; v++) {
        const kd_crop_box box = {.x = TOP_LEFT[v % 3][1], .y = TOP_LEFT[v % 3][0], .width = 32, .height = 32};
        for (size_t j = 0; j < 8; j++) {
            kd_clip_cut(small + j * 53 * 40 * 3, 53, 40, &box, want + j * 32 * 32 * 3);
        }
        for (int i = 0; i < ROW; i++) {
            const int pixel = i / 3, x = pixel % 32;
            const int from = v < 3 ? i : (pixel - x + 31 - x) * 3 + i % 3;
            if (row[v][i] != want[from]) {
                fail_msg("view %d, byte %d: %d, expected %d", v, i, row[v][i], want[from]);
            }
        }
    }
    p.scratch_free(p.ctx, scratch);
    kd_clip_source_close(s);
}

/* Repeats of a sample: the first is the row of a run without them, the others draw their own; one decoding serves them
 * all, whichever is asked for first. */
static void repeats_draw_their_own(void **state)
{
    world *w = *state;
    kd_err err = {0};
    kd_clip_spec spec = w->spec;
    char copy[128];
    uint8_t *data;
    size_t bytes;
    (void)snprintf(copy, sizeof copy, "%s/repeat.avi", w->dir);
    ok(kd_io_read_file(w->path[1], 1 << 24, &data, &bytes, &err), &err);
    kd_data_sample sample = {.id = "repeat", .video = copy};
    const kd_half half = {.sample = &sample, .n = 1};
    for (int spatial = 0; spatial < 2; spatial++) {
        static float clip[4][3 * 8 * 32 * 32];
        int32_t place[4][KD_PLACE + KD_BOX];
        spec.video.spatial = (kd_spatial)spatial;
        for (int repeats = 3; repeats > 0; repeats -= 2) { /* 3, then 1 */
            kd_clip_source *s = NULL;
            void *scratch = NULL;
            spec.repeats = repeats;
            ok(kd_io_write_file(copy, data, bytes, &err), &err);
            ok(kd_clip_source_open(&spec, &half, KD_CLIP_TRAIN, 0, &s, &err), &err);
            const kd_producer p = kd_clip_producer(s);
            assert_int_equal(p.views, repeats);
            ok(p.scratch_new(p.ctx, &scratch, &err), &err);
            for (int r = repeats - 1; r >= 0; r--) {
                const int at = repeats == 1 ? 3 : r;
                ok(p.fill(p.ctx, &(kd_item){.view = (uint32_t)r, .epoch = 4}, scratch, (void *[]){clip[at], place[at]},
                          &err),
                   &err);
                (void)unlink(copy);
            }
            p.scratch_free(p.ctx, scratch);
            kd_clip_source_close(s);
            assert_memory_equal(clip[0], clip[repeats == 1 ? 3 : 0], p.tensor[0].bytes);
            assert_memory_equal(place[0], place[repeats == 1 ? 3 : 0], sizeof place[0]);
            for (int r = 1; r < repeats; r++) {
                assert_true(memcmp(clip[r], clip[r - 1], p.tensor[0].bytes) != 0);
                assert_true(place[r][KD_PLACE_SEED_LOW] != place[r - 1][KD_PLACE_SEED_LOW]);
                assert_int_equal(place[r][KD_PLACE_EPOCH], 4);
            }
        }
    }
    kd_free(data);
}

/* The second tensor of training rows: flips and boxes as often as asked, with the keys of their sample and epoch; no
 * draw moves another. */
static void places_are_drawn(void **state)
{
    world *w = *state;
    kd_err err = {0};
    int flips = 0, boxes = 0, boxes_alone = 0;
    enum { EPOCHS = 60 };
    for (int spatial = 0; spatial < 2; spatial++) {
        kd_clip_source *s = NULL, *without = NULL;
        void *scratch = NULL, *scratch_without = NULL;
        static float clip[3 * 8 * 32 * 32], other[3 * 8 * 32 * 32];
        int32_t place[KD_PLACE + KD_BOX], *const at = place + KD_PLACE;
        w->spec.video.spatial = (kd_spatial)spatial;
        ok(kd_clip_source_open(&w->spec, &w->half, KD_CLIP_TRAIN, 1 << 26, &s, &err), &err);
        kd_clip_spec never = w->spec;
        never.video.erase_prob = 0.0;
        ok(kd_clip_source_open(&never, &w->half, KD_CLIP_TRAIN, 1 << 26, &without, &err), &err);
        const kd_producer p = kd_clip_producer(s), q = kd_clip_producer(without);
        assert_int_equal(p.n_tensors, 2);
        assert_string_equal(p.tensor[1].name, "place");
        assert_int_equal(p.tensor[0].dtype, spatial == KD_SPATIAL_RRC ? KD_F32 : KD_U8);
        assert_int_equal(p.tensor[1].bytes, sizeof place);
        ok(p.scratch_new(p.ctx, &scratch, &err), &err);
        ok(q.scratch_new(q.ctx, &scratch_without, &err), &err);
        for (uint32_t e = 0; e < EPOCHS; e++) {
            const kd_item item = {.sample = e % VIDEOS, .epoch = e};
            ok(p.fill(p.ctx, &item, scratch, (void *[]){clip, place}, &err), &err);
            const bool box = at[KD_BOX_HEIGHT] > 0 && at[KD_BOX_WIDTH] > 0;
            assert_true(place[KD_PLACE_FLIP] == 0 || place[KD_PLACE_FLIP] == 1);
            assert_true(at[KD_BOX_TOP] + at[KD_BOX_HEIGHT] <= 32 && at[KD_BOX_LEFT] + at[KD_BOX_WIDTH] <= 32);
            assert_true(place[KD_PLACE_ERASE] == KD_ERASE_PIXEL && at[KD_BOX_FRAME] == -1);
            assert_true(place[KD_PLACE_SEED_LOW] == 11 && place[KD_PLACE_SEED_HIGH] == 0);
            assert_true(place[KD_PLACE_ITEM] == (int32_t)(e % VIDEOS) && place[KD_PLACE_EPOCH] == (int32_t)e);
            flips += place[KD_PLACE_FLIP];
            boxes += box;
            boxes_alone += box && place[KD_PLACE_FLIP] == 0;
            int32_t plain[KD_PLACE + KD_BOX];
            ok(q.fill(q.ctx, &item, scratch_without, (void *[]){other, plain}, &err), &err);
            assert_memory_equal(clip, other, p.tensor[0].bytes);
            assert_true(plain[KD_PLACE + KD_BOX_HEIGHT] == 0 && plain[KD_PLACE_FLIP] == place[KD_PLACE_FLIP]);
        }
        p.scratch_free(p.ctx, scratch);
        q.scratch_free(q.ctx, scratch_without);
        kd_clip_source_close(s);
        kd_clip_source_close(without);
    }
    assert_true(flips > 40 && flips < 80); /* of 120 at 0.5; both spatial rules draw the same */
    assert_true(boxes > 28 && boxes < 68); /* at 0.4 */
    assert_true(boxes_alone > boxes / 4 && boxes_alone < boxes * 3 / 4); /* one says nothing of the other */
}

/* The label of a row is exchanged where the row is mirrored, and nowhere else. */
static void labels_follow_the_mirror(void **state)
{
    world *w = *state;
    kd_err err = {0};
    kd_clip_spec spec = w->spec;
    kd_clip_source *s = NULL;
    void *scratch = NULL;
    static float clip[3 * 8 * 32 * 32];
    int32_t place[KD_PLACE + KD_BOX], label;
    static const int32_t OTHER[VIDEOS] = {2, 1, 0, 3};
    int mirrored[VIDEOS] = {0};
    spec.video.flip_labels = (kd_cfg_ints){.n = 2, .v = {2, 0}};
    ok(kd_clip_source_open(&spec, &w->half, KD_CLIP_TRAIN, 1 << 26, &s, &err), &err);
    const kd_producer p = kd_clip_producer(s);
    ok(p.scratch_new(p.ctx, &scratch, &err), &err);
    for (uint32_t e = 0; e < 40; e++) {
        const kd_item item = {.sample = e % VIDEOS, .epoch = e};
        ok(p.fill(p.ctx, &item, scratch, (void *[]){clip, place}, &err), &err);
        p.label(p.ctx, &item, &label);
        assert_int_equal(label, place[KD_PLACE_FLIP] != 0 ? OTHER[item.sample] : (int32_t)item.sample);
        mirrored[item.sample] += place[KD_PLACE_FLIP];
    }
    assert_true(mirrored[0] > 0 && mirrored[0] < 10 && mirrored[2] > 0 && mirrored[2] < 10);
    p.scratch_free(p.ctx, scratch);
    kd_clip_source_close(s);
    ok(kd_clip_source_open(&spec, &w->half, KD_CLIP_TEST, 1 << 26, &s, &err), &err);
    kd_clip_producer(s).label(s, &(kd_item){.sample = 2}, &label);
    assert_int_equal(label, 2);
    kd_clip_source_close(s);
}

/* Several boxes, and frames that draw their own: as many as asked, the area divided among them. */
static void boxes_are_counted(void **state)
{
    world *w = *state;
    kd_err err = {0};
    enum { COUNT = 3, EPOCHS = 200, FRAMES_OF = 8 };
    for (int cube = 0; cube < 2; cube++) {
        static float clip[3 * FRAMES_OF * 32 * 32];
        static int32_t place[KD_PLACE + KD_BOX * COUNT * FRAMES_OF];
        const int draws = cube != 0 ? 1 : FRAMES_OF;
        int drawn = 0, differ = 0, seen[COUNT + 1] = {0};
        double area = 0.0;
        void *scratch = NULL;
        kd_clip_source *s = NULL;
        kd_clip_spec spec = w->spec;
        spec.video.erase_count = COUNT;
        spec.video.erase_cube = cube != 0;
        spec.video.erase_mode = KD_ERASED_RAND;
        ok(kd_clip_source_open(&spec, &w->half, KD_CLIP_TRAIN, 1 << 26, &s, &err), &err);
        const kd_producer p = kd_clip_producer(s);
        assert_int_equal(p.tensor[1].dim[0], KD_PLACE + KD_BOX * COUNT * draws);
        ok(p.scratch_new(p.ctx, &scratch, &err), &err);
        for (uint32_t e = 0; e < EPOCHS; e++) {
            ok(p.fill(p.ctx, &(kd_item){.sample = e % VIDEOS, .epoch = e}, scratch, (void *[]){clip, place}, &err),
               &err);
            assert_int_equal(place[KD_PLACE_ERASE], KD_ERASE_RAND);
            for (int t = 0; t < draws; t++) {
                int boxes = 0;
                for (int k = 0; k < COUNT; k++) {
                    const int32_t *b = place + KD_PLACE + KD_BOX * (t * COUNT + k);
                    assert_int_equal(b[KD_BOX_FRAME], cube != 0 ? -1 : t);
                    boxes += b[KD_BOX_HEIGHT] > 0;
                    area += (double)(b[KD_BOX_HEIGHT] * b[KD_BOX_WIDTH]) / (32.0 * 32.0);
                }
                seen[boxes]++;
                drawn += boxes > 0;
                differ += t > 0 && memcmp(place + KD_PLACE + KD_BOX * (t * COUNT) + 1,
                                          place + KD_PLACE + KD_BOX * ((t - 1) * COUNT) + 1, 16) != 0;
            }
        }
        const double of = (double)drawn / (double)(EPOCHS * draws);
        assert_true(of > 0.28 && of < 0.52); /* at 0.4 */
        assert_true(area / drawn > 0.14 && area / drawn < 0.19);
        assert_true(seen[1] > drawn / 5 && seen[2] > drawn / 5 && seen[3] > drawn / 5);
        assert_true(cube != 0 ? differ == 0 : differ > EPOCHS);
        p.scratch_free(p.ctx, scratch);
        kd_clip_source_close(s);
    }
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
    const kd_status st = kd_clip_read(&w->spec, bad, KD_CLIP_VAL, row, &err);
    assert_true(st == KD_E_DATA || st == KD_E_FORMAT);
    assert_non_null(strstr(err.msg, "bad.avi"));
    err = (kd_err){0};
    assert_int_equal(kd_clip_read(&w->spec, "no/such.avi", KD_CLIP_VAL, row, &err), KD_E_IO);
    assert_int_equal(kd_clip_read(&w->spec, bad, KD_CLIP_TRAIN, row, NULL), KD_E_ARG);
    kd_free(row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cache_and_workers_change_nothing),
                                       cmocka_unit_test(test_rows_are_what_the_view_says),
                                       cmocka_unit_test(six_views),
                                       cmocka_unit_test(repeats_draw_their_own),
                                       cmocka_unit_test(places_are_drawn),
                                       cmocka_unit_test(boxes_are_counted),
                                       cmocka_unit_test(labels_follow_the_mirror),
                                       cmocka_unit_test(damage_is_named)};
    return cmocka_run_group_tests(tests, make_world, end_world);
}
