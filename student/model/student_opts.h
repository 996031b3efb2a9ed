/* Options of a student: config section `student`; each is documented in student_opts.inc. */
#ifndef KD_STUDENT_MODEL_STUDENT_OPTS_H
#define KD_STUDENT_MODEL_STUDENT_OPTS_H

#include "kernels/kd_options.h"

typedef struct kd_student_opts {
#define KD_OPTIONS "student/model/student_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_student_opts;

#endif
