/* The student's features, through a learned linear projection, drawn to the teacher's: mean squared error or cosine
 * distance (op feature_loss).  The projection "kd.projector" belongs to the run, not to the student. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val feature(kd_graph *g, const kd_term_inputs *in, const kd_term *t, kd_feature_kind kind)
{
    char name[KD_TERM_NAME];
    kd_loss_name("kd.projector", t->store, name);
    const kd_spec s = kd_spec_of(g, in->features);
    const kd_init fan = kd_init_torch(s.shape.rank == 2 ? s.shape.dim[1] : 1);
    const kd_linear_opts lo = {.weight = fan, .bias = fan, .f32_out = true};
    const kd_val projected = kd_linear(g, in->features, name, in->loss->feature_dim[t->store], &lo);
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

const kd_term_def kd_term_feature_mse = {"feature_mse", "loss_feature", "feature MSE", KD_READS_FEATURES, false, -1,
                                         build_mse};

const kd_term_def kd_term_feature_cosine = {
    "feature_cosine", "loss_feature", "feature cosine", KD_READS_FEATURES, false, -1, build_cosine};
