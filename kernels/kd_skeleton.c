/* Streams of one sample in f32: see kd_skeleton.h.  Compiled without fused multiply-add, once for all callers. */
#include "kernels/kd_skeleton.h"

void kd_skel_streams(const kd_skel_form *f, const kd_skeleton_streams_attr *a, const kd_skel_draw *d, const float *x,
                     float *const *y)
{
    KD_ASSERT(f->joints <= KD_SKELETON_MAX_JOINTS && f->bodies <= KD_SKELETON_MAX_BODIES);
    kd_skel_streams_of(f, a, d, x, y);
}
