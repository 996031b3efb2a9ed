/* linear_attention and its gradient: one head of one sequence a loop iteration, its D x D state on the stack. */
#include "kernels/cpu/chunk.h"

#define EPS   R(1e-6)
#define FLOOR R(1e-4)

typedef struct la_dims {
    int64_t s, t, c, h, d;
    bool clamp; /* KD_GUARD_CLAMP */
} la_dims;

/* Rows of a head are padded with zeros to whole packs, so that one text serves every width.  Packs are written out:
 * left to the compiler, each width takes code of its own (a quarter of this library's build) and some are slow. */
#if defined(__AVX512F__)
#    define PACK_BYTES 64
#elif defined(__AVX__)
#    define PACK_BYTES 32
#else
#    define PACK_BYTES 16
#endif
enum { LANES = PACK_BYTES / sizeof(real) };
typedef real pack __attribute__((vector_size(PACK_BYTES), aligned(sizeof(real)), may_alias));

typedef real la_row[KD_MAX_LINEAR_HEAD_DIM];

static la_dims dims_of(const kd_linear_attention_attr *a, const kd_shape *qkv)
{
    const int64_t c = qkv->dim[2] / 3;
    const la_dims d = {qkv->dim[0], qkv->dim[1], c, a->heads, c / a->heads, a->guard == KD_GUARD_CLAMP};
    return d;
}

/* phi(u) = elu(u) + 1 */
static inline real phi(real u)
{
    return u > R(0.0) ? u + R(1.0) : r_exp(u);
}

/* The derivative, from the value: 1 where phi is u + 1 > 1, phi itself where it is an exponential <= 1. */
static inline real phi_d(real p)
{
    return p > R(1.0) ? R(1.0) : p;
}

/* p[0..d) = phi(row) */
static void load_phi(la_row p, const act_t *restrict row, int64_t d)
{
    for (int64_t j = 0; j < d; j++) {
        p[j] = phi(ld(row, j));
    }
}

/* n packs of m (d,d) += x (d) y (d)^T from column j on; n is a literal. */
static inline __attribute__((always_inline)) void outer(la_row *restrict m, const real *restrict x,
                                                        const real *restrict y, int64_t d, int64_t j, int n)
{
    pack v[4];
    memcpy(v, y + j, (size_t)n * sizeof *v);
    for (int64_t i = 0; i < d; i++) {
        for (int k = 0; k < n; k++) {
            *(pack *)(m[i] + j + k * LANES) += x[i] * v[k];
        }
    }
}

/* m (d,d) += x (d) y (d)^T */
static inline void add_outer(la_row *restrict m, const real *restrict x, const real *restrict y, int64_t d)
{
    int64_t j = 0;
    for (; j + 3 * LANES < d; j += 4 * LANES) {
        outer(m, x, y, d, j, 4);
    }
    if (j + LANES < d) {
        outer(m, x, y, d, j, 2);
        j += 2 * LANES;
    }
    if (j < d) {
        outer(m, x, y, d, j, 1);
    }
}

/* n packs of y = x m from column j on.  The packs are sums side by side; n is a literal. */
static inline __attribute__((always_inline)) void columns(const real *restrict x, const la_row *restrict m,
                                                          real *restrict y, int64_t d, int64_t j, int n)
{
    pack sum[4] = {{0}};
    for (int64_t i = 0; i < d; i++) {
        for (int k = 0; k < n; k++) {
            sum[k] += x[i] * *(const pack *)(m[i] + j + k * LANES);
        }
    }
    memcpy(y + j, sum, (size_t)n * sizeof *sum);
}

/* y (d) = x (d) m (d,d) */
static inline void row_times(const real *restrict x, const la_row *restrict m, real *restrict y, int64_t d)
{
    int64_t j = 0;
    for (; j + 3 * LANES < d; j += 4 * LANES) {
        columns(x, m, y, d, j, 4);
    }
    if (j + LANES < d) {
        columns(x, m, y, d, j, 2);
        j += 2 * LANES;
    }
    if (j < d) {
        columns(x, m, y, d, j, 1);
    }
}

/* kv (d,d) = sum_t phi(k_t) v_t^T, ks (d) = sum_t phi(k_t) */
static void state(const act_t *qkv, const la_dims *n, la_row *kv, real *ks)
{
    la_row k = {0}, v = {0};
    memset(kv, 0, (size_t)n->d * sizeof *kv);
    memset(ks, 0, sizeof(la_row));
    for (int64_t t = 0; t < n->t; t++) {
        load_phi(k, qkv + t * 3 * n->c + n->c, n->d);
        kd_load_act(v, qkv + t * 3 * n->c + 2 * n->c, n->d);
        for (int64_t i = 0; i < n->d; i++) {
            ks[i] += k[i];
        }
        add_outer(kv, k, v, n->d);
    }
}

/* q . ks and its guard; NaN passes. */
static real normaliser(const real *restrict q, const real *restrict ks, const la_dims *n)
{
    real z = n->clamp ? R(0.0) : EPS;
    for (int64_t i = 0; i < n->d; i++) {
        z += q[i] * ks[i];
    }
    return n->clamp && z < FLOOR ? FLOOR : z;
}

static void transpose(const la_row *restrict m, la_row *restrict t, int64_t d)
{
    for (int64_t i = 0; i < d; i++) {
        for (int64_t j = 0; j < d; j++) {
            t[j][i] = m[i][j];
        }
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

static void head_forward(const act_t *qkv, act_t *out, const la_dims *n)
{
    la_row kv[KD_MAX_LINEAR_HEAD_DIM], ks, q = {0}, o;
    state(qkv, n, kv, ks);
    for (int64_t t = 0; t < n->t; t++) {
        load_phi(q, qkv + t * 3 * n->c, n->d);
        const real z = normaliser(q, ks, n);
        row_times(q, (const la_row *)kv, o, n->d);
        for (int64_t j = 0; j < n->d; j++) {
            st(out, t * n->c + j, o[j] / z);
        }
    }
}

static kd_status linear_attention_run(const kd_call *c)
{
    const la_dims n = dims_of(c->attr, &c->in[0].shape);
    const act_t *qkv = c->in[0].data;
    act_t *o = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < n.s * n.h; it++) {
        const int64_t s = it / n.h, off = it % n.h * n.d;
        head_forward(qkv + s * n.t * 3 * n.c + off, o + s * n.t * n.c + off, &n);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(linear_attention) = {.run = linear_attention_run};

/* ---- backward -------------------------------------------------------------------------------- */

/* State of a head and its gradient. */
typedef struct la_state {
    la_row kv[KD_MAX_LINEAR_HEAD_DIM], ks, dkv[KD_MAX_LINEAR_HEAD_DIM], dks;
} la_state;

/* First pass over t: dq, and the gradients of the state. */
static void backward_queries(const act_t *qkv, const act_t *dout, act_t *dqkv, const la_dims *n, la_state *w)
{
    la_row kvt[KD_MAX_LINEAR_HEAD_DIM], q = {0}, o, dn = {0}, dq;
    const int64_t d = n->d;
    memset(kvt, 0, (size_t)d * sizeof *kvt);
    transpose((const la_row *)w->kv, kvt, d);
    for (int64_t t = 0; t < n->t; t++) {
        real dz = R(0.0);
        load_phi(q, qkv + t * 3 * n->c, d);
        const real z = normaliser(q, w->ks, n);
        row_times(q, (const la_row *)w->kv, o, d);
        for (int64_t j = 0; j < d; j++) {
            dn[j] = ld(dout, t * n->c + j) / z;
            dz -= dn[j] * o[j] / z;
        }
        dz = n->clamp && z <= FLOOR ? R(0.0) : dz;
        row_times(dn, (const la_row *)kvt, dq, d);
        for (int64_t i = 0; i < d; i++) {
            st(dqkv, t * 3 * n->c + i, (dq[i] + dz * w->ks[i]) * phi_d(q[i]));
            w->dks[i] += dz * q[i];
        }
        add_outer(w->dkv, q, dn, d);
    }
}

/* Second pass: what the state passes on to k and v. */
static void backward_state(const act_t *qkv, act_t *dqkv, const la_dims *n, const la_state *w)
{
    la_row dkvt[KD_MAX_LINEAR_HEAD_DIM], k = {0}, v = {0}, dk, dv;
    memset(dkvt, 0, (size_t)n->d * sizeof *dkvt);
    transpose(w->dkv, dkvt, n->d);
    for (int64_t t = 0; t < n->t; t++) {
        const act_t *row = qkv + t * 3 * n->c;
        act_t *grad = dqkv + t * 3 * n->c;
        load_phi(k, row + n->c, n->d);
        kd_load_act(v, row + 2 * n->c, n->d);
        row_times(v, (const la_row *)dkvt, dk, n->d);
        row_times(k, w->dkv, dv, n->d);
        for (int64_t i = 0; i < n->d; i++) {
            st(grad, n->c + i, (dk[i] + w->dks[i]) * phi_d(k[i]));
            st(grad, 2 * n->c + i, dv[i]);
        }
    }
}

static kd_status linear_attention_bwd_run(const kd_call *c)
{
    const la_dims n = dims_of(c->attr, &c->in[1].shape);
    const act_t *dout = c->in[0].data, *qkv = c->in[1].data;
    act_t *dqkv = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < n.s * n.h; it++) {
        const int64_t s = it / n.h, off = it % n.h * n.d;
        const act_t *src = qkv + s * n.t * 3 * n.c + off, *grad = dout + s * n.t * n.c + off;
        act_t *dst = dqkv + s * n.t * 3 * n.c + off;
        la_state w;
        state(src, &n, w.kv, w.ks);
        memset(w.dkv, 0, (size_t)n.d * sizeof *w.dkv);
        memset(w.dks, 0, sizeof w.dks);
        backward_queries(src, grad, dst, &n, &w);
        backward_state(src, dst, &n, &w);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(linear_attention_bwd) = {.run = linear_attention_bwd_run};
