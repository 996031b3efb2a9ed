/* Inside of student/: pieces of ShiftFuse-Zero that its efficient sizes (sfz.c) and its B4 sizes (sfz_b4.c) share.
 * Activations are (N,C,T,V); parameters come out under the scope of the caller. */
#ifndef KD_STUDENT_MODEL_SFZ_PARTS_H
#define KD_STUDENT_MODEL_SFZ_PARTS_H

#include "student/model/blocks.h"
#include "student/model/family.h"
#include "student/model/fixes.h"
#include "student/model/skeleton_graph.h"

#define KD_SFZ_PARTITIONS 3
#define KD_SFZ_GATE_START (-4.0f)

/* BRASP and SGPShift, composed into one index map; with `embed` the joint embedding "je" in the same pass. */
kd_val kd_sfz_shift(kd_graph *g, kd_val x, const kd_layout *l, bool embed);

/* The joint embedding "je" alone. */
kd_val kd_sfz_embed(kd_graph *g, kd_val x);

/* PartAttention in scope "part_att": every joint of a channel times the share of its body part in a softmax over the
 * five parts, so the mean factor is 0.2.  The joint table of ntu25 is the reference's, shifted from joint 2 on. */
kd_val kd_sfz_part_attention(kd_graph *g, kd_val x, const kd_student_cfg *cfg, int ratio);

/* Attention of every frame over landmarks: frames interpolated at learned positions. */
kd_val kd_sfz_landmarks(kd_graph *g, kd_val x, const char *scope, int landmarks);

/* Constants that checkpoints hold: shift tables, fixed partitions and joint table of a block; the partitions alone; the
 * graph matrices of a backbone (prefix: "" or its name with a dot). */
kd_status kd_sfz_block_constants(const char *block, const kd_student_cfg *cfg, int channels, const float *fixed,
                                 bool part_attention, kd_student_visit visit, void *user);
kd_status kd_sfz_fixed_constants(const char *block, const kd_layout *l, const float *fixed, kd_student_visit visit,
                                 void *user);
kd_status kd_sfz_graph_constants(const char *prefix, const kd_layout *l, kd_student_visit visit, void *user);

extern const char *const kd_sfz_no_decay[];

#endif
