/* stc_gates and its gradient: a sample an iteration; sums over samples in order, an entry of a weight an iteration. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/chunk.h"

typedef struct gates {
    int64_t n, t, v, taps;
    const act_t *time, *joint, *wt, *ws;
} gates;

static gates gates_of(const kd_tensor *in)
{
    const gates g = {in[0].shape.dim[0], in[0].shape.dim[2], in[1].shape.dim[1], in[2].shape.dim[2],
                     in[0].data,         in[1].data,         in[2].data,         in[3].data};
    return g;
}

/* The argument of the sigmoid of frame t of sample s. */
static real before_sigmoid(const gates *g, int64_t s, int64_t t)
{
    const int64_t from = KD_MAX((int64_t)0, g->taps / 2 - t), to = KD_MIN(g->taps, g->t + g->taps / 2 - t);
    real sum = R(0.0);
    for (int64_t c = 0; c < 2; c++) {
        const int64_t x = (s * 2 + c) * g->t + t - g->taps / 2;
        for (int64_t k = from; k < to; k++) {
            sum += ld(g->wt, c * g->taps + k) * ld(g->time, x + k);
        }
    }
    return sum;
}

/* p (V) = softmax(ws joint) of sample s. */
static void probabilities(const gates *g, int64_t s, real *p)
{
    const act_t *x = g->joint + s * g->v;
    real top = (real)-INFINITY, sum = R(0.0);
    for (int64_t v = 0; v < g->v; v++) {
        p[v] = kd_dot_acts(g->ws + v * g->v, x, g->v);
        top = top > p[v] || top != top ? top : p[v];
    }
    for (int64_t v = 0; v < g->v; v++) {
        p[v] = r_exp(p[v] - top);
        sum += p[v];
    }
    for (int64_t v = 0; v < g->v; v++) {
        p[v] /= sum;
    }
}

static size_t stc_gates_scratch(const kd_call *c)
{
    return (size_t)numel(&c->in[1]) * sizeof(real);
}

static kd_status stc_gates_run(const kd_call *c)
{
    const gates g = gates_of(c->in);
    real *probs = c->scratch;
    KD_FOR
    for (int64_t s = 0; s < g.n; s++) {
        real *p = probs + s * g.v;
        for (int64_t t = 0; c->out[0].data != NULL && t < g.t; t++) {
            const real a = kd_sigmoid(before_sigmoid(&g, s, t));
            kd_store(c, 0, s * g.t + t, &a, 1);
        }
        if (c->out[1].data != NULL) {
            probabilities(&g, s, p);
            for (int64_t v = 0; v < g.v; v++) {
                p[v] *= (real)g.v;
            }
            kd_store(c, 1, s * g.v, p, g.v);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(stc_gates) = {.run = stc_gates_run, .scratch = stc_gates_scratch};

/* Scratch of the gradient: da (N,T), then dz (N,V). */
static size_t stc_gates_bwd_scratch(const kd_call *c)
{
    return (size_t)(c->in[2].shape.dim[0] * (c->in[2].shape.dim[2] + c->in[3].shape.dim[1])) * sizeof(real);
}

static void frames_bwd(const kd_call *c, const gates *g, int64_t s, real *da)
{
    const act_t *dat = c->in[0].data;
    for (int64_t t = 0; t < g->t; t++) {
        const real a = kd_sigmoid(before_sigmoid(g, s, t));
        da[t] = dat != NULL ? ld(dat, s * g->t + t) * a * (R(1.0) - a) : R(0.0);
    }
    for (int64_t i = 0; c->out[0].data != NULL && i < 2 * g->t; i++) {
        const int64_t ch = i / g->t, t = i % g->t;
        real sum = R(0.0);
        for (int64_t k = 0; k < g->taps; k++) {
            const int64_t from = t - k + g->taps / 2;
            sum += from >= 0 && from < g->t ? ld(g->wt, ch * g->taps + k) * da[from] : R(0.0);
        }
        kd_store(c, 0, s * 2 * g->t + i, &sum, 1);
    }
}

static void joints_bwd(const kd_call *c, const gates *g, int64_t s, real *dz)
{
    const act_t *dav = c->in[1].data;
    real dot = R(0.0);
    probabilities(g, s, dz);
    for (int64_t v = 0; dav != NULL && v < g->v; v++) {
        dot += dz[v] * ld(dav, s * g->v + v);
    }
    for (int64_t v = 0; v < g->v; v++) {
        dz[v] = dav != NULL ? (real)g->v * dz[v] * (ld(dav, s * g->v + v) - dot) : R(0.0);
    }
    for (int64_t u = 0; c->out[1].data != NULL && u < g->v; u++) {
        real sum = R(0.0);
        for (int64_t v = 0; v < g->v; v++) {
            sum += dz[v] * ld(g->ws, v * g->v + u);
        }
        kd_store(c, 1, s * g->v + u, &sum, 1);
    }
}

static real tap_sum(const gates *g, const real *da, int64_t ch, int64_t k)
{
    const int64_t off = k - g->taps / 2, from = KD_MAX((int64_t)0, -off), to = KD_MIN(g->t, g->t - off);
    real sum = R(0.0);
    for (int64_t s = 0; s < g->n; s++) {
        for (int64_t t = from; t < to; t++) {
            sum += da[s * g->t + t] * ld(g->time, (s * 2 + ch) * g->t + t + off);
        }
    }
    return sum;
}

static kd_status stc_gates_bwd_run(const kd_call *c)
{
    const gates g = gates_of(c->in + 2);
    real *da = c->scratch, *dz = da + g.n * g.t;
    KD_FOR
    for (int64_t s = 0; s < g.n; s++) {
        frames_bwd(c, &g, s, da + s * g.t);
        joints_bwd(c, &g, s, dz + s * g.v);
    }
    for (int64_t i = 0; c->out[2].data != NULL && i < 2 * g.taps; i++) {
        const real sum = tap_sum(&g, da, i / g.taps, i % g.taps);
        kd_store(c, 2, i, &sum, 1);
    }
    KD_FOR
    for (int64_t v = 0; v < (c->out[3].data != NULL ? g.v : 0); v++) {
        for (int64_t u = 0; u < g.v; u++) {
            real sum = R(0.0);
            for (int64_t s = 0; s < g.n; s++) {
                sum += dz[s * g.v + v] * ld(g.joint, s * g.v + u);
            }
            kd_store(c, 3, v * g.v + u, &sum, 1);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(stc_gates_bwd) = {.run = stc_gates_bwd_run, .scratch = stc_gates_bwd_scratch};
