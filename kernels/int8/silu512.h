/* Activations of liblast's own kernels for AVX-512.  Include only in files compiled for x86-64-v4. */
#ifndef KD_KERNELS_INT8_SILU512_H
#define KD_KERNELS_INT8_SILU512_H

#include "kernels/fast/conv512.h"

/* v_sigmoid without a division, within 2 units of the last place: a reciprocal of 14 bits and one step of Newton.  The
 * bound keeps the denominator finite; NaN passes. */
static inline __m512 v_sigmoid_quick(__m512 x)
{
    const __m512 e = v_exp(_mm512_min_ps(v_set(80.0f), _mm512_sub_ps(v_set(0.0f), x)));
    const __m512 d = _mm512_add_ps(v_set(1.0f), e), r = _mm512_rcp14_ps(d);
    return _mm512_fmadd_ps(_mm512_fnmadd_ps(d, r, v_set(1.0f)), r, r);
}

/* v_act with it. */
static inline __m512 v_act_quick(int32_t kind, __m512 x)
{
    return kind == KD_ACT_SILU      ? _mm512_mul_ps(x, v_sigmoid_quick(x))
           : kind == KD_ACT_SIGMOID ? v_sigmoid_quick(x)
                                    : v_act(kind, x);
}

#endif
