/* Inside of student/: pieces that the LAST-E families share.  Activations are (N,C,T,V); parameters come out under the
 * scope of the caller. */
#ifndef KD_STUDENT_MODEL_LAST_E_PARTS_H
#define KD_STUDENT_MODEL_LAST_E_PARTS_H

#include "student/model/blocks.h"
#include "student/model/family.h"

#define KD_LAST_E_LINEAR_STD 0.01f /* of the initial values of linear layers */

/* A parameter (1,C,1,1) that starts at zero, as (C). */
kd_val kd_last_e_channel_param(kd_graph *g, const char *name, int64_t c);

/* ST_JointAtt in scope "st_att": gates over frames and joints, each from the mean over the other axis. */
kd_val kd_last_e_joint_attention(kd_graph *g, kd_val x);

/* Mean or maximum over three frames, every stride-th; beyond the ends are zeros, which count.  For the maximum x must
 * not be negative. */
kd_val kd_last_e_pool_frames(kd_graph *g, kd_val x, int stride, kd_reduce_kind kind);

/* "pool_gate" between mean and maximum over frames and joints: (N,C). */
kd_val kd_last_e_pool(kd_graph *g, kd_val x);

/* Dropout and "fc" on the pooled feature. */
kd_student_out kd_last_e_classify(kd_graph *g, const kd_student_cfg *cfg, kd_val feature);

/* Squares of the Fourier coefficients over frames, not normalised, mean over joints: (N,C,T).  The cosines of the
 * T/2+1 bins come first, then the sines of the bins from 1 on that have one.  At most KD_MAX_JOINTS frames. */
kd_val kd_last_e_spectrum(kd_graph *g, kd_val x);

/* Mean power of the bins [from, to) of a spectrum: (N,C). */
kd_val kd_last_e_band(kd_graph *g, kd_val spectrum, int64_t from, int64_t to);

extern const char *const kd_last_e_no_decay[];

#endif
