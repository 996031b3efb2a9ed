/* Int8 inference: one description of a forward program's convolutions and linear layers in eight bits, made once and
 * obeyed by everybody who computes with it (ONNX QDQ files, the deployment library).
 *
 *     kd_quant_open -> (write inputs, kd_quant_observe) for each calibration batch -> kd_quant_finish -> use
 *
 * The layers are the conv2d and linear nodes whose weight follows from parameters alone and whose x does not, in the
 * order they run, of the program that kd_program_compile makes for a CPU backend: there batch norm is folded into the
 * convolution before it, so the weight is the folded one.  The order is the same at every batch size.
 *
 *   weight      w[r][c] = scale[r] q[r][c], q s8 in -127 .. 127, symmetric, one scale a row (output channel)
 *   activation  x = x_scale (q - x_zero), q u8 in 0 .. 255, one scale and zero point a layer; 0 is exact
 *   bias        b[r] = x_scale scale[r] qb, qb s32: y = act(x_scale scale[r] (sum_c (qx - x_zero) qw + qb))
 *
 * The zero padding of a convolution is q = x_zero.  Rounding is to nearest, halves to even, as QuantizeLinear of ONNX
 * (Jacob et al. 2018, section 2.1 with symmetric weights, 2.4 for the bias).
 */
#ifndef KD_KERNELS_KD_QUANT_H
#define KD_KERNELS_KD_QUANT_H

#include "kernels/kd_walk.h"

#include <math.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of qb: sums keep room above. */
enum { KD_QUANT_BIAS_MOST = 1 << 30 };

typedef struct kd_quant_layer {
    int32_t node;       /* in the program, at any batch size */
    kd_op op;           /* KD_OP_CONV2D or KD_OP_LINEAR */
    char *name;         /* scope and op, "stages.0.0.gcn conv2d", for messages */
    int64_t rows, cols; /* W as a matrix: (Co, Ci/groups kh kw) or (Co, Ci) */
    float lo, hi;       /* range of x over the calibration, 0 included */
    float x_scale;
    uint8_t x_zero;
    int8_t *weight; /* [rows, cols] */
    float *scale;   /* [rows] */
} kd_quant_layer;

typedef struct kd_quant {
    int32_t n;
    kd_quant_layer *layer; /* [n] */
    int64_t samples;       /* of calibration */
} kd_quant;

/* The layers of a program, without ranges. */
KD_NODISCARD kd_status kd_quant_open(const kd_program *p, kd_quant *out, kd_err *err);
void kd_quant_free(kd_quant *q); /* zeroed is legal */

/* Run the program on the inputs that were written, `samples` of them without padding, and widen the ranges by what its
 * layers read.  KD_E_NUMERIC: a layer reads a value that is not finite. */
KD_NODISCARD kd_status kd_quant_observe(kd_quant *q, kd_program *p, int64_t samples, kd_err *err);

/* Scales, zero points and weights.  KD_E_STATE: nothing was observed; KD_E_NUMERIC: a weight that is not finite. */
KD_NODISCARD kd_status kd_quant_finish(kd_quant *q, const kd_program *p, kd_err *err);

/* The layer of node k; NULL: the node computes in f32. */
const kd_quant_layer *kd_quant_of(const kd_quant *q, int32_t k);

/* One activation as u8; NaN gives zero. */
static inline uint8_t kd_quant_u8(float x, float scale, uint8_t zero)
{
    const float q = rintf(x / scale) + (float)zero;
    return (uint8_t)(q >= 255.0f ? 255.0f : q > 0.0f ? q : 0.0f);
}

/* A bias in units of x_scale scale[r]. */
static inline int32_t kd_quant_s32(float b, float unit)
{
    const float most = (float)KD_QUANT_BIAS_MOST, q = rintf(b / unit);
    return (int32_t)(q >= most ? most : q > -most ? q : -most);
}

#ifdef __cplusplus
}
#endif
#endif
