/* The feature of the student, through a learned linear projection, is to point to the embedding of its class (by
 * a language model, or whatever else says which classes are alike): cross-entropy of the cosines over T, as CLIP's
 * classifiers are made (Radford et al. 2021).  A sample without a label is drawn to a mixture of embeddings, by its
 * teachers' probabilities.  The projection "kd.class_projector" belongs to the run, not to the student. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    const kd_val projected = kdi_projected(g, in, in->loss->embed_dim, "kd.class_projector");
    const kd_match_loss_attr at = {.kind = KD_MATCH_CLASS_EMBED, .p = {t->param[0]}};
    return kd_match_loss(g, projected, in->embed, in->embed_target, in->embed_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->class_embed_temperature;
    KD_TERM_READ_SCHEDULE(t, o, class_embed_);
}

const kd_term_def kd_term_class_embed = {.name = "class_embed",
                                         .log = "loss_class_embed",
                                         .text = "class embeddings",
                                         .reads = kd_term_reads_class_embed,
                                         .temperature = 0,
                                         .read = read,
                                         .build = build};
