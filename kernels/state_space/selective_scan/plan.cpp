#include "kernels/state_space/selective_scan/plan.h"

#include <algorithm>
#include <array>
#include <limits>

namespace based::scan {
namespace {

constexpr int chunk = 64;   // tokens
constexpr int states = 16;  // of a channel, those beyond d_state being zero

// What the time is made of; estimates from instruction counts, at an H200's clock.
constexpr double launch_us = 5;        // of a kernel, with its first loads
constexpr double token_ns = 32;        // of the four warps of a scheduler's full share
constexpr double least_token_ns = 25;  // of a warp by itself: what a token waits for the one before
constexpr double states_pass = 0.8;    // of the time of a pass that writes outputs
constexpr double combine_us = 0.15;    // for each segment, when the last one starts
constexpr int ctas_per_multiprocessor = 2;

std::int64_t ctas(const selective_scan_problem& problem, std::int64_t segments) {
  return channel_tiles(problem) * problem.batch * segments;
}

/// CTAs that share a multiprocessor share its time, but one alone waits for itself.
double pass_us(const selective_scan_problem& problem, const card& on, std::int64_t segments,
               std::int64_t tokens) {
  const std::int64_t all = ctas(problem, segments);
  const std::int64_t slots = std::int64_t{on.multiprocessors} * ctas_per_multiprocessor;
  const auto rounds = static_cast<double>(all / slots);
  const double last = all % slots > on.multiprocessors ? token_ns
                      : all % slots > 0                ? least_token_ns
                                                       : 0;
  return (rounds * token_ns + last) * 1e-3 * static_cast<double>(tokens);
}

unsupported_reason unsupported(const selective_scan_problem& problem, const card& on) {
  constexpr std::int64_t longest = std::int64_t{1} << 30;
  if (on.major < 8) return "needs a GPU of compute capability 8.0 or later";
  if (problem.d_state > states) return "has registers for 16 states, not more";
  if (problem.seqlen > longest || problem.d_inner > longest ||
      ctas(problem, (problem.seqlen + chunk - 1) / chunk) > std::numeric_limits<int>::max()) {
    return "more tokens or channels than 32-bit numbers count";
  }
  return std::nullopt;
}

scan_rule::planned plan_whole(const selective_scan_problem& problem, const card& on) {
  return {{.segments = 1, .segment_tokens = static_cast<int>(problem.seqlen)},
          1e3 * (launch_us + pass_us(problem, on, 1, problem.seqlen))};
}

unsupported_reason unsupported_in_segments(const selective_scan_problem& problem, const card& on) {
  if (problem.seqlen <= chunk) return "has but one segment";
  return unsupported(problem, on);
}

scan_rule::planned plan_segments(const selective_scan_problem& problem, const card& on) {
  constexpr std::int64_t most_segments = 64;
  scan_rule::planned best = {{}, std::numeric_limits<double>::infinity()};
  const std::int64_t chunks = (problem.seqlen + chunk - 1) / chunk;
  for (std::int64_t wanted = 2; wanted <= std::min(chunks, most_segments); ++wanted) {
    const std::int64_t tokens = (chunks + wanted - 1) / wanted * chunk;
    const std::int64_t segments = (problem.seqlen + tokens - 1) / tokens;
    const double us = 2 * launch_us + combine_us * static_cast<double>(segments) +
                      states_pass * pass_us(problem, on, segments - 1, tokens) +
                      pass_us(problem, on, segments, tokens);
    if (1e3 * us < best.ns) {
      best = {{.segments = static_cast<int>(segments), .segment_tokens = static_cast<int>(tokens)},
              1e3 * us};
    }
  }
  return best;
}

const std::array rules = {
    scan_rule{"whole", unsupported, plan_whole},
    scan_rule{"segments", unsupported_in_segments, plan_segments},
};

}  // namespace

std::span<const scan_rule> scan_rules() {
  return rules;
}

std::int64_t channel_tiles(const selective_scan_problem& problem) {
  return problem.groups * ((problem.group_channels() + tile_channels - 1) / tile_channels);
}

std::size_t workspace_bytes(const selective_scan_problem& problem, const scan_plan& plan) {
  if (plan.segments == 1) return 0;
  return static_cast<std::size_t>(problem.rows() * plan.segments * (problem.d_state + 1)) *
         sizeof(float);
}

double executed_flops(const selective_scan_problem& problem, const scan_plan& plan) {
  scan_channels padded = problem;
  padded.d_inner = channel_tiles(problem) * tile_channels;
  padded.d_state = states;
  const std::int64_t tokens = (problem.seqlen + chunk - 1) / chunk * chunk;
  // Products count once, however many of their elements are used.
  constexpr double update = 5.0 / 7;  // without the product with C
  const double whole = scan_flops(padded, tokens);
  return plan.segments == 1 ? whole : whole * (1 + update * (plan.segments - 1) / plan.segments);
}

}  // namespace based::scan
