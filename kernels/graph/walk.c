/* A program as data: see kd_walk.h. */
#include "kernels/graph/program_internal.h"
#include "kernels/kd_walk.h"

int32_t kd_walk_values(const kd_program *p)
{
    return p->g->n_values;
}

/* The number of the node of a value whose node was dropped is that of another one, or of none. */
static bool by_fixed_node(const kd_program *p, int32_t v)
{
    const int32_t k = p->g->values[v].node;
    bool writes = false;
    for (int32_t o = 0; k < p->g->n_nodes && o < p->g->nodes[k].n_out; o++) {
        writes = writes || p->g->nodes[k].out[o] == v;
    }
    return writes && p->is_static[k];
}

kd_walk_value kd_walk_value_at(const kd_program *p, int32_t v)
{
    const kdi_value *val = &p->g->values[v], *root = &p->g->values[val->root];
    kd_walk_value out = {.spec = val->spec, .name = val->name, .of = val->node};
    switch (val->kind) {
    case KDI_INPUT:
        out.kind = KD_WALK_INPUT;
        break;
    case KDI_CONST:
        out.kind = KD_WALK_CONST;
        break;
    case KDI_PARAM:
    case KDI_BUFFER:
        out.kind = KD_WALK_PARAM;
        out.name = kd_params_at(p->g->opts.params, val->param)->name;
        break;
    case KDI_VIEW:
        out.kind = KD_WALK_VIEW;
        out.of = val->src;
        break;
    default:
        out.kind = KD_WALK_NODE;
    }
    out.fixed = root->kind == KDI_CONST || root->kind == KDI_PARAM || root->kind == KDI_BUFFER ||
                (root->kind == KDI_NODE && by_fixed_node(p, val->root));
    out.data = p->plan_only ? NULL : kdi_address(p, v);
    return out;
}

kd_walk_node kd_walk_node_at(const kd_program *p, int32_t k)
{
    const kdi_node *n = &p->g->nodes[k];
    return (kd_walk_node){.op = n->op,
                          .attr = n->attr,
                          .scope = n->scope,
                          .n_in = n->n_in,
                          .n_out = n->n_out,
                          .in = n->in,
                          .out = n->out,
                          .fixed = p->is_static[k]};
}

void kd_walk_replace(kd_program *p, int32_t k, const kd_kernel_def *def, void *prep)
{
    kd_call *c = &p->calls[k];
    KD_ASSERT(!p->is_static[k] && def->prepare == NULL && def->scratch == NULL && def->release == NULL);
    if (p->defs[k]->release != NULL) {
        p->defs[k]->release(c);
    }
    c->prep = prep;
    p->defs[k] = def;
}
