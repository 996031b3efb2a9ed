/* Rules after backward: see kd_fuse.c. */
#include "kernels/kd_fuse_internal.h"
#include "kernels/kd_ops.h"

/* Node k, a linear_bwd_x, and the act_bwd that is its only reader become one in the latter's place. */
kd_status kdi_fuse_act_bwd(kd_graph *g, int32_t k, bool recompute)
{
    (void)recompute;
    const kdi_node product = g->nodes[k];
    if (product.op != KD_OP_LINEAR_BWD_X || g->values[product.out[0]].kind != KDI_NODE) {
        return KD_OK;
    }
    for (int32_t j = k + 1; j < g->n_nodes; j++) {
        const kdi_node act = g->nodes[j];
        if (act.op != KD_OP_ACT_BWD || act.dead || act.in[1] != product.out[0]) {
            continue;
        }
        if (!kdi_read_by_only(g, product.out[0], j) ||
            !kdi_same_spec(g, act.in[0], product.out[0])) {
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
