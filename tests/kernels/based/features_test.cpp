#include "kernels/based/features.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "kernels/based/cpu_taylor.h"
#include "tests/support/inputs.h"

namespace based {
namespace {

constexpr int tokens = 32;
using tile = float[feature_dim][tokens];

TEST(features, product_rows_are_every_row_after_the_linear_ones) {
  std::set<int> rows;
  int last = first_product_row - 1;
  for (int i = 0; i < feature_dim; ++i) {
    for (int j = i; j < feature_dim; ++j) {
      EXPECT_EQ(product_row(i, j), ++last) << i << ", " << j;
      rows.insert(product_row(i, j));
    }
  }
  EXPECT_EQ(rows.size(), compact_features - first_product_row);
}

/// phi_q . phi_k over the rows of two tiles, for one token each.
double dot(const float* phi_q, const float* phi_k, int rows, int t) {
  double sum = 0;
  for (int r = 0; r < rows; ++r) {
    sum += static_cast<double>(phi_q[r * tokens + t]) * phi_k[r * tokens + t];
  }
  return sum;
}

TEST(features, both_maps_multiply_to_the_taylor_polynomial) {
  const auto q = support::normal_values(tokens * feature_dim, 1);
  const auto k = support::normal_values(tokens * feature_dim, 2);
  constexpr float scale = 0.3f;
  tile q_tile, k_tile;
  cpu::load_transposed(q.data(), feature_dim, tokens, scale, q_tile);
  cpu::load_transposed(k.data(), feature_dim, tokens, 1.0f, k_tile);
  static float phi_q[expanded_features][tokens], phi_k[expanded_features][tokens];
  auto& compact_q = reinterpret_cast<float(&)[compact_features][tokens]>(phi_q);
  auto& compact_k = reinterpret_cast<float(&)[compact_features][tokens]>(phi_k);

  const auto expect_polynomial = [&](int rows) {
    for (int t = 0; t < tokens; ++t) {
      double s = 0;
      for (int d = 0; d < feature_dim; ++d) {
        s += static_cast<double>(scale) * q[t * feature_dim + d] * k[t * feature_dim + d];
      }
      EXPECT_NEAR(dot(phi_q[0], phi_k[0], rows, t), 1 + s + s * s / 2, 1e-5) << "token " << t;
    }
  };
  cpu::compact_features_of(q_tile, 0.5f, compact_q);
  cpu::compact_features_of(k_tile, 1.0f, compact_k);
  expect_polynomial(compact_features);
  cpu::expanded_features_of(q_tile, 0.5f, phi_q);
  cpu::expanded_features_of(k_tile, 1.0f, phi_k);
  expect_polynomial(expanded_features);
}

TEST(features, one_token_and_a_tile_map_alike) {
  const auto x = support::normal_values(tokens * feature_dim, 3);
  tile x_tile;
  cpu::load_transposed(x.data(), feature_dim, tokens, 0.25f, x_tile);
  static float phi[expanded_features][tokens];
  cpu::expanded_features_of(x_tile, 0.5f, phi);
  float one[expanded_features];
  for (int t = 0; t < tokens; ++t) {
    cpu::expanded_features_of(x.data() + t * feature_dim, 0.25f, 0.5f, one);
    for (int r = 0; r < expanded_features; ++r) EXPECT_FLOAT_EQ(one[r], phi[r][t]);
  }
}

TEST(features, short_tiles_are_filled_with_zeros) {
  const std::vector<float> ones(tokens * feature_dim, 1.0f);
  tile x;
  cpu::load_transposed(ones.data(), feature_dim, 5, 2.0f, x);
  EXPECT_EQ(x[3][4], 2.0f);
  EXPECT_EQ(x[3][5], 0.0f);
}

}  // namespace
}  // namespace based
