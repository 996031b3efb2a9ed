/* FFmpeg's log and error names: see video_av.h. */
#include "formats/video/video_av.h"

#include <libavutil/error.h>
#include <libavutil/log.h>
#include <pthread.h>
#include <stdio.h>

/* FFmpeg's log callback is one per process and gets no context of ours; the thread is the only
 * handle on the clip a message belongs to.  Decoding runs on the calling thread, so this pointer,
 * set for the time of one call, finds it. */
static _Thread_local kd_av_log *current;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void callback(void *avcl, int level, const char *fmt, va_list ap)
{
    (void)avcl;
    kd_av_log *log = current;
    if (level > AV_LOG_ERROR || log == NULL) {
        return;
    }
    log->errors++;
    (void)vsnprintf(log->last, sizeof log->last, fmt, ap);
    log->last[strcspn(log->last, "\r\n")] = '\0';
}

static void install(void)
{
    av_log_set_callback(callback);
}

void kd_av_log_enter(kd_av_log *log)
{
    (void)pthread_once(&once, install);
    *log = (kd_av_log){.outer = current};
    current = log;
}

void kd_av_log_leave(kd_av_log *log)
{
    current = log->outer;
}

const char *kd_av_strerror(int code, char text[KD_AV_ERRSTR])
{
    if (av_strerror(code, text, KD_AV_ERRSTR) < 0) {
        (void)snprintf(text, KD_AV_ERRSTR, "FFmpeg error %d", code);
    }
    return text;
}
