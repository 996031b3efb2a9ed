/* Deployment files of students with drawn weights, for tests and for the fuzz target's corpus. */
#ifndef KD_TESTS_MODELS_LAST_FILE_H
#define KD_TESTS_MODELS_LAST_FILE_H

#include "kernels/kd_params.h"
#include "student/stream/recipe.h"

/* The recipe of `student` with small numbers: 7 classes, 16 frames, one body. */
kd_last_recipe last_file_recipe(const char *student);

/* Parameters of the recipe's student, drawn from `seed`, on `be`. */
kd_params *last_file_params(const kd_last_recipe *r, kd_backend *be, uint64_t seed);

/* The file in memory, kd_free. */
void *last_file_image(const kd_last_recipe *r, kd_params *p, size_t *bytes);

/* The same in eight bits, with ranges of random numbers; sets r->int8. */
void *last_file_eight(kd_last_recipe *r, kd_params *p, kd_backend *be, size_t *bytes);

#endif
