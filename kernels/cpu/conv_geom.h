/* Geometry of one conv2d or conv3d call and the reading of its operands, shared by forward and backward
 * kernels.  A volume is a stack of planes, T of them; conv2d's has one. */
#ifndef KD_KERNELS_CPU_CONV_GEOM_H
#define KD_KERNELS_CPU_CONV_GEOM_H

#include "kernels/cpu/kd_real.h"

typedef struct conv_geom {
    int64_t n, ci, t, h, w, co, to, ho, wo; /* x (n,ci,t,h,w), y (n,co,to,ho,wo) */
    int64_t kt, kh, kw, st, sh, sw, pt, ph, pw, dt, dh, dw, groups;
    int64_t in, out, taps; /* elements of a volume of x, of y; of a kernel */
    int64_t cig, cog;      /* channels of a group */
    bool depthwise;        /* one channel in, one out, a group */
    bool rows;             /* kernel (k,1), no stride: a tap is a shift of whole rows */
    bool flat;             /* one plane in, one out, one tap in time */
} conv_geom;

static inline conv_geom conv_finish(conv_geom g)
{
    g.cig = g.ci / g.groups;
    g.cog = g.co / g.groups;
    g.in = g.t * g.h * g.w;
    g.out = g.to * g.ho * g.wo;
    g.taps = g.kt * g.kh * g.kw;
    g.depthwise = g.cig == 1 && g.cog == 1;
    g.rows = g.kw == 1 && g.sh == 1 && g.sw == 1 && g.pw == 0;
    g.flat = g.t == 1 && g.to == 1 && g.kt == 1 && g.pt == 0;
    return g;
}

static inline conv_geom conv2d_geometry(const kd_conv2d_attr *a, const kd_shape *x, const kd_shape *y, int64_t kh,
                                        int64_t kw)
{
    const conv_geom g = {.n = x->dim[0],
                         .ci = x->dim[1],
                         .t = 1,
                         .h = x->dim[2],
                         .w = x->dim[3],
                         .co = y->dim[1],
                         .to = 1,
                         .ho = y->dim[2],
                         .wo = y->dim[3],
                         .kt = 1,
                         .kh = kh,
                         .kw = kw,
                         .st = 1,
                         .sh = a->stride[0],
                         .sw = a->stride[1],
                         .ph = a->pad[0],
                         .pw = a->pad[1],
                         .dt = 1,
                         .dh = a->dilation[0],
                         .dw = a->dilation[1],
                         .groups = a->groups};
    return conv_finish(g);
}

static inline conv_geom conv3d_geometry(const kd_conv3d_attr *a, const kd_shape *x, const kd_shape *y, int64_t kt,
                                        int64_t kh, int64_t kw)
{
    const conv_geom g = {.n = x->dim[0],
                         .ci = x->dim[1],
                         .t = x->dim[2],
                         .h = x->dim[3],
                         .w = x->dim[4],
                         .co = y->dim[1],
                         .to = y->dim[2],
                         .ho = y->dim[3],
                         .wo = y->dim[4],
                         .kt = kt,
                         .kh = kh,
                         .kw = kw,
                         .st = a->stride[0],
                         .sh = a->stride[1],
                         .sw = a->stride[2],
                         .pt = a->pad[0],
                         .ph = a->pad[1],
                         .pw = a->pad[2],
                         .dt = a->dilation[0],
                         .dh = a->dilation[1],
                         .dw = a->dilation[2],
                         .groups = a->groups};
    return conv_finish(g);
}

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

/* dst[j] = x plane at output positions [p, p+n) under tap (ky, kx); zero outside. */
static inline void conv_read(const conv_geom *g, const act_t *restrict plane, int64_t ky, int64_t kx, int64_t p,
                             int64_t n, real *restrict dst)
{
    if (g->rows) {
        const int64_t shift = (ky * g->dh - g->ph) * g->w;
        const int64_t lo = KD_MIN(n, KD_MAX((int64_t)0, -(p + shift)));
        const int64_t hi = KD_MAX(lo, KD_MIN(n, g->h * g->w - (p + shift)));
        for (int64_t j = 0; j < lo; j++) {
            dst[j] = R(0.0);
        }
        for (int64_t j = lo; j < hi; j++) {
            dst[j] = ld(plane, p + shift + j);
        }
        for (int64_t j = hi; j < n; j++) {
            dst[j] = R(0.0);
        }
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
        const int64_t shift = (g->ph - ky * g->dh) * g->w;
        const int64_t lo = KD_MIN(n, KD_MAX((int64_t)0, -(p + shift)));
        const int64_t hi = KD_MAX(lo, KD_MIN(n, g->ho * g->wo - (p + shift)));
        for (int64_t j = 0; j < lo; j++) {
            dst[j] = R(0.0);
        }
        for (int64_t j = lo; j < hi; j++) {
            dst[j] = ld(plane, p + shift + j);
        }
        for (int64_t j = hi; j < n; j++) {
            dst[j] = R(0.0);
        }
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
static inline void conv_gather(const conv_geom *g, const act_t *restrict x, int64_t tap, int64_t p, int64_t n,
                               real *restrict dst)
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
static inline void conv_gather_back(const conv_geom *g, const act_t *restrict dy, int64_t tap, int64_t p, int64_t n,
                                    real *restrict dst)
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

#endif
