/* Inside of distill/export: a model that is being exported, and the writers of the formats. */
#ifndef KD_DISTILL_EXPORT_EXPORT_INTERNAL_H
#define KD_DISTILL_EXPORT_EXPORT_INTERNAL_H

#include "distill/eval/quantize.h"
#include "distill/export/export.h"
#include "formats/onnx/onnx.h"

typedef struct kdi_subject {
    kd_weights *w;
    const kd_json *classes; /* names in label order, of w; NULL: the weights carry none */
    int n_classes;
    kd_model model;
    kd_load_report load;
} kdi_subject;

/* The model of the weights, loaded.  kdi_subject_close ends it, after a failure too. */
KD_NODISCARD kd_status kdi_subject_open(const kd_export_opts *o, kdi_subject *s, kd_err *err);
void kdi_subject_close(kdi_subject *s);

/* The model as an ONNX graph, without metadata; q: the layers in eight bits, NULL: f32.  *out: kd_onnx_free, after a
 * failure too. */
KD_NODISCARD kd_status kdi_onnx_of(kd_model *m, const kd_quant *q, kd_onnx **out, kd_err *err);

KD_NODISCARD kd_status kdi_export_last(const kd_export_opts *o, kd_export_result *r, kd_err *err);
KD_NODISCARD kd_status kdi_export_pth(const kd_export_opts *o, kd_export_result *r, kd_err *err);
KD_NODISCARD kd_status kdi_export_onnx(const kd_export_opts *o, kd_export_result *r, kd_err *err);

#endif
