/* The activation functions and their derivatives, element by element. */
#ifndef KD_KERNELS_CPU_ACT_FN_H
#define KD_KERNELS_CPU_ACT_FN_H

#include "kernels/cpu/kd_real.h"

static inline real kd_sigmoid(real x)
{
    return R(1.0) / (R(1.0) + r_exp(-x));
}

static inline real kd_gelu(real x)
{
    return R(0.5) * x * (R(1.0) + r_erf(x * R(0.70710678118654752440)));
}

static inline real kd_gelu_d(real x)
{
    const real cdf = R(0.5) * (R(1.0) + r_erf(x * R(0.70710678118654752440)));
    const real pdf = R(0.39894228040143267794) * r_exp(R(-0.5) * x * x);
    return cdf + x * pdf;
}

/* Comparisons are written so that NaN falls through to an expression that keeps it. */
static inline real kd_relu(real x)
{
    return x < R(0.0) ? R(0.0) : x;
}

static inline real kd_hardswish(real x)
{
    const real t = x + R(3.0);
    const real c = t < R(0.0) ? R(0.0) : (t > R(6.0) ? R(6.0) : t);
    return x * c / R(6.0);
}

static inline real kd_hardswish_d(real x)
{
    return x < R(-3.0) ? R(0.0) : (x > R(3.0) ? R(1.0) : x / R(3.0) + R(0.5));
}

/* p[0..n) = f(p) in place; kind is a kd_act_kind. */
static inline void kd_act_row(int32_t kind, real *p, int64_t n)
{
    switch (kind) {
    case KD_ACT_RELU:
        for (int64_t j = 0; j < n; j++) {
            p[j] = kd_relu(p[j]);
        }
        break;
    case KD_ACT_GELU:
        for (int64_t j = 0; j < n; j++) {
            p[j] = kd_gelu(p[j]);
        }
        break;
    case KD_ACT_HARDSWISH:
        for (int64_t j = 0; j < n; j++) {
            p[j] = kd_hardswish(p[j]);
        }
        break;
    case KD_ACT_SILU:
        for (int64_t j = 0; j < n; j++) {
            p[j] = p[j] * kd_sigmoid(p[j]);
        }
        break;
    case KD_ACT_SIGMOID:
        for (int64_t j = 0; j < n; j++) {
            p[j] = kd_sigmoid(p[j]);
        }
        break;
    case KD_ACT_EXP:
        for (int64_t j = 0; j < n; j++) {
            p[j] = r_exp(p[j]);
        }
        break;
    case KD_ACT_LOG:
        for (int64_t j = 0; j < n; j++) {
            p[j] = r_log(p[j]);
        }
        break;
    default:
        break;
    }
}

/* d[0..n) *= f'(x). */
static inline void kd_act_row_d(int32_t kind, const real *restrict x, real *restrict d, int64_t n)
{
    switch (kind) {
    case KD_ACT_RELU:
        for (int64_t j = 0; j < n; j++) {
            d[j] = x[j] > R(0.0) ? d[j] : (x[j] <= R(0.0) ? R(0.0) : x[j]);
        }
        break;
    case KD_ACT_GELU:
        for (int64_t j = 0; j < n; j++) {
            d[j] *= kd_gelu_d(x[j]);
        }
        break;
    case KD_ACT_HARDSWISH:
        for (int64_t j = 0; j < n; j++) {
            d[j] *= kd_hardswish_d(x[j]);
        }
        break;
    case KD_ACT_SILU:
        for (int64_t j = 0; j < n; j++) {
            const real s = kd_sigmoid(x[j]);
            d[j] *= s * (R(1.0) + x[j] * (R(1.0) - s));
        }
        break;
    case KD_ACT_SIGMOID:
        for (int64_t j = 0; j < n; j++) {
            const real s = kd_sigmoid(x[j]);
            d[j] *= s * (R(1.0) - s);
        }
        break;
    case KD_ACT_EXP:
        for (int64_t j = 0; j < n; j++) {
            d[j] *= r_exp(x[j]);
        }
        break;
    case KD_ACT_LOG:
        for (int64_t j = 0; j < n; j++) {
            d[j] /= x[j];
        }
        break;
    default:
        break;
    }
}

#endif
