#include "python/export/device.h"

#include <new>

#ifdef BASED_HAS_CUDA
#include <array>
#include <mutex>

#include "kernels/core/cuda_check.h"
#endif

namespace based::python {
namespace {

constexpr std::align_val_t workspace_alignment{256};

#ifdef BASED_HAS_CUDA
/// The current device's pool, which keeps what it once got.
cudaMemPool_t pool() {
  constexpr std::size_t most_devices = 64;
  static std::array<cudaMemPool_t, most_devices> pools = {};
  static std::mutex mutex;
  int device = 0;
  BASED_CUDA(cudaGetDevice(&device));
  const std::scoped_lock lock(mutex);
  cudaMemPool_t& made = pools.at(static_cast<std::size_t>(device));
  if (made == nullptr) {
    cudaMemPoolProps wanted = {};
    wanted.allocType = cudaMemAllocationTypePinned;
    wanted.location = {cudaMemLocationTypeDevice, device};
    BASED_CUDA(cudaMemPoolCreate(&made, &wanted));
    std::uint64_t keep = UINT64_MAX;
    BASED_CUDA(cudaMemPoolSetAttribute(made, cudaMemPoolAttrReleaseThreshold, &keep));
  }
  return made;
}
#endif

}  // namespace

device_scope::device_scope(device_kind kind, int device) {
#ifdef BASED_HAS_CUDA
  if (kind != device_kind::cuda) return;
  int current = 0;
  BASED_CUDA(cudaGetDevice(&current));
  if (current == device) return;
  BASED_CUDA(cudaSetDevice(device));
  earlier_ = current;
#else
  static_cast<void>(kind);
  static_cast<void>(device);
#endif
}

device_scope::~device_scope() {
#ifdef BASED_HAS_CUDA
  if (earlier_ >= 0) cudaSetDevice(earlier_);
#endif
}

stream_memory::stream_memory(device_kind kind, std::size_t bytes, cuda_stream stream)
    : kind_(kind), stream_(stream) {
  if (bytes == 0) return;
#ifdef BASED_HAS_CUDA
  if (kind_ == device_kind::cuda) {
    BASED_CUDA(cudaMallocFromPoolAsync(&data_, bytes, pool(), stream_));
    return;
  }
#endif
  data_ = ::operator new(bytes, workspace_alignment);
}

stream_memory::~stream_memory() {
  if (data_ == nullptr) return;
#ifdef BASED_HAS_CUDA
  if (kind_ == device_kind::cuda) {
    cudaFreeAsync(data_, stream_);
    return;
  }
#endif
  ::operator delete(data_, workspace_alignment);
}

}  // namespace based::python
