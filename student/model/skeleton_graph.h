/* The NTU-25 skeleton as graphs: adjacency partitions, their normalisations, and the joint-shift
 * tables.
 *
 * Joints are counted from 0: spine base 0, spine mid 1, neck 2, head 3, left arm 4-7 (21, 22),
 * right arm 8-11 (23, 24), left leg 12-15, right leg 16-19, spine shoulder 20.  Matrices are
 * (25,25) row-major, [source][target]; stacks are (K,25,25).  All functions are pure: they fill
 * what the caller owns and cannot fail.
 *
 * Three bone lists are in use, and each model keeps its own: the "graph class" list (LAST-E,
 * ShiftFuse-Zero: hand tips hang on the thumbs) and the LAST v1 list (both hang on the hands) are
 * here; the bone stream's parents belong to data preparation.
 */
#ifndef KD_STUDENT_MODEL_SKELETON_GRAPH_H
#define KD_STUDENT_MODEL_SKELETON_GRAPH_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_JOINTS    25
#define KD_ADJ       (KD_JOINTS * KD_JOINTS)
#define KD_CENTRE    20   /* distances of the spatial partition are measured from here */
#define KD_MAX_PARTS 5    /* most matrices of a stack: 1 + 2 * max_hop, max_hop 2 */
#define KD_HOP_FAR   (-1) /* farther than max_hop: "infinitely" far */

/* Distances in the graph-class list, cut at max_hop (KD_HOP_FAR beyond). */
void kd_skel_hops(int max_hop, int hop[KD_JOINTS][KD_JOINTS]);

/* ST-GCN's spatial partition: per hop root + closer (hop 0: root alone) and farther than the
 * centre; 0/1 entries. a: (1 + 2 max_hop, 25, 25); max_hop 1 or 2.  With max_hop 1 only four joints
 * have a finite distance to the centre, so most edges fall into matrix 1: that is how the reference
 * behaves. */
void kd_skel_spatial(int max_hop, float *a);

/* Pairs within two hops by body part: [0] within a part (self included), [1] adjacent parts, [2]
 * two hops across; 0/1. */
void kd_skel_semantic(float a[3 * KD_ADJ]);

/* LAST v1: its undirected bones and self loops as D^-1/2 A D^-1/2. */
void kd_skel_v1_physical(float a[KD_ADJ]);

/* Normalisations of a stack of k matrices, in place. */
void kd_skel_norm_columns_of_sum(float *a, int k); /* entry / column sum over all matrices */
void kd_skel_norm_sym_full(float *a, int k);       /* D^-1/2 A_k D^-1/2, D the row sums over all matrices */
void kd_skel_norm_columns(float *a, int k);        /* each matrix by its own column sums, empty columns stay 0 */

/* Gather tables (C,25): y[c][v] = x[c][idx[c][v]].  BRASP: rings within the body regions and
 * neighbours; SGPShift: nearest neighbours inside and between parts. */
void kd_skel_brasp(int channels, int32_t *idx);
void kd_skel_sgp(int channels, int32_t *idx);
/* BRASP followed by SGPShift as one gather. */
void kd_skel_brasp_sgp(int channels, int32_t *idx);

/* Body part of each joint for PartAttention: 0 torso, 1 left arm, 2 right arm, 3 left leg, 4 right
 * leg.  The reference's table is shifted from joint 2 on (its list was compacted); `corrected`
 * gives the intended one. */
void kd_skel_parts(bool corrected, int32_t parts[KD_JOINTS]);

#ifdef __cplusplus
}
#endif
#endif
