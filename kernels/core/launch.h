// Launching a kernel: its dynamic shared memory, whether it overlaps the grid before it. Host side.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/core/cuda_check.h"

namespace based {

struct launch_shape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;  ///< dynamic shared memory of a block
  /// Whether blocks start while the grid before this one on the stream is still running. The kernel
  /// then calls ptx::wait_for_prior_grid() before it reads what that grid writes.
  bool overlaps_prior_grid = false;
};

/// Enqueues `kernel` on `stream`, without synchronising. Throws cuda_error where the device cannot
/// run it in this shape.
template <class... Parameters, class... Arguments>
void launch_kernel(void (*kernel)(Parameters...), const launch_shape& shape, cudaStream_t stream,
                   const Arguments&... arguments) {
  if (shape.shared_bytes > 0) {
    BASED_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared_bytes)));
  }
  cudaLaunchAttribute attributes[1] = {};
  unsigned int count = 0;
  if (shape.overlaps_prior_grid) {
    cudaLaunchAttribute& overlap = attributes[count++];
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  BASED_CUDA(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...));
}

}  // namespace based
