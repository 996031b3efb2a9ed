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

/* Calls take effect on the device's stream in call order.  The host waits only where a line says so. */
typedef struct kd_backend_ops {
    const char *name;                                             /* "cpu", "cuda" */
    kd_status (*alloc)(kd_backend *be, size_t bytes, void **out); /* 256-byte aligned, zeroed */
    void (*free)(kd_backend *be, void *p);
    kd_status (*upload)(kd_backend *be, void *dst, const void *src, size_t bytes); /* waits */
    /* Upload that may overlap compute.  src may be reused on return.  After the first steps it allocates nothing. */
    kd_status (*feed)(kd_backend *be, void *dst, const void *src, size_t bytes);
    kd_status (*download)(kd_backend *be, void *dst, const void *src, size_t bytes); /* waits */
    kd_status (*zero)(kd_backend *be, void *dst, size_t bytes);
    kd_status (*sync)(kd_backend *be); /* waits */

    /* Downloads that overlap compute: fetch() copies into memory of host_alloc() and returns at once; mark() numbers
     * this point of the stream; reach() waits until everything before the mark has happened.  Only the latest KD_MARKS
     * marks may be reached. */
    kd_status (*host_alloc)(kd_backend *be, size_t bytes, void **out); /* zeroed */
    void (*host_free)(kd_backend *be, void *p);
    kd_status (*fetch)(kd_backend *be, void *dst, const void *src, size_t bytes);
    kd_status (*mark)(kd_backend *be, uint64_t *mark);
    kd_status (*reach)(kd_backend *be, uint64_t mark);

    const kd_kernel_def *(*find)(kd_backend *be, kd_op op, kd_dtype act, int rank); /* NULL: no further candidate */

    /* Record kernel calls and zero()s once, repeat them with one call.  NULL entries: not offered. */
    kd_status (*capture_begin)(kd_backend *be);
    kd_status (*capture_end)(kd_backend *be, void **graph); /* also ends a capture that failed; then *graph is NULL */
    kd_status (*replay)(kd_backend *be, void *graph);
    void (*graph_free)(kd_backend *be, void *graph);

    kd_status (*memory)(kd_backend *be, size_t *free_bytes, size_t *total_bytes); /* NULL: not known (CPU) */
    /* The contents of an allocation are not needed any more: its memory goes back to the system until the next write.
     * What is read before that is zero.  NULL: not offered. */
    void (*rest)(kd_backend *be, void *p, size_t bytes);
    bool host;                                                /* what it allocates is the host's own memory */
    void (*describe)(kd_backend *be, char *buf, size_t size); /* "NVIDIA H200, 139 GiB" */
    void (*close)(kd_backend *be);
} kd_backend_ops;

#define KD_MARKS 8

/* Fusions a backend has kernels for (graph/fuse.c).  A backend sets the bits that make its programs faster. */
typedef enum kd_fusion {
    KD_FUSE_NORM = 1,       /* residual sum, drop path and layernorm: add_layernorm */
    KD_FUSE_ACT = 2,        /* training: linear and its activation; linear_bwd_x and act_bwd */
    KD_FUSE_POOL = 4,       /* mean over tokens and layernorm: pool_layernorm */
    KD_FUSE_SEPARABLE = 8,  /* depthwise and pointwise conv2d: conv_separable */
    KD_FUSE_BATCHNORM = 16, /* training: batch norm, the nodes after it, running statistics */
    KD_FUSE_SUM = 32        /* training: a gradient and the add after it (operand plus) */
} kd_fusion;

struct kd_backend {
    const kd_backend_ops *ops;
    void *stream;   /* passed to kernels */
    int threads;    /* CPU: worker threads */
    bool plain;     /* skip library and fast kernels: reference only (cross-check) */
    bool no_graph;  /* do not capture: launch every call by itself */
    uint32_t fuses; /* kd_fusion bits */
};

/* threads 0: all cores this process may use. */
KD_NODISCARD kd_status kd_backend_cpu_open(int threads, kd_backend **out, kd_err *err);
typedef struct kd_cuda_opts {
    int device;
    bool deterministic; /* choose library kernels by rule, not by timing: the same bits in every process */
} kd_cuda_opts;
/* KD_E_UNSUPPORTED when built without CUDA, KD_E_DEVICE when no GPU answers.  opts NULL: device 0, defaults. */
KD_NODISCARD kd_status kd_backend_cuda_open(const kd_cuda_opts *opts, kd_backend **out, kd_err *err);
void kd_backend_close(kd_backend *be);

/* One kernel call outside a program: prepared once (best candidate, scratch), run many times. */
typedef struct kd_bound {
    kd_backend *be;
    const kd_kernel_def *def;
    kd_call call;
    kd_tensor operand[KD_MAX_IN + KD_MAX_OUT];
} kd_bound;

/* Bind a call.  The operands of c are copied; attr must outlive *b.  *b must not be moved or copied. */
KD_NODISCARD kd_status kd_bind(kd_backend *be, kd_op op, kd_dtype act, const kd_call *c, kd_bound *b);
KD_NODISCARD kd_status kd_bound_run(const kd_bound *b);
void kd_bound_free(kd_bound *b); /* no effect on a zeroed or freed one */

/* Bind, run, wait, free. */
KD_NODISCARD kd_status kd_backend_call(kd_backend *be, kd_op op, kd_dtype act, const kd_call *c);

/* A body whose device work is captured in its second run and replayed from then on. */
typedef struct kd_recorded {
    void *graph;
    int runs;
} kd_recorded;
KD_NODISCARD kd_status kd_recorded_run(kd_backend *be, kd_recorded *r, kd_status (*body)(void *user), void *user);
void kd_recorded_drop(kd_backend *be, kd_recorded *r); /* discard the capture; the body runs again */

/* Processors this process may use: its affinity mask, and the quotas of its control group and of all above it. */
int kd_cores(void);
/* Of quotas alone; a large number when there is none.  groups: a file like /proc/self/cgroup; mount: like
 * /sys/fs/cgroup. */
int kd_cores_of_groups(const char *groups, const char *mount);

#ifdef __cplusplus
}
#endif
#endif
