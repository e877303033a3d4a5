// The times of a pass's parts on a GPU: events on its stream.
#include <cuda_runtime_api.h>

#include "kernels/core/bf16.h"
#include "kernels/core/cuda_check.h"
#include "kernels/models/part_times.h"

namespace based::models {

bool pass_clock<bf16>::can_mark(cuda_stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  BASED_CUDA(cudaStreamIsCapturing(stream, &status));
  return status == cudaStreamCaptureStatusNone;
}

void pass_clock<bf16>::mark(std::size_t i, cuda_stream stream) {
  while (events_.size() <= i) {
    cudaEvent_t event = nullptr;
    BASED_CUDA(cudaEventCreate(&event));
    events_.push_back(event);
  }
  BASED_CUDA(cudaEventRecord(static_cast<cudaEvent_t>(events_[i]), stream));
}

double pass_clock<bf16>::seconds_between(std::size_t from, std::size_t to) const {
  const auto event = [&](std::size_t i) { return static_cast<cudaEvent_t>(events_[i]); };
  BASED_CUDA(cudaEventSynchronize(event(to)));
  float ms = 0;
  BASED_CUDA(cudaEventElapsedTime(&ms, event(from), event(to)));
  return ms * 1e-3;
}

}  // namespace based::models
