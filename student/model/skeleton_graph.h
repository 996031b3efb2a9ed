/* A joint layout as graphs: adjacency partitions, their normalisations, and the joint-shift tables.
 *
 * V is the layout's number of joints.  Matrices are (V,V) row-major, [source][target]; stacks are (K,V,V).  All
 * functions are pure: they fill what the caller owns and cannot fail.  For ntu25 the results are the tables of the LAST
 * reference bit for bit; for other layouts the reference has none, and the same rules make this project's own.
 */
#ifndef KD_STUDENT_MODEL_SKELETON_GRAPH_H
#define KD_STUDENT_MODEL_SKELETON_GRAPH_H

#include "kernels/kd_base.h"
#include "student/layout/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_MAX_ADJ   (KD_LAYOUT_JOINTS * KD_LAYOUT_JOINTS) /* numbers of a matrix at most */
#define KD_MAX_PARTS 5                                     /* most matrices of a stack: 1 + 2 max_hop, max_hop 2 */
#define KD_HOP_FAR   (-1)                                  /* farther than max_hop: "infinitely" far */

/* Distances in the layout's graph, cut at max_hop (KD_HOP_FAR beyond). */
void kd_skel_hops(const kd_layout *l, int max_hop, int hop[KD_LAYOUT_JOINTS][KD_LAYOUT_JOINTS]);

/* ST-GCN's spatial partition: per hop root + closer (hop 0: root alone) and farther than the
 * centre; 0/1 entries. a: (1 + 2 max_hop, V, V); max_hop 1 or 2.  With max_hop 1 only the joints beside the centre
 * have a finite distance to it, so most edges fall into matrix 1: that is how the reference behaves. */
void kd_skel_spatial(const kd_layout *l, int max_hop, float *a);

/* Pairs within two hops by body part, (3,V,V): [0] within a part (self included), [1] adjacent parts, [2]
 * two hops across; 0/1. */
void kd_skel_semantic(const kd_layout *l, float *a);

/* LAST v1, (V,V): the undirected edges of its graph and self loops as D^-1/2 A D^-1/2. */
void kd_skel_v1_physical(const kd_layout *l, float *a);

/* Normalisations of a stack of k matrices (v,v), in place. */
void kd_skel_norm_columns_of_sum(float *a, int k, int v); /* entry / column sum over all matrices */
void kd_skel_norm_sym_full(float *a, int k, int v);       /* D^-1/2 A_k D^-1/2, D the row sums over all matrices */
void kd_skel_norm_columns(float *a, int k, int v);        /* each by its own column sums, empty columns stay 0 */

/* Gather tables (C,V): y[c][v] = x[c][idx[c][v]].  BRASP: rings within the body regions (both arms, both legs, torso
 * and head, each in ascending order side by side) and neighbours; SGPShift: nearest neighbours inside and between
 * parts. */
void kd_skel_brasp(const kd_layout *l, int channels, int32_t *idx);
void kd_skel_sgp(const kd_layout *l, int channels, int32_t *idx);
/* BRASP followed by SGPShift as one gather. */
void kd_skel_brasp_sgp(const kd_layout *l, int channels, int32_t *idx);

/* Body part of each joint for PartAttention, parts[V]: 0 torso and head, 1 left arm, 2 right arm, 3 left leg, 4 right
 * leg.  The reference's table of ntu25 is shifted from joint 2 on: it has no place for neck and head and its list was
 * compacted (kd_layout.unparted); `corrected` gives the intended one.  Other layouts have no gaps. */
void kd_skel_parts(const kd_layout *l, bool corrected, int32_t *parts);

#ifdef __cplusplus
}
#endif
#endif
