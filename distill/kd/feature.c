/* The student's features, through a learned linear projection, drawn to the teacher's: mean squared error or cosine
 * distance (op feature_loss).  The projection "kd.projector" belongs to the run, not to the student. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

kd_val kdi_projected(kd_graph *g, const kd_term_inputs *in, int width, const char *name)
{
    const kd_spec s = kd_spec_of(g, in->features);
    const kd_init fan = kd_init_torch(s.shape.rank == 2 ? s.shape.dim[1] : 1);
    const kd_linear_opts lo = {.weight = fan, .bias = fan, .f32_out = true};
    return kd_linear(g, in->features, name, width, &lo);
}

static kd_val feature(kd_graph *g, const kd_term_inputs *in, const kd_term *t, kd_feature_kind kind)
{
    char name[KD_TERM_NAME];
    kd_loss_name("kd.projector", t->store, name);
    const kd_val projected = kdi_projected(g, in, in->loss->feature_dim[t->store], name);
    return kd_feature_loss(g, projected, in->teacher_feature, in->teacher_valid, kind);
}

static kd_val build_mse(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    return feature(g, in, t, KD_FEATURE_MSE);
}

static kd_val build_cosine(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    return feature(g, in, t, KD_FEATURE_COSINE);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    KD_TERM_READ_SCHEDULE(t, o, feature_);
}

const kd_term_def kd_term_feature_mse = {.name = "feature_mse",
                                         .log = "loss_feature",
                                         .text = "feature MSE",
                                         .reads = kd_term_reads_feature_mse,
                                         .temperature = -1,
                                         .read = read,
                                         .build = build_mse};

const kd_term_def kd_term_feature_cosine = {.name = "feature_cosine",
                                            .log = "loss_feature",
                                            .text = "feature cosine",
                                            .reads = kd_term_reads_feature_cosine,
                                            .temperature = -1,
                                            .read = read,
                                            .build = build_cosine};
