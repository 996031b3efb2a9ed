/* Eight-bit layers of every variant the machine runs against their definition, written out in f64. */
#include "kernels/int8/int8.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_quant.h"
#include "kernels/kd_rng.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
/* clang-format on */

typedef struct layer_case {
    const char *what;
    kd_op op;
    int64_t n, ci, h, w, co, kh, kw;
    kd_conv2d_attr conv;
} layer_case;

#define ONE .stride = {1, 1}, .dilation = {1, 1}
static const layer_case CASES[] = {
    {"1x1", KD_OP_CONV2D, 2, 24, 16, 25, 32, 1, 1, {ONE}},
    {"1x1, nothing fits", KD_OP_CONV2D, 1, 7, 3, 25, 5, 1, 1, {ONE, .act = KD_ACT_RELU}},
    {"1x1, one of everything", KD_OP_CONV2D, 1, 1, 1, 1, 1, 1, 1, {ONE}},
    {"1x1 in steps of 2", KD_OP_CONV2D, 1, 18, 16, 25, 20, 1, 1, {.stride = {2, 1}, .dilation = {1, 1}}},
    {"5 frames", KD_OP_CONV2D, 1, 12, 16, 25, 9, 5, 1, {ONE, .pad = {2, 0}, .act = KD_ACT_HARDSWISH}},
    {"5 frames apart", KD_OP_CONV2D, 1, 5, 13, 6, 8, 5, 1, {.stride = {2, 1}, .dilation = {2, 1}, .pad = {4, 0}}},
    {"3x3", KD_OP_CONV2D, 2, 6, 9, 11, 10, 3, 3, {.stride = {2, 2}, .dilation = {1, 1}, .pad = {1, 1}}},
    {"depthwise", KD_OP_CONV2D, 2, 21, 16, 25, 21, 5, 1, {ONE, .pad = {2, 0}, .groups = 21, .act = KD_ACT_SILU}},
    {"depthwise, strides",
     KD_OP_CONV2D,
     1,
     6,
     16,
     25,
     6,
     9,
     1,
     {.stride = {2, 1}, .dilation = {1, 1}, .pad = {4, 0}, .groups = 6}},
    {"depthwise 3x3", KD_OP_CONV2D, 1, 6, 8, 9, 6, 3, 3, {ONE, .pad = {1, 1}, .groups = 6}},
    {"groups of 3", KD_OP_CONV2D, 1, 9, 5, 7, 6, 3, 1, {ONE, .pad = {1, 0}, .groups = 3}},
    {"linear", KD_OP_LINEAR, 3, 129, 1, 1, 60, 1, 1, {.act = KD_ACT_NONE}},
};

static const uint32_t LEVELS[] = {0, KD_CPU_V3, KD_CPU_V3 | KD_CPU_V4, ~0u};

typedef struct numbers {
    float *x, *bias, *y, *scale;
    int8_t *w;
    float x_scale;
    uint8_t x_zero;
} numbers;

static double act(int32_t kind, double v)
{
    switch (kind) {
    case KD_ACT_RELU:
        return v < 0.0 ? 0.0 : v;
    case KD_ACT_HARDSWISH:
        return v * fmin(fmax(v + 3.0, 0.0), 6.0) / 6.0;
    case KD_ACT_SILU:
        return v / (1.0 + exp(-v));
    default:
        return v;
    }
}

/* Sum of one output, exactly, and that of its terms' magnitudes. */
static int64_t sum_at(const layer_case *k, const numbers *m, int64_t s, int64_t r, int64_t oy, int64_t ox,
                      int64_t *magnitude)
{
    const int64_t groups = KD_MAX(k->conv.groups, 1), per = k->ci / groups, base = r / (k->co / groups) * per;
    int64_t sum = 0;
    for (int64_t c = 0; c < per; c++) {
        for (int64_t t = 0; t < k->kh * k->kw; t++) {
            const int64_t iy = oy * k->conv.stride[0] + t / k->kw * k->conv.dilation[0] - k->conv.pad[0];
            const int64_t ix = ox * k->conv.stride[1] + t % k->kw * k->conv.dilation[1] - k->conv.pad[1];
            if (iy >= 0 && iy < k->h && ix >= 0 && ix < k->w) {
                const float x = m->x[((s * k->ci + base + c) * k->h + iy) * k->w + ix];
                const int64_t term = ((int64_t)kd_quant_u8(x, m->x_scale, m->x_zero) - m->x_zero) *
                                     m->w[(r * per + c) * k->kh * k->kw + t];
                sum += term;
                *magnitude += term < 0 ? -term : term;
            }
        }
    }
    return sum;
}

static void compare(const layer_case *k, const numbers *m, const kd_int8 *l)
{
    for (int64_t i = 0; i < l->n * l->co * l->ho * l->wo; i++) {
        const int64_t out = l->ho * l->wo, r = i / out % l->co, p = i % out;
        const double unit = (double)m->x_scale * (double)m->scale[r];
        int64_t magnitude = 0;
        const double z = unit * (double)sum_at(k, m, i / out / l->co, r, p / l->wo, p % l->wo, &magnitude);
        const double want = act(k->conv.act, z + unit * (double)kd_quant_s32(m->bias[r], m->x_scale * m->scale[r]));
        if (!(fabs((double)m->y[i] - want) <= 1e-6 * (unit * (double)magnitude + fabs((double)m->bias[r])) + 1e-6)) {
            fail_msg("%s: output %lld is %.9g, expected %.9g", k->what, (long long)i, (double)m->y[i], want);
        }
    }
}

static void draw(const layer_case *k, numbers *m, int64_t per)
{
    kd_rng r = kd_rng_make(3, KD_RNG_SAMPLE, 1, 1);
    m->x_scale = 0.03125f;
    m->x_zero = 77;
    for (int64_t i = 0; i < k->n * k->ci * k->h * k->w; i++) { /* some beyond the range, some between two steps */
        m->x[i] = i % 17 == 0 ? ((float)(i % 64) + 0.5f) * m->x_scale : (float)kd_rng_range(&r, -4.0, 7.0);
    }
    m->x[0] = NAN; /* counts as 0 in eight bits */
    for (int64_t i = 0; i < k->co * per; i++) {
        m->w[i] = (int8_t)((int)kd_rng_below(&r, 255) - 127);
    }
    for (int64_t i = 0; i < k->co; i++) {
        m->scale[i] = (float)kd_rng_range(&r, 0.001, 0.01);
        m->bias[i] = (float)kd_rng_range(&r, -1.0, 1.0);
    }
}

static void check(const layer_case *k)
{
    const int64_t per = k->ci / KD_MAX(k->conv.groups, 1) * k->kh * k->kw;
    const int64_t ho =
        k->op == KD_OP_LINEAR
            ? 1
            : (k->h + 2 * k->conv.pad[0] - k->conv.dilation[0] * (k->kh - 1) - 1) / k->conv.stride[0] + 1;
    const int64_t wo =
        k->op == KD_OP_LINEAR
            ? 1
            : (k->w + 2 * k->conv.pad[1] - k->conv.dilation[1] * (k->kw - 1) - 1) / k->conv.stride[1] + 1;
    const bool linear = k->op == KD_OP_LINEAR;
    const kd_linear_attr la = {.act = k->conv.act};
    const kd_tensor in[2] = {
        {.shape = linear ? kd_shape2(k->n, k->ci) : kd_shape4(k->n, k->ci, k->h, k->w)},
        {.shape = linear ? kd_shape2(k->co, k->ci) : kd_shape4(k->co, per / k->kh / k->kw, k->kh, k->kw)}};
    const kd_tensor y = {.shape = linear ? kd_shape2(k->n, k->co) : kd_shape4(k->n, k->co, ho, wo)};
    const kd_call shapes = {.in = in, .out = &y, .n_in = 2, .n_out = 1, .attr = linear ? (const void *)&la : &k->conv};
    numbers m = {.x = kd_calloc((size_t)(k->n * k->ci * k->h * k->w), sizeof(float)),
                 .bias = kd_calloc((size_t)k->co, sizeof(float)),
                 .y = kd_calloc((size_t)(k->n * k->co * ho * wo), sizeof(float)),
                 .scale = kd_calloc((size_t)k->co, sizeof(float)),
                 .w = kd_calloc((size_t)(k->co * per), 1)};
    draw(k, &m, per);
    for (size_t level = 0; level < KD_COUNTOF(LEVELS); level++) {
        kd_int8 l;
        kd_cpu_limit(LEVELS[level]);
        assert_int_equal(kd_int8_make(k->op, &shapes, m.w, m.scale, m.x_scale, m.x_zero, &l), KD_OK);
        l.scratch = kd_alloc(kd_int8_scratch(&l)); /* its own block: what is written behind it is seen */
        kd_int8_run(&l, m.x, m.bias, m.y);
        compare(k, &m, &l);
        kd_free(l.scratch);
        kd_int8_free(&l);
    }
    kd_cpu_limit(~0u);
    kd_free(m.x);
    kd_free(m.bias);
    kd_free(m.y);
    kd_free(m.scale);
    kd_free(m.w);
}

static void test_layers(void **state)
{
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(CASES); i++) {
        check(&CASES[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
