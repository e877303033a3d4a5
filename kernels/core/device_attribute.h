// What the current CUDA device is. Host-includable wherever the CUDA headers are.
#pragma once

#include <cuda_runtime_api.h>

#include <optional>

#include "kernels/core/card.h"

namespace based {

/// An attribute of the current device; nullopt if the machine has no device.
inline std::optional<int> device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  if (cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess) {
    return value;
  }
  cudaGetLastError();  // clears the error
  return std::nullopt;
}

/// The current device; without one an H200.
inline card current_card() {
  const auto major = device_attribute(cudaDevAttrComputeCapabilityMajor);
  const auto minor = device_attribute(cudaDevAttrComputeCapabilityMinor);
  const auto multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
  if (!major || !minor || !multiprocessors) return h200;
  return {*multiprocessors, *major, *minor};
}

}  // namespace based
