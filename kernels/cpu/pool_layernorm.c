/* pool_layernorm: two passes for the variance (biased), pooled row and statistics in the stat dtype. */
#include "kernels/cpu/chunk.h"

#define COLS 64 /* channels a piece */
#define RUN  64 /* tokens summed in a row: runs of a few keep the rounding error of a long sum small */

/* The mean over tokens of columns [o, o+len) of one sample. */
static void pool_columns(const kd_tensor *x, int64_t b, int64_t o, int64_t len, real *restrict total)
{
    const int64_t N = x->shape.dim[1], C = x->shape.dim[2];
    real run[COLS], v[COLS];
    for (int64_t j = 0; j < len; j++) {
        total[j] = R(0.0);
    }
    for (int64_t from = 0; from < N; from += RUN) {
        for (int64_t j = 0; j < len; j++) {
            run[j] = R(0.0);
        }
        for (int64_t n = from; n < KD_MIN(N, from + RUN); n++) {
            kd_load(v, x, (b * N + n) * C + o, len);
            for (int64_t j = 0; j < len; j++) {
                run[j] += v[j];
            }
        }
        for (int64_t j = 0; j < len; j++) {
            total[j] += run[j];
        }
    }
    for (int64_t j = 0; j < len; j++) {
        total[j] /= (real)N;
    }
}

/* y, mean and rstd of one row of stat numbers. */
static void normalise_row(const kd_call *c, const real *x, int64_t b, int64_t C)
{
    const kd_pool_layernorm_attr *at = c->attr;
    const real *gamma = c->in[1].data, *beta = c->in[2].data;
    real mean = R(0.0), var = R(0.0);
    for (int64_t j = 0; j < C; j++) {
        mean += x[j];
    }
    mean /= (real)C;
    for (int64_t j = 0; j < C; j++) {
        var += (x[j] - mean) * (x[j] - mean);
    }
    const real rstd = R(1.0) / r_sqrt(var / (real)C + (real)at->eps);
    act_t *y = c->out[0].data;
    for (int64_t j = 0; y != NULL && j < C; j++) {
        st(y, b * C + j, (x[j] - mean) * rstd * gamma[j] + beta[j]);
    }
    if (c->out[2].data != NULL) {
        ((real *)c->out[2].data)[b] = mean;
    }
    if (c->out[3].data != NULL) {
        ((real *)c->out[3].data)[b] = rstd;
    }
}

static size_t pool_layernorm_scratch(const kd_call *c)
{
    return (size_t)(c->in[0].shape.dim[0] * c->in[0].shape.dim[2]) * sizeof(real);
}

static kd_status pool_layernorm_run(const kd_call *c)
{
    const int64_t B = c->in[0].shape.dim[0], C = c->in[0].shape.dim[2], pieces = (C + COLS - 1) / COLS;
    real *pooled = c->out[1].data != NULL ? c->out[1].data : c->scratch;
    KD_FOR
    for (int64_t it = 0; it < B * pieces; it++) {
        const int64_t b = it / pieces, o = it % pieces * COLS;
        pool_columns(&c->in[0], b, o, KD_MIN((int64_t)COLS, C - o), pooled + b * C + o);
    }
    KD_FOR
    for (int64_t b = 0; b < B; b++) {
        normalise_row(c, pooled + b * C, b, C);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(pool_layernorm) = {.run = pool_layernorm_run, .scratch = pool_layernorm_scratch};

/* Every token of sample b gets the gradient of the pooled row over the number of tokens. */
static void spread_row(const kd_call *c, int64_t b, int64_t C)
{
    const int64_t N = ((const kd_pool_layernorm_attr *)c->attr)->tokens;
    const act_t *dy = (const act_t *)c->in[0].data + b * C;
    const real *x = (const real *)c->in[1].data + b * C, *gamma = c->in[2].data;
    const real mean = ((const real *)c->in[3].data)[b], rstd = ((const real *)c->in[4].data)[b];
    act_t *dx = (act_t *)c->out[0].data + b * N * C;
    real s1 = R(0.0), s2 = R(0.0);
    for (int64_t j = 0; j < C; j++) {
        const real g = ld(dy, j) * gamma[j];
        s1 += g;
        s2 += g * ((x[j] - mean) * rstd);
    }
    s1 /= (real)C;
    s2 /= (real)C;
    for (int64_t j = 0; N > 0 && j < C; j++) {
        st(dx, j, rstd * (ld(dy, j) * gamma[j] - s1 - (x[j] - mean) * rstd * s2) / (real)N);
    }
    for (int64_t n = 1; n < N; n++) {
        memcpy(dx + n * C, dx, (size_t)C * sizeof *dx);
    }
}

static kd_status pool_layernorm_bwd_run(const kd_call *c)
{
    const act_t *dy = c->in[0].data;
    const real *x = c->in[1].data, *mean = c->in[3].data, *rstd = c->in[4].data;
    const int64_t B = c->in[0].shape.dim[0], C = c->in[0].shape.dim[1];
    if (c->out[0].data != NULL) {
        KD_FOR
        for (int64_t b = 0; b < B; b++) {
            spread_row(c, b, C);
        }
    }
    for (int64_t j = 0; j < C; j++) {
        real dg = R(0.0), db = R(0.0);
        for (int64_t b = 0; b < B; b++) {
            const real d = ld(dy, b * C + j);
            dg += d * ((x[b * C + j] - mean[b]) * rstd[b]);
            db += d;
        }
        if (c->out[1].data != NULL) {
            put_any(c, 1, j, dg);
        }
        if (c->out[2].data != NULL) {
            put_any(c, 2, j, db);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(pool_layernorm_bwd) = {.run = pool_layernorm_bwd_run};
