#include "benchmarks/harness/device_kernels.h"

#include <algorithm>
#include <cstdint>

#include "kernels/core/cuda_check.h"
#include "kernels/ptx/global_timer.cuh"

namespace based {
namespace {

constexpr int block_threads = 256;
constexpr std::int64_t most_blocks = 4096;  // grid-stride loops do the rest

unsigned grid(std::int64_t count) {
  return static_cast<unsigned>(
      std::clamp<std::int64_t>((count + block_threads - 1) / block_threads, 1, most_blocks));
}

__global__ void empty_kernel() {}

__global__ void spin_kernel(unsigned long long nanoseconds) {
  const std::uint64_t start = ptx::global_nanoseconds();
  while (ptx::global_nanoseconds() - start < nanoseconds) {
  }
}

template <class T>
__global__ void fill_kernel(T* data, std::int64_t count, random_stream values) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    data[i] = from_float<T>(values(i));
  }
}

template <class T>
__global__ void count_nonfinite_kernel(const T* data, std::int64_t count,
                                       unsigned long long* result) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  unsigned long long nonfinite = 0;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    nonfinite += !isfinite(to_float(data[i]));
  }
  if (nonfinite > 0) atomicAdd(result, nonfinite);
}

}  // namespace

void launch_empty(cuda_stream stream) {
  empty_kernel<<<1, 1, 0, stream>>>();
  BASED_CUDA_LAUNCHED();
}

void launch_spin(double seconds, cuda_stream stream) {
  spin_kernel<<<1, 1, 0, stream>>>(static_cast<unsigned long long>(seconds * 1e9));
  BASED_CUDA_LAUNCHED();
}

void launch_fill(void* data, element_type type, std::int64_t count, random_stream values,
                 cuda_stream stream) {
  with_type_of(type, [&]<class T>(std::type_identity<T>) {
    fill_kernel<<<grid(count), block_threads, 0, stream>>>(static_cast<T*>(data), count, values);
  });
  BASED_CUDA_LAUNCHED();
}

void launch_count_nonfinite(const void* data, element_type type, std::int64_t count,
                            unsigned long long* result, cuda_stream stream) {
  with_type_of(type, [&]<class T>(std::type_identity<T>) {
    count_nonfinite_kernel<<<grid(count), block_threads, 0, stream>>>(static_cast<const T*>(data),
                                                                      count, result);
  });
  BASED_CUDA_LAUNCHED();
}

}  // namespace based
