/* layernorm, alone and with the residual sum in front of it: two passes for the variance (biased), statistics in the
 * stat dtype. */
#include "kernels/cpu/chunk.h"
#include "kernels/cpu/drop.h"

/* Row of the normalised input: x, or round(x + keep b) (add_layernorm). */
typedef struct row_of {
    const act_t *x, *b;
    real keep;
} row_of;

static inline real rounded(real v)
{
    act_t stored;
    st(&stored, 0, v);
    return ld(&stored, 0);
}

static inline real dropped(real keep, real v)
{
    return keep == R(0.0) ? R(0.0) : keep * v; /* a dropped value contributes 0, NaN included */
}

static inline real term(const row_of *s, int64_t j)
{
    return s->b == NULL ? ld(s->x, j) : rounded(ld(s->x, j) + dropped(s->keep, ld(s->b, j)));
}

typedef struct norm_out {
    act_t *y;
    real *mean, *rstd;
} norm_out;

static void normalise(const row_of *s, const real *gamma, const real *beta, real eps, int64_t C, const norm_out *out,
                      int64_t r)
{
    real lane[KD_LANES] = {0};
    int64_t j = 0;
    for (; j + KD_LANES <= C; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            lane[l] += term(s, j + l);
        }
    }
    real mean = kd_lanes_sum(lane);
    for (; j < C; j++) {
        mean += term(s, j);
    }
    mean /= (real)C;
    memset(lane, 0, sizeof lane);
    for (j = 0; j + KD_LANES <= C; j += KD_LANES) {
        for (int l = 0; l < KD_LANES; l++) {
            const real d = term(s, j + l) - mean;
            lane[l] += d * d;
        }
    }
    real var = kd_lanes_sum(lane);
    for (; j < C; j++) {
        const real d = term(s, j) - mean;
        var += d * d;
    }
    const real rstd = R(1.0) / r_sqrt(var / (real)C + eps);
    for (j = 0; out->y != NULL && j < C; j++) {
        st(out->y, r * C + j, (term(s, j) - mean) * rstd * gamma[j] + beta[j]);
    }
    if (out->mean != NULL) {
        out->mean[r] = mean;
    }
    if (out->rstd != NULL) {
        out->rstd[r] = rstd;
    }
}

static kd_status layernorm_run(const kd_call *c)
{
    const act_t *x = c->in[0].data;
    const real eps = (real)((const kd_layernorm_attr *)c->attr)->eps;
    const norm_out out = {c->out[0].data, c->out[1].data, c->out[2].data};
    const int64_t C = numel(&c->in[1]), rows = C > 0 ? numel(&c->in[0]) / C : 0;
    KD_FOR
    for (int64_t r = 0; r < rows; r++) {
        const row_of s = {x + r * C, NULL, R(1.0)};
        normalise(&s, c->in[1].data, c->in[2].data, eps, C, &out, r);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(layernorm) = {.run = layernorm_run};

/* Drop path of row r: `per` rows share a draw. */
static real keep_of(const kd_call *c, const kd_add_layernorm_attr *at, int64_t r, int64_t per)
{
    return at->p > 0.0f ? kd_drop_row(c->step, at->p, at->rng_id, r / per) : R(1.0);
}

static kd_status add_layernorm_run(const kd_call *c)
{
    const kd_add_layernorm_attr *at = c->attr;
    const act_t *a = c->in[0].data, *b = c->in[1].data;
    act_t *sum = c->out[0].data;
    const norm_out out = {c->out[1].data, c->out[2].data, c->out[3].data};
    const int64_t C = numel(&c->in[2]), rows = C > 0 ? numel(&c->in[0]) / C : 0;
    const int64_t per = rows > 0 ? rows / c->in[0].shape.dim[0] : 1;
    KD_FOR
    for (int64_t r = 0; r < rows; r++) {
        row_of s = {a + r * C, b + r * C, keep_of(c, at, r, per)};
        if (sum != NULL) {
            for (int64_t j = 0; j < C; j++) {
                st(sum, r * C + j, ld(s.x, j) + dropped(s.keep, ld(s.b, j)));
            }
            s = (row_of){sum + r * C, NULL, R(1.0)};
        }
        normalise(&s, c->in[2].data, c->in[3].data, (real)at->eps, C, &out, r);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(add_layernorm) = {.run = add_layernorm_run};

/* The operands of a gradient, layernorm's or add_layernorm's. */
typedef struct back {
    const act_t *dy, *x;
    const real *gamma, *mean, *rstd;
    int64_t rows, C;
} back;

/* dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma; then dx += more, and db = keep dx. */
static void backward_row(const back *k, int64_t r, act_t *dx, const act_t *more, act_t *db, real keep)
{
    const int64_t C = k->C;
    const act_t *dy = k->dy + r * C, *x = k->x + r * C;
    const real *gamma = k->gamma;
    const real mean = k->mean[r], rstd = k->rstd[r];
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
    for (j = 0; j < C;
         j += KD_CHUNK) { /* loops of their own: one loop with all three choices is compiled eight times */
        real d[KD_CHUNK];
        const int64_t n = KD_MIN((int64_t)KD_CHUNK, C - j);
        for (int64_t i = 0; i < n; i++) {
            d[i] = rstd * (ld(dy, j + i) * gamma[j + i] - s1 - (ld(x, j + i) - mean) * rstd * s2);
        }
        for (int64_t i = 0; more != NULL && i < n; i++) {
            d[i] += ld(more, r * C + j + i);
        }
        for (int64_t i = 0; dx != NULL && i < n; i++) {
            st(dx, r * C + j + i, d[i]);
        }
        for (int64_t i = 0; db != NULL && i < n; i++) {
            st(db, r * C + j + i, dropped(keep, d[i]));
        }
    }
}

#define COLS 64

/* dgamma and dbeta into outputs `first` and the next one. */
static void backward_params(const kd_call *c, const back *k, int first)
{
    const int64_t C = k->C;
    if (c->out[first].data == NULL && c->out[first + 1].data == NULL) {
        return;
    }
    KD_FOR
    for (int64_t o = 0; o < C; o += COLS) { /* rows in order, a few channels a thread */
        real dg[COLS] = {0}, db[COLS] = {0};
        const int64_t len = KD_MIN((int64_t)COLS, C - o);
        for (int64_t r = 0; r < k->rows; r++) {
            const act_t *dp = k->dy + r * C + o, *xp = k->x + r * C + o;
            const real m = k->mean[r], s = k->rstd[r];
            for (int64_t j = 0; j < len; j++) {
                const real d = ld(dp, j);
                dg[j] += d * ((ld(xp, j) - m) * s);
                db[j] += d;
            }
        }
        if (c->out[first].data != NULL) {
            kd_store(c, first, o, dg, len);
        }
        if (c->out[first + 1].data != NULL) {
            kd_store(c, first + 1, o, db, len);
        }
    }
}

/* x, gamma, mean, rstd are operands `first` and following. */
static back back_of(const kd_call *c, int first)
{
    const int64_t C = numel(&c->in[first + 1]);
    return (back){c->in[0].data,
                  c->in[first].data,
                  c->in[first + 1].data,
                  c->in[first + 2].data,
                  c->in[first + 3].data,
                  C > 0 ? numel(&c->in[0]) / C : 0,
                  C};
}

static kd_status layernorm_bwd_run(const kd_call *c)
{
    const back k = back_of(c, 1);
    act_t *dx = c->out[0].data;
    KD_FOR
    for (int64_t r = 0; r < (dx != NULL ? k.rows : 0); r++) {
        backward_row(&k, r, dx, NULL, NULL, R(1.0));
    }
    backward_params(c, &k, 1);
    return KD_OK;
}

const kd_kernel_def KD_K(layernorm_bwd) = {.run = layernorm_bwd_run};

static kd_status add_layernorm_bwd_run(const kd_call *c)
{
    const kd_add_layernorm_attr *at = c->attr;
    const back k = back_of(c, 2);
    act_t *da = c->out[0].data, *db = c->out[1].data;
    const int64_t per = k.rows > 0 ? k.rows / c->in[0].shape.dim[0] : 1;
    backward_params(c, &k, 2); /* first: da may be dy */
    KD_FOR
    for (int64_t r = 0; r < (da != NULL || db != NULL ? k.rows : 0); r++) {
        backward_row(&k, r, da, c->in[1].data, db, keep_of(c, at, r, per));
    }
    return KD_OK;
}

const kd_kernel_def KD_K(add_layernorm_bwd) = {.run = add_layernorm_bwd_run};
