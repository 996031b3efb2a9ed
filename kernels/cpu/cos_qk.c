/* cos_qk and its gradient: a row of queries and keys an iteration. */
#include "kernels/cpu/chunk.h"

#define MAX_LOG_SCALE R(4.6052) /* log 100, as the source rounds it */
#define MIN_NORM      R(1e-12)

static inline real clamped_scale(real log_scale)
{
    return r_exp(log_scale > MAX_LOG_SCALE ? MAX_LOG_SCALE : log_scale);
}

static kd_status cos_qk_run(const kd_call *c)
{
    const kd_cos_qk_attr *at = c->attr;
    const kd_shape *s = &c->in[0].shape;
    const int64_t rows = s->dim[0] * s->dim[1], C = s->dim[2] / 3, H = at->heads, D = C / H;
    const real *ls = c->in[1].data;
    KD_FOR
    for (int64_t r = 0; r < rows; r++) {
        const act_t *x = (const act_t *)c->in[0].data + r * 3 * C;
        act_t *y = c->out[0].data == NULL ? NULL : (act_t *)c->out[0].data + r * 3 * C;
        for (int64_t i = 0; i < 2 * H; i++) {
            const real norm = r_sqrt(kd_dot_acts(x + i * D, x + i * D, D));
            const real f = (i < H ? clamped_scale(ls[i]) : R(1.0)) / (norm < MIN_NORM ? MIN_NORM : norm);
            for (int64_t d = 0; y != NULL && d < D; d++) {
                st(y, i * D + d, ld(x, i * D + d) * f);
            }
            if (c->out[1].data != NULL) {
                ((real *)c->out[1].data)[r * 2 * H + i] = norm;
            }
        }
        if (y != NULL) {
            memcpy(y + 2 * C, x + 2 * C, (size_t)C * sizeof *y);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(cos_qk) = {.run = cos_qk_run};

/* x' = s x/|x|: dx = s/|x| (dx' - x (x . dx') / |x|^2); a clamped norm is a constant. */
static void cos_qk_bwd_row(const kd_call *c, int64_t r, int64_t C, int64_t H)
{
    const int64_t D = C / H;
    const act_t *dy = (const act_t *)c->in[0].data + r * 3 * C, *x = (const act_t *)c->in[1].data + r * 3 * C;
    const real *ls = c->in[2].data, *norms = (const real *)c->in[3].data + r * 2 * H;
    act_t *dx = (act_t *)c->out[0].data + r * 3 * C;
    for (int64_t i = 0; i < 2 * H; i++) {
        const bool clamped = norms[i] < MIN_NORM;
        const real norm = clamped ? MIN_NORM : norms[i];
        const real f = (i < H ? clamped_scale(ls[i]) : R(1.0)) / norm;
        const real along = clamped ? R(0.0) : kd_dot_acts(dy + i * D, x + i * D, D) / norm / norm;
        for (int64_t d = 0; d < D; d++) {
            st(dx, i * D + d, f * (ld(dy, i * D + d) - along * ld(x, i * D + d)));
        }
    }
    memcpy(dx + 2 * C, dy + 2 * C, (size_t)C * sizeof *dx);
}

static kd_status cos_qk_bwd_run(const kd_call *c)
{
    const kd_cos_qk_attr *at = c->attr;
    const kd_shape *s = &c->in[1].shape;
    const int64_t rows = s->dim[0] * s->dim[1], C = s->dim[2] / 3, H = at->heads, D = C / H;
    if (c->out[0].data != NULL) {
        KD_FOR
        for (int64_t r = 0; r < rows; r++) {
            cos_qk_bwd_row(c, r, C, H);
        }
    }
    if (c->out[1].data == NULL) {
        return KD_OK;
    }
    KD_FOR
    for (int64_t h = 0; h < H; h++) { /* d q'/d log_scale = q' where the scale is not clamped */
        const real ls = ((const real *)c->in[2].data)[h];
        real sum = R(0.0);
        for (int64_t r = 0; r < rows; r++) {
            const real norm = ((const real *)c->in[3].data)[r * 2 * H + h];
            const int64_t at_q = r * 3 * C + h * D;
            sum += kd_dot_acts((const act_t *)c->in[0].data + at_q, (const act_t *)c->in[1].data + at_q, D) /
                   (norm < MIN_NORM ? MIN_NORM : norm);
        }
        sum *= ls > MAX_LOG_SCALE ? R(0.0) : clamped_scale(ls);
        kd_store(c, 1, h, &sum, 1);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(cos_qk_bwd) = {.run = cos_qk_bwd_run};
