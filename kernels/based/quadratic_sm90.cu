// Based prefill on Hopper in its quadratic form: for sequences so short that all pairs of tokens
// cost less than handing a state from chunk to chunk.
//
//   O = phi(Q) S0 + mask(1 + s A + (s A)^2 / 2) V,   A = Q K^T,  s = scale
//
// S0 is the initial state, if there is one (phi: quad_map.h).
//
// Grid: one CTA, of one warpgroup, per 64 queries of a (batch, head), those with the most keys
// first. It walks through the keys before them in chunks of 64, held by a ring. The next chunk's
// scores are worked out while V is added up with this one's weights:
//
//   chunk_ring   full: k and v of a chunk are in shared memory   copy engine -> warpgroup
//                released: they have been read                   warpgroup -> its first warp
//
// Where the final state is wanted, one more CTA a head, the first, adds it up: S0 + phi(K)^T V.
#include <type_traits>

#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/based/prefill_sm90/host.h"
#include "kernels/based/prefill_sm90/launch.h"
#include "kernels/based/quad_features.cuh"
#include "kernels/based/state_pass.cuh"
#include "kernels/based/weights.cuh"
#include "kernels/core/hopper.h"
#include "kernels/core/launch.h"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/tile/block.cuh"
#include "kernels/tile/pipeline.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::sm90 {
namespace {

constexpr int threads = warpgroup::threads;

/// What O's terms are multiplied with before they are rounded. The weights of small scores are near
/// 1, where bf16 steps by 1/256 to 1/128 of a value; times this they are near 7/4, where it is
/// 1/224.
constexpr float weight_factor = 1.75f;

/// Shared memory: of every CTA, and with its output without and with a state, which has tiles of
/// other times in the output's place.
struct common_storage {
  static constexpr int stages = 4;
  token_tile q;          // [64 x 16]
  token_tile k[stages];  // [64 x 16]
  value_tile v[stages];  // [64 x 64]
  ones_tile ones;        // [16 x 64]
  barrier queries_loaded;
  ring<stages> chunk_ring;  // k and v
};
struct stateless_storage : common_storage {
  static constexpr int ctas_per_multiprocessor = 4;
  output_tile output[warpgroup::warps];  // [16 x 64]
};
struct stateful_storage : common_storage {
  static constexpr int ctas_per_multiprocessor = 2;
  state_tile state;      // [160 x 64]
  moments_tile moments;  // [16 x 32]
  halves_tile halves;    // [8 x 16]
  barrier initial_loaded;
  union {
    output_tile output[warpgroup::warps];                   // [16 x 64]
    quad::feature_tile key_features[pass_feature_buffers];  // [64 x 160]
    compact_state initial;                                  // on its way to registers
  };
  /// Called by: one thread
  __device__ compact_state& initial_state() { return initial; }
};
template <bool Stateful>
using shared_storage = std::conditional_t<Stateful, stateful_storage, stateless_storage>;
template <class Storage>
constexpr bool fits() {
  return Storage::ctas_per_multiprocessor * (sizeof(Storage) + hopper::reserved_cta_bytes) <=
         hopper::shared_bytes;
}
static_assert(fits<stateless_storage>() && fits<stateful_storage>());

/// The final state of a head.
/// Called by: one warpgroup
template <bool Normalize>
__device__ void add_up_state(stateful_storage& shared, const parameters& p, const grid_head& head,
                             int warp) {
  state_accumulator s_transposed;  // S^T [64 x 160]
  moments_if<Normalize> moments;
  const float initial_tokens = start_moments<true>(moments, p, head, true);
  start_state<true>(s_transposed, shared, p, head, true);
  constexpr int stages = stateful_storage::stages;
  const auto refill = [&](int chunk, ring_position<stages> stage_at) {
    const int next = chunk + stages;
    if (next < p.chunks) load_keys_and_values(shared, p, head.chunk(next), stage_at.buffer);
  };
  add_chunks<0, 1>(s_transposed, moments, shared, shared.key_features, p.chunks, p.scale, warp,
                   refill);
  warpgroup::store_state(p.final_state.kv_head(head.index), s_transposed, p.scale);
  if constexpr (Normalize) store_final_moments(moments, initial_tokens, p, head);
}

/// O += weight_factor phi(Q) S0. Returns the sums of those weights, of rows g and g + 8, without
/// the factor, if they are wanted.
/// Called by: one warpgroup
template <bool Normalize>
__device__ float2 add_initial_state(output_accumulator& o, stateful_storage& shared,
                                    const parameters& p, const grid_head& head) {
  state_accumulator s_transposed;  // S0^T [64 x 160]
  moments_if<Normalize> moments;
  const float tokens = start_moments<true>(moments, p, head, true);
  start_state<true>(s_transposed, shared, p, head, true);
  for (float& value : s_transposed.value) value *= weight_factor;
  warpgroup::store_transposed(shared.state, warpgroup::round_state(s_transposed));
  if constexpr (Normalize) moments.hand_over(shared.moments, p.scale);
  ptx::fence_proxy_async();
  warpgroup::sync<state_barrier>();

  quad::query_features features;  // phi(Q) [64 x 160]
  features.start(shared.q);
  features.finish(shared.q);
  add_inter_chunk<0, quad::slices>(o, features, shared.state);
  if constexpr (Normalize) {
    accumulator_tile<16> y;  // of the keys' moments [64 x 16]
    row_sums sums;           // [64 x 8]
    warpgroup::mma_fence();
    start_moment_products(y, features.q(), shared.moments);
    warpgroup::mma_commit();
    warpgroup::mma_wait<0>(y);
    start_summing_moments(sums, features.q(), y, shared.halves);
    warpgroup::mma_wait<0>(o, sums);
    return {tokens + sums.value[0], tokens + sums.value[2]};
  } else {
    warpgroup::mma_wait<0>(o);
    return {};
  }
}

/// Called by: one warpgroup
__device__ void start_scores(score_accumulator& scores, const operand_slice& q,
                             const token_tile& k) {
  warpgroup::mma_fence();
  warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(scores, q, k, 0);
  warpgroup::mma_commit();
}

/// [O sums] += W [V ones], or without the sums. After mma_fence().
/// Called by: one warpgroup
template <int Cols>
__device__ void start_output(accumulator_tile<Cols>& o_and_sums, const weight_tile& w,
                             const value_tile& v, const ones_tile& ones) {
#pragma unroll
  for (int i = 0; i < w.slices; ++i) {
    if constexpr (Cols > value_dim) {
      warpgroup::mma_AB_beside(o_and_sums, w.slice[i], v, i, ones);
    } else {
      warpgroup::mma_AB(o_and_sums, w.slice[i], v, i);
    }
  }
  warpgroup::mma_commit();
}

template <bool Normalize, bool Stateful>
__global__ void __launch_bounds__(threads, shared_storage<Stateful>::ctas_per_multiprocessor)
    quadratic_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = shared_storage<Stateful>;
  constexpr int stages = storage::stages;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);
  const grid_head head(p, blockIdx.x);
  // The chunk of the queries, and the last of the keys; one past the end: the final state's.
  const int own = gridDim.y - 1 - blockIdx.y;

  if constexpr (Normalize) {
    block::fill(shared.ones, ptx::two_ones);
    if constexpr (Stateful) block::fill(shared.halves, ptx::two_halves);
    ptx::fence_proxy_async();
  }
  if (threadIdx.x == 0) {
    shared.queries_loaded.init(1);
    shared.chunk_ring.init(1, warpgroup::warps);
    if constexpr (Stateful) shared.initial_loaded.init(1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  const int warp = warp::uniform_index();
  if constexpr (Stateful) {
    if (warp == 0 && !p.initial_state.kv.empty()) load_initial_state(shared, p, head);
  }
  if (warp == 0 && own < p.chunks) {
    warp::load_async(shared.queries_loaded, head.chunk(own), tile_copy{shared.q, p.q});
  }
  static_assert(stages == warpgroup::warps);
  if (warp < min(own + 1, p.chunks)) load_keys_and_values(shared, p, head.chunk(warp), warp);
  if constexpr (Stateful) {
    if (own == p.chunks) return add_up_state<Normalize>(shared, p, head, warp);
  }

  score_accumulator scores;             // A [64 x 64], not yet scaled
  summed_output<Normalize> o_and_sums;  // O [64 x 64], the weights' sums [64 x 8]
  output_accumulator& o = first_columns<value_dim>(o_and_sums);
  clear(o_and_sums);
  const polynomial weight(p.scale, weight_factor);
  const std::uint32_t mask = causal_mask();
  // W [64 x 64] of a chunk. Only that of the queries themselves needs a mask.
  const auto weigh_if_past = [&](int chunk) {
    if (chunk < own) weigh_past(scores, weight);
  };
  const auto rounded_weights = [&](int chunk) {
    return chunk < own ? to_bf16(scores) : weights(scores, weight, mask, warp);
  };

  shared.queries_loaded.wait(0);
  const operand_slice q = warpgroup::load(shared.q, 0);  // [64 x 16]
  ring_position<stages> stage_at;
  shared.chunk_ring.wait_full(stage_at);
  start_scores(scores, q, shared.k[stage_at.buffer]);
  warpgroup::mma_wait<0>(scores);
  weigh_if_past(0);
  weight_tile w = rounded_weights(0);

  for (int chunk = 0; chunk < own; ++chunk) {  // whose weights are ready
    const ring_position<stages> next_at = stage_at.next();
    shared.chunk_ring.wait_full(next_at);
    start_scores(scores, q, shared.k[next_at.buffer]);
    start_output(o_and_sums, w, shared.v[stage_at.buffer], shared.ones);
    warpgroup::mma_wait<1>(scores);
    weigh_if_past(chunk + 1);
    warpgroup::mma_wait<0>(o_and_sums, scores);  // not rounded before: the product reads `w`

    shared.chunk_ring.warp_release(stage_at);
    const int next = chunk + stages;
    if (warp == 0 && next <= own) {
      shared.chunk_ring.wait_released(stage_at);
      load_keys_and_values(shared, p, head.chunk(next), stage_at.buffer);
    }
    w = rounded_weights(chunk + 1);
    stage_at = next_at;
  }
  warpgroup::mma_fence();
  start_output(o_and_sums, w, shared.v[stage_at.buffer], shared.ones);
  warpgroup::mma_wait<0>(o_and_sums);

  float2 earlier_sums = {};  // of the weights of the initial state's tokens
  if constexpr (Stateful) {
    if (!p.initial_state.kv.empty()) {  // last, for it is the most to load
      earlier_sums = add_initial_state<Normalize>(o, shared, p, head);
    }
  }
  if constexpr (Normalize) {
    const auto sum = [&](int row, float earlier) {
      return o_and_sums.value[o.size + 2 * row] + weight_factor * (earlier + p.eps);
    };
    scale_rows(o,
               {ptx::reciprocal(sum(0, earlier_sums.x)), ptx::reciprocal(sum(1, earlier_sums.y))});
  } else {
    scale_rows(o, {1 / weight_factor, 1 / weight_factor});
  }
  output_tile& output = shared.output[warp];  // this warp's rows of O [16 x 64]
  warp::store(output, to_bf16(o));
  ptx::fence_proxy_async();
  warp::store_async(output, p.o, head.output(own, warp));
  warp::wait_stores_read();
}

}  // namespace

void launch_quadratic(const prefill_args<bf16>& args, cuda_stream stream) {
  const prefill_options& options = args.problem.options;
  const parameters p = make_parameters(args, 1);
  const bool stateful = has_state(options);
  const auto kernel =
      options.normalize
          ? (stateful ? quadratic_kernel<true, true> : quadratic_kernel<true, false>)
          : (stateful ? quadratic_kernel<false, true> : quadratic_kernel<false, false>);
  const std::size_t bytes = stateful ? sizeof(stateful_storage) : sizeof(stateless_storage);
  const dim3 ctas(static_cast<unsigned>(args.problem.shape.batch_heads()),
                  p.chunks + options.final_state);
  launch_kernel(kernel, {.grid = ctas, .block = threads, .shared_bytes = bytes}, stream, p);
}

}  // namespace based::sm90
