// Based prefill on mma.sync, for Ampere, Ada and whatever follows them.
//
// A head's tokens are worked on in chunks of 64. With phi of circulant.h, S the state before a
// chunk and Q, K, V [64 x 16, 16, 64] the chunk,
//
//   O  = phi(Q) S + W V,   W = mask(1 + A + A^2 / 2),   A = scale Q K^T
//   S += phi(K)^T V
//
// Grid: one CTA per (batch, head). Each of its four warps owns sixteen of the 64 values' dimensions
// and keeps S^T [16 x 160] of them in fp32 registers for the whole sequence: rounded, it is the
// operand of the next chunk's output, so the state never meets shared memory. Features are built
// by every warp for itself, in registers. What the warps would repeat needlessly, each prepares for
// a quarter of the next chunk's tokens while the present chunk is worked on: scaled queries, keys
// transposed (for phi(K)^T wants tokens side by side), and W. One barrier a chunk.
//
// phi multiplies x by its own rotations. Rotated columns of Q and rows of K^T are read at a
// constant offset, for both are stored with their beginning once more behind their end.
#include "kernels/based/prefill_sm80.h"

#include <limits>
#include <string>
#include <type_traits>

#include "kernels/based/circulant.cuh"
#include "kernels/based/key_moments_sm80.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/common/cuda_check.h"
#include "kernels/tile/block.cuh"
#include "kernels/tile/mma_sync.cuh"
#include "kernels/tile/padded_tile.cuh"

namespace based::sm80 {
namespace {

using circulant::token_tile;
using circulant::two_halves;
using circulant::two_ones;
using ptx::multiply_bf16x2;

constexpr int chunk_tokens = 64;
constexpr int blocks = chunk_tokens / 16;  // of sixteen tokens, one a warp
constexpr int weight_blocks = blocks * (blocks + 1) / 2;
constexpr int threads = warpgroup::threads;
constexpr int repeated = feature_dim / 2;  // dims of q and k: rotations reach seven further
constexpr int ctas_per_multiprocessor = 2;
constexpr int stages = 4;  // chunks: one worked on, one prepared, the others on their way

/// Index of the block of W at rows 16 i.. and columns 16 j.., j <= i.
constexpr int weight_block(int i, int j) {
  return i * (i + 1) / 2 + j;
}

using query_tile = padded_tile<chunk_tokens, feature_dim + repeated>;  // Q   [64 x 16 (+ 8)]
using key_tile = padded_tile<feature_dim + repeated, chunk_tokens>;    // K^T [16 (+ 8) x 64]
using value_rows = padded_tile<chunk_tokens, value_dim>;               // V   [64 x 64]

/// What the warps prepare of a chunk for each other.
struct prepared_chunk {
  query_tile q;  // scaled
  key_tile k;
  uint4 weights[weight_blocks][32];  // W: operand_slices [16 x 16], lane by lane
  float inverse_sums[chunk_tokens];  // with normalisation: of the weights of a query
};

struct shared_storage {
  token_tile q[stages];  // [64 x 16]
  token_tile k[stages];  // [64 x 16]
  value_rows v[stages];
  prepared_chunk prepared[2];
};

struct parameters {
  sequence_view<const bf16> q, k;            // [B, H, N, 16]
  sequence_view<const bf16> v;               // [B, H, N, 64]
  sequence_view<bf16> o;                     // [B, H, N, 64]
  kv_state_view<const float> initial_state;  ///< kv null: zero
  kv_state_view<float> final_state;          ///< kv null: not wanted
  int seqlen;
  int heads;
  float scale;
  float eps;
};

/// phi(Q) of sixteen tokens [16 x 160], slice by slice; `slice` is to be a constant. The squares
/// lack their weight 1/2, which the rounded state takes over once a chunk.
class query_features {
 public:
  __device__ query_features(const query_tile& q, int token) {
#pragma unroll
    for (int i = 0; i < words; ++i) {
      const int col = 2 * (warp::lane() % 4) + 2 * i;
      upper_[i] = q.load<std::uint32_t>(token + warp::lane() / 4, col);
      lower_[i] = q.load<std::uint32_t>(token + warp::lane() / 4 + 8, col);
    }
  }

  __device__ operand_slice slice(int slice) const {
    if (slice == circulant::linear_slice) return {upper_[0], lower_[0], upper_[4], lower_[4]};
    if (slice == circulant::opposite_slice) {
      const std::uint32_t constant = warp::lane() % 4 == 0 ? two_ones : 0;
      return {product(upper_, 0, slice), product(lower_, 0, slice), constant, constant};
    }
    return {product(upper_, 0, slice), product(lower_, 0, slice), product(upper_, 4, slice),
            product(lower_, 4, slice)};
  }

 private:
  static constexpr int words = feature_dim / 2;

  __device__ static std::uint32_t product(const std::uint32_t (&x)[words], int first, int slice) {
    return multiply_bf16x2(x[first], circulant::rotated(x, first, slice));
  }

  std::uint32_t upper_[words];  // word i: columns 2 t + 2 i, 2 t + 2 i + 1 (mod 16) of row g
  std::uint32_t lower_[words];  // of row g + 8
};

/// phi(K)^T of sixteen tokens [160 x 16], slice by slice; `slice` is to be a constant.
class key_features {
 public:
  __device__ key_features(const key_tile& k, int token)
      : k_(k), token_(token), x_(warp::load_right(k, 0, token)) {}

  __device__ right_slice slice(int slice) const {
    if (slice == circulant::linear_slice) return x_;
    if (slice == circulant::opposite_slice) {
      const std::uint32_t constant = warp::lane() / 4 < 2 ? two_ones : 0;
      return {multiply_bf16x2(x_.word[0], x_.word[2]), multiply_bf16x2(x_.word[1], x_.word[3]),
              constant, constant};
    }
    const right_slice y = slice == 0 ? x_ : warp::load_right(k_, slice, token_);
    return {multiply_bf16x2(x_.word[0], y.word[0]), multiply_bf16x2(x_.word[1], y.word[1]),
            multiply_bf16x2(x_.word[2], y.word[2]), multiply_bf16x2(x_.word[3], y.word[3])};
  }

 private:
  const key_tile& k_;
  int token_;
  right_slice x_;
};

/// One CTA's head.
struct head_range {
  std::int64_t batch, head, batch_head;
  __device__ explicit head_range(const parameters& p)
      : batch(blockIdx.x / p.heads), head(blockIdx.x % p.heads), batch_head(blockIdx.x) {}
};

__device__ void load_chunk(shared_storage& shared, const parameters& p, const head_range& range,
                           int chunk) {
  const int token = chunk * chunk_tokens;
  if (token < p.seqlen) {
    const int stage = chunk % stages;
    const auto load = [&](auto& tile, const sequence_view<const bf16>& view) {
      block::load_async<threads>(tile, view.token(range.batch, range.head, token),
                                 view.token_stride, p.seqlen - token);
    };
    load(shared.q[stage], p.q);
    load(shared.k[stage], p.k);
    load(shared.v[stage], p.v);
  }
  block::commit_loads();
}

/// This warp's quarter of what a chunk needs; `moments` are those of the chunks before.
template <bool Normalize>
__device__ void prepare(prepared_chunk& to, const token_tile& q_tile, const token_tile& k_tile,
                        const parameters& p, key_moments& moments) {
  const int warp = warpgroup::warp();
  const int first_row = 16 * warp;
  const operand_slice q = warp::scaled(warp::load(q_tile, first_row, 0), p.scale);
  const operand_slice k = warp::load_transposed(k_tile, first_row, 0);
  warp::store(to.q, first_row, 0, q);
  warp::store(to.k, 0, first_row, k);
  const int row = warp::lane() / 4;
  const int col = 2 * (warp::lane() % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    to.q.store(first_row + half * 8 + row, feature_dim + col, q.word[half]);
    to.k.store(feature_dim + row, first_row + half * 8 + col, k.word[2 * half]);
  }

  float sums[2] = {0, 0};  // of rows g and g + 8; this lane's part
  const auto prepare_weights = [&](int j, auto diagonal) {
    accumulator_tile<16> w = {};  // A, then W [16 x 16]
    warp::mma_ABt(w, 0, q, warp::load_right(k_tile, 16 * j, 0));
#pragma unroll
    for (int e = 0; e < w.size; ++e) {
      const bool later = diagonal && col + e / 4 * 8 + e % 2 > row + e % 4 / 2 * 8;
      float& s = w.value[e];
      s = later ? 0 : 1 + s * (1 + s / 2);
    }
    const operand_slice rounded = to_bf16(w, 0);
    if constexpr (Normalize) warp::add_rows(sums, rounded);
    to.weights[weight_block(warp, j)][warp::lane()] = {rounded.word[0], rounded.word[1],
                                                       rounded.word[2], rounded.word[3]};
  };
#pragma unroll
  for (int j = 0; j < blocks - 1; ++j) {
    if (j < warp) prepare_weights(j, std::false_type{});
  }
  prepare_weights(warp, std::true_type{});
  if constexpr (Normalize) {
    moments.add_weights(sums, q);
    moments.add(k_tile);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = warp::sum_of_row(sums[half]);
      to.inverse_sums[first_row + half * 8 + row] = 1 / (sum + p.eps);
    }
  }
}

template <bool Normalize>
__global__ void __launch_bounds__(threads, ctas_per_multiprocessor)
    prefill_sm80_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  shared_storage& shared = *reinterpret_cast<shared_storage*>(shared_bytes);
  const head_range range(p);
  const int chunks = (p.seqlen - 1) / chunk_tokens + 1;
  const int first_dim = 16 * warpgroup::warp();

  for (int chunk = 0; chunk < stages - 1; ++chunk) load_chunk(shared, p, range, chunk);

  state_accumulator state;  // S^T [64 x 160]: this warp's 16 rows
  warpgroup::clear(state);
  key_moments moments;
  if (p.initial_state.kv != nullptr) {
    warpgroup::load_state(state, p.initial_state.kv_head(range.batch_head));
    if constexpr (Normalize) moments.load(p.initial_state.z_head(range.batch_head));
  }

  block::wait_loads<stages - 2>();
  prepare<Normalize>(shared.prepared[0], shared.q[0], shared.k[0], p, moments);

  // Where this lane's next two pairs of O go, eight columns apart.
  bf16* out =
      p.o.token(range.batch, range.head, warp::lane() / 4) + first_dim + 2 * (warp::lane() % 4);
  for (int chunk = 0; chunk < chunks; ++chunk) {
    block::wait_loads<stages - 3>();
    load_chunk(shared, p, range, chunk + stages - 1);
    if (chunk + 1 < chunks) {
      const int next = (chunk + 1) % stages;
      prepare<Normalize>(shared.prepared[(chunk + 1) % 2], shared.q[next], shared.k[next], p,
                         moments);
    }

    const prepared_chunk& prepared = shared.prepared[chunk % 2];
    const value_rows& v = shared.v[chunk % stages];
    rounded_state rounded = warpgroup::round_state(state);  // S^T
    for (std::uint32_t& word : rounded.slice[0].word) word = multiply_bf16x2(word, two_halves);
    right_slice values[blocks];  // V^T: [16 dims x 16 tokens] each
#pragma unroll
    for (int first = 0; first < blocks; first += 2) {  // two at a time: products to interleave
      const query_features queries[2] = {{prepared.q, 16 * first}, {prepared.q, 16 * first + 16}};
      const key_features keys[2] = {{prepared.k, 16 * first}, {prepared.k, 16 * first + 16}};
      operand_slice v_transposed[2];
      accumulator_tile<16> o[2] = {};  // rows of O [16 x 16 dims]
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        v_transposed[u] = warp::load_transposed(v, 16 * (first + u), first_dim);
        values[first + u] = warp::load_transposed_right(v, 16 * (first + u), first_dim);
      }
#pragma unroll
      for (int s = 0; s < circulant::slices; ++s) {
#pragma unroll
        for (int u = 0; u < 2; ++u) {
          warp::mma_ABt(o[u], 0, queries[u].slice(s), warp::as_right(rounded.slice[s]));
          warp::mma_ABt(state, s, v_transposed[u], keys[u].slice(s));
        }
      }
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        const int i = first + u;
#pragma unroll
        for (int j = 0; j <= i; ++j) {
          const uint4 w = prepared.weights[weight_block(i, j)][warp::lane()];
          warp::mma_ABt(o[u], 0, {w.x, w.y, w.z, w.w}, values[j]);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half, out += 8 * p.o.token_stride) {
          const int row = 16 * i + half * 8 + warp::lane() / 4;
          if (chunk * chunk_tokens + row >= p.seqlen) continue;
          const float factor = Normalize ? prepared.inverse_sums[row] : 1.0f;
#pragma unroll
          for (int side = 0; side < 2; ++side) {
            const float* pair = o[u].value + 4 * side + 2 * half;
            *reinterpret_cast<std::uint32_t*>(out + 8 * side) =
                ptx::to_bf16x2(pair[0] * factor, pair[1] * factor);
          }
        }
      }
    }
  }

  if (p.final_state.kv != nullptr) {
    warpgroup::store_state(p.final_state.kv_head(range.batch_head), state);
    if (Normalize && warpgroup::warp() == 0) {
      moments.add_count(p.seqlen - chunks * chunk_tokens);  // those past the end
      moments.store(p.final_state.z_head(range.batch_head));
    }
  }
}

constexpr std::int64_t max_ctas = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t max_seqlen = max_ctas - stages * chunk_tokens;  // tokens are int

unsupported_reason unsupported(const prefill_problem& problem) {
  if (problem.shape.batch_heads() > max_ctas) {
    return "batch x heads is more than " + std::to_string(max_ctas);
  }
  if (problem.shape.seqlen > max_seqlen) {
    return "seqlen is more than " + std::to_string(max_seqlen);
  }
  return {};
}

void run(const prefill_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  launch_prefill(args, stream);
}

const registration<based_prefill> registered{{
    .name = "based_sm80",
    .summary = "mma.sync over the 153 distinct features, state in registers (Ampere and later)",
    .tolerance = 5e-3,  // two roundings to bf16: a short sequence averages over none
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace

double executed_flops(const prefill_problem& problem) {
  constexpr double block_product = 2.0 * 16 * 16 * 16;
  constexpr int scores = weight_blocks;
  constexpr int intra_chunk = weight_blocks * value_dim / 16;
  constexpr int state_product = blocks * circulant::slices * value_dim / 16;
  const double chunks = static_cast<double>((problem.shape.seqlen - 1) / chunk_tokens + 1);
  return problem.shape.batch_heads() * chunks * (scores + intra_chunk + 2 * state_product) *
         block_product;
}

void launch_prefill(const prefill_args<bf16>& args, cuda_stream stream) {
  const prefill_shape& shape = args.problem.shape;
  const prefill_options& options = args.problem.options;
  parameters p = {.q = args.q, .k = args.k, .v = args.v, .o = args.o};
  if (options.initial_state) p.initial_state = args.initial_state;
  if (options.final_state) p.final_state = args.final_state;
  p.seqlen = static_cast<int>(shape.seqlen);
  p.heads = static_cast<int>(shape.heads);
  p.scale = options.scale;
  p.eps = options.eps;

  const auto kernel = options.normalize ? prefill_sm80_kernel<true> : prefill_sm80_kernel<false>;
  BASED_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  sizeof(shared_storage)));
  kernel<<<static_cast<unsigned>(shape.batch_heads()), threads, sizeof(shared_storage), stream>>>(
      p);
  BASED_CUDA_LAUNCHED();
}

}  // namespace based::sm80
