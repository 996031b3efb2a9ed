/* linear and its two gradients, plain: rows in parallel, the inner loop over contiguous memory. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/chunk.h"

#define ROWS 4 /* rows of x that share one pass over W */

/* y[r][o] = x[r] . w[o] for `rows` <= ROWS rows, Co outputs in pieces. */
static void forward_rows(const kd_call *c, int64_t row0, int64_t rows, int64_t Co, int64_t Ci)
{
    const kd_linear_attr *at = c->attr;
    const act_t *x = c->in[0].data, *w = c->in[1].data;
    const real *b = c->n_in > 2 ? c->in[2].data : NULL;
    real y[ROWS][64];
    for (int64_t o = 0; o < Co; o += 64) {
        const int64_t len = KD_MIN((int64_t)64, Co - o);
        for (int64_t j = 0; j < len; j++) {
            for (int64_t r = 0; r < rows; r++) {
                y[r][j] = kd_dot_acts(x + (row0 + r) * Ci, w + (o + j) * Ci, Ci);
            }
        }
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t j = 0; b != NULL && j < len; j++) {
                y[r][j] += b[o + j];
            }
            if (c->n_out > 1 && c->out[1].data != NULL) {
                kd_store(c, 1, (row0 + r) * Co + o, y[r], len);
            }
            if (c->out[0].data != NULL) {
                kd_act_row(at->act, y[r], len);
                kd_store(c, 0, (row0 + r) * Co + o, y[r], len);
            }
        }
    }
}

static kd_status linear_run(const kd_call *c)
{
    const int64_t Co = c->in[1].shape.dim[0], Ci = c->in[1].shape.dim[1];
    const int64_t n = Ci > 0 ? numel(&c->in[0]) / Ci : 0;
    KD_FOR
    for (int64_t k = 0; k < (n + ROWS - 1) / ROWS; k++) {
        forward_rows(c, k * ROWS, KD_MIN((int64_t)ROWS, n - k * ROWS), Co, Ci);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(linear) = {.run = linear_run};

static kd_status linear_bwd_x_run(const kd_call *c)
{
    const kd_linear_attr *at = c->attr;
    const act_t *dy = c->in[0].data, *w = c->in[1].data;
    const int64_t Co = c->in[1].shape.dim[0], Ci = c->in[1].shape.dim[1];
    const int64_t n = Co > 0 ? numel(&c->in[0]) / Co : 0;
    KD_FOR
    for (int64_t r = 0; r < n; r++) {
        real acc[KD_CHUNK];
        for (int64_t i = 0; i < Ci; i += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, Ci - i);
            memset(acc, 0, sizeof acc);
            for (int64_t o = 0; o < Co; o++) {
                const real d = ld(dy, r * Co + o);
                const act_t *wp = w + o * Ci + i;
                for (int64_t j = 0; j < len; j++) {
                    acc[j] += d * ld(wp, j);
                }
            }
            if (at->act != KD_ACT_NONE) {
                real pre[KD_CHUNK];
                kd_load(pre, &c->in[2], r * Ci + i, len);
                kd_act_row_d(at->act, pre, acc, len);
            }
            kd_store(c, 0, r * Ci + i, acc, len);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(linear_bwd_x) = {.run = linear_bwd_x_run};

static kd_status linear_bwd_w_run(const kd_call *c)
{
    const act_t *dy = c->in[0].data, *x = c->in[1].data;
    const int64_t Co = c->in[0].shape.dim[c->in[0].shape.rank - 1];
    const int64_t Ci = c->in[1].shape.dim[c->in[1].shape.rank - 1];
    const int64_t n = Co > 0 ? numel(&c->in[0]) / Co : 0;
    const bool want_b = c->n_out > 1 && c->out[1].data != NULL;
    KD_FOR
    for (int64_t o = 0; o < Co; o++) { /* one output channel a pass: rows are summed in their order */
        real acc[KD_CHUNK];
        for (int64_t i = 0; c->out[0].data != NULL && i < Ci; i += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, Ci - i);
            memset(acc, 0, sizeof acc);
            for (int64_t r = 0; r < n; r++) {
                const real d = ld(dy, r * Co + o);
                const act_t *xp = x + r * Ci + i;
                for (int64_t j = 0; j < len; j++) {
                    acc[j] += d * ld(xp, j);
                }
            }
            kd_store(c, 0, o * Ci + i, acc, len);
        }
        if (want_b) {
            real s = R(0.0);
            for (int64_t r = 0; r < n; r++) {
                s += ld(dy, r * Co + o);
            }
            kd_store(c, 1, o, &s, 1);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(linear_bwd_w) = {.run = linear_bwd_w_run};
