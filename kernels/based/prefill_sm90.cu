// Based prefill on Hopper.
//
// A head's tokens are worked on in chunks of 64. With phi of quad_map.h, S the state before a
// chunk and Q, K, V [64 x 16, 16, 64] the chunk,
//
//   O  = phi(Q) S + mask(1 + s A + (s A)^2 / 2) V,   A = Q K^T,  s = scale
//   S += phi(K)^T V
//
// Grid: one CTA per segment of a (batch, head); a sequence that is not split is one segment. Which
// segment is a CTA's, its index says, or, where heads are handed over, the ticket that it draws.
// Two CTAs share a multiprocessor where there are enough. In each, the state warpgroup keeps S^T
// [64 x 160] in fp32 registers for the whole sequence and hands it over, rounded, through shared
// memory; the output warpgroup does the rest, or two of them by turns, chunk by chunk, where a CTA
// has its multiprocessor to itself. They meet in barriers only:
//
//   loaded[stage]     q, k and v of a chunk are in shared memory      copy engine -> both
//   state_ready[b]    S before a chunk is in shared memory            state -> output
//   consumed[stage]   a chunk's q, k, v and the S before it are read  both -> both
//
// and, where two normalise, for they then work out each chunk's own key moments:
//
//   moments_ready[g]  these are in shared memory                      output -> state
//   moments_read[g]   they have been read                             state -> output
//
// at which every thread arrives for itself: what ordinary loads read, racecheck follows.
//
// A segment's CTA has the state before it from a first kernel (segment_states_sm90.cu), or two of
// its warpgroups first pass over all earlier chunks to add it up (state_pass.cuh), or it waits for
// the CTA that has begun the head to hand its state over (segment_range::balanced).
#include "kernels/based/prefill_sm90.h"

#include "kernels/based/key_moments.cuh"
#include "kernels/based/kv_state.cuh"
#include "kernels/based/prefill_sm90.cuh"
#include "kernels/based/quad_features.cuh"
#include "kernels/based/state_pass.cuh"
#include "kernels/based/weights.cuh"
#include "kernels/common/cuda_check.h"
#include "kernels/common/device_attribute.h"
#include "kernels/ptx/global_flag.cuh"
#include "kernels/ptx/reciprocal.cuh"
#include "kernels/tile/barrier.cuh"
#include "kernels/tile/block.cuh"
#include "kernels/tile/tensor_map.h"
#include "kernels/tile/warpgroup.cuh"

namespace based::sm90 {
namespace {

using quad::feature_tile;
using quad::query_features;

/// What a CTA has of its multiprocessor: half, or, where there are few enough CTAs, all of it. What
/// counts is then how long a chunk takes: loads are further ahead, and so are the features, and two
/// output warpgroups take the chunks by turns.
struct half_multiprocessor {
  static constexpr bool recomputes = false;  // the state of the chunks before its segment
  static constexpr bool hands_over = false;  // some heads, begun, to other CTAs
  static constexpr int ctas = 2;
  static constexpr int output_groups = 1;    // output warpgroups
  static constexpr int stages = 3;           // of the ring that is loaded
  static constexpr int state_buffers = 2;    // tiles of S
  static constexpr int feature_buffers = 1;  // tiles of phi(K)
};
struct whole_multiprocessor {
  static constexpr bool recomputes = false;
  static constexpr bool hands_over = false;
  static constexpr int ctas = 1;
  static constexpr int output_groups = 2;
  static constexpr int stages = 8;
  static constexpr int state_buffers = 3;
  static constexpr int feature_buffers = 2;
};
/// The same for a CTA that first adds up the state before its segment by itself: the state and an
/// output warpgroup pass over the chunks from the first one, a part each (state_pass.cuh), and add
/// their sums.
struct recomputing_multiprocessor : whole_multiprocessor {
  static constexpr bool recomputes = true;
  static constexpr int stages = 10;  // chunks pass faster
  static constexpr int state_buffers = 2;
};
/// The same for CTAs of which some begin a head that others go on with.
template <class Share>
struct handing_over : Share {
  static constexpr bool hands_over = true;
};
constexpr int gather_buffers = 3;  // of the states of earlier segments
constexpr int pass_groups = 2;     // warpgroups that pass over earlier chunks

template <class Share>
constexpr int cta_threads = (Share::output_groups + 1) * warpgroup::threads;

/// Whether output warpgroups work out each chunk's own key moments: two have time for that, and in
/// the state warpgroup those mma.sync wait for the others' wgmmas, and S with them.
template <class Share>
constexpr bool outputs_sum_keys = Share::output_groups > 1;

template <class Share>
struct shared_storage {
  static constexpr int stages = Share::stages;
  static constexpr int state_buffers = Share::state_buffers;
  static constexpr int feature_buffers = Share::feature_buffers;
  static constexpr int output_groups = Share::output_groups;
  token_tile q[stages];                        // [64 x 16]
  token_tile k[stages];                        // [64 x 16]
  value_tile v[stages];                        // [64 x 64]
  feature_tile key_features[feature_buffers];  // [64 x 160]
  state_tile state[state_buffers];             // [160 x 64]
  moments_tile moments[state_buffers];         // [16 x 32]
  union {
    output_tile output[output_groups][warpgroup::warps];  // [16 x 64]
    moment_parts earlier_moments[pass_groups];
  };
  ones_tile ones;                            // [16 x 64]
  halves_tile halves;                        // [8 x 16]
  chunk_moments own_moments[output_groups];  // where they work these out
  float initial_tokens;
  int ticket;  // where heads are handed over
  barrier loaded[stages];
  barrier consumed[stages];
  barrier state_ready[state_buffers];
  barrier moments_ready[output_groups];
  barrier moments_read[output_groups];
  barrier gathered[gather_buffers];
  barrier initial_loaded;

  /// A head's initial state on its way to registers, in tiles that are not in use yet.
  __device__ compact_state& initial_state() {
    static_assert(Share::recomputes ? sizeof(key_features) >= sizeof(compact_state)
                                    : sizeof(state) >= sizeof(compact_state));
    void* const tiles = Share::recomputes ? static_cast<void*>(key_features) : state;
    return *static_cast<compact_state*>(tiles);
  }

  /// A warpgroup's part of the pass over earlier chunks, in tiles that are not in use yet.
  union pass_part {
    feature_tile features[pass_feature_buffers];
    exact_parts sum;
  };
  __device__ pass_part& earlier(int group) {
    static_assert(!Share::recomputes || sizeof(key_features) == sizeof(pass_part));
    static_assert(!Share::recomputes || sizeof(state) == sizeof(pass_part));
    void* const tiles = group == 0 ? static_cast<void*>(key_features) : state;
    return *static_cast<pass_part*>(tiles);
  }
};

constexpr int consumer_warps = 2 * warpgroup::warps;  // of a chunk, one output warpgroup's

/// Shared memory of a CTA.
template <class Share>
constexpr std::size_t cta_bytes = sizeof(shared_storage<Share>) + reserved_for_system;
static_assert(half_multiprocessor::ctas * cta_bytes<half_multiprocessor> <= multiprocessor_bytes);
static_assert(cta_bytes<whole_multiprocessor> <= multiprocessor_bytes);
static_assert(cta_bytes<recomputing_multiprocessor> <= multiprocessor_bytes);

/// Registers of a thread, where two CTAs leave 128 at launch: the output warpgroup gets some of the
/// state warpgroup's.
constexpr int multiprocessor_registers = 65536;
constexpr int launch_registers =
    multiprocessor_registers / (half_multiprocessor::ctas * cta_threads<half_multiprocessor>);
constexpr int moved_registers = 8;

/// A chunk of the segment; of those that are recomputed before it, keys and values. By one warp.
template <class Share>
__device__ void load_chunk(shared_storage<Share>& shared, const parameters& p,
                           const segment_range& range, int chunk, int stage) {
  if (Share::recomputes && chunk < range.first) {
    load_keys_and_values(shared, p, range.chunk(chunk), stage);
  } else {
    warp::load_async(shared.loaded[stage], range.chunk(chunk), tile_copy{shared.k[stage], p.k},
                     tile_copy{shared.v[stage], p.v}, tile_copy{shared.q[stage], p.q});
  }
}

/// Sums up warpgroup `Group`'s part of the state before the segment.
template <int Group, bool Normalize, bool Stateful, class Share>
__device__ void sum_up_earlier_chunks(shared_storage<Share>& shared, const parameters& p,
                                      const segment_range& range, int warp) {
  auto& part = shared.earlier(Group);
  state_accumulator s_transposed;  // S^T [64 x 160]
  key_moments moments;
  start_state<Normalize, Stateful>(s_transposed, moments, shared, p, range, Group == 0);
  // The loop goes on with these phases, of which each is waited for once, as there.
  const auto release = [&](int chunk, ring_position<Share::stages> stage) {
    barrier& consumed = shared.consumed[stage.buffer];
    if (ptx::elect_lane()) consumed.arrive(consumer_warps);
    consumed.wait(stage.parity);
    const int next = chunk + Share::stages;
    if (next < range.last) load_chunk(shared, p, range, next, stage.buffer);
  };
  add_chunks<Group, pass_groups, Normalize>(s_transposed, moments, shared, part.features,
                                            range.first, p.scale, warp, release);
  warpgroup::store_exact(part.sum, s_transposed);
  if constexpr (Normalize) moments.store_part(shared.earlier_moments[Group]);
}

/// Adds what was summed up. By the state warpgroup.
template <bool Moments, class Share>
__device__ void add_earlier_chunks(state_accumulator& s_transposed, key_moments& moments,
                                   shared_storage<Share>& shared) {
#pragma unroll 1  // else one is loaded while the other is added, which takes too many registers
  for (int group = 0; group < pass_groups; ++group) {
    warpgroup::add_exact(s_transposed, shared.earlier(group).sum);
    if constexpr (Moments) moments.add_part(shared.earlier_moments[group]);
  }
  warpgroup::sync<state_barrier>();
}

/// `Normalize`: divides by the sums of the weights. `Stateful`: starts from an initial state or
/// from the segments before, or ends in a final state. `group`: of the output warpgroups, which
/// take the chunks by turns.
template <bool Normalize, bool Stateful, class Share>
__device__ void run_output_warpgroup(shared_storage<Share>& shared, const parameters& p,
                                     const segment_range& range, int group, int warp) {
  constexpr int stages = Share::stages, groups = Share::output_groups;
  const int first = range.first + group;
  if (groups > 1 && first >= range.last) return;
  if constexpr (Share::ctas > 1) ptx::increase_registers<launch_registers + moved_registers>();

  ring_position<stages> stage, previous_stage;
  stage.advance(Share::recomputes ? first : group);
  ring_position<Share::state_buffers> state;
  state.advance(group);
  query_features features;  // phi(Q) [64 x 160]
  const polynomial weight(p.scale);
  const std::uint32_t mask = causal_mask();
  output_tile& output = shared.output[group][warp];  // this warp's rows of O [16 x 64]
  const auto send_output = [&](int chunk) {
    warp::store_async(output, p.o, range.output(chunk, warp));
  };

  key_moments moments;
  if constexpr (Normalize && outputs_sum_keys<Share>) moments.start();
  std::uint32_t moments_parity = 1;
  const auto sum_up_keys = [&] {  // of the chunk in `stage`
    if constexpr (Normalize && outputs_sum_keys<Share>) {
      if (!moments.holds_any()) return;
      moments.clear();
      moments.add(shared.k[stage.buffer]);
      shared.moments_read[group].wait(moments_parity);
      moments.store_part(shared.own_moments[group]);
      shared.moments_ready[group].arrive();
      moments_parity ^= 1;
    }
  };

  shared.loaded[stage.buffer].wait(stage.parity);
  sum_up_keys();
  features.start(shared.q[stage.buffer]);

  for (int chunk = first; chunk < range.last; chunk += groups) {
    const token_tile& k = shared.k[stage.buffer];      // [64 x 16]
    const value_tile& v = shared.v[stage.buffer];      // [64 x 64]
    const state_tile& s = shared.state[state.buffer];  // [160 x 64]
    accumulator_tile<64> scores;                       // A [64 x 64], not yet scaled
    accumulator_tile<Normalize ? 72 : 64> o_and_sums;  // O [64 x 64], the weights' sums [64 x 8]
    accumulator_tile<64>& o = first_columns<64>(o_and_sums);
    accumulator_tile<16> y;  // of the keys' moments [64 x 16]
    row_sums earlier_sums;   // of earlier chunks' weights [64 x 8]

    warpgroup::mma_fence();
    warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(scores, features.q(), k, 0);
    warpgroup::mma_commit();

    shared.state_ready[state.buffer].wait(state.parity);
    ptx::fence_proxy_async();  // S for the products, the output for its copy
    add_inter_chunk<0, quad::own_slices, warpgroup::mma_mode::overwrite>(o, features, s);

    if (chunk > first) {
      send_output(chunk - groups);
      const int next = chunk - groups + stages;
      if (warp == 0 && next < range.last) {
        shared.consumed[previous_stage.buffer].wait(previous_stage.parity);
        load_chunk(shared, p, range, next, previous_stage.buffer);
      }
    }
    features.finish(shared.q[stage.buffer]);
    warpgroup::mma_wait<1>(scores);
    const operand_tile<64> w = weights(scores, weight, mask, warp);  // [64 x 64]
    if constexpr (Normalize) {
#pragma unroll
      for (int i = o.size; i < o_and_sums.size; ++i) o_and_sums.value[i] = 0;
    }
    warpgroup::mma_fence();
#pragma unroll
    for (int i = 0; i < w.slices; ++i) {
      if constexpr (Normalize) {
        warpgroup::mma_AB_beside(o_and_sums, w.slice[i], v, i, shared.ones);
      } else {
        warpgroup::mma_AB(o, w.slice[i], v, i);
      }
    }
    if constexpr (Normalize) {
      start_moment_products(y, features.q(), shared.moments[state.buffer]);
      warpgroup::mma_commit();
    }
    add_inter_chunk<quad::own_slices, quad::slices - quad::own_slices>(o, features, s);
    if constexpr (Normalize) {
      warpgroup::mma_wait<1>(y);
      start_summing_moments(earlier_sums, features.q(), y, shared.halves);
    } else {
      warpgroup::mma_wait<1>();  // the early products have read their slices
    }

    previous_stage = stage;
    const bool goes_on = chunk + groups < range.last;
    if (goes_on) stage = stage.next(groups);  // else the last chunk's queries once more
    shared.loaded[stage.buffer].wait(stage.parity);
    features.start(shared.q[stage.buffer]);
    if (goes_on) sum_up_keys();
    if constexpr (Normalize) {
      warpgroup::mma_wait<0>(o_and_sums, earlier_sums);
    } else {
      warpgroup::mma_wait<0>(o);
    }
    shared.consumed[previous_stage.buffer].warp_arrive();
    state = state.next(groups);

    if constexpr (Normalize) {
      const float earlier = shared.initial_tokens + static_cast<float>(chunk * chunk_tokens);
      const float constant = earlier + p.eps;
      const auto sum = [&](int row) {
        return o_and_sums.value[o.size + 2 * row] + earlier_sums.value[2 * row] + constant;
      };
      warpgroup::scale_rows(o, {ptx::reciprocal(sum(0)), ptx::reciprocal(sum(1))});
    }
    warp::wait_stores_read();
    warp::store(output, to_bf16(o));
  }

  ptx::fence_proxy_async();
  send_output(range.last - 1 - (range.last - 1 - first) % groups);  // this warpgroup's last
  warp::wait_stores_read();
}

/// Adds the states of the segments before. They pass through the tiles that the loop has no
/// use for yet, all of one size, as many copies at a time.
template <class Share>
__device__ void add_partials(shared_storage<Share>& shared, state_accumulator& state,
                             const segment_state* partials, int count, int warp) {
  static_assert(sizeof(feature_tile) == sizeof(rounded_parts));
  const auto buffer = [&](int i) -> void* {
    return i == 0 ? static_cast<void*>(shared.key_features) : &shared.state[i - 1];
  };
  const auto load = [&](int segment, int i) {
    if (warp == 0) warp::load_async(buffer(i), partials[segment].state, shared.gathered[i]);
  };
  ring_position<gather_buffers> position;
  for (int i = 0; i < min(gather_buffers, count); ++i) load(i, i);
  for (int segment = 0; segment < count; ++segment) {
    shared.gathered[position.buffer].wait(position.parity);
    warpgroup::add_parts(state, *static_cast<const rounded_parts*>(buffer(position.buffer)));
    warpgroup::sync<state_barrier>();
    const int next = segment + gather_buffers;
    if (next < count) load(next, position.buffer);
    position.advance();
  }
}

/// Drawn by CTAs as they start. In the workspace, behind the states.
__device__ std::uint32_t& tickets(const parameters& p) {
  return *reinterpret_cast<std::uint32_t*>(p.handed + p.handed_heads);
}

/// How many CTAs of the grid have started before this one: CUDA does not promise that they start in
/// the order of their indices. By one thread.
__device__ int draw_ticket(const parameters& p) {
  ptx::wait_for_prior_grid();  // which clears the tickets, and the flags
  return static_cast<int>(atomicAdd(&tickets(p), 1u));
}

/// Of a head that another CTA goes on with: its state after this one's chunks.
template <bool Normalize>
__device__ void hand_on_state(const state_accumulator& s_transposed, const key_moments& moments,
                              handed_state& handed) {
  warpgroup::store_exact(handed.state, s_transposed);
  if constexpr (Normalize) moments.store_part(handed.moments);
  warpgroup::sync<state_barrier>();
  if (warpgroup::thread() == 0) ptx::store_release(&handed.is_there, 1);
}

/// Of a head that another CTA has begun: the state, in place of none. That CTA drew its ticket
/// before this one, so it is resident or has ended, and it waits for none.
template <bool Normalize>
__device__ void take_over_state(state_accumulator& s_transposed, key_moments& moments,
                                const handed_state& handed) {
  if (warpgroup::thread() == 0) {
    while (ptx::load_acquire(&handed.is_there) == 0) {
    }
  }
  warpgroup::sync<state_barrier>();
  warpgroup::load_exact(s_transposed, handed.state);
  if constexpr (Normalize) moments.add_part(handed.moments);
}

template <bool Normalize, bool Stateful, class Share>
__device__ void run_state_warpgroup(shared_storage<Share>& shared, const parameters& p,
                                    const segment_range& range, int warp) {
  constexpr int stages = Share::stages, state_buffers = Share::state_buffers;
  state_accumulator s_transposed;  // S^T [64 x 160]
  key_moments moments;
  const bool has_earlier = (Share::recomputes || Share::hands_over) && range.first > 0;
  const float initial_tokens =
      start_state<Normalize, Stateful>(s_transposed, moments, shared, p, range, !has_earlier);
  ring_position<stages> stage;
  // The stage of the chunk that last read the present S buffer; none did so before the first ones.
  ring_position<stages> last_reader = {stages - state_buffers, 1};
  if constexpr (Share::recomputes) {
    if (has_earlier) add_earlier_chunks<Normalize>(s_transposed, moments, shared);
    stage.advance(range.first);
    last_reader.advance(range.first);
  } else if constexpr (Share::hands_over) {
    if (has_earlier) take_over_state<Normalize>(s_transposed, moments, p.handed[range.index]);
  } else if constexpr (Stateful) {
    const segment_state* partials = p.partials + std::int64_t{range.index} * (p.segments - 1);
    if (range.segment > 0) ptx::wait_for_prior_grid();
    add_partials(shared, s_transposed, partials, range.segment, warp);
    if constexpr (Normalize) {
      for (int i = 0; i < range.segment; ++i) moments.add_part(partials[i].moments);
    }
  }
  if (Normalize && warpgroup::thread() == 0) shared.initial_tokens = initial_tokens;

  if constexpr (Share::ctas > 1) ptx::decrease_registers<launch_registers - moved_registers>();

  ring_position<state_buffers> state;
  ring_position<Share::feature_buffers> features;
  ring_position<Share::output_groups> output_group;
  const auto build_features = [&] {  // of the chunk in `stage`
    shared.loaded[stage.buffer].wait(stage.parity);
    quad::store_key_features(shared.key_features[features.buffer], shared.k[stage.buffer], p.scale,
                             warp);
    ptx::fence_proxy_async();
  };
  constexpr bool builds_ahead = Share::feature_buffers > 1;  // while a chunk is being added
  if constexpr (builds_ahead) build_features();
  for (int chunk = range.first; chunk < range.last; ++chunk) {
    shared.consumed[last_reader.buffer].wait(last_reader.parity);
    last_reader.advance();
    warpgroup::store_transposed(shared.state[state.buffer], warpgroup::round_state(s_transposed));
    if constexpr (Normalize) {
      moments.hand_over(shared.moments[state.buffer], p.scale);
      if constexpr (!outputs_sum_keys<Share>) {
        shared.loaded[stage.buffer].wait(stage.parity);
        moments.add(shared.k[stage.buffer]);  // before wgmmas that it would queue behind
      }
    }
    shared.state_ready[state.buffer].warp_arrive();  // those that wait for it fence it
    state.advance();
    const bool ends = chunk + 1 == (Share::hands_over ? p.chunks : range.last);
    if (!Stateful && ends) break;  // nobody reads the last state

    if constexpr (!builds_ahead) {
      warpgroup::sync<state_barrier>();  // all warps' products have read the features before
      build_features();
    }
    warpgroup::sync<state_barrier>();
    const value_tile& v = shared.v[stage.buffer];                             // [64 x 64]
    const feature_tile& key_features = shared.key_features[features.buffer];  // [64 x 160]
    warpgroup::mma_fence();
    warpgroup::mma_AtB(s_transposed, v, key_features);
    warpgroup::mma_commit();
    barrier& consumed = shared.consumed[stage.buffer];
    stage.advance();
    features.advance();
    if constexpr (Normalize && outputs_sum_keys<Share>) {
      if (moments.holds_any()) {
        shared.moments_ready[output_group.buffer].wait(output_group.parity);
        moments.add_part(shared.own_moments[output_group.buffer]);
        shared.moments_read[output_group.buffer].arrive();
      }
      output_group.advance();
    }
    if constexpr (builds_ahead) {
      if (chunk + 1 < range.last) build_features();
    }
    warpgroup::mma_wait<0>(s_transposed);
    consumed.warp_arrive();
  }
  if constexpr (Stateful) {
    if (!p.final_state.kv.empty() && range.last == p.chunks) {
      store_final_state<Normalize>(s_transposed, moments, shared.initial_tokens, p, range);
    }
  }
  if constexpr (Share::hands_over) {
    if (range.last < p.chunks) {
      hand_on_state<Normalize>(s_transposed, moments, p.handed[range.index]);
    }
  }
}

template <bool Normalize, bool Stateful, class Share>
__global__ void __launch_bounds__(cta_threads<Share>, Share::ctas)
    prefill_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = shared_storage<Share>;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);
  // Of heads that are handed over only once there is a ticket.
  segment_range range = Share::recomputes ? segment_range::uneven(p) : segment_range(p);
  if constexpr (Share::hands_over) {
    // While the first thread makes the barriers.
    const bool is_idle = threadIdx.x == cta_threads<Share> - 1;
    if (is_idle) shared.ticket = draw_ticket(p);
  }

  if constexpr (Normalize) {
    block::fill(shared.ones, ptx::two_ones);
    block::fill(shared.halves, ptx::two_halves);
    ptx::fence_proxy_async();
  }
  if (threadIdx.x == 0) {
    for (int i = 0; i < Share::stages; ++i) {
      shared.loaded[i].init(1);
      shared.consumed[i].init(consumer_warps);
    }
    for (barrier& gathered : shared.gathered) gathered.init(1);
    shared.initial_loaded.init(1);
    for (barrier& ready : shared.state_ready) ready.init(warpgroup::warps);
    for (barrier& ready : shared.moments_ready) ready.init(moment_warps * 32);
    for (barrier& read : shared.moments_read) read.init(moment_warps * 32);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if constexpr (Share::hands_over) range = segment_range::balanced(p, shared.ticket);

  const int warp = warp::uniform_index();
  if constexpr (Stateful) {
    const bool begins = !Share::hands_over || range.first == 0;
    if (warp == 0 && begins && !p.initial_state.kv.empty()) load_initial_state(shared, p, range);
  }
  const int start = Share::recomputes ? 0 : range.first;
  for (int i = 0; warp == 0 && i < Share::stages && start + i < range.last; ++i) {
    load_chunk(shared, p, range, start + i, i);
  }
  constexpr int output_warps = Share::output_groups * warpgroup::warps;
  if constexpr (Share::recomputes) {
    if (range.first > 0) {
      if (warp < warpgroup::warps) {
        sum_up_earlier_chunks<1, Normalize, Stateful>(shared, p, range, warp);
      } else if (warp >= output_warps) {
        sum_up_earlier_chunks<0, Normalize, Stateful>(shared, p, range, warp - output_warps);
      }
      __syncthreads();
    }
  }
  if (warp < output_warps) {
    const int group = Share::output_groups > 1 ? warp / warpgroup::warps : 0;
    run_output_warpgroup<Normalize, Stateful>(shared, p, range, group, warp % warpgroup::warps);
  } else {
    run_state_warpgroup<Normalize, Stateful>(shared, p, range, warp - output_warps);
  }
}

constexpr int clearing_threads = 256;

/// Clears the tickets and flags. One block.
__global__ void prepare_to_balance_kernel(const __grid_constant__ parameters p) {
  ptx::launch_dependent_grid();
  if (threadIdx.x == 0) tickets(p) = 0;
  for (int i = threadIdx.x; i < p.handed_heads; i += blockDim.x) p.handed[i].is_there = 0;
}

/// Of the device that make_parameters() has asked for.
int multiprocessors() {
  return device_attribute(cudaDevAttrMultiProcessorCount).value();
}

struct launchable {
  void (*entry)(parameters);
  std::size_t shared_bytes;
  int threads;
};

template <class Share>
launchable choose(bool normalize, bool stateful) {
  const auto entry =
      normalize
          ? (stateful ? prefill_kernel<true, true, Share> : prefill_kernel<true, false, Share>)
          : (stateful ? prefill_kernel<false, true, Share> : prefill_kernel<false, false, Share>);
  return {entry, sizeof(shared_storage<Share>), cta_threads<Share>};
}

void require_segments(const parameters& p, int least, int most) {
  BASED_REQUIRE(p.segments >= least && p.segments <= std::min(most, p.chunks),
                std::to_string(p.chunks) + " chunks cannot be cut into " +
                    std::to_string(p.segments) + " segments");
}

/// `overlaps`: its CTAs start while the grid before is still running.
void enqueue(const launchable& kernel, const parameters& p, dim3 grid, bool overlaps,
             cuda_stream stream) {
  cudaLaunchAttribute overlap = {};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch = {};
  launch.gridDim = grid;
  launch.blockDim = dim3(kernel.threads);
  launch.dynamicSmemBytes = kernel.shared_bytes;
  launch.stream = stream;
  launch.attrs = &overlap;
  launch.numAttrs = overlaps ? 1 : 0;
  BASED_CUDA(cudaFuncSetAttribute(kernel.entry, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(kernel.shared_bytes)));
  BASED_CUDA(cudaLaunchKernelEx(&launch, kernel.entry, p));
}

/// One CTA a segment.
dim3 segments_grid(const parameters& p, std::int64_t batch_heads) {
  return dim3(static_cast<unsigned>(batch_heads), p.segments);
}

void require_device() {
  const auto major = device_attribute(cudaDevAttrComputeCapabilityMajor);
  const auto minor = device_attribute(cudaDevAttrComputeCapabilityMinor);
  BASED_REQUIRE(major && minor, "there is no CUDA device, this kernel needs one of 9.0 (Hopper)");
  BASED_REQUIRE(*major == 9 && *minor == 0,
                "the device has compute capability " + std::to_string(*major) + "." +
                    std::to_string(*minor) + ", this kernel needs 9.0 (Hopper)");
}

/// Of a prefill that adds `repeated` chunks of a head to a state once more, and `spared` to none.
double flops(const prefill_problem& problem, std::int64_t repeated, std::int64_t spared) {
  const chunk_flops chunk = flops_of_chunk(problem.options.normalize);
  const std::int64_t chunks = chunks_of(problem.shape);
  return problem.shape.batch_heads() *
         (chunks * (chunk.within + chunk.earlier) + (chunks + repeated - spared) * chunk.state +
          (chunks + repeated) * chunk.moments);
}

}  // namespace

std::size_t workspace_bytes(const prefill_shape& shape, int segments) {
  return shape.batch_heads() * (segments - 1) * sizeof(segment_state);
}

std::size_t balanced_workspace_bytes(int places) {
  return places * sizeof(handed_state) + sizeof(std::uint32_t);
}

double executed_flops(const prefill_problem& problem, int segments) {
  const std::int64_t chunks = chunks_of(problem.shape);
  const bool stateful = has_state(problem.options) || segments > 1;
  return flops(problem, chunks * (segments - 1) / segments, stateful ? 0 : 1);
}

double recomputing_flops(const prefill_problem& problem, int segments) {
  const int chunks = static_cast<int>(chunks_of(problem.shape));
  int recomputed = 0;
  for (int i = 0; i < segments; ++i) recomputed += recomputing_begin(chunks, segments, i);
  return flops(problem, recomputed, has_state(problem.options) ? 0 : segments);
}

parameters make_parameters(const prefill_args<bf16>& args, int segments) {
  require_device();
  const prefill_shape& shape = args.problem.shape;
  const prefill_options& options = args.problem.options;
  const auto map = [&]<class Tile, class T>(const Tile*, const sequence_view<T>& view) {
    return make_tensor_map<typename Tile::layout>(view, shape.batch, shape.heads, shape.seqlen);
  };
  constexpr const token_tile* tokens = nullptr;
  constexpr const value_tile* values = nullptr;
  constexpr const output_tile* outputs = nullptr;

  parameters p = {};
  p.q = map(tokens, args.q);
  p.k = map(tokens, args.k);
  p.v = map(values, args.v);
  p.o = map(outputs, args.o);
  if (options.initial_state) p.initial_state = args.initial_state;
  if (options.final_state) p.final_state = args.final_state;
  p.partials = static_cast<segment_state*>(args.workspace);
  p.heads = static_cast<int>(shape.heads);
  p.seqlen = static_cast<int>(shape.seqlen);
  p.chunks = static_cast<int>(chunks_of(shape));
  p.segments = segments;
  p.scale = options.scale;
  p.eps = options.eps;
  return p;
}

void launch_prefill(const prefill_args<bf16>& args, int segments, cuda_stream stream) {
  const prefill_shape& shape = args.problem.shape;
  const prefill_options& options = args.problem.options;
  const parameters p = make_parameters(args, segments);
  require_segments(p, 1, p.chunks);

  const bool is_split = segments > 1;
  if (is_split) launch_segment_states(p, shape.batch_heads(), options.normalize, stream);

  const std::int64_t ctas = shape.batch_heads() * segments;
  const bool alone = ctas <= multiprocessors();
  const bool stateful = has_state(options) || is_split;
  enqueue(alone ? choose<whole_multiprocessor>(options.normalize, stateful)
                : choose<half_multiprocessor>(options.normalize, stateful),
          p, segments_grid(p, shape.batch_heads()), is_split, stream);
}

void launch_recomputing(const prefill_args<bf16>& args, int segments, cuda_stream stream) {
  const prefill_options& options = args.problem.options;
  parameters p = make_parameters(args, segments);
  require_segments(p, 2, max_recomputing_segments);
  for (int i = 0; i <= segments; ++i) {
    p.segment_begin[i] = recomputing_begin(p.chunks, segments, i);
  }
  enqueue(choose<recomputing_multiprocessor>(options.normalize, has_state(options)), p,
          segments_grid(p, args.problem.shape.batch_heads()), false, stream);
}

void launch_balanced(const prefill_args<bf16>& args, int places, cuda_stream stream) {
  const std::int64_t heads = args.problem.shape.batch_heads();
  const prefill_options& options = args.problem.options;
  parameters p = make_parameters(args, 1);
  BASED_REQUIRE(places >= 1 && places <= heads && p.chunks >= 2,
                std::to_string(heads) + " heads of " + std::to_string(p.chunks) +
                    " chunks cannot be balanced among " + std::to_string(places) + " CTAs");
  p.handed_heads = places;
  p.handed = static_cast<handed_state*>(args.workspace);
  prepare_to_balance_kernel<<<1, clearing_threads, 0, stream>>>(p);
  BASED_CUDA_LAUNCHED();
  const bool alone = places <= multiprocessors();
  const bool stateful = has_state(options);
  enqueue(alone ? choose<handing_over<whole_multiprocessor>>(options.normalize, stateful)
                : choose<handing_over<half_multiprocessor>>(options.normalize, stateful),
          p, dim3(static_cast<unsigned>(heads + places)), true, stream);
}

}  // namespace based::sm90
