/* The CUDA backend: memory, streams, copies and graphs of one card.
 *
 * Two streams.  Kernels run on the compute stream.  What feed() brings goes to pinned memory, then on the copy stream
 * to a staging block on the card while the card still computes, and from there, in order, to its place on the compute
 * stream: so the inputs of the next step are on the card before the step in progress has let go of its own. */
#include "kernels/cuda/kd_cuda.h"
#include "kernels/kd_backend.h"

#include <cuda_runtime.h>
#include <stdio.h>

/* A feed under way or finished: `host` is pinned, `card` as large. */
typedef struct staging {
    size_t bytes;
    void *host, *card;      /* card NULL: small, copied straight to its place */
    cudaEvent_t came, gone; /* on the card; in its place */
    uint64_t used;          /* when, by the count of feeds */
} staging;

enum { STAGINGS = 64, A_SIZE = 2, SMALL_SIZE = 8, SMALL = 4096 }; /* blocks in all, of one size, of the smallest size */

typedef struct cuda_backend {
    kd_backend base;
    int device;
    cudaStream_t compute, copy;
    staging ring[STAGINGS];
    int n_ring;
    uint64_t feeds, marks;
    cudaEvent_t mark[KD_MARKS];
    char name[300];
} cuda_backend;

static cuda_backend *self(kd_backend *be)
{
    return (cuda_backend *)be;
}

/* KD_OK, or the code of a failure, which is logged: what the card says is all there is to know. */
static kd_status check(cudaError_t e, const char *what)
{
    if (e == cudaSuccess) {
        return KD_OK;
    }
    (void)cudaGetLastError(); /* or it would be found again at the next launch */
    if (e == cudaErrorMemoryAllocation) {
        return KD_E_OOM;
    }
    kd_log(KD_LOG_ERROR, "cuda: %s: %s", what, cudaGetErrorString(e));
    return KD_E_DEVICE;
}
#define CUDA(call) KD_TRY(check((call), #call))

/* ---- memory ---------------------------------------------------------------------------------- */

static kd_status cuda_alloc(kd_backend *be, size_t bytes, void **out)
{
    void *p = NULL;
    *out = NULL;
    CUDA(cudaMalloc(&p, bytes == 0 ? 256 : bytes));
    const kd_status st = check(cudaMemsetAsync(p, 0, bytes, self(be)->compute), "clearing memory");
    if (st != KD_OK) {
        (void)cudaFree(p);
        return st;
    }
    *out = p;
    return KD_OK;
}

static void cuda_free(kd_backend *be, void *p)
{
    (void)be;
    (void)check(cudaFree(p), "cudaFree");
}

static kd_status cuda_sync(kd_backend *be)
{
    CUDA(cudaStreamSynchronize(self(be)->compute));
    return KD_OK;
}

static kd_status cuda_upload(kd_backend *be, void *dst, const void *src, size_t bytes)
{
    if (bytes == 0) {
        return KD_OK;
    }
    CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, self(be)->compute));
    return cuda_sync(be);
}

static kd_status cuda_download(kd_backend *be, void *dst, const void *src, size_t bytes)
{
    if (bytes == 0) {
        return KD_OK;
    }
    CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, self(be)->compute));
    return cuda_sync(be);
}

static kd_status cuda_zero(kd_backend *be, void *dst, size_t bytes)
{
    if (bytes > 0) {
        CUDA(cudaMemsetAsync(dst, 0, bytes, self(be)->compute));
    }
    return KD_OK;
}

/* ---- feeding --------------------------------------------------------------------------------- */

static void staging_free(staging *s)
{
    (void)cudaFreeHost(s->host);
    (void)cudaFree(s->card);
    if (s->came != NULL) {
        (void)cudaEventDestroy(s->came);
    }
    if (s->gone != NULL) {
        (void)cudaEventDestroy(s->gone);
    }
    memset(s, 0, sizeof *s);
}

static kd_status staging_make(staging *s, size_t bytes)
{
    memset(s, 0, sizeof *s);
    s->bytes = bytes;
    kd_status st = check(cudaHostAlloc(&s->host, bytes, cudaHostAllocDefault), "pinned memory");
    if (st == KD_OK && bytes > SMALL) {
        st = check(cudaMalloc(&s->card, bytes), "staging memory");
    }
    st = st == KD_OK ? check(cudaEventCreateWithFlags(&s->came, cudaEventDisableTiming), "event") : st;
    st = st == KD_OK ? check(cudaEventCreateWithFlags(&s->gone, cudaEventDisableTiming), "event") : st;
    if (st != KD_OK) {
        staging_free(s);
    }
    return st;
}

/* A block of this size that nothing uses any more: a new one while there are few, else the oldest, once it is done. */
static kd_status staging_take(cuda_backend *c, size_t bytes, staging **out)
{
    staging *oldest = NULL;
    int same = 0;
    bytes = bytes <= SMALL ? SMALL : (bytes + 511) / 512 * 512;
    for (int i = 0; i < c->n_ring; i++) {
        if (c->ring[i].bytes == bytes) {
            same++;
            oldest = oldest == NULL || c->ring[i].used < oldest->used ? &c->ring[i] : oldest;
        }
    }
    if (same >= (bytes == SMALL ? SMALL_SIZE : A_SIZE) || (c->n_ring == STAGINGS && oldest != NULL)) {
        CUDA(cudaEventSynchronize(oldest->gone));
    } else if (c->n_ring == STAGINGS) { /* sizes that never come again: begin anew */
        CUDA(cudaStreamSynchronize(c->compute));
        for (int i = 0; i < c->n_ring; i++) {
            staging_free(&c->ring[i]);
        }
        c->n_ring = 0;
        oldest = NULL;
    } else {
        oldest = NULL;
    }
    if (oldest == NULL) {
        oldest = &c->ring[c->n_ring];
        KD_TRY(staging_make(oldest, bytes));
        c->n_ring++;
    }
    oldest->used = ++c->feeds;
    *out = oldest;
    return KD_OK;
}

static kd_status cuda_feed(kd_backend *be, void *dst, const void *src, size_t bytes)
{
    cuda_backend *c = self(be);
    staging *s = NULL;
    if (bytes == 0) {
        return KD_OK;
    }
    KD_TRY(staging_take(c, bytes, &s));
    memcpy(s->host, src, bytes);
    if (s->card == NULL) {
        CUDA(cudaMemcpyAsync(dst, s->host, bytes, cudaMemcpyHostToDevice, c->compute));
    } else {
        CUDA(cudaMemcpyAsync(s->card, s->host, bytes, cudaMemcpyHostToDevice, c->copy));
        CUDA(cudaEventRecord(s->came, c->copy));
        CUDA(cudaStreamWaitEvent(c->compute, s->came, 0));
        CUDA(cudaMemcpyAsync(dst, s->card, bytes, cudaMemcpyDeviceToDevice, c->compute));
    }
    CUDA(cudaEventRecord(s->gone, c->compute));
    return KD_OK;
}

/* ---- fetching -------------------------------------------------------------------------------- */

static kd_status cuda_host_alloc(kd_backend *be, size_t bytes, void **out)
{
    (void)be;
    *out = NULL;
    CUDA(cudaHostAlloc(out, bytes == 0 ? 1 : bytes, cudaHostAllocDefault));
    memset(*out, 0, bytes);
    return KD_OK;
}

static void cuda_host_free(kd_backend *be, void *p)
{
    (void)be;
    (void)cudaFreeHost(p);
}

static kd_status cuda_fetch(kd_backend *be, void *dst, const void *src, size_t bytes)
{
    CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, self(be)->compute));
    return KD_OK;
}

static kd_status cuda_mark(kd_backend *be, uint64_t *mark)
{
    cuda_backend *c = self(be);
    CUDA(cudaEventRecord(c->mark[c->marks % KD_MARKS], c->compute));
    *mark = c->marks++;
    return KD_OK;
}

static kd_status cuda_reach(kd_backend *be, uint64_t mark)
{
    cuda_backend *c = self(be);
    KD_ASSERT(mark < c->marks && mark + KD_MARKS >= c->marks);
    CUDA(cudaEventSynchronize(c->mark[mark % KD_MARKS]));
    return KD_OK;
}

/* ---- kernels and graphs ---------------------------------------------------------------------- */

static const kd_kernel_def *cuda_find(kd_backend *be, kd_op op, kd_dtype act, int rank)
{
    int k = 0;
    for (const kd_kernel_def *def; !be->plain && (def = kd_cuda_library(op, act, k)) != NULL; k++) {
        if (k == rank) {
            return def;
        }
    }
    return rank == k ? kd_cuda_own(op, act) : NULL;
}

static kd_status cuda_capture_begin(kd_backend *be)
{
    CUDA(cudaStreamBeginCapture(self(be)->compute, cudaStreamCaptureModeThreadLocal));
    return KD_OK;
}

static kd_status cuda_capture_end(kd_backend *be, void **graph)
{
    cudaGraph_t g = NULL;
    cudaGraphExec_t exec = NULL;
    *graph = NULL;
    kd_status st = check(cudaStreamEndCapture(self(be)->compute, &g), "end of capture");
    if (st == KD_OK) {
        st = check(cudaGraphInstantiate(&exec, g, 0), "graph instantiation");
    }
    if (g != NULL) {
        (void)cudaGraphDestroy(g);
    }
    *graph = exec;
    return st;
}

static kd_status cuda_replay(kd_backend *be, void *graph)
{
    CUDA(cudaGraphLaunch((cudaGraphExec_t)graph, self(be)->compute));
    return KD_OK;
}

static void cuda_graph_free(kd_backend *be, void *graph)
{
    (void)cuda_sync(be); /* it may be running */
    (void)check(cudaGraphExecDestroy((cudaGraphExec_t)graph), "graph");
}

/* ---- open, close ----------------------------------------------------------------------------- */

static kd_status cuda_memory(kd_backend *be, size_t *free_bytes, size_t *total_bytes)
{
    (void)be;
    CUDA(cudaMemGetInfo(free_bytes, total_bytes));
    return KD_OK;
}

static void cuda_describe(kd_backend *be, char *buf, size_t size)
{
    (void)snprintf(buf, size, "%s", self(be)->name);
}

static void cuda_close(kd_backend *be)
{
    cuda_backend *c = self(be);
    if (c->compute != NULL) {
        (void)cudaStreamSynchronize(c->compute);
    }
    for (int i = 0; i < c->n_ring; i++) {
        staging_free(&c->ring[i]);
    }
    for (int i = 0; i < KD_MARKS; i++) {
        if (c->mark[i] != NULL) {
            (void)cudaEventDestroy(c->mark[i]);
        }
    }
    if (c->copy != NULL) {
        (void)cudaStreamDestroy(c->copy);
    }
    if (c->compute != NULL) {
        (void)cudaStreamDestroy(c->compute);
    }
    kd_free(c);
}

static kd_status open_card(cuda_backend *c)
{
    struct cudaDeviceProp prop;
    CUDA(cudaSetDevice(c->device));
    CUDA(cudaGetDeviceProperties(&prop, c->device));
    (void)snprintf(c->name, sizeof c->name, "%s, %.0f GiB, compute capability %d.%d", prop.name,
                   (double)prop.totalGlobalMem / 1073741824.0, prop.major, prop.minor);
    CUDA(cudaStreamCreateWithFlags(&c->compute, cudaStreamNonBlocking));
    CUDA(cudaStreamCreateWithFlags(&c->copy, cudaStreamNonBlocking));
    for (int i = 0; i < KD_MARKS; i++) {
        CUDA(cudaEventCreateWithFlags(&c->mark[i], cudaEventDisableTiming));
    }
    c->base.stream = c->compute;
    return KD_OK;
}

kd_status kd_backend_cuda_open(const kd_cuda_opts *opts, kd_backend **out, kd_err *err)
{
    static const kd_backend_ops ops = {.name = "cuda",
                                       .alloc = cuda_alloc,
                                       .free = cuda_free,
                                       .upload = cuda_upload,
                                       .feed = cuda_feed,
                                       .download = cuda_download,
                                       .zero = cuda_zero,
                                       .sync = cuda_sync,
                                       .host_alloc = cuda_host_alloc,
                                       .host_free = cuda_host_free,
                                       .fetch = cuda_fetch,
                                       .mark = cuda_mark,
                                       .reach = cuda_reach,
                                       .find = cuda_find,
                                       .capture_begin = cuda_capture_begin,
                                       .capture_end = cuda_capture_end,
                                       .replay = cuda_replay,
                                       .graph_free = cuda_graph_free,
                                       .memory = cuda_memory,
                                       .describe = cuda_describe,
                                       .close = cuda_close};
    static const kd_cuda_opts none = {.device = 0};
    const kd_cuda_opts *o = opts != NULL ? opts : &none;
    int cards = 0;
    *out = NULL;
    const cudaError_t e = cudaGetDeviceCount(&cards);
    if (e != cudaSuccess || cards == 0) {
        (void)cudaGetLastError();
        return KD_FAIL(err, KD_E_DEVICE, "device cuda: no GPU answers (%s); use --device cpu",
                       e != cudaSuccess ? cudaGetErrorString(e) : "0 devices");
    }
    if (o->device < 0 || o->device >= cards) {
        return KD_FAIL(err, KD_E_DEVICE, "device cuda %d: there are %d, counted from 0", o->device, cards);
    }
    cuda_backend *c = kd_calloc(1, sizeof *c);
    if (c == NULL) {
        return KD_FAIL(err, KD_E_OOM, "cuda backend: out of memory");
    }
    c->base.ops = &ops;
    c->base.fuses = KD_FUSE_NORM | KD_FUSE_ACT | KD_FUSE_POOL | KD_FUSE_SEPARABLE | KD_FUSE_BATCHNORM | KD_FUSE_SUM;
    c->device = o->device;
    const unsigned flags = kd_cuda_env_flags(); /* deterministic wins over an environment that is not */
    kd_cuda_set_flags(o->device, o->deterministic ? (flags | KD_CUDA_UNTIMED) & ~(unsigned)KD_CUDA_ATOMICS : flags);
    const kd_status st = open_card(c);
    if (st != KD_OK) {
        cuda_close(&c->base);
        return KD_FAIL(err, st, "device cuda %d: cannot be opened", o->device);
    }
    *out = &c->base;
    return KD_OK;
}
