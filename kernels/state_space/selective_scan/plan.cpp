#include "kernels/state_space/selective_scan/plan.h"

#include <algorithm>
#include <array>
#include <limits>

namespace based::scan {
namespace {

/// What a token takes on a multiprocessor, for one number of lanes a channel.
struct lanes_cost {
  double alone_ns;     ///< one CTA: its warps wait for the token before
  double together_ns;  ///< as many CTAs as it holds
};
// Measured on an H200 for four lanes; for two lanes assumed, as their warps would share it evenly
// (DESIGN_LOG.md).
constexpr lanes_cost two_lanes = {168, 168};
constexpr lanes_cost four_lanes = {70, 117};
constexpr std::int64_t most_segments = 64;
constexpr double launch_us = 5;      // of a kernel, with its first loads
constexpr double states_pass = 0.8;  // of the time of a pass that writes outputs
constexpr double combine_us = 0.15;  // for each segment, when the last one starts

double pass_us(const selective_scan_problem& problem, const card& on, const scan_plan& plan,
               std::int64_t segments, std::int64_t tokens) {
  const lanes_cost& cost = plan.lanes == 2 ? two_lanes : four_lanes;
  const int resident = resident_threads / (warps(plan.lanes) * warp_size);
  const std::int64_t ctas = channel_tiles(problem, plan) * problem.batch * segments;
  const std::int64_t slots = std::int64_t{on.multiprocessors} * resident;
  const std::int64_t last = ctas % slots;
  const double last_ns = last == 0                    ? 0
                         : last <= on.multiprocessors ? cost.alone_ns
                                                      : cost.together_ns;
  const double ns = static_cast<double>(ctas / slots) * cost.together_ns + last_ns;
  return ns * 1e-3 * static_cast<double>(tokens);
}

/// Whether a CTA of two lanes a channel, which takes 148 KB of shared memory, fits.
bool has_large_shared_memory(const card& on) {
  return (on.major == 8 && (on.minor == 0 || on.minor == 7)) || on.major == 9 || on.major == 10;
}

unsupported_reason unsupported(const selective_scan_problem& problem, const card& on) {
  constexpr std::int64_t longest = std::int64_t{1} << 30;
  if (on.major < 8) return "needs a GPU of compute capability 8.0 or later";
  if (problem.d_state > states) return "has registers for 16 states, not more";
  if (problem.seqlen > longest || problem.d_inner > longest ||
      problem.batch > std::numeric_limits<int>::max() /
                          (channel_tiles(problem, {.lanes = 4}) * most_segments)) {
    return "more tokens or channels than 32-bit numbers count";
  }
  return std::nullopt;
}

template <int Lanes>
scan_rule::planned plan_whole(const selective_scan_problem& problem, const card& on) {
  const scan_plan plan = {.lanes = Lanes, .segment_tokens = static_cast<int>(problem.seqlen)};
  return {plan, 1e3 * (launch_us + pass_us(problem, on, plan, 1, problem.seqlen))};
}

unsupported_reason unsupported_in_two_lanes(const selective_scan_problem& problem, const card& on) {
  if (!has_large_shared_memory(on)) return "needs 148 KB of shared memory";
  return unsupported(problem, on);
}

unsupported_reason unsupported_in_segments(const selective_scan_problem& problem, const card& on) {
  if (problem.seqlen <= chunk) return "has but one segment";
  return unsupported(problem, on);
}

scan_rule::planned plan_segments(const selective_scan_problem& problem, const card& on) {
  scan_rule::planned best = {{}, std::numeric_limits<double>::infinity()};
  const std::int64_t chunks = (problem.seqlen + chunk - 1) / chunk;
  for (std::int64_t wanted = 2; wanted <= std::min(chunks, most_segments); ++wanted) {
    const std::int64_t tokens = (chunks + wanted - 1) / wanted * chunk;
    const std::int64_t segments = (problem.seqlen + tokens - 1) / tokens;
    const scan_plan plan = {.lanes = has_large_shared_memory(on) ? 2 : 4,
                            .segments = static_cast<int>(segments),
                            .segment_tokens = static_cast<int>(tokens)};
    const double us = 2 * launch_us + combine_us * static_cast<double>(segments) +
                      states_pass * pass_us(problem, on, plan, segments - 1, tokens) +
                      pass_us(problem, on, plan, segments, tokens);
    if (1e3 * us < best.ns) best = {plan, 1e3 * us};
  }
  return best;
}

const std::array rules = {
    scan_rule{"two_lanes", unsupported_in_two_lanes, plan_whole<2>},
    scan_rule{"four_lanes", unsupported, plan_whole<4>},
    scan_rule{"segments", unsupported_in_segments, plan_segments},
};

}  // namespace

std::span<const scan_rule> scan_rules() {
  return rules;
}

std::int64_t channel_tiles(const selective_scan_problem& problem, const scan_plan& plan) {
  const std::int64_t tile = tile_channels(plan.lanes);
  return problem.groups * ((problem.group_channels() + tile - 1) / tile);
}

std::size_t workspace_bytes(const selective_scan_problem& problem, const scan_plan& plan) {
  if (plan.segments == 1) return 0;
  return static_cast<std::size_t>(problem.rows() * plan.segments * (problem.d_state + 1)) *
         sizeof(float);
}

double executed_flops(const selective_scan_problem& problem, const scan_plan& plan) {
  scan_channels padded = problem;
  padded.d_inner = channel_tiles(problem, plan) * tile_channels(plan.lanes);
  padded.d_state = states;
  const std::int64_t tokens = (problem.seqlen + chunk - 1) / chunk * chunk;
  constexpr double update = 5.0 / 7;  // without the product with C
  const double whole = scan_flops(padded, tokens);
  return plan.segments == 1 ? whole : whole * (1 + update * (plan.segments - 1) / plan.segments);
}

}  // namespace based::scan
