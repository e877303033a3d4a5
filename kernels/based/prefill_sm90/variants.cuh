// What differs between the variants of the Hopper prefill: which chunks a CTA works on, where the
// state before the first of them comes from, and where the state after the last goes. Each variant
// is a struct with these members, over a configuration (config.cuh):
//
//   passes_over_earlier_chunks  whether a CTA also loads chunks before its own, for pass()
//   own_chunks(p)               which chunks the CTA works on, as far as its index says that
//   draw_ticket(shared, p)      draws a ticket before the barriers are ready
//   redeem_ticket(...)          which chunks the CTA works on, as far as its ticket says that
//   first_loaded(range)         the first chunk that it loads
//   passed_chunks(range)        how many it loads before its own
//   load(...)                   starts the loads of a chunk. Called by: one warp
//   pass<Stateful>(...)         the work on chunks before its own. Called by: one block
//   begins(range)               whether the head's initial state is this CTA's to add
//   has_earlier(range)          whether S starts from something else than the initial state
//   add_earlier<Stateful>(...)  adds what S then starts from. Called by: one warpgroup
//   add_moments<Stateful>(...)  adds the moments others have summed up. Called by: one warpgroup
//   states_end(p, range)        the chunk, or the end, before which nobody reads the state
//   hand_on(...)                hands on S after the last own chunk. Called by: one warpgroup
//   hand_on_moments(...)        hands on the moments after it. Called by: one warpgroup
//
// A member that does not say who calls it has the tag "Called by: one thread". The warpgroup of
// add_earlier() and hand_on() is the one that keeps the state.
//
// `Stateful`: the call has an initial or a final state, or its segments have states before them.
#pragma once

#include "kernels/based/prefill_sm90/config.cuh"
#include "kernels/ptx/global_flag.cuh"
#include "kernels/tile/warpgroup.cuh"

namespace based::sm90 {

/// What most variants have in common: a CTA loads its own chunks only, and hands nothing on.
template <class Config>
struct plain_variant : Config {
  static constexpr bool passes_over_earlier_chunks = false;

  template <class Storage>
  __device__ static void draw_ticket(Storage&, const parameters&) {}
  __device__ static void redeem_ticket(segment_range&, const parameters&, int) {}

  __device__ static int first_loaded(const segment_range& range) { return range.first; }
  __device__ static constexpr int passed_chunks(const segment_range&) { return 0; }

  template <class Storage>
  __device__ static void load(Storage& shared, const parameters& p, const segment_range& range,
                              int chunk, int stage) {
    warp::load_async(shared.chunk_ring.filled(stage), range.chunk(chunk),
                     tile_copy{shared.k[stage], p.k}, tile_copy{shared.v[stage], p.v},
                     tile_copy{shared.q[stage], p.q});
  }

  template <bool Stateful, class Storage>
  __device__ static void pass(Storage&, const parameters&, const segment_range&, int) {}

  __device__ static constexpr bool begins(const segment_range&) { return true; }
  __device__ static constexpr bool has_earlier(const segment_range&) { return false; }

  __device__ static int states_end(const parameters&, const segment_range& range) {
    return range.last;
  }

  __device__ static void hand_on(const state_accumulator&, const parameters&,
                                 const segment_range&) {}
  __device__ static void hand_on_moments(const key_moments&, const parameters&,
                                         const segment_range&) {}
};

/// Adds the states of the segments before this one. They pass through the tiles that the loop has
/// no use for yet, all of one size, as many copies at a time.
/// Called by: one warpgroup
template <class Storage>
__device__ void add_partials(Storage& shared, state_accumulator& state,
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

/// `whole`, and the second kernel of `split`: a head's segments are all as long, and a first kernel
/// has summed up what each adds to the state (segment_states.cu).
template <class Config>
struct whole_or_split : plain_variant<Config> {
  __device__ static segment_range own_chunks(const parameters& p) { return even_segment(p); }

  template <bool Stateful, class Storage>
  __device__ static void add_earlier(state_accumulator& s_transposed, Storage& shared,
                                     const parameters& p, const segment_range& range, int warp) {
    if constexpr (Stateful) {
      const segment_state* partials = p.partials + std::int64_t{range.index} * (p.segments - 1);
      if (range.segment > 0) ptx::wait_for_prior_grid();
      add_partials(shared, s_transposed, partials, range.segment, warp);
    }
  }

  template <bool Stateful>
  __device__ static void add_moments(key_moments& moments, const parameters& p,
                                     const segment_range& range) {
    if constexpr (Stateful) {
      const segment_state* partials = p.partials + std::int64_t{range.index} * (p.segments - 1);
      if (range.segment > 0) ptx::wait_for_prior_grid();
      for (int i = 0; i < range.segment; ++i) moments.add_part(partials[i].moments);
    }
  }
};

/// `recompute`: the state and an output warpgroup pass over all chunks before the segment, a part
/// each (state_pass.cuh), and add their sums.
struct recompute : plain_variant<passing_multiprocessor> {
  static constexpr bool passes_over_earlier_chunks = true;

  __device__ static segment_range own_chunks(const parameters& p) {
    segment_range range = even_segment(p);
    range.first = p.segment_begin[range.segment];
    range.last = p.segment_begin[range.segment + 1];
    return range;
  }

  __device__ static constexpr int first_loaded(const segment_range&) { return 0; }
  __device__ static int passed_chunks(const segment_range& range) { return range.first; }
  __device__ static bool has_earlier(const segment_range& range) { return range.first > 0; }

  /// Loads a chunk; of a chunk that is only passed over, its keys and values alone.
  template <class Storage>
  __device__ static void load(Storage& shared, const parameters& p, const segment_range& range,
                              int chunk, int stage) {
    if (chunk < range.first) {
      load_keys_and_values(shared, p, range.chunk(chunk), stage);
    } else {
      plain_variant::load(shared, p, range, chunk, stage);
    }
  }

  template <bool Stateful, class Storage>
  __device__ static void pass(Storage& shared, const parameters& p, const segment_range& range,
                              int warp) {
    constexpr int output_warps = output_groups * warpgroup::warps;
    constexpr int state_end = output_warps + warpgroup::warps;
    if (range.first > 0) {
      if (warp < warpgroup::warps) {
        sum_up<1, Stateful>(shared, p, range, warp);
      } else if (warp >= output_warps) {
        sum_up<0, Stateful>(shared, p, range, warp - output_warps);
      }
      ptx::named_barrier_sync<passed_barrier, warp_size * state_end>();
    }
  }

  template <bool Stateful, class Storage>
  __device__ static void add_earlier(state_accumulator& s_transposed, Storage& shared,
                                     const parameters&, const segment_range& range, int) {
    if (has_earlier(range)) add_sums(s_transposed, shared);
  }

  /// The warpgroup that keeps the moments passes over all chunks by itself.
  template <bool Stateful>
  __device__ static void add_moments(key_moments&, const parameters&, const segment_range&) {}

 private:
  /// Sums up warpgroup `Group`'s part of the state before the segment.
  /// Called by: one warpgroup
  template <int Group, bool Stateful, class Storage>
  __device__ static void sum_up(Storage& shared, const parameters& p, const segment_range& range,
                                int warp) {
    auto& part = shared.earlier(Group);
    state_accumulator s_transposed;  // S^T [64 x 160]
    start_state<Stateful>(s_transposed, shared, p, range, Group == 0);
    // The loop over the own chunks goes on with the phases of the ring: so each release is waited
    // for once here, as in that loop.
    const auto release = [&](int chunk, ring_position<stages> stage_at) {
      if (ptx::elect_lane()) shared.chunk_ring.release(stage_at, consumer_warps);
      shared.chunk_ring.wait_released(stage_at);
      const int next = chunk + stages;
      if (next < range.last) load(shared, p, range, next, stage_at.buffer);
    };
    add_chunks<Group, pass_groups>(s_transposed, no_moments(), shared, part.features, range.first,
                                   p.scale, warp, release);
    warpgroup::store_exact(part.sum, s_transposed);
  }

  /// Adds what was summed up. Called by: one warpgroup
  template <class Storage>
  __device__ static void add_sums(state_accumulator& s_transposed, Storage& shared) {
#pragma unroll 1  // else one is loaded while the other is added, which takes too many registers
    for (int group = 0; group < pass_groups; ++group) {
      warpgroup::add_exact(s_transposed, shared.earlier(group).sum);
    }
    warpgroup::sync<state_barrier>();
  }
};

/// `balanced`: each of the first heads is begun by one CTA and gone on with by another.
template <class Config>
struct balanced : plain_variant<Config> {
  /// Stands in until the CTA has redeemed its ticket, which says its chunks.
  __device__ static segment_range own_chunks(const parameters& p) { return even_segment(p); }

  /// A ticket says how many CTAs of the grid have started before this one: CUDA does not promise
  /// that they start in the order of their indices. The grid before clears tickets and flags.
  template <class Storage>
  __device__ static void draw_ticket(Storage& shared, const parameters& p) {
    ptx::wait_for_prior_grid();
    shared.ticket = static_cast<int>(atomicAdd(&tickets(p), 1u));
  }

  /// The CTAs that start first begin a head each. The others go on with the heads that are handed
  /// over, in the order in which they start. The first parts are of all lengths, the shortest
  /// first: if all CTAs are as fast, they end at even distances from then on. When no head is left
  /// to begin, the first that ends makes room for the longest of the second parts, the next for the
  /// next: all of these end at the same time.
  __device__ static void redeem_ticket(segment_range& range, const parameters& p, int ticket) {
    const int heads = static_cast<int>(gridDim.x) - p.handed_heads;
    const bool goes_on = ticket >= heads;
    segment_range own = {grid_head(p, goes_on ? ticket - heads : ticket), 0, 0, p.chunks};
    if (own.index < p.handed_heads) {
      (goes_on ? own.first : own.last) = handed_over_at(p.chunks, p.handed_heads, own.index);
    }
    range = own;
  }

  __device__ static bool begins(const segment_range& range) { return range.first == 0; }
  __device__ static bool has_earlier(const segment_range& range) { return range.first > 0; }

  template <bool Stateful, class Storage>
  __device__ static void add_earlier(state_accumulator& s_transposed, Storage&, const parameters& p,
                                     const segment_range& range, int) {
    const bool goes_on = has_earlier(range);
    const handed_state& handed = p.handed[range.index];
    if (goes_on) {
      take_over<state_barrier>(handed.is_there,
                               [&] { warpgroup::load_exact(s_transposed, handed.state); });
    }
  }

  template <bool Stateful>
  __device__ static void add_moments(key_moments& moments, const parameters& p,
                                     const segment_range& range) {
    const handed_state& handed = p.handed[range.index];
    if (range.first > 0) {
      take_over<barrier_of_moments<Config>>(handed.moments_are_there,
                                            [&] { moments.add_part(handed.moments); });
    }
  }

  __device__ static int states_end(const parameters& p, const segment_range&) { return p.chunks; }

  __device__ static void hand_on(const state_accumulator& s_transposed, const parameters& p,
                                 const segment_range& range) {
    if (range.last < p.chunks) {
      handed_state& handed = p.handed[range.index];
      give<state_barrier>(handed.is_there,
                          [&] { warpgroup::store_exact(handed.state, s_transposed); });
    }
  }

  __device__ static void hand_on_moments(const key_moments& moments, const parameters& p,
                                         const segment_range& range) {
    handed_state& handed = p.handed[range.index];
    if (range.last < p.chunks) {
      give<barrier_of_moments<Config>>(handed.moments_are_there,
                                       [&] { moments.store_part(handed.moments); });
    }
  }

 private:
  /// From the CTA that has begun a head to the one that goes on with it. The first drew its ticket
  /// before the second did, so it is resident or has ended, and it waits for none.
  /// Called by: one warpgroup
  template <int NamedBarrier, class Store>
  __device__ static void give(std::uint32_t& is_there, Store store) {
    store();
    warpgroup::sync<NamedBarrier>();
    if (warpgroup::thread() == 0) ptx::store_release(&is_there, 1);
  }
  /// Called by: one warpgroup
  template <int NamedBarrier, class Load>
  __device__ static void take_over(const std::uint32_t& is_there, Load load) {
    if (warpgroup::thread() == 0) {
      while (ptx::load_acquire(&is_there) == 0) {
      }
    }
    warpgroup::sync<NamedBarrier>();
    load();
  }
};

static_assert(fits_multiprocessor<whole_or_split<half_multiprocessor>>);
static_assert(fits_multiprocessor<whole_or_split<whole_multiprocessor>>);
static_assert(fits_multiprocessor<recompute>);

}  // namespace based::sm90
