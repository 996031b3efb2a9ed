/* add, scale, mul, act, dropout, scale_last, cast, mixup, grad_seed. */
#include "kernels/cpu/act_fn.h"
#include "kernels/cpu/chunk.h"
#include "kernels/cpu/drop.h"

/* b repeats every nb elements of a; nb >= KD_CHUNK or not, pieces are cut where b wraps. */
static kd_status add_run(const kd_call *c)
{
    const int64_t n = numel(&c->in[0]), nb = numel(&c->in[1]);
    if (n == 0) {
        return KD_OK;
    }
    KD_ASSERT(nb > 0);                                       /* n is a multiple of nb */
    const int64_t rows = nb >= KD_CHUNK ? 1 : KD_CHUNK / nb; /* several short rows a piece */
    const int64_t width = rows * KD_MIN(nb, (int64_t)KD_CHUNK);
    const int64_t per = nb >= KD_CHUNK ? kd_chunks(nb) : 1;
    const int64_t pieces = nb >= KD_CHUNK ? n / nb * per : (n / nb + rows - 1) / rows;
    KD_FOR
    for (int64_t k = 0; k < pieces; k++) {
        real a[KD_CHUNK], b[KD_CHUNK];
        int64_t at, len;
        if (nb >= KD_CHUNK) {
            const int64_t off = k % per * KD_CHUNK;
            at = k / per * nb + off;
            len = KD_MIN((int64_t)KD_CHUNK, nb - off);
            kd_load(b, &c->in[1], off, len);
        } else {
            at = k * width;
            len = KD_MIN(width, n - at);
            for (int64_t r = 0; r < len; r += nb) {
                kd_load(b + r, &c->in[1], 0, nb);
            }
        }
        kd_load(a, &c->in[0], at, len);
        for (int64_t j = 0; j < len; j++) {
            a[j] += b[j];
        }
        kd_store(c, 0, at, a, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(add) = {.run = add_run};

static kd_status scale_run(const kd_call *c)
{
    const kd_scale_attr *at = c->attr;
    const int64_t n = numel(&c->in[0]);
    const real v = (real)at->value;
    KD_FOR
    for (int64_t k = 0; k < kd_chunks(n); k++) {
        real x[KD_CHUNK];
        const int64_t i = k * KD_CHUNK, len = KD_MIN((int64_t)KD_CHUNK, n - i);
        kd_load(x, &c->in[0], i, len);
        for (int64_t j = 0; j < len; j++) {
            x[j] *= v;
        }
        kd_store(c, 0, i, x, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(scale) = {.run = scale_run};

static kd_status mul_run(const kd_call *c)
{
    const int64_t n = numel(&c->in[0]);
    KD_FOR
    for (int64_t k = 0; k < kd_chunks(n); k++) {
        real a[KD_CHUNK], b[KD_CHUNK];
        const int64_t i = k * KD_CHUNK, len = KD_MIN((int64_t)KD_CHUNK, n - i);
        kd_load(a, &c->in[0], i, len);
        kd_load(b, &c->in[1], i, len);
        for (int64_t j = 0; j < len; j++) {
            a[j] *= b[j];
        }
        kd_store(c, 0, i, a, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(mul) = {.run = mul_run};

static kd_status act_run(const kd_call *c)
{
    const kd_act_attr *at = c->attr;
    const int64_t n = numel(&c->in[0]);
    KD_FOR
    for (int64_t k = 0; k < kd_chunks(n); k++) {
        real x[KD_CHUNK];
        const int64_t i = k * KD_CHUNK, len = KD_MIN((int64_t)KD_CHUNK, n - i);
        kd_load(x, &c->in[0], i, len);
        kd_act_row(at->kind, x, len);
        kd_store(c, 0, i, x, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(act) = {.run = act_run};

static kd_status act_bwd_run(const kd_call *c)
{
    const kd_act_attr *at = c->attr;
    const int64_t n = numel(&c->in[0]);
    KD_FOR
    for (int64_t k = 0; k < kd_chunks(n); k++) {
        real x[KD_CHUNK], d[KD_CHUNK];
        const int64_t i = k * KD_CHUNK, len = KD_MIN((int64_t)KD_CHUNK, n - i);
        kd_load(x, &c->in[0], i, len);
        kd_load(d, &c->in[1], i, len);
        kd_act_row_d(at->kind, x, d, len);
        kd_store(c, 0, i, d, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(act_bwd) = {.run = act_bwd_run};

/* ---- dropout --------------------------------------------------------------------------------- */

static kd_status dropout_run(const kd_call *c)
{
    const kd_dropout_attr *at = c->attr;
    const int64_t n = numel(&c->in[0]);
    const int64_t row = at->per_row && n > 0 ? n / c->in[0].shape.dim[0] : 1;
    KD_FOR
    for (int64_t k = 0; k < kd_chunks(n); k++) {
        real x[KD_CHUNK];
        const int64_t i = k * KD_CHUNK, len = KD_MIN((int64_t)KD_CHUNK, n - i);
        kd_load(x, &c->in[0], i, len);
        if (!at->per_row) {
            kd_drop_elements(c->step, at->p, at->rng_id, i, x, len);
        } else {
            for (int64_t j = 0; j < len;) {
                const int64_t r = (i + j) / row, end = KD_MIN(len, (r + 1) * row - i);
                kd_drop_by(kd_drop_row(c->step, at->p, at->rng_id, r), x + j, end - j);
                j = end;
            }
        }
        kd_store(c, 0, i, x, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(dropout) = {.run = dropout_run};

/* ---- scale_last ------------------------------------------------------------------------------ */

/* out = a * g over rows of C */
static void scale_rows(const kd_call *c, const kd_tensor *a, const kd_tensor *g)
{
    const int64_t C = numel(g), rows = C > 0 ? numel(a) / C : 0;
    KD_FOR
    for (int64_t r = 0; r < rows; r++) {
        real x[KD_CHUNK];
        const real *gp = g->data;
        for (int64_t o = 0; o < C; o += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, C - o);
            kd_load(x, a, r * C + o, len);
            for (int64_t j = 0; j < len; j++) {
                x[j] *= gp[o + j];
            }
            kd_store(c, 0, r * C + o, x, len);
        }
    }
}

static kd_status scale_last_run(const kd_call *c)
{
    scale_rows(c, &c->in[0], &c->in[1]);
    return KD_OK;
}

const kd_kernel_def KD_K(scale_last) = {.run = scale_last_run};

#define COLS 64 /* channels a thread takes in sums over rows */

static kd_status scale_last_bwd_run(const kd_call *c)
{
    const kd_tensor *x = &c->in[0], *dy = &c->in[2];
    const int64_t C = numel(&c->in[1]), rows = C > 0 ? numel(x) / C : 0;
    if (c->out[0].data != NULL) {
        scale_rows(c, dy, &c->in[1]);
    }
    if (c->out[1].data == NULL) {
        return KD_OK;
    }
    KD_FOR
    for (int64_t o = 0; o < C; o += COLS) {
        real a[COLS], b[COLS], s[COLS] = {0};
        const int64_t len = KD_MIN((int64_t)COLS, C - o);
        for (int64_t r = 0; r < rows; r++) {
            kd_load(a, x, r * C + o, len);
            kd_load(b, dy, r * C + o, len);
            for (int64_t j = 0; j < len; j++) {
                s[j] += a[j] * b[j];
            }
        }
        kd_store(c, 1, o, s, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(scale_last_bwd) = {.run = scale_last_bwd_run};

/* ---- cast, mixup, grad_seed ------------------------------------------------------------------ */

static kd_status cast_run(const kd_call *c)
{
    const int64_t n = numel(&c->in[0]);
    KD_FOR
    for (int64_t k = 0; k < kd_chunks(n); k++) {
        real x[KD_CHUNK];
        const int64_t i = k * KD_CHUNK, len = KD_MIN((int64_t)KD_CHUNK, n - i);
        kd_load(x, &c->in[0], i, len);
        kd_store(c, 0, i, x, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(cast) = {.run = cast_run};

static kd_status mixup_run(const kd_call *c)
{
    const int64_t B = c->in[0].shape.dim[0], n = numel(&c->in[0]), row = B > 0 ? n / B : 0, per = kd_chunks(row);
    const int32_t *perm = c->in[1].data;
    const real *lam = c->in[2].data;
    const kd_shape *x = &c->in[0].shape;
    const bool frames = c->in[2].shape.rank == 2;
    const int64_t T = frames ? x->dim[2] : 1, inner = frames && n > 0 ? row / (x->dim[1] * T) : KD_MAX(row, 1);
    KD_FOR
    for (int64_t k = 0; k < B * per; k++) {
        real a[KD_CHUNK], b[KD_CHUNK];
        const int64_t s = k / per, off = k % per * KD_CHUNK, len = KD_MIN((int64_t)KD_CHUNK, row - off);
        kd_load(a, &c->in[0], s * row + off, len);
        kd_load(b, &c->in[0], (int64_t)perm[s] * row + off, len);
        for (int64_t j = 0; j < len;) { /* of equal shares at a time */
            const int64_t at = off + j, end = KD_MIN(len, j + inner - at % inner);
            const real w = lam[s * T + at / inner % T], v = R(1.0) - w;
            for (; j < end; j++) {
                a[j] = w * a[j] + v * b[j];
            }
        }
        kd_store(c, 0, s * row + off, a, len);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(mixup) = {.run = mixup_run};

static kd_status grad_seed_run(const kd_call *c)
{
    const double *loss_scale = c->step->loss_scale;
    st_any(&c->out[0], 0, (real)c->step->grad_scale * (loss_scale != NULL ? (real)*loss_scale : R(1.0)));
    return KD_OK;
}

const kd_kernel_def KD_K(grad_seed) = {.run = grad_seed_run};
