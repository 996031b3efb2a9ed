/* conv2d, conv3d and their gradients: the same kernels, whatever the number of dims (conv_geom.h).
 *
 * Two forms.  Depthwise: each volume is a sum of shifted copies.  Everything else is a product of
 * tiles (conv_tile.h) whose right operand is gathered position by position, so that a 1x1
 * convolution is a plain (Co x Ci)(Ci x positions) product and any other kernel differs in the
 * gathering alone.  Gradients of the weights sum one sample at a time. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/conv_geom.h"
#include "kernels/cpu/conv_tile.h"

/* ---- forward --------------------------------------------------------------------------------- */

/* Depth [k0, k0+k) of the gathered input (channel-major, then taps) at positions [p, p+n). */
static void pack_x(const conv_geom *g, const act_t *x, int64_t k0, int64_t k, int64_t p, int64_t n, kd_tile *t)
{
    for (int64_t i = 0; i < k; i++) {
        const int64_t c = (k0 + i) / g->taps, tap = (k0 + i) % g->taps;
        conv_gather(g, x + c * g->in, tap, p, n, t->x[i]);
    }
}

static void store_rows(const kd_tile *t, int64_t m, int64_t n, int32_t act, act_t *y, int64_t volume, const real *bias)
{
    real row[KD_TILE_N];
    for (int64_t i = 0; i < m; i++) {
        const real b = bias != NULL ? bias[i] : R(0.0);
        for (int64_t j = 0; j < n; j++) {
            row[j] = t->acc[i][j] + b;
        }
        kd_act_row(act, row, n);
        for (int64_t j = 0; j < n; j++) {
            st(y + i * volume, j, row[j]);
        }
    }
}

static void dense_forward(const conv_geom *g, const kd_call *c, int32_t act)
{
    const act_t *x = c->in[0].data, *w = c->in[1].data;
    const real *bias = kd_in(c, 2);
    act_t *y = c->out[0].data;
    const int64_t depth = g->cig * g->taps;
    const int64_t tm = kd_tiles(g->cog, KD_TILE_M), tn = kd_tiles(g->out, KD_TILE_N);
    KD_FOR
    for (int64_t it = 0; it < g->n * g->groups * tn * tm; it++) {
        kd_tile t;
        const int64_t m0 = it % tm * KD_TILE_M, p = it / tm % tn * KD_TILE_N;
        const int64_t gr = it / tm / tn % g->groups, s = it / tm / tn / g->groups;
        const int64_t m = KD_MIN((int64_t)KD_TILE_M, g->cog - m0);
        const int64_t n = KD_MIN((int64_t)KD_TILE_N, g->out - p);
        const int64_t co = gr * g->cog + m0;
        kd_tile_clear(&t, m, n);
        for (int64_t k0 = 0; k0 < depth; k0 += KD_TILE_K) {
            const int64_t k = KD_MIN((int64_t)KD_TILE_K, depth - k0);
            pack_x(g, x + (s * g->ci + gr * g->cig) * g->in, k0, k, p, n, &t);
            for (int64_t i = 0; i < m; i++) {
                for (int64_t j = 0; j < k; j++) {
                    t.w[i][j] = ld(w, (co + i) * depth + k0 + j);
                }
            }
            kd_tile_product(&t, m, k, n);
        }
        store_rows(&t, m, n, act, y + (s * g->co + co) * g->out + p, g->out, bias != NULL ? bias + co : NULL);
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
    KD_FOR
    for (int64_t it = 0; it < g->n * g->co; it++) {
        const int64_t ch = it % g->co;
        const act_t *src = x + it * g->in;
        for (int64_t p = 0; p < g->out; p += KD_CHUNK) {
            real acc[KD_CHUNK], row[KD_CHUNK];
            const int64_t n = KD_MIN((int64_t)KD_CHUNK, g->out - p);
            for (int64_t j = 0; j < n; j++) {
                acc[j] = bias != NULL ? bias[ch] : R(0.0);
            }
            for (int64_t k = 0; k < g->taps; k++) {
                conv_gather(g, src, k, p, n, row);
                axpy(acc, row, ld(w, ch * g->taps + k), n);
            }
            kd_act_row(act, acc, n);
            for (int64_t j = 0; j < n; j++) {
                st(y + it * g->out + p, j, acc[j]);
            }
        }
    }
}

static kd_status forward(const conv_geom *g, const kd_call *c, int32_t act)
{
    if (g->depthwise) {
        depth_forward(g, c, act);
    } else {
        dense_forward(g, c, act);
    }
    return KD_OK;
}

static kd_status conv2d_run(const kd_call *c)
{
    const kd_conv2d_attr *a = c->attr;
    const kd_shape *w = &c->in[1].shape;
    const conv_geom g = conv2d_geometry(a, &c->in[0].shape, &c->out[0].shape, w->dim[2], w->dim[3]);
    return forward(&g, c, a->act);
}

const kd_kernel_def KD_K(conv2d) = {.run = conv2d_run};

static kd_status conv3d_run(const kd_call *c)
{
    const kd_shape *w = &c->in[1].shape;
    const conv_geom g = conv3d_geometry(c->attr, &c->in[0].shape, &c->out[0].shape, w->dim[2], w->dim[3], w->dim[4]);
    return forward(&g, c, KD_ACT_NONE);
}

const kd_kernel_def KD_K(conv3d) = {.run = conv3d_run};

/* ---- gradient of the input ------------------------------------------------------------------- */

static void dense_backward_x(const conv_geom *g, const kd_call *c)
{
    const act_t *dy = c->in[0].data, *w = c->in[1].data;
    act_t *dx = c->out[0].data;
    const int64_t depth = g->cog * g->taps;
    const int64_t tm = kd_tiles(g->cig, KD_TILE_M), tn = kd_tiles(g->in, KD_TILE_N);
    KD_FOR
    for (int64_t it = 0; it < g->n * g->groups * tn * tm; it++) {
        kd_tile t;
        const int64_t m0 = it % tm * KD_TILE_M, p = it / tm % tn * KD_TILE_N;
        const int64_t gr = it / tm / tn % g->groups, s = it / tm / tn / g->groups;
        const int64_t m = KD_MIN((int64_t)KD_TILE_M, g->cig - m0);
        const int64_t n = KD_MIN((int64_t)KD_TILE_N, g->in - p);
        const act_t *src = dy + (s * g->co + gr * g->cog) * g->out;
        kd_tile_clear(&t, m, n);
        for (int64_t k0 = 0; k0 < depth; k0 += KD_TILE_K) {
            const int64_t k = KD_MIN((int64_t)KD_TILE_K, depth - k0);
            for (int64_t i = 0; i < k; i++) {
                const int64_t o = (k0 + i) / g->taps, tap = (k0 + i) % g->taps;
                conv_gather_back(g, src + o * g->out, tap, p, n, t.x[i]);
                for (int64_t j = 0; j < m; j++) {
                    t.w[j][i] = ld(w, ((gr * g->cog + o) * g->cig + m0 + j) * g->taps + tap);
                }
            }
            kd_tile_product(&t, m, k, n);
        }
        store_rows(&t, m, n, KD_ACT_NONE, dx + (s * g->ci + gr * g->cig + m0) * g->in + p, g->in, NULL);
    }
}

static void depth_backward_x(const conv_geom *g, const kd_call *c)
{
    const act_t *dy = c->in[0].data, *w = c->in[1].data, *plus = kd_in(c, 2);
    act_t *dx = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < g->n * g->ci; it++) {
        const act_t *src = dy + it * g->out;
        for (int64_t p = 0; p < g->in; p += KD_CHUNK) {
            real acc[KD_CHUNK], row[KD_CHUNK];
            const int64_t n = KD_MIN((int64_t)KD_CHUNK, g->in - p);
            for (int64_t j = 0; j < n; j++) {
                acc[j] = plus != NULL ? ld(plus, it * g->in + p + j) : R(0.0);
            }
            for (int64_t k = 0; k < g->taps; k++) {
                conv_gather_back(g, src, k, p, n, row);
                axpy(acc, row, ld(w, it % g->ci * g->taps + k), n);
            }
            for (int64_t j = 0; j < n; j++) {
                st(dx + it * g->in + p, j, acc[j]);
            }
        }
    }
}

static kd_status backward_x(const conv_geom *g, const kd_call *c)
{
    if (g->depthwise) {
        depth_backward_x(g, c);
    } else {
        dense_backward_x(g, c);
    }
    return KD_OK;
}

static kd_status conv2d_bwd_x_run(const kd_call *c)
{
    const kd_conv2d_attr *a = c->attr;
    const kd_shape *w = &c->in[1].shape;
    const conv_geom g = conv2d_geometry(a, &a->x_shape, &c->in[0].shape, w->dim[2], w->dim[3]);
    return backward_x(&g, c);
}

const kd_kernel_def KD_K(conv2d_bwd_x) = {.run = conv2d_bwd_x_run};

static kd_status conv3d_bwd_x_run(const kd_call *c)
{
    const kd_conv3d_attr *a = c->attr;
    const kd_shape *w = &c->in[1].shape;
    const conv_geom g = conv3d_geometry(a, &a->x_shape, &c->in[0].shape, w->dim[2], w->dim[3], w->dim[4]);
    return backward_x(&g, c);
}

const kd_kernel_def KD_K(conv3d_bwd_x) = {.run = conv3d_bwd_x_run};

/* ---- gradient of weight and bias ------------------------------------------------------------- */

/* Left operand: dy of m channels at k positions.  Right: the gathered input, transposed: positions
 * are the depth. */
static void pack_positions(const conv_geom *g, const act_t *x, const act_t *dy, int64_t n0, int64_t n, int64_t m,
                           int64_t p, int64_t k, kd_tile *t)
{
    for (int64_t j = 0; j < n; j++) {
        real column[KD_TILE_K];
        const int64_t ch = (n0 + j) / g->taps, tap = (n0 + j) % g->taps;
        conv_gather(g, x + ch * g->in, tap, p, k, column);
        for (int64_t i = 0; i < k; i++) {
            t->x[i][j] = column[i];
        }
    }
    for (int64_t i = 0; i < m; i++) {
        kd_load_act(t->w[i], dy + i * g->out + p, k);
    }
}

static void dense_backward_w(const conv_geom *g, const kd_call *c)
{
    const act_t *dy = c->in[0].data, *x = c->in[1].data;
    const int64_t depth = g->cig * g->taps;
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
            for (int64_t p = 0; p < g->out; p += KD_TILE_K) {
                const int64_t k = KD_MIN((int64_t)KD_TILE_K, g->out - p);
                pack_positions(g, x + (s * g->ci + gr * g->cig) * g->in, dy + (s * g->co + co) * g->out, n0, n, m, p, k,
                               &t);
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
    KD_FOR
    for (int64_t it = 0; it < g->co * g->taps; it++) {
        const int64_t ch = it / g->taps, k = it % g->taps;
        real sum = R(0.0);
        for (int64_t s = 0; s < g->n; s++) {
            real part = R(0.0);
            for (int64_t p = 0; p < g->out; p += KD_CHUNK) {
                real row[KD_CHUNK];
                const int64_t n = KD_MIN((int64_t)KD_CHUNK, g->out - p);
                conv_gather(g, x + (s * g->ci + ch) * g->in, k, p, n, row);
                part += kd_dot_act(row, dy + (s * g->co + ch) * g->out + p, n);
            }
            sum += part;
        }
        kd_store(c, 0, it, &sum, 1);
    }
}

static void backward_bias(const conv_geom *g, const kd_call *c)
{
    const act_t *dy = c->in[0].data;
    KD_FOR
    for (int64_t ch = 0; ch < g->co; ch++) {
        real sum = R(0.0);
        for (int64_t s = 0; s < g->n; s++) {
            sum += kd_sum_act(dy + (s * g->co + ch) * g->out, g->out);
        }
        kd_store(c, 1, ch, &sum, 1);
    }
}

static kd_status backward_w(const conv_geom *g, const kd_call *c)
{
    if (c->out[0].data != NULL) {
        if (g->depthwise) {
            depth_backward_w(g, c);
        } else {
            dense_backward_w(g, c);
        }
    }
    if (c->n_out > 1 && c->out[1].data != NULL) {
        backward_bias(g, c);
    }
    return KD_OK;
}

static kd_status conv2d_bwd_w_run(const kd_call *c)
{
    const kd_conv2d_attr *a = c->attr;
    const conv_geom g = conv2d_geometry(a, &c->in[1].shape, &c->in[0].shape, a->kernel[0], a->kernel[1]);
    return backward_w(&g, c);
}

const kd_kernel_def KD_K(conv2d_bwd_w) = {.run = conv2d_bwd_w_run};

static kd_status conv3d_bwd_w_run(const kd_call *c)
{
    const kd_conv3d_attr *a = c->attr;
    const conv_geom g = conv3d_geometry(a, &c->in[1].shape, &c->in[0].shape, a->kernel[0], a->kernel[1], a->kernel[2]);
    return backward_w(&g, c);
}

const kd_kernel_def KD_K(conv3d_bwd_w) = {.run = conv3d_bwd_w_run};
