/* Geometry of one conv2d or conv3d call, shared by forward and backward kernels.  A volume is a stack of planes, T of
 * them; conv2d's has one. */
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

/* dst[j] = x volume at output positions [p, p+n) under a tap of the kernel; zero outside (conv2d.c). */
void KD_K(conv_gather)(const conv_geom *g, const act_t *restrict x, int64_t tap, int64_t p, int64_t n,
                       real *restrict dst);

/* The kernels of conv2d.c, for any number of dims.  Operands of c are those of conv2d, conv2d_bwd_x, conv2d_bwd_w. */
kd_status KD_K(conv_forward)(const conv_geom *g, const kd_call *c, int32_t act);
kd_status KD_K(conv_backward_x)(const conv_geom *g, const kd_call *c);
kd_status KD_K(conv_backward_w)(const conv_geom *g, const kd_call *c);

#endif
