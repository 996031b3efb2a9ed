/* Students on other joints than NTU's: a training step of each on one of 64 joints and on a named layout in turn, of
 * the first of each family on all of them; all values are finite.  Gradients of all parameters together agree with
 * differences in f64. */
#include "kernels/kd_layers.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "student/model/student.h"
#include "tests/kernels/f64_backend.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

enum { BATCH = 2, CLASSES = 5, FRAMES = 16, BODIES = 2 };

/* The most joints there can be: a spine and a head of four each, limbs of fourteen, whose last ten sit side by side. */
static kd_layout widest(void)
{
    static const kd_region limb[4] = {KD_LEFT_ARM, KD_RIGHT_ARM, KD_LEFT_LEG, KD_RIGHT_LEG};
    kd_layout l = {.name = "widest", .joints = KD_LAYOUT_JOINTS, .centre = 1, .top = {2, 2}};
    for (int v = 0; v < l.joints; v++) {
        const int k = v - 8; /* limb joints: 56 of them, the four limbs in turn */
        (void)snprintf(l.joint[v].name, sizeof l.joint[v].name, "j%d", v);
        l.joint[v].region = (uint8_t)(v < 4 ? KD_TORSO : v < 8 ? KD_HEAD : limb[k % 4]);
        l.joint[v].mirror = (uint8_t)(v < 8 ? v : 8 + (k ^ 1));
        if (v > 0) {
            const int to = v < 8 ? (v - 1) / 2 : k < 4 ? (k < 2 ? 2 : 0) : k < 16 ? v - 4 : 8 + 12 + k % 4;
            l.edge[l.edges][0] = (uint8_t)v;
            l.edge[l.edges++][1] = (uint8_t)to;
        }
    }
    l.shoulder[0] = 8;
    l.shoulder[1] = 9;
    kd_layout_bones(&l, 0);
    return l;
}

static void must(kd_status st, const char *what, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", what, err->msg);
    }
}

typedef struct net {
    kd_student_cfg cfg;
    kd_params *params;
    kd_program *program;
} net;

static kd_val declare(net *n, kd_graph *g)
{
    const kd_dtype stat = kd_stat_dtype(kd_graph_dtype(g));
    const kd_shape s = kd_shape5(BATCH, 3, FRAMES, n->cfg.layout->joints, BODIES);
    kd_val in[KD_STUDENT_MAX_STREAMS];
    for (int i = 0; i < n->cfg.model->n_streams; i++) {
        in[i] = kd_input(g, n->cfg.model->streams[i], stat, s);
    }
    const kd_val logits = kd_student_build(g, &n->cfg, in).logits;
    const kd_val loss = kd_ce(g, logits, kd_input(g, "target", stat, kd_shape2(BATCH, CLASSES)), KD_NONE);
    kd_output(g, "loss", loss);
    return loss;
}

static void fill(kd_program *p, const char *name, int64_t n, unsigned salt, bool wide, bool share)
{
    double *v = kd_alloc((size_t)n * sizeof *v);
    float *narrow = kd_alloc((size_t)n * sizeof *narrow);
    kd_rng r = kd_rng_make(11, KD_RNG_TEST, salt, 0);
    assert_non_null(v);
    assert_non_null(narrow);
    for (int64_t i = 0; i < n; i++) {
        v[i] = share ? 1.0 / CLASSES : kd_rng_normal(&r);
        narrow[i] = (float)v[i];
    }
    const size_t bytes = (size_t)n * (wide ? sizeof *v : sizeof *narrow);
    assert_int_equal(kd_program_write(p, name, wide ? (const void *)v : (const void *)narrow, bytes), KD_OK);
    kd_free(v);
    kd_free(narrow);
}

static net make(const char *name, const kd_layout *layout, kd_backend *be, kd_dtype dtype, bool gradients)
{
    net n = {.cfg = {.model = kd_student_find(name),
                     .layout = layout,
                     .classes = CLASSES,
                     .frames = FRAMES,
                     .bodies = BODIES,
                     .seed = 3},
             .params = kd_params_create(kd_stat_dtype(dtype))};
    const kd_graph_opts go = {.params = n.params, .dtype = dtype, .training = true};
    char what[96];
    kd_err err = {0};
    (void)snprintf(what, sizeof what, "%s on %s", name, layout->name);
    for (int pass = 0; pass < 2; pass++) { /* declares the parameters; then they have places */
        kd_graph *g = kd_graph_create(&go);
        const kd_val loss = declare(&n, g);
        const kd_err *bad = kd_graph_error(g);
        if (bad != NULL) {
            fail_msg("%s: %s", what, bad->msg);
        }
        if (pass == 0) {
            kd_graph_free(g);
            must(kd_params_alloc(n.params, be, dtype, true, &err), what, &err);
            must(kd_params_init(n.params, 3, &err), what, &err);
        } else {
            const kd_compile_opts co = {.loss = gradients ? loss : KD_NONE, .poison = true};
            must(kd_program_compile(g, be, &co, &n.program, &err), what, &err);
        }
    }
    const int64_t cells = (int64_t)BATCH * 3 * FRAMES * layout->joints * BODIES;
    for (int i = 0; i < n.cfg.model->n_streams; i++) {
        fill(n.program, n.cfg.model->streams[i], cells, (unsigned)i, dtype == KD_F64, false);
    }
    fill(n.program, "target", BATCH * CLASSES, 9, dtype == KD_F64, true);
    return n;
}

static void drop(net *n)
{
    kd_program_free(n->program);
    kd_params_free(n->params);
}

static void run(net *n)
{
    const kd_step step = {.seed = 5, .step = 9, .grad_scale = 1.0f};
    assert_int_equal(kd_params_zero_grad(n->params), KD_OK);
    if (kd_program_run(n->program, &step) != KD_OK) {
        fail_msg("run failed in %s", kd_program_where(n->program));
    }
}

static void every_student_trains(void **state)
{
    (void)state;
    const kd_layout most = widest();
    kd_backend *be = NULL;
    kd_err err = {0};
    must(kd_layout_check(&most, &err), "widest", &err);
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    for (int s = 0; s < kd_student_count(); s++) {
        for (int i = 0; i <= kd_layout_count(); i++) {
            const kd_layout *l = i < kd_layout_count() ? kd_layout_at(i) : &most;
            const bool first = s == 0 || kd_student_at(s)->family != kd_student_at(s - 1)->family;
            if (!first && l != &most && i != s % kd_layout_count()) {
                continue;
            }
            net n = make(kd_student_name(s), l, be, KD_F32, true);
            float loss = 0.0f;
            double square = 0.0;
            run(&n);
            assert_int_equal(kd_program_read_f32(n.program, "loss", &loss, 1), KD_OK);
            const float *slab = kd_params_grad_slab(n.params);
            for (int64_t k = 0; k < kd_params_slab_numel(n.params); k++) {
                square += (double)slab[k] * (double)slab[k];
            }
            if (!(isfinite(loss) && isfinite(square) && square > 0.0)) {
                fail_msg("%s on %s: loss %g, gradient %g", kd_student_name(s), l->name, (double)loss, square);
            }
            drop(&n);
        }
    }
    kd_backend_close(be);
}

static double loss_at(net *n, const double *origin, const double *dir, double t)
{
    double loss = 0.0;
    for (int p = 0, at = 0; p < kd_params_count(n->params); p++) {
        const int64_t numel = kd_params_at(n->params, p)->numel;
        double *v = kd_params_value(n->params, p);
        for (int64_t i = 0; i < numel; i++, at++) {
            v[i] = origin[at] + t * dir[at];
        }
    }
    assert_int_equal(kd_params_changed(n->params), KD_OK);
    run(n);
    assert_int_equal(kd_program_read(n->program, "loss", &loss, sizeof loss), KD_OK);
    return loss;
}

/* Slope along a direction that moves every parameter: by the gradient, and by differences. */
static void check_slope(const char *name, const kd_layout *layout, kd_backend *be)
{
    net n = make(name, layout, be, KD_F64, true), f = make(name, layout, be, KD_F64, false);
    int64_t total = 0;
    for (int p = 0; p < kd_params_count(n.params); p++) {
        total += kd_params_at(n.params, p)->numel;
    }
    double *origin = kd_calloc((size_t)total, sizeof *origin), *dir = kd_calloc((size_t)total, sizeof *dir);
    double slope = 0.0;
    assert_non_null(origin);
    assert_non_null(dir);
    for (int p = 0, at = 0; p < kd_params_count(n.params); p++) {
        const kd_param_info *e = kd_params_at(n.params, p);
        const double *start = kd_params_value(n.params, p);
        kd_rng r = kd_rng_make(13, KD_RNG_TEST, (uint32_t)p, 2);
        for (int64_t i = 0; i < e->numel; i++, at++) {
            origin[at] = start[i] + (e->buffer ? 0.0 : 0.05 * kd_rng_normal(&r));
            dir[at] = e->buffer ? 0.0 : kd_rng_normal(&r) / sqrt((double)e->numel);
        }
    }
    (void)loss_at(&n, origin, dir, 0.0);
    const double *slab = kd_params_grad_slab(n.params);
    for (int p = 0, at = 0; p < kd_params_count(n.params); p++) {
        const kd_param_info *e = kd_params_at(n.params, p);
        for (int64_t i = 0; i < e->numel; i++, at++) {
            slope += e->buffer ? 0.0 : dir[at] * slab[e->offset + i];
        }
    }
    const double h = 1e-8; /* small: few elements cross the kink of a rectifier */
    const double by_diff = (loss_at(&f, origin, dir, h) - loss_at(&f, origin, dir, -h)) / (2.0 * h);
    if (!(fabs(slope - by_diff) <= 1e-6 * fabs(slope) + 1e-7)) {
        fail_msg("%s on %s: slope %.10g by the gradient, %.10g by differences", name, layout->name, slope, by_diff);
    }
    print_message("  %-14s on %-12s slope %.8f, off by %.1e\n", name, layout->name, slope, fabs(slope - by_diff));
    kd_free(origin);
    kd_free(dir);
    drop(&n);
    drop(&f);
}

static void gradients_match_differences(void **state)
{
    (void)state;
    static const char *const student[] = {"last-v1-small", "last-e1-nano", "last-e2-nano", "last-e3-nano",
                                          "sfz-nano",      "sfz-small",    "sfz-large"};
    const kd_layout most = widest();
    kd_backend *be = kd_f64_backend_open();
    for (size_t s = 0; s < KD_COUNTOF(student); s++) {
        check_slope(student[s], s % 2 == 0 ? kd_layout_find("mediapipe33") : kd_layout_find("coco17"), be);
        check_slope(student[s], &most, be);
    }
    kd_backend_close(be);
}

static void other_joints_are_refused(void **state)
{
    (void)state;
    const kd_student_cfg cfg = {.model = kd_student_find("last-e3-nano"),
                                .layout = kd_layout_find("coco17"),
                                .classes = CLASSES,
                                .frames = FRAMES,
                                .bodies = 1};
    kd_params *p = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32, .training = true});
    kd_val in[KD_STUDENT_MAX_STREAMS];
    for (int i = 0; i < cfg.model->n_streams; i++) {
        in[i] = kd_input(g, cfg.model->streams[i], KD_F32, kd_shape5(BATCH, 3, FRAMES, 25, 1));
    }
    (void)kd_student_build(g, &cfg, in);
    const kd_err *e = kd_graph_error(g);
    assert_non_null(e);
    assert_non_null(strstr(e->msg, "(2,3,16,25,1), expected (2,3,16,17,1) (N,3,frames,joints of coco17,bodies)"));
    kd_graph_free(g);
    kd_params_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_student_trains),
                                       cmocka_unit_test(gradients_match_differences),
                                       cmocka_unit_test(other_joints_are_refused)};
    return cmocka_run_group_tests_name("students on layouts", tests, NULL, NULL);
}
