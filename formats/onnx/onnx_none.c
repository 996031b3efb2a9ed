/* ONNX files in a build without protobuf-c: see onnx.h.  No model is ever created, so the other calls find none. */
#include "formats/onnx/onnx.h"

kd_status kd_onnx_create(const char *graph, kd_onnx **out, kd_err *err)
{
    *out = NULL;
    return KD_FAIL(err, KD_E_UNSUPPORTED, "%s: ONNX files need protobuf-c, which this build lacks (-DKD_PROTOBUF=ON)",
                   graph);
}

void kd_onnx_free(kd_onnx *m)
{
    (void)m;
}

const char *kd_onnx_text(kd_onnx *m, const char *fmt, ...)
{
    (void)m, (void)fmt;
    return "";
}

void kd_onnx_input(kd_onnx *m, const char *name, const int64_t *dim, int rank)
{
    (void)m, (void)name, (void)dim, (void)rank;
}

void kd_onnx_output(kd_onnx *m, const char *name, const int64_t *dim, int rank)
{
    (void)m, (void)name, (void)dim, (void)rank;
}

void kd_onnx_tensor(kd_onnx *m, const char *name, kd_onnx_type type, const int64_t *dim, int rank, const void *data)
{
    (void)m, (void)name, (void)type, (void)dim, (void)rank, (void)data;
}

kd_onnx_node *kd_onnx_add(kd_onnx *m, const char *op, const char *const *in, int n_in, const char *const *out,
                          int n_out)
{
    (void)m, (void)op, (void)in, (void)n_in, (void)out, (void)n_out;
    return NULL;
}

void kd_onnx_attr_int(kd_onnx *m, kd_onnx_node *n, const char *name, int64_t value)
{
    (void)m, (void)n, (void)name, (void)value;
}

void kd_onnx_attr_ints(kd_onnx *m, kd_onnx_node *n, const char *name, const int64_t *value, int count)
{
    (void)m, (void)n, (void)name, (void)value, (void)count;
}

void kd_onnx_attr_float(kd_onnx *m, kd_onnx_node *n, const char *name, float value)
{
    (void)m, (void)n, (void)name, (void)value;
}

void kd_onnx_meta(kd_onnx *m, const char *key, const char *value)
{
    (void)m, (void)key, (void)value;
}

int kd_onnx_nodes(const kd_onnx *m)
{
    (void)m;
    return 0;
}

int kd_onnx_op_kinds(const kd_onnx *m)
{
    (void)m;
    return 0;
}

kd_status kd_onnx_write(const kd_onnx *m, const char *path, size_t *bytes, kd_err *err)
{
    (void)m;
    *bytes = 0;
    return KD_FAIL(err, KD_E_UNSUPPORTED, "%s: this build lacks protobuf-c", path);
}
