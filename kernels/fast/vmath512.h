/* Vector mathematics for 16 floats at a time (AVX-512).  Include only in files compiled for
 * x86-64-v4 or better.
 *
 * Polynomials: fitted at Chebyshev nodes in 40 digits and rounded to float; errors measured against
 * the same arithmetic. NaN in gives NaN out everywhere.
 */
#ifndef KD_KERNELS_FAST_VMATH512_H
#define KD_KERNELS_FAST_VMATH512_H

#include "kernels/kd_base.h"

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline __m512 v_set(float x)
{
    return _mm512_set1_ps(x);
}

/* One element of either activation type. */
static inline float load1(const void *p, int64_t i, bool bf16)
{
    return bf16 ? kd_bf16_to_f32(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

/* 16 consecutive elements of a row, of either activation type; lanes outside `m` are zero and not
 * read. */
static inline __m512 v_load(const void *p, int64_t i, __mmask16 m, bool bf16)
{
    if (bf16) {
        const __m256i h = _mm256_maskz_loadu_epi16(m, (const uint16_t *)p + i);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
    }
    return _mm512_maskz_loadu_ps(m, (const float *)p + i);
}

/* Round to nearest even as kd_f32_to_bf16 does, NaN kept quiet. */
static inline __m256i v_to_bf16(__m512 x)
{
    const __m512i u = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i q = _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(q, 16));
}

static inline void v_store(void *p, int64_t i, __mmask16 m, bool bf16, __m512 x)
{
    if (bf16) {
        _mm256_mask_storeu_epi16((uint16_t *)p + i, m, v_to_bf16(x));
    } else {
        _mm512_mask_storeu_ps((float *)p + i, m, x);
    }
}

/* Lanes of the vector that starts at element i of n. */
static inline __mmask16 v_mask(int64_t i, int64_t n)
{
    return (__mmask16)(n - i >= 16 ? 0xffffu : (1u << (unsigned)(n - i)) - 1u);
}

static inline __m512 v_pow2_int(__m512 poly, __m512 n)
{
    return _mm512_scalef_ps(poly, n);
}

/* 2^x, relative error below 1e-7; 0 below -150, infinity above 128. */
static inline __m512 v_exp2(__m512 x)
{
    x = _mm512_min_ps(v_set(200.0f), _mm512_max_ps(v_set(-200.0f), x)); /* this order keeps NaN */
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_fmadd_ps(v_set(0.000154531634f), r, v_set(0.00133908633f));
    p = _mm512_fmadd_ps(p, r, v_set(0.00961808302f));
    p = _mm512_fmadd_ps(p, r, v_set(0.0555035695f));
    p = _mm512_fmadd_ps(p, r, v_set(0.240226507f));
    p = _mm512_fmadd_ps(p, r, v_set(0.693147182f));
    return v_pow2_int(_mm512_fmadd_ps(p, r, v_set(1.0f)), n);
}

/* 2^x for x <= 0 whose result is rounded to bf16 (8 bits): relative error 7e-6. */
static inline __m512 v_exp2_short(__m512 x)
{
    x = _mm512_max_ps(v_set(-200.0f), x);
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_fmadd_ps(v_set(0.00965671055f), r, v_set(0.0558382832f));
    p = _mm512_fmadd_ps(p, r, v_set(0.2402253f));
    p = _mm512_fmadd_ps(p, r, v_set(0.693136752f));
    return v_pow2_int(_mm512_fmadd_ps(p, r, v_set(1.0f)), n);
}

/* e^x, relative error below 1e-7: the argument is reduced in two steps, so large |x| loses nothing.
 */
static inline __m512 v_exp(__m512 x)
{
    x = _mm512_min_ps(v_set(100.0f), _mm512_max_ps(v_set(-120.0f), x));
    const __m512 n =
        _mm512_roundscale_ps(_mm512_mul_ps(x, v_set(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, v_set(0x1.62e4p-1f), x); /* ln 2 in 15 bits ... */
    r = _mm512_fnmadd_ps(n, v_set(0x1.7f7d1cp-20f), r);     /* ... and the rest */
    __m512 p = _mm512_fmadd_ps(v_set(0.00139336416f), r, v_set(0.00836914871f));
    p = _mm512_fmadd_ps(p, r, v_set(0.0416664667f));
    p = _mm512_fmadd_ps(p, r, v_set(0.166665047f));
    p = _mm512_fmadd_ps(p, r, v_set(0.5f));
    p = _mm512_fmadd_ps(p, r, v_set(1.0f));
    return v_pow2_int(_mm512_fmadd_ps(p, r, v_set(1.0f)), n);
}

/* Phi(a) - 1/2 for a >= 0, Phi the normal distribution function: 16 intervals of width 3/8, one
 * polynomial of degree 6 each in the distance from the interval's start; coefficient j of interval
 * k is table[j][k]. */
static const float kd_phi_table[7][16] = {
    /* clang-format off */
    {0.0f, 0.146169767f, 0.27337265f, 0.369705468f, 0.43319279f, 0.469603628f,
     0.487775534f, 0.495667547f, 0.498650104f, 0.499630928f, 0.499911577f, 0.499981463f,
     0.499996603f, 0.499999464f, 0.499999911f, 0.5f},
    {0.398942292f, 0.37185508f, 0.301137418f, 0.211876646f, 0.1295176f, 0.0687862784f,
     0.0317396522f, 0.0127241816f, 0.00443184841f, 0.00134111883f, 0.000352595642f, 8.0540427e-05f,
     1.59837327e-05f, 2.7559397e-06f, 4.1284639e-07f, 5.37321831e-08f},
    {-2.86459311e-07f, -0.0697229058f, -0.112926379f, -0.119180404f, -0.0971381068f, -0.0644871667f,
     -0.0357071795f, -0.0167005342f, -0.00664778333f, -0.00226313225f, -0.000661109516f, -0.00016611036f,
     -3.59616715e-05f, -6.7170663e-06f, -1.08358813e-06f, -1.51094525e-07f},
    {-0.0664814413f, -0.0532581173f, -0.0219629072f, 0.00937343761f, 0.0269799493f, 0.028841095f,
     0.0214926247f, 0.012493656f, 0.00590947364f, 0.00232233363f, 0.000767399208f, 0.000214849177f,
     5.12262814e-05f, 1.04396704e-05f, 1.82343285e-06f, 2.73524734e-07f},
    {-0.000102330443f, 0.0165848024f, 0.022993613f, 0.0172997937f, 0.00610490795f, -0.0027818901f,
     -0.0061625978f, -0.00543108396f, -0.00332796737f, -0.00158046873f, -0.000606826856f, -0.000192458159f,
     -5.10603895e-05f, -1.14249351e-05f, -2.1681692e-06f, -3.50409579e-07f},
    {0.01050545f, 0.00690878835f, -0.000420647528f, -0.00566844968f, -0.00605194131f, -0.00323661068f,
     -0.000331124436f, 0.00105599826f, 0.0011307887f, 0.000710235094f, 0.000328263646f, 0.000119587821f,
     3.54337462e-05f, 8.68931602e-06f, 1.78290259e-06f, 3.08350565e-07f},
    {-0.00128497125f, -0.00311673339f, -0.0024518373f, -0.000380656391f, 0.0011396762f, 0.00130941358f,
     0.000683313585f, 7.92577848e-05f, -0.000174499088f, -0.000174327812f, -9.95059163e-05f, -4.14146962e-05f,
     -1.35125238e-05f, -3.57189424e-06f, -7.79106585e-07f, -1.41845831e-07f},
    /* clang-format on */
};

/* Phi(x) - 1/2: odd; absolute error below 4e-8 and relative error near 0 below 1e-7. */
static inline __m512 v_phi_half(__m512 x)
{
    const __m512i sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN));
    const __m512 a = _mm512_min_ps(v_set(6.0f), _mm512_abs_ps(x)); /* beyond 6 it is 1/2 to all digits */
    const __m512i k =
        _mm512_min_epi32(_mm512_cvttps_epi32(_mm512_mul_ps(a, v_set(1.0f / 0.375f))), _mm512_set1_epi32(15));
    const __m512 t = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(k), v_set(0.375f), a);
    __m512 p = _mm512_permutexvar_ps(k, _mm512_loadu_ps(kd_phi_table[6]));
    for (int j = 5; j >= 0; j--) {
        p = _mm512_fmadd_ps(p, t, _mm512_permutexvar_ps(k, _mm512_loadu_ps(kd_phi_table[j])));
    }
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(p), sign));
}

/* Exact GELU x Phi(x) and its derivative Phi(x) + x phi(x). */
static inline __m512 v_gelu(__m512 x)
{
    return _mm512_mul_ps(x, _mm512_add_ps(v_set(0.5f), v_phi_half(x)));
}

static inline __m512 v_gelu_slope(__m512 x)
{
    const __m512 density = _mm512_mul_ps(v_set(0.398942280f), v_exp(_mm512_mul_ps(_mm512_mul_ps(x, x), v_set(-0.5f))));
    return _mm512_fmadd_ps(x, density, _mm512_add_ps(v_set(0.5f), v_phi_half(x)));
}

#endif
