/* ShiftFuse-Zero, the efficient sizes: joint shifts that cost nothing, body-part graph convolution with learned
 * adjacencies, separable temporal convolutions, temporal landmarks.
 *
 * nano fuses the streams joint, bone, velocity (this order) at the input.  small and medium are late: backbone a reads
 * joint and velocity, backbone b reads bone, the two exchange features twice, and their logits are averaged.  Bodies
 * are stacked along the batch and their logits averaged, an all-zero body included: see KD_FIX_EMPTY_BODY in student.h.
 */
#include "student/model/sfz_parts.h"

#include <stdio.h>

enum { STAGES = 3, PARTS = KD_SFZ_PARTITIONS, KERNEL = 9 };

/* Which blocks use one set of learned adjacencies. */
typedef enum sfz_sharing { SHARED_BY_ALL, SHARED_IN_STAGE, OWN } sfz_sharing;

typedef struct sfz_size {
    int64_t stem, channels[STAGES];
    int blocks[STAGES], depth[STAGES]; /* depth: temporal convolutions a block */
    int landmarks;                     /* after the last stage */
    sfz_sharing sharing;               /* SHARED_IN_STAGE: in stages of several blocks */
    bool late;
    int part_ratio;    /* of PartAttention in the last stage, in the place of the gate over joints; 0: none */
    bool channel_gate; /* squeeze and excitation beside the other gates */
} sfz_size;

/* A backbone reads n streams from `first` on; its scope is empty in nano. */
typedef struct backbone {
    const char *scope;
    int first, n;
} backbone;

static const backbone early[] = {{"", 0, 3}};
static const backbone late[] = {{"backbone_a", 0, 2}, {"backbone_b", 2, 1}};

static const int strides[STAGES] = {1, 2, 2};

static int total_blocks(const sfz_size *v)
{
    return v->blocks[0] + v->blocks[1] + v->blocks[2];
}

static bool shared_in(const sfz_size *v, int stage)
{
    return v->sharing == SHARED_BY_ALL || (v->sharing == SHARED_IN_STAGE && v->blocks[stage] > 1);
}

static int part_ratio(const sfz_size *v, int stage)
{
    return stage + 1 == STAGES ? v->part_ratio : 0;
}

/* A third of the normalised adjacencies of the three partitions, (3,V,V): fixed part + learned part "<learned>.k".
 * The third is that of the mean over partitions in every block: one pass here. */
static kd_val adjacency(kd_graph *g, const kd_student_cfg *cfg, const char *learned)
{
    const kd_layout *l = cfg->layout;
    const int v = l->joints;
    float fixed[PARTS * KD_MAX_ADJ];
    kd_val parts[PARTS];
    const kd_adj_norm_attr norm = {KD_ADJ_ABS};
    kd_skel_semantic(l, fixed);
    for (int k = 0; k < PARTS; k++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s.%d", learned, k);
        const kd_val own = kd_param(g, name, kd_shape2(v, v), kd_init_const(kd_fix_adjacency_start(cfg)), 0);
        (void)snprintf(name, sizeof name, "_A_fixed_%d", k);
        const kd_val a = kd_node2(g, KD_OP_ADJ_NORM, &norm, own, kd_block_adjacency(g, name, fixed + k * v * v, 0, v));
        parts[k] = kd_reshape(g, a, kd_shape3(1, v, v));
    }
    return kd_scale(g, kd_concat(g, parts, PARTS, 0), 1.0f / (float)PARTS);
}

/* Gate over channels from the mean over frames and joints: (N,C). */
static kd_val channel_gate(kd_graph *g, kd_val x)
{
    const int64_t c = kd_block_dim(g, x, 1), r = KD_MAX(c / 4, (int64_t)4);
    const kd_init wide = kd_init_torch(c), narrow = kd_init_torch(r);
    kd_val y = kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2 | 1u << 3);
    y = kd_linear(g, y, "channel_fc1", r, &(kd_linear_opts){.weight = wide, .bias = wide});
    y = kd_linear(g, kd_act(g, y, KD_ACT_RELU), "channel_fc2", c, &(kd_linear_opts){.weight = narrow, .bias = narrow});
    return kd_act(g, y, KD_ACT_SIGMOID);
}

/* Gate over frames (convolution of mean and maximum), joints (linear of the mean; not with PartAttention) and, where
 * the size has it, channels. */
static kd_val stc_attention(kd_graph *g, kd_val x, bool joints, bool channels)
{
    kd_val pooled[3], gates[2] = {{0}};
    const int64_t n = kd_block_dim(g, x, 0), t = kd_block_dim(g, x, 2), v = kd_block_dim(g, x, 3);
    kd_scope_push(g, "stc_attn");
    (void)kd_node(g, KD_OP_STC_POOL, NULL, &x, 1, pooled);
    const kd_val taps =
        kd_param(g, "temporal_conv.weight", kd_shape3(1, 2, KERNEL), kd_init_torch(2 * KERNEL), KD_PARAM_MATRIX);
    if (joints) {
        const kd_val from[4] = {pooled[0], pooled[1], taps,
                                kd_param(g, "spatial_fc.weight", kd_shape2(v, v), kd_init_torch(v), KD_PARAM_MATRIX)};
        (void)kd_node(g, KD_OP_STC_GATES, NULL, from, 4, gates);
    } else {
        const kd_conv2d_attr conv = {
            .stride = {1, 1}, .pad = {KERNEL / 2, 0}, .dilation = {1, 1}, .groups = 1, .kernel = {KERNEL, 1}};
        const kd_val y = kd_node2(g, KD_OP_CONV2D, &conv, pooled[0], kd_reshape(g, taps, kd_shape4(1, 2, KERNEL, 1)));
        gates[0] = kd_reshape(g, kd_act(g, y, KD_ACT_SIGMOID), kd_shape2(n, t));
    }
    const kd_val of_channel = channels ? channel_gate(g, x) : KD_NONE;
    const kd_val in[5] = {x, gates[0], gates[1], of_channel,
                          kd_param(g, "gate", kd_shape1(1), kd_init_const(KD_SFZ_GATE_START), 0)};
    const kd_val y = kd_node(g, KD_OP_STC_GATE, NULL, in, 5, NULL);
    kd_scope_pop(g);
    return y;
}

/* sum_k conv_k(x A_k / 3): aggregate first (fewer channels), then one convolution over all partitions.
 * adj has the third in it. */
static kd_val graph_convolution(kd_graph *g, kd_val x, kd_val adj, int64_t co)
{
    const int64_t ci = kd_block_dim(g, x, 1);
    const kd_conv2d_attr conv = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .kernel = {1, 1}};
    kd_val w[PARTS];
    for (int k = 0; k < PARTS; k++) {
        char name[32];
        (void)snprintf(name, sizeof name, "gcn_convs.%d.weight", k);
        w[k] = kd_param(g, name, kd_shape4(co, ci, 1, 1), kd_init_torch(ci), KD_PARAM_MATRIX);
    }
    const kd_val y =
        kd_node2(g, KD_OP_CONV2D, &conv, kd_block_mix(g, x, adj, KD_MIX_EXPAND, false), kd_concat(g, w, PARTS, 1));
    return kd_act(g, kd_batchnorm(g, y, "gcn_bn"), KD_ACT_HARDSWISH);
}

/* Two depthwise branches (dilation 1 and 2), each to half of the channels. */
static kd_val separable_tcn(kd_graph *g, kd_val x, int level, int stride, float dropout)
{
    const int64_t c = kd_block_dim(g, x, 1);
    kd_val half[2];
    kd_scope_push(g, "tcn.%d", level);
    for (int i = 0; i < 2; i++) {
        char deep[16], point[16];
        (void)snprintf(deep, sizeof deep, "dw%d", i + 1);
        (void)snprintf(point, sizeof point, "pw%d", i + 1);
        const kd_block_conv o = {.kernel = KERNEL, .stride = stride, .dilation = i + 1, .depthwise = true};
        half[i] = kd_block_conv1d(g, kd_block_conv1d(g, x, deep, c, &o), point, c / 2, &(kd_block_conv){0});
    }
    const kd_val y = kd_act(g, kd_batchnorm(g, kd_concat(g, half, 2, 1), "bn"), KD_ACT_HARDSWISH);
    kd_scope_pop(g);
    return kd_dropout(g, y, dropout);
}

static kd_val block(kd_graph *g, kd_val x, kd_val adj, const kd_student_cfg *cfg, int stage, int stride, float rate)
{
    const sfz_size *v = cfg->model->size;
    const int ratio = part_ratio(v, stage);
    const kd_val res = kd_block_residual(g, x, v->channels[stage], stride, KD_BLOCK_INIT_TORCH);
    kd_val y = stc_attention(g, kd_sfz_shift(g, x, cfg->layout, true), ratio == 0, v->channel_gate);
    y = graph_convolution(g, y, adj, v->channels[stage]);
    y = ratio != 0 ? kd_sfz_part_attention(g, y, cfg, ratio) : y;
    for (int i = 0; i < v->depth[stage]; i++) {
        y = separable_tcn(g, y, i, i == 0 ? stride : 1, cfg->dropout);
    }
    return kd_act(g, kd_add(g, kd_drop_path(g, y, rate), res), KD_ACT_HARDSWISH);
}

/* The blocks of one stage.  shared: the adjacency of all blocks of the model, or absent. */
static kd_val run_stage(kd_graph *g, kd_val x, kd_val shared, const kd_student_cfg *cfg, int stage)
{
    const sfz_size *v = cfg->model->size;
    const int total = total_blocks(v);
    int done = 0;
    for (int i = 0; i < stage; i++) {
        done += v->blocks[i];
    }
    if (v->sharing == SHARED_IN_STAGE && shared_in(v, stage)) {
        char name[40];
        (void)snprintf(name, sizeof name, "shared_a_learned_stage%d", stage);
        shared = adjacency(g, cfg, name);
    }
    for (int b = 0; b < v->blocks[stage]; b++) {
        const float rate = cfg->drop_path * (float)(done + b) / (float)(total - 1);
        kd_recompute_begin(g);
        kd_scope_push(g, "stages.%d.%d", stage, b);
        const kd_val adj = shared.id != 0 ? shared : adjacency(g, cfg, "A_learned");
        x = block(g, x, adj, cfg, stage, b == 0 ? strides[stage] : 1, rate);
        if (!v->late && stage + 1 == STAGES) {
            x = kd_sfz_landmarks(g, x, "tla", v->landmarks);
        }
        kd_scope_pop(g);
        kd_recompute_end(g);
        kd_block_tap(g, cfg->taps && !v->late, x, "stages.%d.%d", stage, b);
    }
    return x;
}

/* What one backbone adds to the other: two 1x1 convolutions by way of fewer channels. */
static kd_val cross_projection(kd_graph *g, kd_val from, const char *name)
{
    const int64_t c = kd_block_dim(g, from, 1), mid = KD_MAX(c / 4, (int64_t)8);
    kd_scope_push(g, "%s", name);
    kd_val y = kd_batchnorm(g, kd_block_conv1d(g, from, "0", mid, &(kd_block_conv){0}), "1");
    y = kd_block_conv1d(g, kd_act(g, y, KD_ACT_HARDSWISH), "3", c, &(kd_block_conv){0});
    y = kd_batchnorm(g, y, "4");
    kd_scope_pop(g);
    return y;
}

static kd_val gated_sum(kd_graph *g, kd_val x, kd_val o, kd_val gate)
{
    const kd_shape s = kd_spec_of(g, x).shape;
    const int64_t cells = s.rank == 4 ? s.dim[2] * s.dim[3] : 0; /* a cell is a frame with one joint to gated_add */
    const kd_val one = kd_reshape(g, x, kd_shape4(s.dim[0], s.dim[1], cells, 1));
    const kd_val add = kd_reshape(g, o, kd_shape3(s.dim[0], s.dim[1], cells));
    return kd_reshape(g, kd_node3(g, KD_OP_GATED_ADD, NULL, one, add, gate), s);
}

/* Both directions read the features as they were. */
static void cross_fusion(kd_graph *g, const char *scope, kd_val x[2])
{
    kd_scope_push(g, "%s", scope);
    const kd_val gate =
        kd_reshape(g, kd_param(g, "gate", kd_shape0(), kd_init_const(KD_SFZ_GATE_START), 0), kd_shape1(1));
    const kd_val to_a = cross_projection(g, x[1], "proj_b_to_a"), to_b = cross_projection(g, x[0], "proj_a_to_b");
    x[0] = gated_sum(g, x[0], to_a, gate);
    x[1] = gated_sum(g, x[1], to_b, gate);
    kd_scope_pop(g);
}

static kd_student_out head(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int64_t bodies)
{
    const kd_val over_time = kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2);
    const kd_val pooled = kd_node3(g, KD_OP_GATE_MIX, NULL, kd_reduce(g, over_time, KD_REDUCE_MEAN, 1u << 2),
                                   kd_reduce(g, over_time, KD_REDUCE_MAX, 1u << 2),
                                   kd_param(g, "pool_gate", kd_shape1(1), kd_init_const(-KD_SFZ_GATE_START), 0));
    const kd_init init = kd_init_torch(kd_block_dim(g, x, 1));
    const kd_val logits = kd_linear(g, kd_dropout(g, pooled, cfg->dropout), "classifier.1", cfg->classes,
                                    &(kd_linear_opts){.weight = init, .bias = init, .f32_out = true});
    return (kd_student_out){.logits = kd_block_mean_of_bodies(g, logits, bodies),
                            .feature = kd_block_mean_of_bodies(g, pooled, bodies)};
}

static kd_val stem(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams, const backbone *b)
{
    const sfz_size *v = cfg->model->size;
    kd_val body[KD_STUDENT_MAX_STREAMS];
    const kd_val empty = kd_fix_empty_bodies(g, cfg, streams);
    for (int i = 0; i < b->n; i++) {
        body[i] = kd_fix_stacked(g, streams[b->first + i], empty);
    }
    return kd_block_fusion(g, body, b->n, v->stem, KD_BLOCK_INIT_TORCH, KD_ACT_HARDSWISH);
}

static kd_student_out build_late(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams, int64_t bodies)
{
    const sfz_size *v = cfg->model->size;
    kd_val x[2];
    kd_student_out o[2];
    for (int stage = -1; stage < STAGES; stage++) { /* -1: the stem */
        for (int i = 0; i < 2; i++) {
            kd_scope_push(g, "%s", late[i].scope);
            x[i] = stage < 0 ? stem(g, cfg, streams, &late[i]) : run_stage(g, x[i], KD_NONE, cfg, stage);
            kd_scope_pop(g);
            kd_block_tap(g, cfg->taps && stage < 0, x[i], "%s.fusion", late[i].scope);
        }
        if (stage > 0) {
            cross_fusion(g, stage == 1 ? "cross_fusion_early" : "cross_fusion_late", x);
        }
    }
    for (int i = 0; i < 2; i++) {
        x[i] = kd_sfz_landmarks(g, x[i], "tla_shared", v->landmarks);
    }
    for (int i = 0; i < 2; i++) {
        kd_scope_push(g, "%s", late[i].scope);
        o[i] = head(g, x[i], cfg, bodies);
        kd_scope_pop(g);
    }
    const kd_val feature[2] = {o[0].feature, o[1].feature};
    return (kd_student_out){.logits = kd_scale(g, kd_add(g, o[0].logits, o[1].logits), 0.5f),
                            .feature = kd_concat(g, feature, 2, 1)};
}

static kd_student_out build(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams)
{
    const sfz_size *v = cfg->model->size;
    const int64_t bodies = KD_MAX(kd_block_dim(g, streams[0], 4), (int64_t)1);
    if (v->late) {
        return build_late(g, cfg, streams, bodies);
    }
    kd_val x = stem(g, cfg, streams, &early[0]);
    kd_block_tap(g, cfg->taps, x, "fusion");
    const kd_val adj = adjacency(g, cfg, "shared_a_learned");
    for (int stage = 0; stage < STAGES; stage++) {
        x = run_stage(g, x, adj, cfg, stage);
    }
    return head(g, x, cfg, bodies);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

static kd_status constants(const kd_student_cfg *cfg, kd_student_visit visit, void *user)
{
    const sfz_size *v = cfg->model->size;
    const kd_layout *l = cfg->layout;
    float raw[PARTS * KD_MAX_ADJ];
    kd_skel_semantic(l, raw);
    for (int i = 0; i < (v->late ? 2 : 1); i++) {
        const backbone *b = v->late ? &late[i] : &early[i];
        char prefix[24], name[64];
        (void)snprintf(prefix, sizeof prefix, "%s%s", b->scope, b->scope[0] != '\0' ? "." : "");
        KD_TRY(kd_sfz_graph_constants(prefix, l, visit, user));
        int64_t channels = v->stem;
        for (int st = 0; st < STAGES; st++) {
            for (int k = 0; k < v->blocks[st]; k++) {
                (void)snprintf(name, sizeof name, "%sstages.%d.%d", prefix, st, k);
                KD_TRY(kd_sfz_block_constants(name, cfg, (int)channels, raw, part_ratio(v, st) != 0, visit, user));
                channels = v->channels[st];
            }
        }
    }
    return KD_OK;
}

/* "<backbone>.stages.S.B.A_learned.k" of a block without adjacencies of its own is a second name of the shared ones. */
static kd_status block_aliases(const sfz_size *v, const char *prefix, int stage, int b, kd_student_alias visit,
                               void *user)
{
    for (int k = 0; k < PARTS; k++) {
        char name[64], of[64];
        (void)snprintf(name, sizeof name, "%sstages.%d.%d.A_learned.%d", prefix, stage, b, k);
        if (v->sharing == SHARED_BY_ALL) {
            (void)snprintf(of, sizeof of, "%sshared_a_learned.%d", prefix, k);
        } else {
            (void)snprintf(of, sizeof of, "%sshared_a_learned_stage%d.%d", prefix, stage, k);
        }
        KD_TRY(visit(user, name, of));
    }
    return KD_OK;
}

static kd_status aliases(const kd_student_info *s, kd_student_alias visit, void *user)
{
    const sfz_size *v = s->size;
    for (int i = 0; i < (v->late ? 2 : 1); i++) {
        const char *scope = v->late ? late[i].scope : early[i].scope;
        char prefix[24];
        (void)snprintf(prefix, sizeof prefix, "%s%s", scope, scope[0] != '\0' ? "." : "");
        for (int st = 0; st < STAGES; st++) {
            for (int b = 0; shared_in(v, st) && b < v->blocks[st]; b++) {
                KD_TRY(block_aliases(v, prefix, st, b, visit, user));
            }
        }
    }
    return KD_OK;
}

static unsigned fixes(const kd_student_info *s)
{
    const sfz_size *v = s->size;
    return KD_FIX_EMPTY_BODY | KD_FIX_ADJACENCY_START | (v->part_ratio != 0 ? KD_FIX_PART_JOINTS : 0u) |
           (v->sharing != OWN ? KD_FIX_SHARED_DECAY : 0u);
}

static const kd_student_info models[] = {
    {.name = "sfz-nano",
     .streams = {"joint", "bone", "velocity"},
     .n_streams = 3,
     .feature_dim = 128,
     .about = "ShiftFuse-Zero nano: joint shifts, body-part GCN, temporal landmarks; 3 streams",
     .params = 93947,
     .dropout = 0.1f,
     .drop_path = 0.05f,
     .family = &kd_family_sfz,
     .size = &(const sfz_size){24, {32, 64, 128}, {1, 1, 1}, {1, 1, 1}, 12, SHARED_BY_ALL, false, 0, false}},
    {.name = "sfz-small",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = 3,
     .feature_dim = 256,
     .about = "ShiftFuse-Zero small: two backbones that exchange features, part attention; 3 streams",
     .params = 281039,
     .dropout = 0.1f,
     .drop_path = 0.05f,
     .family = &kd_family_sfz,
     .size = &(const sfz_size){24, {32, 64, 128}, {1, 2, 1}, {1, 2, 1}, 8, SHARED_IN_STAGE, true, 16, false}},
    {.name = "sfz-medium",
     .streams = {"joint", "velocity", "bone"},
     .n_streams = 3,
     .feature_dim = 320,
     .about = "ShiftFuse-Zero medium: as small, with channel gates and an adjacency a block; 3 streams",
     .params = 494835,
     .dropout = 0.15f,
     .drop_path = 0.1f,
     .family = &kd_family_sfz,
     .size = &(const sfz_size){32, {40, 80, 160}, {1, 2, 1}, {1, 2, 1}, 10, OWN, true, 4, true}},
};

const kd_student_family kd_family_sfz = {.models = models,
                                         .n_models = KD_COUNTOF(models),
                                         .build = build,
                                         .constants = constants,
                                         .aliases = aliases,
                                         .fixes = fixes,
                                         .no_decay = kd_sfz_no_decay};
