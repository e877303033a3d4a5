#include "tests/support/compare.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <limits>

#include "kernels/core/error.h"

namespace based::support {
namespace {

bool same_kind(double actual, double expected) {
  if (std::isnan(expected)) return std::isnan(actual);
  if (std::isinf(expected)) return actual == expected;
  return std::isfinite(actual);
}

/// sqrt(error / norm); any error where the expected norm is zero is infinitely wrong.
double relative(double squared_error, double squared_norm) {
  if (squared_error == 0) return 0;
  if (squared_norm == 0) return std::numeric_limits<double>::infinity();
  return std::sqrt(squared_error / squared_norm);
}

}  // namespace

bool comparison::within(double tolerance) const {
  return misplaced == 0 && relative_error <= tolerance &&
         worst_row_error <= row_allowance * tolerance;
}

std::string comparison::message() const {
  std::string text = fmt::format(
      "relative error {:.3g}, worst row {} with {:.3g}, largest difference {:.3g} at {}",
      relative_error, worst_row, worst_row_error, max_error, max_error_at);
  if (misplaced > 0) {
    text = fmt::format("{} of {} elements are NaN or infinite on one side only, first {}; {}",
                       misplaced, elements, first_misplaced, text);
  }
  return text;
}

comparison compare(std::span<const float> actual, std::span<const double> expected,
                   std::int64_t row_size) {
  BASED_REQUIRE(actual.size() == expected.size(),
                fmt::format("comparing {} elements with {}", actual.size(), expected.size()));
  BASED_REQUIRE(row_size > 0 && actual.size() % row_size == 0,
                fmt::format("{} elements are no rows of {}", actual.size(), row_size));
  comparison result;
  result.elements = static_cast<std::int64_t>(actual.size());
  double squared_error = 0;
  double squared_norm = 0;
  for (std::int64_t row = 0; row < result.elements / row_size; ++row) {
    double row_error = 0;
    double row_norm = 0;
    for (std::int64_t at = row * row_size; at < (row + 1) * row_size; ++at) {
      if (!same_kind(actual[at], expected[at])) {
        if (result.misplaced++ == 0) result.first_misplaced = at;
        continue;
      }
      if (!std::isfinite(expected[at])) continue;
      const double difference = std::abs(actual[at] - expected[at]);
      row_error += difference * difference;
      row_norm += expected[at] * expected[at];
      if (difference > result.max_error) {
        result.max_error = difference;
        result.max_error_at = at;
      }
    }
    squared_error += row_error;
    squared_norm += row_norm;
    if (const double error = relative(row_error, row_norm); error > result.worst_row_error) {
      result.worst_row_error = error;
      result.worst_row = row;
    }
  }
  result.relative_error = relative(squared_error, squared_norm);
  return result;
}

}  // namespace based::support
