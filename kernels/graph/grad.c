/* Backward: walk the forward nodes in reverse, call each op's gradient rule, sum fan-out, clone what is recomputed. */
#include "kernels/graph/graph_internal.h"
#include "kernels/kd_ops.h"

#include <stdio.h>

struct kd_grad_ctx {
    kd_graph *g;
    int32_t n_forward; /* nodes before backward */
    int32_t *dgrad;    /* gradient value of each forward root value, 0: none yet */
    int32_t *clone;    /* recompute: forward value -> clone, 0: itself */
    int32_t n_map;     /* values that exist when backward starts */
    int32_t *pgrad;    /* KDI_PGRAD value of each parameter, 0: not made */
    int32_t node;      /* node whose rule runs */
    int32_t cloned_segment;
};

/* ---- what needs a gradient ------------------------------------------------------------------- */

/* Root that a gradient of value v reaches, 0 when a detach is in between. */
static int32_t reach(const kd_graph *g, int32_t v)
{
    while (g->values[v].kind == KDI_VIEW) {
        if (g->values[v].detached) {
            return 0;
        }
        v = g->values[v].src;
    }
    return v;
}

static bool wants(const kd_graph *g, int32_t v)
{
    const int32_t r = reach(g, v);
    return r != 0 && g->values[r].needs_grad;
}

static void mark_needs(kd_graph *g, const kd_val *inputs, int n)
{
    for (int32_t i = 1; i < g->n_values; i++) {
        kdi_value *v = &g->values[i];
        v->needs_grad = v->kind == KDI_PARAM && (kd_params_at(g->opts.params, v->param)->flags & KD_PARAM_FROZEN) == 0;
    }
    for (int i = 0; i < n; i++) {
        g->values[g->values[inputs[i].id].root].needs_grad = true;
    }
    for (int32_t k = 0; k < g->n_nodes; k++) {
        const kdi_node *nd = &g->nodes[k];
        bool need = false;
        if ((kd_op_get(nd->op)->flags & KD_OP_NODIFF) == 0) {
            for (int i = 0; i < nd->n_in; i++) {
                need = need || wants(g, nd->in[i]);
            }
        }
        for (int o = 0; o < nd->n_out; o++) {
            g->values[nd->out[o]].needs_grad = need && nd->out[o] != 0;
        }
    }
}

/* ---- recompute ------------------------------------------------------------------------------- */

static int32_t cloned(kd_grad_ctx *c, int32_t v)
{
    if (v >= c->n_map || c->clone == NULL) {
        return v;
    }
    if (c->clone[v] != 0) {
        return c->clone[v];
    }
    const kdi_value val = c->g->values[v];
    if (val.kind == KDI_VIEW) {
        const int32_t src = cloned(c, val.src);
        if (src != val.src) {
            c->clone[v] = kdi_view_add(c->g, src, &val.spec.shape, val.detached);
            return c->clone[v];
        }
    }
    return v;
}

static kd_status clone_segment(kd_grad_ctx *c, int32_t segment)
{
    kd_graph *g = c->g;
    for (int32_t k = 0; k < c->n_forward; k++) {
        kdi_node n = g->nodes[k];
        if (n.segment != segment || (kd_op_get(n.op)->flags & KD_OP_EFFECT) != 0) {
            continue;
        }
        n.backward = true;
        n.segment = 0;
        for (int i = 0; i < n.n_in; i++) {
            n.in[i] = cloned(c, n.in[i]);
        }
        for (int o = 0; o < n.n_out; o++) {
            if (n.out[o] == 0) {
                continue;
            }
            const kd_spec spec = g->values[n.out[o]].spec;
            const int32_t id = kdi_value_add(g, KDI_NODE, &spec);
            g->values[id].node = g->n_nodes;
            c->clone[n.out[o]] = id;
            n.out[o] = id;
        }
        if (kdi_node_add(g, &n) < 0) {
            return KD_E_OOM;
        }
    }
    c->cloned_segment = segment;
    return KD_OK;
}

/* ---- accumulation ---------------------------------------------------------------------------- */

static int32_t param_slot(kd_grad_ctx *c, int32_t root, const kd_shape *shape)
{
    kd_graph *g = c->g;
    const int32_t p = g->values[root].param;
    if (c->pgrad[p] == 0) {
        const kd_spec spec = {kd_stat_dtype(g->opts.dtype), g->values[root].spec.shape};
        c->pgrad[p] = kdi_value_add(g, KDI_PGRAD, &spec);
        g->values[c->pgrad[p]].param = p;
    }
    return kd_shape_equal(shape, &g->values[c->pgrad[p]].spec.shape) ? c->pgrad[p]
                                                                     : kdi_view_add(g, c->pgrad[p], shape, false);
}

/* Add gradient value d (shape of v) to what v's root has so far. */
static void add_grad(kd_grad_ctx *c, int32_t v, int32_t d)
{
    kd_graph *g = c->g;
    const int32_t root = reach(g, v);
    const kd_shape shape = g->values[root].spec.shape;
    kd_val grad = {d};
    if (!kd_shape_equal(&shape, &g->values[d].spec.shape)) {
        grad.id = kdi_view_add(g, d, &shape, false);
    }
    if (c->dgrad[root] != 0) {
        grad = kd_node2(g, KD_OP_ADD, NULL, (kd_val){c->dgrad[root]}, grad);
    }
    c->dgrad[root] = grad.id;
}

/* ---- the interface of the rules -------------------------------------------------------------- */

kd_val kd_grad_in(kd_grad_ctx *c, int i)
{
    const kdi_node *n = &c->g->nodes[c->node];
    return (kd_val){i < n->n_in ? cloned(c, n->in[i]) : 0};
}

kd_val kd_grad_out(kd_grad_ctx *c, int i)
{
    return (kd_val){cloned(c, c->g->nodes[c->node].out[i])};
}

kd_val kd_grad_dout(kd_grad_ctx *c, int i)
{
    return (kd_val){c->dgrad[c->g->nodes[c->node].out[i]]};
}

const void *kd_grad_attr(kd_grad_ctx *c)
{
    return c->g->nodes[c->node].attr;
}

bool kd_grad_wants(kd_grad_ctx *c, int i)
{
    const kdi_node *n = &c->g->nodes[c->node];
    return i < n->n_in && n->in[i] != 0 && wants(c->g, n->in[i]);
}

kd_graph *kd_grad_graph(kd_grad_ctx *c)
{
    return c->g;
}

/* Does node k add to the slot of parameter `root` already?  A kernel may fill its outputs in any order, or at once. */
static bool writes_slot(const kd_grad_ctx *c, int32_t k, int32_t root)
{
    const kd_graph *g = c->g;
    const kdi_node *n = &g->nodes[k];
    for (int o = 0; o < n->n_out; o++) {
        const kdi_value *r = &g->values[g->values[n->out[o]].root];
        if (n->out[o] != 0 && r->kind == KDI_PGRAD && r->param == g->values[root].param) {
            return true;
        }
    }
    return false;
}

kd_val kd_grad_emit(kd_grad_ctx *c, kd_op op, const void *attr, const kd_val *in, int n_in, const int *grad_of,
                    int n_out)
{
    kd_graph *g = c->g;
    bool any = false;
    for (int o = 0; o < n_out; o++) {
        any = any || (grad_of[o] >= 0 && kd_grad_wants(c, grad_of[o]));
    }
    if (!any || g->err.code != KD_OK) {
        return KD_NONE;
    }
    kd_val outs[KD_MAX_OUT] = {{0}};
    const int32_t k = g->n_nodes;
    (void)kd_node(g, op, attr, in, n_in, outs);
    if (g->err.code != KD_OK) {
        return KD_NONE;
    }
    for (int o = 0; o < n_out; o++) {
        const int32_t made = outs[o].id;
        if (made == 0) {
            continue;
        }
        if (grad_of[o] < 0 || !kd_grad_wants(c, grad_of[o])) {
            if (grad_of[o] >= 0) {
                g->nodes[k].out[o] = 0; /* no gradient is needed: the kernel sees no data */
            }
            continue;
        }
        const int32_t target = g->nodes[c->node].in[grad_of[o]];
        const int32_t root = reach(g, target);
        if (g->values[root].kind == KDI_PARAM) {
            const kd_shape shape = g->values[made].spec.shape;
            if (g->values[made].spec.dtype != kd_stat_dtype(g->opts.dtype) || writes_slot(c, k, root)) {
                const kd_cast_attr cast = {(int32_t)kd_stat_dtype(g->opts.dtype)};
                (void)kd_node1(g, KD_OP_CAST, &cast, outs[o]);
                const int32_t cn = g->n_nodes - 1;
                g->nodes[cn].out[0] = param_slot(c, root, &shape);
                g->nodes[cn].accum = 1;
                continue;
            }
            g->nodes[k].out[o] = param_slot(c, root, &shape);
            g->nodes[k].accum |= 1u << o;
        } else {
            add_grad(c, target, made);
        }
    }
    return outs[0];
}

void kd_grad_pass(kd_grad_ctx *c, int i, kd_val value)
{
    kd_graph *g = c->g;
    if (!kd_grad_wants(c, i) || value.id == 0 || g->err.code != KD_OK) {
        return;
    }
    const int32_t target = g->nodes[c->node].in[i];
    const int32_t root = reach(g, target);
    if (g->values[root].kind != KDI_PARAM) {
        add_grad(c, target, value.id);
        return;
    }
    const kd_cast_attr cast = {(int32_t)kd_stat_dtype(g->opts.dtype)};
    const kd_shape shape = g->values[value.id].spec.shape;
    (void)kd_node1(g, KD_OP_CAST, &cast, value);
    if (g->err.code == KD_OK) {
        g->nodes[g->n_nodes - 1].out[0] = param_slot(c, root, &shape);
        g->nodes[g->n_nodes - 1].accum = 1;
    }
}

/* ---- the walk -------------------------------------------------------------------------------- */

static kd_status visit(kd_grad_ctx *c, int32_t k, bool recompute)
{
    kd_graph *g = c->g;
    const kdi_node n = g->nodes[k];
    bool live = false;
    bool needed = false;
    for (int o = 0; o < n.n_out; o++) {
        live = live || c->dgrad[n.out[o]] != 0;
    }
    for (int i = 0; i < n.n_in; i++) {
        needed = needed || wants(g, n.in[i]);
    }
    const kd_op_def *def = kd_op_get(n.op);
    if (!live || !needed || (def->flags & KD_OP_NODIFF) != 0) {
        return KD_OK;
    }
    (void)snprintf(g->scope, sizeof g->scope, "%s", n.scope);
    if (def->grad == NULL) {
        kd_graph_fail(g, KD_E_UNSUPPORTED, "op %s has no gradient", def->name);
        return g->err.code;
    }
    if (recompute && n.segment != 0 && n.segment != c->cloned_segment) {
        KD_TRY(clone_segment(c, n.segment));
    }
    c->node = k;
    const kd_status st = def->grad(c);
    return st != KD_OK ? st : g->err.code;
}

kd_status kdi_backward(kd_graph *g, kd_val loss, const kd_val *grad_inputs, int n, bool recompute, kd_err *err)
{
    kd_grad_ctx c = {.g = g, .n_forward = g->n_nodes, .n_map = g->n_values};
    kd_status st = KD_E_OOM;
    const kd_spec loss_spec = kd_spec_of(g, loss);
    if (kd_shape_numel(&loss_spec.shape) != 1) {
        return KD_FAIL(err, KD_E_SHAPE, "backward: the loss must be a scalar");
    }
    c.dgrad = kd_calloc((size_t)g->n_values, sizeof *c.dgrad);
    c.clone = kd_calloc((size_t)g->n_values, sizeof *c.clone);
    c.pgrad = kd_calloc((size_t)kd_params_count(g->opts.params) + 1, sizeof *c.pgrad);
    if (c.dgrad == NULL || c.clone == NULL || c.pgrad == NULL) {
        goto done;
    }
    mark_needs(g, grad_inputs, n);
    g->in_backward = true;
    g->segment = 0;
    g->scope[0] = '\0';
    const kd_grad_seed_attr seed = {(int32_t)loss_spec.dtype};
    const kd_val one = kd_node(g, KD_OP_GRAD_SEED, &seed, NULL, 0, NULL);
    if (g->err.code == KD_OK) {
        add_grad(&c, loss.id, one.id);
    }
    st = g->err.code;
    for (int32_t k = c.n_forward - 1; k >= 0 && st == KD_OK; k--) {
        st = visit(&c, k, recompute);
    }
    g->scope[0] = '\0';
    for (int i = 0; i < n && st == KD_OK; i++) {
        const int32_t root = g->values[grad_inputs[i].id].root;
        if (c.dgrad[root] == 0) {
            st = KD_FAIL(err, KD_E_ARG, "the loss does not depend on input %s", g->values[root].name);
            break;
        }
        char name[128];
        (void)snprintf(name, sizeof name, "grad:%s", g->values[root].name);
        kd_output(g, name, (kd_val){c.dgrad[root]});
    }
done:
    if (st != KD_OK && err != NULL && err->code == KD_OK) {
        (void)KD_FAIL(err, st, "%s", g->err.code != KD_OK ? g->err.msg : "backward: out of memory");
    }
    kd_free(c.dgrad);
    kd_free(c.clone);
    kd_free(c.pgrad);
    return st;
}
