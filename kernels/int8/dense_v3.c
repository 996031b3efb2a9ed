/* Product of an eight-bit convolution for AVX2: pairs of 16 bits by madd, which is exact where the eight-bit madd would
 * saturate. */
#include "kernels/int8/int8.h"

#include <immintrin.h>

enum { ROWS = 8, HALF = 4, LANES = 8, VECTORS = 3, STEP = 2 * KD_INT8_PANEL }; /* a tile: 4 rows, 24 positions */

/* sum (4, 48) of rows [from, from + 4) of a block; w (steps, 8, 2), q (steps, 48, 2). */
static void tile(const int16_t *w, const int16_t *q, int64_t steps, int32_t *sum)
{
    for (int part = 0; part < KD_INT8_PANEL; part += LANES * VECTORS) {
        __m256i acc[HALF][VECTORS];
        for (int r = 0; r < HALF; r++) {
            for (int v = 0; v < VECTORS; v++) {
                acc[r][v] = _mm256_setzero_si256();
            }
        }
        const int16_t *at = q + part * 2;
        for (int64_t k = 0; k < steps; k++, at += STEP) {
            __m256i b[VECTORS];
            for (int v = 0; v < VECTORS; v++) {
                b[v] = _mm256_loadu_si256((const __m256i *)(const void *)(at + v * LANES * 2));
            }
            for (int r = 0; r < HALF; r++) {
                int32_t pair;
                memcpy(&pair, w + (k * ROWS + r) * 2, sizeof pair);
                const __m256i a = _mm256_set1_epi32(pair);
                for (int v = 0; v < VECTORS; v++) {
                    acc[r][v] = _mm256_add_epi32(acc[r][v], _mm256_madd_epi16(a, b[v]));
                }
            }
        }
        for (int r = 0; r < HALF; r++) {
            for (int v = 0; v < VECTORS; v++) {
                int32_t *to = sum + r * KD_INT8_PANEL + part + v * LANES;
                _mm256_storeu_si256((__m256i *)(void *)to, acc[r][v]);
            }
        }
    }
}

void kd_int8_dense_v3(const kd_int8 *l, const float *x, const int32_t *bias, float *y)
{
    const int64_t out = l->ho * l->wo, steps = kd_int8_taps(l) * ((l->ci + 1) / 2);
    const int16_t *packed = l->packed;
    for (int64_t s = 0; s < l->n; s++) {
        for (int64_t p0 = 0; p0 < out; p0 += KD_INT8_PANEL) {
            const int64_t n = KD_MIN((int64_t)KD_INT8_PANEL, out - p0);
            kd_int8_panel_v3_f32(l, x + s * l->ci * l->h * l->w, p0, l->scratch);
            for (int64_t r0 = 0; r0 < l->co; r0 += HALF) {
                int32_t sum[HALF * KD_INT8_PANEL];
                tile(packed + (r0 / ROWS * steps * ROWS + r0 % ROWS) * 2, l->scratch, steps, sum);
                for (int64_t r = r0; r < KD_MIN(r0 + HALF, l->co); r++) {
                    kd_int8_finish_v3_f32(l, r, sum + (r - r0) * KD_INT8_PANEL, n, bias[r],
                                          y + (s * l->co + r) * out + p0);
                }
            }
        }
    }
}
