// How the Hopper attention would go about a problem: into blocks of how many queries heads are cut,
// in which order the blocks are worked on, and what that is expected to take. A host compiler can
// include this header; it launches nothing.
//
//   blocks_256   head dimension 64; four warpgroups of 64 queries share a CTA's keys and values
//   blocks_192   three warpgroups: fewer cycles or copies for as many scores, but where sequences
//                are short or heads few, more of a card stands idle at the end
//   blocks_128   head dimension 128; two warpgroups
//   split_keys   for few queries or short sequences: a CTA has one block of 64 queries, whose keys
//                its four warpgroups split
//   band         for short windows: a CTA walks along heads in steps of 64 queries, and fetches
//                each tile of keys once
#pragma once

#include <span>
#include <string>

#include "kernels/attention/attention.h"
#include "kernels/attention/forward_sm90/schedule.h"
#include "kernels/core/card.h"
#include "kernels/core/variants.h"

namespace based::attention_sm90 {

struct forward_plan {
  int block_queries;
  block_order order;
  int ctas;
  bool by_tickets;  ///< CTAs take blocks as they become free, else each knows its own
  bool is_band = false;

  bool has_counters() const { return by_tickets || order.dealt > 0; }
  std::string label() const {
    return by_tickets ? "by tickets" : order.dealt > 0 ? "dealt out" : "";
  }
};

using forward_rule = variant_rule<attention, card, forward_plan>;

/// In the order of the list above.
std::span<const forward_rule> forward_rules();

/// The shape of the problem's heads.
head_shape shape_of(const attention_problem& problem);

/// Tiles of 64 queries and 64 keys that warpgroups work on in block `block` of a head.
std::int64_t tiles_of_block(const head_shape& head, int block_queries, int block);

/// Floating-point operations of the tensor cores' products, masked parts of tiles and columns that
/// only add up included; blocks that are worked on twice count once.
double executed_flops(const attention_problem& problem, const forward_plan& plan);

}  // namespace based::attention_sm90
