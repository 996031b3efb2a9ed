/* Rules of forward-only programs: see fuse.c. */
#include "kernels/graph/fuse_internal.h"
#include "kernels/kd_backend.h"
#include "kernels/kd_ops.h"

/* The member of n's attributes that holds a fused activation; NULL: the op has none. */
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

/* Node k writes the output of node j, and j is dropped. */
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
    const int32_t j = kdi_single_reader(g, g->nodes[k].out[0]);
    if (j < 0 || g->nodes[j].op != KD_OP_ACT || !kdi_is_fusable_act(g, j)) {
        return;
    }
    *act = ((const kd_act_attr *)g->nodes[j].attr)->kind;
    take_output(g, k, j);
}

/* Fuse conv2d k with the batchnorm_eval that alone reads it.  *fold: the bn_fold node, which must run before node k. */
static kd_status fold_batchnorm(kd_graph *g, int32_t k, kdi_node *fold, bool *folded)
{
    kdi_node *conv = &g->nodes[k];
    *folded = false;
    if (conv->op != KD_OP_CONV2D || ((const kd_conv2d_attr *)conv->attr)->act != KD_ACT_NONE) {
        return KD_OK;
    }
    const int32_t j = kdi_single_reader(g, conv->out[0]);
    if (j < 0 || g->nodes[j].op != KD_OP_BATCHNORM_EVAL) {
        return KD_OK;
    }
    const kdi_node bn = g->nodes[j];
    const int32_t in[6] = {conv->in[1], conv->n_in > 2 ? conv->in[2] : 0, bn.in[1], bn.in[2], bn.in[3], bn.in[4]};
    kd_spec spec[KD_MAX_OUT];
    KD_TRY(kdi_infer(g, KD_OP_BN_FOLD, in, 6, bn.attr, spec));
    *fold = (kdi_node){.op = KD_OP_BN_FOLD, .n_in = 6, .n_out = 2, .scope = bn.scope};
    memcpy(fold->in, in, sizeof in);
    fold->attr = kdi_attr_add(g, bn.attr, sizeof(kd_batchnorm_attr));
    fold->out[0] = kdi_value_add(g, KDI_NODE, &spec[0]);
    fold->out[1] = kdi_value_add(g, KDI_NODE, &spec[1]);
    if (fold->attr == NULL || fold->out[1] == 0) {
        return KD_E_OOM;
    }
    conv->in[1] = fold->out[0];
    conv->in[2] = fold->out[1];
    conv->n_in = 3;
    ((kd_conv2d_attr *)conv->attr)->has_bias = 1;
    ((kd_conv2d_attr *)conv->attr)->act = ((const kd_batchnorm_attr *)bn.attr)->act;
    take_output(g, k, j);
    *folded = true;
    return KD_OK;
}

kd_status kdi_fuse_eval(kd_graph *g, uint32_t fuses, kd_err *err)
{
    const int32_t n = g->n_nodes;
    kdi_node *folds =
        kd_calloc((size_t)n + 1, sizeof *folds); /* bn_fold nodes; they read leaves alone, so they can run first */
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
    for (int32_t k = 0; k < kept && st == KD_OK && (fuses & KD_FUSE_SEPARABLE) != 0; k++) {
        st = g->nodes[k].dead ? KD_OK : kdi_fuse_separable(g, k, false);
        st = st == KD_OK && !g->nodes[k].dead ? kdi_fuse_branches(g, k, false) : st;
    }
    kdi_sweep(g);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "fusion: out of memory");
}
