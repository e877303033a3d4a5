// The baseline naive of sliding_window.h: one kernel an operation.
//
//   scores [B, H, W]   scale q K^T in bf16, then their softmax (the workspace)
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "baselines/sliding_window/sliding_window.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/grid.h"
#include "kernels/core/head_dims.h"
#include "kernels/core/implementation.h"
#include "kernels/core/vector16.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/shuffle.cuh"

namespace based::sliding_window {
namespace {

constexpr int warps_per_block = 4;
constexpr int threads = warps_per_block * warp_size;
constexpr int vector = vector16<bf16>;
constexpr int slots_in_flight = 4;

/// Where one (batch, head) lies.
struct place {
  std::int64_t batch, head, ring;
};
__device__ place place_of(std::int64_t batch_head, const window_problem& problem) {
  return {batch_head / problem.heads, batch_head % problem.heads,
          batch_head * problem.window * problem.head_dim};
}

/// Grid (B*H), a thread a column.
__global__ void append_kernel(window_args<bf16> args) {
  const place at = place_of(blockIdx.x, args.problem);
  const std::int64_t to = at.ring +
                          static_cast<std::int64_t>(args.problem.slot()) * args.problem.head_dim +
                          threadIdx.x;
  args.k_cache[to] = args.k.token(at.batch, at.head, 0)[threadIdx.x];
  args.v_cache[to] = args.v.token(at.batch, at.head, 0)[threadIdx.x];
}

/// How the threads of a block share the words of a ring: a row's side by side.
template <int Dim>
struct ring_config {
  static constexpr int lanes_per_row = Dim / vector;
  static constexpr int rows_per_pass = threads / lanes_per_row;
};

/// Grid (B*H). scores: [B, H, W].
template <int Dim>
__global__ void score_kernel(window_args<bf16> args, float scale, __nv_bfloat16* scores) {
  constexpr int lanes_per_row = ring_config<Dim>::lanes_per_row;
  constexpr int rows_per_pass = ring_config<Dim>::rows_per_pass;
  const window_problem& problem = args.problem;
  const place at = place_of(blockIdx.x, problem);
  const int column = threadIdx.x % lanes_per_row * vector;
  const bf16* keys = args.k_cache + at.ring + column;
  scores += blockIdx.x * static_cast<std::int64_t>(problem.window);
  float query[vector];
  unpack(load_word(args.q.token(at.batch, at.head, 0) + column), query);

  const int filled = problem.filled();
#pragma unroll slots_in_flight
  for (int first = 0; first < filled; first += rows_per_pass) {
    const int slot = first + threadIdx.x / lanes_per_row;
    float key[vector] = {};
    if (slot < filled) unpack(load_word(keys + static_cast<std::int64_t>(slot) * Dim), key);
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < vector; ++i) dot += query[i] * key[i];
    dot = ptx::sum_over_lanes<1, lanes_per_row>(dot);
    if (slot < filled && column == 0) scores[slot] = __float2bfloat16(dot * scale);
  }
}

/// A warp a (batch, head).
__global__ void softmax_kernel(window_problem problem, __nv_bfloat16* scores) {
  const std::int64_t batch_head =
      blockIdx.x * static_cast<std::int64_t>(warps_per_block) + threadIdx.x / warp_size;
  if (batch_head >= problem.batch_heads()) return;
  const int lane = threadIdx.x % warp_size;
  scores += batch_head * problem.window;

  float maximum = -INFINITY;
  for (int slot = lane; slot < problem.filled(); slot += warp_size) {
    maximum = fmaxf(maximum, __bfloat162float(scores[slot]));
  }
  maximum = ptx::maximum_over_lanes(maximum);
  float sum = 0.0f;
  for (int slot = lane; slot < problem.filled(); slot += warp_size) {
    sum += expf(__bfloat162float(scores[slot]) - maximum);
  }
  sum = ptx::sum_over_lanes(sum);
  for (int slot = lane; slot < problem.filled(); slot += warp_size) {
    scores[slot] = __float2bfloat16(expf(__bfloat162float(scores[slot]) - maximum) / sum);
  }
}

/// Grid (B*H). weights: [B, H, W].
template <int Dim>
__global__ void weighted_sum_kernel(window_args<bf16> args, const __nv_bfloat16* weights) {
  constexpr int lanes_per_row = ring_config<Dim>::lanes_per_row;
  constexpr int rows_per_pass = ring_config<Dim>::rows_per_pass;
  __shared__ float partial[warps_per_block][Dim];
  const window_problem& problem = args.problem;
  const place at = place_of(blockIdx.x, problem);
  const int column = threadIdx.x % lanes_per_row * vector;
  const bf16* values = args.v_cache + at.ring + column;
  weights += blockIdx.x * static_cast<std::int64_t>(problem.window);

  float sum[vector] = {};
#pragma unroll slots_in_flight
  for (int slot = threadIdx.x / lanes_per_row; slot < problem.filled(); slot += rows_per_pass) {
    const float weight = __bfloat162float(weights[slot]);
    float value[vector];
    unpack(load_word(values + static_cast<std::int64_t>(slot) * Dim), value);
#pragma unroll
    for (int i = 0; i < vector; ++i) sum[i] += weight * value[i];
  }
#pragma unroll
  for (int i = 0; i < vector; ++i) {
    sum[i] = ptx::sum_over_lanes<lanes_per_row, warp_size>(sum[i]);
    if (threadIdx.x % warp_size < lanes_per_row) {
      partial[threadIdx.x / warp_size][column + i] = sum[i];
    }
  }
  __syncthreads();
  if (threadIdx.x >= Dim) return;
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < warps_per_block; ++w) total += partial[w][threadIdx.x];
  bf16* o = args.o.token(at.batch, at.head, 0);
  reinterpret_cast<__nv_bfloat16*>(o)[threadIdx.x] = __float2bfloat16(total);
}

std::size_t workspace_bytes(const window_problem& problem) {
  return static_cast<std::size_t>(problem.batch_heads()) * problem.window * sizeof(bf16);
}

template <int Dim>
void launch(const window_args<bf16>& args, cuda_stream stream) {
  const window_problem& problem = args.problem;
  const auto heads = static_cast<unsigned>(problem.batch_heads());
  auto* scores = static_cast<__nv_bfloat16*>(args.workspace);
  if (problem.append) {
    append_kernel<<<heads, Dim, 0, stream>>>(args);
    BASED_CUDA_LAUNCHED();
  }
  score_kernel<Dim><<<heads, threads, 0, stream>>>(args, problem.scale(), scores);
  BASED_CUDA_LAUNCHED();
  softmax_kernel<<<(heads + warps_per_block - 1) / warps_per_block, threads, 0, stream>>>(problem,
                                                                                          scores);
  BASED_CUDA_LAUNCHED();
  weighted_sum_kernel<Dim><<<heads, threads, 0, stream>>>(args, scores);
  BASED_CUDA_LAUNCHED();
}

void run(const window_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes(args.problem));
  with_head_dim(args.problem.head_dim, [&]<int Dim>() { launch<Dim>(args, stream); });
}

const registration<window_decode> registered{{
    .name = "naive",
    .summary = "eager PyTorch in bf16: append, scores, softmax and weighted sum, a kernel each",
    .role = implementation_role::baseline,
    .reimplements = {"torch_einsum"},
    .tolerance = naive_tolerance,
    .unsupported = [](const window_problem& problem) -> unsupported_reason {
      return unsupported_grid(problem.batch_heads());
    },
    .workspace_bytes = workspace_bytes,
    .executed_flops =
        [](const window_problem& problem) { return flops(problem, problem.filled()); },
    .run = run,
}};

}  // namespace
}  // namespace based::sliding_window
