/* landmark_interp, landmark_attention and their gradients. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/chunk.h"

/* Position of an anchor among t frames: frame f and fraction; *slope = d(position)/d(anchor). */
static int64_t place(real anchor, int64_t t, real *fraction, real *slope)
{
    const real sg = kd_sigmoid(anchor);
    const real p = sg * (real)(t - 1);
    *slope = sg * (R(1.0) - sg) * (real)(t - 1);
    int64_t f = p >= R(0.0) && p < (real)t ? (int64_t)p : 0; /* NaN: frame 0, and a NaN fraction */
    f = KD_MIN(f, t - 2);
    *fraction = p - (real)f;
    return f;
}

static kd_status landmark_interp_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t n = s->dim[0], t = s->dim[1], ch = s->dim[2], k = c->in[1].shape.dim[0];
    const act_t *u = c->in[0].data;
    const real *anchors = c->in[1].data;
    act_t *l = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < n * k; it++) {
        real fr, slope;
        const int64_t f = place(anchors[it % k], t, &fr, &slope);
        const act_t *restrict a = u + (it / k * t + f) * ch;
        for (int64_t j = 0; j < ch; j++) {
            const real x = ld(a, j);
            st(l, it * ch + j, x + fr * (ld(a, ch + j) - x));
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(landmark_interp) = {.run = landmark_interp_run};

static void interp_bwd_u(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t n = s->dim[0], t = s->dim[1], ch = s->dim[2], k = c->in[2].shape.dim[0];
    const act_t *dl = c->in[0].data;
    const real *anchors = c->in[2].data;
    act_t *du = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < n * t; it++) {
        const int64_t b = it / t, frame = it % t;
        for (int64_t p = 0; p < ch; p += KD_CHUNK) {
            real acc[KD_CHUNK] = {0};
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, ch - p);
            for (int64_t i = 0; i < k; i++) {
                real fr, slope;
                const int64_t f = place(anchors[i], t, &fr, &slope);
                if (frame != f && frame != f + 1) {
                    continue;
                }
                const real w = frame == f ? R(1.0) - fr : fr;
                for (int64_t j = 0; j < len; j++) {
                    acc[j] += w * ld(dl, (b * k + i) * ch + p + j);
                }
            }
            for (int64_t j = 0; j < len; j++) {
                st(du, it * ch + p + j, acc[j]);
            }
        }
    }
}

static kd_status landmark_interp_bwd_run(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t n = s->dim[0], t = s->dim[1], ch = s->dim[2], k = c->in[2].shape.dim[0];
    const act_t *dl = c->in[0].data, *u = c->in[1].data;
    const real *anchors = c->in[2].data;
    if (c->out[0].data != NULL) {
        interp_bwd_u(c);
    }
    for (int64_t i = 0; i < k && c->out[1].data != NULL; i++) {
        real fr, slope, sum = R(0.0);
        const int64_t f = place(anchors[i], t, &fr, &slope);
        for (int64_t b = 0; b < n; b++) {
            const act_t *g = dl + (b * k + i) * ch, *a = u + (b * t + f) * ch;
            sum += kd_dot_acts(g, a + ch, ch) - kd_dot_acts(g, a, ch);
        }
        sum *= slope;
        kd_store(c, 1, i, &sum, 1);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(landmark_interp_bwd) = {.run = landmark_interp_bwd_run};

/* ---- landmark_attention ---------------------------------------------------------------------- */

static kd_status landmark_attention_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t n = s->dim[0], t = s->dim[1], d = s->dim[2], k = c->in[1].shape.dim[1];
    const act_t *q = c->in[0].data, *key = c->in[1].data, *v = c->in[2].data;
    act_t *o = c->out[0].data;
    const real scale = R(1.0) / r_sqrt((real)d);
    real *scratch = c->scratch;
    KD_FOR
    for (int64_t it = 0; it < n * t; it++) {
        real *p = scratch + it * k, sum = R(0.0);
        const act_t *kb = key + it / t * k * d, *vb = v + it / t * k * d;
        for (int64_t i = 0; i < k; i++) {
            p[i] = scale * kd_dot_acts(q + it * d, kb + i * d, d);
        }
        real top = p[0];
        for (int64_t i = 1; i < k; i++) {
            top = p[i] > top ? p[i] : top;
        }
        for (int64_t i = 0; i < k; i++) {
            p[i] = r_exp(p[i] - top);
            sum += p[i];
        }
        for (int64_t i = 0; i < k; i++) {
            p[i] /= sum;
            if (c->out[1].data != NULL) {
                st(c->out[1].data, it * k + i, p[i]);
            }
        }
        for (int64_t j = 0; o != NULL && j < d; j++) {
            real acc = R(0.0);
            for (int64_t i = 0; i < k; i++) {
                acc += p[i] * ld(vb, i * d + j);
            }
            st(o, it * d + j, acc);
        }
    }
    return KD_OK;
}

static size_t landmark_attention_scratch(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    return (size_t)(s->dim[0] * s->dim[1] * c->in[1].shape.dim[1]) * sizeof(real);
}

const kd_kernel_def KD_K(landmark_attention) = {.run = landmark_attention_run, .scratch = landmark_attention_scratch};

/* ds (T,K) of one sample: gradient of the scaled scores. */
static void score_gradient(const act_t *dout, const act_t *v, const act_t *p, int64_t t, int64_t k, int64_t d, real *ds)
{
    for (int64_t f = 0; f < t; f++) {
        real dot = R(0.0);
        for (int64_t i = 0; i < k; i++) {
            ds[f * k + i] = kd_dot_acts(dout + f * d, v + i * d, d);
            dot += ds[f * k + i] * ld(p, f * k + i);
        }
        for (int64_t i = 0; i < k; i++) {
            ds[f * k + i] = ld(p, f * k + i) * (ds[f * k + i] - dot);
        }
    }
}

static kd_status landmark_attention_bwd_run(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t n = s->dim[0], t = s->dim[1], d = s->dim[2], k = c->in[2].shape.dim[1];
    const act_t *dout = c->in[0].data, *q = c->in[1].data, *key = c->in[2].data;
    const act_t *v = c->in[3].data, *p = c->in[4].data;
    act_t *dq = c->out[0].data, *dk = c->out[1].data, *dv = c->out[2].data;
    const real scale = R(1.0) / r_sqrt((real)d);
    real *scratch = c->scratch;
    KD_FOR
    for (int64_t b = 0; b < n; b++) {
        real *ds = scratch + b * t * k;
        score_gradient(dout + b * t * d, v + b * k * d, p + b * t * k, t, k, d, ds);
        for (int64_t f = 0; f < t && dq != NULL; f++) {
            for (int64_t j = 0; j < d; j++) {
                real acc = R(0.0);
                for (int64_t i = 0; i < k; i++) {
                    acc += ds[f * k + i] * ld(key, (b * k + i) * d + j);
                }
                st(dq, (b * t + f) * d + j, scale * acc);
            }
        }
        for (int64_t i = 0; i < k; i++) {
            for (int64_t j = 0; j < d; j++) {
                real gk = R(0.0), gv = R(0.0);
                for (int64_t f = 0; f < t; f++) {
                    gk += ds[f * k + i] * ld(q, (b * t + f) * d + j);
                    gv += ld(p, (b * t + f) * k + i) * ld(dout, (b * t + f) * d + j);
                }
                if (dk != NULL) {
                    st(dk, (b * k + i) * d + j, scale * gk);
                }
                if (dv != NULL) {
                    st(dv, (b * k + i) * d + j, gv);
                }
            }
        }
    }
    return KD_OK;
}

static size_t landmark_attention_bwd_scratch(const kd_call *c)
{
    const kd_shape *s = &c->in[4].shape;
    return (size_t)kd_shape_numel(s) * sizeof(real);
}

const kd_kernel_def KD_K(landmark_attention_bwd) = {.run = landmark_attention_bwd_run,
                                                    .scratch = landmark_attention_bwd_scratch};
