/* conv2d and its gradients, and the kernels of any number of dims that conv3d.c calls too (conv_geom.h).
 *
 * Two forms.  Depthwise: each volume is a sum of shifted copies.  Everything else is a product of tiles (conv_tile.h)
 * whose right operand is gathered position by position, so that a 1x1 convolution is a plain (Co x Ci)(Ci x positions)
 * product and any other kernel differs in the gathering alone.  Gradients of the weights sum one sample at a time. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/conv_geom.h"
#include "kernels/cpu/conv_tile.h"

/* ---- reading, tap by tap ---------------------------------------------------------------------- */

/* Output columns [*lo, *hi) whose input column under tap kx lies inside the picture. */
static inline void conv_columns(const conv_geom *g, int64_t kx, int64_t *lo, int64_t *hi)
{
    const int64_t off = kx * g->dw - g->pw;
    *lo = off >= 0 ? 0 : (-off + g->sw - 1) / g->sw;
    *hi = g->w - 1 - off < 0 ? 0 : KD_MIN(g->wo, (g->w - 1 - off) / g->sw + 1);
    if (*hi < *lo) {
        *hi = *lo;
    }
}

/* dst[j] = plane[from + j] for j in [0, n); zero outside of the plane's `size` values. */
static inline void conv_read_shifted(const act_t *restrict plane, int64_t size, int64_t from, int64_t n,
                                     real *restrict dst)
{
    const int64_t lo = KD_MIN(n, KD_MAX((int64_t)0, -from));
    const int64_t hi = KD_MAX(lo, KD_MIN(n, size - from));
    for (int64_t j = 0; j < lo; j++) {
        dst[j] = R(0.0);
    }
    for (int64_t j = lo; j < hi; j++) {
        dst[j] = ld(plane, from + j);
    }
    for (int64_t j = hi; j < n; j++) {
        dst[j] = R(0.0);
    }
}

/* dst[j] = x plane at output positions [p, p+n) under tap (ky, kx); zero outside. */
static inline void conv_read(const conv_geom *g, const act_t *restrict plane, int64_t ky, int64_t kx, int64_t p,
                             int64_t n, real *restrict dst)
{
    if (g->rows) {
        conv_read_shifted(plane, g->h * g->w, p + (ky * g->dh - g->ph) * g->w, n, dst);
        return;
    }
    int64_t lo, hi;
    conv_columns(g, kx, &lo, &hi);
    for (int64_t j = 0; j < n;) {
        const int64_t row = (p + j) / g->wo, col = (p + j) % g->wo;
        const int64_t len = KD_MIN(g->wo - col, n - j);
        const int64_t y = row * g->sh + ky * g->dh - g->ph;
        const bool inside = y >= 0 && y < g->h;
        const int64_t first = inside ? KD_MIN(len, KD_MAX((int64_t)0, lo - col)) : len;
        const int64_t last = inside ? KD_MAX(first, KD_MIN(len, hi - col)) : len;
        const act_t *src = plane + (inside ? y : 0) * g->w;
        const int64_t x0 = col * g->sw + kx * g->dw - g->pw;
        for (int64_t i = 0; i < first; i++) {
            dst[j + i] = R(0.0);
        }
        if (g->sw == 1) {
            for (int64_t i = first; i < last; i++) {
                dst[j + i] = ld(src, x0 + i);
            }
        } else {
            for (int64_t i = first; i < last; i++) {
                dst[j + i] = ld(src, x0 + i * g->sw);
            }
        }
        for (int64_t i = last; i < len; i++) {
            dst[j + i] = R(0.0);
        }
        j += len;
    }
}

/* dst[j] = dy plane at the output position that reads input position p+j through tap (ky, kx); zero
 * when there is none. */
static inline void conv_read_back(const conv_geom *g, const act_t *restrict plane, int64_t ky, int64_t kx, int64_t p,
                                  int64_t n, real *restrict dst)
{
    if (g->rows) {
        conv_read_shifted(plane, g->ho * g->wo, p + (g->ph - ky * g->dh) * g->w, n, dst);
        return;
    }
    for (int64_t j = 0; j < n;) {
        const int64_t row = (p + j) / g->w, col = (p + j) % g->w;
        const int64_t len = KD_MIN(g->w - col, n - j);
        const int64_t ry = row + g->ph - ky * g->dh;
        const bool inside = ry >= 0 && ry % g->sh == 0 && ry / g->sh < g->ho;
        const int64_t base = col + g->pw - kx * g->dw;
        const act_t *src = plane + (inside ? ry / g->sh : 0) * g->wo;
        if (inside && g->sw == 1) {
            const int64_t first = KD_MIN(len, KD_MAX((int64_t)0, -base));
            const int64_t last = KD_MAX(first, KD_MIN(len, g->wo - base));
            for (int64_t i = 0; i < first; i++) {
                dst[j + i] = R(0.0);
            }
            for (int64_t i = first; i < last; i++) {
                dst[j + i] = ld(src, base + i);
            }
            for (int64_t i = last; i < len; i++) {
                dst[j + i] = R(0.0);
            }
        } else {
            for (int64_t i = 0; i < len; i++) {
                const int64_t rx = base + i;
                const bool in = inside && rx >= 0 && rx % g->sw == 0 && rx / g->sw < g->wo;
                dst[j + i] = in ? ld(src, rx / g->sw) : R(0.0);
            }
        }
        j += len;
    }
}

static inline void conv_zero(real *restrict dst, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        dst[j] = R(0.0);
    }
}

/* dst[j] = x volume at output positions [p, p+n) under a tap of the kernel; zero outside.  Plane by plane. */
__attribute__((noinline)) void KD_K(conv_gather)(const conv_geom *g, const act_t *restrict x, int64_t tap, int64_t p,
                                                 int64_t n, real *restrict dst)
{
    const int64_t kx = tap % g->kw, ky = tap / g->kw % g->kh, kt = tap / g->kw / g->kh, plane = g->ho * g->wo;
    if (g->flat) {
        conv_read(g, x, ky, kx, p, n, dst);
        return;
    }
    for (int64_t j = 0; j < n;) {
        const int64_t at = (p + j) % plane, len = KD_MIN(plane - at, n - j);
        const int64_t t = (p + j) / plane * g->st + kt * g->dt - g->pt;
        if (t >= 0 && t < g->t) {
            conv_read(g, x + t * g->h * g->w, ky, kx, at, len, dst + j);
        } else {
            conv_zero(dst + j, len);
        }
        j += len;
    }
}

/* dst[j] = dy volume at the output position that reads input position p+j through the tap; zero when there is none. */
static __attribute__((noinline)) void conv_gather_back(const conv_geom *g, const act_t *restrict dy, int64_t tap,
                                                       int64_t p, int64_t n, real *restrict dst)
{
    const int64_t kx = tap % g->kw, ky = tap / g->kw % g->kh, kt = tap / g->kw / g->kh, plane = g->h * g->w;
    if (g->flat) {
        conv_read_back(g, dy, ky, kx, p, n, dst);
        return;
    }
    for (int64_t j = 0; j < n;) {
        const int64_t at = (p + j) % plane, len = KD_MIN(plane - at, n - j);
        const int64_t t = (p + j) / plane + g->pt - kt * g->dt;
        if (t >= 0 && t % g->st == 0 && t / g->st < g->to) {
            conv_read_back(g, dy + t / g->st * g->ho * g->wo, ky, kx, at, len, dst + j);
        } else {
            conv_zero(dst + j, len);
        }
        j += len;
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Depth [k0, k0+k) of the gathered input (channel-major, then taps) at positions [p, p+n). */
static void pack_x(const conv_geom *g, const act_t *x, int64_t k0, int64_t k, int64_t p, int64_t n, kd_tile *t)
{
    for (int64_t i = 0; i < k; i++) {
        const int64_t c = (k0 + i) / g->taps, tap = (k0 + i) % g->taps;
        KD_K(conv_gather)(g, x + c * g->in, tap, p, n, t->x[i]);
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
                KD_K(conv_gather)(g, src, k, p, n, row);
                axpy(acc, row, ld(w, ch * g->taps + k), n);
            }
            kd_act_row(act, acc, n);
            for (int64_t j = 0; j < n; j++) {
                st(y + it * g->out + p, j, acc[j]);
            }
        }
    }
}

kd_status KD_K(conv_forward)(const conv_geom *g, const kd_call *c, int32_t act)
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
    return KD_K(conv_forward)(&g, c, a->act);
}

const kd_kernel_def KD_K(conv2d) = {.run = conv2d_run};

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

kd_status KD_K(conv_backward_x)(const conv_geom *g, const kd_call *c)
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
    return KD_K(conv_backward_x)(&g, c);
}

const kd_kernel_def KD_K(conv2d_bwd_x) = {.run = conv2d_bwd_x_run};

/* ---- gradient of weight and bias ------------------------------------------------------------- */

/* Left operand: dy of m channels at k positions.  Right: the gathered input, transposed: positions
 * are the depth. */
static void pack_positions(const conv_geom *g, const act_t *x, const act_t *dy, int64_t n0, int64_t n, int64_t m,
                           int64_t p, int64_t k, kd_tile *t)
{
    for (int64_t j = 0; j < n; j++) {
        real column[KD_TILE_K];
        const int64_t ch = (n0 + j) / g->taps, tap = (n0 + j) % g->taps;
        KD_K(conv_gather)(g, x + ch * g->in, tap, p, k, column);
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
                KD_K(conv_gather)(g, x + (s * g->ci + ch) * g->in, k, p, n, row);
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

kd_status KD_K(conv_backward_w)(const conv_geom *g, const kd_call *c)
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
    return KD_K(conv_backward_w)(&g, c);
}

const kd_kernel_def KD_K(conv2d_bwd_w) = {.run = conv2d_bwd_w_run};
