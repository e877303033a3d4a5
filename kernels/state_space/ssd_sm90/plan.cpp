#include "kernels/state_space/ssd_sm90/plan.h"

#include <algorithm>
#include <array>
#include <limits>

namespace based::ssd_sm90 {
namespace {

constexpr int chunk_tokens = 64;
constexpr int slice_dim = 64;
constexpr int cta_state_columns = 512;  ///< of the states that a CTA keeps

/// What an H200 takes, microseconds: fitted to plots/data/ssd_segments_h200.json (DESIGN_LOG.md).
constexpr double launch_us = 6.96;          ///< of the grid, its first loads and its last stores
constexpr double split_us = 2.83;           ///< two more grids
constexpr double segment_us = 0.074;        ///< that the pass goes through
constexpr double pass_megabyte_us = 0.405;  ///< that the pass reads and writes

/// A chunk of a CTA: by itself, and with one on each multiprocessor, in proportion between.
struct chunk_cost {
  double alone, crowded;
  double us(std::int64_t ctas, const card& on) const {
    const double busy = std::min(1.0, static_cast<double>(ctas) / on.multiprocessors);
    return alone + (crowded - alone) * busy;
  }
};
struct chunk_costs {
  chunk_cost whole, states;  ///< with its outputs, or of the state only
};
constexpr chunk_costs chunks_of_128 = {{2.968, 3.219}, {1.03, 1.441}};
constexpr chunk_costs chunks_of_256 = {{2.174, 2.378}, {1.061, 1.0}};

std::int64_t chunks_of(const ssd_problem& problem) {
  return (problem.seqlen - 1) / chunk_tokens + 1;
}

double waves(std::int64_t ctas, const card& on) {
  return static_cast<double>((ctas + on.multiprocessors - 1) / on.multiprocessors);
}

std::int64_t longest_segment(const ssd_problem& problem, int segments) {
  return (chunks_of(problem) + segments - 1) / segments;
}

unsupported_reason unsupported(const ssd_problem& problem, const card& on) {
  if (!on.is_hopper()) return "needs a Hopper GPU (compute capability 9.0)";
  if (problem.state_dim == 64) return "state dimensions 128 and 256 only";
  constexpr std::int64_t longest = std::numeric_limits<int>::max() / 2;
  if (problem.seqlen > longest ||
      problem.batch * problem.groups > longest / slices_of_group(problem)) {
    return "more tokens or heads than 32-bit numbers count";
  }
  return std::nullopt;
}

unsupported_reason unsupported_split(const ssd_problem& problem, const card& on) {
  constexpr std::int64_t most_slices = 65535;  // of a grid's second dimension
  if (auto reason = unsupported(problem, on)) return reason;
  if (chunks_of(problem) < 2) return "a sequence of one chunk cannot be split";
  if (problem.batch * problem.groups * slices_of_group(problem) > most_slices) {
    return "more heads than a grid has room for";
  }
  return std::nullopt;
}

ssd_rule::planned plan_whole(const ssd_problem& problem, const card& on) {
  return {{1}, 1000 * expected_us(problem, on, 1)};
}

ssd_rule::planned plan_split(const ssd_problem& problem, const card& on) {
  constexpr int most_segments = 64;
  ssd_rule::planned best = {{2}, std::numeric_limits<double>::infinity()};
  const auto most = static_cast<int>(std::min<std::int64_t>(chunks_of(problem), most_segments));
  for (int segments = 2; segments <= most; ++segments) {
    const double ns = 1000 * expected_us(problem, on, segments);
    if (ns < best.ns) best = {{segments}, ns};
  }
  return best;
}

const std::array rules = {ssd_rule{"whole", unsupported, plan_whole},
                          ssd_rule{"split", unsupported_split, plan_split}};

}  // namespace

std::span<const ssd_rule> ssd_rules() {
  return rules;
}

double expected_us(const ssd_problem& problem, const card& on, int segments) {
  const chunk_costs& costs = problem.state_dim == 128 ? chunks_of_128 : chunks_of_256;
  const auto rounds = [&](int of_segments, const chunk_cost& cost) {
    const std::int64_t ctas = blocks_of_segment(problem) * of_segments;
    return waves(ctas, on) * static_cast<double>(longest_segment(problem, segments)) *
           cost.us(ctas, on);
  };
  const double us = launch_us + rounds(segments, costs.whole);
  if (segments == 1) return us;
  const double megabytes = 1e-6 * 2 * static_cast<double>(workspace_bytes(problem, {segments}));
  return us + split_us + rounds(segments - 1, costs.states) + segment_us * segments +
         pass_megabyte_us * megabytes;
}

std::int64_t slices_of_group(const ssd_problem& problem) {
  return problem.heads / problem.groups * (problem.head_dim / slice_dim);
}

std::int64_t blocks_of_segment(const ssd_problem& problem) {
  const int slices_of_cta = cta_state_columns / problem.state_dim;
  const std::int64_t blocks = (slices_of_group(problem) + slices_of_cta - 1) / slices_of_cta;
  return problem.batch * problem.groups * blocks;
}

std::size_t workspace_bytes(const ssd_problem& problem, const ssd_plan& plan) {
  const std::size_t partials =
      problem.batch * problem.groups * slices_of_group(problem) * (plan.segments - 1);
  const std::size_t floats = slice_dim * problem.state_dim + 1;  // a state and its decay
  return partials * floats * sizeof(float);
}

double executed_flops(const ssd_problem& problem, const ssd_plan& plan) {
  const int slices = cta_state_columns / problem.state_dim;
  const auto product = [](int m, int n, int k) { return 2.0 * m * n * k; };
  const double scores = product(chunk_tokens, chunk_tokens, problem.state_dim);
  const double state = product(slice_dim, problem.state_dim, chunk_tokens);  // S C^T, and X^T B
  const double pairs = product(slice_dim, chunk_tokens, chunk_tokens);
  const auto chunks = static_cast<double>(chunks_of(problem));
  const double passed = chunks * (plan.segments - 1) / plan.segments;  // for their states only
  return static_cast<double>(blocks_of_segment(problem)) *
         (chunks * (scores + slices * (2 * state + pairs)) + passed * slices * state);
}

}  // namespace based::ssd_sm90
