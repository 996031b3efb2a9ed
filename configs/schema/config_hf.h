/* config.json of a Hugging Face folder and the keys of a teacher: private to configs/schema. */
#ifndef KD_CONFIGS_SCHEMA_CONFIG_HF_H
#define KD_CONFIGS_SCHEMA_CONFIG_HF_H

#include "configs/schema/config_table.h"
#include "configs/yaml/yaml_tree.h"
#include "formats/base/json.h"

typedef struct kd_cfg_hf {
    kd_json *config, *processor; /* NULL: the weights have none */
} kd_cfg_hf;

/* Read what lies with the weights and lay it under the recipe *root: keys that the recipe leaves out take the values
 * of config.json; a variant that the recipe names keeps its sizes.  Where there is no config.json nothing happens. */
KD_NODISCARD kd_status kd_cfg_hf_under(kd_yaml_tree *t, const char *weights, kd_yaml_node **root, kd_cfg_hf *out,
                                       kd_err *err);

/* Is a finished recipe that of config.json?  KD_E_CONFIG: key, expected, found.  start: training begins with the
 * weights; what may be another then, the size of clips and how pixels are normalised, is said and goes on. */
KD_NODISCARD kd_status kd_cfg_hf_check(const kd_cfg_hf *hf, const kd_config *cfg, bool start, kd_err *err);

void kd_cfg_hf_free(kd_cfg_hf *hf); /* zeroed is legal */

#endif
