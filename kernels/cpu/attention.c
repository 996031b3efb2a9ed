/* attention: one query row at a time with a running softmax over blocks of keys; backward recomputes the
 * probabilities. */
#include "kernels/cpu/chunk.h"

#define BLOCK 64

typedef struct heads {
    int64_t B, N, H, D, C;
    real scale;
} heads;

static heads heads_of(const kd_tensor *qkv, const kd_attention_attr *at)
{
    heads h;
    h.B = qkv->shape.dim[0];
    h.N = qkv->shape.dim[1];
    h.H = at->heads;
    h.C = qkv->shape.dim[2] / 3;
    h.D = h.C / h.H;
    h.scale = at->scale == 0.0f ? R(1.0) / r_sqrt((real)h.D) : (real)at->scale;
    return h;
}

/* Row n of third `part` (0 q, 1 k, 2 v), head `hd` of sample b. */
static inline const act_t *row_of(const heads *h, const act_t *qkv, int64_t b, int64_t n, int part, int64_t hd)
{
    return qkv + (b * h->N + n) * 3 * h->C + part * h->C + hd * h->D;
}

static inline void axpy(real *restrict acc, real a, const act_t *restrict x, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        acc[j] += a * ld(x, j);
    }
}

static void forward_query(const kd_call *c, const heads *h, int64_t b, int64_t hd, int64_t n)
{
    const act_t *qkv = c->in[0].data;
    real q[KD_MAX_HEAD_DIM], acc[KD_MAX_HEAD_DIM] = {0}, s[BLOCK];
    kd_load_act(q, row_of(h, qkv, b, n, 0, hd), h->D);
    real m = R(0.0), sum = R(0.0);
    for (int64_t j0 = 0; j0 < h->N; j0 += BLOCK) {
        const int64_t len = KD_MIN((int64_t)BLOCK, h->N - j0);
        real top = m;
        for (int64_t j = 0; j < len; j++) {
            s[j] = h->scale * kd_dot_act(q, row_of(h, qkv, b, j0 + j, 1, hd), h->D);
            top = (j0 == 0 && j == 0) || s[j] > top ? s[j] : top;
        }
        const real keep = j0 == 0 ? R(0.0) : r_exp(m - top);
        sum *= keep;
        for (int64_t d = 0; d < h->D; d++) {
            acc[d] *= keep;
        }
        for (int64_t j = 0; j < len; j++) {
            const real p = r_exp(s[j] - top);
            sum += p;
            axpy(acc, p, row_of(h, qkv, b, j0 + j, 2, hd), h->D);
        }
        m = top;
    }
    act_t *o = c->out[0].data;
    for (int64_t d = 0; o != NULL && d < h->D; d++) {
        st(o, (b * h->N + n) * h->C + hd * h->D + d, acc[d] / sum);
    }
    if (c->out[1].data != NULL) {
        ((real *)c->out[1].data)[(b * h->H + hd) * h->N + n] = m + r_log(sum);
    }
}

static kd_status attention_run(const kd_call *c)
{
    const heads h = heads_of(&c->in[0], c->attr);
    KD_FOR
    for (int64_t i = 0; i < h.B * h.H * h.N; i++) {
        forward_query(c, &h, i / (h.H * h.N), i / h.N % h.H, i % h.N);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(attention) = {.run = attention_run};

/* ---- backward -------------------------------------------------------------------------------- */

typedef struct saved {
    const act_t *dO, *qkv, *o;
    const real *lse;
    real *delta; /* (B,H,N): sum_d do o */
    act_t *dqkv;
} saved;

static void backward_query(const heads *h, const saved *v, int64_t b, int64_t hd, int64_t n)
{
    const int64_t at = (b * h->N + n) * h->C + hd * h->D, stat = (b * h->H + hd) * h->N + n;
    real q[KD_MAX_HEAD_DIM], d_o[KD_MAX_HEAD_DIM], acc[KD_MAX_HEAD_DIM] = {0};
    kd_load_act(q, row_of(h, v->qkv, b, n, 0, hd), h->D);
    kd_load_act(d_o, v->dO + at, h->D);
    const real delta = kd_dot_act(d_o, v->o + at, h->D);
    v->delta[stat] = delta;
    for (int64_t j = 0; j < h->N; j++) {
        const act_t *k = row_of(h, v->qkv, b, j, 1, hd);
        const real p = r_exp(h->scale * kd_dot_act(q, k, h->D) - v->lse[stat]);
        const real dp = kd_dot_act(d_o, row_of(h, v->qkv, b, j, 2, hd), h->D);
        axpy(acc, p * (dp - delta) * h->scale, k, h->D);
    }
    act_t *dq = v->dqkv + (row_of(h, v->qkv, b, n, 0, hd) - v->qkv);
    for (int64_t d = 0; d < h->D; d++) {
        st(dq, d, acc[d]);
    }
}

static void backward_key(const heads *h, const saved *v, int64_t b, int64_t hd, int64_t n)
{
    real k[KD_MAX_HEAD_DIM], val[KD_MAX_HEAD_DIM], dk[KD_MAX_HEAD_DIM] = {0}, dv[KD_MAX_HEAD_DIM] = {0};
    kd_load_act(k, row_of(h, v->qkv, b, n, 1, hd), h->D);
    kd_load_act(val, row_of(h, v->qkv, b, n, 2, hd), h->D);
    for (int64_t i = 0; i < h->N; i++) {
        const act_t *q = row_of(h, v->qkv, b, i, 0, hd);
        const act_t *d_o = v->dO + (b * h->N + i) * h->C + hd * h->D;
        const int64_t stat = (b * h->H + hd) * h->N + i;
        const real p = r_exp(h->scale * kd_dot_act(k, q, h->D) - v->lse[stat]);
        const real dp = kd_dot_act(val, d_o, h->D);
        axpy(dv, p, d_o, h->D);
        axpy(dk, p * (dp - v->delta[stat]) * h->scale, q, h->D);
    }
    act_t *to_k = v->dqkv + (row_of(h, v->qkv, b, n, 1, hd) - v->qkv);
    for (int64_t d = 0; d < h->D; d++) {
        st(to_k, d, dk[d]);
        st(to_k, h->C + d, dv[d]);
    }
}

static size_t attention_bwd_scratch(const kd_call *c)
{
    return (size_t)numel(&c->in[3]) * sizeof(real);
}

static kd_status attention_bwd_run(const kd_call *c)
{
    const heads h = heads_of(&c->in[1], c->attr);
    const saved v = {c->in[0].data, c->in[1].data, c->in[2].data, c->in[3].data, c->scratch, c->out[0].data};
    const int64_t n = h.B * h.H * h.N;
    KD_FOR
    for (int64_t i = 0; i < n; i++) {
        backward_query(&h, &v, i / (h.H * h.N), i / h.N % h.H, i % h.N);
    }
    KD_FOR
    for (int64_t i = 0; i < n; i++) {
        backward_key(&h, &v, i / (h.H * h.N), i / h.N % h.H, i % h.N);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(attention_bwd) = {.run = attention_bwd_run, .scratch = attention_bwd_scratch};
