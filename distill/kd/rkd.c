/* Relational distillation (Park et al. 2019): the distances between the samples of a batch, and the angles of their
 * triples, as the teacher's features have them.  Widths may differ.  A mixed sample is compared as its first sample. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build_distance(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    (void)t;
    const kd_match_loss_attr at = {.kind = KD_MATCH_RKD_DISTANCE};
    return kd_match_loss(g, in->features, in->teacher_feature, KD_NONE, in->teacher_valid, &at);
}

static void read_distance(const kd_loss_opts *o, kd_term *t)
{
    KD_TERM_READ_SCHEDULE(t, o, rkd_distance_);
}

static kd_val build_angle(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    (void)t;
    const kd_match_loss_attr at = {.kind = KD_MATCH_RKD_ANGLE};
    return kd_match_loss(g, in->features, in->teacher_feature, KD_NONE, in->teacher_valid, &at);
}

static void read_angle(const kd_loss_opts *o, kd_term *t)
{
    KD_TERM_READ_SCHEDULE(t, o, rkd_angle_);
}

const kd_term_def kd_term_rkd_distance = {.name = "rkd_distance",
                                          .log = "loss_rkd_distance",
                                          .text = "RKD distance",
                                          .reads = kd_term_reads_rkd_distance,
                                          .coupled = 2,
                                          .temperature = -1,
                                          .read = read_distance,
                                          .build = build_distance};

const kd_term_def kd_term_rkd_angle = {.name = "rkd_angle",
                                       .log = "loss_rkd_angle",
                                       .text = "RKD angle",
                                       .reads = kd_term_reads_rkd_angle,
                                       .coupled = 3,
                                       .temperature = -1,
                                       .read = read_angle,
                                       .build = build_angle};
