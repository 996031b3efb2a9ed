/* What the video files share: FFmpeg's log, caught, the names of its errors, and an opened file
 * with its compressed pictures.  No FFmpeg header is needed to include this. */
#ifndef KD_FORMATS_VIDEO_VIDEO_AV_H
#define KD_FORMATS_VIDEO_VIDEO_AV_H

#include "formats/video/frames.h"
#include "formats/video/video.h"

/* FFmpeg allocates what a header claims before the file is read so far: an AVI with a stream name of 2 GB takes 2 GB.
 * The largest honest piece is a picture of 8192 x 4320 with 16 bits a channel, 283 MB. */
#define KD_AV_ALLOC_MAX ((size_t)512 << 20)

/* FFmpeg prints on stderr by default.  While a kd_av_log is entered on a thread, messages of that
 * thread at error level are counted and the last one kept here; without one they are dropped. */
typedef struct kd_av_log {
    size_t errors;
    char last[160];
    struct kd_av_log *outer;
} kd_av_log;

void kd_av_log_enter(kd_av_log *log); /* zeroes it */
void kd_av_log_leave(kd_av_log *log);

#define KD_AV_ERRSTR 96
const char *kd_av_strerror(int code, char text[KD_AV_ERRSTR]);

struct AVStream;

/* Degrees clockwise that the display matrix of a stream turns its pictures by: 90, 180, 270; 0 for none and for any
 * other angle.  Read as decord and OpenCV read the matrix: from its angle alone, so that a mirrored matrix counts as
 * the turn it resembles. */
int kd_av_rotation(const struct AVStream *stream);

/* A file opened, its video stream chosen, its compressed pictures in memory; or a folder of pictures, each read when
 * it is decoded. */
typedef struct kd_av_input {
    const char *path;   /* for messages: the file, or the picture of a folder that was read last */
    kd_video_opts opts; /* resolved: no zero means "default" any more */
    kd_video_info *info;
    kd_av_log log; /* entered from kd_av_input_init to _free */
    int fd;
    uint64_t size, at;
    int read_errno;
    struct AVIOContext *io;
    struct AVFormatContext *fmt;
    struct AVStream *stream;
    struct AVCodecParameters *par; /* of the stream; of a folder its own */
    struct AVPacket **packet;      /* [n_packets] in file order; NULL for a folder */
    size_t n_packets, room;
    size_t damaged;   /* packets marked corrupt */
    size_t discarded; /* packets an edit list cuts off: decoded, never shown */
    uint64_t shown;   /* AVI: last time stamp + 1, the pictures on the screen, repeats included */
    const char *dir;  /* of a folder of pictures; NULL: a file */
    kd_frames frames;
    char *picture_path;
    struct AVPacket *picture; /* the one read last */
} kd_av_input;

void kd_av_input_init(kd_av_input *in, const char *path, const kd_video_opts *opts, kd_video_info *info);
KD_NODISCARD kd_status kd_av_input_load(kd_av_input *in, kd_err *err); /* open and read all packets */
void kd_av_input_free(kd_av_input *in);

/* Compressed picture i of n_packets, valid until the next call. */
KD_NODISCARD kd_status kd_av_input_packet(kd_av_input *in, size_t i, const struct AVPacket **packet, kd_err *err);

/* What kd_av_input_load and kd_av_input_packet do where the path is a folder (video_folder.c). */
KD_NODISCARD kd_status kd_av_folder_load(kd_av_input *in, kd_err *err);
KD_NODISCARD kd_status kd_av_folder_packet(kd_av_input *in, size_t i, kd_err *err); /* into in->picture */
void kd_av_folder_free(kd_av_input *in);

/* What is done with a compressed picture. */
typedef enum kd_av_use {
    KD_AV_PASS_OVER, /* the decoder does not see it */
    KD_AV_ROUGH,     /* nobody wants its frame: no work is done for its pixels that other frames do not need */
    KD_AV_WHOLE      /* its frame is wanted */
} kd_av_use;

/* How the frames that are wanted are got; all members zero: every picture is decoded whole.  A plan rests on what the
 * stream says about its order, so the pass that follows one compares (frame->pts is the rank), and where the decoder
 * tells another order, or fails, a pass without a plan decides. */
typedef struct kd_av_plan {
    uint32_t *rank; /* [n_packets] number of the frame that picture i gives */
    uint8_t *use;   /* [n_packets] kd_av_use */
    bool checked;   /* the file was decoded before: pictures that no wanted frame needs are not decoded again.  Else
                       every picture is, so that damage is found, and rough ones go without the loop filter alone */
} kd_av_plan;

/* want: [frames].  Without a plan where the order cannot be told.  KD_E_OOM. */
KD_NODISCARD kd_status kd_av_plan_make(const kd_av_input *in, const uint8_t *want, size_t frames, bool checked,
                                       kd_av_plan *plan, kd_err *err);
void kd_av_plan_free(kd_av_plan *plan); /* zeroed is legal */

/* FFmpeg refused (code rc) to `what` this file: the fitting status and line. */
kd_status kd_av_input_fail(const kd_av_input *in, int rc, const char *what, kd_err *err);

#endif
