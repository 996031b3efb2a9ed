/* The CUDA backend with whole models: against the CPU, with graphs and without, and what a step must not do.
 *
 * Two programs are made of this file: on the SIMT shim (test_cuda_simt), where every rule is checked on any machine, and with
 * nvcc (test_cuda, label gpu), where the card itself answers. */
#include "kernels/kd_layers.h"
#include "kernels/kd_optim.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "student/student.h"
#include "teacher/vit.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

#if defined(KD_TEST_SIMT)
#include <cuda_runtime.h> /* tests/simt/ */
#endif

enum { BATCH = 2, CLASSES = 5, FRAMES = 16, BODIES = 2, STEPS = 6 };

typedef struct family {
    const char *name;
    const char *student; /* NULL: the ViT */
    kd_vit_cfg vit;
} family;

/* clang-format off */
#define SMALL_VIT .img_size = 8, .frames = 4, .patch = 4, .tubelet = 2, .dim = 16, .depth = 2, .heads = 2, .mlp_hidden = 24, \
                  .classes = CLASSES, .eps = 1e-6f, .fc_norm_eps = 1e-6f, .init_scale = 1.0f
/* clang-format on */
static const family families[] = {
    {"vit", NULL, {SMALL_VIT, .qkv_bias = true, .drop_path = 0.2f}},
    {"vit, gammas, cosine, cls, recompute",
     NULL,
     {SMALL_VIT, .init_values = 0.5f, .cos_attn = true, .cls_pooling = true, .learnable_pos = true, .recompute = true}},
    {"last-v1-base", "last-v1-base", {0}},
    {"last-e3-nano", "last-e3-nano", {0}},
    {"sfz-nano", "sfz-nano", {0}},
};

/* A training run in miniature. */
typedef struct net {
    kd_backend *be;
    kd_params *params;
    kd_program *train;
    kd_optim *optim;
    const char *input_name[KD_STUDENT_MAX_STREAMS];
    int n_inputs;
    int64_t input_numel;
    float *x, target[BATCH * CLASSES];
} net;

static void must(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s", err->msg);
    }
}

static kd_val build(const family *f, kd_graph *g, net *n)
{
    kd_val in[KD_STUDENT_MAX_STREAMS], logits;
    if (f->student == NULL) {
        const kd_shape s = kd_shape5(BATCH, 3, f->vit.frames, f->vit.img_size, f->vit.img_size);
        n->n_inputs = 1;
        n->input_name[0] = "clip";
        n->input_numel = kd_shape_numel(&s);
        logits = kd_vit_build(g, &f->vit, kd_input(g, "clip", KD_F32, s)).logits;
    } else {
        const kd_student_cfg c = {.model = kd_student_find(f->student),
                                  .classes = CLASSES,
                                  .frames = FRAMES,
                                  .joints = 25,
                                  .bodies = BODIES,
                                  .dropout = 0.2f,
                                  .drop_path = 0.3f};
        const kd_shape s = kd_shape5(BATCH, 3, FRAMES, 25, BODIES);
        n->n_inputs = c.model->n_streams;
        n->input_numel = kd_shape_numel(&s);
        for (int i = 0; i < n->n_inputs; i++) {
            n->input_name[i] = c.model->streams[i];
            in[i] = kd_input(g, n->input_name[i], KD_F32, s);
        }
        logits = kd_student_build(g, &c, in).logits;
    }
    const kd_val loss = kd_ce(g, logits, kd_input(g, "target", KD_F32, kd_shape2(BATCH, CLASSES)), KD_NONE);
    kd_output(g, "loss", loss);
    return loss;
}

static net make(const family *f, kd_backend *be, kd_dtype dtype)
{
    net n = {.be = be, .params = kd_params_create(KD_F32)};
    const kd_graph_opts go = {.params = n.params, .dtype = dtype, .training = true};
    const bool adam = f->student == NULL;
    const kd_optim_cfg oc = {.kind = adam ? KD_OPTIM_ADAMW : KD_OPTIM_SGD,
                             .beta1 = 0.9,
                             .beta2 = 0.999,
                             .eps = 1e-8,
                             .momentum = 0.9,
                             .nesterov = true,
                             .weight_decay = 0.05,
                             .clip_grad = 1.0,
                             .ema_decay = 0.9,
                             .loss_scale = dtype == KD_F16 ? 65536.0 : 0.0,
                             .loss_scale_grow = 2};
    kd_err err = {0};
    kd_graph *g = kd_graph_create(&go);
    (void)build(f, g, &n);
    kd_graph_free(g);
    must(kd_params_alloc(n.params, be, dtype, true, &err), &err);
    must(kd_params_init(n.params, 3, &err), &err);
    g = kd_graph_create(&go);
    const kd_compile_opts co = {.loss = build(f, g, &n), .recompute = f->vit.recompute};
    must(kd_program_compile(g, be, &co, &n.train, &err), &err);
    must(kd_optim_create(n.params, &oc, &n.optim, &err), &err);
    n.x = kd_calloc((size_t)n.input_numel, sizeof *n.x);
    assert_non_null(n.x);
    for (int i = 0; i < BATCH * CLASSES; i++) {
        n.target[i] = i % CLASSES == i / CLASSES ? 0.8f : 0.05f;
    }
    return n;
}

static void drop(net *n)
{
    kd_optim_free(n->optim);
    kd_program_free(n->train);
    kd_params_free(n->params);
    kd_free(n->x);
}

/* One step; nothing is waited for. */
static void step(net *n, int s)
{
    for (int i = 0; i < n->n_inputs; i++) {
        kd_rng r = kd_rng_make(11, KD_RNG_TEST, (uint32_t)i, (uint32_t)s);
        for (int64_t k = 0; k < n->input_numel; k++) {
            n->x[k] = (float)kd_rng_normal(&r);
        }
        assert_int_equal(
            kd_program_write(n->train, n->input_name[i], n->x, (size_t)n->input_numel * sizeof(float)), KD_OK);
    }
    assert_int_equal(kd_program_write(n->train, "target", n->target, sizeof n->target), KD_OK);
    const kd_step st = {.seed = 5,
                        .step = (uint64_t)s,
                        .grad_scale = 1.0f,
                        .loss_scale = kd_optim_loss_scale(n->optim)};
    if (kd_program_run(n->train, &st) != KD_OK) {
        fail_msg("run failed in %s", kd_program_where(n->train));
    }
    assert_int_equal(kd_optim_step(n->optim, 1e-3, NULL), KD_OK);
}

static float loss_of(net *n)
{
    float loss = 0.0f;
    assert_int_equal(kd_program_read_f32(n->train, "loss", &loss, 1), KD_OK);
    return loss;
}

static kd_backend *open_cuda(bool graph)
{
    kd_backend *be = NULL;
    kd_err err = {0};
    const kd_cuda_opts o = {.deterministic = true};
    if (kd_backend_cuda_open(&o, &be, &err) != KD_OK) {
        print_message("%s\n", err.msg);
        skip();
    }
    be->no_graph = !graph;
    return be;
}

static float *values(net *n, int64_t *numel)
{
    *numel = kd_params_slab_numel(n->params);
    const size_t bytes = (size_t)*numel * sizeof(float);
    float *v = kd_alloc(bytes);
    assert_non_null(v);
    assert_int_equal(n->be->ops->download(n->be, v, kd_params_value_slab(n->params), bytes), KD_OK);
    return v;
}

/* Losses of a few training steps agree with the CPU's; in fp16 and bf16 as far as their rounding lets them. */
static void steps_are_the_cpus(void **state)
{
    (void)state;
    static const struct {
        kd_dtype dtype;
        double tol;
    } runs[] = {{KD_F32, 2e-5}, {KD_BF16, 4e-2}, {KD_F16, 1e-2}};
    for (size_t m = 0; m < KD_COUNTOF(families); m++) {
        kd_backend *cpu = NULL;
        double want[STEPS];
        assert_int_equal(kd_backend_cpu_open(1, &cpu, NULL), KD_OK);
        net c = make(&families[m], cpu, KD_F32);
        for (int s = 0; s < STEPS; s++) {
            step(&c, s);
            want[s] = (double)loss_of(&c);
        }
        for (size_t d = 0; d < KD_COUNTOF(runs); d++) {
            kd_backend *be = open_cuda(true);
            net n = make(&families[m], be, runs[d].dtype);
            double ctl[KD_CTL_COUNT], worst = 0.0;
            for (int s = 0; s < STEPS; s++) {
                step(&n, s);
                const double got = (double)loss_of(&n);
                assert_int_equal(kd_optim_read_control(n.optim, ctl), KD_OK);
                if (ctl[KD_CTL_SKIPPED] > 0.0 && runs[d].dtype == KD_F16) {
                    break; /* the loss scale is being found: its first steps are not the CPU's */
                }
                worst = fmax(worst, fabs(got - want[s]));
                if (!(fabs(got - want[s]) <= runs[d].tol)) {
                    fail_msg("%s, %s, step %d: loss %.8g, CPU %.8g", families[m].name,
                             kd_dtype_name(runs[d].dtype), s, got, want[s]);
                }
            }
            print_message("  %-36s %-4s largest difference of losses %.2g\n", families[m].name,
                          kd_dtype_name(runs[d].dtype), worst);
            drop(&n);
            kd_backend_close(be);
        }
        drop(&c);
        kd_backend_close(cpu);
    }
}

/* Captured or not, the same bits. */
static void graphs_change_nothing(void **state)
{
    (void)state;
    for (size_t m = 0; m < KD_COUNTOF(families); m++) {
        float *v[2];
        int64_t numel = 0;
        for (int graph = 0; graph < 2; graph++) {
            kd_backend *be = open_cuda(graph == 1);
            net n = make(&families[m], be, KD_F32);
            for (int s = 0; s < STEPS; s++) {
                step(&n, s);
            }
            v[graph] = values(&n, &numel);
            drop(&n);
            kd_backend_close(be);
        }
        assert_memory_equal(v[0], v[1], (size_t)numel * sizeof(float));
        kd_free(v[0]);
        kd_free(v[1]);
    }
}

/* A gradient that overflows halves the scale, changes nothing else, and training goes on. */
static void the_loss_scale_is_found(void **state)
{
    (void)state;
    kd_backend *be = open_cuda(true);
    net n = make(&families[0], be, KD_F16);
    double ctl[KD_CTL_COUNT], first = 0.0;
    int64_t numel = 0;
    assert_int_equal(kd_optim_read_control(n.optim, ctl), KD_OK);
    ctl[KD_CTL_LOSS_SCALE] = 0x1p24; /* too much for fp16 */
    assert_int_equal(kd_optim_write_control(n.optim, ctl), KD_OK);
    float *before = values(&n, &numel);
    step(&n, 0);
    float *after = values(&n, &numel);
    assert_int_equal(kd_optim_read_control(n.optim, ctl), KD_OK);
    assert_true(ctl[KD_CTL_APPLY] == 0.0 && ctl[KD_CTL_LOSS_SCALE] == 0x1p23 && ctl[KD_CTL_T] == 0.0);
    assert_memory_equal(before, after, (size_t)numel * sizeof(float));
    first = (double)loss_of(&n);
    for (int s = 1; s < 40; s++) {
        step(&n, 0);
    }
    assert_int_equal(kd_optim_read_control(n.optim, ctl), KD_OK);
    assert_true(ctl[KD_CTL_T] > 10.0 && ctl[KD_CTL_SKIPPED] > 1.0 && isfinite(ctl[KD_CTL_NORM]));
    assert_true((double)loss_of(&n) < first);
    kd_free(before);
    kd_free(after);
    drop(&n);
    kd_backend_close(be);
}

#if defined(KD_TEST_SIMT)

/* After the first steps a step allocates nothing, waits for nothing, and is two graphs. */
static void a_step_only_asks(void **state)
{
    (void)state;
    for (size_t m = 0; m < KD_COUNTOF(families); m++) {
        kd_backend *be = open_cuda(true);
        net n = make(&families[m], be, KD_F32);
        simt_counts a, b;
        for (int s = 0; s < 4; s++) {
            step(&n, s);
        }
        simt_counts_get(&a);
        const uint64_t host = kd_alloc_calls();
        for (int s = 4; s < 8; s++) {
            step(&n, s);
        }
        simt_counts_get(&b);
        assert_int_equal(kd_alloc_calls() - host, 0);
        assert_int_equal(b.allocations - a.allocations, 0);
        assert_int_equal(b.waits - a.waits, 0);
        assert_int_equal(b.graph_launches - a.graph_launches, 2 * 4); /* the program and the optimiser */
        drop(&n);
        kd_backend_close(be);
    }
}

static void memory_that_runs_out_is_said(void **state)
{
    (void)state;
    kd_backend *be = open_cuda(true);
    void *p = NULL;
    simt_memory_limit((size_t)1 << 20);
    assert_int_equal(be->ops->alloc(be, (size_t)2 << 20, &p), KD_E_OOM);
    assert_null(p);
    assert_int_equal(be->ops->alloc(be, (size_t)1 << 19, &p), KD_OK); /* and nothing is broken */
    be->ops->free(be, p);
    simt_memory_limit(0);
    kd_backend_close(be);
}

#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_the_cpus),
        cmocka_unit_test(graphs_change_nothing),
        cmocka_unit_test(the_loss_scale_is_found),
#if defined(KD_TEST_SIMT)
        cmocka_unit_test(a_step_only_asks),
        cmocka_unit_test(memory_that_runs_out_is_said),
#endif
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("cuda", tests, NULL, NULL);
}
