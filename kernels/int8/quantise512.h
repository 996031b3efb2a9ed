/* f32 to eight bits for AVX-512.  Include only in files compiled for x86-64-v4. */
#ifndef KD_KERNELS_INT8_QUANTISE512_H
#define KD_KERNELS_INT8_QUANTISE512_H

#include "kernels/int8/int8.h"
#include "kernels/int8/silu512.h"

/* Whole numbers qx - x_zero: NaN gives that of qx = 0.  The quotient is that of a division: one step of Newton behind
 * the reciprocal. */
static inline __m512 quantise(const kd_int8 *l, __m512 x)
{
    const __m512 scale = v_set(l->x_scale), inverse = v_set(l->x_inverse);
    __m512 q = _mm512_mul_ps(x, inverse);
    q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, scale, x), inverse, q);
    q = _mm512_roundscale_ps(q, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    q = _mm512_max_ps(q, v_set((float)-l->x_zero)); /* the operand order: NaN gives the second one */
    return _mm512_min_ps(q, v_set((float)(255 - l->x_zero)));
}

#endif
