// How the selective scan goes about a problem: over how many lanes a channel's states are spread,
// into how many segments the tokens are cut, and what that is expected to take. Host code that
// needs no CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/core/card.h"
#include "kernels/core/variants.h"
#include "kernels/core/warp_size.h"
#include "kernels/state_space/selective_scan.h"

namespace based::scan {

inline constexpr int states = 16;  ///< of a channel, those beyond d_state being zero
inline constexpr int chunk = 64;   ///< tokens between two loads
inline constexpr int warps = 8;    ///< of a CTA
inline constexpr int threads = warps * warp_size;

/// Channels of a CTA when `lanes` lanes share a channel.
constexpr int tile_channels(int lanes) {
  return threads / lanes;
}

/// Buffers of a CTA for chunks of u.
constexpr int u_buffers(bool has_further_terms) {
  return has_further_terms ? 2 : 3;
}

struct scan_plan {
  int lanes = 1;  ///< that share a channel
  int segments = 1;
  int segment_tokens = 0;  ///< a multiple of a chunk

  /// For a row's label.
  std::string label() const { return segments == 1 ? "" : "in " + std::to_string(segments); }
};

using scan_rule = variant_rule<selective_scan, card, scan_plan>;

/// "one_lane", "two_lanes", "four_lanes": tokens in order, a channel's states in so many lanes, of
/// which more suit fewer channels. "segments": the tokens cut into segments that are scanned twice.
std::span<const scan_rule> scan_rules();

/// CTAs of one segment of one sequence.
std::int64_t channel_tiles(const selective_scan_problem& problem, const scan_plan& plan);

/// The end states and the sums of dt of all segments.
std::size_t workspace_bytes(const selective_scan_problem& problem, const scan_plan& plan);
/// With the states and channels that pad tiles, and both passes.
double executed_flops(const selective_scan_problem& problem, const scan_plan& plan);

}  // namespace based::scan
