/* Inside of clips, shared by the files of the room. */
#ifndef KD_TEACHER_CLIP_CLIP_INTERNAL_H
#define KD_TEACHER_CLIP_CLIP_INTERNAL_H

#include "formats/data/cache.h"
#include "formats/video/image.h"
#include "teacher/clip/augment.h"
#include "teacher/clip/clip.h"
#include "teacher/clip/crops.h"

#include <stdatomic.h>

/* The frames of one video that are in memory. */
typedef struct kd_reel {
    size_t frames; /* of the video */
    size_t n;      /* kept */
    int width, height;
    uint32_t *number; /* [n] rising; in the same block */
    uint8_t *rgb;     /* [n][height][width][3]; in the same block */
} kd_reel;

/* How a box becomes the pixels of a row. */
typedef enum kdi_fit {
    KDI_FIT_CUT,   /* the box is as large as the row */
    KDI_FIT_BYTES, /* resized by video.resizer */
    KDI_FIT_FLOATS /* normalised, then resized: rows are f32 */
} kdi_fit;

struct kd_clip_source {
    kd_clip_spec spec;
    const kd_half *half;
    kd_clip_mode mode;
    bool fixed; /* the frames of a row do not depend on draws: test, val with centre window,
                       whole videos; a cached reel then holds these frames alone */
    kdi_fit fit;
    kd_rand_augment augment; /* of training rows; no operations elsewhere */
    int short_side;          /* of stored frames; 0: as decoded */
    uint32_t views;          /* rows a sample has: views, in training repeats */
    uint64_t cache_bytes;    /* what the cache may grow to */
    kd_frame_rule rule;
    float table[3 * 256]; /* of resized clips */
    kd_cache *cache;
    _Atomic uint64_t *known; /* per sample: frames << 32 | width << 16 | height of stored frames; 0: not yet */
};

typedef struct kd_clip_worker {
    size_t *idx;     /* [T] frames of the row */
    size_t *slot;    /* [T] their places in the reel */
    size_t *need;    /* [views T] frames of all rows of the sample */
    void *block;     /* the worker's reel */
    size_t capacity; /* bytes of block */
    uint32_t sample; /* whose reel it is; UINT32_MAX: nobody's */
    uint32_t epoch;  /* whose draws chose the frames */
    kd_image_resizer *resizer;
    int in_w, in_h;           /* the resizer's */
    kd_image_resizer *fitter; /* KDI_FIT_BYTES: from a box to the row */
    int box_w, box_h;         /* the fitter's */
    uint8_t *frame;           /* two frames that RandAugment works in */
    size_t frame_capacity;    /* bytes of `frame` */
} kd_clip_worker;

/* Positions in a sample's random sequence: each purpose has its own, whatever the others draw. */
enum {
    KDI_DRAW_WINDOW = 0,
    KDI_DRAW_CROP = 16,
    KDI_DRAW_FLIP = 128,
    KDI_DRAW_ERASE = 1024,
    KDI_DRAW_AUGMENT = 1 << 16,
    KDI_DRAW_WARP = 1 << 17,
    KDI_DRAW_ERASE_FRAMES = 1 << 18, /* erase_cube: false; of frame 0 */
    KDI_DRAWS_PER_FRAME = 512,       /* from one frame's erasing to the next */
    KDI_DRAW_FRAMES = 1 << 28
};

/* clip_train.c: how a training rule fits its boxes; draws of one row from a position on (each
 * repeat of a training sample has a sequence of its own); box of a training row in a
 * stored frame; its "place". */
kdi_fit kdi_clip_fit(kd_spatial spatial);
kd_rng kdi_clip_draws(const kd_clip_source *s, const kd_item *item, uint64_t position);
kd_crop_box kdi_clip_train_box(const kd_clip_source *s, const kd_item *item, int width, int height);
bool kdi_clip_flip(const kd_clip_source *s, const kd_item *item); /* is the row mirrored? */
void kdi_clip_place(const kd_clip_source *s, const kd_item *item, int32_t *place);

/* clip_row.c: the frames of a row, w->slot of the reel, augmented and cut or resized into dst. */
KD_NODISCARD kd_status kdi_clip_pixels(const kd_clip_source *s, kd_clip_worker *w, const kd_item *item,
                                       const kd_reel *r, const kd_crop_box *box, void *dst, kd_err *err);

/* clip.c: frames of one row of a video of n frames. */
void kdi_clip_frames(const kd_clip_source *s, const kd_item *item, size_t n, size_t *idx);

/* clip_decode.c: decodes until the reel of a sample holds at least the frames of the row, and gives it to the cache
 * where it fits; w->idx holds the row's frames. */
KD_NODISCARD kd_status kdi_clip_decode(kd_clip_source *s, kd_clip_worker *w, const kd_item *item, const kd_reel **out,
                                       kd_err *err);

#endif
