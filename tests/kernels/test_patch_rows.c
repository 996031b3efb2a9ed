/* From bytes to patch rows, the first op of the teacher: bit for bit what plain loops over normalised floats make. */
#include "distill/batch/mixup.h"
#include "kernels/kd_graph.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_program.h"
#include "teacher/model/vit.h"

#include <math.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

static const float MEAN[3] = {0.485f, 0.456f, 0.406f}, STD[3] = {0.229f, 0.224f, 0.225f};

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

/* A row is longer than what the CPU kernel works on at once. */
enum {
    CLIPS = 4,
    BOXES = 2,
    PLACES = KD_PLACE + BOXES * KD_BOX,
    T = 4,
    HEIGHT = 16,
    WIDTH = 528,
    AREA = T * HEIGHT * WIDTH,
    ROWS = CLIPS * 3 * AREA,
    TUBELET = 2,
    PATCH = 8
};

/* Bytes (T, HEIGHT, WIDTH, 3) as the normalised floats (3, T, HEIGHT, WIDTH). */
static void normalise(const uint8_t *rgb, float *clip)
{
    float table[3 * 256];
    kd_vit_pixel_table(MEAN, STD, table);
    for (size_t i = 0; i < AREA; i++) {
        for (size_t c = 0; c < 3; c++) {
            clip[c * AREA + i] = table[256 * c + rgb[3 * i + c]];
        }
    }
}

/* Clips (CLIPS, 3, T, HEIGHT, WIDTH) as rows of patches. */
static void rows_by_hand(const float *clip, float *rows)
{
    for (int b = 0; b < CLIPS; b++) {
        for (int t = 0; t < T; t += TUBELET) {
            for (int y = 0; y < HEIGHT; y += PATCH) {
                for (int x = 0; x < WIDTH; x += PATCH) {
                    for (int i = 0; i < 3 * TUBELET * PATCH * PATCH; i++) {
                        const int dx = i % PATCH, dy = i / PATCH % PATCH, dt = i / (PATCH * PATCH) % TUBELET;
                        const int c = i / (PATCH * PATCH * TUBELET);
                        *rows++ = clip[(((b * 3 + c) * T + t + dt) * HEIGHT + y + dy) * WIDTH + x + dx];
                    }
                }
            }
        }
    }
}

/* Patch rows of a batch of clips by the op, on the CPU in f32; bytes (CLIPS,T,HEIGHT,WIDTH,3) or floats
 * (CLIPS,3,T,HEIGHT,WIDTH); others may be NULL. */
static void rows_of(const uint8_t *bytes, const float *floats, const int32_t *place, const kd_mix *mix, float *rows)
{
    kd_backend *be = NULL;
    kd_program *p = NULL;
    kd_err err = {0};
    const kd_patchify_attr pa = {.tubelet = TUBELET, .patch = PATCH};
    float table[3 * 256];
    kd_vit_pixel_table(MEAN, STD, table);
    ok(kd_backend_cpu_open(2, &be, &err), &err);
    kd_params *params = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = params, .dtype = KD_F32});
    kd_val in[6] = {{0}};
    in[0] = bytes != NULL ? kd_input(g, "clip", KD_U8, kd_shape5(CLIPS, T, HEIGHT, WIDTH, 3))
                          : kd_input(g, "clip", KD_F32, kd_shape5(CLIPS, 3, T, HEIGHT, WIDTH));
    in[1] = bytes != NULL ? kd_const(g, "table", KD_F32, kd_shape2(3, 256), table) : KD_NONE;
    in[2] = place != NULL ? kd_input(g, "place", KD_I32, kd_shape2(CLIPS, PLACES)) : KD_NONE;
    if (mix != NULL) {
        in[3] = kd_input(g, "perm", KD_I32, kd_shape1(CLIPS));
        in[4] = kd_input(g, "lam", KD_F32, kd_shape1(CLIPS));
        in[5] = kd_input(g, "cut", KD_I32, kd_shape2(CLIPS, 4));
    }
    kd_output(g, "rows", kd_node(g, KD_OP_PATCHIFY, &pa, in, 6, NULL));
    ok(kd_program_compile(g, be, &(kd_compile_opts){0}, &p, &err), &err);
    const void *clip = bytes != NULL ? (const void *)bytes : (const void *)floats;
    assert_int_equal(kd_program_write(p, "clip", clip, bytes != NULL ? CLIPS * AREA * 3 : ROWS * sizeof(float)), KD_OK);
    if (place != NULL) {
        assert_int_equal(kd_program_write(p, "place", place, CLIPS * PLACES * sizeof *place), KD_OK);
    }
    if (mix != NULL) {
        assert_int_equal(kd_program_write(p, "perm", mix->perm, CLIPS * sizeof *mix->perm), KD_OK);
        assert_int_equal(kd_program_write(p, "lam", mix->lam, CLIPS * sizeof *mix->lam), KD_OK);
        assert_int_equal(kd_program_write(p, "cut", mix->cut, 4 * CLIPS * sizeof *mix->cut), KD_OK);
    }
    assert_int_equal(kd_program_run(p, NULL), KD_OK);
    assert_int_equal(kd_program_read_f32(p, "rows", rows, ROWS), KD_OK);
    kd_program_free(p);
    kd_params_free(params);
    kd_backend_close(be);
}

/* What fills element c of a pixel: its own noise, that of its frame and box, or nothing. */
static float fill_by_hand(const int32_t *place, int t, int k, int pixel, int c)
{
    const uint64_t seed = (uint64_t)(uint32_t)place[KD_PLACE_SEED_HIGH] << 32 | (uint32_t)place[KD_PLACE_SEED_LOW];
    kd_rng rng = kd_rng_make(seed, KD_RNG_SAMPLE, (uint32_t)place[KD_PLACE_ITEM], (uint32_t)place[KD_PLACE_EPOCH]);
    const bool one = place[KD_PLACE_ERASE] == KD_ERASE_RAND;
    rng.pos = 4 * (((uint64_t)(one ? 9 : 8) << 32) + (uint64_t)(one ? (t * BOXES + k) * 3 + c : pixel * 3 + c));
    return place[KD_PLACE_ERASE] == KD_ERASE_CONST ? 0.0f : (float)kd_rng_normal(&rng);
}

/* What the op should see: mirrored, then the boxes filled one after the other, clip by clip. */
static void place_by_hand(float *clip, const int32_t *place)
{
    for (int i = 0; i < 3 * AREA; i += WIDTH) {
        for (int x = 0; place[KD_PLACE_FLIP] != 0 && x < WIDTH / 2; x++) {
            const float t = clip[i + x];
            clip[i + x] = clip[i + WIDTH - 1 - x];
            clip[i + WIDTH - 1 - x] = t;
        }
    }
    for (int k = 0; k < BOXES; k++) {
        const int32_t *box = place + KD_PLACE + k * KD_BOX;
        for (int t = 0; t < T; t++) {
            for (int i = 0;
                 i < box[KD_BOX_HEIGHT] * box[KD_BOX_WIDTH] * 3 && (box[KD_BOX_FRAME] < 0 || box[KD_BOX_FRAME] == t);
                 i++) {
                const int y = box[KD_BOX_TOP] + i / 3 / box[KD_BOX_WIDTH];
                const int x = box[KD_BOX_LEFT] + i / 3 % box[KD_BOX_WIDTH];
                const int pixel = (t * HEIGHT + y) * WIDTH + x;
                clip[i % 3 * AREA + pixel] = fill_by_hand(place, t, k, pixel, i % 3);
            }
        }
    }
}

/* Bytes, places and mixes on the device are, bit for bit, the rows of the floats that plain loops make of them. */
static void the_device_does_what_loops_do(void **state)
{
    (void)state;
    static float clip[ROWS], mixed[ROWS], want[ROWS], got[ROWS];
    static const int32_t place[CLIPS][PLACES] = {
        {1, KD_ERASE_PIXEL, 5, 0, 1, 2, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0},
        {0, KD_ERASE_PIXEL, 5, 0, 9, 2, -1, 3, 5, 11, 507, 0, 1, 1, 4, 0},
        {1, KD_ERASE_RAND, -5, 7, 11, 0, -1, 14, 500, 2, 28, 1, 2, 490, 14, 20}, /* the second over the first */
        {0, KD_ERASE_CONST, 0, 0, 0, 0, 0, 2, 3, 4, 5, T - 1, 3, 4, 5, 516}};
    int32_t perm[CLIPS] = {3, 2, 1, 3};
    float lam[CLIPS] = {0.25f, 0.75f, 0.25f, 1.0f};
    static uint8_t bytes[CLIPS * AREA * 3];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(kd_rng_at(1, KD_RNG_TEST, 0, 0, i) >> 24);
    }
    for (int b = 0; b < CLIPS; b++) {
        normalise(bytes + b * AREA * 3, clip + b * 3 * AREA);
    }
    rows_by_hand(clip, want);
    rows_of(NULL, clip, NULL, NULL, got);
    assert_memory_equal(got, want, sizeof got);
    rows_of(bytes, NULL, NULL, NULL, got);
    assert_memory_equal(got, want, sizeof got);
    for (int form = 0; form < 3; form++) { /* placed; and mixed; and boxes, one of them empty */
        static const int32_t box[CLIPS][4] = {{4, 9, 10, 510}, {0, 0, 3, 528}, {5, 5, 0, 7}, {12, 500, 4, 28}};
        int32_t cut[CLIPS][4] = {{0}};
        kd_mix mix = {.perm = perm, .lam = lam, .cut = &cut[0][0]};
        if (form == 2) {
            memcpy(cut, box, sizeof cut);
        }
        const kd_mix *m = form > 0 ? &mix : NULL;
        static float placed[ROWS];
        memcpy(placed, clip, sizeof placed);
        for (int b = 0; b < CLIPS; b++) {
            place_by_hand(placed + b * 3 * AREA, place[b]);
        }
        for (int i = 0; i < ROWS; i++) {
            const int b = i / (3 * AREA), y = i / WIDTH % HEIGHT, x = i % WIDTH;
            const float mine = placed[i], other = placed[perm[b] * 3 * AREA + i % (3 * AREA)];
            const int32_t *c = cut[b];
            const bool inside = y >= c[0] && y < c[0] + c[2] && x >= c[1] && x < c[1] + c[3];
            const float blend = fmaf(1.0f - lam[b], other, lam[b] * mine);
            mixed[i] = form == 0 ? mine : c[2] > 0 && c[3] > 0 ? (inside ? other : mine) : blend;
        }
        rows_by_hand(mixed, want);
        rows_of(bytes, NULL, &place[0][0], m, got);
        for (int i = 0; i < ROWS; i++) { /* a mixture may be rounded once or twice */
            const int b = i / (3 * AREA);
            if (!(form == 1 || (form == 2 && b == 2) ? fabsf(got[i] - want[i]) <= 1e-6f : got[i] == want[i])) {
                fail_msg("form %d, row element %d: %.9g, expected %.9g", form, i, (double)got[i], (double)want[i]);
            }
        }
        rows_of(NULL, clip, &place[0][0], m, want); /* and the same of clips that come as floats */
        assert_memory_equal(got, want, sizeof got);
    }
}

/* One Philox block gives the number that four words read one by one give, at any distance. */
static void a_normal_is_one_block(void **state)
{
    (void)state;
    kd_rng r = kd_rng_make(0x123456789abcdefu, KD_RNG_TEST, 5, 6);
    static const uint64_t BLOCK[] = {0, 1, 12345, 0xffffffffu, (uint64_t)1 << 32, ((uint64_t)8 << 32) + 77};
    for (size_t i = 0; i < KD_COUNTOF(BLOCK); i++) {
        r.pos = 4 * BLOCK[i];
        const double one = kd_rng_normal(&r), two = kd_rng_normal_at(&r, BLOCK[i]);
        assert_true(one == two);
    }
}

/* What cannot be built is refused with the operand's name. */
static void operands_are_checked(void **state)
{
    (void)state;
    static const struct {
        int missing, wrong; /* operand left out; operand given a wrong shape */
        bool floats;
        const char *part;
    } CASE[] = {{1, -1, false, "table of values"}, {-1, -1, true, "table of values"}, {3, -1, false, "perm and lam"},
                {4, -1, false, "perm and lam"},    {-1, 2, false, "place"},           {-1, 5, false, "cut"}};
    for (size_t k = 0; k < KD_COUNTOF(CASE); k++) {
        kd_params *params = kd_params_create(KD_F32);
        kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = params, .dtype = KD_F32});
        const kd_patchify_attr pa = {.tubelet = TUBELET, .patch = PATCH};
        const int64_t more = CASE[k].wrong >= 0;
        kd_val in[6] = {CASE[k].floats ? kd_input(g, "clip", KD_F32, kd_shape5(CLIPS, 3, T, HEIGHT, WIDTH))
                                       : kd_input(g, "clip", KD_U8, kd_shape5(CLIPS, T, HEIGHT, WIDTH, 3)),
                        kd_input(g, "table", KD_F32, kd_shape2(3, 256)),
                        kd_input(g, "place", KD_I32, kd_shape2(CLIPS, PLACES + (CASE[k].wrong == 2 ? more : 0))),
                        kd_input(g, "perm", KD_I32, kd_shape1(CLIPS)),
                        kd_input(g, "lam", KD_F32, kd_shape1(CLIPS)),
                        kd_input(g, "cut", KD_I32, kd_shape2(CLIPS, 4 + (CASE[k].wrong == 5 ? more : 0)))};
        if (CASE[k].missing >= 0) {
            in[CASE[k].missing] = KD_NONE;
        }
        (void)kd_node(g, KD_OP_PATCHIFY, &pa, in, 6, NULL);
        const kd_err *bad = kd_graph_error(g);
        if (bad == NULL || strstr(bad->msg, CASE[k].part) == NULL) {
            fail_msg("case %zu: '%s' is not in '%s'", k, CASE[k].part, bad != NULL ? bad->msg : "no failure");
        }
        kd_graph_free(g);
        kd_params_free(params);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_device_does_what_loops_do),
                                       cmocka_unit_test(a_normal_is_one_block), cmocka_unit_test(operands_are_checked)};
    return cmocka_run_group_tests_name("patch_rows", tests, NULL, NULL);
}
