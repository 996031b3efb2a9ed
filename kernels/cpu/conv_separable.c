/* conv_separable: the product of conv2d whose right operand, instead of being gathered, is the
 * depthwise convolution worked out for the tile's positions: h goes to memory only when it is
 * wanted. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/conv_geom.h"
#include "kernels/cpu/conv_tile.h"

enum { EACH = 4 }; /* operands of a branch: Wd, bd, Wp, bp */

/* One branch and where it writes. */
typedef struct branch {
    conv_geom g;
    const act_t *wd, *wp;
    const real *bd, *bp;
    int64_t co;
    act_t *y, *h;     /* y: the branch's first channel of the first sample */
    int64_t y_sample; /* elements of a sample of y */
} branch;

/* Either result has the positions. */
static conv_geom deep_geometry(const kd_call *c, const kd_conv_separable_attr *a, int b)
{
    const kd_shape *x = &c->in[0].shape, *w = &c->in[1 + b * EACH].shape;
    const kd_tensor *made = &c->out[c->out[0].data != NULL ? 0 : 1 + b];
    kd_shape h = made->shape;
    kd_conv2d_attr d = {.groups = (int32_t)x->dim[1]};
    h.dim[1] = x->dim[1];
    memcpy(d.stride, a->stride, sizeof d.stride);
    memcpy(d.pad, a->pad[b], sizeof d.pad);
    memcpy(d.dilation, a->dilation[b], sizeof d.dilation);
    return conv2d_geometry(&d, x, &h, w->dim[2], w->dim[3]);
}

static branch branch_of(const kd_call *c, int b)
{
    const int at = 1 + b * EACH;
    branch r = {.g = deep_geometry(c, c->attr, b),
                .wd = c->in[at].data,
                .bd = c->in[at + 1].data,
                .wp = c->in[at + 2].data,
                .bp = kd_in(c, at + 3),
                .co = c->in[at + 2].shape.dim[0],
                .y = c->out[0].data,
                .h = c->n_out > 1 + b ? c->out[1 + b].data : NULL};
    if (r.y != NULL) {
        r.y += b > 0 ? c->in[3].shape.dim[0] * r.g.out : 0;
        r.y_sample = c->out[0].shape.dim[1] * r.g.out;
    }
    return r;
}

/* One channel of h at positions [p, p+n), not rounded. */
static void deep_row(const conv_geom *g, const act_t *x, const act_t *w, real bias, int32_t act, int64_t p, int64_t n,
                     real *restrict h)
{
    real row[KD_TILE_N];
    for (int64_t j = 0; j < n; j++) {
        h[j] = bias;
    }
    for (int64_t k = 0; k < g->taps; k++) {
        const real f = ld(w, k);
        KD_K(conv_gather)(g, x, k, p, n, row);
        for (int64_t j = 0; j < n; j++) {
            h[j] += f * row[j];
        }
    }
    kd_act_row(act, h, n);
}

static void run_branch(const branch *b, const act_t *x, int32_t act)
{
    const conv_geom *g = &b->g;
    const int64_t tn = kd_tiles(g->out, KD_TILE_N);
    const int64_t tm = b->y != NULL ? kd_tiles(b->co, KD_TILE_M) : 1;
    KD_FOR
    for (int64_t it = 0; it < g->n * tn * tm; it++) {
        kd_tile t;
        const int64_t m0 = it % tm * KD_TILE_M, p = it / tm % tn * KD_TILE_N, s = it / tm / tn;
        const int64_t m = b->y != NULL ? KD_MIN((int64_t)KD_TILE_M, b->co - m0) : 0;
        const int64_t n = KD_MIN((int64_t)KD_TILE_N, g->out - p);
        kd_tile_clear(&t, m, n);
        for (int64_t k0 = 0; k0 < g->ci; k0 += KD_TILE_K) {
            const int64_t k = KD_MIN((int64_t)KD_TILE_K, g->ci - k0);
            for (int64_t i = 0; i < k; i++) {
                const int64_t ch = k0 + i;
                deep_row(g, x + (s * g->ci + ch) * g->in, b->wd + ch * g->taps, b->bd != NULL ? b->bd[ch] : R(0.0), act,
                         p, n, t.x[i]);
                for (int64_t j = 0; b->h != NULL && m0 == 0 && j < n; j++) {
                    st(b->h, (s * g->ci + ch) * g->out + p + j, t.x[i][j]);
                }
                for (int64_t r = 0; r < m; r++) {
                    t.w[r][i] = ld(b->wp, (m0 + r) * g->ci + ch);
                }
            }
            kd_tile_product(&t, m, k, n);
        }
        for (int64_t r = 0; r < m; r++) {
            const real bias = b->bp != NULL ? b->bp[m0 + r] : R(0.0);
            for (int64_t j = 0; j < n; j++) {
                st(b->y, s * b->y_sample + (m0 + r) * g->out + p + j, t.acc[r][j] + bias);
            }
        }
    }
}

static kd_status conv_separable_run(const kd_call *c)
{
    const int branches = kd_in(c, 1 + EACH) != NULL ? 2 : 1;
    for (int b = 0; b < branches; b++) {
        if (c->out[0].data != NULL || (c->n_out > 1 + b && c->out[1 + b].data != NULL)) {
            const branch r = branch_of(c, b);
            run_branch(&r, c->in[0].data, ((const kd_conv_separable_attr *)c->attr)->act);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(conv_separable) = {.run = conv_separable_run};
