/* ONNX files: a model is put together node by node, then written.
 *
 * Operator set 17, IR version 8: what onnxruntime reads since 1.12.  All tensors are f32 but for indices, shapes and
 * eight-bit values.  Initialisers are written
 * by name, nodes in the order of the calls: the bytes follow from the calls alone.  Nothing here knows a model; who
 * calls answers for names that are unique and for nodes in an order in which every input is there.
 *
 * Failures are sticky: after one of memory every call does nothing, and kd_onnx_write reports it.  Built without
 * protobuf-c, kd_onnx_create answers KD_E_UNSUPPORTED.
 */
#ifndef KD_FORMATS_ONNX_ONNX_H
#define KD_FORMATS_ONNX_ONNX_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_ONNX_OPSET 17
#define KD_ONNX_BATCH (-1) /* a dim of inputs and outputs: as long as the batch, "batch" in the file */

/* TensorProto.DataType */
typedef enum kd_onnx_type {
    KD_ONNX_F32 = 1,
    KD_ONNX_U8 = 2,
    KD_ONNX_I8 = 3,
    KD_ONNX_I32 = 6,
    KD_ONNX_I64 = 7
} kd_onnx_type;

typedef struct kd_onnx kd_onnx;
typedef struct kd_onnx_node kd_onnx_node;

KD_NODISCARD kd_status kd_onnx_create(const char *graph, kd_onnx **out, kd_err *err);
void kd_onnx_free(kd_onnx *m); /* NULL is legal */

/* A name that lives as long as the model; "" when out of memory. */
const char *kd_onnx_text(kd_onnx *m, const char *fmt, ...) KD_PRINTF(2, 3);

void kd_onnx_input(kd_onnx *m, const char *name, const int64_t *dim, int rank);
void kd_onnx_output(kd_onnx *m, const char *name, const int64_t *dim, int rank);

/* An initialiser; `data` (dense, row-major) is copied. */
void kd_onnx_tensor(kd_onnx *m, const char *name, kd_onnx_type type, const int64_t *dim, int rank, const void *data);

/* A node; an input of "" is absent.  NULL after a failure, which the functions below take. */
kd_onnx_node *kd_onnx_add(kd_onnx *m, const char *op, const char *const *in, int n_in, const char *const *out,
                          int n_out);
void kd_onnx_attr_int(kd_onnx *m, kd_onnx_node *n, const char *name, int64_t value);
void kd_onnx_attr_ints(kd_onnx *m, kd_onnx_node *n, const char *name, const int64_t *value, int count);
void kd_onnx_attr_float(kd_onnx *m, kd_onnx_node *n, const char *name, float value);

/* One of metadata_props. */
void kd_onnx_meta(kd_onnx *m, const char *key, const char *value);

int kd_onnx_nodes(const kd_onnx *m);    /* so far */
int kd_onnx_op_kinds(const kd_onnx *m); /* different operators among them */

/* Atomic (formats/base/io.h).  *bytes: of the file.  KD_E_OOM: now or in an earlier call. */
KD_NODISCARD kd_status kd_onnx_write(const kd_onnx *m, const char *path, size_t *bytes, kd_err *err);

#ifdef __cplusplus
}
#endif
#endif
