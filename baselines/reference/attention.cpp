#include "baselines/reference/attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "baselines/reference/comparison.h"
#include "kernels/core/error.h"
#include "kernels/sliding_window/sliding_window.h"

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

namespace based {

verification attention::compare(const attention_problem& p, const tensor_access& tensors,
                                const sampling& sampled) {
  const int dim = p.head_dim;
  const std::int64_t per_head = p.seqlen * dim;
  const sampled_part part = sample_part(p.batch * p.heads, p.seqlen, 4.0 * dim, sampled);
  worst_error worst;
  std::vector<double> o(part.rows.size() * static_cast<std::size_t>(dim));
  for (const std::int64_t head : part.heads) {
    const auto of_head = [&](std::string_view name) {
      return tensors.get(name, head * per_head, per_head);
    };
    const auto q = of_head("q"), k = of_head("k"), v = of_head("v");
    reference::attention_rows({p.seqlen, dim, p.causal, q.data(), k.data(), v.data()}, part.rows,
                              o);
    worst["o"].add_rows(of_head("o"), o, part.rows, dim);
  }
  return worst.found();
}

/// Softmax takes the slots of the ring in any order: attention without a mask, over the cache as
/// it must be after the call.
verification window_decode::compare(const window_problem& p, const tensor_access& tensors,
                                    const sampling& sampled) {
  const int dim = p.head_dim;
  const std::int64_t ring = std::int64_t{p.window} * dim;
  const sampled_part part =
      sample_part(p.batch_heads(), 1, 4.0 * static_cast<double>(ring), sampled);
  const std::int64_t only_row[] = {0};
  worst_error worst;
  std::vector<double> o(static_cast<std::size_t>(dim));
  for (const std::int64_t head : part.heads) {
    const auto of_token = [&](std::string_view name) { return tensors.get(name, head * dim, dim); };
    const auto cache = [&](std::string_view name, std::string_view appended) {
      std::vector<float> slots = tensors.before(name, head * ring, ring);
      if (p.append) {
        const std::vector<float> token = of_token(appended);
        std::copy(token.begin(), token.end(), slots.begin() + p.slot() * dim);
      }
      const std::vector<double> expected(slots.begin(), slots.end());
      worst[std::string(name)].add_all(tensors.get(name, head * ring, ring), expected);
      return slots;
    };
    const std::vector<float> k = cache("k_cache", "k"), v = cache("v_cache", "v");
    const std::vector<float> q = of_token("q");
    reference::attention_rows({p.filled(), dim, false, q.data(), k.data(), v.data()}, only_row, o);
    worst["o"].add_all(of_token("o"), o);
  }
  return worst.found();
}

namespace {
const operation_registration<attention> registered;
const operation_registration<window_decode> registered_window;
}  // namespace

}  // namespace based
