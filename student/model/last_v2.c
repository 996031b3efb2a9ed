/* LAST-v2: EfficientGCN-like blocks; five graph convolutions at once, space-time joint attention, then a separable
 * convolution over frames or linear attention.
 *
 * Streams joint, velocity, bone pass through one backbone, each by its own input BatchNorm, which therefore sees three
 * updates a step.  Bodies are stacked along the batch, an empty one included, and their logits averaged.  The result is
 * the logarithm of the mean of the streams' probabilities: log-probabilities are logits (their softmax is the
 * probabilities again), so every loss and measure reads them as such. */
#include "student/model/fixes.h"
#include "student/model/last_e_parts.h"
#include "student/model/skeleton_graph.h"

#include <math.h>
#include <stdio.h>

enum { STAGES = 3, PARTS = 3, SETS = PARTS + 2, STREAMS = 3, MAX_HOP = 1, KERNEL = 9, HEADS = 4 };

typedef struct v2_size {
    int64_t channels[STAGES];
    int blocks[STAGES];
    bool attention[STAGES]; /* over frames, in the place of the convolution */
} v2_size;

static const int strides[STAGES] = {1, 2, 2};

/* The configured rate is the classifier's; 0 turns this one off too. */
#define BLOCK_DROPOUT     0.1f
#define LEAST_PROBABILITY 1e-8f
#define INIT              KD_BLOCK_INIT_FAN_OUT

static void partitions(const kd_layout *l, float a[PARTS * KD_MAX_ADJ])
{
    kd_skel_spatial(l, MAX_HOP, a);
    kd_skel_norm_columns_of_sum(a, PARTS, l->joints);
}

/* Adjacency from the data: one per sample. */
static kd_val dynamic_adjacency(kd_graph *g, kd_val x)
{
    const int64_t n = kd_block_dim(g, x, 0), c = kd_block_dim(g, x, 1), v = kd_block_dim(g, x, 3);
    const int64_t e = KD_MAX(c / 8, (int64_t)4);
    const kd_val mean = kd_reshape(g, kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2), kd_shape4(n, c, 1, v));
    const kd_val emb = kd_block_conv1d(g, mean, "node_proj", e, &(kd_block_conv){.init = INIT});
    return kd_node1(g, KD_OP_DYN_ADJ, NULL, kd_reshape(g, emb, kd_shape3(n, e, v)));
}

/* sum_k conv_k(x A_k) over the three fixed partitions, the learned and the dynamic adjacency: aggregate first, then one
 * convolution over all of them. */
static kd_val graph_convolution(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int64_t co)
{
    const kd_layout *l = cfg->layout;
    const kd_init start = kd_init_const(kd_fix_adjacency_start(cfg));
    float fixed[PARTS * KD_MAX_ADJ];
    const int64_t ci = kd_block_dim(g, x, 1);
    const kd_adj_norm_attr norm = {KD_ADJ_ABS};
    const kd_conv2d_attr conv = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .kernel = {1, 1}};
    const kd_init init = kd_init_normal((float)sqrt(2.0 / (double)co));
    kd_val w[SETS];
    partitions(l, fixed);
    kd_scope_push(g, "gcn");
    const kd_val learned = kd_param(g, "A_learned", kd_shape2(l->joints, l->joints), start, 0);
    const kd_val own = kd_node1(g, KD_OP_ADJ_NORM, &norm, learned);
    const kd_val adj[2] = {kd_block_adjacency(g, "A_physical", fixed, PARTS, l->joints),
                           kd_reshape(g, own, kd_shape3(1, l->joints, l->joints))};
    const kd_val y[2] = {kd_block_mix(g, x, kd_concat(g, adj, 2, 0), KD_MIX_EXPAND, false),
                         kd_block_mix(g, x, dynamic_adjacency(g, x), KD_MIX_SAMPLE, false)};
    for (int k = 0; k < SETS; k++) {
        char name[40];
        (void)snprintf(name, sizeof name, "subset_convs.%d.weight", k);
        w[k] = kd_param(g, name, kd_shape4(co, ci, 1, 1), init, KD_PARAM_MATRIX);
    }
    kd_scope_pop(g);
    return kd_node2(g, KD_OP_CONV2D, &conv, kd_concat(g, y, 2, 1), kd_concat(g, w, SETS, 1));
}

/* BatchNorm, ReLU, separable convolution, BatchNorm. */
static kd_val convolution(kd_graph *g, kd_val x, int stride)
{
    const int64_t c = kd_block_dim(g, x, 1);
    const kd_block_conv deep = {.kernel = KERNEL, .stride = stride, .depthwise = true, .init = INIT};
    kd_val y = kd_act(g, kd_batchnorm(g, x, "0"), KD_ACT_RELU);
    y = kd_block_conv1d(g, y, "2.depthwise", c, &deep);
    y = kd_block_conv1d(g, y, "2.pointwise", c, &(kd_block_conv){.init = INIT});
    return kd_batchnorm(g, y, "3");
}

/* Linear attention over frames, joint by joint. */
static kd_val attention(kd_graph *g, kd_val x)
{
    const kd_shape s = kd_spec_of(g, x).shape;
    const int64_t n = s.dim[0], c = s.dim[1], t = s.dim[2], v = s.dim[3];
    const kd_init init = kd_init_normal(KD_LAST_E_LINEAR_STD);
    const kd_linear_attention_attr attr = {HEADS, KD_GUARD_CLAMP};
    const kd_val tokens = kd_reshape(g, kd_permute(g, x, 0, 3, 2, 1), kd_shape3(n * v, t, c));
    kd_val y = kd_node1(g, KD_OP_LINEAR_ATTENTION, &attr, kd_block_linear(g, tokens, "qkv", 3 * c, init));
    y = kd_linear(g, y, "proj", c, &(kd_linear_opts){.weight = init, .bias = kd_init_const(0.0f)});
    return kd_permute(g, kd_reshape(g, y, kd_shape4(n, v, t, c)), 0, 3, 2, 1);
}

static kd_val block(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int64_t co, bool attends, int stride,
                    float dropout)
{
    kd_val res = x;
    if (kd_block_dim(g, x, 1) != co || stride != 1) {
        const kd_block_conv conv = {.stride = stride, .bias = true, .init = INIT};
        res = kd_block_conv_bn(g, x, "residual_path", co, &conv, KD_ACT_NONE);
    }
    kd_val y = kd_act(g, kd_batchnorm(g, graph_convolution(g, x, cfg, co), "gcn_bn"), KD_ACT_RELU);
    y = kd_last_e_joint_attention(g, y);
    kd_scope_push(g, "tcn");
    y = kd_dropout(g, attends ? attention(g, y) : convolution(g, y, stride), dropout);
    kd_scope_pop(g);
    y = attends && stride != 1 ? kd_last_e_pool_frames(g, y, stride, KD_REDUCE_MEAN) : y;
    return kd_act(g, kd_add(g, y, res), KD_ACT_RELU);
}

/* Logits and pooled features of one stream. */
static kd_student_out run_stream(kd_graph *g, const kd_student_cfg *cfg, kd_val x, kd_val empty, int stream)
{
    const v2_size *v = cfg->model->size;
    const int64_t bodies = KD_MAX(kd_block_dim(g, x, 4), (int64_t)1);
    const float dropout = cfg->dropout > 0.0f ? BLOCK_DROPOUT : 0.0f;
    char name[32];
    int done = 0;
    (void)snprintf(name, sizeof name, "data_bn.%d", stream);
    kd_val y = kd_batchnorm(g, kd_fix_stacked(g, x, empty), name);
    for (int st = 0; st < STAGES; st++) {
        for (int b = 0; b < v->blocks[st]; b++, done++) {
            kd_recompute_begin(g);
            kd_scope_push(g, "backbone.%d", done);
            y = block(g, y, cfg, v->channels[st], v->attention[st], b == 0 ? strides[st] : 1, dropout);
            kd_scope_pop(g);
            kd_recompute_end(g);
            kd_block_tap(g, cfg->taps, y, "%s.backbone.%d", cfg->model->streams[stream], done);
        }
    }
    kd_student_out out = kd_last_e_classify(g, cfg, kd_reduce(g, y, KD_REDUCE_MEAN, 1u << 2 | 1u << 3));
    out.logits = kd_block_mean_of_bodies(g, out.logits, bodies);
    out.feature = kd_block_mean_of_bodies(g, out.feature, bodies);
    return out;
}

static kd_student_out build(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams)
{
    const kd_val empty = kd_fix_empty_bodies(g, cfg, streams);
    kd_student_out sum = {KD_NONE, KD_NONE, KD_NONE};
    for (int i = 0; i < STREAMS; i++) {
        const kd_student_out of = run_stream(g, cfg, streams[i], empty, i);
        const kd_val share = kd_softmax(g, of.logits, 1.0f / (float)STREAMS);
        sum.logits = i == 0 ? share : kd_add(g, sum.logits, share);
        sum.feature = i == 0 ? of.feature : kd_add(g, sum.feature, of.feature);
    }
    const kd_val least = kd_block_constant_of(g, "least", kd_shape1(cfg->classes), LEAST_PROBABILITY);
    return (kd_student_out){.logits = kd_act(g, kd_add(g, sum.logits, least), KD_ACT_LOG),
                            .feature = kd_scale(g, sum.feature, 1.0f / (float)STREAMS)};
}

static kd_status constants(const kd_student_cfg *cfg, kd_student_visit visit, void *user)
{
    const v2_size *v = cfg->model->size;
    const kd_shape shape = kd_shape3(PARTS, cfg->layout->joints, cfg->layout->joints);
    float a[PARTS * KD_MAX_ADJ];
    partitions(cfg->layout, a);
    KD_TRY(visit(user, "A", KD_F32, shape, a));
    for (int b = 0; b < v->blocks[0] + v->blocks[1] + v->blocks[2]; b++) {
        char name[64];
        (void)snprintf(name, sizeof name, "backbone.%d.gcn.A_physical", b);
        KD_TRY(visit(user, name, KD_F32, shape, a));
    }
    return KD_OK;
}

static unsigned fixes(const kd_student_info *s)
{
    (void)s;
    return KD_FIX_EMPTY_BODY | KD_FIX_ADJACENCY_START;
}

static const kd_student_info models[] = {
    {.name = "last-v2-small",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = STREAMS,
     .feature_dim = 256,
     .about = "LAST-v2 small: adaptive GCN, joint attention, linear attention in stage 3; 3 streams, log-probabilities",
     .params = 2938564,
     .dropout = 0.3f,
     .drop_path = -1.0f,
     .family = &kd_family_last_v2,
     .size = &(const v2_size){{64, 128, 256}, {3, 3, 4}, {false, false, true}}},
    {.name = "last-v2-base",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = STREAMS,
     .feature_dim = 384,
     .about =
         "LAST-v2 base: adaptive GCN, joint attention, linear attention from stage 2; 3 streams, log-probabilities",
     .params = 9217256,
     .dropout = 0.3f,
     .drop_path = -1.0f,
     .family = &kd_family_last_v2,
     .size = &(const v2_size){{96, 192, 384}, {4, 5, 5}, {false, true, true}}},
};

const kd_student_family kd_family_last_v2 = {.models = models,
                                             .n_models = KD_COUNTOF(models),
                                             .build = build,
                                             .constants = constants,
                                             .fixes = fixes,
                                             .no_decay = kd_last_e_no_decay,
                                             .norms_decay = true};
