#include "benchmarks/harness/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace based {
namespace {

TEST(RandomStream, HasTheMomentsItPromises) {
  const random_stream values(1, 2, 0.25f);
  constexpr int count = 200'000;
  double sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) {
    const double value = values(i);
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / count, 0, 4 * 0.25 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), 0.25, 0.25 * 0.01);
}

TEST(RandomStream, ValuesAreBf16) {
  const random_stream values(3, 4, 1.0f);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(values(i), to_float(to_bf16(values(i))));
}

TEST(RandomStream, SeedTensorAndIndexEachMatter) {
  const auto differing = [](random_stream a, random_stream b) {
    int count = 0;
    for (int i = 0; i < 1000; ++i) count += a(i) != b(i);
    return count;
  };
  EXPECT_EQ(differing({1, 1, 1.0f}, {1, 1, 1.0f}), 0);
  EXPECT_GT(differing({1, 1, 1.0f}, {2, 1, 1.0f}), 900);
  EXPECT_GT(differing({1, 1, 1.0f}, {1, 2, 1.0f}), 900);
  const random_stream values(1, 1, 1.0f);
  EXPECT_NE(values(0), values(1));
  EXPECT_NE(values(std::int64_t{1} << 40), values(0));
}

}  // namespace
}  // namespace based
