/* The file of liblast: distill/export/deploy.h. */
#include "distill/export/deploy.h"
#include "distill/export/export_internal.h"

kd_status kdi_export_last(const kd_export_opts *o, kd_export_result *r, kd_err *err)
{
    kdi_subject s;
    kd_status st = kdi_subject_open(o, &s, err);
    if (st == KD_OK) {
        const kd_deploy d = {
            .cfg = o->cfg, .model = &s.model, .names = s.classes, .temperature = o->cfg->eval.temperature};
        st = kd_deploy_write(&d, o->out, &r->bytes, err);
        r->tensors = kd_params_count(s.model.params);
    }
    kdi_subject_close(&s);
    return st;
}
