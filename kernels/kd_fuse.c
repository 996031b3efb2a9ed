/* Peephole rules for forward-only programs.  Each rewrites a few nodes into one with the same meaning; every rule has an
 * A/B test against the unfused program (kd_compile_opts.no_fuse).
 *
 *   conv2d -> batchnorm_eval     bn_fold (computed once per change of the parameters) -> conv2d
 *   conv2d | linear | batchnorm_eval -> act     the producer applies the activation itself
 *
 * A pair is fused only when the second node is the single reader of the first and the value between is no output. */
#include "kernels/kd_graph_internal.h"

#include "kernels/kd_ops.h"

/* The one node that reads value v directly as operand 0, -1 when there are others, views of it, or it is kept. */
static int32_t single_reader(const kd_graph *g, int32_t v)
{
    int32_t reader = -1;
    if (v == 0 || g->values[v].keep) {
        return -1;
    }
    for (int32_t k = 0; k < g->n_nodes; k++) {
        const kdi_node *n = &g->nodes[k];
        for (int i = 0; i < n->n_in && !n->dead; i++) {
            if (n->in[i] == 0 || g->values[n->in[i]].root != v) {
                continue;
            }
            if (reader >= 0 || i != 0 || n->in[i] != v) {
                return -1;
            }
            reader = k;
        }
    }
    return reader;
}

/* Where an op keeps its fused activation; NULL when it has none. */
static int32_t *fused_act(kdi_node *n)
{
    switch (n->op) {
    case KD_OP_CONV2D:
        return &((kd_conv2d_attr *)n->attr)->act;
    case KD_OP_LINEAR:
        return &((kd_linear_attr *)n->attr)->act;
    case KD_OP_BATCHNORM_EVAL:
        return &((kd_batchnorm_attr *)n->attr)->act;
    default:
        return NULL;
    }
}

/* Make node k write what node j wrote, and drop j. */
static void take_output(kd_graph *g, int32_t k, int32_t j)
{
    g->nodes[k].out[0] = g->nodes[j].out[0];
    g->values[g->nodes[k].out[0]].node = k;
    g->nodes[j].dead = true;
}

static void fold_act(kd_graph *g, int32_t k)
{
    int32_t *act = fused_act(&g->nodes[k]);
    if (act == NULL || *act != KD_ACT_NONE) {
        return;
    }
    const int32_t j = single_reader(g, g->nodes[k].out[0]);
    if (j < 0 || g->nodes[j].op != KD_OP_ACT) {
        return;
    }
    *act = ((const kd_act_attr *)g->nodes[j].attr)->kind;
    take_output(g, k, j);
}

/* *fold becomes the bn_fold node that has to run before node k. */
static kd_status fold_batchnorm(kd_graph *g, int32_t k, kdi_node *fold, bool *folded)
{
    kdi_node *conv = &g->nodes[k];
    *folded = false;
    if (conv->op != KD_OP_CONV2D || ((const kd_conv2d_attr *)conv->attr)->act != KD_ACT_NONE) {
        return KD_OK;
    }
    const int32_t j = single_reader(g, conv->out[0]);
    if (j < 0 || g->nodes[j].op != KD_OP_BATCHNORM_EVAL) {
        return KD_OK;
    }
    const kdi_node bn = g->nodes[j];
    const int32_t in[6] = {conv->in[1], conv->n_in > 2 ? conv->in[2] : 0, bn.in[1], bn.in[2], bn.in[3], bn.in[4]};
    kd_spec spec[KD_MAX_OUT];
    KD_TRY(kdi_infer(g, KD_OP_BN_FOLD, in, 6, bn.attr, spec));
    *fold = (kdi_node){.op = KD_OP_BN_FOLD, .n_in = 6, .n_out = 2, .scope = bn.scope};
    memcpy(fold->in, in, sizeof in);
    fold->attr = kd_alloc(sizeof(kd_batchnorm_attr));
    fold->out[0] = kdi_value_add(g, KDI_NODE, &spec[0]);
    fold->out[1] = kdi_value_add(g, KDI_NODE, &spec[1]);
    if (fold->attr == NULL || fold->out[1] == 0) {
        kd_free(fold->attr);
        return KD_E_OOM;
    }
    memcpy(fold->attr, bn.attr, sizeof(kd_batchnorm_attr));
    fold->owns_attr = true;
    conv->in[1] = fold->out[0];
    conv->in[2] = fold->out[1];
    conv->n_in = 3;
    ((kd_conv2d_attr *)conv->attr)->has_bias = 1;
    ((kd_conv2d_attr *)conv->attr)->act = ((const kd_batchnorm_attr *)bn.attr)->act;
    take_output(g, k, j);
    *folded = true;
    return KD_OK;
}

kd_status kdi_fuse(kd_graph *g, kd_err *err)
{
    const int32_t n = g->n_nodes;
    kdi_node *folds = kd_calloc((size_t)n + 1, sizeof *folds); /* bn_fold nodes, all of leaves: they can run first */
    kdi_node *next = kd_calloc(2 * (size_t)n + 1, sizeof *next);
    int32_t n_folds = 0, kept = 0;
    kd_status st = folds != NULL && next != NULL ? KD_OK : KD_E_OOM;
    for (int32_t k = 0; k < n && st == KD_OK; k++) {
        bool folded = false;
        if (!g->nodes[k].dead) {
            st = fold_batchnorm(g, k, &folds[n_folds], &folded);
            n_folds += folded ? 1 : 0;
            fold_act(g, k);
        }
    }
    if (st != KD_OK) {
        kd_free(folds);
        kd_free(next);
        return KD_FAIL(err, st, "fusion: %s", g->err.code != KD_OK ? g->err.msg : "out of memory");
    }
    int32_t f = 0;
    for (int32_t k = 0; k < n; k++) {
        if (g->nodes[k].dead) {
            if (g->nodes[k].owns_attr) {
                kd_free(g->nodes[k].attr);
            }
            continue;
        }
        while (g->nodes[k].op == KD_OP_CONV2D && f < n_folds && folds[f].out[0] == g->nodes[k].in[1]) {
            next[kept++] = folds[f++];
        }
        next[kept++] = g->nodes[k];
    }
    KD_ASSERT(f == n_folds);
    kd_free(g->nodes);
    kd_free(folds);
    g->nodes = next;
    g->n_nodes = kept;
    g->cap_nodes = 2 * n + 1;
    for (int32_t k = 0; k < kept; k++) {
        for (int o = 0; o < next[k].n_out; o++) {
            if (next[k].out[o] != 0) {
                g->values[next[k].out[o]].node = k;
            }
        }
    }
    return KD_OK;
}
