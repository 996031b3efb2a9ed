/* The recipe of a deployment file: what a student is and how frames become its inputs.
 *
 * In the file it is text, pairs of __metadata__ (README.md): a row of student_opts.inc is "student.NAME", one of
 * skeleton_opts.inc "skeleton.NAME"; rows that name a machine or a run (LOCAL) are left out. */
#ifndef KD_STUDENT_STREAM_RECIPE_H
#define KD_STUDENT_STREAM_RECIPE_H

#include "student/model/student.h"
#include "student/model/student_opts.h"
#include "student/skeleton/skeleton_opts.h"

#define KD_LAST_FORMAT "1" /* of the file, key "lastkd" */

typedef struct kd_last_recipe {
    kd_student_opts student;
    kd_skeleton_opts skeleton;
    int classes;
    int int8;                /* layers in eight bits (int8.h); 0: the file is f32 */
    double temperature;      /* logits are divided by it before the softmax; 1: not calibrated */
    const char *class_names; /* one a line; NULL: none; borrowed */
    /* Layouts that are no named ones; no joints: skeleton.layout and skeleton.file_layout name one. */
    kd_layout layout, file_layout;
} kd_last_recipe;

/* Every row at its default, no classes. */
KD_NODISCARD kd_status kd_last_recipe_default(kd_last_recipe *out, kd_err *err);

/* Take one pair.  *known false: no key of a recipe, nothing happened.  class_names keeps `value` itself.  KD_E_FORMAT:
 * a value out of bounds. */
KD_NODISCARD kd_status kd_last_recipe_set(kd_last_recipe *r, const char *key, const char *value, bool *known,
                                          kd_err *err);

/* All pairs of a recipe, in one order.  Key and value last for the call; stops at visit's first failure. */
KD_NODISCARD kd_status kd_last_recipe_each(const kd_last_recipe *r,
                                           kd_status (*visit)(void *user, const char *key, const char *value),
                                           void *user);

/* How frames become the model's inputs.  KD_E_UNSUPPORTED: a joint layout of the recipe is not a named one. */
KD_NODISCARD kd_status kd_last_recipe_sequence(const kd_last_recipe *r, kd_sequence_spec *out, kd_err *err);

/* Checks the whole and describes the model for kd_student_build. */
KD_NODISCARD kd_status kd_last_recipe_model(const kd_last_recipe *r, kd_student_cfg *out, kd_err *err);

#endif
