// Constants of the cards that the variants of the Based prefill were timed on: what they mean,
// prefill_cost.h says. Written by scripts/fit_dispatch.
#pragma once

#include "kernels/based/prefill_cost.h"

namespace based {

// clang-format off
inline constexpr known_card known_cards[] = {
  // begin NVIDIA H200: fitted to plots/data/dispatch_h200.json
  {"NVIDIA H200", 132, {
    .launch_ns = 1200,
    .throttled_part = 0.07,
    .cta_alone_ns = 1700,
    .cta_shared_ns = 1600,
    .chunk_alone_ns = 680,
    .chunk_shared_ns = 1390,
    .chunk_left_ns = 700,
    .left_in_pairs_part = 0.6,
    .chunk_traffic_ns = 730,
    .normalize_alone_ns = 90,
    .normalize_shared_ns = 130,
    .normalize_pass_ns = 30,
    .state_ns = 700,
    .state_crowded_ns = 400,
    .hand_over_ns = 2000,
    .segment_ns = 1500,
    .pass_alone_ns = 450,
    .pass_shared_ns = 600,
    .segment_state_ns = 150,
    .recompute_pass_ns = 310,
    .recompute_sum_ns = 700,
    .quadratic_cta_ns = 1200,
    .pair_ns = 288,
    .pair_busy_ns = 80,
    .quadratic_cta_busy_ns = 600,
    .initial_state_busy_ns = 800,
    .final_state_chunk_ns = 480,
    .quadratic_hidden_part = 0.3,
    .mma_sync_cta_ns = 2500,
    .mma_sync_alone_ns = 1450,
    .mma_sync_shared_ns = 2500,
  }},
  // end NVIDIA H200
};
// clang-format on

}  // namespace based
