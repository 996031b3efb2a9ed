/* Inside of student/skeleton: an array x[c][t][v][m], m fastest, and how it is to be made. */
#ifndef KD_STUDENT_SKELETON_SEQUENCE_INTERNAL_H
#define KD_STUDENT_SKELETON_SEQUENCE_INTERNAL_H

#include "student/skeleton/sequence.h"

typedef struct kdi_frames {
    const kd_skeleton_opts *k;
    const kd_layout *l;
    bool scored; /* the third number of a joint is its confidence; 0: not seen, and the others are 0 */
} kdi_frames;

static inline kdi_frames kdi_frames_of(const kd_sequence_spec *s)
{
    return (kdi_frames){&s->skeleton, kd_sequence_layout(s), s->skeleton.channels == KD_CHANNELS_XY_SCORE};
}

static inline size_t kdi_at(const kdi_frames *f, int c, int t, int v, int m)
{
    const size_t row = (size_t)c * (size_t)f->k->frames + (size_t)t;
    return (row * (size_t)f->l->joints + (size_t)v) * (size_t)f->k->max_bodies + (size_t)m;
}

/* Is anything of body m in frame t? */
bool kdi_present(const kdi_frames *f, const float *x, int t, int m);

#endif
