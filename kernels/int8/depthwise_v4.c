/* Depthwise convolution of eight-bit values for AVX-512: the f32 kernel on whole numbers.
 *
 * A filter sees few values, so bytes would save nothing here: qx - x_zero goes through kernels/fast as floats, with the
 * weights x_scale scale[r] qw. */
#include "kernels/int8/quantise512.h"

enum { CHANNELS = 1 }; /* at once: x, its whole numbers and y of one stay in the first cache */

bool kd_int8_depthwise_can(const kd_int8 *l)
{
    const conv c = {.kw = l->kw, .kh = l->kh, .stride = {l->stride[0], l->stride[1]}, .pad = {l->pad[0], l->pad[1]}};
    return l->groups > 1 && l->groups == l->ci && l->co == l->ci && kd_depthwise_can(&c);
}

static conv some_channels(const kd_int8 *l, int64_t channels)
{
    conv c = {.n = 1,
              .ci = channels,
              .h = l->h,
              .w = l->w,
              .co = channels,
              .ho = l->ho,
              .wo = l->wo,
              .kh = l->kh,
              .kw = l->kw,
              .taps = kd_int8_taps(l),
              .stride = {l->stride[0], l->stride[1]},
              .pad = {l->pad[0], l->pad[1]},
              .dilation = {l->dilation[0], l->dilation[1]},
              .depthwise = true};
    c.shifts = l->stride[0] == 1 && l->h == l->ho; /* kd_int8_depthwise_can: kernels over time alone */
    return c;
}

/* Channels [first, first + n) of one sample. */
static void channels_of(const kd_int8 *l, const float *x, int64_t first, int64_t n, const int32_t *bias, float *y)
{
    const int64_t plane = l->h * l->w, taps = kd_int8_taps(l);
    const conv c = some_channels(l, n);
    float *q = l->scratch, *w = q + CHANNELS * plane;
    int64_t k = 0;
    for (; k + 64 <= n * plane; k += 64) {
        for (int64_t v = 0; v < 64; v += 16) {
            _mm512_storeu_ps(q + k + v, quantise(l, _mm512_loadu_ps(x + k + v)));
        }
    }
    for (; k < n * plane; k += 16) {
        const __mmask16 m = v_mask(k, n * plane);
        _mm512_mask_storeu_ps(q + k, m, quantise(l, _mm512_maskz_loadu_ps(m, x + k)));
    }
    for (k = 0; k < n * taps; k++) {
        w[k] = l->mul[first + k / taps] * (float)l->weight[first * taps + k];
    }
    float b[CHANNELS];
    for (int i = 0; i < n; i++) {
        b[i] = l->mul[first + i] * (float)bias[first + i];
    }
    kd_depthwise_v4(&c, q, w, b, l->act, false, y);
}

void kd_int8_depthwise_v4(const kd_int8 *l, const float *x, const int32_t *bias, float *y)
{
    for (int64_t s = 0; s < l->n; s++) {
        for (int64_t c = 0; c < l->ci; c += CHANNELS) {
            const int64_t at = s * l->ci + c;
            channels_of(l, x + at * l->h * l->w, c, KD_MIN((int64_t)CHANNELS, l->ci - c), bias, y + at * l->ho * l->wo);
        }
    }
}
