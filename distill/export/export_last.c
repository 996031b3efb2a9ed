/* The file of liblast: distill/export/deploy.h. */
#include "distill/export/deploy.h"
#include "distill/export/export_internal.h"

kd_status kdi_export_last(const kd_export_opts *o, kd_export_result *r, kd_err *err)
{
    kdi_subject s;
    const kd_quantize_opts co = {.cfg = o->cfg, .samples = o->int8_samples, .progress = o->progress};
    kd_quant q = {.n = 0};
    kd_program *program = NULL;
    kd_status st;
    KD_GO(kdi_subject_open(o, &s, err));
    kd_deploy d = {.cfg = o->cfg, .model = &s.model, .names = s.classes, .temperature = o->cfg->eval.temperature};
    if (o->int8) {
        KD_GO(kd_quantize(&co, &s.model, &q, err));
        KD_GO(kd_model_eval_program(&s.model, 1, &program, err));
        d.quant = &q;
        d.program = program;
        r->layers = (int)q.n;
        r->calibrated = q.samples;
    }
    KD_GO(kd_deploy_write(&d, o->out, err));
    r->tensors = kd_params_count(s.model.params);
done:
    kd_program_free(program);
    kd_quant_free(&q);
    kdi_subject_close(&s);
    return st;
}
