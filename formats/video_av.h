/* What video.c and video_write.c share about FFmpeg: its log, caught, and the names of its errors.  No FFmpeg
 * header is needed to include this. */
#ifndef KD_VIDEO_AV_H
#define KD_VIDEO_AV_H

#include "kernels/kd_base.h"

/* FFmpeg prints on stderr by default.  While a kd_av_log is entered on a thread, messages of that thread at error
 * level are counted and the last one kept here; without one they are dropped. */
typedef struct kd_av_log {
    size_t errors;
    char last[160];
    struct kd_av_log *outer;
} kd_av_log;

void kd_av_log_enter(kd_av_log *log); /* zeroes it */
void kd_av_log_leave(kd_av_log *log);

#define KD_AV_ERRSTR 96
const char *kd_av_strerror(int code, char text[KD_AV_ERRSTR]);

#endif
