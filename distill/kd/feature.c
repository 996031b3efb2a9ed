/* The student's features, through a learned linear projection, drawn to the teacher's: mean squared error or cosine
 * distance (op feature_loss).  The projection "kd.projector" belongs to the run, not to the student. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

kd_val kdi_projected(kd_graph *g, const kd_term_inputs *in, const kd_term *t, const char *name)
{
    const kd_spec s = kd_spec_of(g, in->features);
    const kd_init fan = kd_init_torch(s.shape.rank == 2 ? s.shape.dim[1] : 1);
    const kd_linear_opts lo = {.weight = fan, .bias = fan, .f32_out = true};
    return kd_linear(g, in->features, name, in->loss->feature_dim[t->store], &lo);
}

static kd_val feature(kd_graph *g, const kd_term_inputs *in, const kd_term *t, kd_feature_kind kind)
{
    char name[KD_TERM_NAME];
    kd_loss_name("kd.projector", t->store, name);
    const kd_val projected = kdi_projected(g, in, t, name);
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

static void read_as(const kd_loss_opts *o, kd_feature_match match, kd_term *t)
{
    t->weight = o->feature == match ? o->feature_weight : 0.0;
    KD_TERM_READ_SCHEDULE(t, o, feature_);
}

static void read_mse(const kd_loss_opts *o, kd_term *t)
{
    read_as(o, KD_FEATURE_MATCH_MSE, t);
}

static void read_cosine(const kd_loss_opts *o, kd_term *t)
{
    read_as(o, KD_FEATURE_MATCH_COSINE, t);
}

const kd_term_def kd_term_feature_mse = {.name = "feature_mse",
                                         .log = "loss_feature",
                                         .text = "feature MSE",
                                         .reads = KD_READS_FEATURES,
                                         .temperature = -1,
                                         .read = read_mse,
                                         .build = build_mse};

const kd_term_def kd_term_feature_cosine = {.name = "feature_cosine",
                                            .log = "loss_feature",
                                            .text = "feature cosine",
                                            .reads = KD_READS_FEATURES,
                                            .temperature = -1,
                                            .read = read_cosine,
                                            .build = build_cosine};
