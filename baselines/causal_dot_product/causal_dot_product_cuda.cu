// The CUDA form of causal_dot_product.h, in fp32 between the casts of inputs and output.
//
// T = B*H*N tokens, E = 273 or 153 features. In the workspace, contiguous, fp32:
//
//   mapped_q, mapped_k   [B, H, N, E]    phi(q), phi(k)
//   values               [B, H, N, 64]   v
//   sums                 [B, H, N, 64]   the output before its cast
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "baselines/causal_dot_product/causal_dot_product.h"
#include "baselines/feature_map.cuh"
#include "baselines/token_tiles.cuh"
#include "kernels/based/prefill.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/implementation.h"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/shuffle.cuh"

namespace based::causal_dot_product {
namespace {

/// What every kernel of the library takes; E features a token.
struct product_params {
  const float* q;  ///< [B, H, N, E]
  const float* k;  ///< [B, H, N, E]
  const float* v;  ///< [B, H, N, 64]
  float* o;        ///< [B, H, N, 64], zeroed
  std::int64_t seqlen;
};

// --- casts --------------------------------------------------------------------------------------

struct cast_config {
  static constexpr int vector = 4;  // columns a thread
  static constexpr int vectors = value_dim / vector;
  static constexpr int tile_tokens = 64;
  static constexpr dim3 threads = {vectors, 16, 1};
};

__global__ void cast_values_kernel(sequence_view<const bf16> v, token_tiles tiles,
                                   float4* __restrict__ values) {
  const token_tiles::tile tile = tiles.locate(blockIdx.x);
  for (int token = threadIdx.y; token < tile.tokens; token += blockDim.y) {
    const bf16* value = v.token(tile.batch, tile.head, tile.first + token);  // [64]
    const uint2 bits = reinterpret_cast<const uint2*>(value)[threadIdx.x];
    const float2 low = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(bits.x));
    const float2 high = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(bits.y));
    values[(tile.row + token) * cast_config::vectors + threadIdx.x] = {low.x, low.y, high.x,
                                                                       high.y};
  }
}

__global__ void cast_output_kernel(const float4* __restrict__ sums, token_tiles tiles,
                                   sequence_view<bf16> o) {
  const token_tiles::tile tile = tiles.locate(blockIdx.x);
  for (int token = threadIdx.y; token < tile.tokens; token += blockDim.y) {
    const float4 sum = sums[(tile.row + token) * cast_config::vectors + threadIdx.x];
    bf16* out = o.token(tile.batch, tile.head, tile.first + token);  // [64]
    auto* pairs = reinterpret_cast<__nv_bfloat162*>(out) + 2 * threadIdx.x;
    pairs[0] = __floats2bfloat162_rn(sum.x, sum.y);
    pairs[1] = __floats2bfloat162_rn(sum.z, sum.w);
  }
}

// --- more than 256 features: state in shared memory, partial outputs added atomically -----------

constexpr int features_per_block = 8;

/// Grid (ceil(E / 8), B, H), 64 threads: thread m owns column m of features 8x .. 8x + 7. No thread
/// reads another's column, so the compiler keeps a copy in registers and only writes `state`.
template <int Features>
__global__ void __launch_bounds__(value_dim) shared_state_kernel(product_params params) {
  __shared__ float state[features_per_block][value_dim];
  const int column = threadIdx.x;
  const int first = blockIdx.x * features_per_block;
  const std::int64_t row =
      (blockIdx.y * static_cast<std::int64_t>(gridDim.z) + blockIdx.z) * params.seqlen;
  const float* __restrict__ q = params.q + row * Features + first;
  const float* __restrict__ k = params.k + row * Features + first;
  const float* __restrict__ v = params.v + row * value_dim + column;
  float* o = params.o + row * value_dim + column;

#pragma unroll
  for (int f = 0; f < features_per_block; ++f) state[f][column] = 0.0f;

  for (std::int64_t n = 0; n < params.seqlen; ++n) {
    const float value = *v;
    float sum = 0.0f;
#pragma unroll
    for (int f = 0; f < features_per_block; ++f) {
      if (first + f < Features) {
        state[f][column] += k[f] * value;
        sum += q[f] * state[f][column];
      }
    }
    atomicAdd(o, sum);
    q += Features;
    k += Features;
    v += value_dim;
    o += value_dim;
  }
}

template <int Features>
void launch_shared_state(const product_params& params, const prefill_shape& shape,
                         cuda_stream stream) {
  constexpr int blocks = (Features + features_per_block - 1) / features_per_block;
  const dim3 grid(blocks, static_cast<unsigned>(shape.batch), static_cast<unsigned>(shape.heads));
  shared_state_kernel<Features><<<grid, value_dim, 0, stream>>>(params);
  BASED_CUDA_LAUNCHED();
}

// --- at most 256 features: state in registers ---------------------------------------------------

constexpr int padded_features = 256;

struct head_config {
  static constexpr int threads_per_column = 4;
  static constexpr int threads = value_dim * threads_per_column;
  static constexpr int vector = 4;
  static constexpr int vectors = padded_features / (threads_per_column * vector);  // a thread's
  static_assert(threads == padded_features);  // each thread stages one feature
};

struct token_stage {
  alignas(16) float q[padded_features];
  alignas(16) float k[padded_features];
  float v[value_dim];
};

/// Grid (H, B), 256 threads: four neighbours own a column; of every 16 features the t-th of them
/// owns 4t .. 4t + 3.
template <int Features>
__global__ void __launch_bounds__(head_config::threads)
    head_per_block_kernel(product_params params) {
  constexpr int threads_per_column = head_config::threads_per_column;
  constexpr int vectors = head_config::vectors;
  __shared__ token_stage stages[2];

  const std::int64_t row =
      (blockIdx.y * static_cast<std::int64_t>(gridDim.x) + blockIdx.x) * params.seqlen;
  const int thread = threadIdx.x;
  const int column = thread / threads_per_column;
  const int part = thread % threads_per_column;
  const float* q = params.q + row * Features + thread;
  const float* k = params.k + row * Features + thread;
  const float* v = params.v + row * value_dim + thread;
  float* o = params.o + row * value_dim + column;

  const bool has_feature = thread < Features;
  const bool has_value = thread < value_dim;
  float next_q = has_feature ? *q : 0.0f;
  float next_k = has_feature ? *k : 0.0f;
  float next_v = has_value ? *v : 0.0f;

  float4 state[vectors] = {};
  for (std::int64_t n = 0; n < params.seqlen; ++n) {
    token_stage& stage = stages[n % 2];
    stage.q[thread] = next_q;
    stage.k[thread] = next_k;
    if (has_value) stage.v[thread] = next_v;
    if (n + 1 < params.seqlen) {
      q += Features;
      k += Features;
      v += value_dim;
      if (has_feature) {
        next_q = *q;
        next_k = *k;
      }
      if (has_value) next_v = *v;
    }
    __syncthreads();

    const auto* stage_q = reinterpret_cast<const float4*>(stage.q) + part;
    const auto* stage_k = reinterpret_cast<const float4*>(stage.k) + part;
    const float value = stage.v[column];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < vectors; ++i) {
      const float4 key = stage_k[i * threads_per_column];
      state[i].x += key.x * value;
      state[i].y += key.y * value;
      state[i].z += key.z * value;
      state[i].w += key.w * value;
      const float4 query = stage_q[i * threads_per_column];
      sum += query.x * state[i].x + query.y * state[i].y;
      sum += query.z * state[i].z + query.w * state[i].w;
    }
    sum = ptx::sum_over_lanes<1, threads_per_column>(sum);
    if (part == 0) *o = sum;
    o += value_dim;
  }
}

struct column_config {
  static constexpr int tokens_per_warp = 4;
  static constexpr int features_per_lane = padded_features / warp_size;
};

/// Grid (64, H, B): one block a column. Per step, warp w takes tokens 4w .. 4w + 3, a lane features
/// lane, lane + 32, ...; `prefix` turns from the warps' sums of k v into their inclusive prefix
/// sums, which together with the state of the steps before give every token its state.
template <int Features, int Warps>
__global__ void __launch_bounds__(Warps* warp_size) column_per_block_kernel(product_params params) {
  constexpr int tokens = column_config::tokens_per_warp;
  constexpr int rows = column_config::features_per_lane;
  __shared__ float prefix[Warps][padded_features];

  const int column = blockIdx.x;
  const int warp = threadIdx.x / warp_size;
  const int lane = threadIdx.x % warp_size;
  const std::int64_t row =
      (blockIdx.z * static_cast<std::int64_t>(gridDim.y) + blockIdx.y) * params.seqlen;

  float state[rows] = {};  // of the steps before, the same in every warp
  for (std::int64_t step = 0; step < params.seqlen; step += Warps * tokens) {
    const std::int64_t first = step + warp * tokens;
    float query[rows][tokens];
    float sums[rows][tokens];  // k v, summed over the warp's tokens so far
    float value[tokens];
#pragma unroll
    for (int t = 0; t < tokens; ++t) {
      const bool within = first + t < params.seqlen;
      const float* q = params.q + (row + first + t) * Features;
      const float* k = params.k + (row + first + t) * Features;
      value[t] = within ? params.v[(row + first + t) * value_dim + column] : 0.0f;
#pragma unroll
      for (int r = 0; r < rows; ++r) {
        const int feature = r * warp_size + lane;
        const bool real = within && feature < Features;
        query[r][t] = real ? q[feature] : 0.0f;
        sums[r][t] = real ? k[feature] : 0.0f;
      }
    }
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      sums[r][0] *= value[0];
#pragma unroll
      for (int t = 1; t < tokens; ++t) sums[r][t] = sums[r][t - 1] + sums[r][t] * value[t];
      prefix[warp][r * warp_size + lane] = sums[r][tokens - 1];
    }
    __syncthreads();

    for (int feature = threadIdx.x; feature < padded_features; feature += Warps * warp_size) {
#pragma unroll
      for (int w = 1; w < Warps; ++w) prefix[w][feature] += prefix[w - 1][feature];
    }
    __syncthreads();

    float out[tokens] = {};
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      const int feature = r * warp_size + lane;
      const float before = state[r] + (warp > 0 ? prefix[warp - 1][feature] : 0.0f);
#pragma unroll
      for (int t = 0; t < tokens; ++t) out[t] += query[r][t] * (before + sums[r][t]);
      state[r] += prefix[Warps - 1][feature];
    }
    __syncthreads();  // prefix is free again

#pragma unroll
    for (int t = 0; t < tokens; ++t) {
      out[t] = ptx::sum_over_lanes(out[t]);
      if (lane == t && first + t < params.seqlen) {
        params.o[(row + first + t) * value_dim + column] = out[t];
      }
    }
  }
}

/// The library's own rules, in heads (B*H): below the first, one block a column; the fewer heads,
/// the more warps in it.
constexpr int few_heads = 40;
constexpr int eight_warps_below = 5;
constexpr int sixteen_warps_below = 3;
constexpr std::array<std::string_view, 2> variants{"head_per_block", "column_per_block"};

std::string variant_of(const prefill_problem& problem) {
  if (!problem.variant.empty()) return std::string(problem.variant);
  return std::string(variants[problem.shape.batch_heads() < few_heads ? 1 : 0]);
}

template <int Features, int Warps>
void launch_column_per_block(const product_params& params, const prefill_shape& shape,
                             cuda_stream stream) {
  const dim3 grid(value_dim, static_cast<unsigned>(shape.heads),
                  static_cast<unsigned>(shape.batch));
  column_per_block_kernel<Features, Warps><<<grid, Warps * warp_size, 0, stream>>>(params);
  BASED_CUDA_LAUNCHED();
}

template <int Features>
void launch_register_state(const product_params& params, const prefill_problem& problem,
                           cuda_stream stream) {
  static_assert(Features <= padded_features);
  const prefill_shape& shape = problem.shape;
  if (variant_of(problem) == variants[0]) {
    const dim3 grid(static_cast<unsigned>(shape.heads), static_cast<unsigned>(shape.batch));
    head_per_block_kernel<Features><<<grid, head_config::threads, 0, stream>>>(params);
    BASED_CUDA_LAUNCHED();
  } else if (shape.batch_heads() < sixteen_warps_below) {
    launch_column_per_block<Features, 16>(params, shape, stream);
  } else if (shape.batch_heads() < eight_warps_below) {
    launch_column_per_block<Features, 8>(params, shape, stream);
  } else {
    launch_column_per_block<Features, 4>(params, shape, stream);
  }
}

// --- the operation ------------------------------------------------------------------------------

template <feature_layout Layout>
struct workspace_layout {
  static constexpr std::size_t alignment = 256;

  std::size_t mapped_bytes;
  std::size_t value_bytes;

  explicit workspace_layout(const prefill_shape& shape)
      : mapped_bytes(aligned(shape.tokens() * feature_count<Layout> * sizeof(float))),
        value_bytes(aligned(shape.tokens() * value_dim * sizeof(float))) {}

  std::size_t bytes() const { return 2 * mapped_bytes + 2 * value_bytes; }
  static std::size_t aligned(std::size_t bytes) {
    return (bytes + alignment - 1) / alignment * alignment;
  }
};

template <feature_layout Layout>
std::size_t workspace_bytes(const prefill_problem& problem) {
  return workspace_layout<Layout>(problem.shape).bytes();
}

unsupported_reason unsupported(const prefill_problem& problem) {
  constexpr std::int64_t largest_grid = std::numeric_limits<std::uint16_t>::max();
  if (problem.options.normalize) return "the original has no normaliser";
  if (problem.options.initial_state || problem.options.final_state) {
    return "the original neither takes nor returns a state";
  }
  if (std::max(problem.shape.batch, problem.shape.heads) > largest_grid) {
    return "the original's grid takes at most 65535 batches and heads";
  }
  return {};
}

template <feature_layout Layout>
void run(const prefill_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes<Layout>(args.problem));
  const prefill_shape& shape = args.problem.shape;
  const workspace_layout<Layout> sizes(shape);
  auto* memory = static_cast<std::byte*>(args.workspace);
  auto* mapped_q = reinterpret_cast<float*>(memory);
  auto* mapped_k = reinterpret_cast<float*>(memory + sizes.mapped_bytes);
  auto* values = reinterpret_cast<float*>(memory + 2 * sizes.mapped_bytes);
  auto* sums = reinterpret_cast<float*>(memory + 2 * sizes.mapped_bytes + sizes.value_bytes);

  map_features<Layout>(args.q, shape, feature_side::query, args.problem.options.scale, mapped_q,
                       stream);
  map_features<Layout>(args.k, shape, feature_side::key, args.problem.options.scale, mapped_k,
                       stream);
  const token_tiles tiles(shape, cast_config::tile_tokens);
  cast_values_kernel<<<tiles.count, cast_config::threads, 0, stream>>>(
      args.v, tiles, reinterpret_cast<float4*>(values));
  BASED_CUDA_LAUNCHED();
  BASED_CUDA(cudaMemsetAsync(sums, 0, sizes.value_bytes, stream));

  const product_params params{mapped_q, mapped_k, values, sums, shape.seqlen};
  if constexpr (Layout == feature_layout::expanded) {
    launch_shared_state<feature_count<Layout>>(params, shape, stream);
  } else {
    launch_register_state<feature_count<Layout>>(params, args.problem, stream);
  }

  cast_output_kernel<<<tiles.count, cast_config::threads, 0, stream>>>(
      reinterpret_cast<const float4*>(sums), tiles, args.o);
  BASED_CUDA_LAUNCHED();
}

double executed_flops_expanded(const prefill_problem& problem) {
  return static_cast<double>(problem.shape.tokens()) * flops_per_token(expanded_features);
}
double executed_flops_compact(const prefill_problem& problem) {
  return static_cast<double>(problem.shape.tokens()) * flops_per_token(padded_features);
}

constexpr double tolerance = 5e-3;  // fp32 throughout: the rounding of the bf16 output

const registration<based_prefill> registered_273{
    {.name = "causal_dot_product",
     .summary = "Fast Transformers' kernel for more than 256 features, on the papers' 273",
     .role = implementation_role::baseline,
     .reimplements = {"fast_transformers_273"},
     .tolerance = tolerance,
     .deterministic = false,
     .unsupported = unsupported,
     .workspace_bytes = workspace_bytes<feature_layout::expanded>,
     .executed_flops = executed_flops_expanded,
     .run = run<feature_layout::expanded>}};

const registration<based_prefill> registered_153{
    {.name = "causal_dot_product_153",
     .summary = "Fast Transformers' kernels for at most 256 features, on the 153 distinct ones",
     .role = implementation_role::baseline,
     .reimplements = {"fast_transformers_153"},
     .tolerance = tolerance,
     .unsupported = unsupported,
     .workspace_bytes = workspace_bytes<feature_layout::compact>,
     .executed_flops = executed_flops_compact,
     .run = run<feature_layout::compact>,
     .variant = variant_of,
     .variants = variants}};

}  // namespace
}  // namespace based::causal_dot_product
