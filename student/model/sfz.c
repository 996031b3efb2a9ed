/* ShiftFuse-Zero, early fusion: joint shifts that cost nothing, body-part graph convolution with a
 * shared learned adjacency, separable temporal convolutions, temporal landmarks.
 *
 * Streams joint, bone, velocity (this order).  Bodies are stacked along the batch and their logits
 * averaged, an all-zero body included: see single_body in student.h. */
#include "student/model/blocks.h"
#include "student/model/family.h"
#include "student/model/skeleton_graph.h"

#include <math.h>
#include <stdio.h>

enum { STAGES = 3, PARTS = 3, MOST_CHANNELS = 256, MOST_LANDMARKS = 16, MOST_BODIES = 8, KERNEL = 9 };

typedef struct sfz_size {
    int64_t stem, channels[STAGES];
    int landmarks; /* after the last stage */
} sfz_size;

static const int strides[STAGES] = {1, 2, 2};

#define GATE_START (-4.0f)

/* A third of the normalised adjacencies of the three partitions, (3,25,25): fixed part + learned part,
 * shared by all blocks.  The third is that of the mean over partitions in every block: one pass here. */
static kd_val shared_adjacency(kd_graph *g)
{
    float fixed[PARTS * KD_ADJ];
    kd_val parts[PARTS];
    const kd_adj_norm_attr norm = {KD_ADJ_ABS};
    kd_skel_semantic(fixed);
    for (int k = 0; k < PARTS; k++) {
        char name[32];
        (void)snprintf(name, sizeof name, "shared_a_learned.%d", k);
        const kd_val learned = kd_param(g, name, kd_shape2(KD_JOINTS, KD_JOINTS), kd_init_const(0.0f), 0);
        (void)snprintf(name, sizeof name, "_A_fixed_%d", k);
        const kd_val a =
            kd_node2(g, KD_OP_ADJ_NORM, &norm, learned, kd_block_adjacency(g, name, fixed + k * KD_ADJ, 0));
        parts[k] = kd_reshape(g, a, kd_shape3(1, KD_JOINTS, KD_JOINTS));
    }
    return kd_scale(g, kd_concat(g, parts, PARTS, 0), 1.0f / (float)PARTS);
}

/* BRASP, SGPShift and the joint embedding: the two index maps are composed here, once, so that the
 * three are one pass. */
static kd_val shift_and_embed(kd_graph *g, kd_val x)
{
    int32_t idx[MOST_CHANNELS * KD_JOINTS];
    const int64_t c = kd_block_dim(g, x, 1);
    if (c < 1 || c > MOST_CHANNELS) {
        kd_graph_fail(g, KD_E_SHAPE, "joint shift: %lld channels, expected 1 to %d", (long long)c, MOST_CHANNELS);
        return KD_NONE;
    }
    kd_skel_brasp_sgp((int)c, idx);
    const kd_val table = kd_const(g, "shift_indices", KD_I32, kd_shape2(c, KD_JOINTS), idx);
    const kd_val w = kd_param(g, "je.embed.weight", kd_shape2(KD_JOINTS, c), kd_init_const(0.0f), 0);
    return kd_node3(g, KD_OP_JOINT_GATHER, NULL, x, table, w);
}

/* Gate over frames (convolution of mean and maximum) and joints (linear of the mean). */
static kd_val stc_attention(kd_graph *g, kd_val x)
{
    kd_val pooled[3], gates[2];
    kd_scope_push(g, "stc_attn");
    (void)kd_node(g, KD_OP_STC_POOL, NULL, &x, 1, pooled);
    const kd_val from[4] = {
        pooled[0], pooled[1],
        kd_param(g, "temporal_conv.weight", kd_shape3(1, 2, KERNEL), kd_init_torch(2 * KERNEL), KD_PARAM_MATRIX),
        kd_param(g, "spatial_fc.weight", kd_shape2(KD_JOINTS, KD_JOINTS), kd_init_torch(KD_JOINTS), KD_PARAM_MATRIX)};
    (void)kd_node(g, KD_OP_STC_GATES, NULL, from, 4, gates);
    const kd_val in[5] = {x, gates[0], gates[1], KD_NONE,
                          kd_param(g, "gate", kd_shape1(1), kd_init_const(GATE_START), 0)};
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
static kd_val separable_tcn(kd_graph *g, kd_val x, int stride, float dropout)
{
    const int64_t c = kd_block_dim(g, x, 1);
    kd_val half[2];
    kd_scope_push(g, "tcn.0");
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

/* Attention of every frame over landmarks: frames interpolated at learned positions. */
static kd_val landmark_attention(kd_graph *g, kd_val x, int landmarks)
{
    const int64_t c = kd_block_dim(g, x, 1), dk = KD_MAX((int64_t)4, c / 8);
    float start[MOST_LANDMARKS];
    for (int i = 0; i < landmarks; i++) {
        const double p = 0.05 + 0.9 * i / (landmarks - 1);
        start[i] = (float)log(p / (1.0 - p));
    }
    const kd_init anchors = {.kind = KD_INIT_DATA, .data = start}, wide = kd_init_torch(c);
    kd_scope_push(g, "tla");
    const kd_val u = kd_permute(g, kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 3), 0, 2, 1, -1);
    const kd_val l =
        kd_node2(g, KD_OP_LANDMARK_INTERP, NULL, u, kd_param(g, "anchor_logits", kd_shape1(landmarks), anchors, 0));
    const kd_val in[3] = {kd_block_linear(g, u, "q_proj", dk, wide), kd_block_linear(g, l, "k_proj", dk, wide),
                          kd_block_linear(g, l, "v_proj", dk, wide)};
    kd_val outs[2];
    kd_val o = kd_node(g, KD_OP_LANDMARK_ATTENTION, NULL, in, 3, outs);
    o = kd_permute(g, kd_block_linear(g, o, "out_proj", c, kd_init_torch(dk)), 0, 2, 1, -1);
    const kd_val y =
        kd_node3(g, KD_OP_GATED_ADD, NULL, x, o, kd_param(g, "gate", kd_shape1(1), kd_init_const(GATE_START), 0));
    kd_scope_pop(g);
    return y;
}

static kd_val block(kd_graph *g, kd_val x, kd_val adj, int64_t co, int stride, float dropout, float rate)
{
    const kd_val res = kd_block_residual(g, x, co, stride, KD_BLOCK_INIT_TORCH);
    kd_val y = stc_attention(g, shift_and_embed(g, x));
    y = separable_tcn(g, graph_convolution(g, y, adj, co), stride, dropout);
    return kd_act(g, kd_add(g, kd_drop_path(g, y, rate), res), KD_ACT_HARDSWISH);
}

/* Mean over the bodies of rows stacked [all body 0; all body 1; ...]. */
static kd_val mean_of_bodies(kd_graph *g, kd_val x, int64_t bodies)
{
    const int64_t n = kd_block_dim(g, x, 0) / bodies;
    if (bodies == 1) {
        return x;
    }
    kd_val sum = kd_slice(g, x, 0, 0, n);
    for (int64_t m = 1; m < bodies; m++) {
        sum = kd_add(g, sum, kd_slice(g, x, 0, m * n, n));
    }
    return kd_scale(g, sum, 1.0f / (float)bodies);
}

static kd_student_out head(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int64_t bodies)
{
    const kd_val over_time = kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2);
    const kd_val pooled = kd_node3(g, KD_OP_GATE_MIX, NULL, kd_reduce(g, over_time, KD_REDUCE_MEAN, 1u << 2),
                                   kd_reduce(g, over_time, KD_REDUCE_MAX, 1u << 2),
                                   kd_param(g, "pool_gate", kd_shape1(1), kd_init_const(-GATE_START), 0));
    const kd_init init = kd_init_torch(cfg->model->feature_dim);
    const kd_val logits = kd_linear(g, kd_dropout(g, pooled, cfg->dropout), "classifier.1", cfg->classes,
                                    &(kd_linear_opts){.weight = init, .bias = init, .f32_out = true});
    return (kd_student_out){.logits = mean_of_bodies(g, logits, bodies), .feature = mean_of_bodies(g, pooled, bodies)};
}

static kd_student_out build(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams)
{
    const kd_student_info *s = cfg->model;
    const sfz_size *v = s->size;
    const int64_t bodies = cfg->single_body ? 1 : KD_MAX(kd_block_dim(g, streams[0], 4), (int64_t)1);
    kd_val body[KD_STUDENT_MAX_STREAMS];
    for (int i = 0; i < s->n_streams; i++) {
        body[i] = kd_block_bodies(g, streams[i], cfg->single_body ? KD_BODY_FIRST : KD_BODY_STACK);
    }
    kd_val x = kd_block_fusion(g, body, s->n_streams, v->stem, KD_BLOCK_INIT_TORCH, KD_ACT_HARDSWISH);
    kd_block_tap(g, cfg->taps, x, "fusion");
    const kd_val adj = shared_adjacency(g);
    for (int st = 0; st < STAGES; st++) {
        const float rate = cfg->drop_path * (float)st / (float)(STAGES - 1);
        kd_recompute_begin(g);
        kd_scope_push(g, "stages.%d.0", st);
        x = block(g, x, adj, v->channels[st], strides[st], cfg->dropout, rate);
        if (st + 1 == STAGES) {
            x = landmark_attention(g, x, v->landmarks);
        }
        kd_scope_pop(g);
        kd_recompute_end(g);
        kd_block_tap(g, cfg->taps, x, "stages.%d.0", st);
    }
    return head(g, x, cfg, bodies);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

typedef void (*table_fn)(int channels, int32_t *idx);

/* Index tables are 64-bit in checkpoints. */
static kd_status visit_table(const char *name, int channels, table_fn table, kd_student_visit visit, void *user)
{
    int32_t idx[MOST_CHANNELS * KD_JOINTS];
    int64_t wide[MOST_CHANNELS * KD_JOINTS];
    table(channels, idx);
    for (int i = 0; i < channels * KD_JOINTS; i++) {
        wide[i] = idx[i];
    }
    return visit(user, name, KD_I64, kd_shape2(channels, KD_JOINTS), wide);
}

static kd_status block_constants(int stage, int channels, const float *raw, kd_student_visit visit, void *user)
{
    char name[64];
    (void)snprintf(name, sizeof name, "stages.%d.0.brasp.shift_indices", stage);
    KD_TRY(visit_table(name, channels, kd_skel_brasp, visit, user));
    (void)snprintf(name, sizeof name, "stages.%d.0.sgp_shift.shift_indices", stage);
    KD_TRY(visit_table(name, channels, kd_skel_sgp, visit, user));
    for (int k = 0; k < PARTS; k++) {
        (void)snprintf(name, sizeof name, "stages.%d.0._A_fixed_%d", stage, k);
        KD_TRY(visit(user, name, KD_F32, kd_shape2(KD_JOINTS, KD_JOINTS), raw + k * KD_ADJ));
    }
    return KD_OK;
}

static kd_status constants(const kd_student_info *s, kd_student_visit visit, void *user)
{
    const sfz_size *v = s->size;
    float raw[PARTS * KD_ADJ], sym[PARTS * KD_ADJ], flat[KD_ADJ];
    const kd_shape square = kd_shape2(KD_JOINTS, KD_JOINTS);
    kd_skel_semantic(raw);
    memcpy(sym, raw, sizeof sym);
    kd_skel_norm_sym_full(sym, PARTS);
    for (int i = 0; i < KD_ADJ; i++) {
        flat[i] = raw[i] + raw[KD_ADJ + i] + raw[2 * KD_ADJ + i];
    }
    KD_TRY(visit(user, "A_intra", KD_F32, square, sym));
    KD_TRY(visit(user, "A_inter", KD_F32, square, sym + KD_ADJ));
    KD_TRY(visit(user, "A_flat", KD_F32, square, flat));
    for (int st = 0; st < STAGES; st++) {
        const int64_t channels = st == 0 ? v->stem : v->channels[st - 1];
        KD_TRY(block_constants(st, (int)channels, raw, visit, user));
    }
    return KD_OK;
}

/* "stages.S.0.A_learned.k" is "shared_a_learned.k". */
static const char *canonical(const char *name, char *buf, size_t size)
{
    int stage = 0, k = 0, used = 0;
    if (sscanf(name, "stages.%1d.0.A_learned.%1d%n", &stage, &k, &used) != 2 || name[used] != '\0' || stage >= STAGES ||
        k >= PARTS) {
        return name;
    }
    (void)snprintf(buf, size, "shared_a_learned.%d", k);
    return buf;
}

static const char *const no_decay[] = {"bias",      "bn",       "norm",           "alpha", "A_learned",     "A_edge",
                                       "pool_gate", "je.embed", "stream_weights", ".gate", "anchor_logits", NULL};

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
     .size = &(const sfz_size){24, {32, 64, 128}, 12}},
};

const kd_student_family kd_family_sfz = {.models = models,
                                         .n_models = KD_COUNTOF(models),
                                         .build = build,
                                         .constants = constants,
                                         .canonical = canonical,
                                         .no_decay = no_decay};
