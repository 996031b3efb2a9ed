/* The teachers by name: their sizes, and a teacher's options as a model.
 *
 * A size is one row of the table in teacher.c.  `teacher.variant` of a config is a name of that table.
 */
#ifndef KD_TEACHER_MODEL_TEACHER_H
#define KD_TEACHER_MODEL_TEACHER_H

#include "teacher/model/teacher_opts.h"
#include "teacher/model/vit.h"

typedef struct kd_teacher_info {
    const char *name;
    int img_size, patch, tubelet, frames; /* pixels, pixels, frames, frames */
    int dim, depth, heads, mlp_hidden;    /* 0: the options must say; mlp_hidden 0: 4 dim */
} kd_teacher_info;

const kd_teacher_info *kd_teacher_at(int i);              /* NULL past the last */
const kd_teacher_info *kd_teacher_find(const char *name); /* NULL: unknown */
const char *kd_teacher_name(int i);                       /* of kd_teacher_at */

/* Replace the options' sizes of 0 by those of the variant.  KD_E_CONFIG: a size is missing (custom), or the model
 * cannot be built (kd_vit_check).  Idempotent. */
KD_NODISCARD kd_status kd_teacher_finish(kd_teacher_opts *t, kd_err *err);

/* The model that finished options describe.  mean, std: of RGB in [0, 1], what pictures of bytes are normalised
 * with. */
kd_vit_cfg kd_teacher_model(const kd_teacher_opts *t, int classes, const double mean[3], const double std[3]);

#endif
