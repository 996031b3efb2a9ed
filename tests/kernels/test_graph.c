/* The graph as a whole: random DAGs with fan-out, shared parameters, views and recompute segments.
 *
 *   gradients against central differences in f64
 *   gradients bit-identical over {memory reuse} x {recompute}, arena poisoned with NaN
 *   the plan against an independent checker
 *   sticky errors, detach, dead nodes, forward-only programs after a change of parameters
 *   multiply-accumulates of single ops; programs compiled in several threads at once
 */
#include "kernels/kd_layers.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "tests/kernels/f64_backend.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROWS = 3, COLS = 6, CLASSES = 4, MAX_VALUES = 64 };

/* ---- random model ---------------------------------------------------------------------------- */

static kd_val random_op(kd_graph *g, kd_rng *r, kd_val *pool, int n, int k)
{
    static const kd_act_kind kinds[] = {KD_ACT_GELU, KD_ACT_SILU, KD_ACT_SIGMOID};
    const kd_val a = pool[kd_rng_below(r, (uint32_t)n)], b = pool[kd_rng_below(r, (uint32_t)n)];
    const kd_linear_opts lo = {.weight = kd_init_uniform(0.7f), .bias = kd_init_uniform(0.3f)};
    char name[32];
    switch (kd_rng_below(r, 9)) {
    case 0:
        return kd_add(g, a, b);
    case 1:
        return kd_mul(g, a, kd_act(g, b, KD_ACT_SIGMOID));
    case 2:
        return kd_act(g, a, kinds[kd_rng_below(r, 3)]);
    case 3:
        return kd_scale(g, a, -0.5f);
    case 4: /* few names: several nodes share one weight */
        (void)snprintf(name, sizeof name, "fc%d", (int)kd_rng_below(r, 3));
        return kd_linear(g, a, name, COLS, &lo);
    case 5:
        (void)snprintf(name, sizeof name, "norm%d", k);
        return kd_layernorm(g, a, name, 1e-5f);
    case 6: /* a mean or a sum of rows: its gradient is one of several that are added */
        return kd_add(g, a, kd_reduce(g, b, kd_rng_below(r, 2) == 0 ? KD_REDUCE_MEAN : KD_REDUCE_SUM, 1u << 0));
    case 7:
        return kd_reshape(g, kd_reshape(g, a, kd_shape1(ROWS * COLS)), kd_shape2(ROWS, COLS));
    default:
        return kd_add(g, a, kd_param(g, "shared_bias", kd_shape1(COLS), kd_init_uniform(0.5f), 0));
    }
}

typedef struct net {
    kd_params *params;
    kd_program *prog;
} net;

static kd_val build(kd_graph *g, uint64_t seed, kd_val *x)
{
    kd_rng r = kd_rng_make(seed, KD_RNG_TEST, 1, 0);
    kd_val pool[MAX_VALUES];
    int n = 0;
    *x = kd_input(g, "x", kd_stat_dtype(kd_graph_dtype(g)), kd_shape2(ROWS, COLS));
    pool[n++] = *x;
    const int ops = 5 + (int)kd_rng_below(&r, 36);
    bool open = false;
    for (int k = 0; k < ops; k++) {
        if (!open && kd_rng_below(&r, 4) == 0) {
            kd_recompute_begin(g);
            open = true;
        } else if (open && kd_rng_below(&r, 3) == 0) {
            kd_recompute_end(g);
            open = false;
        }
        pool[n] = random_op(g, &r, pool, n, k);
        n++;
    }
    kd_recompute_end(g);
    kd_val sum = pool[n - 1];
    for (int i = n - 2; i > n - 5 && i >= 0; i--) {
        sum = kd_add(g, sum, pool[i]);
    }
    const kd_linear_opts lo = {.weight = kd_init_uniform(0.6f), .bias = kd_init_const(0.1f), .f32_out = true};
    const kd_val logits = kd_linear(g, sum, "head", CLASSES, &lo);
    kd_output(g, "logits", logits);
    const kd_val target = kd_input(g, "target", kd_stat_dtype(kd_graph_dtype(g)), kd_shape2(ROWS, CLASSES));
    return kd_ce(g, logits, target, KD_NONE);
}

static net make(kd_backend *be, kd_dtype dtype, uint64_t seed, bool reuse, bool recompute)
{
    net n = {kd_params_create(kd_stat_dtype(dtype)), NULL};
    const kd_graph_opts go = {.params = n.params, .dtype = dtype, .training = true};
    kd_err err = {0};
    for (int pass = 0; pass < 2; pass++) { /* declare, allocate, compile */
        kd_graph *g = kd_graph_create(&go);
        kd_val x;
        const kd_val loss = build(g, seed, &x);
        kd_output(g, "loss", loss);
        if (pass == 0) {
            kd_graph_free(g);
            assert_int_equal(kd_params_alloc(n.params, be, dtype, true, &err), KD_OK);
            assert_int_equal(kd_params_init(n.params, seed, &err), KD_OK);
            continue;
        }
        const kd_compile_opts co = {.loss = loss,
                                    .grad_inputs = &x,
                                    .n_grad_inputs = 1,
                                    .no_reuse = !reuse,
                                    .recompute = recompute,
                                    .poison = true};
        if (kd_program_compile(g, be, &co, &n.prog, &err) != KD_OK) {
            fail_msg("seed %llu: %s", (unsigned long long)seed, err.msg);
        }
        if (kd_program_check_plan(n.prog, &err) != KD_OK) {
            fail_msg("seed %llu: %s", (unsigned long long)seed, err.msg);
        }
    }
    return n;
}

static void drop(net *n)
{
    kd_program_free(n->prog);
    kd_params_free(n->params);
}

static void feed(net *n, kd_dtype stat, uint64_t seed)
{
    double wide[ROWS * COLS];
    float narrow[ROWS * COLS];
    kd_rng r = kd_rng_make(seed, KD_RNG_TEST, 2, 0);
    for (int pass = 0; pass < 2; pass++) {
        const int cols = pass == 0 ? COLS : CLASSES;
        for (int i = 0; i < ROWS * cols; i++) {
            wide[i] = pass == 0 ? kd_rng_range(&r, -1.0, 1.0) : 1.0 / CLASSES;
            narrow[i] = (float)wide[i];
        }
        const size_t bytes = (size_t)(ROWS * cols) * kd_dtype_size(stat);
        assert_int_equal(kd_program_write(n->prog, pass == 0 ? "x" : "target",
                                          stat == KD_F64 ? (void *)wide : (void *)narrow, bytes),
                         KD_OK);
    }
}

static double loss_of(net *n)
{
    double wide = 0.0;
    assert_int_equal(kd_program_run(n->prog, NULL), KD_OK);
    assert_int_equal(kd_program_read(n->prog, "loss", &wide, sizeof wide), KD_OK);
    return wide;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void gradients_match_differences(void **state)
{
    (void)state;
    kd_backend *be = kd_f64_backend_open();
    double worst = 0.0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        be->fuses = seed % 4 < 2 ? ~0u : 0;
        net n = make(be, KD_F64, seed, true, seed % 2 == 0);
        feed(&n, KD_F64, seed);
        assert_int_equal(kd_params_zero_grad(n.params), KD_OK);
        (void)loss_of(&n);
        const size_t bytes = (size_t)kd_params_slab_numel(n.params) * sizeof(double);
        double *slab = kd_alloc(bytes); /* the runs below go on adding to the gradient slots */
        memcpy(slab, kd_params_grad_slab(n.params), bytes);
        for (int p = 0; p < kd_params_count(n.params); p++) {
            const kd_param_info *e = kd_params_at(n.params, p);
            double *v = kd_params_value(n.params, p);
            const double *grad = slab + e->offset;
            for (int64_t i = 0; i < e->numel; i += 1 + e->numel / 5) {
                const double at = v[i], h = 1e-4;
                double f[4];
                static const double step[4] = {-2, -1, 1, 2};
                for (int k = 0; k < 4; k++) {
                    v[i] = at + step[k] * h;
                    f[k] = loss_of(&n);
                }
                v[i] = at;
                const double num = (f[0] - 8.0 * f[1] + 8.0 * f[2] - f[3]) / (12.0 * h);
                const double bad = fabs(num - grad[i]) / (1e-7 + 1e-6 * fabs(num) + 1e-8);
                worst = fmax(worst, bad);
                if (!(bad <= 1.0)) {
                    fail_msg("seed %llu %s[%lld]: gradient %.12g, differences %.12g", (unsigned long long)seed, e->name,
                             (long long)i, grad[i], num);
                }
            }
        }
        kd_free(slab);
        drop(&n);
    }
    print_message("worst fraction of the allowed error: %.3f\n", worst);
    kd_backend_close(be);
}

/* In f64 a fused op rounds nowhere else than its parts did. */
static void fusion_changes_nothing(void **state)
{
    (void)state;
    kd_backend *be = kd_f64_backend_open();
    int fewer = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        net n[2];
        for (int k = 0; k < 2; k++) {
            be->fuses = k == 0 ? 0 : ~0u;
            n[k] = make(be, KD_F64, seed, true, seed % 2 == 0);
            feed(&n[k], KD_F64, seed);
            assert_int_equal(kd_params_zero_grad(n[k].params), KD_OK);
        }
        const double loss = loss_of(&n[0]);
        assert_true(fabs(loss_of(&n[1]) - loss) <= 1e-12 * (1.0 + fabs(loss)));
        const double *apart = kd_params_grad_slab(n[0].params), *fused = kd_params_grad_slab(n[1].params);
        for (int64_t i = 0; i < kd_params_slab_numel(n[0].params); i++) {
            if (!(fabs(apart[i] - fused[i]) <= 1e-11 * (1.0 + fabs(apart[i])))) {
                fail_msg("seed %llu: gradient %lld is %.15g apart, %.15g fused", (unsigned long long)seed, (long long)i,
                         apart[i], fused[i]);
            }
        }
        fewer += kd_program_nodes(n[1].prog) < kd_program_nodes(n[0].prog);
        drop(&n[0]);
        drop(&n[1]);
    }
    print_message("fewer nodes in %d of 60 programs\n", fewer);
    assert_true(fewer >= 5);
    kd_backend_close(be);
}

static void gradients_do_not_depend_on_memory(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    size_t saved = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        float *first = NULL;
        float dx0[ROWS * COLS] = {0}, dx[ROWS * COLS];
        for (int mode = 0; mode < 4; mode++) {
            net n = make(be, KD_F32, seed, mode & 1, mode & 2);
            feed(&n, KD_F32, seed);
            assert_int_equal(kd_params_zero_grad(n.params), KD_OK);
            assert_int_equal(kd_program_run(n.prog, NULL), KD_OK);
            assert_int_equal(kd_params_zero_grad(n.params), KD_OK);
            assert_int_equal(kd_program_run(n.prog, NULL), KD_OK); /* a second step over the used arena */
            const size_t bytes = (size_t)kd_params_slab_numel(n.params) * sizeof(float);
            assert_int_equal(kd_program_read(n.prog, "grad:x", dx, sizeof dx), KD_OK);
            if (mode == 0) {
                first = kd_alloc(bytes);
                memcpy(first, kd_params_grad_slab(n.params), bytes);
                memcpy(dx0, dx, sizeof dx);
            } else {
                assert_memory_equal(first, kd_params_grad_slab(n.params), bytes);
                assert_memory_equal(dx0, dx, sizeof dx);
            }
            saved += kd_program_arena_bytes(n.prog) < kd_program_sum_bytes(n.prog);
            drop(&n);
        }
        kd_free(first);
    }
    assert_true(saved > 60); /* the planner does reuse memory */
    kd_backend_close(be);
}

static void errors_are_sticky_and_named(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    kd_params *p = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32, .training = true});
    const kd_val a = kd_input(g, "a", KD_F32, kd_shape2(2, 3)), b = kd_input(g, "b", KD_F32, kd_shape2(4, 5));
    kd_scope_push(g, "blocks.%d", 7);
    const kd_val bad = kd_add(g, a, b);
    kd_scope_pop(g);
    assert_int_equal(bad.id, 0);
    assert_int_equal(kd_add(g, a, a).id, 0);
    kd_err err = {0};
    kd_program *prog = NULL;
    assert_int_equal(kd_program_compile(g, be, &(kd_compile_opts){.loss = {0}}, &prog, &err), KD_E_SHAPE);
    assert_non_null(strstr(err.msg, "blocks.7"));
    assert_non_null(strstr(err.msg, "(2,3)"));
    assert_non_null(strstr(err.msg, "(4,5)"));
    assert_null(prog);
    kd_params_free(p);
    kd_backend_close(be);
}

static void detach_stops_and_dead_nodes_go(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    kd_params *p = kd_params_create(KD_F32);
    for (int pass = 0; pass < 2; pass++) {
        kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32, .training = true});
        const kd_val x = kd_input(g, "x", KD_F32, kd_shape2(ROWS, COLS));
        const kd_val w = kd_param(g, "w", kd_shape1(COLS), kd_init_const(2.0f), 0);
        const kd_val y = kd_add(g, x, kd_detach(g, w));
        (void)kd_act(g, y, KD_ACT_GELU); /* nobody reads it */
        const kd_linear_opts lo = {.weight = kd_init_const(0.5f), .bias = kd_init_const(0.0f), .f32_out = true};
        const kd_val t = kd_input(g, "target", KD_F32, kd_shape2(ROWS, CLASSES));
        const kd_val loss = kd_ce(g, kd_linear(g, y, "fc", CLASSES, &lo), t, KD_NONE);
        if (pass == 0) {
            kd_graph_free(g);
            assert_int_equal(kd_params_alloc(p, be, KD_F32, true, NULL), KD_OK);
            assert_int_equal(kd_params_init(p, 1, NULL), KD_OK);
            continue;
        }
        kd_program *prog = NULL;
        kd_err err = {0};
        assert_int_equal(kd_program_compile(g, be, &(kd_compile_opts){.loss = loss}, &prog, &err), KD_OK);
        for (int i = 0; i < kd_program_nodes(prog); i++) {
            assert_null(strstr(kd_program_node_name(prog, i), "act"));
        }
        float zero[ROWS * COLS] = {0}, grad[COLS];
        assert_int_equal(kd_program_write(prog, "x", zero, sizeof zero), KD_OK);
        assert_int_equal(kd_program_write(prog, "target", zero, sizeof(float) * ROWS * CLASSES), KD_OK);
        assert_int_equal(kd_program_run(prog, NULL), KD_OK);
        assert_int_equal(kd_params_read_grad(p, kd_params_find(p, "w"), grad, COLS), KD_OK);
        for (int i = 0; i < COLS; i++) {
            assert_true(grad[i] == 0.0f);
        }
        assert_int_equal(kd_program_write(prog, "x", zero, 4), KD_E_SHAPE);
        assert_int_equal(kd_program_write(prog, "nothing", zero, 4), KD_E_ARG);
        kd_program_free(prog);
    }
    kd_params_free(p);
    kd_backend_close(be);
}

/* A clip of one frame: conv3d of the same weights is conv2d, with PyTorch's names and shapes. */
static void conv3d_of_one_frame_is_conv2d(void **state)
{
    (void)state;
    enum { N = 2, CI = 4, H = 5, W = 7, CO = 6 };
    const kd_conv_opts flat = {
        .kernel = {3, 2}, .stride = {2, 1}, .pad = {1, 0}, .dilation = {1, 2}, .groups = 2, .bias = true};
    const kd_conv_opts deep = {
        .kernel = {1, 3, 2}, .stride = {1, 2, 1}, .pad = {0, 1, 0}, .dilation = {1, 1, 2}, .groups = 2, .bias = true};
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    kd_params *p = kd_params_create(KD_F32);
    float w[CO * CI / 2 * 6], x[N * CI * H * W], y[2][N * CO * 3 * 5];
    kd_rng r = kd_rng_make(5, KD_RNG_TEST, 9, 0);
    for (int pass = 0; pass < 2; pass++) {
        kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32});
        const kd_val in = kd_input(g, "x", KD_F32, kd_shape4(N, CI, H, W));
        kd_output(g, "flat", kd_conv2d(g, in, "conv2", CO, &flat));
        kd_output(g, "deep", kd_conv3d(g, kd_reshape(g, in, kd_shape5(N, CI, 1, H, W)), "conv3", CO, &deep));
        if (pass == 0) {
            kd_graph_free(g);
            assert_int_equal(kd_params_alloc(p, be, KD_F32, false, NULL), KD_OK);
            continue;
        }
        for (size_t i = 0; i < KD_COUNTOF(w); i++) {
            w[i] = (float)kd_rng_normal(&r);
        }
        for (size_t i = 0; i < KD_COUNTOF(x); i++) {
            x[i] = (float)kd_rng_normal(&r);
        }
        const kd_shape w2 = kd_shape4(CO, CI / 2, 3, 2), w3 = kd_shape5(CO, CI / 2, 1, 3, 2);
        const int i2 = kd_params_find(p, "conv2.weight"), i3 = kd_params_find(p, "conv3.weight");
        assert_true(kd_shape_equal(&kd_params_at(p, i2)->shape, &w2) &&
                    kd_shape_equal(&kd_params_at(p, i3)->shape, &w3));
        assert_int_equal(kd_params_write(p, i2, w, KD_COUNTOF(w)), KD_OK);
        assert_int_equal(kd_params_write(p, i3, w, KD_COUNTOF(w)), KD_OK);
        assert_int_equal(kd_params_write(p, kd_params_find(p, "conv2.bias"), w, CO), KD_OK);
        assert_int_equal(kd_params_write(p, kd_params_find(p, "conv3.bias"), w, CO), KD_OK);
        assert_int_equal(kd_params_changed(p), KD_OK);
        kd_program *prog = NULL;
        kd_err err = {0};
        assert_int_equal(kd_program_compile(g, be, &(kd_compile_opts){0}, &prog, &err), KD_OK);
        assert_int_equal(kd_program_write(prog, "x", x, sizeof x), KD_OK);
        assert_int_equal(kd_program_run(prog, NULL), KD_OK);
        assert_int_equal(kd_program_read_f32(prog, "flat", y[0], KD_COUNTOF(y[0])), KD_OK);
        assert_int_equal(kd_program_read_f32(prog, "deep", y[1], KD_COUNTOF(y[1])), KD_OK);
        for (size_t i = 0; i < KD_COUNTOF(y[0]); i++) {
            assert_true(fabsf(y[0][i] - y[1][i]) <= 1e-5f && fabsf(y[0][0]) > 0.0f);
        }
        assert_int_equal(kd_program_macs(prog), 2 * (int64_t)KD_COUNTOF(y[0]) * CI / 2 * 6);
        assert_int_equal(kd_program_operand_bytes(prog), 2 * (sizeof x + sizeof w + CO * sizeof(float) + sizeof y[0]));
        kd_program_free(prog);
    }
    kd_params_free(p);
    kd_backend_close(be);
}

/* ---- multiply-accumulates -------------------------------------------------------------------- */

static int64_t macs_of(kd_op op, const void *attr, const kd_shape *shapes, int n)
{
    static const char *const names[] = {"a", "b", "c"};
    kd_backend *be = NULL;
    kd_program *prog = NULL;
    kd_val in[3], out[KD_MAX_OUT];
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    kd_params *params = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = params, .dtype = KD_F32});
    for (int i = 0; i < n; i++) {
        in[i] = kd_input(g, names[i], KD_F32, shapes[i]);
    }
    (void)kd_node(g, op, attr, in, n, out);
    kd_output(g, "y", out[0]);
    assert_int_equal(kd_params_alloc(params, be, KD_F32, false, NULL), KD_OK);
    assert_int_equal(kd_program_compile(g, be, &(kd_compile_opts){0}, &prog, NULL), KD_OK);
    const int64_t macs = kd_program_macs(prog);
    kd_program_free(prog);
    kd_params_free(params);
    kd_backend_close(be);
    return macs;
}

static void products_are_counted(void **state)
{
    (void)state;
    const kd_group_sum_attr three = {.parts = 3, .scale = 1.0f};
    const kd_shape landmarks[] = {kd_shape3(2, 7, 4), kd_shape3(2, 3, 4), kd_shape3(2, 3, 4)};
    const kd_shape parts[] = {kd_shape4(2, 12, 5, 6), kd_shape2(2, 3)};
    const kd_shape embedding = kd_shape3(2, 8, 5), x = kd_shape4(2, 3, 4, 5);
    assert_int_equal(macs_of(KD_OP_LANDMARK_ATTENTION, NULL, landmarks, 3), 2 * (2 * 7 * 4) * 3);
    assert_int_equal(macs_of(KD_OP_DYN_ADJ, NULL, &embedding, 1), 2 * 5 * 5 * 8);
    assert_int_equal(macs_of(KD_OP_GROUP_SUM, &three, parts, 2), 2 * 12 * 5 * 6);
    assert_int_equal(macs_of(KD_OP_GROUP_SUM, &three, parts, 1), 0);
    assert_int_equal(macs_of(KD_OP_MOTION, NULL, &x, 1), 0);
}

/* ---- threads --------------------------------------------------------------------------------- */

/* One thread: a random net compiled and run; *user: its seed, then 0 if all went well. */
static void *compile_and_run(void *user)
{
    int *seed = user;
    kd_backend *be = NULL;
    if (kd_backend_cpu_open(1, &be, NULL) == KD_OK) {
        net n = make(be, KD_F32, (uint64_t)*seed, true, false);
        *seed = kd_program_run(n.prog, NULL) == KD_OK ? 0 : -1;
        drop(&n);
    }
    kd_backend_close(be);
    return NULL;
}

/* For ThreadSanitizer: compiling shares nothing that is written. */
static void threads_compile_at_once(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    pthread_t thread[THREADS];
    int seed[THREADS];
    for (int i = 0; i < THREADS; i++) {
        seed[i] = i + 1;
        assert_int_equal(pthread_create(&thread[i], NULL, compile_and_run, &seed[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(seed[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_compile_at_once), /* first: what is filled on first use is filled there */
        cmocka_unit_test(products_are_counted),          cmocka_unit_test(gradients_match_differences),
        cmocka_unit_test(fusion_changes_nothing),        cmocka_unit_test(gradients_do_not_depend_on_memory),
        cmocka_unit_test(errors_are_sticky_and_named),   cmocka_unit_test(detach_stops_and_dead_nodes_go),
        cmocka_unit_test(conv3d_of_one_frame_is_conv2d),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
