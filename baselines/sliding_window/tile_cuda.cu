// The baseline tile of sliding_window.h: one block of four warps a (batch, head).
//
//   warp w, quarter w of the slots:     s_j = scale q . k_j, their maximum
//   all warps:                          p_j = exp(s_j - max s), their sum
//   warp w, quarter w of the columns:   o_w = sum_j p_j v_j,w / sum_j p_j
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cfloat>
#include <cstdint>

#include "baselines/sliding_window/sliding_window.h"
#include "kernels/core/grid.h"
#include "kernels/core/head_dims.h"
#include "kernels/core/implementation.h"
#include "kernels/core/launch.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/cp_async.cuh"
#include "kernels/ptx/shuffle.cuh"

namespace based::sliding_window {
namespace {

constexpr int warps = 4;
constexpr int threads = warps * warp_size;
constexpr int vector = vector16<bf16>;

/// `Slots` is the largest window that an instantiation takes.
template <int Dim, int Slots>
struct tile_storage {
  static constexpr int row_length = Dim + vector;  // eight rows of a column on distinct banks
  alignas(16) bf16 keys[Slots][row_length];
  alignas(16) bf16 values[Slots][row_length];
  alignas(16) bf16 query[Dim];
  float weights[Slots];
  float maximum[warps];
  float sum[warps];
};

/// Starts copying the ring of one (batch, head), empty slots as zeros, the current token's row from
/// `current`.
template <int Dim, int Slots>
__device__ void stage(const bf16* ring, const bf16* current, const window_params& params,
                      bf16 (&rows)[Slots][tile_storage<Dim, Slots>::row_length]) {
  constexpr int words_per_row = Dim / vector;
#pragma unroll
  for (int word = threadIdx.x; word < Slots * words_per_row; word += threads) {
    const int row = word / words_per_row;
    const int column = word % words_per_row * vector;
    const bf16* from = row == params.appended ? current : ring + row * Dim;
    ptx::cp_async_16(&rows[row][column], from + column, row < params.filled);
  }
}

template <int Dim, int Slots>
__global__ void __launch_bounds__(threads)
    tile_kernel(const __grid_constant__ window_params params) {
  constexpr int rows_per_warp = Slots / warps;              // of K
  constexpr int lanes_per_row = warp_size / rows_per_warp;  // of K
  constexpr int columns_per_lane = Dim / lanes_per_row;     // of K
  constexpr int slice = Dim / warps;                        // columns of V of a warp
  constexpr int row_groups = warp_size / (slice / vector);  // rows of V side by side
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<tile_storage<Dim, Slots>*>(memory);

  const std::uint32_t batch = blockIdx.x / params.heads;
  const std::uint32_t head = blockIdx.x % params.heads;
  const std::int64_t ring = static_cast<std::int64_t>(blockIdx.x) * params.window * Dim;
  const bf16* current_k = params.k.token(batch, head, 0);
  const bf16* current_v = params.v.token(batch, head, 0);
  const int warp = threadIdx.x / warp_size;
  const int lane = threadIdx.x % warp_size;

  stage<Dim, Slots>(params.k_cache + ring, current_k, params, shared.keys);
  stage<Dim, Slots>(params.v_cache + ring, current_v, params, shared.values);
  if (threadIdx.x < Dim / vector) {
    const bf16* q = params.q.token(batch, head, 0);
    ptx::cp_async_16(&shared.query[threadIdx.x * vector], q + threadIdx.x * vector, true);
  }
  ptx::cp_async_commit();
  if (params.appended >= 0 && threadIdx.x < Dim) {
    const std::int64_t at = ring + static_cast<std::int64_t>(params.appended) * Dim + threadIdx.x;
    params.k_cache[at] = current_k[threadIdx.x];
    params.v_cache[at] = current_v[threadIdx.x];
  }
  ptx::cp_async_wait<0>();
  __syncthreads();

  // Scores of the warp's slots.
  const int slot = warp * rows_per_warp + lane / lanes_per_row;
  const int first_column = lane % lanes_per_row * columns_per_lane;
  float score = 0.0f;
#pragma unroll
  for (int c = 0; c < columns_per_lane; c += vector) {
    float query[vector], key[vector];
    unpack(load_word(&shared.query[first_column + c]), query);
    unpack(load_word(&shared.keys[slot][first_column + c]), key);
#pragma unroll
    for (int i = 0; i < vector; ++i) score += query[i] * key[i];
  }
  score = ptx::sum_over_lanes<1, lanes_per_row>(score);
  score = slot < params.filled ? score * params.score_scale : -FLT_MAX;
  float maximum = ptx::maximum_over_lanes<lanes_per_row>(score);
  if (lane == 0) shared.maximum[warp] = maximum;
  __syncthreads();

  // Weights, by the maximum of all.
  maximum = shared.maximum[0];
#pragma unroll
  for (int w = 1; w < warps; ++w) maximum = fmaxf(maximum, shared.maximum[w]);
  const float weight = exp2f(score - maximum);
  float sum = ptx::sum_over_lanes<lanes_per_row>(weight);
  if (lane % lanes_per_row == 0) shared.weights[slot] = weight;
  if (lane == 0) shared.sum[warp] = sum;
  __syncthreads();
  sum = 0.0f;
#pragma unroll
  for (int w = 0; w < warps; ++w) sum += shared.sum[w];

  // The warp's columns of the output.
  const int column = warp * slice + lane / row_groups * vector;
  float out[vector] = {};
#pragma unroll
  for (int row = lane % row_groups; row < Slots; row += row_groups) {
    float value[vector];
    unpack(load_word(&shared.values[row][column]), value);
#pragma unroll
    for (int i = 0; i < vector; ++i) out[i] += shared.weights[row] * value[i];
  }
#pragma unroll
  for (float& value : out) value = ptx::sum_over_lanes<1, row_groups>(value);
  if (lane % row_groups == 0) {
    const float inverse = 1.0f / sum;
    auto* o = reinterpret_cast<__nv_bfloat162*>(params.o.token(batch, head, 0) + column);
#pragma unroll
    for (int i = 0; i < vector; i += 2) {
      o[i / 2] = __floats2bfloat162_rn(out[i] * inverse, out[i + 1] * inverse);
    }
  }
}

constexpr int largest_window = 128;

template <int Dim, int Slots>
void launch(const window_params& params, std::int64_t blocks, cuda_stream stream) {
  launch_kernel(tile_kernel<Dim, Slots>,
                {.grid = static_cast<unsigned>(blocks),
                 .block = threads,
                 .shared_bytes = sizeof(tile_storage<Dim, Slots>)},
                stream, params);
}

constexpr int slots_of(const window_problem& problem) {
  return problem.window <= 64 ? 64 : largest_window;
}

void run(const window_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const window_problem& problem = args.problem;
  const window_params params(args);
  const std::int64_t blocks = problem.batch_heads();
  const bool small = slots_of(problem) == 64;
  with_head_dim(problem.head_dim, [&]<int Dim>() {
    small ? launch<Dim, 64>(params, blocks, stream)
          : launch<Dim, largest_window>(params, blocks, stream);
  });
}

const registration<window_decode> registered{{
    .name = "tile",
    .summary = "the Based authors' kernel: four warps a head, K and V staged in shared memory",
    .role = implementation_role::baseline,
    .tolerance = tile_tolerance,
    .unsupported = [](const window_problem& problem) -> unsupported_reason {
      if (problem.window > largest_window) return "a window of more than 128";
      return unsupported_grid(problem.batch_heads());
    },
    .executed_flops =
        [](const window_problem& problem) { return flops(problem, slots_of(problem)); },
    .run = run,
}};

}  // namespace
}  // namespace based::sliding_window
