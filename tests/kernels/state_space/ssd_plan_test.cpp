// How the Hopper SSD cuts problems: into CTAs, segments and workspace.
#include <gtest/gtest.h>

#include "kernels/state_space/ssd_sm90/plan.h"

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
