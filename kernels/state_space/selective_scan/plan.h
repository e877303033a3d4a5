// How the selective scan on mma.sync goes about a problem: into how many segments the tokens are
// cut, and what that is expected to take. Host code that needs no CUDA.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "kernels/core/card.h"
#include "kernels/core/variants.h"
#include "kernels/state_space/selective_scan.h"

namespace based::scan {

struct scan_plan {
  int segments = 1;
  int segment_tokens = 0;  ///< a multiple of a chunk

  /// For a row's label.
  std::string label() const { return segments == 1 ? "" : "in " + std::to_string(segments); }
};

using scan_rule = variant_rule<selective_scan, card, scan_plan>;

/// "whole": tokens in order, one pass. "segments": cut into segments, which are scanned twice.
std::span<const scan_rule> scan_rules();

/// CTAs of one segment of all sequences, and the channels of each.
inline constexpr int tile_channels = 128;
std::int64_t channel_tiles(const selective_scan_problem& problem);

/// The end states and the sums of dt of all segments.
std::size_t workspace_bytes(const selective_scan_problem& problem, const scan_plan& plan);
/// With the states and channels that pad tiles, and both passes.
double executed_flops(const selective_scan_problem& problem, const scan_plan& plan);

}  // namespace based::scan
