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

}  // namespace based
