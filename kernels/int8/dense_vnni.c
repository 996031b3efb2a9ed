/* Product of an eight-bit convolution for AVX-512 VNNI: four depths an instruction.
 *
 * x of a sample is brought to eight bits once, four channels of a position together: (Ci / 4, H W, 4).  A position is
 * then 32 bits: a tap shifts or gathers whole positions into the panel (taps, Ci / 4, 48, 4), which stays in cache
 * while all output channels pass over it. */
#include "kernels/int8/quantise512.h"

enum { ROWS = 8, VECTORS = 3, LANES = 16, STEP = 4 * KD_INT8_PANEL };

/* Four channels of 16 positions; those that are not there have weights of 0. */
static inline __m512i quantise4(const kd_int8 *l, const float *x, int64_t plane, int64_t here, __mmask16 m)
{
    const __m512i zero = _mm512_set1_epi32(l->x_zero);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t j = here; j-- > 0;) {
        const __m512i q = _mm512_cvttps_epi32(quantise(l, _mm512_maskz_loadu_ps(m, x + j * plane)));
        sum = _mm512_or_si512(_mm512_slli_epi32(sum, 8), _mm512_add_epi32(q, zero));
    }
    return sum;
}

static void quantise_all(const kd_int8 *l, const float *x, uint32_t *q)
{
    const int64_t plane = l->h * l->w;
    for (int64_t c = 0; c < l->ci; c += 4) {
        const int64_t here = KD_MIN((int64_t)4, l->ci - c);
        const float *from = x + c * plane;
        uint32_t *to = q + c / 4 * plane;
        int64_t i = 0;
        for (; here == 4 && i + LANES <= plane; i += LANES) {
            _mm512_storeu_si512(to + i, quantise4(l, from + i, plane, 4, 0xffff));
        }
        for (; i < plane; i += LANES) {
            const __mmask16 m = v_mask(i, plane);
            _mm512_mask_storeu_epi32(to + i, m, quantise4(l, from + i, plane, here, m));
        }
    }
}

/* Where the positions of the panel read the plane under a tap; -1: in the padding. */
static void sources(const kd_int8 *l, int64_t tap, int64_t p0, int32_t *at)
{
    const int64_t out = l->ho * l->wo;
    const int64_t dy = tap / l->kw * l->dilation[0] - l->pad[0], dx = tap % l->kw * l->dilation[1] - l->pad[1];
    int64_t oy = p0 / l->wo, ox = p0 % l->wo;
    for (int64_t j = 0; j < KD_INT8_PANEL; j++) {
        const int64_t iy = oy * l->stride[0] + dy, ix = ox * l->stride[1] + dx;
        const bool in = p0 + j < out && iy >= 0 && iy < l->h && ix >= 0 && ix < l->w;
        at[j] = in ? (int32_t)(iy * l->w + ix) : -1;
        ox++;
        if (ox == l->wo) {
            ox = 0;
            oy++;
        }
    }
}

static void gather_panel(const kd_int8 *l, const uint32_t *q, int64_t p0, uint32_t *panel)
{
    const int64_t plane = l->h * l->w, quads = (l->ci + 3) / 4;
    const __m512i zero = _mm512_set1_epi32((int32_t)((uint32_t)l->x_zero * 0x01010101u));
    for (int64_t tap = 0; tap < kd_int8_taps(l); tap++) {
        int32_t at[KD_INT8_PANEL];
        sources(l, tap, p0, at);
        for (int v = 0; v < VECTORS; v++) {
            const __m512i where = _mm512_loadu_si512(at + v * LANES);
            const __mmask16 m = _mm512_cmpge_epi32_mask(where, _mm512_setzero_si512());
            const bool run = m == 0xffff && at[v * LANES + LANES - 1] - at[v * LANES] == LANES - 1;
            for (int64_t c = 0; c < quads; c++) {
                const uint32_t *from = q + c * plane;
                const __m512i b = run ? _mm512_loadu_si512(from + at[v * LANES])
                                      : _mm512_mask_i32gather_epi32(zero, m, where, from, 4);
                _mm512_storeu_si512(panel + (tap * quads + c) * KD_INT8_PANEL + v * LANES, b);
            }
        }
    }
}

/* w (steps, 8, 4), q (steps, 48, 4) */
static void tile(const int8_t *w, const uint8_t *q, int64_t steps, __m512i acc[ROWS][VECTORS])
{
    __m512i sum[ROWS][VECTORS];
    _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
    {
        _Pragma("GCC unroll 3") for (int v = 0; v < VECTORS; v++)
        {
            sum[r][v] = _mm512_setzero_si512();
        }
    }
    for (int64_t k = 0; k < steps; k++, w += ROWS * 4, q += STEP) {
        __m512i b[VECTORS];
        _Pragma("GCC unroll 3") for (int v = 0; v < VECTORS; v++)
        {
            b[v] = _mm512_loadu_si512(q + v * LANES * 4);
        }
        _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
        {
            int32_t four;
            memcpy(&four, w + r * 4, sizeof four);
            const __m512i a = _mm512_set1_epi32(four);
            _Pragma("GCC unroll 3") for (int v = 0; v < VECTORS; v++)
            {
                sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], b[v], a);
            }
        }
    }
    _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
    {
        _Pragma("GCC unroll 3") for (int v = 0; v < VECTORS; v++)
        {
            acc[r][v] = sum[r][v];
        }
    }
}

void kd_int8_dense_vnni(const kd_int8 *l, const float *x, const int32_t *bias, float *y)
{
    const int64_t out = l->ho * l->wo, plane = l->h * l->w, quads = (l->ci + 3) / 4;
    const int64_t steps = kd_int8_taps(l) * quads;
    uint32_t *q = l->scratch, *panel = q + (quads * plane + LANES - 1) / LANES * LANES;
    const int8_t *packed = l->packed;
    for (int64_t s = 0; s < l->n; s++) {
        quantise_all(l, x + s * l->ci * plane, q);
        for (int64_t p0 = 0; p0 < out; p0 += KD_INT8_PANEL) {
            gather_panel(l, q, p0, panel);
            for (int64_t r0 = 0; r0 < l->co; r0 += ROWS) {
                __m512i acc[ROWS][VECTORS];
                tile(packed + r0 * steps * 4, (const uint8_t *)panel, steps, acc);
                for (int64_t r = r0; r < KD_MIN(r0 + ROWS, l->co); r++) {
                    const __m512 mul = v_set(l->mul[r]);
                    const __m512i add = _mm512_set1_epi32(bias[r] - l->offset[r]);
                    float *to = y + (s * l->co + r) * out + p0;
                    for (int v = 0; v < VECTORS && p0 + v * LANES < out; v++) {
                        const __m512 z = _mm512_cvtepi32_ps(_mm512_add_epi32(acc[r - r0][v], add));
                        _mm512_mask_storeu_ps(to + v * LANES, v_mask(p0 + v * LANES, out),
                                              v_act_quick(l->act, _mm512_mul_ps(z, mul)));
                    }
                }
            }
        }
    }
}
