/* Compile and run: see kd_program.h.
 *
 * Compile is a row of small passes over the graph: fusion (fuse*.c), backward (grad.c), dead nodes, static nodes,
 * lifetimes and operands in place (live.c), memory plan (plan.c), binding, choice of kernels.  Run is a loop over
 * calls. */
#include "kernels/graph/graph_internal.h"
#include "kernels/graph/program_internal.h"
#include "kernels/kd_program.h"
#include "kernels/kd_walk.h"

#include <stdio.h>

/* ---- binding --------------------------------------------------------------------------------- */

void *kdi_address(const kd_program *p, int32_t v)
{
    const kd_graph *g = p->g;
    const kdi_value *r = &g->values[g->values[v].root];
    kd_params *params = g->opts.params;
    switch (r->kind) {
    case KDI_PARAM:
        return kd_params_shadow(params, r->param, r->spec.dtype);
    case KDI_BUFFER:
        return kd_params_value(params, r->param);
    case KDI_PGRAD:
        return kd_params_grad(params, r->param);
    case KDI_INPUT:
    case KDI_CONST:
    case KDI_NODE:
        return p->storage[g->values[v].root] < 0 ? NULL : p->arena + p->slots[p->storage[g->values[v].root]].offset;
    default:
        return NULL;
    }
}

/* Operands that a kernel may pack: what changes with the parameters alone, and constants.  Training programs have none:
 * refresh(), after which packed operands hold, belongs to forward-only programs. */
static uint32_t static_inputs(const kd_program *p, const kdi_node *n)
{
    const kd_graph *g = p->g;
    uint32_t mask = 0;
    for (int i = 0; i < n->n_in; i++) {
        const kdi_value *r = &g->values[g->values[n->in[i]].root];
        const bool fixed = r->kind == KDI_CONST || r->kind == KDI_PARAM || r->kind == KDI_BUFFER ||
                           (r->kind == KDI_NODE && p->is_static[r->node]);
        mask |= n->in[i] != 0 && fixed && !p->trains ? 1u << i : 0u;
    }
    return mask;
}

static void bind_call(kd_program *p, int32_t k, kd_tensor *tensors)
{
    const kd_graph *g = p->g;
    const kdi_node *n = &g->nodes[k];
    kd_call *c = &p->calls[k];
    for (int i = 0; i < n->n_in; i++) {
        tensors[i] = (kd_tensor){NULL, g->values[n->in[i]].spec.dtype, g->values[n->in[i]].spec.shape};
        if (n->in[i] != 0) {
            tensors[i].data = kdi_address(p, n->in[i]);
        }
    }
    for (int o = 0; o < n->n_out; o++) {
        kd_tensor *t = &tensors[n->n_in + o];
        *t = (kd_tensor){NULL, g->values[n->out[o]].spec.dtype, g->values[n->out[o]].spec.shape};
        if (n->out[o] != 0) {
            t->data = kdi_address(p, n->out[o]);
        }
    }
    *c = (kd_call){.in = tensors,
                   .out = tensors + n->n_in,
                   .n_in = n->n_in,
                   .n_out = n->n_out,
                   .accum = n->accum,
                   .static_in = static_inputs(p, n),
                   .ahead = true, /* until refresh() */
                   .attr = n->attr,
                   .step = p->step,
                   .stream = p->be->stream};
}

/* First candidate kernel whose preparation succeeds. */
static kd_status select_kernel(kd_program *p, int32_t k, kd_err *err)
{
    const kdi_node *n = &p->g->nodes[k];
    for (int rank = 0;; rank++) {
        const kd_kernel_def *def = p->be->ops->find(p->be, n->op, p->g->opts.dtype, rank);
        if (def == NULL || def->run == NULL) {
            return KD_FAIL(err, KD_E_UNSUPPORTED, "%s: op %s has no kernel for this device and dtype", n->scope,
                           kd_op_get(n->op)->name);
        }
        kd_err why = {0};
        const kd_status st = def->prepare != NULL ? def->prepare(&p->calls[k], &why) : KD_OK;
        if (st == KD_OK) {
            p->defs[k] = def;
            return KD_OK;
        }
        if (st != KD_E_UNSUPPORTED) {
            return KD_FAIL(err, st, "%s: op %s: %s", n->scope, kd_op_get(n->op)->name, why.msg);
        }
    }
}

static kd_status upload_constants(kd_program *p, kd_err *err)
{
    for (int32_t v = 1; v < p->g->n_values; v++) {
        const kdi_value *val = &p->g->values[v];
        if (val->kind == KDI_CONST &&
            p->be->ops->upload(p->be, kdi_address(p, v), val->data, kd_spec_bytes(&val->spec)) != KD_OK) {
            return KD_FAIL(err, KD_E_DEVICE, "constant %s: upload failed", val->name);
        }
    }
    return KD_OK;
}

/* Scratch sizes depend on the chosen kernel, which is chosen with data bound.  So: plan values, bind, select, then give
 * all nodes one shared scratch area behind the arena, as large as the hungriest of them (one node runs at a time). */
static kd_status bind_and_select(kd_program *p, kd_err *err)
{
    size_t arena = 0;
    KD_TRY(kdi_plan(p->slots, p->n_slots, p->reuse, &arena));
    p->arena_bytes = arena;
    if (p->plan_only) {
        return KD_OK;
    }
    void *mem = NULL;
    if (p->be->ops->alloc(p->be, arena + 256, &mem) != KD_OK) {
        return KD_FAIL(err, KD_E_OOM, "program: no memory for an arena of %.1f MiB (a smaller batch needs less)",
                       (double)arena / 1048576.0);
    }
    p->arena = mem;
    if (p->be->ops->alloc(p->be, sizeof(kd_step), (void **)&p->step) != KD_OK) {
        return KD_FAIL(err, KD_E_OOM, "program: out of memory");
    }
    KD_TRY(upload_constants(p, err));
    size_t at = 0;
    for (int32_t k = 0; k < p->g->n_nodes; k++) {
        bind_call(p, k, p->tensors + at);
        at += (size_t)(p->g->nodes[k].n_in + p->g->nodes[k].n_out);
    }
    size_t scratch = 0;
    for (int32_t k = 0; k < p->g->n_nodes; k++) {
        KD_TRY(select_kernel(p, k, err));
        if (p->defs[k]->scratch != NULL) {
            scratch = KD_MAX(scratch, p->defs[k]->scratch(&p->calls[k]));
        }
    }
    if (scratch != 0 && p->be->ops->alloc(p->be, scratch, &p->scratch) != KD_OK) {
        return KD_FAIL(err, KD_E_OOM, "program: no memory for %.1f MiB of scratch", (double)scratch / 1048576.0);
    }
    p->scratch_bytes = scratch;
    for (int32_t k = 0; k < p->g->n_nodes; k++) {
        p->calls[k].scratch = p->defs[k]->scratch != NULL ? p->scratch : NULL;
    }
    return KD_OK;
}

static kd_status allocate(kd_program *p)
{
    const kd_graph *g = p->g;
    size_t operands = 1;
    for (int32_t k = 0; k < g->n_nodes; k++) {
        operands += (size_t)(g->nodes[k].n_in + g->nodes[k].n_out);
    }
    p->storage = kd_calloc((size_t)g->n_values, sizeof *p->storage);
    p->slots = kd_calloc((size_t)g->n_values, sizeof *p->slots);
    p->calls = kd_calloc((size_t)g->n_nodes + 1, sizeof *p->calls);
    p->defs = kd_calloc((size_t)g->n_nodes + 1, sizeof *p->defs);
    p->is_static = kd_calloc((size_t)g->n_nodes + 1, sizeof *p->is_static);
    p->tensors = kd_calloc(operands, sizeof *p->tensors);
    const bool ok = p->storage != NULL && p->slots != NULL && p->calls != NULL && p->defs != NULL &&
                    p->is_static != NULL && p->tensors != NULL;
    return ok ? KD_OK : KD_E_OOM;
}

kd_status kd_program_compile(kd_graph *g, kd_backend *be, const kd_compile_opts *opts, kd_program **out, kd_err *err)
{
    kd_status st = KD_OK;
    *out = NULL;
    kd_program *p = kd_calloc(1, sizeof *p);
    if (p == NULL) {
        kd_graph_free(g);
        return KD_FAIL(err, KD_E_OOM, "program: out of memory");
    }
    p->g = g;
    p->be = be;
    p->trains = opts->loss.id != 0;
    p->reuse = !opts->no_reuse;
    p->check = opts->check;
    p->poison = opts->poison;
    p->plan_only = opts->plan_only;
    if (g->err.code != KD_OK) {
        st = KD_FAIL(err, g->err.code, "%s", g->err.msg);
        goto done;
    }
    if (!opts->no_fuse) {
        KD_GO(kdi_fuse_before_backward(g, be->fuses, p->trains, opts->recompute, err));
    }
    if (p->trains) {
        KD_GO(kdi_backward(g, opts->loss, opts->grad_inputs, opts->n_grad_inputs, opts->recompute, err));
    }
    KD_GO(kdi_drop_dead(g, opts->loss));
    if (p->trains && !opts->no_fuse) {
        KD_GO(kdi_fuse_after_backward(g, be->fuses, err));
    }
    if (!p->trains && !opts->no_fuse) {
        KD_GO(kdi_fuse_eval(g, be->fuses, err));
        KD_GO(kdi_drop_dead(g, opts->loss));
    }
    KD_GO(allocate(p));
    kdi_mark_static(p);
    kdi_lifetimes(p, opts->loss);
    for (int i = 0; i < p->n_slots; i++) {
        p->sum_bytes += (p->slots[i].bytes + KDI_ALIGN - 1) / KDI_ALIGN * KDI_ALIGN;
    }
    if (p->reuse) {
        kdi_share_in_place(p);
    }
    KD_GO(bind_and_select(p, err));
    p->version = kd_params_version(g->opts.params) - 1; /* the first run computes the static nodes */
done:
    if (st != KD_OK) {
        kd_program_free(p);
        return err != NULL && err->code == KD_OK ? KD_FAIL(err, st, "program: %s", kd_status_text(st)) : st;
    }
    *out = p;
    return KD_OK;
}

static void drop_captures(kd_program *p)
{
    for (int i = 0; i < KDI_RUNS; i++) {
        kd_recorded_drop(p->be, &p->recorded[i]);
    }
}

void kd_program_free(kd_program *p)
{
    if (p == NULL) {
        return;
    }
    for (int32_t k = 0; p->defs != NULL && k < p->g->n_nodes; k++) {
        if (p->defs[k] != NULL && p->defs[k]->release != NULL) {
            p->defs[k]->release(&p->calls[k]);
        }
    }
    drop_captures(p);
    p->be->ops->free(p->be, p->arena);
    p->be->ops->free(p->be, p->scratch);
    p->be->ops->free(p->be, p->step);
    kd_free(p->storage);
    kd_free(p->slots);
    kd_free(p->calls);
    kd_free(p->defs);
    kd_free(p->is_static);
    kd_free(p->tensors);
    kd_graph_free(p->g);
    kd_free(p);
}

/* ---- run ------------------------------------------------------------------------------------- */

/* Parameters changed: recompute what depends on them alone and let kernels repack their static operands. */
static kd_status refresh(kd_program *p)
{
    for (int32_t k = 0; k < p->g->n_nodes; k++) {
        kd_call *c = &p->calls[k];
        c->ahead = false;
        if (p->defs[k]->prepare != NULL && c->static_in != 0 && !p->defs[k]->by_shape) {
            drop_captures(p); /* it holds what release() is about to free */
            if (p->defs[k]->release != NULL) {
                p->defs[k]->release(c);
            }
            KD_TRY(p->defs[k]->prepare(c, NULL));
        }
        if (p->is_static[k]) {
            p->at = k;
            KD_TRY(p->defs[k]->run(c));
        }
    }
    p->version = kd_params_version(p->g->opts.params);
    return KD_OK;
}

void kd_program_rest(kd_program *p)
{
    if (p->be->ops->rest == NULL || p->plan_only) {
        return;
    }
    for (int32_t k = 0; k < p->g->n_nodes && !p->trains; k++) {
        kd_call *c = &p->calls[k];
        if (p->defs[k]->release != NULL && c->static_in != 0 && !p->defs[k]->by_shape) {
            p->defs[k]->release(c); /* refresh() prepares it again */
        }
    }
    drop_captures(p);
    p->be->ops->rest(p->be, p->arena, p->arena_bytes);
    p->be->ops->rest(p->be, p->scratch, p->scratch_bytes);
    p->version = kd_params_version(p->g->opts.params) - 1;
    p->rests = true;
}

static kd_status poison(kd_program *p)
{
    const kd_graph *g = p->g;
    kd_status st = KD_OK;
    for (int32_t v = 1; v < g->n_values && st == KD_OK; v++) {
        if (g->values[v].kind == KDI_NODE && p->storage[v] >= 0 && p->slots[p->storage[v]].first >= 0) {
            const kdi_slot *s = &p->slots[p->storage[v]];
            void *nan = kd_alloc(s->bytes + 1);
            st = nan != NULL ? KD_OK : KD_E_OOM;
            if (st == KD_OK) {
                memset(nan, 0xff, s->bytes);
                st = p->be->ops->upload(p->be, p->arena + s->offset, nan, s->bytes);
            }
            kd_free(nan);
        }
    }
    return st;
}

static kd_status run_nodes(void *user)
{
    kd_program *p = user;
    for (int32_t k = p->from; k < p->to; k++) {
        if (p->is_static[k]) {
            continue;
        }
        p->at = k;
        KD_TRY(p->defs[k]->run(&p->calls[k]));
        if (p->check && !kdi_finite_outputs(p, k)) {
            return KD_E_NUMERIC;
        }
    }
    return KD_OK;
}

/* What comes before the nodes of a run. */
static kd_status begin_run(kd_program *p, const kd_step *step)
{
    static const kd_step plain = {.grad_scale = 1.0f};
    if (p->plan_only) {
        return KD_E_STATE;
    }
    if (p->rests) {
        KD_TRY(upload_constants(p, NULL));
        p->rests = false;
    }
    KD_TRY(p->be->ops->feed(p->be, p->step, step != NULL ? step : &plain, sizeof *step));
    if (!p->trains && p->version != kd_params_version(p->g->opts.params)) {
        KD_TRY(refresh(p));
    }
    return p->poison ? poison(p) : KD_OK;
}

kd_status kd_walk_run(kd_program *p, kd_walk_see see, void *user)
{
    KD_TRY(begin_run(p, NULL));
    for (int32_t k = 0; k < p->g->n_nodes; k++) {
        p->at = k;
        if (!p->is_static[k]) {
            KD_TRY(see(user, k, &p->calls[k]));
            KD_TRY(p->defs[k]->run(&p->calls[k]));
        }
    }
    return KD_OK;
}

static kd_status run_part(kd_program *p, int which, int32_t from, int32_t to)
{
    p->from = from;
    p->to = to;
    return p->check ? run_nodes(p) : kd_recorded_run(p->be, &p->recorded[which], run_nodes, p);
}

kd_status kd_program_run(kd_program *p, const kd_step *step)
{
    KD_TRY(begin_run(p, step));
    KD_TRY(run_part(p, KDI_RUN_WHOLE, 0, p->g->n_nodes));
    if (p->trains) {
        kd_params_buffers_changed(p->g->opts.params);
    }
    return KD_OK;
}

/* The first node that reads the input; all nodes where none does. */
static int32_t reader_of(const kd_program *p, const char *input)
{
    const void *data = kd_program_tensor(p, input).data;
    for (int32_t k = 0; k < p->g->n_nodes && data != NULL; k++) {
        for (int32_t i = 0; i < p->g->nodes[k].n_in; i++) {
            if (kdi_address(p, p->g->nodes[k].in[i]) == data) {
                return k;
            }
        }
    }
    return p->g->n_nodes;
}

kd_status kd_program_run_until(kd_program *p, const kd_step *step, const char *input)
{
    KD_TRY(begin_run(p, step));
    return run_part(p, KDI_RUN_BEFORE, 0, reader_of(p, input));
}

kd_status kd_program_run_on(kd_program *p)
{
    KD_TRY(run_part(p, KDI_RUN_AFTER, p->to, p->g->n_nodes));
    if (p->trains) {
        kd_params_buffers_changed(p->g->opts.params);
    }
    return KD_OK;
}
