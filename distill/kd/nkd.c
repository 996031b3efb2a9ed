/* Normalised distillation (Yang et al. 2023): the teacher's probability of the class as its label, and the other
 * classes renormalised.  The class of a mixed sample is the one with the larger share. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    const kd_match_loss_attr at = {
        .kind = KD_MATCH_NKD, .t_is_prob = kd_loss_fed(in->loss), .p = {t->param[0], t->param[1]}};
    return kd_match_loss(g, in->logits, in->teacher, in->target, in->taught_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->nkd_temperature;
    t->param[1] = o->nkd_gamma;
    KD_TERM_READ_SCHEDULE(t, o, nkd_);
}

const kd_term_def kd_term_nkd = {.name = "nkd",
                                 .log = "loss_nkd",
                                 .text = "NKD",
                                 .reads = kd_term_reads_nkd,
                                 .temperature = 0,
                                 .read = read,
                                 .build = build};
