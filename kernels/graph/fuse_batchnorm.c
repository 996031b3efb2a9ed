/* Rules of batch norms in training: see fuse.c. */
#include "kernels/graph/fuse_internal.h"
#include "kernels/kd_ops.h"

/* Stages of the chain after a batch norm, in their order.  Each may be missing. */
typedef enum bn_stage { BN_AFFINE, BN_ACT, BN_DROP, BN_PATH, BN_ADD, BN_OUT } bn_stage;

typedef struct bn_chain {
    kd_batchnorm_attr at;
    int32_t last;     /* last node of the chain: the fused node replaces it */
    int32_t links[5]; /* the nodes after the batch norm */
    int n;
    bn_stage stage;   /* of the last node */
    int32_t residual; /* value, 0: none */
} bn_chain;

/* The node that alone reads the output of the chain's last node, as any operand; -1: none.  With recompute, only in the
 * same segment. */
static int32_t next_link(const kd_graph *g, const bn_chain *c, bool recompute)
{
    const int32_t j = kdi_only_reader(g, g->nodes[c->last].out[0]);
    const bool same = j >= 0 && g->nodes[j].segment == g->nodes[c->last].segment;
    return j >= 0 && (same || !recompute) ? j : -1;
}

static void take_link(bn_chain *c, int32_t j, bn_stage stage)
{
    c->links[c->n++] = c->last = j;
    c->stage = stage;
}

/* The chain of batch norm k up to the add: activation, dropout, drop path. */
static bn_chain chain_before_add(const kd_graph *g, int32_t k, bool recompute)
{
    const kdi_node *bn = &g->nodes[k];
    bn_chain c = {.at = *(const kd_batchnorm_attr *)bn->attr, .last = k, .residual = bn->in[3]};
    c.stage = c.at.act_out != KD_ACT_NONE ? BN_OUT
              : c.residual != 0           ? BN_ADD
              : c.at.path_p > 0.0f        ? BN_PATH
              : c.at.p > 0.0f             ? BN_DROP
              : c.at.act != KD_ACT_NONE   ? BN_ACT
                                          : BN_AFFINE;
    for (int32_t j; c.stage < BN_PATH && (j = next_link(g, &c, recompute)) >= 0;) {
        const kdi_node *n = &g->nodes[j];
        if (n->op == KD_OP_ACT && kdi_is_fusable_act(g, j) && c.stage < BN_ACT) {
            c.at.act = ((const kd_act_attr *)n->attr)->kind;
            take_link(&c, j, BN_ACT);
            continue;
        }
        const kd_dropout_attr *drop = n->attr;
        if (n->op == KD_OP_DROPOUT && drop->per_row) {
            c.at.path_p = drop->p;
            c.at.path_rng_id = drop->rng_id;
            take_link(&c, j, BN_PATH);
        } else if (n->op == KD_OP_DROPOUT && c.stage < BN_DROP) {
            c.at.p = drop->p;
            c.at.rng_id = drop->rng_id;
            take_link(&c, j, BN_DROP);
        } else {
            break;
        }
    }
    return c;
}

/* If value v ends the chain of a batch norm that node `add` alone reads, the stage of that chain; else BN_AFFINE - 1.
 * */
static int stage_before(const kd_graph *g, int32_t v, int32_t add, bool recompute)
{
    for (int32_t w = v; kdi_is_node(g, w);) {
        const int32_t k = g->values[w].node;
        const kdi_node *n = &g->nodes[k];
        if (n->op == KD_OP_BATCHNORM && n->out[0] == w) {
            const bn_chain c = chain_before_add(g, k, recompute);
            const bool can = g->nodes[c.last].out[0] == v && c.stage < BN_ADD && next_link(g, &c, recompute) == add;
            return can ? (int)c.stage : BN_AFFINE - 1;
        }
        if (n->op != KD_OP_ACT && n->op != KD_OP_DROPOUT) {
            break;
        }
        w = n->in[0];
    }
    return BN_AFFINE - 1;
}

/* Append the add to the chain.  If both inputs of an add are batch norms, fuse the add into the longer chain. */
static void link_add(const kd_graph *g, bn_chain *c, bool recompute)
{
    const int32_t j = c->stage < BN_ADD ? next_link(g, c, recompute) : -1;
    if (j < 0 || g->nodes[j].op != KD_OP_ADD) {
        return;
    }
    const kdi_node *add = &g->nodes[j];
    const int32_t v = g->nodes[c->last].out[0], other = add->in[0] == v ? add->in[1] : add->in[0];
    if (stage_before(g, other, j, recompute) <= (int)c->stage && kdi_same_spec(g, v, other)) {
        c->residual = other;
        take_link(c, j, BN_ADD);
    }
}

/* True if no node between k and `last` reads the statistics of batch norm k, bn_update excepted.  With `really`, move
 * each such bn_update after `last`. */
static bool statistics_can_wait(kd_graph *g, int32_t k, int32_t last, bool really)
{
    const int32_t mean = g->nodes[k].out[1], var = g->nodes[k].out[2];
    for (int32_t j = k + 1; j < last; j++) {
        const kdi_node *n = &g->nodes[j];
        bool reads = false;
        for (int i = 0; i < n->n_in && !n->dead; i++) {
            const int32_t root = g->values[n->in[i]].root;
            reads = reads || (n->in[i] != 0 && (root == mean || root == var));
        }
        if (reads && n->op != KD_OP_BN_UPDATE) {
            return false;
        }
        if (reads && really) {
            kdi_move(g, j--, last--);
        }
    }
    return true;
}

/* Training: fuse batch norm k with the single-reader nodes that follow it; the fused node replaces the last one. */
kd_status kdi_fuse_batchnorm(kd_graph *g, int32_t k, bool recompute)
{
    const kdi_node bn = g->nodes[k];
    if (bn.op != KD_OP_BATCHNORM) {
        return KD_OK;
    }
    bn_chain c = chain_before_add(g, k, recompute);
    link_add(g, &c, recompute);
    const int32_t j = c.stage < BN_OUT ? next_link(g, &c, recompute) : -1;
    if (j >= 0 && c.stage != BN_AFFINE && g->nodes[j].op == KD_OP_ACT && kdi_is_fusable_act(g, j)) {
        c.at.act_out = ((const kd_act_attr *)g->nodes[j].attr)->kind;
        take_link(&c, j, BN_OUT);
    }
    if (c.n == 0 || !statistics_can_wait(g, k, c.last, false)) {
        return KD_OK;
    }
    kdi_node now = bn;
    now.in[3] = c.residual;
    now.out[0] = g->nodes[c.last].out[0];
    for (int i = 0; i < c.n - 1; i++) {
        g->nodes[c.links[i]].dead = true;
    }
    g->nodes[k].dead = true;
    KD_TRY(kdi_become(g, c.last, &now, &c.at, sizeof c.at));
    (void)statistics_can_wait(g, k, c.last, true);
    return KD_OK;
}

/* ---- running statistics ---------------------------------------------------------------------- */

/* Fuse bn_update k into the batch norm whose statistics it reads.  This rule runs after backward, because a batch norm
 * with running statistics must neither be dropped nor run again by recomputation: by then dead nodes are gone, and
 * clones have operands of their own. */
kd_status kdi_fuse_running(kd_graph *g, int32_t k, bool recompute)
{
    (void)recompute;
    kdi_node *update = &g->nodes[k];
    if (update->op != KD_OP_BN_UPDATE || !kdi_is_node(g, update->in[0]) || !kdi_is_node(g, update->in[1])) {
        return KD_OK;
    }
    kdi_node *bn = &g->nodes[g->values[update->in[0]].node];
    if (bn->op != KD_OP_BATCHNORM || bn->backward || bn->out[1] != update->in[0] || bn->out[2] != update->in[1] ||
        bn->in[4] != 0) {
        return KD_OK;
    }
    const kd_batchnorm_attr *of = update->attr;
    kd_batchnorm_attr *at = bn->attr; /* shared with a clone that recomputes, which has no running statistics */
    at->momentum = of->momentum;
    at->count = of->count;
    bn->in[4] = update->in[2];
    bn->in[5] = update->in[3];
    update->dead = true;
    return KD_OK;
}
