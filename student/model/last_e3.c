/* LAST-E v3: one graph convolution over partitions with learned edge weights, an expanding
 * separable temporal convolution, a motion gate and space-time joint attention per block.
 *
 * Streams joint, velocity, bone, fused at the input; body 0 alone, as in the reference. */
#include "student/model/last_e_parts.h"
#include "student/model/skeleton_graph.h"

#include <stdio.h>

enum { STAGES = 3, EXPAND = 2, TEMPORAL_KERNEL = 5 };

typedef struct e3_size {
    int64_t stem, channels[STAGES];
    int blocks[STAGES];
    int max_hop;
    bool subset_attention;
    bool hybrid_gate; /* in the last stage */
} e3_size;

static const int strides[STAGES] = {1, 2, 2};

#define INIT       KD_BLOCK_INIT_FAN_OUT
#define LINEAR_STD KD_LAST_E_LINEAR_STD

static int partitions(const e3_size *v)
{
    return 1 + 2 * v->max_hop;
}

static void adjacency(const kd_student_cfg *cfg, float *a)
{
    const e3_size *v = cfg->model->size;
    kd_skel_spatial(cfg->layout, v->max_hop, a);
    kd_skel_norm_sym_full(a, partitions(v), cfg->layout->joints);
}

/* 1x1 convolution to all partitions, aggregation with A * edge, sum (weighted by attention over
 * partitions). */
static kd_val graph_convolution(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int64_t co)
{
    const e3_size *v = cfg->model->size;
    float a[KD_MAX_PARTS * KD_MAX_ADJ];
    const int k = partitions(v), joints = cfg->layout->joints;
    adjacency(cfg, a);
    kd_scope_push(g, "gcn");
    const kd_val edge = kd_param(g, "edge", kd_shape3(k, joints, joints), kd_init_const(1.0f), 0);
    const kd_val adj = kd_mul(g, kd_block_adjacency(g, "A", a, k, joints), edge);
    const kd_val y = kd_block_conv1d(g, x, "gcn", k * co, &(kd_block_conv){.init = INIT});
    const kd_val z = kd_block_mix(g, y, adj, KD_MIX_GROUPED, false);
    kd_val weight = KD_NONE;
    if (v->subset_attention) {
        const kd_val mean = kd_reduce(g, z, KD_REDUCE_MEAN, 1u << 2 | 1u << 3);
        weight = kd_softmax(g, kd_block_linear(g, mean, "subset_att.2", k, kd_init_normal(LINEAR_STD)), 1.0f);
    }
    const kd_group_sum_attr sum = {.parts = k, .scale = 1.0f};
    const kd_val out = kd_batchnorm(g, kd_node2(g, KD_OP_GROUP_SUM, &sum, z, weight), "bn");
    kd_scope_pop(g);
    return kd_act(g, out, KD_ACT_HARDSWISH);
}

static kd_val temporal(kd_graph *g, kd_val x, int stride)
{
    const int64_t c = kd_block_dim(g, x, 1);
    const kd_block_conv plain = {.init = INIT};
    const kd_block_conv deep = {.kernel = TEMPORAL_KERNEL, .stride = stride, .depthwise = true, .init = INIT};
    kd_scope_push(g, "tcns.0");
    kd_val y = kd_block_conv_bn(g, x, "expand_conv", EXPAND * c, &plain, KD_ACT_HARDSWISH);
    y = kd_block_conv_bn(g, y, "depth_conv", EXPAND * c, &deep, KD_ACT_HARDSWISH);
    y = kd_block_conv_bn(g, y, "point_conv", c, &plain, KD_ACT_NONE);
    y = kd_add(g, y, kd_block_residual(g, x, c, stride, INIT));
    kd_scope_pop(g);
    return y;
}

/* Motion, and mean power of the lower, middle and upper third of the frequencies over frames: (N,4C). */
static kd_val motion_and_bands(kd_graph *g, kd_val x, kd_val motion)
{
    const int64_t bins = kd_block_dim(g, x, 2) / 2 + 1, third = KD_MAX(bins / 3, (int64_t)1);
    const kd_val spectrum = kd_last_e_spectrum(g, x);
    const kd_val all[4] = {motion, kd_last_e_band(g, spectrum, 0, third), kd_last_e_band(g, spectrum, third, 2 * third),
                           kd_last_e_band(g, spectrum, 2 * third, bins)};
    return kd_concat(g, all, 4, 1);
}

/* Gate over channels from the motion; hybrid: from the frequencies too. */
static kd_val motion_gate(kd_graph *g, kd_val x, bool hybrid)
{
    const int64_t c = kd_block_dim(g, x, 1), r = KD_MAX((int64_t)4, c / 4);
    const kd_init init = kd_init_normal(LINEAR_STD);
    kd_scope_push(g, "gate");
    kd_val m = kd_node1(g, KD_OP_MOTION, NULL, x);
    m = hybrid ? motion_and_bands(g, x, m) : m;
    m = kd_act(g, kd_block_linear(g, m, "mlp.0", r, init), KD_ACT_RELU);
    m = kd_act(g, kd_block_linear(g, m, "mlp.2", c, init), KD_ACT_SIGMOID);
    const kd_val y = kd_node3(g, KD_OP_CHANNEL_GATE, NULL, x, m, kd_last_e_channel_param(g, "gate_alpha", c));
    kd_scope_pop(g);
    return y;
}

/* Mean and log-variance of the information bottleneck, side by side: (N,2 latent). */
static kd_val bottleneck(kd_graph *g, kd_val pooled, int latent)
{
    const kd_linear_opts lo = {.weight = kd_init_normal(LINEAR_STD), .bias = kd_init_const(0.0f), .f32_out = true};
    const kd_val both[2] = {kd_linear(g, pooled, "fc_mu", latent, &lo), kd_linear(g, pooled, "fc_logvar", latent, &lo)};
    return kd_concat(g, both, 2, 1);
}

static kd_student_out build(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams)
{
    const kd_student_info *s = cfg->model;
    const e3_size *v = s->size;
    kd_val body[KD_STUDENT_MAX_STREAMS];
    int total = 0, done = 0;
    for (int i = 0; i < s->n_streams; i++) {
        body[i] = kd_block_bodies(g, streams[i], KD_BODY_FIRST);
    }
    for (int i = 0; i < STAGES; i++) {
        total += v->blocks[i];
    }
    kd_val x = kd_block_fusion(g, body, s->n_streams, v->stem, INIT, KD_ACT_RELU);
    kd_block_tap(g, cfg->taps, x, "fusion");
    for (int st = 0; st < STAGES; st++) {
        for (int b = 0; b < v->blocks[st]; b++, done++) {
            const int stride = b == 0 ? strides[st] : 1;
            const float rate = total > 1 ? cfg->drop_path * (float)done / (float)(total - 1) : 0.0f;
            kd_recompute_begin(g);
            kd_scope_push(g, "stages.%d.%d", st, b);
            const kd_val res = kd_block_residual(g, x, v->channels[st], stride, INIT);
            x = temporal(g, graph_convolution(g, x, cfg, v->channels[st]), stride);
            x = kd_last_e_joint_attention(g, motion_gate(g, x, v->hybrid_gate && st + 1 == STAGES));
            x = kd_add(g, kd_drop_path(g, x, rate), res);
            kd_scope_pop(g);
            kd_recompute_end(g);
            kd_block_tap(g, cfg->taps, x, "stages.%d.%d", st, b);
        }
    }
    const kd_val pooled = kd_last_e_pool(g, x);
    const kd_val latent = cfg->model->latent > 0 ? bottleneck(g, pooled, cfg->model->latent) : KD_NONE;
    kd_student_out out = kd_last_e_classify(g, cfg, kd_batchnorm(g, pooled, "head_bn"));
    out.latent = latent;
    return out;
}

static kd_status constants(const kd_student_cfg *cfg, kd_student_visit visit, void *user)
{
    const e3_size *v = cfg->model->size;
    float a[KD_MAX_PARTS * KD_MAX_ADJ];
    const kd_shape shape = kd_shape3(partitions(v), cfg->layout->joints, cfg->layout->joints);
    adjacency(cfg, a);
    KD_TRY(visit(user, "A", KD_F32, shape, a));
    for (int st = 0; st < STAGES; st++) {
        for (int b = 0; b < v->blocks[st]; b++) {
            char name[64];
            (void)snprintf(name, sizeof name, "stages.%d.%d.gcn.A", st, b);
            KD_TRY(visit(user, name, KD_F32, shape, a));
        }
    }
    return KD_OK;
}

static const kd_student_info models[] = {
    {.name = "last-e3-nano",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = 3,
     .feature_dim = 64,
     .about = "LAST-E v3 nano: partition GCN, separable TCN, motion and joint gates; 3 streams",
     .params = 82847,
     .dropout = 0.2f,
     .drop_path = 0.0f,
     .family = &kd_family_last_e3,
     .size = &(const e3_size){24, {32, 48, 64}, {1, 1, 1}, 1, false, false}},
    {.name = "last-e3-small",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = 3,
     .feature_dim = 96,
     .about = "LAST-E v3 small: two-hop partitions with subset attention; 3 streams",
     .params = 344727,
     .dropout = 0.25f,
     .drop_path = 0.0f,
     .family = &kd_family_last_e3,
     .size = &(const e3_size){32, {48, 64, 96}, {1, 2, 2}, 2, true, false}},
    {.name = "last-e3-base",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = 3,
     .feature_dim = 128,
     .latent = 128,
     .about = "LAST-E v3 base: wider, with an information bottleneck in training; 3 streams",
     .params = 720028,
     .dropout = 0.3f,
     .drop_path = 0.05f,
     .family = &kd_family_last_e3,
     .size = &(const e3_size){48, {64, 96, 128}, {2, 2, 2}, 2, true, false}},
    {.name = "last-e3-large",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = 3,
     .feature_dim = 160,
     .latent = 128,
     .about = "LAST-E v3 large: as base, gates of the last stage also from frequencies; 3 streams",
     .params = 1080668,
     .dropout = 0.3f,
     .drop_path = 0.1f,
     .family = &kd_family_last_e3,
     .size = &(const e3_size){48, {80, 112, 160}, {2, 2, 2}, 2, true, true}},
};

const kd_student_family kd_family_last_e3 = {.models = models,
                                             .n_models = KD_COUNTOF(models),
                                             .build = build,
                                             .constants = constants,
                                             .no_decay = kd_last_e_no_decay,
                                             .norms_decay = true};
