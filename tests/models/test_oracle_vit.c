/* Three training steps of a 2-block ViT, through the graph and by hand (oracle_vit.h): loss, every gradient and every
 * parameter after each step, in f64, with fusion, reuse and recompute on and off; then the f32 program against the
 * same. */
#include "kernels/kd_layers.h"
#include "kernels/kd_optim.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "tests/kernels/f64_backend.h"
#include "tests/models/oracle_vit.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

enum { BATCH = 2, CLASSES = 5, STEPS = 3, SIDE = 12, FRAMES = 4, PIXELS = BATCH * 3 * FRAMES * SIDE * SIDE };

static const kd_vit_cfg vit = {.img_size = SIDE,
                               .frames = FRAMES,
                               .patch = 4,
                               .tubelet = 2,
                               .dim = 16,
                               .depth = 2,
                               .heads = 2,
                               .mlp_hidden = 24,
                               .classes = CLASSES,
                               .qkv_bias = true,
                               .eps = 1e-6f,
                               .fc_norm_eps = 1e-6f,
                               .init_scale = 1.0f,
                               .recompute = true};
static const kd_optim_cfg adamw = {
    .kind = KD_OPTIM_ADAMW, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1};

typedef struct net {
    kd_params *params;
    kd_program *prog;
    kd_optim *optim;
} net;

static void must(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s", err->msg);
    }
}

static net make(kd_backend *be, kd_dtype dtype, const kd_compile_opts *how)
{
    net n = {.params = kd_params_create(dtype)};
    kd_err err = {0};
    for (int pass = 0; pass < 2; pass++) { /* declare, allocate, compile */
        const kd_graph_opts go = {.params = n.params, .dtype = dtype, .training = true};
        kd_graph *g = kd_graph_create(&go);
        const kd_val x = kd_input(g, "clip", dtype, kd_shape5(BATCH, 3, FRAMES, SIDE, SIDE));
        const kd_val t = kd_input(g, "target", dtype, kd_shape2(BATCH, CLASSES));
        const kd_val loss = kd_ce(g, kd_vit_build(g, &vit, &(kd_vit_input){.clip = x}).logits, t, KD_NONE);
        kd_output(g, "loss", loss);
        if (pass == 0) {
            kd_graph_free(g);
            must(kd_params_alloc(n.params, be, dtype, true, &err), &err);
            must(kd_params_init(n.params, 17, &err), &err);
            continue;
        }
        kd_compile_opts co = *how;
        co.loss = loss;
        must(kd_program_compile(g, be, &co, &n.prog, &err), &err);
    }
    kd_vit_param_groups(n.params, vit.depth, 1.0f);
    must(kd_optim_create(n.params, &adamw, &n.optim, &err), &err);
    return n;
}

static void drop(net *n)
{
    kd_optim_free(n->optim);
    kd_program_free(n->prog);
    kd_params_free(n->params);
}

static void close_to(const double *a, const double *b, int64_t n, double tol, const char *what, const char *name)
{
    double size = 0.0, off = 0.0;
    for (int64_t i = 0; i < n; i++) {
        size += b[i] * b[i];
        off += (a[i] - b[i]) * (a[i] - b[i]);
    }
    if (!(sqrt(off) <= tol * (sqrt(size) + 1e-3))) {
        fail_msg("%s of %s: off by %.3g of %.3g", what, name, sqrt(off), sqrt(size));
    }
}

static void draw(double *clip, double *target, int step)
{
    kd_rng r = kd_rng_make(23, KD_RNG_TEST, 0, (uint32_t)step);
    for (int i = 0; i < PIXELS; i++) {
        clip[i] = (double)(float)kd_rng_normal(&r);
    }
    for (int i = 0; i < BATCH * CLASSES; i++) { /* smoothed labels, exact in f32 */
        target[i] = i % CLASSES == (i / CLASSES + step) % CLASSES ? 0.75 : 0.0625;
    }
}

static void graph_is_the_formulas(void **state)
{
    (void)state;
    static const kd_compile_opts how[] = {
        {.no_fuse = true, .no_reuse = true}, {.poison = true}, {.recompute = true, .poison = true}};
    static double clip[PIXELS], target[BATCH * CLASSES];
    kd_backend *be = kd_f64_backend_open();
    for (size_t k = 0; k < KD_COUNTOF(how); k++) {
        net n = make(be, KD_F64, &how[k]);
        const size_t bytes = (size_t)kd_params_slab_numel(n.params) * sizeof(double);
        double *grad = kd_alloc(bytes), *m = kd_calloc(1, bytes), *v = kd_calloc(1, bytes), *w = kd_alloc(bytes);
        assert_non_null(w);
        memcpy(w, kd_params_value_slab(n.params), bytes);
        for (int step = 0; step < STEPS; step++) {
            double loss = 0.0;
            draw(clip, target, step);
            memset(grad, 0, bytes);
            const double want = oracle_vit_step(&vit, n.params, BATCH, clip, target, grad);
            assert_int_equal(kd_program_write(n.prog, "clip", clip, sizeof clip), KD_OK);
            assert_int_equal(kd_program_write(n.prog, "target", target, sizeof target), KD_OK);
            assert_int_equal(kd_program_run(n.prog, NULL), KD_OK);
            assert_int_equal(kd_program_read(n.prog, "loss", &loss, sizeof loss), KD_OK);
            assert_true(want > 0.5 && fabs(loss - want) <= 1e-12);
            for (int i = 0; i < kd_params_count(n.params); i++) {
                const kd_param_info *e = kd_params_at(n.params, i);
                close_to(kd_params_grad(n.params, i), grad + e->offset, e->numel, 1e-10, "gradient", e->name);
                oracle_adamw(w + e->offset, grad + e->offset, m + e->offset, v + e->offset, e->numel, 1e-2, adamw.beta1,
                             adamw.beta2, adamw.eps, e->decay ? adamw.weight_decay : 0.0, step + 1);
            }
            assert_int_equal(kd_optim_step(n.optim, 1e-2, NULL), KD_OK);
            for (int i = 0; i < kd_params_count(n.params); i++) {
                const kd_param_info *e = kd_params_at(n.params, i);
                close_to(kd_params_value(n.params, i), w + e->offset, e->numel, 1e-9, "value", e->name);
            }
            memcpy(w, kd_params_value_slab(n.params), bytes); /* each step is judged by itself */
        }
        kd_free(grad);
        kd_free(m);
        kd_free(v);
        kd_free(w);
        drop(&n);
    }
    kd_backend_close(be);
}

/* The kernels that users run, from the same weights. */
static void fast_program_is_the_formulas(void **state)
{
    (void)state;
    static double clip[PIXELS], target[BATCH * CLASSES];
    static float clip32[PIXELS], target32[BATCH * CLASSES];
    kd_backend *be64 = kd_f64_backend_open(), *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    net a = make(be64, KD_F64, &(kd_compile_opts){0}), b = make(be, KD_F32, &(kd_compile_opts){.recompute = true});
    const int64_t numel = kd_params_slab_numel(a.params);
    double *grad = kd_calloc((size_t)numel, sizeof *grad), *wide = kd_alloc((size_t)numel * sizeof *wide);
    assert_non_null(grad);
    assert_non_null(wide);
    for (int64_t i = 0; i < numel; i++) { /* weights that both can hold */
        ((double *)kd_params_value_slab(a.params))[i] = (double)((const float *)kd_params_value_slab(b.params))[i];
    }
    draw(clip, target, 0);
    for (int i = 0; i < PIXELS; i++) {
        clip32[i] = (float)clip[i];
    }
    for (int i = 0; i < BATCH * CLASSES; i++) {
        target32[i] = (float)target[i];
    }
    const double want = oracle_vit_step(&vit, a.params, BATCH, clip, target, grad);
    float loss = 0.0f;
    assert_int_equal(kd_program_write(b.prog, "clip", clip32, sizeof clip32), KD_OK);
    assert_int_equal(kd_program_write(b.prog, "target", target32, sizeof target32), KD_OK);
    assert_int_equal(kd_program_run(b.prog, NULL), KD_OK);
    assert_int_equal(kd_program_read_f32(b.prog, "loss", &loss, 1), KD_OK);
    assert_true(fabs((double)loss - want) <= 1e-6);
    for (int i = 0; i < kd_params_count(b.params); i++) {
        const kd_param_info *e = kd_params_at(b.params, i);
        const float *g = kd_params_grad(b.params, i);
        for (int64_t j = 0; j < e->numel; j++) {
            wide[j] = (double)g[j];
        }
        close_to(wide, grad + e->offset, e->numel, 1e-5, "f32 gradient", e->name);
    }
    kd_free(grad);
    kd_free(wide);
    drop(&a);
    drop(&b);
    kd_backend_close(be64);
    kd_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph_is_the_formulas),
        cmocka_unit_test(fast_program_is_the_formulas),
    };
    return cmocka_run_group_tests_name("oracle_vit", tests, NULL, NULL);
}
