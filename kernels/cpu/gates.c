/* motion, channel_gate, st_gate, stc_gate, gated_add, gate_mix and their gradients.  Gradients of
 * scalars are summed from one partial sum a plane or a sample, in order. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/chunk.h"

static bool wanted(const kd_call *c, int o)
{
    return o < c->n_out && c->out[o].data != NULL;
}

/* ---- motion ---------------------------------------------------------------------------------- */

static kd_status motion_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t t = s->dim[2], v = s->dim[3], n = (t - 1) * v;
    const act_t *x = c->in[0].data;
    act_t *m = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < s->dim[0] * s->dim[1]; it++) {
        const act_t *restrict a = x + it * t * v;
        real lane[KD_LANES] = {0};
        int64_t j = 0;
        for (; j + KD_LANES <= n; j += KD_LANES) {
            for (int l = 0; l < KD_LANES; l++) {
                lane[l] += r_fabs(ld(a, j + v + l) - ld(a, j + l));
            }
        }
        real sum = kd_lanes_sum(lane);
        for (; j < n; j++) {
            sum += r_fabs(ld(a, j + v) - ld(a, j));
        }
        st(m, it, sum / (real)n);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(motion) = {.run = motion_run};

static real sign(real x)
{
    return x > R(0.0) ? R(1.0) : (x < R(0.0) ? R(-1.0) : x); /* zero stays zero, NaN stays NaN */
}

static kd_status motion_bwd_run(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t t = s->dim[2], v = s->dim[3], n = (t - 1) * v;
    const act_t *dm = c->in[0].data, *x = c->in[1].data, *plus = kd_in(c, 2);
    act_t *dx = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < s->dim[0] * s->dim[1]; it++) {
        const act_t *restrict a = x + it * t * v;
        act_t *d = dx + it * t * v;
        const real w = ld(dm, it) / (real)n;
        for (int64_t j = 0; j < t * v; j++) {
            const real here = ld(a, j);
            const real before = j >= v ? sign(here - ld(a, j - v)) : R(0.0);
            const real after = j < n ? sign(ld(a, j + v) - here) : R(0.0);
            const real more = plus != NULL ? ld(plus, it * t * v + j) : R(0.0);
            st(d, j, w * (before - after) + more);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(motion_bwd) = {.run = motion_bwd_run};

/* ---- channel_gate ---------------------------------------------------------------------------- */

static kd_status channel_gate_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t l = s->dim[2] * s->dim[3];
    const act_t *x = c->in[0].data, *g = c->in[1].data;
    const real *alpha = c->in[2].data;
    act_t *y = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < s->dim[0] * s->dim[1]; it++) {
        const real a = alpha[it % s->dim[1]], gate = ld(g, it);
        const act_t *restrict src = x + it * l;
        act_t *restrict dst = y + it * l;
        for (int64_t j = 0; j < l; j++) {
            const real v = ld(src, j);
            st(dst, j, v + a * (v * gate - v));
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(channel_gate) = {.run = channel_gate_run};

static kd_status channel_gate_bwd_run(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t n = s->dim[0], ch = s->dim[1], l = s->dim[2] * s->dim[3];
    const act_t *dy = c->in[0].data, *x = c->in[1].data, *g = c->in[2].data;
    const real *alpha = c->in[3].data;
    act_t *dx = c->out[0].data, *dg = c->out[1].data;
    KD_FOR
    for (int64_t i = 0; i < ch; i++) {
        const real a = alpha[i];
        real dalpha = R(0.0);
        for (int64_t b = 0; b < n; b++) {
            const int64_t it = b * ch + i;
            const real gate = ld(g, it);
            const real dot = kd_dot_acts(dy + it * l, x + it * l, l);
            dalpha += dot * (gate - R(1.0));
            if (dg != NULL) {
                st(dg, it, a * dot);
            }
            const real w = R(1.0) + a * (gate - R(1.0));
            for (int64_t j = 0; j < l && dx != NULL; j++) {
                st(dx + it * l, j, w * ld(dy + it * l, j));
            }
        }
        if (wanted(c, 2)) {
            kd_store(c, 2, i, &dalpha, 1);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(channel_gate_bwd) = {.run = channel_gate_bwd_run};

/* ---- st_gate --------------------------------------------------------------------------------- */

static kd_status st_gate_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t t = s->dim[2], v = s->dim[3];
    const act_t *x = c->in[0].data, *at = c->in[1].data, *av = c->in[2].data;
    const real *alpha = c->in[3].data;
    act_t *y = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < s->dim[0] * s->dim[1]; it++) {
        const real a = alpha[it % s->dim[1]];
        real joint[KD_MAX_JOINTS];
        kd_load_act(joint, av + it * v, v);
        for (int64_t f = 0; f < t; f++) {
            const real time = ld(at, it * t + f);
            const act_t *restrict src = x + (it * t + f) * v;
            act_t *restrict dst = y + (it * t + f) * v;
            for (int64_t j = 0; j < v; j++) {
                const real u = ld(src, j);
                st(dst, j, u + a * (u * time * joint[j] - u));
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(st_gate) = {.run = st_gate_run};

static kd_status st_gate_bwd_run(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t n = s->dim[0], ch = s->dim[1], t = s->dim[2], v = s->dim[3];
    const act_t *dy = c->in[0].data, *x = c->in[1].data, *at = c->in[2].data, *av = c->in[3].data;
    const real *alpha = c->in[4].data;
    act_t *dx = c->out[0].data, *dat = c->out[1].data, *dav = c->out[2].data;
    KD_FOR
    for (int64_t i = 0; i < ch; i++) {
        const real a = alpha[i];
        real dalpha = R(0.0);
        for (int64_t it = i; it < n * ch; it += ch) {
            real joint[KD_MAX_JOINTS], djoint[KD_MAX_JOINTS] = {0};
            real gated = R(0.0), plain = R(0.0);
            kd_load_act(joint, av + it * v, v);
            for (int64_t f = 0; f < t; f++) {
                real g[KD_MAX_JOINTS], dot = R(0.0);
                const int64_t row = (it * t + f) * v;
                const real time = ld(at, it * t + f);
                for (int64_t j = 0; j < v; j++) {
                    g[j] = ld(dy + row, j);
                    const real gx = g[j] * ld(x + row, j);
                    plain += gx;
                    dot += gx * joint[j];
                    djoint[j] += gx * time;
                }
                gated += dot * time;
                if (dat != NULL) {
                    st(dat, it * t + f, a * dot);
                }
                for (int64_t j = 0; j < v && dx != NULL; j++) {
                    st(dx + row, j, g[j] * (R(1.0) + a * (time * joint[j] - R(1.0))));
                }
            }
            dalpha += gated - plain;
            for (int64_t j = 0; j < v && dav != NULL; j++) {
                st(dav, it * v + j, a * djoint[j]);
            }
        }
        if (wanted(c, 3)) {
            kd_store(c, 3, i, &dalpha, 1);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(st_gate_bwd) = {.run = st_gate_bwd_run};

/* ---- stc_gate -------------------------------------------------------------------------------- */

static void load_or_one(real *dst, const act_t *src, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        dst[j] = src != NULL ? ld(src, j) : R(1.0);
    }
}

static kd_status stc_gate_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t ch = s->dim[1], t = s->dim[2], v = s->dim[3];
    const act_t *x = c->in[0].data, *at = c->in[1].data, *av = c->in[2].data, *ac = c->in[3].data;
    const real sg = kd_sigmoid(((const real *)c->in[4].data)[0]);
    act_t *y = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < s->dim[0] * ch; it++) {
        const int64_t b = it / ch;
        real joint[KD_MAX_JOINTS];
        load_or_one(joint, av != NULL ? av + b * v : NULL, v);
        const real channel = ac != NULL ? ld(ac, it) : R(1.0);
        for (int64_t f = 0; f < t; f++) {
            const real w = sg * channel * ld(at, b * t + f);
            const act_t *restrict src = x + (it * t + f) * v;
            act_t *restrict dst = y + (it * t + f) * v;
            for (int64_t j = 0; j < v; j++) {
                const real u = ld(src, j);
                st(dst, j, u * (R(1.0) - sg) + u * joint[j] * w);
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(stc_gate) = {.run = stc_gate_run};

/* One sample: gradients of its factors; returns sum dy x (a - 1), the gradient of s. */
static real stc_sample(const kd_call *c, int64_t b, real sg, real *dt)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t ch = s->dim[1], t = s->dim[2], v = s->dim[3];
    const act_t *at = c->in[2].data, *av = c->in[3].data, *ac = c->in[4].data;
    real joint[KD_MAX_JOINTS], dv[KD_MAX_JOINTS] = {0}, total = R(0.0);
    load_or_one(joint, av != NULL ? av + b * v : NULL, v);
    for (int64_t f = 0; f < t; f++) {
        dt[f] = R(0.0);
    }
    for (int64_t i = 0; i < ch; i++) {
        const int64_t it = b * ch + i;
        const act_t *dy = (const act_t *)c->in[0].data + it * t * v;
        const act_t *x = (const act_t *)c->in[1].data + it * t * v;
        act_t *dx = wanted(c, 0) ? (act_t *)c->out[0].data + it * t * v : NULL;
        const real channel = ac != NULL ? ld(ac, it) : R(1.0);
        real dc = R(0.0), plain = R(0.0);
        for (int64_t f = 0; f < t; f++) {
            const real time = ld(at, b * t + f);
            real dot = R(0.0);
            for (int64_t j = 0; j < v; j++) {
                const real g = ld(dy, f * v + j), gx = g * ld(x, f * v + j);
                plain += gx;
                dot += gx * joint[j];
                dv[j] += gx * time * channel;
                if (dx != NULL) {
                    st(dx, f * v + j, g * (R(1.0) - sg + sg * channel * time * joint[j]));
                }
            }
            dt[f] += dot * channel;
            dc += dot * time;
        }
        total += dc * channel - plain;
        if (wanted(c, 3)) {
            st(c->out[3].data, it, sg * dc);
        }
    }
    for (int64_t f = 0; f < t && wanted(c, 1); f++) {
        st(c->out[1].data, b * t + f, sg * dt[f]);
    }
    for (int64_t j = 0; j < v && wanted(c, 2); j++) {
        st(c->out[2].data, b * v + j, sg * dv[j]);
    }
    return total;
}

static kd_status stc_gate_bwd_run(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t n = s->dim[0], t = s->dim[2];
    const real sg = kd_sigmoid(((const real *)c->in[5].data)[0]);
    real *part = c->scratch, *dt = part + n;
    KD_FOR
    for (int64_t b = 0; b < n; b++) {
        part[b] = stc_sample(c, b, sg, dt + b * t);
    }
    if (wanted(c, 4)) {
        real sum = R(0.0);
        for (int64_t b = 0; b < n; b++) {
            sum += part[b];
        }
        sum *= sg * (R(1.0) - sg);
        kd_store(c, 4, 0, &sum, 1);
    }
    return KD_OK;
}

static size_t stc_gate_bwd_scratch(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    return (size_t)(s->dim[0] * (1 + s->dim[2])) * sizeof(real);
}

const kd_kernel_def KD_K(stc_gate_bwd) = {.run = stc_gate_bwd_run, .scratch = stc_gate_bwd_scratch};

/* ---- gated_add ------------------------------------------------------------------------------- */

static kd_status gated_add_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t v = s->dim[3];
    const act_t *x = c->in[0].data, *o = c->in[1].data;
    const real sg = kd_sigmoid(((const real *)c->in[2].data)[0]);
    act_t *y = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < kd_shape_span(s, 0, 3); it++) {
        const real add = sg * ld(o, it);
        for (int64_t j = 0; j < v; j++) {
            st(y + it * v, j, ld(x + it * v, j) + add);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(gated_add) = {.run = gated_add_run};

static kd_status gated_add_bwd_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t rows = s->dim[1] * s->dim[2], v = s->dim[3];
    const act_t *dy = c->in[0].data, *o = c->in[1].data;
    const real sg = kd_sigmoid(((const real *)c->in[2].data)[0]);
    act_t *d_o = c->out[0].data;
    real *part = c->scratch;
    KD_FOR
    for (int64_t b = 0; b < s->dim[0]; b++) {
        part[b] = R(0.0);
        for (int64_t it = b * rows; it < (b + 1) * rows; it++) {
            const real g = kd_sum_act(dy + it * v, v);
            part[b] += g * ld(o, it);
            if (d_o != NULL) {
                st(d_o, it, sg * g);
            }
        }
    }
    if (wanted(c, 1)) {
        real sum = R(0.0);
        for (int64_t b = 0; b < s->dim[0]; b++) {
            sum += part[b];
        }
        sum *= sg * (R(1.0) - sg);
        kd_store(c, 1, 0, &sum, 1);
    }
    return KD_OK;
}

static size_t gated_add_bwd_scratch(const kd_call *c)
{
    return (size_t)c->in[0].shape.dim[0] * sizeof(real);
}

const kd_kernel_def KD_K(gated_add_bwd) = {.run = gated_add_bwd_run, .scratch = gated_add_bwd_scratch};

/* ---- gate_mix -------------------------------------------------------------------------------- */

static kd_status gate_mix_run(const kd_call *c)
{
    const int64_t n = c->in[0].shape.dim[0], ch = c->in[0].shape.dim[1];
    const act_t *a = c->in[0].data, *b = c->in[1].data;
    const real *gate = c->in[2].data;
    const bool one = numel(&c->in[2]) == 1;
    act_t *y = c->out[0].data;
    for (int64_t i = 0; i < ch; i++) {
        const real s = kd_sigmoid(gate[one ? 0 : i]);
        for (int64_t it = i; it < n * ch; it += ch) {
            st(y, it, s * ld(a, it) + (R(1.0) - s) * ld(b, it));
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(gate_mix) = {.run = gate_mix_run};

static kd_status gate_mix_bwd_run(const kd_call *c)
{
    const int64_t n = c->in[1].shape.dim[0], ch = c->in[1].shape.dim[1];
    const act_t *dy = c->in[0].data, *a = c->in[1].data, *b = c->in[2].data;
    const real *gate = c->in[3].data;
    const bool one = numel(&c->in[3]) == 1;
    act_t *da = c->out[0].data, *db = c->out[1].data;
    real total = R(0.0);
    for (int64_t i = 0; i < ch; i++) {
        const real s = kd_sigmoid(gate[one ? 0 : i]);
        real ds = R(0.0);
        for (int64_t it = i; it < n * ch; it += ch) {
            const real g = ld(dy, it);
            ds += g * (ld(a, it) - ld(b, it));
            if (da != NULL) {
                st(da, it, s * g);
            }
            if (db != NULL) {
                st(db, it, (R(1.0) - s) * g);
            }
        }
        ds *= s * (R(1.0) - s);
        total += ds;
        if (!one && wanted(c, 2)) {
            kd_store(c, 2, i, &ds, 1);
        }
    }
    if (one && wanted(c, 2)) {
        kd_store(c, 2, 0, &total, 1);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(gate_mix_bwd) = {.run = gate_mix_bwd_run};
