/* What stands beside weights in a folder as Hugging Face's save_pretrained writes it: config.json (sizes, epsilons,
 * names of classes) and preprocessor_config.json (how pictures are normalised). */
#ifndef KD_FORMATS_WEIGHTS_HF_H
#define KD_FORMATS_WEIGHTS_HF_H

#include "formats/base/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* weights: a folder, or a file in it that has the name such folders give it.  *config: config.json, NULL where there is
 * none that names a model_type; *processor (may be NULL): preprocessor_config.json, NULL where there is none.  The
 * caller frees both. */
KD_NODISCARD kd_status kd_hf_config(const char *weights, kd_json **config, kd_json **processor, kd_err *err);

/* Append the class names in label order to the array `names`: those of id2label.  None where config.json has none, or
 * only the placeholders LABEL_0, LABEL_1, ...  KD_E_DATA: a label is missing, or label2id says otherwise. */
KD_NODISCARD kd_status kd_hf_class_names(const kd_json *config, kd_json *names, kd_err *err);

#ifdef __cplusplus
}
#endif
#endif
