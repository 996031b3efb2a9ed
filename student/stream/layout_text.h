/* A joint layout as text, for the recipe of a deployment file: a custom layout travels with its student.
 *
 * Lines, each once and in this order unless it says otherwise:
 *   name N
 *   joint NAME region bone mirror       one a joint
 *   edge a b                            one an edge
 *   v1_edge a b                         any number
 *   centre c
 *   origin a b
 *   top a b
 *   shoulder a b
 * Numbers are those of kd_layout (student/layout/layout.h). */
#ifndef KD_STUDENT_STREAM_LAYOUT_TEXT_H
#define KD_STUDENT_STREAM_LAYOUT_TEXT_H

#include "student/layout/layout.h"

enum { KD_LAYOUT_TEXT = 8192 }; /* bytes that hold any layout */

/* out [KD_LAYOUT_TEXT] */
void kd_layout_print(const kd_layout *l, char *out);

/* KD_E_FORMAT names the line that is none; KD_E_CONFIG as kd_layout_check. */
KD_NODISCARD kd_status kd_layout_scan(const char *text, kd_layout *out, kd_err *err);

#endif
