/* Eight-bit layers: making one, and which product runs it.  See int8.h. */
#include "kernels/int8/int8.h"

#include "kernels/kd_cpu.h"
#include "kernels/kd_quant.h"

enum { ROWS = 8 }; /* of a block of packed weights, of either product */

static int64_t up(int64_t x, int64_t to)
{
    return (x + to - 1) / to * to;
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* Depths one element of packed weights holds: 4 for VNNI, 2 for pairs of 16 bits. */
static int64_t together(const kd_int8 *l)
{
#if defined(KD_LAST_VARIANTS)
    return l->run == kd_int8_dense_vnni ? 4 : 2;
#else
    (void)l;
    return 2;
#endif
}

static bool is_dense(const kd_int8 *l)
{
    kd_int8_fn f = l->run;
    bool yes = f == kd_int8_dense_ref_f32;
#if defined(KD_LAST_VARIANTS)
    yes = yes || f == kd_int8_dense_v3 || f == kd_int8_dense_vnni;
#endif
    return yes;
}

static kd_int8_fn choose(kd_op op, const kd_int8 *l)
{
    const bool dense = op == KD_OP_CONV2D && l->groups <= 1;
#if defined(KD_LAST_VARIANTS)
    if (dense && kd_cpu_has(KD_CPU_VNNI)) {
        return kd_int8_dense_vnni;
    }
    if (dense && kd_cpu_has(KD_CPU_V3)) {
        return kd_int8_dense_v3;
    }
    if (!dense && kd_cpu_has(KD_CPU_V4) && kd_int8_depthwise_can(l)) {
        return kd_int8_depthwise_v4;
    }
    if (!dense && kd_cpu_has(KD_CPU_V4)) {
        return op == KD_OP_CONV2D ? kd_int8_grouped_v4_f32 : kd_int8_linear_v4_f32;
    }
    if (!dense && kd_cpu_has(KD_CPU_V3)) {
        return op == KD_OP_CONV2D ? kd_int8_grouped_v3_f32 : kd_int8_linear_v3_f32;
    }
#endif
    return dense ? kd_int8_dense_ref_f32 : op == KD_OP_CONV2D ? kd_int8_grouped_ref_f32 : kd_int8_linear_ref_f32;
}

/* ---- packing --------------------------------------------------------------------------------- */

/* Depth runs over taps, then channels, the channels of a tap filled up with zeros to `t`. */
static int64_t packed_depth(const kd_int8 *l)
{
    return kd_int8_taps(l) * up(l->ci, together(l));
}

static int8_t weight_at(const kd_int8 *l, int64_t row, int64_t k)
{
    const int64_t wide = up(l->ci, together(l)), tap = k / wide, c = k % wide;
    return row < l->co && c < l->ci ? l->weight[(row * l->ci + c) * kd_int8_taps(l) + tap] : 0;
}

/* (rows / 8, depth / t, 8, t): s8 for t = 4, s16 for t = 2. */
static void pack(const kd_int8 *l, int64_t t, void *out)
{
    const int64_t depth = packed_depth(l);
    int8_t *b8 = out;
    int16_t *b16 = out;
    int64_t at = 0;
    for (int64_t r0 = 0; r0 < l->co; r0 += ROWS) {
        for (int64_t k0 = 0; k0 < depth; k0 += t) {
            for (int64_t r = 0; r < ROWS; r++) {
                for (int64_t j = 0; j < t; j++, at++) {
                    const int8_t v = weight_at(l, r0 + r, k0 + j);
                    if (t == 4) {
                        b8[at] = v;
                    } else {
                        b16[at] = (int16_t)v;
                    }
                }
            }
        }
    }
}

/* ---- layers ---------------------------------------------------------------------------------- */

static void shape_of(kd_op op, const kd_call *c, kd_int8 *l)
{
    const kd_shape *x = &c->in[0].shape, *w = &c->in[1].shape, *y = &c->out[0].shape;
    l->n = l->h = l->w = l->ho = l->wo = l->kh = l->kw = l->groups = 1;
    l->co = w->dim[0];
    if (op == KD_OP_LINEAR) {
        const kd_linear_attr *a = c->attr;
        l->ci = w->dim[1];
        l->n = kd_shape_numel(x) / KD_MAX(l->ci, (int64_t)1);
        l->act = a->act;
        return;
    }
    const kd_conv2d_attr *a = c->attr;
    l->n = x->dim[0];
    l->ci = x->dim[1];
    l->h = x->dim[2];
    l->w = x->dim[3];
    l->ho = y->dim[2];
    l->wo = y->dim[3];
    l->kh = w->dim[2];
    l->kw = w->dim[3];
    l->groups = KD_MAX(a->groups, 1);
    l->act = a->act;
    for (int i = 0; i < 2; i++) {
        l->stride[i] = a->stride[i];
        l->pad[i] = a->pad[i];
        l->dilation[i] = a->dilation[i];
    }
}

kd_status kd_int8_make(kd_op op, const kd_call *c, const int8_t *weight, const float *scale, float x_scale,
                       uint8_t x_zero, kd_int8 *out)
{
    *out = (kd_int8){.x_scale = x_scale, .x_inverse = 1.0f / x_scale, .x_zero = x_zero};
    shape_of(op, c, out);
    out->run = choose(op, out);
    const int64_t cols = out->ci / out->groups * kd_int8_taps(out);
    out->weight = kd_alloc((size_t)(out->co * cols));
    out->mul = kd_alloc((size_t)out->co * sizeof *out->mul);
    out->offset = kd_alloc((size_t)out->co * sizeof *out->offset);
    if (out->weight == NULL || out->mul == NULL || out->offset == NULL) {
        return KD_E_OOM;
    }
    memcpy(out->weight, weight, (size_t)(out->co * cols));
    for (int64_t r = 0; r < out->co; r++) {
        int32_t sum = 0;
        for (int64_t k = 0; k < cols; k++) {
            sum += weight[r * cols + k];
        }
        out->mul[r] = x_scale * scale[r];
        out->offset[r] = sum * out->x_zero;
    }
    if (is_dense(out)) {
        const int64_t t = together(out);
        out->packed = kd_alloc((size_t)(up(out->co, ROWS) * packed_depth(out)) * (t == 4 ? 1 : 2));
        if (out->packed == NULL) {
            return KD_E_OOM;
        }
        pack(out, t, out->packed);
    }
    return KD_OK;
}

void kd_int8_free(kd_int8 *l)
{
    kd_free(l->weight);
    kd_free(l->packed);
    kd_free(l->mul);
    kd_free(l->offset);
    *l = (kd_int8){.n = 0};
}

/* VNNI: x in eight bits, four channels together, then a panel.  Pairs: a panel.  Groups: planes; linear: a row. */
static size_t work(const kd_int8 *l)
{
    const int64_t depth = packed_depth(l);
    if (!is_dense(l)) { /* of a depthwise one: eight planes and their filters */
        return (size_t)(8 * (l->h * l->w + kd_int8_taps(l)) + KD_MAX(l->h * l->w, l->ci) + l->wo + 64) *
               sizeof(int32_t);
    }
    return together(l) == 4 ? (size_t)(up(l->ci, 4) * l->h * l->w + depth * KD_INT8_PANEL + 256)
                            : (size_t)(depth * KD_INT8_PANEL) * sizeof(int16_t);
}

/* The biases stand behind what the product works in. */
static size_t biases(const kd_int8 *l)
{
    return (work(l) + sizeof(int32_t) - 1) / sizeof(int32_t);
}

size_t kd_int8_scratch(const kd_int8 *l)
{
    return (biases(l) + (size_t)l->co) * sizeof(int32_t);
}

void kd_int8_run(const kd_int8 *l, const float *x, const float *bias, float *y)
{
    int32_t *qb = (int32_t *)l->scratch + biases(l);
    for (int64_t r = 0; r < l->co; r++) {
        qb[r] = bias != NULL ? kd_quant_s32(bias[r], l->mul[r]) : 0;
    }
    l->run(l, x, qb, y);
}

static kd_status run(const kd_call *c)
{
    kd_int8_run(c->prep, c->in[0].data, c->n_in > 2 ? c->in[2].data : NULL, c->out[0].data);
    return KD_OK;
}

const kd_kernel_def kd_int8_def = {.run = run};
