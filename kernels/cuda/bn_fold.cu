/* bn_fold: W' = W gamma / sqrt(rv + eps) per output channel, b' = (b - rm) gamma / sqrt(rv + eps) + beta. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int BLOCK = 256;

struct fold_args {
    const float *b, *gamma, *beta, *rm, *rv; /* b: may be null */
    float eps;
};

/* A block an output channel. */
template <typename T>
static __global__ __launch_bounds__(BLOCK) void fold(const T *w, T *wf, float *bf, int64_t row, fold_args a)
{
    const int64_t o = blockIdx.x;
    const float s = a.gamma[o] / sqrtf(a.rv[o] + a.eps);
    for (int64_t i = threadIdx.x; wf != nullptr && i < row; i += BLOCK) {
        st(wf, o * row + i, ld(w, o * row + i) * s);
    }
    if (threadIdx.x == 0 && bf != nullptr) {
        bf[o] = ((a.b != nullptr ? a.b[o] : 0.0f) - a.rm[o]) * s + a.beta[o];
    }
}

template <typename T> static kd_status bn_fold_run(const kd_call *c)
{
    const kd_batchnorm_attr *at = static_cast<const kd_batchnorm_attr *>(c->attr);
    const int64_t co = c->in[0].shape.dim[0], row = kd_shape_span(&c->in[0].shape, 1, c->in[0].shape.rank);
    const fold_args a = {kd_in<float>(c, 1), kd_in<float>(c, 2), kd_in<float>(c, 3),
                         kd_in<float>(c, 4), kd_in<float>(c, 5), at->eps};
    if (co > 0) {
        KD_LAUNCH((fold<T>), dim3((unsigned)co), dim3(BLOCK), c, kd_in<T>(c, 0), kd_out<T>(c, 0), kd_out<float>(c, 1),
                  row, a);
    }
    return kd_launched();
}
KD_CUDA_OP(bn_fold)
