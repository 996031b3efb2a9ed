/* layernorm: two passes for the variance (biased), statistics in the stat dtype. */
#include "kernels/cpu/chunk.h"

static void forward_row(const kd_call *c, const act_t *x, int64_t r, int64_t C)
{
    const kd_layernorm_attr *at = c->attr;
    const real *gamma = c->in[1].data, *beta = c->in[2].data;
    const real mean = kd_sum_act(x, C) / (real)C;
    real lane[KD_LANES] = {0};
    int64_t j = 0;
    for (; j + KD_LANES <= C; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            const real d = ld(x, j + l) - mean;
            lane[l] += d * d;
        }
    }
    real var = kd_lanes_sum(lane);
    for (; j < C; j++) {
        const real d = ld(x, j) - mean;
        var += d * d;
    }
    const real rstd = R(1.0) / r_sqrt(var / (real)C + (real)at->eps);
    act_t *y = c->out[0].data;
    for (j = 0; y != NULL && j < C; j++) {
        st(y, r * C + j, (ld(x, j) - mean) * rstd * gamma[j] + beta[j]);
    }
    if (c->out[1].data != NULL) {
        ((real *)c->out[1].data)[r] = mean;
    }
    if (c->out[2].data != NULL) {
        ((real *)c->out[2].data)[r] = rstd;
    }
}

static kd_status layernorm_run(const kd_call *c)
{
    const act_t *x = c->in[0].data;
    const int64_t C = numel(&c->in[1]), rows = C > 0 ? numel(&c->in[0]) / C : 0;
    KD_FOR
    for (int64_t r = 0; r < rows; r++) {
        forward_row(c, x + r * C, r, C);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(layernorm) = {.run = layernorm_run};

/* dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma. */
static void backward_row(const kd_call *c, int64_t r, int64_t C)
{
    const act_t *dy = (const act_t *)c->in[0].data + r * C,
                *x = (const act_t *)c->in[1].data + r * C;
    const real *gamma = c->in[2].data;
    const real mean = ((const real *)c->in[3].data)[r], rstd = ((const real *)c->in[4].data)[r];
    real l1[KD_LANES] = {0}, l2[KD_LANES] = {0};
    int64_t j = 0;
    for (; j + KD_LANES <= C; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            const real g = ld(dy, j + l) * gamma[j + l];
            l1[l] += g;
            l2[l] += g * ((ld(x, j + l) - mean) * rstd);
        }
    }
    real s1 = kd_lanes_sum(l1), s2 = kd_lanes_sum(l2);
    for (; j < C; j++) {
        const real g = ld(dy, j) * gamma[j];
        s1 += g;
        s2 += g * ((ld(x, j) - mean) * rstd);
    }
    s1 /= (real)C;
    s2 /= (real)C;
    act_t *dx = c->out[0].data;
    for (j = 0; j < C; j++) {
        st(dx, r * C + j, rstd * (ld(dy, j) * gamma[j] - s1 - (ld(x, j) - mean) * rstd * s2));
    }
}

#define COLS 64

static kd_status layernorm_bwd_run(const kd_call *c)
{
    const act_t *dy = c->in[0].data, *x = c->in[1].data;
    const real *mean = c->in[3].data, *rstd = c->in[4].data;
    const int64_t C = numel(&c->in[2]), rows = C > 0 ? numel(&c->in[1]) / C : 0;
    if (c->out[0].data != NULL) {
        KD_FOR
        for (int64_t r = 0; r < rows; r++) {
            backward_row(c, r, C);
        }
    }
    if (c->out[1].data == NULL && c->out[2].data == NULL) {
        return KD_OK;
    }
    KD_FOR
    for (int64_t o = 0; o < C; o += COLS) { /* rows in order, a few channels a thread */
        real dg[COLS] = {0}, db[COLS] = {0};
        const int64_t len = KD_MIN((int64_t)COLS, C - o);
        for (int64_t r = 0; r < rows; r++) {
            const act_t *dp = dy + r * C + o, *xp = x + r * C + o;
            const real m = mean[r], s = rstd[r];
            for (int64_t j = 0; j < len; j++) {
                const real d = ld(dp, j);
                dg[j] += d * ((ld(xp, j) - m) * s);
                db[j] += d;
            }
        }
        if (c->out[1].data != NULL) {
            kd_store(c, 1, o, dg, len);
        }
        if (c->out[2].data != NULL) {
            kd_store(c, 2, o, db, len);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(layernorm_bwd) = {.run = layernorm_bwd_run};
