// How the variants of the Hopper prefill cut a head's tokens: constexpr, host-includable.
#pragma once

#include <cstdint>

#include "kernels/based/prefill.h"

namespace based::sm90 {

/// Tokens that are worked on together.
inline constexpr int chunk_tokens = 64;

constexpr std::int64_t chunks_of(const prefill_shape& shape) {
  return (shape.seqlen - 1) / chunk_tokens + 1;
}

/// Whether a state goes in or out.
constexpr bool has_state(const prefill_options& options) {
  return options.initial_state || options.final_state;
}

/// Chunks that `quadratic` takes: a grid's limit in y, less one for the final state.
inline constexpr int max_quadratic_chunks = 65534;

/// The chunk before which `balanced` hands over the `head`-th of the `heads` heads that change
/// hands.
constexpr int handed_over_at(int chunks, int heads, int head) {
  return 1 + static_cast<int>(std::int64_t{chunks - 1} * head / heads);
}

/// Segments that `recompute` cuts a head into, at the most.
inline constexpr int max_recompute_segments = 5;

/// The chunk that segment `segment` of `recompute` begins with (`segments`: the end). Later
/// segments are shorter, for all are to take as long, and adding a chunk to the state takes about
/// 4/9 of the time that its whole work takes: with n segments, (1 - (5/9)^i) / (1 - (5/9)^n) of the
/// chunks come before segment i; but each has one at least.
constexpr int recompute_begin(int chunks, int segments, int segment) {
  std::int64_t nines = 1, fives = 1, mixed = 1;  // 9^n, 5^n, 5^i 9^(n - i)
  for (int i = 0; i < segments; ++i) {
    nines *= 9;
    fives *= 5;
    mixed *= i < segment ? 5 : 9;
  }
  const std::int64_t rest = chunks - segments, all = nines - fives;
  return segment + static_cast<int>((rest * (nines - mixed) + all / 2) / all);
}

}  // namespace based::sm90
