/* Looking at a program: listing, plan check, per-node timing, work count, debug scan. */
#include "kernels/graph/program_internal.h"
#include "kernels/kd_ops.h"

#include <math.h>

/* ---- listing --------------------------------------------------------------------------------- */

static void print_operand(const kd_program *p, int32_t v, FILE *f)
{
    const kd_graph *g = p->g;
    char shape[KD_SHAPE_TEXT_MAX];
    if (v == 0) {
        (void)fprintf(f, " -");
        return;
    }
    const kdi_value *r = &g->values[g->values[v].root];
    (void)kd_shape_text(&g->values[v].spec.shape, shape, sizeof shape);
    switch (r->kind) {
    case KDI_PARAM:
    case KDI_BUFFER:
        (void)fprintf(f, " %s%s", kd_params_at(g->opts.params, r->param)->name, shape);
        break;
    case KDI_PGRAD:
        (void)fprintf(f, " d:%s%s", kd_params_at(g->opts.params, r->param)->name, shape);
        break;
    case KDI_INPUT:
    case KDI_CONST:
        (void)fprintf(f, " %s%s", r->name, shape);
        break;
    default:
        (void)fprintf(f, " %%%d%s", (int)r->node, shape);
        for (int o = 1; o < g->nodes[r->node].n_out; o++) {
            if (g->nodes[r->node].out[o] == g->values[v].root) {
                (void)fprintf(f, ".%d", o);
            }
        }
    }
}

void kd_program_dump(const kd_program *p, FILE *f)
{
    const kd_graph *g = p->g;
    (void)fprintf(f, "# %d nodes, %s, arena %zu bytes (%zu without reuse)\n", (int)g->n_nodes,
                  p->trains ? "forward and backward" : "forward", p->arena_bytes, p->sum_bytes);
    (void)fprintf(f,
                  "# node: scope op <- operands -> results @offset[first,last]; s static, b backward, + accumulates\n");
    for (int32_t k = 0; k < g->n_nodes; k++) {
        const kdi_node *n = &g->nodes[k];
        (void)fprintf(f, "%%%d%s%s: %s %s <-", (int)k, p->is_static[k] ? "s" : "", n->backward ? "b" : "",
                      n->scope[0] != '\0' ? n->scope : ".", kd_op_get(n->op)->name);
        for (int i = 0; i < n->n_in; i++) {
            print_operand(p, n->in[i], f);
        }
        (void)fprintf(f, " ->");
        for (int o = 0; o < n->n_out; o++) {
            const int32_t v = n->out[o];
            print_operand(p, v, f);
            if ((n->accum >> o) & 1u) {
                (void)fprintf(f, "+");
            } else if (v != 0 && p->storage[v] >= 0) {
                const kdi_slot *s = &p->slots[p->storage[v]];
                (void)fprintf(f, " %s@%zu[%d,%d]", kd_dtype_name(g->values[v].spec.dtype), s->offset, (int)s->first,
                              (int)s->last);
            }
        }
        (void)fprintf(f, "\n");
    }
}

/* ---- independent plan check ------------------------------------------------------------------ */

/* Re-derives lifetimes from the final node list alone and compares byte ranges pairwise. */
kd_status kd_program_check_plan(const kd_program *p, kd_err *err)
{
    const kd_graph *g = p->g;
    int32_t *first = kd_calloc((size_t)g->n_values, sizeof *first);
    int32_t *last = kd_calloc((size_t)g->n_values, sizeof *last);
    kd_status st = first != NULL && last != NULL ? KD_OK : KD_E_OOM;
    for (int32_t v = 0; v < g->n_values && st == KD_OK; v++) {
        first[v] = last[v] = -2;
        if (g->values[v].kind == KDI_INPUT || g->values[v].kind == KDI_CONST) {
            first[v] = -1;
            last[v] = g->n_nodes;
        }
    }
    for (int32_t k = 0; k < g->n_nodes && st == KD_OK; k++) {
        const kdi_node *n = &g->nodes[k];
        for (int i = 0; i < n->n_in; i++) {
            const int32_t r = g->values[n->in[i]].root;
            if (g->values[r].kind == KDI_NODE && first[r] == -2) {
                st = KD_FAIL(err, KD_E_STATE, "plan: node %d reads a value before it is written", (int)k);
            }
            last[r] = KD_MAX(last[r], k);
        }
        for (int o = 0; o < n->n_out; o++) {
            const int32_t v = n->out[o];
            if (v != 0 && g->values[v].kind == KDI_NODE) {
                first[v] = p->is_static[k] ? -1 : k;
                last[v] = g->values[v].keep || p->is_static[k] ? g->n_nodes : KD_MAX(last[v], k);
            }
        }
    }
    for (int32_t a = 1; a < g->n_values && st == KD_OK; a++) {
        for (int32_t b = 1; b < a && st == KD_OK; b++) {
            if (p->storage[a] < 0 || p->storage[b] < 0 || first[a] == -2 || first[b] == -2) {
                continue;
            }
            const kdi_slot *x = &p->slots[p->storage[a]], *y = &p->slots[p->storage[b]];
            const size_t nx = kd_spec_bytes(&g->values[a].spec), ny = kd_spec_bytes(&g->values[b].spec);
            const bool bytes = x->offset < y->offset + ny && y->offset < x->offset + nx && nx != 0 && ny != 0;
            const bool handed_over = x == y && (first[a] == last[b] || first[b] == last[a]); /* in place */
            if (bytes && first[a] <= last[b] && first[b] <= last[a] && !handed_over) {
                st = KD_FAIL(err, KD_E_STATE, "plan: values of nodes %d and %d are alive together at the same bytes",
                             (int)g->values[a].node, (int)g->values[b].node);
            }
        }
    }
    kd_free(first);
    kd_free(last);
    return st;
}

/* ---- work ------------------------------------------------------------------------------------ */

int64_t kd_program_macs(const kd_program *p)
{
    int64_t macs = 0;
    for (int32_t k = 0; k < p->g->n_nodes; k++) {
        const kd_op_def *def = kd_op_get(p->g->nodes[k].op);
        macs += def->macs != NULL && !p->is_static[k] ? def->macs(&p->calls[k]) : 0;
    }
    return macs;
}

size_t kd_program_operand_bytes(const kd_program *p)
{
    const kd_graph *g = p->g;
    size_t bytes = 0;
    for (int32_t k = 0; k < g->n_nodes; k++) {
        const kdi_node *n = &g->nodes[k];
        for (int i = 0; i < n->n_in; i++) {
            bytes += n->in[i] != 0 ? kd_spec_bytes(&g->values[n->in[i]].spec) : 0;
        }
        for (int o = 0; o < n->n_out; o++) {
            bytes += n->out[o] != 0 ? kd_spec_bytes(&g->values[n->out[o]].spec) : 0;
        }
    }
    return bytes;
}

const char *kd_program_node_name(const kd_program *p, int i)
{
    kd_program *w = (kd_program *)(uintptr_t)p; /* text is scratch space of the program */
    const kdi_node *n = &p->g->nodes[i];
    (void)snprintf(w->text, sizeof w->text, "%s%s%s", n->scope, n->scope[0] != '\0' ? " " : "", kd_op_get(n->op)->name);
    return w->text;
}

const char *kd_program_where(const kd_program *p)
{
    return kd_program_node_name(p, p->at);
}

/* ---- debug scan ------------------------------------------------------------------------------ */

bool kdi_finite_outputs(kd_program *p, int32_t k)
{
    const kd_call *c = &p->calls[k];
    bool finite = true;
    for (int o = 0; o < c->n_out && finite; o++) {
        const kd_tensor *t = &c->out[o];
        const int64_t n = t->data == NULL ? 0 : kd_shape_numel(&t->shape);
        const size_t bytes = (size_t)n * kd_dtype_size(t->dtype);
        void *host = kd_alloc(bytes);
        if (host == NULL || p->be->ops->download(p->be, host, t->data, bytes) != KD_OK) {
            kd_free(host);
            continue; /* nothing there, or nothing to look at it with */
        }
        for (int64_t i = 0; i < n && finite; i++) {
            finite = isfinite(kd_element(t->dtype, host, i));
        }
        kd_free(host);
    }
    return finite;
}
