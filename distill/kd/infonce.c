/* Contrast in a batch (van den Oord et al. 2018; CRD: Tian et al. 2020): the student's feature, through a learned
 * linear projection, is to find its own teacher's feature among those of the batch.  The projection "kd.contrast"
 * belongs to the run, not to the student.  A mixed sample is to find its first sample. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    char name[KD_TERM_NAME];
    kd_loss_name("kd.contrast", t->store, name);
    const kd_val projected = kdi_projected(g, in, in->loss->feature_dim[t->store], name);
    const kd_match_loss_attr at = {.kind = KD_MATCH_INFONCE, .p = {t->param[0]}};
    return kd_match_loss(g, projected, in->teacher_feature, KD_NONE, in->teacher_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->infonce_temperature;
    KD_TERM_READ_SCHEDULE(t, o, infonce_);
}

const kd_term_def kd_term_infonce = {.name = "infonce",
                                     .log = "loss_infonce",
                                     .text = "InfoNCE",
                                     .reads = kd_term_reads_infonce,
                                     .coupled = 2,
                                     .temperature = 0,
                                     .read = read,
                                     .build = build};
