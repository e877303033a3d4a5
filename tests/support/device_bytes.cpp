#include "tests/support/device_bytes.h"

#include <cstring>
#include <new>
#include <stdexcept>

#ifdef BASED_HAS_CUDA
#include "kernels/core/cuda_check.h"
#endif

namespace based::support {
namespace {

constexpr std::align_val_t host_alignment{256};

}  // namespace

#ifdef BASED_HAS_CUDA

std::optional<std::string> cuda_unavailable() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess) {
    cudaGetLastError();  // not sticky: leave no error behind for the next check
    return cudaGetErrorString(code);
  }
  if (count == 0) return "no CUDA device";
  return std::nullopt;
}

void synchronize(device_kind device) {
  if (device == device_kind::cuda) BASED_CUDA(cudaDeviceSynchronize());
}

device_bytes::device_bytes(device_kind device, std::size_t size) : device_(device), size_(size) {
  if (device == device_kind::cuda) {
    BASED_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), size));
  } else {
    data_ = static_cast<std::byte*>(::operator new(size, host_alignment));
  }
}

device_bytes::~device_bytes() {
  if (device_ == device_kind::cuda) {
    cudaFree(data_);
  } else {
    ::operator delete(data_, host_alignment);
  }
}

void device_bytes::fill(std::size_t offset, std::size_t count, std::byte value) {
  if (device_ == device_kind::cuda) {
    BASED_CUDA(cudaMemset(data_ + offset, std::to_integer<int>(value), count));
  } else {
    std::memset(data_ + offset, std::to_integer<int>(value), count);
  }
}

void device_bytes::write(std::size_t offset, std::span<const std::byte> source) {
  if (device_ == device_kind::cuda) {
    BASED_CUDA(cudaMemcpy(data_ + offset, source.data(), source.size(), cudaMemcpyHostToDevice));
  } else if (!source.empty()) {
    std::memcpy(data_ + offset, source.data(), source.size());
  }
}

void device_bytes::read(std::size_t offset, std::span<std::byte> destination) const {
  if (device_ == device_kind::cuda) {
    BASED_CUDA(
        cudaMemcpy(destination.data(), data_ + offset, destination.size(), cudaMemcpyDeviceToHost));
  } else if (!destination.empty()) {
    std::memcpy(destination.data(), data_ + offset, destination.size());
  }
}

#else

std::optional<std::string> cuda_unavailable() {
  return "this build has no CUDA";
}

void synchronize(device_kind) {}

device_bytes::device_bytes(device_kind device, std::size_t size) : device_(device), size_(size) {
  if (device == device_kind::cuda) throw std::runtime_error(*cuda_unavailable());
  data_ = static_cast<std::byte*>(::operator new(size, host_alignment));
}

device_bytes::~device_bytes() {
  ::operator delete(data_, host_alignment);
}

void device_bytes::fill(std::size_t offset, std::size_t count, std::byte value) {
  std::memset(data_ + offset, std::to_integer<int>(value), count);
}

void device_bytes::write(std::size_t offset, std::span<const std::byte> source) {
  if (!source.empty()) std::memcpy(data_ + offset, source.data(), source.size());
}

void device_bytes::read(std::size_t offset, std::span<std::byte> destination) const {
  if (!destination.empty()) std::memcpy(destination.data(), data_ + offset, destination.size());
}

#endif

}  // namespace based::support
