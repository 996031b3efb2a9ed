/* ONNX files by protobuf-c: see onnx.h. */
#include "formats/onnx/onnx.h"

#include "formats/base/io.h"
#include "formats/onnx/onnx.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

enum { IR_VERSION = 8 };

typedef struct block { /* one allocation; all of them end with the model */
    struct block *next;
} block;

struct kd_onnx_node {
    KdOnnx__NodeProto proto;
};

struct kd_onnx {
    KdOnnx__ModelProto model;
    KdOnnx__GraphProto graph;
    KdOnnx__OperatorSetIdProto opset;
    KdOnnx__OperatorSetIdProto *opsets[1];
    block *blocks;
    bool failed;
};

/* Zeroed memory of the model; NULL: none left, now or earlier. */
static void *take(kd_onnx *m, size_t bytes)
{
    block *b = m->failed ? NULL : kd_calloc(1, sizeof *b + bytes);
    if (b == NULL) {
        m->failed = true;
        return NULL;
    }
    b->next = m->blocks;
    m->blocks = b;
    return b + 1;
}

static char *copy_text(kd_onnx *m, const char *text)
{
    const size_t n = strlen(text) + 1;
    char *out = take(m, n);
    if (out != NULL) {
        memcpy(out, text, n);
    }
    return out;
}

/* Append to a repeated field: arrays double when n is a power of two. */
static void push(kd_onnx *m, void *list, size_t *n, const void *item)
{
    void **old = NULL;
    memcpy(&old, list, sizeof old);
    if ((*n & (*n - 1)) == 0) {
        void **wide = take(m, 2 * (*n + 1) * sizeof *wide);
        if (wide == NULL) {
            return;
        }
        if (*n != 0) {
            memcpy(wide, old, *n * sizeof *wide);
        }
        memcpy(list, &wide, sizeof wide);
        old = wide;
    }
    memcpy(&old[(*n)++], &item, sizeof item);
}

kd_status kd_onnx_create(const char *graph, kd_onnx **out, kd_err *err)
{
    kd_onnx *m = kd_calloc(1, sizeof *m);
    *out = m;
    if (m == NULL) {
        return KD_FAIL(err, KD_E_OOM, "ONNX: out of memory");
    }
    kd_onnx__model_proto__init(&m->model);
    kd_onnx__graph_proto__init(&m->graph);
    kd_onnx__operator_set_id_proto__init(&m->opset);
    m->opset.domain = copy_text(m, "");
    m->opset.has_version = 1;
    m->opset.version = KD_ONNX_OPSET;
    m->opsets[0] = &m->opset;
    m->graph.name = copy_text(m, graph);
    m->model.has_ir_version = 1;
    m->model.ir_version = IR_VERSION;
    m->model.producer_name = copy_text(m, "lastkd");
    m->model.graph = &m->graph;
    m->model.opset_import = m->opsets;
    m->model.n_opset_import = 1;
    return KD_OK;
}

void kd_onnx_free(kd_onnx *m)
{
    block *b = m != NULL ? m->blocks : NULL;
    while (b != NULL) {
        block *next = b->next;
        kd_free(b);
        b = next;
    }
    kd_free(m);
}

const char *kd_onnx_text(kd_onnx *m, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *out = n >= 0 ? take(m, (size_t)n + 1) : NULL;
    va_start(ap, fmt);
    if (out != NULL) {
        (void)vsnprintf(out, (size_t)n + 1, fmt, ap);
    }
    va_end(ap);
    return out != NULL ? out : "";
}

/* ---- parts ----------------------------------------------------------------------------------- */

static KdOnnx__ValueInfoProto *value_info(kd_onnx *m, const char *name, const int64_t *dim, int rank)
{
    KdOnnx__ValueInfoProto *v = take(m, sizeof *v);
    KdOnnx__TypeProto *type = take(m, sizeof *type);
    KdOnnx__TensorTypeProto *tensor = take(m, sizeof *tensor);
    KdOnnx__TensorShapeProto *shape = take(m, sizeof *shape);
    if (shape == NULL) {
        return NULL;
    }
    kd_onnx__value_info_proto__init(v);
    kd_onnx__type_proto__init(type);
    kd_onnx__tensor_type_proto__init(tensor);
    kd_onnx__tensor_shape_proto__init(shape);
    v->name = copy_text(m, name);
    v->type = type;
    type->tensor_type = tensor;
    tensor->has_elem_type = 1;
    tensor->elem_type = KD_ONNX_F32;
    tensor->shape = shape;
    for (int i = 0; i < rank; i++) {
        KdOnnx__DimensionProto *d = take(m, sizeof *d);
        if (d == NULL) {
            return NULL;
        }
        kd_onnx__dimension_proto__init(d);
        if (dim[i] == KD_ONNX_BATCH) {
            d->dim_param = copy_text(m, "batch");
        } else {
            d->has_dim_value = 1;
            d->dim_value = dim[i];
        }
        push(m, &shape->dim, &shape->n_dim, d);
    }
    return v;
}

void kd_onnx_input(kd_onnx *m, const char *name, const int64_t *dim, int rank)
{
    push(m, &m->graph.input, &m->graph.n_input, value_info(m, name, dim, rank));
}

void kd_onnx_output(kd_onnx *m, const char *name, const int64_t *dim, int rank)
{
    push(m, &m->graph.output, &m->graph.n_output, value_info(m, name, dim, rank));
}

static size_t type_bytes(kd_onnx_type type)
{
    return type == KD_ONNX_I64 ? sizeof(int64_t) : type == KD_ONNX_F32 || type == KD_ONNX_I32 ? sizeof(float) : 1;
}

void kd_onnx_tensor(kd_onnx *m, const char *name, kd_onnx_type type, const int64_t *dim, int rank, const void *data)
{
    size_t bytes = type_bytes(type);
    for (int i = 0; i < rank; i++) {
        bytes *= (size_t)dim[i];
    }
    KdOnnx__TensorProto *t = take(m, sizeof *t);
    int64_t *dims = take(m, (size_t)rank * sizeof *dims);
    uint8_t *raw = take(m, bytes);
    if (raw == NULL) {
        return;
    }
    kd_onnx__tensor_proto__init(t);
    t->name = copy_text(m, name);
    t->has_data_type = 1;
    t->data_type = (int32_t)type;
    t->dims = dims;
    t->n_dims = (size_t)rank;
    for (int i = 0; i < rank; i++) {
        dims[i] = dim[i];
    }
    memcpy(raw, data, bytes);
    t->has_raw_data = 1;
    t->raw_data = (ProtobufCBinaryData){.len = bytes, .data = raw};
    push(m, &m->graph.initializer, &m->graph.n_initializer, t);
}

kd_onnx_node *kd_onnx_add(kd_onnx *m, const char *op, const char *const *in, int n_in, const char *const *out,
                          int n_out)
{
    kd_onnx_node *n = take(m, sizeof *n);
    if (n == NULL) {
        return NULL;
    }
    kd_onnx__node_proto__init(&n->proto);
    n->proto.op_type = copy_text(m, op);
    n->proto.name = copy_text(m, out[0]);
    for (int i = 0; i < n_in; i++) {
        push(m, &n->proto.input, &n->proto.n_input, copy_text(m, in[i]));
    }
    for (int i = 0; i < n_out; i++) {
        push(m, &n->proto.output, &n->proto.n_output, copy_text(m, out[i]));
    }
    push(m, &m->graph.node, &m->graph.n_node, &n->proto);
    return n;
}

static KdOnnx__AttributeProto *attribute(kd_onnx *m, kd_onnx_node *n, const char *name, int type)
{
    KdOnnx__AttributeProto *a = n != NULL ? take(m, sizeof *a) : NULL;
    if (a == NULL) {
        return NULL;
    }
    kd_onnx__attribute_proto__init(a);
    a->name = copy_text(m, name);
    a->has_type = 1;
    a->type = (KdOnnx__AttributeProto__AttributeType)type;
    push(m, &n->proto.attribute, &n->proto.n_attribute, a);
    return a;
}

void kd_onnx_attr_int(kd_onnx *m, kd_onnx_node *n, const char *name, int64_t value)
{
    KdOnnx__AttributeProto *a = attribute(m, n, name, KD_ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (a != NULL) {
        a->has_i = 1;
        a->i = value;
    }
}

void kd_onnx_attr_ints(kd_onnx *m, kd_onnx_node *n, const char *name, const int64_t *value, int count)
{
    KdOnnx__AttributeProto *a = attribute(m, n, name, KD_ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *ints = a != NULL ? take(m, (size_t)count * sizeof *ints) : NULL;
    if (ints != NULL) {
        memcpy(ints, value, (size_t)count * sizeof *ints);
        a->ints = ints;
        a->n_ints = (size_t)count;
    }
}

void kd_onnx_attr_float(kd_onnx *m, kd_onnx_node *n, const char *name, float value)
{
    KdOnnx__AttributeProto *a = attribute(m, n, name, KD_ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (a != NULL) {
        a->has_f = 1;
        a->f = value;
    }
}

void kd_onnx_meta(kd_onnx *m, const char *key, const char *value)
{
    KdOnnx__StringStringEntryProto *e = take(m, sizeof *e);
    if (e != NULL) {
        kd_onnx__string_string_entry_proto__init(e);
        e->key = copy_text(m, key);
        e->value = copy_text(m, value);
        push(m, &m->model.metadata_props, &m->model.n_metadata_props, e);
    }
}

int kd_onnx_nodes(const kd_onnx *m)
{
    return (int)m->graph.n_node;
}

int kd_onnx_op_kinds(const kd_onnx *m)
{
    int kinds = 0;
    for (size_t i = 0; i < m->graph.n_node && !m->failed; i++) {
        size_t j = 0;
        while (j < i && strcmp(m->graph.node[j]->op_type, m->graph.node[i]->op_type) != 0) {
            j++;
        }
        kinds += j == i ? 1 : 0;
    }
    return kinds;
}

static int by_name(const void *a, const void *b)
{
    const KdOnnx__TensorProto *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

kd_status kd_onnx_write(const kd_onnx *m, const char *path, size_t *bytes, kd_err *err)
{
    if (!m->failed && m->graph.n_initializer > 0) { /* in whatever order they were made */
        qsort(m->graph.initializer, m->graph.n_initializer, sizeof *m->graph.initializer, by_name);
    }
    *bytes = m->failed ? 0 : kd_onnx__model_proto__get_packed_size(&m->model);
    uint8_t *file = *bytes != 0 ? kd_alloc(*bytes) : NULL;
    if (file == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory for an ONNX file", path);
    }
    (void)kd_onnx__model_proto__pack(&m->model, file);
    const kd_status st = kd_io_write_file(path, file, *bytes, err);
    kd_free(file);
    return st;
}
