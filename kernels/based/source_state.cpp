#include "kernels/based/source_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "kernels/core/error.h"

namespace based {
namespace {

/// One of the 273 features: its compact row, the weight its source gives it, and how many of the
/// 273 are the same monomial.
struct source_feature {
  int compact_row;
  float weight;
  float copies;
};

source_feature feature(int r, float scale) {
  if (r == 0) return {0, 1.0f, 1.0f};
  if (r < first_product_row) return {r, std::sqrt(scale), 1.0f};
  const int i = (r - first_product_row) / feature_dim;
  const int j = (r - first_product_row) % feature_dim;
  return {product_row(std::min(i, j), std::max(i, j)), scale / std::numbers::sqrt2_v<float>,
          i == j ? 1.0f : 2.0f};
}

/// Where a layout keeps feature r, column c.
std::size_t element(source_layout layout, int r, int c) {
  if (layout == source_layout::based) return c * expanded_features + r;
  constexpr int linear_terms = value_dim;  // kv_a0 comes before
  constexpr int products = first_product_row * value_dim;
  if (r == 0) return c;
  if (r < first_product_row) return linear_terms + c * feature_dim + (r - first_linear_row);
  return products + (r - first_product_row) * value_dim + c;
}

void require(std::size_t compact, std::size_t expanded, int columns, float scale) {
  const std::size_t compact_size = std::size_t{compact_features} * columns;
  const std::size_t expanded_size = std::size_t{expanded_features} * columns;
  BASED_REQUIRE(
      compact == compact_size,
      fmt::format("the compact state has {} elements, must have {}", compact, compact_size));
  BASED_REQUIRE(
      expanded == expanded_size,
      fmt::format("the expanded state has {} elements, must have {}", expanded, expanded_size));
  BASED_REQUIRE(scale > 0, fmt::format("scale is {}, must be positive", scale));
}

void expand(std::span<const float> compact, source_layout layout, int columns, float scale,
            std::span<float> expanded) {
  require(compact.size(), expanded.size(), columns, scale);
  for (int r = 0; r < expanded_features; ++r) {
    const auto [row, weight, copies] = feature(r, scale);
    for (int c = 0; c < columns; ++c) {
      expanded[element(layout, r, c)] = weight * compact[row * columns + c];
    }
  }
}

void contract(std::span<const float> expanded, source_layout layout, int columns, float scale,
              std::span<float> compact) {
  require(compact.size(), expanded.size(), columns, scale);
  std::fill(compact.begin(), compact.end(), 0.0f);
  for (int r = 0; r < expanded_features; ++r) {
    const auto [row, weight, copies] = feature(r, scale);
    for (int c = 0; c < columns; ++c) {
      compact[row * columns + c] += expanded[element(layout, r, c)] / (weight * copies);
    }
  }
}

}  // namespace

void to_source_layout(std::span<const float> compact, source_layout layout, float scale,
                      std::span<float> expanded) {
  expand(compact, layout, value_dim, scale, expanded);
}

void from_source_layout(std::span<const float> expanded, source_layout layout, float scale,
                        std::span<float> compact) {
  contract(expanded, layout, value_dim, scale, compact);
}

void to_source_normalizer(std::span<const float> compact, float scale, std::span<float> expanded) {
  expand(compact, source_layout::based, 1, scale, expanded);
}

void from_source_normalizer(std::span<const float> expanded, float scale,
                            std::span<float> compact) {
  contract(expanded, source_layout::based, 1, scale, compact);
}

}  // namespace based
