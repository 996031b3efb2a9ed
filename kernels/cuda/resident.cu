/* take_rows, skeleton_streams: batches out of tables that stay on the card.  Tables and streams are f32 whatever the
 * program's dtype is, so the three slots of an op are one kernel. */
#include "kernels/cuda/device/kd_cuda.cuh"
#include "kernels/kd_skeleton.h"

constexpr int COPY = 256;
constexpr int FRAME = 160; /* threads of a frame: 150 numbers are 25 joints of two bodies */

template <int N>
static __global__ void copy_rows(const float *table, const int32_t *idx, float *y, int64_t samples, int64_t rows,
                                 int64_t row)
{
    for (KD_EACH(k, rows * row / N)) {
        const int64_t i = k * N, b = kd_div(i, row), s = idx[b];
        float v[N] = {};
        if (s >= 0 && s < samples) {
            ld_pack<N>(v, table, s * row + (i - b * row));
        }
        st_pack<N>(y, i, v);
    }
}

template <typename T> static kd_status take_rows_run(const kd_call *c)
{
    const int64_t rows = c->in[1].shape.dim[0], n = numel(&c->out[0]), row = rows > 0 ? n / rows : 0;
    float *y = kd_out<float>(c, 0);
    if (y == nullptr || n == 0) {
        return KD_OK;
    }
    if (row % 4 == 0) {
        KD_LAUNCH((copy_rows<4>), dim3(kd_grid(n / 4, COPY)), dim3(COPY), c, kd_in<float>(c, 0), kd_in<int32_t>(c, 1),
                  y, c->in[0].shape.dim[0], rows, row);
    } else {
        KD_LAUNCH((copy_rows<1>), dim3(kd_grid(n, COPY)), dim3(COPY), c, kd_in<float>(c, 0), kd_in<int32_t>(c, 1), y,
                  c->in[0].shape.dim[0], rows, row);
    }
    return kd_launched();
}
KD_CUDA_OP(take_rows)

struct skel_outputs {
    float *y[KD_SKEL_STREAMS];
};

static __device__ kd_skel_draw draw_of(const float *r, const int32_t *i)
{
    const uint64_t seed = (uint64_t)(uint32_t)i[KD_SKEL_SEED_HIGH] << 32 | (uint32_t)i[KD_SKEL_SEED_LOW];
    kd_skel_draw d;
    d.cs = r[0];
    d.sn = r[1];
    d.scale = r[2];
    d.shear = r[3];
    d.flags = (uint32_t)i[KD_SKEL_FLAGS];
    d.speed_frames = i[KD_SKEL_SPEED_FRAMES];
    d.speed_start = i[KD_SKEL_SPEED_START];
    d.masked = (uint64_t)(uint32_t)i[KD_SKEL_MASKED_HIGH] << 32 | (uint32_t)i[KD_SKEL_MASKED_LOW];
    d.noise = kd_rng_make(seed, KD_RNG_SAMPLE, (uint32_t)i[KD_SKEL_ITEM], (uint32_t)i[KD_SKEL_EPOCH]);
    return d;
}

/* A block a frame of a sample: the frame shown and the one after it go to shared memory, then every thread makes its
 * numbers of all streams. */
static __global__ void stream_frames(kd_skel_form f, kd_skeleton_streams_attr a, const float *table, const int32_t *idx,
                                     const float *draw, const int32_t *idraw, int64_t samples, skel_outputs out)
{
    KD_SHARED(float, now, KD_SKEL_FRAME);
    KD_SHARED(float, next, KD_SKEL_FRAME);
    KD_SHARED(int, there, KD_SKELETON_MAX_BODIES);
    KD_SHARED(kd_skeleton_streams_attr, rule, 1); /* indexed by joint: an argument would go to local memory */
    const int64_t b = kd_div((int64_t)blockIdx.x, f.frames), s = idx[b];
    const int t = (int)((int64_t)blockIdx.x - b * f.frames), plane = f.joints * f.bodies, n = 3 * plane;
    const bool have = s >= 0 && s < samples;
    const kd_skel_draw d = draw_of(draw + b * KD_SKEL_DRAW, idraw + b * KD_SKEL_IDRAW);
    const int from = kd_skel_source(&f, &d, t);
    if (threadIdx.x < KD_SKELETON_MAX_BODIES) {
        there[threadIdx.x] = 0;
    }
    if (threadIdx.x == 0) {
        rule[0] = a;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < 2 * plane && have; i += FRAME) {
        const int ahead = i >= plane ? 1 : 0, j = i - ahead * plane, v = j / f.bodies, m = j - v * f.bodies;
        const int at = from + ahead < f.frames ? from + ahead : from;
        float p[3];
        kd_skel_point(&f, rule, &d, table + s * n * f.frames, at, v, m, p);
        float *to = (ahead != 0 ? next : now) + j;
        to[0] = p[0];
        to[plane] = p[1];
        to[2 * plane] = p[2];
        if (ahead == 0 && (p[0] != 0.0f || p[1] != 0.0f || p[2] != 0.0f)) {
            atomicMax(&there[m], 1);
        }
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += FRAME) {
        const int c = i / plane, j = i - c * plane, v = j / f.bodies, m = j - v * f.bodies;
        const int64_t at = ((b * 3 + c) * f.frames + t) * plane + j;
#pragma unroll
        for (int stream = 0; stream < KD_SKEL_STREAMS; stream++) {
            if (out.y[stream] != nullptr) {
                out.y[stream][at] = have ? kd_skel_value(&f, rule, &d, stream, now, next, from + 1 >= f.frames,
                                                         there[m] != 0, t, c, v, m)
                                         : 0.0f;
            }
        }
    }
}

template <typename T> static kd_status skeleton_streams_run(const kd_call *c)
{
    const int64_t *dim = c->in[0].shape.dim, rows = c->in[1].shape.dim[0];
    const kd_skel_form f = {(int)dim[2], (int)dim[3], (int)dim[4]};
    const skel_outputs out = {{kd_out<float>(c, 0), kd_out<float>(c, 1), kd_out<float>(c, 2), kd_out<float>(c, 3)}};
    if (rows > 0 && (out.y[0] != nullptr || out.y[1] != nullptr || out.y[2] != nullptr || out.y[3] != nullptr)) {
        KD_LAUNCH((stream_frames), dim3((unsigned)(rows * dim[2])), dim3(FRAME), c, f,
                  *static_cast<const kd_skeleton_streams_attr *>(c->attr), kd_in<float>(c, 0), kd_in<int32_t>(c, 1),
                  kd_in<float>(c, 2), kd_in<int32_t>(c, 3), dim[0], out);
    }
    return kd_launched();
}
KD_CUDA_OP(skeleton_streams)
