/* Options of sequences: config sections `skeleton` (skeleton_opts.inc) and `skeleton_aug` (skeleton_aug_opts.inc). */
#ifndef KD_STUDENT_SKELETON_SKELETON_OPTS_H
#define KD_STUDENT_SKELETON_SKELETON_OPTS_H

#include "kernels/kd_options.h"
#include "student/layout/layout.h"

#define KD_BODIES_MAP(X)                  \
    X(KD_BODIES_FILE_ORDER, "file_order") \
    X(KD_BODIES_TRACKED, "tracked")
#define KD_RESAMPLE_MAP(X)    \
    X(KD_RESAMPLE_PAD, "pad") \
    X(KD_RESAMPLE_LINEAR, "linear")
#define KD_NORMALIZE_MAP(X)                 \
    X(KD_NORM_NONE, "none")                 \
    X(KD_NORM_CENTER_SPINE, "center_spine") \
    X(KD_NORM_FIRST_FRAME, "first_frame")
#define KD_YAW_MAP(X)                \
    X(KD_YAW_NONE, "none")           \
    X(KD_YAW_REFERENCE, "reference") \
    X(KD_YAW_CORRECTED, "corrected")

#define KD_CHANNELS_MAP(X)    \
    X(KD_CHANNELS_XYZ, "xyz") \
    X(KD_CHANNELS_XY_SCORE, "xy_score")

KD_ENUM_OF(kd_channels, KD_CHANNELS_MAP);
KD_ENUM_OF(kd_bodies, KD_BODIES_MAP);
KD_ENUM_OF(kd_resample, KD_RESAMPLE_MAP);
KD_ENUM_OF(kd_normalize, KD_NORMALIZE_MAP);
KD_ENUM_OF(kd_yaw, KD_YAW_MAP);

/* From files to (3, frames, joints, bodies). */
typedef struct kd_skeleton_opts {
#define KD_OPTIONS "student/skeleton/skeleton_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_skeleton_opts;

/* Augmentation of training. */
typedef struct kd_skeleton_aug_opts {
#define KD_OPTIONS "student/skeleton/skeleton_aug_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_skeleton_aug_opts;

/* All that sequences depend on. */
typedef struct kd_sequence_spec {
    kd_skeleton_opts skeleton;
    kd_skeleton_aug_opts aug;
    bool denoise;  /* recordings are denoised when they are read (formats/skeleton/denoise.h) */
    uint64_t seed; /* of every draw */
    /* What skeleton.layout and skeleton.file_layout name.  No joints: ntu25, and files of the same joints. */
    kd_layout layout, file_layout;
} kd_sequence_spec;

#endif
