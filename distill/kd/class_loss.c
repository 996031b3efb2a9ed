/* Cross-entropy with the labels, and the softened divergence from a teacher's logits (Hinton et al. 2015, section 2).
 *
 * One op gives both when a run has both of the first store: the op reads the logits once and its gradient is one pass. */
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
                    in->loss->mixed, in->beside);
}

static kd_val build_kl(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    return kd_kl(g, in->logits, in->teacher, in->teacher_valid, (float)t->param[0], in->loss->mixed);
}

const kd_term_def kd_term_ce = {"ce", "loss_ce", "CE", KD_READS_LABELS, false, -1, build_ce};

const kd_term_def kd_term_kl = {"kl", "loss_kd", "T^2 KL(teacher || student)", KD_READS_LOGITS, false, 0, build_kl};
