/* bn_fold: W' = W gamma / sqrt(rv + eps) per output channel, b' = (b - rm) gamma / sqrt(rv + eps) + beta. */
#include "kernels/cpu/kd_real.h"

static kd_status bn_fold(const kd_call *c)
{
    const kd_batchnorm_attr *a = c->attr;
    const act_t *w = c->in[0].data;
    const real *b = c->in[1].data, *gamma = c->in[2].data, *beta = c->in[3].data;
    const real *rm = c->in[4].data, *rv = c->in[5].data;
    act_t *wf = c->out[0].data;
    real *bf = c->out[1].data;
    const int64_t co = c->in[0].shape.dim[0];
    const int64_t row = kd_shape_span(&c->in[0].shape, 1, c->in[0].shape.rank);
    for (int64_t o = 0; o < co; o++) {
        const real s = gamma[o] / r_sqrt(rv[o] + (real)a->eps);
        for (int64_t i = 0; wf != NULL && i < row; i++) {
            st(wf, o * row + i, ld(w, o * row + i) * s);
        }
        if (bf != NULL) {
            bf[o] = ((b != NULL ? b[o] : R(0.0)) - rm[o]) * s + beta[o];
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(bn_fold) = {.run = bn_fold};
