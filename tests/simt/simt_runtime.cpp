/* The runtime calls: see cuda_runtime.h. */
#include "tests/simt/simt_internal.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

struct simt_graph {
    std::vector<std::function<void()>> work;
};
struct simt_stream {
    std::unique_ptr<simt_graph> capture; /* null: not captured */
};
struct simt_event {
    bool recorded = false;
};

namespace {

std::map<void *, size_t> device_memory; /* live blocks */
size_t used, limit = (size_t)16 << 30;
simt_counts counts;
cudaError_t last = cudaSuccess;

cudaError_t fail(cudaError_t e)
{
    last = e;
    return e;
}

bool any_capture(cudaStream_t s)
{
    return s != nullptr && s->capture != nullptr;
}

} // namespace

void simt_submit(cudaStream_t s, std::function<void()> work)
{
    if (any_capture(s)) {
        s->capture->work.push_back(std::move(work));
    } else {
        work();
    }
}

extern "C" {

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    default:
        return "error";
    }
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = last;
    last = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "SIMT shim");
    p->totalGlobalMem = limit;
    p->major = 8;
    p->multiProcessorCount = 1;
    return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *free_bytes = limit - used;
    *total = limit;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    counts.allocations++;
    *p = nullptr;
    if (bytes > limit - used || posix_memalign(p, 256, bytes) != 0) {
        return fail(cudaErrorMemoryAllocation);
    }
    memset(*p, 0xff, bytes); /* a card promises nothing */
    device_memory[*p] = bytes;
    used += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (p == nullptr) {
        return cudaSuccess;
    }
    counts.waits++; /* it waits for the device */
    const auto it = device_memory.find(p);
    if (it == device_memory.end()) {
        return fail(cudaErrorInvalidValue);
    }
    used -= it->second;
    device_memory.erase(it);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    counts.allocations++;
    return posix_memalign(p, 256, bytes) == 0 ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *p)
{
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind, cudaStream_t s)
{
    counts.copies++;
    simt_submit(s, [=] { memcpy(dst, src, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t s)
{
    simt_submit(s, [=] { memset(dst, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = new simt_stream();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    counts.waits++;
    return any_capture(s) ? fail(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t e, unsigned)
{
    return e->recorded ? cudaSuccess : fail(cudaErrorInvalidValue); /* CUDA would not wait at all: always our bug */
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new simt_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t)
{
    e->recorded = true;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    counts.event_waits++;
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t)
{
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (any_capture(s)) {
        return fail(cudaErrorStreamCaptureUnsupported);
    }
    s->capture.reset(new simt_graph());
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    *g = s->capture.release();
    return *g != nullptr ? cudaSuccess : fail(cudaErrorInvalidValue);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long)
{
    *exec = new simt_graph(*g);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    counts.graph_launches++;
    for (const auto &work : e->work) {
        simt_submit(s, work);
    }
    return cudaSuccess;
}

void simt_memory_limit(size_t bytes)
{
    limit = bytes == 0 ? (size_t)16 << 30 : bytes;
}

long simt_kernels(void);

void simt_counts_get(simt_counts *out)
{
    *out = counts;
    out->kernels = simt_kernels();
}
}
