// The product of a few rows with a weight, and what is around it:
//
//   y = x W^T + bias,   x as it is, or the norm of r: x = r / sqrt(mean(r^2) + eps) w
//
// Bound by reading W once. The norm's factor is one a row, so it is put to y: y = (r w) W^T /
// sqrt(..) and each warp sums the squares of what it reads anyway.
//
// Grid: a block has `Tiles` times eight rows of W, for paired outputs as many of each half. Its
// warps share the columns, 32 at a time. A lane's 16-byte word of W is, without any move, the B
// operand of two m16n8k16, as is its word of x their A: both have the same columns in the same
// places, and a sum does not ask for their order. Rows of x are the rows of A. The warps' sums meet
// in shared memory.
//
// A step is a chain of such kernels, each hardly longer than its start. So a block asks for all of
// its words of W, which nobody writes, before it waits for the grid before it. They lie in shared
// memory, each where only the thread that asked for it reads it, and leave room for blocks of the
// next grids, which ask for theirs in the meantime.
//
//   x, out [B, K] bf16   r [B, K] fp32   W [M, K] bf16   bias [M], w [K] fp32
#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/core/hopper.h"
#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/models/glue/step_product.h"
#include "kernels/models/glue/word.cuh"
#include "kernels/ptx/cp_async.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/shuffle.cuh"
#include "kernels/ptx/sync.cuh"
#include "kernels/tile/silu.cuh"

namespace based::models {
namespace {

constexpr int threads = 256;
constexpr int warps = threads / warp_size;
constexpr int blocks_per_multiprocessor = 3;  // of this grid and those after it
constexpr int tile = 8;                       // rows of W of a product, and of x in half of A
constexpr int chunk = 4 * unit;               // columns of two products

// Inputs: a word of x, and the squares of what it was made of.

struct activation {
  static constexpr bool is_normed = false;
  const bf16* x;

  __device__ uint4 load(std::int64_t at, const float*, float&) const { return load_word(x + at); }
};

struct normed_residual {
  static constexpr bool is_normed = true;
  const float* residual;
  const float* weight;

  /// `w`: the weight of these columns, in shared memory.
  __device__ uint4 load(std::int64_t at, const float* w, float& squares) const {
    float r[unit], factor[unit];
    load_unit(residual + at, r);
    load_unit(w, factor);
#pragma unroll
    for (int e = 0; e < unit; ++e) {
      squares += r[e] * r[e];
      r[e] *= factor[e];
    }
    return pack(r);
  }
};

// Outputs: what is done with one y, or with two whose rows of W are half of W apart. What they read
// is asked for early: parameters before the wait for the grid before, all else right after it.

struct nothing {};

struct to_activation {
  static constexpr bool is_paired = false;
  using parameters = nothing;
  using variables = nothing;
  bf16* out;
  std::int64_t width;

  __device__ parameters read_parameters(std::int64_t) const { return {}; }
  __device__ variables read(std::int64_t, std::int64_t) const { return {}; }
  __device__ void operator()(std::int64_t b, std::int64_t m, float y, nothing, nothing) const {
    out[b * width + m] = to_bf16(y);
  }
};

template <bool Adds>
struct to_sums {
  static constexpr bool is_paired = false;
  using parameters = nothing;
  using variables = float;
  float* sums;
  std::int64_t width;

  __device__ parameters read_parameters(std::int64_t) const { return {}; }
  __device__ variables read(std::int64_t b, std::int64_t m) const {
    return Adds ? sums[b * width + m] : 0;
  }
  __device__ void operator()(std::int64_t b, std::int64_t m, float y, nothing, float sum) const {
    sums[b * width + m] = Adds ? sum + y : y;
  }
};

struct to_swiglu {
  static constexpr bool is_paired = true;
  using parameters = nothing;
  using variables = nothing;
  bf16* out;
  std::int64_t width;

  __device__ parameters read_parameters(std::int64_t) const { return {}; }
  __device__ variables read(std::int64_t, std::int64_t) const { return {}; }
  __device__ void operator()(std::int64_t b, std::int64_t m, float left, float right, nothing,
                             nothing) const {
    out[b * width + m] = to_bf16(left * silu(right));
  }
};

struct to_gated_conv {
  static constexpr bool is_paired = true;
  struct parameters {
    float tap[3];
  };
  struct variables {
    bf16 earlier, last;
  };
  bf16* out;
  std::int64_t width;
  const float* weight;
  bf16* state;

  __device__ parameters read_parameters(std::int64_t m) const {
    return {weight[m], weight[width + m], weight[2 * width + m]};
  }
  __device__ variables read(std::int64_t b, std::int64_t m) const {
    const bf16* const kept = state + 2 * b * width + m;
    return {kept[0], kept[width]};
  }
  __device__ void operator()(std::int64_t b, std::int64_t m, float left, float right,
                             const parameters& weights, const variables& before) const {
    const float sum = weights.tap[0] * to_float(before.earlier) +
                      weights.tap[1] * to_float(before.last) + weights.tap[2] * left;
    bf16* const kept = state + 2 * b * width + m;
    kept[0] = before.last;
    kept[width] = to_bf16(left);
    out[b * width + m] = to_bf16(silu(sum) * right);
  }
};

template <class Input, class Output>
struct params {
  Input input;
  Output output;
  const bf16* weight;
  const float* bias;
  float eps;
  int batch, inner;
  std::int64_t outer;
};

/// What a block's shared memory holds: words of W, and then the sums of its warps; the norm's
/// weight.
struct shared_sizes {
  int words;  ///< of a thread
  std::size_t word_bytes, bytes;

  shared_sizes(std::int64_t inner, int tiles, int rows, bool is_normed) {
    constexpr int warp_chunk = warps * chunk;
    words = static_cast<int>((inner + warp_chunk - 1) / warp_chunk) * tiles;
    const std::size_t sums = std::size_t{warps} * rows * (tiles * tile + 1) * sizeof(float);
    word_bytes = std::max(std::size_t{threads} * words * sizeof(uint4), (sums + 15) / 16 * 16);
    bytes = word_bytes + (is_normed ? inner * sizeof(float) : 0);
  }
};

/// `Halves`: of the 16 rows of A, as many eights have rows of x.
template <class Input, class Output, int Tiles, int Halves>
__global__ __launch_bounds__(threads, blocks_per_multiprocessor) void step_product_kernel(
    const __grid_constant__ params<Input, Output> p, int words, int word_bytes) {
  constexpr bool is_paired = Output::is_paired;
  constexpr int pieces = is_paired ? 2 : 1, piece_tiles = Tiles / pieces;  // halves of W
  constexpr int block_rows = piece_tiles * tile;                           // of each
  constexpr int rows = Halves * tile, sums_stride = Tiles * tile + 1;
  // Words of x of a row that are read together.
  constexpr int together = (Input::is_normed ? 4 : 8) / Halves;
  constexpr int items = (rows * block_rows + threads - 1) / threads;
  static_assert(Tiles % pieces == 0);
  extern __shared__ __align__(16) std::byte memory[];
  __shared__ float warp_squares[warps][rows];
  auto* const own_words = reinterpret_cast<uint4*>(memory) + threadIdx.x;
  auto* const sums = reinterpret_cast<float*>(memory);
  auto* const norm_weight = reinterpret_cast<float*>(memory + word_bytes);

  const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  const int group = lane / 4, column = warp * chunk + lane % 4 * unit;
  const std::int64_t first = std::int64_t{blockIdx.x} * block_rows, half = p.outer / pieces;
  const auto item_row = [&](int i) {
    return (static_cast<int>(threadIdx.x) + i * threads) / block_rows;
  };
  const auto item_output = [&](int i) {
    return first + (static_cast<int>(threadIdx.x) + i * threads) % block_rows;
  };
  const auto is_item = [&](int i) { return item_row(i) < p.batch && item_output(i) < half; };

  // What no grid writes.
  if constexpr (Input::is_normed) {
    for (int i = static_cast<int>(threadIdx.x) * 4; i < p.inner; i += threads * 4) {
      ptx::cp_async_16(norm_weight + i, p.input.weight + i, true);
    }
  }
  ptx::cp_async_commit();
  for (int i = 0; i < words; i += Tiles) {
    const int at = i / Tiles * (warps * chunk) + column;
#pragma unroll
    for (int j = 0; j < Tiles; ++j) {
      const std::int64_t row = first + j % piece_tiles * tile + group;
      ptx::cp_async_16(own_words + (i + j) * threads,
                       p.weight + (row + j / piece_tiles * half) * p.inner + at,
                       row < half && at < p.inner);
    }
  }
  ptx::cp_async_commit();
  typename Output::parameters parameters[items];
  float bias[items][pieces] = {};
#pragma unroll
  for (int i = 0; i < items; ++i) {
    if (!is_item(i)) continue;
    parameters[i] = p.output.read_parameters(item_output(i));
    if (p.bias == nullptr) continue;
#pragma unroll
    for (int piece = 0; piece < pieces; ++piece)
      bias[i][piece] = p.bias[item_output(i) + piece * half];
  }
  ptx::launch_dependent_grid();
  if constexpr (Input::is_normed) {
    ptx::cp_async_wait<1>();
    __syncthreads();
  }
  ptx::wait_for_prior_grid();

  typename Output::variables variables[items];
#pragma unroll
  for (int i = 0; i < items; ++i) {
    if (is_item(i)) variables[i] = p.output.read(item_row(i), item_output(i));
  }
  float y[Tiles][4] = {}, squares[Halves] = {};
  for (int first_word = 0; first_word < words; first_word += together * Tiles) {
    uint4 x[together][2] = {};
#pragma unroll
    for (int i = 0; i < together; ++i) {
      const int at = (first_word / Tiles + i) * (warps * chunk) + column;
#pragma unroll
      for (int k = 0; k < Halves; ++k) {
        const int b = group + k * tile;
        if (at < p.inner && b < p.batch) {
          x[i][k] = p.input.load(std::int64_t{b} * p.inner + at, norm_weight + at, squares[k]);
        }
      }
    }
    ptx::cp_async_wait<0>();
#pragma unroll
    for (int i = 0; i < together; ++i) {
      if (first_word + i * Tiles >= words) break;
      const uint4 upper = x[i][0], lower = x[i][1];
#pragma unroll
      for (int j = 0; j < Tiles; ++j) {
        const uint4 w = own_words[(first_word + i * Tiles + j) * threads];
        ptx::mma_m16n8k16(y[j], {upper.x, lower.x, upper.y, lower.y}, w.x, w.y);
        ptx::mma_m16n8k16(y[j], {upper.z, lower.z, upper.w, lower.w}, w.z, w.w);
      }
    }
  }

  __syncthreads();  // the sums take the place of words
#pragma unroll
  for (int k = 0; k < Halves; ++k) {
    const int b = group + k * tile;
#pragma unroll
    for (int j = 0; j < Tiles; ++j) {
      float* const to = sums + (warp * rows + b) * sums_stride + j * tile + lane % 4 * 2;
      to[0] = y[j][2 * k], to[1] = y[j][2 * k + 1];
    }
    if constexpr (Input::is_normed) {
      const float sum = ptx::sum_over_lanes<1, 4>(squares[k]);
      if (lane % 4 == 0) warp_squares[warp][b] = sum;
    }
  }
  __syncthreads();

#pragma unroll
  for (int i = 0; i < items; ++i) {
    if (!is_item(i)) continue;
    const int b = item_row(i);
    const auto over_warps = [&](const float* from, int stride) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < warps; ++w) sum += from[w * stride];
      return sum;
    };
    float factor = 1;
    if constexpr (Input::is_normed) {
      factor = rsqrtf(over_warps(&warp_squares[0][b], rows) / static_cast<float>(p.inner) + p.eps);
    }
    const auto total = [&](int piece) {
      const int m = static_cast<int>(item_output(i) - first) + piece * block_rows;
      return over_warps(sums + b * sums_stride + m, rows * sums_stride) * factor + bias[i][piece];
    };
    if constexpr (is_paired) {
      p.output(b, item_output(i), total(0), total(1), parameters[i], variables[i]);
    } else {
      p.output(b, item_output(i), total(0), parameters[i], variables[i]);
    }
  }
}

template <int Tiles, int Halves, class Input, class Output>
void launch(const params<Input, Output>& p, cuda_stream stream) {
  constexpr int block_rows = (Output::is_paired ? Tiles / 2 : Tiles) * tile;
  const shared_sizes shared(p.inner, Tiles, Halves * tile, Input::is_normed);
  const launch_shape shape = {
      .grid = blocks_for(Output::is_paired ? p.outer / 2 : p.outer, block_rows),
      .block = threads,
      .shared_bytes = shared.bytes,
      .overlaps_prior_grid = true};
  launch_kernel(step_product_kernel<Input, Output, Tiles, Halves>, shape, stream, p, shared.words,
                static_cast<int>(shared.word_bytes));
}

/// As many rows of W a block as leave a block to each multiprocessor, if that leaves room for
/// others.
template <int Halves, class Input, class Output>
void launch(const params<Input, Output>& p, cuda_stream stream) {
  constexpr std::int64_t enough_blocks = 128;
  constexpr std::size_t most_bytes =
      hopper::shared_bytes / blocks_per_multiprocessor - hopper::reserved_cta_bytes - 1024;
  constexpr int least = Output::is_paired ? 2 : 1;
  const auto fits = [&](int tiles) {
    return p.outer / (tile * tiles) >= enough_blocks &&
           shared_sizes(p.inner, tiles, Halves * tile, Input::is_normed).bytes <= most_bytes;
  };
  if (fits(4)) return launch<4, Halves>(p, stream);
  if (least < 2 && !fits(2)) return launch<least, Halves>(p, stream);
  launch<2, Halves>(p, stream);
}

template <class Input, class Output>
void launch(const Input& input, const Output& output, const step_product_args& args,
            cuda_stream stream) {
  const params<Input, Output> p = {.input = input,
                                   .output = output,
                                   .weight = args.weight,
                                   .bias = args.bias,
                                   .eps = args.eps,
                                   .batch = static_cast<int>(args.batch),
                                   .inner = static_cast<int>(args.inner),
                                   .outer = args.outer};
  if (args.batch <= tile) {
    launch<1>(p, stream);
  } else {
    launch<2>(p, stream);
  }
}

}  // namespace

void step_product(const step_product_args& args, cuda_stream stream) {
  const bool is_paired =
      args.output == product_output::swiglu || args.output == product_output::gated_conv;
  const bool is_normed = args.x == nullptr;
  BASED_REQUIRE(args.batch >= 1 && args.batch <= most_step_rows,
                std::to_string(args.batch) + " rows, must be from 1 to 16");
  BASED_REQUIRE(args.inner >= chunk && args.inner % chunk == 0 && args.inner <= most_step_columns,
                std::to_string(args.inner) + " columns, must be a multiple of 32 up to 5632");
  BASED_REQUIRE(args.outer >= tile && args.outer % (is_paired ? 2 * tile : tile) == 0,
                std::to_string(args.outer) +
                    " rows of the weight, must be a multiple of 8, or 16 "
                    "where two halves become one");
  BASED_REQUIRE(!is_normed || (args.residual != nullptr && args.norm_weight != nullptr),
                "neither x nor a residual and the weight of its norm");
  const activation x = {args.x};
  const normed_residual norm = {args.residual, args.norm_weight};
  switch (args.output) {
    case product_output::activation:
      if (is_normed) return launch(norm, to_activation{args.out, args.outer}, args, stream);
      return launch(x, to_activation{args.out, args.outer}, args, stream);
    case product_output::residual:
      BASED_REQUIRE(!is_normed, "a product of the residual that adds to a residual");
      return launch(x, to_sums<true>{args.sums, args.outer}, args, stream);
    case product_output::logits:
      BASED_REQUIRE(is_normed, "logits that are not of a norm");
      return launch(norm, to_sums<false>{args.sums, args.outer}, args, stream);
    case product_output::swiglu:
      BASED_REQUIRE(is_normed, "swiglu that is not of a norm");
      return launch(norm, to_swiglu{args.out, args.outer / 2}, args, stream);
    case product_output::gated_conv:
      BASED_REQUIRE(is_normed, "a convolution that is not of a norm");
      return launch(norm, to_gated_conv{args.out, args.outer / 2, args.conv_weight, args.state},
                    args, stream);
  }
}

}  // namespace based::models
