// Which part of an output is compared with the float64 reference, and how.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/operation.h"

namespace based {

/// Heads (of B*H) and rows of each (of N) to compare: everything where that is cheap, else some of
/// each: the first, the last, chunk boundaries, and the rest scattered by a hash of the seed.
struct sampled_part {
  std::vector<std::int64_t> heads;
  std::vector<std::int64_t> rows;
};

/// `flops_per_pair`: what the quadratic reference spends on one (query, key) pair.
sampled_part sample_part(std::int64_t heads, std::int64_t seqlen, double flops_per_pair,
                         const sampling& sampled);

/// `count` of 0..size-1, with the marks that lie in range, in order; all where there are no more.
std::vector<std::int64_t> scatter(std::int64_t size, std::int64_t count, std::uint64_t seed,
                                  const std::vector<std::int64_t>& marks);

/// Accumulates norm(value - reference) / norm(reference).
class error_norm {
 public:
  void add(double value, double reference) {
    difference_ += (value - reference) * (value - reference);
    reference_ += reference * reference;
  }
  /// Every element of both, which are equally long: one row. `terms`, where given, has for each
  /// element the sum of the squares of the signed terms that it is a sum of. Where terms cancel,
  /// the last bits of the inputs are larger than what is left of them, and an error relative to
  /// that would say nothing: then the row's own error is relative to the norm of its terms.
  void add_all(std::span<const float> values, std::span<const double> reference,
               std::span<const double> terms = {});
  /// Row r of the reference and of the terms, [rows.size(), dim], with row rows[r] of the values,
  /// [any, dim].
  void add_rows(std::span<const float> values, std::span<const double> reference,
                std::span<const std::int64_t> rows, int dim, std::span<const double> terms = {});
  /// NaN if any value was; the plain norm of the difference where the reference is all zero.
  double relative() const {
    return reference_ > 0 ? std::sqrt(difference_ / reference_) : std::sqrt(difference_);
  }
  /// The largest relative error of the rows that were added one by one.
  double worst_row() const { return worst_row_; }

 private:
  double difference_ = 0;
  double reference_ = 0;
  double worst_row_ = 0;
};

/// The errors of a row's outputs, by name; the largest judges the row.
class worst_error {
 public:
  error_norm& operator[](const std::string& output) { return errors_[output]; }
  verification found() const;

 private:
  std::map<std::string, error_norm> errors_;
};

}  // namespace based
