// Chunked recurrent Based prefill on CUDA, after flash-linear-attention's fused_chunk kernel.
//
// Per 16-token chunk, from states of the tokens before it (H0 [Dv], H1 [16 x Dv], H2 [256 x Dv]):
//
//   O  = H0 + Q H1 + (Q x Q) H2 / 2 + tril(1 + S + S^2/2) V,   S = Q K^T, Q scaled
//   H0 += 1^T V,   H1 += K^T V,   H2 += (K x K)^T V,   (X x X)[n][16 i + j] = X[n][i] X[n][j]
//
// Grid: (b, h) times two halves of the value columns; serial over the chunks. A warp owns 16 value
// columns and keeps their states in registers for the whole sequence, H1 and H2 transposed: so
// accumulated as V^T K (m = value column, n = feature), they are the B operand of the next chunk's
// product once rounded and packed. Normalisation adds a warp to the first half's block: its value
// columns are all ones, so that its output is z.
#include "baselines/chunked/chunked.h"
#include "baselines/chunked/chunked_cuda.cuh"
#include "kernels/core/warp_size.h"
#include "kernels/ptx/mma.cuh"

namespace based::chunked {
namespace {

constexpr int chunk = 16;         // tokens
constexpr int warp_columns = 16;  // value columns of a warp
constexpr int value_warps = 2;
constexpr int split_columns = value_warps * warp_columns;
constexpr int splits = value_dim / split_columns;
constexpr int value_threads = value_warps * warp_size;
constexpr int stages = 4;  // chunks in shared memory: one in use, the others on their way

constexpr std::uint32_t packed_ones = 0x3f803f80;  // two bf16

struct shared_storage {
  staged_rows<chunk, feature_dim> q[stages];
  staged_rows<chunk, feature_dim> k[stages];
  staged_rows<chunk, split_columns> v[stages];
};

/// Rows 2 `half` and 2 `half` + 1 (value columns g and g + 8 of a thread) of two neighbouring
/// transposed state tiles as a B operand: n = value column, k = feature.
struct packed_state {
  std::uint32_t b0, b1;
  __device__ packed_state(const float (&left)[4], const float (&right)[4], int half)
      : b0(ptx::to_bf16x2(left[2 * half], left[2 * half + 1])),
        b1(ptx::to_bf16x2(right[2 * half], right[2 * half + 1])) {}
};

/// Element 2 `pair` + `odd` of row g of an A fragment's half, twice.
__device__ std::uint32_t broadcast_in_row(std::uint32_t half_row, int pair, int odd) {
  constexpr unsigned all_lanes = 0xffffffff;
  const std::uint32_t word = __shfl_sync(all_lanes, half_row, pair, 4);
  return __byte_perm(word, 0, odd == 0 ? 0x1010 : 0x3232);
}

/// Column `column` of a B fragment's half: the thread's two rows of it.
__device__ std::uint32_t broadcast_column(std::uint32_t half, int column) {
  constexpr unsigned all_lanes = 0xffffffff;
  return __shfl_sync(all_lanes, half, 4 * column + threadIdx.x % 4);
}

__global__ __launch_bounds__(value_threads + warp_size) void chunked_recurrent_kernel(
    const __grid_constant__ kernel_params p) {
  const int warp = threadIdx.x / warp_size;
  const int lane = threadIdx.x % warp_size;
  const int g = lane / 4;  // as in ptx/mma.cuh
  const int t = lane % 4;
  const unsigned split = blockIdx.x % splits;
  const unsigned batch_head = blockIdx.x / splits;
  const bool ones_warp = warp == value_warps;
  if (ones_warp && split != 0) return;

  __shared__ shared_storage shared;
  const bf16* const q = p.q.token(batch_head / p.heads, batch_head % p.heads, 0);
  const bf16* const k = p.k.token(batch_head / p.heads, batch_head % p.heads, 0);
  const bf16* const v =
      p.v.token(batch_head / p.heads, batch_head % p.heads, 0) + split * split_columns;
  const std::int64_t chunks = (p.seqlen + chunk - 1) / chunk;

  const auto load_chunk = [&](std::int64_t index) {
    const std::int64_t token = index * chunk;
    const int stage = static_cast<int>(index % stages);
    if (index < chunks && !ones_warp) {
      const auto load = [&](auto& rows, const bf16* head, std::int64_t stride) {
        rows.template load_async<value_threads>(head + token * stride, stride, p.seqlen - token);
      };
      load(shared.q[stage], q, p.q.token_stride);
      load(shared.k[stage], k, p.k.token_stride);
      load(shared.v[stage], v, p.v.token_stride);
    }
    ptx::cp_async_commit();
  };
  for (int index = 0; index < stages - 1; ++index) load_chunk(index);

  float h0[2][4] = {};               // [16 equal rows x 16 value columns]
  float h1[2][4] = {};               // [16 value columns x 16 features]
  float h2[feature_dim][2][4] = {};  // 16 times [16 value columns x 16 features]
  const std::uint32_t ones[4] = {packed_ones, packed_ones, packed_ones, packed_ones};

  for (std::int64_t index = 0; index < chunks; ++index) {
    ptx::cp_async_wait<stages - 2>();
    __syncthreads();
    load_chunk(index + stages - 1);

    const int stage = static_cast<int>(index % stages);
    std::uint32_t qa[4];  // Q [16 tokens x 16 features], an A
    std::uint32_t kb[4];  // K^T [16 features x 16 tokens], two B
    std::uint32_t kt[4];  // K [16 tokens x 16 features], two B
    std::uint32_t va[4] = {packed_ones, packed_ones, packed_ones, packed_ones};
    std::uint32_t vb[4] = {packed_ones, packed_ones, packed_ones, packed_ones};
    shared.q[stage].load_a(qa, 0, 0);
    shared.k[stage].load_b(kb, 0, 0);
    shared.k[stage].load_b_trans(kt, 0, 0);
    if (!ones_warp) {
      shared.v[stage].load_a_trans(va, 0,
                                   warp * warp_columns);  // V^T [16 columns x 16 tokens], an A
      shared.v[stage].load_b_trans(vb, 0,
                                   warp * warp_columns);  // V [16 tokens x 16 columns], two B
    }
    scale_fragment(qa, p.scale);

    // Inside the chunk: the scores, their weights below the diagonal, times V.
    float s[2][4] = {};  // [16 tokens x 16 tokens]
    ptx::mma_m16n8k16(s[0], qa, kb[0], kb[1]);
    ptx::mma_m16n8k16(s[1], qa, kb[2], kb[3]);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = g + e / 2 * 8;
        const int column = n * 8 + 2 * t + e % 2;
        s[n][e] = column <= row ? taylor_weight(s[n][e]) : 0.0f;
      }
    }
    const std::uint32_t weights[4] = {
        ptx::to_bf16x2(s[0][0], s[0][1]), ptx::to_bf16x2(s[0][2], s[0][3]),
        ptx::to_bf16x2(s[1][0], s[1][1]), ptx::to_bf16x2(s[1][2], s[1][3])};

    // From the chunks before: orders 0 and 1 into o, order 2 into its own sums (two, to shorten the
    // chain of dependent products).
    float o[2][4];           // [16 tokens x 16 value columns]
    float o2[2][2][4] = {};  // the same, twice
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) o[n][e] = h0[n][e];
      const packed_state state(h1[0], h1[1], n);
      ptx::mma_m16n8k16(o[n], qa, state.b0, state.b1);
      ptx::mma_m16n8k16(o[n], weights, vb[2 * n], vb[2 * n + 1]);
    }
#pragma unroll
    for (int i = 0; i < feature_dim; ++i) {
      const int half = i / 8;
      const std::uint32_t upper = broadcast_in_row(qa[2 * half], i % 8 / 2, i % 2);
      const std::uint32_t lower = broadcast_in_row(qa[2 * half + 1], i % 8 / 2, i % 2);
      const std::uint32_t products[4] = {
          ptx::multiply_bf16x2(qa[0], upper), ptx::multiply_bf16x2(qa[1], lower),
          ptx::multiply_bf16x2(qa[2], upper), ptx::multiply_bf16x2(qa[3], lower)};
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const packed_state state(h2[i][0], h2[i][1], n);
        ptx::mma_m16n8k16(o2[i % 2][n], products, state.b0, state.b1);
      }
      const std::uint32_t early = broadcast_column(kt[2 * half], i % 8);     // tokens 0..7
      const std::uint32_t late = broadcast_column(kt[2 * half + 1], i % 8);  // tokens 8..15
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        ptx::mma_m16n8k16(h2[i][n], va, ptx::multiply_bf16x2(kt[2 * n], early),
                          ptx::multiply_bf16x2(kt[2 * n + 1], late));
      }
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      ptx::mma_m16n8k16(h1[n], va, kt[2 * n], kt[2 * n + 1]);
      ptx::mma_m16n8k16(h0[n], ones, vb[2 * n], vb[2 * n + 1]);
#pragma unroll
      for (int e = 0; e < 4; ++e) o[n][e] += 0.5f * (o2[0][n][e] + o2[1][n][e]);
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t token = index * chunk + half * 8 + g;
      if (token >= p.seqlen) continue;
      const std::int64_t row = batch_head * p.seqlen + token;
      if (ones_warp) {
        if (t == 0) p.out.z[row] = o[0][2 * half];
        continue;
      }
      const unsigned column = split * split_columns + warp * warp_columns + 2 * t;
      float* const target = p.out.o + row * value_dim + column;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        *reinterpret_cast<float2*>(target + n * 8) = {o[n][2 * half], o[n][2 * half + 1]};
      }
    }
  }
}

void run(const prefill_args<bf16>& args, cuda_stream stream) {
  validate(args, fp32_output_bytes(args.problem));
  const auto blocks = static_cast<unsigned>(args.problem.shape.batch_heads() * splits);
  const int threads = value_threads + (args.problem.options.normalize ? warp_size : 0);
  chunked_recurrent_kernel<<<blocks, threads, 0, stream>>>(make_params(args));
  BASED_CUDA_LAUNCHED();
  cast_output(args, stream);
}

/// The matrix units' work: every column warp forms the scores and both sides' feature products.
double executed_flops(const prefill_problem& problem) {
  const prefill_shape& shape = problem.shape;
  constexpr int products_a_warp = 2 * (2 * feature_dim) + 2 * 2 + 2 + 2 + 2;  // H2, H1, S, P V, H0
  constexpr double product_flops = 2.0 * 16 * 8 * 16;
  const int warps = value_dim / warp_columns + (problem.options.normalize ? 1 : 0);
  const std::int64_t chunks = (shape.seqlen + chunk - 1) / chunk;
  return static_cast<double>(shape.batch_heads() * chunks) * warps * products_a_warp *
         product_flops;
}

const registration<based_prefill> registered{
    {.name = "chunked_recurrent",
     .summary = "flash-linear-attention's fused_chunk: serial 16-token chunks, 273 features",
     .role = implementation_role::baseline,
     .reimplements = {"fla_fused_chunk_based"},
     .tolerance = 5e-3,
     .unsupported = no_states,
     .workspace_bytes = fp32_output_bytes,
     .executed_flops = executed_flops,
     .run = run}};

}  // namespace
}  // namespace based::chunked
