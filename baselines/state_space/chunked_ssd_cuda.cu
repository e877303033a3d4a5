// The CUDA form of chunked_ssd.h: five kernels, one a pass.
//
//   sums      [B, H] x chunks             one warp each
//   states    [B, chunks, H] x P / 64     [64 x S] = (weighted x)^T b, K = 256 tokens
//   passing   [B, H] x P S / 1024         a thread carries four elements over all chunks
//   products  [B, G] x chunks x 3         [128 x 128] = c b^T, those on and below the diagonal
//   scan      [B, tiles, H] x P / 64      [128 x 64] = c S^T, then weights x
//
// Heads are the fastest but for P, so that blocks that run together read the same b, c and
// products.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "baselines/staged_rows.cuh"
#include "baselines/state_space/chunked_ssd.h"
#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/bf16x2.cuh"
#include "kernels/ptx/ex2.cuh"
#include "kernels/ptx/mma.cuh"

namespace based::chunked_ssd {
namespace {

constexpr int chunk = 256;   // tokens
constexpr int slice = 32;    // tokens or elements of b, c and S that are staged at once
constexpr int stages = 3;    // slices in shared memory: one in use, the next two on their way
constexpr int columns = 64;  // of x and y: a block's part of P
constexpr float log2e = 1.44269504088896341f;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

struct kernel_params {
  ssd_args<bf16> given;
  int heads, groups, heads_a_group, head_dim, state_dim;
  std::int64_t seqlen, chunks;
  // The workspace.
  float* steps;     ///< dt' [B, H, chunks 256], 0 past the end
  float* sums;      ///< of dt' a log2(e) within a chunk, the token's own included; as steps
  float* states;    ///< [B, H, chunks, P, S]: what a chunk adds
  bf16* before;     ///< as states: the state before a chunk
  float* products;  ///< [B, G, chunks, 256, 256]: c_l . b_m; not written where m's tile follows l's

  __device__ std::int64_t batch_head(std::int64_t b, std::int64_t h) const { return b * heads + h; }
  /// Where steps and sums of a chunk begin.
  __device__ std::int64_t row(std::int64_t b, std::int64_t h, std::int64_t which) const {
    return (batch_head(b, h) * chunks + which) * chunk;
  }
  /// Where the state of a chunk begins.
  __device__ std::int64_t state(std::int64_t b, std::int64_t h, std::int64_t which) const {
    return (batch_head(b, h) * chunks + which) * head_dim * state_dim;
  }
};

/// A block's place in a grid whose fastest dimension is the part of P, then the head, then the tile
/// of tokens, then the sequence.
struct block_place {
  std::int64_t batch, head, tile;
  int first_column;

  __device__ block_place(const kernel_params& p, std::int64_t tiles) {
    const int parts = p.head_dim / columns;
    std::int64_t at = blockIdx.x;
    first_column = static_cast<int>(at % parts) * columns;
    at /= parts;
    head = at % p.heads;
    at /= p.heads;
    tile = at % tiles;
    batch = at / tiles;
  }
};

// Pass 1: dt' and the sums.

constexpr int sum_warps = 4;

__global__ __launch_bounds__(sum_warps* warp_size) void sums_kernel(
    const __grid_constant__ kernel_params p, std::int64_t all_chunks) {
  constexpr int each = chunk / warp_size;  // consecutive tokens of a lane
  const int lane = threadIdx.x % warp_size;
  const std::int64_t which = std::int64_t{blockIdx.x} * sum_warps + threadIdx.x / warp_size;
  if (which >= all_chunks) return;
  const std::int64_t b = which / p.chunks / p.heads, h = which / p.chunks % p.heads;
  const std::int64_t first = which % p.chunks * chunk + lane * each;
  const ssd_problem& problem = p.given.problem;
  const float rate = p.given.a[h] * log2e;
  const float bias = problem.bias ? p.given.dt_bias[h] : 0.0f;

  float steps[each], sums[each];
  float total = 0;
#pragma unroll
  for (int i = 0; i < each; ++i) {
    steps[i] = 0;
    if (first + i < p.seqlen) {
      steps[i] = to_float(*p.given.dt.token(b, h, first + i)) + bias;
      if (problem.softplus) steps[i] = softplus(steps[i]);
    }
    total += steps[i] * rate;
    sums[i] = total;
  }
  constexpr unsigned all_lanes = 0xffffffff;
  float before = total;  // this lane's and the earlier ones'
#pragma unroll
  for (int distance = 1; distance < warp_size; distance *= 2) {
    const float other = __shfl_up_sync(all_lanes, before, distance);
    if (lane >= distance) before += other;
  }
  before = __shfl_up_sync(all_lanes, before, 1);
  if (lane == 0) before = 0;
  const std::int64_t at = which * chunk + lane * each;
#pragma unroll
  for (int i = 0; i < each; i += 4) {
    *reinterpret_cast<float4*>(p.steps + at + i) = {steps[i], steps[i + 1], steps[i + 2],
                                                    steps[i + 3]};
    *reinterpret_cast<float4*>(p.sums + at + i) = {before + sums[i], before + sums[i + 1],
                                                   before + sums[i + 2], before + sums[i + 3]};
  }
}

// What the three passes with products share. A slice of a product's inner dimension is staged by
// cp.async while those before it are used; a warp's result is [16 rows x 16 columns] blocks.

template <int Rows, int Columns>
using accumulators = float[Rows / 16][Columns / 8][4];

/// Starts the copies of the first slices: load(i) starts those of slice i.
/// Called by: one block
template <class Load>
__device__ void start_slices(int count, Load load) {
#pragma unroll
  for (int i = 0; i < stages - 1; ++i) {
    if (i < count) load(i);
    ptx::cp_async_commit();
  }
}

/// Uses slices first..last-1 of `count`, in order: arrived(i) when this thread's own copies of
/// slice i are in shared memory, use(i) when all threads' are. Meanwhile later slices are loaded.
/// Called by: one block
template <class Load, class Arrived, class Use>
__device__ void for_slices(int first, int last, int count, Load load, Arrived arrived, Use use) {
  for (int i = first; i < last; ++i) {
    ptx::cp_async_wait<stages - 2>();
    arrived(i);
    __syncthreads();  // and nobody uses slice i - 1 any more, whose place the next one takes
    if (i + stages - 1 < count) load(i + stages - 1);
    ptx::cp_async_commit();
    use(i);
  }
}

/// sum [Rows x Columns] += a [Rows x 16] b [16 x Columns]; load_b(b, n) loads columns n..n+15.
/// Called by: one warp
template <int RowBlocks, int ColumnBlocks, class LoadB>
__device__ void multiply(float (&sum)[RowBlocks][ColumnBlocks][4],
                         const std::uint32_t (&a)[RowBlocks][4], LoadB load_b) {
#pragma unroll
  for (int n = 0; n < ColumnBlocks / 2; ++n) {
    std::uint32_t b[4];
    load_b(b, n * 16);
#pragma unroll
    for (int m = 0; m < RowBlocks; ++m) {
      ptx::mma_m16n8k16(sum[m][2 * n], a[m], b[0], b[1]);
      ptx::mma_m16n8k16(sum[m][2 * n + 1], a[m], b[2], b[3]);
    }
  }
}

/// Writes a warp's result to rows of `to`, `stride` floats apart.
/// Called by: one warp
template <int RowBlocks, int ColumnBlocks>
__device__ void store(float* to, int stride, const float (&sum)[RowBlocks][ColumnBlocks][4]) {
  const int lane = threadIdx.x % warp_size;
  to += lane / 4 * stride + lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < RowBlocks; ++m) {
#pragma unroll
    for (int n = 0; n < ColumnBlocks; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        *reinterpret_cast<float2*>(to + (m * 16 + half * 8) * stride + n * 8) = {
            sum[m][n][2 * half], sum[m][n][2 * half + 1]};
      }
    }
  }
}

/// Where a thread need not touch what it has loaded.
constexpr auto nothing_to_do = [](int) {};

// Pass 2: what each chunk adds to the state. A warp makes [64 of P x 32 of S].

/// Blocks of a multiprocessor (the other kernels have theirs), as many as registers allow.
template <int StateDim>
constexpr int states_residents = 512 / StateDim;

template <int StateDim>
struct states_storage {
  staged_rows<slice, columns> x[stages];
  staged_rows<slice, StateDim> b[stages];
  float weights[chunk];  // exp(cs_e - cs_l) dt'_l
};

/// tile[l, :] *= weights[l], rounded again. A thread does what it has loaded itself.
/// Called by: one block
template <int Threads>
__device__ void weigh_rows(staged_rows<slice, columns>& tile, const float* weights) {
  constexpr int unit = vector16<bf16>, units = columns / unit;
  const int column = threadIdx.x % units * unit;
#pragma unroll
  for (int row = threadIdx.x / units; row < slice; row += Threads / units) {
    float values[unit];
    unpack(tile.template load<uint4>(row, column), values);
#pragma unroll
    for (float& value : values) value *= weights[row];
    tile.store(row, column, pack(values));
  }
}

template <int StateDim>
__global__ __launch_bounds__(StateDim, states_residents<StateDim>) void states_kernel(
    const __grid_constant__ kernel_params p) {
  constexpr int threads = StateDim;
  constexpr int width = 32;  // of S, a warp's
  extern __shared__ __align__(16) unsigned char dynamic_shared[];
  auto& shared = *reinterpret_cast<states_storage<StateDim>*>(dynamic_shared);
  const block_place at(p, p.chunks);
  const std::int64_t first = at.tile * chunk, group = at.head / p.heads_a_group;
  const std::int64_t left = p.seqlen - first;
  const int slices = static_cast<int>(ceil_div(min(left, std::int64_t{chunk}), slice));

  const auto load = [&](int which) {
    const std::int64_t token = first + which * slice;
    shared.x[which % stages].template load_async<threads>(
        p.given.x.token(at.batch, at.head, token) + at.first_column, p.given.x.token_stride,
        p.seqlen - token);
    shared.b[which % stages].template load_async<threads>(p.given.b.token(at.batch, group, token),
                                                          p.given.b.token_stride, p.seqlen - token);
  };
  start_slices(slices, load);
  const std::int64_t row = p.row(at.batch, at.head, at.tile);
  const float end = p.sums[row + chunk - 1];
  for (int l = threadIdx.x; l < chunk; l += threads) {
    shared.weights[l] = ptx::ex2(end - p.sums[row + l]) * p.steps[row + l];
  }
  __syncthreads();

  const int warp_column = threadIdx.x / warp_size * width;
  accumulators<columns, width> sum = {};  // [64 of P x 32 of S]
  const auto weigh = [&](int which) {
    weigh_rows<threads>(shared.x[which % stages], shared.weights + which * slice);
  };
  for_slices(0, slices, slices, load, weigh, [&](int which) {
    const auto& x = shared.x[which % stages];
    const auto& b = shared.b[which % stages];
#pragma unroll
    for (int k = 0; k < slice; k += 16) {
      std::uint32_t xa[columns / 16][4];  // [64 of P x 16 tokens]
#pragma unroll
      for (int m = 0; m < columns / 16; ++m) x.load_a_trans(xa[m], k, m * 16);
      multiply(sum, xa, [&](std::uint32_t(&bb)[4], int n) {  // [16 tokens x 16 of S]
        b.load_b_trans(bb, k, warp_column + n);
      });
    }
  });
  store(p.states + p.state(at.batch, at.head, at.tile) + std::int64_t{at.first_column} * StateDim +
            warp_column,
        StateDim, sum);
}

// Pass 3: the states before each chunk.

constexpr int passing_threads = 256;
constexpr int carried = 4;  // elements of a thread

__global__ __launch_bounds__(passing_threads) void passing_kernel(
    const __grid_constant__ kernel_params p) {
  constexpr int ahead = 8;  // chunks whose states are read before the first of them is used
  const std::int64_t of_state = std::int64_t{p.head_dim} * p.state_dim;
  const std::int64_t element = (std::int64_t{blockIdx.x} * passing_threads + threadIdx.x) * carried;
  const std::int64_t head = element / of_state, within = element % of_state;
  float4 state = {};
  if (p.given.problem.initial_state) {
    state = *reinterpret_cast<const float4*>(p.given.initial_state.data() + element);
  }
  const float* const sums = p.sums + head * p.chunks * chunk + chunk - 1;
  const std::int64_t place = head * p.chunks * of_state + within;
  for (std::int64_t first = 0; first < p.chunks; first += ahead) {
    float4 added[ahead];
    float decay[ahead];
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      if (first + i >= p.chunks) break;
      added[i] = __ldcs(reinterpret_cast<const float4*>(p.states + place + (first + i) * of_state));
      decay[i] = sums[(first + i) * chunk];
    }
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      if (first + i >= p.chunks) break;
      *reinterpret_cast<uint2*>(p.before + place + (first + i) * of_state) = {
          ptx::to_bf16x2(state.x, state.y), ptx::to_bf16x2(state.z, state.w)};
      const float factor = ptx::ex2(decay[i]);
      state = {fmaf(state.x, factor, added[i].x), fmaf(state.y, factor, added[i].y),
               fmaf(state.z, factor, added[i].z), fmaf(state.w, factor, added[i].w)};
    }
  }
  if (p.given.problem.final_state) {
    *reinterpret_cast<float4*>(p.given.final_state.data() + element) = state;
  }
}

// Pass 4: c b^T of a chunk. A warp makes [32 x 64].

constexpr int tile = 128;  // tokens of a product, both ways, and of the scan
constexpr int tiles_a_chunk = chunk / tile;
constexpr int product_tiles = tiles_a_chunk * (tiles_a_chunk + 1) / 2;
constexpr int product_threads = 256;
constexpr int product_residents = 2;

struct products_storage {
  staged_rows<tile, slice> c[stages], b[stages];
};

__global__ __launch_bounds__(product_threads, product_residents) void products_kernel(
    const __grid_constant__ kernel_params p) {
  extern __shared__ __align__(16) unsigned char dynamic_shared[];
  auto& shared = *reinterpret_cast<products_storage*>(dynamic_shared);
  constexpr int rows = 32;  // a warp's
  const int which = static_cast<int>(blockIdx.x % product_tiles);
  const std::int64_t chunk_index = blockIdx.x / product_tiles;  // of [B, G, chunks]
  const std::int64_t batch = chunk_index / p.chunks / p.groups;
  const std::int64_t group = chunk_index / p.chunks % p.groups;
  const int row_tile = which == 0 ? 0 : 1, column_tile = which == 2 ? 1 : 0;
  static_assert(tiles_a_chunk == 2);
  const std::int64_t first = chunk_index % p.chunks * chunk;
  const std::int64_t row = first + row_tile * tile, column = first + column_tile * tile;
  if (row >= p.seqlen) return;

  const int slices = p.state_dim / slice;
  const auto load = [&](int k) {
    shared.c[k % stages].load_async<product_threads>(p.given.c.token(batch, group, row) + k * slice,
                                                     p.given.c.token_stride, p.seqlen - row);
    shared.b[k % stages].load_async<product_threads>(
        p.given.b.token(batch, group, column) + k * slice, p.given.b.token_stride,
        p.seqlen - column);
  };
  start_slices(slices, load);
  const int warp = threadIdx.x / warp_size;
  const int warp_row = warp / 2 * rows, warp_column = warp % 2 * 64;
  accumulators<rows, 64> sum = {};
  for_slices(0, slices, slices, load, nothing_to_do, [&](int k) {
#pragma unroll
    for (int s = 0; s < slice; s += 16) {
      std::uint32_t ca[rows / 16][4];  // [32 tokens x 16 of S]
#pragma unroll
      for (int m = 0; m < rows / 16; ++m) {
        shared.c[k % stages].load_a(ca[m], warp_row + m * 16, s);
      }
      multiply(sum, ca, [&](std::uint32_t(&bb)[4], int n) {  // [16 of S x 16 tokens]
        shared.b[k % stages].load_b(bb, warp_column + n, s);
      });
    }
  });
  store(p.products + (chunk_index * chunk + row_tile * tile + warp_row) * chunk +
            column_tile * tile + warp_column,
        chunk, sum);
}

// Pass 5: the outputs. A warp makes [32 x 64].

constexpr int scan_rows = 32;  // a warp's
constexpr int scan_threads = tile / scan_rows * warp_size;
constexpr int scan_residents = 3;

/// Products of tokens with a slice of keys, [128 x 32], in 16-byte words. Where words of even rows
/// come first, those of odd rows come last, so that a warp reads four words of eight rows at once
/// without conflicts.
struct product_rows {
  static constexpr int unit = vector16<float>, units = slice / unit;
  static_assert(units == 8);
  float elements[tile * slice];

  __device__ float* word(int row, int index) {
    return elements + row * slice + (index ^ row % 2 * (units / 2)) * unit;
  }
  __device__ float4 read(int row, int index) {
    return *reinterpret_cast<const float4*>(word(row, index));
  }
};

/// What an iteration needs: a slice of the state's columns, or of the chunk's keys.
union scan_stage {
  struct {
    staged_rows<tile, slice> c;         // [128 tokens x 32 of S]
    staged_rows<columns, slice> state;  // [64 of P x 32 of S]
  };
  struct {
    product_rows products;
    staged_rows<slice, columns> x;  // [32 tokens x 64 of P], in the order of `key_in_order`
  };
};
constexpr int y_stride = columns + 4;  // in floats: rows eight apart do not share their banks
struct scan_storage {
  union {
    scan_stage stage[stages];
    float y[tile * y_stride];
  };
  float sums[chunk];
  float exponents[chunk];  // of a key: a weight is a product times 2^(the row's sum - this)
};

/// A lane reads four neighbouring products of a row as one word. The k that they stand for in a
/// product with sixteen keys are 2t, 2t + 1, 8 + 2t and 9 + 2t: the key that k stands for.
__device__ int key_in_order(int k) {
  return k % 8 / 2 * 4 + k / 8 * 2 + k % 2;
}

/// Adds the skip, multiplies by the gate, and writes a tile [128 x 64] of y from shared memory.
/// Called by: one block
__device__ void write_outputs(const kernel_params& p, const block_place& at, const float* y,
                              std::int64_t first, int tokens) {
  constexpr int unit = vector16<bf16>, units = columns / unit;
  const ssd_problem& problem = p.given.problem;
  const float skip = problem.skip ? p.given.d[at.head] : 0.0f;
  for (int i = threadIdx.x; i < tokens * units; i += scan_threads) {
    const int row = i / units, column = i % units * unit;
    float values[unit];
#pragma unroll
    for (int e = 0; e < unit; ++e) values[e] = y[row * y_stride + column + e];
    const auto others = [&](const sequence_view<const bf16>& view, float(&read)[unit]) {
      unpack(load_word(view.token(at.batch, at.head, first + row) + at.first_column + column),
             read);
    };
    if (problem.skip) {
      float x[unit];
      others(p.given.x, x);
#pragma unroll
      for (int e = 0; e < unit; ++e) values[e] += skip * x[e];
    }
    if (problem.gate) {
      float z[unit];
      others(p.given.z, z);
#pragma unroll
      for (int e = 0; e < unit; ++e) values[e] *= z[e] / (1.0f + ptx::ex2(-z[e] * log2e));
    }
    store_word(p.given.y.token(at.batch, at.head, first + row) + at.first_column + column,
               pack(values));
  }
}

__global__ __launch_bounds__(scan_threads, scan_residents) void scan_kernel(
    const __grid_constant__ kernel_params p, std::int64_t tiles) {
  extern __shared__ __align__(16) unsigned char dynamic_shared[];
  auto& shared = *reinterpret_cast<scan_storage*>(dynamic_shared);
  constexpr int row_blocks = scan_rows / 16;
  const block_place at(p, tiles);
  const std::int64_t group = at.head / p.heads_a_group, first = at.tile * tile;
  const std::int64_t which = at.tile / tiles_a_chunk;
  const int row_in_chunk = static_cast<int>(at.tile % tiles_a_chunk) * tile;
  const std::int64_t chunk_start = which * chunk;
  const int tokens = static_cast<int>(min(p.seqlen - first, std::int64_t{tile}));

  const int state_slices = p.state_dim / slice;
  const int slices =
      state_slices + static_cast<int>(ceil_div(row_in_chunk + tokens, std::int64_t{slice}));
  const bf16* const state =
      p.before + p.state(at.batch, at.head, which) + std::int64_t{at.first_column} * p.state_dim;
  const std::int64_t products_row = (at.batch * p.groups + group) * p.chunks + which;
  const float* const products = p.products + (products_row * chunk + row_in_chunk) * chunk;
  const auto load = [&](int i) {
    scan_stage& stage = shared.stage[i % stages];
    if (i < state_slices) {
      stage.c.load_async<scan_threads>(p.given.c.token(at.batch, group, first) + i * slice,
                                       p.given.c.token_stride, tokens);
      stage.state.load_async<scan_threads>(state + i * slice, p.state_dim, columns);
      return;
    }
    const int key = (i - state_slices) * slice;
    constexpr int units = product_rows::units;
    const int unit = threadIdx.x % units;
#pragma unroll
    for (int row = threadIdx.x / units; row < tile; row += scan_threads / units) {
      ptx::cp_async_16(stage.products.word(row, unit),
                       products + row * chunk + key + unit * product_rows::unit, true);
    }
    constexpr int x_unit = vector16<bf16>, x_units = columns / x_unit;
    const int column = threadIdx.x % x_units * x_unit;
#pragma unroll
    for (int row = threadIdx.x / x_units; row < slice; row += scan_threads / x_units) {
      const std::int64_t token = chunk_start + key + row / 16 * 16 + key_in_order(row % 16);
      ptx::cp_async_16(stage.x.at(row, column),
                       p.given.x.token(at.batch, at.head, token) + at.first_column + column,
                       token < p.seqlen);
    }
  };
  start_slices(slices, load);
  const std::int64_t row = p.row(at.batch, at.head, which);
  for (int l = threadIdx.x; l < chunk; l += scan_threads) {
    shared.sums[l] = p.sums[row + l];
    shared.exponents[l] = p.sums[row + l] - __log2f(p.steps[row + l]);
  }

  const int lane = threadIdx.x % warp_size;
  const int g = lane / 4, t = lane % 4;  // as in ptx/mma.cuh
  const int warp_row = threadIdx.x / warp_size * scan_rows;
  accumulators<scan_rows, columns> y = {};  // [32 tokens x 64 of P]
  for_slices(0, state_slices, slices, load, nothing_to_do, [&](int i) {
    const scan_stage& stage = shared.stage[i % stages];
#pragma unroll
    for (int s = 0; s < slice; s += 16) {
      std::uint32_t ca[row_blocks][4];  // [32 tokens x 16 of S]
#pragma unroll
      for (int m = 0; m < row_blocks; ++m) stage.c.load_a(ca[m], warp_row + m * 16, s);
      multiply(y, ca, [&](std::uint32_t(&sb)[4], int n) {  // [16 of S x 16 of P]
        stage.state.load_b(sb, n, s);
      });
    }
  });

  float row_sums[row_blocks][2];  // of rows g and g + 8
#pragma unroll
  for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      row_sums[m][half] = shared.sums[row_in_chunk + warp_row + m * 16 + half * 8 + g];
      const float decay = ptx::ex2(row_sums[m][half]);
#pragma unroll
      for (auto& block : y[m]) {
        block[2 * half] *= decay;
        block[2 * half + 1] *= decay;
      }
    }
  }

  for_slices(state_slices, slices, slices, load, nothing_to_do, [&](int i) {
    scan_stage& stage = shared.stage[i % stages];
    const int first_key = (i - state_slices) * slice;
    const int last_row = row_in_chunk + warp_row + scan_rows - 1;
    if (first_key > last_row) return;  // not seen by this warp's tokens
#pragma unroll
    for (int k = 0; k < slice; k += 16) {
      const int key = first_key + k + 4 * t;  // the first of this lane's
      const float4 exponents = *reinterpret_cast<const float4*>(shared.exponents + key);
      std::uint32_t weights[row_blocks][4];  // [32 tokens x 16 keys]
#pragma unroll
      for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int tile_row = warp_row + m * 16 + half * 8 + g;
          const int last_key = row_in_chunk + tile_row - key;  // counted from this lane's first
          const float4 of_row = stage.products.read(tile_row, k / 4 + t);
          const auto weight = [&](float product, float exponent, int offset) {
            const float weighted = product * ptx::ex2(row_sums[m][half] - exponent);
            return offset <= last_key ? weighted : 0.0f;
          };
          weights[m][half] =
              ptx::to_bf16x2(weight(of_row.x, exponents.x, 0), weight(of_row.y, exponents.y, 1));
          weights[m][2 + half] =
              ptx::to_bf16x2(weight(of_row.z, exponents.z, 2), weight(of_row.w, exponents.w, 3));
        }
      }
      multiply(y, weights, [&](std::uint32_t(&xb)[4], int n) {  // [16 keys x 16 of P]
        stage.x.load_b_trans(xb, k, n);
      });
    }
  });

  __syncthreads();  // the stages' place is free
  store(shared.y + warp_row * y_stride, y_stride, y);
  __syncthreads();
  write_outputs(p, at, shared.y, first, tokens);
}

// The host side.

/// Hands out the parts of the workspace, in this order, each aligned; `take` gets a pointer to set
/// and how many elements it wants.
template <class Take>
void for_each_part(const ssd_problem& problem, kernel_params& p, Take take) {
  const std::int64_t chunks = ceil_div(problem.seqlen, chunk);
  const std::int64_t tokens = problem.batch_heads() * chunks * chunk;
  const std::int64_t states = problem.batch_heads() * chunks * problem.head_dim * problem.state_dim;
  take(p.steps, tokens);
  take(p.sums, tokens);
  take(p.states, states);
  take(p.before, states);
  take(p.products, problem.batch * problem.groups * chunks * chunk * chunk);
}

std::size_t workspace_bytes(const ssd_problem& problem) {
  std::size_t bytes = 0;
  kernel_params p = {};
  for_each_part(problem, p, [&]<class T>(T*, std::int64_t count) {
    bytes += static_cast<std::size_t>(count) * sizeof(T);
  });
  return bytes;
}

/// Blocks of every grid; the largest is the scan's.
std::int64_t scan_blocks(const ssd_problem& problem) {
  return problem.batch_heads() * ceil_div(problem.seqlen, tile) * (problem.head_dim / columns);
}

unsupported_reason unsupported(const ssd_problem& problem) {
  validate(problem);
  constexpr std::int64_t largest_grid = std::numeric_limits<std::int32_t>::max();
  // A grid of elements of states needs fewer blocks than this has tokens, or heads times 32.
  constexpr std::int64_t passing_blocks_a_head = 128 * 256 / (passing_threads * carried);
  if (ceil_div(problem.seqlen, tile) >
      largest_grid / passing_blocks_a_head / problem.heads / problem.batch) {
    return "too many tokens for one grid";
  }
  return std::nullopt;
}

void run(const ssd_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes(args.problem));
  const ssd_problem& problem = args.problem;
  kernel_params p = {.given = args,
                     .heads = static_cast<int>(problem.heads),
                     .groups = static_cast<int>(problem.groups),
                     .heads_a_group = static_cast<int>(problem.heads / problem.groups),
                     .head_dim = problem.head_dim,
                     .state_dim = problem.state_dim,
                     .seqlen = problem.seqlen,
                     .chunks = ceil_div(problem.seqlen, chunk)};
  auto* at = static_cast<std::byte*>(args.workspace);
  for_each_part(problem, p, [&]<class T>(T*& part, std::int64_t count) {
    part = reinterpret_cast<T*>(at);
    at += static_cast<std::size_t>(count) * sizeof(T);
  });

  const auto blocks = [](std::int64_t count) { return dim3(static_cast<unsigned>(count)); };
  const std::int64_t all_chunks = problem.batch_heads() * p.chunks;
  launch_kernel(sums_kernel, {blocks(ceil_div(all_chunks, sum_warps)), sum_warps * warp_size},
                stream, p, all_chunks);
  const auto launch_states = [&]<int StateDim>() {
    launch_kernel(states_kernel<StateDim>,
                  {blocks(all_chunks * (problem.head_dim / columns)), StateDim,
                   sizeof(states_storage<StateDim>)},
                  stream, p);
  };
  if (problem.state_dim == 64) launch_states.operator()<64>();
  if (problem.state_dim == 128) launch_states.operator()<128>();
  if (problem.state_dim == 256) launch_states.operator()<256>();
  const std::int64_t elements = problem.batch_heads() * problem.head_dim * problem.state_dim;
  launch_kernel(passing_kernel, {blocks(elements / (passing_threads * carried)), passing_threads},
                stream, p);
  launch_kernel(products_kernel,
                {blocks(problem.batch * problem.groups * p.chunks * product_tiles), product_threads,
                 sizeof(products_storage)},
                stream, p);
  launch_kernel(scan_kernel, {blocks(scan_blocks(problem)), scan_threads, sizeof(scan_storage)},
                stream, p, ceil_div(problem.seqlen, tile));
}

/// The matrix units' work: whole tiles of tokens, whole slices; of the weights, for each warp's 32
/// tokens, the slices that begin before their end.
double executed_flops(const ssd_problem& problem) {
  const auto key_pairs = [](std::int64_t tokens) {  // of a chunk's first `tokens`
    double pairs = 0;
    const std::int64_t rows = ceil_div(tokens, tile) * tile, keys = ceil_div(tokens, slice) * slice;
    for (std::int64_t row = 0; row < rows; row += scan_rows) {
      pairs += static_cast<double>(scan_rows * std::min(row + scan_rows, keys));
    }
    return pairs;
  };
  const auto product_count = [](std::int64_t tokens) {
    const auto tiles = static_cast<double>(ceil_div(tokens, tile));
    return tiles * (tiles + 1) / 2;
  };
  const std::int64_t whole = problem.seqlen / chunk, rest = problem.seqlen % chunk;
  const auto chunks = static_cast<double>(whole);
  const double pairs = chunks * key_pairs(chunk) + key_pairs(rest);
  const double products = chunks * product_count(chunk) + product_count(rest);

  const double state = 2.0 * problem.head_dim * problem.state_dim;
  const double reads = static_cast<double>(ceil_div(problem.seqlen, tile) * tile) * state;
  const double adds = static_cast<double>(ceil_div(problem.seqlen, slice) * slice) * state;
  const double outputs = pairs * 2.0 * problem.head_dim;
  const double of_groups = static_cast<double>(problem.batch * problem.groups) * products * 2.0 *
                           tile * tile * problem.state_dim;
  return static_cast<double>(problem.batch_heads()) * (reads + adds + outputs) + of_groups;
}

const registration<ssd> registered{
    {.name = "chunked_ssd",
     .summary = "Mamba-2's five passes: chunks of 256, their states and products in memory",
     .role = implementation_role::baseline,
     .reimplements = {"mamba2"},
     .tolerance = 5e-3,
     .unsupported = unsupported,
     .workspace_bytes = workspace_bytes,
     .executed_flops = executed_flops,
     .run = run}};

}  // namespace
}  // namespace based::chunked_ssd
