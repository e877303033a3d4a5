// The second-order Taylor feature map of Based (arXiv 2402.18668, section 3.1) and the layout of
// the KV state that every implementation shares.
//
//   phi_q(q) . phi_k(k) = 1 + s + s^2/2,   s = scale * q.k
//
// The k side holds plain monomials, the q side every weight and the scale:
//
//   row           phi_k                      phi_q
//   0             1                          1
//   1 + i         k_i                        scale q_i
//   product_row   k_i k_j       (i <= j)     scale^2 q_i q_j  (1/2 of it when i == j)
//
// so a state, sum_n phi_k(k_n) v_n^T, depends neither on the scale nor on an implementation. The
// papers' map has 1 + 16 + 16*16 = 273 features; x_i x_j = x_j x_i leaves 153 distinct ones.
#pragma once

#include <cstdint>

namespace based {

inline constexpr int feature_dim = 16;  ///< D: dimension of a query or key
inline constexpr int value_dim = 64;    ///< Dv: dimension of a value or output

inline constexpr int first_linear_row = 1;
inline constexpr int first_product_row = first_linear_row + feature_dim;
inline constexpr int compact_features = first_product_row + feature_dim * (feature_dim + 1) / 2;
inline constexpr int expanded_features = first_product_row + feature_dim * feature_dim;
static_assert(compact_features == 153 && expanded_features == 273);

/// Row of the product k_i k_j in the compact layout; i <= j, ordered by i, then j.
constexpr int product_row(int i, int j) {
  return first_product_row + i * feature_dim - i * (i - 1) / 2 + (j - i);
}
static_assert(product_row(0, 0) == 17 && product_row(15, 15) == compact_features - 1);

// With x extended by a seventeenth entry, 1, at index 16, every feature is a weighted product of
// two entries:
//
//   compact, 153:  1, x_i, x_i x_j with i <= j (the order above)
//   expanded, 273: 1, x_i, x_i x_j for all i, j (the order of the papers' TaylorExp)
//
// The q side carries the weights (1, scale, scale^2 / 2, or scale^2 where a product stands for
// two), the k side none.
enum class feature_layout { compact, expanded };
enum class feature_side { query, key };

template <feature_layout Layout>
inline constexpr int feature_count =
    Layout == feature_layout::compact ? compact_features : expanded_features;

/// Which entries of (x_0, ..., x_15, 1) a feature multiplies.
struct feature_factors {
  int i;
  int j;
};
inline constexpr int unit_entry = feature_dim;

template <feature_layout Layout>
constexpr feature_factors factors_of(int row) {
  if (row < first_linear_row) return {unit_entry, unit_entry};
  if (row < first_product_row) return {row - first_linear_row, unit_entry};
  int rest = row - first_product_row;
  if constexpr (Layout == feature_layout::expanded) {
    return {rest / feature_dim, rest % feature_dim};
  } else {
    int i = 0;
    for (; rest >= feature_dim - i; ++i) rest -= feature_dim - i;
    return {i, i + rest};
  }
}

template <feature_layout Layout>
constexpr float weight_of(feature_factors factors, feature_side side, float scale) {
  if (side == feature_side::key || factors.i == unit_entry) return 1.0f;
  if (factors.j == unit_entry) return scale;
  const bool stands_for_two = Layout == feature_layout::compact && factors.i != factors.j;
  return stands_for_two ? scale * scale : 0.5f * scale * scale;
}

}  // namespace based
