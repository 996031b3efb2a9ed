/* ShiftFuse-Zero, the B4 sizes: a stem and two blocks a stream with weights of their own, concatenation, two shared
 * blocks.  A block has the joint shifts, a graph convolution over the spatial partitions with learned edge weights,
 * separable temporal layers with a bottleneck, and joint attention over frames and joints.
 *
 * Streams joint, velocity, bone.  Bodies as in sfz.c. */
#include "student/model/sfz_parts.h"

#include <stdio.h>

enum { STREAMS = 3, LEVELS = 2, LANDMARKS = 14, KERNEL = 5, MAX_HOP = 1, STEM = 64 };

typedef struct b4_block {
    int64_t channels;
    int depth, stride; /* depth: temporal layers, the first with the stride */
} b4_block;

typedef struct b4_size {
    b4_block stream[LEVELS], shared[LEVELS];
    int part_ratio; /* of PartAttention in the last block of each kind; 0: none */
} b4_size;

static void partitions(const kd_layout *l, float a[KD_SFZ_PARTITIONS * KD_MAX_ADJ])
{
    kd_skel_spatial(l, MAX_HOP, a);
    kd_skel_norm_columns(a, KD_SFZ_PARTITIONS, l->joints);
}

/* (1/3) sum_k conv_k(x (A_k * edge_k)): the third is in the adjacencies and in the sum of the biases, the convolutions
 * are one over all partitions. */
static kd_val graph_convolution(kd_graph *g, kd_val x, const kd_layout *l, int64_t co)
{
    enum { K = KD_SFZ_PARTITIONS };
    float fixed[K * KD_MAX_ADJ];
    const int v = l->joints;
    kd_val edge[K], w[K], bias = KD_NONE;
    const int64_t ci = kd_block_dim(g, x, 1);
    const kd_conv2d_attr conv = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .kernel = {1, 1}, .has_bias = 1};
    partitions(l, fixed);
    for (int k = 0; k < K; k++) {
        char name[32];
        (void)snprintf(name, sizeof name, "A_edge.%d", k);
        edge[k] = kd_reshape(g, kd_param(g, name, kd_shape2(v, v), kd_init_const(1.0f), 0), kd_shape3(1, v, v));
        kd_scope_push(g, "gcn_convs.%d", k);
        w[k] = kd_param(g, "weight", kd_shape4(co, ci, 1, 1), kd_init_torch(ci), KD_PARAM_MATRIX);
        const kd_val b = kd_param(g, "bias", kd_shape1(co), kd_init_torch(ci), 0);
        bias = k == 0 ? b : kd_add(g, bias, b);
        kd_scope_pop(g);
    }
    const kd_val adj = kd_mul(g, kd_block_adjacency(g, "_A_fixed", fixed, K, v), kd_concat(g, edge, K, 0));
    const kd_val y = kd_block_mix(g, x, kd_scale(g, adj, 1.0f / (float)K), KD_MIX_EXPAND, false);
    return kd_node3(g, KD_OP_CONV2D, &conv, y, kd_concat(g, w, K, 1), kd_scale(g, bias, 1.0f / (float)K));
}

/* SiLU(BatchNorm(graph convolution) + residual); the residual has a convolution where the channels change. */
static kd_val spatial(kd_graph *g, kd_val x, const kd_layout *l, int64_t co, const char *norm, const char *residual)
{
    const kd_val y = kd_batchnorm(g, graph_convolution(g, x, l, co), norm);
    const kd_val res = kd_block_dim(g, x, 1) == co
                           ? x
                           : kd_block_conv_bn(g, x, residual, co, &(kd_block_conv){.bias = true}, KD_ACT_NONE);
    return kd_act(g, kd_add(g, y, res), KD_ACT_SILU);
}

static kd_val stem(kd_graph *g, kd_val x, const kd_layout *l)
{
    x = kd_batchnorm(g, x, "bn");
    kd_scope_push(g, "gcn");
    x = spatial(g, x, l, STEM, "bn", "residual");
    kd_scope_pop(g);
    kd_scope_push(g, "tcn");
    const kd_val y = kd_block_conv1d(g, x, "conv", STEM, &(kd_block_conv){.kernel = KERNEL, .bias = true});
    x = kd_act(g, kd_add(g, kd_batchnorm(g, y, "bn"), x), KD_ACT_SILU);
    kd_scope_pop(g);
    return x;
}

/* Depthwise, to half of the channels, back, depthwise with the stride. */
static kd_val temporal_layer(kd_graph *g, kd_val x, int level, int stride)
{
    const int64_t c = kd_block_dim(g, x, 1);
    const kd_block_conv point = {.bias = true}, strided = {.stride = stride, .bias = true};
    kd_block_conv deep = {.kernel = KERNEL, .depthwise = true, .bias = true};
    kd_scope_push(g, "tcns.%d", level);
    kd_val y = kd_block_conv_bn(g, x, "depth_conv1", c, &deep, KD_ACT_SILU);
    y = kd_block_conv_bn(g, y, "point_conv1", c / 2, &point, KD_ACT_NONE);
    y = kd_block_conv_bn(g, y, "point_conv2", c, &point, KD_ACT_SILU);
    deep.stride = stride;
    y = kd_block_conv_bn(g, y, "depth_conv2", c, &deep, KD_ACT_NONE);
    const kd_val res = stride == 1 ? x : kd_block_conv_bn(g, x, "residual", c, &strided, KD_ACT_NONE);
    kd_scope_pop(g);
    return kd_add(g, y, res);
}

/* Gates over frames and joints from one bottleneck over both axes, whose BatchNorm pools all T + V places. */
static kd_val joint_attention(kd_graph *g, kd_val x)
{
    const int64_t n = kd_block_dim(g, x, 0), c = kd_block_dim(g, x, 1), t = kd_block_dim(g, x, 2);
    const int64_t v = kd_block_dim(g, x, 3);
    const kd_block_conv conv = {.bias = true};
    const kd_val axes[2] = {kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 3), kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2)};
    kd_scope_push(g, "att");
    kd_val y = kd_reshape(g, kd_concat(g, axes, 2, 2), kd_shape4(n, c, t + v, 1));
    y = kd_block_conv_bn(g, y, "fcn", c / 2, &conv, KD_ACT_HARDSWISH);
    kd_val at = kd_block_conv1d(g, kd_slice(g, y, 2, 0, t), "conv_t", c, &conv);
    kd_val av = kd_block_conv1d(g, kd_slice(g, y, 2, t, v), "conv_v", c, &conv);
    at = kd_reshape(g, kd_act(g, at, KD_ACT_SIGMOID), kd_shape3(n, c, t));
    av = kd_reshape(g, kd_act(g, av, KD_ACT_SIGMOID), kd_shape3(n, c, v));
    y = kd_batchnorm(g, kd_block_axis_product(g, x, at, av), "bn");
    kd_scope_pop(g);
    return kd_act(g, kd_add(g, y, x), KD_ACT_SILU);
}

/* The residual of the graph convolution is taken after the shifts; the block has none of its own. */
static kd_val block(kd_graph *g, kd_val x, const kd_student_cfg *cfg, const b4_block *b, int part_ratio, int landmarks)
{
    const kd_layout *l = cfg->layout;
    kd_recompute_begin(g);
    x = spatial(g, kd_sfz_shift(g, x, l, false), l, b->channels, "gcn_bn", "gcn_res");
    x = kd_sfz_embed(g, x);
    for (int i = 0; i < b->depth; i++) {
        x = temporal_layer(g, x, i, i == 0 ? b->stride : 1);
    }
    x = joint_attention(g, x);
    x = part_ratio != 0 ? kd_sfz_part_attention(g, x, cfg, part_ratio) : x;
    x = landmarks != 0 ? kd_sfz_landmarks(g, x, "tla", landmarks) : x;
    kd_recompute_end(g);
    return x;
}

static int part_ratio(const b4_size *v, int level)
{
    return level + 1 == LEVELS ? v->part_ratio : 0;
}

static kd_student_out build(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams)
{
    const b4_size *v = cfg->model->size;
    const int64_t bodies = KD_MAX(kd_block_dim(g, streams[0], 4), (int64_t)1);
    const kd_val empty = kd_fix_empty_bodies(g, cfg, streams);
    kd_val of_stream[STREAMS];
    for (int s = 0; s < STREAMS; s++) {
        kd_val x = kd_fix_stacked(g, streams[s], empty);
        kd_scope_push(g, "stream_stems.%d", s);
        x = stem(g, x, cfg->layout);
        kd_scope_pop(g);
        kd_block_tap(g, cfg->taps, x, "stream_stems.%d", s);
        for (int b = 0; b < LEVELS; b++) {
            kd_scope_push(g, "stream_blocks.%d.%d", s, b);
            x = block(g, x, cfg, &v->stream[b], part_ratio(v, b), 0);
            kd_scope_pop(g);
            kd_block_tap(g, cfg->taps, x, "stream_blocks.%d.%d", s, b);
        }
        of_stream[s] = x;
    }
    kd_val x = kd_concat(g, of_stream, STREAMS, 1);
    for (int b = 0; b < LEVELS; b++) {
        kd_scope_push(g, "shared_blocks.%d", b);
        x = block(g, x, cfg, &v->shared[b], part_ratio(v, b), b + 1 == LEVELS ? LANDMARKS : 0);
        kd_scope_pop(g);
        kd_block_tap(g, cfg->taps, x, "shared_blocks.%d", b);
    }
    const kd_val pooled = kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2 | 1u << 3);
    const kd_init init = kd_init_torch(cfg->model->feature_dim);
    const kd_val logits = kd_linear(g, kd_dropout(g, pooled, cfg->dropout), "classifier.1", cfg->classes,
                                    &(kd_linear_opts){.weight = init, .bias = init, .f32_out = true});
    return (kd_student_out){.logits = kd_block_mean_of_bodies(g, logits, bodies),
                            .feature = kd_block_mean_of_bodies(g, pooled, bodies)};
}

static unsigned fixes(const kd_student_info *s)
{
    const b4_size *v = s->size;
    return KD_FIX_EMPTY_BODY | (v->part_ratio != 0 ? KD_FIX_PART_JOINTS : 0u);
}

static kd_status constants(const kd_student_cfg *cfg, kd_student_visit visit, void *user)
{
    const b4_size *v = cfg->model->size;
    const kd_layout *l = cfg->layout;
    float fixed[KD_SFZ_PARTITIONS * KD_MAX_ADJ];
    char name[64];
    partitions(l, fixed);
    KD_TRY(kd_sfz_graph_constants("", l, visit, user));
    for (int i = 0; i < STREAMS; i++) {
        (void)snprintf(name, sizeof name, "stream_stems.%d.gcn", i);
        KD_TRY(kd_sfz_fixed_constants(name, l, fixed, visit, user));
        for (int b = 0; b < LEVELS; b++) {
            const int64_t ci = b == 0 ? STEM : v->stream[b - 1].channels;
            (void)snprintf(name, sizeof name, "stream_blocks.%d.%d", i, b);
            KD_TRY(kd_sfz_block_constants(name, cfg, (int)ci, fixed, part_ratio(v, b) != 0, visit, user));
        }
    }
    for (int b = 0; b < LEVELS; b++) {
        const int64_t ci = b == 0 ? STREAMS * v->stream[LEVELS - 1].channels : v->shared[b - 1].channels;
        (void)snprintf(name, sizeof name, "shared_blocks.%d", b);
        KD_TRY(kd_sfz_block_constants(name, cfg, (int)ci, fixed, part_ratio(v, b) != 0, visit, user));
    }
    return KD_OK;
}

static const kd_student_info models[] = {
    {.name = "sfz-large",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = STREAMS,
     .feature_dim = 272,
     .about = "ShiftFuse-Zero large: a branch a stream, spatial partitions, joint attention; 3 streams",
     .params = 1175430,
     .dropout = 0.25f,
     .drop_path = -1.0f,
     .family = &kd_family_sfz_b4,
     .size = &(const b4_size){{{96, 2, 1}, {48, 2, 1}}, {{128, 3, 2}, {272, 3, 2}}, 0}},
    {.name = "sfz-x",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = STREAMS,
     .feature_dim = 320,
     .about = "ShiftFuse-Zero x: as large, wider and deeper, with part attention; 3 streams",
     .params = 1848202,
     .dropout = 0.2f,
     .drop_path = -1.0f,
     .family = &kd_family_sfz_b4,
     .size = &(const b4_size){{{96, 2, 1}, {48, 2, 1}}, {{192, 4, 2}, {320, 4, 2}}, 8}},
};

const kd_student_family kd_family_sfz_b4 = {.models = models,
                                            .n_models = KD_COUNTOF(models),
                                            .build = build,
                                            .constants = constants,
                                            .fixes = fixes,
                                            .no_decay = kd_sfz_no_decay};
