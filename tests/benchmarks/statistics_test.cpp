#include "benchmarks/harness/statistics.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "kernels/core/error.h"

namespace based {
namespace {

TEST(Statistics, MedianOfOddAndEvenCounts) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
  EXPECT_EQ(median({7}), 7);
}

TEST(Statistics, NoSamplesIsAnError) {
  EXPECT_THROW(median({}), invalid_argument);
  EXPECT_THROW(summarize({}), invalid_argument);
}

TEST(Statistics, IntervalIsTheTextbookRanks) {
  std::vector<double> samples(100);
  std::iota(samples.begin(), samples.end(), 1.0);  // sample = its rank
  const summary s = summarize(samples);
  EXPECT_EQ(s.median, 50.5);
  EXPECT_EQ(s.low, 40);  // ranks 40 and 61 of 100 enclose the median with 95 %
  EXPECT_EQ(s.high, 61);
}

TEST(Statistics, IntervalCoversTheTrueMedianAsOftenAsItSays) {
  std::mt19937_64 random(7);
  std::exponential_distribution<double> skewed(1.0);
  const double true_median = std::log(2.0);
  int covered = 0;
  constexpr int experiments = 2000;
  for (int i = 0; i < experiments; ++i) {
    std::vector<double> samples(41);
    for (double& sample : samples) sample = skewed(random);
    const summary s = summarize(samples);
    covered += s.low <= true_median && true_median <= s.high;
  }
  const double coverage = static_cast<double>(covered) / experiments;
  EXPECT_GT(coverage, 0.93);
  EXPECT_LT(coverage, 0.99);  // an interval that always covers would say nothing
}

TEST(Statistics, SpreadOfConstantSamplesIsZero) {
  const summary s = summarize(std::vector<double>(20, 5.0));
  EXPECT_EQ(s.cv, 0);
  EXPECT_EQ(s.relative_half_width(), 0);
}

}  // namespace
}  // namespace based
