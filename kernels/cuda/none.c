/* The CUDA backend of a build without CUDA: opening it is refused. */
#include "kernels/kd_backend.h"

kd_status kd_backend_cuda_open(const kd_cuda_opts *opts, kd_backend **out, kd_err *err)
{
    (void)opts;
    *out = NULL;
    return KD_FAIL(err, KD_E_UNSUPPORTED, "device cuda: this build has no CUDA; use --device cpu");
}
