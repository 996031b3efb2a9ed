/* formats/onnx: a small model, read back field by field; the same calls give the same bytes. */
#include "formats/base/io.h"
#include "formats/onnx/onnx.h"
#include "formats/onnx/onnx.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/kd_onnx_XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int drop_dir(void **state)
{
    (void)state;
    return kd_io_remove_tree(dir, NULL) == KD_OK ? 0 : -1;
}

static void write_small(const char *path)
{
    static const float w[6] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
    static const int64_t x_dim[2] = {KD_ONNX_BATCH, 3}, y_dim[2] = {KD_ONNX_BATCH, 2}, w_dim[2] = {2, 3};
    const char *const in[2] = {"x", "w"}, *const y = "y";
    size_t bytes = 0;
    kd_onnx *m = NULL;
    assert_int_equal(kd_onnx_create("small", &m, NULL), KD_OK);
    kd_onnx_input(m, "x", x_dim, 2);
    kd_onnx_output(m, "y", y_dim, 2);
    kd_onnx_tensor(m, "w", KD_ONNX_F32, w_dim, 2, w);
    kd_onnx_tensor(m, "a", KD_ONNX_I64, NULL, 0, &w_dim[0]);
    kd_onnx_node *n = kd_onnx_add(m, "Gemm", in, 2, &y, 1);
    kd_onnx_attr_int(m, n, "transB", 1);
    kd_onnx_attr_float(m, n, "alpha", 0.5f);
    kd_onnx_attr_ints(m, n, "ints", w_dim, 2);
    kd_onnx_meta(m, "classes", "[\"wave\"]");
    assert_string_equal(kd_onnx_text(m, "%s/%d", "Gemm", 7), "Gemm/7");
    assert_int_equal(kd_onnx_nodes(m), 1);
    assert_int_equal(kd_onnx_op_kinds(m), 1);
    assert_int_equal(kd_onnx_write(m, path, &bytes, NULL), KD_OK);
    assert_true(bytes > 0);
    kd_onnx_free(m);
}

static uint8_t *read_file(const char *name, size_t *bytes)
{
    char path[100];
    uint8_t *data = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    write_small(path);
    assert_int_equal(kd_io_read_file(path, 1 << 20, &data, bytes, NULL), KD_OK);
    return data;
}

static void fields(void **state)
{
    (void)state;
    size_t bytes = 0;
    uint8_t *data = read_file("a.onnx", &bytes);
    KdOnnx__ModelProto *m = kd_onnx__model_proto__unpack(NULL, bytes, data);
    assert_non_null(m);
    assert_int_equal(m->ir_version, 8);
    assert_int_equal(m->n_opset_import, 1);
    assert_int_equal(m->opset_import[0]->version, 17);
    assert_string_equal(m->metadata_props[0]->key, "classes");
    assert_string_equal(m->metadata_props[0]->value, "[\"wave\"]");
    const KdOnnx__GraphProto *g = m->graph;
    assert_string_equal(g->name, "small");
    const KdOnnx__TensorTypeProto *x = g->input[0]->type->tensor_type;
    assert_int_equal(x->elem_type, 1);
    assert_string_equal(x->shape->dim[0]->dim_param, "batch");
    assert_false(x->shape->dim[0]->has_dim_value);
    assert_int_equal(x->shape->dim[1]->dim_value, 3);
    assert_string_equal(g->output[0]->name, "y");
    assert_int_equal(g->n_initializer, 2);
    assert_string_equal(g->initializer[0]->name, "a"); /* by name */
    assert_int_equal(g->initializer[0]->data_type, 7);
    assert_int_equal(g->initializer[0]->n_dims, 0);
    assert_int_equal(g->initializer[0]->raw_data.len, 8);
    assert_int_equal(g->initializer[1]->dims[1], 3);
    assert_int_equal(g->initializer[1]->raw_data.len, 24);
    assert_memory_equal(g->initializer[1]->raw_data.data + 20, &(float){6.0f}, 4);
    const KdOnnx__NodeProto *n = g->node[0];
    assert_string_equal(n->op_type, "Gemm");
    assert_string_equal(n->input[1], "w");
    assert_string_equal(n->output[0], "y");
    assert_int_equal(n->n_attribute, 3);
    assert_int_equal(n->attribute[0]->i, 1);
    assert_int_equal(n->attribute[0]->type, 2);
    assert_true(n->attribute[1]->f == 0.5f);
    assert_int_equal(n->attribute[1]->type, 1);
    assert_int_equal(n->attribute[2]->n_ints, 2);
    assert_int_equal(n->attribute[2]->type, 7);
    kd_onnx__model_proto__free_unpacked(m, NULL);
    kd_free(data);
}

static void same_bytes(void **state)
{
    (void)state;
    size_t n[2];
    uint8_t *data[2] = {read_file("b.onnx", &n[0]), read_file("c.onnx", &n[1])};
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(data[0], data[1], n[0]);
    kd_free(data[0]);
    kd_free(data[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fields), cmocka_unit_test(same_bytes)};
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
