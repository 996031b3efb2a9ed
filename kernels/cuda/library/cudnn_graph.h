/* Inside of the cuDNN kernels: operation graphs of the backend interface, compiled to plans (cudnn_graph.c), for the
 * ops of cudnn_attention.c and cudnn_conv.c.
 *
 * A graph is described by calls that remember the first failure, so that a description reads as the formula it is.  A
 * plan belongs to a problem (kd_dnn_key), is built once in a process and kept: equal layers share it.  A call adds the
 * addresses. */
#ifndef KD_KERNELS_CUDA_LIBRARY_CUDNN_GRAPH_H
#define KD_KERNELS_CUDA_LIBRARY_CUDNN_GRAPH_H

#include "kernels/cuda/library/library.h"
#include "kernels/kd_ops.h"

#include <cudnn.h>

/* The key of a plan.  Compared as bytes: start from memset. */
typedef struct kd_dnn_key {
    int32_t op, device;
    int32_t type; /* cudnnDataType_t of the activations */
    uint32_t flags;
    int64_t v[28]; /* sizes and options, as the op's file numbers them */
} kd_dnn_key;

/* ---- describing a graph ---------------------------------------------------------------------- */

typedef cudnnBackendDescriptor_t kd_dnn_desc;

typedef struct kd_dnn {
    cudnnStatus_t st;  /* first failure */
    const char *where; /* what failed */
    kd_dnn_desc all[96], op[24];
    int n_all, n_op;
    int64_t temporaries;
} kd_dnn;

typedef struct kd_dnn_shape { /* rank: up to the first dim that is 0 */
    int64_t dim[5], stride[5];
} kd_dnn_shape;

/* uid: a name for the addresses of a call, 1 and up.  `align`: bytes, a power of two. */
kd_dnn_desc kd_dnn_tensor(kd_dnn *g, int64_t uid, cudnnDataType_t type, const kd_dnn_shape *s, int64_t align);
kd_dnn_desc kd_dnn_scalar(kd_dnn *g, int64_t uid); /* one f32; its address is read on the host when the graph runs */
kd_dnn_desc kd_dnn_temp(kd_dnn *g, cudnnDataType_t type, const kd_dnn_shape *s); /* never in memory */

/* y = a (mode) b; b NULL: of one operand.  In f32. */
void kd_dnn_pointwise(kd_dnn *g, cudnnPointwiseMode_t mode, kd_dnn_desc a, kd_dnn_desc b, kd_dnn_desc y);
/* dx = dy f'(x) (mode). */
void kd_dnn_pointwise_bwd(kd_dnn *g, cudnnPointwiseMode_t mode, kd_dnn_desc dy, kd_dnn_desc x, kd_dnn_desc dx);
void kd_dnn_matmul(kd_dnn *g, kd_dnn_desc a, kd_dnn_desc b, kd_dnn_desc c);
void kd_dnn_reduce(kd_dnn *g, cudnnReduceTensorOp_t how, kd_dnn_desc x, kd_dnn_desc y);
void kd_dnn_reshape(kd_dnn *g, kd_dnn_desc x, kd_dnn_desc y);

typedef struct kd_dnn_window { /* of a convolution over 2 or 3 dims */
    int64_t dims, stride[3], pad[3], dilation[3];
} kd_dnn_window;

typedef enum kd_dnn_conv_kind { KD_DNN_FORWARD, KD_DNN_DATA, KD_DNN_FILTER } kd_dnn_conv_kind;
/* Convolution of x and w to y, or its gradient (dx of w and y; dw of x and y); `add`: into the result. */
void kd_dnn_conv(kd_dnn *g, kd_dnn_conv_kind kind, const kd_dnn_window *at, kd_dnn_desc x, kd_dnn_desc w, kd_dnn_desc y,
                 bool add);

/* ---- plans ----------------------------------------------------------------------------------- */

typedef struct kd_dnn_plan kd_dnn_plan;
typedef void (*kd_dnn_describe)(kd_dnn *g, const kd_dnn_key *key);

typedef struct kd_dnn_prep { /* kd_call.prep starts with it */
    const kd_dnn_plan *plan;
    kd_dnn_desc pack; /* the addresses below, as cuDNN wants them */
    int n;
    int64_t uid[16];
    void *ptr[16], *workspace;
} kd_dnn_prep;

/* Set key->device and, for f32, whether TF32 is allowed; false: not for this library. */
bool kd_dnn_key_start(kd_dnn_key *key, kd_op op, kd_dtype act);
/* The plan for key; NULL: refused (said in the log), now or before.  strict: engines whose sums have no fixed order or
 * whose products are rounded below the type (TF32 unless allowed, Winograd, FFT) are passed over. */
const kd_dnn_plan *kd_dnn_plan_for(const kd_dnn_key *key, kd_dnn_describe describe, bool strict);
size_t kd_dnn_workspace(const kd_dnn_plan *plan);
cudnnDataType_t kd_dnn_type(kd_dtype t);
int64_t kd_dnn_align(const void *p); /* what an address is a multiple of: 2 to 16 */

/* Run on addresses ptr[i] of uid[i]; the addresses are remembered in p, which is rebuilt only when they change. */
KD_NODISCARD kd_status kd_dnn_run(kd_dnn_prep *p, int n, const int64_t *uid, void *const *ptr, void *workspace,
                                  void *stream);
void kd_dnn_prep_clear(kd_dnn_prep *p);

/* Compile plans from now on for a card that is not here, by its properties as cuDNN writes them in JSON; such plans
 * never run. For tests, before the first plan: they show which of our graphs cuDNN takes. */
KD_NODISCARD kd_status kd_dnn_pretend(const char *json, kd_err *err);

/* The slots. */
extern const kd_kernel_def kd_cudnn_attention, kd_cudnn_attention_bwd;              /* cudnn_attention.c */
extern const kd_kernel_def kd_cudnn_linear, kd_cudnn_linear_bwd_x;                  /* cudnn_linear.c */
extern const kd_kernel_def kd_cudnn_conv, kd_cudnn_conv_bwd_x, kd_cudnn_conv_bwd_w; /* cudnn_conv.c */

#endif
