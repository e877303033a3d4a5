#include <cuda_runtime.h>

#include "kernels/attention/forward_sm90/forward_sm90.h"
#include "kernels/core/launch.h"
#include "kernels/ptx/sync.cuh"

namespace based::attention_sm90 {
namespace {

/// Grid: one thread.
__global__ void clear_tickets_kernel(int* tickets) {
  ptx::launch_dependent_grid();
  *tickets = 0;
}

}  // namespace

void clear_tickets(int* tickets, cuda_stream stream) {
  launch_kernel(clear_tickets_kernel, {.grid = 1, .block = 1}, stream, tickets);
}

}  // namespace based::attention_sm90
