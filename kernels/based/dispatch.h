// Which variant of the Based prefill runs a shape: constexpr rules, host-includable.
//
//   whole   one CTA walks through a head's whole sequence
//   split   heads too few to fill the card: each sequence in segments, side by side, after a first
//           kernel has summed up what each segment adds to the state
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string_view>

#include "kernels/based/prefill_sm90.h"
#include "kernels/common/prefill.h"

namespace based {

inline constexpr std::string_view variant_whole = "whole";
inline constexpr std::string_view variant_split = "split";
inline constexpr std::array prefill_variants = {variant_whole, variant_split};

inline constexpr std::int64_t max_seqlen =
    std::numeric_limits<std::int32_t>::max() - sm90::chunk_tokens;
inline constexpr std::int64_t max_ctas = std::numeric_limits<std::int32_t>::max();

constexpr std::int64_t chunks_of(const prefill_shape& shape) {
  return (shape.seqlen - 1) / sm90::chunk_tokens + 1;
}

/// Segments that fill the card with two CTAs a multiprocessor, each of enough chunks to be worth
/// its share of the state; 1: the sequence stays whole.
constexpr int fitting_segments(const prefill_shape& shape, int multiprocessors) {
  constexpr int ctas_per_multiprocessor = 2;
  constexpr std::int64_t min_chunks = 4;
  const std::int64_t by_card = ctas_per_multiprocessor * multiprocessors / shape.batch_heads();
  const std::int64_t by_length = chunks_of(shape) / min_chunks;
  return static_cast<int>(std::max<std::int64_t>(std::min(by_card, by_length), 1));
}

/// Segments that `variant` (empty: the dispatcher's choice) cuts a sequence into.
constexpr int segments_of(const prefill_shape& shape, std::string_view variant,
                          int multiprocessors) {
  constexpr int worth_splitting = 4;  // in two, the first kernel costs what the second gains
  const int fitting = fitting_segments(shape, multiprocessors);
  if (variant == variant_whole) return 1;
  if (variant == variant_split) return std::max(fitting, 2);
  return fitting >= worth_splitting ? fitting : 1;
}

}  // namespace based
