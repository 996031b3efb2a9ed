/* Ranges of activations from samples of the training half: see quantize.h. */
#include "distill/eval/quantize.h"

#include "distill/batch/loader.h"

#include <math.h>

typedef struct calibration {
    kd_dataset data;
    kd_source source;
    kd_loader *loader;
    kd_program *program; /* of one sample, so that no padding is ever measured */
} calibration;

static void calibration_close(calibration *c)
{
    kd_loader_close(c->loader);
    if (c->source.close != NULL) {
        c->source.close(c->source.ctx);
    }
    kd_program_free(c->program);
    kd_dataset_free(&c->data);
}

/* The samples of the training half as evaluation sees them, in listing order, spread evenly over the half. */
static kd_status observe(const kd_quantize_opts *o, calibration *c, kd_quant *q, kd_err *err)
{
    const kd_producer *from = &c->source.producer;
    const uint64_t items = from->samples * from->views, wanted = KD_MIN((uint64_t)o->samples, items);
    kd_progress_begin(o->progress, "calibrate", "samples", 0, wanted);
    for (uint64_t i = 0; i < wanted; i++) {
        const kd_batch *b = NULL;
        KD_TRY(kd_loader_seek(c->loader, 0, i * items / wanted, err));
        KD_TRY(kd_loader_next(c->loader, &b, err));
        for (int t = 0; t < from->n_tensors && b != NULL && b->valid_rows > 0; t++) {
            const kd_status st =
                kd_program_write(c->program, from->tensor[t].name, b->tensor[t], from->tensor[t].bytes);
            if (st != KD_OK) {
                return KD_FAIL(err, st, "model input %s: the data's shape is not the model's", from->tensor[t].name);
            }
        }
        if (b != NULL && b->valid_rows > 0) {
            KD_TRY(kd_quant_observe(q, c->program, 1, err));
        }
        kd_progress_step(o->progress, i + 1, NAN);
        if (kd_progress_stop(o->progress)) {
            return KD_FAIL(err, KD_E_CANCELLED, "interrupted after %llu of %llu samples", (unsigned long long)i + 1,
                           (unsigned long long)wanted);
        }
    }
    kd_progress_end(o->progress, NULL);
    return KD_OK;
}

kd_status kd_quantize(const kd_quantize_opts *o, kd_model *m, kd_quant *q, kd_err *err)
{
    const kd_task *task = m->task;
    const kd_loader_opts lo = {.batch_size = 1, .on_bad = o->cfg->data.on_bad_sample};
    calibration c = {.loader = NULL};
    kd_status st = KD_OK;
    *q = (kd_quant){.n = 0};
    KD_GO(kd_dataset_open(&o->cfg->data, task->need, 1u << KD_HALF_TRAIN, &c.data, err));
    KD_GO(kd_model_eval_program(m, 1, &c.program, err));
    KD_GO(task->source(o->cfg, m, &c.data.half[KD_HALF_TRAIN], KD_PASS_TEST, false, &c.source, err));
    KD_GO(kd_loader_open(&lo, &c.source.producer, &c.loader, err));
    KD_GO(kd_quant_open(c.program, q, err));
    KD_GO(observe(o, &c, q, err));
    KD_GO(kd_quant_finish(q, c.program, err));
done:
    calibration_close(&c);
    return st;
}
