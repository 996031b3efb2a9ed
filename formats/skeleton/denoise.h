/* Denoising of recordings with several bodies, by the rules of CTR-GCN (data/ntu/get_raw_skes_data.py and
 * get_raw_denoised_data.py of Uason-Chen/CTR-GCN; first of Microsoft's SGN).
 *
 *   frames   those without a body go; a body's frames count from its first one on without gaps, as its joints were
 *            stacked there
 *   length   where there are several bodies, one of at most 11 frames is noise
 *   spread   a frame is noisy where the joints are wider than 0.8 of their height; a body with at least 69.754 % noisy
 *            frames is noise, unless it is the last one; else its motion is at most that of its other frames
 *   motion   the sum of the variances of x, y, z over all joints and frames; the bodies follow by falling motion
 *   actors   the first body is actor 1; every other one goes to actor 1 where it does not overlap with what that one
 *            has so far, else to actor 2 likewise, else nowhere
 *   missing  frames in which both actors are 0 go, unless there was one body all along
 *
 * The reference has a filter by motion too and does not call it.  Its arithmetic is float32, ours double: a body at a
 * threshold to seven digits may be judged otherwise.
 */
#ifndef KD_FORMATS_SKELETON_DENOISE_H
#define KD_FORMATS_SKELETON_DENOISE_H

#include "formats/skeleton/skeleton_file.h"

/* Replaces *s by its two actors: body 0 and 1 of a frame, with these ids; an absent actor 1 beside actor 2 is a body of
 * zeros.  KD_E_DATA, *s as it was: "no body" where every body is noise (the reference stops), a body twice in a frame.
 * KD_E_OOM. */
KD_NODISCARD kd_status kd_skeleton_denoise(kd_skeleton *s, kd_err *err);

#endif
