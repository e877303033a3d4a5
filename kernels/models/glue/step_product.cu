// The product of a few rows with a weight, and what is around it:
//
//   y = x W^T + bias,   x as it is, or the norm of r: x = r / sqrt(mean(r^2) + eps) w
//
// Bound by reading W once. The norm's factor is one a row, so it is put to y: y = (r w) W^T /
// sqrt(..) and each warp sums the squares of what it reads anyway.
//
// Grid: a block has `Tiles` times eight rows of W, for paired outputs eight rows of each half. Its
// warps share the columns, 32 at a time. A lane's 16-byte word of W is, without any move, the B
// operand of two m16n8k16, as is its word of x their A: both have the same columns in the same
// places, and a sum does not ask for their order. Rows of x are the 16 rows of A. The warps' sums
// meet in shared memory.
//
// A step is a chain of such kernels, each as short as the start of another. So a block asks for its
// first words of W, which nobody writes, before it waits for the grid before it.
//
//   x, out [B, K] bf16   r [B, K] fp32   W [M, K] bf16   bias [M], w [K] fp32
#include <cstdint>
#include <string>

#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/models/glue/step_product.h"
#include "kernels/models/glue/word.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/shuffle.cuh"
#include "kernels/ptx/sync.cuh"
#include "kernels/tile/silu.cuh"

namespace based::models {
namespace {

constexpr int threads = 256;
constexpr int warps = threads / warp_size;
constexpr int tile = 8;          // rows of W of a product
constexpr int chunk = 4 * unit;  // columns of two products
constexpr int together = 4;      // chunks of x that are read together
constexpr int most_rows = most_step_rows;

// Inputs: a word of x, and the squares of what it was made of.

struct activation {
  static constexpr bool is_normed = false;
  const bf16* x;

  __device__ uint4 load(std::int64_t at, std::int64_t, float&) const { return load_word(x + at); }
};

struct normed_residual {
  static constexpr bool is_normed = true;
  const float* residual;
  const float* weight;

  __device__ uint4 load(std::int64_t at, std::int64_t column, float& squares) const {
    float r[unit], w[unit];
    load_unit(residual + at, r);
    load_unit(weight + column, w);
#pragma unroll
    for (int e = 0; e < unit; ++e) {
      squares += r[e] * r[e];
      r[e] *= w[e];
    }
    return pack(r);
  }
};

// Outputs: what is done with one y, or with two whose rows of W are half of W apart.

struct to_activation {
  static constexpr bool is_paired = false;
  bf16* out;
  std::int64_t width;

  __device__ void operator()(std::int64_t b, std::int64_t m, float y) const {
    out[b * width + m] = to_bf16(y);
  }
};

template <bool Adds>
struct to_sums {
  static constexpr bool is_paired = false;
  float* sums;
  std::int64_t width;

  __device__ void operator()(std::int64_t b, std::int64_t m, float y) const {
    float& sum = sums[b * width + m];
    sum = Adds ? sum + y : y;
  }
};

struct to_swiglu {
  static constexpr bool is_paired = true;
  bf16* out;
  std::int64_t width;

  __device__ void operator()(std::int64_t b, std::int64_t m, float left, float right) const {
    out[b * width + m] = to_bf16(left * silu(right));
  }
};

struct to_gated_conv {
  static constexpr bool is_paired = true;
  bf16* out;
  std::int64_t width;
  const float* weight;
  bf16* state;

  __device__ void operator()(std::int64_t b, std::int64_t m, float left, float right) const {
    bf16* const kept = state + 2 * b * width + m;
    const bf16 earlier = kept[0], last = kept[width];
    const float sum = weight[m] * to_float(earlier) + weight[width + m] * to_float(last) +
                      weight[2 * width + m] * left;
    kept[0] = last;
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

template <int Tiles>
struct storage {
  float sums[warps][most_rows][Tiles * tile + 1];
  float squares[warps][most_rows];
};

template <class Input, class Output, int Tiles, int Chunks>
__global__ __launch_bounds__(threads, 2) void step_product_kernel(
    const __grid_constant__ params<Input, Output> p) {
  constexpr bool is_paired = Output::is_paired;
  static_assert(!is_paired || Tiles == 2);
  __shared__ storage<Tiles> shared;
  const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  const int group = lane / 4, column = lane % 4 * unit;  // of a fragment, of a chunk
  constexpr int block_rows = is_paired ? tile : Tiles * tile;
  const std::int64_t first = std::int64_t{blockIdx.x} * block_rows;
  const std::int64_t apart = is_paired ? p.outer / 2 : tile;  // tiles of a block
  const int chunks = p.inner / chunk;

  uint4 word[Chunks][Tiles];
  const auto read_weight = [&](int first_chunk) {
#pragma unroll
    for (int i = 0; i < Chunks; ++i) {
      const int own = first_chunk + i * warps + warp;
#pragma unroll
      for (int j = 0; j < Tiles; ++j) {
        const std::int64_t row = first + j * apart + group;
        word[i][j] = {};
        if (own < chunks && row < p.outer) {
          word[i][j] = load_word(p.weight + row * p.inner + own * chunk + column);
        }
      }
    }
  };
  read_weight(0);
  ptx::launch_dependent_grid();
  ptx::wait_for_prior_grid();

  float y[Tiles][4] = {}, squares[2] = {};
  for (int first_chunk = 0; first_chunk < chunks; first_chunk += Chunks * warps) {
    if (first_chunk > 0) read_weight(first_chunk);
#pragma unroll
    for (int half = 0; half < Chunks; half += together) {
      uint4 x[together][2] = {};
#pragma unroll
      for (int i = 0; i < together; ++i) {
        const int own = first_chunk + (half + i) * warps + warp;
        const std::int64_t at = own * chunk + column;
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const int b = group + 8 * k;
          if (own < chunks && b < p.batch)
            x[i][k] = p.input.load(b * std::int64_t{p.inner} + at, at, squares[k]);
        }
      }
#pragma unroll
      for (int i = 0; i < together; ++i) {
        const uint4 upper = x[i][0], lower = x[i][1];
#pragma unroll
        for (int j = 0; j < Tiles; ++j) {
          const uint4& w = word[half + i][j];
          ptx::mma_m16n8k16(y[j], {upper.x, lower.x, upper.y, lower.y}, w.x, w.y);
          ptx::mma_m16n8k16(y[j], {upper.z, lower.z, upper.w, lower.w}, w.z, w.w);
        }
      }
    }
  }

#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const int b = group + 8 * k;
    if (b >= p.batch) continue;
#pragma unroll
    for (int j = 0; j < Tiles; ++j) {
      float* const to = shared.sums[warp][b] + j * tile + lane % 4 * 2;
      to[0] = y[j][2 * k], to[1] = y[j][2 * k + 1];
    }
  }
  if constexpr (Input::is_normed) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const float sum = ptx::sum_over_lanes<1, 4>(squares[k]);
      if (lane % 4 == 0) shared.squares[warp][group + 8 * k] = sum;
    }
  }
  __syncthreads();

  for (int i = static_cast<int>(threadIdx.x); i < p.batch * block_rows; i += threads) {
    const int b = i / block_rows, m = i % block_rows;
    if (first + m >= p.outer) break;
    float factor = 1;
    if constexpr (Input::is_normed) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < warps; ++w) sum += shared.squares[w][b];
      factor = rsqrtf(sum / static_cast<float>(p.inner) + p.eps);
    }
    const auto total = [&](int j) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < warps; ++w) sum += shared.sums[w][b][j];
      return sum * factor;
    };
    const auto biased = [&](float value, std::int64_t row) {
      return p.bias == nullptr ? value : value + p.bias[row];
    };
    if constexpr (is_paired) {
      p.output(b, first + m, biased(total(m), first + m),
               biased(total(tile + m), first + apart + m));
    } else {
      p.output(b, first + m, biased(total(m), first + m));
    }
  }
}

template <class Input, class Output, int Tiles, int Chunks>
void launch(const params<Input, Output>& p, cuda_stream stream) {
  const std::int64_t rows = Output::is_paired ? p.outer / 2 : p.outer;
  const launch_shape shape = {.grid = blocks_for(rows, Output::is_paired ? tile : Tiles * tile),
                              .block = threads,
                              .overlaps_prior_grid = true};
  launch_kernel(step_product_kernel<Input, Output, Tiles, Chunks>, shape, stream, p);
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
  constexpr std::int64_t few_rows = 2048;  // of W, which eight a block spread over a large GPU
  if constexpr (Output::is_paired) {
    launch<Input, Output, 2, 4>(p, stream);
  } else if (args.outer <= few_rows) {
    launch<Input, Output, 1, 8>(p, stream);
  } else {
    launch<Input, Output, 2, 4>(p, stream);
  }
}

}  // namespace

void step_product(const step_product_args& args, cuda_stream stream) {
  const bool is_paired =
      args.output == product_output::swiglu || args.output == product_output::gated_conv;
  const bool is_normed = args.x == nullptr;
  BASED_REQUIRE(args.batch >= 1 && args.batch <= most_step_rows,
                std::to_string(args.batch) + " rows, must be from 1 to 16");
  BASED_REQUIRE(args.inner >= chunk && args.inner % chunk == 0 && args.inner <= 1 << 20,
                std::to_string(args.inner) + " columns, must be a multiple of 32 up to 2^20");
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
