/* From a video to rows of clips: which frames, which crop, how it is placed.
 *
 * Validation, test and training with video.spatial short_side_crop, rrc_u8 and multi_scale give the bytes of the
 * crop, "clip" u8 (T, H, W, 3); with rrc crops are resized on the normalised floats, so that row is f32 (3, T, H, W).
 * RandAugment (augment.h) comes before the crop.  Training rows have a second tensor, "place" i32
 * (kd_clip_place_width): mirroring and the erase boxes.  The model's first op (patchify of kernels/kd_ops.h)
 * normalises, mirrors, erases and mixes on the device.
 *
 * Source: VideoMAE / VideoMAEv2 VideoClsDataset (dense and sparse sampling) and RawFrameClsDataset (segments),
 * MMAction2's SampleFrames and UniformSample; checked index by index against tests/golden.  Divergences, on
 * purpose: one clip or one crop in a test is defined (the first window, the centre); `sparse` spreads a video of fewer
 * than T frames (the reference's index is -1 there); a video that cannot be read is an error,
 * never replaced by another; all draws are Philox (KD_RNG_SAMPLE, keyed by seed, sample, epoch).
 *
 * T = frames, H = W = side, r = video.sampling_rate, n = decoded frames.
 * W0 = T r, the length of a window in frames; 64 for T = 16, r = 4.
 *
 * Frames are cached as uint8 after the resize (training with random area crops: at their own
 * size): all frames of a video for training, those of its views otherwise.  What is kept first
 * stays, as long as the budget lasts; other videos are decoded anew each time.  Results do not
 * depend on the cache.
 */
#ifndef KD_TEACHER_CLIP_CLIP_H
#define KD_TEACHER_CLIP_CLIP_H

#include "formats/data/dataset.h"
#include "formats/data/rows.h"
#include "formats/store/logit_store.h"
#include "kernels/kd_rng.h"
#include "teacher/clip/clip_opts.h"

/* What clips are made for. */
typedef enum kd_clip_mode {
    KD_CLIP_TRAIN, /* random window, random crop, flip; train.num_sample of each sample */
    KD_CLIP_VAL,   /* one view: centre window (or random: video.val_window), centre crop */
    KD_CLIP_TEST   /* eval.clips x eval.crops views, with eval.flips twice: crops, the same mirrored, the next clip */
} kd_clip_mode;

/* ---- the rules, as pure functions ------------------------------------------------------------ */

typedef struct kd_frame_rule {
    kd_sampler sampler;
    kd_short_video short_video;
    kd_out_of_bound out_of_bound;
    int frames, rate; /* T, r */
} kd_frame_rule;

/* Training window of n >= 1 frames into idx[0..T-1]; draws from rng only where the rule has a
 * choice. */
void kd_frames_train(const kd_frame_rule *rule, size_t n, kd_rng *rng, size_t *idx);
/* The same with the window's end given (official_dense, n > W0: end in [W0, n-1]); for tests and
 * parity. */
void kd_frames_window(const kd_frame_rule *rule, size_t n, size_t end, size_t *idx);
/* Ends that training draws: in [*low, *high); both 0 where there is no choice. */
void kd_frames_ends(const kd_frame_rule *rule, size_t n, size_t *low, size_t *high);
void kd_frames_val(const kd_frame_rule *rule, size_t n, size_t *idx); /* centre window */
/* Clip `clip` of `clips`, spread over the video. */
void kd_frames_test(const kd_frame_rule *rule, size_t n, int clip, int clips, size_t *idx);

/* What training draws uniformly, both ends included: frame j of a sampler of kd_frames_each; where clip `clip` of
 * `clips` begins (mmaction2). */
void kd_frames_range(const kd_frame_rule *rule, size_t n, int j, size_t *low, size_t *high);
void kd_frames_offsets(const kd_frame_rule *rule, size_t n, int clip, int clips, size_t *low, size_t *high);
/* mmaction2: every r-th frame from `offset` on, frames behind the end by the rule. */
void kd_frames_from(const kd_frame_rule *rule, size_t n, double offset, size_t *idx);
/* mmaction2: where clip `clip` of `clips` of a test begins; clips of one frame begin between frames. */
double kd_frames_test_offset(const kd_frame_rule *rule, size_t n, int clip, int clips);

/* ---- the source ------------------------------------------------------------------------------ */

#define KD_CLIP_MAX_FRAMES 256

typedef struct kd_clip_source kd_clip_source;

/* Bytes the frame cache may take by default: a quarter of the memory that is available now, at
 * most 1 GiB. */
uint64_t kd_clip_default_cache(void);

/* `spec` is copied; `half` with videos must outlive the source.  cache_bytes 0: no cache. */
KD_NODISCARD kd_status kd_clip_source_open(const kd_clip_spec *spec, const kd_half *half, kd_clip_mode mode,
                                           uint64_t cache_bytes, kd_clip_source **out, kd_err *err);
void kd_clip_source_close(kd_clip_source *s); /* NULL is legal; after its loaders */
/* What reading takes besides the rows, in bytes, judged by the first video: pictures that are kept, those at work in
 * each of `workers` threads, the decoder's.  0: the video cannot be read. */
uint64_t kd_clip_memory(const kd_clip_source *s, int workers);
kd_producer kd_clip_producer(kd_clip_source *s); /* "clip"; in training "place" too */

/* Numbers of a training row's "place": KD_PLACE and the boxes that random erasing can draw. */
int kd_clip_place_width(const kd_clip_opts *video, int frames);

/* The class of a mirrored clip of class `label`: the other one of its pair in video.flip_labels. */
int32_t kd_clip_mirrored_label(const kd_clip_opts *video, int32_t label);

/* Are training clips resized on the host, and so rows of f32? */
bool kd_clip_resized(const kd_clip_opts *video);

/* How a view was cut, for the logit store: known once one of the sample's rows has been filled
 * (KD_E_STATE before). frames: [T].  In training the views are the repeats of epoch 0. */
KD_NODISCARD kd_status kd_clip_view(const kd_clip_source *s, uint32_t sample, uint32_t view, kd_store_view *out,
                                    int32_t *frames, kd_err *err);

/* Rows a sample has in a mode: 1, or clips x crops in a test. */
uint32_t kd_clip_views(const kd_clip_spec *spec, kd_clip_mode mode);

/* A file outside a data set (`teacher predict`): all views of VAL or TEST into dst (views, T, H, W,
 * 3). */
KD_NODISCARD kd_status kd_clip_read(const kd_clip_spec *spec, const char *path, kd_clip_mode mode, uint8_t *dst,
                                    kd_err *err);

#endif
