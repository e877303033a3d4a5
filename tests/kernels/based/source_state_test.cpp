#include "kernels/based/source_state.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "baselines/reference/prefill.h"
#include "kernels/core/error.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

constexpr std::int64_t tokens = 20;
constexpr float scale = 0.25f;
constexpr int d = feature_dim;

/// A state of some tokens, in the compact layout.
class kv_state : public ::testing::Test {
 protected:
  kv_state() {
    std::vector<double> exact_kv(compact_features * value_dim), exact_z(compact_features);
    reference::final_state({tokens, nullptr, k.data(), v.data()}, {}, exact_kv, exact_z);
    kv.assign(exact_kv.begin(), exact_kv.end());
    z.assign(exact_z.begin(), exact_z.end());
  }

  /// sum_n weight(k_n) v_n[c], what an element of a source's state is by definition.
  template <class Weight>
  double sum(int c, Weight weight) const {
    double total = 0;
    for (std::int64_t n = 0; n < tokens; ++n) {
      total += weight(k.data() + n * d) * v[n * value_dim + c];
    }
    return total;
  }

  std::vector<float> k = support::normal_values(tokens * d, 1);
  std::vector<float> v = support::normal_values(tokens * value_dim, 2);
  std::vector<float> kv, z;
};

TEST_F(kv_state, based_layout_is_the_taylor_exp_cache) {
  std::vector<float> cache(expanded_features * value_dim);  // [64, 273]
  to_source_layout(kv, source_layout::based, scale, cache);
  const double rrd = std::sqrt(std::sqrt(d));
  for (const int c : {0, 1, 63}) {
    const float* row = cache.data() + c * expanded_features;
    EXPECT_NEAR(row[0], sum(c, [](const float*) { return 1.0; }), 1e-4);
    for (int i = 0; i < d; ++i) {
      EXPECT_NEAR(row[1 + i], sum(c, [=](const float* x) { return x[i] / rrd; }), 1e-4);
      for (int j = 0; j < d; ++j) {
        EXPECT_NEAR(row[1 + d + i * d + j],
                    sum(c, [=](const float* x) { return x[i] * x[j] / std::sqrt(2.0 * d); }), 1e-4);
      }
    }
  }
}

TEST_F(kv_state, thunderkittens_layout_is_its_three_outputs) {
  std::vector<float> outputs(expanded_features * value_dim);
  to_source_layout(kv, source_layout::thunderkittens, scale, outputs);
  const float* a0 = outputs.data();      // [64]
  const float* a1 = a0 + value_dim;      // [64, 16]
  const float* a2 = a1 + value_dim * d;  // [256, 64]
  const double rrd = std::sqrt(std::sqrt(d));
  for (const int c : {0, 1, 63}) {
    EXPECT_NEAR(a0[c], sum(c, [](const float*) { return 1.0; }), 1e-4);
    for (int i = 0; i < d; ++i) {
      EXPECT_NEAR(a1[c * d + i], sum(c, [=](const float* x) { return x[i] / rrd; }), 1e-4);
      for (int j = 0; j < d; ++j) {
        EXPECT_NEAR(a2[(i * d + j) * value_dim + c],
                    sum(c, [=](const float* x) { return x[i] * x[j] / std::sqrt(2.0 * d); }), 1e-4);
      }
    }
  }
}

TEST_F(kv_state, returns_from_every_layout) {
  for (const source_layout layout : {source_layout::based, source_layout::thunderkittens}) {
    std::vector<float> expanded(expanded_features * value_dim);
    std::vector<float> back(kv.size());
    to_source_layout(kv, layout, 0.3f, expanded);
    from_source_layout(expanded, layout, 0.3f, back);
    for (std::size_t i = 0; i < kv.size(); ++i) ASSERT_NEAR(back[i], kv[i], 1e-5) << i;
  }
}

TEST_F(kv_state, normalizer_has_the_weights_of_the_state) {
  std::vector<float> expanded(expanded_features), back(compact_features);
  to_source_normalizer(z, scale, expanded);
  EXPECT_EQ(expanded[0], tokens);
  EXPECT_NEAR(expanded[1], z[1] / 2, 1e-5);
  EXPECT_NEAR(expanded[1 + d + 1], z[product_row(0, 1)] / std::sqrt(2.0 * d), 1e-5);
  EXPECT_EQ(expanded[1 + d + 1], expanded[1 + d + d]);
  from_source_normalizer(expanded, scale, back);
  for (int r = 0; r < compact_features; ++r) EXPECT_NEAR(back[r], z[r], 1e-5);
}

TEST_F(kv_state, refuses_wrong_sizes_and_scales) {
  std::vector<float> expanded(expanded_features * value_dim);
  EXPECT_THROW(to_source_layout(z, source_layout::based, scale, expanded), invalid_argument);
  EXPECT_THROW(to_source_layout(kv, source_layout::based, scale, kv), invalid_argument);
  EXPECT_THROW(to_source_layout(kv, source_layout::based, 0, expanded), invalid_argument);
}

}  // namespace
}  // namespace based
