/* Video: RGB frames out of anything FFmpeg decodes, and H.264 clips like NTU's own into AVI.
 *
 * The index of a frame is its place in the order of the decoder's output.  Time stamps are not used
 * (AVI with B-frames has none) and nothing seeks (an NTU clip has one key frame, its first).  The
 * number of frames is what the decoder delivers; what a header says is a claim, never a size to
 * allocate.
 *
 * One clip costs one demux and one decode pass, on the calling thread.  The compressed packets are
 * held in memory (at most the size of the file), so the number of packets, known before decoding,
 * serves as the expected frame count: the caller picks frames from it while the decoder has not
 * started.  Where the decoder then delivers another number, the caller picks again with the true
 * one and the packets are decoded a second time.
 *
 * Work that no frame needs is saved: the loop filter of pictures that neither are picked nor serve others, and, in a
 * file that is known (known_frames), their decoding.  Picked frames are the same bytes either way.
 *
 * Strict by default.  A clip is refused, never patched, when
 *   - a packet or a frame is marked corrupt, the decoder fails, conceals or reports an error;
 *   - the file ends early: fewer packets than the container claims, in AVI fewer than the last time stamp tells;
 *   - the picture size changes inside the clip;
 *   - there is no video stream, no frame, more frames or pixels or bytes than the limits;
 *   - the path is neither a regular file nor a folder of numbered pictures.
 * `lenient` keeps damaged frames, counts them in kd_video_info.damaged, takes the decoded count for
 * the truth and scales frames of another size to the first frame's.
 *
 * Colour: RGB24, full range, from the matrix and range the stream names; where it names none,
 * BT.601 limited range, as for NTU.  kd_video_decoder_version() names all of this; stores record it.
 *
 * Rotation.  Frames are turned by 90, 180 or 270 degrees where the container's display matrix says so, as decord and
 * OpenCV turn them: any other angle is passed over, and of a matrix that mirrors only the angle is read.
 *
 * Repeats.  An AVI may hold chunks without bytes, which show the picture before once more.  Its header counts them, the
 * decoder delivers nothing for them, and neither does this: the delivered frames are the clip (FFmpeg's own, PyAV's,
 * decord's and OpenCV's count).
 *
 * Folders.  A folder of numbered pictures (formats/video/frames.h) is a video whose frames they are; only the wanted
 * ones are read.
 *
 * Errors: KD_E_IO (cannot open, not a regular file), KD_E_FORMAT (not a video, corrupt), KD_E_DATA
 * (truncated, limits, size change, index out of range), KD_E_OOM, KD_E_WRITE, KD_E_UNSUPPORTED
 * (built with KD_FFMPEG=OFF).
 */
#ifndef KD_FORMATS_VIDEO_VIDEO_H
#define KD_FORMATS_VIDEO_VIDEO_H

#include "kernels/kd_base.h"

/* Zero means the default in every member. */
typedef struct kd_video_opts {
    size_t max_frames;   /* default 100000 */
    size_t max_pixels;   /* width x height, default 8192 x 4320 */
    uint64_t max_bytes;  /* file size, default 1 GiB: the compressed clip is held in memory */
    size_t known_frames; /* the count that an earlier call gave, which decoded and judged the whole file: pictures
                            that no picked frame needs are not decoded again, nor is what follows the last one */
    bool numbered;       /* a folder of pictures: its first frame is the picture of this number: */
    size_t first_number;
    bool lenient;
} kd_video_opts;

typedef struct kd_video_info {
    int width, height;   /* of the first frame, as it is delivered */
    size_t frames;       /* delivered by the decoder (kd_video_probe: packets) */
    uint64_t claimed;    /* by the container; 0 when it does not say */
    size_t packets;      /* compressed pictures in the file */
    size_t damaged;      /* frames, packets or decoder reports that strict reading refuses */
    size_t size_changes; /* frames of another size than the first */
    size_t decoded;      /* frames that came out of the decoder, in all passes */
    size_t passes;       /* decode passes this call needed: 0 to 3 */
    int rotation;        /* degrees clockwise its tag turned the frames by: 0, 90, 180, 270; width and height are those
                            after it */
    double fps;          /* 0 when unknown; for display only */
    char codec[32], container[32], pix_fmt[32];
} kd_video_info;

/* Demux only: codec, packets, claims; frames = packets, the size is the header's. */
KD_NODISCARD kd_status kd_video_probe(const char *path, const kd_video_opts *opts, kd_video_info *info, kd_err *err);

/* Decode everything, keep nothing: info->frames is the truth, the call a full check of the file. */
KD_NODISCARD kd_status kd_video_count(const char *path, const kd_video_opts *opts, kd_video_info *info, kd_err *err);

/* `pick`: set want[i] (n bytes, zeroed) to 1 for every frame wanted of `n`.  It can be called a
 * second time, with the true count: whatever `sink` got before that is void.
 * `sink`: one wanted frame, in rising index; rgb rows are `stride` bytes apart and valid during the
 * call.  Either may fail; its status ends the call. */
typedef kd_status (*kd_video_pick)(void *ctx, size_t n, uint8_t *want, kd_err *err);
typedef kd_status (*kd_video_sink)(void *ctx, size_t index, const uint8_t *rgb, int width, int height, size_t stride,
                                   kd_err *err);
KD_NODISCARD kd_status kd_video_scan(const char *path, const kd_video_opts *opts, kd_video_pick pick,
                                     kd_video_sink sink, void *ctx, kd_video_info *info, kd_err *err);

/* Frames side by side: rgb[n][height][width][3], uint8. */
typedef struct kd_video_clip {
    uint8_t *rgb;
    size_t n;
    int width, height;
} kd_video_clip;
void kd_video_clip_free(kd_video_clip *clip); /* NULL and an empty clip are legal */

/* Frames idx[0..n-1], any order, repeats allowed.  An index past the last frame is KD_E_DATA. */
KD_NODISCARD kd_status kd_video_read(const char *path, const kd_video_opts *opts, const size_t *idx, size_t n,
                                     kd_video_clip *clip, kd_video_info *info, kd_err *err);

/* The trainer's call: `choose` fills idx[0..n-1] for a clip of `frames` frames (temporal sampling),
 * the chosen frames come back in that order.  It must be a function of `frames` and its own ctx: it
 * can be called twice. */
typedef kd_status (*kd_video_choose)(void *ctx, size_t frames, size_t *idx, size_t n, kd_err *err);
KD_NODISCARD kd_status kd_video_sample(const char *path, const kd_video_opts *opts, kd_video_choose choose, void *ctx,
                                       size_t n, kd_video_clip *clip, kd_video_info *info, kd_err *err);

/* Static string: library versions, order, colour rule, scaler flags. */
const char *kd_video_decoder_version(void);
bool kd_video_available(void); /* false when built with KD_FFMPEG=OFF */

/* ---- writing --------------------------------------------------------------------------------- */

typedef enum kd_video_codec {
    KD_VIDEO_AUTO,
    KD_VIDEO_H264,
    KD_VIDEO_MPEG4,
    KD_VIDEO_MJPEG,
    KD_VIDEO_RAW /* RGB24 as it is; container "nut" */
} kd_video_codec;

/* Zero means the default in every member. */
typedef struct kd_video_writer_opts {
    kd_video_codec codec;  /* AUTO: H.264 when this FFmpeg has libx264, else MPEG-4 part 2 */
    int quality;           /* H.264 crf 1 best..51, default 20; other codecs' quantiser 1..31, default 3 */
    int gop;               /* frames between key frames; default: one key frame, the first */
    int b_frames;          /* 0: default 2; -1: none */
    const char *container; /* FFmpeg's short name; default "avi" */
} kd_video_writer_opts;

typedef struct kd_video_writer kd_video_writer;

/* Starts `path` under a temporary name.  width and height even, 16..8192; fps_num / fps_den frames
 * a second.  The same frames give the same bytes (one thread, no dates, no random ids).  *out is
 * ended by _close or _abort. */
KD_NODISCARD kd_status kd_video_writer_open(const char *path, int width, int height, int fps_num, int fps_den,
                                            const kd_video_writer_opts *opts, kd_video_writer **out, kd_err *err);
/* One frame rgb[height][width][3], rows `stride` bytes apart (0: width * 3). */
KD_NODISCARD kd_status kd_video_writer_frame(kd_video_writer *w, const uint8_t *rgb, size_t stride, kd_err *err);
/* Flush, rename to `path`, free.  On failure nothing is left behind; `w` is freed either way. */
KD_NODISCARD kd_status kd_video_writer_close(kd_video_writer *w, kd_err *err);
void kd_video_writer_abort(kd_video_writer *w);              /* free and remove the temporary file; NULL is legal */
const char *kd_video_writer_codec(const kd_video_writer *w); /* encoder in use, such as "libx264" */

/* Every frame of `from`, in order, into a video `to`: the short side resized to `short_side` where it is longer
 * (KD_RESIZER_PILLOW_BICUBIC: nothing flickers), both sides made even.  What was written is decoded again: *info
 * describes it.  KD_E_DATA when another number of frames comes back; the errors of reading and of the writer. */
KD_NODISCARD kd_status kd_video_transcode(const char *from, const char *to, int short_side,
                                          const kd_video_writer_opts *opts, kd_video_info *info, kd_err *err);

#endif
