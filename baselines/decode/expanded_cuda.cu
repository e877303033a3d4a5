// The baseline expanded of decode.h: one block of eight warps a (batch, head).
//
//   per tile t of 64 rows:   S_t += phi_k,t v^T,   o += phi_q,t^T S_t
//
//   grid (B*H)   q, k [B, H, 1, 320]   v, o [B, H, 1, 64]   S [B, H, 320, 64], all bf16
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "baselines/decode/decode.h"
#include "kernels/core/cuda_check.h"
#include "kernels/core/grid.h"
#include "kernels/core/implementation.h"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/cp_async.cuh"
#include "kernels/ptx/shuffle.cuh"

namespace based::decode {
namespace {

constexpr int warps = 8;
constexpr int threads = warps * warp_size;
constexpr int vector = 8;  // bf16 in a 16-byte word
constexpr int tile_rows = 64;
constexpr int tiles = padded_features / tile_rows;
constexpr int tile_words = tile_rows * value_dim / vector;
static_assert(tile_words % threads == 0 && value_dim == 2 * warp_size);

struct expanded_params {
  sequence_view<const bf16> q, k, v;
  sequence_view<bf16> o;
  uint4* kv;
  float* z;  ///< null: no normalisation
  std::uint32_t heads;
  float eps;
};

struct expanded_storage {
  uint4 state[2][tile_words];
  alignas(16) __nv_bfloat16 q[padded_features];
  alignas(16) __nv_bfloat16 k[padded_features];
  float2 o[warps][warp_size];
  float normalizer[warps];
};

/// Starts copying one tile. A thread copies the words that it also writes back.
__device__ void load_tile(uint4 (&to)[tile_words], const uint4* from) {
#pragma unroll
  for (int word = threadIdx.x; word < tile_words; word += threads) {
    ptx::cp_async_16(&to[word], from + word, true);
  }
}

__global__ void __launch_bounds__(threads)
    expanded_kernel(const __grid_constant__ expanded_params params) {
  __shared__ expanded_storage shared;
  const std::uint32_t batch = blockIdx.x / params.heads;
  const std::uint32_t head = blockIdx.x % params.heads;
  const int thread = threadIdx.x;
  const int warp = thread / warp_size;
  const int lane = thread % warp_size;
  uint4* kv = params.kv + static_cast<std::int64_t>(blockIdx.x) * tiles * tile_words;

  constexpr int feature_words = padded_features / vector;
  if (thread < feature_words) {
    const int at = thread * vector;
    ptx::cp_async_16(&shared.q[at], params.q.token(batch, head, 0) + at, true);
    ptx::cp_async_16(&shared.k[at], params.k.token(batch, head, 0) + at, true);
  }
  load_tile(shared.state[0], kv);
  ptx::cp_async_commit();
  const bf16* v = params.v.token(batch, head, 0);  // [64]
  const float2 value = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162*>(v)[lane]);

  float2 out = {};
  for (int tile = 0; tile < tiles; ++tile) {
    auto& state = shared.state[tile % 2];
    if (tile + 1 < tiles) load_tile(shared.state[(tile + 1) % 2], kv + (tile + 1) * tile_words);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();

    auto* pairs = reinterpret_cast<__nv_bfloat162*>(state);  // [64, 32]
#pragma unroll
    for (int row = warp; row < tile_rows; row += warps) {
      const float q = __bfloat162float(shared.q[tile * tile_rows + row]);
      const float k = __bfloat162float(shared.k[tile * tile_rows + row]);
      __nv_bfloat162& pair = pairs[row * warp_size + lane];
      float2 sum = __bfloat1622float2(pair);
      sum.x += k * value.x;
      sum.y += k * value.y;
      out.x += q * sum.x;
      out.y += q * sum.y;
      pair = __float22bfloat162_rn(sum);
    }
    __syncthreads();

    uint4* to = kv + tile * tile_words;
#pragma unroll
    for (int word = thread; word < tile_words; word += threads) to[word] = state[word];
  }

  if (params.z != nullptr) {
    float* z = params.z + static_cast<std::int64_t>(blockIdx.x) * padded_features;
    float normalizer = 0.0f;
    for (int row = thread; row < padded_features; row += threads) {
      const float updated = z[row] + __bfloat162float(shared.k[row]);
      z[row] = updated;
      normalizer += __bfloat162float(shared.q[row]) * updated;
    }
    normalizer = ptx::sum_over_lanes(normalizer);
    if (lane == 0) shared.normalizer[warp] = normalizer;
  }
  shared.o[warp][lane] = out;
  __syncthreads();
  if (warp > 0) return;
#pragma unroll
  for (int w = 1; w < warps; ++w) {
    out.x += shared.o[w][lane].x;
    out.y += shared.o[w][lane].y;
  }
  if (params.z != nullptr) {
    float normalizer = params.eps;
#pragma unroll
    for (int w = 0; w < warps; ++w) normalizer += shared.normalizer[w];
    out.x /= normalizer;
    out.y /= normalizer;
  }
  bf16* o = params.o.token(batch, head, 0);  // [64]
  reinterpret_cast<__nv_bfloat162*>(o)[lane] = __float22bfloat162_rn(out);
}

void run(const decode_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const decode_problem& problem = args.problem;
  const expanded_params params{
      .q = args.q,
      .k = args.k,
      .v = args.v,
      .o = args.o,
      .kv = static_cast<uint4*>(args.kv),
      .z = problem.normalize ? args.z : nullptr,
      .heads = static_cast<std::uint32_t>(problem.heads),
      .eps = problem.eps,
  };
  expanded_kernel<<<static_cast<unsigned>(problem.batch_heads()), threads, 0, stream>>>(params);
  BASED_CUDA_LAUNCHED();
}

unsupported_reason unsupported(const decode_problem& problem) {
  if (problem.layout != decode_layout::padded) return "takes the padded state";
  if (problem.state != state_type::bf16) return "keeps its state in bf16";
  return unsupported_grid(problem.batch_heads());
}

const registration<based_decode> registered{{
    .name = "expanded",
    .summary = "the Based authors' kernel: 320 bf16 rows streamed through shared memory",
    .role = implementation_role::baseline,
    .tolerance = tolerance,
    .adapt = [](decode_problem& problem) { problem.layout = decode_layout::padded; },
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace
}  // namespace based::decode
