/* Rules after backward: see fuse.c. */
#include "kernels/graph/fuse_internal.h"
#include "kernels/kd_ops.h"

/* Fuse linear_bwd_x k with the act_bwd that alone reads its output; the fused node replaces the act_bwd. */
kd_status kdi_fuse_act_bwd(kd_graph *g, int32_t k, bool recompute)
{
    (void)recompute;
    const kdi_node product = g->nodes[k];
    if (product.op != KD_OP_LINEAR_BWD_X || g->values[product.out[0]].kind != KDI_NODE) {
        return KD_OK;
    }
    for (int32_t j = k + 1; j < g->n_nodes; j++) {
        const kdi_node act = g->nodes[j];
        if (act.op != KD_OP_ACT_BWD || act.dead || !kdi_is_fusable_act(g, j) || act.in[1] != product.out[0]) {
            continue;
        }
        if (!kdi_read_by_only(g, product.out[0], j) || !kdi_same_spec(g, act.in[0], product.out[0])) {
            return KD_OK;
        }
        kd_linear_attr at = *(const kd_linear_attr *)product.attr;
        at.act = ((const kd_act_attr *)act.attr)->kind;
        const kdi_node now = {.op = KD_OP_LINEAR_BWD_X,
                              .n_in = 3,
                              .n_out = 1,
                              .in = {product.in[0], product.in[1], act.in[0]},
                              .out = {act.out[0]},
                              .accum = act.accum};
        g->nodes[k].dead = true;
        return kdi_become(g, j, &now, &at, sizeof at);
    }
    return KD_OK;
}

static bool has_channel_groups(const kd_graph *g, const kdi_node *n)
{
    const int32_t groups = ((const kd_conv2d_attr *)n->attr)->groups;
    return groups == g->values[n->out[0]].spec.shape.dim[1] && groups == g->values[n->in[1]].spec.shape.dim[0];
}

/* Gradient ops with an operand `plus`: the op, and the position of plus. */
static const struct adder {
    kd_op op;
    int plus;
    bool (*can)(const kd_graph *g, const kdi_node *n); /* NULL: always */
} adders[] = {
    {KD_OP_CONV2D_BWD_X, 2, has_channel_groups},
    {KD_OP_JOINT_GATHER_BWD_X, 2, NULL},
    {KD_OP_REDUCE_BWD, 3, NULL},
    {KD_OP_STC_POOL_BWD, 5, NULL},
    {KD_OP_JOINT_MIX_BWD_X, 2, NULL},
    {KD_OP_MOTION_BWD, 2, NULL},
};

/* True if a node between p and k reads an output of p other than out[0]. */
static bool needed_before(const kd_graph *g, int32_t p, int32_t k)
{
    for (int o = 1; o < g->nodes[p].n_out; o++) {
        const int32_t v = g->nodes[p].out[o];
        for (int32_t j = p + 1; j < k && v != 0; j++) {
            for (int i = 0; i < g->nodes[j].n_in && !g->nodes[j].dead; i++) {
                if (g->nodes[j].in[i] != 0 && g->values[g->nodes[j].in[i]].root == v) {
                    return true;
                }
            }
        }
    }
    return false;
}

/* If the producer of v has a free operand `plus` and node k alone reads v, the position of plus; else -1. */
static int adds_at(const kd_graph *g, int32_t v, int32_t k)
{
    if (!kdi_is_node(g, v) || !kdi_read_by_only(g, v, k)) {
        return -1;
    }
    const kdi_node *n = &g->nodes[g->values[v].node];
    for (size_t i = 0; i < KD_COUNTOF(adders); i++) {
        const struct adder *a = &adders[i];
        if (n->op == a->op && n->out[0] == v && n->in[a->plus] == 0 && (n->accum & 1u) == 0 &&
            (a->can == NULL || a->can(g, n)) && !needed_before(g, g->values[v].node, k)) {
            return a->plus;
        }
    }
    return -1;
}

/* Fuse add k of two gradients of one shape into the producer of one of them: the producer moves to k, where all its
 * operands exist, and reads the other gradient as plus.  The second operand of the add is tried first. */
kd_status kdi_fuse_sum(kd_graph *g, int32_t k, bool recompute)
{
    (void)recompute;
    const kdi_node add = g->nodes[k];
    if (add.op != KD_OP_ADD || add.accum != 0 || !kdi_is_node(g, add.out[0]) ||
        !kdi_same_spec(g, add.in[0], add.in[1]) || g->values[add.in[0]].root == g->values[add.in[1]].root) {
        return KD_OK;
    }
    for (int i = 1; i >= 0; i--) {
        const int32_t v = add.in[i];
        const int plus = adds_at(g, v, k);
        if (plus < 0) {
            continue;
        }
        kdi_node *maker = &g->nodes[g->values[v].node];
        g->nodes[k] = *maker;
        g->nodes[k].in[plus] = add.in[1 - i];
        g->nodes[k].out[0] = add.out[0];
        for (int o = 0; o < maker->n_out; o++) {
            if (kdi_is_node(g, g->nodes[k].out[o])) {
                g->values[g->nodes[k].out[o]].node = k;
            }
        }
        maker->dead = true;
        return KD_OK;
    }
    return KD_OK;
}
