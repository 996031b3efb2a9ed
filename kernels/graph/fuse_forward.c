/* Rules before backward: see fuse.c. */
#include "kernels/graph/fuse_internal.h"
#include "kernels/kd_ops.h"

/* The first layernorm after node k that reads v directly; -1: none.  With recompute the layernorm must be in k's
 * segment: the output of a layernorm outside would have to be stored. */
static int32_t layernorm_of(const kd_graph *g, int32_t v, int32_t k, bool recompute)
{
    for (int32_t j = k + 1; j < g->n_nodes; j++) {
        const kdi_node *n = &g->nodes[j];
        if (n->op == KD_OP_LAYERNORM && n->in[0] == v && !n->dead) {
            const bool leaves = !kdi_is_node(g, g->values[n->in[1]].root) && !kdi_is_node(g, g->values[n->in[2]].root);
            return leaves && (!recompute || n->segment == g->nodes[k].segment) ? j : -1;
        }
    }
    return -1;
}

kd_status kdi_fuse_norm(kd_graph *g, int32_t k, bool recompute)
{
    const kdi_node add = g->nodes[k];
    if (add.op != KD_OP_ADD || !kdi_is_node(g, add.in[0]) || !kdi_is_node(g, add.in[1]) ||
        !kdi_same_spec(g, add.in[0], add.in[1])) {
        return KD_OK;
    }
    const int32_t j = layernorm_of(g, add.out[0], k, recompute);
    if (j < 0) {
        return KD_OK;
    }
    const kdi_node *norm = &g->nodes[j];
    kd_add_layernorm_attr at = {.eps = ((const kd_layernorm_attr *)norm->attr)->eps};
    int32_t branch = add.in[1];
    kdi_node *drop = &g->nodes[g->values[branch].node];
    if (drop->op == KD_OP_DROPOUT && ((const kd_dropout_attr *)drop->attr)->per_row && kdi_is_node(g, drop->in[0]) &&
        kdi_same_spec(g, drop->in[0], branch) && kdi_read_by_only(g, branch, k)) {
        at.p = ((const kd_dropout_attr *)drop->attr)->p;
        at.rng_id = ((const kd_dropout_attr *)drop->attr)->rng_id;
        branch = drop->in[0];
        drop->dead = true;
    }
    const kdi_node now = {.op = KD_OP_ADD_LAYERNORM,
                          .n_in = 4,
                          .n_out = 4,
                          .in = {add.in[0], branch, norm->in[1], norm->in[2]},
                          .out = {add.out[0], norm->out[0], norm->out[1], norm->out[2]}};
    g->nodes[j].dead = true;
    return kdi_become(g, k, &now, &at, sizeof at);
}

/* Training: fuse linear k with the activation that alone reads it.  The fused linear also writes pre. */
kd_status kdi_fuse_kept_act(kd_graph *g, int32_t k, bool recompute)
{
    (void)recompute;
    const kdi_node linear = g->nodes[k];
    if (linear.op != KD_OP_LINEAR || ((const kd_linear_attr *)linear.attr)->act != KD_ACT_NONE ||
        ((const kd_linear_attr *)linear.attr)->stat_out) {
        return KD_OK;
    }
    const int32_t pre = linear.out[0], j = kdi_single_reader(g, pre);
    if (j < 0 || g->nodes[j].op != KD_OP_ACT || !kdi_is_fusable_act(g, j) || g->nodes[j].segment != linear.segment) {
        return KD_OK;
    }
    kd_linear_attr at = *(const kd_linear_attr *)linear.attr;
    at.act = ((const kd_act_attr *)g->nodes[j].attr)->kind;
    kdi_node now = linear;
    now.out[0] = g->nodes[j].out[0];
    now.out[1] = pre;
    g->nodes[j].dead = true;
    return kdi_become(g, k, &now, &at, sizeof at);
}

/* Fuse mean k over the tokens of (B,N,C) with the layernorm that alone reads it; the fused node replaces the
 * layernorm. */
kd_status kdi_fuse_pool(kd_graph *g, int32_t k, bool recompute)
{
    (void)recompute;
    const kdi_node mean = g->nodes[k];
    if (mean.op != KD_OP_REDUCE) {
        return KD_OK;
    }
    const kd_reduce_attr *of = mean.attr;
    const kd_spec x = g->values[mean.in[0]].spec;
    const int32_t j = kdi_single_reader(g, mean.out[0]);
    if (of->kind != KD_REDUCE_MEAN || of->axes != 1u << 1 || x.shape.rank != 3 || x.dtype != g->opts.dtype || j < 0 ||
        g->nodes[j].op != KD_OP_LAYERNORM || g->nodes[j].segment != mean.segment) {
        return KD_OK;
    }
    const kdi_node *norm = &g->nodes[j];
    const kd_pool_layernorm_attr at = {.eps = ((const kd_layernorm_attr *)norm->attr)->eps};
    kdi_node now = {.op = KD_OP_POOL_LAYERNORM, .n_in = 3, .n_out = 4, .in = {mean.in[0], norm->in[1], norm->in[2]}};
    kd_spec spec[KD_MAX_OUT];
    KD_TRY(kdi_infer(g, now.op, now.in, now.n_in, &at, spec));
    now.out[0] = norm->out[0];
    now.out[1] = kdi_value_add(g, KDI_NODE, &spec[1]);
    now.out[2] = norm->out[1];
    now.out[3] = norm->out[2];
    g->nodes[k].dead = true;
    return now.out[1] != 0 ? kdi_become(g, j, &now, &at, sizeof at) : KD_E_OOM;
}

/* Outputs of the pointwise convolution: with more of them it is worth a pass of its own, on tensor cores. */
enum { SEPARABLE_MOST = 64 };

static bool is_pointwise(const kd_graph *g, const kdi_node *n)
{
    const kd_conv2d_attr *a = n->attr;
    const int64_t *w = g->values[n->in[1]].spec.shape.dim;
    return n->op == KD_OP_CONV2D && a->groups == 1 && w[2] == 1 && w[3] == 1 && a->stride[0] == 1 &&
           a->stride[1] == 1 && a->pad[0] == 0 && a->pad[1] == 0 && a->act == KD_ACT_NONE && w[0] <= SEPARABLE_MOST;
}

/* Fuse depthwise convolution k with the pointwise one that alone reads it; the fused node replaces the pointwise one.
 * */
kd_status kdi_fuse_separable(kd_graph *g, int32_t k, bool recompute)
{
    const kdi_node deep = g->nodes[k];
    const kd_conv2d_attr *a = deep.attr;
    if (deep.op != KD_OP_CONV2D || g->values[deep.in[0]].spec.shape.dim[1] != a->groups ||
        g->values[deep.in[1]].spec.shape.dim[0] != a->groups) {
        return KD_OK;
    }
    const int32_t j = kdi_single_reader(g, deep.out[0]);
    if (j < 0 || !is_pointwise(g, &g->nodes[j]) || (recompute && g->nodes[j].segment != deep.segment)) {
        return KD_OK;
    }
    const kdi_node *point = &g->nodes[j];
    const kdi_node now = {.op = KD_OP_CONV_SEPARABLE,
                          .n_in = 9,
                          .n_out = 3,
                          .in = {deep.in[0], deep.in[1], deep.n_in > 2 ? deep.in[2] : 0, point->in[1],
                                 point->n_in > 2 ? point->in[2] : 0},
                          .out = {point->out[0], deep.out[0]}};
    const kd_conv_separable_attr at = {.stride = {a->stride[0], a->stride[1]},
                                       .pad = {{a->pad[0], a->pad[1]}},
                                       .dilation = {{a->dilation[0], a->dilation[1]}},
                                       .act = a->act};
    g->nodes[k].dead = true;
    return kdi_become(g, j, &now, &at, sizeof at);
}

/* The producer of v if it is a conv_separable of one branch and node k alone reads v; else NULL. */
static kdi_node *branch_of(const kd_graph *g, int32_t v, int32_t k)
{
    if (!kdi_is_node(g, v) || !kdi_read_by_only(g, v, k)) {
        return NULL;
    }
    kdi_node *n = &g->nodes[g->values[v].node];
    return n->op == KD_OP_CONV_SEPARABLE && n->out[0] == v && n->in[5] == 0 ? n : NULL;
}

/* Fuse concat k of channels with its two operands, both a conv_separable of the same input; the fused node replaces k.
 * */
kd_status kdi_fuse_branches(kd_graph *g, int32_t k, bool recompute)
{
    const kdi_node join = g->nodes[k];
    if (join.op != KD_OP_CONCAT || ((const kd_concat_attr *)join.attr)->axis != 1 || join.in[1] == 0 ||
        join.in[2] != 0) {
        return KD_OK;
    }
    kdi_node *one = branch_of(g, join.in[0], k), *two = branch_of(g, join.in[1], k);
    if (one == NULL || two == NULL || one == two || one->in[0] != two->in[0] ||
        (recompute && (one->segment != join.segment || two->segment != join.segment))) {
        return KD_OK;
    }
    const kd_conv_separable_attr *a = one->attr, *b = two->attr;
    if (a->stride[0] != b->stride[0] || a->stride[1] != b->stride[1] || a->act != b->act) {
        return KD_OK;
    }
    kd_conv_separable_attr at = *a;
    memcpy(at.pad[1], b->pad[0], sizeof at.pad[1]);
    memcpy(at.dilation[1], b->dilation[0], sizeof at.dilation[1]);
    kdi_node now = *one;
    memcpy(&now.in[5], &two->in[1], 4 * sizeof now.in[0]);
    now.out[0] = join.out[0];
    now.out[2] = two->out[1];
    now.accum = 0;
    one->dead = two->dead = true;
    return kdi_become(g, k, &now, &at, sizeof at);
}
