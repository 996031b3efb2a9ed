/* Videos as users have them, made by code: AVI with repeats, MP4 with a display matrix, folders of pictures. */
#ifndef KD_TESTS_FORMATS_MEDIA_CASE_H
#define KD_TESTS_FORMATS_MEDIA_CASE_H

#include "formats/video/video.h"

enum { KD_MEDIA_W = 96, KD_MEDIA_H = 64 };

/* Frame t as the makers below paint it: a flat colour that tells t, and a corner that tells which way is up. */
void kd_media_paint(uint8_t *rgb, int w, int h, int t);
int kd_media_which(const uint8_t *rgb); /* the number, from the centre pixel */

/* `frames` pictures into a file; the ending of the name is the container. */
KD_NODISCARD kd_status kd_media_clip(const char *path, int frames, kd_err *err);

/* An AVI of `frames` pictures whose stream holds chunks without bytes: `after` (n values, rising) has the number of the
 * picture that each follows; -1: before the first.  Headers and index count them. */
KD_NODISCARD kd_status kd_media_repeats(const char *path, int frames, const int *after, size_t n, kd_err *err);

/* The display matrix of the first track of an MP4, in place: a b u c d v x y w, as ISO 14496-12 orders them. */
KD_NODISCARD kd_status kd_media_matrix(const char *path, const int32_t matrix[9], kd_err *err);
extern const int32_t kd_media_turn[4][9]; /* by 0, 90, 180, 270 degrees clockwise */

/* dir/PREFIX000NN.png for N = first .. first + frames - 1. */
KD_NODISCARD kd_status kd_media_frames(const char *dir, const char *prefix, int first, int frames, kd_err *err);

#endif
