#include "kernels/cuda/kd_cuda.cuh"
