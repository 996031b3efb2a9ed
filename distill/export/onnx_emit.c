/* Nodes, constants and names of an ONNX file under way: see onnx_internal.h. */
#include "distill/export/onnx_internal.h"

#include <math.h>
#include <stdio.h>

void kdi_on_fail(kdi_onnx *w, kd_status st, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (w->st == KD_OK) {
        w->st = KD_FAIL(w->err, st, "ONNX: %s", text);
    }
}

/* "stages.0.0.gcn/MatMul_12" */
static const char *fresh_name(kdi_onnx *w, const char *op)
{
    const char *scope = w->node.scope != NULL ? w->node.scope : "";
    return kd_onnx_text(w->m, "%s/%s_%d", scope, op, w->serial++);
}

const char *kdi_on_n(kdi_onnx *w, const char *op, const char *const *in, int n)
{
    const char *out = fresh_name(w, op);
    w->last = kd_onnx_add(w->m, op, in, n, &out, 1);
    return out;
}

const char *kdi_on1(kdi_onnx *w, const char *op, const char *a)
{
    return kdi_on_n(w, op, &a, 1);
}

const char *kdi_on2(kdi_onnx *w, const char *op, const char *a, const char *b)
{
    const char *const in[2] = {a, b};
    return kdi_on_n(w, op, in, 2);
}

const char *kdi_on3(kdi_onnx *w, const char *op, const char *a, const char *b, const char *c)
{
    const char *const in[3] = {a, b, c};
    return kdi_on_n(w, op, in, c[0] != '\0' ? 3 : 2);
}

void kdi_on_int(kdi_onnx *w, const char *name, int64_t value)
{
    kd_onnx_attr_int(w->m, w->last, name, value);
}

void kdi_on_float(kdi_onnx *w, const char *name, float value)
{
    kd_onnx_attr_float(w->m, w->last, name, value);
}

void kdi_on_ints(kdi_onnx *w, const char *name, const int64_t *value, int n)
{
    kd_onnx_attr_ints(w->m, w->last, name, value, n);
}

/* ---- constants ------------------------------------------------------------------------------- */

/* Is a constant of this name in the file?  If not, from here on it is. */
static bool is_shared(kdi_onnx *w, const char *name)
{
    for (int i = 0; i < w->n_shared; i++) {
        if (strcmp(w->shared[i], name) == 0) {
            return true;
        }
    }
    if (w->n_shared == w->cap_shared) {
        const int cap = 2 * w->cap_shared + 16;
        const char **wide = kd_realloc(w->shared, (size_t)w->cap_shared * sizeof *wide, (size_t)cap * sizeof *wide);
        if (wide == NULL) {
            kdi_on_fail(w, KD_E_OOM, "out of memory");
            return true;
        }
        w->shared = wide;
        w->cap_shared = cap;
    }
    w->shared[w->n_shared++] = name;
    return false;
}

const char *kdi_on_i64(kdi_onnx *w, const int64_t *value, int n)
{
    char text[160] = "";
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%lld", i > 0 ? "," : "", (long long)value[i]);
    }
    const char *name = kd_onnx_text(w->m, "i64:%s", text);
    if (!is_shared(w, name)) {
        kd_onnx_tensor(w->m, name, KD_ONNX_I64, &(int64_t){n}, 1, value);
    }
    return name;
}

const char *kdi_on_f32(kdi_onnx *w, float value)
{
    const char *name = kd_onnx_text(w->m, "f32:%.9g", (double)value);
    if (!is_shared(w, name)) {
        kd_onnx_tensor(w->m, name, KD_ONNX_F32, NULL, 0, &value);
    }
    return name;
}

const char *kdi_on_u8(kdi_onnx *w, uint8_t value)
{
    const char *name = kd_onnx_text(w->m, "u8:%d", (int)value);
    if (!is_shared(w, name)) {
        kd_onnx_tensor(w->m, name, KD_ONNX_U8, NULL, 0, &value);
    }
    return name;
}

const char *kdi_on_tensor(kdi_onnx *w, const char *what, const int64_t *dim, int rank, const float *v)
{
    const char *name = fresh_name(w, what);
    kd_onnx_tensor(w->m, name, KD_ONNX_F32, dim, rank, v);
    return name;
}

const char *kdi_on_batch(kdi_onnx *w, int64_t factor)
{
    if (w->batch_name == NULL) {
        const int64_t zero = 0;
        w->batch_name = kdi_on2(w, "Gather", kdi_on1(w, "Shape", w->first_input), kdi_on_i64(w, &zero, 1));
    }
    return factor == 1 ? w->batch_name : kdi_on2(w, "Mul", w->batch_name, kdi_on_i64(w, &factor, 1));
}

/* ---- shapes ---------------------------------------------------------------------------------- */

const char *kdi_on_reshape(kdi_onnx *w, const char *x, const int64_t *dim, int rank)
{
    return kdi_on2(w, "Reshape", x, kdi_on_i64(w, dim, rank));
}

const char *kdi_on_permute(kdi_onnx *w, const char *x, const int64_t *perm, int rank)
{
    const char *y = kdi_on1(w, "Transpose", x);
    kdi_on_ints(w, "perm", perm, rank);
    return y;
}

const char *kdi_on_unsqueeze(kdi_onnx *w, const char *x, const int64_t *axes, int n)
{
    return kdi_on2(w, "Unsqueeze", x, kdi_on_i64(w, axes, n));
}

const char *kdi_on_reduce(kdi_onnx *w, const char *op, const char *x, const int64_t *axes, int n, bool keep)
{
    const bool sum = strcmp(op, "ReduceSum") == 0; /* of this operator set the only one with axes as an operand */
    const char *y = sum ? kdi_on2(w, op, x, kdi_on_i64(w, axes, n)) : kdi_on1(w, op, x);
    if (!sum) {
        kdi_on_ints(w, "axes", axes, n);
    }
    kdi_on_int(w, "keepdims", keep ? 1 : 0);
    return y;
}

const char *kdi_on_slice(kdi_onnx *w, const char *x, int64_t axis, int64_t from, int64_t to)
{
    const char *const in[4] = {x, kdi_on_i64(w, &from, 1), kdi_on_i64(w, &to, 1), kdi_on_i64(w, &axis, 1)};
    return kdi_on_n(w, "Slice", in, 4);
}

const char *kdi_on_act(kdi_onnx *w, const char *x, int32_t kind)
{
    switch (kind) {
    case KD_ACT_NONE:
        return x;
    case KD_ACT_RELU:
        return kdi_on1(w, "Relu", x);
    case KD_ACT_HARDSWISH:
        return kdi_on1(w, "HardSwish", x);
    case KD_ACT_SILU:
        return kdi_on2(w, "Mul", x, kdi_on1(w, "Sigmoid", x));
    case KD_ACT_SIGMOID:
        return kdi_on1(w, "Sigmoid", x);
    case KD_ACT_EXP:
        return kdi_on1(w, "Exp", x);
    case KD_ACT_LOG:
        return kdi_on1(w, "Log", x);
    case KD_ACT_GELU: {
        const char *f = kdi_on1(w, "Erf", kdi_on2(w, "Mul", x, kdi_on_f32(w, (float)sqrt(0.5))));
        f = kdi_on2(w, "Add", f, kdi_on_f32(w, 1.0f));
        return kdi_on2(w, "Mul", kdi_on2(w, "Mul", x, kdi_on_f32(w, 0.5f)), f);
    }
    default:
        kdi_on_fail(w, KD_E_UNSUPPORTED, "%s: activation %d of op %s has no ONNX form here", w->node.scope, (int)kind,
                    kd_op_get(w->node.op)->name);
        return x;
    }
}
