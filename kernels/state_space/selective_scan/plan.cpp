#include "kernels/state_space/selective_scan/plan.h"

#include <algorithm>
#include <array>
#include <limits>

namespace based::scan {
namespace {

/// A number of lanes a channel: what a token takes a multiprocessor.
struct lanes_cost {
  int lanes;
  int resident;        ///< CTAs that it holds
  double alone_ns;     ///< one CTA: its warps wait for the token before
  double together_ns;  ///< as many CTAs as it holds
};
// Measured on an H200 (DESIGN_LOG.md).
constexpr std::array costs = {lanes_cost{1, 1, 175, 175}, lanes_cost{2, 2, 101, 187},
                              lanes_cost{4, 2, 63, 112}};
constexpr std::int64_t most_segments = 64;
constexpr double launch_us = 5;      // of a kernel, with its first loads
constexpr double states_pass = 0.8;  // of the time of a pass that writes outputs
constexpr double combine_us = 0.15;  // for each segment, when the last one starts

const lanes_cost& cost_of(int lanes) {
  return *std::ranges::find(costs, lanes, &lanes_cost::lanes);
}

/// Bytes of shared memory that a CTA may have: all but 1 KB of a multiprocessor's.
constexpr std::int64_t shared_limit(const card& on) {
  constexpr std::int64_t kib = 1024;
  if (on.major == 9 || on.major == 10) return 227 * kib;
  return on.major == 8 && (on.minor == 0 || on.minor == 7) ? 163 * kib : 99 * kib;
}

/// What a CTA keeps of its channels: three chunks of B and C, two of delta, those of u, and two of
/// z where y has further terms.
std::int64_t shared_bytes(const selective_scan_problem& problem, int lanes) {
  constexpr std::int64_t barrier_bytes = 16;
  const bool has_further_terms = problem.skip || problem.gate;
  const std::int64_t rows = 2 + u_buffers(has_further_terms) + (has_further_terms ? 2 : 0);
  return rows * tile_channels(lanes) * chunk * 2 + 3 * 2 * states * chunk * 4 + barrier_bytes;
}

bool fits(const selective_scan_problem& problem, const card& on, int lanes) {
  return shared_bytes(problem, lanes) <= shared_limit(on);
}

double pass_us(const selective_scan_problem& problem, const card& on, const scan_plan& plan,
               std::int64_t segments, std::int64_t tokens) {
  const lanes_cost& cost = cost_of(plan.lanes);
  const std::int64_t ctas = channel_tiles(problem, plan) * problem.batch * segments;
  const std::int64_t resident = std::clamp<std::int64_t>(
      shared_limit(on) / shared_bytes(problem, plan.lanes), 1, cost.resident);
  const std::int64_t slots = on.multiprocessors * resident;
  const std::int64_t last = ctas % slots;
  const double full_ns = resident == 1 ? cost.alone_ns : cost.together_ns;
  const double last_ns = last == 0 ? 0 : last <= on.multiprocessors ? cost.alone_ns : full_ns;
  const double ns = static_cast<double>(ctas / slots) * full_ns + last_ns;
  return ns * 1e-3 * static_cast<double>(tokens);
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
unsupported_reason unsupported_in_lanes(const selective_scan_problem& problem, const card& on) {
  if (!fits(problem, on, Lanes)) return "needs more shared memory than this card has";
  return unsupported(problem, on);
}

template <int Lanes>
scan_rule::planned plan_whole(const selective_scan_problem& problem, const card& on) {
  const scan_plan plan = {.lanes = Lanes, .segment_tokens = static_cast<int>(problem.seqlen)};
  return {plan, 1e3 * (launch_us + pass_us(problem, on, plan, 1, problem.seqlen))};
}

unsupported_reason unsupported_in_segments(const selective_scan_problem& problem, const card& on) {
  if (problem.seqlen <= chunk) return "has but one segment";
  return unsupported(problem, on);
}

scan_rule::planned plan_segments(const selective_scan_problem& problem, const card& on) {
  scan_rule::planned best = {{}, std::numeric_limits<double>::infinity()};
  const std::int64_t chunks = (problem.seqlen + chunk - 1) / chunk;
  for (const lanes_cost& cost : costs) {
    if (!fits(problem, on, cost.lanes)) continue;
    for (std::int64_t wanted = 2; wanted <= std::min(chunks, most_segments); ++wanted) {
      const std::int64_t tokens = (chunks + wanted - 1) / wanted * chunk;
      const std::int64_t segments = (problem.seqlen + tokens - 1) / tokens;
      const scan_plan plan = {.lanes = cost.lanes,
                              .segments = static_cast<int>(segments),
                              .segment_tokens = static_cast<int>(tokens)};
      const double us = 2 * launch_us + combine_us * static_cast<double>(segments) +
                        states_pass * pass_us(problem, on, plan, segments - 1, tokens) +
                        pass_us(problem, on, plan, segments, tokens);
      if (1e3 * us < best.ns) best = {plan, 1e3 * us};
    }
  }
  return best;
}

const std::array rules = {
    scan_rule{"one_lane", unsupported_in_lanes<1>, plan_whole<1>},
    scan_rule{"two_lanes", unsupported_in_lanes<2>, plan_whole<2>},
    scan_rule{"four_lanes", unsupported_in_lanes<4>, plan_whole<4>},
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
