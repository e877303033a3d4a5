// Sliding-window decode: one block a (batch, head), one pass over its ring buffer.
//
//   s_j = scale q . k_j,   o = sum_j exp(s_j) v_j / sum_j exp(s_j),   j over the filled slots
//
// The work is reading 2 W Dh bf16. So each thread asks for its whole share of K and V, eight
// 16-byte words, before it uses the first. A row's Dh columns lie side by side in lanes_per_row
// lanes, in K and in V alike: the weight that a lane group finds for its row of K is the one that
// its row of V wants, and no score crosses the block. A warp weighs its rows by its own maximum;
// one exchange through shared memory merges the warps.
//
//   grid (B*H)   q, k, v, o [B, H, 1, Dh]   k_cache, v_cache [B, H, W, Dh]   all bf16
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cfloat>
#include <cstddef>
#include <cstdint>

#include "kernels/core/cuda_check.h"
#include "kernels/core/grid.h"
#include "kernels/core/head_dims.h"
#include "kernels/core/implementation.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/shuffle.cuh"
#include "kernels/sliding_window/sliding_window.h"

namespace based {
namespace {

constexpr int vector = vector16<bf16>;

/// `Slots` is the largest window that an instantiation takes.
template <int Dim, int Slots>
struct window_config {
  static constexpr int rows_per_thread = 4;
  static constexpr int lanes_per_row = Dim / vector;
  static constexpr int threads = Slots * lanes_per_row / rows_per_thread;
  static constexpr int warps = threads / warp_size;
  static constexpr int rows_per_pass = threads / lanes_per_row;
};

template <int Dim, int Slots>
struct window_storage {
  static constexpr int warps = window_config<Dim, Slots>::warps;
  float o[warps][Dim];  // weighted by 2^(score - maximum) of its warp
  float maximum[warps];
  float sum[warps];  // of the weights
};

template <int Dim, int Slots>
__global__ void __launch_bounds__(window_config<Dim, Slots>::threads)
    window_decode_kernel(const __grid_constant__ window_params params) {
  using config = window_config<Dim, Slots>;
  constexpr int rows = config::rows_per_thread;
  constexpr int lanes_per_row = config::lanes_per_row;
  __shared__ window_storage<Dim, Slots> shared;

  const std::uint32_t batch = blockIdx.x / params.heads;
  const std::uint32_t head = blockIdx.x % params.heads;
  const int warp = threadIdx.x / warp_size;
  const int lane = threadIdx.x % warp_size;
  const int column = threadIdx.x % lanes_per_row * vector;
  const int first_row = threadIdx.x / lanes_per_row;
  const std::int64_t ring =
      (static_cast<std::int64_t>(blockIdx.x) * params.window + first_row) * Dim + column;
  bf16* k_cache = params.k_cache + ring;
  bf16* v_cache = params.v_cache + ring;
  const bf16* new_k = params.k.token(batch, head, 0) + column;
  const bf16* new_v = params.v.token(batch, head, 0) + column;

  // Load: an empty slot reads as zero, whatever it holds.
  uint4 keys[rows] = {}, values[rows] = {};
#pragma unroll
  for (int r = 0; r < rows; ++r) {
    const int row = first_row + r * config::rows_per_pass;
    const int offset = r * config::rows_per_pass * Dim;
    const bool is_new = row == params.appended;
    if (row < params.filled) {
      keys[r] = load_word(is_new ? new_k : k_cache + offset);
      values[r] = load_word(is_new ? new_v : v_cache + offset);
    }
  }
  float query[vector];
  unpack(load_word(params.q.token(batch, head, 0) + column), query);

  // Append the current token: nobody reads its slot.
  if (params.appended >= 0 && first_row == 0) {
    const std::int64_t slot = static_cast<std::int64_t>(params.appended) * Dim;
    const uint4 key = load_word(new_k);
    const uint4 value = load_word(new_v);
    store_word(k_cache + slot, key);
    store_word(v_cache + slot, value);
  }

  // Scores and the warp's maximum. FLT_MAX, not infinity: a warp may have no row.
  float scores[rows];
  float maximum = -FLT_MAX;
#pragma unroll
  for (int r = 0; r < rows; ++r) {
    const int row = first_row + r * config::rows_per_pass;
    float key[vector];
    unpack(keys[r], key);
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < vector; ++i) dot += query[i] * key[i];
    dot = ptx::sum_over_lanes<1, lanes_per_row>(dot);
    scores[r] = row < params.filled ? dot * params.score_scale : -INFINITY;
    maximum = fmaxf(maximum, scores[r]);
  }
  maximum = ptx::maximum_over_lanes<lanes_per_row, warp_size>(maximum);

  // Weights, and the warp's part of the output.
  float sum = 0.0f;
  float out[vector] = {};
#pragma unroll
  for (int r = 0; r < rows; ++r) {
    const float weight = exp2f(scores[r] - maximum);
    float value[vector];
    unpack(values[r], value);
    sum += weight;
#pragma unroll
    for (int i = 0; i < vector; ++i) out[i] += weight * value[i];
  }
  sum = ptx::sum_over_lanes<lanes_per_row, warp_size>(sum);
#pragma unroll
  for (float& value : out) value = ptx::sum_over_lanes<lanes_per_row, warp_size>(value);

  if (lane < lanes_per_row) {
#pragma unroll
    for (int i = 0; i < vector; ++i) shared.o[warp][column + i] = out[i];
  }
  if (lane == 0) {
    shared.maximum[warp] = maximum;
    shared.sum[warp] = sum;
  }

  __syncthreads();

  // Merge the warps: two columns a thread.
  if (threadIdx.x >= Dim / 2) return;
  float block_maximum = shared.maximum[0];
#pragma unroll
  for (int w = 1; w < config::warps; ++w) {
    block_maximum = fmaxf(block_maximum, shared.maximum[w]);
  }
  float2 total = {};
  float weights = 0.0f;
#pragma unroll
  for (int w = 0; w < config::warps; ++w) {
    const float factor = exp2f(shared.maximum[w] - block_maximum);
    const float2 part = reinterpret_cast<const float2*>(shared.o[w])[threadIdx.x];
    total.x += factor * part.x;
    total.y += factor * part.y;
    weights += factor * shared.sum[w];
  }
  const float inverse = 1.0f / weights;
  bf16* o = params.o.token(batch, head, 0);
  reinterpret_cast<__nv_bfloat162*>(o)[threadIdx.x] =
      __floats2bfloat162_rn(total.x * inverse, total.y * inverse);
}

constexpr int largest_window = 128;

template <int Dim, int Slots>
void launch(const window_params& params, std::int64_t blocks, cuda_stream stream) {
  constexpr int threads = window_config<Dim, Slots>::threads;
  window_decode_kernel<Dim, Slots><<<static_cast<unsigned>(blocks), threads, 0, stream>>>(params);
  BASED_CUDA_LAUNCHED();
}

void run(const window_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const window_problem& problem = args.problem;
  const window_params params(args);
  const bool small = problem.window <= 64;
  with_head_dim(problem.head_dim, [&]<int Dim>() {
    small ? launch<Dim, 64>(params, problem.batch_heads(), stream)
          : launch<Dim, largest_window>(params, problem.batch_heads(), stream);
  });
}

unsupported_reason unsupported(const window_problem& problem) {
  if (problem.window > largest_window) return "a window of more than 128";
  return unsupported_grid(problem.batch_heads());
}

double executed_flops(const window_problem& problem) {
  const int slots = problem.window <= 64 ? 64 : largest_window;
  constexpr double softmax = 4;  // scale, maximum, exponential, sum
  return static_cast<double>(problem.batch_heads()) * slots * (4.0 * problem.head_dim + softmax);
}

const registration<window_decode> registered{{
    .name = "based",
    .summary = "one kernel, the whole ring in flight at once, softmax merged across warps",
    .role = implementation_role::ours,
    .tolerance = 5e-3,
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace
}  // namespace based
