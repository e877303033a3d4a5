// The output warpgroups of the Hopper prefill.
#pragma once

#include "kernels/based/prefill_sm90/variants.cuh"
#include "kernels/based/quad_features.cuh"
#include "kernels/based/weights.cuh"
#include "kernels/ptx/reciprocal.cuh"

namespace based::sm90 {

/// O of every `output_groups`-th of the CTA's chunks. `Normalize`: divided by the sums of the
/// weights. `group`: which of the output warpgroups, which take the chunks by turns, it is.
/// Called by: one warpgroup
template <bool Normalize, class Variant>
__device__ void run_output_warpgroup(shared_storage<Variant>& shared, const parameters& p,
                                     const segment_range& range, int group, int warp) {
  constexpr int stages = Variant::stages, groups = Variant::output_groups;
  const int first = range.first + group;
  if (groups > 1 && first >= range.last) return;
  take_registers<Variant, Normalize, role::output>();
  ring_position<stages> stage_at, previous_at;
  stage_at.advance(Variant::passed_chunks(range) + group);
  ring_position<Variant::state_buffers> state_at;
  state_at.advance(group);
  quad::query_features features;  // phi(Q) [64 x 160]
  const polynomial weight(p.scale);
  const std::uint32_t mask = causal_mask();
  output_tile& output = shared.output[group][warp];  // this warp's rows of O [16 x 64]
  const auto send_output = [&](int chunk) {
    warp::store_async(output, p.o, range.output(chunk, warp));
  };

  shared.chunk_ring.wait_full(stage_at);
  features.start(shared.q[stage_at.buffer]);

  for (int chunk = first; chunk < range.last; chunk += groups) {
    const token_tile& k = shared.k[stage_at.buffer];      // [64 x 16]
    const value_tile& v = shared.v[stage_at.buffer];      // [64 x 64]
    const state_tile& s = shared.state[state_at.buffer];  // [160 x 64]
    score_accumulator scores;                             // A [64 x 64], not yet scaled
    summed_output<Normalize> o_and_sums;                  // O [64 x 64], the weights' sums [64 x 8]
    output_accumulator& o = first_columns<value_dim>(o_and_sums);
    accumulator_tile<16> y;  // of the keys' moments [64 x 16]
    row_sums earlier_sums;   // of earlier chunks' weights [64 x 8]

    warpgroup::mma_fence();
    warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(scores, features.q(), k, 0);
    warpgroup::mma_commit();

    shared.state_ready[state_at.buffer].wait(state_at.parity);
    ptx::fence_proxy_async();  // S for the products, the output for its copy
    add_inter_chunk<0, quad::own_slices, warpgroup::mma_mode::overwrite>(o, features, s);

    if (chunk > first) {
      send_output(chunk - groups);
      const int next = chunk - groups + stages;
      if (warp == 0 && next < range.last) {
        shared.chunk_ring.wait_released(previous_at);
        Variant::load(shared, p, range, next, previous_at.buffer);
      }
    }
    features.finish(shared.q[stage_at.buffer]);
    warpgroup::mma_wait<1>(scores);
    const weight_tile w = weights(scores, weight, mask, warp);  // [64 x 64]
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
      start_moment_products(y, features.q(), shared.moments[state_at.buffer]);
      warpgroup::mma_commit();
    }
    add_inter_chunk<quad::own_slices, quad::slices - quad::own_slices>(o, features, s);
    if constexpr (Normalize) {
      warpgroup::mma_wait<1>(y);
      start_summing_moments(earlier_sums, features.q(), y, shared.halves);
    } else {
      warpgroup::mma_wait<1>();  // the early products have read their slices
    }

    previous_at = stage_at;
    const bool goes_on = chunk + groups < range.last;
    if (goes_on) stage_at = stage_at.next(groups);  // else the last chunk's queries once more
    shared.chunk_ring.wait_full(stage_at);
    features.start(shared.q[stage_at.buffer]);
    if constexpr (Normalize) {
      warpgroup::mma_wait<0>(o_and_sums, earlier_sums);
    } else {
      warpgroup::mma_wait<0>(o);
    }
    shared.chunk_ring.warp_release(previous_at);
    state_at = state_at.next(groups);

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

}  // namespace based::sm90
