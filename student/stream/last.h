/* liblast: a trained LAST student on a device, from frames of joints to probabilities of classes.
 *
 *     kd_last *l;
 *     char why[KD_LAST_MESSAGE];
 *     if (kd_last_open("student.safetensors", NULL, &l, why, sizeof why) != KD_LAST_OK) { puts(why); return 1; }
 *     for (;;) {
 *         ... one frame into joints[bodies][kd_last_joints(l)][kd_last_channels(l)] ...
 *         kd_last_push(l, joints, bodies, NULL, NULL);
 *         if (kd_last_run(l) == KD_LAST_OK) { printf("%s\n", kd_last_class_name(l, kd_last_best(l))); }
 *     }
 *     kd_last_close(l);
 *
 * The file is what `distill export --format safetensors` writes: the weights and the recipe of one student
 * (student/stream/README.md).  An instance does what training did with a recording: it chooses bodies, brings the
 * frames to the model's length, normalises them, makes the streams that the student reads, and runs the student.
 *
 * Threads.  Instances share nothing: each may be used by one thread at a time, any number at once.  Memory.  Opening
 * takes all memory that an instance needs; kd_last_push, _run, _classify and the queries allocate nothing.  Numbers.
 * f32; equal frames give equal bits, in a stream or at once, on processors of the same kind.
 *
 * Errors.  Functions return KD_LAST_OK or a negative code.  kd_last_message tells the instance's last failure in one
 * line: where, what was expected, what was found.  A NULL instance is a fault of the caller and not looked for.
 *
 * Needs the C library and libm.  This header needs nothing else of lastkd.
 */
#ifndef KD_STUDENT_STREAM_LAST_H
#define KD_STUDENT_STREAM_LAST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#    define KD_LAST_API __attribute__((visibility("default")))
#else
#    define KD_LAST_API
#endif

enum {
    KD_LAST_OK = 0,
    KD_LAST_E_ARG = -1,          /* a number that does not fit the instance: too many bodies, frames, classes */
    KD_LAST_E_IO = -5,           /* the file cannot be read */
    KD_LAST_E_FORMAT = -6,       /* the file is no student's, or damaged */
    KD_LAST_E_DATA = -7,         /* a coordinate that is not finite; no body in any frame */
    KD_LAST_E_MEMORY = -9,       /* opening: out of memory */
    KD_LAST_E_UNSUPPORTED = -13, /* the file needs a newer library */
    KD_LAST_E_STATE = -14,       /* nothing pushed yet, or no result yet */
    KD_LAST_E_NUMERIC = -15      /* the student gave a logit that is not finite */
};

enum { KD_LAST_MESSAGE = 512 }; /* bytes that hold any message */

typedef struct kd_last kd_last;

/* What an instance has room for.  A member that is 0, and a NULL pointer instead of the struct, mean the default. */
typedef struct kd_last_options {
    int window;     /* frames that kd_last_run looks at: the last ones pushed; default: the model's own number */
    int max_frames; /* longest sequence of kd_last_classify; default 1024 */
    int max_bodies; /* most bodies in one frame; default 6.  How many the student sees of them is in its recipe */
} kd_last_options;

/* Read a student and prepare it.  On failure *out is NULL and `message` [size] (may be NULL, 0) tells why. */
KD_LAST_API int kd_last_open(const char *path, const kd_last_options *options, kd_last **out, char *message,
                             size_t size);
/* The same of a file in memory, which is not needed after the call. */
KD_LAST_API int kd_last_open_memory(const void *file, size_t bytes, const kd_last_options *options, kd_last **out,
                                    char *message, size_t size);
KD_LAST_API void kd_last_close(kd_last *l); /* NULL is legal */

/* ---- what the student is ----------------------------------------------------------------------------------- */

KD_LAST_API const char *kd_last_student(const kd_last *l); /* "sfz-nano" */
KD_LAST_API int kd_last_classes(const kd_last *l);         /* of its answer */
KD_LAST_API const char *kd_last_class_name(const kd_last *l,
                                           int);    /* "class 3" where the file has no names; NULL: none */
KD_LAST_API int kd_last_joints(const kd_last *l);   /* V of a body, as the recipe's files have it */
KD_LAST_API int kd_last_channels(const kd_last *l); /* C of a joint: x, y, z, or x, y, confidence */
KD_LAST_API int kd_last_bodies(const kd_last *l);   /* that the student sees at once */
KD_LAST_API int kd_last_frames(const kd_last *l);   /* of the model, after resampling */
KD_LAST_API int kd_last_window(const kd_last *l);   /* of this instance */
KD_LAST_API int kd_last_streams(const kd_last *l);  /* that the student reads */
KD_LAST_API const char *kd_last_stream_name(const kd_last *l, int); /* "joint", "bone", ...; NULL: none */

/* ---- a stream of frames ------------------------------------------------------------------------------------ */

/* Append one frame.  joints [bodies][V][C] in metres, camera space, y up.  bodies 0: a frame without a body, joints
 * unused.  id [bodies]: who a body is, for recipes that follow people; NULL: a body is known by its place in the list.
 * present [bodies]: 0 for a place whose body is not in this frame; NULL: all are.  The frame is not taken on failure.
 */
KD_LAST_API int kd_last_push(kd_last *l, const float *joints, int bodies, const uint64_t *id, const uint8_t *present);
KD_LAST_API int kd_last_pushed(const kd_last *l); /* frames in the window now, at most kd_last_window */
KD_LAST_API void kd_last_reset(kd_last *l);       /* forget the frames; a result stays */

/* Classify the frames in the window.  A window that is not full yet is classified as a short recording. */
KD_LAST_API int kd_last_run(kd_last *l);

/* ---- a whole sequence -------------------------------------------------------------------------------------- */

/* Classify `frames` frames at once: joints [frames][bodies][V][C]; id and present [frames][bodies], or NULL.  Pushed
 * frames stay as they are. */
KD_LAST_API int kd_last_classify(kd_last *l, const float *joints, int frames, int bodies, const uint64_t *id,
                                 const uint8_t *present);

/* ---- the result of the last kd_last_run or kd_last_classify ---------------------------------------------------- */

/* [classes], until the next result; NULL: no result yet, or the last attempt failed.  Probabilities are the softmax of
 * logits, divided by the temperature first where the file has one. */
KD_LAST_API const float *kd_last_logits(const kd_last *l);
KD_LAST_API const float *kd_last_probabilities(const kd_last *l);
KD_LAST_API int kd_last_best(const kd_last *l); /* the likeliest class, the lowest of equals; -1: no result */
/* The k likeliest classes and their probabilities (may be NULL), best first.  k at most the number of classes. */
KD_LAST_API int kd_last_top(kd_last *l, int k, int *classes, float *probabilities);

/* One line of the last failure of this instance; "" before the first. */
KD_LAST_API const char *kd_last_message(const kd_last *l);
KD_LAST_API const char *kd_last_version(void);

#ifdef __cplusplus
}
#endif
#endif
