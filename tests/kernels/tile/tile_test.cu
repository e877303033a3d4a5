// Each operation of the tile layer, at the shapes that the kernels use, against a plain loop.
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <functional>
#include <span>
#include <vector>

#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/based/quad_features.cuh"
#include "kernels/based/weights.cuh"
#include "kernels/common/bf16.h"
#include "kernels/common/cuda_check.h"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/block.cuh"
#include "kernels/tile/tensor_map.h"
#include "kernels/tile/warpgroup.cuh"
#include "tests/support/device_bytes.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

/// Whether many steps in a ring lead where single ones do, from anywhere in it.
template <int Size>
constexpr bool steps_add_up() {
  for (int start = 0; start < 2 * Size; ++start) {
    ring_position<Size> single = {start % Size, static_cast<std::uint32_t>(start / Size)};
    const ring_position<Size> from = single;
    for (int steps = 0; steps < 5 * Size; ++steps, single.advance()) {
      ring_position<Size> many = from;
      many.advance(steps);
      if (many.buffer != single.buffer || many.parity != single.parity) return false;
    }
  }
  return true;
}
static_assert(steps_add_up<3>() && steps_add_up<10>());

using bits = std::uint16_t;
using quad::feature_tile;
using quad::token_tile;
using output_tile = shared_tile<16, 64, swizzle::bytes128>;

constexpr int named_barrier = 1;

/// Values on the device, bf16 bits or floats.
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

std::vector<bits> to_bits(const std::vector<float>& values) {
  std::vector<bits> result;
  for (const float value : values) result.push_back(to_bf16(value).bits);
  return result;
}
std::vector<float> to_floats(const std::vector<bits>& values) {
  std::vector<float> result;
  for (const bits value : values) result.push_back(to_float(bf16{value}));
  return result;
}

class tile_test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
    int major = 0;
    BASED_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    if (major != 9) GTEST_SKIP() << "compute capability " << major << ", needs 9.0";
  }
};

template <class Kernel, class... Args>
void launch(Kernel kernel, std::size_t shared_bytes, Args... args) {
  BASED_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared_bytes)));
  kernel<<<1, warpgroup::threads, shared_bytes>>>(args...);
  BASED_CUDA_LAUNCHED();
  BASED_CUDA(cudaDeviceSynchronize());
}

/// The largest difference, of `actual` from `expected(row, col)`, over its largest magnitude.
double worst_error(const std::vector<float>& actual, int rows, int cols,
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

// Tiles between global memory, row-major, and shared memory, element by element.
template <class Tile>
__device__ void fill(Tile& tile, const bits* source) {
  for (int i = threadIdx.x; i < Tile::rows * Tile::cols; i += warpgroup::threads) {
    tile.template store<bits>(i / Tile::cols, i % Tile::cols, source[i]);
  }
  ptx::fence_proxy_async();
  warpgroup::sync<named_barrier>();
}
template <class Tile>
__device__ void drain(const Tile& tile, bits* destination) {
  warpgroup::sync<named_barrier>();
  for (int i = threadIdx.x; i < Tile::rows * Tile::cols; i += warpgroup::threads) {
    destination[i] = tile.template load<bits>(i / Tile::cols, i % Tile::cols);
  }
}

/// Calls f(row, column, value) for each element that this thread holds.
template <int Cols, class Function>
__device__ void for_each(accumulator_tile<Cols>& tile, Function f) {
  const int row = 16 * warpgroup::warp() + warp::lane() / 4;
  const int col = 2 * (warp::lane() % 4);
#pragma unroll
  for (int i = 0; i < tile.size; ++i) {
    f(row + i % 4 / 2 * 8, i / 4 * 8 + col + i % 2, tile.value[i]);
  }
}

/// The A operand of row-major values [64 x Cols].
template <int Cols>
__device__ operand_tile<Cols> load_operand(const bits* source) {
  accumulator_tile<Cols> tile;
  for_each(tile, [&](int row, int col, float& value) {
    value = __uint_as_float(static_cast<unsigned>(source[row * Cols + col]) << 16);
  });
  return to_bf16(tile);
}
template <int Cols>
__device__ void drain(accumulator_tile<Cols>& tile, float* destination) {
  for_each(tile, [&](int row, int col, float& value) { destination[row * Cols + col] = value; });
}

template <class Tile>
__global__ void load_async_kernel(const __grid_constant__ CUtensorMap map, tile_coordinates from,
                                  bits* destination) {
  extern __shared__ __align__(1024) char shared_bytes[];
  Tile& tile = *reinterpret_cast<Tile*>(shared_bytes);
  __shared__ barrier loaded;
  if (threadIdx.x == 0) {
    loaded.init(1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (warp::uniform_index() == 0) warp::load_async(loaded, from, tile_copy{tile, map});
  loaded.wait(0);
  drain(tile, destination);
}

template <class Tile>
void check_load_async() {
  constexpr int batch = 2, heads = 3, seqlen = 100;
  const auto values = support::normal_values(batch * heads * seqlen * Tile::cols, 1);
  device_array<bits> source(to_bits(values)), destination(Tile::rows * Tile::cols);
  // [B, N, H, D] in memory, the second tile of head 1 of batch 1: rows past the end are zero.
  const auto view =
      sequence_view<bf16>::bnhd(reinterpret_cast<bf16*>(source.data()), heads, seqlen, Tile::cols);
  const auto map = make_tensor_map<typename Tile::layout>(view, batch, heads, seqlen);
  launch(load_async_kernel<Tile>, sizeof(Tile), map, tile_coordinates{1, 1, 64},
         destination.data());
  const auto result = to_floats(destination.read());
  EXPECT_EQ(worst_error(result, Tile::rows, Tile::cols,
                        [&](int row, int col) -> double {
                          const int token = 64 + row;
                          if (token >= seqlen) return 0;
                          return values[((seqlen + token) * heads + 1) * Tile::cols + col];
                        }),
            0);
}

TEST_F(tile_test, loads_token_tiles) {
  check_load_async<token_tile>();
}
TEST_F(tile_test, loads_value_tiles) {
  check_load_async<value_tile>();
}

__global__ void store_async_kernel(const __grid_constant__ CUtensorMap map, const bits* source) {
  extern __shared__ __align__(1024) char shared_bytes[];
  output_tile& tile = reinterpret_cast<output_tile*>(shared_bytes)[warpgroup::warp()];
  const operand_tile<64> values = load_operand<64>(source);
  warp::store(tile, values);
  warp::store_async(tile, map, {1, 0, 64 + 16 * warpgroup::warp()});
  warp::wait_stores_read();
}

TEST_F(tile_test, stores_output_tiles) {
  constexpr int batch = 2, heads = 2, seqlen = 100, cols = 64;
  const auto values = support::normal_values(64 * cols, 2);
  device_array<bits> source(to_bits(values)), destination(batch * heads * seqlen * cols);
  const auto view =
      sequence_view<bf16>::bhnd(reinterpret_cast<bf16*>(destination.data()), heads, seqlen, cols);
  const auto map = make_tensor_map<output_tile::layout>(view, batch, heads, seqlen);
  launch(store_async_kernel, 4 * sizeof(output_tile), map, source.data());
  const auto result = destination.read();
  for (int row = 0; row < batch * heads * seqlen; ++row) {
    const int token = row - 2 * seqlen;
    const bool written = token >= 64 && token < seqlen;
    for (int col = 0; col < cols; ++col) {
      const bits expected = written ? to_bf16(values[(token - 64) * cols + col]).bits : 0xffff;
      ASSERT_EQ(result[row * cols + col], expected) << "row " << row << ", column " << col;
    }
  }
}

template <class Tile>
__global__ void load_kernel(const bits* source, float* destination) {
  extern __shared__ __align__(1024) char shared_bytes[];
  Tile& tile = *reinterpret_cast<Tile*>(shared_bytes);
  fill(tile, source);
  accumulator_tile<Tile::cols> loaded;
  warpgroup::clear(loaded);
#pragma unroll
  for (int step = 0; step < Tile::cols / 16; ++step) {
    const operand_slice slice = warpgroup::load(tile, step);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t word = slice.word[i / 2];
      loaded.value[8 * step + i] = i % 2 ? ptx::high_half(word) : ptx::low_half(word);
    }
  }
  drain(loaded, destination);
}

template <class Tile>
void check_load() {
  const auto values = support::normal_values(64 * Tile::cols, 9);
  device_array<bits> source(to_bits(values));
  device_array<float> destination(64 * Tile::cols);
  launch(load_kernel<Tile>, sizeof(Tile), source.data(), destination.data());
  EXPECT_EQ(worst_error(destination.read(), 64, Tile::cols,
                        [&](int row, int col) { return values[row * Tile::cols + col]; }),
            0);
}

TEST_F(tile_test, loads_operands) {
  check_load<token_tile>();
  check_load<value_tile>();
}

__global__ void store_transposed_kernel(const bits* source, bits* destination) {
  extern __shared__ __align__(1024) char shared_bytes[];
  state_tile& tile = *reinterpret_cast<state_tile*>(shared_bytes);
  warpgroup::store_transposed(tile, load_operand<160>(source));
  drain(tile, destination);
}

TEST_F(tile_test, stores_transposed) {
  const auto values = support::normal_values(64 * 160, 3);
  device_array<bits> source(to_bits(values)), destination(160 * 64);
  launch(store_transposed_kernel, sizeof(state_tile), source.data(), destination.data());
  EXPECT_EQ(worst_error(to_floats(destination.read()), 160, 64,
                        [&](int row, int col) { return values[col * 160 + row]; }),
            0);
}

template <class Tile>
__global__ void mma_ABt_kernel(const bits* a, const bits* b, float* d) {
  extern __shared__ __align__(1024) char shared_bytes[];
  Tile& tile = *reinterpret_cast<Tile*>(shared_bytes);
  fill(tile, b);
  const operand_tile<Tile::cols> operand = load_operand<Tile::cols>(a);
  accumulator_tile<Tile::rows> product;
  warpgroup::mma_fence();
  warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(product, operand.slice[0], tile, 0);
#pragma unroll
  for (int i = 1; i < operand.slices; ++i) {
    warpgroup::mma_ABt(product, operand.slice[i], tile, i);
  }
  warpgroup::mma_commit();
  warpgroup::mma_wait<0>(product);
  drain(product, d);
}

constexpr double rounding = 1e-5;  // of fp32 accumulation

/// D = A B^T, A [64 x K] and B a tile [N x K].
template <class Tile>
void check_ABt() {
  constexpr int n = Tile::rows, k = Tile::cols;
  const auto a = support::normal_values(64 * k, 4), b = support::normal_values(n * k, 5);
  device_array<bits> device_a(to_bits(a)), device_b(to_bits(b));
  device_array<float> d(64 * n);
  launch(mma_ABt_kernel<Tile>, sizeof(Tile), device_a.data(), device_b.data(), d.data());
  EXPECT_LT(worst_error(d.read(), 64, n,
                        [&](int row, int col) {
                          double sum = 0;
                          for (int i = 0; i < k; ++i) sum += a[row * k + i] * b[col * k + i];
                          return sum;
                        }),
            rounding);
}

TEST_F(tile_test, multiplies_ABt_of_64_columns) {
  check_ABt<token_tile>();
}
TEST_F(tile_test, multiplies_ABt_of_16_columns) {
  check_ABt<moments_tile>();
}
TEST_F(tile_test, multiplies_ABt_of_8_columns) {
  check_ABt<halves_tile>();
}

template <class Tile>
__global__ void mma_AB_kernel(const bits* a, const bits* b, float* d) {
  extern __shared__ __align__(1024) char shared_bytes[];
  Tile& tile = *reinterpret_cast<Tile*>(shared_bytes);
  fill(tile, b);
  const operand_tile<Tile::rows> operand = load_operand<Tile::rows>(a);
  accumulator_tile<64> product;
  warpgroup::mma_fence();
  warpgroup::mma_AB<warpgroup::mma_mode::overwrite>(product, operand.slice[0], tile, 0);
#pragma unroll
  for (int i = 1; i < operand.slices; ++i) {
    warpgroup::mma_AB(product, operand.slice[i], tile, i);
  }
  warpgroup::mma_commit();
  warpgroup::mma_wait<0>(product);
  drain(product, d);
}

template <class Tile>
void check_mma_AB() {
  constexpr int depth = Tile::rows;
  const auto a = support::normal_values(64 * depth, 6), b = support::normal_values(depth * 64, 7);
  device_array<bits> device_a(to_bits(a)), device_b(to_bits(b));
  device_array<float> d(64 * 64);
  launch(mma_AB_kernel<Tile>, sizeof(Tile), device_a.data(), device_b.data(), d.data());
  EXPECT_LT(worst_error(d.read(), 64, 64,
                        [&](int row, int col) {
                          double sum = 0;
                          for (int i = 0; i < depth; ++i)
                            sum += a[row * depth + i] * b[i * 64 + col];
                          return sum;
                        }),
            rounding);
}

TEST_F(tile_test, multiplies_AB_with_values) {
  check_mma_AB<value_tile>();
}
TEST_F(tile_test, multiplies_AB_with_a_state) {
  check_mma_AB<state_tile>();
}

/// D [64 x 72] = A [64 x 64] [B C], B values and C the first eight columns of another tile, whose
/// sixteen rows serve all steps.
__global__ void mma_AB_beside_kernel(const bits* a, const bits* b, const bits* c, float* d) {
  extern __shared__ __align__(1024) char shared_bytes[];
  value_tile& values = *reinterpret_cast<value_tile*>(shared_bytes);
  ones_tile& beside = *reinterpret_cast<ones_tile*>(shared_bytes + 2 * sizeof(value_tile));
  fill(values, b);
  fill(beside, c);
  const operand_tile<64> operand = load_operand<64>(a);
  accumulator_tile<72> product;
  warpgroup::clear(product);
  warpgroup::mma_fence();
#pragma unroll
  for (int i = 0; i < operand.slices; ++i) {
    warpgroup::mma_AB_beside(product, operand.slice[i], values, i, beside);
  }
  warpgroup::mma_commit();
  warpgroup::mma_wait<0>(product);
  drain(product, d);
}

TEST_F(tile_test, multiplies_AB_with_columns_beside_values) {
  const auto a = support::normal_values(64 * 64, 6), b = support::normal_values(64 * 64, 7);
  const auto c = support::normal_values(16 * 64, 8);
  device_array<bits> device_a(to_bits(a)), device_b(to_bits(b)), device_c(to_bits(c));
  device_array<float> d(64 * 72);
  launch(mma_AB_beside_kernel, 2 * sizeof(value_tile) + sizeof(ones_tile), device_a.data(),
         device_b.data(), device_c.data(), d.data());
  EXPECT_LT(worst_error(d.read(), 64, 72,
                        [&](int row, int col) {
                          double sum = 0;
                          for (int i = 0; i < 64; ++i) {
                            const float right =
                                col < 64 ? b[i * 64 + col] : c[i % 16 * 64 + col - 64];
                            sum += a[row * 64 + i] * right;
                          }
                          return sum;
                        }),
            rounding);
}

__global__ void mma_AtB_kernel(const bits* a, const bits* b, float* d) {
  extern __shared__ __align__(1024) char shared_bytes[];
  value_tile& tile_a = *reinterpret_cast<value_tile*>(shared_bytes);
  feature_tile& tile_b = *reinterpret_cast<feature_tile*>(shared_bytes + sizeof(value_tile));
  fill(tile_a, a);
  fill(tile_b, b);
  accumulator_tile<160> product;
  warpgroup::clear(product);
  warpgroup::mma_fence();
  warpgroup::mma_AtB(product, tile_a, tile_b);
  warpgroup::mma_commit();
  warpgroup::mma_wait<0>(product);
  drain(product, d);
}

TEST_F(tile_test, multiplies_AtB) {
  const auto a = support::normal_values(64 * 64, 8), b = support::normal_values(64 * 160, 9);
  device_array<bits> device_a(to_bits(a)), device_b(to_bits(b));
  device_array<float> d(64 * 160);
  launch(mma_AtB_kernel, sizeof(value_tile) + sizeof(feature_tile), device_a.data(),
         device_b.data(), d.data());
  EXPECT_LT(worst_error(d.read(), 64, 160,
                        [&](int row, int col) {
                          double sum = 0;
                          for (int i = 0; i < 64; ++i) sum += a[i * 64 + row] * b[i * 160 + col];
                          return sum;
                        }),
            rounding);
}

/// phi(q) when asked for a query, else phi(k) with its weights [64 x 160], of x [64 x 16].
__global__ void features_kernel(const bits* x, bits* features, bool query, float scale) {
  extern __shared__ __align__(1024) char shared_bytes[];
  feature_tile& tile = *reinterpret_cast<feature_tile*>(shared_bytes);
  token_tile& tokens = *reinterpret_cast<token_tile*>(shared_bytes + sizeof(feature_tile));
  fill(tokens, x);
  if (query) {
    quad::query_features query_features;
    query_features.start(tokens);
    query_features.finish(tokens);
    const int row = 16 * warpgroup::warp() + warp::lane() / 4;
#pragma unroll
    for (int slice = 0; slice < quad::slices; ++slice) {
      const operand_slice operand = query_features.slice(slice);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        tile.store<std::uint32_t>(row + i % 2 * 8, 16 * slice + i / 2 * 8 + 2 * (warp::lane() % 4),
                                  operand.word[i]);
      }
    }
  } else {
    quad::store_key_features(tile, tokens, scale, warp::uniform_index());
  }
  drain(tile, features);
}

void check_features(bool query, float scale) {
  const auto x = support::normal_values(64 * 16, 10);
  device_array<bits> source(to_bits(x)), destination(64 * 160);
  launch(features_kernel, sizeof(feature_tile) + sizeof(token_tile), source.data(),
         destination.data(), query, scale);
  // Features by compact row, from the definition of features.h; each is rounded once.
  const auto expected = [&](int token, int slot) -> double {
    const int row = quad::compact_row(slot);
    if (row <= 0) return row + 1;  // nothing, or the constant
    const auto value = [&](int i) {
      return to_float(to_bf16((query ? 1 : scale) * x[token * 16 + i]));
    };
    if (row < first_product_row) return value(row - first_linear_row);
    int i = 0;
    while (row > product_row(i, feature_dim - 1)) ++i;
    const int j = i + row - product_row(i, i);
    return to_float(to_bf16((!query && i == j ? 0.5f : 1) * value(i) * value(j)));
  };
  EXPECT_EQ(worst_error(to_floats(destination.read()), 64, 160, expected), 0);
}

TEST_F(tile_test, builds_query_features) {
  check_features(true, 1);
}
TEST_F(tile_test, builds_key_features) {
  for (const float scale : {0.25f, 0.2f, 3.0f, 0.0f}) check_features(false, scale);
}

/// Row sums of the weights that keys [64 x 16] have for queries [64 x 16], through the keys'
/// moments. And z [153].
__global__ void moments_kernel(const bits* q, const bits* k, float scale, float* sums, float* z) {
  extern __shared__ __align__(1024) char shared_bytes[];
  token_tile* tiles = reinterpret_cast<token_tile*>(shared_bytes);
  fill(tiles[0], q);
  fill(tiles[1], k);
  auto& handed_over = reinterpret_cast<moments_tile&>(tiles[2]);
  auto& halves = reinterpret_cast<halves_tile&>(tiles[3]);
  block::fill(halves, ptx::two_halves);
  key_moments moments;
  moments.clear();
  moments.add(tiles[1]);
  moments.hand_over(handed_over, scale);
  ptx::fence_proxy_async();
  warpgroup::sync<named_barrier>();
  quad::query_features features;
  features.start(tiles[0]);
  accumulator_tile<16> y;
  warpgroup::mma_fence();
  start_moment_products(y, features.q(), handed_over);
  warpgroup::mma_commit();
  warpgroup::mma_wait<0>(y);
  row_sums products;
  start_summing_moments(products, features.q(), y, halves);
  warpgroup::mma_wait<0>(products);
  for (int row = 0; row < 2; ++row) {
    sums[16 * warpgroup::warp() + warp::lane() / 4 + 8 * row] = 64 + products.value[2 * row];
  }
  moments.store(z);
  if (threadIdx.x == 0) z[0] = 64;
}

TEST_F(tile_test, keeps_key_moments) {
  constexpr float scale = 0.25f;
  const auto q = support::normal_values(64 * 16, 11), k = support::normal_values(64 * 16, 12);
  device_array<bits> device_q(to_bits(q)), device_k(to_bits(k));
  device_array<float> sums(64), z(compact_features);
  launch(moments_kernel, 4 * sizeof(token_tile), device_q.data(), device_k.data(), scale,
         sums.data(), z.data());
  EXPECT_LT(worst_error(sums.read(), 64, 1,
                        [&](int row, int) {
                          double sum = 0;
                          for (int token = 0; token < 64; ++token) {
                            double s = 0;
                            for (int i = 0; i < 16; ++i) s += q[row * 16 + i] * k[token * 16 + i];
                            s *= scale;
                            sum += 1 + s + s * s / 2;
                          }
                          return sum;
                        }),
            2e-3);  // M and q . y are rounded to bf16
  std::vector<double> expected(compact_features, 0);
  for (int token = 0; token < 64; ++token) {
    const float* x = &k[token * 16];
    expected[0] += 1;
    for (int i = 0; i < 16; ++i) {
      expected[first_linear_row + i] += x[i];
      for (int j = i; j < 16; ++j) expected[product_row(i, j)] += x[i] * x[j];
    }
  }
  EXPECT_LT(worst_error(z.read(), compact_features, 1, [&](int row, int) { return expected[row]; }),
            rounding);
}

/// S^T [64 x 160] from compact rows, through its rounded form, and back to compact rows.
__global__ void state_kernel(const float* from, segment_state* partial, float* to, float scale) {
  state_accumulator state;
  warpgroup::load_state(state, *reinterpret_cast<const compact_state*>(from), scale);
  warpgroup::store_parts(partial->state, state);
  warpgroup::add_parts(state, partial->state);
  warpgroup::store_state(to, state, scale);
}

TEST_F(tile_test, moves_states) {
  constexpr float scale = 0.25f;
  const auto values = support::normal_values(compact_features * value_dim, 13);
  device_array<float> from(values), to(compact_features * value_dim);
  device_array<segment_state> partial(1);
  launch(state_kernel, 0, from.data(), partial.data(), to.data(), scale);
  EXPECT_EQ(worst_error(to.read(), compact_features, value_dim,
                        [&](int row, int col) { return 2 * values[row * value_dim + col]; }),
            0);
}

}  // namespace
}  // namespace based
