/* From skeletons to tensors (3, T, V, M), V the joints of the layout: bodies, length, normalisation, augmentation,
 * streams.
 *
 * Source: the LAST repository's preprocessing (A: normalize center_spine, B: normalize
 * first_frame), its training augmentation in its order, checked against tests/golden/last;
 * `tracked`, `linear`, `corrected`, other layouts than ntu25 and xy_score are ours.  Order: choose joints and bodies ->
 * resample to T -> normalise -> [augment] -> streams -> clamp.  Joints of a body that is not there are zeros
 * throughout.
 *
 *   joint       the coordinates
 *   velocity    joint[t+1] - joint[t]; the last frame 0
 *   bone        joint - its parent; a joint without one: 0
 *
 * Under skeleton.channels xy_score a joint is its place in the picture and a confidence, which stays the third number:
 * normalisation moves and scales x and y alone, joints with a confidence of 0 are missing and stay zeros, and streams
 * keep confidences as kernels/kd_skeleton.h says.  Rotation and shear are refused by the recipe.
 *
 * Augmentation, all streams sharing the draws of (KD_RNG_SAMPLE, seed, sample, epoch): rotation
 * about y, scale, shear, time flip, left-right flip with the joint swap, speed (crop, then the
 * last frame repeated), noise per stream, joint mask. After a time flip velocities are those of
 * the reversed motion.
 *
 * Under skeleton_aug.match_views time window and mirror are those of the teacher's views
 * (kd_sequence_source_cut), one view an epoch.
 *
 * Parsed, resampled and normalised sequences are kept in memory (19 KiB a body at T = 64) up to
 * a budget, so files are read once; results do not depend on it.
 */
#ifndef KD_STUDENT_SKELETON_SEQUENCE_H
#define KD_STUDENT_SKELETON_SEQUENCE_H

#include "formats/data/dataset.h"
#include "formats/data/rows.h"
#include "formats/skeleton/archive.h"
#include "formats/store/logit_store.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_rng.h"
#include "student/skeleton/skeleton_opts.h"

/* ---- the rules, as functions on arrays ------------------------------------------------------- */

/* The layout of the tensors; how a reader is to take a file. */
const kd_layout *kd_sequence_layout(const kd_sequence_spec *s);
kd_skel_opts kd_sequence_file_opts(const kd_sequence_spec *s);

/* Skeleton to x (3, frames, V, max_bodies), resampled and normalised.  KD_E_DATA: no frame has a body, or its joints
 * are of another number or other channels than the files of this spec. */
KD_NODISCARD kd_status kd_sequence_make(const kd_sequence_spec *spec, const kd_skeleton *skel, float *x, kd_err *err);

/* The same without taking memory: scratch holds kd_sequence_scratch(skel->n_bodies) bytes. */
size_t kd_sequence_scratch(size_t n_bodies);
KD_NODISCARD kd_status kd_sequence_make_in(const kd_sequence_spec *spec, const kd_skeleton *skel, void *scratch,
                                           float *x, kd_err *err);

/* The parts of kd_sequence_make, for parity.  idx[i]: the source frame of output frame i, under skeleton.resample pad,
 * for a recording of n frames.  Normalisation is in place. */
void kd_sequence_index(size_t n, int frames, size_t *idx);
void kd_sequence_normalize(const kd_sequence_spec *spec, float *x);

/* The draws of one sample, so that a test can set them. */
typedef struct kd_sequence_draw {
    double angle_deg, scale, shear;
    bool time_flip, flip;
    int speed_frames, speed_start; /* length and start of the part kept; speed_frames 0: all */
    uint64_t masked;               /* bit j: joint j is zeroed */
    kd_rng noise;                  /* where noise is drawn from */
} kd_sequence_draw;

kd_sequence_draw kd_sequence_draw_make(const kd_sequence_spec *spec, kd_rng rng);

#define KD_STREAM_JOINT         1u
#define KD_STREAM_VELOCITY      2u
#define KD_STREAM_BONE          4u
#define KD_STREAM_BONE_VELOCITY 8u

/* Streams of x.  dst[i] belongs to the i-th set bit of `streams` in the order joint, velocity,
 * bone, bone velocity, and is not x.  draw NULL: no augmentation. */
void kd_sequence_streams(const kd_sequence_spec *spec, const kd_sequence_draw *draw, const float *x, unsigned streams,
                         float *const *dst);

/* The same on a device, by the op skeleton_streams (kernels/kd_ops.h): its attributes, and the
 * draws of a sample as a row of its inputs, real[KD_SKEL_DRAW] and whole[KD_SKEL_IDRAW].  The
 * draws were made of a kd_rng of KD_RNG_SAMPLE. */
kd_skeleton_streams_attr kd_sequence_attr(const kd_sequence_spec *spec);
void kd_sequence_draw_pack(const kd_sequence_draw *draw, float *real, int32_t *whole);

/* ---- the source ------------------------------------------------------------------------------ */

typedef struct kd_sequence_source kd_sequence_source;

/* `spec` is copied; `half` with skeletons must outlive the source.  streams: names the student reads, in its order
 * (each of "joint", "velocity", "bone", "bone_velocity"); KD_E_ARG for another.  cache_bytes 0: files are read each
 * time.  KD_BAD_* is the loader's business. */
KD_NODISCARD kd_status kd_sequence_source_open(const kd_sequence_spec *spec, const kd_half *half, bool train,
                                               const char *const *streams, int n_streams, uint64_t cache_bytes,
                                               kd_sequence_source **out, kd_err *err);
/* Training rows of what a teacher saw: in epoch e sample i is cut as cut[i * n + e % n] says, which stays the caller's
 * and alive.  Of the recording the frames from `first` to `last` (to the last one, where it ends before) are resampled
 * and normalised as if there were no others; people are chosen by the whole recording; `flip` decides the mirror in the
 * place of skeleton_aug.flip_prob.  A view that begins behind the recording's end, or without a body in its window, is
 * a file that cannot be read (KD_E_DATA).  Before its first row. */
KD_NODISCARD kd_status kd_sequence_source_cut(kd_sequence_source *s, const kd_store_cut *cut, int n, kd_err *err);
void kd_sequence_source_close(kd_sequence_source *s);    /* NULL is legal; after its loaders */
kd_producer kd_sequence_producer(kd_sequence_source *s); /* tensors in the order of `streams`, (3, T, V, M) */

/* Sequences that stay on a device.  kd_sequence_rows makes the table to upload: normalised sequences, one tensor
 * "sequence" (3, T, V, M), for a loader in listing order; a file that cannot be read is a row of zeros.
 * kd_sequence_draws makes the draws of a batch, for a training loader: tensors "draw" and "idraw" (i32;
 * kd_sequence_draw_pack).  A file that rows could not read fails in draws, with the message of reading it. */
KD_NODISCARD kd_status kd_sequence_rows(kd_sequence_source *s, kd_producer *out, kd_err *err);
kd_producer kd_sequence_draws(kd_sequence_source *s);

/* Default budget: a quarter of the memory that is available now, at most 4 GiB. */
uint64_t kd_sequence_default_cache(void);

/* One file outside a data set (`distill predict`) into dst[i] f32 (3, T, V, M), no augmentation. */
KD_NODISCARD kd_status kd_sequence_read(const kd_sequence_spec *spec, const char *path, const char *const *streams,
                                        int n_streams, void *const *dst, kd_err *err);

#endif
