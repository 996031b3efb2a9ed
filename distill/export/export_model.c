/* The model that is exported: see export_internal.h. */
#include "distill/export/export_internal.h"

kd_status kdi_subject_open(const kd_export_opts *o, kdi_subject *s, kd_err *err)
{
    *s = (kdi_subject){.w = NULL};
    KD_TRY(kd_model_classes(o->task, o->cfg, o->weights, &s->w, &s->classes, &s->n_classes, err));
    KD_TRY(kd_model_open(o->task, o->cfg, s->n_classes, o->be, &s->model, err));
    KD_TRY(kd_model_declare(&s->model, NULL, err));
    return kd_model_load(&s->model, o->weights, "", false, NULL, &s->load, err);
}

void kdi_subject_close(kdi_subject *s)
{
    kd_load_report_free(&s->load);
    kd_model_close(&s->model);
    kd_weights_close(s->w);
}
