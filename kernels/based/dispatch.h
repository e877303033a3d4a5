// Which variant of the Based prefill runs a shape: constexpr rules, host-includable.
//
//   whole      on Hopper; one CTA walks through a head's whole sequence
//   split      on Hopper, heads too few to fill the card: each sequence in segments, side by side,
//              after a first kernel has summed up what each segment adds to the state
//   recompute  the same in at most five segments, each of which sums up by itself all that comes
//              before it
//   balanced   on Hopper, more heads than multiprocessors: of some of them a CTA works on a first
//              part only and hands its state to another, so that the card is full to the end
//   quadratic  on Hopper, sequences too short for a state between chunks to pay
//   mma_sync   on any device: prefill_sm80.h; for a final state at a scale near zero too, which the
//              others, whose state is scaled, could not undo
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "kernels/based/prefill.h"
#include "kernels/based/prefill_sm90.h"
#include "kernels/based/quad_map.h"

namespace based {

inline constexpr std::string_view variant_whole = "whole";
inline constexpr std::string_view variant_split = "split";
inline constexpr std::string_view variant_recompute = "recompute";
inline constexpr std::string_view variant_balanced = "balanced";
inline constexpr std::string_view variant_mma_sync = "mma_sync";
inline constexpr std::string_view variant_quadratic = "quadratic";
inline constexpr std::array prefill_variants = {variant_whole,     variant_split,
                                                variant_recompute, variant_balanced,
                                                variant_quadratic, variant_mma_sync};

inline constexpr std::int64_t max_seqlen =
    std::numeric_limits<std::int32_t>::max() - sm90::chunk_tokens;
inline constexpr std::int64_t max_ctas = std::numeric_limits<std::int32_t>::max();

using sm90::chunks_of;
using sm90::has_state;

/// Segments that fill the card: with one CTA a multiprocessor, or with two where segments stay
/// long. Measured: each segment pays for the states of those before it, and a few chunks of one for
/// the first kernel.
constexpr int fitting_segments(const prefill_shape& shape, std::int64_t multiprocessors) {
  constexpr std::int64_t min_chunks_to_split = 8, min_chunks = 2;
  constexpr std::int64_t min_chunks_shared = 16, min_segments_shared = 3;
  const std::int64_t heads = shape.batch_heads(), chunks = chunks_of(shape);
  if (chunks < min_chunks_to_split) return 1;
  const std::int64_t shared = 2 * multiprocessors / heads;
  const bool share = shared >= min_segments_shared && chunks / shared >= min_chunks_shared;
  const std::int64_t alone = std::min(multiprocessors / heads, chunks / min_chunks);
  return static_cast<int>(std::max<std::int64_t>(share ? shared : alone, 1));
}

/// Segments that `variant` (empty: the dispatcher's choice) cuts a sequence into on Hopper.
constexpr int segments_of(const prefill_shape& shape, std::string_view variant,
                          std::int64_t multiprocessors) {
  if (variant == variant_whole) return 1;
  const int fitting = fitting_segments(shape, multiprocessors);
  return variant == variant_split ? std::max(fitting, 2) : fitting;
}

/// Whether the quadratic form is faster. Measured: the more heads there are, the better a recurrent
/// CTA or two a head fill the card. Each of its CTAs reads an initial state by itself: that is
/// worth one round of them, two a multiprocessor. A final state takes a CTA more a head.
/// Normalisation costs it less than the others.
constexpr bool prefers_quadratic(const prefill_problem& problem, std::int64_t multiprocessors) {
  const std::int64_t heads = problem.shape.batch_heads(), chunks = chunks_of(problem.shape);
  const prefill_options& options = problem.options;
  if (has_state(options) && 2 * heads > multiprocessors) {
    const int longest = 3 * heads <= 2 * multiprocessors ? 2 : 1;
    return !options.initial_state && heads <= multiprocessors && chunks <= longest;
  }
  if (options.initial_state) {
    const int longest = 16 * heads <= multiprocessors ? 10 : 8 * heads <= multiprocessors ? 8 : 7;
    return chunks <= longest && heads * (chunks + options.final_state) <= 2 * multiprocessors;
  }
  if (options.final_state) return chunks <= (4 * heads <= multiprocessors ? 10 : 6);
  if (2 * heads <= multiprocessors) {
    const std::int64_t longest = std::min<std::int64_t>(20, 5 + 4 * multiprocessors / (3 * heads));
    return options.normalize ? 7 * chunks <= 10 * longest : chunks <= longest;
  }
  if (3 * heads <= 2 * multiprocessors) return chunks <= 8;
  if (options.normalize && heads <= multiprocessors) return heads * chunks <= 5 * multiprocessors;
  if (heads <= multiprocessors) return chunks <= 4;
  return chunks <= 2;
}

/// Segments of `recompute`: one CTA a multiprocessor.
constexpr int recomputing_segments(const prefill_shape& shape, std::int64_t multiprocessors) {
  const std::int64_t most =
      std::min<std::int64_t>(sm90::max_recomputing_segments, chunks_of(shape) / 2);
  return static_cast<int>(
      std::max<std::int64_t>(std::min(multiprocessors / shape.batch_heads(), most), 2));
}

/// Whether `recompute` is faster than `split` and `whole`. Measured: where fewer than five segments
/// fit with two CTAs a multiprocessor, and in short sequences, the longer the more heads there are;
/// normalised up to 37 chunks fewer.
constexpr bool prefers_recomputing(const prefill_problem& problem, std::int64_t multiprocessors) {
  constexpr std::int64_t min_chunks = 4, always_chunks = 12;
  const std::int64_t heads = problem.shape.batch_heads(), chunks = chunks_of(problem.shape);
  if (2 * heads > multiprocessors || chunks < min_chunks) return false;
  const std::int64_t longest = 9 * heads / 2 - (problem.options.normalize ? 89 : 52);
  return 5 * heads > 2 * multiprocessors || chunks <= std::max({always_chunks, heads, longest});
}

/// Places for CTAs that `balanced` fills: two a multiprocessor, or one where there are fewer heads;
/// 0 where there are too few for that, or sequences of one chunk, which cannot change hands.
constexpr int places_to_balance(const prefill_shape& shape, std::int64_t multiprocessors) {
  const std::int64_t heads = shape.batch_heads();
  if (heads < multiprocessors || chunks_of(shape) < 2) return 0;
  return static_cast<int>(heads < 2 * multiprocessors ? multiprocessors : 2 * multiprocessors);
}

/// Whether `balanced` is faster than whole sequences. Measured: these come in rounds of two CTAs a
/// multiprocessor, and for the heads that are left over the last one takes 3/5 of the time of a
/// full one, or nearly as long as that from half a round on. Balanced, heads take their share of a
/// round each, and all together five chunks of a round more. With an initial state and a quarter of
/// a round or more left over the last one takes 6/5 of a full one, and eight chunks are lost. With
/// one CTA a multiprocessor, a head's chunks take 9/16 of the time that those of two take side by
/// side.
constexpr bool prefers_balanced(const prefill_problem& problem, std::int64_t multiprocessors) {
  const prefill_options& options = problem.options;
  const std::int64_t heads = problem.shape.batch_heads(), chunks = chunks_of(problem.shape);
  const std::int64_t round = 2 * multiprocessors, rest = heads % round;
  if (heads <= multiprocessors || rest == 0) return false;
  if (heads < round) {
    return 9 * heads * chunks <= multiprocessors * (16 * chunks - 80);
  }
  // Against a last round that takes `percent` of a full one.
  const auto gains = [&](int percent, int lost_chunks) {
    return chunks * (percent * round / 100 - rest) > lost_chunks * round;
  };
  if (options.initial_state && 4 * rest >= round) return gains(120, 8);
  return gains(2 * rest < round ? 60 : 97, 5);
}

/// The device that a problem is dispatched for.
struct dispatch_target {
  std::int64_t multiprocessors;
  bool is_hopper;
};

/// Whether the kernel for Hopper can take the weights out of a final state again.
constexpr bool undoes_scale(const prefill_options& options) {
  const float size = options.scale < 0 ? -options.scale : options.scale;
  return !options.final_state || size >= quad::least_scale_of_state;
}

enum class prefill_kernel { recurrent, recomputing, balanced, quadratic, mma_sync };
struct dispatch_choice {
  prefill_kernel kernel;
  int segments = 1;  ///< of a head
  int places = 0;    ///< of CTAs at a time, where they are balanced
};

/// What runs `problem` on a device; nullopt where its variant is one that cannot: off Hopper, or at
/// this scale.
constexpr std::optional<dispatch_choice> dispatch(const prefill_problem& problem,
                                                  const dispatch_target& device) {
  const auto& [shape, options, variant] = problem;
  const bool hopper_can = device.is_hopper && undoes_scale(options);
  if (variant == variant_mma_sync || (variant.empty() && !hopper_can)) {
    return dispatch_choice{prefill_kernel::mma_sync};
  }
  if (!hopper_can) return std::nullopt;
  if (variant == variant_quadratic ||
      (variant.empty() && prefers_quadratic(problem, device.multiprocessors))) {
    return dispatch_choice{prefill_kernel::quadratic};
  }
  if (variant == variant_recompute ||
      (variant.empty() && prefers_recomputing(problem, device.multiprocessors))) {
    return dispatch_choice{prefill_kernel::recomputing,
                           recomputing_segments(shape, device.multiprocessors)};
  }
  if (variant == variant_balanced ||
      (variant.empty() && prefers_balanced(problem, device.multiprocessors))) {
    return dispatch_choice{.kernel = prefill_kernel::balanced,
                           .places = places_to_balance(shape, device.multiprocessors)};
  }
  return dispatch_choice{prefill_kernel::recurrent,
                         segments_of(shape, variant, device.multiprocessors)};
}

}  // namespace based
