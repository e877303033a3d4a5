// What the tests of every operation do not see of whole models: generation token by token is one
// pass over all tokens, a batch is its sequences, and models have the sizes of the published ones.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/models/configuration.h"
#include "kernels/models/model_decode.h"
#include "kernels/models/model_prefill.h"
#include "kernels/models/weights.h"
#include "tests/support/device_bytes.h"
#include "tests/support/operation_check.h"

namespace based {
namespace {

using models::model_configuration;
using support::checked_case;
using ::testing::HasSubstr;
using ::testing::Lt;
using ::testing::Throws;

constexpr std::string_view ours = "forward";

std::vector<std::string> tiny_models() {
  std::vector<std::string> names;
  for (const model_configuration& each : models::known_models()) {
    if (each.name.starts_with("tiny-")) names.push_back(each.name);
  }
  return names;
}

std::vector<device_kind> devices() {
  std::vector<device_kind> all = {device_kind::cpu};
  if (!support::cuda_unavailable()) all.push_back(device_kind::cuda);
  return all;
}

/// What two ways to the same logits may differ by: of three layers, for the element type's
/// rounding.
double allowance(device_kind device) {
  return device == device_kind::cpu ? 1e-5 : 1.2e-2;
}

std::unique_ptr<operation_case> solve(std::string_view operation_name, device_kind device,
                                      const axis_values& values) {
  const operation& op = *operations().at(operation_name);
  const std::vector<implementation_info> all = op.implementations();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].name == ours && all[i].device == device) {
      return op.make_case(i, values, "", all[i].types.front());
    }
  }
  throw invalid_argument("there is no such implementation");
}

double relative_difference(std::span<const float> a, std::span<const float> b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

class model_test : public ::testing::TestWithParam<std::string> {
 protected:
  static constexpr std::int64_t batch = 2;

  axis_values prompt(std::int64_t sequences, std::int64_t seqlen, std::int64_t slots = 0) const {
    axis_values values = {{"model", GetParam()}, {"batch", sequences}, {"seqlen", seqlen}};
    if (slots > 0) values["slots"] = slots;
    return values;
  }
  /// Token n of sequence b, whatever the length.
  static float token(std::int64_t b, std::int64_t n) {
    return static_cast<float>(mix64(static_cast<std::uint64_t>(b * 1000 + n)) % 104);
  }
  static std::vector<float> tokens(std::int64_t first_sequence, std::int64_t sequences,
                                   std::int64_t first, std::int64_t count) {
    std::vector<float> ids;
    for (std::int64_t b = first_sequence; b < first_sequence + sequences; ++b) {
      for (std::int64_t n = first; n < first + count; ++n) ids.push_back(token(b, n));
    }
    return ids;
  }
  std::vector<float> logits_of_whole(device_kind device, std::int64_t seqlen) const {
    const auto solved = solve("model_prefill", device, prompt(batch, seqlen));
    checked_case call(*solved, device, sequence_order::bhnd);
    call.write("ids", 0, tokens(0, batch, 0, seqlen));
    call.run();
    return call.get("logits");
  }
};

TEST_P(model_test, generates_what_one_pass_over_all_tokens_gives) {
  constexpr std::int64_t slots = 64, steps = 3;
  for (const device_kind device : devices()) {
    for (const std::int64_t seqlen : {1, 2, 30, 39, 50}) {  // before and beyond a window of 40
      SCOPED_TRACE(fmt::format("{} {}", to_string(device), seqlen));
      const auto first = solve("model_prefill", device, prompt(batch, seqlen, slots));
      const auto next = solve("model_decode", device,
                              {{"model", GetParam()}, {"batch", batch}, {"context", slots}});
      checked_case begin(*first, device, sequence_order::bhnd);
      checked_case step(*next, device, sequence_order::bhnd);
      begin.write("ids", 0, tokens(0, batch, 0, seqlen));
      begin.run();
      for (const tensor_spec& each : first->tensors()) {
        if (each.name == "recurrent" || each.name == "cached") {
          step.write(each.name, 0, begin.get(each.name));
        }
      }
      for (std::int64_t n = seqlen; n < seqlen + steps; ++n) {
        step.write("ids", 0, tokens(0, batch, n, 1));
        step.write("positions", 0, std::vector<float>(batch, static_cast<float>(n)));
        step.run();
        EXPECT_THAT(relative_difference(step.get("logits"), logits_of_whole(device, n + 1)),
                    Lt(allowance(device)))
            << "token " << n;
      }
    }
  }
}

TEST_P(model_test, of_a_batch_is_its_sequences_one_by_one) {
  constexpr std::int64_t seqlen = 50;
  for (const device_kind device : devices()) {
    const std::vector<float> together = logits_of_whole(device, seqlen);
    const std::size_t size = together.size() / batch;
    for (std::int64_t b = 0; b < batch; ++b) {
      const auto solved = solve("model_prefill", device, prompt(1, seqlen));
      checked_case call(*solved, device, sequence_order::bhnd);
      call.write("ids", 0, tokens(b, 1, 0, seqlen));
      call.run();
      const std::span one = std::span(together).subspan(static_cast<std::size_t>(b) * size, size);
      EXPECT_THAT(relative_difference(call.get("logits"), one), Lt(allowance(device)));
    }
  }
}

/// Models of few layers are held to less than the tolerance of the deepest ones.
TEST_P(model_test, of_few_layers_is_near_the_reference) {
  for (const device_kind device : devices()) {
    for (const std::int64_t seqlen : {7, 300}) {
      const auto solved = solve("model_prefill", device, prompt(batch, seqlen));
      checked_case call(*solved, device, sequence_order::bhnd);
      call.run();
      EXPECT_THAT(call.problems(allowance(device)), ::testing::IsEmpty());
    }
  }
}

TEST_P(model_test, tells_the_shares_of_its_parts_of_the_pass_that_it_was_asked_for) {
  for (const device_kind device : devices()) {
    SCOPED_TRACE(to_string(device));
    const auto solved = solve("model_prefill", device, prompt(batch, 50));
    checked_case call(*solved, device, sequence_order::bhnd);
    call.write("ids", 0, tokens(0, batch, 0, 50));
    ASSERT_TRUE(solved->has_counts());
    solved->take_counts();
    call.run();
    const std::vector<named_count> shares = solved->take_counts();
    ASSERT_EQ(shares.size(), 3U);
    double all = 0;
    for (const named_count& each : shares) {
      EXPECT_GT(each.value, 0) << each.name;
      all += each.value;
    }
    EXPECT_NEAR(all, 100, 1e-9);
    EXPECT_TRUE(solved->take_counts().empty()) << "no pass since";
    call.run();
    call.run();
    EXPECT_EQ(solved->take_counts().size(), 3U) << "the first of two passes is asked for";
  }
}

INSTANTIATE_TEST_SUITE_P(tiny, model_test, ::testing::ValuesIn(tiny_models()),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(models_by_name, have_the_published_numbers_of_parameters) {
  const auto millions = [](std::string_view name) {
    return static_cast<double>(models::weights_of(models::model_named(name)).parameters()) / 1e6;
  };
  EXPECT_NEAR(millions("based-360m"), 362.6, 0.1);
  EXPECT_NEAR(millions("attention-360m"), 359.8, 0.1);
  EXPECT_NEAR(millions("mamba-360m"), 358, 1);
  EXPECT_NEAR(millions("mamba2-370m"), 370, 2);
  EXPECT_NEAR(millions("mamba-1.3b"), 1372, 2);
  EXPECT_NEAR(millions("mamba2-1.3b"), 1344, 2);
  for (const std::string_view name : {"based-1.3b", "based-gnorm-1.3b", "attention-1.3b"}) {
    EXPECT_NEAR(millions(name), 1300, 60) << name;
  }
}

TEST(models_by_name, are_refused_where_there_are_none) {
  EXPECT_THAT([] { models::model_named("gpt-5"); },
              ::testing::ThrowsMessage<invalid_argument>(
                  HasSubstr("there is no model 'gpt-5'; there are based-360m")));
  model_configuration bad = models::model_named("tiny-based");
  bad.heads = 3;
  EXPECT_THAT([&] { models::validate(bad); },
              ::testing::ThrowsMessage<invalid_argument>(HasSubstr("tiny-based")));
}

/// Ids that are none give no numbers, read nothing outside the embedding, and stay what they are to
/// the other sequences.
TEST(ids_outside_the_vocabulary, give_no_logits) {
  constexpr std::int64_t batch = 2, seqlen = 9;
  for (const device_kind device : devices()) {
    for (const float id : {-1.0f, 104.0f}) {
      const auto solved = solve("model_prefill", device,
                                {{"model", "tiny-based"}, {"batch", batch}, {"seqlen", seqlen}});
      checked_case call(*solved, device, sequence_order::bhnd);
      call.write("ids", seqlen - 1, std::vector<float>{id});  // the first sequence's last
      call.run();
      const std::vector<float> logits = call.get("logits");
      EXPECT_TRUE(std::isnan(logits.front()));
      EXPECT_TRUE(std::isfinite(logits.back()));
    }
  }
}

}  // namespace
}  // namespace based
