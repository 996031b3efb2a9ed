/* A device: memory, copies and a kernel table.  The only place where CPU and CUDA differ.
 *
 * Two backends exist: the CPU (kd_backend_cpu_open) and CUDA (kd_backend_cuda_open, when built in).  Kernel lookup is
 * by rank: rank 0 is the fastest candidate for (op, dtype), the last one is the plain reference; compile takes the
 * first whose prepare() does not answer KD_E_UNSUPPORTED.
 */
#ifndef KD_KERNELS_KD_BACKEND_H
#define KD_KERNELS_KD_BACKEND_H

#include "kernels/kd_op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_backend kd_backend;

/* Everything a device does on its stream happens in call order; the host does not wait unless a line below says so. */
typedef struct kd_backend_ops {
    const char *name;                                             /* "cpu", "cuda" */
    kd_status (*alloc)(kd_backend *be, size_t bytes, void **out); /* 256-byte aligned, zeroed */
    void (*free)(kd_backend *be, void *p);
    kd_status (*upload)(kd_backend *be, void *dst, const void *src, size_t bytes); /* waits */
    /* For what comes again every step: src is free at return, the copy overlaps what the device still does, and after
     * the first steps no memory is allocated for it. */
    kd_status (*feed)(kd_backend *be, void *dst, const void *src, size_t bytes);
    kd_status (*download)(kd_backend *be, void *dst, const void *src, size_t bytes); /* waits */
    kd_status (*zero)(kd_backend *be, void *dst, size_t bytes);
    kd_status (*sync)(kd_backend *be); /* waits */

    /* Results on their way to the host while the device goes on: fetch() into memory of host_alloc(), mark(), and much
     * later reach(), which waits until all that was asked before the mark has happened.  Marks are numbered; the latest
     * KD_MARKS of them may be reached. */
    kd_status (*host_alloc)(kd_backend *be, size_t bytes, void **out); /* zeroed */
    void (*host_free)(kd_backend *be, void *p);
    kd_status (*fetch)(kd_backend *be, void *dst, const void *src, size_t bytes);
    kd_status (*mark)(kd_backend *be, uint64_t *mark);
    kd_status (*reach)(kd_backend *be, uint64_t mark);

    const kd_kernel_def *(*find)(kd_backend *be, kd_op op, kd_dtype act, int rank); /* NULL: no further candidate */

    /* A run of kernel calls and zero()s noted down once and repeated with one call.  NULL entries: not offered. */
    kd_status (*capture_begin)(kd_backend *be);
    kd_status (*capture_end)(kd_backend *be, void **graph); /* also ends a capture that failed; then *graph is NULL */
    kd_status (*replay)(kd_backend *be, void *graph);
    void (*graph_free)(kd_backend *be, void *graph);

    kd_status (*memory)(kd_backend *be, size_t *free_bytes, size_t *total_bytes); /* NULL: nobody knows (CPU) */
    void (*describe)(kd_backend *be, char *buf, size_t size);                     /* "NVIDIA H200, 139 GiB" */
    void (*close)(kd_backend *be);
} kd_backend_ops;

#define KD_MARKS 8

/* Neighbours in a graph that a backend has one kernel for (kd_fuse.c): it sets the bits that make its programs
 * faster. */
typedef enum kd_fusion {
    KD_FUSE_NORM = 1,       /* residual sum, drop path and the layernorm of the sum: add_layernorm */
    KD_FUSE_ACT = 2,        /* training: linear and its activation, and the gradients of the two */
    KD_FUSE_POOL = 4,       /* mean over tokens and the layernorm of the means: pool_layernorm */
    KD_FUSE_SEPARABLE = 8,  /* a depthwise convolution and the pointwise one behind it: conv_separable */
    KD_FUSE_BATCHNORM = 16, /* training: batch norm, what stands behind it, and its running statistics */
    KD_FUSE_SUM = 32        /* training: a gradient and the sum it goes into: its operand `plus` */
} kd_fusion;

struct kd_backend {
    const kd_backend_ops *ops;
    void *stream;   /* passed to kernels */
    int threads;    /* CPU: worker threads */
    bool plain;     /* skip library and fast kernels: reference only (cross-check) */
    bool no_graph;  /* do not capture: every call goes out by itself */
    uint32_t fuses; /* kd_fusion bits */
};

/* threads 0: all cores this process may use. */
KD_NODISCARD kd_status kd_backend_cpu_open(int threads, kd_backend **out, kd_err *err);
typedef struct kd_cuda_opts {
    int device;
    bool deterministic; /* library kernels by rule instead of by stopwatch: the same bits in every process */
} kd_cuda_opts;
/* KD_E_UNSUPPORTED when built without CUDA, KD_E_DEVICE when no GPU answers.  opts NULL: device 0, nothing special. */
KD_NODISCARD kd_status kd_backend_cuda_open(const kd_cuda_opts *opts, kd_backend **out, kd_err *err);
void kd_backend_close(kd_backend *be);

/* One kernel call outside a program, made ready once and run many times: best candidate, preparation, scratch. */
typedef struct kd_bound {
    kd_backend *be;
    const kd_kernel_def *def;
    kd_call call;
    kd_tensor operand[KD_MAX_IN + KD_MAX_OUT];
} kd_bound;

/* `c` names operands and attr; operands are copied, attr must outlive the bound call.  *b may not be moved or copied
 * afterwards. */
KD_NODISCARD kd_status kd_bind(kd_backend *be, kd_op op, kd_dtype act, const kd_call *c, kd_bound *b);
KD_NODISCARD kd_status kd_bound_run(const kd_bound *b);
void kd_bound_free(kd_bound *b); /* zeroed or freed already: nothing */

/* Bind, run, wait, free. */
KD_NODISCARD kd_status kd_backend_call(kd_backend *be, kd_op op, kd_dtype act, const kd_call *c);

/* Captures what `body` asks of the device the second time it runs and repeats it from then on. */
typedef struct kd_recorded {
    void *graph;
    int runs;
} kd_recorded;
KD_NODISCARD kd_status kd_recorded_run(kd_backend *be, kd_recorded *r, kd_status (*body)(void *user), void *user);
void kd_recorded_drop(kd_backend *be, kd_recorded *r); /* what was captured is out of date */

/* Cores this process may run on (affinity mask and cgroup quota). */
int kd_cores(void);

#ifdef __cplusplus
}
#endif
#endif
