/* Operations that ONNX has, or nearly: see onnx_internal.h.  Formulas: kernels/kd_ops.h. */
#include "distill/export/onnx_internal.h"

/* ---- eight bits ------------------------------------------------------------------------------ */

/* The layer of the node under way; NULL: f32. */
static const kd_quant_layer *layer_of(const kdi_onnx *w)
{
    return w->quant != NULL ? kd_quant_of(w->quant, w->k) : NULL;
}

/* x of a convolution or a linear layer; in eight bits through QuantizeLinear and back.  Layers that read one value have
 * one range and share the pair. */
static const char *layer_x(kdi_onnx *w)
{
    const kd_quant_layer *l = layer_of(w);
    const char *x = kdi_on_in(w, 0);
    if (l == NULL) {
        return x;
    }
    const int32_t v = w->node.in[0];
    if (w->eight[v] == NULL) {
        const char *scale = kdi_on_f32(w, l->x_scale), *zero = kdi_on_u8(w, l->x_zero);
        w->eight[v] = kdi_on3(w, "DequantizeLinear", kdi_on3(w, "QuantizeLinear", x, scale, zero), scale, zero);
    }
    return w->eight[v];
}

/* W; in eight bits one scale a row, and DequantizeLinear. */
static const char *layer_w(kdi_onnx *w)
{
    const kd_quant_layer *l = layer_of(w);
    if (l == NULL) {
        return kdi_on_in(w, 1);
    }
    const kd_shape s = kdi_on_shape(w, 1);
    const char *name = kd_onnx_text(w->m, "%s/%s_%d.weight", w->node.scope, kd_op_get(l->op)->name, (int)w->k);
    const char *q = kd_onnx_text(w->m, "%s_quantized", name), *scale = kd_onnx_text(w->m, "%s_scale", name);
    const char *zero = kd_onnx_text(w->m, "%s_zero_point", name);
    int8_t *zeros = kd_calloc((size_t)l->rows, sizeof *zeros);
    if (zeros == NULL) {
        kdi_on_fail(w, KD_E_OOM, "out of memory");
        return "";
    }
    kd_onnx_tensor(w->m, q, KD_ONNX_I8, s.dim, s.rank, l->weight);
    kd_onnx_tensor(w->m, scale, KD_ONNX_F32, &l->rows, 1, l->scale);
    kd_onnx_tensor(w->m, zero, KD_ONNX_I8, &l->rows, 1, zeros);
    kd_free(zeros);
    const char *y = kdi_on3(w, "DequantizeLinear", q, scale, zero);
    kdi_on_int(w, "axis", 0);
    return y;
}

/* b; in eight bits 32-bit numbers in units of the sums, as onnxruntime's own quantiser writes them: a bias in f32 would
 * be rounded to them where a layer is followed by QuantizeLinear, and only there. */
static const char *layer_b(kdi_onnx *w)
{
    const kd_quant_layer *l = layer_of(w);
    if (l == NULL || !kdi_on_has(w, 2)) {
        return kdi_on_in(w, 2);
    }
    const float *b = kd_walk_value_at(w->p, w->node.in[2]).data;
    const char *name = kd_onnx_text(w->m, "%s/%s_%d.bias", w->node.scope, kd_op_get(l->op)->name, (int)w->k);
    const char *q = kd_onnx_text(w->m, "%s_quantized", name), *scale = kd_onnx_text(w->m, "%s_scale", name);
    float *unit = kd_calloc((size_t)l->rows, sizeof *unit);
    int32_t *n = kd_calloc((size_t)l->rows, sizeof *n);
    if (b == NULL) {
        kdi_on_fail(w, KD_E_UNSUPPORTED, "%s: a bias that follows from no parameter", w->node.scope);
    } else if (unit != NULL && n != NULL) {
        for (int64_t r = 0; r < l->rows; r++) {
            unit[r] = l->x_scale * l->scale[r];
            n[r] = kd_quant_s32(b[r], unit[r]);
        }
        kd_onnx_tensor(w->m, q, KD_ONNX_I32, &l->rows, 1, n);
        kd_onnx_tensor(w->m, scale, KD_ONNX_F32, &l->rows, 1, unit);
    } else {
        kdi_on_fail(w, KD_E_OOM, "out of memory");
    }
    kd_free(unit);
    kd_free(n);
    const char *y = kdi_on2(w, "DequantizeLinear", q, scale);
    kdi_on_int(w, "axis", 0);
    return y;
}

/* ---- layers ---------------------------------------------------------------------------------- */

static void conv2d(kdi_onnx *w)
{
    const kd_conv2d_attr *a = w->node.attr;
    const kd_shape k = kdi_on_shape(w, 1);
    const int64_t pads[4] = {a->pad[0], a->pad[1], a->pad[0], a->pad[1]};
    const char *x = layer_x(w), *weight = layer_w(w), *bias = layer_b(w);
    const char *y = kdi_on3(w, "Conv", x, weight, bias);
    kdi_on_ints(w, "kernel_shape", k.dim + 2, 2);
    kdi_on_ints(w, "strides", (const int64_t[]){a->stride[0], a->stride[1]}, 2);
    kdi_on_ints(w, "dilations", (const int64_t[]){a->dilation[0], a->dilation[1]}, 2);
    kdi_on_ints(w, "pads", pads, 4);
    kdi_on_int(w, "group", a->groups);
    kdi_on_out(w, 0, kdi_on_act(w, y, a->act));
}

static void linear(kdi_onnx *w)
{
    const kd_linear_attr *a = w->node.attr;
    const int64_t turn[2] = {1, 0};
    const char *y = NULL, *x = layer_x(w), *weight = layer_w(w), *bias = layer_b(w);
    if (kdi_on_shape(w, 0).rank == 2) {
        y = kdi_on3(w, "Gemm", x, weight, bias);
        kdi_on_int(w, "transB", 1);
    } else {
        y = kdi_on2(w, "MatMul", x, kdi_on_permute(w, weight, turn, 2));
        y = kdi_on_has(w, 2) ? kdi_on2(w, "Add", y, bias) : y;
    }
    kdi_on_out(w, 0, kdi_on_act(w, y, a->act));
}

static void batchnorm_eval(kdi_onnx *w)
{
    const kd_batchnorm_attr *a = w->node.attr;
    const char *const in[5] = {kdi_on_in(w, 0), kdi_on_in(w, 1), kdi_on_in(w, 2), kdi_on_in(w, 3), kdi_on_in(w, 4)};
    const char *y = kdi_on_n(w, "BatchNormalization", in, 5);
    kdi_on_float(w, "epsilon", a->eps);
    kdi_on_out(w, 0, kdi_on_act(w, y, a->act));
}

static void layernorm(kdi_onnx *w)
{
    const kd_layernorm_attr *a = w->node.attr;
    const char *y = kdi_on3(w, "LayerNormalization", kdi_on_in(w, 0), kdi_on_in(w, 1), kdi_on_in(w, 2));
    kdi_on_int(w, "axis", -1);
    kdi_on_float(w, "epsilon", a->eps);
    kdi_on_out(w, 0, y);
}

/* ---- elementwise ----------------------------------------------------------------------------- */

static void add(kdi_onnx *w)
{
    kdi_on_out(w, 0, kdi_on2(w, "Add", kdi_on_in(w, 0), kdi_on_in(w, 1)));
}

static void mul(kdi_onnx *w)
{
    kdi_on_out(w, 0, kdi_on2(w, "Mul", kdi_on_in(w, 0), kdi_on_in(w, 1)));
}

static void scale(kdi_onnx *w)
{
    const kd_scale_attr *a = w->node.attr;
    kdi_on_out(w, 0, kdi_on2(w, "Mul", kdi_on_in(w, 0), kdi_on_f32(w, a->value)));
}

static void act(kdi_onnx *w)
{
    const kd_act_attr *a = w->node.attr;
    kdi_on_out(w, 0, kdi_on_act(w, kdi_on_in(w, 0), a->kind));
}

static void softmax(kdi_onnx *w)
{
    const kd_softmax_attr *a = w->node.attr;
    const char *y = kdi_on1(w, "Softmax", kdi_on_in(w, 0));
    kdi_on_int(w, "axis", -1);
    kdi_on_out(w, 0, a->out_scale != 1.0f ? kdi_on2(w, "Mul", y, kdi_on_f32(w, a->out_scale)) : y);
}

/* ---- reductions and layout ------------------------------------------------------------------- */

static void reduce(kdi_onnx *w)
{
    const kd_reduce_attr *a = w->node.attr;
    const char *op = a->kind == KD_REDUCE_MEAN ? "ReduceMean" : a->kind == KD_REDUCE_MAX ? "ReduceMax" : "ReduceSum";
    int64_t axes[KD_MAX_RANK];
    int n = 0;
    for (int i = 0; i < KD_MAX_RANK; i++) {
        if (((a->axes >> i) & 1u) != 0) {
            axes[n++] = i;
        }
    }
    kdi_on_out(w, 0, kdi_on_reduce(w, op, kdi_on_in(w, 0), axes, n, false));
}

/* A number of an attribute that may grow with the batch, as i64 (1). */
static const char *position(kdi_onnx *w, int64_t here, int64_t there)
{
    if (here == there) {
        return kdi_on_i64(w, &here, 1);
    }
    if (here % w->batch[0] != 0 || here / w->batch[0] * w->batch[1] != there) {
        kdi_on_fail(w, KD_E_UNSUPPORTED, "%s: a slice that is no multiple of the batch", w->node.scope);
    }
    return kdi_on_batch(w, here / w->batch[0]);
}

static void slice(kdi_onnx *w)
{
    const kd_slice_attr *a = w->node.attr, *b = kd_walk_node_at(w->other, w->k).attr;
    const int64_t axis = a->axis;
    const char *from = position(w, a->start, b->start);
    const char *to = position(w, a->start + a->len, b->start + b->len);
    const char *const in[4] = {kdi_on_in(w, 0), from, to, kdi_on_i64(w, &axis, 1)};
    kdi_on_out(w, 0, kdi_on_n(w, "Slice", in, 4));
}

static void concat(kdi_onnx *w)
{
    const kd_concat_attr *a = w->node.attr;
    const char *in[KD_CONCAT_MOST];
    int n = 0;
    for (int i = 0; i < w->node.n_in && i < KD_CONCAT_MOST; i++) {
        if (kdi_on_has(w, i)) {
            in[n++] = kdi_on_in(w, i);
        }
    }
    const char *y = kdi_on_n(w, "Concat", in, n);
    kdi_on_int(w, "axis", a->axis);
    kdi_on_out(w, 0, y);
}

static void permute(kdi_onnx *w)
{
    const kd_permute_attr *a = w->node.attr;
    int64_t perm[KD_MAX_RANK];
    const int rank = kdi_on_shape(w, 0).rank;
    for (int i = 0; i < rank; i++) {
        perm[i] = a->perm[i];
    }
    kdi_on_out(w, 0, kdi_on_permute(w, kdi_on_in(w, 0), perm, rank));
}

kdi_on_writer kdi_on_common(kd_op op)
{
    static const struct {
        kd_op op;
        kdi_on_writer write;
    } row[] = {
        {KD_OP_CONV2D, conv2d},   {KD_OP_LINEAR, linear}, {KD_OP_BATCHNORM_EVAL, batchnorm_eval},
        {KD_OP_ADD, add},         {KD_OP_MUL, mul},       {KD_OP_LAYERNORM, layernorm},
        {KD_OP_SCALE, scale},     {KD_OP_ACT, act},       {KD_OP_SOFTMAX, softmax},
        {KD_OP_REDUCE, reduce},   {KD_OP_SLICE, slice},   {KD_OP_CONCAT, concat},
        {KD_OP_PERMUTE, permute},
    };
    for (size_t i = 0; i < KD_COUNTOF(row); i++) {
        if (row[i].op == op) {
            return row[i].write;
        }
    }
    return NULL;
}
