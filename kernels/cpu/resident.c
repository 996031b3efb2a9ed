/* take_rows, skeleton_streams. */
#include "kernels/cpu/kd_real.h"

#ifdef KD_REAL_F64
#    define KD_SKELETON_F64
#endif
#include "kernels/kd_skeleton.h"

static kd_status take_rows_run(const kd_call *c)
{
    const int64_t S = c->in[0].shape.dim[0], B = c->in[1].shape.dim[0], n = numel(&c->out[0]), row = B > 0 ? n / B : 0;
    const real *table = c->in[0].data;
    const int32_t *idx = c->in[1].data;
    real *y = c->out[0].data;
    if (y == NULL || n == 0) {
        return KD_OK;
    }
    KD_FOR
    for (int64_t b = 0; b < B; b++) {
        if (idx[b] >= 0 && idx[b] < S) {
            memcpy(y + b * row, table + idx[b] * row, (size_t)row * sizeof *y);
        } else {
            memset(y + b * row, 0, (size_t)row * sizeof *y);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(take_rows) = {.run = take_rows_run};

static kd_skel_draw draw_of(const kd_call *c, int64_t b)
{
    const real *r = (const real *)c->in[2].data + b * KD_SKEL_DRAW;
    const int32_t *i = (const int32_t *)c->in[3].data + b * KD_SKEL_IDRAW;
    const uint64_t seed = (uint64_t)(uint32_t)i[KD_SKEL_SEED_HIGH] << 32 | (uint32_t)i[KD_SKEL_SEED_LOW];
    return (kd_skel_draw){.cs = r[0],
                          .sn = r[1],
                          .scale = r[2],
                          .shear = r[3],
                          .flags = (uint32_t)i[KD_SKEL_FLAGS],
                          .speed_frames = i[KD_SKEL_SPEED_FRAMES],
                          .speed_start = i[KD_SKEL_SPEED_START],
                          .masked = (uint64_t)(uint32_t)i[KD_SKEL_MASKED_HIGH] << 32 | (uint32_t)i[KD_SKEL_MASKED_LOW],
                          .noise =
                              kd_rng_make(seed, KD_RNG_SAMPLE, (uint32_t)i[KD_SKEL_ITEM], (uint32_t)i[KD_SKEL_EPOCH])};
}

static kd_status skeleton_streams_run(const kd_call *c)
{
    const int64_t *d = c->in[0].shape.dim, B = c->in[1].shape.dim[0], row = 3 * d[2] * d[3] * d[4];
    const kd_skel_form f = {(int)d[2], (int)d[3], (int)d[4]};
    const int32_t *idx = c->in[1].data;
    KD_FOR
    for (int64_t b = 0; b < B; b++) {
        real *y[KD_SKEL_STREAMS];
        for (int s = 0; s < KD_SKEL_STREAMS; s++) {
            y[s] = c->out[s].data != NULL ? (real *)c->out[s].data + b * row : NULL;
            if (y[s] != NULL && (idx[b] < 0 || idx[b] >= d[0])) {
                memset(y[s], 0, (size_t)row * sizeof(real));
            }
        }
        if (idx[b] >= 0 && idx[b] < d[0]) {
            const kd_skel_draw draw = draw_of(c, b);
            const real *x = (const real *)c->in[0].data + idx[b] * row;
#ifdef KD_REAL_F64
            kd_skel_streams_of(&f, c->attr, &draw, x, y);
#else
            kd_skel_streams(&f, c->attr, &draw, x, y);
#endif
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(skeleton_streams) = {.run = skeleton_streams_run};
