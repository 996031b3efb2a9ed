/* Inside of the cuBLASLt kernels: one matrix product, prepared and run (cublaslt.c), for the ops of
 * cublaslt_linear.c. */
#ifndef KD_KERNELS_CUDA_LIBRARY_CUBLASLT_H
#define KD_KERNELS_CUDA_LIBRARY_CUBLASLT_H

#include "kernels/cuda/library/library.h"
#include "kernels/kd_ops.h"

#include <cublasLt.h>

/* D (m,n) = op(A) op(B), or added to D: column-major, and everything the algorithm depends on.  Compared as bytes:
 * start from memset.  The caller sets the first line and the epilogue, kd_lt_complete the rest. */
typedef struct kd_gemm {
    int64_t m, n, k, lda, ldb;
    int32_t ta, tb;   /* cublasOperation_t */
    int32_t epilogue; /* cublasLtEpilogue_t; its vector has the type of D */
    int32_t add;
    int32_t in, out; /* cudaDataType */
    int32_t compute;
    uint32_t align[4]; /* of A, B, D and the epilogue's vector: bytes, a power of two up to 256 */
    int32_t device, timed;
} kd_gemm;

typedef struct kd_lt_product { /* descriptors */
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
} kd_lt_product;

typedef struct kd_lt_prep { /* kd_call.prep */
    cublasLtHandle_t lt;
    kd_lt_product p;
    cublasLtMatmulAlgo_t algo;
    size_t workspace; /* at the start of the call's scratch */
    float ms;         /* as timed; 0: not timed */
    bool add, bgrad;
} kd_lt_prep;

/* Fill in types, alignments and the device; false: not for this library.  `vector` NULL: none, or one in scratch. */
bool kd_lt_complete(kd_gemm *g, kd_dtype in, kd_dtype out, const void *a, const void *b, const void *d,
                    const void *vector);
/* Make c->prep.  a and b are read while algorithms are timed, the outputs are not touched. */
KD_NODISCARD kd_status kd_lt_prepare(kd_call *c, const kd_gemm *g, const void *a, const void *b);
void kd_lt_release(kd_call *c);
KD_NODISCARD kd_status kd_lt_run(const kd_call *c, const void *a, const void *b, void *d);
/* The epilogue's vector: the bias read, or the bias gradient written. */
KD_NODISCARD kd_status kd_lt_set_vector(const kd_lt_prep *p, const void *vector);
/* Milliseconds of our own column sum of dy (rows, n), negative when it cannot be timed. */
float kd_lt_time_column_sum(int device, const kd_tensor *dy, int64_t n);

#endif
