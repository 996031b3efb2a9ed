/* Inside of augment.h: the families of operations.  Pictures are [height][width][3]; dst must not overlap src. */
#ifndef KD_TEACHER_CLIP_AUGMENT_INTERNAL_H
#define KD_TEACHER_CLIP_AUGMENT_INTERNAL_H

#include "teacher/clip/augment.h"

enum { KDI_FILL = 128 }; /* of pixels that a warp uncovers */

/* augment_colour.c: every operation that moves no pixel. */
void kdi_augment_colour(const kd_augment_step *step, const uint8_t *src, int width, int height, uint8_t *dst);

/* augment_warp.c: rotation, shears, translations. */
void kdi_augment_warp(const kd_augment_step *step, kd_warp warp, const uint8_t *src, int width, int height,
                      uint8_t *dst);

#endif
