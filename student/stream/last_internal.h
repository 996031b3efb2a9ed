/* Inside of student/stream: opening from what is in memory, which liblast and `distill predict` share. */
#ifndef KD_STUDENT_STREAM_LAST_INTERNAL_H
#define KD_STUDENT_STREAM_LAST_INTERNAL_H

#include "student/stream/last.h"
#include "student/stream/recipe.h"

/* The values of one parameter or buffer of the student: dst [n] f32.  KD_E_FORMAT: absent, or of another shape. */
typedef kd_status (*kd_last_fetch)(void *user, const kd_param_info *info, float *dst, kd_err *err);

/* A student of a recipe with the parameters that `fetch` brings. */
KD_NODISCARD kd_status kd_last_build(const kd_last_recipe *recipe, kd_last_fetch fetch, void *user,
                                     const kd_last_options *options, kd_last **out, kd_err *err);

#endif
