/* The losses against golden values and gradients (golden/losses): f64 to rounding, f32 as close as the manifest's own
 * f32 run.  Everything goes through graphs: op, gradient rule, kernels. */
#include "formats/base/json.h"
#include "formats/weights/safetensors.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_program.h"
#include "tests/kernels/f64_backend.h"
#include "tools/parity/parity_gen.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* clang-format off */
#include <cmocka.h>
/* clang-format on */

enum { B = 6, K = 11, S = 8, P = 12 };

static kd_json *manifest;
static kd_st_file *golden;

static uint32_t u24(const char *name, uint32_t i)
{
    return kd_parity_gen_u24(kd_crc32(name, strlen(name)), i);
}

static void draw(const char *name, float scale, int n, double *out)
{
    const uint32_t crc = kd_crc32(name, strlen(name));
    for (int i = 0; i < n; i++) {
        out[i] = (double)(kd_parity_gen_unit(crc, (uint32_t)i) * scale);
    }
}

typedef struct data {
    double z[B * K], t[B * K], target[B * K], s[B * S], f[B * P], w[P * S];
} data;

static data make_data(double smoothing)
{
    static data d;
    draw("student.logits", 3.0f, B * K, d.z);
    draw("teacher.logits", 5.0f, B * K, d.t);
    draw("student.features", 1.0f, B * S, d.s);
    draw("teacher.features", 1.0f, B * P, d.f);
    draw("projector.weight", 0.5f, P * S, d.w);
    for (int b = 0; b < B; b++) {
        const int label = (int)(u24("label", (uint32_t)b) % K);
        for (int k = 0; k < K; k++) {
            d.target[b * K + k] = smoothing / K + (k == label ? 1.0 - smoothing : 0.0);
        }
    }
    return d;
}

typedef struct loss_case {
    const char *name;
    double smoothing;
    bool ce, kl, feature;
    float temperature;
    kd_feature_kind kind;
} loss_case;

static const loss_case cases[] = {
    {"ce", 0.0, true, false, false, 1.0f, KD_FEATURE_MSE},
    {"ce_smooth_0.1", 0.1, true, false, false, 1.0f, KD_FEATURE_MSE},
    {"kl_T4", 0.0, false, true, false, 4.0f, KD_FEATURE_MSE},
    {"kl_T1", 0.0, false, true, false, 1.0f, KD_FEATURE_MSE},
    {"ce_kd_w0.5_T4", 0.0, true, true, false, 4.0f, KD_FEATURE_MSE},
    {"feature_mse", 0.0, false, false, true, 1.0f, KD_FEATURE_MSE},
    {"feature_cosine", 0.0, false, false, true, 1.0f, KD_FEATURE_COSINE},
};

static kd_val build_loss(kd_graph *g, const loss_case *c, kd_val *wanted)
{
    const kd_dtype t = kd_graph_dtype(g);
    if (c->feature) {
        const kd_linear_attr plain = {.stat_out = 1};
        const kd_feature_loss_attr kind = {(int32_t)c->kind};
        const kd_init zero = {.kind = KD_INIT_CONST};
        *wanted = kd_input(g, "s", t, kd_shape2(B, S));
        const kd_val w = kd_param(g, "projector", kd_shape2(P, S), zero, KD_PARAM_MATRIX);
        const kd_val f = kd_input(g, "f", t, kd_shape2(B, P));
        return kd_node3(g, KD_OP_FEATURE_LOSS, &kind, kd_node2(g, KD_OP_LINEAR, &plain, *wanted, w), f, KD_NONE);
    }
    *wanted = kd_input(g, "z", t, kd_shape2(B, K));
    const kd_class_loss_attr a = {c->temperature, 0};
    const kd_val target = c->ce ? kd_input(g, "target", t, kd_shape2(B, K)) : KD_NONE;
    const kd_val teacher = c->kl ? kd_input(g, "t", t, kd_shape2(B, K)) : KD_NONE;
    const kd_val in[5] = {*wanted, target, KD_NONE, teacher, KD_NONE};
    kd_val out[2];
    (void)kd_node(g, KD_OP_CLASS_LOSS, &a, in, 5, out);
    if (c->ce && c->kl) {
        const kd_weighted_sum_attr half = {{0.5f, 0.5f}};
        return kd_node2(g, KD_OP_WEIGHTED_SUM, &half, out[0], out[1]);
    }
    return out[c->ce ? 0 : 1];
}

static void put(void *dst, kd_dtype t, const double *src, int n)
{
    for (int i = 0; dst != NULL && i < n; i++) {
        if (t == KD_F64) {
            ((double *)dst)[i] = src[i];
        } else {
            ((float *)dst)[i] = (float)src[i];
        }
    }
}

static double at(const void *p, kd_dtype t, int i)
{
    return t == KD_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static void compare(const char *name, const char *suffix, const void *got, kd_dtype t, int n, double tol)
{
    char full[64];
    const kd_st_entry *e = NULL;
    (void)snprintf(full, sizeof full, "%s.%s", name, suffix);
    assert_int_equal(kd_st_need(golden, full, KD_ST_F64, -1, NULL, &e, NULL), KD_OK);
    assert_int_equal(e->count, n);
    for (int i = 0; i < n; i++) {
        double want;
        memcpy(&want, e->data + (size_t)i * sizeof want, sizeof want);
        if (!(fabs(at(got, t, i) - want) <= tol)) {
            print_error("%s[%d] is %.17g, golden %.17g, allowed %.2g (%s)\n", full, i, at(got, t, i), want, tol,
                        kd_dtype_name(t));
            fail();
        }
    }
}

static void run_case(const loss_case *c, kd_backend *be, kd_dtype t)
{
    kd_err err = {0};
    const data d = make_data(c->smoothing);
    kd_params *params = kd_params_create(t);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = params, .dtype = t, .training = true});
    kd_val wanted;
    kd_program *p = NULL;
    kd_compile_opts opts = {.grad_inputs = &wanted, .n_grad_inputs = 1};
    opts.loss = build_loss(g, c, &wanted);
    kd_output(g, "loss", opts.loss);
    assert_int_equal(kd_params_alloc(params, be, t, true, &err), KD_OK);
    if (kd_program_compile(g, be, &opts, &p, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    put(kd_program_tensor(p, "z").data, t, d.z, B * K);
    put(kd_program_tensor(p, "t").data, t, d.t, B * K);
    put(kd_program_tensor(p, "target").data, t, d.target, B * K);
    put(kd_program_tensor(p, "s").data, t, d.s, B * S);
    put(kd_program_tensor(p, "f").data, t, d.f, B * P);
    if (c->feature) {
        put(kd_params_value(params, 0), t, d.w, P * S);
        assert_int_equal(kd_params_changed(params), KD_OK);
    }
    assert_int_equal(kd_params_zero_grad(params), KD_OK);
    assert_int_equal(kd_program_run(p, NULL), KD_OK);

    const kd_json *losses, *m;
    double value, value_f32, grad_f32;
    assert_int_equal(kd_json_get_object(manifest, "losses", &losses, &err), KD_OK);
    assert_int_equal(kd_json_get_object(losses, c->name, &m, &err), KD_OK);
    assert_int_equal(kd_json_get_f64(m, "value", &value, &err), KD_OK);
    assert_int_equal(kd_json_get_f64(m, "value_f32", &value_f32, &err), KD_OK);
    assert_int_equal(kd_json_get_f64(m, "grad_f32_maxabsdiff", &grad_f32, &err), KD_OK);
    const double got = at(kd_program_tensor(p, "loss").data, t, 0);
    const double tol = t == KD_F64 ? 1e-13 * fabs(value) : 4.0 * fabs(value_f32 - value) + 4.0 * 0x1p-24 * fabs(value);
    if (!(fabs(got - value) <= tol)) {
        fail_msg("%s is %.17g, golden %.17g, allowed %.2g (%s)", c->name, got, value, tol, kd_dtype_name(t));
    }
    const double grad_tol = t == KD_F64 ? 1e-14 : 4.0 * grad_f32;
    const char *name = c->feature ? "grad:s" : "grad:z";
    compare(c->name, "grad", kd_program_tensor(p, name).data, t, c->feature ? B * S : B * K, grad_tol);
    if (c->feature) {
        compare(c->name, "grad_projector", kd_params_grad(params, 0), t, P * S, grad_tol);
    }
    kd_program_free(p);
    kd_params_free(params);
}

static void all_cases(kd_backend *be, kd_dtype t)
{
    assert_non_null(be);
    for (size_t i = 0; i < KD_COUNTOF(cases); i++) {
        run_case(&cases[i], be, t);
    }
    kd_backend_close(be);
}

static void losses_in_f64(void **unused)
{
    (void)unused;
    all_cases(kd_f64_backend_open(), KD_F64);
}

static void losses_in_f32_fast(void **unused)
{
    (void)unused;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(0, &be, NULL), KD_OK);
    all_cases(be, KD_F32);
}

static void losses_in_f32_plain(void **unused)
{
    (void)unused;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    be->plain = true;
    all_cases(be, KD_F32);
}

static void generator_matches_the_labels(void **unused)
{
    (void)unused;
    double label[B];
    assert_int_equal(kd_json_get_f64s(manifest, "label", label, B, NULL), KD_OK);
    for (uint32_t b = 0; b < B; b++) {
        assert_true(label[b] == (double)(u24("label", b) % K));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generator_matches_the_labels),
        cmocka_unit_test(losses_in_f64),
        cmocka_unit_test(losses_in_f32_fast),
        cmocka_unit_test(losses_in_f32_plain),
    };
    if (kd_json_load(KD_GOLDEN_DIR "/losses/manifest.json", &manifest, NULL) != KD_OK ||
        kd_st_open(KD_GOLDEN_DIR "/losses/fixture.safetensors", &golden, NULL) != KD_OK) {
        print_error("cannot read the golden losses\n");
        return 1;
    }
    const int failed = cmocka_run_group_tests_name("losses", tests, NULL, NULL);
    kd_json_free(manifest);
    kd_st_close(golden);
    return failed;
}
