/* Probabilistic knowledge transfer (Passalis and Tefas 2018): KL of the cosine affinities between the samples of a
 * batch, (cos + 1)/2, rows at sum 1.  Eps 1e-7 beside norms and in the logarithm and the mean over all pairs are those
 * of the authors' code.  Widths may differ.  A mixed sample is compared as its first sample. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    (void)t;
    const kd_match_loss_attr at = {.kind = KD_MATCH_PKT};
    return kd_match_loss(g, in->features, in->teacher_feature, KD_NONE, in->teacher_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    KD_TERM_READ_SCHEDULE(t, o, pkt_);
}

const kd_term_def kd_term_pkt = {.name = "pkt",
                                 .log = "loss_pkt",
                                 .text = "PKT",
                                 .reads = kd_term_reads_pkt,
                                 .coupled = 2,
                                 .temperature = -1,
                                 .read = read,
                                 .build = build};
