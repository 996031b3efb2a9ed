/* Distillation from a stronger teacher (Huang et al. 2022): correlation with the teacher's probabilities, of each
 * sample over the classes and of each class over the samples of the batch. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    const kd_match_loss_attr at = {
        .kind = KD_MATCH_DIST, .t_is_prob = kd_loss_fed(in->loss), .p = {t->param[0], t->param[1], t->param[2]}};
    return kd_match_loss(g, in->logits, in->teacher, KD_NONE, in->teacher_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->dist_temperature;
    t->param[1] = o->dist_beta;
    t->param[2] = o->dist_gamma;
    KD_TERM_READ_SCHEDULE(t, o, dist_);
}

const kd_term_def kd_term_dist = {.name = "dist",
                                  .log = "loss_dist",
                                  .text = "DIST",
                                  .reads = kd_term_reads_dist,
                                  .coupled = 2,
                                  .temperature = 0,
                                  .read = read,
                                  .build = build};
