/* adj_norm, dyn_adj and their gradients: V x V matrices, far from any hot loop. */
#include "kernels/cpu/chunk.h"

#define KD_MIN_DEGREE R(1e-6)

/* Element of the matrix that is normalised: L, or |fixed + L|. */
static real entry(const real *learned, const real *fixed, int mode, int64_t i)
{
    const real raw = learned[i] + (fixed != NULL ? fixed[i] : R(0.0));
    return mode == KD_ADJ_ABS ? r_fabs(raw) : raw;
}

/* s[v] = rowsum^-1/2 under the mode's guard; d[v] = ds/d(rowsum). */
static void row_scales(const real *learned, const real *fixed, int mode, int64_t v, real *s, real *d)
{
    for (int64_t i = 0; i < v; i++) {
        real sum = R(0.0);
        for (int64_t j = 0; j < v; j++) {
            sum += entry(learned, fixed, mode, i * v + j);
        }
        const bool low = mode == KD_ADJ_ABS && sum < KD_MIN_DEGREE;
        const real r = low ? KD_MIN_DEGREE : sum;
        s[i] = R(1.0) / r_sqrt(r);
        d[i] = low ? R(0.0) : R(-0.5) * s[i] * s[i] * s[i];
        if (mode == KD_ADJ_V1 && isinf(s[i])) {
            s[i] = d[i] = R(0.0); /* an empty row is cut off, and no gradient crosses the cut */
        }
    }
}

static kd_status adj_norm_run(const kd_call *c)
{
    const kd_adj_norm_attr *at = c->attr;
    const real *l = c->in[0].data, *f = kd_in(c, 1);
    real *a = c->out[0].data;
    const int64_t v = c->out[0].shape.dim[0];
    real s[KD_MAX_JOINTS], d[KD_MAX_JOINTS];
    row_scales(l, f, at->mode, v, s, d);
    for (int64_t i = 0; i < v; i++) {
        for (int64_t j = 0; j < v; j++) {
            a[i * v + j] = s[i] * entry(l, f, at->mode, i * v + j) * s[j];
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(adj_norm) = {.run = adj_norm_run};

static kd_status adj_norm_bwd_run(const kd_call *c)
{
    const kd_adj_norm_attr *at = c->attr;
    const real *da = c->in[0].data, *l = c->in[1].data, *f = kd_in(c, 2);
    const int64_t v = c->out[0].shape.dim[0];
    real s[KD_MAX_JOINTS], d[KD_MAX_JOINTS];
    row_scales(l, f, at->mode, v, s, d);
    for (int64_t i = 0; i < v; i++) {
        real ds = R(0.0); /* gradient of s[i], through row i and through column i */
        for (int64_t j = 0; j < v; j++) {
            ds += da[i * v + j] * entry(l, f, at->mode, i * v + j) * s[j];
            ds += da[j * v + i] * entry(l, f, at->mode, j * v + i) * s[j];
        }
        real row[KD_MAX_JOINTS];
        for (int64_t j = 0; j < v; j++) {
            const real raw = l[i * v + j] + (f != NULL ? f[i * v + j] : R(0.0));
            const real sign = raw > R(0.0) ? R(1.0) : (raw < R(0.0) ? R(-1.0) : R(0.0));
            const real db = s[i] * s[j] * da[i * v + j] + ds * d[i];
            row[j] = at->mode == KD_ADJ_ABS ? db * sign : db;
        }
        kd_store(c, 0, i * v, row, v);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(adj_norm_bwd) = {.run = adj_norm_bwd_run};

/* ---- dyn_adj --------------------------------------------------------------------------------- */

/* u (E,V) = e / (|e| + 1e-8) column by column; norm[v] = |e| + 1e-8. */
static void normalise(const act_t *e, int64_t ne, int64_t v, real *restrict u, real *restrict norm)
{
    for (int64_t j = 0; j < v; j++) {
        norm[j] = R(0.0);
    }
    for (int64_t i = 0; i < ne; i++) {
        for (int64_t j = 0; j < v; j++) {
            const real x = ld(e, i * v + j);
            norm[j] += x * x;
        }
    }
    for (int64_t j = 0; j < v; j++) {
        norm[j] = r_sqrt(norm[j]) + R(1e-8);
    }
    for (int64_t i = 0; i < ne; i++) {
        for (int64_t j = 0; j < v; j++) {
            u[i * v + j] = ld(e, i * v + j) / norm[j];
        }
    }
}

static size_t dyn_adj_scratch(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    return (size_t)(s->dim[0] * s->dim[1] * s->dim[2]) * sizeof(real);
}

static kd_status dyn_adj_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t n = s->dim[0], ne = s->dim[1], v = s->dim[2];
    const act_t *e = c->in[0].data;
    real *a = c->out[0].data;
    KD_FOR
    for (int64_t b = 0; b < n; b++) {
        real norm[KD_MAX_JOINTS];
        real *u = (real *)c->scratch + b * ne * v;
        normalise(e + b * ne * v, ne, v, u, norm);
        for (int64_t i = 0; i < v; i++) {
            real *restrict row = a + (b * v + i) * v;
            for (int64_t j = 0; j < v; j++) {
                row[j] = R(0.0);
            }
            for (int64_t k = 0; k < ne; k++) {
                for (int64_t j = 0; j < v; j++) {
                    row[j] += u[k * v + i] * u[k * v + j];
                }
            }
            real sum = R(0.0), top = row[0];
            for (int64_t j = 1; j < v; j++) {
                top = row[j] > top ? row[j] : top;
            }
            for (int64_t j = 0; j < v; j++) {
                row[j] = r_exp(row[j] - top);
                sum += row[j];
            }
            for (int64_t j = 0; j < v; j++) {
                row[j] /= sum;
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(dyn_adj) = {.run = dyn_adj_run, .scratch = dyn_adj_scratch};

static size_t dyn_adj_bwd_scratch(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    return (size_t)(s->dim[0] * (2 * s->dim[1] + s->dim[2]) * s->dim[2]) * sizeof(real);
}

static kd_status dyn_adj_bwd_run(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t n = s->dim[0], ne = s->dim[1], v = s->dim[2];
    const real *da = c->in[0].data, *a = c->in[2].data;
    const act_t *e = c->in[1].data;
    act_t *de = c->out[0].data;
    KD_FOR
    for (int64_t b = 0; b < n; b++) {
        real norm[KD_MAX_JOINTS], along[KD_MAX_JOINTS];
        real *u = (real *)c->scratch + b * (2 * ne + v) * v, *du = u + ne * v, *ds = du + ne * v;
        normalise(e + b * ne * v, ne, v, u, norm);
        for (int64_t i = 0; i < v; i++) {
            const real *g = da + (b * v + i) * v, *p = a + (b * v + i) * v;
            const real dot = kd_dot(g, p, v);
            for (int64_t j = 0; j < v; j++) {
                ds[i * v + j] = p[j] * (g[j] - dot);
            }
            along[i] = R(0.0);
        }
        for (int64_t k = 0; k < ne; k++) { /* scores are symmetric in u: both sides count */
            for (int64_t i = 0; i < v; i++) {
                real sum = R(0.0);
                for (int64_t j = 0; j < v; j++) {
                    sum += (ds[i * v + j] + ds[j * v + i]) * u[k * v + j];
                }
                du[k * v + i] = sum;
                along[i] += sum * u[k * v + i];
            }
        }
        for (int64_t k = 0; k < ne; k++) {
            for (int64_t i = 0; i < v; i++) {
                /* d|e|/de is e/|e|, and 0 at |e| = 0 */
                const real len = norm[i] - R(1e-8);
                const real ray = len > R(0.0) ? u[k * v + i] * norm[i] / len : R(0.0);
                st(de, (b * ne + k) * v + i, (du[k * v + i] - along[i] * ray) / norm[i]);
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(dyn_adj_bwd) = {.run = dyn_adj_bwd_run, .scratch = dyn_adj_bwd_scratch};
