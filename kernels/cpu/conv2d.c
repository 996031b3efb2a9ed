/* conv2d, conv2d_bwd_x, conv2d_bwd_w.
 *
 * Three forms.  Depthwise: each plane is a sum of shifted copies.  Everything else is a product of
 * tiles (conv_tile.h) whose right operand is gathered position by position, so that a 1x1
 * convolution is a plain (Co x Ci)(Ci x positions) product and any other kernel differs in the
 * gathering alone.  Gradients of the weights sum one sample at a time. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/conv_geom.h"
#include "kernels/cpu/conv_tile.h"

/* ---- forward --------------------------------------------------------------------------------- */

/* Depth [k0, k0+k) of the gathered input (channel-major, then taps) at positions [p, p+n). */
static void pack_x(const conv_geom *g, const act_t *x, int64_t k0, int64_t k, int64_t p, int64_t n,
                   kd_tile *t)
{
    const int64_t taps = g->kh * g->kw;
    for (int64_t i = 0; i < k; i++) {
        const int64_t c = (k0 + i) / taps, tap = (k0 + i) % taps;
        conv_read(g, x + c * g->h * g->w, tap / g->kw, tap % g->kw, p, n, t->x[i]);
    }
}

static void store_rows(const kd_tile *t, int64_t m, int64_t n, int32_t act, act_t *y, int64_t plane,
                       const real *bias)
{
    real row[KD_TILE_N];
    for (int64_t i = 0; i < m; i++) {
        const real b = bias != NULL ? bias[i] : R(0.0);
        for (int64_t j = 0; j < n; j++) {
            row[j] = t->acc[i][j] + b;
        }
        kd_act_row(act, row, n);
        for (int64_t j = 0; j < n; j++) {
            st(y + i * plane, j, row[j]);
        }
    }
}

static void dense_forward(const conv_geom *g, const kd_call *c, int32_t act)
{
    const act_t *x = c->in[0].data, *w = c->in[1].data;
    const real *bias = kd_in(c, 2);
    act_t *y = c->out[0].data;
    const int64_t plane = g->ho * g->wo, depth = g->cig * g->kh * g->kw;
    const int64_t tm = kd_tiles(g->cog, KD_TILE_M), tn = kd_tiles(plane, KD_TILE_N);
    KD_FOR
    for (int64_t it = 0; it < g->n * g->groups * tn * tm; it++) {
        kd_tile t;
        const int64_t m0 = it % tm * KD_TILE_M, p = it / tm % tn * KD_TILE_N;
        const int64_t gr = it / tm / tn % g->groups, s = it / tm / tn / g->groups;
        const int64_t m = KD_MIN((int64_t)KD_TILE_M, g->cog - m0);
        const int64_t n = KD_MIN((int64_t)KD_TILE_N, plane - p);
        const int64_t co = gr * g->cog + m0;
        kd_tile_clear(&t, m, n);
        for (int64_t k0 = 0; k0 < depth; k0 += KD_TILE_K) {
            const int64_t k = KD_MIN((int64_t)KD_TILE_K, depth - k0);
            pack_x(g, x + (s * g->ci + gr * g->cig) * g->h * g->w, k0, k, p, n, &t);
            for (int64_t i = 0; i < m; i++) {
                for (int64_t j = 0; j < k; j++) {
                    t.w[i][j] = ld(w, (co + i) * depth + k0 + j);
                }
            }
            kd_tile_product(&t, m, k, n);
        }
        store_rows(&t, m, n, act, y + (s * g->co + co) * plane + p, plane,
                   bias != NULL ? bias + co : NULL);
    }
}

/* acc[j] += w * row[j] */
static inline void axpy(real *restrict acc, const real *restrict row, real w, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        acc[j] += w * row[j];
    }
}

static void depth_forward(const conv_geom *g, const kd_call *c, int32_t act)
{
    const act_t *x = c->in[0].data, *w = c->in[1].data;
    const real *bias = kd_in(c, 2);
    act_t *y = c->out[0].data;
    const int64_t plane = g->ho * g->wo, taps = g->kh * g->kw;
    KD_FOR
    for (int64_t it = 0; it < g->n * g->co; it++) {
        const int64_t ch = it % g->co;
        const act_t *src = x + it * g->h * g->w;
        for (int64_t p = 0; p < plane; p += KD_CHUNK) {
            real acc[KD_CHUNK], row[KD_CHUNK];
            const int64_t n = KD_MIN((int64_t)KD_CHUNK, plane - p);
            for (int64_t j = 0; j < n; j++) {
                acc[j] = bias != NULL ? bias[ch] : R(0.0);
            }
            for (int64_t k = 0; k < taps; k++) {
                conv_read(g, src, k / g->kw, k % g->kw, p, n, row);
                axpy(acc, row, ld(w, ch * taps + k), n);
            }
            kd_act_row(act, acc, n);
            for (int64_t j = 0; j < n; j++) {
                st(y + it * plane + p, j, acc[j]);
            }
        }
    }
}

static kd_status conv2d_run(const kd_call *c)
{
    const kd_conv2d_attr *a = c->attr;
    const conv_geom g = conv_geometry(a, &c->in[0].shape, &c->out[0].shape, c->in[1].shape.dim[2],
                                      c->in[1].shape.dim[3]);
    if (g.depthwise) {
        depth_forward(&g, c, a->act);
    } else {
        dense_forward(&g, c, a->act);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(conv2d) = {.run = conv2d_run};

/* ---- gradient of the input ------------------------------------------------------------------- */

static void dense_backward_x(const conv_geom *g, const kd_call *c)
{
    const act_t *dy = c->in[0].data, *w = c->in[1].data;
    act_t *dx = c->out[0].data;
    const int64_t plane = g->h * g->w, taps = g->kh * g->kw, depth = g->cog * taps;
    const int64_t tm = kd_tiles(g->cig, KD_TILE_M), tn = kd_tiles(plane, KD_TILE_N);
    KD_FOR
    for (int64_t it = 0; it < g->n * g->groups * tn * tm; it++) {
        kd_tile t;
        const int64_t m0 = it % tm * KD_TILE_M, p = it / tm % tn * KD_TILE_N;
        const int64_t gr = it / tm / tn % g->groups, s = it / tm / tn / g->groups;
        const int64_t m = KD_MIN((int64_t)KD_TILE_M, g->cig - m0);
        const int64_t n = KD_MIN((int64_t)KD_TILE_N, plane - p);
        const act_t *src = dy + (s * g->co + gr * g->cog) * g->ho * g->wo;
        kd_tile_clear(&t, m, n);
        for (int64_t k0 = 0; k0 < depth; k0 += KD_TILE_K) {
            const int64_t k = KD_MIN((int64_t)KD_TILE_K, depth - k0);
            for (int64_t i = 0; i < k; i++) {
                const int64_t o = (k0 + i) / taps, tap = (k0 + i) % taps;
                conv_read_back(g, src + o * g->ho * g->wo, tap / g->kw, tap % g->kw, p, n, t.x[i]);
                for (int64_t j = 0; j < m; j++) {
                    t.w[j][i] = ld(w, ((gr * g->cog + o) * g->cig + m0 + j) * taps + tap);
                }
            }
            kd_tile_product(&t, m, k, n);
        }
        store_rows(&t, m, n, KD_ACT_NONE, dx + (s * g->ci + gr * g->cig + m0) * plane + p, plane,
                   NULL);
    }
}

static void depth_backward_x(const conv_geom *g, const kd_call *c)
{
    const act_t *dy = c->in[0].data, *w = c->in[1].data;
    act_t *dx = c->out[0].data;
    const int64_t plane = g->h * g->w, taps = g->kh * g->kw;
    KD_FOR
    for (int64_t it = 0; it < g->n * g->ci; it++) {
        const act_t *src = dy + it * g->ho * g->wo;
        for (int64_t p = 0; p < plane; p += KD_CHUNK) {
            real acc[KD_CHUNK], row[KD_CHUNK];
            const int64_t n = KD_MIN((int64_t)KD_CHUNK, plane - p);
            for (int64_t j = 0; j < n; j++) {
                acc[j] = R(0.0);
            }
            for (int64_t k = 0; k < taps; k++) {
                conv_read_back(g, src, k / g->kw, k % g->kw, p, n, row);
                axpy(acc, row, ld(w, it % g->ci * taps + k), n);
            }
            for (int64_t j = 0; j < n; j++) {
                st(dx + it * plane + p, j, acc[j]);
            }
        }
    }
}

static kd_status conv2d_bwd_x_run(const kd_call *c)
{
    const kd_conv2d_attr *a = c->attr;
    const conv_geom g = conv_geometry(a, &a->x_shape, &c->in[0].shape, c->in[1].shape.dim[2],
                                      c->in[1].shape.dim[3]);
    if (g.depthwise) {
        depth_backward_x(&g, c);
    } else {
        dense_backward_x(&g, c);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(conv2d_bwd_x) = {.run = conv2d_bwd_x_run};

/* ---- gradient of weight and bias ------------------------------------------------------------- */

/* Left operand: dy of m channels at k positions.  Right: the gathered input, transposed: positions
 * are the depth. */
static void pack_positions(const conv_geom *g, const act_t *x, const act_t *dy, int64_t n0,
                           int64_t n, int64_t m, int64_t p, int64_t k, kd_tile *t)
{
    const int64_t taps = g->kh * g->kw;
    for (int64_t j = 0; j < n; j++) {
        real column[KD_TILE_K];
        const int64_t ch = (n0 + j) / taps, tap = (n0 + j) % taps;
        conv_read(g, x + ch * g->h * g->w, tap / g->kw, tap % g->kw, p, k, column);
        for (int64_t i = 0; i < k; i++) {
            t->x[i][j] = column[i];
        }
    }
    for (int64_t i = 0; i < m; i++) {
        kd_load_act(t->w[i], dy + i * g->ho * g->wo + p, k);
    }
}

static void dense_backward_w(const conv_geom *g, const kd_call *c)
{
    const act_t *dy = c->in[0].data, *x = c->in[1].data;
    const int64_t plane = g->ho * g->wo, depth = g->cig * g->kh * g->kw;
    const int64_t tm = kd_tiles(g->cog, KD_TILE_M), tn = kd_tiles(depth, KD_TILE_N);
    KD_FOR
    for (int64_t it = 0; it < g->groups * tm * tn; it++) {
        kd_tile t;
        real total[KD_TILE_M][KD_TILE_N];
        const int64_t n0 = it % tn * KD_TILE_N, m0 = it / tn % tm * KD_TILE_M, gr = it / tn / tm;
        const int64_t m = KD_MIN((int64_t)KD_TILE_M, g->cog - m0);
        const int64_t n = KD_MIN((int64_t)KD_TILE_N, depth - n0);
        const int64_t co = gr * g->cog + m0;
        for (int64_t s = 0; s < g->n; s++) {
            kd_tile_clear(&t, m, n);
            for (int64_t p = 0; p < plane; p += KD_TILE_K) {
                const int64_t k = KD_MIN((int64_t)KD_TILE_K, plane - p);
                pack_positions(g, x + (s * g->ci + gr * g->cig) * g->h * g->w,
                               dy + (s * g->co + co) * plane, n0, n, m, p, k, &t);
                kd_tile_product(&t, m, k, n);
            }
            for (int64_t i = 0; i < m; i++) {
                for (int64_t j = 0; j < n; j++) {
                    total[i][j] = s == 0 ? t.acc[i][j] : total[i][j] + t.acc[i][j];
                }
            }
        }
        for (int64_t i = 0; i < m && g->n > 0; i++) {
            kd_store(c, 0, (co + i) * depth + n0, total[i], n);
        }
    }
}

static void depth_backward_w(const conv_geom *g, const kd_call *c)
{
    const act_t *dy = c->in[0].data, *x = c->in[1].data;
    const int64_t plane = g->ho * g->wo, taps = g->kh * g->kw;
    KD_FOR
    for (int64_t it = 0; it < g->co * taps; it++) {
        const int64_t ch = it / taps, k = it % taps;
        real sum = R(0.0);
        for (int64_t s = 0; s < g->n; s++) {
            real part = R(0.0);
            for (int64_t p = 0; p < plane; p += KD_CHUNK) {
                real row[KD_CHUNK];
                const int64_t n = KD_MIN((int64_t)KD_CHUNK, plane - p);
                conv_read(g, x + (s * g->ci + ch) * g->h * g->w, k / g->kw, k % g->kw, p, n, row);
                part += kd_dot_act(row, dy + (s * g->co + ch) * plane + p, n);
            }
            sum += part;
        }
        kd_store(c, 0, it, &sum, 1);
    }
}

static void backward_bias(const conv_geom *g, const kd_call *c)
{
    const act_t *dy = c->in[0].data;
    const int64_t plane = g->ho * g->wo;
    KD_FOR
    for (int64_t ch = 0; ch < g->co; ch++) {
        real sum = R(0.0);
        for (int64_t s = 0; s < g->n; s++) {
            sum += kd_sum_act(dy + (s * g->co + ch) * plane, plane);
        }
        kd_store(c, 1, ch, &sum, 1);
    }
}

static kd_status conv2d_bwd_w_run(const kd_call *c)
{
    const kd_conv2d_attr *a = c->attr;
    const conv_geom g =
        conv_geometry(a, &c->in[1].shape, &c->in[0].shape, a->kernel[0], a->kernel[1]);
    if (c->out[0].data != NULL) {
        if (g.depthwise) {
            depth_backward_w(&g, c);
        } else {
            dense_backward_w(&g, c);
        }
    }
    if (c->n_out > 1 && c->out[1].data != NULL) {
        backward_bias(&g, c);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(conv2d_bwd_w) = {.run = conv2d_bwd_w_run};
