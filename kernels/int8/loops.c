/* Eight-bit layers in plain C, compiled once per variant (kernels/cpu/kd_real.h): see int8.h. */
#include "kernels/cpu/act_fn.h"
#include "kernels/int8/int8.h"
#include "kernels/kd_quant.h"

#define NAME(what) KD_CAT(kd_int8_, what, KD_VARIANT)

/* y[0..n) = f(mul (sum - offset + bias)) */
void NAME(finish)(const kd_int8 *l, int64_t row, const int32_t *sum, int64_t n, int32_t bias, float *y)
{
    const float mul = l->mul[row];
    const int32_t add = bias - l->offset[row];
    for (int64_t i = 0; i < n; i++) {
        y[i] = mul * (float)(sum[i] + add);
    }
    kd_act_row(l->act, y, n);
}

static int64_t clip(int64_t x, int64_t lo, int64_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* ---- several groups -------------------------------------------------------------------------- */

/* sum[x] += w q[row y of x, column x stride + shift] over the columns that lie inside. */
static void add_row(const kd_int8 *l, const int32_t *q, int64_t kx, int32_t w, int32_t *restrict sum)
{
    const int64_t shift = kx * l->dilation[1] - l->pad[1], step = l->stride[1];
    const int64_t first = shift >= 0 ? 0 : (-shift + step - 1) / step;
    const int64_t end = clip((l->w - shift + step - 1) / step, 0, l->wo);
    for (int64_t x = first; x < end; x++) {
        sum[x] += w * q[x * step + shift];
    }
}

/* Output row `row` of one sample; q: planes of the input channel, less the zero point, so that padding adds nothing. */
static void grouped_channel(const kd_int8 *l, const float *x, int64_t row, int32_t *q, int32_t bias, float *y)
{
    const int64_t per = l->ci / l->groups, plane = l->h * l->w;
    const int64_t base = row / (l->co / l->groups) * per;
    int32_t *sum = q + plane;
    for (int64_t c = 0; c < per; c++) { /* one channel a group in all students: sums of more are added in f32 */
        for (int64_t i = 0; i < plane; i++) {
            q[i] = (int32_t)kd_quant_u8(x[(base + c) * plane + i], l->x_scale, (uint8_t)l->x_zero) - l->x_zero;
        }
        for (int64_t oy = 0; oy < l->ho; oy++) {
            memset(sum, 0, (size_t)l->wo * sizeof *sum);
            for (int64_t ky = 0; ky < l->kh; ky++) {
                const int64_t iy = oy * l->stride[0] + ky * l->dilation[0] - l->pad[0];
                for (int64_t kx = 0; kx < l->kw && iy >= 0 && iy < l->h; kx++) {
                    add_row(l, q + iy * l->w, kx, l->weight[((row * per + c) * l->kh + ky) * l->kw + kx], sum);
                }
            }
            float *to = y + oy * l->wo;
            for (int64_t ox = 0; ox < l->wo; ox++) {
                to[ox] = c == 0 ? l->mul[row] * (float)(sum[ox] + bias) : to[ox] + l->mul[row] * (float)sum[ox];
            }
        }
    }
    kd_act_row(l->act, y, l->ho * l->wo);
}

void NAME(grouped)(const kd_int8 *l, const float *x, const int32_t *bias, float *y)
{
    for (int64_t s = 0; s < l->n; s++) {
        for (int64_t r = 0; r < l->co; r++) {
            grouped_channel(l, x + s * l->ci * l->h * l->w, r, l->scratch, bias[r],
                            y + (s * l->co + r) * l->ho * l->wo);
        }
    }
}

/* ---- linear ---------------------------------------------------------------------------------- */

void NAME(linear)(const kd_int8 *l, const float *x, const int32_t *bias, float *y)
{
    int32_t *q = l->scratch;
    for (int64_t s = 0; s < l->n; s++) {
        for (int64_t k = 0; k < l->ci; k++) {
            q[k] = kd_quant_u8(x[s * l->ci + k], l->x_scale, (uint8_t)l->x_zero);
        }
        for (int64_t r = 0; r < l->co; r++) {
            const int8_t *w = l->weight + r * l->ci;
            int32_t sum = 0;
            for (int64_t k = 0; k < l->ci; k++) {
                sum += q[k] * w[k];
            }
            NAME(finish)(l, r, &sum, 1, bias[r], &y[s * l->co + r]);
        }
    }
}

/* ---- one group: pairs of 16 bits ------------------------------------------------------------- */

/* Where output position p reads the input plane under a tap, -1: in the padding. */
static int64_t source(const kd_int8 *l, int64_t tap, int64_t p)
{
    const int64_t iy = p / l->wo * l->stride[0] + tap / l->kw * l->dilation[0] - l->pad[0];
    const int64_t ix = p % l->wo * l->stride[1] + tap % l->kw * l->dilation[1] - l->pad[1];
    return iy >= 0 && iy < l->h && ix >= 0 && ix < l->w ? iy * l->w + ix : -1;
}

/* x of one sample in eight bits at 48 output positions from p0: (taps, channels / 2, 48, 2). */
void NAME(panel)(const kd_int8 *l, const float *x, int64_t p0, int16_t *panel)
{
    const int64_t out = l->ho * l->wo, plane = l->h * l->w, pairs = (l->ci + 1) / 2;
    for (int64_t tap = 0; tap < kd_int8_taps(l); tap++) {
        int64_t at[KD_INT8_PANEL];
        for (int64_t j = 0; j < KD_INT8_PANEL; j++) {
            at[j] = p0 + j < out ? source(l, tap, p0 + j) : -1;
        }
        for (int64_t c = 0; c < 2 * pairs; c++) {
            int16_t *row = panel + ((tap * pairs + c / 2) * KD_INT8_PANEL) * 2 + c % 2;
            for (int64_t j = 0; j < KD_INT8_PANEL; j++) {
                row[2 * j] = c < l->ci && at[j] >= 0
                                 ? (int16_t)kd_quant_u8(x[c * plane + at[j]], l->x_scale, (uint8_t)l->x_zero)
                                 : (int16_t)l->x_zero;
            }
        }
    }
}

#if defined(KD_INT8_DENSE)
void NAME(dense)(const kd_int8 *l, const float *x, const int32_t *bias, float *y)
{
    enum { ROWS = 8 };
    const int64_t out = l->ho * l->wo, steps = kd_int8_taps(l) * ((l->ci + 1) / 2);
    const int16_t *packed = l->packed;
    for (int64_t i = 0; i < l->n * ((out + KD_INT8_PANEL - 1) / KD_INT8_PANEL); i++) {
        const int64_t panels = (out + KD_INT8_PANEL - 1) / KD_INT8_PANEL, s = i / panels;
        const int64_t p0 = i % panels * KD_INT8_PANEL, n = KD_MIN((int64_t)KD_INT8_PANEL, out - p0);
        const int16_t *panel = l->scratch;
        NAME(panel)(l, x + s * l->ci * l->h * l->w, p0, l->scratch);
        for (int64_t r = 0; r < l->co; r++) {
            int32_t sum[KD_INT8_PANEL] = {0};
            for (int64_t k = 0; k < steps; k++) {
                const int16_t *w = packed + ((r / ROWS * steps + k) * ROWS + r % ROWS) * 2;
                const int16_t *q = panel + k * KD_INT8_PANEL * 2;
                for (int64_t j = 0; j < KD_INT8_PANEL; j++) {
                    sum[j] += w[0] * q[2 * j] + w[1] * q[2 * j + 1];
                }
            }
            NAME(finish)(l, r, sum, n, bias[r], y + (s * l->co + r) * out + p0);
        }
    }
}
#endif
