/* Fused programs against unfused ones: the same losses, outputs and gradients, whatever a backend asks to have fused.
 *
 * Two programs are made of this file: test_fuse in f64 on the CPU, where a rule that is wrong shows far above rounding,
 * and test_fuse_simt in f32 on the CUDA kernels (tests/simt/). */
#include "kernels/kd_backend.h"
#include "kernels/kd_layers.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "student/model/student.h"
#include "teacher/model/vit.h"
#include "tests/check.h"
#include "tests/kernels/f64_backend.h"
#include "tests/kernels/fuse_nets.h"

#include <math.h>
#include <stdlib.h>

enum { PIXELS = BATCH * 3 * 4 * 8 * 8 };

#if defined(KD_TEST_SIMT)
static const kd_dtype dtype = KD_F32;
static const double tol = 2e-5; /* of the largest number of a tensor */
#else
static const kd_dtype dtype = KD_F64;
static const double tol = 1e-11;
#endif

typedef struct rule {
    uint32_t fuses;
    const char *op;    /* what must be there with it and not without */
    const char *fewer; /* what there must be less of with it */
    kd_vit_cfg vit;
    bool kept;             /* the value between is an output: the rule must not apply */
    const char *student;   /* instead of the ViT */
    fuse_net net;          /* or this */
    bool not_in_training;  /* batch norms are in between there */
    bool only_in_training; /* nothing to compare in a forward-only program */
    bool in_f64;           /* not on the shim, where a student takes 20 s: its kernels run there with another row */
    struct {
        const char *op;
        int with, without;
    } left[4];          /* in training: how many there are with it, and without */
    const char *listed; /* in training: what the listing has with it and not without */
} rule;

/* clang-format off */
#define SMALL_VIT .img_size = 8, .frames = 4, .patch = 4, .tubelet = 2, .dim = 16, .depth = 2, .heads = 2, \
                  .mlp_hidden = 24, .classes = CLASSES, .eps = 1e-6f, .fc_norm_eps = 1e-5f, \
                  .init_scale = 1.0f, .qkv_bias = true
/* clang-format on */

static const rule rules[] = {
    {.fuses = KD_FUSE_NORM, .op = "add_layernorm", .vit = {SMALL_VIT, .drop_path = 0.3f}},
    {.fuses = KD_FUSE_NORM, .op = "add_layernorm", .vit = {SMALL_VIT, .recompute = true}},
    {.fuses = KD_FUSE_POOL, .op = "pool_layernorm", .vit = {SMALL_VIT, .drop_path = 0.3f}},
    {.fuses = KD_FUSE_POOL, .op = "pool_layernorm", .vit = {SMALL_VIT, .recompute = true}},
    {.fuses = KD_FUSE_POOL, .op = "pool_layernorm", .vit = {SMALL_VIT}, .kept = true},
    {.fuses = KD_FUSE_POOL, .op = "pool_layernorm", .vit = {SMALL_VIT, .cls_pooling = true}, .kept = true},
    {.fuses = KD_FUSE_SEPARABLE, .op = "conv_separable", .fewer = "concat", .student = "sfz-nano"},
    {.fuses = KD_FUSE_SEPARABLE,
     .op = "conv_separable",
     .fewer = "concat",
     .student = "sfz-nano",
     .vit = {.recompute = true},
     .in_f64 = true},
    {.fuses = KD_FUSE_SEPARABLE, .op = "conv_separable", .student = "last-v1-small"},
    {.fuses = KD_FUSE_SEPARABLE,
     .op = "conv_separable",
     .student = "last-e3-nano",
     .not_in_training = true,
     .in_f64 = true},
    {.fuses = KD_FUSE_SEPARABLE, .op = "conv_separable", .net = two_convolutions, .kept = true},
    {.fuses = KD_FUSE_SEPARABLE, .fewer = "concat", .net = two_branches},
    {.fuses = KD_FUSE_SEPARABLE, .fewer = "concat", .net = kept_branch, .kept = true},
    {.fuses = KD_FUSE_SUM | KD_FUSE_SEPARABLE,
     .fewer = "add",
     .student = "sfz-nano",
     .vit = {.recompute = true},
     .only_in_training = true},
    {.fuses = KD_FUSE_SUM, .fewer = "add", .student = "last-v1-small", .only_in_training = true, .in_f64 = true},
    {.fuses = KD_FUSE_SUM, .fewer = "add", .student = "last-e3-nano", .only_in_training = true, .in_f64 = true},
    {.fuses = KD_FUSE_SUM, .fewer = "add", .net = shared_gradient, .kept = true, .only_in_training = true},
    {.fuses = KD_FUSE_SUM, .fewer = "add", .net = pooled_twice, .only_in_training = true},
    /* what is left: the classifier's dropout, sums of gradients and of whole gates */
    {.fuses = KD_FUSE_BATCHNORM,
     .only_in_training = true,
     .student = "sfz-nano",
     .left = {{"act", 0, 10}, {"dropout", 2, 12}, {"bn_update", 0, 13}, {"act_bwd", 0, 10}}},
    {.fuses = KD_FUSE_BATCHNORM,
     .only_in_training = true,
     .student = "sfz-nano",
     .vit = {.recompute = true},
     .in_f64 = true,
     .left = {{"act", 0, 17}, {"bn_update", 0, 13}}},
    {.fuses = KD_FUSE_BATCHNORM,
     .only_in_training = true,
     .student = "last-e3-nano",
     .vit = {.recompute = true},
     .in_f64 = true,
     .left = {{"act", 24, 55}, {"bn_update", 0, 28}}},
    {.fuses = KD_FUSE_BATCHNORM,
     .only_in_training = true,
     .student = "last-v1-small",
     .in_f64 = true,
     .left = {{"act", 0, 5}, {"bn_update", 0, 5}}},
    {.fuses = KD_FUSE_BATCHNORM,
     .only_in_training = true,
     .net = norms,
     .left = {{"act", 2, 4}, {"add", 4, 6}, {"dropout", 0, 4}, {"bn_update", 0, 6}},
     .listed = "bn3.bias(3) %"},
    {.fuses = KD_FUSE_BATCHNORM,
     .only_in_training = true,
     .net = norms,
     .vit = {.recompute = true},
     .left = {{"dropout", 2, 4}, {"bn_update", 0, 6}}},
    {.fuses = KD_FUSE_BATCHNORM | KD_FUSE_ACT, .net = exponentials, .left = {{"act", 3, 3}}},
};

typedef struct net {
    kd_params *params;
    kd_program *prog;
} net;

static void must(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        CHECK_FAIL("%s", err->msg);
    }
}

static kd_backend *open_backend(void)
{
    kd_backend *be = NULL;
#if defined(KD_TEST_SIMT)
    CHECK(kd_backend_cuda_open(NULL, &be, NULL) == KD_OK);
#else
    be = kd_f64_backend_open();
    CHECK(be != NULL);
#endif
    return be;
}

/* The student with x for all its streams. */
static kd_val student(const rule *r, kd_graph *g, kd_val x)
{
    const kd_val streams[KD_STUDENT_MAX_STREAMS] = {x, x, x};
    const kd_student_cfg c = {.model = kd_student_find(r->student),
                              .classes = CLASSES,
                              .frames = FRAMES,
                              .bodies = 1,
                              .dropout = 0.2f,
                              .drop_path = 0.3f};
    return kd_student_build(g, &c, streams).logits;
}

/* The teacher, or (`kept`) its end alone with the means over tokens as an output; or a student. */
static kd_val build(const rule *r, kd_graph *g, kd_val *x)
{
    kd_val logits;
    if (r->student != NULL || r->net != NULL) {
        *x = kd_input(g, "x", dtype, kd_shape5(BATCH, 3, FRAMES, JOINTS, 1));
        const kd_val rows = kd_reshape(g, *x, kd_shape4(BATCH, 3, FRAMES, JOINTS));
        logits = r->net != NULL ? r->net(g, rows) : student(r, g, *x);
        return kd_ce(g, logits, kd_input(g, "target", dtype, kd_shape2(BATCH, CLASSES)), KD_NONE);
    }
    *x = kd_input(g, "x", dtype, kd_shape5(BATCH, 3, r->vit.frames, r->vit.img_size, r->vit.img_size));
    if (r->kept && !r->vit.cls_pooling) {
        const kd_linear_opts lo = {.weight = kd_init_uniform(0.5f), .bias = kd_init_uniform(0.1f), .f32_out = true};
        const kd_val rows = kd_reshape(g, *x, kd_shape3(BATCH, PIXELS / BATCH / 16, 16));
        const kd_val mean = kd_reduce(g, rows, KD_REDUCE_MEAN, 1u << 1);
        kd_output(g, "features", mean);
        logits = kd_linear(g, kd_layernorm(g, mean, "norm", 1e-5f), "head", CLASSES, &lo);
        kd_output(g, "logits", logits);
    } else {
        logits = kd_vit_build(g, &r->vit, &(kd_vit_input){.clip = *x}).logits;
    }
    return kd_ce(g, logits, kd_input(g, "target", dtype, kd_shape2(BATCH, CLASSES)), KD_NONE);
}

static net make(const rule *r, kd_backend *be, bool training, bool fuse)
{
    net n = {kd_params_create(kd_stat_dtype(dtype)), NULL};
    const kd_graph_opts go = {.params = n.params, .dtype = dtype, .training = training};
    kd_err err = {0};
    kd_val x;
    kd_graph *g = kd_graph_create(&go);
    (void)build(r, g, &x);
    kd_graph_free(g);
    must(kd_params_alloc(n.params, be, dtype, true, &err), &err);
    must(kd_params_init(n.params, 7, &err), &err);
    g = kd_graph_create(&go);
    kd_compile_opts co = {.no_fuse = !fuse, .recompute = r->vit.recompute, .poison = true};
    const kd_val loss = build(r, g, &x);
    kd_output(g, "loss", loss);
    if (training) {
        co.loss = loss;
        co.grad_inputs = &x;
        co.n_grad_inputs = r->student == NULL; /* students choose bodies: no gradient there */
    }
    must(kd_program_compile(g, be, &co, &n.prog, &err), &err);
    must(kd_program_check_plan(n.prog, &err), &err);
    return n;
}

static void drop(net *n)
{
    kd_program_free(n->prog);
    kd_params_free(n->params);
}

static void feed(net *n, const char *name, const double *v, int count)
{
    float *narrow = kd_alloc((size_t)count * sizeof *narrow);
    CHECK(narrow != NULL);
    for (int i = 0; i < count; i++) {
        narrow[i] = (float)v[i];
    }
    const void *src = dtype == KD_F64 ? (const void *)v : (const void *)narrow;
    CHECK(kd_program_write(n->prog, name, src, (size_t)count * kd_dtype_size(dtype)) == KD_OK);
    kd_free(narrow);
}

static void run(net *n)
{
    static double x[PIXELS];
    double target[BATCH * CLASSES];
    kd_rng r = kd_rng_make(3, KD_RNG_TEST, 1, 0);
    for (int i = 0; i < PIXELS; i++) {
        x[i] = (double)(float)kd_rng_normal(&r);
    }
    for (int i = 0; i < BATCH * CLASSES; i++) {
        target[i] = i % CLASSES == i / CLASSES ? 0.75 : 0.0625;
    }
    const kd_tensor t = kd_program_tensor(n->prog, "x");
    feed(n, "x", x, (int)kd_shape_numel(&t.shape));
    feed(n, "target", target, BATCH * CLASSES);
    CHECK(kd_params_zero_grad(n->params) == KD_OK);
    const kd_step step = {.seed = 5, .step = 2, .grad_scale = 1.0f};
    if (kd_program_run(n->prog, &step) != KD_OK) {
        CHECK_FAIL("run failed in %s", kd_program_where(n->prog));
    }
}

static int count_op(const kd_program *p, const char *op)
{
    int n = 0;
    for (int i = 0; i < kd_program_nodes(p); i++) {
        const char *name = kd_program_node_name(p, i), *last = strrchr(name, ' ');
        n += strcmp(last != NULL ? last + 1 : name, op) == 0;
    }
    return n;
}

static bool lists(const kd_program *p, const char *what)
{
    char line[1024];
    bool found = false;
    FILE *f = tmpfile();
    CHECK(f != NULL);
    kd_program_dump(p, f);
    rewind(f);
    while (fgets(line, sizeof line, f) != NULL) {
        found = found || strstr(line, what) != NULL;
    }
    (void)fclose(f);
    return found;
}

static void check_ops(const rule *r, bool training, const kd_program *with, const kd_program *without)
{
    const bool applies = !r->kept && !(training && r->not_in_training);
    if (r->op != NULL) {
        CHECK((count_op(with, r->op) > 0) == applies);
        CHECK(count_op(without, r->op) == 0);
    }
    if (r->fewer != NULL) {
        const int a = count_op(with, r->fewer), b = count_op(without, r->fewer);
        CHECK(applies ? a < b : a == b);
    }
    for (size_t i = 0; training && i < KD_COUNTOF(r->left) && r->left[i].op != NULL; i++) {
        const int a = count_op(with, r->left[i].op), b = count_op(without, r->left[i].op);
        if (a != r->left[i].with || b != r->left[i].without) {
            CHECK_FAIL("%s: %d with fusion and %d without, expected %d and %d", r->left[i].op, a, b, r->left[i].with,
                       r->left[i].without);
        }
    }
    CHECK(!training || r->listed == NULL || (lists(with, r->listed) && !lists(without, r->listed)));
}

static double *numbers(kd_backend *be, const void *there, int64_t n)
{
    const size_t size = kd_dtype_size(dtype);
    double *v = kd_alloc((size_t)n * sizeof *v);
    char *raw = kd_alloc((size_t)n * size);
    CHECK(v != NULL && raw != NULL && there != NULL);
    CHECK(be->ops->download(be, raw, there, (size_t)n * size) == KD_OK);
    for (int64_t i = 0; i < n; i++) {
        float f = 0.0f;
        if (dtype == KD_F64) {
            memcpy(&v[i], raw + (size_t)i * size, sizeof(double));
        } else {
            memcpy(&f, raw + (size_t)i * size, sizeof f);
            v[i] = (double)f;
        }
    }
    kd_free(raw);
    return v;
}

/* least: what is measured against where the largest number is smaller. */
static void same(kd_backend *be, const void *a, const void *b, int64_t n, double least, const char *what)
{
    double *x = numbers(be, a, n), *y = numbers(be, b, n), top = least, off = 0.0;
    for (int64_t i = 0; i < n; i++) {
        top = fmax(top, fabs(y[i]));
        off = fmax(off, isnan(x[i]) || isnan(y[i]) ? INFINITY : fabs(x[i] - y[i]));
    }
    kd_free(x);
    kd_free(y);
    if (!(off <= tol * top)) {
        CHECK_FAIL("%s: fused and unfused differ by %.3g of %.3g", what, off, top);
    }
}

static void same_tensor(kd_backend *be, const net *a, const net *b, const char *name)
{
    const kd_tensor t = kd_program_tensor(a->prog, name);
    same(be, t.data, kd_program_tensor(b->prog, name).data, kd_shape_numel(&t.shape), 0.0, name);
}

/* Gradients and running statistics.  Some gradients are 0 but for rounding (that of a shift before a batch norm), so no
 * tensor is measured against less than a hundredth of the largest gradient. */
static void same_params(kd_backend *be, const net *a, const net *b)
{
    double top = 0.0;
    for (int i = 0; i < kd_params_count(b->params); i++) {
        const kd_param_info *e = kd_params_at(b->params, i);
        double *g = e->buffer ? NULL : numbers(be, kd_params_grad(b->params, i), e->numel);
        for (int64_t j = 0; g != NULL && j < e->numel; j++) {
            top = fmax(top, fabs(g[j]));
        }
        kd_free(g);
    }
    for (int i = 0; i < kd_params_count(a->params); i++) {
        const kd_param_info *e = kd_params_at(a->params, i);
        if (e->buffer) {
            same(be, kd_params_value(a->params, i), kd_params_value(b->params, i), e->numel, 0.0, e->name);
        } else {
            same(be, kd_params_grad(a->params, i), kd_params_grad(b->params, i), e->numel, 0.01 * top, e->name);
        }
    }
}

static void check_rule(const rule *r, bool training)
{
    if (r->in_f64 && dtype != KD_F64) {
        return;
    }
    kd_backend *be = open_backend();
    be->fuses = r->fuses;
    net a = make(r, be, training, true), b = make(r, be, training, false);
    check_ops(r, training, a.prog, b.prog);
    run(&a);
    run(&b);
    same_tensor(be, &a, &b, "loss");
    same_tensor(be, &a, &b, "logits");
    same_tensor(be, &a, &b, "features");
    if (training) {
        if (kd_program_tensor(b.prog, "grad:x").data != NULL) {
            same_tensor(be, &a, &b, "grad:x");
        }
        same_params(be, &a, &b);
    }
    drop(&a);
    drop(&b);
    kd_backend_close(be);
}

static void training_programs(void)
{
    for (size_t i = 0; i < KD_COUNTOF(rules); i++) {
        check_rule(&rules[i], true);
    }
}

static void forward_programs(void)
{
    for (size_t i = 0; i < KD_COUNTOF(rules); i++) {
        if (!rules[i].only_in_training) {
            check_rule(&rules[i], false);
        }
    }
}

int main(int argc, char **argv)
{
    check_filter(argc > 1 ? argv[1] : NULL);
    CHECK_RUN(training_programs);
    CHECK_RUN(forward_programs);
    return check_end();
}
