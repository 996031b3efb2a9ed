/* Inside of student/stream: an instance. */
#ifndef KD_STUDENT_STREAM_LAST_STATE_H
#define KD_STUDENT_STREAM_LAST_STATE_H

#include "kernels/kd_program.h"
#include "student/skeleton/sequence.h"
#include "student/stream/int8.h"
#include "student/stream/last.h"
#include "student/stream/recipe.h"

/* Frames in the order of their coming.  Room is for `frames`; those in use are [start, start + n). */
typedef struct kd_reel {
    int frames, bodies; /* capacity */
    int start, n;
    uint32_t *first;    /* [frames + 1]: frame t has body[first[t]] .. body[first[t + 1] - 1] */
    kd_skel_body *body; /* [frames * bodies] */
} kd_reel;

struct kd_last {
    kd_last_recipe recipe; /* without class_names */
    kd_sequence_spec spec;
    kd_student_cfg model; /* its layout is that of spec */
    int joints;           /* of a body that is pushed */
    kd_backend *be;
    kd_params *params;
    kd_program *program;
    kd_last_int8 int8;
    unsigned bits; /* streams the student reads, KD_STREAM_* */
    float *stream[KD_STUDENT_MAX_STREAMS];
    kd_reel pushed, sequence;
    int window, most_bodies;
    void *scratch;        /* of kd_sequence_make_in */
    float *x;             /* (3, frames, joints, bodies) */
    float *logits, *prob; /* [classes] */
    bool done;            /* they are a result */
    const char **name;    /* [classes] */
    char *name_text;
    kd_err err; /* the last failure */
};

#endif
