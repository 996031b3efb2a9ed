/* A skeleton recording in memory, and NTU `.skeleton` text: every body of every frame, 25 Kinect v2 joints each unless
 * the caller expects another number.
 *
 *   frames
 *   per frame:  bodies
 *     per body: 10 fields: bodyID clippedEdges handLeftConfidence handLeftState
 *                 handRightConfidence handRightState isRestricted leanX leanY trackingState
 *               joints: 25, or as many as the caller expects
 *               as many lines of 12 fields: x y z depthX depthY colorX colorY
 *                 orientW orientX orientY orientZ trackingState
 *
 * x y z are metres in camera space, y up, z away from the camera.  LF or CRLF.  Frames without a
 * body stay, so frame t is video frame t.  All bodies are kept in file order: choosing one or two
 * is preprocessing.
 *
 * The reader is strict and independent of the locale: every line must be there, hold its number of
 * fields and nothing more; after the last frame only blank lines may follow.  x, y, z must be
 * finite and at most 100 m; the fields that are not kept must be numbers, where the Kinect's own
 * NaN and infinity (also as -1.#IND, 1.#QNAN, 1.#INF) are legal.  Counts are checked against what
 * the rest of the file can hold before memory is taken.  An error names file:line, what was
 * expected and what was found.
 *
 * Errors: KD_E_IO (cannot open, not a regular file), KD_E_FORMAT (anything in the text, no body; a
 * file of another kind, such as an array), KD_E_DATA (file too large, zero bodies alone), KD_E_OOM,
 * KD_E_WRITE.
 */
#ifndef KD_FORMATS_SKELETON_SKELETON_FILE_H
#define KD_FORMATS_SKELETON_SKELETON_FILE_H

#include "kernels/kd_base.h"

#define KD_SKEL_JOINTS     25 /* of NTU RGB+D: where nobody asks for another number */
#define KD_SKEL_MAX_JOINTS 64
#define KD_SKEL_MAX_BODIES 64 /* in one frame; the Kinect gives up to 6 */
#define KD_SKEL_MAX_FRAMES 100000
#define KD_SKEL_MAX_METRES 100.0f

typedef struct kd_skel_body {
    uint64_t id;                          /* needs 64 bits: 72057594037932358 is a usual one */
    float xyz[KD_SKEL_MAX_JOINTS][3];     /* the skeleton's `joints` of them; where it is scored: x, y, confidence */
    uint8_t tracking[KD_SKEL_MAX_JOINTS]; /* 0 not tracked, 1 inferred, 2 tracked */
} kd_skel_body;

typedef struct kd_skeleton {
    size_t frames;
    int joints;          /* of every body, 1 to KD_SKEL_MAX_JOINTS; those beyond are 0 */
    bool scored;         /* joints are x, y in the picture and a confidence, 0: not seen; else x, y, z */
    size_t n_bodies;     /* over all frames */
    uint32_t *first;     /* [frames + 1]: frame t has body[first[t]] .. body[first[t + 1] - 1] */
    kd_skel_body *body;  /* [n_bodies]; NULL when there is none */
    size_t empty_frames; /* frames without a body */
    size_t dropped;      /* bodies left out under KD_SKEL_NAN_DROP */
} kd_skeleton;

typedef enum kd_skel_nan {
    KD_SKEL_NAN_FAIL, /* default: a coordinate not finite or beyond 100 m ends the reading */
    KD_SKEL_NAN_DROP  /* its body is left out of that frame and counted */
} kd_skel_nan;

/* Zero means the default in every member. */
typedef struct kd_skel_opts {
    kd_skel_nan nan;
    bool allow_no_body;  /* accept a file in which no frame has a body, or none but zero ones */
    int joints;          /* that every body must have; 0: KD_SKEL_JOINTS */
    bool scored;         /* joints are expected to be x, y and a confidence, which .skeleton text is not */
    const char *layout;  /* name of what has so many joints, for the message about another number; NULL: none */
    size_t lines_before; /* the text is part of a longer one: lines before it, for messages */
} kd_skel_opts;

/* Are all joints at 0?  So sensors and tools write a body whose tracking was lost. */
bool kd_skel_body_is_zero(const kd_skel_body *b);

/* `name` is only for messages.  A file without a body ("no body") is KD_E_FORMAT, one whose bodies are all zero is
 * KD_E_DATA: nothing can be learnt from either.  Zero bodies beside others stay: the references read them so.  On
 * success *out is the caller's to kd_skeleton_free. */
KD_NODISCARD kd_status kd_skeleton_parse(const char *text, size_t len, const char *name, const kd_skel_opts *opts,
                                         kd_skeleton *out, kd_err *err);
KD_NODISCARD kd_status kd_skeleton_read(const char *path, const kd_skel_opts *opts, kd_skeleton *out, kd_err *err);
void kd_skeleton_free(kd_skeleton *s); /* zeroed or NULL is legal */

/* Room for `frames` frames and `n_bodies` bodies of KD_SKEL_JOINTS joints, zeroed: for makers of skeletons, who fill
 * first[] and body[], and set `joints` and `scored` where theirs are others. */
KD_NODISCARD kd_status kd_skeleton_alloc(size_t frames, size_t n_bodies, kd_skeleton *out, kd_err *err);

/* Text of `s` (kd_free), *len bytes and a terminating zero.  Coordinates have 9 significant digits,
 * so reading gives the same floats; depth and colour pixels are projected with nominal Kinect v2
 * intrinsics; orientations are 0.  The same skeleton gives the same bytes.  KD_E_ARG: a scored skeleton. */
KD_NODISCARD kd_status kd_skeleton_format(const kd_skeleton *s, char **text, size_t *len, kd_err *err);
KD_NODISCARD kd_status kd_skeleton_write(const char *path, const kd_skeleton *s, kd_err *err); /* atomic */

/* Camera space (metres, z > 0) to pixels of the 1920x1080 colour picture. */
void kd_skeleton_project(const float xyz[3], float *colour_x, float *colour_y);

#endif
