/* Layers of a forward program in eight bits: conv2d and linear with weights s8 and activations u8, sums exact in s32
 * (kd_quant.h has the numbers' meaning).
 *
 *   y = f(x_scale scale[r] (sum_c (qx - x_zero) qw[r][c] + qb[r])),  qx = x in eight bits, qb = b[r] in s32
 *
 * x and y are f32: a layer takes the place of the f32 kernel of its node, whatever stands before and behind it.  Sums
 * do not depend on the processor; the last step is f32 and may, in the last bits.
 *
 * The product is AVX-512 VNNI, AVX2 (16-bit pairs, which cannot overflow) or plain C, whatever the processor has.
 */
#ifndef KD_KERNELS_INT8_INT8_H
#define KD_KERNELS_INT8_INT8_H

#include "kernels/kd_ops.h"

enum { KD_INT8_PANEL = 48 }; /* output positions that a product handles at once */

typedef struct kd_int8 kd_int8;
/* bias [co]: qb. */
typedef void (*kd_int8_fn)(const kd_int8 *l, const float *x, const int32_t *bias, float *y);

struct kd_int8 {
    kd_int8_fn run;
    int64_t n, ci, h, w, co, ho, wo; /* linear: n rows, ci, co; the others 1 */
    int64_t kh, kw, groups;
    int32_t stride[2], pad[2], dilation[2];
    int32_t act;
    float x_scale, x_inverse;
    int32_t x_zero;
    int8_t *weight;  /* (co, ci / groups, kh, kw) */
    void *packed;    /* for the product that runs, blocks of rows */
    float *mul;      /* [co]: x_scale scale[r] */
    int32_t *offset; /* [co]: x_zero times the sum of the row */
    void *scratch;   /* kd_int8_scratch bytes, 64-byte aligned; the caller's, several layers may share one */
};

/* A layer for the node whose call is `c` (shapes and attributes; no data).  weight (co, ...) and scale [co] are copied.
 * kd_int8_free ends the layer, after a failure too.  KD_E_OOM. */
KD_NODISCARD kd_status kd_int8_make(kd_op op, const kd_call *c, const int8_t *weight, const float *scale, float x_scale,
                                    uint8_t x_zero, kd_int8 *out);
void kd_int8_free(kd_int8 *l); /* zeroed is legal */
size_t kd_int8_scratch(const kd_int8 *l);

/* y (the output's shape) of x (the input's); bias [co], NULL: none. */
void kd_int8_run(const kd_int8 *l, const float *x, const float *bias, float *y);

/* kd_int8_run of the layer that call.prep points to. */
extern const kd_kernel_def kd_int8_def;

/* ---- between the files of this room ------------------------------------------------------------------------- */

static inline int64_t kd_int8_taps(const kd_int8 *l)
{
    return l->kh * l->kw;
}

/* Products of layers with one group: kd_int8_dense_<variant>.  Pairs of 16 bits: panel and packed weights of
 * kd_int8_pack2. */
void kd_int8_dense_ref_f32(const kd_int8 *l, const float *x, const int32_t *bias, float *y);
void kd_int8_dense_v3(const kd_int8 *l, const float *x, const int32_t *bias, float *y);
void kd_int8_dense_vnni(const kd_int8 *l, const float *x, const int32_t *bias, float *y);
/* Depthwise filters over time. */
bool kd_int8_depthwise_can(const kd_int8 *l);
void kd_int8_depthwise_v4(const kd_int8 *l, const float *x, const int32_t *bias, float *y);
/* Layers of several groups, depthwise ones above all; and linear layers.  One source, three variants. */
#define KD_INT8_LOOPS(variant)                                                                       \
    void kd_int8_grouped_##variant(const kd_int8 *l, const float *x, const int32_t *bias, float *y); \
    void kd_int8_linear_##variant(const kd_int8 *l, const float *x, const int32_t *bias, float *y);  \
    void kd_int8_panel_##variant(const kd_int8 *l, const float *x, int64_t p0, int16_t *panel);      \
    void kd_int8_finish_##variant(const kd_int8 *l, int64_t row, const int32_t *sum, int64_t n, int32_t bias, float *y);
KD_INT8_LOOPS(ref_f32)
KD_INT8_LOOPS(v3_f32)
KD_INT8_LOOPS(v4_f32)
#undef KD_INT8_LOOPS

#endif
