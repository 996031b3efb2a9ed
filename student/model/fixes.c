/* Repairs of the reference's known bugs: see fixes.h and KD_FIX_* of student.h. */
#include "student/model/fixes.h"

static const struct {
    const char *name;
    unsigned bit;
    const char *lacks; /* of a model for which the repair does nothing */
} fixes[] = {
    {"part_joints", KD_FIX_PART_JOINTS, "has no attention over body parts"},
    {"empty_body", KD_FIX_EMPTY_BODY, "does not average bodies"},
    {"adjacency_start", KD_FIX_ADJACENCY_START, "has no learned adjacency behind an absolute value"},
    {"shared_decay", KD_FIX_SHARED_DECAY, "has no shared_a_learned"},
};

static kd_status one_fix(const kd_student_info *model, const char *name, size_t n, const char *key, unsigned *out,
                         kd_err *err)
{
    const unsigned can = model->family->fixes != NULL ? model->family->fixes(model) : 0;
    for (size_t i = 0; i < KD_COUNTOF(fixes); i++) {
        if (strlen(fixes[i].name) != n || strncmp(fixes[i].name, name, n) != 0) {
            continue;
        }
        if ((can & fixes[i].bit) == 0) {
            return KD_FAIL(err, KD_E_CONFIG, "%s: %s does nothing, since %s %s; remove it", key, fixes[i].name,
                           model->name, fixes[i].lacks);
        }
        if ((*out & fixes[i].bit) != 0) {
            return KD_FAIL(err, KD_E_CONFIG, "%s: %s is there twice", key, fixes[i].name);
        }
        *out |= fixes[i].bit;
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_CONFIG,
                   "%s: expected names of part_joints, empty_body, adjacency_start, shared_decay with commas between "
                   "them, found '%.*s'",
                   key, (int)n, name);
}

kd_status kd_student_fixes(const kd_student_info *model, const char *names, const char *key, unsigned *out, kd_err *err)
{
    *out = 0;
    for (const char *at = names; *names != '\0';) {
        at += strspn(at, " ");
        const char *end = at + strcspn(at, ",");
        size_t n = (size_t)(end - at);
        while (n > 0 && at[n - 1] == ' ') {
            n--;
        }
        KD_TRY(one_fix(model, at, n, key, out, err));
        if (*end == '\0') {
            break;
        }
        at = end + 1;
    }
    return KD_OK;
}

/* ---- what they do ---------------------------------------------------------------------------- */

/* The sum of a row of joints by these is far below that of a bone, 1 or so after normalisation. */
#define ADJACENCY_START 1e-3f

float kd_fix_adjacency_start(const kd_student_cfg *cfg)
{
    return (cfg->fix & KD_FIX_ADJACENCY_START) != 0 ? ADJACENCY_START : 0.0f;
}

static kd_val empty_bodies(kd_graph *g, kd_val x)
{
    const float steep = 1e30f; /* times the least sum of coordinates: more than 1 */
    const kd_val all = kd_block_bodies(g, x, KD_BODY_STACK);
    const kd_val size = kd_add(g, kd_act(g, all, KD_ACT_RELU), kd_act(g, kd_scale(g, all, -1.0f), KD_ACT_RELU));
    const kd_val sum = kd_reduce(g, size, KD_REDUCE_SUM, 1u << 1 | 1u << 2 | 1u << 3);
    const kd_val one =
        kd_cast(g, kd_block_constant_of(g, "one", kd_shape1(kd_block_dim(g, sum, 0)), 1.0f), kd_spec_of(g, sum).dtype);
    return kd_act(g, kd_add(g, kd_scale(g, sum, -steep), one), KD_ACT_RELU);
}

kd_val kd_fix_stacked(kd_graph *g, kd_val x, kd_val empty)
{
    enum { MOST = KD_CONCAT_MOST };
    const kd_val all = kd_block_bodies(g, x, KD_BODY_STACK);
    const int64_t bodies = kd_block_dim(g, x, 4), rows = kd_block_dim(g, all, 0), c = kd_block_dim(g, all, 1);
    if (empty.id == 0 || bodies < 2) {
        return all;
    }
    if (bodies > MOST || c > MOST) {
        kd_graph_fail(g, KD_E_SHAPE, "bodies: %lld of %lld channels, expected at most %d of %d", (long long)bodies,
                      (long long)c, MOST, MOST);
        return KD_NONE;
    }
    kd_val first[MOST], gate[MOST];
    const kd_dtype act = kd_graph_dtype(g);
    first[0] = kd_cast(g, kd_block_bodies(g, x, KD_BODY_FIRST), act);
    gate[0] = kd_cast(g, kd_reshape(g, empty, kd_shape2(rows, 1)), act);
    for (int i = 1; i < MOST; i++) {
        first[i] = first[0];
        gate[i] = gate[0];
    }
    /* the gate is 1 or 0, and its weight 1: exactly the body or zeros */
    const kd_val again = kd_node3(g, KD_OP_CHANNEL_GATE, NULL, kd_concat(g, first, (int)bodies, 0),
                                  kd_concat(g, gate, (int)c, 1), kd_block_constant_of(g, "whole", kd_shape1(c), 1.0f));
    return kd_add(g, kd_cast(g, all, act), again);
}

kd_val kd_fix_empty_bodies(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams)
{
    for (int i = 0; (cfg->fix & KD_FIX_EMPTY_BODY) != 0 && i < cfg->model->n_streams; i++) {
        if (strcmp(cfg->model->streams[i], "joint") == 0) {
            return empty_bodies(g, streams[i]);
        }
    }
    return KD_NONE;
}
