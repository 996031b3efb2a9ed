/* The published teachers: their sizes, the rows of Kinetics-710, their position tables. */
#include "formats/base/zip.h"
#include "kernels/kd_layers.h"
#include "kernels/kd_program.h"
#include "teacher/model/kinetics.h"
#include "teacher/model/vit_names.h"
#include "teacher/model/zoo.h"

#include <math.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static int64_t parameters(const char *size, int classes)
{
    kd_vit_cfg c;
    kd_params *p = kd_params_create(KD_F32);
    assert_true(kd_vit_preset(size, &c));
    c.classes = classes;
    const kd_graph_opts o = {.params = p, .dtype = KD_F32};
    kd_graph *g = kd_graph_create(&o);
    const kd_vit_input in = {.clip = kd_input(g, "clip", KD_F32, kd_shape5(1, 3, c.frames, c.img_size, c.img_size)),
                             .place = KD_NONE,
                             .perm = KD_NONE,
                             .lam = KD_NONE,
                             .cut = KD_NONE};
    (void)kd_vit_build(g, &c, &in);
    assert_null(kd_graph_error(g));
    const int64_t n = kd_params_numel(p);
    kd_graph_free(g);
    kd_params_free(p);
    return n;
}

/* Numbers of parameters of the reference's models. */
static void test_sizes(void **state)
{
    static const struct {
        const char *size;
        int64_t with_400, with_60, without;
    } PUBLISHED[] = {{"s", 22033936, 21903036, 21879936},
                     {"b", 86534800, 86273340, 86227200},
                     {"l", 304270736, 303922236, 303860736},
                     {"h", 632119440, 631683900, 631607040},
                     {"g", 1012174352, 1011695292, 1011610752}};
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(PUBLISHED); i++) {
        kd_vit_cfg c;
        assert_true(kd_vit_preset(PUBLISHED[i].size, &c));
        assert_int_equal(parameters(PUBLISHED[i].size, 400), PUBLISHED[i].with_400);
        assert_int_equal(parameters(PUBLISHED[i].size, 60), PUBLISHED[i].with_60);
        assert_int_equal(kd_zoo_parameters(kd_teacher_find(PUBLISHED[i].size), 400), PUBLISHED[i].with_400);
        assert_int_equal(kd_zoo_parameters(kd_teacher_find(PUBLISHED[i].size), 0), PUBLISHED[i].without);
        assert_int_equal(PUBLISHED[i].with_60 - 60 * (c.dim + 1), PUBLISHED[i].without);
    }
}

/* Every row names a size, a naming and a page, and no row's name is there twice. */
static void test_zoo(void **state)
{
    int n = 0;
    (void)state;
    for (const kd_zoo_entry *e; (e = kd_zoo_at(n)) != NULL; n++) {
        assert_non_null(kd_teacher_find(e->variant));
        assert_true(kd_names_dialect(&kd_vit_names, e->layout) >= 0);
        assert_ptr_equal(kd_zoo_find(e->name), e);
        assert_true(e->page[0] != '\0' && e->data[0] != '\0' && e->licence[0] != '\0');
        assert_true(strspn(e->sha256, "0123456789abcdef") == strlen(e->sha256));
        if (e->sha256[0] != '\0' && strlen(e->sha256) < 64) { /* MMAction2: the digits stand in the file's name */
            assert_non_null(strstr(e->file, e->sha256));
        }
    }
    assert_true(n > 30);
    assert_null(kd_zoo_find("videomae-b"));
}

/* CRC-32 of the published lists, as little-endian 16-bit numbers. */
static void test_kinetics(void **state)
{
    static const struct {
        kd_head_rows which;
        int n;
        uint32_t crc;
    } LIST[] = {{KD_HEAD_ROWS_K400, 400, 0x05ca90c6u},
                {KD_HEAD_ROWS_K600, 600, 0x48e6114cu},
                {KD_HEAD_ROWS_K700, 700, 0x19cbeef2u}};
    int n = 1;
    (void)state;
    assert_null(kd_kinetics_rows(KD_HEAD_ROWS_NONE, &n));
    assert_int_equal(n, 0);
    for (size_t i = 0; i < KD_COUNTOF(LIST); i++) {
        const uint16_t *row = kd_kinetics_rows(LIST[i].which, &n);
        uint8_t bytes[2 * 700];
        bool taken[KD_KINETICS_710] = {false};
        assert_int_equal(n, LIST[i].n);
        for (int k = 0; k < n; k++) {
            assert_true(row[k] < KD_KINETICS_710 && !taken[row[k]]);
            taken[row[k]] = true;
            bytes[2 * k] = (uint8_t)(row[k] & 255u);
            bytes[2 * k + 1] = (uint8_t)(row[k] >> 8);
        }
        assert_int_equal(kd_crc32(bytes, 2 * (size_t)n), LIST[i].crc);
    }
}

static void test_grids(void **state)
{
    kd_vit_cfg c;
    kd_vit_grid g;
    (void)state;
    assert_true(kd_vit_preset("b", &c));
    assert_true(kd_vit_grid_of_tokens(&c, 1568, &g) && g.steps == 8 && g.side == 14);
    assert_true(kd_vit_grid_of_tokens(&c, 8 * 24 * 24, &g) && g.steps == 8 && g.side == 24);
    assert_true(kd_vit_grid_of_tokens(&c, 16 * 14 * 14, &g) && g.steps == 16 && g.side == 14);
    c.frames = 32;
    c.img_size = 384; /* a table of 16 frames of 224 for longer and larger clips */
    assert_true(kd_vit_grid_of_tokens(&c, 1568, &g) && g.steps == 8 && g.side == 14);
    assert_false(kd_vit_grid_of_tokens(&c, 1567, &g));
    assert_false(kd_vit_grid_of_tokens(&c, 0, &g));
}

static void test_fixed_table(void **state)
{
    enum { TOKENS = 50, DIM = 6 };
    float v[TOKENS * DIM], out[2 * TOKENS * DIM];
    (void)state;
    kd_vit_sinusoid(TOKENS, DIM, v);
    assert_true(kd_vit_is_sinusoid(v, TOKENS, DIM));
    for (int i = 0; i < TOKENS * DIM; i++) { /* kept in bf16 */
        out[i] = kd_bf16_to_f32(kd_f32_to_bf16(v[i]));
    }
    assert_true(kd_vit_is_sinusoid(out, TOKENS, DIM));
    v[DIM * 20 + 3] += 0.05f;
    assert_false(kd_vit_is_sinusoid(v, TOKENS, DIM));
    v[DIM * 20 + 3] = NAN;
    assert_false(kd_vit_is_sinusoid(v, TOKENS, DIM));
    /* a grid of its own is copied; a constant stays one */
    kd_vit_sinusoid(TOKENS, DIM, v);
    assert_int_equal(kd_vit_table_resize(v, (kd_vit_grid){2, 5}, (kd_vit_grid){2, 5}, DIM, out), KD_OK);
    assert_memory_equal(out, v, sizeof v);
    for (int i = 0; i < TOKENS * DIM; i++) {
        v[i] = 3.0f;
    }
    assert_int_equal(kd_vit_table_resize(v, (kd_vit_grid){2, 5}, (kd_vit_grid){3, 4}, DIM, out), KD_OK);
    for (int i = 0; i < 3 * 16 * DIM; i++) {
        assert_true(fabsf(out[i] - 3.0f) <= 1e-6f);
    }
}

/* A net large enough that its program has pages of its own. */
static kd_program *small_program(kd_backend *be, kd_params *p, bool training)
{
    kd_vit_cfg c;
    kd_program *prog = NULL;
    kd_err err = {0};
    assert_true(kd_vit_preset("s", &c));
    c.depth = 2;
    c.frames = 8;
    c.img_size = 112;
    c.classes = 7;
    c.init_scale = 1.0f;
    const kd_graph_opts o = {.params = p, .dtype = KD_F32, .training = training};
    kd_graph *g = kd_graph_create(&o);
    const kd_vit_input in = {.clip = kd_input(g, "clip", KD_F32, kd_shape5(2, 3, c.frames, c.img_size, c.img_size)),
                             .place = KD_NONE,
                             .perm = KD_NONE,
                             .lam = KD_NONE,
                             .cut = KD_NONE};
    const kd_vit_out out = kd_vit_build(g, &c, &in);
    const kd_val loss = training ? kd_reduce(g, out.logits, KD_REDUCE_MEAN, 3u) : KD_NONE;
    if (training) {
        assert_int_equal(kd_params_alloc(p, be, KD_F32, true, &err), KD_OK);
        assert_int_equal(kd_params_init(p, 3, &err), KD_OK);
    }
    if (kd_program_compile(g, be, &(kd_compile_opts){.loss = loss}, &prog, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return prog;
}

/* The same logits, and gradients, before and after programs and gradients gave their memory back. */
static void test_rest(void **state)
{
    enum { CLIP = 2 * 3 * 8 * 112 * 112 };
    kd_backend *be = NULL;
    kd_params *p = kd_params_create(KD_F32);
    float *clip = kd_alloc(CLIP * sizeof *clip), logits[2][14];
    (void)state;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    for (int i = 0; i < CLIP; i++) {
        clip[i] = sinf((float)i * 0.37f);
    }
    kd_program *train = small_program(be, p, true), *eval = small_program(be, p, false);
    const size_t bytes = (size_t)kd_params_slab_numel(p) * sizeof(float);
    float *gradient[2] = {kd_alloc(bytes), kd_alloc(bytes)};
    assert_true(kd_program_arena_bytes(train) > (size_t)4 << 20);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(kd_program_write(train, "clip", clip, CLIP * sizeof *clip), KD_OK);
        assert_int_equal(kd_program_run(train, NULL), KD_OK);
        memcpy(gradient[round], kd_params_grad_slab(p), bytes);
        kd_program_rest(train);
        kd_params_rest_grad(p);
        for (size_t i = 0; i < bytes / sizeof(float); i += 101) {
            assert_true(((const float *)kd_params_grad_slab(p))[i] == 0.0f);
        }
        assert_int_equal(kd_program_write(eval, "clip", clip, CLIP * sizeof *clip), KD_OK);
        assert_int_equal(kd_program_run(eval, NULL), KD_OK);
        assert_int_equal(kd_program_read_f32(eval, "logits", logits[round], 14), KD_OK);
        kd_program_rest(eval);
    }
    assert_memory_equal(gradient[0], gradient[1], bytes);
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    assert_true(fabsf(logits[0][0]) > 0.0f);
    kd_program_free(train);
    kd_program_free(eval);
    kd_params_free(p);
    kd_backend_close(be);
    kd_free(gradient[0]);
    kd_free(gradient[1]);
    kd_free(clip);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes), cmocka_unit_test(test_zoo),         cmocka_unit_test(test_kinetics),
        cmocka_unit_test(test_grids), cmocka_unit_test(test_fixed_table), cmocka_unit_test(test_rest),
    };
    return cmocka_run_group_tests_name("teachers", tests, NULL, NULL);
}
