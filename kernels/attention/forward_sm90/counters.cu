#include <cuda_runtime.h>

#include "kernels/attention/forward_sm90/forward_sm90.h"
#include "kernels/core/launch.h"
#include "kernels/ptx/sync.cuh"

namespace based::attention_sm90 {
namespace {

/// Grid: one block.
__global__ void clear_counters_kernel(int* counters, int count) {
  ptx::launch_dependent_grid();
  for (int i = threadIdx.x; i < count; i += blockDim.x) counters[i] = 0;
}

}  // namespace

void clear_counters(void* counters, int count, cuda_stream stream) {
  launch_kernel(clear_counters_kernel, {.grid = 1, .block = 256}, stream,
                static_cast<int*>(counters), count);
}

}  // namespace based::attention_sm90
