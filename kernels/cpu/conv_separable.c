/* conv_separable: the product of conv2d whose right operand, instead of being gathered, is the
 * depthwise convolution worked out for the tile's positions: h goes to memory only when it is
 * wanted. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/conv_geom.h"
#include "kernels/cpu/conv_tile.h"

static conv_geom deep_geometry(const kd_call *c, const kd_conv_separable_attr *a)
{
    const kd_shape *x = &c->in[0].shape, *w = &c->in[1].shape;
    const kd_tensor *made = &c->out[c->out[0].data != NULL ? 0 : 1];
    kd_shape h = made->shape; /* either result has the positions */
    kd_conv2d_attr d = {.groups = (int32_t)x->dim[1]};
    h.dim[1] = x->dim[1];
    memcpy(d.stride, a->stride, sizeof d.stride);
    memcpy(d.pad, a->pad, sizeof d.pad);
    memcpy(d.dilation, a->dilation, sizeof d.dilation);
    return conv2d_geometry(&d, x, &h, w->dim[2], w->dim[3]);
}

/* One channel of h at positions [p, p+n), not rounded. */
static void deep_row(const conv_geom *g, const act_t *x, const act_t *w, real bias, int32_t act,
                     int64_t p, int64_t n, real *restrict h)
{
    real row[KD_TILE_N];
    for (int64_t j = 0; j < n; j++) {
        h[j] = bias;
    }
    for (int64_t k = 0; k < g->taps; k++) {
        const real f = ld(w, k);
        conv_gather(g, x, k, p, n, row);
        for (int64_t j = 0; j < n; j++) {
            h[j] += f * row[j];
        }
    }
    kd_act_row(act, h, n);
}

static kd_status conv_separable_run(const kd_call *c)
{
    const kd_conv_separable_attr *a = c->attr;
    const act_t *x = c->in[0].data, *wd = c->in[1].data, *wp = c->in[3].data;
    const real *bd = c->in[2].data, *bp = kd_in(c, 4);
    act_t *y = c->out[0].data, *h = c->n_out > 1 ? c->out[1].data : NULL;
    if (y == NULL && h == NULL) {
        return KD_OK;
    }
    const conv_geom g = deep_geometry(c, a);
    const int64_t co = c->in[3].shape.dim[0], tn = kd_tiles(g.out, KD_TILE_N);
    const int64_t tm = y != NULL ? kd_tiles(co, KD_TILE_M) : 1;
    KD_FOR
    for (int64_t it = 0; it < g.n * tn * tm; it++) {
        kd_tile t;
        const int64_t m0 = it % tm * KD_TILE_M, p = it / tm % tn * KD_TILE_N, s = it / tm / tn;
        const int64_t m = y != NULL ? KD_MIN((int64_t)KD_TILE_M, co - m0) : 0;
        const int64_t n = KD_MIN((int64_t)KD_TILE_N, g.out - p);
        kd_tile_clear(&t, m, n);
        for (int64_t k0 = 0; k0 < g.ci; k0 += KD_TILE_K) {
            const int64_t k = KD_MIN((int64_t)KD_TILE_K, g.ci - k0);
            for (int64_t i = 0; i < k; i++) {
                const int64_t ch = k0 + i;
                deep_row(&g, x + (s * g.ci + ch) * g.in, wd + ch * g.taps,
                         bd != NULL ? bd[ch] : R(0.0), a->act, p, n, t.x[i]);
                for (int64_t j = 0; h != NULL && m0 == 0 && j < n; j++) {
                    st(h, (s * g.ci + ch) * g.out + p + j, t.x[i][j]);
                }
                for (int64_t r = 0; r < m; r++) {
                    t.w[r][i] = ld(wp, (m0 + r) * g.ci + ch);
                }
            }
            kd_tile_product(&t, m, k, n);
        }
        for (int64_t r = 0; r < m; r++) {
            for (int64_t j = 0; j < n; j++) {
                st(y, (s * co + m0 + r) * g.out + p + j,
                   t.acc[r][j] + (bp != NULL ? bp[m0 + r] : R(0.0)));
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(conv_separable) = {.run = conv_separable_run};
