/* The layers of kd_quant.h computed in eight bits: kernels in plain C that take the places of those in f32.
 *
 * x - x_zero fits 16 bits with its sign, products of it with the weight add up in 32 bits without an error: 2^31 / (255
 * 127) allows sums of 66,000 products, and kd_quant_apply refuses longer rows.  So the zero padding of a convolution is
 * a zero here too. */
#include "kernels/graph/program_internal.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_quant.h"

#define MOST_COLS (INT32_MAX / (255 * 127))

/* What a layer's call keeps. */
typedef struct int8_prep {
    const kd_quant_layer *l;
    const kd_kernel_def *act; /* of the activation in f32; NULL: none */
    kd_act_attr attr;
} int8_prep;

static void subtract_zero(const kd_quant_layer *l, const float *x, int64_t n, int16_t *q)
{
    for (int64_t i = 0; i < n; i++) {
        q[i] = (int16_t)(kd_quant_u8(x[i], l->x_scale, l->x_zero) - l->x_zero);
    }
}

static void activate(const int8_prep *p, const kd_call *c)
{
    if (p->act != NULL) {
        const kd_call act = {.in = c->out, .out = c->out, .n_in = 1, .n_out = 1, .attr = &p->attr, .step = c->step};
        (void)p->act->run(&act);
    }
}

/* ---- linear ---------------------------------------------------------------------------------- */

static kd_status linear_run(const kd_call *c)
{
    const int8_prep *p = c->prep;
    const kd_quant_layer *l = p->l;
    const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
    const int64_t rows = kd_shape_numel(&c->in[0].shape) / KD_MAX(l->cols, (int64_t)1);
    int16_t *q = c->scratch;
    float *y = c->out[0].data;
    for (int64_t r = 0; r < rows; r++) {
        subtract_zero(l, (const float *)c->in[0].data + r * l->cols, l->cols, q);
        for (int64_t o = 0; o < l->rows; o++) {
            const int8_t *w = l->weight + o * l->cols;
            int32_t sum = 0;
            for (int64_t i = 0; i < l->cols; i++) {
                sum += q[i] * w[i];
            }
            y[r * l->rows + o] = (float)sum * (l->x_scale * l->scale[o]) + (bias != NULL ? bias[o] : 0.0f);
        }
    }
    activate(p, c);
    return KD_OK;
}

/* ---- conv2d ---------------------------------------------------------------------------------- */

typedef struct plane { /* one channel of x on its way to one channel of y */
    const kd_conv2d_attr *a;
    int64_t h, w, ho, wo;
} plane;

/* acc += weight x, x one channel under one tap. */
static void add_tap(const plane *g, const int16_t *x, int64_t kh, int64_t kw, int32_t weight, int32_t *acc)
{
    const kd_conv2d_attr *a = g->a;
    for (int64_t i = 0; i < g->ho; i++) {
        const int64_t row = i * a->stride[0] + kh * a->dilation[0] - a->pad[0];
        if (row < 0 || row >= g->h) {
            continue;
        }
        const int64_t shift = kw * a->dilation[1] - a->pad[1];
        const int16_t *from = x + row * g->w;
        int32_t *to = acc + i * g->wo;
        if (a->stride[1] == 1) {
            const int64_t first = KD_MAX(-shift, (int64_t)0), last = KD_MIN(g->w - shift, g->wo);
            for (int64_t j = first; j < last; j++) {
                to[j] += weight * from[j + shift];
            }
            continue;
        }
        for (int64_t j = 0; j < g->wo; j++) {
            const int64_t column = j * a->stride[1] + shift;
            to[j] += column >= 0 && column < g->w ? weight * from[column] : 0;
        }
    }
}

static kd_status conv2d_run(const kd_call *c)
{
    const int8_prep *p = c->prep;
    const kd_quant_layer *l = p->l;
    const kd_conv2d_attr *a = c->attr;
    const int64_t *x = c->in[0].shape.dim, *k = c->in[1].shape.dim, *y = c->out[0].shape.dim;
    const plane g = {a, x[2], x[3], y[2], y[3]};
    const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
    const int64_t cells = y[2] * y[3], share = l->rows / a->groups, taps = k[2] * k[3];
    int16_t *q = c->scratch;
    int32_t *acc = (int32_t *)(void *)((char *)c->scratch + (size_t)((x[1] * x[2] * x[3] + 1) / 2) * sizeof *acc);
    for (int64_t n = 0; n < x[0]; n++) {
        subtract_zero(l, (const float *)c->in[0].data + n * x[1] * x[2] * x[3], x[1] * x[2] * x[3], q);
        for (int64_t o = 0; o < l->rows; o++) {
            float *out = (float *)c->out[0].data + (n * l->rows + o) * cells;
            const float scale = l->x_scale * l->scale[o], b = bias != NULL ? bias[o] : 0.0f;
            memset(acc, 0, (size_t)cells * sizeof *acc);
            for (int64_t i = 0; i < l->cols; i++) {
                const int64_t channel = o / share * k[1] + i / taps;
                add_tap(&g, q + channel * x[2] * x[3], i % taps / k[3], i % k[3], l->weight[o * l->cols + i], acc);
            }
            for (int64_t j = 0; j < cells; j++) {
                out[j] = (float)acc[j] * scale + b;
            }
        }
    }
    activate(p, c);
    return KD_OK;
}

/* ---- in a program ---------------------------------------------------------------------------- */

static void release(kd_call *c)
{
    kd_free(c->prep);
    c->prep = NULL;
}

/* by_shape: a change of the parameters leaves a layer as it is; kd_quant_finish describes them once. */
static const kd_kernel_def LINEAR = {.run = linear_run, .release = release, .by_shape = true};
static const kd_kernel_def CONV2D = {.run = conv2d_run, .release = release, .by_shape = true};

static size_t scratch_of(const kd_call *c)
{
    const int64_t x = kd_shape_span(&c->in[0].shape, 1, c->in[0].shape.rank);
    const int64_t y = kd_shape_span(&c->out[0].shape, 2, c->out[0].shape.rank);
    return (size_t)(x + 1) / 2 * sizeof(int32_t) + (size_t)y * sizeof(int32_t);
}

static kd_status replace(kd_program *p, const kd_quant_layer *l)
{
    kd_call *c = &p->calls[l->node];
    const kd_walk_node n = kd_walk_node_at(p, l->node);
    const int32_t act =
        n.op == KD_OP_CONV2D ? ((const kd_conv2d_attr *)n.attr)->act : ((const kd_linear_attr *)n.attr)->act;
    int8_prep *prep = kd_alloc(sizeof *prep);
    if (prep == NULL) {
        return KD_E_OOM;
    }
    *prep = (int8_prep){.l = l, .attr = {act}};
    for (int rank = 0; act != KD_ACT_NONE && (prep->act == NULL || prep->act->prepare != NULL); rank++) {
        prep->act = p->be->ops->find(p->be, KD_OP_ACT, KD_F32, rank); /* the plain one needs no preparation */
    }
    if (p->defs[l->node]->release != NULL) {
        p->defs[l->node]->release(c);
    }
    p->defs[l->node] = n.op == KD_OP_CONV2D ? &CONV2D : &LINEAR;
    c->prep = prep;
    return KD_OK;
}

kd_status kd_quant_apply(const kd_quant *q, kd_program *p, kd_err *err)
{
    size_t most = p->scratch_bytes;
    void *scratch = NULL;
    KD_ASSERT(!p->trains && !p->plan_only && p->be->ops->host);
    for (int32_t i = 0; i < q->n; i++) {
        if (q->layer[i].cols > MOST_COLS) {
            return KD_FAIL(err, KD_E_UNSUPPORTED, "int8: %s adds up %lld products, at most %d fit 32 bits",
                           q->layer[i].name, (long long)q->layer[i].cols, (int)MOST_COLS);
        }
        most = KD_MAX(most, scratch_of(&p->calls[q->layer[i].node]));
    }
    kd_status st = p->be->ops->alloc(p->be, most + 1, &scratch);
    kd_recorded_drop(p->be, &p->recorded);
    for (int32_t i = 0; i < q->n && st == KD_OK; i++) {
        st = replace(p, &q->layer[i]);
    }
    if (st != KD_OK) {
        p->be->ops->free(p->be, scratch);
        return KD_FAIL(err, st, "int8: out of memory");
    }
    p->be->ops->free(p->be, p->scratch);
    p->scratch = scratch;
    p->scratch_bytes = most;
    for (int32_t k = 0; k < p->g->n_nodes; k++) {
        const bool eight = p->defs[k] == &LINEAR || p->defs[k] == &CONV2D;
        p->calls[k].scratch = eight || p->calls[k].scratch != NULL ? scratch : NULL;
    }
    return KD_OK;
}
