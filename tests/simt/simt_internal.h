/* Between the scheduler (simt.cpp) and the runtime (simt_runtime.cpp). */
#ifndef KD_TESTS_SIMT_SIMT_INTERNAL_H
#define KD_TESTS_SIMT_SIMT_INTERNAL_H

#include <cuda_runtime.h>
#include <functional>

/* Run now, or note down for the graph that the stream is captured into. */
void simt_submit(cudaStream_t stream, std::function<void()> work);

#endif
