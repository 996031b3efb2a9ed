/* linear_attention and its gradient: one head of one sequence a loop iteration, its D x D state on the stack. */
#include "kernels/cpu/chunk.h"

#define MAX_D 64 /* kernels/op/linear_attention.c */
#define EPS   R(1e-6)

typedef struct la_dims {
    int64_t s, t, c, h, d;
} la_dims;

static la_dims dims_of(const kd_linear_attention_attr *a, const kd_shape *qkv)
{
    const int64_t c = qkv->dim[2] / 3;
    const la_dims d = {qkv->dim[0], qkv->dim[1], c, a->heads, c / a->heads};
    return d;
}

/* phi(u) = elu(u) + 1 and its derivative. */
static real phi(real u)
{
    return u > R(0.0) ? u + R(1.0) : r_exp(u);
}

static real phi_d(real u)
{
    return u > R(0.0) ? R(1.0) : r_exp(u);
}

/* p[0..d) = phi(row) */
static void load_phi(real *restrict p, const act_t *restrict row, int64_t d)
{
    for (int64_t j = 0; j < d; j++) {
        p[j] = phi(ld(row, j));
    }
}

/* kv (d,d) = sum_t phi(k_t) v_t^T, ks (d) = sum_t phi(k_t) */
static void state(const act_t *qkv, const la_dims *n, real (*restrict kv)[MAX_D], real *restrict ks)
{
    for (int64_t i = 0; i < n->d; i++) {
        ks[i] = R(0.0);
        for (int64_t j = 0; j < n->d; j++) {
            kv[i][j] = R(0.0);
        }
    }
    for (int64_t t = 0; t < n->t; t++) {
        real k[MAX_D], v[MAX_D];
        load_phi(k, qkv + t * 3 * n->c + n->c, n->d);
        kd_load_act(v, qkv + t * 3 * n->c + 2 * n->c, n->d);
        for (int64_t i = 0; i < n->d; i++) {
            ks[i] += k[i];
            for (int64_t j = 0; j < n->d; j++) {
                kv[i][j] += k[i] * v[j];
            }
        }
    }
}

/* o (d) = q KV, returns z = q . ks + eps */
static real read_state(const real *restrict q, const real (*restrict kv)[MAX_D],
                       const real *restrict ks, real *restrict o, int64_t d)
{
    real z = EPS;
    for (int64_t j = 0; j < d; j++) {
        o[j] = R(0.0);
    }
    for (int64_t i = 0; i < d; i++) {
        z += q[i] * ks[i];
        for (int64_t j = 0; j < d; j++) {
            o[j] += q[i] * kv[i][j];
        }
    }
    return z;
}

static kd_status linear_attention_run(const kd_call *c)
{
    const la_dims n = dims_of(c->attr, &c->in[0].shape);
    const act_t *qkv = c->in[0].data;
    act_t *o = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < n.s * n.h; it++) {
        real kv[MAX_D][MAX_D], ks[MAX_D];
        const int64_t s = it / n.h, off = it % n.h * n.d;
        const act_t *src = qkv + s * n.t * 3 * n.c + off;
        state(src, &n, kv, ks);
        for (int64_t t = 0; t < n.t; t++) {
            real q[MAX_D], row[MAX_D];
            load_phi(q, src + t * 3 * n.c, n.d);
            const real z = read_state(q, (const real(*)[MAX_D])kv, ks, row, n.d);
            for (int64_t j = 0; j < n.d; j++) {
                st(o, (s * n.t + t) * n.c + off + j, row[j] / z);
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(linear_attention) = {.run = linear_attention_run};

/* First pass over t: dq, and the gradients of the state. */
static void backward_queries(const act_t *qkv, const act_t *dout, act_t *dqkv, const la_dims *n,
                             const real (*restrict kv)[MAX_D], const real *ks,
                             real (*restrict dkv)[MAX_D], real *restrict dks)
{
    for (int64_t t = 0; t < n->t; t++) {
        real q[MAX_D], o[MAX_D], dn[MAX_D];
        const act_t *row = qkv + t * 3 * n->c;
        load_phi(q, row, n->d);
        const real z = read_state(q, kv, ks, o, n->d);
        real dz = R(0.0);
        for (int64_t j = 0; j < n->d; j++) {
            dn[j] = ld(dout, t * n->c + j) / z;
            dz -= dn[j] * o[j] / z;
        }
        for (int64_t i = 0; i < n->d; i++) {
            const real dq = kd_dot(kv[i], dn, n->d) + dz * ks[i];
            st(dqkv, t * 3 * n->c + i, dq * phi_d(ld(row, i)));
            dks[i] += dz * q[i];
            for (int64_t j = 0; j < n->d; j++) {
                dkv[i][j] += q[i] * dn[j];
            }
        }
    }
}

/* Second pass: what the state passes on to k and v. */
static void backward_state(const act_t *qkv, act_t *dqkv, const la_dims *n,
                           const real (*restrict dkv)[MAX_D], const real *dks)
{
    for (int64_t t = 0; t < n->t; t++) {
        real k[MAX_D], v[MAX_D], dv[MAX_D] = {0};
        const act_t *row = qkv + t * 3 * n->c;
        load_phi(k, row + n->c, n->d);
        kd_load_act(v, row + 2 * n->c, n->d);
        for (int64_t i = 0; i < n->d; i++) {
            const real dk = kd_dot(dkv[i], v, n->d) + dks[i];
            st(dqkv, t * 3 * n->c + n->c + i, dk * phi_d(ld(row, n->c + i)));
            for (int64_t j = 0; j < n->d; j++) {
                dv[j] += k[i] * dkv[i][j];
            }
        }
        for (int64_t j = 0; j < n->d; j++) {
            st(dqkv, t * 3 * n->c + 2 * n->c + j, dv[j]);
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
        real kv[MAX_D][MAX_D], ks[MAX_D], dkv[MAX_D][MAX_D], dks[MAX_D] = {0};
        const int64_t s = it / n.h, off = it % n.h * n.d;
        const act_t *src = qkv + s * n.t * 3 * n.c + off;
        act_t *dst = dqkv + s * n.t * 3 * n.c + off;
        state(src, &n, kv, ks);
        memset(dkv, 0, sizeof dkv);
        backward_queries(src, dout + s * n.t * n.c + off, dst, &n, (const real(*)[MAX_D])kv, ks,
                         dkv, dks);
        backward_state(src, dst, &n, (const real(*)[MAX_D])dkv, dks);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(linear_attention_bwd) = {.run = linear_attention_bwd_run};
