// Values for the tests of the tile layer: on the device, in tiles element by element, and compared
// with what a plain loop expects.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/based/features.h"
#include "kernels/core/bf16.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/device_attribute.h"
#include "kernels/core/launch.h"
#include "kernels/tile/warpgroup.cuh"
#include "tests/support/device_bytes.h"
#include "tests/support/inputs.h"

namespace based {

/// Why the device at hand does not run wgmma and bulk copies; nothing where it does.
inline std::optional<std::string> needs_hopper() {
  if (auto reason = support::cuda_unavailable()) return reason;
  const int major = device_attribute(cudaDevAttrComputeCapabilityMajor).value();
  if (major == 9) return std::nullopt;
  return "compute capability " + std::to_string(major) + ", needs 9.0";
}

using bits = std::uint16_t;  // of a bf16

inline constexpr bits poison = 0xffff;  // what no operation under test writes: NaN

/// Values on the device, bf16 bits or floats. Poisoned, if they are not given.
template <class T>
class device_array {
 public:
  explicit device_array(std::int64_t size) : bytes_(device_kind::cuda, size * sizeof(T)) {
    bytes_.fill(0, bytes_.size(), std::byte{0xff});
  }
  explicit device_array(const std::vector<T>& values) : device_array(values.size()) {
    bytes_.write(0, std::as_bytes(std::span(values)));
  }
  T* data() { return reinterpret_cast<T*>(bytes_.data()); }
  std::vector<T> read() const {
    std::vector<T> values(bytes_.size() / sizeof(T));
    bytes_.read(0, std::as_writable_bytes(std::span(values)));
    return values;
  }

 private:
  support::device_bytes bytes_;
};

inline std::vector<bits> to_bits(const std::vector<float>& values) {
  std::vector<bits> result;
  for (const float value : values) result.push_back(to_bf16(value).bits);
  return result;
}
inline std::vector<bits> normal_bits(std::int64_t count, std::uint64_t seed) {
  return to_bits(support::normal_values(count, seed));
}
inline std::vector<float> to_floats(const std::vector<bits>& values) {
  std::vector<float> result;
  for (const bits value : values) result.push_back(to_float(bf16{value}));
  return result;
}

/// Runs a kernel to its end.
template <class Kernel, class... Args>
void launch_grid(dim3 blocks, int threads, Kernel kernel, std::size_t shared_bytes, Args... args) {
  const dim3 block(threads);
  launch_kernel(kernel, {.grid = blocks, .block = block, .shared_bytes = shared_bytes}, nullptr,
                args...);
  BASED_CUDA(cudaDeviceSynchronize());
}
/// Runs a kernel of one warpgroup to its end.
template <class Kernel, class... Args>
void launch(Kernel kernel, std::size_t shared_bytes, Args... args) {
  launch_grid(1, warpgroup::threads, kernel, shared_bytes, args...);
}

inline constexpr double rounding = 1e-5;  // of fp32 accumulation

/// The largest difference, of `actual` from `expected(row, col)`, over its largest magnitude.
inline double worst_error(const std::vector<float>& actual, int rows, int cols,
                          const std::function<double(int, int)>& expected) {
  double worst = 0, largest = 1e-30;
  for (int row = 0; row < rows; ++row) {
    for (int col = 0; col < cols; ++col) {
      const double difference = std::abs(actual[row * cols + col] - expected(row, col));
      if (!(difference <= worst)) worst = difference;  // keeps a NaN
      largest = std::max(largest, std::abs(expected(row, col)));
    }
  }
  return worst / largest;
}

/// The sum of the weights that keys [. x 16] have for a query: of 1 + s + s^2 / 2, s = scale q . k.
inline double sum_of_weights(const float* q, const std::vector<float>& k, double scale) {
  double sum = 0;
  for (std::size_t first = 0; first < k.size(); first += feature_dim) {
    double s = 0;
    for (int i = 0; i < feature_dim; ++i) s += q[i] * k[first + i];
    s *= scale;
    sum += 1 + s + s * s / 2;
  }
  return sum;
}

/// z [153] of keys [. x 16], in the order of features.h.
inline std::vector<double> moments_of_keys(const std::vector<float>& k) {
  std::vector<double> z(compact_features, 0);
  for (std::size_t first = 0; first < k.size(); first += feature_dim) {
    const float* x = &k[first];
    z[0] += 1;
    for (int i = 0; i < feature_dim; ++i) {
      z[first_linear_row + i] += x[i];
      for (int j = i; j < feature_dim; ++j) z[product_row(i, j)] += x[i] * x[j];
    }
  }
  return z;
}

// Tiles between global memory, row-major, and shared memory, element by element, by a block.
template <class Tile>
__device__ void write_elements(Tile& tile, const bits* source) {
  for (int i = threadIdx.x; i < Tile::rows * Tile::cols; i += blockDim.x) {
    tile.template store<bits>(i / Tile::cols, i % Tile::cols, source[i]);
  }
}
template <class Tile>
__device__ void read_elements(const Tile& tile, bits* destination) {
  for (int i = threadIdx.x; i < Tile::rows * Tile::cols; i += blockDim.x) {
    destination[i] = tile.template load<bits>(i / Tile::cols, i % Tile::cols);
  }
}

/// Calls f(row, column, value) for each element that this thread holds of a warpgroup's tile, or,
/// where there is one warp, of its sixteen rows.
template <int Cols, class Function>
__device__ void for_each(accumulator_tile<Cols>& tile, Function f) {
  const int row = 16 * warpgroup::warp() + warp::lane() / 4;
  const int col = 2 * (warp::lane() % 4);
#pragma unroll
  for (int i = 0; i < tile.size; ++i) {
    f(row + i % 4 / 2 * 8, i / 4 * 8 + col + i % 2, tile.value[i]);
  }
}
template <int Cols>
__device__ void fill(accumulator_tile<Cols>& tile, const float* source) {
  for_each(tile, [&](int row, int col, float& value) { value = source[row * Cols + col]; });
}
template <int Cols>
__device__ void drain(accumulator_tile<Cols>& tile, float* destination) {
  for_each(tile, [&](int row, int col, float& value) { destination[row * Cols + col] = value; });
}

}  // namespace based
