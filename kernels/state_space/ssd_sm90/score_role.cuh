// The warpgroup that weighs the pairs within a chunk: the scores C B^T once, then the weights of
// each slice's head.
#pragma once

#include "kernels/ptx/bf16x2.cuh"
#include "kernels/ptx/ex2.cuh"
#include "kernels/state_space/ssd_sm90/config.cuh"

namespace based::ssd_sm90 {

template <class Config>
class score_role {
  using storage = shared_storage<Config>;
  using weight_tile = typename storage::weight_tile;
  using scores = accumulator_tile<chunk_tokens>;

 public:
  /// Called by: one thread
  __device__ score_role(storage& shared, const parameters& p, int warp)
      : shared_(shared), p_(p), warp_(warp) {}

  /// Called by: one warpgroup
  __device__ void run(int chunks) {
#pragma unroll 1
    for (; chunks > 0; --chunks) {
      scores s;  // C B^T [64 x 64]
      multiply(s);
      shared_.decay_ring.wait_full(stage_);
#pragma unroll 1
      for (int slice = 0; slice < Config::slices; ++slice) {
        const auto at = Config::weights_at(stage_, slice);
        shared_.weight_ring.wait_empty(at);
        weigh(shared_.weights[at.buffer], s, slice);
        ptx::fence_proxy_async();
        shared_.weight_ring.filled(at).warp_arrive();
      }
      shared_.decay_ring.release(stage_);
      stage_.advance();
    }
  }

 private:
  /// Called by: one warpgroup
  __device__ void multiply(scores& s) {
    shared_.c_ring.wait_full(stage_);
    shared_.b_ring.wait_full(stage_);
    const auto& c = shared_.c[stage_.buffer];
    const auto& b = shared_.b[stage_.buffer];
    warpgroup::mma_fence();
    warpgroup::mma_ABt<warpgroup::mma_mode::overwrite>(s, c[0], b[0]);
#pragma unroll
    for (int i = 1; i < Config::parts_of_slice; ++i) warpgroup::mma_ABt(s, c[i], b[i]);
    warpgroup::mma_commit();
    warpgroup::mma_wait<0>(s);
    shared_.c_ring.warp_release(stage_);
    shared_.b_ring.warp_release(stage_);
  }

  /// W = mask(exp2(sum_i + pair_j) S_ij), plus D on the diagonal, of this warp's sixteen rows. What
  /// is above the diagonal's blocks [16 x 16] stays zero. A warp has as many blocks as its number
  /// says and one; each number has code of its own, in which the blocks' latencies overlap.
  /// Called by: one warp
  __device__ void weigh(weight_tile& to, const scores& s, int slice) {
    const float* const sum = &shared_.decays[stage_.buffer].sum[slice][16 * warp_];
    row_values sums = {sum[warp::lane() / 4], sum[warp::lane() / 4 + 8]};
    row_values skips = {shared_.skip[slice], shared_.skip[slice]};
    if (p_.chunks == 1) divide_rows(s, slice, sums, skips);
    switch (warp_) {
      case 0:
        return weigh_rows<0>(to, s, slice, sums, skips);
      case 1:
        return weigh_rows<1>(to, s, slice, sums, skips);
      case 2:
        return weigh_rows<2>(to, s, slice, sums, skips);
      default:
        return weigh_rows<3>(to, s, slice, sums, skips);
    }
  }

  /// Called by: one warp
  template <int Warp>
  __device__ void weigh_rows(weight_tile& to, const scores& s, int slice, const row_values& sums,
                             const row_values& skips) {
    const int col = warp::lane() % 4 * 2;
    const float* const pair = &shared_.decays[stage_.buffer].pair[slice][col];
    float2 pairs[2 * Warp + 2];  // of eight columns each
#pragma unroll
    for (int i = 0; i < 2 * Warp + 2; ++i) {
      pairs[i] = *reinterpret_cast<const float2*>(pair + 8 * i);
    }
#pragma unroll
    for (int i = 0; i <= Warp; ++i) {
      accumulator_tile<16> block;
#pragma unroll
      for (int e = 0; e < block.size; ++e) {
        const float2& of_columns = pairs[2 * i + e / 4];
        const float decay =
            ptx::ex2(sums.value[e % 4 / 2] + (e % 2 == 0 ? of_columns.x : of_columns.y));
        block.value[e] = s.value[8 * i + e] * decay;
      }
      if (i == Warp) mask(block, skips, warp::lane() / 4, col);
      warp::store(to, to_bf16(block, 0), 16 * Warp, i);
    }
  }

  /// A block on the diagonal: nothing of its upper right, D added to the diagonal itself.
  /// Called by: one thread
  __device__ static void mask(accumulator_tile<16>& block, const row_values& skips, int row,
                              int col) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const bool is_past = col + e <= row, is_own = col + e == row;
      block.value[e] = is_past ? block.value[e] + (is_own ? skips.value[0] : 0) : 0;
      block.value[6 + e] = is_past ? block.value[6 + e] + (is_own ? skips.value[1] : 0) : 0;
      block.value[4 + e] = 0;
    }
  }

  /// Changes what rows of weights are made from such that they come out divided by what leaves a
  /// bf16 on the diagonal; y is multiplied by it (state_role.cuh). In a short sequence one weight
  /// can be all of an output, whose elements its rounding changes by up to 0.4 %, all alike.
  /// Called by: one warp
  __device__ void divide_rows(const scores& s, int slice, row_values& sums, row_values& skips) {
    const chunk_decays<Config::slices>& decays = shared_.decays[stage_.buffer];
    const int row = warp::lane() / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float own = 0;  // the score on the diagonal, where this lane has it
#pragma unroll
      for (int i = 0; i < chunk_tokens / 16; ++i) {
        const float* const value = s.value + 8 * i + 6 * half;
        if (i == warp_) own = row % 2 == 0 ? value[0] : value[1];
      }
      const float score = __shfl_sync(~0u, own, row / 2, 4);
      const int at = 16 * warp_ + 8 * half + row;
      const float decay = ptx::ex2(decays.sum[slice][at] + decays.pair[slice][at]);
      const float weight = fmaf(score, decay, skips.value[half]);
      const float rounded = ptx::low_half(ptx::to_bf16x2(weight, 0));
      const float divisor = rounded == 0 ? 1 : weight / rounded;
      sums.value[half] -= __log2f(divisor);
      skips.value[half] /= divisor;
      // The lane whose arrival tells that the weights are complete writes for all.
#pragma unroll 1
      for (int i = 0; i < 8; ++i) {
        const float of_row = __shfl_sync(~0u, divisor, 4 * i);
        if (ptx::elect_lane()) {
          shared_.divisors[slice][16 * warp_ + 8 * half + i] = of_row;
          shared_.inverse_divisors[slice][16 * warp_ + 8 * half + i] = 1 / of_row;
        }
      }
    }
  }

  storage& shared_;
  const parameters& p_;
  int warp_;
  ring_position<Config::stages> stage_;
};

}  // namespace based::ssd_sm90
