// Which keys the blocks of the Hopper attention walk over, in which order they are taken, and how a
// problem is cut into them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <tuple>
#include <vector>

#include "kernels/attention/forward_sm90/plan.h"

namespace based::attention_sm90 {
namespace {

std::vector<attention_problem> problems() {
  std::vector<attention_problem> all;
  for (const std::int64_t queries : {1, 5, 63, 64, 65, 200, 300}) {
    for (const std::int64_t keys : {1, 3, 63, 64, 65, 127, 128, 200, 301}) {
      attention_problem problem = {.seqlen = queries, .kv_seqlen = keys};
      for (const std::int64_t window : {0, 1, 2, 63, 64, 65, 127, 128, 129, 200}) {
        problem.window = window;
        all.push_back(problem);
      }
      problem.window = 0;
      problem.causal = false;
      all.push_back(problem);
    }
  }
  return all;
}

/// The tile of a walk that a key is in; -1: none.
int tile_of(const tile_walk& walk, std::int64_t key) {
  for (int t = 0; t < walk.tiles; ++t) {
    const std::int64_t first = walk.first_key - t * tile_keys;
    if (key >= first && key < first + tile_keys) return t;
  }
  return -1;
}

TEST(attention_walk, covers_what_each_query_sees) {
  for (const attention_problem& problem : problems()) {
    const head_shape head = shape_of(problem);
    for (int query = 0; query < head.queries; ++query) {
      const tile_walk walk = walk_of(head, query / group_queries * group_queries);
      for (std::int64_t key = problem.first_key(query); key <= problem.last_key(query); ++key) {
        ASSERT_GE(tile_of(walk, key), 0)
            << query << " of " << head.queries << " does not meet key " << key << " of "
            << head.keys << ", window " << problem.window;
      }
    }
  }
}

TEST(attention_walk, has_clean_tiles_only_where_all_queries_see_all_keys) {
  for (const attention_problem& problem : problems()) {
    const head_shape head = shape_of(problem);
    for (int query = 0; query < head.queries; ++query) {
      const tile_walk walk = walk_of(head, query / group_queries * group_queries);
      for (int t = 1; t <= walk.clean; ++t) {
        const std::int64_t first = walk.first_key - t * tile_keys;
        ASSERT_GE(first, problem.first_key(query));
        ASSERT_LE(first + tile_keys - 1, problem.last_key(query));
      }
    }
  }
}

TEST(attention_walk, leaves_no_long_walk_without_clean_tiles) {
  const attention_problem causal = {.seqlen = 8192};
  EXPECT_EQ(walk_of(shape_of(causal), 8128).clean, 127);
  const attention_problem window = {.seqlen = 8192, .window = 1024};
  EXPECT_EQ(walk_of(shape_of(window), 8128).clean, 15);
  EXPECT_EQ(walk_of(shape_of(window), 8128).tiles, 17);
}

TEST(attention_walk, of_a_block_holds_its_warpgroups_walks) {
  for (const attention_problem& problem : problems()) {
    const head_shape head = shape_of(problem);
    const int groups = (head.queries + group_queries - 1) / group_queries;
    const tile_walk block = walk_of(head, 0, groups);
    for (int g = 0; g < groups; ++g) {
      const tile_walk own = walk_of(head, g * group_queries);
      if (own.tiles == 0) continue;
      const int skipped = head.causal ? groups - 1 - g : 0;
      ASSERT_EQ(block.first_key - skipped * tile_keys, own.first_key);
      ASSERT_LE(skipped + own.tiles, block.tiles);
    }
  }
}

TEST(attention_walk, of_a_band_meets_each_key_once_and_no_two_keys_of_a_window_at_one_column) {
  for (const attention_problem& problem : problems()) {
    if (!problem.causal || problem.window == 0 || problem.window > longest_band) continue;
    const head_shape head = shape_of(problem);
    for (int query = 0; query < head.queries; ++query) {
      const tile_walk walk = band_walk(head, query / group_queries * group_queries);
      std::set<std::int64_t> columns;  // of the diagonal tile and the one that it is merged with
      for (std::int64_t key = problem.first_key(query); key <= problem.last_key(query); ++key) {
        const int t = tile_of(walk, key);
        ASSERT_GE(t, 0) << query << " of " << head.queries << " does not meet key " << key << " of "
                        << head.keys << ", window " << problem.window;
        if (t != 0 && t != band_reach(head)) continue;
        ASSERT_TRUE(columns.insert((key - walk.first_key + 3 * tile_keys) % tile_keys).second);
      }
    }
  }
}

TEST(attention_order, deals_out_each_tile_once) {
  for (const int dealt : {7, 8, 13}) {
    constexpr int ctas = 7, tiles = 9;
    const block_order order = {
        .heads = 5, .all_heads = 5, .blocks = 4, .head_group = 1, .dealt = dealt};
    EXPECT_EQ(first_dealt_tile(order, tiles, 0, ctas), 0);
    EXPECT_EQ(first_dealt_tile(order, tiles, ctas, ctas), dealt * tiles);
    for (int cta = 0; cta < ctas; ++cta) {
      const int share =
          first_dealt_tile(order, tiles, cta + 1, ctas) - first_dealt_tile(order, tiles, cta, ctas);
      EXPECT_GE(share, tiles) << "more than two CTAs share a block";
      EXPECT_LE(share, dealt * tiles / ctas + 1);
    }
  }
}

TEST(attention_order, takes_each_block_once) {
  for (const int head_group : {1, 3, 4, 7}) {
    const block_order order = {.heads = 3, .all_heads = 7, .blocks = 5, .head_group = head_group};
    constexpr int ctas = 4;
    std::multiset<std::tuple<int, int, int>> taken;
    for (int round = 0; round * ctas < order.items(); ++round) {
      for (int cta = 0; cta < ctas; ++cta) {
        const int position = position_in_round(round, cta, ctas);
        if (position >= order.items()) continue;
        const block_item item = order.item(position);
        taken.insert({item.batch, item.head, item.block});
      }
    }
    EXPECT_EQ(taken.size(), 35u);
    for (int head = 0; head < 7; ++head) {
      for (int block = 0; block < 5; ++block) {
        EXPECT_EQ(taken.count({head / 3, head % 3, block}), 1u);
      }
    }
  }
}

std::string_view chosen(const attention_problem& problem, const card& on = h200) {
  const auto choice = choose(forward_rules(), problem, on);
  return choice.rule == nullptr ? "" : choice.rule->name;
}

TEST(attention_plan, depends_on_length_and_heads) {
  // Measured on an H200: 132 and 151 us, 442 and 502 us, 229 and 236 us.
  EXPECT_EQ(chosen({16, 16, 1024, 64, false}), "blocks_256");
  EXPECT_EQ(chosen({1, 16, 8192, 64, false}), "blocks_256");
  EXPECT_EQ(chosen({1, 16, 8192, 64, true}), "blocks_256");
  // 358 and 377 us; 11157 and 12711 us; 199 and 205 us.
  EXPECT_EQ(chosen({1, 16, 8192, 128, true}), "blocks_192");
  EXPECT_EQ(chosen({4, 16, 2048, 128, true}), "blocks_192");  // 111.7 and 115.7 us
  EXPECT_EQ(chosen({16, 16, 8192, 64, true}), "blocks_256");  // 3414 and 3456 us
  EXPECT_EQ(chosen({16, 16, 8192, 64, false}), "blocks_192");
  EXPECT_EQ(chosen({16, 16, 8192, 128, false}), "blocks_192");
  EXPECT_EQ(chosen({16, 16, 1024, 128, false}), "blocks_128");  // 212 and 217 us
  // Whose blocks are dealt out: 189 and 198 us, 674 and 708 us.
  EXPECT_EQ(chosen({4, 16, 2048, 128, false}), "blocks_192");
  EXPECT_EQ(chosen({1, 16, 8192, 128, false}), "blocks_192");
}

TEST(attention_plan, splits_the_keys_of_short_sequences) {
  // Measured on an H200: 8.5 and 10.6 us, 10.4 and 12.7, 13.4 and 14.6, 10.5 and 11.2.
  EXPECT_EQ(chosen({1, 16, 256, 64, true}), "split_keys");
  EXPECT_EQ(chosen({1, 16, 512, 64, true}), "split_keys");
  EXPECT_EQ(chosen({1, 16, 512, 128, true}), "split_keys");
  EXPECT_EQ(chosen({1, 16, 256, 128, false}), "split_keys");
  // 28.2 and 21.2 us.
  EXPECT_EQ(chosen({1, 16, 1024, 128, false}), "blocks_128");
  // 13.1 us of keys that are split, for two CTAs a multiprocessor start late.
  EXPECT_EQ(chosen({4, 16, 256, 64, true}), "blocks_256");
}

TEST(attention_plan, walks_along_heads_where_windows_are_short) {
  attention_problem problem = {16, 16, 8192, 64, true};
  problem.window = 128;
  EXPECT_EQ(chosen(problem), "band");
  problem.window = 129;
  EXPECT_EQ(chosen(problem), "blocks_256");
}

TEST(attention_plan, deals_out_blocks_that_leave_multiprocessors_idle) {
  const auto dealt = [](const attention_problem& problem) {
    return choose(forward_rules(), problem, h200).best.plan.order.dealt;
  };
  EXPECT_EQ(dealt({1, 16, 8192, 128, false}), 16 * 43 % 132 + 132);
  EXPECT_EQ(dealt({1, 16, 8192, 64, false}), 512 % 132 + 132);
  EXPECT_EQ(dealt({4, 16, 2048, 64, false}), 0);  // 124 us, for 126 if dealt out
  // What forward_test.cpp has of each variant.
  for (const auto& [variant, dim, heads] : {std::tuple{"blocks_256", 64, 70},
                                            {"blocks_192", 64, 70},
                                            {"blocks_192", 128, 70},
                                            {"blocks_128", 128, 45}}) {
    attention_problem problem = {1, heads, 260, dim, false};
    problem.kv_seqlen = 1000;
    problem.variant = variant;
    EXPECT_GT(dealt(problem), 0) << variant;
  }
  EXPECT_EQ(dealt({1, 16, 8192, 128, true}), 0);
  EXPECT_EQ(dealt({11, 12, 1024, 64, false}), 0);
}

TEST(attention_plan, can_be_forced_where_it_exists) {
  attention_problem problem = {16, 16, 1024, 64, false};
  problem.variant = "blocks_192";
  EXPECT_EQ(chosen(problem), "blocks_192");
  problem.variant = "blocks_128";
  EXPECT_EQ(chosen(problem), "");
  EXPECT_THAT(choose(forward_rules(), problem, h200).reason, ::testing::HasSubstr("64"));
  problem.variant = "blocks_64";
  EXPECT_THROW(chosen(problem), invalid_argument);
}

TEST(attention_plan, needs_a_hopper) {
  const attention_problem problem = {1, 1, 64, 64, true};
  EXPECT_EQ(chosen(problem, {108, false}), "");
  EXPECT_THAT(choose(forward_rules(), problem, {108, false}).reason,
              ::testing::HasSubstr("Hopper"));
}

TEST(attention_plan, balances_causal_blocks) {
  const auto plan_of = [](const attention_problem& problem) {
    return choose(forward_rules(), problem, h200).best.plan;
  };
  EXPECT_TRUE(plan_of({16, 16, 8192, 64, true}).by_tickets);
  EXPECT_FALSE(plan_of({16, 16, 8192, 64, false}).by_tickets);
  EXPECT_FALSE(plan_of({1, 16, 2048, 64, true}).by_tickets);
  // 64 heads of 16 blocks: head by head 128 of 132 CTAs would have all that there is to do.
  EXPECT_FALSE(plan_of({4, 16, 4096, 64, true}).by_tickets);
  EXPECT_EQ(plan_of({4, 16, 4096, 64, true}).order.head_group, 33);
  EXPECT_TRUE(plan_of({4, 16, 2048, 128, true}).by_tickets);
  EXPECT_EQ(plan_of({4, 16, 2048, 128, true}).order.head_group, 32);
  EXPECT_EQ(plan_of({1, 1, 64, 64, true}).ctas, 1);
}

TEST(attention_plan, counts_the_tiles_that_are_worked_on) {
  const attention_problem problem = {2, 3, 256, 128, true};
  const auto plan = choose(forward_rules(), problem, h200).best.plan;
  // Four groups of 64 queries see 1, 2, 3 and 4 tiles of 64 keys.
  EXPECT_DOUBLE_EQ(executed_flops(problem, plan), 6 * 10 * 64.0 * 64 * 4 * 128);
}

}  // namespace
}  // namespace based::attention_sm90
