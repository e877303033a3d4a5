#include "baselines/reference/softmax_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "kernels/core/error.h"

namespace based::reference {
namespace {

/// Writes o [Dh]; returns the log-sum-exp.
double attention_row(const attention_head& head, std::int64_t i, double* o) {
  const int dim = head.problem.head_dim;
  const std::int64_t first = head.problem.first_key(i), last = head.problem.last_key(i);
  const double scale = head.problem.scale == 0 ? 1 / std::sqrt(static_cast<double>(dim))
                                               : static_cast<double>(head.problem.scale);
  const float* q = head.q + i * dim;
  std::fill_n(o, dim, 0.0);

  std::vector<double> s;
  for (std::int64_t j = first; j <= last; ++j) {
    const float* k = head.k + j * dim;
    double dot = 0;
    for (int d = 0; d < dim; ++d) dot += static_cast<double>(q[d]) * k[d];
    s.push_back(dot * scale);
  }
  if (s.empty()) return -std::numeric_limits<double>::infinity();

  const double largest = *std::max_element(s.begin(), s.end());
  double weights = 0;
  for (std::int64_t j = first; j <= last; ++j) {
    const float* v = head.v + j * dim;
    const double weight = std::exp(s[j - first] - largest);
    for (int c = 0; c < dim; ++c) o[c] += weight * v[c];
    weights += weight;
  }
  for (int c = 0; c < dim; ++c) o[c] /= weights;
  return largest + std::log(weights);
}

}  // namespace

void attention_rows(const attention_head& head, std::span<const std::int64_t> rows,
                    std::span<double> o, std::span<double> lse) {
  const attention_problem& problem = head.problem;
  const std::size_t wanted = rows.size() * problem.head_dim;
  BASED_REQUIRE(o.size() == wanted,
                fmt::format("o has {} elements, must have {}", o.size(), wanted));
  BASED_REQUIRE(lse.empty() || lse.size() == rows.size(),
                fmt::format("lse has {} elements, must have {}", lse.size(), rows.size()));
  for (const std::int64_t row : rows) {
    BASED_REQUIRE(row >= 0 && row < problem.seqlen,
                  fmt::format("row is {}, must be in 0..{}", row, problem.seqlen - 1));
  }
#pragma omp parallel for schedule(dynamic, 16)
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double row_lse = attention_row(head, rows[r], o.data() + r * problem.head_dim);
    if (!lse.empty()) lse[r] = row_lse;
  }
}

}  // namespace based::reference
