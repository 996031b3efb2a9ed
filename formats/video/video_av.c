/* FFmpeg's log, error names and side data: see video_av.h. */
#include "formats/video/video_av.h"

#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/error.h>
#include <libavutil/log.h>
#include <libavutil/mem.h>
#include <math.h>
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
    av_max_alloc(KD_AV_ALLOC_MAX);
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

int kd_av_rotation(const AVStream *stream)
{
    const int32_t *matrix = NULL;
    size_t bytes = 0;
#if LIBAVFORMAT_VERSION_INT >= AV_VERSION_INT(60, 15, 100)
    const AVPacketSideData *d = av_packet_side_data_get(
        stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    matrix = d != NULL ? (const int32_t *)(const void *)d->data : NULL;
    bytes = d != NULL ? d->size : 0;
#else
    matrix = (const int32_t *)(const void *)av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &bytes);
#endif
    if (matrix == NULL || bytes < 9 * sizeof *matrix) {
        return 0;
    }
    const double angle = -av_display_rotation_get(matrix); /* counter-clockwise; NaN for a matrix of zeros */
    if (!(fabs(angle) <= 360.0)) {
        return 0;
    }
    const int turn = ((int)lround(angle) + 360) % 360;
    return turn % 90 == 0 ? turn : 0;
}
