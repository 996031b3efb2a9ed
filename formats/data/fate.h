/* Why a listed sample is not among those that a run uses: one set of words for messages, logs and reports. */
#ifndef KD_FORMATS_DATA_FATE_H
#define KD_FORMATS_DATA_FATE_H

#include "kernels/kd_options.h"

/* The first five are known when the data set is opened; the others show in the run. */
#define KD_FATE_MAP(X)                                       \
    X(KD_FATE_NO_VIDEO, "no video")                          \
    X(KD_FATE_NO_SKELETON, "no skeleton")                    \
    X(KD_FATE_KNOWN_MISSING, "on the list of known missing") \
    X(KD_FATE_QUARANTINED, "quarantined")                    \
    X(KD_FATE_OVER_LIMIT, "over the limit")                  \
    X(KD_FATE_UNREADABLE, "unreadable")                      \
    X(KD_FATE_NO_BODY, "no body")                            \
    X(KD_FATE_NO_TEACHER, "no teacher record")               \
    X(KD_FATE_NO_LABEL, "no label")

KD_ENUM_OF(kd_fate, KD_FATE_MAP);

#define KD_FATE_ONE(value, text) +1
#define KD_FATES                 (0 KD_FATE_MAP(KD_FATE_ONE))

typedef struct kd_left_out {
    const char *id;
    const char *file; /* the path that was tried or that is at fault; NULL: no single file is */
    kd_fate why;
    int label;
} kd_left_out;

const char *kd_fate_text(kd_fate why); /* "no video" */

/* Of a sample whose reading failed with this message. */
kd_fate kd_fate_of(const char *message);

/* A sample that was wanted and could not be had; the others were excluded on purpose.
 * In every account: listed = done + failed + excluded. */
bool kd_fate_is_failure(kd_fate why);

/* "2 no video, 1 over the limit" of counts by fate; "nothing" when all are 0.  kd_free; NULL: out of memory. */
char *kd_fates_text(const size_t n[KD_FATES]);

#endif
