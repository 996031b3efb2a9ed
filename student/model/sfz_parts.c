/* Pieces that both kinds of ShiftFuse-Zero share: see sfz_parts.h. */
#include "student/model/sfz_parts.h"

#include <math.h>
#include <stdio.h>

enum { MOST_CHANNELS = 512, MOST_LANDMARKS = 16, BODY_PARTS = 5 };

static kd_val gather(kd_graph *g, kd_val x, const int32_t *idx, kd_val w)
{
    const kd_shape shape = kd_shape2(kd_block_dim(g, x, 1), kd_block_dim(g, x, 3));
    const kd_val table = kd_const(g, "shift_indices", KD_I32, shape, idx);
    return kd_node3(g, KD_OP_JOINT_GATHER, NULL, x, table, w);
}

static bool channels_fit(kd_graph *g, int64_t c)
{
    if (c < 1 || c > MOST_CHANNELS) {
        kd_graph_fail(g, KD_E_SHAPE, "joint shift: %lld channels, expected 1 to %d", (long long)c, MOST_CHANNELS);
        return false;
    }
    return true;
}

static kd_val embedding(kd_graph *g, kd_val x)
{
    const kd_shape shape = kd_shape2(kd_block_dim(g, x, 3), kd_block_dim(g, x, 1));
    return kd_param(g, "je.embed.weight", shape, kd_init_const(0.0f), 0);
}

kd_val kd_sfz_shift(kd_graph *g, kd_val x, const kd_layout *l, bool embed)
{
    int32_t idx[MOST_CHANNELS * KD_LAYOUT_JOINTS];
    const int64_t c = kd_block_dim(g, x, 1);
    if (!channels_fit(g, c)) {
        return KD_NONE;
    }
    kd_skel_brasp_sgp(l, (int)c, idx);
    return gather(g, x, idx, embed ? embedding(g, x) : KD_NONE);
}

kd_val kd_sfz_embed(kd_graph *g, kd_val x)
{
    int32_t idx[MOST_CHANNELS * KD_LAYOUT_JOINTS];
    const int64_t c = kd_block_dim(g, x, 1), v = kd_block_dim(g, x, 3);
    if (!channels_fit(g, c)) {
        return KD_NONE;
    }
    for (int32_t i = 0; i < (int32_t)(c * v); i++) {
        idx[i] = i % (int32_t)v;
    }
    return gather(g, x, idx, embedding(g, x));
}

kd_val kd_sfz_part_attention(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int ratio)
{
    const kd_layout *l = cfg->layout;
    float member[KD_MAX_ADJ] = {0}; /* [part][joint]; the rows beyond the parts are empty */
    int32_t part[KD_LAYOUT_JOINTS];
    const int v = l->joints;
    const int64_t n = kd_block_dim(g, x, 0), c = kd_block_dim(g, x, 1), mid = KD_MAX(c / ratio, (int64_t)4);
    kd_skel_parts(l, (cfg->fix & KD_FIX_PART_JOINTS) != 0, part);
    for (int j = 0; j < v; j++) {
        member[part[j] * v + j] = 1.0f;
    }
    kd_scope_push(g, "part_att.fcn");
    kd_val y = kd_reshape(g, kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 2 | 1u << 3), kd_shape4(n, c, 1, 1));
    y = kd_batchnorm(g, kd_block_conv1d(g, y, "1", mid, &(kd_block_conv){0}), "2");
    y = kd_block_conv1d(g, kd_act(g, y, KD_ACT_RELU), "4", BODY_PARTS * c, &(kd_block_conv){0});
    kd_scope_pop(g);
    y = kd_softmax(g, kd_reshape(g, y, kd_shape4(n, c, 1, BODY_PARTS)), 1.0f);
    if (v > BODY_PARTS) { /* joint_mix takes as many rows as columns */
        const kd_val wide[2] = {y, kd_block_filled(g, "no_part", kd_shape4(n, c, 1, v - BODY_PARTS), 0.0f)};
        y = kd_concat(g, wide, 2, 3);
    }
    y = kd_block_mix(g, y, kd_block_adjacency(g, "joints", member, 0, v), KD_MIX_SHARED, false);
    y = kd_reshape(g, y, kd_shape3(n, c, v));
    return kd_block_axis_product(g, x, KD_NONE, y);
}

kd_val kd_sfz_landmarks(kd_graph *g, kd_val x, const char *scope, int landmarks)
{
    const int64_t c = kd_block_dim(g, x, 1), dk = KD_MAX((int64_t)4, c / 8);
    float start[MOST_LANDMARKS];
    for (int i = 0; i < landmarks; i++) {
        const double p = 0.05 + 0.9 * i / (landmarks - 1);
        start[i] = (float)log(p / (1.0 - p));
    }
    const kd_init anchors = {.kind = KD_INIT_DATA, .data = start}, wide = kd_init_torch(c);
    kd_scope_push(g, "%s", scope);
    const kd_val u = kd_permute(g, kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 3), 0, 2, 1, -1);
    const kd_val l =
        kd_node2(g, KD_OP_LANDMARK_INTERP, NULL, u, kd_param(g, "anchor_logits", kd_shape1(landmarks), anchors, 0));
    const kd_val in[3] = {kd_block_linear(g, u, "q_proj", dk, wide), kd_block_linear(g, l, "k_proj", dk, wide),
                          kd_block_linear(g, l, "v_proj", dk, wide)};
    kd_val outs[2];
    kd_val o = kd_node(g, KD_OP_LANDMARK_ATTENTION, NULL, in, 3, outs);
    o = kd_permute(g, kd_block_linear(g, o, "out_proj", c, kd_init_torch(dk)), 0, 2, 1, -1);
    const kd_val y = kd_node3(g, KD_OP_GATED_ADD, NULL, x, o,
                              kd_param(g, "gate", kd_shape1(1), kd_init_const(KD_SFZ_GATE_START), 0));
    kd_scope_pop(g);
    return y;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

typedef void (*table_fn)(const kd_layout *l, int channels, int32_t *idx);

/* Index tables are 64-bit in checkpoints. */
static kd_status visit_table(const char *name, const kd_layout *l, int channels, table_fn table, kd_student_visit visit,
                             void *user)
{
    int32_t idx[MOST_CHANNELS * KD_LAYOUT_JOINTS];
    int64_t wide[MOST_CHANNELS * KD_LAYOUT_JOINTS];
    table(l, channels, idx);
    for (int i = 0; i < channels * l->joints; i++) {
        wide[i] = idx[i];
    }
    return visit(user, name, KD_I64, kd_shape2(channels, l->joints), wide);
}

kd_status kd_sfz_block_constants(const char *block, const kd_student_cfg *cfg, int channels, const float *fixed,
                                 bool part_attention, kd_student_visit visit, void *user)
{
    const kd_layout *l = cfg->layout;
    char name[96];
    (void)snprintf(name, sizeof name, "%s.brasp.shift_indices", block);
    KD_TRY(visit_table(name, l, channels, kd_skel_brasp, visit, user));
    (void)snprintf(name, sizeof name, "%s.sgp_shift.shift_indices", block);
    KD_TRY(visit_table(name, l, channels, kd_skel_sgp, visit, user));
    KD_TRY(kd_sfz_fixed_constants(block, l, fixed, visit, user));
    if (part_attention) {
        int32_t part[KD_LAYOUT_JOINTS];
        int64_t wide[KD_LAYOUT_JOINTS];
        kd_skel_parts(l, (cfg->fix & KD_FIX_PART_JOINTS) != 0, part);
        for (int v = 0; v < l->joints; v++) {
            wide[v] = part[v];
        }
        (void)snprintf(name, sizeof name, "%s.part_att.joints", block);
        KD_TRY(visit(user, name, KD_I64, kd_shape1(l->joints), wide));
    }
    return KD_OK;
}

kd_status kd_sfz_fixed_constants(const char *block, const kd_layout *l, const float *fixed, kd_student_visit visit,
                                 void *user)
{
    const int v = l->joints;
    for (int k = 0; k < KD_SFZ_PARTITIONS; k++) {
        char name[96];
        (void)snprintf(name, sizeof name, "%s._A_fixed_%d", block, k);
        KD_TRY(visit(user, name, KD_F32, kd_shape2(v, v), fixed + k * v * v));
    }
    return KD_OK;
}

kd_status kd_sfz_graph_constants(const char *prefix, const kd_layout *l, kd_student_visit visit, void *user)
{
    const int v = l->joints, adj = v * v;
    float raw[KD_SFZ_PARTITIONS * KD_MAX_ADJ], sym[KD_SFZ_PARTITIONS * KD_MAX_ADJ], flat[KD_MAX_ADJ];
    const char *const key[3] = {"A_intra", "A_inter", "A_flat"};
    const float *const value[3] = {sym, sym + adj, flat};
    kd_skel_semantic(l, raw);
    memcpy(sym, raw, (size_t)(KD_SFZ_PARTITIONS * adj) * sizeof *sym);
    kd_skel_norm_sym_full(sym, KD_SFZ_PARTITIONS, v);
    for (int i = 0; i < adj; i++) {
        flat[i] = raw[i] + raw[adj + i] + raw[2 * adj + i];
    }
    for (int i = 0; i < 3; i++) {
        char name[96];
        (void)snprintf(name, sizeof name, "%s%s", prefix, key[i]);
        KD_TRY(visit(user, name, KD_F32, kd_shape2(v, v), value[i]));
    }
    return KD_OK;
}

const char *const kd_sfz_no_decay[] = {"bias",      "bn",       "norm",           "alpha", "A_learned",     "A_edge",
                                       "pool_gate", "je.embed", "stream_weights", ".gate", "anchor_logits", NULL};
