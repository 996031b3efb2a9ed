/* LAST-E v1 and v2: graph convolution over three fixed partitions and an adjacency from the data, parallel temporal
 * branches, ReLU after the residual.
 *
 * Streams joint, velocity, bone, fused at the input by weights a channel; body 0 alone.  v1 weights the partitions a
 * channel, adds a learned adjacency that starts at zero (its gradient is then exactly zero: it never moves, as in the
 * reference) and passes all streams through one stem BatchNorm.  v2 weights them a group of channels and adds a gate
 * from the frequencies. */
#include "student/model/fixes.h"
#include "student/model/last_e_parts.h"
#include "student/model/skeleton_graph.h"

#include <math.h>
#include <stdio.h>

enum { STAGES = 3, PARTS = 3, STREAMS = 3, MAX_HOP = 1, KERNEL = 9, GROUPS = 4 };

typedef struct e12_size {
    int version;
    int64_t channels[STAGES];
    int blocks[STAGES];
    bool attention[STAGES]; /* ST_JointAtt */
} e12_size;

static const int strides[STAGES] = {1, 2, 2};

/* The configured rate is the classifier's; 0 turns this one off too. */
#define BLOCK_DROPOUT 0.1f
#define GATE_START    (-4.0f)
#define INIT          KD_BLOCK_INIT_FAN_OUT

static void partitions(const kd_layout *l, float a[PARTS * KD_MAX_ADJ])
{
    kd_skel_spatial(l, MAX_HOP, a);
    kd_skel_norm_columns_of_sum(a, PARTS, l->joints);
}

/* A small parameter as an activation, for functions of it. */
static kd_val active_param(kd_graph *g, const char *name, kd_shape shape, float start)
{
    return kd_cast(g, kd_param(g, name, shape, kd_init_const(start), 0), kd_graph_dtype(g));
}

/* sum_k w[k,c] x[n,k*C+c] with w (K*C).  A convolution's weight has its gradient in the stat dtype, w in the activation
 * dtype: hence by way of the stat dtype. */
static kd_val weighted_sum(kd_graph *g, kd_val x, kd_val w, int parts)
{
    const int64_t c = kd_block_dim(g, x, 1);
    const kd_conv2d_attr scale = {.stride = {1, 1}, .dilation = {1, 1}, .groups = (int32_t)c, .kernel = {1, 1}};
    const kd_group_sum_attr sum = {.parts = parts, .scale = 1.0f};
    w = kd_cast(g, kd_cast(g, w, kd_stat_dtype(kd_graph_dtype(g))), kd_graph_dtype(g));
    const kd_val y = kd_node2(g, KD_OP_CONV2D, &scale, x, kd_reshape(g, w, kd_shape4(c, 1, 1, 1)));
    return kd_node2(g, KD_OP_GROUP_SUM, &sum, y, KD_NONE);
}

/* Softmax over the rows of w (K,C). */
static kd_val softmax_of_rows(kd_graph *g, kd_val w)
{
    return kd_permute(g, kd_softmax(g, kd_permute(g, w, 1, 0, -1, -1), 1.0f), 1, 0, -1, -1);
}

static kd_val fusion(kd_graph *g, const kd_val *streams, int version, int64_t co)
{
    kd_val of[STREAMS];
    kd_scope_push(g, "fusion");
    for (int i = 0; i < STREAMS; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "stream_bn.%d", i);
        kd_val y = kd_block_conv1d(g, kd_batchnorm(g, streams[i], name), "stem", co, &(kd_block_conv){.init = INIT});
        (void)snprintf(name, sizeof name, version == 1 ? "stem_bn" : "stem_bn.%d", i);
        of[i] = kd_act(g, kd_batchnorm(g, y, name), KD_ACT_RELU);
    }
    const kd_val w = active_param(g, "stream_weights", kd_shape2(STREAMS, co), 0.0f);
    kd_scope_pop(g);
    return weighted_sum(g, kd_concat(g, of, STREAMS, 1), softmax_of_rows(g, w), STREAMS);
}

/* x (N,C,T,V) aggregated over the fixed partitions, weighted by w (3,C), plus gate (C) times the aggregate over adj. */
static kd_val aggregate(kd_graph *g, kd_val x, const kd_layout *l, kd_val w, kd_val adj, kd_val gate)
{
    float a[PARTS * KD_MAX_ADJ];
    partitions(l, a);
    const int64_t c = kd_block_dim(g, x, 1);
    const kd_val y[2] = {kd_block_mix(g, x, kd_block_adjacency(g, "A", a, PARTS, l->joints), KD_MIX_EXPAND, false),
                         kd_block_mix(g, x, adj, KD_MIX_SAMPLE, false)};
    const kd_val weight[2] = {kd_reshape(g, softmax_of_rows(g, w), kd_shape1(PARTS * c)),
                              kd_act(g, gate, KD_ACT_SIGMOID)};
    return weighted_sum(g, kd_concat(g, y, 2, 1), kd_concat(g, weight, 2, 0), PARTS + 1);
}

/* Mean over frames, projected: (N,E,V). */
static kd_val embedding(kd_graph *g, kd_val x, const char *name, int64_t e)
{
    const int64_t n = kd_block_dim(g, x, 0), c = kd_block_dim(g, x, 1), v = kd_block_dim(g, x, 3);
    const kd_val mean = kd_reshape(g, kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2), kd_shape4(n, c, 1, v));
    return kd_reshape(g, kd_block_conv1d(g, mean, name, e, &(kd_block_conv){.init = INIT}), kd_shape3(n, e, v));
}

static kd_val directional(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int64_t co)
{
    const kd_layout *l = cfg->layout;
    const kd_init start = kd_init_const(kd_fix_adjacency_start(cfg));
    const int64_t c = kd_block_dim(g, x, 1);
    const kd_adj_norm_attr norm = {KD_ADJ_ABS};
    kd_scope_push(g, "gcn");
    const kd_val w = active_param(g, "alpha", kd_shape2(PARTS, c), 0.0f);
    const kd_val learned = kd_param(g, "A_learned", kd_shape2(l->joints, l->joints), start, 0);
    const kd_val gate = active_param(g, "alpha_dyn", kd_shape1(c), GATE_START);
    const kd_val dynamic = kd_node1(g, KD_OP_DYN_ADJ, NULL, embedding(g, x, "node_proj", KD_MAX(c / 4, (int64_t)8)));
    kd_val y = aggregate(g, x, l, w, dynamic, gate);
    y = kd_add(g, y, kd_block_mix(g, x, kd_node1(g, KD_OP_ADJ_NORM, &norm, learned), KD_MIX_SHARED, false));
    y = kd_block_conv1d(g, y, "conv", co, &(kd_block_conv){.init = INIT});
    kd_scope_pop(g);
    return y;
}

/* (N,E,V) as V rows of `width` numbers, filled up by zeros. */
static kd_val rows(kd_graph *g, kd_val x, int64_t width)
{
    const int64_t n = kd_block_dim(g, x, 0), e = kd_block_dim(g, x, 1), v = kd_block_dim(g, x, 2);
    const kd_val y = kd_permute(g, x, 0, 2, 1, -1);
    if (e == width) {
        return y;
    }
    const kd_val both[2] = {y, kd_block_filled(g, "padding", kd_shape3(n, v, width - e), 0.0f)};
    return kd_concat(g, both, 2, 2);
}

/* softmax(q^T k / sqrt(E)) a sample, (N,V,V): the weights of an attention whose values are unit vectors. */
static kd_val refinement(kd_graph *g, kd_val x)
{
    const int64_t n = kd_block_dim(g, x, 0), e = KD_MAX(kd_block_dim(g, x, 1) / 4, (int64_t)8);
    const int64_t v = kd_block_dim(g, x, 3), width = KD_MAX(e, v), cells = v * width;
    float *unit = kd_calloc((size_t)KD_MAX(n * cells, (int64_t)1), sizeof *unit);
    if (unit == NULL) {
        kd_graph_fail(g, KD_E_OOM, "refinement: out of memory");
        return KD_NONE;
    }
    for (int64_t i = 0; i < n * v; i++) {
        unit[i * width + i % v] = 1.0f;
    }
    const kd_val value = kd_block_constant(g, "unit", kd_shape3(n, v, width), unit);
    kd_free(unit);
    const float scale = (float)sqrt((double)width / (double)e); /* the op divides by the root of the width */
    const kd_val q = kd_scale(g, rows(g, embedding(g, x, "proj_q", e), width), scale);
    const kd_val in[3] = {q, rows(g, embedding(g, x, "proj_k", e), width), kd_cast(g, value, kd_graph_dtype(g))};
    kd_val out[2];
    const kd_val o = kd_node(g, KD_OP_LANDMARK_ATTENTION, NULL, in, 3, out);
    const kd_val adj = width == v ? o : kd_slice(g, o, 2, 0, v);
    return kd_cast(g, adj, kd_stat_dtype(kd_graph_dtype(g))); /* the dtype of an adjacency's gradient */
}

/* A group of channels is a channel with more frames to everything that aggregates. */
static kd_val refined(kd_graph *g, kd_val x, const kd_layout *l, int64_t co)
{
    const kd_shape s = kd_spec_of(g, x).shape;
    const int64_t frames = kd_block_dim(g, x, 1) / GROUPS * kd_block_dim(g, x, 2);
    kd_scope_push(g, "gcn");
    const kd_val w = active_param(g, "alpha", kd_shape2(GROUPS, PARTS), 0.0f);
    const kd_val gate = active_param(g, "refine_gate", kd_shape1(GROUPS), 0.0f);
    const kd_val grouped = kd_reshape(g, x, kd_shape4(s.dim[0], GROUPS, frames, l->joints));
    kd_val y = aggregate(g, grouped, l, kd_permute(g, w, 1, 0, -1, -1), refinement(g, x), gate);
    y = kd_block_conv1d(g, kd_reshape(g, y, s), "conv_out", co, &(kd_block_conv){.init = INIT});
    kd_scope_pop(g);
    return y;
}

static kd_val frequency_gate(kd_graph *g, kd_val x)
{
    const int64_t c = kd_block_dim(g, x, 1), bins = kd_block_dim(g, x, 2) / 2 + 1;
    const kd_init init = kd_init_normal(KD_LAST_E_LINEAR_STD);
    kd_scope_push(g, "freq_gate");
    kd_val m = kd_last_e_band(g, kd_last_e_spectrum(g, x), 0, bins);
    m = kd_act(g, kd_block_linear(g, m, "mlp.0", KD_MAX((int64_t)4, c / 4), init), KD_ACT_RELU);
    m = kd_act(g, kd_block_linear(g, m, "mlp.2", c, init), KD_ACT_SIGMOID);
    const kd_val y = kd_node3(g, KD_OP_CHANNEL_GATE, NULL, x, m, kd_last_e_channel_param(g, "freq_gate", c));
    kd_scope_pop(g);
    return y;
}

static kd_val mean_pool(kd_graph *g, kd_val x, int stride)
{
    const kd_shape s = kd_spec_of(g, x).shape;
    if (s.dim[2] % stride != 0) {
        kd_graph_fail(g, KD_E_SHAPE,
                      "LAST-E v2: a stage of %lld frames, expected a multiple of %d: frames of clips must be "
                      "a multiple of 4",
                      (long long)s.dim[2], stride);
        return KD_NONE;
    }
    const kd_val steps = kd_reshape(g, x, kd_shape5(s.dim[0], s.dim[1], s.dim[2] / stride, stride, s.dim[3]));
    return kd_reduce(g, steps, KD_REDUCE_MEAN, 1u << 3);
}

/* Branch `number` (from 1) on its share of the channels: BatchNorm, ReLU, then a separable convolution over nine frames
 * (1, and 2 with dilation 2), a maximum and a 1x1 convolution (3) or the 1x1 convolution alone (4); BatchNorm. */
static kd_val branch(kd_graph *g, kd_val x, int number, int stride)
{
    const int64_t c = kd_block_dim(g, x, 1);
    const kd_block_conv deep = {
        .kernel = KERNEL, .stride = stride, .dilation = number, .depthwise = true, .init = INIT};
    const kd_block_conv point = {.init = INIT};
    kd_scope_push(g, "branch%d", number);
    kd_val y = kd_act(g, kd_batchnorm(g, x, "0"), KD_ACT_RELU);
    if (number == 4) {
        y = kd_block_conv1d(g, y, "2", c, &point);
        y = kd_batchnorm(g, stride == 1 ? y : mean_pool(g, y, stride), stride == 1 ? "3" : "4");
    } else {
        y = number == 3 ? kd_last_e_pool_frames(g, y, stride, KD_REDUCE_MAX) : kd_block_conv1d(g, y, "2", c, &deep);
        y = kd_batchnorm(g, kd_block_conv1d(g, y, "3", c, &point), "4");
    }
    kd_scope_pop(g);
    return y;
}

static kd_val temporal(kd_graph *g, kd_val x, int branches, int stride, float dropout)
{
    enum { MOST = 4 };
    const int64_t share = kd_block_dim(g, x, 1) / branches;
    kd_val y[MOST];
    kd_scope_push(g, "tcn");
    for (int i = 0; i < branches; i++) {
        y[i] = branch(g, kd_slice(g, x, 1, i * share, share), i + 1, stride);
    }
    kd_scope_pop(g);
    return kd_dropout(g, kd_concat(g, y, branches, 1), dropout);
}

static kd_val block(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int stage, int stride, float dropout, float rate)
{
    const e12_size *v = cfg->model->size;
    const int64_t co = v->channels[stage];
    kd_val res = x;
    if (kd_block_dim(g, x, 1) != co || stride != 1) {
        const kd_block_conv conv = {.stride = stride, .bias = true, .init = INIT};
        res = kd_block_conv_bn(g, x, "residual_path", co, &conv, KD_ACT_NONE);
    }
    kd_val y = v->version == 1 ? directional(g, x, cfg, co) : refined(g, x, cfg->layout, co);
    y = kd_act(g, kd_batchnorm(g, y, "gcn_bn"), KD_ACT_RELU);
    y = v->version == 1 ? y : frequency_gate(g, y);
    y = v->attention[stage] ? kd_last_e_joint_attention(g, y) : y;
    y = temporal(g, y, v->version == 1 ? 2 : 4, stride, dropout);
    return kd_act(g, kd_add(g, kd_drop_path(g, y, rate), res), KD_ACT_RELU);
}

static kd_student_out build(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams)
{
    const e12_size *v = cfg->model->size;
    const int total = v->blocks[0] + v->blocks[1] + v->blocks[2];
    const float dropout = cfg->dropout > 0.0f ? BLOCK_DROPOUT : 0.0f;
    kd_val body[STREAMS];
    int done = 0;
    for (int i = 0; i < STREAMS; i++) {
        body[i] = kd_block_bodies(g, streams[i], KD_BODY_FIRST);
    }
    kd_val x = fusion(g, body, v->version, v->channels[0]);
    kd_block_tap(g, cfg->taps, x, "fusion");
    for (int st = 0; st < STAGES; st++) {
        for (int b = 0; b < v->blocks[st]; b++, done++) {
            const float rate = cfg->drop_path * (float)done / (float)(total - 1);
            kd_recompute_begin(g);
            kd_scope_push(g, "stage%d.%d", st + 1, b);
            x = block(g, x, cfg, st, b == 0 ? strides[st] : 1, dropout, rate);
            kd_scope_pop(g);
            kd_recompute_end(g);
            kd_block_tap(g, cfg->taps, x, "stage%d.%d", st + 1, b);
        }
    }
    const kd_val feature = v->version == 1 ? kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2 | 1u << 3)
                                           : kd_batchnorm(g, kd_last_e_pool(g, x), "head_bn");
    return kd_last_e_classify(g, cfg, feature);
}

static kd_status constants(const kd_student_cfg *cfg, kd_student_visit visit, void *user)
{
    const e12_size *v = cfg->model->size;
    const int joints = cfg->layout->joints;
    float a[PARTS * KD_MAX_ADJ];
    partitions(cfg->layout, a);
    KD_TRY(visit(user, "A", KD_F32, kd_shape3(PARTS, joints, joints), a));
    for (int st = 0; st < STAGES; st++) {
        for (int b = 0; b < v->blocks[st]; b++) {
            for (int k = 0; k < PARTS; k++) {
                char name[64];
                (void)snprintf(name, sizeof name, "stage%d.%d.gcn.A_%d", st + 1, b, k);
                KD_TRY(visit(user, name, KD_F32, kd_shape2(joints, joints), a + k * joints * joints));
            }
        }
    }
    return KD_OK;
}

#define ROW(NAME, ABOUT, WIDTH, PARAMS, DROP_PATH, ...)                                                     \
    {                                                                                                       \
        .name = NAME, .streams = {"joint", "velocity", "bone"}, .n_streams = STREAMS, .feature_dim = WIDTH, \
        .about = ABOUT "; 3 streams", .params = PARAMS, .dropout = 0.3f, .drop_path = DROP_PATH,            \
        .family = &kd_family_last_e12, .size = &(const e12_size)                                            \
        {                                                                                                   \
            __VA_ARGS__                                                                                     \
        }                                                                                                   \
    }

#define V1 "learned, fixed and dynamic adjacency, two temporal branches"
#define V2 "adjacency refined a group of channels, frequency gate, four temporal branches"

static const kd_student_info models[] = {
    ROW("last-e1-nano", "LAST-E v1 nano: " V1, 96, 103429, -1.0f, 1, {24, 48, 96}, {2, 2, 3}, {false, false, true}),
    ROW("last-e1-small", "LAST-E v1 small: " V1, 128, 195222, -1.0f, 1, {32, 64, 128}, {2, 3, 3}, {false, true, true}),
    ROW("last-e1-base", "LAST-E v1 base: " V1, 160, 398993, -1.0f, 1, {40, 80, 160}, {3, 4, 4}, {true, true, true}),
    ROW("last-e1-large", "LAST-E v1 large: " V1, 192, 705596, -1.0f, 1, {48, 96, 192}, {4, 5, 5}, {true, true, true}),
    ROW("last-e2-nano", "LAST-E v2 nano: " V2, 96, 111286, 0.1f, 2, {24, 48, 96}, {2, 2, 3}, {false, false, true}),
    ROW("last-e2-small", "LAST-E v2 small: " V2, 128, 214350, 0.1f, 2, {32, 64, 128}, {2, 3, 3}, {false, true, true}),
    ROW("last-e2-base", "LAST-E v2 base: " V2, 160, 445714, 0.15f, 2, {40, 80, 160}, {3, 4, 4}, {true, true, true}),
    ROW("last-e2-large", "LAST-E v2 large: " V2, 192, 797342, 0.2f, 2, {48, 96, 192}, {4, 5, 5}, {true, true, true}),
};

static unsigned fixes(const kd_student_info *s)
{
    return ((const e12_size *)s->size)->version == 1 ? KD_FIX_ADJACENCY_START : 0u;
}

const kd_student_family kd_family_last_e12 = {.models = models,
                                              .n_models = KD_COUNTOF(models),
                                              .build = build,
                                              .constants = constants,
                                              .fixes = fixes,
                                              .no_decay = kd_last_e_no_decay,
                                              .norms_decay = true};
