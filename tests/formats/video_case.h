/* What the tests of formats/video share: a folder with good.avi in it, clips whose frames can be told apart. */
#ifndef KD_TESTS_FORMATS_VIDEO_CASE_H
#define KD_TESTS_FORMATS_VIDEO_CASE_H

#include "formats/base/io.h"
#include "formats/video/video.h"

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

enum { W = 96, H = 64, N = 40 }; /* good.avi */

extern char root[64];

int make_root(void **state); /* with good.avi */
int drop_root(void **state);
/* Path of a name in the test's folder; valid for the next seven calls. */
const char *in_root(const char *name);
/* A clip of numbered frames; which() tells the number of a decoded one. */
void make(const char *path, int w, int h, int frames, const kd_video_writer_opts *opts);
int which(const uint8_t *rgb);
uint8_t *load(const char *path, size_t *n); /* kd_free */
void save(const char *path, const uint8_t *p, size_t n);
/* A kd_video_choose that takes the first and the last frame and counts its calls in the size_t ctx. */
kd_status choose_ends(void *ctx, size_t frames, size_t *idx, size_t n, kd_err *err);

#endif
