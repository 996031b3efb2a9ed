/* Geometry of one conv2d call and the reading of its operands, shared by forward and backward
 * kernels. */
#ifndef KD_CPU_CONV_GEOM_H
#define KD_CPU_CONV_GEOM_H

#include "kernels/cpu/kd_real.h"

typedef struct conv_geom {
    int64_t n, ci, h, w, co, ho, wo; /* x (n,ci,h,w), y (n,co,ho,wo) */
    int64_t kh, kw, sh, sw, ph, pw, dh, dw, groups;
    int64_t cig, cog; /* channels of a group */
    bool depthwise;   /* one channel in, one out, a group */
    bool pointwise;   /* 1x1, stride 1: positions of x and y coincide */
    bool rows;        /* kernel (k,1), no stride: a tap is a shift of whole rows */
} conv_geom;

static inline conv_geom conv_geometry(const kd_conv2d_attr *a, const kd_shape *x, const kd_shape *y,
                                      int64_t kh, int64_t kw)
{
    conv_geom g = {.n = x->dim[0],
                   .ci = x->dim[1],
                   .h = x->dim[2],
                   .w = x->dim[3],
                   .co = y->dim[1],
                   .ho = y->dim[2],
                   .wo = y->dim[3],
                   .kh = kh,
                   .kw = kw,
                   .sh = a->stride[0],
                   .sw = a->stride[1],
                   .ph = a->pad[0],
                   .pw = a->pad[1],
                   .dh = a->dilation[0],
                   .dw = a->dilation[1],
                   .groups = a->groups};
    g.cig = g.ci / g.groups;
    g.cog = g.co / g.groups;
    g.depthwise = g.cig == 1 && g.cog == 1;
    g.rows = kw == 1 && g.sh == 1 && g.sw == 1 && g.pw == 0;
    g.pointwise = g.rows && kh == 1 && g.ph == 0;
    return g;
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
static inline void conv_read(const conv_geom *g, const act_t *restrict plane, int64_t ky,
                             int64_t kx, int64_t p, int64_t n, real *restrict dst)
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
static inline void conv_read_back(const conv_geom *g, const act_t *restrict plane, int64_t ky,
                                  int64_t kx, int64_t p, int64_t n, real *restrict dst)
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

#endif
