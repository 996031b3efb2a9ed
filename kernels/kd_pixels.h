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

/* Box k of a sample whose numbers begin at p. */
KD_RNG_FN const int32_t *kd_place_box(const int32_t *p, int32_t k)
{
    return p + KD_PLACE + (int64_t)k * KD_BOX;
}

/* Has the box pixels among the n from (t, y, x) on? */
KD_RNG_FN bool kd_box_meets(const int32_t *box, int64_t t, int64_t y, int64_t x, int64_t n)
{
    return (box[KD_BOX_FRAME] < 0 || box[KD_BOX_FRAME] == t) && kd_within(y, box[KD_BOX_TOP], box[KD_BOX_HEIGHT]) &&
           kd_meets(x, n, box[KD_BOX_LEFT], box[KD_BOX_WIDTH]);
}

/* What fills a box.  `element` of the clip: ((t H + y) W + x) C + c; `patch`, of its box: (t m + k) C + c, of m boxes.
 * Both places in the sequence are far beyond all other draws. */
KD_RNG_FN double kd_place_fill(const int32_t *p, int64_t element, int64_t patch)
{
    const uint64_t seed = (uint64_t)(uint32_t)p[KD_PLACE_SEED_HIGH] << 32 | (uint32_t)p[KD_PLACE_SEED_LOW];
    const kd_rng r = kd_rng_make(seed, KD_RNG_SAMPLE, (uint32_t)p[KD_PLACE_ITEM], (uint32_t)p[KD_PLACE_EPOCH]);
    if (p[KD_PLACE_ERASE] == KD_ERASE_CONST) {
        return 0.0;
    }
    return p[KD_PLACE_ERASE] == KD_ERASE_RAND ? kd_rng_normal_at(&r, ((uint64_t)9 << 32) + (uint64_t)patch)
                                              : kd_rng_normal_at(&r, ((uint64_t)8 << 32) + (uint64_t)element);
}

#ifdef __cplusplus
}
#endif
#endif
