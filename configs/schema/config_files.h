/* Recipe files and their bases as one tree: private to configs/schema. */
#ifndef KD_CONFIGS_SCHEMA_CONFIG_FILES_H
#define KD_CONFIGS_SCHEMA_CONFIG_FILES_H

#include "configs/yaml/yaml_tree.h"

/* "a map", "a list", "a value". */
const char *kd_cfg_kind_text(const kd_yaml_node *n);

KD_NODISCARD kd_status kd_cfg_expect_map(const kd_yaml_node *root, kd_err *err);

/* Merge a file upon *root (NULL: nothing yet): its bases in their order, then the file; each base likewise. */
KD_NODISCARD kd_status kd_cfg_read_file(kd_yaml_tree *tree, const char *path, kd_yaml_node **root, kd_err *err);

/* `over` upon *to, which may be NULL. */
void kd_cfg_lay_upon(kd_yaml_node **to, kd_yaml_node *over);

#endif
