/* linear_attention and its gradient: one head of one sequence a loop iteration, its D x D state on
 * the stack. */
#include "kernels/cpu/chunk.h"

#define EPS R(1e-6)

typedef struct la_dims {
    int64_t s, t, c, h, d;
} la_dims;

/* Head widths in use get loops of constant length: d is a literal in each instance of an inlined
 * function. */
#define LA_INLINE static inline __attribute__((always_inline))
#define LA_DISPATCH(call) \
    switch (n.d) {        \
    case 8:               \
        call(8);          \
        break;            \
    case 16:              \
        call(16);         \
        break;            \
    case 32:              \
        call(32);         \
        break;            \
    default:              \
        call(n.d);        \
    }

static la_dims dims_of(const kd_linear_attention_attr *a, const kd_shape *qkv)
{
    const int64_t c = qkv->dim[2] / 3;
    const la_dims d = {qkv->dim[0], qkv->dim[1], c, a->heads, c / a->heads};
    return d;
}

/* phi(u) = elu(u) + 1 */
LA_INLINE real phi(real u)
{
    return u > R(0.0) ? u + R(1.0) : r_exp(u);
}

/* The derivative, from the value: 1 where phi is u + 1 > 1, phi itself where it is an exponential
 * <= 1. */
LA_INLINE real phi_d(real p)
{
    return p > R(1.0) ? R(1.0) : p;
}

/* p[0..d) = phi(row) */
LA_INLINE void load_phi(real *restrict p, const act_t *restrict row, int64_t d)
{
    for (int64_t j = 0; j < d; j++) {
        p[j] = phi(ld(row, j));
    }
}

/* kv (d,d) = sum_t phi(k_t) v_t^T, ks (d) = sum_t phi(k_t) */
LA_INLINE void state(const act_t *qkv, const la_dims *n, int64_t d, real (*restrict kv)[KD_MAX_LINEAR_HEAD_DIM],
                     real *restrict ks)
{
    for (int64_t i = 0; i < d; i++) {
        ks[i] = R(0.0);
        for (int64_t j = 0; j < d; j++) {
            kv[i][j] = R(0.0);
        }
    }
    for (int64_t t = 0; t < n->t; t++) {
        real k[KD_MAX_LINEAR_HEAD_DIM], v[KD_MAX_LINEAR_HEAD_DIM];
        load_phi(k, qkv + t * 3 * n->c + n->c, d);
        kd_load_act(v, qkv + t * 3 * n->c + 2 * n->c, d);
        for (int64_t i = 0; i < d; i++) {
            ks[i] += k[i];
            for (int64_t j = 0; j < d; j++) {
                kv[i][j] += k[i] * v[j];
            }
        }
    }
}

/* y (d) = x (d) m (d,d) */
LA_INLINE void row_times(const real *restrict x, const real (*restrict m)[KD_MAX_LINEAR_HEAD_DIM], real *restrict y,
                         int64_t d)
{
    for (int64_t j = 0; j < d; j++) {
        y[j] = R(0.0);
    }
    for (int64_t i = 0; i < d; i++) {
        for (int64_t j = 0; j < d; j++) {
            y[j] += x[i] * m[i][j];
        }
    }
}

/* q . ks + eps */
LA_INLINE real normaliser(const real *restrict q, const real *restrict ks, int64_t d)
{
    real z = EPS;
    for (int64_t i = 0; i < d; i++) {
        z += q[i] * ks[i];
    }
    return z;
}

LA_INLINE void transpose(const real (*restrict m)[KD_MAX_LINEAR_HEAD_DIM], real (*restrict t)[KD_MAX_LINEAR_HEAD_DIM],
                         int64_t d)
{
    for (int64_t i = 0; i < d; i++) {
        for (int64_t j = 0; j < d; j++) {
            t[j][i] = m[i][j];
        }
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

LA_INLINE void head_forward(const act_t *qkv, act_t *out, const la_dims *n, int64_t d)
{
    real kv[KD_MAX_LINEAR_HEAD_DIM][KD_MAX_LINEAR_HEAD_DIM] = {{0}}, ks[KD_MAX_LINEAR_HEAD_DIM];
    state(qkv, n, d, kv, ks);
    for (int64_t t = 0; t < n->t; t++) {
        real q[KD_MAX_LINEAR_HEAD_DIM], o[KD_MAX_LINEAR_HEAD_DIM];
        load_phi(q, qkv + t * 3 * n->c, d);
        const real z = normaliser(q, ks, d);
        row_times(q, (const real(*)[KD_MAX_LINEAR_HEAD_DIM])kv, o, d);
        for (int64_t j = 0; j < d; j++) {
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
        const act_t *src = qkv + s * n.t * 3 * n.c + off;
        act_t *dst = o + s * n.t * n.c + off;
#define FORWARD(width) head_forward(src, dst, &n, width)
        LA_DISPATCH(FORWARD)
#undef FORWARD
    }
    return KD_OK;
}

const kd_kernel_def KD_K(linear_attention) = {.run = linear_attention_run};

/* ---- backward -------------------------------------------------------------------------------- */

/* First pass over t: dq, and the gradients of the state. */
LA_INLINE void backward_queries(const act_t *qkv, const act_t *dout, act_t *dqkv, const la_dims *n, int64_t d,
                                const real (*restrict kv)[KD_MAX_LINEAR_HEAD_DIM], const real *ks,
                                real (*restrict dkv)[KD_MAX_LINEAR_HEAD_DIM], real *restrict dks)
{
    real kvt[KD_MAX_LINEAR_HEAD_DIM][KD_MAX_LINEAR_HEAD_DIM];
    transpose(kv, kvt, d);
    for (int64_t t = 0; t < n->t; t++) {
        real q[KD_MAX_LINEAR_HEAD_DIM], o[KD_MAX_LINEAR_HEAD_DIM], dn[KD_MAX_LINEAR_HEAD_DIM],
            dq[KD_MAX_LINEAR_HEAD_DIM], dz = R(0.0);
        load_phi(q, qkv + t * 3 * n->c, d);
        const real z = normaliser(q, ks, d);
        row_times(q, kv, o, d);
        for (int64_t j = 0; j < d; j++) {
            dn[j] = ld(dout, t * n->c + j) / z;
            dz -= dn[j] * o[j] / z;
        }
        row_times(dn, (const real(*)[KD_MAX_LINEAR_HEAD_DIM])kvt, dq, d);
        for (int64_t i = 0; i < d; i++) {
            st(dqkv, t * 3 * n->c + i, (dq[i] + dz * ks[i]) * phi_d(q[i]));
            dks[i] += dz * q[i];
            for (int64_t j = 0; j < d; j++) {
                dkv[i][j] += q[i] * dn[j];
            }
        }
    }
}

/* Second pass: what the state passes on to k and v. */
LA_INLINE void backward_state(const act_t *qkv, act_t *dqkv, const la_dims *n, int64_t d,
                              const real (*restrict dkv)[KD_MAX_LINEAR_HEAD_DIM], const real *dks)
{
    real dkvt[KD_MAX_LINEAR_HEAD_DIM][KD_MAX_LINEAR_HEAD_DIM];
    transpose(dkv, dkvt, d);
    for (int64_t t = 0; t < n->t; t++) {
        real k[KD_MAX_LINEAR_HEAD_DIM], v[KD_MAX_LINEAR_HEAD_DIM], dk[KD_MAX_LINEAR_HEAD_DIM],
            dv[KD_MAX_LINEAR_HEAD_DIM];
        const act_t *row = qkv + t * 3 * n->c;
        act_t *grad = dqkv + t * 3 * n->c;
        load_phi(k, row + n->c, d);
        kd_load_act(v, row + 2 * n->c, d);
        row_times(v, (const real(*)[KD_MAX_LINEAR_HEAD_DIM])dkvt, dk, d);
        row_times(k, dkv, dv, d);
        for (int64_t i = 0; i < d; i++) {
            st(grad, n->c + i, (dk[i] + dks[i]) * phi_d(k[i]));
            st(grad, 2 * n->c + i, dv[i]);
        }
    }
}

LA_INLINE void head_backward(const act_t *qkv, const act_t *dout, act_t *dqkv, const la_dims *n, int64_t d)
{
    real kv[KD_MAX_LINEAR_HEAD_DIM][KD_MAX_LINEAR_HEAD_DIM] = {{0}}, ks[KD_MAX_LINEAR_HEAD_DIM],
         dkv[KD_MAX_LINEAR_HEAD_DIM][KD_MAX_LINEAR_HEAD_DIM] = {{0}}, dks[KD_MAX_LINEAR_HEAD_DIM] = {0};
    state(qkv, n, d, kv, ks);
    backward_queries(qkv, dout, dqkv, n, d, (const real(*)[KD_MAX_LINEAR_HEAD_DIM])kv, ks, dkv, dks);
    backward_state(qkv, dqkv, n, d, (const real(*)[KD_MAX_LINEAR_HEAD_DIM])dkv, dks);
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
#define BACKWARD(width) head_backward(src, grad, dst, &n, width)
        LA_DISPATCH(BACKWARD)
#undef BACKWARD
    }
    return KD_OK;
}

const kd_kernel_def KD_K(linear_attention_bwd) = {.run = linear_attention_bwd_run};
