// RMSNorm of rows, of the fp32 residual stream or of an activation in place:
//
//   v = x | x silu(gate),   out = v / sqrt(mean(v^2) + eps) weight
//
// Grid: a row belongs to `row_threads` neighbouring threads of a block, each of which has `Words`
// times eight of its elements in registers from the only time that they are read. Rows of a warp or
// less sum by shuffles alone; a block then has several rows. Longer rows also meet in shared
// memory.
//
//   x [rows, width] fp32 or bf16   gate, out [rows, width] bf16   weight [width] fp32
#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>

#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/models/glue.h"
#include "kernels/models/glue/word.cuh"
#include "kernels/tile/silu.cuh"

namespace based::models {
namespace {

constexpr int usual_threads = 128;  // of a block
constexpr int most_threads = 1024;

/// Rows of the residual stream.
struct residual_rows {
  const float* x;
  std::int64_t row_stride;

  __device__ void load(std::int64_t row, int column, float (&v)[unit]) const {
    load_unit(x + row * row_stride + column, v);
  }
};

/// Rows of an activation.
struct activation_rows {
  const bf16* x;
  std::int64_t row_stride;

  __device__ void load(std::int64_t row, int column, float (&v)[unit]) const {
    unpack(load_word(x + row * row_stride + column), v);
  }
};

/// Their products with silu(gate).
struct gated_rows {
  activation_rows rows, gate;

  __device__ void load(std::int64_t row, int column, float (&v)[unit]) const {
    float z[unit];
    rows.load(row, column, v);
    gate.load(row, column, z);
#pragma unroll
    for (int i = 0; i < unit; ++i) v[i] *= silu(z[i]);
  }
};

template <class Rows>
struct norm_params {
  Rows from;
  std::int64_t rows;
  int width;
  int row_threads;  ///< a power of two, or a multiple of a warp
  const float* weight;
  float eps;
  bf16* out;
};

/// The sum over the threads of each row.
/// Called by: one block
__device__ float sum_over_row(float value, int row_threads) {
  __shared__ float parts[most_threads / warp_size];
  for (int bit = min(row_threads, warp_size) / 2; bit > 0; bit /= 2) {
    value += __shfl_xor_sync(~0u, value, bit);
  }
  if (row_threads <= warp_size) return value;
  const int warp = threadIdx.x / warp_size, warps = row_threads / warp_size;
  if (threadIdx.x % warp_size == 0) parts[warp] = value;
  __syncthreads();
  value = 0;
  for (int w = 0, first = warp / warps * warps; w < warps; ++w) value += parts[first + w];
  return value;
}

template <int Words, class Rows>
__global__ __launch_bounds__(most_threads) void norm_kernel(
    const __grid_constant__ norm_params<Rows> p) {
  const std::int64_t row =
      std::int64_t{blockIdx.x} * (blockDim.x / p.row_threads) + threadIdx.x / p.row_threads;
  const int first = static_cast<int>(threadIdx.x % p.row_threads) * unit;
  const int step = p.row_threads * unit;
  const auto each_word = [&](auto use) {
    if (row >= p.rows) return;
#pragma unroll
    for (int w = 0; w < Words; ++w) {
      if (const int column = first + w * step; column < p.width) use(w, column);
    }
  };

  float v[Words][unit] = {};
  each_word([&](int w, int column) { p.from.load(row, column, v[w]); });
  float squares = 0;
#pragma unroll
  for (int w = 0; w < Words; ++w) {
#pragma unroll
    for (int i = 0; i < unit; ++i) squares += v[w][i] * v[w][i];
  }
  squares = sum_over_row(squares, p.row_threads);
  const float inverse = rsqrtf(squares / static_cast<float>(p.width) + p.eps);

  each_word([&](int w, int column) {
    float weight[unit];
    load_unit(p.weight + column, weight);
#pragma unroll
    for (int i = 0; i < unit; ++i) weight[i] *= v[w][i] * inverse;
    store_word(p.out + row * p.width + column, pack(weight));
  });
}

template <class Rows, class Args>
void launch(const Rows& from, const Args& args, bf16* out, cuda_stream stream) {
  // Many rows keep the memory busy with four words a thread, in few blocks; few rows are over
  // sooner if all of a row's words are asked for by threads of their own.
  constexpr std::int64_t many_rows = 4096;
  constexpr int words = 4;
  BASED_REQUIRE(args.width <= most_threads * unit,
                "rows of " + std::to_string(args.width) + " elements, of 8192 at most");
  const int row_words = static_cast<int>(args.width) / unit;
  const bool long_threads = args.rows >= many_rows && row_words >= words * warp_size;
  const int needed = long_threads ? (row_words + words - 1) / words : row_words;
  norm_params<Rows> p = {.from = from,
                         .rows = args.rows,
                         .width = static_cast<int>(args.width),
                         .row_threads = (needed + warp_size - 1) / warp_size * warp_size,
                         .weight = args.weight,
                         .eps = args.eps,
                         .out = out};
  if (needed < warp_size) {
    p.row_threads = static_cast<int>(std::bit_ceil(static_cast<unsigned>(needed)));
  }
  const int block_rows = std::max(1, usual_threads / p.row_threads);
  const launch_shape shape = {blocks_for(args.rows, block_rows),
                              static_cast<unsigned>(block_rows * p.row_threads)};
  launch_kernel(long_threads ? norm_kernel<words, Rows> : norm_kernel<1, Rows>, shape, stream, p);
}

}  // namespace

template <>
void normalize<bf16>(const normalize_args<bf16>& args, cuda_stream stream) {
  launch(residual_rows{args.x, args.row_stride}, args, args.out, stream);
}

template <>
void normalize_gated<bf16>(const normalize_gated_args<bf16>& args, cuda_stream stream) {
  const activation_rows rows = {args.x, args.width};
  if (args.gate == nullptr) {
    launch(rows, args, args.x, stream);
  } else {
    launch(gated_rows{rows, {args.gate, args.gate_stride}}, args, args.x, stream);
  }
}

}  // namespace based::models
