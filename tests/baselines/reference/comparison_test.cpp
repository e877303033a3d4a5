#include "baselines/reference/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace based {
namespace {

using testing::IsSupersetOf;
using testing::Lt;
using testing::SizeIs;

TEST(SamplePart, ComparesEverythingOfASmallShape) {
  const sampled_part part = sample_part(6, 65, 163, {.seed = 1});
  EXPECT_THAT(part.heads, SizeIs(6));
  EXPECT_THAT(part.rows, SizeIs(65));
}

TEST(SamplePart, OfALargeShapeTakesTheEdgesAndRepeatsNothing) {
  const sampled_part part = sample_part(256, 32768, 163, {.seed = 1});
  EXPECT_THAT(part.heads, IsSupersetOf({0, 255}));
  EXPECT_THAT(part.rows, IsSupersetOf({0, 63, 64, 65, 32767}));
  EXPECT_THAT(part.rows, SizeIs(testing::Ge(64u)));
  EXPECT_EQ(std::set<std::int64_t>(part.rows.begin(), part.rows.end()).size(), part.rows.size());
  for (std::int64_t row : part.rows) EXPECT_THAT(row, Lt(32768));
}

TEST(SamplePart, ByStepsMissesNoHeadAndNoTile) {
  const sampled_part part = sample_part(6, 4097, 163, {.row_step = 13});
  EXPECT_THAT(part.heads, SizeIs(6));
  std::set<std::int64_t> tiles;
  for (const std::int64_t row : part.rows) tiles.insert(row / 16);
  EXPECT_THAT(tiles, SizeIs(257));
  EXPECT_THAT(sample_part(1, 200, 163, {.row_step = 13}).rows, SizeIs(200));
}

TEST(SamplePart, OtherSeedsLookElsewhere) {
  EXPECT_NE(sample_part(256, 32768, 163, {.seed = 1}).rows,
            sample_part(256, 32768, 163, {.seed = 2}).rows);
}

TEST(ErrorNorm, IsRelativeAndKeepsNaN) {
  error_norm error;
  error.add(3.3, 3.0);
  error.add(4.0, 4.0);
  EXPECT_NEAR(error.relative(), 0.3 / 5, 1e-12);
  error.add(NAN, 1.0);
  EXPECT_TRUE(std::isnan(error.relative()));
}

TEST(ErrorNorm, OfARowWhoseTermsCancelIsRelativeToThem) {
  const std::vector<float> values = {0.1F, 5.5F};
  const std::vector<double> reference = {0.0, 5.0}, terms = {50.0, 50.0};
  error_norm error;
  error.add_rows(values, reference, std::vector<std::int64_t>{0, 1}, 1);
  EXPECT_NEAR(error.worst_row(), 0.1, 1e-6);
  error_norm of_terms;
  of_terms.add_rows(values, reference, std::vector<std::int64_t>{0, 1}, 1, terms);
  EXPECT_NEAR(of_terms.worst_row(), 0.5 / std::sqrt(50.0), 1e-6);
  EXPECT_EQ(of_terms.relative(), error.relative());
}

TEST(ErrorNorm, OfAZeroReferenceIsAbsolute) {
  error_norm error;
  error.add(0.5, 0.0);
  EXPECT_EQ(error.relative(), 0.5);
}

}  // namespace
}  // namespace based
