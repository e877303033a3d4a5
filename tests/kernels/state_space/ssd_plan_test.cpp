// How the Hopper SSD cuts problems: into CTAs, segments and workspace.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/state_space/ssd_sm90/plan.h"
#include "tests/support/source_folder.h"

namespace based::ssd_sm90 {
namespace {

const ssd_problem figure = {.batch = 16, .heads = 16, .seqlen = 8192, .state_dim = 256};

ssd_problem with_batch(std::int64_t batch) {
  ssd_problem problem = figure;
  problem.batch = batch;
  return problem;
}

TEST(ssd_plan, splits_sequences_only_where_heads_are_few) {
  EXPECT_EQ(choose(ssd_rules(), figure, h200).rule->name, "whole");
  const auto few = choose(ssd_rules(), with_batch(1), h200);
  EXPECT_EQ(few.rule->name, "split");
  EXPECT_LE(blocks_of_segment(with_batch(1)) * few.best.plan.segments, h200.multiprocessors);
}

/// What each choice among the numbers of segments that were measured takes longer than the fastest
/// of them, relative; in order.
std::vector<double> losses(const nlohmann::json& measurement) {
  std::vector<double> all;
  for (const auto& measured : measurement.at("problems")) {
    ssd_problem problem = figure;
    problem.batch = measured.at("batch").get<std::int64_t>();
    problem.heads = measured.at("heads").get<std::int64_t>();
    problem.seqlen = measured.at("seqlen").get<std::int64_t>();
    problem.state_dim = measured.at("state_dim").get<int>();
    double fastest = std::numeric_limits<double>::infinity(), least_expected = fastest, chosen = 0;
    for (const auto& [segments, us] : measured.at("us").items()) {
      fastest = std::min(fastest, us.get<double>());
      const double expected = expected_us(problem, h200, std::stoi(segments));
      if (expected < least_expected) {
        least_expected = expected;
        chosen = us.get<double>();
      }
    }
    all.push_back(chosen / fastest - 1);
  }
  std::sort(all.begin(), all.end());
  return all;
}

TEST(ssd_plan, chooses_nearly_the_fastest_number_of_segments_that_was_measured) {
  std::ifstream file(support::source_folder() / "plots/data/ssd_segments_h200.json");
  const std::vector<double> all = losses(nlohmann::json::parse(file));
  ASSERT_GT(all.size(), 100u);
  EXPECT_LE(all[all.size() * 9 / 10], 0.03);
  EXPECT_LE(all.back(), 0.1);
}

TEST(ssd_plan, leaves_each_segment_a_chunk) {
  ssd_problem problem = with_batch(1);
  problem.variant = "split";
  problem.seqlen = 65;
  EXPECT_EQ(choose(ssd_rules(), problem, h200).best.plan.segments, 2);
  problem.seqlen = 64;
  EXPECT_EQ(choose(ssd_rules(), problem, h200).rule, nullptr);
}

TEST(ssd_plan, counts_heads_of_128_as_two_slices) {
  ssd_problem problem = figure;
  problem.head_dim = 128;
  EXPECT_EQ(blocks_of_segment(problem), 2 * blocks_of_segment(figure));
  problem.groups = 16;  // one head each, which fills a CTA
  EXPECT_EQ(blocks_of_segment(problem), 16 * 16);
}

TEST(ssd_plan, keeps_a_state_and_its_decay_for_each_segment_but_the_last) {
  EXPECT_EQ(workspace_bytes(figure, {1}), 0u);
  EXPECT_EQ(workspace_bytes(figure, {5}), 16u * 16 * 4 * (64 * 256 + 1) * sizeof(float));
}

TEST(ssd_plan, executes_what_the_definition_asks_for_and_the_pairs) {
  const double recurrent = ssd::work(figure).nominal_flops;
  EXPECT_GT(executed_flops(figure, {1}), recurrent);
  EXPECT_LT(executed_flops(figure, {1}), 1.5 * recurrent);
  EXPECT_GT(executed_flops(figure, {4}), executed_flops(figure, {1}));
}

TEST(ssd_plan, refuses_what_the_kernel_cannot_run) {
  ssd_problem problem = figure;
  problem.state_dim = 64;
  EXPECT_EQ(choose(ssd_rules(), problem, h200).rule, nullptr);
  EXPECT_EQ(choose(ssd_rules(), figure, card{108, 8, 0}).rule, nullptr);
}

}  // namespace
}  // namespace based::ssd_sm90
