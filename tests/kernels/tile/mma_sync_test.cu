// The tile layer's mma.sync side, each operation at the shapes that the kernels use, against a
// plain loop.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/based/key_moments_sm80.cuh"
#include "kernels/core/bf16.h"
#include "kernels/core/padded_tile.cuh"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/block.cuh"
#include "kernels/tile/mma_sync.cuh"
#include "kernels/tile/warpgroup.cuh"
#include "tests/kernels/tile/tile_values.cuh"
#include "tests/support/device_bytes.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

using token_tile = padded_tile<64, 16>;  // Q, K          [64 x 16]
using key_tile = padded_tile<24, 64>;    // K^T, repeated [16 (+ 8) x 64]
using value_rows = padded_tile<64, 64>;  // V, O          [64 x 64]

constexpr int block_size = 16;
constexpr int block_elements = block_size * block_size;

class mma_sync_test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = support::cuda_unavailable()) GTEST_SKIP() << *reason;
  }
};

/// All elements of `actual` are expected(row, col).
template <class Expected>
void check_bits(const std::vector<bits>& actual, int cols, Expected expected) {
  for (int i = 0; i < static_cast<int>(actual.size()); ++i) {
    ASSERT_EQ(actual[i], expected(i / cols, i % cols))
        << "row " << i / cols << ", column " << i % cols;
  }
}

template <class Tile>
__device__ void fill(Tile& tile, const bits* source) {
  write_elements(tile, source);
  __syncthreads();
}
template <class Tile>
__device__ void drain(const Tile& tile, bits* destination) {
  __syncthreads();
  read_elements(tile, destination);
}
template <class Tile>
__device__ void fill_with_poison(Tile& tile) {
  for (int i = threadIdx.x; i < Tile::rows * Tile::cols; i += blockDim.x) {
    tile.template store<bits>(i / Tile::cols, i % Tile::cols, poison);
  }
  __syncthreads();
}

// Blocks [16 x 16] between global memory, row-major and `stride` apart, and the registers of a
// warp: by the places that mma_sync.cuh and register_tile.cuh give for their words.
template <class Block>
__device__ int place(int word, int stride) {
  const int eight = 8 * (word % 2), also_eight = 8 * (word / 2);
  const bool is_left = std::is_same_v<Block, operand_slice>;
  const int row = (is_left ? eight : also_eight) + warp::lane() / 4;
  const int col = (is_left ? also_eight : eight) + 2 * (warp::lane() % 4);
  return row * stride + col;
}
template <class Block>
__device__ Block read_block(const bits* from, int stride) {
  Block block;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    block.word[i] = *reinterpret_cast<const std::uint32_t*>(from + place<Block>(i, stride));
  }
  return block;
}
template <class Block>
__device__ void write_block(bits* to, int stride, const Block& block) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    *reinterpret_cast<std::uint32_t*>(to + place<Block>(i, stride)) = block.word[i];
  }
}

/// Loads tiles that follow one another, each as a group of copies. The first is read while the
/// second may still be on its way; an empty group then stands for the next.
template <class Tile>
__global__ void load_async_kernel(const bits* source, std::int64_t stride, int valid_rows,
                                  bits* destination) {
  __shared__ Tile tiles[2];
  for (Tile& tile : tiles) fill_with_poison(tile);
  for (Tile& tile : tiles) {
    block::load_async<warpgroup::threads>(tile, source, stride, valid_rows);
    block::commit_loads();
    source += Tile::rows * stride;
    valid_rows -= Tile::rows;
  }
  for (const Tile& tile : tiles) {
    block::wait_loads<1>();
    drain(tile, destination);
    destination += Tile::rows * Tile::cols;
    block::commit_loads();
  }
}

template <class Tile>
void check_load_async() {
  constexpr int rows = 2 * Tile::rows, stride = Tile::cols + 8;
  const std::vector<bits> values = normal_bits(rows * stride, 1);
  device_array<bits> source(values);
  for (const int valid_rows : {rows, rows - 14, Tile::rows, 7}) {
    SCOPED_TRACE(std::to_string(valid_rows) + " valid rows");
    device_array<bits> destination(rows * Tile::cols);
    launch(load_async_kernel<Tile>, 0, source.data(), std::int64_t{stride}, valid_rows,
           destination.data());
    check_bits(destination.read(), Tile::cols, [&](int row, int col) {
      return row < valid_rows ? values[row * stride + col] : bits{0};
    });
  }
}

TEST_F(mma_sync_test, loads_tokens_up_to_the_end) {
  check_load_async<token_tile>();
}
TEST_F(mma_sync_test, loads_values_up_to_the_end) {
  check_load_async<value_rows>();
}

struct load_right {
  static constexpr bool transposes = false;
  template <class Tile>
  __device__ static right_slice load(const Tile& tile, int row, int col) {
    return warp::load_right(tile, row, col);
  }
};
struct load_transposed {
  static constexpr bool transposes = true;
  template <class Tile>
  __device__ static operand_slice load(const Tile& tile, int row, int col) {
    return warp::load_transposed(tile, row, col);
  }
};
struct load_transposed_right {
  static constexpr bool transposes = true;
  template <class Tile>
  __device__ static right_slice load(const Tile& tile, int row, int col) {
    return warp::load_transposed_right(tile, row, col);
  }
};

/// Loads the block that starts at row `row_step` blockIdx.y and column 16 blockIdx.x. By one warp.
template <class Load, class Tile>
__global__ void load_kernel(const bits* source, int row_step, bits* blocks) {
  __shared__ Tile tile;
  fill(tile, source);
  const auto block = Load::load(tile, row_step * blockIdx.y, block_size * blockIdx.x);
  write_block(blocks + (blockIdx.y * gridDim.x + blockIdx.x) * block_elements, block_size, block);
}

/// Checks the loads of the blocks that start at rows 0, `row_step`, .. and columns 0, 16, ..
template <class Load, class Tile>
void check_load(int row_step = block_size) {
  constexpr int across = Tile::cols / block_size;
  // Whole blocks at every sixteenth row; else as many as a tile's rows beyond the first block.
  const int down = (Tile::rows - block_size) / row_step + (row_step == block_size);
  const std::vector<bits> values = normal_bits(Tile::rows * Tile::cols, 2);
  device_array<bits> source(values), blocks(down * across * block_elements);
  launch_grid(dim3(across, down), warp_size, load_kernel<Load, Tile>, 0, source.data(), row_step,
              blocks.data());
  check_bits(blocks.read(), block_size, [&](int row, int col) {
    const int block = row / block_size, i = row % block_size;
    const int first_row = block / across * row_step, first_col = block % across * block_size;
    return Load::transposes ? values[(first_row + col) * Tile::cols + first_col + i]
                            : values[(first_row + i) * Tile::cols + first_col + col];
  });
}

TEST_F(mma_sync_test, loads_blocks_of_tokens) {
  check_load<load_right, token_tile>();
  check_load<load_transposed, token_tile>();
}
TEST_F(mma_sync_test, loads_blocks_of_values) {
  check_load<load_transposed, value_rows>();
  check_load<load_transposed_right, value_rows>();
}
TEST_F(mma_sync_test, loads_rotated_blocks_of_keys) {
  check_load<load_right, key_tile>(1);
}

/// Stores a block at row 16 blockIdx.y and column 16 blockIdx.x of a tile of its own. By one warp.
template <class Tile>
__global__ void store_kernel(const bits* source, bits* tiles) {
  __shared__ Tile tile;
  fill_with_poison(tile);
  warp::store(tile, block_size * blockIdx.y, block_size * blockIdx.x,
              read_block<operand_slice>(source, block_size));
  drain(tile, tiles + (blockIdx.y * gridDim.x + blockIdx.x) * Tile::rows * Tile::cols);
}

template <class Tile>
void check_store() {
  constexpr int across = Tile::cols / block_size, down = Tile::rows / block_size;
  const std::vector<bits> values = normal_bits(block_elements, 3);
  device_array<bits> source(values), tiles(down * across * Tile::rows * Tile::cols);
  launch_grid(dim3(across, down), warp_size, store_kernel<Tile>, 0, source.data(), tiles.data());
  check_bits(tiles.read(), Tile::cols, [&](int row, int col) {
    const int block = row / Tile::rows;
    const int i = row % Tile::rows - block / across * block_size;
    const int j = col - block % across * block_size;
    const bool is_inside = i >= 0 && i < block_size && j >= 0 && j < block_size;
    return is_inside ? values[i * block_size + j] : poison;
  });
}

TEST_F(mma_sync_test, stores_blocks_of_keys) {
  check_store<key_tile>();
}
TEST_F(mma_sync_test, stores_blocks_of_outputs) {
  check_store<value_rows>();
}

__global__ void store_rows_kernel(const bits* source, bits* destination, std::int64_t stride,
                                  int valid_rows) {
  __shared__ value_rows tile;
  fill(tile, source);
  warp::store_rows(destination, stride, valid_rows, tile, block_size * warpgroup::warp());
}

TEST_F(mma_sync_test, stores_rows_up_to_the_end) {
  constexpr int rows = value_rows::rows, cols = value_rows::cols, stride = cols + 16;
  const std::vector<bits> values = normal_bits(rows * cols, 4);
  device_array<bits> source(values);
  for (const int valid_rows : {1000, rows, 50, 7}) {  // the first: more chunks follow
    SCOPED_TRACE(std::to_string(valid_rows) + " valid rows");
    device_array<bits> destination(rows * stride);
    launch(store_rows_kernel, 0, source.data(), destination.data(), std::int64_t{stride},
           valid_rows);
    check_bits(destination.read(), stride, [&](int row, int col) {
      return row < valid_rows && col < cols ? values[row * cols + col] : poison;
    });
  }
}

/// D [16 x Cols] = C + A [16 x 16] B^T, B [Cols x 16], slice by slice. By one warp.
template <int Cols>
__global__ void mma_ABt_kernel(const bits* a, const bits* b, const float* c, float* d) {
  accumulator_tile<Cols> tile;
  fill(tile, c);
  const auto left = read_block<operand_slice>(a, block_size);
#pragma unroll
  for (int i = 0; i < Cols / block_size; ++i) {
    warp::mma_ABt(tile, i, left, read_block<right_slice>(b + i * block_elements, block_size));
  }
  drain(tile, d);
}

template <int Cols>
void check_ABt() {
  constexpr int depth = block_size;
  const auto a = support::normal_values(block_size * depth, 5);
  const auto b = support::normal_values(Cols * depth, 6);
  const auto c = support::normal_values(block_size * Cols, 7);
  device_array<bits> device_a(to_bits(a)), device_b(to_bits(b));
  device_array<float> device_c(c), d(block_size * Cols);
  launch_grid(1, warp_size, mma_ABt_kernel<Cols>, 0, device_a.data(), device_b.data(),
              device_c.data(), d.data());
  EXPECT_LT(worst_error(d.read(), block_size, Cols,
                        [&](int row, int col) {
                          double sum = c[row * Cols + col];
                          for (int i = 0; i < depth; ++i) {
                            sum += a[row * depth + i] * b[col * depth + i];
                          }
                          return sum;
                        }),
            rounding);
}

TEST_F(mma_sync_test, multiplies_ABt_of_16_columns) {  // A, moments
  check_ABt<16>();
}
TEST_F(mma_sync_test, multiplies_ABt_of_64_columns) {  // O
  check_ABt<64>();
}
TEST_F(mma_sync_test, multiplies_ABt_of_80_columns) {  // half of S^T
  check_ABt<80>();
}

/// A tile [16 x Cols], rounded slice by slice, as the two operands. By one warp.
template <int Cols>
__global__ void round_kernel(const float* source, bits* left, bits* right) {
  accumulator_tile<Cols> tile;
  fill(tile, source);
#pragma unroll
  for (int i = 0; i < Cols / block_size; ++i) {
    const operand_slice rounded = to_bf16(tile, i);
    write_block(left + block_size * i, Cols, rounded);
    write_block(right + block_size * i, Cols, warp::as_right(rounded));
  }
}

template <int Cols>
void check_rounding() {
  auto values = support::normal_values(block_size * Cols, 8);
  for (float& value : values) value *= 1.001f;  // no longer a bf16
  device_array<float> source(values);
  device_array<bits> left(block_size * Cols), right(block_size * Cols);
  launch_grid(1, warp_size, round_kernel<Cols>, 0, source.data(), left.data(), right.data());
  const std::vector<bits> rounded = to_bits(values);
  for (const auto* operand : {&left, &right}) {
    check_bits(operand->read(), Cols, [&](int row, int col) { return rounded[row * Cols + col]; });
  }
}

TEST_F(mma_sync_test, rounds_results_to_operands) {
  check_rounding<16>();
  check_rounding<64>();
  check_rounding<80>();
}

constexpr int lanes_per_row = 4;

/// The sums of A's rows, A [16 x 32], as each of the four lanes of a row has them. By one warp.
__global__ void sum_rows_kernel(const bits* a, float* sums) {
  constexpr int cols = 2 * block_size;
  float parts[2] = {0, 0};
  for (int i = 0; i < cols; i += block_size) {
    warp::add_rows(parts, read_block<operand_slice>(a + i, cols));
  }
  for (int i = 0; i < 2; ++i) sums[32 * i + warp::lane()] = warp::row_sum(parts[i]);
}

TEST_F(mma_sync_test, sums_rows) {
  constexpr int cols = 2 * block_size;
  const auto a = support::normal_values(block_size * cols, 9);
  device_array<bits> source(to_bits(a));
  device_array<float> sums(block_size * lanes_per_row);
  launch_grid(1, warp_size, sum_rows_kernel, 0, source.data(), sums.data());
  EXPECT_LT(worst_error(sums.read(), block_size, lanes_per_row,
                        [&](int row, int) {
                          double sum = 0;
                          for (int i = 0; i < cols; ++i) sum += a[row * cols + i];
                          return sum;
                        }),
            rounding);
}

/// Row sums of the weights that 128 keys, of which the moments of 64 are given, have for scaled
/// queries [16 x 16]; and the moments z [153] of all but ten. By one warp.
__global__ void moments_kernel(const float* first_z, const bits* k, const bits* q, float* sums,
                               float* z) {
  __shared__ token_tile keys;
  fill(keys, k);
  sm80::key_moments moments;
  moments.load(first_z);
  moments.add(keys);
  float parts[2] = {0, 0};
  moments.add_weights(parts, read_block<operand_slice>(q, block_size));
  for (int i = 0; i < 2; ++i) sums[32 * i + warp::lane()] = warp::row_sum(parts[i]);
  moments.add_count(-10);
  moments.store(z);
}

TEST_F(mma_sync_test, keeps_key_moments) {
  constexpr int half = token_tile::rows * feature_dim;
  const auto k = support::normal_values(2 * half, 11);
  const auto q = support::normal_values(block_size * feature_dim, 12, 0.25f);
  const std::vector<double> first = moments_of_keys({k.begin(), k.begin() + half});
  device_array<bits> device_k(to_bits({k.begin() + half, k.end()})), device_q(to_bits(q));
  device_array<float> first_z({first.begin(), first.end()});
  device_array<float> sums(block_size * lanes_per_row), z(compact_features);
  launch_grid(1, warp_size, moments_kernel, 0, first_z.data(), device_k.data(), device_q.data(),
              sums.data(), z.data());
  EXPECT_LT(worst_error(sums.read(), block_size, lanes_per_row,
                        [&](int row, int) { return sum_of_weights(&q[row * feature_dim], k, 1); }),
            2e-3);  // M is rounded to bf16
  const std::vector<double> expected = moments_of_keys(k);
  EXPECT_LT(worst_error(z.read(), compact_features, 1,
                        [&](int row, int) { return expected[row] - (row == 0 ? 10 : 0); }),
            rounding);
}

constexpr int handed_over = 10;  // rounds: two buffers pass through several phases

/// Rounds of `from` through two buffers to `to`, by two warpgroups of which every thread arrives
/// for itself. Each reads what a thread of another warp has written. First the readers are slow,
/// then the writers: whoever did not wait would be ahead of the others.
__global__ void hand_over_kernel(const float* from, float* to) {
  __shared__ float buffer[2][warpgroup::threads];
  __shared__ barrier ready[2], read[2];
  if (threadIdx.x == 0) {
    for (barrier& each : ready) each.init(warpgroup::threads);
    for (barrier& each : read) each.init(warpgroup::threads);
  }
  __syncthreads();
  const bool writes = warp::uniform_index() < warpgroup::warps;
  const int thread = warpgroup::thread();
  ring_position<2> position;
  for (int round = 0; round < handed_over; ++round, position.advance()) {
    const int i = position.buffer;
    if (writes == (round >= handed_over / 2)) __nanosleep(5000);
    if (writes) {
      read[i].wait(position.parity ^ 1);
      buffer[i][thread] = from[round * warpgroup::threads + thread];
      ready[i].arrive();
    } else {
      ready[i].wait(position.parity);
      to[round * warpgroup::threads + thread] = buffer[i][warpgroup::threads - 1 - thread];
      read[i].arrive();
    }
  }
}

TEST_F(mma_sync_test, hands_over_through_barriers) {
  constexpr int threads = warpgroup::threads;
  const auto values = support::normal_values(handed_over * threads, 10);
  device_array<float> from(values), to(handed_over * threads);
  launch_grid(1, 2 * threads, hand_over_kernel, 0, from.data(), to.data());
  EXPECT_EQ(worst_error(to.read(), handed_over, threads,
                        [&](int round, int thread) -> double {
                          return values[round * threads + threads - 1 - thread];
                        }),
            0);
}

/// A row of 32 bf16 for each of eight groups of four lanes, as a result's words: word i of lane t
/// holds columns 8 i + 2 t and + 1. By one warp.
__global__ void transpose_quads_kernel(const std::uint32_t* from, std::uint32_t* to) {
  const int row = warp::lane() / 4, t = warp::lane() % 4;
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = from[16 * row + 4 * i + t];
  warp::transpose_quads(words);
#pragma unroll
  for (int i = 0; i < 4; ++i) to[16 * row + 4 * t + i] = words[i];
}

TEST_F(mma_sync_test, transposes_quads_of_words) {
  std::vector<std::uint32_t> words(16 * 8);
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint32_t>(i);
  device_array<std::uint32_t> from(words), to(static_cast<std::int64_t>(words.size()));
  launch_grid(1, warp_size, transpose_quads_kernel, 0, from.data(), to.data());
  EXPECT_EQ(to.read(), words);
}

}  // namespace
}  // namespace based
