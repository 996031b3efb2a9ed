/* Similarity-preserving distillation (Tung and Mori 2019): the Gram matrix of the batch, rows at length 1, as the
 * teacher's.  Widths may differ.  A mixed sample is compared as its first sample. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    (void)t;
    const kd_match_loss_attr at = {.kind = KD_MATCH_SP};
    return kd_match_loss(g, in->features, in->teacher_feature, KD_NONE, in->teacher_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    KD_TERM_READ_SCHEDULE(t, o, sp_);
}

const kd_term_def kd_term_sp = {.name = "sp",
                                .log = "loss_sp",
                                .text = "SP",
                                .reads = kd_term_reads_sp,
                                .coupled = 2,
                                .temperature = -1,
                                .read = read,
                                .build = build};
