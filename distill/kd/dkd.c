/* Decoupled knowledge distillation (Zhao et al. 2022): the class of a sample against the rest, and the rest among
 * themselves, weighed apart.  The class of a mixed sample is the one with the larger share. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    const kd_match_loss_attr at = {
        .kind = KD_MATCH_DKD, .t_is_prob = kd_loss_fed(in->loss), .p = {t->param[0], t->param[1], t->param[2]}};
    return kd_match_loss(g, in->logits, in->teacher, in->target, in->taught_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->dkd_temperature;
    t->param[1] = o->dkd_alpha;
    t->param[2] = o->dkd_beta;
    KD_TERM_READ_SCHEDULE(t, o, dkd_);
}

const kd_term_def kd_term_dkd = {.name = "dkd",
                                 .log = "loss_dkd",
                                 .text = "DKD",
                                 .reads = kd_term_reads_dkd,
                                 .temperature = 0,
                                 .read = read,
                                 .build = build};
