/* Inside of student/: repairs of the reference's known bugs (student.h, KD_FIX_*) that families share. */
#ifndef KD_STUDENT_MODEL_FIXES_H
#define KD_STUDENT_MODEL_FIXES_H

#include "student/model/blocks.h"
#include "student/model/family.h"

/* What learned adjacencies behind an absolute value start at: 0 as in the reference, where the gradient is 0 too. */
float kd_fix_adjacency_start(const kd_student_cfg *cfg);

/* With KD_FIX_EMPTY_BODY: 1 for a body whose joints are all zero, else 0, in the order of kd_fix_stacked, (M*N).
 * Absent without it. */
kd_val kd_fix_empty_bodies(kd_graph *g, const kd_student_cfg *cfg, const kd_val *streams);

/* All bodies as samples, [all body 0; all body 1; ...]; an empty one is body 0 of its sample again. */
kd_val kd_fix_stacked(kd_graph *g, kd_val x, kd_val empty);

#endif
