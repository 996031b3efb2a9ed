/* Liveness: dead nodes, static nodes, lifetimes of values, operands in place. */
#include "kernels/graph/program_internal.h"

/* ---- dead nodes ------------------------------------------------------------------------------ */

static bool is_pgrad(const kd_graph *g, int32_t v)
{
    return v != 0 && g->values[g->values[v].root].kind == KDI_PGRAD;
}

kd_status kdi_drop_dead(kd_graph *g, kd_val loss)
{
    bool *live = kd_calloc((size_t)g->n_values, sizeof *live);
    if (live == NULL) {
        return KD_E_OOM;
    }
    for (int32_t i = 1; i < g->n_values; i++) {
        live[i] = g->values[i].keep;
    }
    live[g->values[loss.id].root] = true;
    for (int32_t k = g->n_nodes - 1; k >= 0; k--) {
        kdi_node *n = &g->nodes[k];
        bool used = (kd_op_get(n->op)->flags & KD_OP_EFFECT) != 0;
        for (int o = 0; o < n->n_out; o++) {
            used = used || (n->out[o] != 0 && (live[n->out[o]] || is_pgrad(g, n->out[o])));
        }
        n->dead = !used;
        for (int i = 0; i < n->n_in && used; i++) {
            live[g->values[n->in[i]].root] = n->in[i] != 0;
        }
        for (int o = 0; o < n->n_out && used; o++) {
            if (n->out[o] != 0 && !live[n->out[o]] && !is_pgrad(g, n->out[o])) {
                n->out[o] = 0;
            }
        }
    }
    kd_free(live);
    kdi_sweep(g);
    return KD_OK;
}

void kdi_sweep(kd_graph *g)
{
    int32_t kept = 0;
    for (int32_t k = 0; k < g->n_nodes; k++) {
        if (g->nodes[k].dead) {
            continue;
        }
        g->nodes[kept] = g->nodes[k];
        for (int o = 0; o < g->nodes[kept].n_out; o++) {
            const int32_t v = g->nodes[kept].out[o];
            if (v != 0 && g->values[v].kind == KDI_NODE) {
                g->values[v].node = kept;
            }
        }
        kept++;
    }
    g->n_nodes = kept;
}

/* ---- static nodes ---------------------------------------------------------------------------- */

void kdi_mark_static(kd_program *p)
{
    const kd_graph *g = p->g;
    for (int32_t k = 0; k < g->n_nodes; k++) {
        const kdi_node *n = &g->nodes[k];
        bool st = !p->trains && n->n_in > 0 && (kd_op_get(n->op)->flags & KD_OP_EFFECT) == 0;
        for (int i = 0; i < n->n_in; i++) {
            const kdi_value *r = &g->values[g->values[n->in[i]].root];
            const bool from_static = r->kind == KDI_NODE && p->is_static[r->node];
            if (n->in[i] != 0 && r->kind != KDI_CONST && r->kind != KDI_PARAM && r->kind != KDI_BUFFER &&
                !from_static) {
                st = false;
            }
        }
        p->is_static[k] = st;
    }
}

/* ---- lifetimes ------------------------------------------------------------------------------- */

void kdi_lifetimes(kd_program *p, kd_val loss)
{
    kd_graph *g = p->g;
    const int32_t end = g->n_nodes;
    for (int32_t v = 0; v < g->n_values; v++) {
        p->storage[v] = -1;
    }
    for (int32_t v = 1; v < g->n_values; v++) {
        if (g->values[v].kind == KDI_INPUT || g->values[v].kind == KDI_CONST) {
            p->storage[v] = p->n_slots;
            p->slots[p->n_slots++] = (kdi_slot){kd_spec_bytes(&g->values[v].spec), -1, end, 0};
        }
    }
    for (int32_t k = 0; k < g->n_nodes; k++) {
        const kdi_node *n = &g->nodes[k];
        for (int i = 0; i < n->n_in; i++) {
            const int32_t s = p->storage[g->values[n->in[i]].root];
            if (n->in[i] != 0 && s >= 0) {
                p->slots[s].last = KD_MAX(p->slots[s].last, k);
            }
        }
        for (int o = 0; o < n->n_out; o++) {
            const int32_t v = n->out[o];
            if (v == 0 || g->values[v].kind != KDI_NODE) {
                continue;
            }
            const bool forever = g->values[v].keep || v == g->values[loss.id].root || p->is_static[k];
            p->storage[v] = p->n_slots;
            p->slots[p->n_slots++] =
                (kdi_slot){kd_spec_bytes(&g->values[v].spec), p->is_static[k] ? -1 : k, forever ? end : k, 0};
        }
    }
}

void kdi_share_in_place(kd_program *p)
{
    kd_graph *g = p->g;
    for (int32_t k = 0; k < g->n_nodes; k++) {
        const kdi_node *n = &g->nodes[k];
        const int from = kd_op_in_place(kd_op_get(n->op));
        if (from < 0 || from >= n->n_in || n->out[0] == 0 || n->in[from] == 0 || p->is_static[k]) {
            continue;
        }
        const int32_t in = g->values[n->in[from]].root, out = n->out[0];
        const int32_t si = p->storage[in], so = p->storage[out];
        if (g->values[in].kind != KDI_NODE || g->values[out].kind != KDI_NODE || si < 0 || so < 0 || si == so ||
            p->slots[si].last != k || p->slots[si].first < 0 || p->slots[si].bytes != p->slots[so].bytes) {
            continue;
        }
        bool twice = false;
        for (int i = 0; i < n->n_in; i++) {
            twice = twice || (i != from && n->in[i] != 0 && g->values[n->in[i]].root == in);
        }
        if (twice) {
            continue;
        }
        p->slots[si].last = p->slots[so].last;
        p->slots[so].bytes = 0; /* empty: never placed */
        for (int32_t v = 1; v < g->n_values; v++) {
            if (p->storage[v] == so) {
                p->storage[v] = si;
            }
        }
    }
}
