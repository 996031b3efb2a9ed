/* `distill export` to ONNX, without Python: every student's file is a sound graph of operators of the set, holds every
 * parameter under the reference's name with the same bits, and takes any batch; one file is golden by its structure.
 * The numbers are compared by tests/oracle/onnx_runtime.py. */
#include "distill/export/export.h"
#include "distill/task/tasks.h"
#include "formats/base/io.h"
#include "formats/onnx/onnx.pb-c.h"
#include "formats/weights/safetensors.h"
#include "kernels/kd_walk.h"
#include "student/model/student.h"

#include <stdio.h>
#include <stdlib.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

enum { CLASSES = 6, FRAMES = 16, BODIES = 2, MOST = 2048 };

static char dir[64];
static kd_backend *be;

static int make(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/kd_export_XXXXXX");
    return mkdtemp(dir) == NULL || kd_backend_cpu_open(1, &be, NULL) != KD_OK ? -1 : 0;
}

static int drop(void **state)
{
    (void)state;
    kd_backend_close(be);
    return kd_io_remove_tree(dir, NULL) == KD_OK ? 0 : -1;
}

static void need(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s", err->msg);
    }
}

/* A student under test: its model with random weights, and its file. */
typedef struct subject {
    kd_config *cfg;
    kd_model model;
    KdOnnx__ModelProto *file;
} subject;

static void save_weights(kd_model *m, const char *path)
{
    static kd_st_tensor t[MOST];
    kd_err err = {0};
    const int n = kd_params_count(m->params);
    assert_true(n <= MOST);
    for (int i = 0; i < n; i++) {
        const kd_param_info *p = kd_params_at(m->params, i);
        t[i] = (kd_st_tensor){.name = p->name,
                              .dtype = KD_ST_F32,
                              .rank = (size_t)p->shape.rank,
                              .dim = p->shape.dim,
                              .data = kd_params_value(m->params, i)};
    }
    need(kd_st_write(path, t, (size_t)n, NULL, &err), &err);
}

static void subject_open(subject *s, const char *name)
{
    char text[3][64], weights[128], out[128];
    const char *const set[] = {"kind=student", text[0], text[1], text[2]};
    kd_err err = {0};
    kd_export_result r;
    uint8_t *data = NULL;
    size_t bytes = 0;
    (void)snprintf(text[0], sizeof text[0], "student.name=%s", name);
    (void)snprintf(text[1], sizeof text[1], "skeleton.frames=%d", FRAMES);
    (void)snprintf(text[2], sizeof text[2], "skeleton.max_bodies=%d", BODIES);
    (void)snprintf(weights, sizeof weights, "%s/w.safetensors", dir);
    (void)snprintf(out, sizeof out, "%s/m.onnx", dir);
    s->cfg = kd_calloc(1, sizeof *s->cfg);
    need(kd_config_load(NULL, 0, set, KD_COUNTOF(set), s->cfg, &err), &err);
    need(kd_model_open(kd_task_of(s->cfg), s->cfg, CLASSES, be, &s->model, &err), &err);
    need(kd_model_init(&s->model, NULL, 1, &err), &err);
    save_weights(&s->model, weights);
    const kd_export_opts o = {.task = kd_task_of(s->cfg), .cfg = s->cfg, .weights = weights, .out = out, .be = be};
    need(kd_export(&o, &r, &err), &err);
    assert_string_equal(r.format, "onnx");
    need(kd_io_read_file(out, 1u << 28, &data, &bytes, &err), &err);
    assert_int_equal(r.bytes, bytes);
    s->file = kd_onnx__model_proto__unpack(NULL, bytes, data);
    assert_non_null(s->file);
    assert_int_equal(r.nodes, s->file->graph->n_node);
    kd_free(data);
}

static void subject_close(subject *s)
{
    kd_onnx__model_proto__free_unpacked(s->file, NULL);
    kd_model_close(&s->model);
    kd_free(s->cfg);
}

/* ---- soundness ------------------------------------------------------------------------------- */

/* Names that are defined so far. */
typedef struct names {
    const char *of[8 * MOST];
    size_t n;
} names;

static bool holds(const names *s, const char *name)
{
    size_t i = 0;
    while (i < s->n && strcmp(s->of[i], name) != 0) {
        i++;
    }
    return i < s->n;
}

static void define(names *s, const char *name)
{
    assert_true(s->n < KD_COUNTOF(s->of));
    if (holds(s, name)) {
        fail_msg("%s is defined twice", name);
    }
    s->of[s->n++] = name;
}

/* Operators of set 17 that exports use, with their fewest and most inputs. */
static const struct {
    const char *op;
    size_t least, most;
} OPS[] = {
    {"Abs", 1, 1},        {"Add", 2, 2},      {"ArgMax", 1, 1},    {"BatchNormalization", 5, 5},
    {"Cast", 1, 1},       {"Concat", 1, 8},   {"Conv", 2, 3},      {"Div", 2, 2},
    {"Elu", 1, 1},        {"Erf", 1, 1},      {"Exp", 1, 1},       {"Expand", 2, 2},
    {"Gather", 2, 2},     {"GatherND", 2, 2}, {"Gemm", 2, 3},      {"Greater", 2, 2},
    {"HardSwish", 1, 1},  {"Identity", 1, 1}, {"IsInf", 1, 1},     {"LayerNormalization", 3, 3},
    {"Log", 1, 1},        {"MatMul", 2, 2},   {"Max", 2, 2},       {"Mul", 2, 2},
    {"Reciprocal", 1, 1}, {"ReduceL2", 1, 1}, {"ReduceMax", 1, 1}, {"ReduceMean", 1, 1},
    {"ReduceSum", 2, 2},  {"Relu", 1, 1},     {"Reshape", 2, 2},   {"Shape", 1, 1},
    {"Sigmoid", 1, 1},    {"Slice", 4, 4},    {"Softmax", 1, 1},   {"Sqrt", 1, 1},
    {"Squeeze", 2, 2},    {"Sub", 2, 2},      {"Transpose", 1, 1}, {"Unsqueeze", 2, 2},
    {"Where", 3, 3},
};

static void check_node(const KdOnnx__NodeProto *n, names *defined)
{
    size_t i = 0;
    while (i < KD_COUNTOF(OPS) && strcmp(OPS[i].op, n->op_type) != 0) {
        i++;
    }
    if (i == KD_COUNTOF(OPS) || n->n_input < OPS[i].least || n->n_input > OPS[i].most) {
        fail_msg("%s: operator %s with %zu inputs", n->name, n->op_type, n->n_input);
    }
    for (size_t k = 0; k < n->n_input; k++) {
        if (!holds(defined, n->input[k])) {
            fail_msg("%s reads %s, which nothing before it defines", n->name, n->input[k]);
        }
    }
    for (size_t k = 0; k < n->n_output; k++) {
        define(defined, n->output[k]);
    }
}

static bool is_read(const KdOnnx__GraphProto *g, const char *name)
{
    for (size_t i = 0; i < g->n_node; i++) {
        for (size_t k = 0; k < g->node[i]->n_input; k++) {
            if (strcmp(g->node[i]->input[k], name) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void check_graph(const KdOnnx__GraphProto *g)
{
    static names defined;
    defined.n = 0;
    for (size_t i = 0; i < g->n_input; i++) {
        define(&defined, g->input[i]->name);
    }
    for (size_t i = 0; i < g->n_initializer; i++) {
        const KdOnnx__TensorProto *t = g->initializer[i];
        size_t n = t->data_type == 7 ? 8 : t->data_type == 1 ? 4 : 1;
        for (size_t d = 0; d < t->n_dims; d++) {
            n *= (size_t)t->dims[d];
        }
        assert_int_equal(t->raw_data.len, n);
        define(&defined, t->name);
        if (!is_read(g, t->name)) {
            fail_msg("nothing reads %s", t->name);
        }
    }
    for (size_t i = 0; i < g->n_node; i++) {
        check_node(g->node[i], &defined);
    }
    for (size_t i = 0; i < g->n_output; i++) {
        assert_true(holds(&defined, g->output[i]->name));
    }
}

static const KdOnnx__TensorProto *initialiser(const KdOnnx__GraphProto *g, const char *name)
{
    for (size_t i = 0; i < g->n_initializer; i++) {
        if (strcmp(g->initializer[i]->name, name) == 0) {
            return g->initializer[i];
        }
    }
    return NULL;
}

/* Does a node of the program read the parameter?  What only training reads is in no file. */
static bool program_reads(const kd_program *p, const char *name)
{
    for (int32_t k = 0; k < kd_program_nodes(p); k++) {
        const kd_walk_node n = kd_walk_node_at(p, k);
        for (int32_t i = 0; i < n.n_in; i++) {
            kd_walk_value v = kd_walk_value_at(p, n.in[i]);
            while (n.in[i] != 0 && v.kind == KD_WALK_VIEW) {
                v = kd_walk_value_at(p, v.of);
            }
            if (n.in[i] != 0 && v.kind == KD_WALK_PARAM && strcmp(v.name, name) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Parameters stand in the file with their bits; landmarks become the matrix they stand for. */
static void check_parameters(subject *s)
{
    kd_err err = {0};
    kd_program *program = NULL;
    int read = 0;
    need(kd_model_plain_program(&s->model, 1, &program, &err), &err);
    for (int i = 0; i < kd_params_count(s->model.params); i++) {
        const kd_param_info *p = kd_params_at(s->model.params, i);
        const KdOnnx__TensorProto *t = initialiser(s->file->graph, p->name);
        if (strstr(p->name, "anchor_logits") != NULL) {
            assert_null(t);
            continue;
        }
        if (!program_reads(program, p->name)) {
            assert_null(t);
            continue;
        }
        read++;
        if (t == NULL) {
            fail_msg("%s is not in the file", p->name);
        }
        assert_int_equal(t->raw_data.len, 4 * (size_t)p->numel);
        assert_memory_equal(t->raw_data.data, kd_params_value(s->model.params, i), t->raw_data.len);
    }
    assert_true(10 * read > 9 * kd_params_count(s->model.params));
    kd_program_free(program);
}

static void check_ends(const subject *s)
{
    const KdOnnx__GraphProto *g = s->file->graph;
    assert_int_equal(g->n_input, s->model.n_inputs);
    for (size_t i = 0; i < g->n_input; i++) {
        const KdOnnx__TensorShapeProto *shape = g->input[i]->type->tensor_type->shape;
        assert_string_equal(g->input[i]->name, s->model.inputs[i]);
        assert_int_equal(shape->n_dim, 5);
        assert_string_equal(shape->dim[0]->dim_param, "batch");
        assert_int_equal(shape->dim[2]->dim_value, FRAMES);
        assert_int_equal(shape->dim[4]->dim_value, BODIES);
    }
    assert_int_equal(g->n_output, 2);
    assert_string_equal(g->output[0]->name, "logits");
    assert_string_equal(g->output[0]->type->tensor_type->shape->dim[0]->dim_param, "batch");
    assert_int_equal(g->output[0]->type->tensor_type->shape->dim[1]->dim_value, CLASSES);
    assert_string_equal(g->output[1]->name, "features");
    assert_int_equal(g->output[1]->type->tensor_type->shape->dim[1]->dim_value, s->model.feature_dim);
}

static void every_student(void **state)
{
    (void)state;
    for (int i = 0; i < kd_student_count(); i++) {
        subject s;
        subject_open(&s, kd_student_name(i));
        check_ends(&s);
        check_graph(s.file->graph);
        check_parameters(&s);
        subject_close(&s);
    }
}

/* ---- one file by its structure --------------------------------------------------------------- */

/* Counted in the reference's modules.  Convolutions: fusion 1; a block's graph convolution 1, separable convolution 3,
 * attention 4; residuals of blocks 3 and of strided convolutions 2.  Batch norms: fusion 4, a block 6, residuals 5,
 * head 1. Products with adjacencies 3.  Linear layers: two a motion gate, the classifier. */
static void golden_structure(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        int count;
    } want[] = {{"Conv", 30}, {"BatchNormalization", 28}, {"MatMul", 3}, {"HardSwish", 9}, {"Gemm", 7}};
    subject s;
    subject_open(&s, "last-e3-nano");
    for (size_t i = 0; i < KD_COUNTOF(want); i++) {
        int n = 0;
        for (size_t k = 0; k < s.file->graph->n_node; k++) {
            n += strcmp(s.file->graph->node[k]->op_type, want[i].op) == 0 ? 1 : 0;
        }
        if (n != want[i].count) {
            print_error("%s: %d, expected %d\n", want[i].op, n, want[i].count);
        }
        assert_int_equal(n, want[i].count);
    }
    subject_close(&s);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void refusals(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_export_result r;
    kd_export_opts o = {.weights = "w", .out = "x.txt", .be = be};
    assert_int_equal(kd_export(&o, &r, &err), KD_E_ARG);
    assert_non_null(strstr(err.msg, ".safetensors, .pth, .pt, .bin, .onnx"));
    o.out = "x.onnx";
    o.format = "pth";
    err.code = KD_OK;
    assert_int_equal(kd_export(&o, &r, &err), KD_E_ARG);
    assert_non_null(strstr(err.msg, "x.onnx: expected a name ending in .pth, .pt, .bin"));
    o.out = "x.pth";
    o.int8 = true;
    err.code = KD_OK;
    assert_int_equal(kd_export(&o, &r, &err), KD_E_ARG);
    assert_non_null(strstr(err.msg, "no form in eight bits"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_student), cmocka_unit_test(golden_structure),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, make, drop);
}
