/* Peephole rules.  Each replaces a few nodes by one node with the same meaning.  Every rule has an A/B test against the
 * unfused program (kd_compile_opts.no_fuse).
 *
 * Before backward, where the backend has a kernel (bits of kd_backend.fuses).  Gradients come from the fused op.
 *   add (its branch may end in a dropout of rows) -> layernorm    add_layernorm                    KD_FUSE_NORM
 *   linear -> act, training                                       linear with outputs y and pre    KD_FUSE_ACT
 *   mean over tokens -> layernorm                                 pool_layernorm                   KD_FUSE_POOL
 *   depthwise conv2d -> pointwise conv2d, training                conv_separable                   KD_FUSE_SEPARABLE
 *   concat of two conv_separable of one input, training           conv_separable of two branches   KD_FUSE_SEPARABLE
 *   batchnorm -> act -> dropout -> drop path -> add -> act, each of the five optional, training
 *                                                                 batchnorm                        KD_FUSE_BATCHNORM
 * After backward, where the backend has a kernel:
 *   linear_bwd_x -> act_bwd                                       linear_bwd_x with pre            KD_FUSE_ACT
 *   gradient -> add of another gradient                           gradient with plus               KD_FUSE_SUM
 *   batchnorm -> bn_update                                        batchnorm                        KD_FUSE_BATCHNORM
 * In forward-only programs, on every backend:
 *   conv2d -> batchnorm_eval                     bn_fold (runs once per change of the parameters) -> conv2d
 *   conv2d | linear | batchnorm_eval -> act      the producer applies the activation
 *   then the two rules of KD_FUSE_SEPARABLE
 *
 * A rule does not apply when a value between the fused nodes is an output or has another reader, unless the fused op
 * writes that value too. */
#include "kernels/graph/fuse_internal.h"
#include "kernels/kd_backend.h"
#include "kernels/kd_ops.h"

int32_t kdi_only_reader(const kd_graph *g, int32_t v)
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
            if (reader >= 0 || n->in[i] != v) {
                return -1;
            }
            reader = k;
        }
    }
    return reader;
}

int32_t kdi_single_reader(const kd_graph *g, int32_t v)
{
    const int32_t k = kdi_only_reader(g, v);
    return k >= 0 && g->nodes[k].in[0] == v ? k : -1;
}

bool kdi_is_fusable_act(const kd_graph *g, int32_t k)
{
    const kdi_node *n = &g->nodes[k];
    return (n->op == KD_OP_ACT || n->op == KD_OP_ACT_BWD) && ((const kd_act_attr *)n->attr)->kind <= KD_ACT_LAST_FUSED;
}

bool kdi_is_node(const kd_graph *g, int32_t v)
{
    return v != 0 && g->values[v].kind == KDI_NODE;
}

bool kdi_same_spec(const kd_graph *g, int32_t a, int32_t b)
{
    const kd_spec *x = &g->values[a].spec, *y = &g->values[b].spec;
    return x->dtype == y->dtype && kd_shape_equal(&x->shape, &y->shape);
}

bool kdi_read_by_only(const kd_graph *g, int32_t v, int32_t k)
{
    for (int32_t j = 0; j < g->n_nodes; j++) {
        const kdi_node *n = &g->nodes[j];
        for (int i = 0; i < n->n_in && j != k && !n->dead; i++) {
            if (n->in[i] != 0 && g->values[n->in[i]].root == v) {
                return false;
            }
        }
    }
    return !g->values[v].keep;
}

kd_status kdi_become(kd_graph *g, int32_t k, const kdi_node *now, const void *attr, size_t size)
{
    kdi_node *n = &g->nodes[k];
    void *copy = kdi_attr_add(g, attr, size);
    if (copy == NULL) {
        return KD_E_OOM;
    }
    kdi_node next = *now;
    next.attr = copy;
    next.scope = n->scope;
    next.segment = n->segment;
    next.backward = n->backward;
    *n = next;
    for (int o = 0; o < n->n_out; o++) {
        if (n->out[o] != 0) {
            g->values[n->out[o]].node = k;
        }
    }
    return KD_OK;
}

void kdi_move(kd_graph *g, int32_t from, int32_t to)
{
    const kdi_node moved = g->nodes[from];
    for (int32_t k = from; k <= to; k++) {
        g->nodes[k] = k < to ? g->nodes[k + 1] : moved;
        for (int o = 0; o < g->nodes[k].n_out; o++) {
            if (kdi_is_node(g, g->nodes[k].out[o]) && !g->nodes[k].dead) {
                g->values[g->nodes[k].out[o]].node = k;
            }
        }
    }
}

typedef struct rule {
    uint32_t bit;
    bool trains; /* in training programs only */
    kd_status (*apply)(kd_graph *g, int32_t k, bool recompute);
} rule;

static const rule before[] = {
    {KD_FUSE_NORM, false, kdi_fuse_norm},         {KD_FUSE_ACT, true, kdi_fuse_kept_act},
    {KD_FUSE_POOL, false, kdi_fuse_pool},         {KD_FUSE_SEPARABLE, true, kdi_fuse_separable},
    {KD_FUSE_SEPARABLE, true, kdi_fuse_branches}, {KD_FUSE_BATCHNORM, true, kdi_fuse_batchnorm},
};
static const rule after[] = {
    {KD_FUSE_ACT, true, kdi_fuse_act_bwd},
    {KD_FUSE_SUM, true, kdi_fuse_sum},
    {KD_FUSE_BATCHNORM, true, kdi_fuse_running},
};

/* Try every rule on every live node, in order. */
static kd_status apply(kd_graph *g, const rule *rules, size_t n, uint32_t fuses, bool trains, bool recompute,
                       kd_err *err)
{
    kd_status st = KD_OK;
    for (int32_t k = 0; k < g->n_nodes && st == KD_OK; k++) {
        for (size_t r = 0; r < n && st == KD_OK && !g->nodes[k].dead; r++) {
            if ((fuses & rules[r].bit) != 0 && (trains || !rules[r].trains)) {
                st = rules[r].apply(g, k, recompute);
            }
        }
    }
    kdi_sweep(g);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "fusion: out of memory");
}

kd_status kdi_fuse_before_backward(kd_graph *g, uint32_t fuses, bool trains, bool recompute, kd_err *err)
{
    return apply(g, before, KD_COUNTOF(before), fuses, trains, recompute, err);
}

kd_status kdi_fuse_after_backward(kd_graph *g, uint32_t fuses, kd_err *err)
{
    return apply(g, after, KD_COUNTOF(after), fuses, true, false, err);
}
