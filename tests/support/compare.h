// How a result is judged against the float64 reference: positions of NaN and infinity first, then
// relative error, over all and row by row, so that one wrong row cannot hide in a large tensor.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace based::support {

/// What compare() found; errors are over the positions that are finite on both sides.
struct comparison {
  std::int64_t elements = 0;
  std::int64_t misplaced = 0;         ///< positions NaN or infinite on one side only
  std::int64_t first_misplaced = -1;  ///< the first of them
  double relative_error = 0;          ///< norm(actual - expected) / norm(expected)
  double worst_row_error = 0;         ///< the same for the worst row
  std::int64_t worst_row = 0;
  double max_error = 0;  ///< largest absolute difference
  std::int64_t max_error_at = 0;

  /// A single row may be off by this many times the tolerance of the whole: rounding errors of
  /// one row average over its elements only.
  static constexpr double row_allowance = 8;

  bool within(double tolerance) const;
  /// One line for a failed assertion.
  std::string message() const;
};

/// Compares [rows, row_size] elements; sizes must agree (throws invalid_argument).
comparison compare(std::span<const float> actual, std::span<const double> expected,
                   std::int64_t row_size);

}  // namespace based::support
