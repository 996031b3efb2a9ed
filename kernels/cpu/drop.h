/* Dropout of a piece of a tensor: the numbers of the `dropout` op, a Philox block for four neighbours. */
#ifndef KD_KERNELS_CPU_DROP_H
#define KD_KERNELS_CPU_DROP_H

#include "kernels/cpu/kd_real.h"
#include "kernels/kd_rng.h"

static inline kd_philox kd_drop_block(const kd_step *step, uint32_t rng_id, uint64_t pos)
{
    return kd_philox_block(step->seed, (uint32_t)(pos >> 2), rng_id, (uint32_t)step->step,
                           (uint32_t)KD_RNG_DROPOUT | ((uint32_t)(pos >> 34) << 8));
}

/* x[0..n) *= mask / (1-p) for elements i.. . */
static inline void kd_drop_elements(const kd_step *step, float p, uint32_t rng_id, int64_t i, real *x, int64_t n)
{
    const real up = R(1.0) / (R(1.0) - (real)p);
    int64_t j = 0;
    if ((i & 3) != 0) { /* the end of a block */
        const kd_philox b = kd_drop_block(step, rng_id, (uint64_t)i);
        for (int64_t l = i & 3; l < 4 && j < n; l++, j++) {
            x[j] = kd_rng_unit(b.v[l]) >= p ? x[j] * up : R(0.0);
        }
    }
    for (; j < n; j += 4) {
        const kd_philox b = kd_drop_block(step, rng_id, (uint64_t)(i + j));
        for (int64_t l = 0; l < 4 && j + l < n; l++) {
            x[j + l] = kd_rng_unit(b.v[l]) >= p ? x[j + l] * up : R(0.0);
        }
    }
}

/* The factor of row r: 0 or 1 / (1-p).  A dropped NaN is dropped: kd_drop_by. */
static inline real kd_drop_row(const kd_step *step, float p, uint32_t rng_id, int64_t r)
{
    const float u = kd_rng_unit(kd_rng_at(step->seed, KD_RNG_DROPOUT, rng_id, (uint32_t)step->step, (uint64_t)r));
    return u >= p ? R(1.0) / (R(1.0) - (real)p) : R(0.0);
}

static inline void kd_drop_by(real factor, real *x, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        x[j] = factor != R(0.0) ? x[j] * factor : R(0.0);
    }
}

#endif
