/* What a build without CUDA answers. */
#include "kernels/kd_backend.h"

kd_status kd_backend_cuda_open(int device, kd_backend **out, kd_err *err)
{
    (void)device;
    *out = NULL;
    return KD_FAIL(err, KD_E_UNSUPPORTED, "device cuda: this build has no CUDA; use --device cpu");
}
