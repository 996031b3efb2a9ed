/* Functions of all backends. */
#include "kernels/kd_backend.h"

void kd_backend_close(kd_backend *be)
{
    if (be != NULL) {
        be->ops->close(be);
    }
}

/* ---- bound calls ----------------------------------------------------------------------------- */

static kd_status choose(kd_backend *be, kd_op op, kd_dtype act, kd_bound *b)
{
    for (int rank = 0;; rank++) {
        const kd_kernel_def *def = be->ops->find(be, op, act, rank);
        if (def == NULL || def->run == NULL) {
            return KD_E_UNSUPPORTED;
        }
        b->call.prep = NULL;
        const kd_status st = def->prepare != NULL ? def->prepare(&b->call, NULL) : KD_OK;
        if (st != KD_E_UNSUPPORTED) {
            b->def = st == KD_OK ? def : NULL;
            return st;
        }
    }
}

kd_status kd_bind(kd_backend *be, kd_op op, kd_dtype act, const kd_call *c, kd_bound *b)
{
    *b = (kd_bound){.be = be, .call = *c};
    for (int i = 0; i < c->n_in; i++) {
        b->operand[i] = c->in[i];
    }
    for (int o = 0; o < c->n_out; o++) {
        b->operand[KD_MAX_IN + o] = c->out[o];
    }
    b->call.in = b->operand;
    b->call.out = b->operand + KD_MAX_IN;
    b->call.scratch = NULL;
    b->call.stream = be->stream;
    kd_status st = choose(be, op, act, b);
    const size_t bytes = st == KD_OK && b->def->scratch != NULL ? b->def->scratch(&b->call) : 0;
    if (bytes != 0) {
        st = be->ops->alloc(be, bytes, &b->call.scratch);
    }
    if (st != KD_OK) {
        kd_bound_free(b);
    }
    return st;
}

kd_status kd_bound_run(const kd_bound *b)
{
    return b->def->run(&b->call);
}

void kd_bound_free(kd_bound *b)
{
    if (b->def != NULL && b->def->release != NULL) {
        b->def->release(&b->call);
    }
    if (b->call.scratch != NULL) {
        b->be->ops->free(b->be, b->call.scratch);
    }
    *b = (kd_bound){.be = NULL};
}

kd_status kd_backend_call(kd_backend *be, kd_op op, kd_dtype act, const kd_call *c)
{
    kd_bound b;
    KD_TRY(kd_bind(be, op, act, c, &b));
    kd_status st = kd_bound_run(&b);
    const kd_status waited = be->ops->sync(be); /* its scratch is about to go */
    kd_bound_free(&b);
    return st == KD_OK ? waited : st;
}

/* ---- captured runs --------------------------------------------------------------------------- */

kd_status kd_recorded_run(kd_backend *be, kd_recorded *r, kd_status (*body)(void *user), void *user)
{
    if (r->graph != NULL) {
        return be->ops->replay(be, r->graph);
    }
    if (be->ops->capture_begin == NULL || be->no_graph || r->runs++ == 0) { /* libraries settle in the first run */
        return body(user);
    }
    KD_TRY(be->ops->capture_begin(be));
    const kd_status st = body(user);
    const kd_status ended = be->ops->capture_end(be, &r->graph);
    if (st != KD_OK || ended != KD_OK) {
        kd_recorded_drop(be, r);
        return st != KD_OK ? st : ended;
    }
    return be->ops->replay(be, r->graph);
}

void kd_recorded_drop(kd_backend *be, kd_recorded *r)
{
    if (r->graph != NULL) {
        be->ops->graph_free(be, r->graph);
    }
    *r = (kd_recorded){NULL, 0};
}
