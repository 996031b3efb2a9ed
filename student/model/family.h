/* Inside of student/: what a family of students provides.  One file a family. */
#ifndef KD_STUDENT_MODEL_FAMILY_H
#define KD_STUDENT_MODEL_FAMILY_H

#include "student/model/student.h"

typedef kd_status (*kd_student_visit)(void *user, const char *name, kd_dtype dtype, kd_shape shape, const void *data);

typedef kd_status (*kd_student_alias)(void *user, const char *name, const char *of);

typedef struct kd_student_family {
    const kd_student_info *models; /* [n_models]: a size is one row */
    int n_models;
    /* c is complete: it has a layout, and rates are the model's own where the caller left them open. */
    kd_student_out (*build)(kd_graph *g, const kd_student_cfg *c, const kd_val *streams);
    kd_status (*constants)(const kd_student_cfg *c, kd_student_visit visit, void *user);
    /* Second names of shared parameters; NULL: there are none. */
    kd_status (*aliases)(const kd_student_info *s, kd_student_alias visit, void *user);
    unsigned (*fixes)(const kd_student_info *s); /* KD_FIX_* with an effect; NULL: none */
    const char *const *no_decay;                 /* name fragments, NULL at the end */
    bool norms_decay;                            /* normalisation weights escape only by name */
} kd_student_family;

extern const kd_student_family kd_family_last_v1, kd_family_last_v2, kd_family_last_e12, kd_family_last_e3,
    kd_family_sfz, kd_family_sfz_b4;

#endif
