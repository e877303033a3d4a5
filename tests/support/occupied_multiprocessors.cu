#include "tests/support/occupied_multiprocessors.h"

#include <cuda_runtime.h>

#include <stdexcept>

#include "kernels/core/cuda_check.h"

namespace based::support {
namespace {

/// In the host's memory, which the device sees.
struct shared_words {
  volatile unsigned started;
  volatile unsigned is_released;
};

constexpr int seconds = 10;

__global__ void hold_kernel(shared_words* words, long long clocks) {
  const long long start = clock64();
  atomicAdd_system(const_cast<unsigned*>(&words->started), 1u);
  while (words->is_released == 0 && clock64() - start < clocks) {
  }
}

}  // namespace

struct occupied_multiprocessors::state {
  shared_words* words = nullptr;
  cudaStream_t stream = nullptr;

  void release() {
    if (words != nullptr) words->is_released = 1;
    if (stream != nullptr) cudaStreamSynchronize(stream);
  }
  ~state() {
    release();
    if (stream != nullptr) cudaStreamDestroy(stream);
    cudaFreeHost(words);
  }
};

occupied_multiprocessors::occupied_multiprocessors(int count) : state_(std::make_unique<state>()) {
  int device = 0, bytes = 0, kilohertz = 0;
  BASED_CUDA(cudaGetDevice(&device));
  BASED_CUDA(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  BASED_CUDA(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, device));
  BASED_CUDA(cudaFuncSetAttribute(hold_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  BASED_CUDA(cudaMallocHost(&state_->words, sizeof(shared_words)));
  state_->words->started = 0;
  state_->words->is_released = 0;
  BASED_CUDA(cudaStreamCreateWithFlags(&state_->stream, cudaStreamNonBlocking));
  const long long clocks = 1000LL * kilohertz * seconds;
  hold_kernel<<<count, 1, bytes, state_->stream>>>(state_->words, clocks);
  BASED_CUDA_LAUNCHED();
  while (state_->words->started < static_cast<unsigned>(count)) {
    const cudaError_t status = cudaStreamQuery(state_->stream);
    if (status == cudaErrorNotReady) continue;
    BASED_CUDA(status);
    if (state_->words->started < static_cast<unsigned>(count)) {
      throw std::runtime_error("the CTAs were not resident at the same time");
    }
  }
}

occupied_multiprocessors::~occupied_multiprocessors() = default;

bool occupied_multiprocessors::are_held() const {
  return cudaStreamQuery(state_->stream) == cudaErrorNotReady;
}

void occupied_multiprocessors::release() {
  state_->release();
}

}  // namespace based::support
