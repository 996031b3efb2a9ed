/* time_shift, joint_gather, body_select and their gradients. */
#include "kernels/cpu/chunk.h"

/* One plane: every frame from its neighbour, the first (last) one stays. */
static void shift_frames(const act_t *src, act_t *dst, int64_t t, int64_t v, bool later)
{
    const size_t rest = (size_t)((t - 1) * v) * sizeof *dst, row = (size_t)v * sizeof *dst;
    const int64_t stays = later ? 0 : t - 1;
    memcpy(dst + stays * v, src + stays * v, row);
    memcpy(later ? dst + v : dst, later ? src : src + v, rest);
}

/* The adjoint: the frame that stays got two gradients, the one at the other end none. */
static void shift_back(const act_t *src, act_t *dst, int64_t t, int64_t v, bool later)
{
    const size_t rest = (size_t)((t - 1) * v) * sizeof *dst, row = (size_t)v * sizeof *dst;
    const int64_t stays = later ? 0 : t - 1, lost = t - 1 - stays;
    memset(dst + lost * v, 0, row);
    memcpy(later ? dst : dst + v, later ? src + v : src, rest);
    for (int64_t j = 0; j < v; j++) { /* one frame: it stayed, and nothing else happened */
        const real moved = t > 1 ? ld(dst, stays * v + j) : R(0.0);
        st(dst, stays * v + j, moved + ld(src, stays * v + j));
    }
}

static kd_status time_shift_run(const kd_call *c)
{
    const kd_time_shift_attr *at = c->attr;
    const kd_shape *s = &c->in[0].shape;
    const int64_t ch = s->dim[1], t = s->dim[2], v = s->dim[3];
    const act_t *x = c->in[0].data;
    act_t *y = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < s->dim[0] * ch; it++) {
        const act_t *src = x + it * t * v;
        act_t *dst = y + it * t * v;
        const int64_t i = it % ch;
        if (i >= 2 * (int64_t)at->channels) {
            memcpy(dst, src, (size_t)(t * v) * sizeof *dst);
            continue;
        }
        const bool later = i < at->channels; /* y[t] = x[t-1] */
        if (at->reverse == 0) {
            shift_frames(src, dst, t, v, later);
        } else {
            shift_back(src, dst, t, v, later);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(time_shift) = {.run = time_shift_run};

static kd_status joint_gather_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t ch = s->dim[1], t = s->dim[2], v = s->dim[3];
    const act_t *x = c->in[0].data;
    const int32_t *idx = c->in[1].data;
    const real *w = kd_in(c, 2);
    act_t *y = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < s->dim[0] * ch; it++) {
        const int32_t *from = idx + it % ch * v;
        real e[KD_MAX_JOINTS];
        for (int64_t j = 0; j < v && w != NULL; j++) {
            e[j] = w[j * ch + it % ch];
        }
        for (int64_t r = it * t; r < (it + 1) * t; r++) {
            if (w == NULL) {
                for (int64_t j = 0; j < v; j++) {
                    y[r * v + j] = x[r * v + from[j]];
                }
                continue;
            }
            real row[KD_MAX_JOINTS];
            for (int64_t j = 0; j < v; j++) {
                row[j] = ld(x, r * v + from[j]) + e[j];
            }
            for (int64_t j = 0; j < v; j++) {
                st(y, r * v + j, row[j]);
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(joint_gather) = {.run = joint_gather_run};

static kd_status joint_gather_bwd_x_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t ch = s->dim[1], t = s->dim[2], v = s->dim[3];
    const act_t *dy = c->in[0].data, *plus = kd_in(c, 2);
    const int32_t *idx = c->in[1].data;
    act_t *dx = c->out[0].data;
    KD_FOR
    for (int64_t it = 0; it < s->dim[0] * ch; it++) {
        const int32_t *to = idx + it % ch * v;
        for (int64_t r = it * t; r < (it + 1) * t; r++) {
            real row[KD_MAX_JOINTS];
            for (int64_t j = 0; j < v; j++) {
                row[j] = plus != NULL ? ld(plus, r * v + j) : R(0.0);
            }
            for (int64_t j = 0; j < v; j++) {
                row[to[j]] += ld(dy, r * v + j);
            }
            for (int64_t j = 0; j < v; j++) {
                st(dx, r * v + j, row[j]);
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(joint_gather_bwd_x) = {.run = joint_gather_bwd_x_run};

static kd_status joint_gather_bwd_w_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t ch = s->dim[1], t = s->dim[2], v = s->dim[3];
    const act_t *dy = c->in[0].data;
    KD_FOR
    for (int64_t i = 0; i < ch; i++) {
        real total[KD_MAX_JOINTS] = {0};
        for (int64_t n = 0; n < s->dim[0]; n++) {
            real sum[KD_MAX_JOINTS] = {0};
            const act_t *restrict src = dy + (n * ch + i) * t * v;
            for (int64_t r = 0; r < t; r++) {
                for (int64_t j = 0; j < v; j++) {
                    sum[j] += ld(src, r * v + j);
                }
            }
            for (int64_t j = 0; j < v; j++) {
                total[j] += sum[j];
            }
        }
        for (int64_t j = 0; j < v; j++) {
            put_any(c, 0, j * ch + i, total[j]);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(joint_gather_bwd_w) = {.run = joint_gather_bwd_w_run};

/* ---- body_select: the input may be act or stat ----------------------------------------------- */

/* Frames of body m, of the sample that starts at x[base], in which anything is non-zero. */
static int64_t active_frames(const kd_tensor *x, int64_t base, int64_t m)
{
    const int64_t ch = x->shape.dim[1], t = x->shape.dim[2], v = x->shape.dim[3];
    const int64_t bodies = x->shape.dim[4];
    int64_t frames = 0;
    for (int64_t f = 0; f < t; f++) {
        real sum = R(0.0);
        for (int64_t i = 0; i < ch; i++) {
            for (int64_t j = 0; j < v; j++) {
                sum += r_fabs(ld_any(x, base + ((i * t + f) * v + j) * bodies + m));
            }
        }
        frames += sum > R(0.0);
    }
    return frames;
}

static kd_status body_select_run(const kd_call *c)
{
    const kd_body_select_attr *at = c->attr;
    const kd_shape *s = &c->in[0].shape;
    const int64_t n = s->dim[0], ch = s->dim[1], t = s->dim[2], v = s->dim[3], bodies = s->dim[4];
    const int64_t size = ch * t * v, copies = at->mode == KD_BODY_STACK ? bodies : 1;
    KD_FOR
    for (int64_t it = 0; it < n * copies; it++) {
        const int64_t base = it % n * size * bodies;
        int64_t body = it / n;
        if (at->mode == KD_BODY_ACTIVE) {
            int64_t best = -1;
            for (int64_t m = 0; m < bodies; m++) {
                const int64_t frames = active_frames(&c->in[0], base, m);
                if (frames > best) {
                    best = frames;
                    body = m;
                }
            }
        }
        for (int64_t j = 0; j < size; j++) {
            st_any(&c->out[0], it * size + j, ld_any(&c->in[0], base + j * bodies + body));
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(body_select) = {.run = body_select_run};
