/* A device: memory, copies and a kernel table.  The only place where CPU and CUDA differ.
 *
 * Two backends exist: the CPU (kd_backend_cpu_open) and CUDA (kd_backend_cuda_open, when built in).  Kernel lookup is by
 * rank: rank 0 is the fastest candidate for (op, dtype), the last one is the plain reference; compile takes the first
 * whose prepare() does not answer KD_E_UNSUPPORTED.
 */
#ifndef KD_BACKEND_H
#define KD_BACKEND_H

#include "kernels/kd_op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_backend kd_backend;

typedef struct kd_backend_ops {
    const char *name; /* "cpu", "cuda" */
    kd_status (*alloc)(kd_backend *be, size_t bytes, void **out); /* 256-byte aligned, zeroed */
    void (*free)(kd_backend *be, void *p);
    kd_status (*upload)(kd_backend *be, void *dst, const void *src, size_t bytes);
    kd_status (*download)(kd_backend *be, void *dst, const void *src, size_t bytes);
    kd_status (*zero)(kd_backend *be, void *dst, size_t bytes);
    kd_status (*sync)(kd_backend *be);
    const kd_kernel_def *(*find)(kd_backend *be, kd_op op, kd_dtype act, int rank); /* NULL: no further candidate */
    kd_status (*capture_begin)(kd_backend *be);              /* NULL entries: capture is not offered */
    kd_status (*capture_end)(kd_backend *be, void **graph);
    kd_status (*replay)(kd_backend *be, void *graph);
    void (*close)(kd_backend *be);
} kd_backend_ops;

struct kd_backend {
    const kd_backend_ops *ops;
    void *stream;   /* passed to kernels */
    int threads;    /* CPU: worker threads */
    bool plain;     /* skip library and fast kernels: reference only (cross-check) */
};

/* threads 0: all cores this process may use. */
KD_NODISCARD kd_status kd_backend_cpu_open(int threads, kd_backend **out, kd_err *err);
/* KD_E_UNSUPPORTED when built without CUDA, KD_E_DEVICE when no GPU answers. */
KD_NODISCARD kd_status kd_backend_cuda_open(int device, kd_backend **out, kd_err *err);
void kd_backend_close(kd_backend *be);

/* Run one kernel by hand (tests, optimisers): best candidate, scratch and preparation made for this one call. */
KD_NODISCARD kd_status kd_backend_call(kd_backend *be, kd_op op, kd_dtype act, kd_call *c);

/* Cores this process may run on (affinity mask and cgroup quota). */
int kd_cores(void);

#ifdef __cplusplus
}
#endif
#endif
