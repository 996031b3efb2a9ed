/* Between the scheduler (simt.cpp) and the runtime (simt_runtime.cpp). */
#ifndef TESTS_SIMT_INTERNAL_H
#define TESTS_SIMT_INTERNAL_H

#include <cuda_runtime.h>
#include <functional>

/* Run now, or note down for the graph that the stream is captured into. */
void simt_submit(cudaStream_t stream, std::function<void()> work);

#endif
