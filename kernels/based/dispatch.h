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

/// The split that fills the card: one CTA a multiprocessor, or two where segments stay long.
/// Measured: a segment pays for the states of those before it, and one in two is worth less than it
/// costs.
constexpr sm90::split fitting_split(const prefill_shape& shape, std::int64_t multiprocessors) {
  constexpr std::int64_t min_chunks = 2, min_chunks_shared = 16, min_segments_shared = 3;
  constexpr std::int64_t min_chunks_piece = 4;
  const std::int64_t heads = shape.batch_heads(), chunks = chunks_of(shape);
  const std::int64_t shared = 2 * multiprocessors / heads;
  const bool share = shared >= min_segments_shared && chunks / shared >= min_chunks_shared;
  const std::int64_t segments =
      share ? shared : std::min(multiprocessors / heads, chunks / min_chunks);
  if (segments < 2) return {};

  // Whole rounds of the multiprocessors for the first kernel: halves, where wholes leave a gap.
  const auto rounds = [&](std::int64_t ctas) {
    return (ctas + multiprocessors - 1) / multiprocessors;
  };
  const std::int64_t ctas = heads * (segments - 1);
  const bool halve =
      rounds(2 * ctas) < 2 * rounds(ctas) && chunks / (2 * segments) >= min_chunks_piece;
  return {static_cast<int>(segments), halve ? 2 : 1};
}

/// The split that `variant` (empty: the dispatcher's choice) makes.
constexpr sm90::split split_of(const prefill_shape& shape, std::string_view variant,
                               std::int64_t multiprocessors) {
  if (variant == variant_whole) return {};
  const sm90::split fitting = fitting_split(shape, multiprocessors);
  if (variant == variant_split && fitting.segments == 1) return {.segments = 2};
  return fitting;
}

}  // namespace based
