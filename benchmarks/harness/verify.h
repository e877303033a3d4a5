// Which part of a row's output is compared with the float64 reference, and how.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace based {

/// Heads (of B*H) and rows of each (of N) to compare: everything where that is cheap, else some of
/// each: the first, the last, chunk boundaries, and the rest scattered by a hash of the seed.
struct sampled_part {
  std::vector<std::int64_t> heads;
  std::vector<std::int64_t> rows;
};

/// `flops_per_pair`: what the quadratic reference spends on one (query, key) pair.
sampled_part sample_part(std::int64_t heads, std::int64_t seqlen, double flops_per_pair,
                         std::uint64_t seed);

/// Accumulates norm(value - reference) / norm(reference).
class error_norm {
 public:
  void add(double value, double reference) {
    difference_ += (value - reference) * (value - reference);
    reference_ += reference * reference;
  }
  /// NaN if any value was; the plain norm of the difference where the reference is all zero.
  double relative() const {
    return reference_ > 0 ? std::sqrt(difference_ / reference_) : std::sqrt(difference_);
  }

 private:
  double difference_ = 0;
  double reference_ = 0;
};

}  // namespace based
