/* Int8 description of a program: see kd_quant.h. */
#include "kernels/kd_ops.h"
#include "kernels/kd_quant.h"

#include <stdio.h>

static bool is_layer(const kd_program *p, const kd_walk_node *n)
{
    return (n->op == KD_OP_CONV2D || n->op == KD_OP_LINEAR) && !n->fixed && kd_walk_value_at(p, n->in[1]).fixed;
}

static kd_status open_layer(const kd_program *p, int32_t k, kd_quant_layer *l)
{
    const kd_walk_node n = kd_walk_node_at(p, k);
    const kd_shape w = kd_walk_value_at(p, n.in[1]).spec.shape;
    *l = (kd_quant_layer){.node = k, .op = n.op, .rows = w.dim[0], .cols = kd_shape_span(&w, 1, w.rank)};
    l->name = kd_strf("%s %s", n.scope, kd_op_get(n.op)->name);
    l->weight = kd_calloc((size_t)KD_MAX(l->rows * l->cols, (int64_t)1), sizeof *l->weight);
    l->scale = kd_calloc((size_t)KD_MAX(l->rows, (int64_t)1), sizeof *l->scale);
    return l->name != NULL && l->weight != NULL && l->scale != NULL ? KD_OK : KD_E_OOM;
}

kd_status kd_quant_open(const kd_program *p, kd_quant *out, kd_err *err)
{
    kd_status st = KD_OK;
    *out = (kd_quant){.layer = kd_calloc((size_t)kd_program_nodes(p) + 1, sizeof *out->layer)};
    st = out->layer != NULL ? KD_OK : KD_E_OOM;
    for (int32_t k = 0; k < kd_program_nodes(p) && st == KD_OK; k++) {
        const kd_walk_node n = kd_walk_node_at(p, k);
        if (is_layer(p, &n)) {
            st = open_layer(p, k, &out->layer[out->n++]);
        }
    }
    if (st != KD_OK) {
        kd_quant_free(out);
        return KD_FAIL(err, st, "int8: out of memory");
    }
    return KD_OK;
}

void kd_quant_free(kd_quant *q)
{
    for (int32_t i = 0; i < q->n && q->layer != NULL; i++) {
        kd_free(q->layer[i].name);
        kd_free(q->layer[i].weight);
        kd_free(q->layer[i].scale);
    }
    kd_free(q->layer);
    *q = (kd_quant){.n = 0};
}

const kd_quant_layer *kd_quant_of(const kd_quant *q, int32_t k)
{
    for (int32_t i = 0; i < q->n; i++) {
        if (q->layer[i].node == k) {
            return &q->layer[i];
        }
    }
    return NULL;
}

/* ---- ranges ---------------------------------------------------------------------------------- */

typedef struct observing {
    kd_quant *q;
    int32_t next; /* layers come in the order of the nodes */
} observing;

static kd_status see(void *user, int32_t k, const kd_call *c)
{
    observing *o = user;
    if (o->next >= o->q->n || o->q->layer[o->next].node != k) {
        return KD_OK;
    }
    kd_quant_layer *l = &o->q->layer[o->next++];
    const float *x = c->in[0].data;
    const int64_t n = kd_shape_numel(&c->in[0].shape);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return KD_E_NUMERIC;
        }
        l->lo = KD_MIN(l->lo, x[i]);
        l->hi = KD_MAX(l->hi, x[i]);
    }
    return KD_OK;
}

kd_status kd_quant_observe(kd_quant *q, kd_program *p, int64_t samples, kd_err *err)
{
    observing o = {.q = q};
    const kd_status st = kd_walk_run(p, see, &o);
    if (st != KD_OK) {
        return KD_FAIL(err, st, "int8: calibration failed in %s: %s", kd_program_where(p), kd_status_text(st));
    }
    q->samples += samples;
    return KD_OK;
}

/* ---- scales ---------------------------------------------------------------------------------- */

/* Bias of a layer; NULL: it has none. */
static const float *bias_of(const kd_program *p, const kd_quant_layer *l)
{
    const kd_walk_node n = kd_walk_node_at(p, l->node);
    return n.n_in > 2 && n.in[2] != 0 ? kd_walk_value_at(p, n.in[2]).data : NULL;
}

/* A row so small beside its bias that the bias would not fit gets a coarser scale. */
static kd_status quantise_weight(kd_quant_layer *l, const float *w, const float *bias, kd_err *err)
{
    for (int64_t r = 0; r < l->rows; r++) {
        float most = 0.0f;
        for (int64_t c = 0; c < l->cols; c++) {
            const float a = fabsf(w[r * l->cols + c]);
            if (!isfinite(a)) {
                return KD_FAIL(err, KD_E_NUMERIC, "int8: row %lld of the weight of %s is not finite", (long long)r,
                               l->name);
            }
            most = KD_MAX(most, a);
        }
        l->scale[r] = most > 0.0f ? most / 127.0f : 1.0f;
        if (bias != NULL) {
            l->scale[r] = KD_MAX(l->scale[r], fabsf(bias[r]) / l->x_scale / (float)KD_QUANT_BIAS_MOST);
        }
        for (int64_t c = 0; c < l->cols; c++) {
            l->weight[r * l->cols + c] =
                (int8_t)KD_MIN(127.0f, KD_MAX(-127.0f, rintf(w[r * l->cols + c] / l->scale[r])));
        }
    }
    return KD_OK;
}

kd_status kd_quant_finish(kd_quant *q, const kd_program *p, kd_err *err)
{
    if (q->samples == 0) {
        return KD_FAIL(err, KD_E_STATE, "int8: expected samples to calibrate with, found none");
    }
    for (int32_t i = 0; i < q->n; i++) {
        kd_quant_layer *l = &q->layer[i];
        const float span = l->hi - l->lo;
        l->x_scale = span > 0.0f ? span / 255.0f : 1.0f;
        l->x_zero = (uint8_t)rintf(-l->lo / l->x_scale);
        const float *w = kd_walk_value_at(p, kd_walk_node_at(p, l->node).in[1]).data;
        KD_TRY(quantise_weight(l, w, bias_of(p, l), err));
    }
    return KD_OK;
}
