// Constants of the cards that the variants of the Based prefill were timed on: what they mean,
// prefill_cost.h says. scripts/fit_dispatch writes them, from plots/data/dispatch_<device>.json.
#pragma once

#include "kernels/based/prefill_cost.h"

namespace based {

// clang-format off
inline constexpr known_card known_cards[] = {
  // begin NVIDIA H200
  {"NVIDIA H200", 132, {
    .launch_ns = 1919,
    .throttled_part = 0.08095,
    .cta_alone_ns = 1299,
    .cta_shared_ns = 1398,
    .chunk_alone_ns = 708.7,
    .chunk_shared_ns = 1348,
    .chunk_left_ns = 667.9,
    .left_in_pairs_part = 1.748,
    .left_in_pairs_chunks = 15.04,
    .chunk_traffic_ns = 687.3,
    .normalize_alone_ns = 89.1,
    .normalize_shared_ns = 216,
    .normalize_pass_ns = 80.46,
    .state_ns = 527.7,
    .state_crowded_ns = 1313,
    .hand_over_ns = 6409,
    .segment_ns = 1723,
    .pass_alone_ns = 561.6,
    .pass_shared_ns = 663.3,
    .segment_state_ns = 109.8,
    .segment_state_crowded_ns = 187.2,
    .recompute_pass_ns = 295.6,
    .recompute_sum_ns = 885.3,
    .quadratic_cta_ns = 553.3,
    .pair_ns = 263.8,
    .pair_busy_ns = 125.8,
    .quadratic_cta_busy_ns = 708.8,
    .initial_state_busy_ns = 1830,
    .final_state_chunk_ns = 561.1,
    .quadratic_hidden_part = 0.461,
    .mma_sync_cta_ns = 742.9,
    .mma_sync_alone_ns = 1499,
    .mma_sync_shared_ns = 2508,
  }},
  // end NVIDIA H200
};
// clang-format on

}  // namespace based
