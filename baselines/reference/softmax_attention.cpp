#include "baselines/reference/softmax_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/core/error.h"

namespace based::reference {
namespace {

void attention_row(const attention_head& head, std::int64_t i, double* o) {
  const int dim = head.head_dim;
  const std::int64_t keys = head.causal ? i + 1 : head.seqlen;
  const float* q = head.q + i * dim;

  std::vector<double> s(keys);
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* k = head.k + j * dim;
    double dot = 0;
    for (int d = 0; d < dim; ++d) dot += static_cast<double>(q[d]) * k[d];
    s[j] = dot / std::sqrt(static_cast<double>(dim));
  }

  const double largest = *std::max_element(s.begin(), s.end());
  std::fill_n(o, dim, 0.0);
  double weights = 0;
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* v = head.v + j * dim;
    const double weight = std::exp(s[j] - largest);
    for (int c = 0; c < dim; ++c) o[c] += weight * v[c];
    weights += weight;
  }
  for (int c = 0; c < dim; ++c) o[c] /= weights;
}

}  // namespace

void attention_rows(const attention_head& head, std::span<const std::int64_t> rows,
                    std::span<double> o) {
  const std::size_t wanted = rows.size() * head.head_dim;
  BASED_REQUIRE(o.size() == wanted,
                fmt::format("o has {} elements, must have {}", o.size(), wanted));
  for (const std::int64_t row : rows) {
    BASED_REQUIRE(row >= 0 && row < head.seqlen,
                  fmt::format("row is {}, must be in 0..{}", row, head.seqlen - 1));
  }
#pragma omp parallel for schedule(dynamic, 16)
  for (std::size_t r = 0; r < rows.size(); ++r) {
    attention_row(head, rows[r], o.data() + r * head.head_dim);
  }
}

}  // namespace based::reference
