/* A program's values and nodes as ONNX: see onnx_internal.h. */
#include "distill/export/onnx_internal.h"

#include <stdio.h>

/* ---- dims ------------------------------------------------------------------------------------ */

int64_t kdi_on_dim(kdi_onnx *w, int32_t v, int i, int64_t *factor)
{
    const int64_t a = kd_walk_value_at(w->p, v).spec.shape.dim[i], b = kd_walk_value_at(w->other, v).spec.shape.dim[i];
    *factor = 0;
    if (a == b) {
        return a;
    }
    if (a % w->batch[0] != 0 || a / w->batch[0] * w->batch[1] != b) {
        kdi_on_fail(w, KD_E_UNSUPPORTED,
                    "%s: a dim of %lld at a batch of %d and of %lld at %d is no multiple of the batch", w->node.scope,
                    (long long)a, w->batch[0], (long long)b, w->batch[1]);
        return a;
    }
    *factor = a / w->batch[0];
    return -1;
}

/* All dims of a value; *at: the dim that grows with the batch and *factor how fast, -1: none does. */
static void dims_of(kdi_onnx *w, int32_t v, int64_t *dim, int *at, int64_t *factor)
{
    const kd_shape s = kd_walk_value_at(w->p, v).spec.shape;
    *at = -1;
    for (int i = 0; i < s.rank; i++) {
        int64_t f = 0;
        dim[i] = kdi_on_dim(w, v, i, &f);
        if (f != 0 && *at >= 0) {
            kdi_on_fail(w, KD_E_UNSUPPORTED, "%s: two dims grow with the batch", w->node.scope);
        }
        if (f != 0) {
            *at = i;
            *factor = f;
        }
    }
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Known numbers as an initialiser.  Where the first dim grows with the batch all its slices are equal: one of them is
 * written, and repeated when the model runs. */
static const char *known(kdi_onnx *w, int32_t v, const char *name)
{
    const kd_walk_value val = kd_walk_value_at(w->p, v);
    const int rank = val.spec.shape.rank;
    int64_t dim[KD_MAX_RANK], factor = 0;
    int at = -1;
    dims_of(w, v, dim, &at, &factor);
    if (val.spec.dtype != KD_F32 || val.data == NULL || at > 0) {
        kdi_on_fail(w, KD_E_UNSUPPORTED, "constant %s: expected f32 numbers that do not depend on the batch", name);
        return "";
    }
    if (at < 0) {
        kd_onnx_tensor(w->m, name, KD_ONNX_F32, dim, rank, val.data);
        return name;
    }
    const int64_t rows = val.spec.shape.dim[0];
    const size_t bytes = kd_spec_bytes(&val.spec) / (size_t)rows;
    for (int64_t r = 1; r < rows; r++) {
        if (memcmp(val.data, (const char *)val.data + (size_t)r * bytes, bytes) != 0) {
            kdi_on_fail(w, KD_E_UNSUPPORTED, "constant %s: its rows differ, and their number is the batch's", name);
        }
    }
    dim[0] = 1;
    kd_onnx_tensor(w->m, name, KD_ONNX_F32, dim, rank, val.data);
    const char *const shape[2] = {kdi_on_batch(w, factor), kdi_on_i64(w, dim + 1, rank - 1)};
    const char *whole = kdi_on_n(w, "Concat", shape, rank > 1 ? 2 : 1);
    kdi_on_int(w, "axis", 0);
    return kdi_on2(w, "Expand", name, whole);
}

static const char *view(kdi_onnx *w, int32_t v, int32_t of)
{
    const kd_shape a = kd_walk_value_at(w->p, v).spec.shape, b = kd_walk_value_at(w->p, of).spec.shape;
    const char *x = kdi_on_value(w, of);
    int64_t dim[KD_MAX_RANK], factor = 0;
    int at = -1;
    if (kd_shape_equal(&a, &b)) {
        return x;
    }
    dims_of(w, v, dim, &at, &factor);
    return kdi_on_reshape(w, x, dim, a.rank);
}

const char *kdi_on_value(kdi_onnx *w, int32_t v)
{
    if (v == 0 || w->st != KD_OK) {
        return "";
    }
    if (w->name[v] != NULL) {
        return w->name[v];
    }
    const kd_walk_value val = kd_walk_value_at(w->p, v);
    switch (val.kind) {
    case KD_WALK_INPUT:
        w->name[v] = val.name;
        break;
    case KD_WALK_PARAM:
        w->name[v] = known(w, v, val.name);
        break;
    case KD_WALK_CONST:
        w->name[v] = known(w, v, kd_onnx_text(w->m, "%s#%d", val.name, (int)v));
        break;
    case KD_WALK_VIEW:
        w->name[v] = view(w, v, val.of);
        break;
    default:
        if (w->quant != NULL && val.fixed) {
            const kd_walk_node n = kd_walk_node_at(w->p, val.of);
            w->name[v] = known(w, v, kd_onnx_text(w->m, "%s/%s#%d", n.scope, kd_op_get(n.op)->name, (int)v));
        } else {
            kdi_on_fail(w, KD_E_STATE, "%s reads a value that no node before it gives", w->node.scope);
            w->name[v] = "";
        }
    }
    return w->name[v];
}

const char *kdi_on_in(kdi_onnx *w, int i)
{
    return i < w->node.n_in ? kdi_on_value(w, w->node.in[i]) : "";
}

bool kdi_on_has(const kdi_onnx *w, int i)
{
    return i < w->node.n_in && w->node.in[i] != 0;
}

kd_shape kdi_on_shape(const kdi_onnx *w, int i)
{
    return kd_walk_value_at(w->p, w->node.in[i]).spec.shape;
}

void kdi_on_out(kdi_onnx *w, int o, const char *name)
{
    if (w->node.out[o] != 0) {
        w->name[w->node.out[o]] = name;
    }
}

/* ---- the program ----------------------------------------------------------------------------- */

/* Operands come before the node, in their order: which compiler evaluates arguments in which order must not show in the
 * file.  Left out are those that a writer reads as numbers: indices, landmarks, the layers in eight bits. */
static void write_operands(kdi_onnx *w)
{
    const bool layer = w->quant != NULL && kd_quant_of(w->quant, w->k) != NULL;
    for (int i = 0; i < w->node.n_in; i++) {
        const bool number = kdi_on_has(w, i) && kd_walk_value_at(w->p, w->node.in[i]).spec.dtype != KD_F32;
        if (!number && !(i == 1 && w->node.op == KD_OP_LANDMARK_INTERP) && !(i >= 1 && layer)) {
            (void)kdi_on_in(w, i);
        }
    }
}

static void write_node(kdi_onnx *w, int32_t k)
{
    w->k = k;
    w->node = kd_walk_node_at(w->p, k);
    if (w->node.op != kd_walk_node_at(w->other, k).op) {
        kdi_on_fail(w, KD_E_UNSUPPORTED, "%s: another op at another batch size", w->node.scope);
        return;
    }
    if (w->quant != NULL && w->node.fixed) {
        return; /* its numbers are written where they are read */
    }
    const kdi_on_writer common = kdi_on_common(w->node.op), skeleton = kdi_on_skeleton(w->node.op);
    if (common == NULL && skeleton == NULL) {
        kdi_on_fail(w, KD_E_UNSUPPORTED, "%s: op %s has no ONNX form here", w->node.scope, kd_op_get(w->node.op)->name);
        return;
    }
    write_operands(w);
    (common != NULL ? common : skeleton)(w);
}

/* A view with a name is an output. */
static void write_outputs(kdi_onnx *w)
{
    for (int32_t v = 1; v < kd_walk_values(w->p); v++) {
        const kd_walk_value val = kd_walk_value_at(w->p, v);
        int64_t dim[KD_MAX_RANK], factor = 0;
        int at = -1;
        if (val.kind == KD_WALK_VIEW && val.name != NULL) {
            const char *x = kdi_on_value(w, v);
            dims_of(w, v, dim, &at, &factor);
            (void)kd_onnx_add(w->m, "Identity", &x, 1, &val.name, 1);
            kd_onnx_output(w->m, val.name, dim, val.spec.shape.rank);
        }
    }
}

void kdi_on_program(kdi_onnx *w)
{
    if (kd_walk_values(w->p) != kd_walk_values(w->other) || kd_program_nodes(w->p) != kd_program_nodes(w->other)) {
        kdi_on_fail(w, KD_E_UNSUPPORTED, "the model is another graph at another batch size");
    }
    for (int32_t v = 1; v < kd_walk_values(w->p) && w->st == KD_OK; v++) {
        const kd_walk_value val = kd_walk_value_at(w->p, v);
        int64_t dim[KD_MAX_RANK], factor = 0;
        int at = -1;
        if (val.kind == KD_WALK_INPUT) {
            dims_of(w, v, dim, &at, &factor);
            kd_onnx_input(w->m, val.name, dim, val.spec.shape.rank);
            w->first_input = w->first_input == NULL ? val.name : w->first_input;
        }
    }
    for (int32_t k = 0; k < kd_program_nodes(w->p) && w->st == KD_OK; k++) {
        write_node(w, k);
    }
    w->node = (kd_walk_node){.scope = ""};
    if (w->st == KD_OK) {
        write_outputs(w);
    }
}
