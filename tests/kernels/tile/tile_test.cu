// Each operation of the tile layer, at the shapes that the kernels use, against a plain loop.
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/based/quad_features.cuh"
#include "kernels/based/weights.cuh"
#include "kernels/core/bf16.h"
#include "kernels/core/fp16.h"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/block.cuh"
#include "kernels/tile/pipeline.cuh"
#include "kernels/tile/tensor_map.h"
#include "kernels/tile/warpgroup.cuh"
#include "tests/kernels/tile/tile_values.cuh"
#include "tests/support/device_bytes.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

/// Whether single steps in a ring and many at once lead where counting does, from anywhere in it.
template <int Size>
constexpr bool steps_add_up() {
  for (int start = 0; start < 2 * Size; ++start) {
    const ring_position<Size> from = {start % Size, static_cast<std::uint32_t>(start / Size)};
    ring_position<Size> single = from;
    for (int steps = 0; steps < 5 * Size; ++steps, single.advance()) {
      const int buffer = (start + steps) % Size, phase = (start + steps) / Size;
      ring_position<Size> many = from;
      many.advance(steps);
      const ring_position<Size> next = steps <= Size ? from.next(steps) : many;
      for (const ring_position<Size>& reached : {single, many, next}) {
        if (reached.buffer != buffer || static_cast<int>(reached.parity) != phase % 2) return false;
      }
    }
  }
  return true;
}
static_assert(steps_add_up<1>() && steps_add_up<2>() && steps_add_up<3>() && steps_add_up<4>() &&
              steps_add_up<5>() && steps_add_up<6>() && steps_add_up<8>() && steps_add_up<10>());

using quad::feature_tile;
using quad::token_tile;
using output_tile = shared_tile<16, 64, swizzle::bytes128>;

constexpr int named_barrier = 1;

class tile_test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = needs_hopper()) GTEST_SKIP() << *reason;
  }
};

// Tiles between global memory, row-major, and shared memory, for all proxies.
template <class Tile>
__device__ void fill(Tile& tile, const bits* source) {
  write_elements(tile, source);
  ptx::fence_proxy_async();
  warpgroup::sync<named_barrier>();
}
template <class Tile>
__device__ void drain(const Tile& tile, bits* destination) {
  warpgroup::sync<named_barrier>();
  read_elements(tile, destination);
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

/// Whether the phase of `parity` is over, by all lanes; waits for a bounded time.
__device__ bool is_over(barrier& tested, std::uint32_t parity) {
  return __all_sync(~0u, ptx::mbarrier_try_wait(tested.word(), parity));
}

/// Whether phases of a barrier of three arrivals are over, after arrivals of all kinds. By one
/// warp.
__global__ void count_arrivals_kernel(int* over) {
  __shared__ barrier counting;
  const auto record = [&](std::uint32_t parity) {
    const bool result = is_over(counting, parity);
    if (warp::lane() == 0) *over = result;
    ++over;
  };
  if (warp::lane() == 0) counting.init(3);
  __syncwarp();
  record(1);  // the phase before the first
  record(0);
  if (warp::lane() == 0) counting.arrive();
  __syncwarp();
  record(0);
  if (warp::lane() == 0) counting.arrive(2);
  __syncwarp();
  record(0);
  record(1);  // the second phase
  counting.warp_arrive();
  counting.warp_arrive();
  __syncwarp();
  record(1);
  counting.warp_arrive();
  __syncwarp();
  record(1);
  record(0);  // the third phase
}

TEST_F(tile_test, counts_arrivals) {
  const std::vector<int> expected = {1, 0, 0, 1, 0, 0, 1, 0};
  device_array<int> over(expected.size());
  launch_grid(1, warp_size, count_arrivals_kernel, 0, over.data());
  EXPECT_EQ(over.read(), expected);
}

template <class Tile>
__global__ void fill_kernel(std::uint32_t word, std::uint32_t* destination) {
  extern __shared__ __align__(1024) char shared_bytes[];
  constexpr int words = 3 * sizeof(Tile) / 4;
  auto* const all = reinterpret_cast<std::uint32_t*>(shared_bytes);
  for (int i = threadIdx.x; i < words; i += blockDim.x) all[i] = ~0u;
  __syncthreads();
  block::fill(reinterpret_cast<Tile*>(shared_bytes)[1], word);
  __syncthreads();
  for (int i = threadIdx.x; i < words; i += blockDim.x) destination[i] = all[i];
}

/// Fills the middle one of three tiles, and nothing else.
template <class Tile>
void check_fill(int threads) {
  constexpr std::uint32_t word = 0x3f803f00;
  constexpr int words = sizeof(Tile) / 4;
  device_array<std::uint32_t> destination(3 * words);
  launch_grid(1, threads, fill_kernel<Tile>, 3 * sizeof(Tile), word, destination.data());
  std::vector<std::uint32_t> expected(3 * words, ~0u);
  std::fill_n(expected.begin() + words, Tile::bytes / 4, word);
  EXPECT_EQ(destination.read(), expected) << threads << " threads";
}

TEST_F(tile_test, fills_tiles) {
  for (const int threads : {warpgroup::threads, 2 * warpgroup::threads}) {
    check_fill<ones_tile>(threads);
    check_fill<halves_tile>(threads);
  }
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
  SCOPED_TRACE(std::to_string(Tile::rows) + " x " + std::to_string(Tile::cols) + ", panels of " +
               std::to_string(Tile::layout::row_bytes) + " bytes");
  using element = typename Tile::element;
  constexpr int batch = 2, heads = 3, seqlen = 2 * Tile::rows - 28;
  const auto values = normal_bits(batch * heads * seqlen * Tile::cols, 1);
  device_array<bits> source(values), destination(Tile::rows * Tile::cols);
  // [B, N, H, D] in memory, the second tile of head 1 of batch 1: rows past the end are zero.
  const auto view = sequence_view<element>::bnhd(reinterpret_cast<element*>(source.data()), heads,
                                                 seqlen, Tile::cols);
  const auto map = make_tensor_map<typename Tile::layout>(view, batch, heads, seqlen);
  launch(load_async_kernel<Tile>, sizeof(Tile), map, tile_coordinates{1, 1, Tile::rows},
         destination.data());
  const std::vector<bits> result = destination.read();
  for (int i = 0; i < static_cast<int>(result.size()); ++i) {
    const int token = Tile::rows + i / Tile::cols, col = i % Tile::cols;
    const bits expected =
        token < seqlen ? values[((seqlen + token) * heads + 1) * Tile::cols + col] : bits{0};
    ASSERT_EQ(result[i], expected) << "row " << i / Tile::cols << ", column " << col;
  }
}

TEST_F(tile_test, loads_token_tiles) {
  check_load_async<token_tile>();
}
TEST_F(tile_test, loads_value_tiles) {
  check_load_async<value_tile>();
}
TEST_F(tile_test, loads_tiles_of_several_panels) {
  check_load_async<shared_tile<64, 128, swizzle::bytes128>>();
  check_load_async<shared_tile<128, 128, swizzle::bytes128, fp16>>();
  check_load_async<shared_tile<192, 64, swizzle::bytes64>>();
  check_load_async<shared_tile<64, 64, swizzle::bytes32, fp16>>();
  check_load_async<shared_tile<64, 32, swizzle::none>>();
}

constexpr int ring_stages = 3;
constexpr int first_with_queries = 2;  // of the chunks: those before it are two tiles, not three

struct ring_maps {
  CUtensorMap q, k, v;
};
struct ring_outputs {
  bits *q, *k, *v;
};
struct ring_storage {
  token_tile q[ring_stages];  // [64 x 16]
  token_tile k[ring_stages];  // [64 x 16]
  value_tile v[ring_stages];  // [64 x 64]
  ring<ring_stages> chunks;
};

/// Head 1's chunks through a ring, its barriers through several phases.
__global__ void ring_kernel(const __grid_constant__ ring_maps from, int chunks, ring_outputs to) {
  extern __shared__ __align__(1024) char shared_bytes[];
  ring_storage& shared = *reinterpret_cast<ring_storage*>(shared_bytes);
  if (threadIdx.x == 0) {
    shared.chunks.init(1, warpgroup::warps);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const int warp = warp::uniform_index();
  const auto load = [&](int chunk, int stage) {
    const tile_coordinates at = {0, 1, chunk * token_tile::rows};
    if (chunk < first_with_queries) {
      warp::load_async(shared.chunks.filled(stage), at, tile_copy{shared.k[stage], from.k},
                       tile_copy{shared.v[stage], from.v});
    } else {
      warp::load_async(shared.chunks.filled(stage), at, tile_copy{shared.k[stage], from.k},
                       tile_copy{shared.v[stage], from.v}, tile_copy{shared.q[stage], from.q});
    }
  };
  for (int i = 0; warp == 0 && i < min(ring_stages, chunks); ++i) load(i, i);
  ring_position<ring_stages> stage;
  for (int chunk = 0; chunk < chunks; ++chunk, stage.advance()) {
    const int i = stage.buffer, first_row = chunk * token_tile::rows;
    shared.chunks.wait_full(stage);
    if (chunk >= first_with_queries) {
      read_elements(shared.q[i], to.q + first_row * token_tile::cols);
    }
    read_elements(shared.k[i], to.k + first_row * token_tile::cols);
    read_elements(shared.v[i], to.v + first_row * value_tile::cols);
    shared.chunks.warp_release(stage);
    if (warp == 0 && chunk + ring_stages < chunks) {
      shared.chunks.wait_released(stage);
      load(chunk + ring_stages, i);
    }
  }
}

constexpr int ring_heads = 2, ring_chunks = 8;
constexpr int ring_rows = ring_chunks * token_tile::rows, ring_seqlen = ring_rows - 28;

/// A tensor [1, N, H, D] and where one head's chunks of it go.
template <class Tile>
struct ring_tensor {
  explicit ring_tensor(int seed)
      : values(normal_bits(ring_seqlen * ring_heads * Tile::cols, seed)), source(values) {}
  CUtensorMap map() {
    const auto view = sequence_view<bf16>::bnhd(reinterpret_cast<bf16*>(source.data()), ring_heads,
                                                ring_seqlen, Tile::cols);
    return make_tensor_map<typename Tile::layout>(view, 1, ring_heads, ring_seqlen);
  }
  /// That head 1's rows from `first_row` on have been loaded.
  void check(int first_row = 0) const {
    const auto result = destination.read();
    for (int i = 0; i < ring_rows * Tile::cols; ++i) {
      const int row = i / Tile::cols, col = i % Tile::cols;
      const bits loaded =
          row < ring_seqlen ? values[(row * ring_heads + 1) * Tile::cols + col] : bits{0};
      ASSERT_EQ(result[i], row < first_row ? poison : loaded)
          << "row " << row << ", column " << col;
    }
  }
  std::vector<bits> values;
  device_array<bits> source;
  device_array<bits> destination{ring_rows * Tile::cols};
};

TEST_F(tile_test, loads_tiles_through_a_ring) {
  ring_tensor<token_tile> q(14), k(15);
  ring_tensor<value_tile> v(16);
  launch(ring_kernel, sizeof(ring_storage), ring_maps{q.map(), k.map(), v.map()}, ring_chunks,
         ring_outputs{q.destination.data(), k.destination.data(), v.destination.data()});
  q.check(first_with_queries * token_tile::rows);
  k.check();
  v.check();
}

using split = role_split<1, warpgroup_role{1, 40}, warpgroup_role{2, 232}>;
using ring_buffer = float[warpgroup::threads];
constexpr int fetched_buffers = 10;  // through a ring of three, each buffer in several phases

struct split_storage {
  ring_buffer buffers[3];
  ring<3> buffer_ring;
};

/// A producer's warp fetches buffers from `from`; each of two consumer warpgroups writes all of
/// them to a place of its own. First the consumers are slow, then the producer: whoever did not
/// wait would be ahead of the others.
__global__ void __launch_bounds__(split::threads, 1)
    split_kernel(const ring_buffer* from, ring_buffer* to) {
  __shared__ alignas(16) split_storage shared;
  ring<3>& buffers = shared.buffer_ring;
  if (threadIdx.x == 0) {
    buffers.init(1, 2 * warpgroup::warps);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const int warp = warp::uniform_index();
  ring<3>::position at;
  split::run(
      warp,
      [&](int) {
        if (warp % warpgroup::warps != 0) return;
        for (int i = 0; i < fetched_buffers; ++i, at.advance()) {
          if (i >= fetched_buffers / 2) __nanosleep(5000);
          buffers.wait_empty(at);
          warp::load_async(&shared.buffers[at.buffer], from[i], buffers.filled(at));
        }
      },
      [&](int group) {
        for (int i = 0; i < fetched_buffers; ++i, at.advance()) {
          buffers.wait_full(at);
          if (i < fetched_buffers / 2) __nanosleep(5000);
          // What a thread of another warp's place holds.
          const int other = warpgroup::threads - 1 - warpgroup::thread();
          to[group * fetched_buffers + i][other] = shared.buffers[at.buffer][other];
          buffers.warp_release(at);
        }
      });
}

TEST_F(tile_test, splits_a_block_into_roles_around_a_ring) {
  constexpr int size = fetched_buffers * warpgroup::threads;
  const auto values = support::normal_values(size, 30);
  device_array<float> source(values), destination(2 * size);
  launch_grid(1, split::threads, split_kernel, 0,
              reinterpret_cast<const ring_buffer*>(source.data()),
              reinterpret_cast<ring_buffer*>(destination.data()));
  const auto result = destination.read();
  for (int i = 0; i < 2 * size; ++i) ASSERT_EQ(result[i], values[i % size]) << "value " << i;
}

/// Two objects, one after the other, through the same memory: two phases of a barrier.
template <class Object>
__global__ void load_objects_kernel(const Object* source, Object* destination) {
  extern __shared__ __align__(1024) char shared_bytes[];
  __shared__ barrier loaded;
  if (threadIdx.x == 0) {
    loaded.init(1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const int warp = warp::uniform_index();
  for (std::uint32_t i = 0; i < 2; ++i) {
    if (warp == 0) warp::load_async(shared_bytes, source[i], loaded);
    loaded.wait(i);
    for (int at = threadIdx.x; at < sizeof(Object) / 4; at += blockDim.x) {
      reinterpret_cast<std::uint32_t*>(destination + i)[at] =
          reinterpret_cast<const std::uint32_t*>(shared_bytes)[at];
    }
    __syncthreads();  // the first is read
  }
}

template <class Object>
void check_load_objects() {
  std::vector<std::uint32_t> values(2 * sizeof(Object) / 4);
  std::iota(values.begin(), values.end(), 1);
  device_array<std::uint32_t> source(values), destination(values.size());
  launch(load_objects_kernel<Object>, sizeof(Object),
         reinterpret_cast<const Object*>(source.data()),
         reinterpret_cast<Object*>(destination.data()));
  EXPECT_EQ(destination.read(), values);
}

TEST_F(tile_test, loads_initial_states) {
  check_load_objects<compact_state>();
}
TEST_F(tile_test, loads_states_of_segments) {
  check_load_objects<rounded_parts>();
}

/// Chunks of 64 tokens, one after the other through the same tiles.
__global__ void store_async_kernel(const __grid_constant__ CUtensorMap map, const bits* source,
                                   int chunks) {
  extern __shared__ __align__(1024) char shared_bytes[];
  output_tile& tile = reinterpret_cast<output_tile*>(shared_bytes)[warpgroup::warp()];
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const operand_tile<64> values = load_operand<64>(source + chunk * 64 * output_tile::cols);
    warp::wait_stores_read();
    warp::store(tile, values);
    ptx::fence_proxy_async();
    warp::store_async(tile, map, {1, 0, 64 * (chunk + 1) + 16 * warpgroup::warp()});
  }
  warp::wait_stores_read();
}

TEST_F(tile_test, stores_output_tiles) {
  constexpr int batch = 2, heads = 2, chunks = 3, seqlen = 64 * (1 + chunks) - 28, cols = 64;
  const auto values = normal_bits(chunks * 64 * cols, 2);
  device_array<bits> source(values), destination(batch * heads * seqlen * cols);
  const auto view =
      sequence_view<bf16>::bhnd(reinterpret_cast<bf16*>(destination.data()), heads, seqlen, cols);
  const auto map = make_tensor_map<output_tile::layout>(view, batch, heads, seqlen);
  launch(store_async_kernel, 4 * sizeof(output_tile), map, source.data(), chunks);
  const auto result = destination.read();
  for (int row = 0; row < batch * heads * seqlen; ++row) {
    const int token = row - heads * seqlen;  // of head 0 of batch 1
    const bool written = token >= 64 && token < seqlen;
    for (int col = 0; col < cols; ++col) {
      const bits expected = written ? values[(token - 64) * cols + col] : poison;
      ASSERT_EQ(result[row * cols + col], expected) << "row " << row << ", column " << col;
    }
  }
}

/// A warpgroup's tile [64 x Cols] through a shared tile to the second 64 tokens of head 0. Stored
/// by the warpgroup and copied by one warp, or by each warp for itself to a tile of sixteen rows.
template <class Tile>
__global__ void store_panels_kernel(const __grid_constant__ CUtensorMap map, const bits* source) {
  extern __shared__ __align__(1024) char shared_bytes[];
  const operand_tile<Tile::cols> values = load_operand<Tile::cols>(source);
  const int warp = warp::uniform_index();
  if constexpr (Tile::rows == warpgroup::rows) {
    Tile& tile = *reinterpret_cast<Tile*>(shared_bytes);
    warpgroup::store(tile, values);
    ptx::fence_proxy_async();
    warpgroup::sync<named_barrier>();
    if (warp == 0) warp::store_async(tile, map, {0, 0, Tile::rows});
  } else {
    Tile& tile = reinterpret_cast<Tile*>(shared_bytes)[warp];
    warp::store(tile, values);
    ptx::fence_proxy_async();
    warp::store_async(tile, map, {0, 0, warpgroup::rows + Tile::rows * warp});
  }
  warp::wait_stores_read();
}

template <class Tile>
void check_store_panels() {
  SCOPED_TRACE(std::to_string(Tile::rows) + " x " + std::to_string(Tile::cols) + ", panels of " +
               std::to_string(Tile::layout::row_bytes) + " bytes");
  constexpr int seqlen = 100, cols = Tile::cols;
  const auto values = normal_bits(64 * cols, 31);
  device_array<bits> source(values), destination(seqlen * cols);
  const auto view =
      sequence_view<bf16>::bhnd(reinterpret_cast<bf16*>(destination.data()), 1, seqlen, cols);
  launch(store_panels_kernel<Tile>, warpgroup::rows / Tile::rows * sizeof(Tile),
         make_tensor_map<typename Tile::layout>(view, 1, 1, seqlen), source.data());
  const auto result = destination.read();
  for (int i = 0; i < seqlen * cols; ++i) {
    ASSERT_EQ(result[i], i < 64 * cols ? poison : values[i - 64 * cols])
        << "row " << i / cols << ", column " << i % cols;
  }
}

TEST_F(tile_test, stores_tiles_of_several_panels) {
  check_store_panels<shared_tile<16, 128, swizzle::bytes128>>();
  check_store_panels<shared_tile<64, 128, swizzle::bytes128>>();
  check_store_panels<shared_tile<64, 64, swizzle::bytes128>>();
  check_store_panels<shared_tile<64, 96, swizzle::bytes64>>();
  check_store_panels<shared_tile<16, 64, swizzle::bytes32>>();
  check_store_panels<shared_tile<64, 32, swizzle::none>>();
}

template <class Tile>
__global__ void load_kernel(const bits* source, float* destination) {
  extern __shared__ __align__(1024) char shared_bytes[];
  Tile& tile = *reinterpret_cast<Tile*>(shared_bytes);
  fill(tile, source);
  accumulator_tile<Tile::cols> loaded;
  clear(loaded);
  const operand_tile<Tile::cols> operand = warpgroup::load(tile);
#pragma unroll
  for (int step = 0; step < operand.slices; ++step) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t word = operand.slice[step].word[i / 2];
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
  check_load<shared_tile<64, 128, swizzle::bytes128>>();
  check_load<shared_tile<64, 96, swizzle::bytes64>>();
  check_load<shared_tile<64, 48, swizzle::none>>();
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
/// sixteen rows serve all steps and which lies `distance` value tiles behind B.
__global__ void mma_AB_beside_kernel(const bits* a, const bits* b, const bits* c, int distance,
                                     float* d) {
  extern __shared__ __align__(1024) char shared_bytes[];
  value_tile& values = *reinterpret_cast<value_tile*>(shared_bytes);
  ones_tile& beside = *reinterpret_cast<ones_tile*>(shared_bytes + distance * sizeof(value_tile));
  fill(values, b);
  fill(beside, c);
  const operand_tile<64> operand = load_operand<64>(a);
  accumulator_tile<72> product;
  clear(product);
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
  for (const int distance : {1, 2, 25}) {  // up to most of a multiprocessor's memory
    SCOPED_TRACE(distance);
    device_array<float> d(64 * 72);
    launch(mma_AB_beside_kernel, distance * sizeof(value_tile) + sizeof(ones_tile), device_a.data(),
           device_b.data(), device_c.data(), distance, d.data());
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
}

struct chunk_storage {
  token_tile k;      // [64 x 16]
  value_tile v;      // [64 x 64]
  state_tile state;  // [160 x 64]
  ones_tile beside;  // [16 x 64]
};
struct chunk_operands {
  const bits *q, *phi;                 // [64 x 16], [64 x 160]
  const bits *k, *v, *state, *beside;  // of chunk_storage
};

/// As a chunk's output is worked out: A = Q K^T [64 x 64] is read while the product after it may be
/// in flight, D [64 x 72] = [Phi S 0] + bf16(A) [V C] has its first columns from that.
__global__ void overlapping_products_kernel(chunk_operands from, float* a, float* d) {
  extern __shared__ __align__(1024) char shared_bytes[];
  chunk_storage& shared = *reinterpret_cast<chunk_storage*>(shared_bytes);
  fill(shared.k, from.k);
  fill(shared.v, from.v);
  fill(shared.state, from.state);
  fill(shared.beside, from.beside);
  const operand_tile<16> q = load_operand<16>(from.q);
  const operand_tile<160> phi = load_operand<160>(from.phi);
  accumulator_tile<64> scores;
  accumulator_tile<72> all;
  accumulator_tile<64>& first = first_columns<64>(all);
  warpgroup::mma_fence();
  warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(scores, q.slice[0], shared.k, 0);
  warpgroup::mma_commit();
  warpgroup::mma_fence();
  warpgroup::mma_AB<warpgroup::mma_mode::overwrite>(first, phi.slice[0], shared.state, 0);
#pragma unroll
  for (int i = 1; i < phi.slices; ++i) {
    warpgroup::mma_AB(first, phi.slice[i], shared.state, i);
  }
  warpgroup::mma_commit();
  warpgroup::mma_wait<1>(scores);
  drain(scores, a);
  const operand_tile<64> weights = to_bf16(scores);
#pragma unroll
  for (int i = first.size; i < all.size; ++i) all.value[i] = 0;
  warpgroup::mma_fence();
#pragma unroll
  for (int i = 0; i < weights.slices; ++i) {
    warpgroup::mma_AB_beside(all, weights.slice[i], shared.v, i, shared.beside);
  }
  warpgroup::mma_commit();
  warpgroup::mma_wait<0>(all);
  drain(all, d);
}

TEST_F(tile_test, reads_products_while_others_are_in_flight) {
  constexpr int slots = quad::slots;
  const auto q = support::normal_values(64 * 16, 17), phi = support::normal_values(64 * slots, 18);
  const auto k = support::normal_values(64 * 16, 19), v = support::normal_values(64 * 64, 20);
  const auto state = support::normal_values(slots * 64, 21);
  const auto beside = support::normal_values(16 * 64, 22);
  device_array<bits> device_q(to_bits(q)), device_phi(to_bits(phi)), device_k(to_bits(k)),
      device_v(to_bits(v)), device_state(to_bits(state)), device_beside(to_bits(beside));
  device_array<float> device_a(64 * 64), d(64 * 72);
  launch(overlapping_products_kernel, sizeof(chunk_storage),
         chunk_operands{device_q.data(), device_phi.data(), device_k.data(), device_v.data(),
                        device_state.data(), device_beside.data()},
         device_a.data(), d.data());
  const auto a = device_a.read();
  EXPECT_LT(worst_error(a, 64, 64,
                        [&](int row, int col) {
                          double sum = 0;
                          for (int i = 0; i < 16; ++i) sum += q[row * 16 + i] * k[col * 16 + i];
                          return sum;
                        }),
            rounding);
  EXPECT_LT(worst_error(d.read(), 64, 72,
                        [&](int row, int col) {
                          double sum = 0;
                          for (int i = 0; i < slots && col < 64; ++i) {
                            sum += phi[row * slots + i] * state[i * 64 + col];
                          }
                          for (int i = 0; i < 64; ++i) {
                            const float right =
                                col < 64 ? v[i * 64 + col] : beside[i % 16 * 64 + col - 64];
                            sum += to_float(to_bf16(a[row * 64 + i])) * right;
                          }
                          return sum;
                        }),
            rounding);
}

/// Softmax's steps over a tile [64 x Cols]: its rows' maxima and sums, each by the four lanes that
/// have them, and the exponentials.
template <int Cols>
__global__ void rows_kernel(const float* source, float least, float* maxima, float* sums,
                            float scale, const float* offsets, float* powers) {
  accumulator_tile<Cols> tile;
  fill(tile, source);
  const row_values largest = warp::row_max(fold_max(tile, {least, least}));
  const row_values total = warp::row_sum(fold_sum(tile, {1, 2}));
  const int row = 16 * warpgroup::warp() + warp::lane() / 4;
  for (int i = 0; i < 2; ++i) {
    const int at = 4 * (row + 8 * i) + warp::lane() % 4;
    maxima[at] = largest.value[i];
    sums[at] = total.value[i];
  }
  exp2_rows(tile, scale, {offsets[row], offsets[row + 8]});
  drain(tile, powers);
}

template <int Cols>
void check_rows() {
  constexpr float least = 1.5f, scale = 0.75f;
  const auto values = support::normal_values(64 * Cols, 32),
             offsets = support::normal_values(64, 33);
  device_array<float> source(values), device_offsets(offsets), maxima(64 * 4), sums(64 * 4),
      powers(64 * Cols);
  launch(rows_kernel<Cols>, 0, source.data(), least, maxima.data(), sums.data(), scale,
         device_offsets.data(), powers.data());
  const auto row_of = [&](int row) { return values.begin() + row * Cols; };
  EXPECT_EQ(worst_error(maxima.read(), 64, 4,
                        [&](int row, int) {
                          return std::max(least, *std::max_element(row_of(row), row_of(row + 1)));
                        }),
            0);
  EXPECT_LT(worst_error(sums.read(), 64, 4,
                        [&](int row, int) {
                          const double start = 4 * (row % 16 < 8 ? 1 : 2);  // of four lanes
                          return std::accumulate(row_of(row), row_of(row + 1), start);
                        }),
            rounding);
  EXPECT_LT(worst_error(powers.read(), 64, Cols,
                        [&](int row, int col) {
                          return std::exp2(double{scale} * values[row * Cols + col] - offsets[row]);
                        }),
            rounding);
}

TEST_F(tile_test, works_on_rows_of_scores) {
  check_rows<8>();
  check_rows<64>();
  check_rows<128>();
}

__global__ void round_to_fp16_kernel(const float* source, bits* destination) {
  accumulator_tile<64> tile;
  fill(tile, source);
  const operand_tile<64> rounded = to_operand<fp16>(tile);
  extern __shared__ __align__(1024) char shared_bytes[];
  auto& shared = *reinterpret_cast<shared_tile<64, 64, swizzle::bytes128, fp16>*>(shared_bytes);
  warpgroup::store(shared, rounded);
  drain(shared, destination);
}

TEST_F(tile_test, rounds_to_fp16) {
  auto values = support::normal_values(64 * 64, 34);
  for (float& value : values) value *= 1.001f;  // no longer an fp16
  device_array<float> source(values);
  device_array<bits> destination(64 * 64);
  launch(round_to_fp16_kernel, 64 * 64 * sizeof(bits), source.data(), destination.data());
  std::vector<bits> expected;
  for (const float value : values) expected.push_back(to_fp16(value).bits);
  EXPECT_EQ(destination.read(), expected);
}

/// The first 64 columns of a tile [64 x Cols], each row times a factor of its own.
template <int Cols>
__global__ void scale_rows_kernel(const float* source, const float* factors, float* destination) {
  accumulator_tile<Cols> tile;
  fill(tile, source);
  const float* mine = factors + 16 * warpgroup::warp() + warp::lane() / 4;
  scale_rows(first_columns<64>(tile), {mine[0], mine[8]});
  drain(tile, destination);
}

template <int Cols>
void check_scale_rows() {
  const auto values = support::normal_values(64 * Cols, 23);
  const auto factors = support::normal_values(64, 24);
  device_array<float> source(values), device_factors(factors), destination(64 * Cols);
  launch(scale_rows_kernel<Cols>, 0, source.data(), device_factors.data(), destination.data());
  EXPECT_EQ(worst_error(destination.read(), 64, Cols,
                        [&](int row, int col) -> double {
                          return values[row * Cols + col] * (col < 64 ? factors[row] : 1);
                        }),
            0);
}

TEST_F(tile_test, scales_rows) {
  check_scale_rows<64>();
}
TEST_F(tile_test, scales_rows_of_first_columns) {
  check_scale_rows<72>();
}

__global__ void mma_AtB_kernel(const bits* a, const bits* b, float* d) {
  extern __shared__ __align__(1024) char shared_bytes[];
  value_tile& tile_a = *reinterpret_cast<value_tile*>(shared_bytes);
  feature_tile& tile_b = *reinterpret_cast<feature_tile*>(shared_bytes + sizeof(value_tile));
  fill(tile_a, a);
  fill(tile_b, b);
  accumulator_tile<160> product;
  clear(product);
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
/// moments. And z [153], and twice z, the second time by way of a thread's parts.
__global__ void moments_kernel(const bits* q, const bits* k, float scale, float* sums, float* z,
                               segment_state* partial, float* twice_z) {
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
  moments.store_part(partial->moments);
  if (threadIdx.x == 0) z[0] = 64;
  __syncthreads();
  key_moments others;
  others.clear();
  others.load(z);
  others.add_part(partial->moments);
  others.store(twice_z);
  if (threadIdx.x == 0) twice_z[0] = 2 * z[0];
}

TEST_F(tile_test, keeps_key_moments) {
  constexpr float scale = 0.25f;
  const auto q = support::normal_values(64 * 16, 11), k = support::normal_values(64 * 16, 12);
  device_array<bits> device_q(to_bits(q)), device_k(to_bits(k));
  device_array<float> sums(64), z(compact_features), twice_z(compact_features);
  device_array<segment_state> partial(1);
  launch(moments_kernel, 4 * sizeof(token_tile), device_q.data(), device_k.data(), scale,
         sums.data(), z.data(), partial.data(), twice_z.data());
  EXPECT_LT(worst_error(sums.read(), 64, 1,
                        [&](int row, int) { return sum_of_weights(&q[row * 16], k, scale); }),
            2e-3);  // M and q . y are rounded to bf16
  const std::vector<double> expected = moments_of_keys(k);
  EXPECT_LT(worst_error(z.read(), compact_features, 1, [&](int row, int) { return expected[row]; }),
            rounding);
  EXPECT_LT(worst_error(twice_z.read(), compact_features, 1,
                        [&](int row, int) { return 2 * expected[row]; }),
            rounding);
}

/// S^T [64 x 160] from compact rows, through its rounded form and twice through its exact one, and
/// back to compact rows.
__global__ void state_kernel(const float* from, segment_state* partial, handed_state* handed,
                             float* to, float scale) {
  state_accumulator state;
  warpgroup::load_state(state, *reinterpret_cast<const compact_state*>(from), scale);
  warpgroup::store_parts(partial->state, state);
  warpgroup::add_parts(state, partial->state);
  warpgroup::store_exact(handed->state, state);
  clear(state);
  warpgroup::load_exact(state, handed->state);
  warpgroup::add_exact(state, handed->state);
  warpgroup::store_state(to, state, scale);
}

TEST_F(tile_test, moves_states) {
  constexpr float scale = 0.25f;
  const auto values = support::normal_values(compact_features * value_dim, 13);
  device_array<float> from(values), to(compact_features * value_dim);
  device_array<segment_state> partial(1);
  device_array<handed_state> handed(1);
  launch(state_kernel, 0, from.data(), partial.data(), handed.data(), to.data(), scale);
  EXPECT_EQ(worst_error(to.read(), compact_features, value_dim,
                        [&](int row, int col) { return 4 * values[row * value_dim + col]; }),
            0);
}

}  // namespace
}  // namespace based
