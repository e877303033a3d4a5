// The baseline naive of sliding_window.h: one kernel an operation.
//
//   scores [B, H, W]   scale q K^T in bf16, then their softmax (the workspace)
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <limits>

#include "baselines/sliding_window/sliding_window.h"
#include "kernels/common/cuda_check.h"
#include "kernels/common/implementation.h"

namespace based::sliding_window {
namespace {

constexpr int warp_size = 32;
constexpr int warps_per_block = 4;
constexpr int threads = warps_per_block * warp_size;

/// Where one (batch, head) lies.
struct place {
  std::int64_t batch, head, ring;
};
__device__ place place_of(std::int64_t batch_head, const window_problem& problem) {
  return {batch_head / problem.heads, batch_head % problem.heads,
          batch_head * problem.window * problem.head_dim};
}

__device__ float sum_over_warp(float value) {
#pragma unroll
  for (int bit = 1; bit < warp_size; bit *= 2) value += __shfl_xor_sync(~0u, value, bit);
  return value;
}
__device__ float maximum_over_warp(float value) {
#pragma unroll
  for (int bit = 1; bit < warp_size; bit *= 2) {
    value = fmaxf(value, __shfl_xor_sync(~0u, value, bit));
  }
  return value;
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

/// Grid (B*H): a warp a slot, two or four columns a lane.
__global__ void score_kernel(window_args<bf16> args, float scale, __nv_bfloat16* scores) {
  const window_problem& problem = args.problem;
  const place at = place_of(blockIdx.x, problem);
  const int lane = threadIdx.x % warp_size;
  const auto* q = reinterpret_cast<const __nv_bfloat162*>(args.q.token(at.batch, at.head, 0));
  for (int slot = threadIdx.x / warp_size; slot < problem.filled(); slot += warps_per_block) {
    const bf16* key = args.k_cache + at.ring + static_cast<std::int64_t>(slot) * problem.head_dim;
    float dot = 0.0f;
    for (int pair = lane; pair < problem.head_dim / 2; pair += warp_size) {
      const float2 x = __bfloat1622float2(q[pair]);
      const float2 y = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162*>(key)[pair]);
      dot += x.x * y.x + x.y * y.y;
    }
    dot = sum_over_warp(dot);
    if (lane == 0) {
      scores[blockIdx.x * static_cast<std::int64_t>(problem.window) + slot] =
          __float2bfloat16(dot * scale);
    }
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
  maximum = maximum_over_warp(maximum);
  float sum = 0.0f;
  for (int slot = lane; slot < problem.filled(); slot += warp_size) {
    sum += expf(__bfloat162float(scores[slot]) - maximum);
  }
  sum = sum_over_warp(sum);
  for (int slot = lane; slot < problem.filled(); slot += warp_size) {
    scores[slot] = __float2bfloat16(expf(__bfloat162float(scores[slot]) - maximum) / sum);
  }
}

/// Grid (B*H): two columns a thread.
__global__ void weighted_sum_kernel(window_args<bf16> args, const __nv_bfloat16* weights) {
  const window_problem& problem = args.problem;
  const place at = place_of(blockIdx.x, problem);
  const auto* values = reinterpret_cast<const __nv_bfloat162*>(args.v_cache + at.ring);
  weights += blockIdx.x * static_cast<std::int64_t>(problem.window);
  float2 sum = {};
#pragma unroll 8
  for (int slot = 0; slot < problem.filled(); ++slot) {
    const float weight = __bfloat162float(weights[slot]);
    const float2 value = __bfloat1622float2(values[slot * (problem.head_dim / 2) + threadIdx.x]);
    sum.x += weight * value.x;
    sum.y += weight * value.y;
  }
  bf16* o = args.o.token(at.batch, at.head, 0);
  reinterpret_cast<__nv_bfloat162*>(o)[threadIdx.x] = __float22bfloat162_rn(sum);
}

std::size_t workspace_bytes(const window_problem& problem) {
  return static_cast<std::size_t>(problem.batch_heads()) * problem.window * sizeof(bf16);
}

void run(const window_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes(args.problem));
  const window_problem& problem = args.problem;
  const auto heads = static_cast<unsigned>(problem.batch_heads());
  auto* scores = static_cast<__nv_bfloat16*>(args.workspace);
  if (problem.append) {
    append_kernel<<<heads, problem.head_dim, 0, stream>>>(args);
    BASED_CUDA_LAUNCHED();
  }
  score_kernel<<<heads, threads, 0, stream>>>(args, problem.scale(), scores);
  BASED_CUDA_LAUNCHED();
  softmax_kernel<<<(heads + warps_per_block - 1) / warps_per_block, threads, 0, stream>>>(problem,
                                                                                          scores);
  BASED_CUDA_LAUNCHED();
  weighted_sum_kernel<<<heads, problem.head_dim / 2, 0, stream>>>(args, scores);
  BASED_CUDA_LAUNCHED();
}

const registration<window_decode> registered{{
    .name = "naive",
    .summary = "eager PyTorch in bf16: append, scores, softmax and weighted sum, a kernel each",
    .tolerance = naive_tolerance,
    .unsupported = [](const window_problem& problem) -> unsupported_reason {
      if (problem.batch_heads() <= std::numeric_limits<std::int32_t>::max()) return {};
      return "more than 2^31 heads";
    },
    .workspace_bytes = workspace_bytes,
    .executed_flops =
        [](const window_problem& problem) { return flops(problem, problem.filled()); },
    .run = run,
}};

}  // namespace
}  // namespace based::sliding_window
