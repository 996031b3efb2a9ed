/* The fused nodes after a batch norm's affine map (kd_ops.h, batchnorm), one pack at a time:
 *   y = act_out(path(drop(act(z))) + residual), z = (x - mean) a + b
 * Backward computes masks and z again; nothing is stored for it. */
#ifndef KD_KERNELS_CUDA_DEVICE_BN_TAIL_CUH
#define KD_KERNELS_CUDA_DEVICE_BN_TAIL_CUH

#include "kernels/cuda/device/dropout.cuh"

/* ---- activations of a pack: one switch per pack --------------------------------------- */

template <int KIND, int N> static __device__ __forceinline__ void bn_act_as(float *v)
{
#pragma unroll
    for (int j = 0; j < N; j++) {
        v[j] = kd_act(KIND, v[j]);
    }
}
template <int N> static __device__ __forceinline__ void bn_act(int kind, float *v)
{
    switch (kind) {
    case KD_ACT_RELU:
        return bn_act_as<KD_ACT_RELU, N>(v);
    case KD_ACT_GELU:
        return bn_act_as<KD_ACT_GELU, N>(v);
    case KD_ACT_HARDSWISH:
        return bn_act_as<KD_ACT_HARDSWISH, N>(v);
    case KD_ACT_SILU:
        return bn_act_as<KD_ACT_SILU, N>(v);
    case KD_ACT_SIGMOID:
        return bn_act_as<KD_ACT_SIGMOID, N>(v);
    default:
        return;
    }
}

/* g times act'(x). */
template <int KIND, int N> static __device__ __forceinline__ void bn_act_grad_as(const float *x, float *g)
{
#pragma unroll
    for (int j = 0; j < N; j++) {
        g[j] = kd_act_grad(KIND, x[j], g[j]);
    }
}
template <int N> static __device__ __forceinline__ void bn_act_grad(int kind, const float *x, float *g)
{
    switch (kind) {
    case KD_ACT_RELU:
        return bn_act_grad_as<KD_ACT_RELU, N>(x, g);
    case KD_ACT_GELU:
        return bn_act_grad_as<KD_ACT_GELU, N>(x, g);
    case KD_ACT_HARDSWISH:
        return bn_act_grad_as<KD_ACT_HARDSWISH, N>(x, g);
    case KD_ACT_SILU:
        return bn_act_grad_as<KD_ACT_SILU, N>(x, g);
    case KD_ACT_SIGMOID:
        return bn_act_grad_as<KD_ACT_SIGMOID, N>(x, g);
    default:
        return;
    }
}

/* ---- the tail -------------------------------------------------------------------------------- */

template <typename T> struct bn_tail {
    const T *residual;
    const kd_step *step;
    int act, act_out;
    float p, path_p;
    uint32_t item, path_item;

    bool any() const
    {
        return residual != nullptr || act != KD_ACT_NONE || act_out != KD_ACT_NONE || p > 0.0f || path_p > 0.0f;
    }

    /* Both masks for the pack at `at`, of sample `row`. */
    template <int N> __device__ __forceinline__ kd_mask mask(int64_t row, int64_t at) const
    {
        kd_mask m = {~0u, 1.0f};
        if (p > 0.0f) {
            m = kd_drop_elements<N>(step, item, p, at);
        }
        if (path_p > 0.0f) {
            const kd_mask path = kd_drop_row(step, path_item, path_p, row);
            m.kept &= path.kept;
            m.up *= path.up;
        }
        return m;
    }

    /* In: v = z.  Out: v = y. */
    template <int N> __device__ __forceinline__ void forward(float *v, int64_t row, int64_t at) const
    {
        float r[N];
        rest<N>(r, at);
        to_sum<N>(v, mask<N>(row, at), r);
        bn_act<N>(act_out, v);
    }

    /* In: g = dy.  Out: g = dz.  v is z.  dres receives dresidual unless null. */
    template <int N>
    __device__ __forceinline__ void backward(const float *z, float *g, int64_t row, int64_t at, T *dres) const
    {
        const kd_mask m = mask<N>(row, at);
        if (act_out != KD_ACT_NONE) {
            float sum[N], r[N];
            rest<N>(r, at);
#pragma unroll
            for (int j = 0; j < N; j++) {
                sum[j] = z[j];
            }
            to_sum<N>(sum, m, r);
            bn_act_grad<N>(act_out, sum, g);
            if (dres != nullptr) {
                st_pack<N>(dres, at, g);
            }
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            g[j] = m.of(j, g[j]);
        }
        bn_act_grad<N>(act, z, g);
    }

  private:
    /* Forward asks for it before the masks are made, which take as long as it does to come; backward after them, for
     * registers. */
    template <int N> __device__ __forceinline__ void rest(float *r, int64_t at) const
    {
        if (residual != nullptr) {
            ld_pack<N>(r, residual, at);
        }
    }

    /* In: v = z.  Out: v = the argument of act_out. */
    template <int N> __device__ __forceinline__ void to_sum(float *v, const kd_mask &m, const float *r) const
    {
        bn_act<N>(act, v);
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = m.of(j, v[j]);
            v[j] = residual != nullptr ? v[j] + r[j] : v[j];
        }
    }
};

template <typename T> static bn_tail<T> bn_tail_of(const kd_call *c, int residual)
{
    const kd_batchnorm_attr *at = static_cast<const kd_batchnorm_attr *>(c->attr);
    return {kd_in<T>(c, residual), c->step, at->act, at->act_out, at->p, at->path_p, at->rng_id, at->path_rng_id};
}

#endif
