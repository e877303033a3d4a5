#include "kernels/core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/operation.h"

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

// Committed results are of these inputs.
TEST(RandomStream, BitsStayAsTheyAre) {
  const auto bits = [](std::string_view name, float stddev, std::uint64_t seed) {
    const random_stream values =
        tensor_spec{name, tensor_role::input, element_type::bf16, {1}, stddev}.values(seed);
    std::vector<unsigned> found;
    for (std::int64_t i :
         {std::int64_t{0}, std::int64_t{1}, std::int64_t{1000}, std::int64_t{1} << 40}) {
      found.push_back(to_bf16(values(i)).bits);
    }
    return found;
  };
  EXPECT_EQ(bits("q", 0.25f, 1), (std::vector<unsigned>{0x3b34, 0x3e34, 0x3d8f, 0xbe92}));
  EXPECT_EQ(bits("k_cache", 1.0f, 1), (std::vector<unsigned>{0x3f83, 0xbfb3, 0xbe4a, 0xbee6}));
  EXPECT_EQ(bits("v", 1.0f, ~std::uint64_t{0}),
            (std::vector<unsigned>{0x3f98, 0xbf27, 0xbf5f, 0xbfba}));
}

TEST(RandomStream, LogUniformValuesFillTheirRangeEvenly) {
  for (const auto& [least, largest] :
       {std::pair{0.0009765625f, 0.125f}, std::pair{-1.0f, -16.0f}}) {
    const random_stream values = random_stream::log_uniform(1, 2, least, largest);
    const double octaves = std::log2(largest / least);
    std::vector<int> counts(static_cast<std::size_t>(octaves) + 1);
    constexpr int count = 70'000;
    for (int i = 0; i < count; ++i) {
      const float value = values(i);
      EXPECT_EQ(value, to_float(to_bf16(value)));
      ASSERT_GE(value / least, 1);
      ASSERT_GE(largest / value, 1);
      ++counts[static_cast<std::size_t>(std::log2(value / least))];
    }
    for (std::size_t octave = 0; octave + 1 < counts.size(); ++octave) {
      EXPECT_NEAR(counts[octave], count / octaves, 0.05 * count / octaves) << least;
    }
  }
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
