/* Pieces that the LAST-E families share: see last_e_parts.h. */
#include "student/model/last_e_parts.h"

#include <math.h>

kd_val kd_last_e_channel_param(kd_graph *g, const char *name, int64_t c)
{
    return kd_reshape(g, kd_param(g, name, kd_shape4(1, c, 1, 1), kd_init_const(0.0f), 0), kd_shape1(c));
}

/* Attention over frames or joints from the mean over the other axis: (N,C,len). */
static kd_val axis_attention(kd_graph *g, kd_val x, const char *name, int mean_axis)
{
    const int64_t n = kd_block_dim(g, x, 0), c = kd_block_dim(g, x, 1), r = KD_MAX((int64_t)4, c / 4);
    const int64_t len = kd_block_dim(g, x, mean_axis == 3 ? 2 : 3);
    const kd_block_conv conv = {.init = KD_BLOCK_INIT_FAN_OUT};
    kd_scope_push(g, "%s", name);
    kd_val a = kd_reduce(g, x, KD_REDUCE_MEAN, 1u << mean_axis);
    a = kd_block_conv1d(g, kd_reshape(g, a, kd_shape4(n, c, len, 1)), "1", r, &conv);
    a = kd_act(g, kd_batchnorm(g, a, "2"), KD_ACT_RELU);
    a = kd_act(g, kd_block_conv1d(g, a, "4", c, &conv), KD_ACT_SIGMOID);
    kd_scope_pop(g);
    return kd_reshape(g, a, kd_shape3(n, c, len));
}

kd_val kd_last_e_joint_attention(kd_graph *g, kd_val x)
{
    kd_scope_push(g, "st_att");
    const kd_val in[4] = {x, axis_attention(g, x, "temporal_att", 3), axis_attention(g, x, "spatial_att", 2),
                          kd_last_e_channel_param(g, "alpha", kd_block_dim(g, x, 1))};
    const kd_val y = kd_node(g, KD_OP_ST_GATE, NULL, in, 4, NULL);
    kd_scope_pop(g);
    return y;
}

kd_val kd_last_e_pool_frames(kd_graph *g, kd_val x, int stride, kd_reduce_kind kind)
{
    enum { TAPS = 3 };
    const kd_shape s = kd_spec_of(g, x).shape;
    const int64_t n = s.dim[0], c = s.dim[1], t = s.dim[2], v = s.dim[3], to = (t + stride - 1) / stride;
    const int64_t after = stride * (to + 1) - t - 1 + (stride == 1 ? 1 : 0);
    const kd_val padded[3] = {kd_block_filled(g, "before", kd_shape4(n, c, 1, v), 0.0f), x,
                              kd_block_filled(g, "after", kd_shape4(n, c, after, v), 0.0f)};
    const kd_val all = kd_concat(g, padded, 3, 2);
    const kd_val steps = stride == 1 ? all : kd_reshape(g, all, kd_shape4(n, c, to + 1, stride * v));
    kd_val tap[TAPS];
    for (int i = 0; i < TAPS; i++) {
        const kd_val phase = stride == 1 ? steps : kd_slice(g, steps, 3, i % stride * v, v);
        tap[i] = kd_reshape(g, kd_slice(g, phase, 2, i / stride, to), kd_shape4(n, c, 1, to * v));
    }
    return kd_reshape(g, kd_reduce(g, kd_concat(g, tap, TAPS, 2), kind, 1u << 2), kd_shape4(n, c, to, v));
}

kd_val kd_last_e_pool(kd_graph *g, kd_val x)
{
    const uint32_t frames_and_joints = 1u << 2 | 1u << 3;
    const kd_val mean = kd_reduce(g, x, KD_REDUCE_MEAN, frames_and_joints);
    const kd_val top = kd_reduce(g, x, KD_REDUCE_MAX, frames_and_joints);
    const kd_val gate = kd_last_e_channel_param(g, "pool_gate", kd_block_dim(g, x, 1));
    return kd_node3(g, KD_OP_GATE_MIX, NULL, mean, top, gate);
}

kd_student_out kd_last_e_classify(kd_graph *g, const kd_student_cfg *cfg, kd_val feature)
{
    kd_student_out out = {.feature = feature};
    out.logits =
        kd_linear(g, kd_dropout(g, out.feature, cfg->dropout), "fc", cfg->classes,
                  &(kd_linear_opts){
                      .weight = kd_init_normal(KD_LAST_E_LINEAR_STD), .bias = kd_init_const(0.0f), .f32_out = true});
    return out;
}

/* Frequencies of a real signal of n frames as the columns of an orthogonal-like map (n,n): the cosine of each of the
 * n/2+1 bins, then the sine of those that have one. */
static void real_fourier(int64_t n, double scale, float *a)
{
    const double pi = 3.14159265358979323846;
    const int64_t bins = n / 2 + 1;
    for (int64_t t = 0; t < n; t++) {
        for (int64_t k = 0; k < n; k++) {
            const int64_t bin = k < bins ? k : k - bins + 1;
            const double phase = 2.0 * pi * (double)(bin * t % n) / (double)n;
            a[t * n + k] = (float)(scale * (k < bins ? cos(phase) : sin(phase)));
        }
    }
}

kd_val kd_last_e_spectrum(kd_graph *g, kd_val x)
{
    const int64_t t = kd_block_dim(g, x, 2), v = kd_block_dim(g, x, 3);
    if (t < 1 || t > KD_MAX_JOINTS) {
        kd_graph_fail(g, KD_E_SHAPE, "frequency gate: %lld frames, expected 1 to %d", (long long)t, KD_MAX_JOINTS);
        return KD_NONE;
    }
    float *a = kd_alloc((size_t)(t * t) * sizeof *a);
    if (a == NULL) {
        kd_graph_fail(g, KD_E_OOM, "frequency gate: out of memory");
        return KD_NONE;
    }
    real_fourier(t, sqrt(1.0 / (double)v), a); /* the mean over joints is in the map */
    const kd_val map = kd_block_constant(g, "frequencies", kd_shape2(t, t), a);
    kd_free(a);
    const kd_val z = kd_block_mix(g, kd_permute(g, x, 0, 1, 3, 2), map, KD_MIX_SHARED, false);
    return kd_reduce(g, kd_mul(g, z, z), KD_REDUCE_SUM, 1u << 2);
}

kd_val kd_last_e_band(kd_graph *g, kd_val spectrum, int64_t from, int64_t to)
{
    const int64_t t = kd_block_dim(g, spectrum, 2), bins = t / 2 + 1;
    const kd_val real = kd_reduce(g, kd_slice(g, spectrum, 2, from, to - from), KD_REDUCE_SUM, 1u << 2);
    const int64_t first = KD_MAX(from, (int64_t)1), last = KD_MIN(to, t - bins + 1); /* bins that have a sine */
    const kd_val sum =
        last > first
            ? kd_add(g, real,
                     kd_reduce(g, kd_slice(g, spectrum, 2, bins + first - 1, last - first), KD_REDUCE_SUM, 1u << 2))
            : real;
    return kd_scale(g, sum, 1.0f / (float)(to - from));
}

const char *const kd_last_e_no_decay[] = {"bias",      "bn",        "norm",           "alpha",
                                          "A_learned", "node_proj", "refine_gate",    "pool_gate",
                                          "freq_gate", "edge",      "stream_weights", NULL};
