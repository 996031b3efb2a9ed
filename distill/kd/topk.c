/* KL of the teacher's k largest probabilities (FKD: Shen and Xing 2022; TinyViT: Wu et al. 2022).  The tail policy says
 * what the other classes get. */
#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

static kd_val build(kd_graph *g, const kd_term_inputs *in, const kd_term *t)
{
    const kd_match_loss_attr at = {.kind = KD_MATCH_TOPK,
                                   .t_is_prob = kd_loss_fed(in->loss),
                                   .k = (int32_t)t->param[1],
                                   .tail = (int32_t)t->param[2],
                                   .p = {t->param[0]}};
    return kd_match_loss(g, in->logits, in->teacher, KD_NONE, in->teacher_valid, &at);
}

static void read(const kd_loss_opts *o, kd_term *t)
{
    t->param[0] = o->topk_temperature;
    t->param[1] = o->topk_k;
    t->param[2] = o->topk_tail;
    KD_TERM_READ_SCHEDULE(t, o, topk_);
}

const kd_term_def kd_term_topk = {.name = "topk",
                                  .log = "loss_topk",
                                  .text = "top-k KL",
                                  .reads = kd_term_reads_topk,
                                  .temperature = 0,
                                  .read = read,
                                  .build = build};
