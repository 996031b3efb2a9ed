/* Weights that others publish for these models: one table, zoo.inc.  Nothing here fetches anything. */
#ifndef KD_TEACHER_MODEL_ZOO_H
#define KD_TEACHER_MODEL_ZOO_H

#include "teacher/model/teacher.h"

typedef struct kd_zoo_entry {
    const char *name;
    const char *variant; /* a name of the teachers' table */
    int classes;         /* 0: an encoder without a head */
    const char *data, *layout,
        *file;          /* trained on; the names of its tensors (kd_vit_names); of the file, "": unknown */
    const char *sha256; /* the digits that are published; "": none */
    const char *top1, *licence, *page;
} kd_zoo_entry;

const kd_zoo_entry *kd_zoo_at(int i);              /* NULL past the last */
const kd_zoo_entry *kd_zoo_find(const char *name); /* NULL: unknown */

/* Parameters of a VideoMAE of this size: backbone, fc_norm, and the head where classes > 0. */
int64_t kd_zoo_parameters(const kd_teacher_info *size, int classes);

#endif
