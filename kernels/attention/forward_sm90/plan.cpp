#include "kernels/attention/forward_sm90/plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace based::attention_sm90 {
namespace {

constexpr std::string_view blocks_256 = "blocks_256";
constexpr std::string_view blocks_192 = "blocks_192";
constexpr std::string_view blocks_128 = "blocks_128";
constexpr std::string_view split_keys = "split_keys";
constexpr std::string_view band = "band";

/// What a variant costs, measured on an H200: microseconds.
struct block_costs {
  int head_dim;
  int queries;
  double tile;       ///< of 64 queries and 64 keys, of a warpgroup beside others
  double tile_step;  ///< least time from one key tile to the next, however few warpgroups work
  double block;      ///< begin and end of a block
  double streaming;  ///< factor on the whole time where only a few CTAs share a head's keys
};
constexpr std::array costs = {
    block_costs{64, 256, 0.206, 0.42, 1.9, 1}, block_costs{64, 192, 0.204, 0.42, 2.4, 1},
    block_costs{128, 192, 0.331, 0.70, 2.2, 1}, block_costs{128, 128, 0.333, 0.66, 1.9, 1.033}};
constexpr double launch_us = 8.0;  // of the grid: the first keys come from memory

const block_costs* find_costs(int head_dim, int queries) {
  const auto found = std::ranges::find_if(costs, [&](const block_costs& each) {
    return each.head_dim == head_dim && each.queries == queries;
  });
  return found == costs.end() ? nullptr : &*found;
}

int count_blocks(const attention_problem& problem, int queries) {
  return static_cast<int>((problem.seqlen + queries - 1) / queries);
}

/// The most that a CTA has to do, over the average. Runs at each call: no divisions in its loop.
double imbalance(const block_order& order, int ctas, const std::vector<std::int64_t>& tiles) {
  std::vector<std::int64_t> loads(ctas);
  std::int64_t all = 0;
  int turn = 0, step = 1;  // whose the next block is, by turns forwards and backwards
  for (int first = 0; first < order.all_heads; first += order.head_group) {
    const int heads = std::min(order.head_group, order.all_heads - first);
    for (int block = order.blocks - 1; block >= 0; --block) {
      for (int head = 0; head < heads; ++head) {
        loads[turn] += tiles[block];
        all += tiles[block];
        turn += step;
        if (turn == ctas || turn < 0) {
          step = -step;
          turn += step;
        }
      }
    }
  }
  const auto most = static_cast<double>(*std::ranges::max_element(loads));
  return all == 0 ? 1 : most * ctas / static_cast<double>(all);
}

/// Heads whose blocks are taken together: so many that several CTAs share a head's keys and values,
/// and more of them where the keys are too many for the second-level cache.
int heads_together(const attention_problem& problem, int ctas, int all_heads) {
  constexpr int fewest_sharing = 4, most_sharing = 8;
  constexpr double cache_bytes = 34e6;  // of 50
  const double head_bytes = 4.0 * static_cast<double>(problem.keys()) * problem.head_dim;
  const double in_cache =
      std::clamp(cache_bytes / head_bytes, 1.0 * ctas / most_sharing, 1.0 * ctas / fewest_sharing);
  const auto sharing = static_cast<double>(problem.heads / problem.key_heads());
  const int most = std::max(1, static_cast<int>(in_cache * sharing));
  const int groups = (all_heads + most - 1) / most;
  return (all_heads + groups - 1) / groups;  // alike, for a small last one would end late
}

struct ordered_plan {
  forward_plan plan;
  double slowdown;  ///< the time over that of CTAs that all have as much to do
};

/// Blocks that differ in length are taken longest first. Where CTAs have few, each may have its
/// own: of one head after the other, or of as many heads together as leave four CTAs to a head. Or
/// they take tickets; with many blocks a CTA they have to, for their sums would drift apart.
ordered_plan order_blocks(const attention_problem& problem, const card& on, const block_costs& cost,
                          const std::vector<std::int64_t>& tiles) {
  constexpr int rounds_without_tickets = 16, rounds_for_tickets = 3;
  const int heads = static_cast<int>(problem.heads);
  const int all_heads = static_cast<int>(problem.batch) * heads;
  const int blocks = static_cast<int>(tiles.size());
  forward_plan plan = {cost.queries, {heads, all_heads, blocks, 1}, 1, false};
  plan.ctas = std::min(on.multiprocessors, plan.order.items());
  const double rounds = static_cast<double>(plan.order.items()) / plan.ctas;
  if (!problem.causal || problem.window != 0) return {plan, std::ceil(rounds) / rounds};

  ordered_plan best = {plan, std::numeric_limits<double>::infinity()};
  const auto consider = [&](const forward_plan& other, double slowdown) {
    if (slowdown < best.slowdown) best = {other, slowdown};
  };
  if (rounds <= rounds_without_tickets) {
    consider(plan, imbalance(plan.order, plan.ctas, tiles));
    forward_plan together = plan;
    together.order.head_group = std::clamp(plan.ctas / 4, 1, all_heads);
    consider(together, cost.streaming * imbalance(together.order, plan.ctas, tiles));
  }
  if (rounds >= rounds_for_tickets) {
    forward_plan by_tickets = plan;
    by_tickets.by_tickets = true;
    by_tickets.order.head_group = heads_together(problem, plan.ctas, all_heads);
    consider(by_tickets, cost.streaming * (1 + 0.25 / rounds));
  }
  return best;
}

template <int Queries>
unsupported_reason unsupported(const attention_problem& problem, const card& on) {
  constexpr std::int64_t longest = std::int64_t{1} << 30;
  if (!on.is_hopper()) return "needs a Hopper GPU (compute capability 9.0)";
  if (Queries != group_queries && find_costs(problem.head_dim, Queries) == nullptr) {
    return "has no blocks of " + std::to_string(Queries) + " queries at head dimension " +
           std::to_string(problem.head_dim);
  }
  if (problem.seqlen > longest || problem.keys() > longest ||
      static_cast<double>(problem.batch) * static_cast<double>(problem.heads) *
              count_blocks(problem, Queries) >
          std::numeric_limits<int>::max() / 2) {
    return "more tokens or heads than 32-bit numbers count";
  }
  return std::nullopt;
}

/// What dealing out takes, measured on an H200: one more piece of a block a CTA, what is met, and
/// the counters' grid.
constexpr double dealing_us = 8;

/// Whether there are blocks enough for each CTA to have one of those that are dealt out, all alike;
/// and so few that it matters.
bool can_be_dealt(const attention_problem& problem, const forward_plan& plan) {
  constexpr std::int64_t longest = std::int64_t{1} << 24;  // 32-bit numbers count the tiles
  constexpr int most_rounds = 32;
  return !problem.causal && problem.keys() < longest && plan.order.items() > plan.ctas &&
         plan.order.items() <= most_rounds * plan.ctas;
}

template <int Queries>
forward_rule::planned make_plan(const attention_problem& problem, const card& on) {
  const head_shape head = shape_of(problem);
  std::vector<std::int64_t> tiles(count_blocks(problem, Queries));
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    tiles[i] = tiles_of_block(head, Queries, static_cast<int>(i));
  }
  const block_costs& cost = *find_costs(problem.head_dim, Queries);
  auto [plan, slowdown] = order_blocks(problem, on, cost, tiles);
  double us_of_head = 0;
  for (int i = 0; i < plan.order.blocks; ++i) {
    const int query = i * Queries;
    const int groups = std::min(Queries, head.queries - query + group_queries - 1) / group_queries;
    us_of_head += std::max(static_cast<double>(tiles[i]) * cost.tile,
                           walk_of(head, query, groups).tiles * cost.tile_step) +
                  cost.block;
  }
  const double us_of_even = us_of_head * plan.order.all_heads / plan.ctas;
  double us = us_of_even * slowdown;
  if (can_be_dealt(problem, plan) && us_of_even + dealing_us < us) {
    us = us_of_even + dealing_us;
    plan.order.dealt = plan.order.items() % plan.ctas + plan.ctas;
  }
  return {plan, 1000 * (launch_us + us)};
}

/// What splitting keys costs, measured on an H200: microseconds.
struct split_costs {
  int head_dim;
  double launch;  ///< and the first keys from memory
  double block;   ///< begin and end of a block
  double step;    ///< four tiles of 64 keys, one a warpgroup
};
constexpr double late_start = 1.4;  // of a CTA that waits for another's end
constexpr std::array costs_of_splits = {split_costs{64, 5.4, 1.2, 1.9},
                                        split_costs{128, 7.0, 0.6, 2.9}};

forward_rule::planned make_split_plan(const attention_problem& problem, const card& on) {
  constexpr int warpgroups = 4;
  const head_shape head = shape_of(problem);
  const int all_heads = static_cast<int>(problem.batch * problem.heads);
  const int blocks = count_blocks(problem, group_queries);
  const block_order order = {static_cast<int>(problem.heads), all_heads, blocks, all_heads};
  const split_costs& cost =
      *std::ranges::find(costs_of_splits, problem.head_dim, &split_costs::head_dim);
  double us_of_head = 0, longest = 0;
  for (int i = 0; i < blocks; ++i) {
    const int steps = (walk_of(head, i * group_queries).tiles + warpgroups - 1) / warpgroups;
    const double us = cost.block + steps * cost.step;
    us_of_head += us;
    longest = std::max(longest, us);
  }
  const double us_of_cta = us_of_head * all_heads / on.multiprocessors;
  const bool all_start = order.items() <= on.multiprocessors;
  const double us = cost.launch + (all_start ? longest : late_start * us_of_cta);
  return {{group_queries, order, order.items(), false}, 1000 * us};
}

unsupported_reason band_unsupported(const attention_problem& problem, const card& on) {
  if (auto reason = unsupported<group_queries>(problem, on)) return reason;
  if (!problem.causal || problem.window == 0 || problem.window > longest_band) {
    return "is for windows of at most " + std::to_string(longest_band) + " keys";
  }
  return std::nullopt;
}

/// What a walk along a band costs, measured on an H200: microseconds.
struct band_costs {
  int head_dim;
  double launch;  ///< and the first keys from memory
  double block;
};
constexpr std::array costs_of_bands = {band_costs{64, 5.0, 0.9}, band_costs{128, 5.0, 1.8}};

forward_rule::planned make_band_plan(const attention_problem& problem, const card& on) {
  const int all_heads = static_cast<int>(problem.batch * problem.heads);
  const block_order order = {static_cast<int>(problem.heads), all_heads,
                             count_blocks(problem, group_queries), all_heads};
  const int ctas = std::min(on.multiprocessors, order.items());
  const band_costs& cost =
      *std::ranges::find(costs_of_bands, problem.head_dim, &band_costs::head_dim);
  const int longest = (order.items() + ctas - 1) / ctas;
  return {{group_queries, order, ctas, false, true}, 1000 * (cost.launch + longest * cost.block)};
}

const std::array rules = {
    forward_rule{blocks_256, unsupported<256>, make_plan<256>},
    forward_rule{blocks_192, unsupported<192>, make_plan<192>},
    forward_rule{blocks_128, unsupported<128>, make_plan<128>},
    forward_rule{split_keys, unsupported<group_queries>, make_split_plan},
    forward_rule{band, band_unsupported, make_band_plan},
};

}  // namespace

std::span<const forward_rule> forward_rules() {
  return rules;
}

head_shape shape_of(const attention_problem& problem) {
  const auto keys = static_cast<int>(problem.keys());
  const bool is_limited = problem.window != 0 && problem.window < problem.keys();
  return {.queries = static_cast<int>(problem.seqlen),
          .keys = keys,
          .window = is_limited ? static_cast<int>(problem.window) : keys,
          .causal = problem.causal};
}

std::int64_t tiles_of_block(const head_shape& head, int block_queries, int block) {
  std::int64_t tiles = 0;
  const int first = block * block_queries;
  for (int query = first; query < std::min(head.queries, first + block_queries);
       query += group_queries) {
    tiles += walk_of(head, query).tiles;
  }
  return tiles;
}

double executed_flops(const attention_problem& problem, const forward_plan& plan) {
  const head_shape head = shape_of(problem);
  std::int64_t tiles = 0;
  for (int i = 0; i < plan.order.blocks; ++i) {
    tiles += plan.is_band ? band_walk(head, i * group_queries).tiles
                          : tiles_of_block(head, plan.block_queries, i);
  }
  const bool sums_by_product =
      plan.block_queries != group_queries && sums_in_products(problem.head_dim, problem.lse);
  const int sum_columns = sums_by_product ? 8 : 0;
  return 2.0 * group_queries * tile_keys * (2 * problem.head_dim + sum_columns) *
         static_cast<double>(tiles) * plan.order.all_heads;
}

}  // namespace based::attention_sm90
