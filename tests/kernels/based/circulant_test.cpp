// The circulant slots against the compact features, exactly, and the rules of dispatch.
#include "kernels/based/circulant.h"

#include <gtest/gtest.h>

#include <array>

#include "kernels/based/dispatch.h"

namespace based {
namespace {

TEST(circulant, holds_each_feature_once_and_the_constant_twice) {
  std::array<int, compact_features> seen = {};
  int empty = 0;
  for (int slot = 0; slot < circulant::slots; ++slot) {
    const int row = circulant::compact_row(slot);
    ASSERT_LT(row, compact_features);
    row < 0 ? ++empty : ++seen[row];
  }
  EXPECT_EQ(empty, circulant::slots - compact_features - 1);
  EXPECT_EQ(seen[0], 2);
  for (int row = 1; row < compact_features; ++row) EXPECT_EQ(seen[row], 1) << "row " << row;
}

TEST(circulant, weighs_as_the_polynomial_does) {
  // Integers: every product and sum is exact, so phi(q) . phi(k) must equal 1 + s + s^2/2 exactly.
  const auto value = [](int i, int seed) {
    return static_cast<double>((i * 7 + seed * 5) % 11 - 5);
  };
  for (int seed = 1; seed < 50; ++seed) {
    double s = 0;
    for (int i = 0; i < feature_dim; ++i) s += value(i, seed) * value(i, 3 * seed + 1);
    double sum = 1;  // the constant: two slots that share one
    for (int slice = 0; slice < circulant::slices; ++slice) {
      for (int j = 0; j < circulant::slice_slots; ++j) {
        const int slot = slice * circulant::slice_slots + j;
        if (slice == circulant::opposite_slice && slot >= circulant::head_slot) continue;
        const int i = (j + slice) % feature_dim;
        const bool linear = slice == circulant::linear_slice;
        const double weight = slice == 0 ? 0.5 : 1;
        const auto feature = [&](int x) {
          return linear ? value(j, x) : value(j, x) * value(i, x);
        };
        sum += weight * feature(seed) * feature(3 * seed + 1);
      }
    }
    EXPECT_EQ(sum, 1 + s + s * s / 2);
  }
}

TEST(circulant, slots_are_the_rows_that_features_h_says) {
  EXPECT_EQ(circulant::compact_row(0), product_row(0, 0));
  EXPECT_EQ(circulant::compact_row(3), product_row(3, 3));
  EXPECT_EQ(circulant::compact_row(2 * 16 + 15), product_row(1, 15));
  EXPECT_EQ(circulant::compact_row(8 * 16 + 7), product_row(7, 15));
  EXPECT_EQ(circulant::compact_row(circulant::head_slot), 0);
  EXPECT_EQ(circulant::compact_row(circulant::residual_slot), 0);
  EXPECT_EQ(circulant::compact_row(circulant::residual_slot + 1), -1);
  EXPECT_EQ(circulant::compact_row(9 * 16 + 4), first_linear_row + 4);
}

constexpr int multiprocessors = 132;
constexpr int chosen(const prefill_shape& shape, std::string_view variant = "") {
  return segments_of(shape, variant, multiprocessors);
}

TEST(dispatch, keeps_sequences_whole_where_heads_fill_the_card) {
  for (const int batch : {6, 8, 16, 128}) EXPECT_EQ(chosen({batch, 16, 8192}), 1) << batch;
  EXPECT_EQ(chosen({16, 16, 1}), 1);
}

TEST(dispatch, splits_long_sequences_of_few_heads) {
  EXPECT_EQ(chosen({4, 16, 8192}), 4);
  EXPECT_EQ(chosen({2, 16, 8192}), 8);
  EXPECT_EQ(chosen({1, 16, 8192}), 8);
  EXPECT_EQ(chosen({1, 16, 131072}), 16);
}

TEST(dispatch, keeps_short_sequences_whole) {
  EXPECT_EQ(chosen({1, 1, 64}), 1);
  EXPECT_EQ(chosen({1, 16, 128}), 1);
}

TEST(dispatch, obeys_a_forced_variant) {
  EXPECT_EQ(chosen({1, 16, 8192}, variant_whole), 1);
  EXPECT_EQ(chosen({16, 16, 128}, variant_split), 2);
}

constexpr dispatch_target h200 = {.multiprocessors = multiprocessors, .is_hopper = true};
constexpr dispatch_target a100 = {.multiprocessors = 108, .is_hopper = false};

TEST(dispatch, runs_what_the_device_can) {
  const prefill_shape few = {1, 16, 8192};
  const auto on_hopper = dispatch({few}, h200);
  ASSERT_TRUE(on_hopper.has_value());
  EXPECT_TRUE(on_hopper->is_wgmma);
  EXPECT_EQ(on_hopper->segments, 8);
  const auto elsewhere = dispatch({few}, a100);
  ASSERT_TRUE(elsewhere.has_value());
  EXPECT_FALSE(elsewhere->is_wgmma);
  EXPECT_EQ(elsewhere->segments, 1);
}

TEST(dispatch, refuses_hopper_variants_elsewhere) {
  const prefill_shape shape = {16, 16, 8192};
  EXPECT_FALSE(dispatch({shape, {}, variant_whole}, a100).has_value());
  EXPECT_FALSE(dispatch({shape, {}, variant_split}, a100).has_value());
  for (const dispatch_target& device : {h200, a100}) {
    const auto choice = dispatch({shape, {}, variant_mma_sync}, device);
    ASSERT_TRUE(choice.has_value());
    EXPECT_FALSE(choice->is_wgmma);
  }
}

TEST(dispatch, leaves_no_segment_without_a_chunk_and_no_card_overfull) {
  for (std::int64_t heads = 1; heads < 300; ++heads) {
    for (std::int64_t seqlen = 1; seqlen < 200000; seqlen = seqlen * 5 / 4 + 1) {
      const prefill_shape shape = {1, heads, seqlen};
      const int segments = chosen(shape);
      ASSERT_LE(segments, chunks_of(shape)) << heads << " x " << seqlen;
      if (segments > 1) {
        ASSERT_LE(heads * segments, 2 * multiprocessors);
      }
    }
  }
}

}  // namespace
}  // namespace based
