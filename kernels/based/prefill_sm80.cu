// Based prefill on mma.sync, for Ampere, Ada and whatever follows them.
//
// A head's tokens are worked on in chunks of 64. With phi of circulant.h, S the state before a
// chunk and Q, K, V [64 x 16, 16, 64] the chunk,
//
//   O  = phi(Q) S + W V,   W = mask(1 + A + A^2 / 2),   A = scale Q K^T
//   S += phi(K)^T V
//
// Grid: one CTA per (batch, head), of two groups of four warps:
//
//   state warps   keep S^T [64 x 160] in fp32 registers for the whole sequence, [32 x 80] each, so
//                 that a warp builds half the features of K, and no half is built more than
//                 twice. They copy the chunks in and hand over S, rounded, before each.
//   output warps  own sixteen of the chunk's tokens each: phi(Q) and W are built once, in
//                 registers. O leaves through shared memory, so that whole lines are written.
//
// They meet in barriers only, two of each kind:
//
//   ready[chunk % 2]  a chunk's q, k, v and the S before it are in shared memory   state -> output
//   read[chunk % 2]   they have been read                                          output -> state
//
// Every thread arrives for itself, and the state warps run one code whatever their slices:
// compute-sanitizer follows arrivals thread by thread, and wants a named barrier in one place.
//
// S is handed over lane by lane: a rounded accumulator of S^T is, with its words in another order,
// the operand of the product. Keys are transposed first, for phi(K)^T wants tokens side by side.
// phi multiplies x by its own rotations. Rotated rows of K^T are read at a constant offset, for its
// beginning is stored once more behind its end.
#include "kernels/based/prefill_sm80.h"

#include <type_traits>

#include "kernels/based/circulant.cuh"
#include "kernels/based/key_moments_sm80.cuh"
#include "kernels/core/device_attribute.h"
#include "kernels/core/launch.h"
#include "kernels/core/padded_tile.cuh"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/block.cuh"
#include "kernels/tile/mma_sync.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::sm80 {
namespace {

using ptx::multiply_bf16x2;
using ptx::two_halves;
using ptx::two_ones;

constexpr int dim_blocks = value_dim / 16;  // of sixteen of the values' dimensions
constexpr int threads = 2 * warpgroup::threads;
constexpr int repeated = feature_dim / 2;  // dims of k: rotations reach seven further
constexpr int ctas_per_multiprocessor = 2;
constexpr int loads_barrier = 1, keys_barrier = 2;  // the named barriers of the state warps

using token_tile = padded_tile<chunk_tokens, feature_dim>;           // Q, K [64 x 16]
using key_tile = padded_tile<feature_dim + repeated, chunk_tokens>;  // K^T [16 (+ 8) x 64]
using value_rows = padded_tile<chunk_tokens, value_dim>;             // V   [64 x 64]

/// S, rounded: right_slices [16 dims x 16 slots] of S^T, lane by lane.
using handed_state = uint4[circulant::slices][dim_blocks][32];

struct shared_storage {
  token_tile q[stages];
  token_tile k[stages];
  value_rows v[stages];
  key_tile keys;
  handed_state state[2];
  value_rows out;  // on its way from the output warps' registers, each its own rows
  barrier ready[2];
  barrier read[2];
};

struct parameters {
  sequence_view<const bf16> q, k;            // [B, H, N, 16]
  sequence_view<const bf16> v;               // [B, H, N, 64]
  sequence_view<bf16> o;                     // [B, H, N, 64]
  kv_state_view<const float> initial_state;  ///< kv empty: zero
  kv_state_view<float> final_state;          ///< kv empty: not wanted
  int seqlen;
  int chunks;
  int heads;
  float scale;
  float eps;
};

/// The parity of the phase that a chunk's barriers `ready` and `read` are in. Chunk -1 stands for
/// the phase before the first.
/// Called by: one thread
__device__ constexpr std::uint32_t parity(int chunk) {
  return chunk >> 1 & 1;
}

/// One CTA's head.
struct head_range {
  std::int64_t batch, head, batch_head;
  /// Called by: one thread
  __device__ explicit head_range(const parameters& p)
      : batch(blockIdx.x / p.heads), head(blockIdx.x % p.heads), batch_head(blockIdx.x) {}
};

/// phi(K)^T of sixteen tokens [160 x 16], slice by slice; `slice` is to be a constant.
class key_features {
 public:
  /// Called by: one warp
  __device__ key_features(const key_tile& k, int token)
      : k_(k), token_(token), x_(warp::load_right(k, 0, token)) {}

  /// Called by: one warp
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

/// The state of a state warp: S^T [32 dims x 80 slots], half of the slices.
class partial_state {
 public:
  /// Called by: one thread
  __device__ explicit partial_state(int warp) : warp_(warp) {}

  /// S += phi(K)^T V.
  /// Called by: one warp
  __device__ void add(const key_tile& keys, const value_rows& v) {
    with_first_slice([&](auto first) { add(keys, v, first); });
  }

  /// Called by: one warp
  __device__ void hand_over(handed_state& to) const {
    with_first_slice([&](auto first) { hand_over(to, first); });
  }

  /// From and to the compact rows kv [153, 64] of one head.
  /// Called by: one warp
  __device__ void load(const float* kv) {
    for_each([&](int word, int, int offset, float& value) {
      value = is_empty(word) ? 0.0f : kv[offset];
    });
  }
  /// Called by: one warp
  __device__ void store(float* kv) {
    float* const rows = ptx::opaque(kv);  // else the head's offset is added to each element's
    for_each([&](int word, int half, int offset, float& value) {
      const bool is_residual = 8 * word + half == circulant::residual_slot;
      if (!is_residual && !is_empty(word)) rows[offset] = value;
    });
  }

 private:
  static constexpr int slices = circulant::slices / 2;
  static constexpr int halves = 2;  // of this warp's dims

  /// Called by: one thread
  __device__ bool is_first_half() const {  // of the slices
    return warp_ < warpgroup::warps / 2;
  }
  /// Called by: one thread
  __device__ int first_dim() const { return warp_ % 2 * halves * 16; }

  /// Calls f(the first of this warp's slices), a constant.
  /// Called by: one warp
  template <class Function>
  __device__ void with_first_slice(Function f) const {
    if (is_first_half()) {
      f(std::integral_constant<int, 0>{});
    } else {
      f(std::integral_constant<int, slices>{});
    }
  }

  /// Called by: one warp
  template <int First>
  __device__ void add(const key_tile& keys, const value_rows& v,
                      std::integral_constant<int, First>) {
#pragma unroll
    for (int token = 0; token < chunk_tokens; token += 16) {
      const key_features features(keys, token);
      operand_slice v_transposed[halves];
#pragma unroll
      for (int d = 0; d < halves; ++d) {
        v_transposed[d] = warp::load_transposed(v, token, first_dim() + 16 * d);
      }
#pragma unroll
      for (int i = 0; i < slices; ++i) {
        const right_slice slice = features.slice(First + i);
#pragma unroll
        for (int d = 0; d < halves; ++d) warp::mma_ABt(state_[d], i, v_transposed[d], slice);
      }
    }
  }

  /// Called by: one warp
  template <int First>
  __device__ void hand_over(handed_state& to, std::integral_constant<int, First>) const {
    uint4* lane = to[First][0] + ptx::opaque(first_dim() / 16 * 32 + warp::lane());
#pragma unroll
    for (int i = 0; i < slices; ++i) {
#pragma unroll
      for (int d = 0; d < halves; ++d) {
        const right_slice x = warp::as_right(rounded<First>(d, i));
        lane[(i * dim_blocks + d) * 32] = {x.word[0], x.word[1], x.word[2], x.word[3]};
      }
    }
  }

  /// The squares take over their weight 1/2; sum(v) keeps sixteen bits, a head and its residual.
  /// Called by: one thread
  template <int First>
  __device__ operand_slice rounded(int d, int i) const {
    operand_slice x = to_bf16(state_[d], i);
    if (First + i == 0) {
      for (std::uint32_t& word : x.word) word = multiply_bf16x2(word, two_halves);
    }
    if (First + i == circulant::opposite_slice && warp::lane() % 4 == 0) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const float sum = state_[d].value[8 * i + 4 + 2 * row];
        x.word[2 + row] = ptx::to_bf16x2(sum, sum - ptx::low_half(x.word[2 + row]));
      }
    }
    return x;
  }

  /// Whether this lane's slots of a word, eight of the map's, hold nothing.
  /// Called by: one thread
  __device__ static bool is_empty(int word) {
    return word == circulant::head_slot / 8 && warp::lane() % 4 != 0;
  }

  /// Calls f(word, half, offset, value) for each element that this lane holds: its slot's word and
  /// half (slot_rows.h), and its place in the compact rows.
  /// Called by: one warp
  template <class Function>
  __device__ void for_each(Function f) {
    with_first_slice([&](auto first) {
      const std::uint32_t lane_byte = 4 + warp::lane() % 4;  // of the second word, then zeros
      const int first_place = first_dim() + warp::lane() / 4;
#pragma unroll
      for (int d = 0; d < halves; ++d) {
#pragma unroll
        for (int e = 0; e < state_[d].size; ++e) {
          const int word = 2 * first + e / 4, half = e % 2;
          const int row = __byte_perm(0, circulant::compact_rows(word, half), lane_byte);
          const int place = first_place + 16 * d + e % 4 / 2 * 8;
          f(word, half, row * value_dim + place, state_[d].value[e]);
        }
      }
    });
  }

  accumulator_tile<16 * slices> state_[halves] = {};
  int warp_;
};

/// Copies a head's chunks in, one after another; by the state warps.
class chunk_loader {
 public:
  /// Called by: one thread
  __device__ chunk_loader(const parameters& p, const head_range& range)
      : q_(p.q.token(range.batch, range.head, 0)),
        k_(p.k.token(range.batch, range.head, 0)),
        v_(p.v.token(range.batch, range.head, 0)),
        tokens_(p.seqlen) {}

  /// Past the end there is nothing to copy.
  /// Called by: one warpgroup
  __device__ void load_next(shared_storage& shared, const parameters& p, int stage) {
    if (tokens_ > 0) {
      load(shared.q[stage], q_, p.q.token_stride);
      load(shared.k[stage], k_, p.k.token_stride);
      load(shared.v[stage], v_, p.v.token_stride);
      tokens_ -= chunk_tokens;
    }
    block::commit_loads();
  }

 private:
  /// Called by: one warpgroup
  template <class Tile>
  __device__ void load(Tile& tile, const bf16*& from, std::int64_t stride) const {
    block::load_async<warpgroup::threads>(tile, from, stride, tokens_);
    from += chunk_tokens * stride;
  }

  const bf16* q_;
  const bf16* k_;
  const bf16* v_;
  int tokens_;
};

/// This warp's quarter of K^T.
/// Called by: one warp
__device__ void transpose_keys(key_tile& to, const token_tile& k_tile) {
  const int first_token = 16 * ptx::opaque(warpgroup::warp());  // addresses only here: registers
  const operand_slice k = warp::load_transposed(k_tile, first_token, 0);
  warp::store(to, 0, first_token, k);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    to.store(feature_dim + warp::lane() / 4, first_token + half * 8 + 2 * (warp::lane() % 4),
             k.word[2 * half]);
  }
}

/// Called by: one warpgroup
__device__ void run_state_warp(shared_storage& shared, const parameters& p, const head_range& range,
                               int warp) {
  chunk_loader loader(p, range);
  for (int stage = 0; stage < stages - 1; ++stage) loader.load_next(shared, p, stage);
  partial_state state(warp);
  if (!p.initial_state.kv.empty()) state.load(p.initial_state.kv_head(range.batch_head));
  state.hand_over(shared.state[0]);

  for (int chunk = 0; chunk < p.chunks; ++chunk) {
    block::wait_loads<stages - 2>();
    shared.ready[chunk % 2].arrive();
    warpgroup::sync<loads_barrier>();
    shared.read[(chunk + 1) % 2].wait(parity(chunk - 1));
    loader.load_next(shared, p, (chunk + stages - 1) % stages);
    transpose_keys(shared.keys, shared.k[chunk % stages]);
    warpgroup::sync<keys_barrier>();
    state.add(shared.keys, shared.v[chunk % stages]);
    state.hand_over(shared.state[(chunk + 1) % 2]);
  }
  if (!p.final_state.kv.empty()) state.store(p.final_state.kv_head(range.batch_head));
}

/// phi(Q) of sixteen tokens [16 x 160], slice by slice; `slice` is to be a constant. The squares
/// lack their weight 1/2, which the state has taken over.
class query_features {
 public:
  /// Called by: one thread
  __device__ query_features(const token_tile& q, int token, float factor) {
    const scale_factor scale(factor);
    const int row = token + warp::lane() / 4;
#pragma unroll
    for (int i = 0; i < words; ++i) {
      const int col = (2 * (warp::lane() % 4) + 2 * i) % feature_dim;
      upper_[i] = scale(q.load<std::uint32_t>(row, col));
      lower_[i] = scale(q.load<std::uint32_t>(row + 8, col));
    }
  }

  /// Called by: one thread
  __device__ operand_slice slice(int slice) const {
    return circulant::query_slice(upper_, lower_, slice);
  }

 private:
  static constexpr int words = circulant::query_words;

  std::uint32_t upper_[words];
  std::uint32_t lower_[words];
};

/// What an output warp does for a chunk: its sixteen rows of O, which goes to `out`.
/// Called by: one warp
template <bool Normalize>
__device__ void work_out(shared_storage& shared, const parameters& p, int chunk,
                         key_moments& moments, bf16* out) {
  const int warp = warpgroup::warp();
  const int first_row = 16 * warp;
  const token_tile& k = shared.k[chunk % stages];
  const value_rows& v = shared.v[chunk % stages];
  const handed_state& state = shared.state[chunk % 2];
  shared.ready[chunk % 2].wait(parity(chunk));
  const query_features features(shared.q[chunk % stages], first_row, p.scale);
  const operand_slice q = features.slice(circulant::linear_slice);  // scaled
  float sums[2] = {0, 0};  // of the weights of rows g and g + 8; this lane's part
  if constexpr (Normalize) {
    moments.add_weights(sums, q);
    moments.add(k);
  }

  accumulator_tile<value_dim> o = {};  // [16 x 64]
#pragma unroll
  for (int s = 0; s < circulant::slices; ++s) {
    const operand_slice slice = features.slice(s);
#pragma unroll
    for (int d = 0; d < dim_blocks; ++d) {
      const uint4 x = state[s][d][warp::lane()];
      warp::mma_ABt(o, d, slice, {x.x, x.y, x.z, x.w});
    }
  }

  const auto add_block = [&](int j, auto diagonal) {
    accumulator_tile<16> w = {};  // A, then W [16 x 16]
    warp::mma_ABt(w, 0, q, warp::load_right(k, 16 * j, 0));
    const int lane = ptx::opaque(warp::lane());  // what follows from it is not worth registers
    const int row = lane / 4, col = 2 * (lane % 4);
#pragma unroll
    for (int e = 0; e < w.size; ++e) {
      const bool later = diagonal && col + e / 4 * 8 + e % 2 > row + e % 4 / 2 * 8;
      float& s = w.value[e];
      s = later ? 0 : 1 + s * (1 + s / 2);
    }
    const operand_slice rounded = to_bf16(w, 0);
    if constexpr (Normalize) warp::add_rows(sums, rounded);
#pragma unroll
    for (int d = 0; d < dim_blocks; ++d) {
      warp::mma_ABt(o, d, rounded, warp::load_transposed_right(v, 16 * j, 16 * d));
    }
  };
#pragma unroll 1
  for (int j = 0; j < warp; ++j) add_block(j, std::false_type{});
  add_block(warp, std::true_type{});

  shared.read[chunk % 2].arrive();

  if constexpr (Normalize) {
    scale_rows(o, {ptx::reciprocal(warp::row_sum(sums[0]) + p.eps),
                   ptx::reciprocal(warp::row_sum(sums[1]) + p.eps)});
  }
#pragma unroll
  for (int d = 0; d < dim_blocks; ++d) {
    warp::store(shared.out, first_row, 16 * d, to_bf16(o, d));
  }
  __syncwarp();
  warp::store_rows(out, p.o.token_stride, p.seqlen - chunk * chunk_tokens, shared.out, first_row);
  __syncwarp();
}

/// Called by: one warp
template <bool Normalize>
__device__ void run_output_warp(shared_storage& shared, const parameters& p,
                                const head_range& range) {
  key_moments moments;  // of the chunks before
  if (Normalize && !p.initial_state.kv.empty()) {
    moments.load(p.initial_state.z_head(range.batch_head));
  }
  bf16* out = p.o.token(range.batch, range.head, 0);  // the chunk's
  for (int chunk = 0; chunk < p.chunks; ++chunk, out += chunk_tokens * p.o.token_stride) {
    work_out<Normalize>(shared, p, chunk, moments, out);
  }
  if (Normalize && !p.final_state.kv.empty() && warpgroup::warp() == 0) {
    moments.add_count(p.seqlen - p.chunks * chunk_tokens);  // those past the end
    moments.store(p.final_state.z_head(range.batch_head));
  }
}

template <bool Normalize>
__global__ void __launch_bounds__(threads, ctas_per_multiprocessor)
    prefill_sm80_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  shared_storage& shared = *reinterpret_cast<shared_storage*>(shared_bytes);
  const head_range range(p);
  if (threadIdx.x == 0) {
    for (barrier& ready : shared.ready) ready.init(warpgroup::threads);
    for (barrier& read : shared.read) read.init(warpgroup::threads);
  }
  __syncthreads();
  const int warp = warp::uniform_index();
  if (warp < warpgroup::warps) {
    run_state_warp(shared, p, range, warp);
  } else {
    run_output_warp<Normalize>(shared, p, range);
  }
}

unsupported_reason unsupported(const prefill_problem& problem) {
  return unsupported_on(
      problem,
      device_attribute(cudaDevAttrComputeCapabilityMajor).value_or(least_major_capability));
}

void run(const prefill_args<bf16>& args, cuda_stream stream) {
  validate(args, 0);
  launch_prefill(args, stream);
}

const registration<based_prefill> registered{{
    .name = "based_sm80",
    .summary = "mma.sync over the 153 distinct features, state in registers (Ampere and later)",
    .role = implementation_role::ours,
    .tolerance = 5e-3,  // two roundings to bf16: a short sequence averages over none
    .unsupported = unsupported,
    .executed_flops = executed_flops,
    .run = run,
}};

}  // namespace

void launch_prefill(const prefill_args<bf16>& args, cuda_stream stream) {
  const prefill_shape& shape = args.problem.shape;
  const prefill_options& options = args.problem.options;
  parameters p = {.q = args.q, .k = args.k, .v = args.v, .o = args.o};
  if (options.initial_state) p.initial_state = args.initial_state;
  if (options.final_state) p.final_state = args.final_state;
  p.seqlen = static_cast<int>(shape.seqlen);
  p.chunks = (p.seqlen - 1) / chunk_tokens + 1;
  p.heads = static_cast<int>(shape.heads);
  p.scale = options.scale;
  p.eps = options.eps;

  const auto kernel = options.normalize ? prefill_sm80_kernel<true> : prefill_sm80_kernel<false>;
  launch_kernel(kernel,
                {.grid = static_cast<unsigned>(shape.batch_heads()),
                 .block = threads,
                 .shared_bytes = sizeof(shared_storage)},
                stream, p);
}

}  // namespace based::sm80
