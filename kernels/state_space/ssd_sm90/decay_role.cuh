// The warps that work out the decays of each chunk ahead of all others.
#pragma once

#include "kernels/ptx/bf16x2.cuh"
#include "kernels/ptx/ex2.cuh"
#include "kernels/state_space/softplus.h"
#include "kernels/state_space/ssd_sm90/config.cuh"

namespace based::ssd_sm90 {

/// The sum of the values of this lane and those before it.
/// Called by: one warp
__device__ inline float inclusive_sum(float value) {
#pragma unroll
  for (int distance = 1; distance < warp_size; distance *= 2) {
    const float before = __shfl_up_sync(~0u, value, distance);
    if (warp::lane() >= distance) value += before;
  }
  return value;
}

/// A lane has two neighbouring tokens of each of its warp's slices.
template <class Config>
class decay_role {
  static constexpr int slices = Config::slices / Config::decay_warps;  // of a warp
  using storage = shared_storage<Config>;

 public:
  /// Called by: one warp
  __device__ decay_role(storage& shared, const parameters& p, const block_range& range, int warp)
      : shared_(shared), p_(p), first_slice_(warp * slices) {
#pragma unroll
    for (int i = 0; i < slices; ++i) {
      const slice_place place(p, range, first_slice_ + i);
      source_[i] = p.dt.token(range.batch, place.head, 0);
      log2_rate_[i] = p.a[place.head] * log2_e;
      bias_[i] = p.dt_bias == nullptr ? 0 : p.dt_bias[place.head];
    }
  }

  /// Called by: one warp
  __device__ void run(const block_range& range) {
    ring_position<Config::stages> at;
    load(range.first);
#pragma unroll 1
    for (int chunk = range.first; chunk < range.last; ++chunk) {
      float dt[slices][2];
#pragma unroll
      for (int i = 0; i < slices; ++i) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float raw = ptx::low_half(next_[i][e].bits) + bias_[i];
          const float step = p_.softplus ? softplus(raw) : raw;
          dt[i][e] = token(chunk, e) < p_.seqlen ? step : 0;
        }
      }
      if (chunk + 1 < range.last) load(chunk + 1);
      shared_.decay_ring.wait_empty(at);
#pragma unroll
      for (int i = 0; i < slices; ++i) whole_[i] += put(shared_.decays[at.buffer], i, dt[i]);
      shared_.decay_ring.filled(at).arrive();
      at.advance();
    }
  }

  /// Stores the logarithms of the decays over all chunks that it went over, those of a segment.
  /// Called by: one warp
  __device__ void store_whole(const block_range& range) const {
#pragma unroll
    for (int i = 0; i < slices; ++i) {
      const slice_place place(p_, range, first_slice_ + i);
      if (warp::lane() == 0 && place.is_own) {
        p_.partial_decays[place.index * (p_.segments - 1) + range.segment] = whole_[i];
      }
    }
  }

 private:
  static constexpr float log2_e = 1.44269504f;
  /// A token's decay of 2^-160 is 0 in fp32, and sums of 64 of them keep their fraction's bits.
  static constexpr float least_log2_decay = -160;
  /// What a token adds is divided by as much, and still far from the largest number.
  static constexpr float least_log2_scale = -64;

  /// Called by: one thread
  __device__ static int token(int chunk, int e) {
    return chunk * chunk_tokens + 2 * warp::lane() + e;
  }

  /// Called by: one warp
  __device__ void load(int chunk) {
#pragma unroll
    for (int i = 0; i < slices; ++i) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const std::int64_t at = min(token(chunk, e), p_.seqlen - 1);
        next_[i][e] = source_[i][at * p_.dt.token_stride];
      }
    }
  }

  /// Not fmaxf: a NaN stays one.
  /// Called by: one thread
  __device__ float log2_decay(float dt, int i) const {
    const float wanted = dt * log2_rate_[i];
    return wanted < least_log2_decay ? least_log2_decay : wanted;
  }

  /// Returns the sum of the logarithms of the chunk's decays.
  /// Called by: one warp
  __device__ float put(chunk_decays<Config::slices>& to, int i, const float (&dt)[2]) {
    const float first = log2_decay(dt[0], i), second = log2_decay(dt[1], i);
    const float through = inclusive_sum(first + second);
    const float before = __shfl_up_sync(~0u, through, 1);
    const float sum = (warp::lane() == 0 ? 0 : before) + first;
    const float all = __shfl_sync(~0u, through, warp_size - 1);
    const int slice = first_slice_ + i, at = 2 * warp::lane();
    const auto store = [&](float(&row)[chunk_tokens], float low, float high) {
      *reinterpret_cast<float2*>(&row[at]) = {low, high};
    };
    store(to.sum[slice], sum, through);
    store(to.pair[slice], __log2f(dt[0]) - sum, __log2f(dt[1]) - through);
    float& scale = log2_scale_[i];  // the state is exp2(scale) times the kept one
    store(to.earlier[slice], ptx::ex2(scale + sum), ptx::ex2(scale + through));
    const float decayed = scale + all;
    const bool is_small = decayed < least_log2_scale;
    scale = is_small ? 0 : decayed;
    const float remaining = all - scale;
    store(to.later[slice], dt[0] * ptx::ex2(remaining - sum),
          dt[1] * ptx::ex2(remaining - through));
    if (warp::lane() == 0) {
      to.kept[slice] = is_small ? ptx::ex2(decayed) : 1;
      to.after[slice] = ptx::ex2(scale);
    }
    return all;
  }

  storage& shared_;
  const parameters& p_;
  int first_slice_;
  const bf16* source_[slices];
  float log2_rate_[slices], bias_[slices];
  float whole_[slices] = {}, log2_scale_[slices] = {};
  bf16 next_[slices][2];
};

}  // namespace based::ssd_sm90
