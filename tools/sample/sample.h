/* The sample data set on disk, in NTU's names and layout:
 *     DIR/nturgb+d_rgb/SsssCcccPpppRrrrAaaa_rgb.avi
 *     DIR/nturgb+d_skeletons/SsssCcccPpppRrrrAaaa.skeleton
 *     DIR/classes.txt    one action a line, A001 first
 *     DIR/sample.json    what it was made with
 * The setup is 3, which has none of NTU's known missing skeletons among actions 1 to 12, so that no list drops a clip.
 * Subjects 1, 2, 4, 5, 8, 9 are the training half of NTU's cross-subject split, 3, 6, 7, 10 the other.
 * A clip depends on the seed and its own name only: any number of threads gives the same bytes, and --clips N gives the
 * first N of the same clips.  (Videos are the same bytes for the same FFmpeg; skeletons everywhere.)
 *
 * And pictures of skeletons that exist already: kd_sample_render. */
#ifndef KD_TOOLS_SAMPLE_SAMPLE_H
#define KD_TOOLS_SAMPLE_SAMPLE_H

#include "distill/run/progress.h"
#include "tools/sample/synth.h"

typedef struct kd_sample_opts {
    uint64_t seed;
    int performers, cameras, replications; /* 1..200, 1..3, 1..15; normally 10, 3, 2 */
    size_t clips;                          /* the first so many; 0: all */
    int width, height;                     /* even; normally 160x120 */
    int threads;                           /* at least 1 */
    bool skeletons_only;                   /* no videos */
    bool resume;                           /* keep clips whose files are there */
    bool force;                            /* make a set that is there again */
    int rooms; /* every camera has so many rooms, the people are spread over them; 1..200, 0 as 1 */
} kd_sample_opts;

typedef struct kd_sample_result {
    size_t clips;   /* listed */
    size_t written; /* of these, by this call */
    size_t badly_tracked;
    uint64_t frames, video_bytes, skeleton_bytes; /* of what was written */
} kd_sample_result;

/* The i-th clip of the set; false past the last. */
bool kd_made_id(const kd_sample_opts *opts, size_t i, kd_synth_id *id);

/* Writes everything; an interrupted call can be repeated with `resume`.  KD_E_ARG (opts, or `dir` holds something
 * else), KD_E_WRITE, KD_E_UNSUPPORTED (no FFmpeg), KD_E_OOM, KD_E_CANCELLED. */
KD_NODISCARD kd_status kd_sample_write(const char *dir, const kd_sample_opts *opts, const kd_progress *progress,
                                       kd_sample_result *out, kd_err *err);

/* ---- pictures of recorded skeletons ---------------------------------------------------------- */

typedef struct kd_render_opts {
    uint64_t seed;     /* clothes and rooms */
    int width, height; /* even */
    int fps;
    uint32_t person, place; /* who and where: numbers for kd_render_dress and kd_render_furnish */
} kd_render_opts;

/* One `.skeleton` file to one video of as many frames, framed once for the whole recording so that the people fill the
 * picture; frames without a body show the empty room.  *frames may be NULL.  Errors of reading, of writing, and
 * KD_E_DATA when no frame holds a believable body. */
KD_NODISCARD kd_status kd_sample_render(const char *skeleton_path, const char *video_path, const kd_render_opts *opts,
                                        size_t *frames, kd_err *err);

#endif
