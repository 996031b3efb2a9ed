/* Squared error of the logits (Ba and Caruana 2014).  The teacher's logits of mixed samples are mixed themselves. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    (void)t;
    const kd_match_loss_attr at = {.kind = KD_MATCH_LOGIT_MSE};
    return kd_match_loss(g, in->logits, in->teacher, KD_NONE, in->teacher_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    KD_TERM_READ_SCHEDULE(t, o, logit_mse_);
}

const kd_term_def kd_term_logit_mse = {.name = "logit_mse",
                                       .log = "loss_logit_mse",
                                       .text = "logit MSE",
                                       .reads = kd_term_reads_logit_mse,
                                       .raw = true,
                                       .temperature = -1,
                                       .read = read,
                                       .build = build};
