// How the Hopper SSD would go about a problem: into how many segments sequences are cut, and what
// that is expected to take. A host compiler can include this header; it launches nothing.
//
//   whole   a CTA goes through the whole sequence of a few slices of heads
//   split   for few heads: CTAs add up the states of all segments of a sequence at once, a pass
//           turns them into the states before each segment, and CTAs go through all segments
#pragma once

#include <span>
#include <string>

#include "kernels/core/card.h"
#include "kernels/core/variants.h"
#include "kernels/state_space/ssd.h"

namespace based::ssd_sm90 {

struct ssd_plan {
  int segments;

  std::string label() const { return segments == 1 ? "" : "in " + std::to_string(segments); }
};

using ssd_rule = variant_rule<ssd, card, ssd_plan>;

/// In the order of the list above.
std::span<const ssd_rule> ssd_rules();

/// Slices of 64 rows of a state of the heads that share B and C.
std::int64_t slices_of_group(const ssd_problem& problem);
/// CTAs that a segment of all sequences takes.
std::int64_t blocks_of_segment(const ssd_problem& problem);

/// What a problem in so many segments is expected to take: microseconds, cold, without options.
double expected_us(const ssd_problem& problem, const card& on, int segments);

std::size_t workspace_bytes(const ssd_problem& problem, const ssd_plan& plan);

/// Floating-point operations of the tensor cores' products, padding included.
double executed_flops(const ssd_problem& problem, const ssd_plan& plan);

}  // namespace based::ssd_sm90
