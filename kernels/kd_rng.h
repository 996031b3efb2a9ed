/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011, "Random123").
 *
 * There is no generator state anywhere in lastkd.  A number is a pure function of
 *     (seed, stream, item, epoch, position)
 * so data order, augmentation, initialisation and dropout do not depend on workers, ranks, devices or on where a
 * run was interrupted.  `stream` says what the number is for (kd_rng_stream), `item` is a sample index, a node id or
 * the CRC-32 of a parameter name, `epoch` an epoch or an optimiser step.  Header only: CUDA kernels use the same code.
 */
#ifndef KD_KERNELS_KD_RNG_H
#define KD_KERNELS_KD_RNG_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#    define KD_RNG_FN __host__ __device__ static inline
#else
#    define KD_RNG_FN static inline
#endif

/* What a random number is for.  Values are part of every recorded result: never renumber. */
typedef enum kd_rng_stream {
    KD_RNG_INIT = 1,    /* item: CRC-32 of the parameter name */
    KD_RNG_ORDER = 2,   /* epoch: epoch; the permutation of the training set */
    KD_RNG_SAMPLE = 3,  /* item: sample index, epoch: epoch; frame sampling and augmentation of one sample */
    KD_RNG_BATCH = 4,   /* item: batch index, epoch: epoch; mixup and other per-batch draws */
    KD_RNG_DROPOUT = 5, /* item: rng id of the node, epoch: optimiser step; dropout and drop path */
    KD_RNG_SYNTH = 6,   /* the sample data set */
    KD_RNG_BOOTSTRAP = 7,
    KD_RNG_TEST = 8
} kd_rng_stream;

typedef struct kd_philox {
    uint32_t v[4];
} kd_philox;

KD_RNG_FN kd_philox kd_philox_block(uint64_t seed, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * c0;
        const uint64_t b = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        const uint32_t n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    kd_philox r;
    r.v[0] = c0;
    r.v[1] = c1;
    r.v[2] = c2;
    r.v[3] = c3;
    return r;
}

/* Random access: the `pos`-th 32-bit word of the sequence named by (seed, stream, item, epoch). */
KD_RNG_FN uint32_t kd_rng_at(uint64_t seed, uint32_t stream, uint32_t item, uint32_t epoch, uint64_t pos)
{
    const kd_philox b = kd_philox_block(seed, (uint32_t)(pos >> 2), item, epoch, stream | ((uint32_t)(pos >> 34) << 8));
    const uint32_t even = (pos & 2u) != 0 ? b.v[2] : b.v[0], odd = (pos & 2u) != 0 ? b.v[3] : b.v[1];
    return (pos & 1u) != 0 ? odd : even; /* chosen, not indexed: on a card the block stays in registers */
}

/* [0,1) with 24 bits. */
KD_RNG_FN float kd_rng_unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

/* Sequential reader over one such sequence; a plain value, copied freely. */
typedef struct kd_rng {
    uint64_t seed, pos;
    uint32_t stream, item, epoch;
} kd_rng;

KD_RNG_FN kd_rng kd_rng_make(uint64_t seed, uint32_t stream, uint32_t item, uint32_t epoch)
{
    kd_rng r;
    r.seed = seed;
    r.pos = 0;
    r.stream = stream;
    r.item = item;
    r.epoch = epoch;
    return r;
}

KD_RNG_FN uint32_t kd_rng_u32(kd_rng *r)
{
    return kd_rng_at(r->seed, r->stream, r->item, r->epoch, r->pos++);
}

/* [0,1) with 53 bits; two words. */
KD_RNG_FN double kd_rng_uniform(kd_rng *r)
{
    const uint64_t hi = kd_rng_u32(r);
    const uint64_t lo = kd_rng_u32(r);
    return (double)((hi << 21) ^ (lo >> 11)) * 0x1p-53;
}

KD_RNG_FN double kd_rng_range(kd_rng *r, double lo, double hi)
{
    return lo + (hi - lo) * kd_rng_uniform(r);
}

/* Uniform integer in [0, n), n >= 1.  Multiply-shift of one word: bias below n / 2^32. */
KD_RNG_FN uint32_t kd_rng_below(kd_rng *r, uint32_t n)
{
    return (uint32_t)(((uint64_t)kd_rng_u32(r) * n) >> 32);
}

/* Standard normal by Box-Muller; four words. */
KD_RNG_FN double kd_rng_normal(kd_rng *r)
{
    const double u = 1.0 - kd_rng_uniform(r); /* (0,1] */
    const double v = kd_rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

/* What kd_rng_normal gives at pos = 4 block: the four words come from one Philox block, computed once. */
KD_RNG_FN double kd_rng_normal_at(const kd_rng *r, uint64_t block)
{
    const kd_philox b =
        kd_philox_block(r->seed, (uint32_t)block, r->item, r->epoch, r->stream | ((uint32_t)(block >> 32) << 8));
    const double u = 1.0 - (double)(((uint64_t)b.v[0] << 21) ^ (b.v[1] >> 11)) * 0x1p-53;
    const double v = (double)(((uint64_t)b.v[2] << 21) ^ (b.v[3] >> 11)) * 0x1p-53;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

/* Gamma(a, 1), Marsaglia-Tsang; a > 0. */
KD_RNG_FN double kd_rng_gamma(kd_rng *r, double a)
{
    double boost = 1.0;
    if (a < 1.0) {
        boost = pow(1.0 - kd_rng_uniform(r), 1.0 / a);
        a += 1.0;
    }
    const double d = a - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        const double x = kd_rng_normal(r);
        const double t = 1.0 + c * x;
        if (t <= 0.0) {
            continue;
        }
        const double v = t * t * t;
        const double u = 1.0 - kd_rng_uniform(r);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v)) {
            return boost * d * v;
        }
    }
}

/* Beta(a, b). */
KD_RNG_FN double kd_rng_beta(kd_rng *r, double a, double b)
{
    const double x = kd_rng_gamma(r, a);
    const double y = kd_rng_gamma(r, b);
    return x / (x + y);
}

/* Element i of the permutation of [0, n) named by (seed, stream, item, epoch), without storing it: a 4-round Feistel
 * network on the next even power of two, walked until the image falls inside. */
KD_RNG_FN uint32_t kd_rng_permute(uint64_t seed, uint32_t stream, uint32_t item, uint32_t epoch, uint32_t n, uint32_t i)
{
    uint32_t half = 1;
    while (((uint64_t)1 << (2 * half)) < n) {
        half++;
    }
    const uint32_t mask = ((uint32_t)1 << half) - 1;
    do {
        uint32_t l = i >> half, r = i & mask;
        for (uint32_t round = 0; round < 4; round++) {
            const uint32_t f = kd_rng_at(seed, stream, item, epoch, ((uint64_t)(round + 1) << 32) | r) & mask;
            const uint32_t next = l ^ f;
            l = r;
            r = next;
        }
        i = (l << half) | r;
    } while (i >= n);
    return i;
}

#endif
