/* Cross-entropy with the labels, and the softened divergence from a teacher's logits (Hinton et al. 2015, section 2) 
 * from those of the model's own running average (mean teacher: Tarvainen and Valpola 2017), or from those of students
 * that are trained with this one (deep mutual learning: Zhang et al. 2018, equations 3 to 8).
 *
 * One op gives both when a run has both of the first store: the op reads the logits once and its gradient is one
 * pass. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build_ce(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    (void)t;
    if (in->beside == NULL) {
        return kd_ce(g, in->logits, in->target, in->valid);
    }
    const kd_term *kl = t + 1;
    return kd_ce_kl(g, in->logits, in->target, in->valid, in->teacher, in->teacher_valid, (float)kl->param[0],
                    kd_loss_fed(in->loss), in->beside);
}

static kd_val build_kl(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    return kd_kl(g, in->logits, in->teacher, in->teacher_valid, (float)t->param[0], kd_loss_fed(in->loss));
}

/* From logits that the run itself makes, batch by batch. */
static kd_val build_live(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    return kd_kl(g, in->logits, in->teacher, in->teacher_valid, (float)t->param[0], false);
}

static void read_mutual(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->mutual_temperature;
    KD_TERM_READ_SCHEDULE(t, o, mutual_);
}

static void read_self(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->self_temperature;
    KD_TERM_READ_SCHEDULE(t, o, self_);
}

static void read_ce(const kd_loss_opts *o, kd_term *t)
{
    KD_TERM_READ_SCHEDULE(t, o, ce_);
}

static void read_kl(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->temperature;
    KD_TERM_READ_SCHEDULE(t, o, );
}

const kd_term_def kd_term_ce = {.name = "ce",
                                .log = "loss_ce",
                                .text = "CE",
                                .reads = kd_term_reads_ce,
                                .temperature = -1,
                                .read = read_ce,
                                .build = build_ce};

const kd_term_def kd_term_kl = {.name = "kl",
                                .log = "loss_kd",
                                .text = "T^2 KL(teacher || student)",
                                .reads = kd_term_reads_kl,
                                .temperature = 0,
                                .read = read_kl,
                                .build = build_kl};

const kd_term_def kd_term_self = {.name = "self",
                                  .log = "loss_self",
                                  .text = "T^2 KL(average || student)",
                                  .reads = kd_term_reads_self,
                                  .temperature = 0,
                                  .read = read_self,
                                  .build = build_live};

const kd_term_def kd_term_mutual = {.name = "mutual",
                                    .log = "loss_mutual",
                                    .text = "T^2 KL(peer || student)",
                                    .reads = kd_term_reads_mutual,
                                    .temperature = 0,
                                    .own_weight = 1.0,
                                    .read = read_mutual,
                                    .build = build_live};
