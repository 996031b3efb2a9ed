/* Peephole rules.  Each rewrites a few nodes into one with the same meaning; every rule has an A/B test against the unfused
 * program (kd_compile_opts.no_fuse).
 *
 * Before backward, in every program, what the backend has a kernel for (kd_backend.fuses); gradients come from the fused op:
 *   add (-> dropout of rows before it) -> layernorm     add_layernorm          KD_FUSE_NORM
 *   linear -> act, training                             linear that keeps pre  KD_FUSE_ACT
 *   mean over tokens -> layernorm                       pool_layernorm         KD_FUSE_POOL
 *   conv2d depthwise -> conv2d pointwise                conv_separable         KD_FUSE_SEPARABLE
 *                                                       (forward-only programs: once batch norms are folded)
 * After backward, the same way:
 *   linear_bwd_x -> act_bwd                             linear_bwd_x of pre    KD_FUSE_ACT
 * In forward-only programs, on every backend:
 *   conv2d -> batchnorm_eval     bn_fold (computed once per change of the parameters) -> conv2d
 *   conv2d | linear | batchnorm_eval -> act     the producer applies the activation itself
 *
 * A value between fused nodes that somebody else reads, or that is an output, forbids it, unless the fused op gives it too. */
#include "kernels/kd_graph_internal.h"

#include "kernels/kd_backend.h"

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

/* ---- before and after backward ------------------------------------------------------------------------------------------ */

static bool is_node(const kd_graph *g, int32_t v)
{
    return v != 0 && g->values[v].kind == KDI_NODE;
}

static bool same_spec(const kd_graph *g, int32_t a, int32_t b)
{
    const kd_spec *x = &g->values[a].spec, *y = &g->values[b].spec;
    return x->dtype == y->dtype && kd_shape_equal(&x->shape, &y->shape);
}

/* Is node k the only one that reads v, and v no output? */
static bool read_by_only(const kd_graph *g, int32_t v, int32_t k)
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

/* Node k becomes `now`, which has its own attr of `size` bytes at `attr`; scope and segment stay. */
static kd_status become(kd_graph *g, int32_t k, const kdi_node *now, const void *attr, size_t size)
{
    kdi_node *n = &g->nodes[k];
    void *copy = kd_alloc(size);
    if (copy == NULL) {
        return KD_E_OOM;
    }
    memcpy(copy, attr, size);
    if (n->owns_attr) {
        kd_free(n->attr);
    }
    kdi_node next = *now;
    next.attr = copy;
    next.owns_attr = true;
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

/* The first layernorm that reads v itself, after node k and in its segment (with recompute, a normalisation outside would have
 * to be kept); -1: none. */
static int32_t layernorm_of(const kd_graph *g, int32_t v, int32_t k, bool recompute)
{
    for (int32_t j = k + 1; j < g->n_nodes; j++) {
        const kdi_node *n = &g->nodes[j];
        if (n->op == KD_OP_LAYERNORM && n->in[0] == v && !n->dead) {
            const bool leaves = !is_node(g, g->values[n->in[1]].root) && !is_node(g, g->values[n->in[2]].root);
            return leaves && (!recompute || n->segment == g->nodes[k].segment) ? j : -1;
        }
    }
    return -1;
}

static kd_status fuse_norm(kd_graph *g, int32_t k, bool recompute)
{
    const kdi_node add = g->nodes[k];
    if (add.op != KD_OP_ADD || !is_node(g, add.in[0]) || !is_node(g, add.in[1]) || !same_spec(g, add.in[0], add.in[1])) {
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
    if (drop->op == KD_OP_DROPOUT && ((const kd_dropout_attr *)drop->attr)->per_row && is_node(g, drop->in[0]) &&
        same_spec(g, drop->in[0], branch) && read_by_only(g, branch, k)) {
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
    return become(g, k, &now, &at, sizeof at);
}

/* Training: node k, a linear, applies the activation that is its only reader, and keeps what it was applied to. */
static kd_status fuse_kept_act(kd_graph *g, int32_t k)
{
    const kdi_node linear = g->nodes[k];
    if (linear.op != KD_OP_LINEAR || ((const kd_linear_attr *)linear.attr)->act != KD_ACT_NONE ||
        ((const kd_linear_attr *)linear.attr)->stat_out) {
        return KD_OK;
    }
    const int32_t pre = linear.out[0], j = single_reader(g, pre);
    if (j < 0 || g->nodes[j].op != KD_OP_ACT || g->nodes[j].segment != linear.segment) {
        return KD_OK;
    }
    kd_linear_attr at = *(const kd_linear_attr *)linear.attr;
    at.act = ((const kd_act_attr *)g->nodes[j].attr)->kind;
    kdi_node now = linear;
    now.out[0] = g->nodes[j].out[0];
    now.out[1] = pre;
    g->nodes[j].dead = true;
    return become(g, k, &now, &at, sizeof at);
}

/* Node k, a mean over the tokens of (B,N,C), and the layernorm that is its only reader become one in the latter's place. */
static kd_status fuse_pool(kd_graph *g, int32_t k)
{
    const kdi_node mean = g->nodes[k];
    if (mean.op != KD_OP_REDUCE) {
        return KD_OK;
    }
    const kd_reduce_attr *of = mean.attr;
    const kd_spec x = g->values[mean.in[0]].spec;
    const int32_t j = single_reader(g, mean.out[0]);
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
    return now.out[1] != 0 ? become(g, j, &now, &at, sizeof at) : KD_E_OOM;
}

/* Outputs of the pointwise convolution: with more of them it is worth a pass of its own, on tensor cores. */
enum { SEPARABLE_MOST = 64 };

static bool is_pointwise(const kd_graph *g, const kdi_node *n)
{
    const kd_conv2d_attr *a = n->attr;
    const int64_t *w = g->values[n->in[1]].spec.shape.dim;
    return n->op == KD_OP_CONV2D && a->groups == 1 && w[2] == 1 && w[3] == 1 && a->stride[0] == 1 && a->stride[1] == 1 &&
           a->pad[0] == 0 && a->pad[1] == 0 && a->act == KD_ACT_NONE && w[0] <= SEPARABLE_MOST;
}

/* Node k, a depthwise convolution, and the pointwise one that is its only reader become one in the latter's place. */
static kd_status fuse_separable(kd_graph *g, int32_t k, bool recompute)
{
    const kdi_node deep = g->nodes[k];
    const kd_conv2d_attr *a = deep.attr;
    if (deep.op != KD_OP_CONV2D || g->values[deep.in[0]].spec.shape.dim[1] != a->groups ||
        g->values[deep.in[1]].spec.shape.dim[0] != a->groups) {
        return KD_OK;
    }
    const int32_t j = single_reader(g, deep.out[0]);
    if (j < 0 || !is_pointwise(g, &g->nodes[j]) || (recompute && g->nodes[j].segment != deep.segment)) {
        return KD_OK;
    }
    const kdi_node *point = &g->nodes[j];
    const kdi_node now = {.op = KD_OP_CONV_SEPARABLE,
                          .n_in = 5,
                          .n_out = 2,
                          .in = {deep.in[0], deep.in[1], deep.n_in > 2 ? deep.in[2] : 0, point->in[1],
                                 point->n_in > 2 ? point->in[2] : 0},
                          .out = {point->out[0], deep.out[0]}};
    const kd_conv_separable_attr at = {.stride = {a->stride[0], a->stride[1]},
                                       .pad = {a->pad[0], a->pad[1]},
                                       .dilation = {a->dilation[0], a->dilation[1]},
                                       .act = a->act};
    g->nodes[k].dead = true;
    return become(g, j, &now, &at, sizeof at);
}

/* Node k, a linear_bwd_x, and the act_bwd that is its only reader become one in the latter's place. */
static kd_status fuse_act_bwd(kd_graph *g, int32_t k)
{
    const kdi_node product = g->nodes[k];
    if (product.op != KD_OP_LINEAR_BWD_X || g->values[product.out[0]].kind != KDI_NODE) {
        return KD_OK;
    }
    for (int32_t j = k + 1; j < g->n_nodes; j++) {
        const kdi_node act = g->nodes[j];
        if (act.op != KD_OP_ACT_BWD || act.dead || act.in[1] != product.out[0]) {
            continue;
        }
        if (!read_by_only(g, product.out[0], j) || !same_spec(g, act.in[0], product.out[0])) {
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
        return become(g, j, &now, &at, sizeof at);
    }
    return KD_OK;
}

/* Dead nodes leave. */
static void sweep(kd_graph *g)
{
    int32_t kept = 0;
    for (int32_t k = 0; k < g->n_nodes; k++) {
        if (g->nodes[k].dead) {
            if (g->nodes[k].owns_attr) {
                kd_free(g->nodes[k].attr);
            }
            continue;
        }
        g->nodes[kept] = g->nodes[k];
        for (int o = 0; o < g->nodes[kept].n_out; o++) {
            const int32_t v = g->nodes[kept].out[o];
            if (is_node(g, v)) {
                g->values[v].node = kept;
            }
        }
        kept++;
    }
    g->n_nodes = kept;
}

kd_status kdi_fuse_forward(kd_graph *g, uint32_t fuses, bool trains, bool recompute, kd_err *err)
{
    kd_status st = KD_OK;
    for (int32_t k = 0; k < g->n_nodes && st == KD_OK; k++) {
        if ((fuses & KD_FUSE_NORM) != 0 && !g->nodes[k].dead) {
            st = fuse_norm(g, k, recompute);
        }
        if ((fuses & KD_FUSE_ACT) != 0 && trains && st == KD_OK && !g->nodes[k].dead) {
            st = fuse_kept_act(g, k);
        }
        if ((fuses & KD_FUSE_POOL) != 0 && st == KD_OK && !g->nodes[k].dead) {
            st = fuse_pool(g, k);
        }
        if ((fuses & KD_FUSE_SEPARABLE) != 0 && trains && st == KD_OK && !g->nodes[k].dead) {
            st = fuse_separable(g, k, recompute);
        }
    }
    sweep(g);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "fusion: out of memory");
}

kd_status kdi_fuse_backward(kd_graph *g, uint32_t fuses, kd_err *err)
{
    kd_status st = KD_OK;
    for (int32_t k = 0; k < g->n_nodes && st == KD_OK && (fuses & KD_FUSE_ACT) != 0; k++) {
        st = g->nodes[k].dead ? KD_OK : fuse_act_bwd(g, k);
    }
    sweep(g);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "fusion: out of memory");
}

/* ---- forward-only ------------------------------------------------------------------------------------------------------- */

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

kd_status kdi_fuse(kd_graph *g, uint32_t fuses, kd_err *err)
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
    for (int32_t k = 0; k < kept && st == KD_OK && (fuses & KD_FUSE_SEPARABLE) != 0; k++) {
        st = g->nodes[k].dead ? KD_OK : fuse_separable(g, k, false);
    }
    sweep(g);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "fusion: out of memory");
}
