/* Inside of distill/export: a program under way to ONNX nodes.
 *
 * The program is there twice, at two batch sizes: a dim that grows with the batch is told from one that does not by
 * comparing both, and becomes -1 or a multiple of the input's first dim in the file.  Failures are sticky. */
#ifndef KD_DISTILL_EXPORT_ONNX_INTERNAL_H
#define KD_DISTILL_EXPORT_ONNX_INTERNAL_H

#include "formats/onnx/onnx.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_quant.h"

typedef struct kdi_onnx {
    kd_onnx *m;
    const kd_program *p, *other; /* the same model at the batch sizes batch[0] and batch[1] */
    int batch[2];
    const char *first_input;
    const kd_quant *quant; /* NULL: f32.  Else values that follow from parameters alone are written as they are */
    const char **name;     /* [values] the value's name in the file; NULL: not written yet */
    const char **eight;    /* [values] the value after QuantizeLinear and DequantizeLinear; NULL: not written */
    const char **shared;   /* names of the small constants that are there */
    int n_shared, cap_shared;
    kd_onnx_node *last; /* written by the latest kdi_on*, for attributes */
    int32_t k;          /* node of the program under way */
    kd_walk_node node;
    const char *batch_name;
    int serial;
    kd_err *err;
    kd_status st;
} kdi_onnx;

/* The failure of a model that cannot be written; keeps the first. */
void kdi_on_fail(kdi_onnx *w, kd_status st, const char *fmt, ...) KD_PRINTF(3, 4);

/* The value's name in the file, written when it is asked for the first time; "" for an absent one. */
const char *kdi_on_value(kdi_onnx *w, int32_t v);
/* Operand i of the node under way, and its spec. */
const char *kdi_on_in(kdi_onnx *w, int i);
bool kdi_on_has(const kdi_onnx *w, int i);
kd_shape kdi_on_shape(const kdi_onnx *w, int i);
/* Output o of the node under way has this name. */
void kdi_on_out(kdi_onnx *w, int o, const char *name);
/* Dim i of a value: fixed (*factor 0, the result), or *factor times the batch (the result is -1). */
int64_t kdi_on_dim(kdi_onnx *w, int32_t v, int i, int64_t *factor);

/* Nodes: the name of what they give.  An operand of "" is absent. */
const char *kdi_on1(kdi_onnx *w, const char *op, const char *a);
const char *kdi_on2(kdi_onnx *w, const char *op, const char *a, const char *b);
const char *kdi_on3(kdi_onnx *w, const char *op, const char *a, const char *b, const char *c);
const char *kdi_on_n(kdi_onnx *w, const char *op, const char *const *in, int n);
/* Attributes of the latest node. */
void kdi_on_int(kdi_onnx *w, const char *name, int64_t value);
void kdi_on_float(kdi_onnx *w, const char *name, float value);
void kdi_on_ints(kdi_onnx *w, const char *name, const int64_t *value, int n);

/* Small constants, one of each value in the file. */
const char *kdi_on_i64(kdi_onnx *w, const int64_t *value, int n);
const char *kdi_on_f32(kdi_onnx *w, float value);
const char *kdi_on_u8(kdi_onnx *w, uint8_t value);
/* A tensor of f32 of the node under way. */
const char *kdi_on_tensor(kdi_onnx *w, const char *what, const int64_t *dim, int rank, const float *v);

const char *kdi_on_reshape(kdi_onnx *w, const char *x, const int64_t *dim, int rank); /* one dim may be -1 */
const char *kdi_on_permute(kdi_onnx *w, const char *x, const int64_t *perm, int rank);
const char *kdi_on_unsqueeze(kdi_onnx *w, const char *x, const int64_t *axes, int n);
const char *kdi_on_reduce(kdi_onnx *w, const char *op, const char *x, const int64_t *axes, int n, bool keep);
const char *kdi_on_slice(kdi_onnx *w, const char *x, int64_t axis, int64_t from, int64_t to);
const char *kdi_on_act(kdi_onnx *w, const char *x, int32_t kind);
/* factor times the length of the batch, i64 (1). */
const char *kdi_on_batch(kdi_onnx *w, int64_t factor);

/* Writes the node under way; one row an op. */
typedef void (*kdi_on_writer)(kdi_onnx *w);
kdi_on_writer kdi_on_common(kd_op op);   /* NULL: the op is none of onnx_ops.c */
kdi_on_writer kdi_on_skeleton(kd_op op); /* of onnx_skeleton.c */

/* All nodes, outputs and the values they need.  The status is w->st. */
void kdi_on_program(kdi_onnx *w);

#endif
