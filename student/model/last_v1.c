/* LAST v1, "Lightweight Adaptive-Shift Transformer": adaptive graph convolution, temporal shift,
 * linear attention.
 *
 * One stream (joint), one body (the one with most active frames), T never downsampled.  Aggregation
 * multiplies from the left: y[v] = sum_w A[v][w] x[w].  The learned adjacency is normalised without
 * a guard: a negative row sum gives NaN, as in the reference. */
#include "kernels/kd_rng.h"
#include "student/model/blocks.h"
#include "student/model/family.h"
#include "student/model/skeleton_graph.h"

#include <stdio.h>

enum { BLOCKS = 4 };

typedef struct v1_size {
    int64_t channels[BLOCKS + 1]; /* stem, then blocks */
    int heads;
} v1_size;

/* The configured rate is the classifier's; 0 turns this one off too. */
#define BLOCK_DROPOUT     0.1f
#define TSM_RATIO_INVERSE 8 /* of the channels, half moves each way */

/* identity + 0.01 N(0,1) */
static kd_val learned_adjacency(kd_graph *g, const kd_student_cfg *cfg, int block)
{
    float a[KD_MAX_ADJ];
    const int v = cfg->layout->joints;
    char name[64];
    const int n = snprintf(name, sizeof name, "blocks.blocks.%d.agcn.A_learned", block);
    kd_rng r = kd_rng_make(cfg->seed, KD_RNG_INIT, kd_crc32(name, (size_t)n), 0);
    for (int i = 0; i < v * v; i++) {
        a[i] = (i % (v + 1) == 0 ? 1.0f : 0.0f) + 0.01f * (float)kd_rng_normal(&r);
    }
    const kd_init init = {.kind = KD_INIT_DATA, .data = a};
    return kd_param(g, "A_learned", kd_shape2(v, v), init, 0);
}

/* Adjacency from the data: one per sample. */
static kd_val dynamic_adjacency(kd_graph *g, kd_val x, int64_t co)
{
    const int64_t n = kd_block_dim(g, x, 0), ci = kd_block_dim(g, x, 1), v = kd_block_dim(g, x, 3);
    const int64_t e = KD_MAX((int64_t)4, co / 4);
    const kd_val mean = kd_reshape(g, kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2), kd_shape4(n, ci, 1, v));
    const kd_val emb = kd_block_conv1d(g, mean, "node_embedding", e, &(kd_block_conv){.bias = true});
    return kd_node1(g, KD_OP_DYN_ADJ, NULL, kd_reshape(g, emb, kd_shape3(n, e, v)));
}

/* The three branches' per-channel scales and 1x1 convolutions as one of each over the concatenated
 * aggregates. */
static kd_val separable_sum(kd_graph *g, const kd_val *y, int64_t ci, int64_t co)
{
    kd_val scale[3], mix[3];
    const kd_conv2d_attr depthwise = {
        .stride = {1, 1}, .dilation = {1, 1}, .groups = (int32_t)(3 * ci), .kernel = {1, 1}};
    const kd_conv2d_attr pointwise = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .kernel = {1, 1}};
    for (int k = 0; k < 3; k++) {
        kd_scope_push(g, "conv.%d", k);
        scale[k] = kd_param(g, "depthwise.weight", kd_shape4(ci, 1, 1, 1), kd_init_torch(1), KD_PARAM_MATRIX);
        mix[k] = kd_param(g, "pointwise.weight", kd_shape4(co, ci, 1, 1), kd_init_torch(ci), KD_PARAM_MATRIX);
        kd_scope_pop(g);
    }
    const kd_val z = kd_node2(g, KD_OP_CONV2D, &depthwise, kd_concat(g, y, 3, 1), kd_concat(g, scale, 3, 0));
    return kd_node2(g, KD_OP_CONV2D, &pointwise, z, kd_concat(g, mix, 3, 1));
}

static kd_val graph_convolution(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int block, int64_t co)
{
    float physical[KD_MAX_ADJ];
    const int64_t ci = kd_block_dim(g, x, 1);
    kd_skel_v1_physical(cfg->layout, physical);
    kd_scope_push(g, "agcn");
    const kd_adj_norm_attr norm = {KD_ADJ_V1};
    const kd_val learned = kd_node1(g, KD_OP_ADJ_NORM, &norm, learned_adjacency(g, cfg, block));
    const kd_val y[3] = {
        kd_block_mix(g, x, kd_block_adjacency(g, "A_physical", physical, 0, cfg->layout->joints), KD_MIX_SHARED, true),
        kd_block_mix(g, x, learned, KD_MIX_SHARED, true),
        kd_block_mix(g, x, dynamic_adjacency(g, x, co), KD_MIX_SAMPLE, true),
    };
    kd_val out = separable_sum(g, y, ci, co);
    kd_val res = x;
    if (ci != co) {
        kd_scope_push(g, "residual_conv");
        res = kd_block_conv1d(g, x, "depthwise", ci, &(kd_block_conv){.depthwise = true});
        res = kd_block_conv1d(g, res, "pointwise", co, &(kd_block_conv){0});
        kd_scope_pop(g);
    }
    out = kd_batchnorm(g, out, "bn");
    kd_scope_pop(g);
    return kd_act(g, kd_add(g, out, res), KD_ACT_RELU);
}

/* Attention over frames, joint by joint: (N,C,T,V) -> (N,V,T,C) with residual and LayerNorm. */
static kd_val temporal_attention(kd_graph *g, kd_val x, int heads, float dropout)
{
    const int64_t n = kd_block_dim(g, x, 0), c = kd_block_dim(g, x, 1), t = kd_block_dim(g, x, 2);
    const int64_t v = kd_block_dim(g, x, 3);
    const kd_init init = kd_init_torch(c);
    const kd_linear_attention_attr attr = {heads, KD_GUARD_ADD};
    const kd_val tokens = kd_reshape(g, kd_permute(g, x, 0, 3, 2, 1), kd_shape3(n * v, t, c));
    kd_scope_push(g, "attention");
    kd_val y = kd_block_linear(g, tokens, "qkv", 3 * c, init);
    y = kd_node1(g, KD_OP_LINEAR_ATTENTION, &attr, y);
    y = kd_linear(g, y, "proj", c, &(kd_linear_opts){.weight = init, .bias = init});
    kd_scope_pop(g);
    y = kd_add(g, kd_dropout(g, y, dropout), tokens);
    y = kd_dropout(g, kd_layernorm(g, y, "norm", 1e-5f), dropout);
    return kd_reshape(g, y, kd_shape4(n, v, t, c));
}

static kd_student_out build(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams)
{
    const kd_student_info *s = cfg->model;
    const v1_size *v = s->size;
    const float dropout = cfg->dropout > 0.0f ? BLOCK_DROPOUT : 0.0f;
    kd_val x = kd_block_bodies(g, streams[0], KD_BODY_ACTIVE);
    x = kd_block_conv_bn(g, x, "stem", v->channels[0], &(kd_block_conv){.bias = true}, KD_ACT_RELU);
    kd_block_tap(g, cfg->taps, x, "stem");
    for (int b = 0; b < BLOCKS; b++) {
        const int64_t co = v->channels[b + 1];
        const kd_time_shift_attr shift = {.channels = (int32_t)(co / TSM_RATIO_INVERSE / 2)};
        kd_recompute_begin(g);
        kd_scope_push(g, "blocks.blocks.%d", b);
        x = graph_convolution(g, x, cfg, b, co);
        x = temporal_attention(g, kd_node1(g, KD_OP_TIME_SHIFT, &shift, x), v->heads, dropout);
        if (b + 1 < BLOCKS) {
            x = kd_permute(g, x, 0, 3, 2, 1);
        }
        kd_scope_pop(g);
        kd_recompute_end(g);
        kd_block_tap(g, cfg->taps && b + 1 < BLOCKS, x, "blocks.blocks.%d", b);
    }
    kd_student_out out = {.feature = kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 1 | 1u << 2)};
    const kd_init init = kd_init_torch(s->feature_dim);
    out.logits = kd_linear(g, kd_dropout(g, out.feature, cfg->dropout), "fc", cfg->classes,
                           &(kd_linear_opts){.weight = init, .bias = init, .f32_out = true});
    return out;
}

static kd_status constants(const kd_student_cfg *cfg, kd_student_visit visit, void *user)
{
    float physical[KD_MAX_ADJ];
    const int v = cfg->layout->joints;
    kd_skel_v1_physical(cfg->layout, physical);
    for (int b = 0; b < BLOCKS; b++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blocks.blocks.%d.agcn.A_physical", b);
        KD_TRY(visit(user, name, KD_F32, kd_shape2(v, v), physical));
    }
    return KD_OK;
}

static const char *const no_decay[] = {"bias", "bn", "norm", "alpha", "A_learned", NULL};

static const kd_student_info models[] = {
    {.name = "last-v1-small",
     .streams = {"joint"},
     .n_streams = 1,
     .feature_dim = 128,
     .about = "LAST v1 small: A-GCN, temporal shift, linear attention; joint stream",
     .params = 175176,
     .dropout = 0.3f,
     .drop_path = -1.0f,
     .family = &kd_family_last_v1,
     .size = &(const v1_size){{32, 32, 64, 64, 128}, 4}},
    {.name = "last-v1-base",
     .streams = {"joint"},
     .n_streams = 1,
     .feature_dim = 256,
     .about = "LAST v1 base: A-GCN, temporal shift, linear attention; joint stream",
     .params = 672912,
     .dropout = 0.3f,
     .drop_path = -1.0f,
     .family = &kd_family_last_v1,
     .size = &(const v1_size){{64, 64, 128, 128, 256}, 8}},
    {.name = "last-v1-large",
     .streams = {"joint"},
     .n_streams = 1,
     .feature_dim = 512,
     .about = "LAST v1 large: A-GCN, temporal shift, linear attention; joint stream",
     .params = 2643744,
     .dropout = 0.3f,
     .drop_path = -1.0f,
     .family = &kd_family_last_v1,
     .size = &(const v1_size){{128, 128, 256, 256, 512}, 8}},
};

const kd_student_family kd_family_last_v1 = {.models = models,
                                             .n_models = KD_COUNTOF(models),
                                             .build = build,
                                             .constants = constants,
                                             .no_decay = no_decay,
                                             .norms_decay = true};
