/* Training, self-distillation: what the model's running average (optim.ema_decay) answers to the batch.  The average
 * stands in evaluation, with its own running statistics and without dropout; its rows are those of the training
 * program, augmented and mixed alike. */
#include "distill/train/train_internal.h"

kd_status kdi_self_open(kd_trainer *t, kd_err *err)
{
    const size_t n = (size_t)kdi_train_rows(t->cfg) * (size_t)t->model.classes;
    if (!kd_loss_reads(&t->loss, 0, KD_READS_AVERAGE)) {
        return KD_OK;
    }
    t->averaged = kd_calloc(n, sizeof *t->averaged);
    if (t->averaged == NULL) {
        return KD_FAIL(err, KD_E_OOM, "training: out of memory for a batch");
    }
    return kd_model_replay_program(&t->model, t->loss.mixed, kdi_train_rows(t->cfg), &t->self_program, err);
}

void kdi_self_close(kd_trainer *t)
{
    kd_program_free(t->self_program);
    kd_free(t->averaged);
}

kd_status kdi_self_answer(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    kd_backend *be = t->o->be;
    const size_t rows = (size_t)b->rows, n = rows * (size_t)t->model.classes;
    if (t->self_program == NULL) {
        return KD_OK;
    }
    kd_status st = kd_optim_swap_ema(t->optim);
    if (st == KD_OK) {
        st = kd_program_run(t->self_program, NULL);
        st = st == KD_OK ? be->ops->download(be, t->averaged, kd_program_tensor(t->self_program, "logits").data,
                                             n * sizeof *t->averaged)
                         : st;
        const kd_status back = kd_optim_swap_ema(t->optim);
        st = st == KD_OK ? back : st;
    }
    st = st == KD_OK ? kd_program_write(t->program, "averaged", t->averaged, n * sizeof *t->averaged) : st;
    st = st == KD_OK ? kd_program_write(t->program, "averaged_valid", b->valid, rows * sizeof *b->valid) : st;
    return st == KD_OK ? st
                       : KD_FAIL(err, st, "step %lld: the running average gave no answer", (long long)t->s.step + 1);
}
