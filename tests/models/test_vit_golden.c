/* The teacher's forward pass in f64 against the reference's f64 run: what f32 roundings hide from `kd parity` shows
 * here. Last, the epsilons of Hugging Face's layer norms, which move a logit by less than f32 parity may tell. */
#include "formats/base/json.h"
#include "tests/kernels/f64_backend.h"
#include "tools/parity/parity_net.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

enum { MOST = 4096 };

static void must(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

static kd_json *load(const char *fixture, const char *file)
{
    char path[512];
    kd_json *doc = NULL;
    kd_err err = {0};
    (void)snprintf(path, sizeof path, "%s/parity/%s/%s", KD_GOLDEN_DIR, fixture, file);
    must(kd_json_load(path, &doc, &err), &err);
    return doc;
}

static kd_graph *graph_of(const kd_vit_cfg *c, int batch, kd_params *params)
{
    const kd_graph_opts go = {.params = params, .dtype = KD_F64};
    kd_graph *g = kd_graph_create(&go);
    assert_non_null(g);
    const kd_val clip = kd_input(g, "input", KD_F64, kd_shape5(batch, 3, c->frames, c->img_size, c->img_size));
    (void)kd_vit_build(g, c, &(kd_vit_input){.clip = clip});
    return g;
}

static void fill_params(kd_params *params)
{
    for (int i = 0; i < kd_params_count(params); i++) {
        const kd_param_info *e = kd_params_at(params, i);
        float scale, offset;
        float *v = kd_alloc((size_t)e->numel * sizeof *v);
        assert_non_null(v);
        kd_parity_net_rule(e->name, e->shape.rank > 0 ? e->numel / e->shape.dim[0] : 1, &scale, &offset);
        kd_parity_fill(e->name, scale, offset, v, (size_t)e->numel);
        assert_int_equal(kd_params_write(params, i, v, e->numel), KD_OK);
        kd_free(v);
    }
    assert_int_equal(kd_params_changed(params), KD_OK);
}

/* Logits of the fixture's input with the fixture's weights: (batch, classes). */
static void logits_of(const kd_vit_cfg *c, int batch, double *out)
{
    const size_t floats = (size_t)batch * 3 * (size_t)c->frames * (size_t)c->img_size * (size_t)c->img_size;
    const size_t n = (size_t)batch * (size_t)c->classes;
    kd_backend *be = kd_f64_backend_open();
    kd_params *params = kd_params_create(KD_F64);
    kd_program *prog = NULL;
    const kd_compile_opts co = {0};
    kd_err err = {0};
    assert_non_null(be);
    kd_graph_free(graph_of(c, batch, params));
    must(kd_params_alloc(params, be, KD_F64, false, &err), &err);
    fill_params(params);
    must(kd_program_compile(graph_of(c, batch, params), be, &co, &prog, &err), &err);
    float *clip = kd_alloc(floats * sizeof *clip);
    double *wide = kd_alloc(floats * sizeof *wide);
    assert_true(clip != NULL && wide != NULL && n <= MOST);
    kd_parity_fill("input", 2.0f, 0.0f, clip, floats);
    for (size_t i = 0; i < floats; i++) {
        wide[i] = (double)clip[i];
    }
    assert_int_equal(kd_program_write(prog, "input", wide, floats * sizeof *wide), KD_OK);
    assert_int_equal(kd_program_run(prog, NULL), KD_OK);
    const kd_tensor t = kd_program_tensor(prog, "logits");
    assert_int_equal(kd_shape_numel(&t.shape), n);
    memcpy(out, t.data, n * sizeof *out);
    kd_free(clip);
    kd_free(wide);
    kd_program_free(prog);
    kd_params_free(params);
    kd_backend_close(be);
}

static double distance(const double *a, const double *b, size_t n)
{
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs(a[i] - b[i]);
        worst = d <= worst ? worst : d;
    }
    return worst;
}

static int config_of(const kd_json *manifest, kd_vit_cfg *c)
{
    int64_t batch = 0;
    kd_err err = {0};
    must(kd_parity_net_cfg(manifest, c, &err), &err);
    must(kd_json_get_i64(manifest, "batch", &batch, &err), &err);
    c->taps = false;
    return (int)batch;
}

static void reference_in_f64(void **state)
{
    static const char *const fixtures[] = {"tiny_pool_init0", "tiny_cls_init0", "tiny_cos_init0", "tiny_giantlike"};
    static double got[MOST];
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(fixtures); i++) {
        kd_json *manifest = load(fixtures[i], "manifest.json");
        char path[512];
        kd_vit_cfg c;
        kd_st_file *f = NULL;
        double *want = NULL;
        kd_err err = {0};
        const int batch = config_of(manifest, &c);
        const size_t n = (size_t)batch * (size_t)c.classes;
        (void)snprintf(path, sizeof path, "%s/parity/%s/fixture.safetensors", KD_GOLDEN_DIR, fixtures[i]);
        must(kd_st_open(path, &f, &err), &err);
        must(kd_parity_tensor(f, "logits_f64", n, &want, &err), &err);
        logits_of(&c, batch, got);
        const double error = distance(got, want, n);
        print_message("%s: %.2g\n", fixtures[i], error);
        assert_true(error <= 1e-12);
        kd_free(want);
        kd_st_close(f);
        kd_json_free(manifest);
    }
}

static void hugging_face_epsilons(void **state)
{
    static double got[MOST], plain[MOST], want[MOST];
    (void)state;
    kd_json *manifest = load("tiny_pool_init0", "manifest.json"), *hf = load("tiny_pool_init0", "hf_eps_logits.json");
    kd_vit_cfg c;
    const int batch = config_of(manifest, &c);
    const size_t k = (size_t)c.classes, n = (size_t)batch * k;
    const kd_json *rows = kd_json_get(hf, "logits_f64");
    assert_int_equal(kd_json_count(rows), batch);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(kd_json_as_f64(kd_json_at(kd_json_at(rows, i / k), i % k), &want[i], NULL), KD_OK);
    }
    logits_of(&c, batch, plain);
    c.eps = 1e-12f;
    c.fc_norm_eps = 1e-5f;
    logits_of(&c, batch, got);
    const double error = distance(got, want, n), moved = distance(plain, want, n);
    print_message("error %.2g; the official epsilons are %.2g away\n", error, moved);
    assert_true(error <= 1e-12);
    assert_true(moved > 1e-6);
    kd_json_free(manifest);
    kd_json_free(hf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reference_in_f64), cmocka_unit_test(hugging_face_epsilons)};
    return cmocka_run_group_tests_name("vit_golden", tests, NULL, NULL);
}
