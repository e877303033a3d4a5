// The CUDA form of naive.h: eager PyTorch's operations in bf16, one kernel each.
//
// T = B*H*N tokens. All tensors but the views q, k, v, o are contiguous, in the workspace:
//
//   mapped_q, mapped_k   [T, 273]       phi(q), phi(k)
//   products             [T, 273, 64]   phi(k) v^T; later phi(q) * sums
//   sums                 [T, 273, 64]   products, summed along N
//   normalizers          [T, 273] fp32  phi(k) summed along N (in the place of `sums`, done with)
//
// Whoever touches a [T, 273, 64] tensor moves eight columns, 16 bytes, a thread.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "baselines/feature_map.cuh"
#include "baselines/naive/naive.h"
#include "baselines/token_tiles.cuh"
#include "kernels/based/prefill.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/implementation.h"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/shuffle.cuh"

namespace based::naive {
namespace {

constexpr int features = expanded_features;

/// Eight bf16, moved as one 16-byte word.
struct bf16x8 {
  uint4 bits;
  __device__ __nv_bfloat162& pair(int p) { return reinterpret_cast<__nv_bfloat162*>(&bits)[p]; }
};
constexpr int vector_pairs = 4;
constexpr int vector_columns = 8;
constexpr int value_vectors = value_dim / vector_columns;
constexpr int state_vectors = features * value_vectors;

__device__ bf16x8 multiply(bf16x8 x, __nv_bfloat16 factor) {
  const __nv_bfloat162 factors = __bfloat162bfloat162(factor);
#pragma unroll
  for (int p = 0; p < vector_pairs; ++p) x.pair(p) = __hmul2(x.pair(p), factors);
  return x;
}

__device__ void accumulate(bf16x8& sum, bf16x8 term) {
#pragma unroll
  for (int p = 0; p < vector_pairs; ++p) sum.pair(p) = __hadd2(sum.pair(p), term.pair(p));
}
__device__ void accumulate(float& sum, __nv_bfloat16 term) {
  sum += __bfloat162float(term);
}

// --- products = phi(k) v^T ----------------------------------------------------------------------

struct product_config {
  static constexpr int tile_tokens = 4;
  static constexpr int rows = 32;  // of the state, side by side
  static constexpr dim3 threads = {value_vectors, rows, 1};
};

/// One block a tile of tokens; thread (x, y) writes columns 8x..8x+7 of rows y, y + 32, ...
__global__ void outer_product_kernel(const __nv_bfloat16* __restrict__ mapped_k,
                                     sequence_view<const bf16> v, token_tiles tiles,
                                     bf16x8* __restrict__ products) {
  const token_tiles::tile tile = tiles.locate(blockIdx.x);
  for (int token = 0; token < tile.tokens; ++token) {
    const bf16* value = v.token(tile.batch, tile.head, tile.first + token);      // [64]
    const bf16x8 columns = reinterpret_cast<const bf16x8*>(value)[threadIdx.x];  // [8]
    const __nv_bfloat16* mapped = mapped_k + (tile.row + token) * features;      // [273]
    bf16x8* out = products + (tile.row + token) * state_vectors;                 // [273, 8]
#pragma unroll
    for (int row = threadIdx.y; row < features; row += product_config::rows) {
      out[row * value_vectors + threadIdx.x] = multiply(columns, mapped[row]);
    }
  }
}

// --- sums[n] = sum of products[m], m <= n -------------------------------------------------------

struct scan_config {
  static constexpr int threads = 128;
  static constexpr int tokens_in_flight = 8;  // independent loads before the first addition
};

/// Cumulative sum along N of terms [heads, N, columns], one thread a column of one head. The
/// running sum has the type of the result, so a bf16 scan rounds at every token. The pointers are
/// not __restrict__: free to move loads past stores, the compiler keeps but few in flight.
template <class Sum, class Term>
__global__ void cumulative_sum_kernel(const Term* terms, Sum* sums, std::int64_t heads,
                                      std::int64_t seqlen, int columns) {
  constexpr int batch = scan_config::tokens_in_flight;
  const std::int64_t thread = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  const std::int64_t head = thread / columns;
  if (head >= heads) return;
  const std::int64_t start = head * seqlen * columns + thread % columns;
  terms += start;
  sums += start;

  Sum sum = {};
  std::int64_t n = 0;
  for (; n + batch <= seqlen; n += batch) {
    Term term[batch];
#pragma unroll
    for (int i = 0; i < batch; ++i) term[i] = terms[static_cast<std::int64_t>(i) * columns];
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      accumulate(sum, term[i]);
      sums[static_cast<std::int64_t>(i) * columns] = sum;
    }
    terms += static_cast<std::int64_t>(batch) * columns;
    sums += static_cast<std::int64_t>(batch) * columns;
  }
  for (; n < seqlen; ++n, terms += columns, sums += columns) {
    accumulate(sum, *terms);
    *sums = sum;
  }
}

template <class Sum, class Term>
void cumulative_sum(const Term* terms, Sum* sums, const prefill_shape& shape, int columns,
                    cuda_stream stream) {
  const std::int64_t threads = shape.batch_heads() * columns;
  const std::int64_t blocks = (threads + scan_config::threads - 1) / scan_config::threads;
  cumulative_sum_kernel<<<static_cast<unsigned>(blocks), scan_config::threads, 0, stream>>>(
      terms, sums, shape.batch_heads(), shape.seqlen, columns);
  BASED_CUDA_LAUNCHED();
}

// --- weighted = phi(q) * sums -------------------------------------------------------------------

constexpr int weigh_threads = 256;

/// One thread a vector. mapped_q: [T, 273]; sums, weighted: [T, 273, 64].
__global__ void weigh_kernel(const __nv_bfloat16* __restrict__ mapped_q,
                             const bf16x8* __restrict__ sums, bf16x8* __restrict__ weighted,
                             std::int64_t vectors) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i < vectors) weighted[i] = multiply(sums[i], mapped_q[i / value_vectors]);
}

// --- o = weighted, summed over the features -----------------------------------------------------

constexpr int warps_per_block = 8;

/// One warp a token; a lane sums every fourth row of its eight columns in fp32.
__global__ void feature_sum_kernel(const bf16x8* __restrict__ weighted, token_tiles tiles,
                                   sequence_view<bf16> o) {
  const token_tiles::tile tile = tiles.locate(blockIdx.x);
  const int token = threadIdx.x / warp_size;
  if (token >= tile.tokens) return;
  const int lane = threadIdx.x % warp_size;

  const bf16x8* terms = weighted + (tile.row + token) * state_vectors;  // [273, 8]
  float2 sum[vector_pairs] = {};
#pragma unroll 8
  for (int i = lane; i < state_vectors; i += warp_size) {
    bf16x8 term = terms[i];
#pragma unroll
    for (int p = 0; p < vector_pairs; ++p) {
      const float2 pair = __bfloat1622float2(term.pair(p));
      sum[p].x += pair.x;
      sum[p].y += pair.y;
    }
  }
  bf16x8 total;
#pragma unroll
  for (int p = 0; p < vector_pairs; ++p) {
#pragma unroll
    for (int distance = value_vectors; distance < warp_size; distance *= 2) {
      sum[p].x += __shfl_xor_sync(~0u, sum[p].x, distance);
      sum[p].y += __shfl_xor_sync(~0u, sum[p].y, distance);
    }
    total.pair(p) = __float22bfloat162_rn(sum[p]);
  }
  if (lane < value_vectors) {
    bf16* out = o.token(tile.batch, tile.head, tile.first + token);  // [64]
    reinterpret_cast<bf16x8*>(out)[lane] = total;
  }
}
static_assert(warp_size % value_vectors == 0);

// --- o /= phi(q) . normalizers + eps ------------------------------------------------------------

/// One warp a token, two columns a lane.
__global__ void normalize_kernel(const __nv_bfloat16* __restrict__ mapped_q,
                                 const float* __restrict__ normalizers, float eps,
                                 token_tiles tiles, sequence_view<bf16> o) {
  const token_tiles::tile tile = tiles.locate(blockIdx.x);
  const int token = threadIdx.x / warp_size;
  if (token >= tile.tokens) return;
  const int lane = threadIdx.x % warp_size;

  const std::int64_t start = (tile.row + token) * features;
  float sum = 0.0f;
  for (int row = lane; row < features; row += warp_size) {
    sum += __bfloat162float(mapped_q[start + row]) * normalizers[start + row];
  }
  sum = ptx::sum_over_lanes(sum);
  bf16* out = o.token(tile.batch, tile.head, tile.first + token);  // [64]
  __nv_bfloat162& pair = reinterpret_cast<__nv_bfloat162*>(out)[lane];
  const float2 value = __bfloat1622float2(pair);
  pair = __floats2bfloat162_rn(value.x / (sum + eps), value.y / (sum + eps));
}
static_assert(value_dim == 2 * warp_size);

// --- the operation ------------------------------------------------------------------------------

struct workspace_layout {
  static constexpr std::size_t alignment = 256;

  std::size_t mapped_bytes;
  std::size_t state_bytes;

  explicit workspace_layout(const prefill_shape& shape)
      : mapped_bytes(aligned(shape.tokens() * features * sizeof(bf16))),
        state_bytes(aligned(shape.tokens() * features * value_dim * sizeof(bf16))) {}

  std::size_t bytes() const { return 2 * mapped_bytes + 2 * state_bytes; }
  static std::size_t aligned(std::size_t bytes) {
    return (bytes + alignment - 1) / alignment * alignment;
  }
};

std::size_t workspace_bytes(const prefill_problem& problem) {
  return workspace_layout(problem.shape).bytes();
}

unsupported_reason unsupported(const prefill_problem& problem) {
  if (problem.options.initial_state || problem.options.final_state) {
    return "the original neither takes nor returns a state";
  }
  return {};
}

void run(const prefill_args<bf16>& args, cuda_stream stream) {
  validate(args, workspace_bytes(args.problem));
  const auto& [shape, options, variant] = args.problem;
  const workspace_layout layout(shape);
  auto* memory = static_cast<std::byte*>(args.workspace);
  auto* mapped_q = reinterpret_cast<__nv_bfloat16*>(memory);
  auto* mapped_k = reinterpret_cast<__nv_bfloat16*>(memory + layout.mapped_bytes);
  auto* products = reinterpret_cast<bf16x8*>(memory + 2 * layout.mapped_bytes);
  auto* sums = reinterpret_cast<bf16x8*>(memory + 2 * layout.mapped_bytes + layout.state_bytes);

  constexpr feature_layout expanded = feature_layout::expanded;
  map_features<expanded>(args.q, shape, feature_side::query, options.scale,
                         reinterpret_cast<bf16*>(mapped_q), stream);
  map_features<expanded>(args.k, shape, feature_side::key, options.scale,
                         reinterpret_cast<bf16*>(mapped_k), stream);

  const token_tiles product_tiles(shape, product_config::tile_tokens);
  outer_product_kernel<<<product_tiles.count, product_config::threads, 0, stream>>>(
      mapped_k, args.v, product_tiles, products);
  BASED_CUDA_LAUNCHED();

  cumulative_sum(products, sums, shape, state_vectors, stream);

  const std::int64_t vectors = shape.tokens() * state_vectors;
  const std::int64_t weigh_blocks = (vectors + weigh_threads - 1) / weigh_threads;
  bf16x8* weighted = products;
  weigh_kernel<<<static_cast<unsigned>(weigh_blocks), weigh_threads, 0, stream>>>(
      mapped_q, sums, weighted, vectors);
  BASED_CUDA_LAUNCHED();

  const token_tiles tiles(shape, warps_per_block);
  constexpr int threads = warps_per_block * warp_size;
  feature_sum_kernel<<<tiles.count, threads, 0, stream>>>(weighted, tiles, args.o);
  BASED_CUDA_LAUNCHED();

  if (options.normalize) {
    auto* normalizers = reinterpret_cast<float*>(sums);
    cumulative_sum(mapped_k, normalizers, shape, features, stream);
    normalize_kernel<<<tiles.count, threads, 0, stream>>>(mapped_q, normalizers, options.eps, tiles,
                                                          args.o);
    BASED_CUDA_LAUNCHED();
  }
}

const registration<based_prefill> registered{
    {.name = "naive",
     .summary = "eager PyTorch in bf16: every intermediate of 273 features a tensor in memory",
     .role = implementation_role::baseline,
     .reimplements = {"pytorch_naive"},
     .tolerance = cuda_tolerance,
     .unsupported = unsupported,
     .workspace_bytes = workspace_bytes,
     .executed_flops = executed_flops,
     .run = run}};

}  // namespace
}  // namespace based::naive
