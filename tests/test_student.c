/* Students against the reference modules (fixtures written by the public repository's own code, synthetic weights):
 *
 *   logits in eval and training mode, loss, running statistics after one step
 *   every parameter's gradient: length, sum, 16 sampled entries
 *   graph matrices, shift tables, parameter counts, decay groups, constants of checkpoints, refusals
 *
 * Weights and inputs are drawn from their names by the fixture's generator; each tensor's CRC is checked first. */
#include "formats/json.h"
#include "formats/safetensors.h"
#include "kernels/kd_layers.h"
#include "kernels/kd_program.h"
#include "student/skeleton_graph.h"
#include "student/student.h"
#include "tests/f64_backend.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

enum {
    CLASSES = 60,
    FRAMES = 64,
    BODIES = 2,
    SAMPLES = 4,
    STREAM = 3 * FRAMES * KD_JOINTS * BODIES
};

/* ---- the fixture's generator -------------------------------------------------------------------------------------- */

static void generate(float *dst, int64_t n, uint32_t crc, int64_t ko, int64_t ks)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t h = crc ^ ((uint32_t)i * 0x9E3779B1u);
        h ^= h >> 16;
        h *= 0x7FEB352Du;
        h ^= h >> 15;
        h *= 0x846CA68Bu;
        h ^= h >> 16;
        const int64_t u = (int64_t)(h >> 8) - 8388608;
        dst[i] = (float)((double)(ko * 8388608 + ks * u) / 8589934592.0);
    }
}

static uint32_t name_crc(const char *name)
{
    return kd_crc32(name, strlen(name));
}

static int64_t number(const kd_json *obj, const char *key)
{
    int64_t v = 0;
    kd_err err = {0};
    if (kd_json_get_i64(obj, key, &v, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return v;
}

static const char *text(const kd_json *obj, const char *key)
{
    const char *v = NULL;
    kd_err err = {0};
    if (kd_json_get_str(obj, key, &v, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return v;
}

/* ---- one student, one fixture --------------------------------------------------------------------------------------- */

typedef struct golden {
    const char *student, *folder;
    kd_json *manifest;
    kd_st_file *file;
    kd_params *params;
    kd_backend *be;
    kd_dtype dtype;
    int batch; /* of training */
} golden;

static kd_student_cfg config_of(const char *name)
{
    const kd_student_info *s = kd_student_find(name);
    assert_non_null(s);
    return (kd_student_cfg){.model = s,
                            .classes = CLASSES,
                            .frames = FRAMES,
                            .joints = KD_JOINTS,
                            .bodies = BODIES,
                            .dropout = 0.0f,
                            .drop_path = 0.0f};
}

static kd_graph *make_graph(const golden *f, bool training, int batch, kd_val *loss)
{
    const kd_student_cfg cfg = config_of(f->student);
    kd_graph *g = kd_graph_create(
        &(kd_graph_opts){.params = f->params, .dtype = f->dtype, .training = training});
    assert_non_null(g);
    const kd_dtype stat = kd_stat_dtype(f->dtype);
    kd_val in[KD_STUDENT_MAX_STREAMS] = {{0}};
    for (int i = 0; i < cfg.model->n_streams; i++) {
        in[i] = kd_input(g, cfg.model->streams[i], stat,
                         kd_shape5(batch, 3, FRAMES, KD_JOINTS, BODIES));
    }
    const kd_student_out out = kd_student_build(g, &cfg, in);
    if (training) {
        *loss =
            kd_ce(g, out.logits, kd_input(g, "target", stat, kd_shape2(batch, CLASSES)), KD_NONE);
        kd_output(g, "loss", *loss);
    }
    return g;
}

static void open_golden(golden *f, bool wide)
{
    char path[512];
    kd_err err = {0};
    (void)snprintf(path, sizeof path, "%s/last/%s/manifest.json", KD_GOLDEN_DIR, f->folder);
    if (kd_json_load(path, &f->manifest, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    (void)snprintf(path, sizeof path, "%s/last/%s/golden.safetensors", KD_GOLDEN_DIR, f->folder);
    if (kd_st_open(path, &f->file, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    f->dtype = wide ? KD_F64 : KD_F32;
    if (wide) {
        f->be = test_f64_backend_open();
    } else {
        assert_int_equal(kd_backend_cpu_open(1, &f->be, &err), KD_OK);
    }
    assert_non_null(f->be);
    f->params = kd_params_create(f->dtype);
    f->batch = (int)number(f->manifest, "train_batch");
    kd_val loss;
    kd_graph *g = make_graph(f, true, f->batch, &loss);
    if (kd_graph_error(g) != NULL) {
        fail_msg("%s", kd_graph_error(g)->msg);
    }
    kd_graph_free(g);
    assert_int_equal(kd_params_alloc(f->params, f->be, f->dtype, true, &err), KD_OK);
}

static void close_golden(golden *f)
{
    kd_params_free(f->params);
    kd_backend_close(f->be);
    kd_st_close(f->file);
    kd_json_free(f->manifest);
}

/* Every tensor of the manifest has a parameter or buffer of that name and shape, and the other way round. */
static void fill_params(golden *f)
{
    const kd_json *all = kd_json_get(f->manifest, "tensors");
    assert_int_equal((int)kd_json_count(all), kd_params_count(f->params));
    for (size_t t = 0; t < kd_json_count(all); t++) {
        const kd_json *e = kd_json_at(all, t);
        const char *name = text(e, "name");
        const int p = kd_params_find(f->params, name);
        if (p < 0) {
            fail_msg("%s: no parameter %s", f->student, name);
        }
        const kd_param_info *info = kd_params_at(f->params, p);
        const kd_json *shape = kd_json_get(e, "shape");
        assert_int_equal((int)kd_json_count(shape), info->shape.rank);
        for (int d = 0; d < info->shape.rank; d++) {
            int64_t n = 0;
            assert_int_equal(kd_json_as_i64(kd_json_at(shape, (size_t)d), &n, NULL), KD_OK);
            assert_int_equal((int)n, (int)info->shape.dim[d]);
        }
        float *v = kd_alloc((size_t)info->numel * sizeof *v);
        assert_int_equal(name_crc(name), (uint32_t)number(e, "crc32"));
        generate(v, info->numel, name_crc(name), number(e, "ko"), number(e, "ks"));
        assert_int_equal(kd_crc32(v, (size_t)info->numel * sizeof *v),
                         (uint32_t)number(e, "data_crc32"));
        assert_int_equal(kd_params_write(f->params, p, v, info->numel), KD_OK);
        kd_free(v);
    }
    assert_int_equal(kd_params_changed(f->params), KD_OK);
}

/* Sample 0: body 1 is empty.  Sample 1: body 0 is empty in frames 40 to 63. */
static void edit(float *x)
{
    for (int i = 0; i < 3 * FRAMES * KD_JOINTS; i++) {
        const int frame = i / KD_JOINTS % FRAMES;
        x[i * BODIES + 1] = 0.0f;
        if (frame >= 40) {
            x[STREAM + i * BODIES] = 0.0f;
        }
    }
}

static void write_as(kd_program *p, const char *name, kd_dtype dtype, const float *x, size_t n)
{
    if (dtype != KD_F64) {
        assert_int_equal(kd_program_write(p, name, x, n * sizeof *x), KD_OK);
        return;
    }
    double *wide = kd_alloc(n * sizeof *wide);
    for (size_t i = 0; i < n; i++) {
        wide[i] = (double)x[i];
    }
    assert_int_equal(kd_program_write(p, name, wide, n * sizeof *wide), KD_OK);
    kd_free(wide);
}

static void feed(const golden *f, kd_program *p, int batch, bool training)
{
    static const int labels[SAMPLES] = {7, 42, 0, 59};
    const kd_json *in = kd_json_get(f->manifest, "input");
    const kd_student_info *s = kd_student_find(f->student);
    float *x = kd_alloc(SAMPLES * STREAM * sizeof *x);
    for (int i = 0; i < s->n_streams; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s%s", text(in, "name_prefix"), s->streams[i]);
        generate(x, SAMPLES * STREAM, name_crc(name), 0,
                 number(kd_json_get(in, "ks"), s->streams[i]));
        edit(x);
        assert_int_equal(kd_crc32(x, SAMPLES * STREAM * sizeof *x),
                         (uint32_t)number(kd_json_get(in, "data_crc32"), s->streams[i]));
        write_as(p, s->streams[i], f->dtype, x, (size_t)(batch * STREAM));
    }
    if (training) {
        memset(x, 0, SAMPLES * CLASSES * sizeof *x);
        for (int i = 0; i < batch; i++) {
            x[i * CLASSES + labels[i]] = 1.0f;
        }
        write_as(p, "target", f->dtype, x, (size_t)(batch * CLASSES));
    }
    kd_free(x);
}

static kd_program *compile(const golden *f, bool training, int batch, bool recompute)
{
    kd_err err = {0};
    kd_val loss = KD_NONE;
    kd_program *p = NULL;
    kd_graph *g = make_graph(f, training, batch, &loss);
    const kd_compile_opts o = {.loss = loss, .poison = true, .recompute = recompute};
    if (kd_program_compile(g, f->be, &o, &p, &err) != KD_OK) {
        fail_msg("%s: %s", f->student, err.msg);
    }
    return p;
}

static const float *tensor(const golden *f, const char *name, size_t *n)
{
    const kd_st_entry *e = kd_st_find(f->file, name);
    if (e == NULL) {
        fail_msg("%s: golden has no %s", f->folder, name);
        return NULL;
    }
    *n = e->count;
    return (const float *)(const void *)e->data;
}

static void compare(const golden *f, const char *what, const float *got, const float *want,
                    size_t n, double tol)
{
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double err = fabs((double)got[i] - (double)want[i]);
        if (!(err <= tol)) {
            fail_msg("%s %s[%zu]: %.8g, expected %.8g (tolerance %.2g)", f->student, what, i,
                     (double)got[i], (double)want[i], tol);
        }
        worst = fmax(worst, err);
    }
    print_message("  %-14s %-12s largest error %.2e of %.0e\n", f->student, what, worst, tol);
}

static void check_output(const golden *f, kd_program *p, const char *output, const char *key,
                         double tol)
{
    size_t n = 0;
    const float *want = tensor(f, key, &n);
    float *got = kd_alloc(n * sizeof *got);
    assert_int_equal(kd_program_read_f32(p, output, got, (int64_t)n), KD_OK);
    compare(f, key, got, want, n, tol);
    kd_free(got);
}

static bool listed(const kd_json *names, const char *name)
{
    for (size_t i = 0; i < kd_json_count(names); i++) {
        const char *s = NULL;
        if (kd_json_as_str(kd_json_at(names, i), &s, NULL) == KD_OK && strcmp(s, name) == 0) {
            return true;
        }
    }
    return false;
}

/* One parameter's gradient: length, sum and samples, relative to its length (or to the whole gradient's when its exact
 * value is zero). */
static double gradient_error(const golden *f, const kd_json *order, size_t i, double rel,
                             double global)
{
    const char *name = NULL;
    size_t n = 0;
    assert_int_equal(kd_json_as_str(kd_json_at(order, i), &name, NULL), KD_OK);
    const int p = kd_params_find(f->params, name);
    assert_true(p >= 0);
    const int64_t numel = kd_params_at(f->params, p)->numel;
    float *g = kd_alloc((size_t)numel * sizeof *g);
    assert_int_equal(kd_params_read_grad(f->params, p, g, numel), KD_OK);
    double square = 0.0, sum = 0.0;
    for (int64_t j = 0; j < numel; j++) {
        square += (double)g[j] * (double)g[j];
        sum += (double)g[j];
    }
    const double length = (double)tensor(f, "grad_l2.ref64", &n)[i];
    const bool zero = listed(kd_json_get(f->manifest, "analytically_zero_grad_params"), name);
    const double tol = zero ? 1e-5 * global : rel * length;
    double worst = fabs(sqrt(square) - length);
    worst =
        fmax(worst, fabs(sum - (double)tensor(f, "grad_sum.ref64", &n)[i]) / sqrt((double)numel));
    for (int64_t j = 0; j < 16; j++) {
        char key[256];
        (void)snprintf(key, sizeof key, "idx:%s", name);
        const uint32_t at = (name_crc(key) + (uint32_t)j * 2654435761u) % (uint32_t)numel;
        const float want = tensor(f, "grad_samples.ref64", &n)[i * 16 + (size_t)j];
        worst = fmax(worst, fabs((double)g[at] - (double)want));
    }
    kd_free(g);
    if (!(worst <= tol)) {
        fail_msg("%s gradient of %s: off by %.3g, allowed %.3g (length %.6g)", f->student, name,
                 worst, tol, length);
    }
    return zero ? 0.0 : worst / length;
}

static void check_gradients(const golden *f, double rel)
{
    double global = 0.0, worst = 0.0;
    const kd_json *order = kd_json_get(f->manifest, "param_order");
    assert_int_equal(kd_json_get_f64(f->manifest, "grad_global_l2", &global, NULL), KD_OK);
    for (size_t i = 0; i < kd_json_count(order); i++) {
        worst = fmax(worst, gradient_error(f, order, i, rel, global));
    }
    print_message("  %-14s %-12s largest error %.2e of %.0e, %zu tensors\n", f->student,
                  "gradients", worst, rel, kd_json_count(order));
}

static void check_running_statistics(const golden *f, double rel)
{
    for (int p = 0; p < kd_params_count(f->params); p++) {
        const kd_param_info *info = kd_params_at(f->params, p);
        char key[256];
        size_t n = 0;
        if (!info->buffer) {
            continue;
        }
        (void)snprintf(key, sizeof key, "bn_after.%s", info->name);
        const float *want = tensor(f, key, &n);
        assert_int_equal((int)n, (int)info->numel);
        float *got = kd_alloc(n * sizeof *got);
        assert_int_equal(kd_params_read(f->params, p, got, info->numel), KD_OK);
        for (size_t i = 0; i < n; i++) {
            const double tol = rel * (1e-2 + fabs((double)want[i]));
            if (!(fabs((double)got[i] - (double)want[i]) <= tol)) {
                fail_msg("%s %s[%zu]: %.8g, expected %.8g", f->student, info->name, i,
                         (double)got[i], (double)want[i]);
            }
        }
        kd_free(got);
    }
}

static void run_golden(const char *student, const char *folder, bool wide, bool recompute)
{
    golden f = {.student = student, .folder = folder};
    const double tol = wide ? 2e-6 : 2e-5, rel = wide ? 2e-5 : 2e-4;
    open_golden(&f, wide);
    fill_params(&f);
    kd_program *eval = compile(&f, false, 2, false);
    feed(&f, eval, 2, false);
    assert_int_equal(kd_program_run(eval, NULL), KD_OK);
    check_output(&f, eval, "logits", "logits_eval.ref64", tol);
    kd_program_free(eval);
    kd_program *train = compile(&f, true, f.batch, recompute);
    feed(&f, train, f.batch, true);
    assert_int_equal(kd_params_zero_grad(f.params), KD_OK);
    assert_int_equal(kd_program_run(train, NULL), KD_OK);
    check_output(&f, train, "logits", "logits_train.ref64", 2.0 * tol);
    size_t n = 0;
    float loss = NAN;
    assert_int_equal(kd_program_read_f32(train, "loss", &loss, 1), KD_OK);
    compare(&f, "loss", &loss, tensor(&f, "loss.ref64", &n), 1, tol);
    check_gradients(&f, rel);
    check_running_statistics(&f, wide ? 2e-5 : 5e-5); /* golden values are f32 themselves */
    kd_program_free(train);
    close_golden(&f);
}

static void last_v1_base(void **state)
{
    (void)state;
    run_golden("last-v1-base", "last_v1_base", false, false);
}

static void last_v1_small_f64(void **state)
{
    (void)state;
    run_golden("last-v1-small", "last_v1_small", true, true);
}

static void last_e3_nano(void **state)
{
    (void)state;
    run_golden("last-e3-nano", "last_e_v3_nano", false, false);
}

static void last_e3_small(void **state)
{
    (void)state;
    run_golden("last-e3-small", "last_e_v3_small", false, true);
}

static void sfz_nano(void **state)
{
    (void)state;
    run_golden("sfz-nano", "shiftfuse_zero_nano", false, false);
}

static void nano_models_f64(void **state)
{
    (void)state;
    run_golden("sfz-nano", "shiftfuse_zero_nano", true, true);
    run_golden("last-e3-nano", "last_e_v3_nano", true, true);
}

/* The same models in bf16: bf16 keeps 8 bits, so what is checked is that nothing is wired to the wrong dtype. */
static void bf16_programs(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"last-v1-small", "last_v1_small"},
                                           {"last-e3-nano", "last_e_v3_nano"},
                                           {"sfz-nano", "shiftfuse_zero_nano"}};
    for (size_t k = 0; k < KD_COUNTOF(names); k++) {
        golden f = {.student = names[k][0], .folder = names[k][1]};
        kd_err err = {0};
        double absmax = 0.0, global = 0.0, square = 0.0;
        open_golden(&f, false);
        fill_params(&f);
        f.dtype = KD_BF16;
        assert_int_equal(kd_params_alloc(f.params, f.be, f.dtype, true, &err), KD_OK);
        assert_int_equal(kd_params_changed(f.params), KD_OK);
        assert_int_equal(kd_json_get_f64(f.manifest, "logits_eval_absmax", &absmax, NULL), KD_OK);
        assert_int_equal(kd_json_get_f64(f.manifest, "grad_global_l2", &global, NULL), KD_OK);
        kd_program *eval = compile(&f, false, 2, false);
        feed(&f, eval, 2, false);
        assert_int_equal(kd_program_run(eval, NULL), KD_OK);
        check_output(&f, eval, "logits", "logits_eval.ref64", 0.1 * absmax);
        kd_program_free(eval);
        kd_program *train = compile(&f, true, f.batch, false);
        feed(&f, train, f.batch, true);
        assert_int_equal(kd_params_zero_grad(f.params), KD_OK);
        assert_int_equal(kd_program_run(train, NULL), KD_OK);
        const float *grad = kd_params_grad_slab(f.params);
        for (int64_t i = 0; i < kd_params_slab_numel(f.params); i++) {
            square += (double)grad[i] * (double)grad[i];
        }
        print_message("  %-14s gradient length %.4g, reference %.4g\n", f.student, sqrt(square),
                      global);
        assert_true(fabs(sqrt(square) / global - 1.0) <= 0.2);
        kd_program_free(train);
        close_golden(&f);
    }
}

/* ---- graphs and tables ----------------------------------------------------------------------------------------------- */

static void check_table(const kd_st_file *f, const char *name, const void *mine, size_t bytes,
                        double tol)
{
    const kd_st_entry *e = kd_st_find(f, name);
    assert_non_null(e);
    assert_int_equal(e->bytes, bytes);
    if (e->dtype == KD_ST_I32) {
        assert_memory_equal(e->data, mine, bytes);
        return;
    }
    const float *a = (const float *)(const void *)e->data, *b = mine;
    for (size_t i = 0; i < bytes / sizeof *a; i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= tol)) {
            fail_msg("%s[%zu]: %.9g, expected %.9g", name, i, (double)b[i], (double)a[i]);
        }
    }
}

static void graph_matrices(void **state)
{
    (void)state;
    static float a[KD_MAX_PARTS * KD_ADJ];
    const size_t one = KD_ADJ * sizeof *a;
    kd_st_file *f = NULL;
    assert_int_equal(kd_st_open(KD_GOLDEN_DIR "/last/graphs.safetensors", &f, NULL), KD_OK);
    kd_skel_semantic(a);
    check_table(f, "semantic_raw", a, 3 * one, 0.0);
    kd_skel_norm_sym_full(a, 3);
    check_table(f, "semantic_sym_full", a, 3 * one, 1e-7);
    kd_skel_spatial(1, a);
    check_table(f, "spatial_hop1_raw", a, 3 * one, 0.0);
    kd_skel_norm_sym_full(a, 3);
    check_table(f, "spatial_hop1_sym_full", a, 3 * one, 1e-7);
    kd_skel_spatial(1, a);
    kd_skel_norm_columns(a, 3);
    check_table(f, "spatial_hop1_per_partition_digraph", a, 3 * one, 1e-7);
    kd_skel_spatial(1, a);
    kd_skel_norm_columns_of_sum(a, 3);
    check_table(f, "spatial_hop1_digraph_then_partition", a, 3 * one, 1e-7);
    kd_skel_spatial(2, a);
    check_table(f, "spatial_hop2_raw", a, 5 * one, 0.0);
    kd_skel_norm_sym_full(a, 5);
    check_table(f, "spatial_hop2_sym_full", a, 5 * one, 1e-7);
    int32_t parts[KD_JOINTS];
    kd_skel_parts(false, parts);
    check_table(f, "part_joints", parts, sizeof parts, 0.0);
    double sum = 0.0;
    kd_skel_v1_physical(a);
    for (int i = 0; i < KD_ADJ; i++) {
        sum += (double)a[i];
    }
    assert_true(fabs(sum - 24.680258) <= 1e-5);
    kd_st_close(f);
}

static void shift_tables(void **state)
{
    (void)state;
    enum { MOST = 192 };
    static int32_t brasp[MOST * KD_JOINTS], sgp[MOST * KD_JOINTS], both[MOST * KD_JOINTS];
    static const struct {
        int channels;
        uint32_t brasp, sgp; /* CRC-32 of the reference's tables */
    } known[] = {{24, 0x12e7f950, 0xbc5ce8e7},  {32, 0x81af020c, 0x96588446},
                 {40, 0xfe579af0, 0xb0607e14},  {64, 0x0680ac52, 0x04ed480d},
                 {80, 0x2d9a13ff, 0xe96c1b79},  {96, 0x0c319945, 0xff54d5dc},
                 {128, 0x931c52ab, 0x0b1f28c2}, {144, 0x8a7a3335, 0xe791200d},
                 {160, 0x5d34a523, 0x5c83e3f0}, {192, 0x8afd0322, 0xb0d5e9c8}};
    for (size_t k = 0; k < KD_COUNTOF(known); k++) {
        const int c = known[k].channels;
        const size_t bytes = (size_t)(c * KD_JOINTS) * sizeof *brasp;
        kd_skel_brasp(c, brasp);
        kd_skel_sgp(c, sgp);
        kd_skel_brasp_sgp(c, both);
        assert_int_equal(kd_crc32(brasp, bytes), known[k].brasp);
        assert_int_equal(kd_crc32(sgp, bytes), known[k].sgp);
        for (int i = 0; i < c * KD_JOINTS; i++) {
            assert_int_equal(both[i], brasp[i / KD_JOINTS * KD_JOINTS + sgp[i]]);
        }
    }
}

/* ---- the registry ------------------------------------------------------------------------------------------------------- */

/* Parameters of a student, declared by building it. */
static kd_params *declare(const kd_student_cfg *cfg, kd_status expect, const char *words)
{
    kd_params *p = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32, .training = true});
    kd_val in[KD_STUDENT_MAX_STREAMS] = {{0}};
    for (int i = 0; i < cfg->model->n_streams; i++) {
        in[i] =
            kd_input(g, cfg->model->streams[i], KD_F32, kd_shape5(2, 3, FRAMES, KD_JOINTS, BODIES));
    }
    const kd_student_out out = kd_student_build(g, cfg, in);
    const kd_err *e = kd_graph_error(g);
    assert_int_equal(e != NULL ? e->code : KD_OK, expect);
    if (expect != KD_OK) {
        assert_int_equal(out.logits.id, 0);
        assert_non_null(strstr(e->msg, words));
    } else {
        const kd_spec z = kd_spec_of(g, out.logits), v = kd_spec_of(g, out.feature);
        assert_int_equal((int)z.shape.dim[0], 2);
        assert_int_equal((int)z.shape.dim[1], cfg->classes);
        assert_int_equal((int)v.shape.dim[0], 2);
        assert_int_equal((int)v.shape.dim[1], cfg->model->feature_dim);
    }
    kd_graph_free(g);
    return p;
}

static void registry(void **state)
{
    (void)state;
    assert_null(kd_student_find("last"));
    assert_null(kd_student_at(kd_student_count()));
    for (int i = 0; i < kd_student_count(); i++) {
        const kd_student_info *s = kd_student_at(i);
        assert_ptr_equal(kd_student_find(s->name), s);
        const kd_student_cfg cfg = config_of(s->name);
        kd_params *p = declare(&cfg, KD_OK, "");
        assert_int_equal((int)kd_params_numel(p), (int)s->params);
        kd_params_free(p);
    }
    kd_student_cfg bad = config_of("sfz-nano");
    bad.dropout = 1.5f;
    kd_params_free(declare(&bad, KD_E_CONFIG, "dropout 1.5"));
    bad = config_of("last-e3-nano");
    bad.bodies = 1;
    kd_params_free(declare(&bad, KD_E_SHAPE, "stream joint"));
    bad = config_of("sfz-nano");
    bad.single_body = true;
    kd_params_free(declare(&bad, KD_OK, ""));
}

static bool decays(kd_params *p, const char *name)
{
    const int i = kd_params_find(p, name);
    assert_true(i >= 0);
    return kd_params_at(p, i)->decay;
}

static void decay_groups(void **state)
{
    (void)state;
    kd_student_cfg cfg = config_of("sfz-nano");
    kd_params *p = declare(&cfg, KD_OK, "");
    kd_student_param_groups(p, cfg.model, true);
    assert_true(decays(p, "shared_a_learned.0"));
    assert_true(decays(p, "stages.0.0.gcn_convs.0.weight"));
    assert_false(decays(p, "stages.0.0.residual.1.weight"));
    assert_false(decays(p, "stages.2.0.tla.gate"));
    assert_false(decays(p, "stages.1.0.je.embed.weight"));
    kd_student_param_groups(p, cfg.model, false);
    assert_false(decays(p, "shared_a_learned.0"));
    assert_true(decays(p, "stages.0.0.gcn_convs.0.weight"));
    kd_params_free(p);
    cfg = config_of("last-v1-small");
    p = declare(&cfg, KD_OK, "");
    kd_student_param_groups(p, cfg.model, true);
    assert_true(decays(
        p, "stem.1.weight")); /* the reference goes by name, and this one has no "bn" in it */
    assert_false(decays(p, "blocks.blocks.0.agcn.A_learned"));
    kd_student_param_groups(p, cfg.model, false);
    assert_false(decays(p, "stem.1.weight"));
    kd_params_free(p);
}

typedef struct seen {
    int n;
    double sum;
    int64_t indices;
} seen;

static kd_status count_constant(void *user, const char *name, kd_dtype dtype, kd_shape shape,
                                const void *data)
{
    seen *s = user;
    s->n++;
    for (int64_t i = 0; i < kd_shape_numel(&shape); i++) {
        if (dtype == KD_I64) {
            s->indices += ((const int64_t *)data)[i];
        } else {
            s->sum += (double)((const float *)data)[i];
        }
    }
    return strcmp(name, "stages.2.0._A_fixed_2") == 0 ? KD_E_CANCELLED : KD_OK;
}

static void checkpoint_constants(void **state)
{
    (void)state;
    kd_student_cfg cfg = config_of("last-v1-base");
    seen s = {0};
    assert_int_equal(kd_student_constants(&cfg, count_constant, &s), KD_OK);
    assert_int_equal(s.n, 4);
    assert_true(fabs(s.sum - 4 * 24.680258) <= 1e-4);
    cfg = config_of("last-e3-nano");
    s = (seen){0};
    assert_int_equal(kd_student_constants(&cfg, count_constant, &s), KD_OK);
    assert_int_equal(s.n, 4);
    cfg = config_of("sfz-nano");
    s = (seen){0};
    assert_int_equal(kd_student_constants(&cfg, count_constant, &s), KD_E_CANCELLED);
    assert_int_equal(s.n, 3 + 3 * 5);
    assert_true(fabs(s.sum - (19.1044 + 1.5926 + 127 + 3 * 127)) <= 1e-3);
    assert_true(s.indices > 0);
    char buf[64];
    assert_string_equal(kd_student_canonical(cfg.model, "stages.1.0.A_learned.2", buf, sizeof buf),
                        "shared_a_learned.2");
    assert_string_equal(kd_student_canonical(cfg.model, "stages.1.0.A_learned.9", buf, sizeof buf),
                        "stages.1.0.A_learned.9");
    assert_string_equal(kd_student_canonical(cfg.model, "classifier.1.weight", buf, sizeof buf),
                        "classifier.1.weight");
}

/* Initial values: gates, identity + noise, fan-out rule, and the same noise for the same seed. */
static void initial_values(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    kd_err err = {0};
    assert_int_equal(kd_backend_cpu_open(1, &be, &err), KD_OK);
    float first[KD_ADJ], again[KD_ADJ];
    for (int pass = 0; pass < 3; pass++) {
        kd_student_cfg cfg = config_of("last-v1-small");
        cfg.seed = pass < 2 ? 5 : 6;
        kd_params *p = declare(&cfg, KD_OK, "");
        assert_int_equal(kd_params_alloc(p, be, KD_F32, false, &err), KD_OK);
        assert_int_equal(kd_params_init(p, 1, &err), KD_OK);
        const int i = kd_params_find(p, "blocks.blocks.1.agcn.A_learned");
        assert_int_equal(kd_params_read(p, i, pass == 0 ? first : again, KD_ADJ), KD_OK);
        kd_params_free(p);
        assert_int_equal(pass == 0 || memcmp(first, again, sizeof first) == 0, pass < 2);
    }
    double noise = 0.0;
    for (int i = 0; i < KD_ADJ; i++) {
        const double d = (double)first[i] - (i % (KD_JOINTS + 1) == 0 ? 1.0 : 0.0);
        noise += d * d / KD_ADJ;
    }
    assert_true(sqrt(noise) > 0.008 && sqrt(noise) < 0.012);
    kd_student_cfg cfg = config_of("last-e3-nano");
    kd_params *p = declare(&cfg, KD_OK, "");
    assert_int_equal(kd_params_alloc(p, be, KD_F32, false, &err), KD_OK);
    assert_int_equal(kd_params_init(p, 1, &err), KD_OK);
    static float w[64 * 2 * 5];
    assert_int_equal(
        kd_params_read(p, kd_params_find(p, "stages.2.0.tcns.0.depth_conv.0.weight"), w, 128 * 5),
        KD_OK);
    double square = 0.0;
    for (int i = 0; i < 128 * 5; i++) {
        square += (double)w[i] * (double)w[i] / (128 * 5);
    }
    assert_true(fabs(square / (2.0 / (128 * 5)) - 1.0) <
                0.2); /* fan_out = 128 channels x 5, not divided by groups */
    kd_params_free(p);
    kd_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph_matrices),
        cmocka_unit_test(shift_tables),
        cmocka_unit_test(registry),
        cmocka_unit_test(decay_groups),
        cmocka_unit_test(checkpoint_constants),
        cmocka_unit_test(initial_values),
        cmocka_unit_test(last_v1_base),
        cmocka_unit_test(last_e3_nano),
        cmocka_unit_test(sfz_nano),
        cmocka_unit_test(last_e3_small),
        cmocka_unit_test(nano_models_f64),
        cmocka_unit_test(last_v1_small_f64),
        cmocka_unit_test(bf16_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
