// Implementations that are added while the program runs, on the operation of fake_operation.cpp.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "benchmarks/harness/operation_row.h"

namespace based {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

operation& leaky_sums() {
  return *operations().at("leaky_sum");
}

/// Of a foreign call: its tensor of this name.
std::span<float> tensor(const std::vector<foreign_tensor>& tensors, std::string_view name) {
  const auto found =
      std::ranges::find(tensors, name, [](const auto& each) { return each.spec.name; });
  if (found == tensors.end()) return {};
  return {static_cast<float*>(found->place.data), found->place.bytes / sizeof(float)};
}

/// Sums forward into memory of its own, times `factor`, which 1 makes right.
foreign_implementation sums(std::string name, float factor) {
  return {.name = std::move(name),
          .summary = "sums in another language",
          .version = "7.1",
          .tolerance = 1e-5,
          .form = "",
          .unsupported = [](const foreign_problem& asked) -> unsupported_reason {
            if (asked.unusual.empty()) return std::nullopt;
            return "takes no " + asked.unusual.front();
          },
          .bind =
              [factor](const foreign_problem& asked, const std::vector<foreign_tensor>& tensors,
                       cuda_stream) {
                const auto x = tensor(tensors, "x"), y = tensor(tensors, "y");
                const auto length =
                    static_cast<std::size_t>(std::get<std::int64_t>(asked.values.at("length")));
                const auto own = std::make_shared<std::vector<float>>(x.size());
                return bound_call{
                    .launch =
                        [=](cuda_stream) {
                          for (std::size_t i = 0; i < x.size(); ++i) {
                            const float before = i % length == 0 ? 0.0f : (*own)[i - 1] / factor;
                            (*own)[i] = factor * (0.5f * before + x[i]);
                          }
                        },
                    .deliver = [=](cuda_stream) { std::ranges::copy(*own, y.begin()); },
                    .own_bytes = 640,
                    .queued = "by hand",
                    .capturable = false};
              }};
}

std::size_t index_of(std::string_view name) {
  const auto all = leaky_sums().implementations();
  const auto found = std::ranges::find(all, name, &implementation_info::name);
  EXPECT_NE(found, all.end()) << name;
  return static_cast<std::size_t>(found - all.begin());
}

operation_row row_of(std::string_view name, const axis_values& values) {
  const std::size_t index = index_of(name);
  return {"leaky_sum", leaky_sums().implementations()[index],
          leaky_sums().make_case(index, values, "", element_type::f32)};
}

class foreign : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    leaky_sums().add(sums("right", 1.0f));
    leaky_sums().add(sums("wrong", 1.5f));
  }
  static void TearDownTestSuite() {
    leaky_sums().forget_added();
    const auto left = leaky_sums().implementations();
    EXPECT_EQ(std::ranges::count(left, "7.1", &implementation_info::version), 0);
  }
  std::unique_ptr<backend> device_ = make_cpu_backend();
};

TEST_F(foreign, stands_behind_the_others_as_an_original) {
  const implementation_info info = leaky_sums().implementations()[index_of("right")];
  EXPECT_EQ(info.role, implementation_role::original);
  EXPECT_EQ(info.version, "7.1");
  EXPECT_GT(index_of("right"), index_of("step_by_step"));
}

TEST_F(foreign, has_rows_like_any_other) {
  const operation_row row = row_of("right", {{"rows", std::int64_t{3}}});
  EXPECT_EQ(row.spec().name(), "leaky_sum/right/cpu/R:3/L:100");
  EXPECT_EQ(row.spec().version, "7.1");
  EXPECT_EQ(row.spec().work.nominal_flops, 900);
  EXPECT_EQ(row.spec().work.executed_flops, 0);
}

TEST_F(foreign, is_verified_by_what_it_delivers) {
  const operation_row right_row = row_of("right", {}), wrong_row = row_of("wrong", {});
  const auto right = right_row.prepare(*device_, 1);
  EXPECT_LT(right->verify().relative_error, 1e-6);
  EXPECT_EQ(right->own_bytes(), 640u);
  EXPECT_EQ(right->queued(), "by hand");
  EXPECT_FALSE(right->capturable());
  const auto wrong = wrong_row.prepare(*device_, 1);
  EXPECT_NEAR(wrong->verify().relative_error, 0.5, 1e-3);
}

TEST_F(foreign, has_data_sets_of_its_own) {
  const operation_row row = row_of("right", {});
  const auto instance = row.prepare(*device_, 1);
  ASSERT_TRUE(instance->replicate(3));
  instance->launch(2);
  EXPECT_LT(instance->verify().relative_error, 1e-6);
}

TEST_F(foreign, takes_the_place_of_its_namesake) {
  const std::size_t before = leaky_sums().implementations().size();
  foreign_implementation later = sums("right", 1.0f);
  later.version = "7.2";
  leaky_sums().add(later);
  EXPECT_EQ(leaky_sums().implementations().size(), before);
  EXPECT_EQ(row_of("right", {}).spec().version, "7.2");
}

TEST_F(foreign, is_asked_what_it_takes) {
  EXPECT_EQ(row_of("right", {{"decay", 0.5}}).spec().unsupported, std::nullopt);
  EXPECT_EQ(row_of("right", {{"decay", 0.25}}).spec().unsupported, "takes no decay");
  EXPECT_EQ(row_of("right", {{"terms", std::string("start")}}).spec().unsupported,
            "takes no terms");
}

TEST_F(foreign, has_a_name_of_its_own_and_a_known_form) {
  EXPECT_THAT([] { leaky_sums().add(sums("step_by_step", 1.0f)); },
              ThrowsMessage<invalid_argument>(HasSubstr("'step_by_step' of its own")));
  foreign_implementation formed = sums("formed", 1.0f);
  formed.form = "nobody";
  EXPECT_THAT([&] { leaky_sums().add(formed); },
              ThrowsMessage<invalid_argument>(HasSubstr("no implementation 'nobody' on cpu")));
}

}  // namespace
}  // namespace based
