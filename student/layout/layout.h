/* Joint layouts: which joints a skeleton has, how they hang together and which side they are on.
 *
 * Everything that depends on the joints is derived from a layout by rules that hold for all of them: graph partitions,
 * semantic parts and shift tables (student/model/skeleton_graph.h), bones, the left-right mirror and the points that
 * normalisation measures (student/skeleton).  For ntu25 the rules give the tables of the LAST reference bit for bit;
 * the reference has no tables for the other layouts: theirs are this project's own.
 *
 * A named layout is one row in one file of this folder.  A custom layout is a YAML file, which configs/schema/
 * config_layout.h reads into the same struct.  Layouts are plain values: they may be copied and compared, and own
 * nothing.
 */
#ifndef KD_STUDENT_LAYOUT_LAYOUT_H
#define KD_STUDENT_LAYOUT_LAYOUT_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_LAYOUT_JOINTS 64  /* most joints */
#define KD_LAYOUT_EDGES  128 /* most edges of a graph */
#define KD_LAYOUT_NAME   24  /* bytes of a name with its zero */

/* What a joint belongs to.  PartAttention and the rings of BRASP count the head among the torso. */
typedef enum kd_region {
    KD_TORSO,
    KD_HEAD,
    KD_LEFT_ARM,
    KD_RIGHT_ARM,
    KD_LEFT_LEG,
    KD_RIGHT_LEG,
    KD_REGIONS
} kd_region;

typedef struct kd_layout_joint {
    char name[KD_LAYOUT_NAME]; /* layouts that share a joint call it the same */
    uint8_t region;            /* kd_region */
    uint8_t bone;              /* the joint at the other end of its bone; itself: it has none */
    uint8_t mirror;            /* the same joint of the other side; itself: it lies in the middle */
} kd_layout_joint;

typedef struct kd_layout {
    char name[KD_LAYOUT_NAME];
    int joints;
    kd_layout_joint joint[KD_LAYOUT_JOINTS]; /* [joints] */
    int edges;                               /* of the graph, undirected, each once */
    uint8_t edge[KD_LAYOUT_EDGES][2];
    int v1_edges; /* LAST v1's own graph; 0: the same one */
    uint8_t v1_edge[KD_LAYOUT_EDGES][2];
    uint8_t centre; /* the spatial partition measures distances from here */
    /* Points of normalisation, each the middle of two joints, or a joint named twice. */
    uint8_t origin[2];   /* spine base: coordinates are counted from here */
    uint8_t top[2];      /* neck: its distance from the origin is the unit of length */
    uint8_t shoulder[2]; /* left, right: the line that skeleton.yaw turns to the camera */
    /* Bit v: the reference's part table of PartAttention has no place for joint v and closes the gap, so that later
     * joints get the part of a joint further on (skeleton_graph.h, kd_skel_parts). */
    uint64_t unparted;
    const char *source; /* where its tables come from, a sentence for help texts; "": a custom layout */
} kd_layout;

int kd_layout_count(void);
const kd_layout *kd_layout_at(int i);              /* NULL past the end */
const kd_layout *kd_layout_find(const char *name); /* NULL: unknown */
const kd_layout *kd_layout_ntu25(void);            /* what is meant where nobody says otherwise */
const char *kd_layout_named(int i);                /* of kd_layout_at */

/* Is the layout one that models can be built on?  KD_E_CONFIG names what is wrong: 5 to 64 joints with names of their
 * own, indices within them, a connected graph without loops and double edges, mirror pairs that are each other's image
 * on the other side, bones that lead to a joint without one. */
KD_NODISCARD kd_status kd_layout_check(const kd_layout *l, kd_err *err);

/* Bones from the graph: every joint's bone leads one edge nearer to `root` (the lower number of several).  Joints that
 * the graph does not connect with `root` get none. */
void kd_layout_bones(kd_layout *l, int root);

/* The layout as a checkpoint, a store and a report name it: "ntu25"; a custom one with the CRC-32 of its tables,
 * "NAME@1a2b3c4d", since names of others' files say little. */
enum { KD_LAYOUT_IDENTITY = KD_LAYOUT_NAME + 10 };
const char *kd_layout_identity(const kd_layout *l, char out[KD_LAYOUT_IDENTITY]);

/* Joints of `from` in the order of `to`, by their names: idx[v] is the joint of `from` that is joint v of `to`.
 * KD_E_CONFIG names both layouts and the joints that `from` lacks. */
KD_NODISCARD kd_status kd_layout_map(const kd_layout *from, const kd_layout *to, uint8_t idx[KD_LAYOUT_JOINTS],
                                     kd_err *err);

#ifdef __cplusplus
}
#endif
#endif
