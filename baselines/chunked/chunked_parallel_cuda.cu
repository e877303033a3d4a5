// Quadratic Based prefill on CUDA, after flash-linear-attention's parallel kernel.
//
//   O = tril(P) V,   P = 1 + S + S^2/2,   S = Q K^T, Q scaled;   z = the row sums of tril(P)
//
// Grid: (b, h) times tiles of 128 queries, the longest first. A block walks over tiles of 32 keys
// up to its diagonal; P is formed in fp32 and rounded to bf16 for the product with V. A warp owns
// 32 queries. No state anywhere: the work grows with N^2.
#include "baselines/chunked/chunked.h"
#include "baselines/chunked/chunked_cuda.cuh"
#include "baselines/token_tiles.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/mma.cuh"

namespace based::chunked {
namespace {

constexpr int query_tile = 128;
constexpr int key_tile = 32;
constexpr int warps = 4;
constexpr int threads = warps * warp_size;
constexpr int blocks_per_multiprocessor = 4;
constexpr int warp_queries = query_tile / warps;
constexpr int row_blocks = warp_queries / 16;
constexpr int key_blocks = key_tile / 16;
constexpr int value_blocks = value_dim / 16;
constexpr int stages = 4;  // key tiles in shared memory: one in use, the others on their way

struct shared_storage {
  staged_rows<query_tile, feature_dim> q;
  staged_rows<key_tile, feature_dim> k[stages];
  staged_rows<key_tile, value_dim> v[stages];
};

template <bool Normalize>
__global__ __launch_bounds__(threads, blocks_per_multiprocessor) void chunked_parallel_kernel(
    const __grid_constant__ kernel_params p, const __grid_constant__ token_tiles query_tiles) {
  const int warp = threadIdx.x / warp_size;
  const int lane = threadIdx.x % warp_size;
  const int g = lane / 4;  // as in ptx/mma.cuh
  const int t = lane % 4;
  const token_tiles::tile queries = query_tiles.locate(gridDim.x - 1 - blockIdx.x);

  __shared__ shared_storage shared;
  const bf16* const q = p.q.token(queries.batch, queries.head, queries.first);
  const bf16* const k = p.k.token(queries.batch, queries.head, 0);
  const bf16* const v = p.v.token(queries.batch, queries.head, 0);
  const std::int64_t keys = queries.first + queries.tokens;
  const std::int64_t key_tiles = (keys + key_tile - 1) / key_tile;

  const auto load_keys = [&](std::int64_t tile) {
    const std::int64_t key = tile * key_tile;
    const int stage = static_cast<int>(tile % stages);
    if (tile < key_tiles) {
      const auto load = [&](auto& rows, const bf16* head, std::int64_t stride) {
        rows.template load_async<threads>(head + key * stride, stride, p.seqlen - key);
      };
      load(shared.k[stage], k, p.k.token_stride);
      load(shared.v[stage], v, p.v.token_stride);
    }
    ptx::cp_async_commit();
  };
  shared.q.load_async<threads>(q, p.q.token_stride, queries.tokens);
  for (int tile = 0; tile < stages - 1; ++tile) load_keys(tile);
  ptx::cp_async_wait<stages - 2>();
  __syncthreads();

  std::uint32_t qa[row_blocks][4];  // [32 queries x 16 features]
#pragma unroll
  for (int m = 0; m < row_blocks; ++m) {
    shared.q.load_a(qa[m], warp * warp_queries + m * 16, 0);
    scale_fragment(qa[m], p.scale);
  }
  float o[row_blocks][2 * value_blocks][4] = {};  // [32 queries x 64 value columns]
  float z[row_blocks][2] = {};                    // rows g and g + 8; this thread's part

  const auto add_tile = [&]<bool Masked>(std::int64_t tile) {
    ptx::cp_async_wait<stages - 2>();
    __syncthreads();
    load_keys(tile + stages - 1);
    const int stage = static_cast<int>(tile % stages);
    // The first query of this warp, counted from the tile's first key.
    const int offset = static_cast<int>(queries.first - tile * key_tile) + warp * warp_queries;

#pragma unroll
    for (int j = 0; j < key_blocks; ++j) {
      std::uint32_t kb[4];  // [16 features x 16 keys]
      shared.k[stage].load_b(kb, j * 16, 0);
      std::uint32_t weights[row_blocks][4];  // [32 queries x 16 keys]
#pragma unroll
      for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          float s[4] = {};  // [16 queries x 8 keys]
          ptx::mma_m16n8k16(s, qa[m], kb[2 * n], kb[2 * n + 1]);
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            s[e] = taylor_weight(s[e]);
            if constexpr (Masked) {
              const int row = offset + m * 16 + e / 2 * 8 + g;
              const int column = j * 16 + n * 8 + 2 * t + e % 2;
              if (column > row) s[e] = 0.0f;
            }
            if constexpr (Normalize) z[m][e / 2] += s[e];
          }
          weights[m][2 * n] = ptx::to_bf16x2(s[0], s[1]);
          weights[m][2 * n + 1] = ptx::to_bf16x2(s[2], s[3]);
        }
      }
#pragma unroll
      for (int c = 0; c < value_blocks; ++c) {
        std::uint32_t vb[4];  // [16 keys x 16 value columns]
        shared.v[stage].load_b_trans(vb, j * 16, c * 16);
#pragma unroll
        for (int m = 0; m < row_blocks; ++m) {
          ptx::mma_m16n8k16(o[m][2 * c], weights[m], vb[0], vb[1]);
          ptx::mma_m16n8k16(o[m][2 * c + 1], weights[m], vb[2], vb[3]);
        }
      }
    }
  };
  std::int64_t tile = 0;
  for (; tile * key_tile < queries.first; ++tile) add_tile.template operator()<false>(tile);
  for (; tile < key_tiles; ++tile) add_tile.template operator()<true>(tile);

#pragma unroll
  for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if constexpr (Normalize) {  // sum over the four threads of the row
        constexpr unsigned all_lanes = 0xffffffff;
        z[m][half] += __shfl_xor_sync(all_lanes, z[m][half], 1);
        z[m][half] += __shfl_xor_sync(all_lanes, z[m][half], 2);
      }
      const int query = warp * warp_queries + m * 16 + half * 8 + g;
      if (query >= queries.tokens) continue;
      const std::int64_t row = queries.row + query;
      float* const target = p.out.o + row * value_dim + 2 * t;
#pragma unroll
      for (int n = 0; n < 2 * value_blocks; ++n) {
        *reinterpret_cast<float2*>(target + n * 8) = {o[m][n][2 * half], o[m][n][2 * half + 1]};
      }
      if (Normalize && t == 0) p.out.z[row] = z[m][half];
    }
  }
}

void run(const prefill_args<bf16>& args, cuda_stream stream) {
  validate(args, fp32_output_bytes(args.problem));
  const token_tiles query_tiles(args.problem.shape, query_tile);
  const auto kernel = args.problem.options.normalize ? chunked_parallel_kernel<true>
                                                     : chunked_parallel_kernel<false>;
  kernel<<<query_tiles.count, threads, 0, stream>>>(make_params(args), query_tiles);
  BASED_CUDA_LAUNCHED();
  cast_output(args, stream);
}

/// The matrix units' work: whole tiles, the diagonal's upper half included.
double executed_flops(const prefill_problem& problem) {
  const prefill_shape& shape = problem.shape;
  constexpr std::int64_t keys_a_query_tile = query_tile / key_tile;
  const std::int64_t full = shape.seqlen / query_tile;  // query tiles without a ragged end
  const std::int64_t key_tiles = (shape.seqlen + key_tile - 1) / key_tile;
  std::int64_t pairs = keys_a_query_tile * full * (full + 1) / 2;
  if (shape.seqlen % query_tile != 0) pairs += key_tiles;
  return static_cast<double>(shape.batch_heads() * pairs) * query_tile * key_tile * 2.0 *
         (feature_dim + value_dim);
}

const registration<based_prefill> registered{
    {.name = "chunked_parallel",
     .summary = "flash-linear-attention's parallel: quadratic, tiles of 128 queries and 32 keys",
     .role = implementation_role::baseline,
     .reimplements = {"fla_parallel_based"},
     .tolerance = 5e-3,
     .unsupported = no_states,
     .workspace_bytes = fp32_output_bytes,
     .executed_flops = executed_flops,
     .run = run}};

}  // namespace
}  // namespace based::chunked
