/* How a clip is placed before it becomes patch rows (patchify of kd_ops.h): mirroring and random erasing.
 *
 * One text for the CPU kernel and the CUDA kernel.  A number of the noise is a function of the sample's keys and the
 * element, so pixels may be made in any order, by any number of threads, and more than once (a mixed batch reads a clip
 * twice). */
#ifndef KD_KERNELS_KD_PIXELS_H
#define KD_KERNELS_KD_PIXELS_H

#include "kernels/kd_ops.h"
#include "kernels/kd_rng.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_place {
    bool flip;
    int32_t top, left, height, width; /* the erase box */
    kd_rng noise;                     /* whose sequence noise is drawn from; pos is not used */
} kd_place;

/* p: KD_PLACE numbers of one sample. */
KD_RNG_FN kd_place kd_place_of(const int32_t *p)
{
    const uint64_t seed = (uint64_t)(uint32_t)p[KD_PLACE_SEED_HIGH] << 32 | (uint32_t)p[KD_PLACE_SEED_LOW];
    kd_place l;
    l.flip = p[KD_PLACE_FLIP] != 0;
    l.top = p[KD_PLACE_TOP];
    l.left = p[KD_PLACE_LEFT];
    l.height = p[KD_PLACE_HEIGHT];
    l.width = p[KD_PLACE_WIDTH];
    l.noise = kd_rng_make(seed, KD_RNG_SAMPLE, (uint32_t)p[KD_PLACE_ITEM], (uint32_t)p[KD_PLACE_EPOCH]);
    return l;
}

/* Is `at` one of the `len` places from `first` on? */
KD_RNG_FN bool kd_within(int64_t at, int32_t first, int32_t len)
{
    return at >= first && at - first < len;
}

/* Do the n places from `at` on meet those from `first` on? */
KD_RNG_FN bool kd_meets(int64_t at, int64_t n, int32_t first, int32_t len)
{
    return len > 0 && at < (int64_t)first + len && first < at + n;
}

/* Noise of an element of the clip, e = ((t H + y) W + x) C + c.  Its place in the sequence is far beyond all other
 * draws. */
KD_RNG_FN double kd_place_noise(const kd_place *l, int64_t e)
{
    return kd_rng_normal_at(&l->noise, ((uint64_t)8 << 32) + (uint64_t)e);
}

#ifdef __cplusplus
}
#endif
#endif
