/* The information bottleneck of a student that has one (last-e3-base, -large): how far the latent distribution N(mu,
 * exp(v)) of a sample is from N(0, 1).
 *
 *   mean over valid rows of -1/2 sum_j (1 + v_j - mu_j^2 - exp(v_j))
 *
 * Source: Chi et al. 2022, InfoGCN, eq. 8, in the form of LAST-E v3, whose weight is 0.01. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

/* 1 / the number of valid rows; 1 where there is none. */
static kd_val share(kd_graph *g, kd_val valid)
{
    const kd_spec s = kd_spec_of(g, valid);
    const double wide = -1.0;
    const float narrow = -1.0f;
    const kd_val less = kd_const(g, "less", s.dtype, kd_shape0(), s.dtype == KD_F64 ? (const void *)&wide : &narrow);
    const kd_val more = kd_act(g, kd_add(g, kd_reduce(g, valid, KD_REDUCE_SUM, 1u << 0), less), KD_ACT_RELU);
    const kd_val n = kd_add(g, more, kd_scale(g, less, -1.0f));
    return kd_act(g, kd_scale(g, kd_act(g, n, KD_ACT_LOG), -1.0f), KD_ACT_EXP);
}

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    (void)t;
    const kd_shape s = kd_spec_of(g, in->latent).shape;
    const int64_t dims = s.rank == 2 ? s.dim[1] / 2 : 0;
    const kd_val mu = kd_slice(g, in->latent, 1, 0, dims), v = kd_slice(g, in->latent, 1, dims, dims);
    const kd_val moments = kd_add(g, kd_mul(g, mu, mu), kd_act(g, v, KD_ACT_EXP));
    const kd_val sum = kd_reduce(g, kd_add(g, moments, kd_scale(g, v, -1.0f)), KD_REDUCE_SUM, 1u << 1);
    /* mu^2 + exp(v) - v is 1 more than what is summed, dim by dim */
    const kd_val rows = kd_reduce(g, kd_mul(g, sum, in->valid), KD_REDUCE_SUM, 1u << 0);
    const kd_val counted = kd_reduce(g, in->valid, KD_REDUCE_SUM, 1u << 0);
    const kd_val total = kd_add(g, rows, kd_scale(g, counted, -(float)dims));
    return kd_scale(g, kd_mul(g, total, share(g, in->valid)), 0.5f);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    KD_TERM_READ_SCHEDULE(t, o, ib_);
}

const kd_term_def kd_term_ib = {.name = "ib",
                                .log = "loss_ib",
                                .text = "information bottleneck",
                                .reads = kd_term_reads_ib,
                                .temperature = -1,
                                .own_weight = 0.01,
                                .read = read,
                                .build = build};
