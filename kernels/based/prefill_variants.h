// The variants of the Based prefill: which there are, what each cannot do, how each would go about
// a problem, and what that is expected to take. Host-includable, and no launch in it.
//
//   whole      on Hopper; a CTA walks through a head's whole sequence
//   split      on Hopper, heads too few to fill the card: each sequence in segments, side by side,
//              after a first kernel has summed up what each segment adds to the state
//   recompute  likewise, in at most five segments, each of which sums up by itself all that comes
//              before it
//   balanced   on Hopper, at least as many heads as multiprocessors: the first CTAs work on a first
//              part of a head only and hand its state to another CTA, so that the card is full to
//              the end
//   quadratic  on Hopper; all pairs of tokens, for sequences too short for a state between chunks
//   mma_sync   on any device since Ampere; it also gives out a state at a scale near zero, where
//              the others hold the state scaled and could not undo it
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "kernels/based/prefill.h"
#include "kernels/based/prefill_cost.h"
#include "kernels/core/card.h"
#include "kernels/core/variants.h"

namespace based {

/// What the variants ask about a card.
struct prefill_device : card {
  const prefill_constants& constants;

  bool operator==(const prefill_device& other) const {
    return card::operator==(other) && &constants == &other.constants;
  }
};

/// The constants of the card of that name; of another, those of the known card that has the most
/// similar number of multiprocessors, which the times are scaled by.
const prefill_constants& constants_of(std::string_view card, int multiprocessors);

struct prefill_plan {
  int parts = 1;  ///< segments that a head is cut into; or, balanced, places that CTAs fill

  std::string label() const { return parts > 1 ? "in " + std::to_string(parts) : ""; }
};

using prefill_rule = variant_rule<based_prefill, prefill_device, prefill_plan>;

extern const prefill_rule whole_rule, split_rule, recompute_rule, balanced_rule, quadratic_rule,
    mma_sync_rule;

/// All of them, in that order.
std::span<const prefill_rule> prefill_rules();

}  // namespace based
