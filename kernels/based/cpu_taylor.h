// Parts that the CPU implementations of Based share: the feature maps of features.h and the weights
// 1 + s + s^2/2 of one tile.
//
// Tiles of queries, keys, features and weights are kept transposed, [.., tokens] with the tokens
// contiguous, so that all of this is vertical SIMD without a shuffle.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/based/features.h"
#include "kernels/core/cpu_simd.h"

namespace based::cpu {

/// The 153 distinct features of a tile: phi_k of keys with `diagonal` 1, phi_q of scaled queries
/// with 1/2.
template <int Tokens>
void compact_features_of(const float (&x)[feature_dim][Tokens], float diagonal,
                         float (&phi)[compact_features][Tokens]) {
  std::fill_n(phi[0], Tokens, 1.0f);
  for (int i = 0; i < feature_dim; ++i) {
    std::copy_n(x[i], Tokens, phi[first_linear_row + i]);
    for (int j = i; j < feature_dim; ++j) {
      const float weight = i == j ? diagonal : 1.0f;
      float(&row)[Tokens] = phi[product_row(i, j)];
      for (int t = 0; t < Tokens; ++t) row[t] = weight * x[i][t] * x[j][t];
    }
  }
}

/// Row of the product x_i x_j among the 273 features of the papers.
constexpr int expanded_product_row(int i, int j) {
  return first_product_row + i * feature_dim + j;
}

/// The 273 features of a tile: phi_k of keys with `product` 1, phi_q of scaled queries with 1/2.
template <int Tokens>
void expanded_features_of(const float (&x)[feature_dim][Tokens], float product,
                          float (&phi)[expanded_features][Tokens]) {
  std::fill_n(phi[0], Tokens, 1.0f);
  for (int i = 0; i < feature_dim; ++i) {
    std::copy_n(x[i], Tokens, phi[first_linear_row + i]);
    for (int j = 0; j < feature_dim; ++j) {
      float(&row)[Tokens] = phi[expanded_product_row(i, j)];
      for (int t = 0; t < Tokens; ++t) row[t] = product * x[i][t] * x[j][t];
    }
  }
}

/// The 273 features of one token, contiguous: phi [273] of x = factor * token.
inline void expanded_features_of(const float* token, float factor, float product, float* phi) {
  float x[feature_dim];
  for (int i = 0; i < feature_dim; ++i) x[i] = factor * token[i];
  phi[0] = 1;
  std::copy_n(x, feature_dim, phi + first_linear_row);
  for (int i = 0; i < feature_dim; ++i) {
    float* row = phi + expanded_product_row(i, 0);
    for (int j = 0; j < feature_dim; ++j) row[j] = product * x[i] * x[j];
  }
}

/// Row of the compact layout that holds the monomial of a row of the expanded layout.
constexpr int compact_row(int expanded) {
  if (expanded < first_product_row) return expanded;
  const int i = (expanded - first_product_row) / feature_dim;
  const int j = (expanded - first_product_row) % feature_dim;
  return product_row(std::min(i, j), std::max(i, j));
}

/// Whether this expanded row is the one with i <= j of the two rows x_i x_j and x_j x_i.
constexpr bool is_first_of_its_monomial(int expanded) {
  const int product = expanded - first_product_row;
  return product < 0 || product / feature_dim <= product % feature_dim;
}

/// Expands `width` columns of a compact state [153, row_size] to [273, width]: plain monomials on
/// both sides, so that x_i x_j and x_j x_i are equal rows.
template <class T>
void expand_state(const float* compact, int row_size, int width, T* expanded) {
  for (int r = 0; r < expanded_features; ++r) {
    std::copy_n(compact + compact_row(r) * row_size, width, expanded + r * width);
  }
}

/// The opposite: [273, width] into `width` columns of a compact state [153, row_size].
template <class T>
void compact_state(const T* expanded, int width, int row_size, float* compact) {
  for (int r = 0; r < expanded_features; ++r) {
    for (int c = 0; c < width; ++c) {
      compact[compact_row(r) * row_size + c] = static_cast<float>(expanded[r * width + c]);
    }
  }
}

/// weights[j][t] = 1 + s + s^2/2 of key j < keys and query t; s comes from `keys` rows at
/// `k` and scaled transposed queries. On a causal tile (the keys are those of the queries' own
/// positions) weights of j > t are zero.
template <int Queries, int MaxKeys>
void taylor_weights(const float* k, std::int64_t k_token_stride, std::int64_t keys, bool causal,
                    const float (&q)[feature_dim][Queries], float (&weights)[MaxKeys][Queries]) {
  multiply(keys, Queries, feature_dim, {k, k_token_stride, 1}, q[0], Queries, weights[0], Queries,
           false);
  for (std::int64_t j = 0; j < keys; ++j) {
    float* row = weights[j];
    for (int t = 0; t < Queries; ++t) row[t] = 1.0f + row[t] * (1.0f + 0.5f * row[t]);
    if (causal) std::fill_n(row, j, 0.0f);
  }
}

/// sums[t] += sum_r factor[r] * rows[r][t].
template <int Tokens>
void add_weighted_rows(const float (*rows)[Tokens], std::int64_t count, const double* factor,
                       float (&sums)[Tokens]) {
  for (std::int64_t r = 0; r < count; ++r) {
    const auto factor_r = static_cast<float>(factor[r]);
    for (int t = 0; t < Tokens; ++t) sums[t] += factor_r * rows[r][t];
  }
}

/// sums[t] += sum_r rows[r][t]. The rows are summed first, so that rounding grows with the number
/// of calls and not with that of all rows.
template <int Tokens>
void add_rows(const float (*rows)[Tokens], std::int64_t count, float (&sums)[Tokens]) {
  float added[Tokens] = {};
  for (std::int64_t r = 0; r < count; ++r) {
    for (int t = 0; t < Tokens; ++t) added[t] += rows[r][t];
  }
  for (int t = 0; t < Tokens; ++t) sums[t] += added[t];
}

/// z[r] += sum_{t < count} phi[r][t]. Rows of squares have terms of one sign: in fp32 their sum
/// over 65536 tokens is off by 1e-5, which grows with the tokens; in double it is not.
template <int Tokens>
void add_tokens(const float (*phi)[Tokens], int rows, std::int64_t count, double* z) {
  for (int r = 0; r < rows; ++r) {
    float added = 0;
    for (std::int64_t t = 0; t < count; ++t) added += phi[r][t];
    z[r] += added;
  }
}

/// o[t][:] /= sums[t] for the first `count` tokens.
inline void divide_rows(float* o, std::int64_t o_stride, std::int64_t count, int width,
                        const float* sums) {
  for (std::int64_t t = 0; t < count; ++t) {
    for (int c = 0; c < width; ++c) o[t * o_stride + c] /= sums[t];
  }
}

}  // namespace based::cpu
