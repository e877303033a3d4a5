// Constants of the cards that the variants of the Based prefill were timed on: what they mean,
// prefill_cost.h says. scripts/fit_dispatch writes them, from plots/data/dispatch_<device>.json.
#pragma once

#include "kernels/based/prefill_cost.h"

namespace based {

// clang-format off
inline constexpr known_card known_cards[] = {
  // begin NVIDIA H200
  {"NVIDIA H200", 132, {
    .launch_ns = 1934,
    .throttled_part = 0.07942,
    .cta_alone_ns = 1281,
    .cta_shared_ns = 1357,
    .chunk_alone_ns = 708.7,
    .chunk_shared_ns = 1350,
    .chunk_left_ns = 643.9,
    .left_in_pairs_part = 1.703,
    .left_in_pairs_chunks = 7.999,
    .chunk_traffic_ns = 687.7,
    .normalize_alone_ns = 89.25,
    .normalize_shared_ns = 216.4,
    .normalize_pass_ns = 80.2,
    .state_ns = 529.1,
    .state_crowded_ns = 1315,
    .hand_over_ns = 6446,
    .segment_ns = 1721,
    .pass_alone_ns = 562.4,
    .pass_shared_ns = 663,
    .segment_state_ns = 109.7,
    .segment_state_crowded_ns = 187.8,
    .recompute_pass_ns = 296.1,
    .recompute_sum_ns = 887.3,
    .quadratic_cta_ns = 538,
    .pair_ns = 263.9,
    .pair_busy_ns = 125.9,
    .quadratic_cta_busy_ns = 707.6,
    .initial_state_busy_ns = 1826,
    .final_state_chunk_ns = 480.4,
    .quadratic_hidden_part = 0.4621,
    .mma_sync_cta_ns = 706.3,
    .mma_sync_alone_ns = 1500,
    .mma_sync_shared_ns = 2512,
  }},
  // end NVIDIA H200
};
// clang-format on

}  // namespace based
