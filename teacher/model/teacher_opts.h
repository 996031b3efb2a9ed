/* Options of a teacher: config section `teacher`; each is documented in teacher_opts.inc. */
#ifndef KD_TEACHER_MODEL_TEACHER_OPTS_H
#define KD_TEACHER_MODEL_TEACHER_OPTS_H

#include "teacher/model/kinetics.h"

#define KD_VIT_POOLING_MAP(X) \
    X(KD_POOL_MEAN, "mean")   \
    X(KD_POOL_CLS, "cls")
#define KD_VIT_INIT_MAP(X)              \
    X(KD_TEACHER_INIT_NORMAL, "normal") \
    X(KD_TEACHER_INIT_XAVIER, "xavier")
#define KD_VIT_POS_TABLE_MAP(X)                \
    X(KD_POS_TABLE_EXACT, "exact")             \
    X(KD_POS_TABLE_INTERPOLATE, "interpolate") \
    X(KD_POS_TABLE_STORED, "stored")

#define KD_VIT_DROPS_MAP(X)                \
    X(KD_TEACHER_DROPS_APPLIED, "applied") \
    X(KD_TEACHER_DROPS_IGNORED, "ignored")

KD_ENUM_OF(kd_vit_drops, KD_VIT_DROPS_MAP);
KD_ENUM_OF(kd_vit_pooling, KD_VIT_POOLING_MAP);
KD_ENUM_OF(kd_vit_init, KD_VIT_INIT_MAP);
KD_ENUM_OF(kd_vit_pos_table, KD_VIT_POS_TABLE_MAP);

/* Sizes of 0 are taken from the variant by kd_teacher_finish (teacher.h). */
typedef struct kd_teacher_opts {
#define KD_OPTIONS "teacher/model/teacher_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_teacher_opts;

#endif
