/* A growing `.skeleton` text, frame by frame: what `distill predict -` reads from a pipe.
 *
 * The text is that of formats/skeleton/skeleton_file.h: a line with the number of frames, then frame after frame.  The
 * number 0 means that the sender does not know it: frames come until the end of the input.  A frame is given out as
 * soon as its last line is there.  A line of a body that is no legal one spoils its frame alone, because the counts
 * before it tell where the next frame begins; a count that is none ends the reading. */
#ifndef KD_TOOLS_PREDICT_FRAMES_H
#define KD_TOOLS_PREDICT_FRAMES_H

#include "formats/skeleton/skeleton_file.h"

#include <stdio.h>

typedef struct kd_frames kd_frames;

/* `in` stays the caller's; `name` is for messages ("stdin") and stays too; joints: that a body must have. */
KD_NODISCARD kd_status kd_frames_open(FILE *in, const char *name, int joints, kd_frames **out, kd_err *err);
void kd_frames_close(kd_frames *f); /* NULL is legal */

/* The next frame as a skeleton of one frame, without a body or with several; kd_skeleton_free.  *end: there is none any
 * more, *out is zeroed.  KD_E_DATA: the frame is spoilt, the next call goes on behind it.  KD_E_FORMAT: the text cannot
 * be read on: a count that is none, a frame that the input ends in, text behind the last frame. */
KD_NODISCARD kd_status kd_frames_next(kd_frames *f, kd_skeleton *out, bool *end, kd_err *err);
size_t kd_frames_count(const kd_frames *f); /* frames met so far, the spoilt ones too */

#endif
