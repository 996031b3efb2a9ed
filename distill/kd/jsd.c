/* Jensen-Shannon divergence of the softened probabilities, (KL(p || m) + KL(q || m))/2 with m = (p + q)/2 (Lin 1991,
 * section III), times T^2 as the KL term is, so that T does not change the size of the gradient. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    const kd_match_loss_attr at = {.kind = KD_MATCH_JSD, .t_is_prob = kd_loss_fed(in->loss), .p = {t->param[0]}};
    return kd_match_loss(g, in->logits, in->teacher, KD_NONE, in->teacher_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->jsd_temperature;
    KD_TERM_READ_SCHEDULE(t, o, jsd_);
}

const kd_term_def kd_term_jsd = {.name = "jsd",
                                 .log = "loss_jsd",
                                 .text = "JSD",
                                 .reads = kd_term_reads_jsd,
                                 .temperature = 0,
                                 .read = read,
                                 .build = build};
