/* Options of clips: config section `video`; each is documented in clip_opts.inc. */
#ifndef KD_TEACHER_CLIP_CLIP_OPTS_H
#define KD_TEACHER_CLIP_CLIP_OPTS_H

#include "formats/video/image.h"
#include "kernels/kd_options.h"

#define KD_SAMPLER_MAP(X)                                  \
    X(KD_SAMPLER_OFFICIAL_DENSE, "official_dense")         \
    X(KD_SAMPLER_SEED_RANDOM_WINDOW, "seed_random_window") \
    X(KD_SAMPLER_UNIFORM_LINSPACE, "uniform_linspace")     \
    X(KD_SAMPLER_SPARSE, "sparse")                         \
    X(KD_SAMPLER_SEGMENTS, "segments")                     \
    X(KD_SAMPLER_MMACTION2, "mmaction2")                   \
    X(KD_SAMPLER_MMACTION2_UNIFORM, "mmaction2_uniform")
#define KD_OUT_OF_BOUND_MAP(X) \
    X(KD_BOUND_LOOP, "loop")   \
    X(KD_BOUND_REPEAT_LAST, "repeat_last")
#define KD_SHORT_VIDEO_MAP(X)        \
    X(KD_SHORT_OFFICIAL, "official") \
    X(KD_SHORT_STRIDE_REPEAT, "stride_repeat")
#define KD_VAL_WINDOW_MAP(X)      \
    X(KD_WINDOW_CENTER, "center") \
    X(KD_WINDOW_RANDOM, "random")
#define KD_SPATIAL_MAP(X)                            \
    X(KD_SPATIAL_RRC, "rrc")                         \
    X(KD_SPATIAL_SHORT_SIDE_CROP, "short_side_crop") \
    X(KD_SPATIAL_RRC_U8, "rrc_u8")                   \
    X(KD_SPATIAL_MULTI_SCALE, "multi_scale")
#define KD_ERASE_MODE_MAP(X)    \
    X(KD_ERASED_PIXEL, "pixel") \
    X(KD_ERASED_RAND, "rand")   \
    X(KD_ERASED_CONST, "const")
#define KD_WARP_MAP(X)              \
    X(KD_WARP_BICUBIC, "bicubic")   \
    X(KD_WARP_BILINEAR, "bilinear") \
    X(KD_WARP_RANDOM, "random")

#define KD_CROP_RULE_MAP(X)            \
    X(KD_CROPS_VIDEOMAE, "videomae")   \
    X(KD_CROPS_MMACTION2, "mmaction2") \
    X(KD_CROPS_CORNERS, "corners")

KD_ENUM_OF(kd_sampler, KD_SAMPLER_MAP);
KD_ENUM_OF(kd_short_video, KD_SHORT_VIDEO_MAP);
KD_ENUM_OF(kd_out_of_bound, KD_OUT_OF_BOUND_MAP);
KD_ENUM_OF(kd_val_window, KD_VAL_WINDOW_MAP);
KD_ENUM_OF(kd_spatial, KD_SPATIAL_MAP);
KD_ENUM_OF(kd_warp, KD_WARP_MAP);
KD_ENUM_OF(kd_erase_mode, KD_ERASE_MODE_MAP);
KD_ENUM_OF(kd_crop_rule, KD_CROP_RULE_MAP); /* of config section eval */

/* Does the sampler draw each frame of a training clip by itself? */
static inline bool kd_frames_each(kd_sampler sampler)
{
    return sampler == KD_SAMPLER_SPARSE || sampler == KD_SAMPLER_SEGMENTS || sampler == KD_SAMPLER_MMACTION2_UNIFORM;
}

typedef struct kd_clip_opts {
#define KD_OPTIONS "teacher/clip/clip_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_clip_opts;

/* All that clips depend on. */
typedef struct kd_clip_spec {
    kd_clip_opts video;
    int frames, side; /* T, and H = W */
    int clips, crops; /* views of a test: clips x crops, */
    bool flips;       /* and each of them mirrored */
    kd_crop_rule crop_rule;
    int repeats;   /* rows a sample has in a training batch; 0 means 1 */
    uint64_t seed; /* of every draw */
} kd_clip_spec;

#endif
