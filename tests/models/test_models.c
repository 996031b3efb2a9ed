/* Both model families as wholes, small: every option of the ViT that changes its graph, and every student.
 *
 *   gradients against differences in f64: each parameter tensor along one random direction, so every element counts
 *   gradients in f32 bit-identical over {memory reuse} x {recompute}, arena poisoned with NaN, second step over a used
 *   arena the plan against the independent checker
 */
#include "kernels/kd_layers.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "student/model/student.h"
#include "teacher/model/vit.h"
#include "tests/kernels/f64_backend.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

enum { BATCH = 2, CLASSES = 5, FRAMES = 8, BODIES = 2 };

typedef struct family {
    const char *name;
    const char *student; /* NULL: the ViT */
    kd_vit_cfg vit;
} family;

/* clang-format off */
#define SMALL_VIT \
    .img_size = 8, .frames = 4, .patch = 4, .tubelet = 2, .dim = 16, .depth = 2, .heads = 2, .mlp_hidden = 24, \
    .classes = CLASSES, .eps = 1e-6f, .fc_norm_eps = 1e-6f, .init_scale = 1.0f, .recompute = true
/* clang-format on */
static const family families[] = {
    {"vit", NULL, {SMALL_VIT, .qkv_bias = true}},
    {"vit, gammas, drop",
     NULL,
     {SMALL_VIT, .qkv_bias = true, .init_values = 0.5f, .drop = 0.2f, .drop_path = 0.5f, .head_drop = 0.3f}},
    {"vit, cosine, cls", NULL, {SMALL_VIT, .cos_attn = true, .cls_pooling = true, .learnable_pos = true}},
    {"last-v1-base", "last-v1-base", {0}},
    {"last-e3-nano", "last-e3-nano", {0}},
    {"sfz-nano", "sfz-nano", {0}},
};

typedef struct net {
    kd_params *params;
    kd_program *train, *forward; /* forward: the training graph without its gradients */
    kd_val input[KD_STUDENT_MAX_STREAMS];
    const char *input_name[KD_STUDENT_MAX_STREAMS];
    int n_inputs;
    int64_t input_numel;
} net;

static kd_val build(const family *f, kd_graph *g, net *n)
{
    const kd_dtype stat = kd_stat_dtype(kd_graph_dtype(g));
    kd_val logits;
    if (f->student == NULL) {
        const kd_shape s = kd_shape5(BATCH, 3, f->vit.frames, f->vit.img_size, f->vit.img_size);
        n->n_inputs = 1;
        n->input_name[0] = "clip";
        n->input_numel = kd_shape_numel(&s);
        n->input[0] = kd_input(g, "clip", stat, s);
        logits = kd_vit_build(g, &f->vit, &(kd_vit_input){.clip = n->input[0]}).logits;
    } else {
        const kd_student_cfg c = {.model = kd_student_find(f->student),
                                  .classes = CLASSES,
                                  .frames = FRAMES,
                                  .bodies = BODIES,
                                  .dropout = 0.2f,
                                  .drop_path = 0.3f};
        const kd_shape s = kd_shape5(BATCH, 3, FRAMES, 25, BODIES);
        n->n_inputs = c.model->n_streams;
        n->input_numel = kd_shape_numel(&s);
        for (int i = 0; i < n->n_inputs; i++) {
            n->input_name[i] = c.model->streams[i];
            n->input[i] = kd_input(g, n->input_name[i], stat, s);
        }
        logits = kd_student_build(g, &c, n->input).logits;
    }
    const kd_val target = kd_input(g, "target", stat, kd_shape2(BATCH, CLASSES));
    const kd_val loss = kd_ce(g, logits, target, KD_NONE);
    kd_output(g, "loss", loss);
    return loss;
}

static void must(kd_status st, const char *what, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", what, err->msg);
    }
}

/* Values away from the special points of their initialisation (zero biases, unit scales). */
static void disturb(kd_params *p, bool wide)
{
    for (int i = 0; i < kd_params_count(p); i++) {
        const kd_param_info *e = kd_params_at(p, i);
        kd_rng r = kd_rng_make(7, KD_RNG_TEST, (uint32_t)i, 0);
        for (int64_t k = 0; k < e->numel && !e->buffer; k++) {
            const double d = 0.05 * kd_rng_normal(&r);
            if (wide) {
                ((double *)kd_params_value(p, i))[k] += d;
            } else {
                ((float *)kd_params_value(p, i))[k] += (float)d;
            }
        }
    }
    assert_int_equal(kd_params_changed(p), KD_OK);
}

static void write_as(kd_program *p, const char *name, const double *v, int64_t n, bool wide)
{
    float *narrow = kd_alloc((size_t)n * sizeof *narrow);
    assert_non_null(narrow);
    for (int64_t i = 0; i < n; i++) {
        narrow[i] = (float)v[i];
    }
    const size_t bytes = (size_t)n * (wide ? sizeof(double) : sizeof(float));
    assert_int_equal(kd_program_write(p, name, wide ? (const void *)v : (const void *)narrow, bytes), KD_OK);
    kd_free(narrow);
}

static void feed(const net *n, kd_program *p, bool wide)
{
    double target[BATCH * CLASSES];
    double *x = kd_alloc((size_t)n->input_numel * sizeof *x);
    assert_non_null(x);
    for (int s = 0; s < n->n_inputs; s++) {
        kd_rng r = kd_rng_make(11, KD_RNG_TEST, (uint32_t)s, 1);
        for (int64_t i = 0; i < n->input_numel; i++) {
            x[i] = kd_rng_normal(&r);
        }
        write_as(p, n->input_name[s], x, n->input_numel, wide);
    }
    for (int i = 0; i < BATCH * CLASSES; i++) {
        target[i] = i % CLASSES == i / CLASSES ? 0.8 : 0.05;
    }
    write_as(p, "target", target, BATCH * CLASSES, wide);
    kd_free(x);
}

static net make(const family *f, kd_backend *be, kd_dtype dtype, bool reuse, bool recompute, bool forward)
{
    net n = {.params = kd_params_create(kd_stat_dtype(dtype))};
    const kd_graph_opts go = {.params = n.params, .dtype = dtype, .training = true};
    kd_err err = {0};
    kd_graph *g = kd_graph_create(&go);
    (void)build(f, g, &n);
    const kd_err *bad = kd_graph_error(g);
    if (bad != NULL) {
        fail_msg("%s: %s", f->name, bad->msg);
    }
    kd_graph_free(g);
    must(kd_params_alloc(n.params, be, dtype, true, &err), f->name, &err);
    must(kd_params_init(n.params, 3, &err), f->name, &err);
    disturb(n.params, dtype == KD_F64);
    for (int pass = 0; pass < (forward ? 2 : 1); pass++) {
        g = kd_graph_create(&go);
        const kd_val loss = build(f, g, &n);
        const kd_compile_opts co = {
            .loss = pass == 0 ? loss : KD_NONE, .no_reuse = !reuse, .recompute = recompute, .poison = true};
        kd_program **out = pass == 0 ? &n.train : &n.forward;
        must(kd_program_compile(g, be, &co, out, &err), f->name, &err);
        must(kd_program_check_plan(*out, &err), f->name, &err);
        feed(&n, *out, dtype == KD_F64);
    }
    return n;
}

static void drop(net *n)
{
    kd_program_free(n->train);
    kd_program_free(n->forward);
    kd_params_free(n->params);
}

static void run(kd_program *p)
{
    const kd_step step = {.seed = 5, .step = 9, .grad_scale = 1.0f};
    if (kd_program_run(p, &step) != KD_OK) {
        fail_msg("run failed in %s", kd_program_where(p));
    }
}

static double loss_f64(kd_program *p)
{
    double v = 0.0;
    run(p);
    assert_int_equal(kd_program_read(p, "loss", &v, sizeof v), KD_OK);
    return v;
}

static void move(net *n, int p, const double *origin, const double *dir, double t)
{
    double *v = kd_params_value(n->params, p);
    const int64_t numel = kd_params_at(n->params, p)->numel;
    for (int64_t i = 0; i < numel; i++) {
        v[i] = origin[i] + t * dir[i];
    }
    assert_int_equal(kd_params_changed(n->params), KD_OK);
}

/* Loss with parameter p moved by t along dir. */
static double loss_along(net *n, int p, const double *origin, const double *dir, double t)
{
    move(n, p, origin, dir, t);
    return loss_f64(n->forward);
}

/* Directional derivative of parameter p by gradient and by differences; returns the fraction of the allowed error. */
static double check_direction(const family *f, net *n, int p, const double *grad, double scale)
{
    const kd_param_info *e = kd_params_at(n->params, p);
    const size_t bytes = (size_t)e->numel * sizeof(double);
    double *origin = kd_alloc(bytes), *dir = kd_alloc(bytes), by_grad = 0.0;
    assert_non_null(origin);
    assert_non_null(dir);
    memcpy(origin, kd_params_value(n->params, p), bytes);
    kd_rng r = kd_rng_make(13, KD_RNG_TEST, (uint32_t)p, 2);
    for (int64_t i = 0; i < e->numel; i++) {
        dir[i] = kd_rng_normal(&r) / sqrt((double)e->numel);
        by_grad += dir[i] * grad[i];
    }
    const double h = 1e-6; /* small: few elements cross the kink of a rectifier */
    const double by_diff = (loss_along(n, p, origin, dir, h) - loss_along(n, p, origin, dir, -h)) / (2.0 * h);
    move(n, p, origin, dir, 0.0);
    const double allowed = 1e-6 * fabs(by_diff) + 1e-7 * scale;
    const double bad = fabs(by_grad - by_diff) / allowed;
    if (!(bad <= 1.0)) {
        fail_msg("%s: %s: slope %.10g by the gradient, %.10g by differences", f->name, e->name, by_grad, by_diff);
    }
    kd_free(origin);
    kd_free(dir);
    return bad;
}

static void gradients_match_differences(void **state)
{
    (void)state;
    kd_backend *be = kd_f64_backend_open();
    for (size_t m = 0; m < KD_COUNTOF(families); m++) {
        const family *f = &families[m];
        be->fuses = m % 2 == 0 ? ~0u : 0;
        net n = make(f, be, KD_F64, true, m % 2 == 0, true);
        assert_int_equal(kd_params_zero_grad(n.params), KD_OK);
        const double loss = loss_f64(n.train);
        assert_true(fabs(loss_f64(n.forward) - loss) <= 1e-12);
        double worst = 0.0, square = 0.0;
        const double *slab = kd_params_grad_slab(n.params);
        for (int64_t i = 0; i < kd_params_slab_numel(n.params); i++) {
            square += slab[i] * slab[i];
        }
        assert_true(square > 0.0);
        const double scale = sqrt(square / (double)kd_params_count(n.params));
        for (int p = 0; p < kd_params_count(n.params); p++) {
            if (!kd_params_at(n.params, p)->buffer && strcmp(kd_params_at(n.params, p)->name, "pos_embed") != 0) {
                worst = fmax(worst, check_direction(f, &n, p, slab + kd_params_at(n.params, p)->offset, scale));
            }
        }
        print_message("  %-20s %3d tensors, worst fraction of the allowed error %.3f\n", f->name,
                      kd_params_count(n.params), worst);
        drop(&n);
    }
    kd_backend_close(be);
}

/* In f64 a fused op rounds nowhere else than its parts did: the same draws, the same sums. */
static void fusion_changes_nothing(void **state)
{
    (void)state;
    kd_backend *be = kd_f64_backend_open();
    for (size_t m = 0; m < KD_COUNTOF(families); m++) {
        for (int recompute = 0; recompute < 2; recompute++) {
            net n[2];
            double loss[2], worst = 0.0;
            for (int k = 0; k < 2; k++) {
                be->fuses = k == 0 ? 0 : ~0u;
                n[k] = make(&families[m], be, KD_F64, true, recompute, false);
                assert_int_equal(kd_params_zero_grad(n[k].params), KD_OK);
                loss[k] = loss_f64(n[k].train);
            }
            const double *apart = kd_params_grad_slab(n[0].params), *fused = kd_params_grad_slab(n[1].params);
            for (int64_t i = 0; i < kd_params_slab_numel(n[0].params); i++) {
                const double off = fabs(apart[i] - fused[i]) / (1.0 + fabs(apart[i]));
                worst = off <= worst ? worst : off; /* NaN stays */
            }
            const int nodes[2] = {kd_program_nodes(n[0].train), kd_program_nodes(n[1].train)};
            print_message("  %-20s %d nodes, fused %d; largest difference %.1e\n", families[m].name, nodes[0], nodes[1],
                          worst);
            assert_true(fabs(loss[0] - loss[1]) <= 1e-12);
            assert_true(worst <= 1e-11);
            assert_true(nodes[1] < nodes[0]);
            drop(&n[0]);
            drop(&n[1]);
        }
    }
    kd_backend_close(be);
}

static void gradients_do_not_depend_on_memory(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    for (size_t m = 0; m < KD_COUNTOF(families); m++) {
        float *first = NULL, first_loss = 0.0f, loss = 0.0f;
        size_t arena[4];
        for (int mode = 0; mode < 4; mode++) {
            net n = make(&families[m], be, KD_F32, mode & 1, mode & 2, false);
            for (int pass = 0; pass < 2; pass++) {
                assert_int_equal(kd_params_zero_grad(n.params), KD_OK);
                run(n.train);
            }
            assert_int_equal(kd_program_read_f32(n.train, "loss", &loss, 1), KD_OK);
            assert_true(isfinite(loss));
            const size_t bytes = (size_t)kd_params_slab_numel(n.params) * sizeof(float);
            const float *slab = kd_params_grad_slab(n.params);
            if (mode == 0) {
                first = kd_alloc(bytes);
                assert_non_null(first);
                memcpy(first, slab, bytes);
                first_loss = loss;
            } else if (memcmp(first, slab, bytes) != 0 || memcmp(&first_loss, &loss, sizeof loss) != 0) {
                fail_msg("%s: gradients change with reuse %d, recompute %d", families[m].name, mode & 1, mode >> 1);
            }
            arena[mode] = kd_program_arena_bytes(n.train);
            drop(&n);
        }
        print_message("  %-20s arena %zu KiB; reuse %zu, recompute %zu, both %zu\n", families[m].name, arena[0] / 1024,
                      arena[1] / 1024, arena[2] / 1024, arena[3] / 1024);
        assert_true(arena[1] < arena[0]);
        assert_true(arena[3] <= arena[1]);
        kd_free(first);
    }
    kd_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_match_differences),
        cmocka_unit_test(fusion_changes_nothing),
        cmocka_unit_test(gradients_do_not_depend_on_memory),
    };
    return cmocka_run_group_tests_name("models", tests, NULL, NULL);
}
