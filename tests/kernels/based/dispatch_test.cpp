// Which variant of the Based prefill runs a problem: against what was measured, and by its rules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/based/prefill_sm80.h"
#include "kernels/based/prefill_variants.h"
#include "tests/support/source_folder.h"

namespace based {
namespace {

const prefill_constants& h200_constants() {
  return constants_of("NVIDIA H200", 132);
}
const prefill_device h200 = {{132, 9, 0}, h200_constants()};
const prefill_device a100 = {{108, 8, 0}, h200_constants()};

auto choice_for(const prefill_problem& problem, const prefill_device& device) {
  return choose(prefill_rules(), problem, device);
}

/// The chosen variant's name; empty where none can.
std::string_view chosen(const prefill_problem& problem, const prefill_device& device = h200) {
  const auto choice = choice_for(problem, device);
  return choice.rule == nullptr ? "" : choice.rule->name;
}

// Against the committed measurements (scripts/fit_dispatch).

/// What each choice takes longer than the fastest that was measured, relative; infinite where the
/// chosen variant was not measured, or with another plan.
std::vector<double> losses(const nlohmann::json& measurement, const prefill_constants& constants) {
  const prefill_device device = {{measurement.at("multiprocessors").get<int>(), 9, 0}, constants};
  std::vector<double> all;
  for (const auto& measured : measurement.at("problems")) {
    const std::string options = measured.at("options");
    const bool has_states = options == "all";
    const prefill_problem problem = {
        {1, measured.at("heads").get<std::int64_t>(), measured.at("seqlen").get<std::int64_t>()},
        {.normalize = options != "none", .initial_state = has_states, .final_state = has_states}};
    const auto choice = choice_for(problem, device);
    const std::string name(choice.rule->name);
    const auto& us = measured.at("us");
    double fastest = std::numeric_limits<double>::infinity();
    for (const double each : us) fastest = std::min(fastest, each);
    const bool was_measured =
        us.contains(name) && measured.at("parts").value(name, 1) == choice.best.plan.parts;
    all.push_back(was_measured ? us.at(name).get<double>() / fastest - 1
                               : std::numeric_limits<double>::infinity());
  }
  return all;
}

double part_within(const std::vector<double>& all, double loss) {
  const auto count = std::count_if(all.begin(), all.end(), [&](double x) { return x <= loss; });
  return static_cast<double>(count) / static_cast<double>(all.size());
}

std::vector<nlohmann::json> measurements() {
  std::vector<nlohmann::json> found;
  for (const auto& entry :
       std::filesystem::directory_iterator(support::source_folder() / "plots/data")) {
    if (entry.path().filename().string().rfind("dispatch_", 0) != 0) continue;
    found.push_back(nlohmann::json::parse(std::ifstream(entry.path())));
  }
  return found;
}

TEST(dispatch, chooses_what_was_measured_to_be_fastest_or_nearly_so) {
  const auto all = measurements();
  ASSERT_FALSE(all.empty());
  for (const nlohmann::json& measurement : all) {
    const std::string device = measurement.at("device");
    SCOPED_TRACE(device);
    const auto lost = losses(measurement, constants_of(device, measurement.at("multiprocessors")));
    ASSERT_GE(lost.size(), 300u);
    EXPECT_GE(part_within(lost, 0.03), 0.98);
    EXPECT_EQ(part_within(lost, 0.10), 1.0);
  }
}

/// The test above can fail: twice any of these constants does it.
TEST(dispatch, notices_a_constant_that_is_wrong) {
  const auto all = measurements();
  ASSERT_FALSE(all.empty());
  for (const auto constant : {&prefill_constants::chunk_alone_ns, &prefill_constants::hand_over_ns,
                              &prefill_constants::recompute_pass_ns, &prefill_constants::pair_ns}) {
    prefill_constants wrong = h200_constants();
    wrong.*constant *= 2;
    const auto lost = losses(all.front(), wrong);
    EXPECT_LT(part_within(lost, 0.03), 0.98);
  }
}

TEST(dispatch, takes_the_constants_of_the_nearest_card_for_one_it_does_not_know) {
  EXPECT_EQ(&constants_of("a card of tomorrow", 160), &h200_constants());
  // They are a multiprocessor's: half the multiprocessors and half the heads are as fast.
  const prefill_device half = {{66, 9, 0}, constants_of("half a card", 66)};
  for (const std::int64_t heads : {2, 16, 64, 144, 272, 512}) {
    for (std::int64_t seqlen = 64; seqlen <= 16384; seqlen *= 2) {
      const auto large = choice_for({{1, heads, seqlen}}, h200);
      const auto small = choice_for({{1, heads / 2, seqlen}}, half);
      EXPECT_EQ(large.rule, small.rule) << heads << " x " << seqlen;
      EXPECT_DOUBLE_EQ(large.best.ns, small.best.ns) << heads << " x " << seqlen;
    }
  }
}

// Rules.

TEST(dispatch, obeys_a_forced_variant) {
  const prefill_shape shape = {20, 16, 8192};
  for (const prefill_rule& rule : prefill_rules()) {
    EXPECT_EQ(chosen({shape, {}, rule.name}), rule.name);
  }
  EXPECT_EQ(choice_for({{1, 16, 8192}, {}, "split"}, h200).best.plan.parts, 8);
  EXPECT_EQ(choice_for({{16, 16, 128}, {}, "split"}, h200).best.plan.parts, 2);
  EXPECT_EQ(choice_for({{4, 16, 8192}, {}, "recompute"}, h200).best.plan.parts, 2);
  EXPECT_EQ(choice_for({{9, 16, 8192}, {}, "balanced"}, h200).best.plan.parts, 132);
  EXPECT_EQ(choice_for({{20, 16, 8192}, {}, "balanced"}, h200).best.plan.parts, 264);
  EXPECT_THROW(choice_for({shape, {}, "wholly"}, h200), invalid_argument);
}

TEST(dispatch, runs_mma_sync_alone_where_there_is_no_hopper) {
  const prefill_shape shape = {20, 16, 8192};
  EXPECT_EQ(chosen({shape}, a100), "mma_sync");
  for (const prefill_rule& rule : prefill_rules()) {
    const auto choice = choice_for({shape, {}, rule.name}, a100);
    if (rule.name == "mma_sync") {
      EXPECT_EQ(choice.rule, &rule);
    } else {
      EXPECT_EQ(choice.rule, nullptr) << rule.name;
      EXPECT_THAT(choice.reason, testing::HasSubstr("Hopper"));
    }
  }
}

TEST(dispatch, refuses_devices_before_ampere) {
  EXPECT_THAT(sm80::unsupported_on({{1, 1, 64}}, 7).value_or(""),
              testing::HasSubstr("capability 7.x"));
  EXPECT_EQ(sm80::unsupported_on({{1, 1, 64}}, 8), std::nullopt);
  EXPECT_EQ(sm80::unsupported_on({{1, 1, 64}}, 9), std::nullopt);
}

TEST(dispatch, gives_out_a_state_that_it_can_unscale) {
  const prefill_shape shape = {16, 16, 8192};
  for (const float scale : {0.0f, 1e-12f, -1e-12f, 0.25f, -0.25f}) {
    const bool is_tiny = scale * scale < 1e-20f;
    for (const bool final_state : {false, true}) {
      const prefill_options options = {.scale = scale, .final_state = final_state};
      EXPECT_EQ(chosen({shape, options}) == "mma_sync", final_state && is_tiny) << scale;
      EXPECT_EQ(chosen({shape, options, "whole"}).empty(), final_state && is_tiny) << scale;
    }
  }
}

TEST(dispatch, balances_no_fewer_heads_than_multiprocessors_and_no_single_chunks) {
  EXPECT_EQ(chosen({{1, 131, 8192}, {}, "balanced"}), "");
  EXPECT_EQ(chosen({{1, 132, 65}, {}, "balanced"}), "balanced");
  EXPECT_EQ(chosen({{1, 300, 64}, {}, "balanced"}), "");
}

// Plans.

TEST(dispatch, leaves_no_segment_without_a_chunk_and_no_card_overfull) {
  for (std::int64_t heads = 1; heads < 300; ++heads) {
    for (std::int64_t seqlen = 65; seqlen < 200000; seqlen = seqlen * 5 / 4 + 1) {
      for (const std::string_view variant : {"split", "recompute"}) {
        const prefill_problem problem = {{1, heads, seqlen}, {}, variant};
        const auto choice = choice_for(problem, h200);
        ASSERT_NE(choice.rule, nullptr);
        const int segments = choice.best.plan.parts;
        ASSERT_GE(segments, 2);
        ASSERT_LE(segments, sm90::chunks_of(problem.shape)) << heads << " x " << seqlen;
        if (segments > 2) {
          ASSERT_LE(heads * segments, 2 * h200.multiprocessors);
        }
      }
    }
  }
}

TEST(dispatch, cuts_segments_to_recompute_so_that_all_take_as_long) {
  for (int segments = 2; segments <= sm90::max_recompute_segments; ++segments) {
    for (int chunks = segments; chunks < 3000; chunks = chunks * 5 / 4 + 1) {
      const auto begin = [&](int segment) {
        return sm90::recompute_begin(chunks, segments, segment);
      };
      ASSERT_EQ(begin(0), 0);
      ASSERT_EQ(begin(segments), chunks);
      for (int i = 0; i < segments; ++i) {
        ASSERT_LT(begin(i), begin(i + 1)) << chunks << " in " << segments;
        // What a segment takes, in chunks of whole work. It is off by rounding, and where segments
        // would be empty.
        const double work = 4.0 / 9 * begin(i) + begin(i + 1) - begin(i);
        ASSERT_NEAR(work, begin(1), 2 + segments) << chunks << " in " << segments;
      }
    }
  }
  EXPECT_EQ(sm90::recompute_begin(128, 2, 1), 82);
}

TEST(dispatch, hands_over_heads_of_which_both_parts_have_chunks) {
  for (int chunks = 2; chunks < 2000; chunks = chunks * 5 / 4 + 1) {
    for (const int heads : {1, 132, 264}) {
      int before = 1;
      for (int head = 0; head < heads; ++head) {
        const int chunk = sm90::handed_over_at(chunks, heads, head);
        ASSERT_GE(chunk, before);
        ASSERT_LT(chunk, chunks);
        before = chunk;
      }
    }
  }
}

}  // namespace
}  // namespace based
