/* KL of logits that are standardised row by row (Sun et al. 2024): the scale of the teacher's logits does not matter.
 * The teacher's logits of mixed samples are mixed themselves, since a probability has no scale left. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    const kd_match_loss_attr at = {.kind = KD_MATCH_LOGIT_STD, .p = {t->param[0]}};
    return kd_match_loss(g, in->logits, in->teacher, KD_NONE, in->teacher_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->logit_std_temperature;
    KD_TERM_READ_SCHEDULE(t, o, logit_std_);
}

const kd_term_def kd_term_logit_std = {.name = "logit_std",
                                       .log = "loss_logit_std",
                                       .text = "KL of standardised logits",
                                       .reads = kd_term_reads_logit_std,
                                       .raw = true,
                                       .temperature = 0,
                                       .read = read,
                                       .build = build};
