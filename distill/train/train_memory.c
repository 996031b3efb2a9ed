/* Training, memory: what a run will take, and what it took. */
#include "distill/train/train_internal.h"
#include "formats/data/cache.h"

#include <stdio.h>

enum { PROGRAM = 56 << 20 };              /* code, libraries, tables, heaps of the threads */
#define WORTH_RESTING ((size_t)512 << 20) /* below, to fault the pages in again costs more than they are worth */

static kd_memory forecast(kd_trainer *t)
{
    kd_memory m = kd_model_memory(&t->model, t->slabs, 0);
    const bool host = t->o->be->ops->host;
    const size_t train = kd_program_arena_bytes(t->program);
    /* kernels of a forward-only program pack the weights in a layout of their own */
    const size_t val =
        t->eval_program != NULL ? kd_program_arena_bytes(t->eval_program) + (host ? m.parameters : 0) : 0;
    const size_t self =
        t->self_program != NULL ? kd_program_arena_bytes(t->self_program) + (host ? m.parameters : 0) : 0;
    t->rests = host && t->model.kept == 0 && kd_memory_total(&m) + train + val + self >= WORTH_RESTING;
    m.activations = !t->rests ? train + val : KD_MAX(train, val > m.gradients ? val - m.gradients : 0);
    m.activations += self;
    if (host) {
        m.data = (size_t)(PROGRAM + kd_loader_bytes(t->loader) + t->train.memory + t->val.memory);
    }
    return m;
}

static void warn_of_memory(const kd_trainer *t)
{
    const uint64_t have = kd_memory_available();
    if (have > 0 && t->memory > have + kd_memory_peak()) { /* what is resident by now is the run's already */
        kd_log(KD_LOG_WARN, "memory: the run needs %.2f GiB, %.2f GiB can be had; a smaller batch needs less",
               (double)t->memory / 1073741824.0, (double)(have + kd_memory_peak()) / 1073741824.0);
    }
}

void kdi_train_say_memory(kd_trainer *t)
{
    char text[200];
    const kd_memory m = forecast(t);
    kd_memory_text(&m, text, sizeof text);
    t->memory = t->o->be->ops->host ? kd_memory_total(&m) : 0;
    kd_log(KD_LOG_INFO, "model %s: %lld parameters, %s on %s; memory %s", t->model.name,
           (long long)kd_params_numel(t->model.params), kd_dtype_name(t->model.dtype), t->o->be->ops->name, text);
    warn_of_memory(t);
}

void kdi_train_say_group_memory(kd_trainer *first)
{
    if (first->memory == 0) {
        return;
    }
    for (int i = 0; i < first->peers; i++) {
        first->memory += first->peer[i].memory - PROGRAM;
    }
    kd_log(KD_LOG_INFO, "memory of the %d students: %.2f GiB", first->peers + 1, (double)first->memory / 1073741824.0);
    warn_of_memory(first);
}

void kdi_train_say_peak(const kd_trainer *t)
{
    const double gib = 1073741824.0;
    const uint64_t peak = kd_memory_peak();
    if (t->memory > 0 && peak > 0) {
        kd_log(KD_LOG_INFO, "memory: at most %.2f GiB were resident, %.2f GiB forecast", (double)peak / gib,
               (double)t->memory / gib);
    }
}

void kdi_train_rest(kd_trainer *t)
{
    if (t->rests) {
        kd_program_rest(t->program);
        kd_params_rest_grad(t->model.params);
    }
}

void kdi_train_rest_validation(kd_trainer *t)
{
    if (t->rests) {
        kd_program_rest(t->eval_program);
    }
}
