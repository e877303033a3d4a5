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
// memory, and the key moments of the normalisation with it; the output warpgroup does the rest.
// Where a CTA has its multiprocessor to itself two output warpgroups take the chunks by turns, and
// the moments have a warpgroup of their own. They meet in barriers only:
//
//   loaded[stage]     q, k and v of a chunk are in shared memory      copy engine -> all
//   state_ready[b]    S and the moments before a chunk are there      state, moments -> output
//   consumed[stage]   a chunk's q, k, v and the S before it are read  all -> all
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
#include "kernels/core/cuda_check.h"
#include "kernels/core/device_attribute.h"
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
/// counts is then how long a chunk takes: loads are further ahead, and so are the features, two
/// output warpgroups take the chunks by turns, and the key moments are off the state's way.
struct half_multiprocessor {
  static constexpr bool recomputes = false;  // the state of the chunks before its segment
  static constexpr bool hands_over = false;  // some heads, begun, to other CTAs
  static constexpr int ctas = 2;
  static constexpr int output_groups = 1;       // output warpgroups
  static constexpr bool moments_apart = false;  // a warpgroup for the key moments, normalised
  static constexpr int stages = 3;              // of the ring that is loaded
  static constexpr int state_buffers = 2;       // tiles of S
  static constexpr int feature_buffers = 1;     // tiles of phi(K)
};
struct whole_multiprocessor {
  static constexpr bool recomputes = false;
  static constexpr bool hands_over = false;
  static constexpr int ctas = 1;
  static constexpr int output_groups = 2;
  static constexpr bool moments_apart = true;
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

/// Named barriers: of the pass's warpgroups one each, the state's the first of them; of all that
/// need the passed chunks' sum; of the warpgroup that keeps the key moments.
constexpr int passed_barrier = first_pass_barrier + pass_groups;
template <class Share>
constexpr int moments_barrier = Share::moments_apart ? passed_barrier + 1 : state_barrier;

/// Whether there is a warpgroup for the key moments.
template <class Share, bool Normalize>
constexpr bool has_moments_group() {
  return Normalize && Share::moments_apart;
}

template <class Share, bool Normalize>
constexpr int cta_threads() {
  return warpgroup::threads * (Share::output_groups + 1 + has_moments_group<Share, Normalize>());
}

template <class Share>
struct shared_storage {
  static constexpr int stages = Share::stages;
  static constexpr int state_buffers = Share::state_buffers;
  static constexpr int feature_buffers = Share::feature_buffers;
  static constexpr int output_groups = Share::output_groups;
  token_tile q[stages];                                 // [64 x 16]
  token_tile k[stages];                                 // [64 x 16]
  value_tile v[stages];                                 // [64 x 64]
  feature_tile key_features[feature_buffers];           // [64 x 160]
  state_tile state[state_buffers];                      // [160 x 64]
  moments_tile moments[state_buffers];                  // [16 x 32]
  output_tile output[output_groups][warpgroup::warps];  // [16 x 64]
  ones_tile ones;                                       // [16 x 64]
  halves_tile halves;                                   // [8 x 16]
  float initial_tokens;
  int ticket;  // where heads are handed over
  barrier loaded[stages];
  barrier consumed[stages];
  barrier state_ready[state_buffers];
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

constexpr int consumer_warps = 2 * warpgroup::warps;  // of a chunk: the state's, an output group's

/// Shared memory of a CTA.
template <class Share>
constexpr std::size_t cta_bytes = sizeof(shared_storage<Share>) + reserved_for_system;
static_assert(half_multiprocessor::ctas * cta_bytes<half_multiprocessor> <= multiprocessor_bytes);
static_assert(cta_bytes<whole_multiprocessor> <= multiprocessor_bytes);
static_assert(cta_bytes<recomputing_multiprocessor> <= multiprocessor_bytes);

/// Registers of a thread: at launch as many for each, then those of a role that needs few are
/// given to the others.
enum class role { output, state, moments };
constexpr int multiprocessor_registers = 65536;
template <class Share, bool Normalize>
constexpr int launch_registers = multiprocessor_registers /
                                 (Share::ctas * cta_threads<Share, Normalize>()) / 8 * 8;
template <class Share, bool Normalize>
constexpr int registers_of(role of) {
  constexpr int even = launch_registers<Share, Normalize>;
  if (has_moments_group<Share, Normalize>()) return of == role::moments ? even - 72 : even + 24;
  if (Share::ctas > 1) return of == role::output ? even + 8 : even - 8;
  return even;
}
template <class Share>
constexpr bool registers_fit() {
  const int of_groups = Share::output_groups * registers_of<Share, true>(role::output) +
                        registers_of<Share, true>(role::state) +
                        has_moments_group<Share, true>() * registers_of<Share, true>(role::moments);
  return Share::ctas * warpgroup::threads * of_groups <= multiprocessor_registers;
}
static_assert(registers_fit<half_multiprocessor>() && registers_fit<whole_multiprocessor>());
template <class Share, bool Normalize, role Of>
__device__ void set_registers() {
  constexpr int at_launch = launch_registers<Share, Normalize>;
  constexpr int wanted = registers_of<Share, Normalize>(Of);
  if constexpr (wanted > at_launch) ptx::increase_registers<wanted>();
  if constexpr (wanted < at_launch) ptx::decrease_registers<wanted>();
}

/// The first chunk that is loaded.
template <class Share>
__device__ int first_loaded(const segment_range& range) {
  return Share::recomputes ? 0 : range.first;
}

/// The stage of the chunk that was the last to read the buffer of S that the segment's first chunk
/// is to have: none was, but its phase counts as over.
template <class Share>
__device__ ring_position<Share::stages> last_reader_at_start(const segment_range& range) {
  ring_position<Share::stages> stage = {Share::stages - Share::state_buffers, 1};
  if constexpr (Share::recomputes) stage.advance(range.first);
  return stage;
}

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
template <int Group, bool Stateful, class Share>
__device__ void sum_up_earlier_chunks(shared_storage<Share>& shared, const parameters& p,
                                      const segment_range& range, int warp) {
  auto& part = shared.earlier(Group);
  state_accumulator s_transposed;  // S^T [64 x 160]
  start_state<Stateful>(s_transposed, shared, p, range, Group == 0);
  // The loop goes on with these phases, of which each is waited for once, as there.
  const auto release = [&](int chunk, ring_position<Share::stages> stage) {
    barrier& consumed = shared.consumed[stage.buffer];
    if (ptx::elect_lane()) consumed.arrive(consumer_warps);
    consumed.wait(stage.parity);
    const int next = chunk + Share::stages;
    if (next < range.last) load_chunk(shared, p, range, next, stage.buffer);
  };
  add_chunks<Group, pass_groups>(s_transposed, no_moments(), shared, part.features, range.first,
                                 p.scale, warp, release);
  warpgroup::store_exact(part.sum, s_transposed);
}

/// Adds what was summed up. By the state warpgroup.
template <class Share>
__device__ void add_earlier_chunks(state_accumulator& s_transposed, shared_storage<Share>& shared) {
#pragma unroll 1  // else one is loaded while the other is added, which takes too many registers
  for (int group = 0; group < pass_groups; ++group) {
    warpgroup::add_exact(s_transposed, shared.earlier(group).sum);
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
  set_registers<Share, Normalize, role::output>();
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

  shared.loaded[stage.buffer].wait(stage.parity);
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
      scale_rows(o, {ptx::reciprocal(sum(0)), ptx::reciprocal(sum(1))});
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

/// To the CTA that goes on with a head, and from the one that has begun it: that one drew its
/// ticket before this one, so it is resident or has ended, and it waits for none. By a warpgroup.
template <int NamedBarrier, class Store>
__device__ void hand_on(std::uint32_t& is_there, Store store) {
  store();
  warpgroup::sync<NamedBarrier>();
  if (warpgroup::thread() == 0) ptx::store_release(&is_there, 1);
}
template <int NamedBarrier, class Load>
__device__ void take_over(const std::uint32_t& is_there, Load load) {
  if (warpgroup::thread() == 0) {
    while (ptx::load_acquire(&is_there) == 0) {
    }
  }
  warpgroup::sync<NamedBarrier>();
  load();
}

/// Adds the moments of earlier keys that another CTA has summed up: the one that began the head, or
/// those of the first kernel.
template <bool Stateful, class Share>
__device__ void add_earlier_moments(key_moments& moments, const parameters& p,
                                    const segment_range& range) {
  if constexpr (Share::hands_over) {
    const handed_state& handed = p.handed[range.index];
    if (range.first > 0) {
      take_over<moments_barrier<Share>>(handed.moments_are_there,
                                        [&] { moments.add_part(handed.moments); });
    }
  } else if constexpr (Stateful && !Share::recomputes) {
    const segment_state* partials = p.partials + std::int64_t{range.index} * (p.segments - 1);
    if (range.segment > 0) ptx::wait_for_prior_grid();
    for (int i = 0; i < range.segment; ++i) moments.add_part(partials[i].moments);
  }
}

/// The moments after the segment to where they are wanted: the final state's, or those of the CTA
/// that goes on with the head.
template <bool Stateful, class Share>
__device__ void hand_out_moments(const key_moments& moments, float initial_tokens,
                                 const parameters& p, const segment_range& range) {
  if constexpr (Stateful) {
    if (!p.final_state.kv.empty() && range.last == p.chunks) {
      store_final_moments(moments, initial_tokens, p, range);
    }
  }
  if constexpr (Share::hands_over) {
    handed_state& handed = p.handed[range.index];
    if (range.last < p.chunks) {
      hand_on<moments_barrier<Share>>(handed.moments_are_there,
                                      [&] { moments.store_part(handed.moments); });
    }
  }
}

/// Keeps the key moments. It runs ahead of the others: its mma.sync wait for their wgmmas, but
/// nobody for them.
template <bool Stateful, class Share>
__device__ void run_moments_warpgroup(shared_storage<Share>& shared, const parameters& p,
                                      const segment_range& range) {
  key_moments moments;
  const bool begins = !Share::hands_over || range.first == 0;
  const float initial_tokens = start_moments<Stateful>(moments, p, range, begins);
  add_earlier_moments<Stateful, Share>(moments, p, range);
  if (warpgroup::thread() == 0) shared.initial_tokens = initial_tokens;

  ring_position<Share::stages> stage;
  ring_position<Share::stages> last_reader = last_reader_at_start<Share>(range);
  ring_position<Share::state_buffers> state;
  for (int chunk = first_loaded<Share>(range); chunk < range.last; ++chunk) {
    if (chunk >= range.first) {
      shared.consumed[last_reader.buffer].wait(last_reader.parity);
      last_reader.advance();
      moments.hand_over(shared.moments[state.buffer], p.scale);
      shared.state_ready[state.buffer].warp_arrive();
      state.advance();
    }
    shared.loaded[stage.buffer].wait(stage.parity);
    moments.add(shared.k[stage.buffer]);
    shared.consumed[stage.buffer].warp_arrive();
    stage.advance();
  }
  hand_out_moments<Stateful, Share>(moments, initial_tokens, p, range);
}

/// Keeps S and, where no other warpgroup does, the key moments.
template <bool Normalize, bool Stateful, class Share>
__device__ void run_state_warpgroup(shared_storage<Share>& shared, const parameters& p,
                                    const segment_range& range, int warp) {
  constexpr int stages = Share::stages;
  constexpr bool keeps_moments = Normalize && !Share::moments_apart;
  state_accumulator s_transposed;  // S^T [64 x 160]
  moments_if<keeps_moments> moments;
  const bool has_earlier = (Share::recomputes || Share::hands_over) && range.first > 0;
  const float initial_tokens = start_moments<Stateful>(moments, p, range, !has_earlier);
  start_state<Stateful>(s_transposed, shared, p, range, !has_earlier);
  ring_position<stages> stage;
  ring_position<stages> last_reader = last_reader_at_start<Share>(range);
  if constexpr (Share::recomputes) {
    if (has_earlier) add_earlier_chunks(s_transposed, shared);
    stage.advance(range.first);
  } else if constexpr (Share::hands_over) {
    const handed_state& handed = p.handed[range.index];
    if (has_earlier) {
      take_over<state_barrier>(handed.is_there,
                               [&] { warpgroup::load_exact(s_transposed, handed.state); });
    }
  } else if constexpr (Stateful) {
    const segment_state* partials = p.partials + std::int64_t{range.index} * (p.segments - 1);
    if (range.segment > 0) ptx::wait_for_prior_grid();
    add_partials(shared, s_transposed, partials, range.segment, warp);
  }
  if constexpr (keeps_moments) {
    add_earlier_moments<Stateful, Share>(moments, p, range);
    if (warpgroup::thread() == 0) shared.initial_tokens = initial_tokens;
  }
  set_registers<Share, Normalize, role::state>();

  ring_position<Share::state_buffers> state;
  ring_position<Share::feature_buffers> features;
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
    if constexpr (keeps_moments) {
      moments.hand_over(shared.moments[state.buffer], p.scale);
      shared.loaded[stage.buffer].wait(stage.parity);
      moments.add(shared.k[stage.buffer]);  // before wgmmas that it would queue behind
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
    if constexpr (builds_ahead) {
      if (chunk + 1 < range.last) build_features();
    }
    warpgroup::mma_wait<0>(s_transposed);
    consumed.warp_arrive();
  }
  if constexpr (Stateful) {
    if (!p.final_state.kv.empty() && range.last == p.chunks) {
      warpgroup::store_state(p.final_state.kv_head(range.index), s_transposed, p.scale);
    }
  }
  if constexpr (Share::hands_over) {
    if (range.last < p.chunks) {
      handed_state& handed = p.handed[range.index];
      hand_on<state_barrier>(handed.is_there,
                             [&] { warpgroup::store_exact(handed.state, s_transposed); });
    }
  }
  if constexpr (keeps_moments) {
    hand_out_moments<Stateful, Share>(moments, shared.initial_tokens, p, range);
  }
}

template <bool Normalize, bool Stateful, class Share>
__global__ void __launch_bounds__(cta_threads<Share, Normalize>(), Share::ctas)
    prefill_kernel(const __grid_constant__ parameters p) {
  extern __shared__ __align__(1024) char shared_bytes[];
  using storage = shared_storage<Share>;
  storage& shared = *reinterpret_cast<storage*>(shared_bytes);
  // Of heads that are handed over only once there is a ticket.
  segment_range range = Share::recomputes ? segment_range::uneven(p) : segment_range(p);
  if constexpr (Share::hands_over) {
    // While the first thread makes the barriers.
    const bool is_idle = threadIdx.x == cta_threads<Share, Normalize>() - 1;
    if (is_idle) shared.ticket = draw_ticket(p);
  }

  if constexpr (Normalize) {
    block::fill(shared.ones, ptx::two_ones);
    block::fill(shared.halves, ptx::two_halves);
    ptx::fence_proxy_async();
  }
  constexpr int moments_warps = has_moments_group<Share, Normalize>() ? warpgroup::warps : 0;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Share::stages; ++i) {
      shared.loaded[i].init(1);
      shared.consumed[i].init(consumer_warps + moments_warps);
    }
    for (barrier& gathered : shared.gathered) gathered.init(1);
    shared.initial_loaded.init(1);
    for (barrier& ready : shared.state_ready) ready.init(warpgroup::warps + moments_warps);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if constexpr (Share::hands_over) range = segment_range::balanced(p, shared.ticket);

  const int warp = warp::uniform_index();
  if constexpr (Stateful) {
    const bool begins = !Share::hands_over || range.first == 0;
    if (warp == 0 && begins && !p.initial_state.kv.empty()) load_initial_state(shared, p, range);
  }
  const int start = first_loaded<Share>(range);
  for (int i = 0; warp == 0 && i < Share::stages && start + i < range.last; ++i) {
    load_chunk(shared, p, range, start + i, i);
  }
  constexpr int output_warps = Share::output_groups * warpgroup::warps;
  constexpr int moments_begin = output_warps + warpgroup::warps;
  if constexpr (has_moments_group<Share, Normalize>()) {
    if (warp >= moments_begin) {
      set_registers<Share, Normalize, role::moments>();
      run_moments_warpgroup<Stateful>(shared, p, range);
      return;
    }
  }
  if constexpr (Share::recomputes) {
    if (range.first > 0) {
      if (warp < warpgroup::warps) {
        sum_up_earlier_chunks<1, Stateful>(shared, p, range, warp);
      } else if (warp >= output_warps) {
        sum_up_earlier_chunks<0, Stateful>(shared, p, range, warp - output_warps);
      }
      ptx::named_barrier_sync<passed_barrier, 32 * moments_begin>();
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
  for (int i = threadIdx.x; i < p.handed_heads; i += blockDim.x) {
    p.handed[i].is_there = p.handed[i].moments_are_there = 0;
  }
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
  return {entry, sizeof(shared_storage<Share>),
          normalize ? cta_threads<Share, true>() : cta_threads<Share, false>()};
}

/// Of a grid of so many CTAs.
launchable choose_share(std::int64_t ctas, bool normalize, bool stateful) {
  return ctas <= multiprocessors() ? choose<whole_multiprocessor>(normalize, stateful)
                                   : choose<half_multiprocessor>(normalize, stateful);
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

std::size_t split_workspace_bytes(const prefill_shape& shape, int segments) {
  return shape.batch_heads() * (segments - 1) * sizeof(segment_state);
}

std::size_t balanced_workspace_bytes(int places) {
  return places * sizeof(handed_state) + sizeof(std::uint32_t);
}

double whole_flops(const prefill_problem& problem) {
  return flops(problem, 0, has_state(problem.options) ? 0 : 1);
}

double split_flops(const prefill_problem& problem, int segments) {
  return flops(problem, chunks_of(problem.shape) * (segments - 1) / segments, 0);
}

double recompute_flops(const prefill_problem& problem, int segments) {
  const int chunks = static_cast<int>(chunks_of(problem.shape));
  int repeated = 0;
  for (int i = 0; i < segments; ++i) repeated += recompute_begin(chunks, segments, i);
  return flops(problem, repeated, has_state(problem.options) ? 0 : segments);
}

double balanced_flops(const prefill_problem& problem) {
  return whole_flops(problem);
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

void launch_whole(const prefill_args<bf16>& args, cuda_stream stream) {
  const parameters p = make_parameters(args, 1);
  const std::int64_t heads = args.problem.shape.batch_heads();
  const prefill_options& options = args.problem.options;
  enqueue(choose_share(heads, options.normalize, has_state(options)), p, segments_grid(p, heads),
          false, stream);
}

void launch_split(const prefill_args<bf16>& args, int segments, cuda_stream stream) {
  const parameters p = make_parameters(args, segments);
  require_segments(p, 2, p.chunks);
  const std::int64_t heads = args.problem.shape.batch_heads();
  const bool normalize = args.problem.options.normalize;
  launch_segment_states(p, heads, normalize, stream);
  enqueue(choose_share(heads * segments, normalize, true), p, segments_grid(p, heads), true,
          stream);
}

void launch_recompute(const prefill_args<bf16>& args, int segments, cuda_stream stream) {
  const prefill_options& options = args.problem.options;
  parameters p = make_parameters(args, segments);
  require_segments(p, 2, max_recompute_segments);
  for (int i = 0; i <= segments; ++i) {
    p.segment_begin[i] = recompute_begin(p.chunks, segments, i);
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
