/* The gradient shared by st_gate and stc_gate, whose gates are a product of one factor per frame, per joint and per
 * channel.  The kernel reads dy and x once; the struct G of each op stores the sums of a plane.  gates.cu launches it.
 * */
#ifndef KD_KERNELS_CUDA_DEVICE_GATE_BACK_CUH
#define KD_KERNELS_CUDA_DEVICE_GATE_BACK_CUH

#include "kernels/cuda/device/planes.cuh"

/* ---- sums of partial sums -------------------------------------------------------------------- */

constexpr int SUM_THREADS = 512, SUM_COLUMNS = 32; /* a block: 32 columns x 16 rows at a time */

/* Sum of one column of part (rows, cols): column x % 32 of the block; valid in the first 32 threads.  All threads must
 * call. */
static __device__ float column_sum(const float *part, int64_t rows, int64_t cols, int64_t col)
{
    KD_SHARED(float, line_sums, SUM_THREADS);
    const int t = (int)threadIdx.x;
    float sum = 0.0f;
    for (int64_t r = t / SUM_COLUMNS; col < cols && r < rows; r += SUM_THREADS / SUM_COLUMNS) {
        sum += part[r * cols + col];
    }
    line_sums[t] = sum;
    __syncthreads();
    for (int l = 1; t < SUM_COLUMNS && l < SUM_THREADS / SUM_COLUMNS; l++) {
        sum += line_sums[t + l * SUM_COLUMNS];
    }
    return sum;
}

/* Gradient of a gate that passes through a sigmoid: sum of part (n) times sigmoid'(gate).  One block. */
static __device__ void gate_gradient(const float *part, int64_t n, const float *gate, float *dgate, bool add)
{
    float sum = 0.0f;
    for (int64_t i = (int64_t)threadIdx.x; i < n; i += blockDim.x) {
        sum += part[i];
    }
    sum = kd_block_sum(sum);
    if (threadIdx.x == 0) {
        const float s = kd_sigmoid(gate[0]);
        put(dgate, 0, sum * s * (1.0f - s), add);
    }
}

/* ---- the kernel ------------------------------------------------------------------------------ */

/* y = x + a (x time[f] joint[v] channel - x).  G loads the factors and stores the plane's sums:
 *   weight(plane) a; time(plane, f); joint(plane, v); channel(plane)
 *   put_time(plane, f, sum_v dy x joint); put_joint(plane, v, sum_f dy x time); put_plane(plane, sum dy x time joint,
 *   sum dy x) */
template <typename T, int W, typename G>
static __global__ void gate_back(const T *dy, const T *x, T *dx, G gate, kd_planes p)
{
    KD_SHARED(float, gx, KD_TILE);
    KD_SHARED(float, joint, KD_MAX_JOINTS);
    KD_SHARED(float, djoint, KD_MAX_JOINTS);
    const kd_plane here = kd_plane_here(p);
    const int tid = (int)threadIdx.x, threads = (int)blockDim.x;
    const float a = gate.weight(here), ac = a * gate.channel(here);
    for (int v = tid; v < p.V; v += threads) {
        joint[v] = gate.joint(here, v);
        djoint[v] = 0.0f;
    }
    __syncthreads();
    const int step = kd_tile_frames(p.V);
    float gated = 0.0f, plain = 0.0f;
    for (int from = 0; from < p.T; from += step) {
        const int frames = p.T - from < step ? p.T - from : step;
        const int64_t base = here.it * p.L + (int64_t)from * p.V;
        for (int j = tid * W; j < frames * p.V; j += threads * W) {
            float d[W], u[W];
            int f = j / p.V, v = j - f * p.V;
            ld_pack<W>(d, dy, base + j);
            ld_pack<W>(u, x, base + j);
#pragma unroll
            for (int k = 0; k < W; k++) {
                gx[j + k] = d[k] * u[k];
                d[k] *= 1.0f - a + ac * gate.time(here, from + f) * joint[v];
                if (++v == p.V) {
                    v = 0;
                    f++;
                }
            }
            if (dx != nullptr) {
                st_pack<W>(dx, base + j, d);
            }
        }
        __syncthreads();
        for (int q = tid; q < frames + p.V; q += threads) { /* a frame or a joint a thread */
            if (q < frames) {
                float dot = 0.0f;
                for (int v = 0; v < p.V; v++) {
                    dot += gx[q * p.V + v] * joint[v];
                    plain += gx[q * p.V + v];
                }
                gated += dot * gate.time(here, from + q);
                gate.put_time(here, from + q, dot);
            } else {
                float sum = djoint[q - frames];
                for (int f = 0; f < frames; f++) {
                    sum += gx[f * p.V + q - frames] * gate.time(here, from + f);
                }
                djoint[q - frames] = sum;
            }
        }
        __syncthreads();
    }
    gated = kd_block_sum(gated);
    plain = kd_block_sum(plain);
    if (tid == 0) {
        gate.put_plane(here, gated, plain);
    }
    for (int v = tid; v < p.V; v += threads) {
        gate.put_joint(here, v, djoint[v]);
    }
}

template <typename T, typename G> static void launch_gate_back(const kd_call *c, const kd_planes &p, const G &gate)
{
    constexpr int W = kd_width<T>::value;
    const T *dy = kd_in<T>(c, 0), *x = kd_in<T>(c, 1);
    T *dx = kd_out<T>(c, 0);
    if (p.L % W == 0) {
        KD_LAUNCH((gate_back<T, W, G>), kd_plane_grid(p), kd_plane_block(p.L / W), c, dy, x, dx, gate, p);
    } else {
        KD_LAUNCH((gate_back<T, 1, G>), kd_plane_grid(p), kd_plane_block(p.L), c, dy, x, dx, gate, p);
    }
}

/* ---- st_gate --------------------------------------------------------------------------------- */

template <typename T> struct st_gate_sums {
    const T *at, *av;
    const float *alpha;
    T *dat, *dav;
    float *part; /* (N,C) */
    int frames, joints;
    __device__ float weight(const kd_plane &here) const
    {
        return alpha[here.c];
    }
    __device__ float time(const kd_plane &here, int f) const
    {
        return ld(at, here.it * frames + f);
    }
    __device__ float joint(const kd_plane &here, int v) const
    {
        return ld(av, here.it * joints + v);
    }
    __device__ float channel(const kd_plane &) const
    {
        return 1.0f;
    }
    __device__ void put_time(const kd_plane &here, int f, float sum) const
    {
        if (dat != nullptr) {
            st(dat, here.it * frames + f, alpha[here.c] * sum);
        }
    }
    __device__ void put_joint(const kd_plane &here, int v, float sum) const
    {
        if (dav != nullptr) {
            st(dav, here.it * joints + v, alpha[here.c] * sum);
        }
    }
    __device__ void put_plane(const kd_plane &here, float gated, float plain) const
    {
        part[here.it] = gated - plain;
    }
};

/* ---- stc_gate -------------------------------------------------------------------------------- */

/* The factors of both directions; av and ac may be absent. */
template <typename T> struct stc_factors {
    const T *at, *av, *ac;
    const float *gate;
    int frames, joints;
    __device__ float weight(const kd_plane &) const
    {
        return kd_sigmoid(gate[0]);
    }
    __device__ float time(const kd_plane &here, int f) const
    {
        return ld(at, here.n * frames + f);
    }
    __device__ float joint(const kd_plane &here, int v) const
    {
        return av != nullptr ? ld(av, here.n * joints + v) : 1.0f;
    }
    __device__ float channel(const kd_plane &here) const
    {
        return ac != nullptr ? ld(ac, here.it) : 1.0f;
    }
};

/* Partial sums of a plane: part (N,C,T+V) for the factors of frames and joints, part_gate (N,C). */
template <typename T> struct stc_gate_sums : stc_factors<T> {
    T *dac;
    float *part, *part_gate;
    __device__ void put_time(const kd_plane &here, int f, float sum) const
    {
        part[here.it * (this->frames + this->joints) + f] = sum * this->channel(here);
    }
    __device__ void put_joint(const kd_plane &here, int v, float sum) const
    {
        part[here.it * (this->frames + this->joints) + this->frames + v] = sum * this->channel(here);
    }
    __device__ void put_plane(const kd_plane &here, float gated, float plain) const
    {
        part_gate[here.it] = gated * this->channel(here) - plain;
        if (dac != nullptr) {
            st(dac, here.it, this->weight(here) * gated);
        }
    }
};

/* Sums over the channels of a sample, 32 columns of (T+V) a block; the last block sums all planes for the gate. */
template <typename T>
static __global__ void stc_gate_finish(const float *part, const float *part_gate, const float *gate, T *dat, T *dav,
                                       float *dgate, bool add, kd_planes p)
{
    const int cols = p.T + p.V, tiles = (int)kd_div_up(cols, SUM_COLUMNS);
    if (blockIdx.x == gridDim.x - 1) {
        if (dgate != nullptr) {
            gate_gradient(part_gate, p.n * p.C, gate, dgate, add);
        }
        return;
    }
    const int64_t n = (int64_t)blockIdx.x / tiles;
    const int col = (int)((int64_t)blockIdx.x % tiles) * SUM_COLUMNS + (int)threadIdx.x % SUM_COLUMNS;
    const float sum = kd_sigmoid(gate[0]) * column_sum(part + n * p.C * cols, p.C, cols, col);
    if (threadIdx.x >= SUM_COLUMNS || col >= cols) {
        return;
    }
    if (col < p.T && dat != nullptr) {
        st(dat, n * p.T + col, sum);
    }
    if (col >= p.T && dav != nullptr) {
        st(dav, n * p.V + col - p.T, sum);
    }
}

#endif
