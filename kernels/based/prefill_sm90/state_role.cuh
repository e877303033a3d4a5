// The warpgroups of the Hopper prefill that keep what a head has seen: the state's, and the key
// moments'.
#pragma once

#include "kernels/based/prefill_sm90/variants.cuh"
#include "kernels/based/quad_features.cuh"

namespace based::sm90 {

/// Moves a position in the ring of loaded chunks past those that were passed over.
/// Called by: one thread
template <class Variant>
__device__ void skip_passed(ring_position<Variant::stages>& at, const segment_range& range) {
  if constexpr (Variant::passes_over_earlier_chunks) at.advance(Variant::passed_chunks(range));
}

/// The place in the ring of the chunk whose readers must be done before the first tile of S is
/// written: the chunk that had the tile before. No chunk has had the first tiles, and waiting for
/// its readers must not block, so the phase is one that counts as over.
/// Called by: one thread
template <class Variant>
__device__ ring_position<Variant::stages> first_last_reader(const segment_range& range) {
  ring_position<Variant::stages> last_reader_at = {Variant::stages - Variant::state_buffers, 1};
  skip_passed<Variant>(last_reader_at, range);
  return last_reader_at;
}

/// Puts the moments after the CTA's chunks where they are wanted: in the final state, or in the
/// hands of the CTA that goes on with the head. Called by: one warpgroup
template <bool Stateful, class Variant>
__device__ void end_moments(const key_moments& moments, float initial_tokens, const parameters& p,
                            const segment_range& range) {
  if constexpr (Stateful) {
    if (!p.final_state.kv.empty() && range.last == p.chunks) {
      store_final_moments(moments, initial_tokens, p, range);
    }
  }
  Variant::hand_on_moments(moments, p, range);
}

/// Keeps the key moments. It runs ahead of the other warpgroups: its mma.sync wait for their
/// wgmmas, but nobody waits for its mma.sync. Called by: one warpgroup
template <bool Stateful, class Variant>
__device__ void run_moments_warpgroup(shared_storage<Variant>& shared, const parameters& p,
                                      const segment_range& range) {
  key_moments moments;
  const bool begins = Variant::begins(range);
  const float initial_tokens = start_moments<Stateful>(moments, p, range, begins);
  Variant::template add_moments<Stateful>(moments, p, range);
  if (warpgroup::thread() == 0) shared.initial_tokens = initial_tokens;

  ring_position<Variant::stages> stage_at;
  ring_position<Variant::stages> last_reader_at = first_last_reader<Variant>(range);
  ring_position<Variant::state_buffers> state_at;
  for (int chunk = Variant::first_loaded(range); chunk < range.last; ++chunk) {
    if (chunk >= range.first) {
      shared.chunk_ring.wait_released(last_reader_at);
      last_reader_at.advance();
      moments.hand_over(shared.moments[state_at.buffer], p.scale);
      shared.state_ready[state_at.buffer].warp_arrive();
      state_at.advance();
    }
    shared.chunk_ring.wait_full(stage_at);
    moments.add(shared.k[stage_at.buffer]);
    shared.chunk_ring.warp_release(stage_at);
    stage_at.advance();
  }
  end_moments<Stateful, Variant>(moments, initial_tokens, p, range);
}

/// Keeps S and, where no other warpgroup does, the key moments. Called by: one warpgroup
template <bool Normalize, bool Stateful, class Variant>
__device__ void run_state_warpgroup(shared_storage<Variant>& shared, const parameters& p,
                                    const segment_range& range, int warp) {
  constexpr int stages = Variant::stages;
  constexpr bool keeps_moments = Normalize && !Variant::moments_apart;
  state_accumulator s_transposed;  // S^T [64 x 160]
  moments_if<keeps_moments> moments;
  const bool has_earlier = Variant::has_earlier(range);
  const float initial_tokens = start_moments<Stateful>(moments, p, range, !has_earlier);
  start_state<Stateful>(s_transposed, shared, p, range, !has_earlier);
  ring_position<stages> stage_at;
  ring_position<stages> last_reader_at = first_last_reader<Variant>(range);
  Variant::template add_earlier<Stateful>(s_transposed, shared, p, range, warp);
  skip_passed<Variant>(stage_at, range);
  if constexpr (keeps_moments) {
    Variant::template add_moments<Stateful>(moments, p, range);
    if (warpgroup::thread() == 0) shared.initial_tokens = initial_tokens;
  }
  take_registers<Variant, Normalize, role::state>();

  ring_position<Variant::state_buffers> state_at;
  ring_position<Variant::feature_buffers> features_at;
  const auto build_features = [&] {  // of the chunk at `stage_at`
    shared.chunk_ring.wait_full(stage_at);
    quad::store_key_features(shared.key_features[features_at.buffer], shared.k[stage_at.buffer],
                             p.scale, warp);
    ptx::fence_proxy_async();
  };
  constexpr bool builds_ahead = Variant::feature_buffers > 1;  // while a chunk is being added
  if constexpr (builds_ahead) build_features();
  for (int chunk = range.first; chunk < range.last; ++chunk) {
    shared.chunk_ring.wait_released(last_reader_at);
    last_reader_at.advance();
    warpgroup::store_transposed(shared.state[state_at.buffer],
                                warpgroup::round_state(s_transposed));
    if constexpr (keeps_moments) {
      moments.hand_over(shared.moments[state_at.buffer], p.scale);
      shared.chunk_ring.wait_full(stage_at);
      moments.add(shared.k[stage_at.buffer]);  // before wgmmas that it would queue behind
    }
    shared.state_ready[state_at.buffer].warp_arrive();  // those that wait for it fence it
    state_at.advance();
    if (!Stateful && chunk + 1 == Variant::states_end(p, range)) break;

    if constexpr (!builds_ahead) {
      warpgroup::sync<state_barrier>();  // all warps' products have read the features before
      build_features();
    }
    warpgroup::sync<state_barrier>();
    const value_tile& v = shared.v[stage_at.buffer];                             // [64 x 64]
    const feature_tile& key_features = shared.key_features[features_at.buffer];  // [64 x 160]
    warpgroup::mma_fence();
    warpgroup::mma_AtB(s_transposed, v, key_features);
    warpgroup::mma_commit();
    const ring_position<stages> read_at = stage_at;
    stage_at.advance();
    features_at.advance();
    if constexpr (builds_ahead) {
      if (chunk + 1 < range.last) build_features();
    }
    warpgroup::mma_wait<0>(s_transposed);
    shared.chunk_ring.warp_release(read_at);
  }
  if constexpr (Stateful) {
    if (!p.final_state.kv.empty() && range.last == p.chunks) {
      warpgroup::store_state(p.final_state.kv_head(range.index), s_transposed, p.scale);
    }
  }
  Variant::hand_on(s_transposed, p, range);
  if constexpr (keeps_moments) {
    end_moments<Stateful, Variant>(moments, shared.initial_tokens, p, range);
  }
}

}  // namespace based::sm90
