/* match_loss: kernels/op/match.h by the threads of one block. */
#include "kernels/cuda/device/kd_cuda.cuh"

#define KD_MATCH_REAL       float
#define KD_MATCH_FN         static __device__ inline
#define KD_MATCH_EACH(i, n) for (int64_t i = (int64_t)threadIdx.x; i < (n); i += (int64_t)blockDim.x)
#define KD_MATCH_SYNC()     __syncthreads()
#include "kernels/op/match.h"

constexpr int BLOCK = 512;

static size_t match_loss_scratch(const kd_call *c)
{
    const kd_match_loss_attr *at = static_cast<const kd_match_loss_attr *>(c->attr);
    const kd_shape *a = &c->in[0].shape, *b = &c->in[1].shape;
    return kd_match_work(at->kind, a->dim[0], a->dim[1], b->dim[0]) * sizeof(double);
}

static __global__ void match_batch(kd_match m, float *loss, bool add)
{
    const double value = kd_match_run(&m);
    if (threadIdx.x == 0 && loss != nullptr) {
        put(loss, 0, (float)value, add);
    }
}

template <typename T> static kd_status match_loss_run(const kd_call *c)
{
    kd_match m = {};
    m.at = *static_cast<const kd_match_loss_attr *>(c->attr);
    m.B = c->in[0].shape.dim[0];
    m.K = c->in[0].shape.dim[1];
    m.P = c->in[1].shape.dim[1];
    m.C = c->in[1].shape.dim[0];
    m.a = kd_in<float>(c, 0);
    m.b = kd_in<float>(c, 1);
    m.target = kd_in<float>(c, 2);
    m.valid = kd_in<float>(c, 3);
    m.grad = kd_out<float>(c, 1);
    m.work = static_cast<double *>(c->scratch);
    KD_LAUNCH(match_batch, dim3(1), dim3(BLOCK), c, m, kd_out<float>(c, 0), kd_adds(c, 0));
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(match_loss, match_loss_scratch)

static __global__ void match_gradient(const float *dloss, const float *grad, int64_t n, float *da, bool add)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        put(da, i, dloss[0] * grad[i], add);
    }
}

template <typename T> static kd_status match_loss_bwd_run(const kd_call *c)
{
    const int64_t n = c->in[1].shape.dim[0] * c->in[1].shape.dim[1];
    if (n > 0) {
        KD_LAUNCH(match_gradient, dim3((unsigned)kd_div_up(n, BLOCK)), dim3(BLOCK), c, kd_in<float>(c, 0),
                  kd_in<float>(c, 1), n, kd_out<float>(c, 0), kd_adds(c, 0));
    }
    return kd_launched();
}
KD_CUDA_OP(match_loss_bwd)
