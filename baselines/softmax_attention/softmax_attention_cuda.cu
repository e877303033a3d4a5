// Softmax attention on CUDA: FlashAttention-2's algorithm (arXiv 2307.08691, algorithm 1) on the
// matrix units' warp-wide instruction.
//
//   for key tiles j, last to first:   S = Q K_j^T,   m' = max(m, rowmax(scale S))
//     P = exp(scale S - m'),   l = exp(m - m') l + rowsum(P),   O = exp(m - m') O + P V_j
//   O /= l
//
// Grid: (b, h) times tiles of 128 queries, the last and, where causal, longest first. Each of four
// warps owns 32 queries, so that a fragment of K or V from shared memory serves two products; S, P
// and O never leave registers. K and V have one buffer each: the V tile loads behind Q K^T and
// the maxima, the next K tile behind the exponentials and P V. Masks are applied only to tiles that
// cross the diagonal or the end.
#include <cstdint>
#include <numbers>

#include "baselines/softmax_attention/softmax_attention.h"
#include "baselines/staged_rows.cuh"
#include "baselines/token_tiles.cuh"
#include "kernels/core/head_dims.h"
#include "kernels/core/launch.h"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/bf16x2.cuh"
#include "kernels/ptx/ex2.cuh"
#include "kernels/ptx/mma.cuh"

namespace based::softmax {
namespace {

constexpr int query_tile = 128;
constexpr int key_tile = 64;
constexpr int warps = 4;
constexpr int threads = warps * warp_size;
constexpr int warp_queries = query_tile / warps;
constexpr int row_blocks = warp_queries / 16;
constexpr int key_blocks = key_tile / 16;
constexpr int blocks_per_multiprocessor = 2;

template <int HeadDim>
struct shared_storage {
  staged_rows<query_tile, HeadDim> q;
  staged_rows<key_tile, HeadDim> k;
  staged_rows<key_tile, HeadDim> v;
};

struct kernel_params {
  sequence_view<const bf16> q, k, v;  // [B, H, N, Dh]
  sequence_view<bf16> o;              // [B, H, N, Dh]
  token_tiles query_tiles;
  float log2_scale;  // the softmax's scale times log2(e): exponentials are base 2
};

/// Combines the values of the four threads that share a row.
template <class Combine>
__device__ float combine_row(float value, Combine combine) {
  constexpr unsigned all_lanes = 0xffffffff;
  value = combine(value, __shfl_xor_sync(all_lanes, value, 1));
  return combine(value, __shfl_xor_sync(all_lanes, value, 2));
}

template <int HeadDim, bool Causal>
__global__ __launch_bounds__(threads, blocks_per_multiprocessor) void softmax_attention_kernel(
    const __grid_constant__ kernel_params p) {
  constexpr int dim_blocks = HeadDim / 16;
  constexpr bool q_in_registers = HeadDim == 64;  // or read anew for every key tile

  const int warp = threadIdx.x / warp_size;
  const int lane = threadIdx.x % warp_size;
  const int g = lane / 4;  // as in ptx/mma.cuh
  const int t = lane % 4;
  const token_tiles::tile queries = p.query_tiles.locate(gridDim.x - 1 - blockIdx.x);
  const std::int64_t seqlen = p.query_tiles.seqlen;

  extern __shared__ uint4 shared_bytes[];
  auto& shared = *reinterpret_cast<shared_storage<HeadDim>*>(shared_bytes);
  const auto load_keys = [&](auto& rows, const sequence_view<const bf16>& source,
                             std::int64_t key) {
    rows.template load_async<threads>(source.token(queries.batch, queries.head, key),
                                      source.token_stride, seqlen - key);
    ptx::cp_async_commit();
  };

  const std::int64_t keys = Causal ? queries.first + queries.tokens : seqlen;
  std::int64_t key = (keys - 1) / key_tile * key_tile;  // the tile's first key
  shared.q.template load_async<threads>(p.q.token(queries.batch, queries.head, queries.first),
                                        p.q.token_stride, queries.tokens);
  load_keys(shared.k, p.k, key);

  std::uint32_t qa[row_blocks][dim_blocks][4];  // [32 queries x Dh]
  const auto load_q = [&](int d) {
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
      shared.q.load_a(qa[m][d], warp * warp_queries + m * 16, d * 16);
    }
  };
  if constexpr (q_in_registers) {
    ptx::cp_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int d = 0; d < dim_blocks; ++d) load_q(d);
  }

  float o[row_blocks][2 * dim_blocks][4] = {};  // [32 queries x Dh]
  float row_max[row_blocks][2];                 // of unscaled scores; rows g and g + 8
  float row_sum[row_blocks][2] = {};            // this thread's part
#pragma unroll
  for (int m = 0; m < row_blocks; ++m) row_max[m][0] = row_max[m][1] = -INFINITY;

  for (; key >= 0; key -= key_tile) {
    ptx::cp_async_wait<0>();
    __syncthreads();  // K has arrived, and the last tile's V is no longer read
    load_keys(shared.v, p.v, key);

    float s[row_blocks][2 * key_blocks][4] = {};  // [32 queries x keys]
#pragma unroll
    for (int d = 0; d < dim_blocks; ++d) {
      if constexpr (!q_in_registers) load_q(d);
#pragma unroll
      for (int j = 0; j < key_blocks; ++j) {
        std::uint32_t kb[4];  // [16 dims x 16 keys]
        shared.k.load_b(kb, j * 16, d * 16);
#pragma unroll
        for (int m = 0; m < row_blocks; ++m) {
          ptx::mma_m16n8k16(s[m][2 * j], qa[m][d], kb[0], kb[1]);
          ptx::mma_m16n8k16(s[m][2 * j + 1], qa[m][d], kb[2], kb[3]);
        }
      }
    }

    const std::int64_t first_row = queries.first + warp * warp_queries;
    if (key + key_tile > (Causal ? first_row + 1 : seqlen)) {
      // Keys that a query may see, counted from this tile's first.
      const int in_sequence = static_cast<int>(min(seqlen - key, std::int64_t{key_tile}));
#pragma unroll
      for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int diagonal = static_cast<int>(first_row - key) + m * 16 + half * 8 + g + 1;
          const int visible = Causal ? min(diagonal, in_sequence) : in_sequence;
#pragma unroll
          for (int n = 0; n < 2 * key_blocks; ++n) {
            if (n * 8 + 2 * t >= visible) s[m][n][2 * half] = -INFINITY;
            if (n * 8 + 2 * t + 1 >= visible) s[m][n][2 * half + 1] = -INFINITY;
          }
        }
      }
    }

    ptx::cp_async_wait<0>();
    __syncthreads();  // V has arrived, and K is no longer read
    if (key > 0) load_keys(shared.k, p.k, key - key_tile);

    float log2_max[row_blocks][2];
#pragma unroll
    for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float tile_max = row_max[m][half];
#pragma unroll
        for (int n = 0; n < 2 * key_blocks; ++n) {
          tile_max = fmaxf(tile_max, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
        }
        tile_max = combine_row(tile_max, [](float a, float b) { return fmaxf(a, b); });
        // A row that has seen no key yet must not meet inf - inf.
        log2_max[m][half] = tile_max == -INFINITY ? 0.0f : tile_max * p.log2_scale;
        const float correction = ptx::ex2(row_max[m][half] * p.log2_scale - log2_max[m][half]);
        row_max[m][half] = tile_max;
        row_sum[m][half] *= correction;
#pragma unroll
        for (int n = 0; n < 2 * dim_blocks; ++n) {
          o[m][n][2 * half] *= correction;
          o[m][n][2 * half + 1] *= correction;
        }
      }
    }

#pragma unroll
    for (int j = 0; j < key_blocks; ++j) {
      std::uint32_t pa[row_blocks][4];  // P [32 queries x 16 keys]
#pragma unroll
      for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          float(&tile)[4] = s[m][2 * j + n];
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            tile[e] = ptx::ex2(fmaf(tile[e], p.log2_scale, -log2_max[m][e / 2]));
            row_sum[m][e / 2] += tile[e];
          }
          pa[m][2 * n] = ptx::to_bf16x2(tile[0], tile[1]);
          pa[m][2 * n + 1] = ptx::to_bf16x2(tile[2], tile[3]);
        }
      }
#pragma unroll
      for (int d = 0; d < dim_blocks; ++d) {
        std::uint32_t vb[4];  // [16 keys x 16 dims]
        shared.v.load_b_trans(vb, j * 16, d * 16);
#pragma unroll
        for (int m = 0; m < row_blocks; ++m) {
          ptx::mma_m16n8k16(o[m][2 * d], pa[m], vb[0], vb[1]);
          ptx::mma_m16n8k16(o[m][2 * d + 1], pa[m], vb[2], vb[3]);
        }
      }
    }
  }

#pragma unroll
  for (int m = 0; m < row_blocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = combine_row(row_sum[m][half], [](float a, float b) { return a + b; });
      const float inverse = 1.0f / sum;
      const int query = warp * warp_queries + m * 16 + half * 8 + g;
      if (query >= queries.tokens) continue;
      bf16* const target = p.o.token(queries.batch, queries.head, queries.first + query) + 2 * t;
#pragma unroll
      for (int n = 0; n < 2 * dim_blocks; ++n) {
        *reinterpret_cast<std::uint32_t*>(target + n * 8) =
            ptx::to_bf16x2(o[m][n][2 * half] * inverse, o[m][n][2 * half + 1] * inverse);
      }
    }
  }
}

constexpr std::int64_t count_tiles(std::int64_t tokens, int tile) {
  return (tokens + tile - 1) / tile;
}

template <int HeadDim, bool Causal>
void launch(const attention_args<bf16>& args, cuda_stream stream) {
  const attention_problem& problem = args.problem;
  const token_tiles query_tiles({problem.batch, problem.heads, problem.seqlen}, query_tile);
  const kernel_params params = {
      args.q, args.k,      args.v,
      args.o, query_tiles, problem.softmax_scale() * std::numbers::log2e_v<float>};
  launch_kernel(softmax_attention_kernel<HeadDim, Causal>,
                {.grid = query_tiles.count,
                 .block = threads,
                 .shared_bytes = sizeof(shared_storage<HeadDim>)},
                stream, params);
}

void run(const attention_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  const attention_problem& problem = args.problem;
  with_head_dim(problem.head_dim, [&]<int HeadDim>() {
    problem.causal ? launch<HeadDim, true>(args, stream) : launch<HeadDim, false>(args, stream);
  });
}

unsupported_reason unsupported(const attention_problem& problem) {
  validate(problem);
  if (problem.key_heads() != problem.heads) return "grouped heads";
  if (problem.keys() != problem.seqlen) return "fewer queries than keys, or more";
  if (problem.window != 0) return "a window";
  if (problem.lse) return "the log-sum-exp";
  return std::nullopt;
}

/// The matrix units' work: whole tiles, those on the diagonal included.
double executed_flops(const attention_problem& problem) {
  const std::int64_t query_tiles = count_tiles(problem.seqlen, query_tile);
  std::int64_t pairs = query_tiles * count_tiles(problem.seqlen, key_tile);
  if (problem.causal) {
    const std::int64_t full = problem.seqlen / query_tile;  // query tiles without a ragged end
    pairs = full * (full + 1) / 2 * (query_tile / key_tile);
    if (full < query_tiles) pairs += count_tiles(problem.seqlen, key_tile);
  }
  return static_cast<double>(problem.batch * problem.heads * pairs) * query_tile * key_tile * 4.0 *
         problem.head_dim;
}

const registration<attention> registered{
    {.name = "softmax_attention",
     .summary = "FlashAttention-2's algorithm on mma.sync: online softmax, tiles in registers",
     .role = implementation_role::baseline,
     .reimplements = {"torch_sdpa_flash2", "flash_attention_2"},
     .tolerance = 5e-3,
     .unsupported = unsupported,
     .executed_flops = executed_flops,
     .run = run}};

}  // namespace
}  // namespace based::softmax
