/* Sequences: preprocessing and augmentation against the reference's arrays, our own rules, the
 * source. */
#include "distill/batch/loader.h"
#include "formats/base/deflate.h"
#include "formats/base/io.h"
#include "formats/weights/safetensors.h"
#include "kernels/kd_backend.h"
#include "student/skeleton/sequence.h"
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

enum { T = 64, V = 25, M = 2, N = 3 * T * V * M };

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

static size_t at(int c, int t, int v, int m)
{
    return (((size_t)c * T + (size_t)t) * V + (size_t)v) * M + (size_t)m;
}

/* ---- the fixtures' recordings ---------------------------------------------------------------- */

/* (frames, 25, 3, 2) of the generator, three metres away, as a recording of one or two bodies. */
static kd_skeleton recording(const char *name, size_t frames, size_t bodies)
{
    kd_err err = {0};
    kd_skeleton s = {0};
    const uint32_t crc = kd_zip_crc32(0, name, strlen(name));
    ok(kd_skeleton_alloc(frames, frames * bodies, &s, &err), &err);
    for (size_t t = 0; t < frames; t++) {
        s.first[t + 1] = (uint32_t)((t + 1) * bodies);
        for (size_t m = 0; m < bodies; m++) {
            kd_skel_body *b = &s.body[t * bodies + m];
            b->id = 100 + m;
            for (size_t v = 0; v < V; v++) {
                for (size_t c = 0; c < 3; c++) {
                    const size_t i = ((t * V + v) * 3 + c) * 2 + m;
                    b->xyz[v][c] = kd_parity_gen_last(crc, (uint32_t)i, 0, 1024) + (c == 2 ? 3.0f : 0.0f);
                }
            }
        }
    }
    return s;
}

static kd_skeleton_opts rule_a(void)
{
    return (kd_skeleton_opts){.frames = T, .max_bodies = M, .normalize = KD_NORM_CENTER_SPINE, .bone_scale = true};
}

static kd_skeleton_opts rule_b(void)
{
    kd_skeleton_opts k = rule_a();
    k.normalize = KD_NORM_FIRST_FRAME;
    k.yaw = KD_YAW_REFERENCE;
    return k;
}

/* The golden file holds every 11th number of each array. */
static void expect(const kd_st_file *f, const char *name, const float *got)
{
    const kd_st_entry *e = kd_st_find(f, name);
    if (e == NULL) {
        fail_msg("golden tensor %s is missing", name);
    }
    const float *want = (const float *)(const void *)e->data;
    assert_int_equal(e->count, (N + 10) / 11);
    for (size_t i = 0; i < e->count; i++) {
        const float tol = 4e-6f * fmaxf(1.0f, fabsf(want[i]));
        if (!(fabsf(got[i * 11] - want[i]) <= tol)) {
            fail_msg("%s[%zu]: %.9g, the reference has %.9g", name, i * 11, (double)got[i * 11], (double)want[i]);
        }
    }
}

static float x[N], out[3][N];

/* NULL: no augmentation. */
static const kd_sequence_spec *spec_of(const kd_skeleton_opts *k, const kd_skeleton_aug_opts *aug)
{
    static kd_sequence_spec spec;
    spec = (kd_sequence_spec){.skeleton = *k, .aug = {.scale = {1, 1}, .speed = {1, 1}}};
    if (aug != NULL) {
        spec.aug = *aug;
    }
    return &spec;
}

static void streams(const kd_skeleton_opts *k, const kd_sequence_draw *d)
{
    float *dst[3] = {out[0], out[1], out[2]};
    kd_sequence_streams(spec_of(k, NULL), d, x, 7, dst);
}

static void preprocessing_is_the_references(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t frames, bodies;
    } CASE[] = {{"short40", 40, 1}, {"long101", 101, 2}, {"exact64", 64, 2}};
    kd_err err = {0};
    kd_st_file *f = NULL;
    ok(kd_st_open(KD_GOLDEN_DIR "/last/preprocess.safetensors", &f, &err), &err);
    size_t idx[T];
    kd_sequence_index(101, T, idx);
    const int32_t *want = (const int32_t *)(const void *)kd_st_find(f, "long101.index")->data;
    for (int t = 0; t < T; t++) {
        assert_int_equal(idx[t], want[t]);
    }
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "raw.%s", CASE[i].name);
        kd_skeleton s = recording(name, CASE[i].frames, CASE[i].bodies);
        for (int b = 0; b < 2; b++) {
            static const char *const STREAM[] = {"joint", "velocity", "bone"};
            const kd_skeleton_opts k = b == 0 ? rule_a() : rule_b();
            ok(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), &err);
            streams(&k, NULL);
            for (int j = 0; j < 3; j++) {
                (void)snprintf(name, sizeof name, "%s.%c.%s", CASE[i].name, "AB"[b], STREAM[j]);
                expect(f, name, out[j]);
            }
        }
        kd_skeleton_free(&s);
    }
    kd_st_close(f);
}

static void augmentation_is_the_references(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_st_file *f = NULL;
    ok(kd_st_open(KD_GOLDEN_DIR "/last/preprocess.safetensors", &f, &err), &err);
    kd_skeleton s = recording("raw.exact64", 64, 2);
    const kd_skeleton_opts k = rule_a();
    ok(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), &err);
    kd_sequence_draw d = {.angle_deg = 11.25, .scale = 1.0};
    streams(&k, &d);
    expect(f, "aug.rot", out[0]);
    d.scale = 1.125;
    d.shear = 0.0625;
    streams(&k, &d);
    expect(f, "aug.rot_scale_shear", out[0]);
    d.flip = true;
    streams(&k, &d);
    expect(f, "aug.plus_flip", out[0]);
    d.speed_frames = 55;
    d.speed_start = 5;
    streams(&k, &d);
    expect(f, "aug.plus_speed", out[0]);
    d.masked = 1u << 3 | 1u << 17;
    streams(&k, &d);
    expect(f, "aug.plus_mask", out[0]);
    kd_skeleton_free(&s);
    kd_st_close(f);
}

/* ---- our own rules --------------------------------------------------------------------------- */

static void yaw_corrected_faces_the_camera(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_skeleton s = recording("raw.exact64", 64, 2);
    kd_skeleton_opts k = rule_b();
    k.yaw = KD_YAW_CORRECTED;
    ok(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), &err);
    for (int m = 0; m < M; m++) {
        assert_true(fabsf(x[at(2, 0, 8, m)] - x[at(2, 0, 4, m)]) <= 1e-5f);
        assert_true(x[at(0, 0, 8, m)] - x[at(0, 0, 4, m)] > 0.0f);
    }
    kd_skeleton_free(&s);
}

/* Two people who change their order in the file, and one seen for a moment. */
static void tracked_bodies_keep_their_place(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_skeleton s = {0};
    ok(kd_skeleton_alloc(10, 21, &s, &err), &err);
    uint32_t n = 0;
    for (uint32_t t = 0; t < 10; t++) {
        const uint64_t ids[3] = {t % 2 == 0 ? 7 : 9, t % 2 == 0 ? 9 : 7, 5};
        const uint32_t bodies = t == 0 ? 3 : 2;
        for (uint32_t b = 0; b < bodies; b++) {
            kd_skel_body *body = &s.body[n++];
            body->id = ids[t == 0 ? 2 - b : b];
            for (size_t v = 0; v < V; v++) {
                body->xyz[v][0] = (float)body->id;
            }
        }
        s.first[t + 1] = n;
    }
    kd_skeleton_opts k = {.frames = T, .max_bodies = M, .bodies = KD_BODIES_TRACKED};
    ok(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), &err);
    for (int t = 0; t < T; t++) { /* both in 10 frames; 9 was seen first */
        assert_true(x[at(0, t, 3, 0)] == 9.0f && x[at(0, t, 3, 1)] == 7.0f);
    }
    k.bodies = KD_BODIES_FILE_ORDER;
    ok(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), &err);
    assert_true(x[at(0, 0, 3, 0)] == 5.0f && x[at(0, 1, 3, 0)] == 9.0f && x[at(0, 2, 3, 0)] == 7.0f);
    kd_skeleton_free(&s);
}

static void linear_resampling(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_skeleton s = {0};
    ok(kd_skeleton_alloc(3, 2, &s, &err), &err); /* there, not there, there */
    s.first[1] = 1;
    s.first[2] = 1;
    s.first[3] = 2;
    for (size_t v = 0; v < V; v++) {
        s.body[0].xyz[v][0] = 1.0f;
        s.body[1].xyz[v][0] = 2.0f;
    }
    kd_skeleton_opts k = {.frames = T, .max_bodies = M, .resample = KD_RESAMPLE_LINEAR};
    ok(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), &err);
    for (int t = 0; t < T; t++) {
        const double pos = (double)t * 2.0 / 63.0;
        const float want = pos <= 0.5 ? 1.0f : pos <= 1.5 ? 0.0f : 2.0f;
        assert_true(x[at(0, t, 0, 0)] == want && x[at(0, t, 0, 1)] == 0.0f);
    }
    kd_skeleton_free(&s);
    ok(kd_skeleton_alloc(2, 2, &s, &err), &err);
    s.first[1] = 1;
    s.first[2] = 2;
    for (size_t v = 0; v < V; v++) {
        s.body[0].xyz[v][1] = 1.0f;
        s.body[1].xyz[v][1] = 2.0f;
    }
    ok(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), &err);
    for (int t = 0; t < T; t++) {
        assert_true(fabsf(x[at(1, t, 9, 0)] - (1.0f + (float)t / 63.0f)) <= 1e-6f);
    }
    kd_skeleton_free(&s);
}

/* Missing frames stay zeros whatever is done to the others; an absent second body gets no noise. */
static void absent_bodies_stay_zero(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_skeleton s = recording("raw.exact64", 64, 1);
    for (uint32_t t = 1; t <= 64; t++) { /* the first frame has no body */
        s.first[t] = t - 1;
    }
    kd_skeleton_opts k = rule_b();
    k.clamp = 30.0;
    ok(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), &err);
    const kd_skeleton_aug_opts aug = {
        .scale = {1, 1}, .speed = {1, 1}, .noise_joint = 0.1, .noise_velocity = 0.1, .noise_bone = 0.1};
    const kd_sequence_draw d = {.angle_deg = 20.0, .scale = 1.1, .noise = kd_rng_make(1, KD_RNG_TEST, 2, 3)};
    float *dst[3] = {out[0], out[1], out[2]};
    kd_sequence_streams(spec_of(&k, &aug), &d, x, 7, dst);
    double sum = 0.0;
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < V; v++) {
            assert_true(out[0][at(c, 0, v, 0)] == 0.0f);
            for (int t = 0; t < T; t++) {
                assert_true(out[0][at(c, t, v, 1)] == 0.0f && out[2][at(c, t, v, 1)] == 0.0f);
            }
        }
        for (int t = 0; t < T; t++) {
            const double noise = (double)out[2][at(c, t, 0, 0)]; /* bone 0 is 0 but for it */
            sum += noise * noise;
        }
    }
    const double sigma = sqrt(sum / (3.0 * 63.0));
    assert_true(sigma > 0.08 && sigma < 0.12);
    kd_skeleton_free(&s);
    ok(kd_skeleton_alloc(5, 0, &s, &err), &err);
    assert_int_equal(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), KD_E_DATA);
    kd_skeleton_free(&s);
}

/* The device's op makes the same bits on the CPU, whatever the draws are; a row without a sample is zeros. */
static void the_op_is_the_same(void **state)
{
    (void)state;
    enum { S = 3, B = 24 };
    const kd_skeleton_aug_opts aug = {.rotate_deg = 170,
                                      .scale = {0.85, 1.15},
                                      .shear = 0.1,
                                      .flip_prob = 0.5,
                                      .time_flip_prob = 0.5,
                                      .speed = {0.5, 1.2},
                                      .speed_prob = 0.7,
                                      .noise_joint = 0.01,
                                      .noise_velocity = 0.002,
                                      .noise_bone = 0.005,
                                      .joint_mask = 0.1};
    kd_err err = {0};
    kd_backend *be = NULL;
    kd_skeleton_opts k = rule_b();
    k.clamp = 1.0; /* low enough to be met */
    float *table = kd_calloc((size_t)S * N, sizeof *table), *y[3], real[B][KD_SKEL_DRAW];
    int32_t idx[B], whole[B][KD_SKEL_IDRAW];
    kd_sequence_draw draw[B];
    for (int i = 0; i < S; i++) {
        kd_skeleton s = recording("raw.long101", 101, i == 1 ? 1 : 2);
        for (uint32_t t = 1; i == 2 && t <= 101; t++) {
            s.first[t] = 2 * (t - 1); /* the first frame has no body */
        }
        ok(kd_sequence_make(spec_of(&k, NULL), &s, table + (size_t)i * N, &err), &err);
        kd_skeleton_free(&s);
    }
    for (uint32_t b = 0; b < B; b++) {
        idx[b] = (int32_t)(b % (S + 1)) - 1;
        draw[b] = kd_sequence_draw_make(spec_of(&(kd_skeleton_opts){.frames = T}, &aug),
                                        kd_rng_make((uint64_t)7 << 35 | b, KD_RNG_SAMPLE, b, 5));
        kd_sequence_draw_pack(&draw[b], real[b], whole[b]);
    }
    for (int i = 0; i < 3; i++) {
        y[i] = kd_calloc((size_t)B * N, sizeof *y[i]);
    }
    const kd_skeleton_streams_attr attr = kd_sequence_attr(spec_of(&k, &aug));
    const kd_shape rows = KD_SHAPE(B, 3, T, V, M);
    const kd_tensor in[] = {{table, KD_F32, KD_SHAPE(S, 3, T, V, M)},
                            {idx, KD_I32, KD_SHAPE(B)},
                            {real, KD_F32, KD_SHAPE(B, KD_SKEL_DRAW)},
                            {whole, KD_I32, KD_SHAPE(B, KD_SKEL_IDRAW)}};
    const kd_tensor to[] = {{y[0], KD_F32, rows}, {y[1], KD_F32, rows}, {y[2], KD_F32, rows}};
    const kd_call c = {.in = in, .out = to, .n_in = 4, .n_out = 3, .attr = &attr};
    ok(kd_backend_cpu_open(1, &be, &err), &err);
    ok(kd_backend_call(be, KD_OP_SKELETON_STREAMS, KD_F32, &c), &err);
    for (int b = 0; b < B; b++) {
        float *dst[3] = {out[0], out[1], out[2]};
        memset(out, 0, sizeof out);
        if (idx[b] >= 0) {
            kd_sequence_streams(spec_of(&k, &aug), &draw[b], table + (size_t)idx[b] * N, 7, dst);
        }
        for (int i = 0; i < 3; i++) {
            if (memcmp(out[i], y[i] + (size_t)b * N, sizeof out[i]) != 0) {
                fail_msg("row %d, stream %d differs", b, i);
            }
        }
    }
    kd_backend_close(be);
    kd_free(table);
    for (int i = 0; i < 3; i++) {
        kd_free(y[i]);
    }
}

static void draws_keep_their_bounds(void **state)
{
    (void)state;
    const kd_skeleton_aug_opts aug = {.rotate_deg = 15,
                                      .scale = {0.85, 1.15},
                                      .shear = 0.1,
                                      .flip_prob = 0.5,
                                      .speed = {0.8, 1.2},
                                      .speed_prob = 1,
                                      .joint_mask = 0.1};
    int flips = 0, slow = 0;
    for (uint32_t i = 0; i < 400; i++) {
        const kd_sequence_draw d =
            kd_sequence_draw_make(spec_of(&(kd_skeleton_opts){.frames = T}, &aug), kd_rng_make(3, KD_RNG_SAMPLE, i, 0));
        assert_true(fabs(d.angle_deg) <= 15.0 && d.scale >= 0.85 && d.scale <= 1.15);
        assert_true(fabs(d.shear) <= 0.1 && !d.time_flip);
        assert_true(d.speed_frames >= 51 && d.speed_frames <= T && d.speed_start >= 0 &&
                    d.speed_start + d.speed_frames <= T);
        assert_int_equal(__builtin_popcountll(d.masked), 2);
        assert_true(d.masked < (uint64_t)1 << V);
        flips += d.flip;
        slow += d.speed_frames < T;
    }
    assert_true(flips > 150 && flips < 250);
    assert_true(slow > 150 && slow < 250);
}

/* After a time flip, velocity is that of the reversed motion. */
static void time_flip_reverses_motion(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_skeleton s = recording("raw.exact64", 64, 2);
    const kd_skeleton_opts k = rule_a();
    ok(kd_sequence_make(spec_of(&k, NULL), &s, x, &err), &err);
    const kd_sequence_draw d = {.scale = 1.0, .time_flip = true};
    streams(&k, &d);
    for (int t = 0; t < T; t++) {
        assert_true(out[0][at(1, t, 5, 1)] == x[at(1, T - 1 - t, 5, 1)]);
        const float v = t == T - 1 ? 0.0f : out[0][at(1, t + 1, 5, 1)] - out[0][at(1, t, 5, 1)];
        assert_true(out[1][at(1, t, 5, 1)] == v);
    }
    kd_skeleton_free(&s);
}

/* ---- the source ------------------------------------------------------------------------------ */

static void cache_and_workers_change_nothing(void **state)
{
    (void)state;
    enum { FILES = 11 };
    kd_err err = {0};
    char dir[] = "sequence_test_XXXXXX", path[FILES][64];
    kd_data_sample sample[FILES];
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < FILES; i++) {
        (void)snprintf(path[i], sizeof path[i], "%s/s%02d.skeleton", dir, i);
        kd_skeleton s = recording(path[i], 40 + 7 * (size_t)i, 1 + (size_t)i % 2);
        ok(kd_skeleton_write(path[i], &s, &err), &err);
        kd_skeleton_free(&s);
        sample[i] = (kd_data_sample){.id = path[i], .skeleton = path[i], .label = i};
    }
    const kd_half half = {.sample = sample, .n = FILES};
    kd_sequence_spec spec = {.skeleton = rule_a()};
    spec.aug = (kd_skeleton_aug_opts){.rotate_deg = 15,
                                      .scale = {0.9, 1.1},
                                      .flip_prob = 0.5,
                                      .speed = {0.8, 1.2},
                                      .speed_prob = 1,
                                      .noise_joint = 0.01,
                                      .joint_mask = 0.1};
    static const char *const STREAMS[] = {"bone", "joint"};
    uint32_t want = 0;
    static const uint64_t CACHE[] = {0, (uint64_t)1 << 24, 60000, (uint64_t)1 << 24};
    static const int WORKERS[] = {0, 0, 3, 2};
    for (int run = 0; run < 4; run++) {
        kd_sequence_source *src = NULL;
        kd_loader *l = NULL;
        ok(kd_sequence_source_open(&spec, &half, true, STREAMS, 2, CACHE[run], &src, &err), &err);
        const kd_producer p = kd_sequence_producer(src);
        assert_string_equal(p.tensor[0].name, "bone");
        assert_string_equal(p.tensor[1].name, "joint");
        const kd_loader_opts o = {.batch_size = 3, .workers = WORKERS[run], .train = true};
        ok(kd_loader_open(&o, &p, &l, &err), &err);
        ok(kd_loader_seek(l, 0, 0, &err), &err);
        uint32_t crc = 0;
        for (int b = 0; b < 9; b++) {
            const kd_batch *batch;
            ok(kd_loader_next(l, &batch, &err), &err);
            for (int t = 0; t < 2; t++) {
                crc = kd_zip_crc32(crc, batch->tensor[t], 3 * N * sizeof(float));
            }
            /* bone[0] is always 0 */
            assert_true(((const float *)batch->tensor[0])[at(0, 5, 0, 0)] == 0.0f);
        }
        if (run == 0) {
            want = crc;
        }
        assert_int_equal(crc, want);
        kd_loader_close(l);
        kd_sequence_source_close(src);
    }
    void *dst[1] = {out[0]};
    static const char *const ONE[] = {"joint"}, *const WRONG[] = {"speed"};
    ok(kd_sequence_read(&spec, path[2], ONE, 1, dst, &err), &err);
    assert_int_equal(kd_sequence_read(&spec, path[2], WRONG, 1, dst, &err), KD_E_ARG);
    err = (kd_err){0};
    assert_int_equal(kd_sequence_read(&spec, "no.skeleton", ONE, 1, dst, &err), KD_E_IO);
    assert_int_equal(kd_io_remove_tree(dir, NULL), KD_OK);
}

/* ---- views of a store ------------------------------------------------------------------------ */

enum { CUT_FRAMES = 40 };

/* The numbers of a .skeleton file of one body, frame by frame: its text, read here. */
static void read_text(const char *path, double v[CUT_FRAMES][V][3])
{
    int frames = 0, bodies = 0, joints = 0;
    double skip;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &frames), 1);
    assert_int_equal(frames, CUT_FRAMES);
    for (int t = 0; t < frames; t++) {
        assert_int_equal(fscanf(f, "%d", &bodies), 1);
        assert_int_equal(bodies, 1);
        for (int i = 0; i < 10; i++) {
            assert_int_equal(fscanf(f, "%lf", &skip), 1);
        }
        assert_int_equal(fscanf(f, "%d", &joints), 1);
        assert_int_equal(joints, V);
        for (int j = 0; j < V; j++) {
            assert_int_equal(fscanf(f, "%lf %lf %lf", &v[t][j][0], &v[t][j][1], &v[t][j][2]), 3);
            for (int i = 3; i < 12; i++) {
                assert_int_equal(fscanf(f, "%lf", &skip), 1);
            }
        }
    }
    (void)fclose(f);
}

/* Frame t of a row is frame first + t of the file, the last one of the window repeated; mirrored: x negated, left and
 * right joints exchanged. */
static void expect_window(double v[CUT_FRAMES][V][3], const float *row, int first, int last, bool flip)
{
    static const int SIDES[10][2] = {{4, 8},   {5, 9},   {6, 10},  {7, 11},  {12, 16},
                                     {13, 17}, {14, 18}, {15, 19}, {21, 23}, {22, 24}};
    int from[V];
    for (int j = 0; j < V; j++) {
        from[j] = j;
    }
    for (int i = 0; i < 10 && flip; i++) {
        from[SIDES[i][0]] = SIDES[i][1];
        from[SIDES[i][1]] = SIDES[i][0];
    }
    for (int t = 0; t < T; t++) {
        const int frame = KD_MIN(first + t, last);
        for (int j = 0; j < V; j++) {
            for (int c = 0; c < 3; c++) {
                const double want = v[frame][from[j]][c] * (flip && c == 0 ? -1.0 : 1.0);
                if (!(fabs((double)row[at(c, t, j, 0)] - want) <= 1e-6)) {
                    fail_msg("window %d-%d, frame %d, joint %d, axis %d: %g, the file has %g", first, last, t, j, c,
                             (double)row[at(c, t, j, 0)], want);
                }
            }
        }
    }
}

/* Epoch e sees the window and the mirror of view e mod n; with and without the cache. */
static void views_of_a_store_cut_the_rows(void **state)
{
    (void)state;
    static double v[CUT_FRAMES][V][3];
    static const char *const ONE[] = {"joint"};
    static const uint64_t CACHE[] = {0, (uint64_t)1 << 24};
    kd_err err = {0};
    char path[] = "cut_test_XXXXXX.skeleton";
    assert_true(close(mkstemps(path, 9)) == 0);
    kd_skeleton s = recording("cut", CUT_FRAMES, 1);
    ok(kd_skeleton_write(path, &s, &err), &err);
    kd_skeleton_free(&s);
    read_text(path, v);
    kd_data_sample sample[2] = {{.id = "a", .skeleton = path}, {.id = "b", .skeleton = path}};
    const kd_half half = {.sample = sample, .n = 2};
    const kd_store_cut cut[2][3] = {{{5, 24, false}, {12, 12, true}, {30, 90, true}},
                                    {{0, 39, true}, {40, 50, false}, {0, 3, false}}};
    const kd_sequence_spec spec = {.skeleton = {.frames = T, .max_bodies = M, .normalize = KD_NORM_NONE},
                                   .aug = {.scale = {1, 1}, .speed = {1, 1}, .match_views = true}};
    for (int run = 0; run < 2; run++) {
        kd_sequence_source *src = NULL;
        void *scratch = NULL;
        ok(kd_sequence_source_open(&spec, &half, true, ONE, 1, CACHE[run], &src, &err), &err);
        ok(kd_sequence_source_cut(src, cut[0], 3, &err), &err);
        const kd_producer p = kd_sequence_producer(src);
        ok(p.scratch_new(p.ctx, &scratch, &err), &err);
        for (uint32_t i = 0; i < 2; i++) {
            for (uint32_t epoch = 0; epoch < 6; epoch++) {
                const kd_store_cut *c = &cut[i][epoch % 3];
                void *dst[1] = {out[0]};
                const kd_status st = p.fill(p.ctx, &(kd_item){.sample = i, .epoch = epoch}, scratch, dst, &err);
                if (c->first >= CUT_FRAMES) { /* behind the end */
                    assert_int_equal(st, KD_E_DATA);
                    assert_non_null(strstr(err.msg, "frames 40 to 50, the recording has 40"));
                    err = (kd_err){0};
                    continue;
                }
                ok(st, &err);
                expect_window(v, out[0], c->first, KD_MIN(c->last, CUT_FRAMES - 1), c->flip);
            }
        }
        p.scratch_free(p.ctx, scratch);
        kd_sequence_source_close(src);
    }
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(preprocessing_is_the_references),
                                       cmocka_unit_test(augmentation_is_the_references),
                                       cmocka_unit_test(yaw_corrected_faces_the_camera),
                                       cmocka_unit_test(tracked_bodies_keep_their_place),
                                       cmocka_unit_test(linear_resampling),
                                       cmocka_unit_test(absent_bodies_stay_zero),
                                       cmocka_unit_test(the_op_is_the_same),
                                       cmocka_unit_test(draws_keep_their_bounds),
                                       cmocka_unit_test(time_flip_reverses_motion),
                                       cmocka_unit_test(cache_and_workers_change_nothing),
                                       cmocka_unit_test(views_of_a_store_cut_the_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
